//! Passwords in changes: what is plain is hashed, and what is to be removed is found by it.

use dirless_directory::{AttributeName, Dn, Entry, Value};
use dirless_ldap::{
    Change, Directory as _, Modification, PasswordRequest, ResultCode, hash_password, is_hashed_password,
    verify_password,
};
use rand::Rng as _;
use zeroize::Zeroizing;

use super::refusal::{Stopped, refusal};
use super::writer::OneWrite;
use crate::serve::passwords;
use crate::tree::{self, Actor, Expect, TreeError, TreeStore};

/// Plain passwords that one change may have: each takes a tenth of a second.
const MOST: usize = 4;
/// Bytes of a password.
const LONGEST: usize = 1024;
/// Letters of passwords that are made up: none that are taken for another. 20 of them are 115 bits.
const LETTERS: &[u8; 54] = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ234567";
const LENGTH: usize = 20;

pub(super) fn name_of(modification: &Modification) -> &AttributeName {
    match modification {
        Modification::Add(name, _)
        | Modification::Delete(name, _)
        | Modification::Replace(name, _)
        | Modification::Increment(name, _) => name,
    }
}

fn values_of(modification: &Modification) -> &[Value] {
    match modification {
        Modification::Add(_, values) | Modification::Delete(_, values) | Modification::Replace(_, values) => values,
        Modification::Increment(..) => &[],
    }
}

/// The plain passwords in a change.
fn plain(change: &Change) -> Vec<&Value> {
    let of = |name: &AttributeName| passwords::is_plain(name);
    let all: Vec<&Value> = match change {
        Change::Add(entry) => {
            let own = entry.attributes().filter(|(name, _)| of(name));
            own.flat_map(|(_, values)| values).collect()
        }
        Change::Modify(_, modifications) => {
            let own = modifications.iter().filter(|one| of(name_of(one)));
            own.flat_map(values_of).collect()
        }
        Change::Delete(_) | Change::Rename { .. } => Vec::new(),
    };
    all.into_iter()
        .filter(|value| !is_hashed_password(value.as_bytes()))
        .collect()
}

/// Are there passwords in the change that have to be hashed or verified?
pub(super) fn are_in(change: &Change) -> bool {
    !plain(change).is_empty()
}

/// The change with plain passwords replaced by hashes, and those to be removed by what is stored.
pub(super) fn hashed(tree: &TreeStore, change: Change) -> Result<Change, Stopped> {
    let all = plain(&change);
    if all.len() > MOST {
        let text = format!("a change takes at most {MOST} plain passwords");
        return Err(refusal(ResultCode::AdminLimitExceeded, text).into());
    }
    for password in all {
        check(password.as_bytes())?;
    }
    Ok(match change {
        Change::Add(mut entry) => {
            passwords::hash(&mut entry, None);
            Change::Add(entry)
        }
        Change::Modify(dn, modifications) => {
            let held = tree.get(&dn)?.map(|record| record.entry()).transpose()?;
            let stored = held.as_ref().map_or(&[][..], stored);
            let hashed = modifications.into_iter().map(|one| replaced(one, stored));
            Change::Modify(dn, hashed.collect())
        }
        other => other,
    })
}

/// Refuses what is no password.
fn check(password: &[u8]) -> Result<(), Stopped> {
    if password.is_empty() || password.len() > LONGEST {
        let text = format!("a password has between 1 and {LONGEST} bytes");
        return Err(refusal(ResultCode::ConstraintViolation, text).into());
    }
    Ok(())
}

fn user_password() -> AttributeName {
    AttributeName::parse("userPassword").expect("userPassword is letters")
}

fn stored(entry: &Entry) -> &[Value] {
    entry.values(&user_password())
}

fn replaced(modification: Modification, held: &[Value]) -> Modification {
    if !passwords::is_plain(name_of(&modification)) {
        return modification;
    }
    let all = |values: Vec<Value>| values.iter().map(passwords::stored).collect();
    match modification {
        Modification::Add(name, values) => Modification::Add(name, all(values)),
        Modification::Replace(name, values) => Modification::Replace(name, all(values)),
        Modification::Delete(name, values) => {
            // Who changes a password removes the old one by naming it in clear.
            let found = |value: Value| {
                let is_it = |held: &&Value| **held == value || verify_password(held.as_bytes(), value.as_bytes());
                held.iter().find(is_it).cloned().unwrap_or(value)
            };
            Modification::Delete(name, values.into_iter().map(found).collect())
        }
        other @ Modification::Increment(..) => other,
    }
}

