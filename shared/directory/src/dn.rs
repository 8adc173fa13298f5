//! Distinguished names: parsing and printing (RFC 4514), and the relations between them.

use std::fmt;

use crate::{AttributeName, Value};

/// Deepest name that is taken; nobody nests further, and it bounds every walk.
pub(crate) const DEEPEST: usize = 64;
/// Longest name in bytes.
pub(crate) const LONGEST: usize = 8192;

/// One attribute and value of an RDN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ava {
    /// The attribute.
    pub name: AttributeName,
    /// Its value.
    pub value: Value,
}

/// A relative distinguished name: one or more attribute values that tell an entry from its siblings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rdn(Vec<Ava>);

/// A distinguished name, from the entry up to the root. The empty one is the root DSE's.
///
/// `==` compares spelling; two names of one entry are compared by [`crate::Schema::dn_key`].
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Dn(Vec<Rdn>);

/// Why a text is no [`Dn`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DnError {
    /// Something does not follow the grammar.
    #[error("no distinguished name: {reason} at byte {at}")]
    Syntax {
        /// Byte offset in the text.
        at: usize,
        /// What was expected there.
        reason: &'static str,
    },
    /// Over 8192 bytes or 64 components.
    #[error("the distinguished name is too long: at most 8192 bytes and 64 components")]
    TooLong,
}

impl Rdn {
    /// An RDN of one attribute value.
    #[must_use]
    pub fn new(name: AttributeName, value: Value) -> Self {
        Self(vec![Ava { name, value }])
    }

    /// The same with the attribute values of `other` as well, in the order in which names are written.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let mut avas = [self.avas(), other.avas()].concat();
        sort(&mut avas);
        avas.dedup();
        Self(avas)
    }

    /// Its attribute values; never empty.
    #[must_use]
    pub fn avas(&self) -> &[Ava] {
        &self.0
    }
}

impl Dn {
    /// The empty name.
    pub const ROOT: Self = Self(Vec::new());

    /// Parses the string form of RFC 4514; blanks around `=`, `,` and `+` are taken too, and `;` for
    /// `,`, as RFC 2253 section 4 asks of readers.
    ///
    /// # Errors
    /// When the text does not follow the grammar or is too long.
    pub fn parse(text: &str) -> Result<Self, DnError> {
        if text.len() > LONGEST {
            return Err(DnError::TooLong);
        }
        let mut parser = Parser { text, at: 0 };
        parser.skip_blanks();
        let mut rdns = Vec::new();
        if parser.peek().is_none() {
            return Ok(Self(rdns));
        }
        loop {
            rdns.push(parser.rdn()?);
            if rdns.len() > DEEPEST {
                return Err(DnError::TooLong);
            }
            match parser.peek() {
                None => return Ok(Self(rdns)),
                Some(',' | ';') => parser.advance(','),
                Some(_) => return Err(parser.error("expected , or the end")),
            }
        }
    }

    /// The RDNs, the entry's own first.
    #[must_use]
    pub fn rdns(&self) -> &[Rdn] {
        &self.0
    }

    /// The entry's own RDN; none for the root.
    #[must_use]
    pub fn rdn(&self) -> Option<&Rdn> {
        self.0.first()
    }

    /// Is it the empty name?
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The name above; none for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        self.0.split_first().map(|(_, above)| Self(above.to_vec()))
    }

    /// The name of a child.
    #[must_use]
    pub fn child(&self, rdn: Rdn) -> Self {
        let mut rdns = Vec::with_capacity(self.0.len() + 1);
        rdns.push(rdn);
        rdns.extend_from_slice(&self.0);
        Self(rdns)
    }
}

