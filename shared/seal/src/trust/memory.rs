//! What a host remembers of what it accepted, and the checks that follow from it.
//!
//! The order is: policies, head with its lease, manifest, body, key, content. Each step takes the result of the
//! one before, so that none can be left out. A step changes the memory only when it accepts; the caller writes
//! the memory durably before it publishes anything.

use std::collections::BTreeSet;
use std::fmt;

use jiff::{SignedDuration, Timestamp};

use super::known::{self, Anchors, Followed, Known};
use super::log::Chain;
use super::succession::Lineage;
use super::text::{Fields, FormatError, Lines, Object, parse};
use super::{Entry, FORMAT, Head, LARGEST_STEP, Manifest, Policy, Publisher, Refusal, Succession};
use crate::{Digest, Label, Note, VerifyingKey};

/// How far a publisher's clock may be ahead of a host's before a head counts as coming from the future.
const SKEW: SignedDuration = SignedDuration::from_mins(10);

/// A version that was accepted, and what it held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The version.
    pub version: u64,
    /// Digest of the object.
    pub digest: Digest,
}

impl Seen {
    pub(super) fn read(
        fields: &Fields<'_>,
        name: &'static str,
        [version, digest]: [&str; 2],
    ) -> Result<Self, FormatError> {
        let version = fields.convert(name, version)?;
        Ok(Self {
            version: fields.check_version(name, version)?,
            digest: fields.convert(name, digest)?,
        })
    }

    /// May an object follow this one?
    pub(super) fn check(seen: Option<Self>, kind: &'static str, found: Self) -> Result<(), Refusal> {
        let before = seen.map_or(0, |seen| seen.version);
        match seen {
            Some(seen) if found.version < seen.version => Err(Refusal::Rollback {
                kind,
                found: found.version,
                seen: seen.version,
            }),
            Some(seen) if found.version == seen.version && found.digest != seen.digest => Err(Refusal::Fork {
                kind,
                version: found.version,
            }),
            _ if found.version - before > LARGEST_STEP => Err(Refusal::Leap {
                kind,
                found: found.version,
                seen: before,
            }),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.version, self.digest)
    }
}

/// How far a head can be relied on now.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Within its lease.
    Fresh,
    /// Nothing newer came for too long: serve on, raise an alarm.
    Stale,
    /// The lease has run out: do what the compartment says.
    Expired,
    /// The host's clock is behind the last signed time by more than the skew allowed, so that nobody can tell:
    /// serve on, raise an alarm for the clock.
    ClockBehind,
}

/// What a host accepted so far. Its text is kept in a file of its own, apart from the data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// The tenant it joined.
    tenant: Digest,
    /// The roots it was given then.
    roots: Digest,
    policy: Option<Seen>,
    /// Of each publisher under the key that the policy names, and what came of keys that it named before.
    known: Anchors,
}

impl Memory {
    /// That of a host that just joined and knows nothing but these.
    #[must_use]
    pub fn pinned(tenant: Digest, roots: Digest) -> Self {
        Self {
            tenant,
            roots,
            policy: None,
            known: Anchors::new(),
        }
    }

    /// The tenant.
    #[must_use]
    pub fn tenant(&self) -> Digest {
        self.tenant
    }

    /// Fingerprint of the roots that the host was given when it joined.
    #[must_use]
    pub fn roots(&self) -> Digest {
        self.roots
    }

    /// The policy that was accepted last.
    #[must_use]
    pub fn policy(&self) -> Option<Seen> {
        self.policy
    }

    /// The head that was accepted last of each publisher whom the policy names.
    pub fn heads(&self) -> impl Iterator<Item = (&Label, Seen)> {
        let named = self.known.iter().filter(|(_, known)| known.is_named);
        named.filter_map(|(anchor, known)| Some((anchor.name(), known.head?.0)))
    }

