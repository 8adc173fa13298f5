//! Matching rules (RFC 4517 section 4, RFC 4530, RFC 2307): each turns a value into a key, and values
//! match when their keys are equal. Keys of ordering rules sort as the values do, so that one index
//! over keys serves equality and ranges alike.

use crate::Schema;
use crate::prepare::{Case, prepare, prepare_number, prepare_piece};

/// A matching rule, by what it does. Several names of RFC 4517 share one: `caseIgnoreMatch`,
/// `caseIgnoreOrderingMatch` and `caseIgnoreSubstringsMatch` make the same keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MatchingRule {
    /// Text without regard to case and superfluous blanks.
    CaseIgnore,
    /// Text with regard to case.
    CaseExact,
    /// Digits without regard to blanks.
    NumericString,
    /// Telephone numbers without regard to blanks and hyphens.
    TelephoneNumber,
    /// Whole numbers of any length.
    Integer,
    /// TRUE or FALSE.
    Boolean,
    /// Bytes.
    OctetString,
    /// Names of entries.
    DistinguishedName,
    /// OIDs and the names that the schema gives them.
    ObjectIdentifier,
    /// Points in time.
    GeneralizedTime,
    /// UUIDs.
    Uuid,
    /// The OID at the start of a schema definition.
    ObjectIdentifierFirstComponent,
    /// The number at the start of a schema definition.
    IntegerFirstComponent,
}

