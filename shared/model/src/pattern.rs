//! Patterns in which `*` stands for any text: for host names and for names of users and groups.

/// Does `pattern` fit all of `text`? They are compared byte for byte; each `*` stands for any text, also
/// none.
#[must_use]
pub fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
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

    /// The same, by trying everything.
    fn naive(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|at| naive(rest, &text[at..])),
            Some((byte, rest)) => text.first() == Some(byte) && naive(rest, &text[1..]),
        }
    }

    #[test]
    fn letters_are_exact_and_stars_are_anything() {
        for (pattern, text, good) in [
            ("web-1", "web-1", true),
            ("web-1", "web-10", false),
            ("web-1", "Web-1", false),
            ("db-*", "db-", true),
            ("db-*", "xdb-1", false),
            ("*", "", true),
            ("*.eu.*", "a.eu.b", true),
            ("*-prod", "db-prod", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("", "web-1", false),
        ] {
            assert_eq!(fits(pattern, text), good, "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn fitting_is_what_trying_everything_says(pattern in "[ab*]{0,6}", text in "[ab]{0,8}") {
            prop_assert_eq!(fits(&pattern, &text), naive(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
