//! Numbers, homes, shells and keys that the source itself gives.

use std::collections::{BTreeMap, BTreeSet};

use dirless_model::key::AuthorizedKey;
use dirless_model::{Gid, HostPath, Uid};

use super::LedgerNumbers;
use crate::sources::SourceUser;

/// What the source gives a user, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) uid: Option<Uid>,
    pub(super) gid: Option<Gid>,
    pub(super) home: Option<HostPath>,
    pub(super) shell: Option<HostPath>,
    pub(super) keys: Vec<String>,
}

impl Given {
    /// Checks what `user` brings. A number that is the ledger's is not the source's to give.
    pub(super) fn of(user: &SourceUser, ledger: Option<&LedgerNumbers>) -> Result<Self, String> {
        let path = |what: &str, text: Option<&String>| match text {
            None => Ok(None),
            Some(text) => HostPath::parse(text)
                .map(Some)
                .map_err(|error| format!("its {what} {text:?}: {error}")),
        };
        let uid = user.posix.uid.map(|number| free(number, "uid", ledger)).transpose()?;
        Ok(Self {
            uid: match uid {
                None => None,
                Some(number) => Some(Uid::parse(number).map_err(|error| format!("its uid {number}: {error}"))?),
            },
            gid: user.posix.gid.map(|number| primary(number, ledger)).transpose()?,
            home: path("home", user.posix.home.as_ref())?,
            shell: path("shell", user.posix.shell.as_ref())?,
            keys: user.keys.iter().filter_map(|line| key(line)).collect(),
        })
    }
}

/// The line in its plain form, when it is a key that a directory may hand to sshd.
fn key(line: &str) -> Option<String> {
    AuthorizedKey::parse(line.trim()).ok().map(|key| key.to_string())
}

/// How many of `user`'s lines are no keys.
pub(super) fn bad_keys(user: &SourceUser) -> usize {
    user.keys.iter().filter(|line| key(line).is_none()).count()
}

/// The number of a primary group: one that the source may give, or that of a group that has it.
fn primary(number: u32, ledger: Option<&LedgerNumbers>) -> Result<Gid, String> {
    group_number(number, ledger.filter(|ledger| !ledger.has_group(number)))
}

/// The gid `number`, when the source may give it.
pub(super) fn group_number(number: u32, ledger: Option<&LedgerNumbers>) -> Result<Gid, String> {
    let number = free(number, "gid", ledger)?;
    Gid::parse(number).map_err(|error| format!("its gid {number}: {error}"))
}

fn free(number: u32, what: &str, ledger: Option<&LedgerNumbers>) -> Result<u32, String> {
    match ledger {
        Some(ledger) if ledger.has_number(number) => Err(format!(
            "its {what} {number} is in [ids] range {}, which is the ledger's; give it another or move the range",
            ledger.range
        )),
        _ => Ok(number),
    }
}

/// Keys of the objects whose number another object has too.
pub(super) fn shared<'a>(numbers: impl Iterator<Item = (&'a str, u32)>) -> BTreeSet<&'a str> {
    let mut by_number: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
    for (id, number) in numbers {
        by_number.entry(number).or_default().push(id);
    }
    by_number.into_values().filter(|ids| ids.len() > 1).flatten().collect()
}
