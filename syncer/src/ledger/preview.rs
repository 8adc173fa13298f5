use std::collections::{BTreeMap, BTreeSet, HashMap};

use dirless_model::ObjectId;
use dirless_model::snapshot::ObjectKind;
use jiff::Timestamp;

use super::events::Event;
use super::{Allocator, Entry, LedgerError, Object, Origin};

/// What [`super::Ledger::settle`] found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// The number of each live object.
    pub numbers: BTreeMap<(ObjectKind, ObjectId), u32>,
    /// Objects that got a number for the first time.
    pub assigned: usize,
    /// Objects that had been gone and got their old number back.
    pub returned: usize,
    /// Objects that are gone now; their numbers stay theirs.
    pub retired: usize,
}

/// The next state of the ledger, not yet written.
#[derive(Clone, Debug)]
pub struct Preview {
    /// What settling will answer.
    pub settled: Settled,
    entries: Vec<Entry>,
    pub(super) fresh: Vec<Entry>,
    pub(super) events: Vec<(u32, Event)>,
}

impl Preview {
    /// The lines of the ledger as they will be, for the source that was asked about.
    pub fn lines(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().chain(&self.fresh)
    }

    /// What settling `live` would make of a ledger with the lines `entries`.
    ///
    /// # Errors
    /// When the range is used up.
    pub fn of(
        entries: Vec<Entry>,
        source: &str,
        live: &BTreeMap<(ObjectKind, ObjectId), String>,
        allocator: &Allocator,
        now: Timestamp,
    ) -> Result<Self, LedgerError> {
        let taken: BTreeSet<u32> = entries.iter().map(|entry| entry.number).collect();
        let known: HashMap<_, _> = entries
            .iter()
            .filter(|entry| entry.object.source == source)
            .map(|entry| ((entry.object.kind, entry.object.id.clone()), entry))
            .collect();
        let mut free = allocator.free(&taken);
        let mut settled = Settled::default();
        let mut fresh = Vec::new();
        let mut events = Vec::new();
        for (key, name) in live {
            let number = if let Some(entry) = known.get(key) {
                if entry.retired {
                    settled.returned += 1;
                    events.push((entry.number, Event::Returned));
                }
                if entry.last_name != *name {
                    events.push((entry.number, Event::Named(name.clone())));
                }
                entry.number
            } else {
                let number = free.next().ok_or_else(|| allocator.exhausted())?;
                fresh.push(first_line(number, source, key, name, now));
                number
            };
            settled.numbers.insert(key.clone(), number);
        }
        for (key, entry) in &known {
            if !entry.retired && !live.contains_key(key) {
                settled.retired += 1;
                events.push((entry.number, Event::Retired));
            }
        }
        settled.assigned = fresh.len();
        let entries = entries
            .into_iter()
            .filter(|entry| entry.object.source == source)
            .collect();
        Ok(Self {
            settled,
            entries,
            fresh,
            events,
        })
    }
}

fn first_line(number: u32, source: &str, key: &(ObjectKind, ObjectId), name: &str, now: Timestamp) -> Entry {
    Entry {
        number,
        object: Object {
            source: source.to_owned(),
            kind: key.0,
            id: key.1.clone(),
        },
        first_name: name.to_owned(),
        last_name: name.to_owned(),
        assigned_at: now,
        origin: Origin::Assigned,
        subids: None,
        retired: false,
    }
}
