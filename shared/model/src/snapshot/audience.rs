/// Does `pattern` name the host? It is compared byte for byte with the kernel's host name, as in access
/// rules; each `*` stands for any text, also none.
#[must_use]
pub fn host_matches(pattern: &str, host: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = host.strip_prefix(first) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::snapshot::Meta;

    /// The same, by trying everything.
    fn naive(pattern: &[u8], host: &[u8]) -> bool {
        match pattern.split_first() {
            None => host.is_empty(),
            Some((b'*', rest)) => (0..=host.len()).any(|at| naive(rest, &host[at..])),
            Some((byte, rest)) => host.first() == Some(byte) && naive(rest, &host[1..]),
        }
    }

    #[test]
    fn names_are_exact_and_stars_are_anything() {
        for (pattern, host, matches) in [
            ("web-1", "web-1", true),
            ("web-1", "web-10", false),
            ("web-1", "Web-1", false),
            ("db-*", "db-", true),
            ("db-*", "xdb-1", false),
            ("*", "", true),
            ("*.eu.*", "a.eu.b", true),
            ("a*a", "a", false),
            ("", "web-1", false),
        ] {
            assert_eq!(host_matches(pattern, host), matches, "{pattern} {host}");
        }
    }

    #[test]
    fn a_snapshot_for_all_is_for_everyone_and_one_for_none_is_for_nobody() {
        let mut meta = Meta::default();
        assert!(meta.is_for("web-1"));
        meta.host_groups = Some(Vec::new());
        assert!(!meta.is_for("web-1"));
        meta.host_groups = Some(vec!["db-1".to_owned(), "web-*".to_owned()]);
        assert!(meta.is_for("web-1") && !meta.is_for("db-2"));
    }

    proptest! {
        #[test]
        fn matching_is_what_trying_everything_says(pattern in "[ab*]{0,6}", host in "[ab]{0,8}") {
            prop_assert_eq!(host_matches(&pattern, &host), naive(pattern.as_bytes(), host.as_bytes()));
        }
    }
}
