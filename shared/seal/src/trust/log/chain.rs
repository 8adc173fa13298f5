//! The running hash of a log.

use super::tile::{LogFile, holders, split};
use super::{LONGEST_LOG, LONGEST_RECORD, TILE};
use crate::trust::Refusal;
use crate::{Digest, Digester};

/// A log up to a record: how many there are, and the hash over all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    /// How many records.
    pub length: u64,
    /// The manifest's digest without any; else SHA-256 of the hash before and the sealed record.
    pub hash: Digest,
}

impl Chain {
    /// That of the empty log of the manifest with this digest.
    #[must_use]
    pub fn of(manifest: Digest) -> Self {
        Self {
            length: 0,
            hash: manifest,
        }
    }

    /// One record on.
    #[must_use]
    pub fn then(self, sealed: &[u8]) -> Self {
        let mut digester = Digester::default();
        digester.update(self.hash.as_bytes());
        digester.update(sealed);
        Self {
            length: self.length + 1,
            hash: digester.finish(),
        }
    }
}

/// Follows a log record by record to what a head names.
#[derive(Clone, Debug)]
pub struct Follower {
    at: Chain,
    /// What was accepted before; it must lie on the way.
    known: Chain,
    wanted: Chain,
    bytes: u64,
    forked: bool,
}

impl Follower {
    /// From `from`, where the records before have `bytes`, by way of `known`, to `wanted`.
    #[must_use]
    pub fn new(from: Chain, bytes: u64, known: Chain, wanted: Chain) -> Self {
        Self {
            at: from,
            known,
            wanted,
            bytes,
            forked: false,
        }
    }

    /// How far it is.
    #[must_use]
    pub fn at(&self) -> Chain {
        self.at
    }

