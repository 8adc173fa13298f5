//! The keys of this publisher: the one that it was given, and the successors that it made itself.
//!
//! What always holds: a new key is on disk before anything bears its name, and the succession that names it before anybody
//! sees it; nothing that hosts read is signed with a key that they cannot find.

mod renew;

use dirless_program::Secret;
use dirless_seal::trust::{MOST_SUCCESSIONS, Memory, Object, Policy, Publisher, Refusal, Succession, parse};
use dirless_seal::{Note, SigningKey, VerifyingKey};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

pub(super) use renew::Renewal;

use super::book::{load, save};
use super::lists::key_id;
use super::{Folder, SignedError, Signer, paths};

/// The successors of a key, as the state folder keeps them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Line {
    /// When the first key was seen at work.
    since: Option<Timestamp>,
    /// The key that the policy named last.
    anchor: Option<String>,
    links: Vec<Link>,
}

/// A successor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Link {
    /// The succession that names it, signed.
    note: String,
    /// Hosts may have seen it.
    #[serde(default)]
    published: bool,
    /// Backends know the key.
    #[serde(default)]
    registered: bool,
    /// The key before it is of no more use, and backends know that.
    #[serde(default)]
    alone: bool,
}

/// The keys.
#[derive(Debug)]
pub(super) struct Ring {
    line: Line,
    /// One for each link.
    successions: Vec<Succession>,
    /// The first key and one for each link; none where its secret half was removed.
    held: Vec<Option<SigningKey>>,
    first: VerifyingKey,
    /// Which of them is current under the policy, and which signs along.
    current: usize,
    before: Option<usize>,
}

/// What the publisher's key is, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFacts {
    /// The newest key.
    pub key: VerifyingKey,
    /// The key that the policy names, if it is another one.
    pub anchor: Option<VerifyingKey>,
    /// How many successors that one has had.
    pub successors: u64,
    /// Since when it signs.
    pub since: Option<Timestamp>,
    /// Until when the key before it signs along.
    pub overlap: Option<Timestamp>,
    /// When it gets a successor.
    pub next: NextKey,
}

/// When a key gets a successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextKey {
    /// Then.
    At(Timestamp),
    /// Never by itself: `rotate_days` is 0.
    Never,
    /// It is a service credential, which nothing but its owner can replace.
    ByHand,
}

/// The key that backends know of the publisher whose first key is `first`: that, or its newest successor.
///
/// # Errors
/// When the state cannot be read.
pub fn asking_key(first: &SigningKey, state: &dyn Folder) -> Result<SigningKey, SignedError> {
    let mut ring = Ring::load(first, state)?;
    let registered = ring.line.links.iter().rposition(|link| link.registered);
    let newest = registered
        .and_then(|at| ring.held.get_mut(at + 1))
        .and_then(Option::take);
    Ok(newest.unwrap_or_else(|| again(first)))
}

fn again(key: &SigningKey) -> SigningKey {
    key.renamed(key.verifying().name().clone())
}

impl Ring {
    fn load(first: &SigningKey, state: &dyn Folder) -> Result<Self, SignedError> {
        let path = paths::line(first.verifying());
        let line: Line = load(state, &path)?.unwrap_or_default();
        let damaged = |reason: String| SignedError::damaged(path.clone(), reason);
        let (mut successions, mut held) = (Vec::new(), vec![Some(again(first))]);
        for (at, link) in line.links.iter().enumerate() {
            let succession: Succession =
                parse(&link.note().map_err(damaged)?).map_err(|error| damaged(error.to_string()))?;
            let key = secret(state, first.verifying(), at + 1)?;
            held.push(key.filter(|key| *key.verifying() == succession.key));
            successions.push(succession);
        }
        Ok(Self {
            line,
            successions,
            held,
            first: first.verifying().clone(),
            current: 0,
            before: None,
        })
    }

    fn save(&self, state: &dyn Folder) -> Result<(), SignedError> {
        save(state, &paths::line(&self.first), &self.line)
    }