    /// Was a head with this digest the last one of `publisher`, under whatever key the policy named?
    #[must_use]
    pub fn was_head(&self, publisher: &Label, digest: Digest) -> bool {
        let own = self.known.iter().filter(|(anchor, _)| anchor.name() == publisher);
        own.filter_map(|(_, known)| known.head)
            .any(|(seen, _)| seen.digest == digest)
    }

    /// The sources of which anything was ever accepted.
    #[must_use]
    pub fn sources(&self) -> BTreeSet<Label> {
        let places = self.known.values().flat_map(|known| known.manifests.keys());
        places.map(|(source, _)| source.clone()).collect()
    }

    /// Accepts `note` as the policy after `current`, the one accepted last; the first one when there is none.
    ///
    /// # Errors
    /// When it is not signed by enough roots, of the policy before as well as its own, or does not follow.
    pub fn policy_after(&mut self, current: Option<&Policy>, note: &Note) -> Result<Policy, Refusal> {
        const KIND: &str = "policy";
        let policy: Policy = parse(note).map_err(|error| Refusal::Malformed(KIND, error))?;
        let found = Seen {
            version: policy.version,
            digest: note.digest(),
        };
        if policy.tenant != self.tenant {
            return Err(Refusal::OtherTenant(KIND));
        }
        if !policy.is_signed(note) {
            return Err(Refusal::Forged(KIND));
        }
        Seen::check(self.policy, KIND, found)?;
        if self.policy != Some(found) {
            match current {
                None if self.policy.is_some() => return Err(Refusal::Chain(KIND)),
                None if policy.fingerprint() != self.roots => return Err(Refusal::OtherRoots),
                None => {}
                Some(current) => {
                    if note.signers(&current.roots).len() < current.threshold {
                        return Err(Refusal::Forged(KIND));
                    }
                    let known = self.policy.filter(|seen| seen.version == current.version);
                    if policy.version != current.version + 1 || policy.previous != known.map(|seen| seen.digest) {
                        return Err(Refusal::Chain(KIND));
                    }
                }
            }
        }
        if policy.format > FORMAT {
            return Err(Refusal::FormatTooNew { wanted: policy.format });
        }
        if self.policy != Some(found) {
            self.policy = Some(found);
            self.take_names(&policy);
        }
        Ok(policy)
    }

    /// Follows whom the policy names. Under a new key a publisher begins anew: whatever a thief of the one before signed
    /// does not stand in its way. A key that came from the one before goes on where that was; and should the policy
    /// name an old key once more, what was accepted under it has not been forgotten.
    fn take_names(&mut self, policy: &Policy) {
        for Publisher { key, .. } in &policy.publishers {
            if !self.known.contains_key(key) {
                let mut named = self.known.values().filter(|known| known.is_named);
                let from = named.find(|known| known.lineage.keys().any(|own| own == key));
                let known = from.map_or_else(|| Known::of(key.clone()), |from| from.renamed(key.clone()));
                self.known.insert(key.clone(), known);
            }
        }
        for (anchor, known) in &mut self.known {
            known.is_named = policy.publishers.iter().any(|publisher| publisher.key == *anchor);
        }
        self.known
            .retain(|anchor, known| known.is_named || *known != Known::former(anchor.clone()));
    }

    /// What is known of `publisher` of the policy.
    fn known_mut(&mut self, publisher: &Publisher) -> &mut Known {
        let anchor = &publisher.key;
        self.known
            .entry(anchor.clone())
            .or_insert_with(|| Known::of(anchor.clone()))
    }

    /// What is known of the publisher of this name whom the policy names.
    fn named(&self, publisher: &Label) -> Option<&Known> {
        let mut named = self.known.iter().filter(|(_, known)| known.is_named);
        named.find_map(|(anchor, known)| (anchor.name() == publisher).then_some(known))
    }

    /// The key of `publisher`: the one that the policy names, or its last successor.
    #[must_use]
    pub fn key<'k>(&'k self, publisher: &'k Publisher) -> &'k VerifyingKey {
        self.lineage(publisher).map_or(&publisher.key, Lineage::key)
    }

