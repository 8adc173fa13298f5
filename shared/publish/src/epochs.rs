//! Epochs: the keys that bodies are sealed to, renewed now and then and whenever somebody must no longer read on.

use std::collections::{BTreeMap, BTreeSet};

use dirless_program::Secret;
use dirless_seal::trust::{Policy, Wrap};
use dirless_seal::{Identity, Label, Recipient};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::book::{Book, load, save};
use super::line::Ring;
use super::publish::first_free;
use super::{SignedError, Signer, paths};

/// The epoch of a compartment. Its key is in a file of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Epoch {
    pub(super) number: u64,
    since: Timestamp,
    /// Those of the policy that it was made for.
    recovery: Vec<String>,
    /// When an enroller had asked for a new one last, as it began.
    #[serde(default)]
    asked: Option<Timestamp>,
    /// What the publisher's key was called as it began; empty in a state that knew of one alone.
    #[serde(default)]
    signed_by: String,
    /// Who has its key: true when the wrap is there for sure, false when it may be.
    holders: BTreeMap<String, bool>,
}

/// What may call for a new epoch, beside its age and its hosts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    /// The publisher's keys: with another one everything is published anew.
    pub(super) ring: &'a Ring,
    /// When an enroller asked for one last.
    pub(super) asked: Option<Timestamp>,
    pub(super) by_hand: bool,
}

/// Who receives a wrap.
pub(super) type Members = BTreeMap<Label, Recipient>;

/// An epoch that began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// Of this compartment.
    pub compartment: Label,
    /// Its number.
    pub number: u64,
    /// Why.
    pub why: &'static str,
    /// To how many it is wrapped.
    pub wraps: usize,
}

/// The recovery recipients of `policy`, by the names of their wraps.
fn recovery(policy: &Policy) -> Result<Members, SignedError> {
    let named = policy.recovery.iter().enumerate().map(|(at, recipient)| {
        let name = format!("recovery-{}", at + 1).parse();
        let name = name.map_err(|error| SignedError::damaged("recovery", error))?;
        Ok((name, recipient.clone()))
    });
    named.collect()
}

impl Signer {
    /// The epoch of `compartment` and its key, with a wrap for each of `members`; a new one if it is due.
    pub(super) fn epoch(
        &self,
        compartment: &Label,
        members: &Members,
        policy: &Policy,
        book: &Book,
        wanted: &Wanted<'_>,
    ) -> Result<(Epoch, Identity, Option<Begun>), SignedError> {
        let path = paths::epoch(compartment);
        let recovery = recovery(policy)?;
        let all: Members = members
            .iter()
            .chain(&recovery)
            .map(|(name, to)| (name.clone(), to.clone()))
            .collect();
        let before: Option<Epoch> = load(self.state.as_ref(), &path)?;
        let why = self.why_new(before.as_ref(), &all, &recovery, wanted);
        let (mut epoch, identity) = match (before, why) {
            (Some(epoch), None) => {
                let identity = self.epoch_identity(compartment, epoch.number)?;
                (epoch, identity)
            }
            (before, _) => {
                let floor = book.floors.get(compartment.as_str()).copied().unwrap_or(0);
                let last = before.map_or(0, |epoch| epoch.number).max(floor);
                let (number, identity) = self.new_identity(compartment, last)?;
                let epoch = Epoch {
                    number,
                    since: self.now(),
                    recovery: texts(&recovery),
                    asked: wanted.asked,
                    signed_by: wanted.ring.id(),
                    holders: BTreeMap::new(),
                };
                save(self.state.as_ref(), &path, &epoch)?;
                (epoch, identity)
            }
        };
        let wraps = self.wrap(compartment, &mut epoch, &identity, &all)?;
        let begun = why.map(|why| Begun {
            compartment: compartment.clone(),
            number: epoch.number,
            why,
            wraps,
        });
        Ok((epoch, identity, begun))
    }