    fn key(&self, at: usize) -> Option<&VerifyingKey> {
        match at.checked_sub(1) {
            None => Some(&self.first),
            Some(link) => self.successions.get(link).map(|succession| &succession.key),
        }
    }

    /// Which of the keys is current where the policy names `anchor`: that, or the last that hosts may know as its successor.
    fn choose(&mut self, anchor: &VerifyingKey) -> Option<()> {
        let at = (0..self.held.len()).find(|at| self.key(*at) == Some(anchor))?;
        let own = (0..self.successions.len()).filter(|link| self.is_of(*link, anchor) && self.is_published(*link));
        let own: Vec<usize> = own.map(|link| link + 1).collect();
        self.current = own.last().copied().unwrap_or(at);
        self.before = match own.as_slice() {
            [] => None,
            [_] => Some(at),
            [.., before, _] => Some(*before),
        };
        Some(())
    }

    fn is_of(&self, link: usize, anchor: &VerifyingKey) -> bool {
        self.successions.get(link).is_some_and(|own| own.anchor == *anchor)
    }

    fn is_published(&self, link: usize) -> bool {
        self.line.links.get(link).is_some_and(|own| own.published)
    }

    /// The link that made the current key; none when the policy itself names it.
    fn link(&self) -> Option<usize> {
        self.before.and(self.current.checked_sub(1))
    }

    /// Since when the current key signs.
    fn since(&self) -> Option<Timestamp> {
        let issued = |link: usize| self.successions.get(link).map(|own| own.issued);
        self.current.checked_sub(1).map_or(self.line.since, issued)
    }

    /// Until when the key before signs along.
    fn overlap(&self, days: u16) -> Option<Timestamp> {
        self.link().and_then(|_| days_after(self.since()?, days))
    }

    /// What signs at `now`: the current key, and for some days the one before it.
    pub(super) fn signing(&self, now: Timestamp, days: u16) -> Vec<&SigningKey> {
        let both = self.overlap(days).is_some_and(|end| now < end);
        let before = self.before.filter(|_| both);
        let keys = before.into_iter().chain([self.current]);
        keys.filter_map(|at| self.held.get(at)?.as_ref()).collect()
    }

    /// What the current key is called.
    pub(super) fn id(&self) -> String {
        self.key(self.current).map(key_id).unwrap_or_default()
    }

    /// Did the policy name another key than the current one?
    pub(super) fn is_successor(&self) -> bool {
        self.link().is_some()
    }

    /// Did one of the keys sign `note`?
    pub(super) fn signed(&self, note: &Note) -> bool {
        (0..self.held.len()).any(|at| self.key(at).is_some_and(|key| note.is_signed_by(key)))
    }
}

impl Link {
    fn note(&self) -> Result<Note, String> {
        Note::parse(self.note.as_bytes(), Succession::MOST).map_err(|error| error.to_string())
    }
}

/// The secret half of successor `number` of `first`.
fn secret(state: &dyn Folder, first: &VerifyingKey, number: usize) -> Result<Option<SigningKey>, SignedError> {
    let path = paths::successor_key(first, number);
    let Some(bytes) = state.get(&path, 4096)? else {
        return Ok(None);
    };
    let text = String::from_utf8(bytes).map_err(|_| SignedError::damaged(path.clone(), "it is no text"))?;
    let key = SigningKey::parse(Secret::new(text).expose().trim_end());
    key.map(Some).map_err(|error| SignedError::damaged(path, error))
}

fn days_after(at: Timestamp, days: u16) -> Option<Timestamp> {
    at.checked_add(SignedDuration::from_hours(24 * i64::from(days))).ok()
}

/// Accepts the successors of the key of `publisher` that are in `folder`, after those that `memory` has, as far as they go.
///
/// # Errors
/// When they cannot be read; [`SignedError::Refused`] at the first one that does not hold: those before it count.
pub fn follow_successions(
    folder: &dyn Folder,
    policy: &Policy,
    publisher: &Publisher,
    memory: &mut Memory,
) -> Result<(), SignedError> {
    while let Some((path, note)) = next_succession(folder, publisher, memory)? {
        let before = memory.succession_of(publisher);
        let accepted = memory.succession(policy, &note);
        accepted.map_err(SignedError::refused(&path))?;
        if memory.succession_of(publisher) == before {
            // The one before in the place of the next would be accepted for ever.
            return Err(SignedError::refused(path)(Refusal::Mixed("succession")));
        }
    }
    Ok(())
}

