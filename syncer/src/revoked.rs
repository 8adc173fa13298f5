//! People who were taken away by hand. Their sources would bring them back with the next read, so they are held out of
//! everything that is published until the sources agree, or somebody undoes it.
//!
//! What always holds: a revocation is on disk before anything is published without the person, and a list of them that
//! cannot be read publishes nothing, for it might bring somebody back.

mod edit;
mod publish;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use dirless_model::{NameKind, NameRule};
use dirless_program::fs::{ensure_folder, lock_patiently, publish};
use jiff::{SignedDuration, Timestamp};

pub use edit::{EditError, edit, parse_snapshot};
pub use publish::{Place, signed_text};

use crate::sources::{SourceDirectory, SourceUser};

/// Below the state folder.
const FILE: &str = "revoked.json";
const LOCK: &str = "revoked.lock";

/// How long all sources have to agree before the revocation is done with: one of several servers may lag behind.
const AGREED_FOR: SignedDuration = SignedDuration::from_hours(24);

/// A person of a source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Identity {
    /// The source.
    pub source: String,
    /// The source's own id of the person.
    pub id: String,
}

/// A head that we signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SignedHead {
    /// Its version.
    pub head: u64,
    /// The version of the policy that it was signed under; 0 where that was not noted.
    #[serde(default)]
    pub policy: u64,
    /// When it was there at the latest.
    pub at: Timestamp,
}

/// Somebody who was taken away.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    /// The login name on hosts. Nobody is published under it meanwhile.
    pub name: String,
    /// Who bore it in each source: held out under any other name as well.
    pub identities: BTreeSet<Identity>,
    /// Since when.
    pub since: Timestamp,
    /// Who did it: a token, or an account on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why, in the words of whoever did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// By which signed head hosts learn of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<SignedHead>,
    /// Sources that do not show the person any more, and since when.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub agreed: BTreeMap<String, Timestamp>,
}

impl Revocation {
    /// Is it about this user of `source`, who is called `name` on hosts?
    #[must_use]
    pub fn covers(&self, source: &str, id: &str, name: Option<&str>) -> bool {
        let is_one = |own: &Identity| own.source == source && own.id == id;
        name == Some(self.name.as_str()) || self.identities.iter().any(is_one)
    }

    /// Do all sources that had the person agree, for long enough?
    fn is_done(&self, now: Timestamp) -> bool {
        let since = |own: &Identity| self.agreed.get(&own.source);
        let is_over = |since: &Timestamp| now.duration_since(*since) >= AGREED_FOR;
        !self.identities.is_empty() && self.identities.iter().all(|own| since(own).is_some_and(is_over))
    }
}

/// Why the list of revocations cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RevokedError {
    /// It cannot be read or written.
    #[error("{path}: {cause}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// Somebody was put on it while a source was read.
    #[error("{0} was revoked while the source was read; nothing was published, the next cycle tries again")]
    Meanwhile(String),
    /// It holds something else.
    #[error(
        "{path} is damaged ({reason}); nothing is published, for somebody who was revoked might come back. Put it back from \
         a backup, or remove it and revoke again who is to stay out"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        reason: String,
    },
}

impl RevokedError {
    /// Does somebody else have the list, for a while?
    #[must_use]
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::File { cause, .. } if cause.kind() == io::ErrorKind::WouldBlock)
    }
}

/// All revocations, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revocations(Vec<Revocation>);

impl Revocations {
    /// Those in the state folder.
    ///
    /// # Errors
    /// When the file is there and cannot be used.
    pub fn load(state_folder: &Path) -> Result<Self, RevokedError> {
        let path = state_folder.join(FILE);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(cause) => return Err(RevokedError::File { path, cause }),
        };
        Self::parse(&bytes).map_err(|reason| RevokedError::Damaged { path, reason })
    }

    /// Those in the text of such a file.
    ///
    /// # Errors
    /// What the parser says of another text.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let read = serde_json::from_slice(text);
        read.map(Self).map_err(|error| error.to_string())
    }

    fn save(&self, state_folder: &Path) -> Result<(), RevokedError> {
        let path = state_folder.join(FILE);
        let written = serde_json::to_vec_pretty(&self.0).map_err(io::Error::from);
        let written = written.and_then(|bytes| publish(&path, 0o600, &bytes));
        written.map_err(|cause| RevokedError::File { path, cause })
    }

    /// The revocations.
    pub fn iter(&self) -> impl Iterator<Item = &Revocation> {
        self.0.iter()
    }

    /// Is nobody revoked?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Is nobody published under this name?
    #[must_use]
    pub fn has_name(&self, name: &str) -> bool {
        self.0.iter().any(|own| own.name == name)
    }

    /// Disables in `directory` whoever is revoked; gives who that was, and by which revocation.
    pub(crate) fn apply(
        &self,
        source: &str,
        rule: &NameRule,
        directory: &mut SourceDirectory,
    ) -> Vec<(SourceUser, &Revocation)> {
        if self.is_empty() {
            return Vec::new();
        }
        let covering = |user: &SourceUser| {
            let name = rule.apply(NameKind::User, &user.name).ok();
            let name = name.as_ref().map(dirless_model::Name::as_str);
            self.0.iter().find(|own| own.covers(source, &user.id, name))
        };
        let gone = directory.disable(|user| covering(user).is_some());
        gone.into_iter()
            .filter_map(|user| covering(&user).map(|own| (user, own)))
            .collect()
    }
}