/// Every rule that the registry knows: OID, name, rule, and the OID of the assertion's syntax.
pub(crate) const RULES: &[(&str, &str, MatchingRule, &str)] = &[
    (
        "2.5.13.0",
        "objectIdentifierMatch",
        MatchingRule::ObjectIdentifier,
        "1.3.6.1.4.1.1466.115.121.1.38",
    ),
    (
        "2.5.13.1",
        "distinguishedNameMatch",
        MatchingRule::DistinguishedName,
        "1.3.6.1.4.1.1466.115.121.1.12",
    ),
    (
        "2.5.13.2",
        "caseIgnoreMatch",
        MatchingRule::CaseIgnore,
        "1.3.6.1.4.1.1466.115.121.1.15",
    ),
    (
        "2.5.13.3",
        "caseIgnoreOrderingMatch",
        MatchingRule::CaseIgnore,
        "1.3.6.1.4.1.1466.115.121.1.15",
    ),
    (
        "2.5.13.4",
        "caseIgnoreSubstringsMatch",
        MatchingRule::CaseIgnore,
        "1.3.6.1.4.1.1466.115.121.1.58",
    ),
    (
        "2.5.13.5",
        "caseExactMatch",
        MatchingRule::CaseExact,
        "1.3.6.1.4.1.1466.115.121.1.15",
    ),
    (
        "2.5.13.6",
        "caseExactOrderingMatch",
        MatchingRule::CaseExact,
        "1.3.6.1.4.1.1466.115.121.1.15",
    ),
    (
        "2.5.13.7",
        "caseExactSubstringsMatch",
        MatchingRule::CaseExact,
        "1.3.6.1.4.1.1466.115.121.1.58",
    ),
    (
        "2.5.13.8",
        "numericStringMatch",
        MatchingRule::NumericString,
        "1.3.6.1.4.1.1466.115.121.1.36",
    ),
    (
        "2.5.13.9",
        "numericStringOrderingMatch",
        MatchingRule::NumericString,
        "1.3.6.1.4.1.1466.115.121.1.36",
    ),
    (
        "2.5.13.10",
        "numericStringSubstringsMatch",
        MatchingRule::NumericString,
        "1.3.6.1.4.1.1466.115.121.1.58",
    ),
    (
        "2.5.13.11",
        "caseIgnoreListMatch",
        MatchingRule::CaseIgnore,
        "1.3.6.1.4.1.1466.115.121.1.41",
    ),
    (
        "2.5.13.12",
        "caseIgnoreListSubstringsMatch",
        MatchingRule::CaseIgnore,
        "1.3.6.1.4.1.1466.115.121.1.58",
    ),
    (
        "2.5.13.13",
        "booleanMatch",
        MatchingRule::Boolean,
        "1.3.6.1.4.1.1466.115.121.1.7",
    ),
    (
        "2.5.13.14",
        "integerMatch",
        MatchingRule::Integer,
        "1.3.6.1.4.1.1466.115.121.1.27",
    ),
    (
        "2.5.13.15",
        "integerOrderingMatch",
        MatchingRule::Integer,
        "1.3.6.1.4.1.1466.115.121.1.27",
    ),
    (
        "2.5.13.16",
        "bitStringMatch",
        MatchingRule::CaseExact,
        "1.3.6.1.4.1.1466.115.121.1.6",
    ),
    (
        "2.5.13.17",
        "octetStringMatch",
        MatchingRule::OctetString,
        "1.3.6.1.4.1.1466.115.121.1.40",
    ),
    (
        "2.5.13.18",
        "octetStringOrderingMatch",
        MatchingRule::OctetString,
        "1.3.6.1.4.1.1466.115.121.1.40",
    ),
    (
        "2.5.13.20",
        "telephoneNumberMatch",
        MatchingRule::TelephoneNumber,
        "1.3.6.1.4.1.1466.115.121.1.50",
    ),
    (
        "2.5.13.21",
        "telephoneNumberSubstringsMatch",
        MatchingRule::TelephoneNumber,
        "1.3.6.1.4.1.1466.115.121.1.58",
    ),
    (
        "2.5.13.27",
        "generalizedTimeMatch",
        MatchingRule::GeneralizedTime,
        "1.3.6.1.4.1.1466.115.121.1.24",
    ),
    (
        "2.5.13.28",
        "generalizedTimeOrderingMatch",
        MatchingRule::GeneralizedTime,
        "1.3.6.1.4.1.1466.115.121.1.24",
    ),
    (
        "2.5.13.29",
        "integerFirstComponentMatch",
        MatchingRule::IntegerFirstComponent,
        "1.3.6.1.4.1.1466.115.121.1.27",
    ),
    (
        "2.5.13.30",
        "objectIdentifierFirstComponentMatch",
        MatchingRule::ObjectIdentifierFirstComponent,
        "1.3.6.1.4.1.1466.115.121.1.38",
    ),
    (
        "1.3.6.1.4.1.1466.109.114.1",
        "caseExactIA5Match",
        MatchingRule::CaseExact,
        "1.3.6.1.4.1.1466.115.121.1.26",
    ),
    (
        "1.3.6.1.4.1.1466.109.114.2",
        "caseIgnoreIA5Match",
        MatchingRule::CaseIgnore,
        "1.3.6.1.4.1.1466.115.121.1.26",
    ),
    (
        "1.3.6.1.4.1.1466.109.114.3",
        "caseIgnoreIA5SubstringsMatch",
        MatchingRule::CaseIgnore,
        "1.3.6.1.4.1.1466.115.121.1.58",
    ),
    (
        "1.3.6.1.4.1.4203.1.2.1",
        "caseExactIA5SubstringsMatch",
        MatchingRule::CaseExact,
        "1.3.6.1.4.1.1466.115.121.1.58",
    ),
    ("1.3.6.1.1.16.2", "UUIDMatch", MatchingRule::Uuid, "1.3.6.1.1.16.1"),
    (
        "1.3.6.1.1.16.3",
        "UUIDOrderingMatch",
        MatchingRule::Uuid,
        "1.3.6.1.1.16.1",
    ),
];

impl MatchingRule {
    /// The key of `value`; none when the value does not fit the rule (the match is Undefined then).
    #[must_use]
    pub fn key(self, schema: &Schema, value: &[u8]) -> Option<Vec<u8>> {
        if self == Self::OctetString {
            return Some(value.to_vec());
        }
        let text = std::str::from_utf8(value).ok()?;
        match self {
            Self::CaseIgnore => Some(prepare(text, Case::Ignore).into_bytes()),
            Self::CaseExact => Some(prepare(text, Case::Exact).into_bytes()),
            Self::NumericString => Some(prepare_number(text, false).into_bytes()),
            Self::TelephoneNumber => Some(prepare_number(text, true).into_bytes()),
            Self::Integer => integer_key(text.trim()),
            Self::Boolean => boolean_key(text.trim()),
            Self::OctetString => Some(value.to_vec()),
            Self::DistinguishedName => schema.dn_key_of(text).map(Vec::from),
            Self::ObjectIdentifier => Some(schema.oid_of(text.trim()).into_bytes()),
            Self::GeneralizedTime => time_key(text.trim()),
            Self::Uuid => uuid_key(text.trim()),
            Self::ObjectIdentifierFirstComponent => Some(schema.oid_of(first_component(text)).into_bytes()),
            Self::IntegerFirstComponent => integer_key(first_component(text)),
        }
    }

