//! Trees in temporary folders and short ways to write entries.

use std::path::Path;

use dirless_directory::{AttributeName, Dn, Entry, Filter, Schema, Value};
use dirless_program::Clock;
use dirless_syncer::tree::{Actor, Query, Scope, Settings, TreeError, TreeStore};
use jiff::Timestamp;
use tempfile::TempDir;

pub(crate) fn name(text: &str) -> AttributeName {
    AttributeName::parse(text).unwrap()
}

pub(crate) fn dn(text: &str) -> Dn {
    Dn::parse(text).unwrap()
}

pub(crate) fn filter(text: &str) -> Filter {
    Filter::parse(text).unwrap()
}

/// `cn: a` lines, the first one being the name.
pub(crate) fn entry(text: &str) -> Entry {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut entry = Entry::new(dn(lines.next().unwrap()));
    for line in lines {
        let (attribute, value) = line.split_once(": ").unwrap();
        entry.add(name(attribute), Value::from(value));
    }
    entry
}

pub(crate) fn person(uid: &str) -> Entry {
    entry(&format!(
        "uid={uid},ou=users,dc=dirless\nobjectClass: inetOrgPerson\nuid: {uid}\ncn: {uid} Example\nsn: Example\nmail: {uid}@example.com"
    ))
}

pub(crate) fn clock() -> Clock {
    Clock::manual("2026-05-31T00:00:00Z".parse::<Timestamp>().unwrap())
}

pub(crate) fn settings(folder: &Path) -> Settings {
    Settings {
        path: folder.join("tree.db"),
        base: dn("dc=dirless"),
        schema: Schema::standard(),
        indexed: Vec::new(),
    }
}

pub(crate) fn tree() -> (TempDir, TreeStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = TreeStore::open(settings(folder.path()), clock()).unwrap();
    (folder, store)
}

pub(crate) fn actor() -> Actor {
    Actor::operator("tester")
}

/// The names that a search finds, in its order.
pub(crate) fn found(store: &TreeStore, base: &str, scope: Scope, filter: &str) -> Result<Vec<String>, TreeError> {
    let query = Query {
        base: &dn(base),
        scope,
        filter: &self::filter(filter),
        after: None,
    };
    let page = store.search(&query, usize::MAX)?;
    Ok(page.records.iter().map(|record| record.dn().to_string()).collect())
}

pub(crate) fn value(store: &TreeStore, dn: &str, attribute: &str) -> Vec<String> {
    let record = store.get(&self::dn(dn)).unwrap().unwrap();
    let entry = record.entry().unwrap();
    let values = entry.values(&name(attribute)).iter();
    values.map(|value| value.as_str().unwrap().to_owned()).collect()
}