/// The succession in `folder` after the last that `memory` has.
fn next_succession(
    folder: &dyn Folder,
    publisher: &Publisher,
    memory: &Memory,
) -> Result<Option<(String, Note)>, SignedError> {
    let next = memory.succession_of(publisher).map_or(1, |seen| seen.version + 1);
    let path = Succession::path(&publisher.key, next);
    if next > MOST_SUCCESSIONS {
        return Ok(None);
    }
    let Some(bytes) = folder.get(&path, 2 * Succession::MOST as u64)? else {
        return Ok(None);
    };
    let note = Note::parse(&bytes, Succession::MOST).map_err(SignedError::no_note(path.clone(), "succession"))?;
    Ok(Some((path, note)))
}

impl Signer {
    /// The keys under `policy`. What hosts may have seen of successions goes into `memory`.
    pub(super) fn ring(&self, policy: &Policy, memory: &mut Memory) -> Result<Ring, SignedError> {
        let mut ring = Ring::load(&self.key, self.state.as_ref())?;
        let publisher = self.publisher_of(policy)?;
        let nobody = || self.nobody(policy);
        ring.choose(&publisher.key).ok_or_else(nobody)?;
        if ring.held.get(ring.current).is_none_or(Option::is_none) {
            return Err(SignedError::Succeeded {
                path: format!("policy/{}", policy.version),
                publisher: self.publisher().clone(),
            });
        }
        for (at, link) in ring.line.links.iter().enumerate() {
            let known = memory.succession_of(publisher).map_or(0, |seen| seen.version);
            let own = ring.successions.get(at).filter(|own| own.anchor == publisher.key);
            if own.is_some_and(|own| link.published && own.version > known) {
                let path = paths::line(&ring.first);
                let note = link
                    .note()
                    .map_err(|reason| SignedError::damaged(path.clone(), reason))?;
                memory.succession(policy, &note).map_err(SignedError::refused(path))?;
            }
        }
        let anchor = Some(publisher.key.to_string());
        if ring.line.since.is_none() || ring.line.anchor != anchor {
            ring.line.since.get_or_insert(self.now());
            ring.line.anchor = anchor;
            ring.save(self.state.as_ref())?;
        }
        Ok(ring)
    }

    /// The successions of the publisher of our name in the tenant folder, as `policy` and `memory` accept them.
    pub(super) fn follow_successions(&self, policy: &Policy, memory: &mut Memory) -> Result<(), SignedError> {
        follow_successions(self.tenant_folder.as_ref(), policy, self.publisher_of(policy)?, memory)
    }

    /// What the key is, for people.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn key_facts(&self) -> Result<KeyFacts, SignedError> {
        let mut ring = Ring::load(&self.key, self.state.as_ref())?;
        let named = ring.line.anchor.as_deref().and_then(|key| key.parse().ok());
        let named: VerifyingKey = named.unwrap_or_else(|| ring.first.clone());
        if ring.choose(&named).is_none() {
            return Err(SignedError::damaged(
                paths::line(&ring.first),
                "it lacks the policy's key",
            ));
        }
        let succession = ring.link().and_then(|at| ring.successions.get(at)).cloned();
        let (now, days) = (self.now(), self.config.rotate_days);
        let end = ring.since().and_then(|since| days_after(since, days));
        Ok(KeyFacts {
            key: ring.key(ring.current).cloned().unwrap_or(named),
            anchor: succession.as_ref().map(|own| own.anchor.clone()),
            successors: succession.map_or(0, |own| own.version),
            since: ring.since(),
            overlap: ring.overlap(self.config.overlap_days).filter(|end| now < *end),
            next: match end {
                _ if self.handed_over => NextKey::ByHand,
                _ if days == 0 => NextKey::Never,
                end => NextKey::At(end.unwrap_or(now)),
            },
        })
    }
}
