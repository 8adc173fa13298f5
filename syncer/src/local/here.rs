//! What people entered, kept on this machine: taken from what is to be published signed, changed, and put back there.

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use dirless_seal::{Label, sha256_hex};
use jiff::Timestamp;

use super::blob::Blob;
use super::rules::Rules;
use super::{Edited, LOCAL, Refusal};
use crate::signed::{ACCESS_RULES, Kind, Signer};

/// What is kept here.
#[derive(Debug)]
pub struct Here {
    signer: Signer,
    lock: PathBuf,
    changed: AtomicBool,
}

impl Here {
    /// With `signer`; the file `lock` keeps two edits apart.
    #[must_use]
    pub fn new(signer: Signer, lock: PathBuf) -> Self {
        Self {
            signer,
            lock,
            changed: AtomicBool::new(false),
        }
    }

    /// Is there something new to publish?
    #[must_use]
    pub fn has_changed(&self) -> bool {
        self.changed.load(Ordering::Relaxed)
    }

    pub(super) fn read(&self) -> anyhow::Result<Blob> {
        match self.text(LOCAL)? {
            Some(text) => Ok(Blob::parse(text.as_bytes())?),
            None => Ok(Blob::default()),
        }
    }

    pub(super) fn edit(
        &self,
        plan: bool,
        now: Timestamp,
        change: impl Fn(&mut Blob) -> Result<Edited, Refusal>,
    ) -> anyhow::Result<Edited> {
        let _lock = self.lock()?;
        let mut blob = self.read()?;
        let edited = change(&mut blob)?;
        if edited.changed && !plan {
            blob.stamp(Some(sequence_after(blob.sequence(), now)), &stamp(now));
            self.keep(LOCAL, Kind::Snapshot, &blob.to_json())?;
        }
        Ok(edited)
    }

    pub(super) fn read_rules(&self) -> anyhow::Result<Rules> {
        let Some(text) = self.text(ACCESS_RULES)? else {
            return Ok(Rules::default());
        };
        let json = serde_json::from_str(&text).context("reading the access rules that are published")?;
        Ok(Rules::new(json)?)
    }

    pub(super) fn edit_rules(
        &self,
        plan: bool,
        change: impl Fn(&mut Rules) -> Result<Edited, Refusal>,
    ) -> anyhow::Result<Edited> {
        let _lock = self.lock()?;
        let mut rules = self.read_rules()?;
        let edited = change(&mut rules)?;
        if edited.changed && !plan {
            let json = serde_json::to_vec(rules.json()).context("writing the access rules")?;
            self.keep(ACCESS_RULES, Kind::AccessRules, &json)?;
        }
        Ok(edited)
    }

    fn text(&self, source: &str) -> anyhow::Result<Option<String>> {
        Ok(self.signer.stocked_text(&label(source)?)?)
    }

    fn keep(&self, source: &str, kind: Kind, bytes: &[u8]) -> anyhow::Result<()> {
        self.signer.stock(&label(source)?, kind, &sha256_hex(bytes), bytes)?;
        self.changed.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn lock(&self) -> anyhow::Result<File> {
        let at = || format!("locking {}", self.lock.display());
        let mut options = File::options();
        let file = options.create(true).truncate(false).write(true).open(&self.lock);
        let file = file.with_context(at)?;
        file.lock().with_context(at)?;
        Ok(file)
    }
}

fn label(source: &str) -> anyhow::Result<Label> {
    source.parse().with_context(|| format!("naming {source}"))
}

/// The number after `last`. It is also a time, so that a snapshot begun anew is never below an older one.
pub(super) fn sequence_after(last: Option<u64>, now: Timestamp) -> u64 {
    let now = u64::try_from(now.as_second()).unwrap_or(0);
    last.map_or(0, |last| last.saturating_add(1)).max(now)
}

/// A time as snapshots have it.
pub(super) fn stamp(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