    /// How many records are still to come.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.wanted.length.saturating_sub(self.at.length)
    }

    /// How many bytes may still come.
    #[must_use]
    pub fn room(&self) -> u64 {
        LONGEST_LOG.saturating_sub(self.bytes)
    }

    /// The files that have the next record: the one to ask for first, and the other one, if there is another. None once
    /// nothing is left.
    pub fn files(&self) -> impl Iterator<Item = LogFile> + use<> {
        let left = self.left() > 0;
        holders(self.at.length, self.wanted.length).filter(move |_| left)
    }

    /// Takes what one of these files has from the next record on. `each` gets the records, and the running hash after each.
    ///
    /// # Errors
    /// When it is no such file, and as [`Follower::take`].
    pub fn take_file(
        &mut self,
        file: LogFile,
        bytes: &[u8],
        mut each: impl FnMut(&[u8], &Digest),
    ) -> Result<(), Refusal> {
        let records = match file {
            LogFile::Record(_) => vec![bytes],
            LogFile::Tile(_) => {
                let whole = split(bytes).ok().filter(|records| records.len() as u64 == TILE);
                let mut records = whole.ok_or(Refusal::Mixed("log"))?;
                // A tile is a few hundred records.
                records.drain(..usize::try_from(self.at.length % TILE).unwrap_or_default());
                records
            }
        };
        for record in records {
            self.take(record)?;
            each(record, &self.at.hash);
        }
        Ok(())
    }

    /// Takes the next record.
    ///
    /// # Errors
    /// When there are more or longer ones than there may be.
    pub fn take(&mut self, sealed: &[u8]) -> Result<(), Refusal> {
        if self.left() == 0 {
            return Err(Refusal::Mixed("log"));
        }
        if sealed.len() > LONGEST_RECORD || sealed.len() as u64 > self.room() {
            return Err(Refusal::Size {
                found: self.bytes.saturating_add(sealed.len() as u64),
                signed: LONGEST_LOG,
            });
        }
        self.at = self.at.then(sealed);
        self.bytes += sealed.len() as u64;
        self.forked |= self.at.length == self.known.length && self.at.hash != self.known.hash;
        Ok(())
    }

    /// Where the log ends.
    ///
    /// # Errors
    /// When that is not what the head names, or what was accepted before is not on the way to it.
    pub fn finish(self) -> Result<Chain, Refusal> {
        if self.at != self.wanted {
            return Err(Refusal::Mixed("log"));
        }
        if self.forked {
            // The publisher itself tells two stories.
            return Err(Refusal::Fork {
                kind: "log",
                version: self.known.length,
            });
        }
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tile::tile;
    use super::*;

    fn base() -> Chain {
        Chain::of(Digest::of(b"manifest"))
    }

    fn grown(records: &[&[u8]]) -> Chain {
        records.iter().fold(base(), |chain, record| chain.then(record))
    }

    fn follow(from: Chain, known: Chain, wanted: Chain, records: &[&[u8]]) -> Result<Chain, Refusal> {
        let mut follower = Follower::new(from, 0, known, wanted);
        for record in records {
            follower.take(record)?;
        }
        follower.finish()
    }

    #[test]
    fn only_the_very_records_lead_to_the_hash() {
        let wanted = grown(&[b"one", b"two", b"three"]);
        assert_eq!(wanted.length, 3);
        assert_eq!(follow(base(), base(), wanted, &[b"one", b"two", b"three"]), Ok(wanted));
        let mixed = Err(Refusal::Mixed("log"));
        for records in [
            &[b"one".as_slice(), b"two"] as &[&[u8]],
            &[b"one", b"two", b"thref"],
            &[b"two", b"one", b"three"],
            &[b"one", b"two", b"three", b"four"],
            &[b"onet", b"wo", b"three"],
            &[],
        ] {
            assert_eq!(follow(base(), base(), wanted, records), mixed, "{records:?}");
        }
        let at = grown(&[b"one"]);
        assert_eq!(follow(at, at, wanted, &[b"two", b"three"]), Ok(wanted));
        assert_eq!(follow(at, at, at, &[]), Ok(at));
    }

    #[test]
    fn what_was_accepted_lies_on_the_way() {
        let other = grown(&[b"one", b"2"]);
        let wanted = grown(&[b"one", b"two", b"three"]);
        let records: [&[u8]; 3] = [b"one", b"two", b"three"];
        let fork = Refusal::Fork {
            kind: "log",
            version: 2,
        };
        assert_eq!(follow(base(), other, wanted, &records), Err(fork));
        // Records that do not lead to the signed hash say nothing about the publisher.
        let mixed = Err(Refusal::Mixed("log"));
        assert_eq!(follow(base(), other, wanted, &[b"one", b"x", b"three"]), mixed);
    }

    #[test]
    fn a_log_is_taken_file_by_file_from_wherever_it_is_known() {
        let records: Vec<Vec<u8>> = (0..600_u64).map(|number| number.to_be_bytes().to_vec()).collect();
        let all: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
        let wanted = grown(&all);
        let served = |file: LogFile| match file {
            LogFile::Record(number) => all[usize::try_from(number).unwrap()].to_vec(),
            LogFile::Tile(number) => tile(all[usize::try_from(number * TILE).unwrap()..].iter().copied().take(256)),
        };
        // Those who have no tiles, and those who have no records that are in one.
        let all_files = |file: &LogFile| matches!(file, LogFile::Record(_) | LogFile::Tile(_));
        let no_tiles = |file: &LogFile| matches!(file, LogFile::Record(_));
        let no_doubles = |file: &LogFile| matches!(file, LogFile::Record(512..) | LogFile::Tile(_));
        let servers = [
            (Box::new(all_files) as Box<dyn Fn(&LogFile) -> bool>, 100),
            (Box::new(no_tiles), 600),
            (Box::new(no_doubles), 91),
        ];
        for (has, most) in servers {
            for known in [0, 1, 255, 256, 300, 511, 512, 600] {
                let from = grown(&all[..known]);
                let mut follower = Follower::new(from, 0, from, wanted);
                let (mut files, mut taken) = (0, known);
                while let Some(file) = follower.files().find(|file| has(file)) {
                    follower
                        .take_file(file, &served(file), |record, hash| {
                            taken += 1;
                            assert_eq!((record, *hash), (all[taken - 1], grown(&all[..taken]).hash));
                        })
                        .unwrap();
                    files += 1;
                }
                assert!(files <= most, "{files} files from {known}");
                assert_eq!((taken, follower.files().count()), (600, 0));
                assert_eq!(follower.finish(), Ok(wanted));
            }
        }
        let from = grown(&all[..10]);
        let mut follower = Follower::new(from, 0, from, wanted);
        for bad in [
            tile(all[..255].iter().copied()),
            tile(all[..257].iter().copied()),
            b"x".to_vec(),
        ] {
            assert_eq!(
                follower.take_file(LogFile::Tile(0), &bad, |_, _| ()),
                Err(Refusal::Mixed("log"))
            );
        }
    }

    #[test]
    fn a_log_has_its_bounds() {
        let mut follower = Follower::new(base(), LONGEST_LOG - 3, base(), Chain { length: 9, ..base() });
        assert_eq!((follower.room(), follower.left()), (3, 9));
        assert_eq!(follower.take(b"four").unwrap_err().code(), "body-size");
        follower.take(b"two").unwrap();
        assert_eq!((follower.room(), follower.left()), (0, 8));
        let mut follower = Follower::new(base(), 0, base(), Chain { length: 1, ..base() });
        let long = vec![0; LONGEST_RECORD + 1];
        assert_eq!(follower.take(&long).unwrap_err().code(), "body-size");
    }
}
