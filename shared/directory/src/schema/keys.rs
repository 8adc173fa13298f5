//! Keys of names: the form in which they are compared.

use std::collections::BTreeSet;

use super::{DnKey, RDN_END, Schema};
use crate::dn::{DEEPEST, LONGEST};
use crate::matching::MatchingRule;
use crate::{Ava, Dn, Rdn};

impl Schema {
    /// The form in which `dn` is compared; none when a value does not fit its attribute.
    #[must_use]
    pub fn dn_key(&self, dn: &Dn) -> Option<DnKey> {
        let mut key = Vec::with_capacity(64);
        for rdn in dn.rdns().iter().rev() {
            self.put_rdn(rdn, &mut key)?;
            key.push(RDN_END);
        }
        Some(DnKey(key))
    }

    /// The key of the name that `text` is; none when it is none. It is what [`Dn::parse`] and
    /// [`dn_key`](Self::dn_key) give, at a fraction of the cost for a plain name.
    #[must_use]
    pub fn dn_key_of(&self, text: &str) -> Option<DnKey> {
        match self.plain_key(text) {
            Some(key) => Some(key),
            None => self.dn_key(&Dn::parse(text).ok()?),
        }
    }

    /// The name that `text` is, as [`Dn`] writes it, and its key; none when it is none.
    #[must_use]
    pub fn name_and_key(&self, text: &str) -> Option<(String, DnKey)> {
        // What is plain is written as it is.
        if let Some(key) = self.plain_key(text) {
            return Some((text.to_owned(), key));
        }
        let dn = Dn::parse(text).ok()?;
        Some((dn.to_string(), self.dn_key(&dn)?))
    }

    /// The key of a name without escapes, blanks and signs, whose attributes are defined texts.
    fn plain_key(&self, text: &str) -> Option<DnKey> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'@' | b':' | b'/');
        if text.len() > LONGEST {
            return None;
        }
        let mut key = Vec::with_capacity(text.len() + 8);
        for (depth, part) in text.rsplit(',').enumerate() {
            let (name, value) = part.split_once('=')?;
            if value.is_empty() || !value.bytes().all(plain) || !name.bytes().all(plain) || depth >= DEEPEST {
                return None;
            }
            let known = self.attribute_place(name).and_then(|at| self.0.resolved.get(at))?;
            key.extend_from_slice(known.folded.as_bytes());
            key.push(b'=');
            let from = key.len();
            key.extend_from_slice(value.as_bytes());
            match known.equality {
                Some(MatchingRule::CaseIgnore) => key.iter_mut().skip(from).for_each(|b| b.make_ascii_lowercase()),
                Some(MatchingRule::CaseExact) => {}
                _ => return None,
            }
            key.push(RDN_END);
        }
        Some(DnKey(key))
    }

    fn put_rdn(&self, rdn: &Rdn, key: &mut Vec<u8>) -> Option<()> {
        if let [ava] = rdn.avas() {
            return self.put_ava(ava, key);
        }
        let mut parts = BTreeSet::new();
        for ava in rdn.avas() {
            let mut part = Vec::new();
            self.put_ava(ava, &mut part)?;
            parts.insert(part);
        }
        for (at, part) in parts.into_iter().enumerate() {
            if at > 0 {
                key.push(1);
            }
            key.extend(part);
        }
        Some(())
    }

    fn put_ava(&self, ava: &Ava, key: &mut Vec<u8>) -> Option<()> {
        let name = ava.name.as_str();
        match self.attribute_place(name).and_then(|at| self.0.resolved.get(at)) {
            Some(known) => key.extend_from_slice(known.folded.as_bytes()),
            None => key.extend(ava.name.key().into_bytes()),
        }
        key.push(b'=');
        // Control bytes inside a value would look like a separator: none is left of text, and bytes are
        // written in hexadecimal.
        match self.equality(name)?.key(self, ava.value.as_bytes())? {
            value if value.iter().all(|byte| *byte > 1) => key.extend(value),
            value => key.extend(value.iter().flat_map(|byte| format!("\\{byte:02x}").into_bytes())),
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_names_take_the_short_way() {
        let schema = Schema::standard();
        for text in [
            "uid=Alice,ou=users,DC=Dirless",
            "cn=a.b-c_d@x,2.5.4.11=Groups,dc=x",
            "dc=x",
        ] {
            assert!(schema.plain_key(text).is_some(), "{text}");
        }
        for text in [
            "",
            "uid=a b,dc=x",
            "uid=a+cn=b,dc=x",
            "unknown=x",
            "uid=,dc=x",
            "uid=a\\,b",
            " uid=a",
            "c=d=e",
        ] {
            assert!(schema.plain_key(text).is_none(), "{text}");
        }
        assert!(schema.plain_key(&vec!["cn=a"; 65].join(",")).is_none());
        assert!(schema.dn_key_of(&vec!["cn=a"; 65].join(",")).is_none());
    }

    proptest! {
        #[test]
        fn the_short_way_leads_where_the_long_one_does(
            parts in prop::collection::vec(("(uid|CN|ou|dc|2\\.5\\.4\\.3|uidNumber|member|x|cn;lang-de|)", "[a-zA-Z0-9.@+=# \\\\é-]{0,6}"), 0..5)
        ) {
            let schema = Schema::standard();
            let text: Vec<String> = parts.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
            let text = text.join(",");
            let long = Dn::parse(&text).ok().and_then(|dn| schema.dn_key(&dn));
            let named = Dn::parse(&text).ok().map(|dn| dn.to_string()).zip(long.clone());
            prop_assert_eq!(schema.name_and_key(&text), named);
            prop_assert_eq!(schema.dn_key_of(&text), long);
        }
    }
}
