//! The log of changes beside a body, as this host keeps it.
//!
//! `X.log` begins with the digest of the manifest whose log it is; each record follows with its length in front, four bytes,
//! the highest first, and behind it the running hash. It is written on in place; `X.at` says how far it is to be
//! read: the manifest's digest, the number of records and the running hash after them. That is replaced whole, after the records
//! are on disk and the memory knows of them. What does not fit together counts as no log, and is fetched again.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use dirless_program::fs::{publish, remove, same};
use dirless_seal::Digest;
use dirless_seal::trust::log::{Chain, LONGEST_LOG, LONGEST_RECORD, MOST_RECORDS};

/// Bytes of a digest.
const DIGEST: usize = 32;
/// Longest file of records: each has its length and a hash beside it.
const LONGEST: u64 = LONGEST_LOG + MOST_RECORDS * (4 + DIGEST as u64);
/// Longest `X.at`.
const LONGEST_AT: u64 = 256;

/// The log beside a body.
#[derive(Clone, Debug)]
pub struct KeptLog {
    records: PathBuf,
    at: PathBuf,
    manifest: Digest,
    chain: Chain,
    /// Where the next record goes; 0 when there is no file to write on.
    end: u64,
    /// Bytes of the sealed records.
    bytes: u64,
}

/// Sealed records as they are written.
#[derive(Debug)]
pub(crate) struct Frames(Vec<u8>);

impl Frames {
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    /// Takes a record, after which the running hash is `hash`.
    pub(super) fn add(&mut self, sealed: &[u8], hash: &Digest) {
        let length = u32::try_from(sealed.len()).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(sealed);
        self.0.extend_from_slice(hash.as_bytes());
    }
}

/// The file of this kind beside the body at `body`: `X.log` of `X.sealed`, `X.good-log` of `X.good`.
fn beside(body: &Path, kind: &str) -> PathBuf {
    match body.extension().and_then(|extension| extension.to_str()) {
        None | Some("sealed") => body.with_extension(kind),
        Some(other) => body.with_extension(format!("{other}-{kind}")),
    }
}

impl KeptLog {
    /// The log of the manifest with this digest, beside the body at `body`; an empty one when there is none that fits.
    ///
    /// # Errors
    /// When a file is there and cannot be read.
    pub fn beside(body: &Path, manifest: Digest) -> io::Result<Self> {
        let mut log = Self {
            records: beside(body, "log"),
            at: beside(body, "at"),
            manifest,
            chain: Chain::of(manifest),
            end: 0,
            bytes: 0,
        };
        if let Some(chain) = noted(&log.at, manifest)? {
            let (mut end, mut bytes, mut hash) = (DIGEST as u64, 0, None);
            let count = log.each(chain.length, &mut |record, after| {
                end += (4 + record.len() + DIGEST) as u64;
                bytes += record.len() as u64;
                hash = Some(after);
            })?;
            if count == chain.length && hash == Some(chain.hash) {
                (log.chain, log.end, log.bytes) = (chain, end, bytes);
            }
        }
        Ok(log)
    }

    /// The file that says how far the log beside the body at `body` is to be read.
    pub(crate) fn note_beside(body: &Path) -> PathBuf {
        beside(body, "at")
    }

    /// What is noted of the log beside the body at `body`, whatever it says: another text, another log.
    pub(crate) fn told_beside(body: &Path) -> String {
        let file = File::open(beside(body, "at")).map(|file| file.take(LONGEST_AT));
        let mut text = Vec::new();
        // What cannot be read is told by whoever reads the log itself.
        let _ = file.and_then(|mut file| file.read_to_end(&mut text));
        String::from_utf8_lossy(&text).into_owned()
    }

    /// How far it goes.
    #[must_use]
    pub fn chain(&self) -> Chain {
        self.chain
    }

