//! Giving the key a successor, step by step; each step looks at what is there.

use dirless_seal::trust::{MOST_SUCCESSIONS, Memory, Object, Policy, Publisher, Succession, print};
use dirless_seal::{Note, SigningKey, VerifyingKey};
use zeroize::Zeroizing;

use super::super::lists::key_id;
use super::super::{CustodyError, SignedError, Signer, paths};
use super::{Link, Ring, days_after, next_succession, secret};

/// Whether a successor is asked for, and what is in its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Renewal<'a> {
    pub(crate) by_hand: bool,
    /// Sources that are published and cannot be published anew.
    pub(crate) held: &'a [String],
}

impl Signer {
    /// Names a successor where one is due, finishes what broke off, and takes the key before out of use when its time is
    /// over. `held` is what could not be signed with a new key. The new key, when there is one.
    pub(crate) fn renew(
        &self,
        ring: &mut Ring,
        policy: &Policy,
        memory: &mut Memory,
        wanted: Renewal<'_>,
        problems: &mut Vec<String>,
    ) -> Result<Option<VerifyingKey>, SignedError> {
        let publisher = self.publisher_of(policy)?;
        self.drop_void(ring, &publisher.key)?;
        self.look_at_succession(ring, publisher, memory)?;
        if ring.line.links.last().is_none_or(|link| link.published) {
            match self.why_not(
                ring,
                memory.succession_of(publisher).map_or(0, |seen| seen.version),
                &wanted,
            ) {
                Ok(true) => self.name_successor(ring, publisher, memory)?,
                Ok(false) => {}
                Err(reason) if wanted.by_hand => return Err(SignedError::Nothing(reason)),
                Err(reason) => problems.push(reason),
            }
        }
        let renewed = self.publish_succession(ring, policy, memory)?;
        self.register(ring, problems)?;
        self.end_overlap(ring, problems)?;
        self.forget_keys(ring)?;
        Ok(renewed)
    }

    /// A succession that was never shown, for a key that the policy has replaced since.
    fn drop_void(&self, ring: &mut Ring, anchor: &VerifyingKey) -> Result<(), SignedError> {
        let last = ring.line.links.len().checked_sub(1);
        if last.is_some_and(|last| !ring.is_published(last) && !ring.is_of(last, anchor)) {
            ring.line.links.pop();
            ring.successions.pop();
            ring.held.pop();
            ring.save(self.state.as_ref())?;
        }
        Ok(())
    }

    /// Is there a succession that is not ours? Then somebody else has the key, or this state is older than the tenant folder.
    pub(crate) fn look_at_succession(
        &self,
        ring: &Ring,
        publisher: &Publisher,
        memory: &Memory,
    ) -> Result<(), SignedError> {
        let Some((path, note)) = next_succession(self.tenant_folder.as_ref(), publisher, memory)? else {
            return Ok(());
        };
        let ours = ring.line.links.last().filter(|link| !link.published);
        let ours = ours.and_then(|link| link.note().ok()).map(|note| note.digest());
        if ours == Some(note.digest()) {
            return Ok(());
        }
        let publisher = self.publisher().clone();
        Err(SignedError::Succeeded { path, publisher })
    }

    /// Is a successor due? Why it cannot be, if it is.
    fn why_not(&self, ring: &Ring, known: u64, wanted: &Renewal<'_>) -> Result<bool, String> {
        let now = self.now();
        let days = self.config.rotate_days;
        let end = ring.since().and_then(|since| days_after(since, days));
        let due = days > 0 && !self.handed_over && end.is_some_and(|end| end <= now);
        if !due && !wanted.by_hand {
            return Ok(false);
        }
        let publisher = self.publisher();
        if self.handed_over {
            return Err(format!(
                "the key of {publisher} is a service credential, which this program cannot replace: make another one elsewhere \
                 (dirless-syncer signing init {publisher}), hand it over, and let the policy name it (dirless publisher rotate)"
            ));
        }
        if let Some(until) = ring.overlap(self.config.overlap_days).filter(|until| now < *until) {
            return match wanted.by_hand {
                true => Err(format!(
                    "the key of {publisher} was replaced lately: the one before signs along until {until}"
                )),
                false => Ok(false),
            };
        }
        if known >= MOST_SUCCESSIONS {
            return Err(format!(
                "the key of {publisher} is successor {known} of the policy's, and there are no more numbers: let the policy name \
                 it (dirless publisher rotate), and they begin again"
            ));
        }
        if !wanted.held.is_empty() {
            let held = wanted.held.join(", ");
            return Err(format!(
                "the key of {publisher} gets no successor before {held} can be published anew: hosts could not check the old \
                 signatures"
            ));
        }
        Ok(true)
    }

