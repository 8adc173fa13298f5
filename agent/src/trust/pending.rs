//! A request to be admitted that is on its way: kept until this host is let in, also over restarts.
//!
//! A host that joins anew keeps its new keys beside the old ones until the new ones are accepted: what it has been given
//! so far is sealed to the old ones.

use std::io;

use dirless_program::Secret;
use dirless_program::fs::remove;
use dirless_seal::{Identity, Label, SigningKey};
use jiff::{SignedDuration, Timestamp};

use super::keeper::{BEFORE, Keeper, KeeperError, read};

const RECORD: &str = "joining";
const REQUEST: &str = "joining.request";
const BEARER: &str = "joining.bearer";
const NEXT_SIGNING: &str = "node.key.next";
const NEXT_AGE: &str = "node.age.next";
/// When a request that was sent is sent again; twice as long each time that it was gone, or was refused.
const SEND_AGAIN: SignedDuration = SignedDuration::from_mins(10);
/// That often: to 21 hours.
const MOST_DOUBLED: u32 = 7;
/// Longest request and longest record.
const LONGEST: u64 = 64 * 1024;

/// What is known of such a request.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pending {
    /// Name of the join code.
    #[serde(with = "as_text")]
    pub code: Label,
    /// When this host asked (RFC 3339).
    pub asked_at: String,
    /// Whether it was in the tenant before, and has new keys in wait.
    pub anew: bool,
    /// When the request was sent last (RFC 3339); none before it got through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<String>,
    /// How often it was gone from the mailbox and was put there again.
    #[serde(default)]
    pub asked_anew: u32,
    /// How often in a row the code was not accepted any more.
    #[serde(default)]
    pub refused: u32,
}

impl Pending {
    /// Is the request to be sent `now`? Once it was it is sent again from time to time: whoever emptied the mailbox, or put
    /// a backend back to an old copy, does not know that this host waits.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        let sent = self.sent_at.as_ref().and_then(|at| at.parse::<Timestamp>().ok());
        let wait = SEND_AGAIN * (1 << self.asked_anew.saturating_add(self.refused).min(MOST_DOUBLED));
        // A clock that was put back must not make it wait for that time.
        sent.is_none_or(|sent| sent > now || now.duration_since(sent) >= wait)
    }
}

impl Keeper {
    /// The request that is on its way.
    ///
    /// # Errors
    /// When the disk fails, or the record is damaged.
    pub fn pending(&self) -> Result<Option<Pending>, KeeperError> {
        let path = self.path(RECORD);
        let Some(bytes) = read(&path, LONGEST)? else {
            return Ok(None);
        };
        let damaged = |error: serde_json::Error| KeeperError::Damaged {
            path,
            reason: error.to_string(),
        };
        serde_json::from_slice(&bytes).map(Some).map_err(damaged)
    }

    /// Keeps a request before it is sent: `sealed` with the `bearer` of its code.
    ///
    /// # Errors
    /// What the disk reports.
    pub fn keep_pending(&self, pending: &Pending, bearer: &str, sealed: &[u8]) -> Result<(), KeeperError> {
        self.write(REQUEST, sealed)?;
        self.write(BEARER, bearer.as_bytes())?;
        self.note_pending(pending)
    }

    /// Notes how the request stands.
    ///
    /// # Errors
    /// What the disk reports.
    pub fn note_pending(&self, pending: &Pending) -> Result<(), KeeperError> {
        let record = serde_json::to_vec(pending).unwrap_or_default();
        self.write(RECORD, &record)
    }

    /// The request, with the bearer of its code; none when it goes another way than to a mailbox.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn request(&self) -> Result<Option<(Secret, Vec<u8>)>, KeeperError> {
        let sealed = read(&self.path(REQUEST), LONGEST)?;
        let bearer = self.secret(BEARER).ok();
        Ok(sealed
            .zip(bearer)
            .map(|(sealed, (_, bearer))| (Secret::new(bearer.as_str().to_owned()), sealed)))
    }

    /// Somebody carries the request: the bearer is not needed.
    ///
    /// # Errors
    /// What the disk reports.
    pub fn carried(&self) -> Result<(), KeeperError> {
        self.forget(BEARER)
    }

    /// The request was granted, or never will be.
    ///
    /// # Errors
    /// What the disk reports.
    pub fn end_pending(&self) -> Result<(), KeeperError> {
        for name in [RECORD, BEARER, REQUEST, NEXT_SIGNING, NEXT_AGE] {
            self.forget(name)?;
        }
        Ok(())
    }

    /// Keeps keys to join anew with.
    ///
    /// # Errors
    /// What the disk reports.
    pub fn keep_next_keys(&self, signing: &SigningKey, identity: &Identity) -> Result<(), KeeperError> {
        self.write(NEXT_AGE, identity.expose().as_bytes())?;
        self.write(NEXT_SIGNING, signing.expose().as_bytes())
    }

    /// The key that this host joins anew with.
    ///
    /// # Errors
    /// When it is missing or damaged.
    pub fn next_signing_key(&self) -> Result<SigningKey, KeeperError> {
        let (path, text) = self.secret(NEXT_SIGNING)?;
        SigningKey::parse(&text).map_err(|error| KeeperError::Damaged {
            path,
            reason: error.to_string(),
        })
    }

    /// Takes the new keys into use. Broken off anywhere, it can be done again.
    ///
    /// # Errors
    /// What the disk reports.
    pub fn take_next_keys(&self) -> Result<(), KeeperError> {
        let signing = self.next_signing_key()?;
        let (_, next) = self.secret(NEXT_AGE)?;
        let (_, current) = self.secret("node.age")?;
        if next != current {
            self.write(BEFORE, current.as_bytes())?;
            self.write("node.age", next.as_bytes())?;
        }
        self.write("node.key", signing.expose().as_bytes())?;
        self.end_pending()
    }

    fn forget(&self, name: &str) -> Result<(), KeeperError> {
        let path = self.path(name);
        remove(&path).map_err(|source: io::Error| KeeperError::Disk { path, source })
    }
}

