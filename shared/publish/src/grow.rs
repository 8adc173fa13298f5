//! Publishing a change as one more record of the log: hosts then fetch what changed, not everything.

use std::collections::BTreeMap;
use std::io::Read;

use dirless_model::snapshot::{Joined, Part, record_key};
use dirless_seal::trust::log::{
    After, Before, Chain, Changes, DiffError, LONGEST_LOG, LONGEST_RECORD, LogFile, LogKey, MOST_RECORDS, Place,
    Resolution, TILE, tile,
};
use dirless_seal::{Digest, RecordKind};

use super::book::{Book, Current};
use super::publish::{Due, Made};
use super::stock::{Kind, plaintext, records};
use super::{SignedError, Signer};

/// A log may have this many bytes whatever its base has: hosts hardly notice them, and a small directory would get a new
/// base with each change.
const ALWAYS: u64 = 64 << 10;

/// What changed between two plaintexts, by their digests; nothing where no log can say it. Compartments share it.
pub(super) type Differences = BTreeMap<(String, String), Option<Changes>>;

impl Signer {
    /// Adds what is due to the log of what is published. `None` when that takes a new base: another epoch, a change or a
    /// log that is too large, or files in the place of ours.
    pub(super) fn grow(
        &self,
        due: &Due<'_>,
        book: &Book,
        differences: &mut Differences,
    ) -> Result<Option<Made>, SignedError> {
        let Some(current) = book.current(&due.pair).filter(|current| current.epoch == due.epoch) else {
            return Ok(None);
        };
        let chain = current.chain()?;
        if self.config.log_percent == 0 || chain.length >= MOST_RECORDS {
            return Ok(None);
        }
        let pair = (current.plaintext.clone(), due.stocked.plaintext.clone());
        if !differences.contains_key(&pair) {
            let found = self.difference(current, due)?;
            differences.insert(pair.clone(), found);
        }
        let Some(Some(changes)) = differences.get(&pair) else {
            return Ok(None);
        };
        let place = self.place(due, current)?;
        let Some(sealed) = self.sealed(due, &place, chain.length, changes)? else {
            return Ok(None);
        };
        let bytes = current.log_bytes + sealed.len() as u64;
        let share = current.base_bytes / 100 * u64::from(self.config.log_percent);
        if bytes > share.clamp(ALWAYS, LONGEST_LOG) || !self.put_record(&place, chain.length, &sealed)? {
            return Ok(None);
        }
        let chain = chain.then(&sealed);
        Ok(Some(Made {
            pair: due.pair.clone(),
            note: None,
            current: Current {
                plaintext: due.stocked.plaintext.clone(),
                length: chain.length,
                hash: chain.hash.to_string(),
                log_bytes: bytes,
                ..current.clone()
            },
        }))
    }

    /// Where the log of `current` is.
    fn place(&self, due: &Due<'_>, current: &Current) -> Result<Place, SignedError> {
        let (source, compartment) = due.pair.clone();
        let manifest = current.manifest.parse();
        Ok(Place {
            tenant: self.tenant,
            publisher: self.publisher().clone(),
            source,
            compartment,
            epoch: current.epoch,
            version: current.version,
            manifest: manifest.map_err(|error| SignedError::damaged("book", error))?,
        })
    }

    /// Record `number`: the one that is there, if it says the same, for that was written before something broke off.
    fn sealed(
        &self,
        due: &Due<'_>,
        place: &Place,
        number: u64,
        changes: &Changes,
    ) -> Result<Option<Vec<u8>>, SignedError> {
        let key = LogKey::new(due.identity, place);
        let path = place.path(LogFile::Record(number));
        match self.tenant_folder.get(&path, LONGEST_RECORD as u64)? {
            Some(there) if key.open(number, &there).as_ref() == Ok(changes) => Ok(Some(there)),
            Some(_) => Ok(None),
            // What is too long for a record is worth a new base.
            None => Ok(key.seal(number, changes).ok()),
        }
    }

