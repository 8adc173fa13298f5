//! Which values are indexed, and under which keys. Writer and reader must agree: another answer here is
//! another [`crate::layout::FORMAT`].

use dirless_directory::MatchingRule;
use dirless_directory::Schema;
use dirless_directory::encoded::Attribute;

/// Longest key that is kept whole.
const LONGEST: usize = 64;
/// Bytes of the digest that stands for a name: enough that two names never meet.
const DIGEST: usize = 12;

/// Attributes that nobody looks entries up by.
const PASSED_OVER: [&str; 22] = [
    "objectclass",
    "description",
    "gecos",
    "loginshell",
    "homedirectory",
    "shadowlastchange",
    "shadowmin",
    "shadowmax",
    "shadowwarning",
    "shadowinactive",
    "shadowexpire",
    "shadowflag",
    "createtimestamp",
    "entrycsn",
    "creatorsname",
    "modifiersname",
    "structuralobjectclass",
    "hassubordinates",
    "subschemasubentry",
    "entrydn",
    "sshpublickey",
    "aitherconfigdata",
];

/// The name under which values of an attribute are indexed, and the rule that makes keys of them; none
/// for attributes that are not indexed.
pub(crate) fn indexed(schema: &Schema, name: &str) -> Option<(String, MatchingRule)> {
    let rule = schema.equality(name)?;
    if matches!(rule, MatchingRule::OctetString | MatchingRule::Boolean) {
        return None;
    }
    let kind = name.split(';').next().unwrap_or(name);
    let (written, oid) = match schema.attribute(kind) {
        Some(attribute) => (attribute.name(), attribute.oid.as_ref()),
        None => (kind, kind),
    };
    let passed_over = PASSED_OVER.iter().any(|one| one.eq_ignore_ascii_case(written)) || schema.is_secret(kind);
    (!passed_over).then(|| (oid.to_ascii_lowercase(), rule))
}

/// The key of a value, and whether it stands for that value alone.
pub(crate) fn key(schema: &Schema, rule: MatchingRule, value: &[u8]) -> Option<(Vec<u8>, bool)> {
    let mut key = rule.key(schema, value)?;
    if rule == MatchingRule::DistinguishedName {
        let digest = ring::digest::digest(&ring::digest::SHA256, &key);
        return Some((digest.as_ref().iter().take(DIGEST).copied().collect(), true));
    }
    let whole = key.len() <= LONGEST;
    key.truncate(LONGEST);
    Some((key, whole))
}

/// The classes of an entry in the form in which sets of them are compared.
pub(crate) fn classes(schema: &Schema, attribute: Option<Attribute<'_>>) -> String {
    let values = attribute.into_iter().flat_map(|attribute| attribute.values);
    let mut oids: Vec<String> = values
        .filter_map(|value| std::str::from_utf8(value).ok())
        .map(|name| schema.oid_of(name))
        .collect();
    oids.sort_unstable();
    oids.dedup();
    oids.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_attribute_are_one_index_and_secrets_have_none() {
        let schema = Schema::standard();
        let of = |name| indexed(&schema, name).map(|(name, _)| name);
        assert_eq!(of("cn"), of("commonName;lang-de"));
        assert_eq!(of("2.5.4.3"), of("CN"));
        assert_eq!(of("somethingElse").as_deref(), Some("somethingelse"));
        for name in [
            "userPassword",
            "aitherPasswordHash",
            "aitherSecretReference",
            "jpegPhoto",
            "loginShell",
        ] {
            assert_eq!(of(name), None, "{name}");
        }
    }

    #[test]
    fn long_keys_are_cut_and_say_so_and_names_are_digests() {
        let schema = Schema::standard();
        let long = "x".repeat(100);
        let (cut, whole) = key(&schema, MatchingRule::CaseIgnore, long.as_bytes()).unwrap();
        assert!(cut.len() == LONGEST && !whole);
        let name = |text: &str| key(&schema, MatchingRule::DistinguishedName, text.as_bytes()).unwrap();
        assert_eq!(name("uid=a,dc=b"), name("UID=A, DC=b"));
        assert_ne!(name("uid=a,dc=b"), name("uid=a,dc=c"));
        assert!(name("uid=a,dc=b").1 && name("uid=a,dc=b").0.len() == DIGEST);
        assert!(key(&schema, MatchingRule::Integer, b"x").is_none());
    }
}