impl OneWrite<'_> {
    /// Sets one password in place of all that are there (RFC 3062).
    pub(super) fn set_password(
        &self,
        actor: &Actor,
        request: &PasswordRequest<'_>,
    ) -> Result<Option<Zeroizing<String>>, Stopped> {
        let dn = match request.user {
            Some(text) => text.strip_prefix("dn:").unwrap_or(text).to_owned(),
            None => request.who.dn(),
        };
        let dn = Dn::parse(&dn).map_err(|error| refusal(ResultCode::InvalidDnSyntax, error.to_string()))?;
        let held = self.directory.read(|reader| {
            self.known(reader, &dn)?;
            self.may_write(&dn, &user_password())?;
            Ok(reader.require(&dn)?)
        })?;
        if self.directory.elsewhere(&held).is_some() {
            let text = "the source of this entry decides its password: set it there";
            return Err(refusal(ResultCode::UnwillingToPerform, text).into());
        }
        if let Some(old) = request.old {
            self.is_right(&held, old)?;
        }
        let made = match request.new {
            Some(_) => None,
            None => Some(made_up()),
        };
        let new = made
            .as_ref()
            .map(|made| made.as_bytes())
            .or(request.new)
            .unwrap_or_default();
        check(new)?;
        let hash = Value::from(hash_password(new, &rand::random()));
        let steps = [tree::Modification::Replace(user_password(), vec![hash])];
        let expected = Expect::Version(held.version());
        match self.directory.tree.modify(actor, &dn, &steps, expected) {
            Ok(_) => Ok(made),
            Err(TreeError::Version { .. }) => {
                Err(refusal(ResultCode::Busy, "the entry changed meanwhile: try again").into())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Is it the password so far? Wrong ones count as those of binds do.
    fn is_right(&self, held: &tree::Record, old: &[u8]) -> Result<(), Stopped> {
        if !self.directory.admits(held.key()) {
            let text = "too many wrong passwords for this name: wait a minute";
            return Err(refusal(ResultCode::Busy, text).into());
        }
        let entry = held.entry()?;
        let right = stored(&entry).iter().any(|hash| verify_password(hash.as_bytes(), old));
        self.directory.verified(held.key(), right);
        if right {
            return Ok(());
        }
        Err(refusal(ResultCode::InvalidCredentials, "the old password is wrong").into())
    }
}

fn made_up() -> Zeroizing<String> {
    let mut random = rand::rng();
    let letter = |_| {
        let at = random.random_range(0..LETTERS.len());
        LETTERS.get(at).copied().map_or('a', char::from)
    };
    Zeroizing::new((0..LENGTH).map(letter).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(password: &[&str]) -> Change {
        let mut entry = Entry::new(Dn::parse("uid=a,dc=dirless").unwrap());
        for one in password {
            entry.add(AttributeName::parse("2.5.4.35").unwrap(), Value::from(*one));
        }
        Change::Add(entry)
    }

    #[test]
    fn plain_passwords_are_found_under_every_name_and_hashes_are_none() {
        assert!(are_in(&add(&["secret"])) && !are_in(&add(&["{SSHA}AAAA"])) && !are_in(&add(&[])));
        let dn = Dn::parse("uid=a").unwrap();
        let of = |name: &str| AttributeName::parse(name).unwrap();
        let modify = |one| Change::Modify(dn.clone(), vec![one]);
        let values = vec![Value::from("x")];
        assert!(are_in(&modify(Modification::Delete(
            of("USERpassword"),
            values.clone()
        ))));
        assert!(!are_in(&modify(Modification::Delete(of("userPassword"), Vec::new()))));
        assert!(!are_in(&modify(Modification::Replace(of("mail"), values))));
        assert!(!are_in(&Change::Delete(dn)));
    }

    #[test]
    fn what_is_removed_in_clear_is_found_among_the_hashes() {
        let stored = [Value::from("{SSHA}x"), passwords::stored(&Value::from("secret"))];
        let remove = |text: &str| {
            let name = user_password();
            match replaced(Modification::Delete(name, vec![Value::from(text)]), &stored) {
                Modification::Delete(_, values) => values,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(remove("secret"), stored[1..]);
        assert_eq!(remove("other"), [Value::from("other")]);
    }

    #[test]
    fn made_up_passwords_differ() {
        let (one, other) = (made_up(), made_up());
        assert!(one.len() == LENGTH && *one != *other);
    }
}