    /// The key that the policy names and its successors, the oldest first. Only the last of them is believed.
    pub fn keys<'k>(&'k self, publisher: &'k Publisher) -> impl Iterator<Item = &'k VerifyingKey> {
        let lineage = self.lineage(publisher);
        let alone = lineage.is_none().then_some(&publisher.key);
        alone.into_iter().chain(lineage.into_iter().flat_map(Lineage::keys))
    }

    /// The succession of `publisher` that was accepted last.
    #[must_use]
    pub fn succession_of(&self, publisher: &Publisher) -> Option<Seen> {
        self.lineage(publisher).and_then(Lineage::seen)
    }

    fn lineage(&self, publisher: &Publisher) -> Option<&Lineage> {
        self.known.get(&publisher.key).map(|known| &known.lineage)
    }

    /// Accepts `note` as the succession after the one that was accepted last, or as the first.
    ///
    /// # Errors
    /// When it is not signed by the key before and by the new one, or does not follow.
    pub fn succession(&mut self, policy: &Policy, note: &Note) -> Result<Succession, Refusal> {
        const KIND: &str = "succession";
        let succession: Succession = parse(note).map_err(|error| Refusal::Malformed(KIND, error))?;
        if succession.tenant != self.tenant {
            return Err(Refusal::OtherTenant(KIND));
        }
        let publisher = policy.publisher(&succession.publisher);
        let publisher = publisher.filter(|publisher| publisher.key == succession.anchor);
        let publisher = publisher.ok_or(Refusal::Forged(KIND))?;
        let found = Seen {
            version: succession.version,
            digest: note.digest(),
        };
        let seen = self.succession_of(publisher);
        Seen::check(seen, KIND, found)?;
        if seen == Some(found) {
            return Ok(succession);
        }
        let next = seen.map_or(1, |seen| seen.version + 1);
        if succession.version != next || succession.previous != seen.map(|seen| seen.digest) {
            return Err(Refusal::Chain(KIND));
        }
        if !note.is_signed_by(self.key(publisher)) || !note.is_signed_by(&succession.key) {
            return Err(Refusal::Forged(KIND));
        }
        // Whoever stole a key that was replaced does not get it back by a new name.
        if self.keys(publisher).any(|key| *key == succession.key) {
            return Err(Refusal::Chain(KIND));
        }
        let known = self.known_mut(publisher);
        known.lineage.add(succession.key.clone(), found);
        Ok(succession)
    }

    /// Accepts `note` as a publisher's current head under `policy`, and says how far it can be relied on.
    ///
    /// # Errors
    /// When it is forged, older than another, or says what its publisher may not say.
    pub fn head(&mut self, policy: &Policy, note: &Note, now: Timestamp) -> Result<(Head, Freshness), Refusal> {
        const KIND: &str = "head";
        let head: Head = parse(note).map_err(|error| Refusal::Malformed(KIND, error))?;
        if head.tenant != self.tenant {
            return Err(Refusal::OtherTenant(KIND));
        }
        let publisher = policy.publisher(&head.publisher).ok_or(Refusal::Forged(KIND))?;
        let found = Seen {
            version: head.version,
            digest: note.digest(),
        };
        let known = self.known.get(&publisher.key).and_then(|known| known.head);
        let latest = known.map_or(head.issued, |(_, latest)| latest.max(head.issued));
        let known = known.map(|(seen, _)| seen);
        // What was accepted already counts on when its key has a successor.
        let counts = known == Some(found) && self.keys(publisher).any(|key| note.is_signed_by(key));
        if !counts && !note.is_signed_by(self.key(publisher)) {
            return Err(Refusal::Forged(KIND));
        }
        if head.policy > policy.version {
            return Err(Refusal::Withheld {
                wanted: head.policy,
                known: policy.version,
            });
        }
        if head.lease.expires > policy.lease {
            return Err(Refusal::Lease {
                found: head.lease.expires,
                allowed: policy.lease,
            });
        }
        if let Some(entry) = head
            .entries
            .iter()
            .find(|entry| !publisher.scope.covers_source(&entry.source))
        {
            return Err(Refusal::Scope {
                publisher: head.publisher.clone(),
                what: format!("source {}", entry.source),
            });
        }
        Seen::check(known, KIND, found)?;
        self.known_mut(publisher).head = Some((found, latest));
        let freshness = self.freshness(&head, now);
        Ok((head, freshness))
    }

