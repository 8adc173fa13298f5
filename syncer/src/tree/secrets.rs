//! Which attributes are secret.

use dirless_directory::AttributeName;

/// Hashes of passwords: never told, not even to the changelog.
pub const PASSWORDS: &[&str] = &["userPassword", "aitherPasswordHash", "authPassword", "sambaNTPassword"];
/// Where a secret is kept: stays at the customer's unless a rule says otherwise.
pub const REFERENCES: &[&str] = &["aitherSecretReference"];

/// Does the attribute hold hashes of passwords?
#[must_use]
pub fn is_password(name: &AttributeName) -> bool {
    names(PASSWORDS, name)
}

/// Does the attribute stay at the customer's unless a rule names it?
#[must_use]
pub fn stays(name: &AttributeName) -> bool {
    is_password(name) || names(REFERENCES, name)
}

fn names(list: &[&str], name: &AttributeName) -> bool {
    list.iter().any(|secret| name.kind().eq_ignore_ascii_case(secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_and_case_hide_nothing() {
        let name = |text| AttributeName::parse(text).unwrap();
        assert!(is_password(&name("USERPASSWORD;x-old")) && stays(&name("userpassword")));
        assert!(!is_password(&name("aitherSecretReference")) && stays(&name("aitherSecretReference")));
        assert!(!stays(&name("mail")));
    }
}
