//! From a stored entry to an answer: who may see it, does it match, what of it is sent.

use std::collections::HashSet;
use std::sync::Arc;

use dirless_directory::encoded::{Attributes, Matcher, SEQUENCE, Subject};
use dirless_directory::filter::Truth;
use dirless_directory::{DnKey, Filter, Schema};

use crate::answers::{Answers, Piece};
use crate::controls::{DEREFERENCE, SYNC_STATE};
use crate::reply::{self, ReplyControl, SyncState};
use crate::select::{Selection, is_shown, reduce};
use crate::{Apart, Candidate, Directory, Failure, Identity, Purpose, Query, Scope, Stored, Visibility};

/// The parts of a search that decide over one entry.
pub(crate) struct Emitter {
    pub(crate) id: u32,
    pub(crate) who: Identity,
    pub(crate) schema: Schema,
    pub(crate) matcher: Matching,
    pub(crate) selection: Selection,
    pub(crate) dereference: Vec<(String, Selection)>,
    /// Entries that may still be sent; one more is over the limit.
    pub(crate) left: usize,
    /// Entries that may still be sent on this page.
    pub(crate) page_left: usize,
    pub(crate) sent: usize,
    /// For a consumer: what each entry is marked as.
    pub(crate) sync: Option<SyncState>,
    reduced: Vec<u8>,
    list: Vec<u8>,
    /// Entries that need the directory again before they can be sent.
    collected: Vec<Collected>,
}

/// A filter that is prepared when it is first held against an entry.
pub(crate) enum Matching {
    Pending(Arc<Filter>),
    Ready(Matcher),
}

impl Matching {
    /// See [`Matcher::matches`].
    fn matches(&mut self, schema: &Schema, subject: Subject<'_>) -> Truth {
        match self {
            Self::Ready(matcher) => matcher.matches(schema, subject),
            Self::Pending(filter) => {
                let matcher = Matcher::new(schema, filter);
                let truth = matcher.matches(schema, subject);
                *self = Self::Ready(matcher);
                truth
            }
        }
    }

    /// See [`Matcher::bound`].
    pub(crate) fn bound(&self) -> Option<&HashSet<DnKey>> {
        match self {
            Self::Ready(matcher) => matcher.bound(),
            Self::Pending(_) => None,
        }
    }
}

struct Collected {
    key: Vec<u8>,
    dn: Box<str>,
    encoded: Vec<u8>,
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Offered {
    /// Sent, or kept to be sent.
    Taken,
    /// Not of the result.
    Passed,
    /// It matches and is one more than the page holds.
    PageFull,
    /// It matches and is one more than the limit.
    LimitReached,
}

/// The entry as filters see it.
pub(crate) fn subject<'a>(stored: &Stored<'a>) -> Subject<'a> {
    Subject {
        dn: stored.dn,
        key: stored.key,
        attributes: stored.attributes,
    }
}

impl Emitter {
    pub(crate) fn new(id: u32, who: Identity, schema: Schema, matcher: Matching, selection: Selection) -> Self {
        Self {
            id,
            who,
            schema,
            matcher,
            selection,
            dereference: Vec::new(),
            left: usize::MAX,
            page_left: usize::MAX,
            sent: 0,
            sync: None,
            reduced: Vec::new(),
            list: Vec::new(),
            collected: Vec::new(),
        }
    }

