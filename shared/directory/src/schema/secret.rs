//! Which attributes are secret: the one list that every store and every server goes by.

use super::Schema;

/// Hashes of passwords: nobody is shown them, and no changelog has them.
pub const PASSWORDS: &[&str] = &[
    "userPassword",
    "aitherPasswordHash",
    "authPassword",
    "sambaLMPassword",
    "sambaNTPassword",
    "nisSecretKey",
];

/// Where a secret is kept, and keys that are under one.
pub const SECRET_REFERENCES: &[&str] = &["aitherSecretReference", "userPKCS12"];

impl Schema {
    /// Does the attribute hold hashes of passwords? So does whatever is derived from one that does;
    /// options make no other attribute of it.
    #[must_use]
    pub fn is_password(&self, name: &str) -> bool {
        self.is_any_of(name, PASSWORDS)
    }

    /// Does the attribute hold hashes of passwords, or tell where a secret is? What is secret leaves the
    /// place where it is kept only for those who are named.
    #[must_use]
    pub fn is_secret(&self, name: &str) -> bool {
        self.is_password(name) || self.is_any_of(name, SECRET_REFERENCES)
    }

    fn is_any_of(&self, name: &str, of: &[&str]) -> bool {
        let kind = name.split(';').next().unwrap_or(name);
        of.iter().any(|one| self.is_subtype(kind, one))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_under_every_name() {
        let mut schema = Schema::standard();
        schema
            .extend("attributetype ( 1.3.6.1.4.1.99999.1 NAME 'oldPassword' SUP userPassword )")
            .unwrap();
        for name in [
            "userPassword",
            "USERPASSWORD;x-a",
            "2.5.4.35",
            "aitherPasswordHash",
            "oldpassword",
            "sambaNTPassword",
        ] {
            assert!(schema.is_password(name) && schema.is_secret(name), "{name}");
        }
        for name in ["aitherSecretReference", "userPKCS12;binary"] {
            assert!(!schema.is_password(name) && schema.is_secret(name), "{name}");
        }
        assert!(!schema.is_secret("mail") && !schema.is_secret("passwordx"));
    }
}