    /// Makes the next key and the succession that names it. Both are on disk when this returns, and nobody has seen them.
    fn name_successor(&self, ring: &mut Ring, publisher: &Publisher, memory: &Memory) -> Result<(), SignedError> {
        let number = ring.line.links.len() + 1;
        let key = match secret(self.state.as_ref(), &ring.first, number)? {
            Some(key) => key,
            None => {
                let name = self.publisher().clone();
                let key = SigningKey::generate(name).map_err(|_| SignedError::Custody(CustodyError::Random))?;
                let line = Zeroizing::new(format!("{}\n", key.expose().as_str()));
                self.state
                    .replace(&paths::successor_key(&ring.first, number), line.as_bytes())?;
                key
            }
        };
        let seen = memory.succession_of(publisher);
        let succession = Succession {
            tenant: self.tenant,
            publisher: self.publisher().clone(),
            version: seen.map_or(1, |seen| seen.version + 1),
            previous: seen.map(|seen| seen.digest),
            issued: self.now(),
            anchor: publisher.key.clone(),
            key: key.verifying().clone(),
        };
        let text = print(&succession).map_err(SignedError::unwritable("succession"))?;
        let old = ring.held.get(ring.current).and_then(Option::as_ref);
        let keys: Vec<&SigningKey> = old.into_iter().chain([&key]).collect();
        let note = Note::sign(text, &keys).map_err(|error| SignedError::Unwritable {
            what: "succession",
            reason: error.to_string(),
        })?;
        ring.line.links.push(Link {
            note: note.to_string(),
            published: false,
            registered: false,
            alone: false,
        });
        ring.successions.push(succession);
        ring.held.push(Some(key));
        ring.save(self.state.as_ref())
    }

    /// Shows hosts the succession that they have not seen yet, if there is one. From then on its key is the current one.
    fn publish_succession(
        &self,
        ring: &mut Ring,
        policy: &Policy,
        memory: &mut Memory,
    ) -> Result<Option<VerifyingKey>, SignedError> {
        let Some(link) = ring.line.links.last_mut().filter(|link| !link.published) else {
            return Ok(None);
        };
        let Some(succession) = ring.successions.last() else {
            return Ok(None);
        };
        let path = Succession::path(&succession.anchor, succession.version);
        let damaged = |reason| SignedError::damaged(paths::line(&ring.first), reason);
        // What a host would refuse is never shown to one.
        let note = link.note().map_err(damaged)?;
        memory
            .succession(policy, &note)
            .map_err(SignedError::refused(path.clone()))?;
        let bytes = note.to_string().into_bytes();
        self.tenant_folder.create(&[(path.clone(), bytes.clone())])?;
        if self.tenant_folder.get(&path, 2 * Succession::MOST as u64)? != Some(bytes) {
            return Err(SignedError::Taken { path });
        }
        link.published = true;
        let (anchor, key) = (succession.anchor.clone(), succession.key.clone());
        ring.save(self.state.as_ref())?;
        let chosen = ring.choose(&anchor);
        chosen.ok_or_else(|| self.nobody(policy))?;
        Ok(Some(key))
    }

    /// Sees that backends know the current key, so that it can be asked with.
    fn register(&self, ring: &mut Ring, problems: &mut Vec<String>) -> Result<(), SignedError> {
        let Some(at) = ring
            .link()
            .filter(|at| ring.line.links.get(*at).is_some_and(|link| !link.registered))
        else {
            return Ok(());
        };
        if let (Some(registry), Some(key)) = (self.tenant_folder.registry(), ring.key(ring.current))
            && let Err(error) = registry.register_publisher(key)
        {
            // The key before is asked with as long as it takes.
            problems.push(format!(
                "the backend does not take {}, the new key of this publisher: {error}; `dirless policy push` registers it too",
                key_id(key)
            ));
            return Ok(());
        }
        if let Some(link) = ring.line.links.get_mut(at) {
            link.registered = true;
        }
        ring.save(self.state.as_ref())
    }

    /// Takes the key before out of use, once it signs along no more.
    fn end_overlap(&self, ring: &mut Ring, problems: &mut Vec<String>) -> Result<(), SignedError> {
        let over = ring
            .overlap(self.config.overlap_days)
            .is_some_and(|end| end <= self.now());
        let waits = |link: &&mut Link| over && link.registered && !link.alone;
        let Some(before) = ring.before else { return Ok(()) };
        let Some(id) = ring.key(before).map(key_id) else {
            return Ok(());
        };
        let Some(link) = ring.link().and_then(|at| ring.line.links.get_mut(at)).filter(waits) else {
            return Ok(());
        };
        if let Some(Err(error)) = self.tenant_folder.registry().map(|registry| registry.end_key(&id)) {
            problems.push(format!(
                "the backend still takes {id}, a key of this publisher that was replaced: {error}; `dirless policy push` ends it \
                 too"
            ));
            return Ok(());
        }
        link.alone = true;
        ring.save(self.state.as_ref())
    }

    /// Removes the secret halves of successors that sign no more.
    fn forget_keys(&self, ring: &Ring) -> Result<(), SignedError> {
        let over = ring
            .link()
            .and_then(|at| ring.line.links.get(at))
            .is_some_and(|link| link.alone);
        let stays = ring.before.filter(|_| !over);
        for at in (1..ring.current).filter(|at| Some(*at) != stays) {
            if ring.held.get(at).is_some_and(Option::is_some) {
                self.state.remove(&paths::successor_key(&ring.first, at))?;
            }
        }
        Ok(())
    }
}
