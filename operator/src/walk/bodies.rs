//! Manifests and the sealed bodies that they name.

use std::io::{Read, Write};

use dirless_seal::trust::log::{Chain, Follower, LogFile, Place};
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
            let (file, bytes) = self.log_file(place, &follower)?;
            let path = place.path(file);
            let taken = follower.take_file(file, &bytes, |_, _| ());
            taken.map_err(|refusal| Problem::refused(&path, &refusal))?;
            files.push((path, bytes));
        }
        // Which of them is the wrong one nobody can tell.
        let last = files.last().map_or_else(|| place.folder(), |(path, _)| path.clone());
        let reached = follower.finish();
        let reached = reached.map_err(|refusal| Problem::refused(&last, &refusal))?;
        Ok((reached, files))
    }

    /// A file that has the next record.
    fn log_file(&mut self, place: &Place, follower: &Follower) -> Result<(LogFile, Vec<u8>), Problem> {
        for file in follower.files() {
            if let Some(bytes) = source::read(self.source, &place.path(file), file.longest())? {
                return Ok((file, bytes));
            }
        }
        let next = LogFile::Record(follower.at().length);
        Err(Problem::missing(&place.path(next)))
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