    /// How far `head` can be relied on at `now`, by a clock that may be wrong: it is never earlier than what this publisher
    /// signed already. What others sign says nothing here: each of them could end everybody's leases.
    pub fn freshness(&self, head: &Head, now: Timestamp) -> Freshness {
        let latest = self.named(&head.publisher).and_then(|known| known.head);
        let signed = latest.map_or(head.issued, |(_, latest)| latest.max(head.issued));
        let behind = now.checked_add(SKEW).is_ok_and(|ahead| ahead < signed);
        match now.max(signed) {
            at if at > head.expires_at() => Freshness::Expired,
            at if at > head.stale_at() => Freshness::Stale,
            _ if behind => Freshness::ClockBehind,
            _ => Freshness::Fresh,
        }
    }

    /// May `head` name `entry` after what was accepted? Nothing needs to be fetched to see that it may not.
    ///
    /// # Errors
    /// When its version or its log goes back, or is another one.
    pub fn check_entry(&self, head: &Head, entry: &Entry) -> Result<(), Refusal> {
        let known = self.followed(&head.publisher, entry);
        known.map_or(Ok(()), |known| known.check(entry.version, entry.chain))
    }

    /// How far the log of the manifest that `entry` of `publisher` names was followed; `None` when it is another manifest.
    #[must_use]
    pub fn chain(&self, publisher: &Label, entry: &Entry) -> Option<Chain> {
        let known = self.followed(publisher, entry)?;
        (known.manifest.version == entry.version).then_some(known.chain)
    }

    /// Digest of the manifest that was accepted last, if it is of the version that `entry` of `publisher` names.
    #[must_use]
    pub fn manifest_digest(&self, publisher: &Label, entry: &Entry) -> Option<Digest> {
        let known = self.followed(publisher, entry)?;
        (known.manifest.version == entry.version).then_some(known.manifest.digest)
    }

    fn followed(&self, publisher: &Label, entry: &Entry) -> Option<&Followed> {
        let place = (entry.source.clone(), entry.compartment.clone());
        self.named(publisher)?.manifests.get(&place)
    }

    /// Accepts `note` as the manifest that `head` names without a log.
    ///
    /// # Errors
    /// When it is another one, forged, or older than one accepted before.
    pub fn manifest(&mut self, policy: &Policy, head: &Head, note: &Note) -> Result<Manifest, Refusal> {
        self.manifest_and_log(policy, head, note, Chain::of(note.digest()))
    }

    /// Accepts `note` as the manifest whose log `head` names, and the log, which was followed to `reached`.
    ///
    /// # Errors
    /// When either is another one, forged, or older than one accepted before.
    pub fn manifest_and_log(
        &mut self,
        policy: &Policy,
        head: &Head,
        note: &Note,
        reached: Chain,
    ) -> Result<Manifest, Refusal> {
        let manifest = self.look_at_manifest(policy, head, note)?;
        let place = (manifest.source.clone(), manifest.compartment.clone());
        let named = head.entry(&manifest.source, &manifest.compartment);
        if named.is_none_or(|entry| entry.chain != reached) {
            return Err(Refusal::Mixed(if reached.length == 0 { "manifest" } else { "log" }));
        }
        let followed = Followed {
            manifest: Seen {
                version: manifest.version,
                digest: note.digest(),
            },
            chain: reached,
        };
        let publisher = policy.publisher(&head.publisher).ok_or(Refusal::Forged("manifest"))?;
        let known = self.known_mut(publisher);
        known.manifests.insert(place, followed);
        known.epochs.insert(manifest.compartment.clone(), manifest.epoch);
        Ok(manifest)
    }

