//! The succession: a publisher's key names the key that comes after it, so that keys can be renewed without the roots.

use jiff::Timestamp;

use super::Seen;
use super::text::{Fields, FormatError, Lines, Object, Time};
use crate::{Digest, Label, VerifyingKey};

/// Most successors of one key of the policy: sixty years of a key each quarter, and what a new host fetches at most.
pub const MOST_SUCCESSIONS: u64 = 256;

/// A publisher's key names its successor. Both sign it. It gives the new key what the policy gives the anchor and no more, and
/// it counts for as long as the policy names the anchor: a policy that names another key ends the whole chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Succession {
    /// Whose it is.
    pub tenant: Digest,
    /// Name of the publisher; all its keys bear it.
    pub publisher: Label,
    /// Counts up by one, from 1 for the first successor of the anchor.
    pub version: u64,
    /// Digest of the succession before; none for the first.
    pub previous: Option<Digest>,
    /// When it was signed.
    pub issued: Timestamp,
    /// The key that the policy names.
    pub anchor: VerifyingKey,
    /// The new key.
    pub key: VerifyingKey,
}

impl Object for Succession {
    const CONTEXT: &'static str = "dirless/succession/v1";
    const MOST: usize = 4 * 1024;

    fn read(fields: &mut Fields<'_>) -> Result<Self, FormatError> {
        let succession = Self {
            tenant: fields.value("tenant")?,
            publisher: fields.value("publisher")?,
            version: fields.version("version")?,
            previous: fields.optional("previous")?,
            issued: fields.value::<Time>("issued")?.0,
            anchor: fields.value("anchor")?,
            key: fields.value("key")?,
        };
        succession.check().map(|()| succession)
    }

    fn write(&self, lines: &mut Lines) {
        lines.line("tenant", self.tenant);
        lines.line("publisher", &self.publisher);
        lines.line("version", self.version);
        lines.optional("previous", self.previous);
        lines.line("issued", Time(self.issued));
        lines.line("anchor", &self.anchor);
        lines.line("key", &self.key);
    }
}

impl Succession {
    /// Where succession `version` of `anchor` is: a policy that names another key begins another folder.
    #[must_use]
    pub fn path(anchor: &VerifyingKey, version: u64) -> String {
        format!("succession/{}/{}/{version}", anchor.name(), anchor.hash())
    }

    fn check(&self) -> Result<(), FormatError> {
        let wrong = |reason: &str| Err(FormatError::Contradiction(reason.to_owned()));
        if (self.version == 1) != self.previous.is_none() {
            return wrong("the first succession, and no other, has no previous one");
        }
        if self.version > MOST_SUCCESSIONS {
            return wrong("so many successors no key has: the roots name another key before");
        }
        if *self.anchor.name() != self.publisher || *self.key.name() != self.publisher {
            return wrong("both keys bear the name of the publisher");
        }
        if self.anchor.as_bytes() == self.key.as_bytes() {
            return wrong("a key does not succeed itself");
        }
        Ok(())
    }
}

/// The keys that a publisher has had since the policy named one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lineage {
    /// The key that the policy named.
    anchor: VerifyingKey,
    /// Each with the succession that names it; the first is number 1.
    successors: Vec<(VerifyingKey, Seen)>,
}

impl Lineage {
    pub(super) fn of(anchor: VerifyingKey) -> Self {
        Self {
            anchor,
            successors: Vec::new(),
        }
    }

    pub(super) fn anchor(&self) -> &VerifyingKey {
        &self.anchor
    }

    /// The newest of them.
    pub(super) fn key(&self) -> &VerifyingKey {
        self.successors.last().map_or(&self.anchor, |(key, _)| key)
    }

    /// All of them, the oldest first.
    pub(super) fn keys(&self) -> impl Iterator<Item = &VerifyingKey> {
        std::iter::once(&self.anchor).chain(self.successors.iter().map(|(key, _)| key))
    }

    /// The succession that was accepted last.
    pub(super) fn seen(&self) -> Option<Seen> {
        self.successors.last().map(|(_, seen)| *seen)
    }

    pub(super) fn add(&mut self, key: VerifyingKey, seen: Seen) {
        self.successors.push((key, seen));
    }

    /// Reads the lines of a memory: each lineage's from its first succession to its last.
    pub(super) fn read(fields: &mut Fields<'_>) -> Result<Vec<Self>, FormatError> {
        const NAME: &str = "successor";
        let most = 32 * usize::try_from(MOST_SUCCESSIONS).unwrap_or(usize::MAX);
        let rows = fields.rows(NAME, most, |fields, [anchor, key, version, digest]| {
            let anchor: VerifyingKey = fields.convert(NAME, anchor)?;
            let key: VerifyingKey = fields.convert(NAME, key)?;
            Ok((anchor, key, Seen::read(fields, NAME, [version, digest])?))
        })?;
        let mut all: Vec<Self> = Vec::new();
        for (anchor, key, seen) in rows {
            if seen.version == 1 {
                all.push(Self::of(anchor.clone()));
            }
            let own = all.last_mut().filter(|own| own.anchor == anchor);
            let next = |own: &Self| own.seen().map_or(1, |seen| seen.version + 1) == seen.version;
            match own.filter(|own| next(own) && key.name() == anchor.name()) {
                Some(own) => own.add(key, seen),
                None => {
                    return Err(FormatError::Contradiction(
                        "its successors do not follow one another".to_owned(),
                    ));
                }
            }
        }
        Ok(all)
    }

    pub(super) fn write(&self, lines: &mut Lines) {
        for (key, seen) in &self.successors {
            lines.line("successor", format_args!("{} {key} {seen}", self.anchor));
        }
    }
}