    /// One piece of a substring assertion, prepared to be looked for in keys; none when the rule has no
    /// substrings.
    #[must_use]
    pub fn piece(self, value: &[u8], first: bool, last: bool) -> Option<Vec<u8>> {
        if self == Self::OctetString {
            return Some(value.to_vec());
        }
        let text = std::str::from_utf8(value).ok()?;
        match self {
            Self::CaseIgnore => Some(prepare_piece(text, Case::Ignore, first, last).into_bytes()),
            Self::CaseExact => Some(prepare_piece(text, Case::Exact, first, last).into_bytes()),
            Self::NumericString => Some(prepare_number(text, false).into_bytes()),
            Self::TelephoneNumber => Some(prepare_number(text, true).into_bytes()),
            _ => None,
        }
    }
}

/// `(` and blanks off, then up to the next blank; a bare assertion is its own first component.
fn first_component(text: &str) -> &str {
    let text = text.trim_start_matches(['(', ' ']);
    text.split([' ', ')']).next().unwrap_or(text)
}

/// Sign, then the number of digits, then the digits: sorts as the numbers do. Digits of negative
/// numbers are complemented so that the larger one sorts first.
fn integer_key(text: &str) -> Option<Vec<u8>> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    if digits.is_empty() || digits.len() > 65_535 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Some(vec![1, 0, 0]);
    }
    let length = u16::try_from(digits.len()).ok()?.to_be_bytes();
    let mut key = vec![u8::from(!negative)];
    key.extend(
        length
            .iter()
            .chain(digits.as_bytes())
            .map(|byte| if negative { !byte } else { *byte }),
    );
    Some(key)
}

fn boolean_key(text: &str) -> Option<Vec<u8>> {
    let upper = text.to_ascii_uppercase();
    matches!(upper.as_str(), "TRUE" | "FALSE").then(|| upper.into_bytes())
}

fn uuid_key(text: &str) -> Option<Vec<u8>> {
    let hex: String = text.chars().filter(|c| *c != '-').collect();
    let pair = |at: usize| hex.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let well_formed = hex.len() == 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    if well_formed {
        (0..16).map(|at| pair(at * 2)).collect()
    } else {
        None
    }
}

