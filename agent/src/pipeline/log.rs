//! A body that a log goes with: what the records of the log changed is changed in it while it streams by.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::path::Path;

use dirless_model::snapshot::{self, Caps, Joined, Part, record_key};
use dirless_seal::trust::log::{Changes, LogKey, Place};
use dirless_seal::{Digest, Identity, RecordKind};

use super::open::{BodyError, unreadable};
use crate::trust::{ACCESS_RULES, KeptLog, SignedBody};

/// What the log beside the body `found` at `path` changed, in its order; nothing without one.
///
/// # Errors
/// When it cannot be read, or a record does not open.
pub(super) fn changes(path: &Path, found: &SignedBody, epoch: &Identity) -> Result<Vec<Changes>, BodyError> {
    let log = KeptLog::beside(path, found.digest).map_err(|error| unreadable(&error))?;
    if log.chain().length == 0 {
        return Ok(Vec::new());
    }
    let key = LogKey::new(epoch, &Place::of(&found.manifest, found.digest));
    let records = log.records(0).map_err(|error| unreadable(&error))?;
    let opened = (0..).zip(&records).map(|(number, sealed)| key.open(number, sealed));
    opened
        .collect::<Result<_, _>>()
        .map_err(|error| refused(&error.to_string()))
}

fn refused(reason: &str) -> BodyError {
    BodyError::new(
        "log-record",
        reason,
        "the publisher signed a log that no host can follow: look at it; its next new base ends this",
    )
}

/// The plaintext of `source` after `changes`, and its content root as they say it.
///
/// # Errors
/// When the base is no snapshot, or the changes do not fit it.
pub(super) fn changed(
    source: &str,
    base: impl Read,
    changes: &[Changes],
) -> Result<(Box<dyn Read>, Digest), BodyError> {
    let content = changes.last().map(|changes| changes.content);
    let content = content.ok_or_else(|| refused("the log is empty"))?;
    let mut records = Touched::default();
    for (kind, key) in changes.iter().flat_map(|changes| changes.changes.keys()) {
        records.insert((*kind, key.clone()), Vec::new());
    }
    let plaintext: Box<dyn Read> = if source == ACCESS_RULES {
        Box::new(Cursor::new(rules(base, records, changes)?))
    } else {
        Box::new(snapshot(base, records, changes)?.into_reader())
    };
    Ok((plaintext, content))
}

/// Records by kind and key.
type Touched = BTreeMap<(RecordKind, Vec<u8>), Vec<u8>>;

fn apply(mut records: Touched, changes: &[Changes]) -> Result<Touched, BodyError> {
    for one in changes {
        one.apply(&mut records).map_err(|error| refused(&error.to_string()))?;
    }
    Ok(records)
}

/// The rules are one record, without a name.
fn rules(mut base: impl Read, _: Touched, changes: &[Changes]) -> Result<Vec<u8>, BodyError> {
    let mut bytes = Vec::new();
    base.read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
    let whole = (RecordKind::Other, Vec::new());
    let mut records = apply(Touched::from([(whole.clone(), bytes)]), changes)?;
    records
        .remove(&whole)
        .filter(|_| records.is_empty())
        .ok_or_else(|| refused("the log makes no access rules of access rules"))
}

/// Records that no change names are passed on as they are; the others wait until all are read.
fn snapshot(base: impl Read, touched: Touched, changes: &[Changes]) -> Result<Joined, BodyError> {
    let (mut joined, mut before, mut twice) = (Joined::default(), Touched::new(), false);
    let mut take = |part: Part, bytes: &[u8]| {
        let place = record_key(part, bytes).map(|key| (RecordKind::from(part), key.into_owned()));
        match place.filter(|place| touched.contains_key(place)) {
            Some(place) => twice |= before.insert(place, bytes.to_vec()).is_some(),
            None => joined.add(part, bytes),
        }
    };
    snapshot::read_records(base, Caps::default(), &mut (), &mut take)
        .map_err(|error| BodyError::from(super::open::SnapshotError::from(error)))?;
    if twice {
        return Err(refused("the log changes a record whose name the snapshot has twice"));
    }
    for ((kind, key), bytes) in apply(before, changes)? {
        let part = Part::from(kind);
        if record_key(part, &bytes).as_deref() != Some(&key) {
            return Err(refused("the log has a record under another one's name"));
        }
        joined.add(part, &bytes);
    }
    Ok(joined)
}

