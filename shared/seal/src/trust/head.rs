//! The head: what is current, and for how long a host may believe so. The one object that changes every minute.

use jiff::{SignedDuration, Timestamp};

use super::log::{Chain, MOST_RECORDS};
use super::text::{Fields, FormatError, Lines, Object, Time, ascending};
use crate::{Digest, Label};

/// How long a head is believed, counted from its `issued`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Seconds until it is stale: hosts serve on and raise an alarm.
    pub fresh: u32,
    /// Seconds until it has run out: hosts do what their compartment says.
    pub expires: u32,
}

/// The current snapshot of a source in a compartment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The source.
    pub source: Label,
    /// The compartment.
    pub compartment: Label,
    /// Version of its manifest.
    pub version: u64,
    /// How long the log beside that manifest is, and its running hash: of an empty one the manifest's digest.
    pub chain: Chain,
}

/// What is current of one publisher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Whose it is.
    pub tenant: Digest,
    /// Name of the publisher's key.
    pub publisher: Label,
    /// Counts up with each signing.
    pub version: u64,
    /// When it was signed.
    pub issued: Timestamp,
    /// How long it is believed.
    pub lease: Lease,
    /// Version of the policy that its publisher acts under.
    pub policy: u64,
    /// Version of the node list that its publisher knows; none when nobody has joined.
    pub nodes: Option<u64>,
    /// At most 1024, in the order of source and compartment.
    pub entries: Vec<Entry>,
}

impl Head {
    /// When it becomes stale.
    #[must_use]
    pub fn stale_at(&self) -> Timestamp {
        later(self.issued, self.lease.fresh)
    }

    /// When its lease runs out.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        later(self.issued, self.lease.expires)
    }

    /// Does it say more than that its publisher is still there, beside `kept`, the one that was accepted last? Each minute all
    /// hosts hear of one that was only signed again.
    #[must_use]
    pub fn says_more(&self, kept: Option<&Self>) -> bool {
        let more = |kept: &Self| kept.policy != self.policy || kept.entries != self.entries;
        kept.is_none_or(|kept| self.version > kept.version && more(kept))
    }

    /// The current snapshot of `source` in `compartment`.
    #[must_use]
    pub fn entry(&self, source: &Label, compartment: &Label) -> Option<&Entry> {
        self.entries
            .iter()
            .find(|entry| entry.source == *source && entry.compartment == *compartment)
    }
}

fn later(from: Timestamp, seconds: u32) -> Timestamp {
    from.checked_add(SignedDuration::from_secs(seconds.into()))
        .unwrap_or(Timestamp::MAX)
}

fn entry(
    fields: &Fields<'_>,
    [source, compartment, version, hash]: [&str; 4],
    length: Option<[&str; 1]>,
) -> Result<Entry, FormatError> {
    const NAME: &str = "snapshot";
    let version = fields.convert(NAME, version)?;
    let length = length.map_or(Ok(0), |[length]| fields.convert(NAME, length))?;
    if length > MOST_RECORDS {
        let reason = format!("a log has no more than {MOST_RECORDS} records");
        return Err(FormatError::Contradiction(reason));
    }
    Ok(Entry {
        source: fields.convert(NAME, source)?,
        compartment: fields.convert(NAME, compartment)?,
        version: fields.check_version(NAME, version)?,
        chain: Chain {
            length,
            hash: fields.convert(NAME, hash)?,
        },
    })
}

impl Object for Head {
    const CONTEXT: &'static str = "dirless/head/v1";
    const MOST: usize = 256 * 1024;

    fn read(fields: &mut Fields<'_>) -> Result<Self, FormatError> {
        let tenant = fields.value("tenant")?;
        let publisher = fields.value("publisher")?;
        let version = fields.version("version")?;
        let issued = fields.value::<Time>("issued")?.0;
        let lease = fields.text("lease")?;
        let [fresh, expires] = fields.words("lease", lease)?;
        let lease = Lease {
            fresh: fields.convert("lease", fresh)?,
            expires: fields.convert("lease", expires)?,
        };
        let policy = fields.version("policy")?;
        let nodes = fields.optional("nodes")?;
        let nodes = nodes
            .map(|version| fields.check_version("nodes", version))
            .transpose()?;
        let entries = fields.longer_rows("snapshot", 1024, |fields, four, length| entry(fields, four, length))?;
        ascending("snapshots", &entries, |entry| {
            (entry.source.clone(), entry.compartment.clone())
        })?;
        if lease.fresh == 0 || lease.expires < lease.fresh {
            return Err(FormatError::Contradiction("its lease ends before it begins".to_owned()));
        }
        Ok(Self {
            tenant,
            publisher,
            version,
            issued,
            lease,
            policy,
            nodes,
            entries,
        })
    }

    fn write(&self, lines: &mut Lines) {
        lines.line("tenant", self.tenant);
        lines.line("publisher", &self.publisher);
        lines.line("version", self.version);
        lines.line("issued", Time(self.issued));
        lines.line("lease", format_args!("{} {}", self.lease.fresh, self.lease.expires));
        lines.line("policy", self.policy);
        lines.optional("nodes", self.nodes);
        for entry in &self.entries {
            let Entry {
                source,
                compartment,
                version,
                chain: Chain { length, hash },
            } = entry;
            let plain = format_args!("{source} {compartment} {version} {hash}");
            match length {
                0 => lines.line("snapshot", plain),
                _ => lines.line("snapshot", format_args!("{plain} {length}")),
            }
        }
    }
}