/// `YYYYMMDDHH[MM[SS]][.fraction](Z|±HH[MM])` (RFC 4517 section 3.3.13) as seconds since the year 0 in
/// UTC, then the fraction without trailing zeros.
fn time_key(text: &str) -> Option<Vec<u8>> {
    let zone_at = text.find(['Z', '+', '-'])?;
    let (moment, zone) = text.split_at_checked(zone_at)?;
    let (digits, fraction) = match moment.split_once(['.', ',']) {
        Some((digits, fraction)) => (digits, fraction),
        None => (moment, ""),
    };
    let number = |from: usize, to: usize| digits.get(from..to).map_or(Some(0), |part| part.parse::<i64>().ok());
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !matches!(digits.len(), 10 | 12 | 14) || !all_digits(digits) || !all_digits(fraction) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    let (hour, minute, second) = (number(8, 10)?, number(10, 12)?, number(12, 14)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let unit = match digits.len() {
        10 => 3600,
        12 => 60,
        _ => 1,
    };
    let (whole, fraction) = scale_fraction(fraction, unit);
    let seconds = ((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second + whole - zone_offset(zone)?;
    let mut key = seconds.to_be_bytes().to_vec();
    // Signed order: flip the sign bit.
    if let Some(sign) = key.first_mut() {
        *sign ^= 0x80;
    }
    key.extend_from_slice(fraction.trim_end_matches('0').as_bytes());
    Some(key)
}

/// A fraction of an hour or a minute as whole seconds; a fraction of a second stays one.
fn scale_fraction(fraction: &str, unit: i64) -> (i64, String) {
    if unit == 1 || fraction.is_empty() {
        return (0, fraction.to_owned());
    }
    let shown: String = fraction.chars().take(9).collect();
    let parts: i64 = shown.parse().unwrap_or(0);
    let scale = 10_i64.pow(u32::try_from(shown.len()).unwrap_or(0));
    (parts * unit / scale, String::new())
}

fn zone_offset(zone: &str) -> Option<i64> {
    if zone == "Z" {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let digits = zone.get(1..)?;
    if !matches!(digits.len(), 2 | 4) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let hours: i64 = digits.get(..2)?.parse().ok()?;
    let minutes: i64 = digits
        .get(2..)
        .filter(|part| !part.is_empty())
        .map_or(Some(0), |part| part.parse().ok())?;
    (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes) * 60)
}

/// Days since 1 March of year 0 in the Gregorian calendar: with the year starting in March the leap
/// day comes last, and month lengths follow (153 m + 2) / 5.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + (153 * month + 2) / 5 + day - 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(rule: MatchingRule, text: &str) -> Option<Vec<u8>> {
        rule.key(&Schema::default(), text.as_bytes())
    }

    #[test]
    fn equal_values_have_equal_keys() {
        use MatchingRule as R;
        let same = [
            (R::CaseIgnore, "Alice  Example", "alice example"),
            (R::Integer, "007", "7"),
            (R::Integer, "-0", "0"),
            (R::Boolean, "true", "TRUE"),
            (R::TelephoneNumber, "+1 555-0123", "+15550123"),
            (R::GeneralizedTime, "20260531000000Z", "202605310000Z"),
            (R::GeneralizedTime, "20260531020000+0200", "20260531000000.0Z"),
            (R::GeneralizedTime, "2026053100.5Z", "20260531003000Z"),
            (
                R::Uuid,
                "597ae2f6-16a6-1027-98f4-D28B5365DC14",
                "597AE2F616A6102798F4d28b5365dc14",
            ),
            (R::ObjectIdentifierFirstComponent, "( 2.5.4.3 NAME 'cn' )", "2.5.4.3"),
        ];
        for (rule, a, b) in same {
            assert!(key(rule, a).is_some(), "{a}");
            assert_eq!(key(rule, a), key(rule, b), "{rule:?} {a} {b}");
        }
        assert_ne!(key(R::CaseExact, "a"), key(R::CaseExact, "A"));
    }

    #[test]
    fn values_that_do_not_fit_have_no_key() {
        use MatchingRule as R;
        let wrong = [
            (R::Integer, ""),
            (R::Integer, "1.5"),
            (R::Integer, "0x1"),
            (R::Boolean, "yes"),
            (R::Uuid, "597a"),
            (R::GeneralizedTime, "2026"),
            (R::GeneralizedTime, "20261331000000Z"),
            (R::GeneralizedTime, "20260531000000"),
            (R::DistinguishedName, "not a dn"),
        ];
        for (rule, text) in wrong {
            assert_eq!(key(rule, text), None, "{rule:?} {text:?}");
        }
        assert_eq!(MatchingRule::CaseIgnore.key(&Schema::default(), &[0xff]), None);
        assert_eq!(
            MatchingRule::OctetString.key(&Schema::default(), &[0xff]),
            Some(vec![0xff])
        );
    }

    proptest! {
        #[test]
        fn integer_keys_sort_as_integers(a in any::<i64>(), b in any::<i64>()) {
            let key = |number: i64| key(MatchingRule::Integer, &number.to_string()).unwrap();
            prop_assert_eq!(key(a).cmp(&key(b)), a.cmp(&b));
        }

        #[test]
        fn time_keys_sort_as_times(a in 0..4_000_000_000_i64, b in 0..4_000_000_000_i64) {
            let text = |seconds: i64| {
                let (days, rest) = (seconds / 86_400, seconds % 86_400);
                format!("{:04}{:02}{:02}{:02}{:02}{:02}Z", 1970 + days / 372, days % 372 / 31 + 1, days % 31 + 1, rest / 3600, rest / 60 % 60, rest % 60)
            };
            let (a, b) = (text(a), text(b));
            // Days past a month's end run into the next one, so only well-formed dates are compared.
            prop_assume!(&a[6..8] <= "28" && &b[6..8] <= "28");
            prop_assert_eq!(key(MatchingRule::GeneralizedTime, &a).cmp(&key(MatchingRule::GeneralizedTime, &b)), a.cmp(&b));
        }
    }
}
