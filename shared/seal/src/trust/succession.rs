//! The succession: a publisher's key names the key that comes after it, so that keys can be renewed without the roots.

use jiff::Timestamp;

use super::text::{Fields, FormatError, Lines, Object, Time};
use crate::{Digest, Label, VerifyingKey};

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
    fn check(&self) -> Result<(), FormatError> {
        let wrong = |reason: &str| Err(FormatError::Contradiction(reason.to_owned()));
        if (self.version == 1) != self.previous.is_none() {
            return wrong("the first succession, and no other, has no previous one");
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