/// The list of revocations, kept to oneself: whoever publishes looks at it under this lock, so that nobody comes back who was
/// revoked meanwhile.
#[derive(Debug)]
pub struct Desk {
    state_folder: PathBuf,
    revocations: Revocations,
    _lock: File,
}

impl Desk {
    /// Waits a moment for whoever has it.
    ///
    /// # Errors
    /// When it stays somebody else's ([`RevokedError::is_busy`]), or the list cannot be read.
    pub fn open(state_folder: &Path) -> Result<Self, RevokedError> {
        let path = state_folder.join(LOCK);
        let locked = ensure(state_folder).and_then(|()| {
            let mut options = File::options();
            let file = options
                .create(true)
                .truncate(false)
                .write(true)
                .mode(0o600)
                .open(&path)?;
            lock_patiently(|| file.try_lock().map_err(io::Error::from))?;
            Ok(file)
        });
        let lock = locked.map_err(|cause| RevokedError::File { path, cause })?;
        Ok(Self {
            state_folder: state_folder.to_owned(),
            revocations: Revocations::load(state_folder)?,
            _lock: lock,
        })
    }

    /// The same, for who knows the list as it was before: fails when somebody is on it since. Who is not any more comes back
    /// with the next cycle.
    ///
    /// # Errors
    /// As well when somebody was revoked.
    pub fn open_since(state_folder: &Path, before: &Revocations) -> Result<Self, RevokedError> {
        let desk = Self::open(state_folder)?;
        let new = desk.revocations.iter().find(|own| !before.has_name(&own.name));
        match new.map(|own| own.name.clone()) {
            Some(name) => Err(RevokedError::Meanwhile(name)),
            None => Ok(desk),
        }
    }

    /// The list.
    #[must_use]
    pub fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// Adds to the list; it is on disk when this returns. Who is on it already is there with both.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&mut self, revocation: Revocation) -> Result<(), RevokedError> {
        let list = &mut self.revocations.0;
        match list.iter_mut().find(|own| own.name == revocation.name) {
            Some(own) => {
                own.identities.extend(revocation.identities);
                own.reason = revocation.reason.or(own.reason.take());
                own.agreed.clear();
            }
            None => list.push(revocation),
        }
        list.sort_by(|left, right| left.name.cmp(&right.name));
        self.revocations.save(&self.state_folder)
    }

    /// Notes by which head hosts learn of these revocations. Those that had one keep it, unless they were published `anew`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn note_head(&mut self, names: &[String], signed: SignedHead, anew: bool) -> Result<(), RevokedError> {
        let before = self.revocations.clone();
        for own in self.revocations.0.iter_mut().filter(|own| names.contains(&own.name)) {
            if anew || own.signed.is_none() {
                own.signed = Some(signed);
            }
        }
        match self.revocations == before {
            true => Ok(()),
            false => self.revocations.save(&self.state_folder),
        }
    }

    /// Takes a name off the list; `None` when it is not on it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn remove(&mut self, name: &str) -> Result<Option<Revocation>, RevokedError> {
        let list = &mut self.revocations.0;
        let Some(at) = list.iter().position(|own| own.name == name) else {
            return Ok(None);
        };
        let removed = list.remove(at);
        self.revocations.save(&self.state_folder)?;
        Ok(Some(removed))
    }

    /// Notes whom of the revoked a whole read of `source` still shows; gives who is done with, because all sources agree.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn note_read(
        &mut self,
        source: &str,
        shown: &BTreeSet<String>,
        now: Timestamp,
    ) -> Result<Vec<String>, RevokedError> {
        let before = self.revocations.clone();
        for own in &mut self.revocations.0 {
            if shown.contains(&own.name) {
                own.agreed.remove(source);
            } else if own.identities.iter().any(|identity| identity.source == source) {
                own.agreed.entry(source.to_owned()).or_insert(now);
            }
        }
        let mut done = Vec::new();
        self.revocations.0.retain(|own| {
            let is_done = own.is_done(now);
            if is_done {
                done.push(own.name.clone());
            }
            !is_done
        });
        if self.revocations != before {
            self.revocations.save(&self.state_folder)?;
        }
        Ok(done)
    }
}

