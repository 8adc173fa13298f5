//! Who writes.

use dirless_directory::{AttributeName, Dn, Rdn, Value};

/// Who writes an entry: what `creatorsName`, `modifiersName` and the changelog say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor(Dn);

impl Actor {
    /// The one of that name, for instance the entry that someone bound as.
    #[must_use]
    pub fn new(dn: Dn) -> Self {
        Self(dn)
    }

    /// The syncer itself: `cn=dirless-syncer`.
    #[must_use]
    pub fn syncer() -> Self {
        Self(Dn::ROOT.child(named("dirless-syncer")))
    }

    /// A source: `cn=NAME,cn=sources`.
    #[must_use]
    pub fn source(name: &str) -> Self {
        Self(Dn::ROOT.child(named("sources")).child(named(name)))
    }

    /// Who has an operator token: `cn=NAME,cn=operators`.
    #[must_use]
    pub fn operator(name: &str) -> Self {
        Self(Dn::ROOT.child(named("operators")).child(named(name)))
    }

    /// The name.
    #[must_use]
    pub fn dn(&self) -> &Dn {
        &self.0
    }

    /// The owner of what it makes, when it is somebody of the tree.
    pub(super) fn uid(&self) -> Option<String> {
        let ava = self.0.rdn()?.avas().first()?;
        (ava.name.as_str().eq_ignore_ascii_case("uid")).then(|| ava.value.as_str().map(str::to_owned))?
    }
}

fn named(value: &str) -> Rdn {
    let cn = AttributeName::parse("cn").expect("cn is letters");
    Rdn::new(cn, Value::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_who_it_is() {
        assert_eq!(Actor::source("a,b").dn().to_string(), "cn=a\\,b,cn=sources");
        let alice = Actor::new(Dn::parse("uid=alice,ou=users,dc=dirless").unwrap());
        assert_eq!(alice.uid().as_deref(), Some("alice"));
        assert_eq!(Actor::syncer().uid(), None);
    }
}
