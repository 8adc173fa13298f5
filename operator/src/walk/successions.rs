//! The successors of a publisher's key, from the one that the policy names.

use dirless_seal::trust::{MOST_SUCCESSIONS, Publisher, Refusal, Succession};

use super::{Problem, Walk};

impl Walk<'_> {
    /// Accepts them as far as they go.
    pub(super) fn successions(&mut self, publisher: &Publisher) -> Result<(), Problem> {
        const KIND: &str = "succession";
        for version in 1..=MOST_SUCCESSIONS {
            let path = Succession::path(&publisher.key, version);
            let Some((bytes, note)) = self.note_if_there::<Succession>(KIND, &path)? else {
                break;
            };
            let refused = |refusal| Problem::refused(&path, &refusal);
            let succession = self.memory.succession(&self.policy, &note).map_err(refused)?;
            if succession.version != version {
                return Err(refused(Refusal::Mixed(KIND)));
            }
            self.visitor.object(&path, &bytes)?;
            let (key, issued) = (&succession.key, succession.issued);
            let fact = format!("{}+{} since {issued}", key.name(), key.hash());
            self.visitor.tell(&path, fact);
        }
        Ok(())
    }
}