    /// How many bytes its sealed records have.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Its sealed records from number `from` on.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn records(&self, from: u64) -> io::Result<Vec<Vec<u8>>> {
        let (mut number, mut records) = (0, Vec::new());
        self.each(self.chain.length, &mut |record, _| {
            if number >= from {
                records.push(record.to_vec());
            }
            number += 1;
        })?;
        Ok(records)
    }

    /// Hands at most `most` records with the hash after each to `take`; how many there were.
    fn each(&self, most: u64, take: &mut dyn FnMut(&[u8], Digest)) -> io::Result<u64> {
        let file = match File::open(&self.records) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(LONGEST).read_to_end(&mut bytes)?;
        let Some(mut rest) = bytes.strip_prefix(self.manifest.as_bytes()) else {
            return Ok(0);
        };
        let mut count = 0;
        while count < most
            && let Some((record, hash, behind)) = frame(rest)
        {
            take(record, hash);
            (rest, count) = (behind, count + 1);
        }
        Ok(count)
    }

    /// Writes `frames` behind what is there; they are on disk when this returns, and not believed before
    /// [`KeptLog::note`].
    ///
    /// # Errors
    /// When the disk fails.
    pub(super) fn append(&self, frames: &Frames) -> io::Result<()> {
        if self.end == 0 {
            return self.replace(frames);
        }
        let mut file = File::options().write(true).open(&self.records)?;
        // Whatever an interrupted run left behind what was noted.
        file.set_len(self.end)?;
        file.seek(SeekFrom::Start(self.end))?;
        file.write_all(&frames.0)?;
        file.sync_all()
    }

    /// Writes `frames` in place of whatever there is: what was noted of the same log still holds.
    ///
    /// # Errors
    /// When the disk fails.
    pub(super) fn replace(&self, frames: &Frames) -> io::Result<()> {
        publish(
            &self.records,
            0o600,
            &[self.manifest.as_bytes(), frames.0.as_slice()].concat(),
        )
    }

    /// Notes that it is to be read as far as `chain` says.
    ///
    /// # Errors
    /// When the disk fails.
    pub(super) fn note(&self, chain: Chain) -> io::Result<()> {
        if chain.length == 0 {
            remove(&self.at)?;
            return remove(&self.records);
        }
        let text = format!("{} {} {}\n", self.manifest, chain.length, chain.hash);
        publish(&self.at, 0o600, text.as_bytes())
    }

    /// Gives the log beside the body at `from` to the body at `to` as well, as far as it goes now: `link` gives a file a second
    /// name.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn keep_beside(from: &Path, to: &Path, link: impl Fn(&Path, &Path) -> io::Result<()>) -> io::Result<()> {
        let noted = beside(from, "at");
        if !noted.exists() {
            return Self::remove_beside(to);
        }
        let (records, kept) = (beside(from, "log"), beside(to, "log"));
        // The same file is the same log, which only grows.
        if !same(&records, &kept) {
            // Nobody reads records of one log as far as another one goes.
            remove(&beside(to, "at"))?;
            link(&records, &kept)?;
        }
        link(&noted, &beside(to, "at"))
    }

    /// Removes the log beside the body at `body`, if there is one.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn remove_beside(body: &Path) -> io::Result<()> {
        remove(&beside(body, "at"))?;
        remove(&beside(body, "log"))
    }
}

/// How far the log of `manifest` is to be read, by the file at `path`; `None` when it says nothing of it.
fn noted(path: &Path, manifest: Digest) -> io::Result<Option<Chain>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    if file.take(LONGEST_AT).read_to_string(&mut text).is_err() {
        return Ok(None);
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    let [of, length, hash] = words.as_slice() else {
        return Ok(None);
    };
    let chain = || {
        Some(Chain {
            length: length.parse().ok()?,
            hash: hash.parse().ok()?,
        })
    };
    Ok(chain().filter(|_| of.parse() == Ok(manifest)))
}