    /// Shows `stored` as this client may see it to `then`; not at all when it may not, or when the
    /// filter does not match what it may see.
    pub(crate) fn matching<R>(
        &mut self,
        directory: &dyn Directory,
        stored: Stored<'_>,
        exact: bool,
        then: impl FnOnce(&mut Self, Stored<'_>) -> R,
    ) -> Option<R> {
        let visibility = directory.visibility(&self.who, stored.key);
        if visibility == Visibility::Hidden {
            return None;
        }
        let Some(usable) = directory.usable(&self.who, stored.key, Purpose::Search) else {
            return self.matching_as(&visibility, stored, exact, then);
        };
        // Found by what may be used, shown as it may be seen.
        self.matching_as(&usable, stored, exact, |_, _| ())?;
        self.reduced_to(&visibility, stored, then)
    }

    /// [`Emitter::matching`] with something else than what the client may see.
    pub(crate) fn matching_as<R>(
        &mut self,
        visibility: &Visibility,
        stored: Stored<'_>,
        exact: bool,
        then: impl FnOnce(&mut Self, Stored<'_>) -> R,
    ) -> Option<R> {
        let matched = self.reduced_to(visibility, stored, |emitter, seen| {
            // What the store answered by itself, it answered from the whole entry.
            let matches = (exact && *visibility == Visibility::Whole)
                || emitter.matcher.matches(&emitter.schema, subject(&seen)) == Truth::True;
            matches.then(|| then(emitter, seen))
        });
        matched.flatten()
    }

    /// Shows what is left of an entry to `then`; not at all when nothing may be.
    fn reduced_to<R>(
        &mut self,
        visibility: &Visibility,
        stored: Stored<'_>,
        then: impl FnOnce(&mut Self, Stored<'_>) -> R,
    ) -> Option<R> {
        if *visibility == Visibility::Hidden {
            return None;
        }
        let mut reduced = std::mem::take(&mut self.reduced);
        let is_reduced = reduce(&self.schema, visibility, stored.attributes, &mut reduced);
        let seen = match Attributes::new(&reduced) {
            Ok(attributes) if is_reduced => Stored { attributes, ..stored },
            _ => stored,
        };
        let result = then(self, seen);
        self.reduced = reduced;
        Some(result)
    }

    /// Takes an entry into the result if it belongs there.
    pub(crate) fn offer(
        &mut self,
        directory: &dyn Directory,
        Candidate { stored, exact, apart }: Candidate<'_>,
        out: &mut Answers,
    ) -> Offered {
        let wait = self.needs_directory();
        let pieces = self.pieces(directory, stored.key, apart);
        self.matching(directory, stored, exact, |emitter, seen| {
            emitter.take(&seen, pieces, wait, out)
        })
        .unwrap_or(Offered::Passed)
    }

    /// Takes an entry that the server itself has, also when the directory has nothing to say.
    pub(crate) fn offer_own(&mut self, stored: Stored<'_>, out: &mut Answers) -> Offered {
        if self.matcher.matches(&self.schema, subject(&stored)) == Truth::True {
            self.take(&stored, Vec::new(), false, out)
        } else {
            Offered::Passed
        }
    }

    /// Sends an entry, or has it `wait` until the directory may be asked again.
    fn take(&mut self, seen: &Stored<'_>, pieces: Vec<Piece>, wait: bool, out: &mut Answers) -> Offered {
        if self.page_left == 0 {
            return Offered::PageFull;
        }
        if self.left == 0 {
            return Offered::LimitReached;
        }
        self.page_left -= 1;
        self.left -= 1;
        self.sent += 1;
        if wait {
            let mut encoded = Vec::new();
            seen.attributes.select(&mut encoded, |_| true);
            self.collected.push(Collected {
                key: seen.key.to_vec(),
                dn: seen.dn.into(),
                encoded,
            });
        } else {
            self.send(seen, pieces, None, &[], out);
        }
        Offered::Taken
    }

    /// Must the directory be asked again for each entry? Not while it is showing one.
    pub(crate) fn needs_directory(&self) -> bool {
        !self.dereference.is_empty() || self.selection.wants_subordinates()
    }

    /// May attributes of an entry be sent without being looked at?
    pub(crate) fn takes_apart(&self) -> bool {
        self.selection.takes_whole() && !self.needs_directory()
    }

    /// What is sent of the attributes that a store keeps apart.
    fn pieces(&self, directory: &dyn Directory, key: &[u8], apart: &[Apart<'_>]) -> Vec<Piece> {
        if apart.is_empty() {
            return Vec::new();
        }
        let visibility = directory.visibility(&self.who, key);
        let taken = apart.iter().filter(|one| {
            self.selection.takes(one.name, one.operational) && is_shown(&self.schema, &visibility, one.name)
        });
        let pieces = taken.map(|one| Piece {
            file: Arc::clone(one.file),
            offset: one.offset,
            length: one.length,
        });
        pieces.collect()
    }

    /// How many entries wait for that.
    pub(crate) fn waiting(&self) -> usize {
        self.collected.len()
    }

    /// Sends the entries that waited.
    pub(crate) fn finish(&mut self, directory: &dyn Directory, out: &mut Answers) -> Result<(), Failure> {
        for entry in std::mem::take(&mut self.collected) {
            let Ok(attributes) = Attributes::new(&entry.encoded) else {
                continue;
            };
            let stored = Stored {
                key: &entry.key,
                dn: &entry.dn,
                attributes,
            };
            let has_subordinates = if self.selection.wants_subordinates() {
                Some(has_subordinates(directory, entry.key.clone())?)
            } else {
                None
            };
            let controls = self.dereferenced(directory, attributes)?;
            self.send(&stored, Vec::new(), has_subordinates, controls.as_slice(), out);
        }
        Ok(())
    }

    fn send(
        &mut self,
        seen: &Stored<'_>,
        pieces: Vec<Piece>,
        has_subordinates: Option<bool>,
        controls: &[ReplyControl],
        out: &mut Answers,
    ) {
        let sync = self.sync.map(|state| ReplyControl {
            oid: SYNC_STATE,
            value: reply::sync_state_value(state, &uuid(seen), None),
        });
        let with_sync: Vec<ReplyControl>;
        let controls = match sync {
            None => controls,
            Some(sync) => {
                with_sync = controls.iter().cloned().chain([sync]).collect();
                &with_sync
            }
        };
        if self.selection.is_plain() {
            return reply::entry_with(out, self.id, seen.dn, seen.attributes.user(), pieces, controls);
        }
        self.list.clear();
        self.selection.put(&self.schema, seen, has_subordinates, &mut self.list);
        reply::entry_with(out, self.id, seen.dn, &self.list, pieces, controls);
    }

    /// Follows the names that an entry holds (the dereference control of OpenLDAP).
    fn dereferenced(
        &mut self,
        directory: &dyn Directory,
        attributes: Attributes<'_>,
    ) -> Result<Vec<ReplyControl>, Failure> {
        let mut results = Vec::new();
        let dereference = std::mem::take(&mut self.dereference);
        for (name, selection) in &dereference {
            let held = attributes
                .iter()
                .filter(|attribute| self.schema.is_subtype(attribute.name, name));
            for value in held.flat_map(|attribute| attribute.values) {
                let key = std::str::from_utf8(value)
                    .ok()
                    .and_then(|text| self.schema.dn_key_of(text));
                let mut list = Vec::new();
                if let Some(key) = key {
                    directory.lookup(&key, &mut |stored| {
                        let visibility = directory.visibility(&self.who, stored.key);
                        if visibility == Visibility::Hidden {
                            return;
                        }
                        let is_reduced = reduce(&self.schema, &visibility, stored.attributes, &mut self.reduced);
                        let seen = match Attributes::new(&self.reduced) {
                            Ok(attributes) if is_reduced => Stored { attributes, ..stored },
                            _ => stored,
                        };
                        selection.put(&self.schema, &seen, None, &mut list);
                    })?;
                }
                reply::put_dereferenced(&mut results, name, value, &list);
            }
        }
        self.dereference = dereference;
        if results.is_empty() {
            return Ok(Vec::new());
        }
        let mut value = Vec::with_capacity(results.len() + 6);
        reply::put(&mut value, SEQUENCE, &results);
        Ok(vec![ReplyControl {
            oid: DEREFERENCE,
            value,
        }])
    }
}

/// Is there anything below the entry of that key?
fn has_subordinates(directory: &dyn Directory, key: Vec<u8>) -> Result<bool, Failure> {
    let base = DnKey::from(key);
    let query = Query {
        base: &base,
        scope: Scope::Subtree,
        filter: &Filter::And(Vec::new()),
        after: Some(base.as_bytes()),
        wants: crate::Wants::default(),
    };
    let mut found = false;
    directory.candidates(&query, &mut |_| {
        found = true;
        std::ops::ControlFlow::Break(())
    })?;
    Ok(found)
}

/// The `entryUUID` of an entry; one made of its key when it has none, so that it stays the same.
pub(crate) fn uuid(stored: &Stored<'_>) -> [u8; 16] {
    let held = stored.attributes.attribute("entryUUID");
    let parsed = held.and_then(|mut attribute| {
        let hex: Vec<u8> = attribute
            .values
            .next()?
            .iter()
            .copied()
            .filter(|byte| *byte != b'-')
            .collect();
        let mut uuid = [0; 16];
        for (at, byte) in uuid.iter_mut().enumerate() {
            let pair = std::str::from_utf8(hex.get(at * 2..at * 2 + 2)?).ok()?;
            *byte = u8::from_str_radix(pair, 16).ok()?;
        }
        Some(uuid)
    });
    parsed.unwrap_or_else(|| {
        let digest = ring::digest::digest(&ring::digest::SHA256, stored.key);
        digest.as_ref().first_chunk().copied().unwrap_or_default()
    })
}
