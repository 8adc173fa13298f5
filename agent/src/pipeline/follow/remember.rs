//! The file of records, made of everything after a whole run.

use std::os::unix::fs::OpenOptionsExt as _;

use dirless_model::snapshot::{Part, record_key};
use dirless_program::fs::remove;

use super::{FollowError, Position, SURROUNDINGS, TABLE, Worker, aside, note_of, open_store, put_in_place, unkept};
use crate::pipeline::open;
use crate::pipeline::partial::{Store, StoreError};
use crate::pipeline::{Opener, Outcome, unchanged};

impl Worker<'_> {
    /// Makes the file of records anew from the bodies that a whole run has just taken, where logs are written. Failing that
    /// there is none, and each change costs a whole run.
    pub(in crate::pipeline) fn remember(&self, outcome: Outcome) -> Result<(), FollowError> {
        let Outcome {
            report, tree, content, ..
        } = outcome;
        // All of it will be read once more.
        drop(content);
        let schema = tree.map(|tree| tree.schema);
        let path = self.paths.records();
        let aside = aside(&path);
        for old in [&path, &aside] {
            remove(old).map_err(|error| unkept(old, &error))?;
        }
        let Some(published) = &report.published else {
            return Ok(());
        };
        if !matches!(self.inputs.opener, Opener::Signed { .. }) || !unchanged::depends_on_fetched_alone(&report) {
            return Ok(());
        }
        let rules = match (&self.inputs.directory, &schema) {
            (None, _) => None,
            (Some(_), Some(schema)) if published.copy.is_some() => Some(self.tree_rules(schema)?),
            // There is no copy that could be changed.
            (Some(_), _) => return Ok(()),
        };
        let mut positions = Vec::new();
        for (_, source) in self.sources() {
            positions.push(self.found(source)?.map(|found| found.position()));
        }
        if positions.iter().flatten().all(|position| position.length == 0) {
            return Ok(());
        }
        {
            // It says what the sources say, also of people whom this host does not show.
            let made = std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&aside);
            made.map_err(|error| unkept(&aside, &error))?;
            let mut store = open_store(&aside, self.inputs.name_rule.clone())?;
            if let Some(rules) = rules {
                store = store.with_tree(rules)?;
            }
            store.change(|store| self.fill(store, &positions, published.generation))?;
        }
        put_in_place(&aside, &path)
    }

    fn fill(&self, store: &Store, positions: &[Option<Position>], generation: u64) -> Result<(), FollowError> {
        for ((place, source), position) in self.sources().zip(positions) {
            let Some(position) = position else {
                store.set_note(&note_of(place, source), "-")?;
                continue;
            };
            let body = source.fetched.as_ref().ok_or(FollowError::Whole("a body is gone"))?;
            let opening = open::open(body, source, self.inputs).map_err(|error| FollowError::Log(error.reason))?;
            let mut failed = None;
            let mut put = |part: Part, bytes: &[u8]| {
                if failed.is_some() {
                    return;
                }
                let key = record_key(part, bytes).ok_or(StoreError::Odd);
                let held = key.and_then(|key| match store.get(place, part, &key)? {
                    // Of two under one key nobody can tell which one a log means.
                    Some(_) => Err(StoreError::Odd),
                    None => store.put(place, part, &key, bytes),
                });
                failed = held.err();
            };
            let (meta, content) = opening
                .records(&mut put)
                .map_err(|error| FollowError::Log(error.to_string()))?;
            if let Some(error) = failed {
                return Err(error.into());
            }
            if usize::from(place) >= self.inputs.sources.len() && !meta.is_for(&self.inputs.hostname) {
                store.leave_out(place)?;
            }
            store.keep_content(place, &content)?;
            store.set_note(&note_of(place, source), &position.text())?;
        }
        store.set_note(TABLE, &generation.to_string())?;
        store.set_note(SURROUNDINGS, &unchanged::surroundings(self.options, self.inputs))?;
        Ok(())
    }
}