/// The order in which the values of one RDN are kept and written.
fn sort(avas: &mut [Ava]) {
    avas.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| a.value.cmp(&b.value)));
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.text.get(self.at..)?.chars().next()
    }

    fn advance(&mut self, c: char) {
        self.at += c.len_utf8();
    }

    fn skip_blanks(&mut self) {
        while self.peek() == Some(' ') {
            self.advance(' ');
        }
    }

    fn error(&self, reason: &'static str) -> DnError {
        DnError::Syntax { at: self.at, reason }
    }

    fn rdn(&mut self) -> Result<Rdn, DnError> {
        let mut avas = vec![self.ava()?];
        while self.peek() == Some('+') {
            self.advance('+');
            avas.push(self.ava()?);
        }
        // The order of a multi-valued RDN says nothing; one order makes equal ones look equal.
        sort(&mut avas);
        Ok(Rdn(avas))
    }

    fn ava(&mut self) -> Result<Ava, DnError> {
        self.skip_blanks();
        let start = self.at;
        while self.peek().is_some_and(|c| !matches!(c, '=' | ' ' | ',' | '+' | ';')) {
            self.at += self.peek().map_or(0, char::len_utf8);
        }
        let name = self.text.get(start..self.at).unwrap_or_default();
        let name = name
            .strip_prefix("OID.")
            .or_else(|| name.strip_prefix("oid."))
            .unwrap_or(name);
        let name = AttributeName::parse(name).map_err(|_| DnError::Syntax {
            at: start,
            reason: "expected an attribute name",
        })?;
        self.skip_blanks();
        if self.peek() != Some('=') {
            return Err(self.error("expected ="));
        }
        self.advance('=');
        self.skip_blanks();
        let value = if self.peek() == Some('#') {
            self.hex_value()?
        } else {
            self.string_value()?
        };
        Ok(Ava {
            name,
            value: Value::from(value),
        })
    }

    /// `#` and the hexadecimal BER encoding of the value. Only the string types and OCTET STRING occur;
    /// their content is the value.
    fn hex_value(&mut self) -> Result<Vec<u8>, DnError> {
        self.advance('#');
        let mut bytes = Vec::new();
        while let Some(byte) = self.hex_pair() {
            bytes.push(byte);
        }
        self.skip_blanks();
        let [_tag, length, content @ ..] = bytes.as_slice() else {
            return Err(self.error("expected a BER value in hexadecimal"));
        };
        if *length > 127 || usize::from(*length) != content.len() {
            return Err(self.error("expected a BER value of its own length"));
        }
        Ok(content.to_vec())
    }

    fn hex_pair(&mut self) -> Option<u8> {
        let pair = self.text.get(self.at..self.at + 2)?;
        if !pair.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        self.at += 2;
        u8::from_str_radix(pair, 16).ok()
    }

    fn string_value(&mut self) -> Result<Vec<u8>, DnError> {
        let mut value = Vec::new();
        // Trailing blanks belong to the separator unless they are escaped.
        let mut kept = 0;
        while let Some(c) = self.peek() {
            match c {
                ',' | '+' | ';' => break,
                '\\' => {
                    self.advance(c);
                    if let Some(byte) = self.hex_pair() {
                        value.push(byte);
                    } else {
                        match self.peek() {
                            Some(c @ (' ' | '"' | '#' | '+' | ',' | ';' | '<' | '=' | '>' | '\\')) => {
                                self.advance(c);
                                value.push(c as u8);
                            }
                            _ => return Err(self.error("expected a special character or two hexadecimal digits")),
                        }
                    }
                    kept = value.len();
                }
                '"' | '<' | '>' | '\0' => return Err(self.error("this character must be escaped")),
                c => {
                    self.advance(c);
                    value.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                    if c != ' ' {
                        kept = value.len();
                    }
                }
            }
        }
        value.truncate(kept);
        Ok(value)
    }
}

impl fmt::Display for Dn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, rdn) in self.0.iter().enumerate() {
            if at > 0 {
                formatter.write_str(",")?;
            }
            write!(formatter, "{rdn}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Rdn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, ava) in self.0.iter().enumerate() {
            if at > 0 {
                formatter.write_str("+")?;
            }
            write!(formatter, "{}={}", ava.name, Escaped(ava.value.as_bytes()))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Dn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Dn({self})")
    }
}

