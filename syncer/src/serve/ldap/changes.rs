//! What became of entries since some state, for syncrepl (RFC 4533), out of the changelog.
//!
//! Every line but a deletion carries the `entryCSN` of its write, and an entry keeps that of its last:
//! a line whose number no entry has was followed by another. Deletions carry the `entryUUID`. A rename
//! is one line for a subtree, and every entry of it has a new name.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;

use dirless_directory::{Dn, Filter};
use dirless_ldap::{ChangeKind, Changed};
use serde_json::Value as Json;

use super::{first, of_csn};
use crate::tree::{Change, Operation, Query, Reader, Record, Scope, TreeError};

/// Changes, and entries of renamed subtrees, beyond which a consumer reads everything again: that goes on
/// in batches, and this holds up others.
const MOST: usize = 10_000;

/// The last change of each entry after number `after`, in order; none when they are not known.
pub(super) fn since(reader: Reader<'_>, after: u64) -> Result<Option<Vec<Changed>>, TreeError> {
    if reader.is_forgotten(after)? {
        return Ok(None);
    }
    let log = reader.changes(after, MOST + 1)?;
    if log.len() > MOST {
        return Ok(None);
    }
    let mut told = Told::default();
    for (at, change) in log.iter().enumerate() {
        match change.operation {
            Operation::Delete => {
                let uuid = text(&change.difference, &["remove", "entryUUID"]).and_then(uuid);
                let key = Dn::parse(&change.dn).ok().and_then(|dn| reader.schema().dn_key(&dn));
                if let Some((uuid, key)) = uuid.zip(key) {
                    told.note(uuid, change.dn.as_str().into(), key, ChangeKind::Deleted);
                }
            }
            Operation::Add => {
                if let Some(uuid) = text(&change.difference, &["add", "entryUUID"]).and_then(uuid) {
                    told.added.insert(uuid);
                }
                told.last_of(reader, text(&change.difference, &["add", "entryCSN"]))?;
            }
            Operation::Update => told.last_of(reader, text(&change.difference, &["set", "entryCSN", "after"]))?,
            Operation::Rename => {
                told.last_of(reader, text(&change.difference, &["set", "entryCSN", "after"]))?;
                told.subtree_of(reader, change, log.get(at + 1..).unwrap_or_default())?;
            }
        }
        if told.order.len() > MOST {
            return Ok(None);
        }
    }
    Ok(Some(told.in_order()))
}

#[derive(Default)]
struct Told {
    added: BTreeSet<[u8; 16]>,
    order: Vec<Option<Changed>>,
    places: HashMap<[u8; 16], usize>,
}

impl Told {
    /// Takes a change in place of the earlier ones of its entry.
    fn note(&mut self, uuid: [u8; 16], dn: Box<str>, key: dirless_directory::DnKey, kind: ChangeKind) {
        if let Some(earlier) = self.places.insert(uuid, self.order.len())
            && let Some(place) = self.order.get_mut(earlier)
        {
            *place = None;
        }
        self.order.push(Some(Changed { uuid, dn, key, kind }));
    }

    fn note_there(&mut self, record: &Record) {
        let Some(uuid) = first(record, "entryUUID").as_deref().and_then(uuid) else {
            return;
        };
        let kind = if self.added.contains(&uuid) {
            ChangeKind::Added
        } else {
            ChangeKind::Modified
        };
        self.note(uuid, record.dn().to_string().into(), record.key().clone(), kind);
    }

    /// Takes the entry whose last write has that number, if it is there.
    fn last_of(&mut self, reader: Reader<'_>, csn: Option<&str>) -> Result<(), TreeError> {
        let Some(filter) = csn.and_then(of_csn) else {
            return Ok(());
        };
        let query = Query {
            base: reader.base(),
            scope: Scope::Subtree,
            filter: &filter,
            after: None,
        };
        for record in reader.search(&query, 1)?.records {
            self.note_there(&record);
        }
        Ok(())
    }

    /// Takes everything that a rename gave another name, and that still stands where it or later
    /// renames put it.
    fn subtree_of(&mut self, reader: Reader<'_>, change: &Change, later: &[Change]) -> Result<(), TreeError> {
        let Some(mut name) = renamed_to(change) else {
            return Ok(());
        };
        for rename in later.iter().filter(|change| change.operation == Operation::Rename) {
            if let Some((from, to)) = Dn::parse(&rename.dn).ok().zip(renamed_to(rename)) {
                name = moved(reader, &name, &from, &to);
            }
        }
        let query = Query {
            base: &name,
            scope: Scope::Subtree,
            filter: &Filter::And(Vec::new()),
            after: None,
        };
        let visited = reader.visit(&query, |record| {
            self.note_there(&record);
            if self.order.len() > MOST {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        match visited {
            Err(TreeError::Absent { .. }) => Ok(()),
            other => other,
        }
    }

    fn in_order(self) -> Vec<Changed> {
        self.order.into_iter().flatten().collect()
    }
}

fn renamed_to(change: &Change) -> Option<Dn> {
    Dn::parse(change.difference.get("to")?.as_str()?).ok()
}

/// The name of an entry after `from` was renamed to `to`.
fn moved(reader: Reader<'_>, name: &Dn, from: &Dn, to: &Dn) -> Dn {
    let keys = reader.schema().dn_key(name).zip(reader.schema().dn_key(from));
    if !keys.is_some_and(|(name, from)| name.is_within(&from)) {
        return name.clone();
    }
    let own = name.rdns().len() - from.rdns().len();
    let rdns = name.rdns().iter().take(own).rev();
    rdns.fold(to.clone(), |dn, rdn| dn.child(rdn.clone()))
}

/// The first text at the end of a path into a difference.
fn text<'a>(difference: &'a Json, path: &[&str]) -> Option<&'a str> {
    let list = path.iter().try_fold(difference, |json, name| json.get(name))?;
    list.as_array()?.first()?.as_str()
}

/// The bytes of an `entryUUID`.
fn uuid(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.chars().filter(|letter| *letter != '-').collect();
    u128::from_str_radix(&digits, 16)
        .ok()
        .filter(|_| digits.len() == 32)
        .map(u128::to_be_bytes)
}
