//! Following the successions of a publisher's key, when a head bears a signature of one that is not known here.

use dirless_seal::trust::{MOST_SUCCESSIONS, Object, Policy, Publisher, Refusal, Succession};
use dirless_seal::{Label, Note};

use super::{Stop, Walker};

/// What succession is called in refusals.
const KIND: &str = "succession";

impl Walker<'_> {
    /// Accepts the successors of the key of `publisher`, as far as they go, if `head` speaks of another key than the known ones.
    ///
    /// # Errors
    /// When this host's own files fail. What is served in place of a succession is told, and the key that is known holds.
    pub(super) async fn successors(&mut self, policy: &Policy, publisher: &Label, head: &Note) -> Result<(), Stop> {
        let Some(publisher) = policy.publisher(publisher) else {
            return Ok(());
        };
        if !head.names_another(self.memory.keys(publisher)) {
            return Ok(());
        }
        for _ in 0..MOST_SUCCESSIONS {
            let next = self.memory.succession_of(publisher).map_or(1, |seen| seen.version + 1);
            let path = Succession::path(&publisher.key, next);
            match self.succession(policy, &path, next).await {
                Ok(true) => {}
                Ok(false) => return self.look_back(policy, publisher, head).await,
                Err(stop @ (Stop::Keeper(_) | Stop::Disk(..))) => return Err(stop),
                Err(stop) => {
                    self.walked.alarms.push(stop.alarm(path));
                    break;
                }
            }
        }
        Ok(())
    }

    /// Accepts the succession at `path`, the one of this version. False when there is none.
    async fn succession(&mut self, policy: &Policy, path: &str, version: u64) -> Result<bool, Stop> {
        let Some(note) = self.note(path, KIND, Succession::MOST).await? else {
            return Ok(false);
        };
        let mut memory = self.memory.clone();
        if memory.succession(policy, &note)?.version != version {
            return Err(Refusal::Mixed(KIND).into());
        }
        self.keeper.remember(&memory)?;
        *self.memory = memory;
        Ok(true)
    }

    /// Nobody whom this host knows signed `head`: is another succession shown than the one that was accepted?
    async fn look_back(&mut self, policy: &Policy, publisher: &Publisher, head: &Note) -> Result<(), Stop> {
        let Some(seen) = self.memory.succession_of(publisher) else {
            return Ok(());
        };
        if self.memory.keys(publisher).any(|key| head.is_signed_by(key)) {
            return Ok(());
        }
        let path = Succession::path(&publisher.key, seen.version);
        let refused = match self.note(&path, KIND, Succession::MOST).await? {
            Some(note) => self.memory.clone().succession(policy, &note).err(),
            None => None,
        };
        refused.map_or(Ok(()), |refusal| Err(refusal.into()))
    }
}