fn ensure(folder: &Path) -> io::Result<()> {
    match folder.exists() {
        true => Ok(()),
        false => ensure_folder(folder, 0o700),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::tests::{directory, group, user};

    fn time(hours: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + hours * 3600).unwrap()
    }

    fn revocation(name: &str, ids: &[(&str, &str)]) -> Revocation {
        let identity = |(source, id): &(&str, &str)| Identity {
            source: (*source).to_owned(),
            id: (*id).to_owned(),
        };
        Revocation {
            name: name.to_owned(),
            identities: ids.iter().map(identity).collect(),
            since: time(0),
            by: None,
            reason: None,
            signed: None,
            agreed: BTreeMap::new(),
        }
    }

    #[test]
    fn who_is_revoked_stays_out_under_any_name_and_nobody_takes_theirs() {
        let list = Revocations(vec![revocation("alice", &[("corp", "u1")])]);
        let read = || {
            directory(
                vec![user("u1", "alice-smith"), user("u2", "Alice@corp"), user("u3", "bob")],
                vec![(group("g1", "eng"), vec!["u1", "u2", "u3"])],
            )
        };
        let mut corp = read();
        let gone = list.apply("corp", &NameRule::default(), &mut corp);
        assert_eq!(
            gone.iter().map(|(user, _)| user.id.as_str()).collect::<Vec<_>>(),
            ["u1", "u2"]
        );
        assert_eq!(corp.members("g1").collect::<Vec<_>>(), ["u3"]);
        let mut other = read();
        let gone = list.apply("other", &NameRule::default(), &mut other);
        assert_eq!(gone.len(), 1, "the same id of another source is somebody else");
    }

    #[test]
    fn the_list_is_kept_and_undone() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        assert!(Revocations::load(&state).unwrap().is_empty());
        let mut desk = Desk::open(&state).unwrap();
        desk.add(revocation("zoe", &[])).unwrap();
        desk.add(revocation("alice", &[("corp", "u1")])).unwrap();
        desk.add(revocation("alice", &[("ldap", "u9")])).unwrap();
        assert!(Desk::open(&state).unwrap_err().is_busy(), "it is one's own");
        drop(desk);
        let list = Revocations::load(&state).unwrap();
        let names: Vec<_> = list
            .iter()
            .map(|own| (own.name.as_str(), own.identities.len()))
            .collect();
        assert_eq!(names, [("alice", 2), ("zoe", 0)]);
        assert!(list.has_name("zoe") && !list.has_name("bob"));
        let mut desk = Desk::open(&state).unwrap();
        let head = |head| SignedHead {
            head,
            policy: 1,
            at: time(1),
        };
        let (both, zoe) = (["alice".to_owned(), "zoe".to_owned()], ["zoe".to_owned()]);
        desk.note_head(&both, head(7), false).unwrap();
        desk.note_head(&both, head(8), false).unwrap();
        desk.note_head(&zoe, head(9), true).unwrap();
        let heads = |list: &Revocations| list.iter().map(|own| own.signed.unwrap().head).collect::<Vec<_>>();
        assert_eq!(heads(desk.revocations()), [7, 9]);
        assert_eq!(heads(&Revocations::load(&state).unwrap()), [7, 9]);
        assert!(desk.remove("zoe").unwrap().is_some() && desk.remove("zoe").unwrap().is_none());
        drop(desk);
        std::fs::write(state.join(FILE), "[{}]").unwrap();
        let error = Revocations::load(&state).unwrap_err().to_string();
        assert!(
            error.contains("revoked.json") && error.contains("revoke again"),
            "{error}"
        );
        assert!(Desk::open(&state).is_err());
    }

    #[test]
    fn who_was_revoked_meanwhile_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let mut desk = Desk::open(folder.path()).unwrap();
        desk.add(revocation("zoe", &[])).unwrap();
        let before = desk.revocations().clone();
        desk.add(revocation("alice", &[])).unwrap();
        drop(desk);
        let error = Desk::open_since(folder.path(), &before).unwrap_err();
        assert!(matches!(error, RevokedError::Meanwhile(name) if name == "alice"));
        let both = Revocations::load(folder.path()).unwrap();
        Desk::open(folder.path()).unwrap().remove("zoe").unwrap();
        assert!(Desk::open_since(folder.path(), &both).is_ok());
    }

    #[test]
    fn it_ends_when_all_sources_agree_for_a_day() {
        let folder = tempfile::tempdir().unwrap();
        let mut desk = Desk::open(folder.path()).unwrap();
        desk.add(revocation("alice", &[("corp", "u1"), ("ldap", "u9")]))
            .unwrap();
        desk.add(revocation("typo", &[])).unwrap();
        let (shown, nobody) = (BTreeSet::from(["alice".to_owned()]), BTreeSet::new());
        let mut read =
            |source: &str, shown: &BTreeSet<String>, hours| desk.note_read(source, shown, time(hours)).unwrap();
        assert!(read("corp", &nobody, 1).is_empty() && read("ldap", &shown, 1).is_empty());
        assert!(read("other", &nobody, 30).is_empty());
        assert!(read("ldap", &nobody, 30).is_empty() && read("corp", &nobody, 30).is_empty());
        // A server that lags behind shows her again.
        assert!(read("ldap", &shown, 40).is_empty() && read("ldap", &nobody, 41).is_empty());
        assert!(read("corp", &nobody, 60).is_empty());
        assert_eq!(read("corp", &nobody, 66), ["alice"]);
        assert_eq!(
            desk.revocations().iter().count(),
            1,
            "whom no source had ends by hand alone"
        );
    }
}