/// The record that `bytes` begin with, the hash after it, and what follows.
fn frame(bytes: &[u8]) -> Option<(&[u8], Digest, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (record, rest) = rest.split_at_checked(length.min(LONGEST_RECORD + 1))?;
    let (hash, rest) = rest.split_first_chunk::<DIGEST>()?;
    Some((record, Digest::from_bytes(*hash), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Digest {
        Digest::of(b"manifest")
    }

    fn frames(from: Chain, records: &[&[u8]]) -> (Frames, Chain) {
        let (mut frames, mut chain) = (Frames::new(), from);
        for record in records {
            chain = chain.then(record);
            frames.add(record, &chain.hash);
        }
        (frames, chain)
    }

    fn grow(body: &Path, records: &[&[u8]]) -> Chain {
        let log = KeptLog::beside(body, manifest()).unwrap();
        let (frames, chain) = frames(log.chain(), records);
        log.append(&frames).unwrap();
        // Not noted yet: not there yet.
        assert_eq!(KeptLog::beside(body, manifest()).unwrap().chain(), log.chain());
        log.note(chain).unwrap();
        chain
    }

    #[test]
    fn it_grows_and_is_read_as_far_as_was_noted() {
        let folder = tempfile::tempdir().unwrap();
        let body = folder.path().join("a.b.sealed");
        let empty = KeptLog::beside(&body, manifest()).unwrap();
        assert_eq!((empty.chain(), empty.bytes()), (Chain::of(manifest()), 0));
        grow(&body, &[b"one", b"two"]);
        let chain = grow(&body, &[b"three"]);
        let log = KeptLog::beside(&body, manifest()).unwrap();
        assert_eq!((log.chain(), log.bytes()), (chain, 11));
        assert_eq!(log.records(1).unwrap(), [b"two".as_slice(), b"three"]);

        // What an interrupted run left is overwritten.
        let (left, _) = frames(chain, &[b"half of something longer"]);
        log.append(&left).unwrap();
        let chain = grow(&body, &[b"four"]);
        let log = KeptLog::beside(&body, manifest()).unwrap();
        assert_eq!((log.chain(), log.records(3).unwrap()), (chain, vec![b"four".to_vec()]));
        assert!(folder.path().join("a.b.log").exists() && folder.path().join("a.b.at").exists());
    }

    #[test]
    fn what_does_not_fit_together_is_no_log() {
        let spoil: [&dyn Fn(&Path); 6] = [
            &|folder| std::fs::write(folder.join("a.at"), "x").unwrap(),
            &|folder| std::fs::write(folder.join("a.at"), [255; 40]).unwrap(),
            &|folder| std::fs::remove_file(folder.join("a.log")).unwrap(),
            &|folder| {
                let bytes = std::fs::read(folder.join("a.log")).unwrap();
                std::fs::write(folder.join("a.log"), &bytes[..bytes.len() - 1]).unwrap();
            },
            &|folder| {
                let mut bytes = std::fs::read(folder.join("a.log")).unwrap();
                *bytes.last_mut().unwrap() ^= 1;
                std::fs::write(folder.join("a.log"), bytes).unwrap();
            },
            &|folder| {
                let mut bytes = std::fs::read(folder.join("a.log")).unwrap();
                bytes[32] = 255;
                std::fs::write(folder.join("a.log"), bytes).unwrap();
            },
        ];
        for (case, spoil) in spoil.iter().enumerate() {
            let folder = tempfile::tempdir().unwrap();
            let body = folder.path().join("a.sealed");
            grow(&body, &[b"one", b"two"]);
            spoil(folder.path());
            let log = KeptLog::beside(&body, manifest()).unwrap();
            assert_eq!(log.chain(), Chain::of(manifest()), "{case}");
            assert!(log.records(0).unwrap().is_empty());
        }
        let folder = tempfile::tempdir().unwrap();
        let body = folder.path().join("a.sealed");
        grow(&body, &[b"one"]);
        let other = Digest::of(b"another manifest");
        assert_eq!(KeptLog::beside(&body, other).unwrap().chain(), Chain::of(other));
    }

    #[test]
    fn a_copy_stays_as_far_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let (body, good) = (folder.path().join("a.sealed"), folder.path().join("a.good"));
        let link = |from: &Path, to: &Path| {
            remove(to)?;
            std::fs::hard_link(from, to)
        };
        let first = grow(&body, &[b"one"]);
        let log = KeptLog::beside(&body, manifest()).unwrap();
        assert_eq!(log.chain(), first);
        assert_ne!(KeptLog::told_beside(&body), KeptLog::told_beside(&good));
        KeptLog::keep_beside(&body, &good, link).unwrap();
        assert_eq!(KeptLog::told_beside(&body), KeptLog::told_beside(&good));
        grow(&body, &[b"two"]);
        assert_ne!(KeptLog::told_beside(&body), KeptLog::told_beside(&good));
        assert_eq!(KeptLog::beside(&good, manifest()).unwrap().chain(), first);
        KeptLog::remove_beside(&good).unwrap();
        assert_eq!(KeptLog::beside(&good, manifest()).unwrap().chain().length, 0);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]
        #[test]
        fn garbled_files_are_no_log_or_a_whole_one(
            at: usize, garbage in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..12), cut: usize, of_note: bool,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let body = folder.path().join("a.sealed");
            let chain = grow(&body, &[b"one", b"two", b"three"]);
            let path = folder.path().join(if of_note { "a.at" } else { "a.log" });
            let mut bytes = std::fs::read(&path).unwrap();
            let at = at % (bytes.len() + 1);
            let end = (at + cut % 8).min(bytes.len());
            bytes.splice(at..end, garbage);
            std::fs::write(&path, bytes).unwrap();
            let log = KeptLog::beside(&body, manifest()).unwrap();
            assert_eq!(log.records(0).unwrap().len() as u64, log.chain().length);
            assert!(log.chain().length <= chain.length);
        }
    }
}
