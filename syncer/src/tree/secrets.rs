//! Which attributes are secret.

use std::collections::BTreeSet;

use dirless_directory::filter::Extensible;
use dirless_directory::schema::{PASSWORDS, SECRET_REFERENCES};
use dirless_directory::{AttributeName, Filter, Schema};

/// Attributes that are secret, under all their names and OIDs, and what a site's schema derives from them.
#[derive(Clone, Debug)]
pub struct Secrets(BTreeSet<String>);

impl Secrets {
    /// The passwords of a schema.
    #[must_use]
    pub fn passwords(schema: &Schema) -> Self {
        Self::of(schema, PASSWORDS.iter().copied())
    }

    /// Passwords and where secrets are kept: all that stays at the customer's unless a rule names it.
    #[must_use]
    pub fn all(schema: &Schema) -> Self {
        Self::of(schema, PASSWORDS.iter().chain(SECRET_REFERENCES).copied())
    }

    /// These, under all their names.
    pub(crate) fn of<'a>(schema: &Schema, names: impl Iterator<Item = &'a str>) -> Self {
        let spellings = |name: &'a str| {
            let known = schema.spellings(name).unwrap_or_default().iter();
            known
                .map(|text| text.to_ascii_lowercase())
                .chain([name.to_ascii_lowercase()])
        };
        Self(names.flat_map(spellings).collect())
    }

    /// Is the attribute one of them, whatever its options?
    #[must_use]
    pub fn holds(&self, name: &AttributeName) -> bool {
        self.0.contains(&name.kind().to_ascii_lowercase())
    }

    /// Does the filter look at a secret? One over all attributes does.
    #[must_use]
    pub fn are_in(&self, filter: &Filter) -> bool {
        match filter {
            Filter::And(all) | Filter::Or(all) => all.iter().any(|one| self.are_in(one)),
            Filter::Not(one) => self.are_in(one),
            Filter::Equality(name, _)
            | Filter::Substrings(name, _)
            | Filter::GreaterOrEqual(name, _)
            | Filter::LessOrEqual(name, _)
            | Filter::Present(name)
            | Filter::Approximate(name, _) => self.holds(name),
            Filter::Extensible(Extensible { name, .. }) => name.as_ref().is_none_or(|name| self.holds(name)),
        }
    }
}

/// Does an attribute of that name hold hashes of passwords in every schema?
#[must_use]
pub fn is_password(name: &AttributeName) -> bool {
    PASSWORDS.iter().any(|secret| name.kind().eq_ignore_ascii_case(secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> AttributeName {
        AttributeName::parse(text).unwrap()
    }

    #[test]
    fn secrets_are_known_under_every_name_and_in_every_filter() {
        let secrets = Secrets::passwords(&Schema::standard());
        for text in ["userPassword", "USERPASSWORD;x-a", "2.5.4.35", "aitherPasswordHash"] {
            assert!(secrets.holds(&name(text)), "{text}");
        }
        assert!(is_password(&name("USERPASSWORD;x-old")) && !is_password(&name("mail")));
        assert!(!secrets.holds(&name("aitherSecretReference")) && !secrets.holds(&name("mail")));
        assert!(Secrets::all(&Schema::standard()).holds(&name("aithersecretreference")));
        for (text, wanted) in [
            ("(userPassword=*)", true),
            ("(&(cn=a)(!(2.5.4.35>=x)))", true),
            ("(|(cn=a)(userPassword:caseExactMatch:=x))", true),
            ("(:caseExactMatch:=x)", true),
            ("(&(cn=a)(mail=userPassword))", false),
        ] {
            assert_eq!(secrets.are_in(&Filter::parse(text).unwrap()), wanted, "{text}");
        }
    }

    #[test]
    fn what_a_site_derives_from_a_secret_is_one() {
        let mut schema = Schema::standard();
        let own = "attributetype ( 1.3.6.1.4.1.99999.1 NAME 'oldPassword' SUP userPassword )";
        schema.extend(own).unwrap();
        let secrets = Secrets::passwords(&schema);
        assert!(secrets.holds(&name("oldpassword")) && secrets.holds(&name("1.3.6.1.4.1.99999.1")));
        assert!(secrets.are_in(&Filter::parse("(oldPassword=*)").unwrap()));
    }
}