    /// Accepts that the log of the manifest that was accepted last was followed to what `entry` of `head` names.
    ///
    /// # Errors
    /// When it is another manifest, goes back, or the log is another one.
    pub fn log(&mut self, head: &Head, entry: &Entry, reached: Chain) -> Result<(), Refusal> {
        self.check_entry(head, entry)?;
        let place = (entry.source.clone(), entry.compartment.clone());
        let mut all = self.known.iter_mut();
        let known = all.find(|(anchor, known)| known.is_named && *anchor.name() == head.publisher);
        match known.and_then(|(_, known)| known.manifests.get_mut(&place)) {
            Some(followed) if followed.manifest.version == entry.version && reached == entry.chain => {
                followed.chain = reached;
                Ok(())
            }
            _ => Err(Refusal::Mixed("log")),
        }
    }

    /// Checks `note` as the manifest that `head` names, in all but its log: with a log it is the very one only once the log
    /// was followed ([`Memory::manifest_and_log`]).
    ///
    /// # Errors
    /// When it is another one, forged, or older than one accepted before.
    pub fn look_at_manifest(&self, policy: &Policy, head: &Head, note: &Note) -> Result<Manifest, Refusal> {
        const KIND: &str = "manifest";
        let manifest: Manifest = parse(note).map_err(|error| Refusal::Malformed(KIND, error))?;
        if manifest.tenant != self.tenant {
            return Err(Refusal::OtherTenant(KIND));
        }
        let found = Seen {
            version: manifest.version,
            digest: note.digest(),
        };
        let named = head.entry(&manifest.source, &manifest.compartment);
        let other = |entry: &Entry| {
            let plain = entry.chain.length == 0;
            entry.version != found.version || (plain && entry.chain.hash != found.digest)
        };
        if named.is_none_or(other) {
            return Err(Refusal::Mixed(KIND));
        }
        let publisher = policy.publisher(&head.publisher).ok_or(Refusal::Forged(KIND))?;
        if manifest.publisher != head.publisher || !note.is_signed_by(self.key(publisher)) {
            return Err(Refusal::Forged(KIND));
        }
        if !publisher.scope.covers_source(&manifest.source) {
            return Err(Refusal::Scope {
                publisher: head.publisher.clone(),
                what: format!("source {}", manifest.source),
            });
        }
        let known = named.and_then(|entry| self.followed(&manifest.publisher, entry));
        let seen = known.map(|known| known.manifest);
        Seen::check(seen, KIND, found)?;
        if let (Some(known), Some(entry)) = (known, named) {
            known.check(entry.version, entry.chain)?;
        }
        // The link can be followed only when nothing lies in between.
        if seen.is_some_and(|seen| seen.version + 1 == found.version && manifest.previous != Some(seen.digest)) {
            return Err(Refusal::Chain(KIND));
        }
        let known = self.known.get(&publisher.key);
        let epoch = known.and_then(|known| known.epochs.get(&manifest.compartment).copied());
        let epoch = epoch.unwrap_or_default();
        if manifest.epoch < epoch {
            return Err(Refusal::Rollback {
                kind: "epoch",
                found: manifest.epoch,
                seen: epoch,
            });
        }
        Ok(manifest)
    }
}

impl Object for Memory {
    const CONTEXT: &'static str = "dirless/memory/v2";
    const MOST: usize = 8 << 20;

    fn read(fields: &mut Fields<'_>) -> Result<Self, FormatError> {
        let (tenant, roots) = (fields.value("tenant")?, fields.value("roots")?);
        let policy = match fields.text("policy")? {
            "-" => None,
            text => Some(Seen::read(fields, "policy", fields.words("policy", text)?)?),
        };
        Ok(Self {
            policy,
            known: known::read(fields)?,
            ..Self::pinned(tenant, roots)
        })
    }

    fn write(&self, lines: &mut Lines) {
        lines.line("tenant", self.tenant);
        lines.line("roots", self.roots);
        lines.optional("policy", self.policy);
        known::write(&self.known, lines);
    }
}