mod as_text {
    use dirless_seal::Label;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(label: &Label, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(label.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Label, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use dirless_seal::Digest;

    use super::*;
    use crate::trust::Joined;

    fn keeper(folder: &std::path::Path) -> Keeper {
        let joined = Joined {
            tenant: Digest::of(b"t"),
            roots: Digest::of(b"r"),
            policy: 1,
            compartments: vec![],
        };
        Keeper::new(folder.to_owned(), joined)
    }

    fn key(name: &str) -> SigningKey {
        SigningKey::generate(name.parse().unwrap()).unwrap()
    }

    #[test]
    fn a_request_is_kept_until_it_is_sent_and_then_until_it_is_granted() {
        let folder = tempfile::tempdir().unwrap();
        let keeper = keeper(folder.path());
        assert_eq!(keeper.pending().unwrap(), None);
        let pending = Pending {
            code: "web".parse().unwrap(),
            asked_at: "2026-11-22T08:00:00Z".into(),
            anew: false,
            sent_at: None,
            asked_anew: 0,
            refused: 0,
        };
        keeper.keep_pending(&pending, "bearer", b"sealed").unwrap();
        assert_eq!(keeper.pending().unwrap(), Some(pending.clone()));
        let (bearer, sealed) = keeper.request().unwrap().unwrap();
        assert_eq!((bearer.expose(), sealed.as_slice()), ("bearer", b"sealed".as_slice()));
        let sent = Pending {
            sent_at: Some("2026-11-22T08:00:01Z".into()),
            ..pending
        };
        keeper.note_pending(&sent).unwrap();
        assert_eq!(keeper.pending().unwrap(), Some(sent.clone()));
        keeper.carried().unwrap();
        assert!(keeper.request().unwrap().is_none());
        assert_eq!(keeper.pending().unwrap(), Some(sent));
        keeper.end_pending().unwrap();
        assert_eq!(keeper.pending().unwrap(), None);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn it_is_sent_again_now_and_then_and_less_often_when_that_does_not_help() {
        let start: Timestamp = "2026-11-22T08:00:00Z".parse().unwrap();
        let pending = |asked_anew, refused| Pending {
            code: "web".parse().unwrap(),
            asked_at: start.to_string(),
            anew: false,
            sent_at: Some(start.to_string()),
            asked_anew,
            refused,
        };
        let waits = |pending: Pending| {
            let due = |minutes: &i64| pending.is_due(start + SignedDuration::from_mins(*minutes));
            (0..10_000).find(due)
        };
        assert_eq!(waits(pending(0, 0)), Some(10));
        assert_eq!(waits(pending(1, 0)), Some(20));
        assert_eq!(waits(pending(1, 2)), Some(80));
        assert_eq!(waits(pending(u32::MAX, 1)), Some(1280));
        assert!(pending(0, 0).is_due(start - SignedDuration::from_mins(1)));
        let unsent = Pending {
            sent_at: None,
            ..pending(0, 0)
        };
        assert_eq!(waits(unsent), Some(0));
    }

    #[test]
    fn new_keys_come_into_use_as_a_whole_wherever_it_broke_off() {
        let folder = tempfile::tempdir().unwrap();
        let keeper = keeper(folder.path());
        let (old, new) = (Identity::generate(), Identity::generate());
        keeper.keep_keys(&key("old"), &old).unwrap();
        let next = key("new");
        keeper.keep_next_keys(&next, &new).unwrap();
        // Broken off after the identity was replaced.
        keeper.write(BEFORE, old.expose().as_bytes()).unwrap();
        keeper.write("node.age", new.expose().as_bytes()).unwrap();
        keeper.take_next_keys().unwrap();
        assert_eq!(keeper.signing_key().unwrap().verifying(), next.verifying());
        assert_eq!(keeper.identity().unwrap().recipient(), new.recipient());
        let (_, before) = keeper.secret(BEFORE).unwrap();
        assert_eq!(before.as_str(), old.expose().as_str());
        assert!(keeper.next_signing_key().is_err());
    }
}