impl std::str::FromStr for Dn {
    type Err = DnError;

    fn from_str(text: &str) -> Result<Self, DnError> {
        Self::parse(text)
    }
}

/// A value as RFC 4514 section 2.4 writes it.
struct Escaped<'a>(&'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = self.0.len().saturating_sub(1);
        match std::str::from_utf8(self.0) {
            Ok(text) => text.char_indices().try_for_each(|(at, c)| match c {
                '"' | '+' | ',' | ';' | '<' | '>' | '\\' => write!(formatter, "\\{c}"),
                '#' if at == 0 => formatter.write_str("\\#"),
                ' ' if at == 0 || at == last => formatter.write_str("\\ "),
                '\0'..='\u{1f}' | '\u{7f}' => write!(formatter, "\\{:02X}", c as u32),
                c => write!(formatter, "{c}"),
            }),
            Err(_) => self.0.iter().try_for_each(|byte| write!(formatter, "\\{byte:02X}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_examples_of_rfc_4514_are_read_and_printed() {
        let cases = [
            ("UID=jsmith,DC=example,DC=net", "UID=jsmith,DC=example,DC=net"),
            (
                "OU=Sales+CN=J.  Smith,DC=example,DC=net",
                "CN=J.  Smith+OU=Sales,DC=example,DC=net",
            ),
            (
                r#"CN=James \"Jim\" Smith\, III,DC=example"#,
                r#"CN=James \"Jim\" Smith\, III,DC=example"#,
            ),
            (r"CN=Before\0dAfter,DC=example", r"CN=Before\0DAfter,DC=example"),
            ("1.3.6.1.4.1.1466.0=#04024869", "1.3.6.1.4.1.1466.0=Hi"),
            (r"CN=Lu\C4\8Di\C4\87", "CN=Lučić"),
            ("", ""),
            (" cn = a ; o = b ", "cn=a,o=b"),
            (r"cn=\ a\ ,o=\#b", r"cn=\ a\ ,o=\#b"),
            ("cn=", "cn="),
        ];
        for (text, printed) in cases {
            assert_eq!(Dn::parse(text).unwrap().to_string(), printed, "{text}");
        }
    }

    #[test]
    fn what_is_no_name_says_where() {
        for text in [
            "cn",
            "=a",
            "cn=a,",
            "cn=a+",
            ",",
            "cn=\\",
            "cn=\\z",
            "cn=a\"b",
            "cn=#0",
            "cn=#0405aa",
            "c n=a",
            "cn=<",
        ] {
            assert!(matches!(Dn::parse(text), Err(DnError::Syntax { .. })), "{text:?}");
        }
        assert_eq!(Dn::parse(&"a=b,".repeat(3000)), Err(DnError::TooLong));
        assert_eq!(Dn::parse(&vec!["a=b"; 65].join(",")), Err(DnError::TooLong));
    }

    #[test]
    fn parents_and_children() {
        let dn = Dn::parse("uid=alice,ou=users,dc=example").unwrap();
        let parent = dn.parent().unwrap();
        assert_eq!(parent.to_string(), "ou=users,dc=example");
        assert_eq!(parent.child(dn.rdn().unwrap().clone()), dn);
        assert!(Dn::ROOT.parent().is_none() && Dn::ROOT.is_root());
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..12), 1..5)) {
            let dn = values.into_iter().fold(Dn::ROOT, |dn, value| {
                dn.child(Rdn::new(AttributeName::parse("cn").unwrap(), Value::from(value)))
            });
            prop_assert_eq!(Dn::parse(&dn.to_string()).unwrap(), dn);
        }

        #[test]
        fn any_text_is_an_answer_and_not_a_crash(text in "\\PC{0,60}") {
            if let Ok(dn) = Dn::parse(&text) {
                prop_assert_eq!(Dn::parse(&dn.to_string()).unwrap(), dn);
            }
        }
    }
}
