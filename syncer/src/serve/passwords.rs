//! Passwords on their way into the tree: what is plain is hashed.

use dirless_directory::{AttributeName, Entry, Value};
use dirless_ldap::{hash_password, is_hashed_password};

/// The attribute whose plain values are hashed. The others hold hashes by their definition.
const PLAIN: &str = "userPassword";

/// Is that the attribute whose plain values are hashed?
pub(crate) fn is_plain(name: &AttributeName) -> bool {
    let kind = name.kind();
    kind.eq_ignore_ascii_case(PLAIN) || kind == "2.5.4.35"
}

/// The value as it is stored. Takes a tenth of a second when it is plain.
pub(crate) fn stored(value: &Value) -> Value {
    if is_hashed_password(value.as_bytes()) {
        value.clone()
    } else {
        Value::from(hash_password(value.as_bytes(), &rand::random()))
    }
}

/// Hashes the plain passwords of an entry, but for those that `held` has: they were stored so.
pub(crate) fn hash(entry: &mut Entry, held: Option<&Entry>) {
    let names: Vec<AttributeName> = entry.attributes().map(|(name, _)| name.clone()).collect();
    for name in names.into_iter().filter(is_plain) {
        let kept = held.map_or(&[][..], |held| held.values(&name));
        let one = |value: &Value| {
            if kept.contains(value) {
                value.clone()
            } else {
                stored(value)
            }
        };
        let values = entry.values(&name).iter().map(one).collect();
        entry.set(name, values);
    }
}

#[cfg(test)]
mod tests {
    use dirless_directory::Dn;
    use dirless_ldap::verify_password;

    use super::*;

    #[test]
    fn plain_passwords_are_hashed_and_hashes_stay() {
        let name = |text| AttributeName::parse(text).unwrap();
        let mut entry = Entry::new(Dn::parse("uid=a").unwrap());
        entry.add(name("USERPASSWORD"), Value::from("secret"));
        entry.add(name("userpassword"), Value::from("{SSHA}AAAA"));
        entry.add(name("aitherPasswordHash"), Value::from("$2b$12$x"));
        let mut again = entry.clone();
        hash(&mut entry, None);
        let values = entry.values(&name("userPassword"));
        assert!(verify_password(values[0].as_bytes(), b"secret") && values[0].as_bytes().starts_with(b"{PBKDF2"));
        assert_eq!(values[1], Value::from("{SSHA}AAAA"));
        assert_eq!(entry.values(&name("aitherPasswordHash")), [Value::from("$2b$12$x")]);
        let held = again.clone();
        hash(&mut again, Some(&held));
        assert_eq!(again, held, "what is stored is not hashed again");
    }
}
