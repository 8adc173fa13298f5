//! Manifests and the sealed bodies that they name.

use std::io::{Read, Write};

use dirless_seal::trust::log::{Chain, Follower, LONGEST_RECORD, LONGEST_TILE, LogFile, Place, TILE, split};
use dirless_seal::trust::{Entry, Manifest, Refusal};
use dirless_seal::{Digest, Digester};

use super::{Problem, Walk, source};

/// Files by their paths.
type Files = Vec<(String, Vec<u8>)>;

impl Walk<'_> {
    pub(super) fn manifests(&mut self) -> Result<(), Problem> {
        let heads: Vec<_> = self.heads.iter().map(|current| current.head.clone()).collect();
        for head in &heads {
            for entry in &head.entries {
                let path = format!(
                    "manifest/{}/{}/{}/{}",
                    head.publisher, entry.source, entry.compartment, entry.version
                );
                let (bytes, note) = self.note::<Manifest>("manifest", &path)?;
                let refused = |refusal: Refusal| Problem::refused(&path, &refusal);
                let manifest = self.memory.look_at_manifest(&self.policy, head, &note);
                let manifest = manifest.map_err(refused)?;
                if manifest.source != entry.source || manifest.compartment != entry.compartment {
                    return Err(Problem::new(
                        "mixed",
                        &path,
                        "it is the manifest of another source or compartment",
                    ));
                }
                let place = Place::of(&manifest, note.digest());
                let (reached, files) = self.log(&place, entry)?;
                self.memory
                    .manifest_and_log(&self.policy, head, &note, reached)
                    .map_err(refused)?;
                self.body(&manifest)?;
                self.visitor.object(&path, &bytes)?;
                for (path, bytes) in &files {
                    self.visitor.object(path, bytes)?;
                }
                let mut fact = format!("epoch {}, {} bytes sealed", manifest.epoch, manifest.ciphertext_size);
                if reached.length > 0 {
                    fact.push_str(&format!(", a log of {} records", reached.length));
                }
                self.visitor.tell(&path, fact);
                self.manifests.push(manifest);
            }
        }
        Ok(())
    }

    /// Follows the log that `entry` names: where it ends, and its files.
    fn log(&mut self, place: &Place, entry: &Entry) -> Result<(Chain, Files), Problem> {
        let base = Chain::of(place.manifest);
        let mut follower = Follower::new(base, 0, base, entry.chain);
        let mut files = Vec::new();
        while follower.left() > 0 {
            let at = follower.at().length;
            let whole = at.is_multiple_of(TILE) && follower.left() >= TILE;
            let tile = place.path(LogFile::Tile(at / TILE));
            let found = if whole {
                source::read(self.source, &tile, LONGEST_TILE)?
            } else {
                None
            };
            let (path, bytes) = match found {
                Some(bytes) => {
                    let records = split(&bytes).ok().filter(|records| records.len() as u64 == TILE);
                    let records = records.ok_or_else(|| Problem::refused(&tile, &Refusal::Mixed("log")))?;
                    for record in records {
                        let taken = follower.take(record);
                        taken.map_err(|refusal| Problem::refused(&tile, &refusal))?;
                    }
                    (tile, bytes)
                }
                None => {
                    let path = place.path(LogFile::Record(at));
                    let record = source::read(self.source, &path, LONGEST_RECORD)?;
                    let record = record.ok_or_else(|| Problem::missing(&path))?;
                    let taken = follower.take(&record);
                    taken.map_err(|refusal| Problem::refused(&path, &refusal))?;
                    (path, record)
                }
            };
            files.push((path, bytes));
        }
        // Which of them is the wrong one nobody can tell.
        let last = files.last().map_or_else(|| place.folder(), |(path, _)| path.clone());
        let reached = follower.finish();
        let reached = reached.map_err(|refusal| Problem::refused(&last, &refusal))?;
        Ok((reached, files))
    }

    fn body(&mut self, manifest: &Manifest) -> Result<(), Problem> {
        let path = format!("blob/{}", manifest.ciphertext);
        if self.visitor.has_body(&path, manifest)? {
            return Ok(());
        }
        let mut reader = self.source.open(&path)?.ok_or_else(|| Problem::missing(&path))?;
        {
            let mut to = self.visitor.begin_body(&path)?;
            let (size, digest) = copy(&mut reader, &mut to, manifest.ciphertext_size)
                .map_err(|error| Problem::new("unreadable", &path, error))?;
            check(manifest, size, digest).map_err(|refusal| Problem::refused(&path, &refusal))?;
        }
        self.visitor.end_body(&path)
    }
}

/// Copies to the end, but no more than one byte over `most`; how much it was, and its digest.
pub(super) fn copy(from: &mut dyn Read, to: &mut dyn Write, most: u64) -> std::io::Result<(u64, Digest)> {
    let (mut size, mut digester, mut chunk) = (0, Digester::default(), vec![0; 1 << 16]);
    let mut from = from.take(most.saturating_add(1));
    loop {
        let count = from.read(&mut chunk)?;
        let Some(piece) = chunk.get(..count).filter(|piece| !piece.is_empty()) else {
            return Ok((size, digester.finish()));
        };
        digester.update(piece);
        to.write_all(piece)?;
        size += count as u64;
    }
}

fn check(manifest: &Manifest, size: u64, digest: Digest) -> Result<(), Refusal> {
    if size != manifest.ciphertext_size {
        return Err(Refusal::Size {
            found: size,
            signed: manifest.ciphertext_size,
        });
    }
    if digest != manifest.ciphertext {
        return Err(Refusal::Body);
    }
    Ok(())
}

/// Is what `from` holds the body of `manifest`?
pub(crate) fn is_body(from: &mut dyn Read, manifest: &Manifest) -> std::io::Result<bool> {
    let (size, digest) = copy(from, &mut std::io::sink(), manifest.ciphertext_size)?;
    Ok(check(manifest, size, digest).is_ok())
}
