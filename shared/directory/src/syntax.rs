//! Attribute syntaxes (RFC 4517 section 3.3): which bytes may be a value.

use crate::Dn;
use crate::matching::MatchingRule;
use crate::name::is_numeric_oid;

const ARC: &str = "1.3.6.1.4.1.1466.115.121.1.";
/// One JSON document (RFC 8259); the syntax is our own.
const JSON: &str = "2.25.91483988334847579530980396519402542253.3.1";

/// May `value` stand where `syntax` (an OID) is asked for? A syntax that is not known takes any bytes.
#[must_use]
pub(crate) fn check(syntax: Option<&str>, value: &[u8]) -> bool {
    let text = std::str::from_utf8(value);
    let by_rule = |rule: MatchingRule| rule.key(&crate::Schema::default(), value).is_some();
    match syntax.and_then(|oid| oid.strip_prefix(ARC)) {
        // Boolean
        Some("7") => matches!(value, b"TRUE" | b"FALSE"),
        // Distinguished name, name and optional UID
        Some("12" | "34") => text.is_ok_and(|text| Dn::parse(text).is_ok()),
        // Directory string: some text
        Some("15") => text.is_ok_and(|text| !text.is_empty()),
        // Generalized time
        Some("24") => by_rule(MatchingRule::GeneralizedTime),
        // IA5 string: ASCII, also empty
        Some("26") => value.is_ascii(),
        // Integer
        Some("27") => by_rule(MatchingRule::Integer),
        // Numeric string
        Some("36") => !value.is_empty() && value.iter().all(|byte| byte.is_ascii_digit() || *byte == b' '),
        // OID: numeric or a name
        Some("38") => text.is_ok_and(|text| {
            is_numeric_oid(text) || crate::AttributeName::parse(text).is_ok_and(|name| !name.as_str().contains(';'))
        }),
        // Printable string, telephone number
        Some("44" | "50") => {
            !value.is_empty()
                && value
                    .iter()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"'()+,-./:? =*#\"".contains(byte))
        }
        _ if syntax == Some(JSON) => text.is_ok_and(|text| serde_json::from_str::<serde_json::Value>(text).is_ok()),
        _ => syntax != Some("1.3.6.1.1.16.1") || by_rule(MatchingRule::Uuid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_syntax_takes_its_values_and_no_others() {
        type Values = &'static [&'static [u8]];
        let cases: [(&str, Values, Values); 9] = [
            ("7", &[b"TRUE", b"FALSE"], &[b"true", b"", b"1"]),
            ("12", &[b"", b"cn=a"], &[b"a", &[0xff]]),
            ("15", &[b"\xc3\xa9", b"a"], &[b"", &[0xff]]),
            ("24", &[b"20260531000000Z"], &[b"2026", b"now"]),
            ("26", &[b"", b"a@b"], &[b"\xc3\xa9"]),
            ("27", &[b"0", b"-12"], &[b"", b"1.5", b"a"]),
            ("36", &[b"12 3"], &[b"", b"1a"]),
            ("38", &[b"2.5.4.3", b"cn"], &[b"1..2", b"c n", b"cn;x"]),
            ("50", &[b"+1 (555) 0123"], &[b"", b"a\nb"]),
        ];
        for (syntax, good, bad) in cases {
            let oid = format!("{ARC}{syntax}");
            for value in good {
                assert!(check(Some(&oid), value), "{syntax} {value:?}");
            }
            for value in bad {
                assert!(!check(Some(&oid), value), "{syntax} {value:?}");
            }
        }
        assert!(check(None, &[0xff]) && check(Some("1.2.3"), &[0xff]));
        assert!(check(Some(JSON), b"{\"port\": [25]}") && check(Some(JSON), b"null"));
        for bad in [&b""[..], b"{", b"{} {}", b"port=25", &[b'"', 0xff, b'"']] {
            assert!(!check(Some(JSON), bad), "{bad:?}");
        }
        assert!(!check(Some("1.3.6.1.1.16.1"), b"x"));
    }
}