#[cfg(test)]
mod tests {
    use dirless_seal::trust::log::{Change, Hunk};

    use super::*;

    const BASE: &str = r#"{"sequence":7,"users":[{"username":"a","uid":1},{"username":"b","uid":2}],"groups":[],"ssh_keys":{"a":"k"}}"#;

    fn of(changes: &[(RecordKind, &str, Change)]) -> Changes {
        Changes {
            content: Digest::of(b"after"),
            changes: changes
                .iter()
                .map(|(kind, key, change)| ((*kind, key.as_bytes().to_vec()), change.clone()))
                .collect(),
        }
    }

    fn put(text: &str) -> Change {
        Change::Put(text.as_bytes().to_vec())
    }

    fn splice(skip: u32, removed: u32, text: &str) -> Change {
        Change::Splice(vec![Hunk {
            skip,
            removed,
            bytes: text.as_bytes().to_vec(),
        }])
    }

    fn after(source: &str, base: &str, changes: &[Changes]) -> Result<String, &'static str> {
        let (mut plaintext, content) = changed(source, base.as_bytes(), changes).map_err(|error| error.code)?;
        assert_eq!(content, Digest::of(b"after"));
        Ok(std::io::read_to_string(&mut plaintext).unwrap())
    }

    #[test]
    fn records_follow_one_another() {
        let made = after(
            "people",
            BASE,
            &[
                of(&[
                    (RecordKind::User, "b", Change::Drop),
                    (RecordKind::User, "c", put(r#"{"username":"c","uid":3}"#)),
                    (RecordKind::Other, "\"sequence\"", splice(11, 1, "8")),
                ]),
                of(&[
                    (RecordKind::User, "c", splice(22, 1, "4")),
                    (RecordKind::Other, "\"ssh_keys\":\"c\"", put(r#""ssh_keys":"c":"x""#)),
                ]),
            ],
        );
        let value: serde_json::Value = serde_json::from_str(&made.unwrap()).unwrap();
        let wanted = serde_json::json!({
            "sequence": 8, "groups": [], "users": [{"username": "a", "uid": 1}, {"username": "c", "uid": 4}],
            "ssh_keys": {"a": "k", "c": "x"}, "entries": [], "ledger": {},
        });
        assert_eq!(value, wanted);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for changes in [
            of(&[(RecordKind::User, "z", Change::Drop)]),
            of(&[(RecordKind::User, "a", splice(99, 0, "x"))]),
            of(&[(RecordKind::User, "root", put(r#"{"username":"a"}"#))]),
            of(&[(RecordKind::User, "a", put("7"))]),
            of(&[(RecordKind::Group, "g", put(r#"{"name":"g"},{"name":"h"}"#))]),
        ] {
            assert_eq!(after("people", BASE, &[changes]), Err("log-record"));
        }
        let twice = r#"{"users":[{"username":"a"},{"username":"a"}],"groups":[]}"#;
        let drop = of(&[(RecordKind::User, "a", Change::Drop)]);
        assert_eq!(after("people", twice, std::slice::from_ref(&drop)), Err("log-record"));
        assert_eq!(after("people", "[]", &[drop]), Err("unreadable"));
        assert_eq!(after("people", BASE, &[]), Err("log-record"));
    }

    #[test]
    fn access_rules_are_one_record() {
        let change = of(&[(RecordKind::Other, "", splice(5, 1, "2"))]);
        assert_eq!(after(ACCESS_RULES, r#"{"a":1}"#, &[change]).unwrap(), r#"{"a":2}"#);
        for changes in [
            of(&[(RecordKind::Other, "", Change::Drop)]),
            of(&[(RecordKind::Other, "x", put("{}"))]),
        ] {
            assert_eq!(after(ACCESS_RULES, "{}", &[changes]), Err("log-record"));
        }
    }
}