    /// Writes record `number`, and the tile that it completes. False when other files are in their places.
    fn put_record(&self, place: &Place, number: u64, sealed: &[u8]) -> Result<bool, SignedError> {
        let mut files = vec![(place.path(LogFile::Record(number)), sealed.to_vec())];
        if (number + 1).is_multiple_of(TILE) {
            let mut before = Vec::new();
            for other in number + 1 - TILE..number {
                let path = place.path(LogFile::Record(other));
                let record = self.tenant_folder.get(&path, LONGEST_RECORD as u64)?;
                let Some(record) = record else { return Ok(false) };
                before.push(record);
            }
            let records = before.iter().map(Vec::as_slice).chain([sealed]);
            files.push((place.path(LogFile::Tile(number / TILE)), tile(records)));
        }
        self.tenant_folder.create(&files)?;
        for (path, bytes) in &files {
            if self.tenant_folder.get(path, 2 * LONGEST_LOG)?.as_ref() != Some(bytes) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What changed since `current`; `None` when that is not known here, or no record of a log says it.
    fn difference(&self, current: &Current, due: &Due<'_>) -> Result<Option<Changes>, SignedError> {
        let content = self.content(due)?;
        if let Some(since) = due
            .stocked
            .since
            .as_ref()
            .filter(|since| since.from == current.plaintext)
        {
            return Ok(since.changes(content).ok());
        }
        let Some(before) = self.plaintext_of(&current.plaintext)? else {
            return Ok(None);
        };
        let after = self.body(due.stocked)?;
        let kind = due.stocked.kind;
        let found = compare(kind, || plaintext(&before), || plaintext(&after), content);
        Ok(found.ok())
    }
}

/// What changed between two plaintexts, each of which is read as often as it takes.
pub(super) fn compare<R: Read, S: Read>(
    kind: Kind,
    before: impl Fn() -> R,
    after: impl Fn() -> S,
    content: Digest,
) -> Result<Changes, DiffError> {
    let mut first = Before::default();
    each(kind, before(), &mut |own, key, bytes| first.add(own, key, bytes))?;
    let mut second: After = first.compare();
    each(kind, after(), &mut |own, key, bytes| second.add(own, key, bytes))?;
    let mut third: Resolution = second.resolve();
    each(kind, before(), &mut |own, key, bytes| third.add(own, key, bytes))?;
    third.finish(content)
}

type Take<'a> = dyn FnMut(RecordKind, &[u8], &[u8]) -> Result<(), DiffError> + 'a;

/// Hands each record of `plaintext` with its key to `take`, until that fails.
fn each(kind: Kind, plaintext: impl Read, take: &mut Take<'_>) -> Result<(), DiffError> {
    let mut outcome = Ok(());
    let read = records(kind, plaintext, &mut |part, bytes| {
        if outcome.is_err() {
            return;
        }
        outcome = match key(kind, part, bytes) {
            Some(key) => take(RecordKind::from(part), &key, bytes),
            // What has no name of its own cannot be told from others.
            None => Err(DiffError::Twice),
        };
    });
    outcome?;
    read.map_err(|_| DiffError::Other)
}

fn key(kind: Kind, part: Part, bytes: &[u8]) -> Option<std::borrow::Cow<'_, [u8]>> {
    match kind {
        Kind::Snapshot => record_key(part, bytes),
        Kind::AccessRules => Some(std::borrow::Cow::Borrowed(&[])),
    }
}

/// `plaintext` after `changes`.
///
/// # Errors
/// When they do not fit it.
pub(super) fn changed(kind: Kind, plaintext: &[u8], changes: &Changes) -> Result<Vec<u8>, String> {
    let mut kept = BTreeMap::new();
    records(kind, plaintext, &mut |part, bytes| {
        let key = key(kind, part, bytes).unwrap_or_default().into_owned();
        kept.insert((RecordKind::from(part), key), bytes.to_vec());
    })?;
    changes.apply(&mut kept).map_err(|error| error.to_string())?;
    if kind == Kind::AccessRules {
        return kept
            .into_values()
            .next()
            .ok_or_else(|| "the log leaves nothing".to_owned());
    }
    let mut joined = Joined::default();
    for ((own, _), bytes) in &kept {
        joined.add(Part::from(*own), bytes);
    }
    Ok(joined.finish())
}

impl Current {
    /// How far its log goes.
    pub(super) fn chain(&self) -> Result<Chain, SignedError> {
        let hash = if self.length == 0 { &self.manifest } else { &self.hash };
        Ok(Chain {
            length: self.length,
            hash: hash.parse().map_err(|error| SignedError::damaged("book", error))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use dirless_seal::trust::log::Change;

    use super::*;

    fn changes(kind: Kind, before: &str, after: &str) -> Result<Changes, DiffError> {
        compare(kind, || before.as_bytes(), || after.as_bytes(), Digest::of(b"root"))
    }

    #[test]
    fn each_change_is_found_under_its_key() {
        let before = r#"{"sequence":7,"users":[{"username":"a","uid":1},{"username":"b","uid":2}],"groups":[],"ssh_keys":{"a":"k"}}"#;
        let after = r#"{"sequence":8,"users":[{"username":"c","uid":3},{"username":"a","uid":1}],"groups":[]}"#;
        let found = changes(Kind::Snapshot, before, after).unwrap();
        let shown: Vec<_> = found
            .changes
            .iter()
            .map(|((_, key), change)| {
                let word = match change {
                    Change::Put(_) => "put",
                    Change::Splice(_) => "splice",
                    Change::Drop => "drop",
                };
                format!("{word} {}", String::from_utf8_lossy(key))
            })
            .collect();
        assert_eq!(
            shown,
            ["drop b", "put c", "splice \"sequence\"", "drop \"ssh_keys\":\"a\""]
        );
        assert_eq!(found.content, Digest::of(b"root"));
        assert!(changes(Kind::Snapshot, before, before).unwrap().changes.is_empty());
    }

    #[test]
    fn access_rules_are_one_record() {
        let found = changes(Kind::AccessRules, r#"{"a":1}"#, r#"{"a":2}"#).unwrap();
        assert_eq!(found.changes.keys().collect::<Vec<_>>(), [&(RecordKind::Other, vec![])]);
    }

    #[test]
    fn what_has_no_name_of_its_own_is_for_a_base() {
        let good = r#"{"users":[{"username":"a"}]}"#;
        for bad in [
            r#"{"users":[{"username":"a"},{"username":"a"}]}"#,
            r#"{"users":[{"uid":1}]}"#,
            r#"{"users":["#,
        ] {
            assert!(changes(Kind::Snapshot, good, bad).is_err(), "{bad}");
            assert!(changes(Kind::Snapshot, bad, good).is_err(), "{bad}");
        }
    }
}
