//! Following a log: what a host lacks of it is fetched, and believed once it leads to what the head signs.

use std::path::Path;

use dirless_seal::trust::log::{Chain, Follower, LogFile, Place};
use dirless_seal::trust::{Entry, Head, Memory};

use super::super::SignedBody;
use super::super::log::{Frames, KeptLog};
use super::{Stop, Walker};

/// A log that was followed, and is not kept yet.
#[derive(Debug)]
pub(in crate::trust) struct Followed {
    pub(in crate::trust) reached: Chain,
    pub(in crate::trust) frames: Frames,
}

impl Walker<'_> {
    /// Brings the log beside the body at `target` to what `entry` names. False when it is there already.
    pub(super) async fn grow(
        &mut self,
        head: &Head,
        entry: &Entry,
        target: &Path,
        body: &SignedBody,
    ) -> Result<bool, Stop> {
        let disk = |error| Stop::Disk(target.to_owned(), error);
        let kept = KeptLog::beside(target, body.digest).map_err(disk)?;
        if kept.chain() == entry.chain {
            return Ok(false);
        }
        let place = Place::of(&body.manifest, body.digest);
        let known = self.memory.chain(&head.publisher, entry);
        let known = known.unwrap_or_else(|| Chain::of(body.digest));
        let more = self
            .follow(&place, kept.chain(), kept.bytes(), known, entry.chain)
            .await;
        match more {
            Ok(followed) => {
                kept.append(&followed.frames).map_err(disk)?;
                self.accept(head, entry, followed.reached)?;
            }
            // Whoever serves it cannot be reached, or this host cannot write: the rest of it is no better.
            Err(stop @ (Stop::Files(_) | Stop::Disk(..) | Stop::Keeper(_))) => return Err(stop),
            // What is here and what is served do not go together: from its first record on, then.
            Err(_) => {
                let followed = self
                    .follow(&place, Chain::of(body.digest), 0, known, entry.chain)
                    .await?;
                kept.replace(&followed.frames).map_err(disk)?;
                self.accept(head, entry, followed.reached)?;
            }
        }
        kept.note(entry.chain).map_err(disk)?;
        Ok(true)
    }

    /// The memory before anything is read that far.
    fn accept(&mut self, head: &Head, entry: &Entry, reached: Chain) -> Result<(), Stop> {
        let mut memory: Memory = self.memory.clone();
        memory.log(head, entry, reached)?;
        self.keeper.remember(&memory)?;
        *self.memory = memory;
        Ok(())
    }

    /// Fetches the log at `place` from `from` on, where it has `bytes` already, up to `wanted`.
    pub(super) async fn follow(
        &self,
        place: &Place,
        from: Chain,
        bytes: u64,
        known: Chain,
        wanted: Chain,
    ) -> Result<Followed, Stop> {
        let mut follower = Follower::new(from, bytes, known, wanted);
        let mut frames = Frames::new();
        while follower.left() > 0 {
            let (file, bytes) = self.log_file(place, follower.files()).await?;
            follower.take_file(file, bytes.as_ref(), |record, hash| frames.add(record, hash))?;
        }
        let reached = follower.finish()?;
        Ok(Followed { reached, frames })
    }

    /// The first of these files that is there.
    async fn log_file(
        &self,
        place: &Place,
        files: impl Iterator<Item = LogFile>,
    ) -> Result<(LogFile, impl AsRef<[u8]>), Stop> {
        let mut missing = place.folder();
        for file in files {
            let path = place.path(file);
            if let Some(bytes) = self.files.get(&path, file.longest()).await? {
                return Ok((file, bytes));
            }
            if matches!(file, LogFile::Record(_)) {
                missing = path;
            }
        }
        Err(Stop::Missing(missing))
    }
}