    fn why_new(
        &self,
        epoch: Option<&Epoch>,
        all: &Members,
        recovery: &Members,
        wanted: &Wanted<'_>,
    ) -> Option<&'static str> {
        let Some(epoch) = epoch else {
            return Some("the first one");
        };
        let stranger = |name: &String| name.parse::<Label>().map_or(true, |name| !all.contains_key(&name));
        let days = i64::from(self.config.epoch_days);
        let end = epoch.since.checked_add(SignedDuration::from_hours(24 * days));
        let other_key = match epoch.signed_by.as_str() {
            "" => wanted.ring.is_successor(),
            key => key != wanted.ring.id(),
        };
        if wanted.by_hand {
            Some("asked for")
        } else if other_key {
            // Hosts that know the new key alone can check nothing that the one before signed.
            Some("the publisher has another key")
        } else if wanted.asked > epoch.asked {
            Some("an enroller asked for it")
        } else if epoch.recovery != texts(recovery) {
            Some("the policy has other recovery recipients")
        } else if epoch.holders.keys().any(stranger) {
            Some("a host is no longer in the compartment")
        } else if end.is_ok_and(|end| end <= self.now()) {
            Some("its time is over")
        } else {
            None
        }
    }

    /// A key for an epoch after `last`: the one that was made for it before something broke off, or a new one.
    fn new_identity(&self, compartment: &Label, last: u64) -> Result<(u64, Identity), SignedError> {
        let number = first_free(last + 1, |number| {
            let wraps = paths::wraps(compartment, number);
            let is_made = self.state.has(&paths::epoch_key(compartment, number))?;
            // Wraps of another key under this number: of a state that was lost.
            Ok((!is_made && self.tenant_folder.has_any(&wraps)?, wraps))
        })?;
        if self.state.has(&paths::epoch_key(compartment, number))? {
            return Ok((number, self.epoch_identity(compartment, number)?));
        }
        let identity = Identity::generate();
        let line = Zeroizing::new(format!("{}\n", identity.expose().as_str()));
        // Under its name before anything is wrapped or sealed with it.
        self.state
            .replace(&paths::epoch_key(compartment, number), line.as_bytes())?;
        Ok((number, identity))
    }

    fn epoch_identity(&self, compartment: &Label, number: u64) -> Result<Identity, SignedError> {
        let path = paths::epoch_key(compartment, number);
        let Some(bytes) = self.state.get(&path, 4096)? else {
            return Err(SignedError::damaged(path, "it is missing"));
        };
        let text =
            Secret::new(String::from_utf8(bytes).map_err(|_| SignedError::damaged(path.clone(), "it is no text"))?);
        Identity::parse(text.expose()).map_err(|error| SignedError::damaged(path, error))
    }

    /// Wraps the key for those who lack it; how many.
    fn wrap(
        &self,
        compartment: &Label,
        epoch: &mut Epoch,
        identity: &Identity,
        all: &Members,
    ) -> Result<usize, SignedError> {
        let lacking: Vec<(&Label, &Recipient)> = all
            .iter()
            .filter(|(name, _)| epoch.holders.get(name.as_str()) != Some(&true))
            .collect();
        if lacking.is_empty() {
            return Ok(0);
        }
        let path = paths::epoch(compartment);
        for (name, _) in &lacking {
            epoch.holders.insert(name.to_string(), false);
        }
        // Whoever may have read a wrap is known before it is there.
        save(self.state.as_ref(), &path, epoch)?;
        let key = Identity::parse(&identity.expose()).map_err(|error| SignedError::damaged(path.clone(), error))?;
        let wrap = Wrap {
            tenant: self.tenant,
            compartment: compartment.clone(),
            epoch: epoch.number,
            identity: key,
        };
        let mut files = Vec::with_capacity(lacking.len());
        for (name, recipient) in &lacking {
            files.push((paths::wrap(compartment, epoch.number, name), wrap.seal(recipient)?));
        }
        self.tenant_folder.create(&files)?;
        for (name, _) in &lacking {
            epoch.holders.insert(name.to_string(), true);
        }
        save(self.state.as_ref(), &path, epoch)?;
        Ok(lacking.len())
    }

    /// Forgets the keys of epochs before `number`: what is sealed to them is of no more use here.
    pub(super) fn forget_epochs(&self, compartment: &Label, number: u64) -> Result<(), SignedError> {
        let folder = paths::epoch_keys(compartment);
        for name in self.state.list(&folder)? {
            let old = name.strip_suffix(".age").and_then(|name| name.parse::<u64>().ok());
            if old.is_some_and(|old| old < number) {
                self.state.remove(&format!("{folder}/{name}"))?;
            }
        }
        Ok(())
    }

    /// The epoch that `compartment` is in, for people.
    pub(super) fn epoch_facts(&self, compartment: &Label) -> Result<Option<(u64, Timestamp, usize)>, SignedError> {
        let epoch: Option<Epoch> = load(self.state.as_ref(), &paths::epoch(compartment))?;
        Ok(epoch.map(|epoch| (epoch.number, epoch.since, epoch.holders.len())))
    }

    /// All compartments that ever had an epoch here.
    pub(super) fn known_compartments(&self) -> Result<BTreeSet<Label>, SignedError> {
        let names = self.state.list("epoch")?;
        let names = names.iter().filter_map(|name| name.strip_suffix(".json")?.parse().ok());
        Ok(names.collect())
    }
}

fn texts(members: &Members) -> Vec<String> {
    members
        .values()
        .map(|recipient| recipient.as_str().to_owned())
        .collect()
}
