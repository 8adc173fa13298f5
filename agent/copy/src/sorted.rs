//! Terms of a first generation, sorted outside memory: they are inserted in the order of the index, which
//! takes a fraction of what inserting them as they come takes.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes that are sorted in memory at once.
const RUN: usize = 1 << 20;
/// Bytes that are written at once.
const PIECE: usize = 64 << 10;
/// Bytes that are read ahead of each run.
const AHEAD: usize = 32 << 10;
/// Bytes around a key: its length, the attribute before it and the entry after it.
const AROUND: usize = 1 + 4 + 8;

/// A term: attribute, key, entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Term<'a> {
    pub(crate) attribute: u32,
    pub(crate) key: &'a [u8],
    pub(crate) entry: i64,
}

/// Collects terms and gives them back in order, each once.
pub(crate) struct Sorter {
    /// Runs that are sorted, one after the other. The file has no name.
    file: File,
    runs: Vec<(u64, u64)>,
    written: u64,
    bytes: Vec<u8>,
    /// What settles most comparisons, and where the record begins.
    starts: Vec<(u64, u32)>,
}

impl Sorter {
    /// `beside` names a file next to which there is room; nothing is left there.
    pub(crate) fn new(beside: &Path) -> io::Result<Self> {
        let mut name = beside.as_os_str().to_owned();
        name.push(".terms");
        let path = Path::new(&name);
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = File::options().read(true).write(true).create_new(true).open(path)?;
        std::fs::remove_file(path)?;
        Ok(Self {
            file,
            runs: Vec::new(),
            written: 0,
            bytes: Vec::new(),
            starts: Vec::new(),
        })
    }

    /// Adds a term, whose key is at most 255 bytes long.
    pub(crate) fn push(&mut self, term: Term<'_>) -> io::Result<()> {
        if self.bytes.len() + AROUND + term.key.len() > RUN {
            self.spill()?;
        }
        let length = u8::try_from(term.key.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let start = u32::try_from(self.bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.starts.push((beginning(term), start));
        self.bytes.push(length);
        self.bytes.extend_from_slice(&term.attribute.to_be_bytes());
        self.bytes.extend_from_slice(term.key);
        self.bytes.extend_from_slice(&term.entry.to_be_bytes());
        Ok(())
    }

    /// Sorts what is in memory and writes it away.
    fn spill(&mut self) -> io::Result<()> {
        let bytes = &self.bytes;
        let at = |start: u32| bytes.get(start as usize..).unwrap_or_default();
        self.starts.sort_unstable_by(|(first, one), (second, other)| {
            first
                .cmp(second)
                .then_with(|| order(record(at(*one)), record(at(*other))))
        });
        let start = self.written;
        let mut piece = Vec::with_capacity(PIECE + 256);
        for (number, (_, start)) in self.starts.iter().enumerate() {
            piece.extend_from_slice(record(at(*start)));
            if piece.len() >= PIECE || number + 1 == self.starts.len() {
                self.file.write_all_at(&piece, self.written)?;
                self.written += piece.len() as u64;
                piece.clear();
            }
        }
        self.runs.push((start, self.written));
        self.bytes.clear();
        self.starts.clear();
        Ok(())
    }

    /// Shows every term once, in order.
    pub(crate) fn finish<E: From<io::Error>>(
        mut self,
        mut visit: impl FnMut(Term<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.spill()?;
        (self.bytes, self.starts) = (Vec::new(), Vec::new());
        let mut heap = BinaryHeap::new();
        for (start, end) in &self.runs {
            let mut run = Run {
                at: *start,
                end: *end,
                held: Vec::new(),
                from: 0,
            };
            if run.fill(&self.file)? {
                heap.push(Reverse(run));
            }
        }
        let mut last: Vec<u8> = Vec::new();
        while let Some(Reverse(mut run)) = heap.pop() {
            let next = run.record();
            if last != next {
                last.clear();
                last.extend_from_slice(next);
                if let Some(term) = term(next) {
                    visit(term)?;
                }
            }
            run.from += next.len();
            if run.fill(&self.file)? {
                heap.push(Reverse(run));
            }
        }
        Ok(())
    }
}

/// The record at the start of `bytes`.
fn record(bytes: &[u8]) -> &[u8] {
    let length = bytes.first().map_or(0, |length| usize::from(*length) + AROUND);
    bytes.get(..length).unwrap_or(bytes)
}

fn term(record: &[u8]) -> Option<Term<'_>> {
    let (_, rest) = record.split_first()?;
    let (attribute, rest) = rest.split_first_chunk()?;
    let (key, entry) = rest.split_last_chunk()?;
    Some(Term {
        attribute: u32::from_be_bytes(*attribute),
        key,
        entry: i64::from_be_bytes(*entry),
    })
}

/// The attribute and the first bytes of the key as a number: of two that differ, the lesser one belongs to the term that
/// comes first.
fn beginning(term: Term<'_>) -> u64 {
    let attribute = u64::from(term.attribute.min(0xffff));
    let key = (0..6).map(|at| u64::from(term.key.get(at).copied().unwrap_or(0)));
    key.fold(attribute, |beginning, byte| beginning << 8 | byte)
}

/// As the index sorts them: attribute, key, entry.
fn order(one: &[u8], other: &[u8]) -> Ordering {
    let parts = |record: &[u8]| term(record).map(|term| (term.attribute, term.entry));
    let key = |record| term(record).map(|term| term.key).unwrap_or_default();
    let ((left, first), (right, second)) = (parts(one).unwrap_or_default(), parts(other).unwrap_or_default());
    left.cmp(&right)
        .then_with(|| key(one).cmp(key(other)))
        .then(first.cmp(&second))
}

/// A run that is read along.
struct Run {
    at: u64,
    end: u64,
    held: Vec<u8>,
    from: usize,
}

impl Run {
    fn record(&self) -> &[u8] {
        record(self.held.get(self.from..).unwrap_or_default())
    }

    /// Makes sure that a whole record is held; false at the end.
    fn fill(&mut self, file: &File) -> io::Result<bool> {
        let left = self.held.len() - self.from;
        let first = self.held.get(self.from).map(|length| usize::from(*length) + AROUND);
        if first.is_some_and(|whole| whole <= left) {
            return Ok(true);
        }
        if self.at == self.end {
            return Ok(false);
        }
        self.held.drain(..self.from);
        self.from = 0;
        let more = usize::try_from(self.end - self.at).unwrap_or(AHEAD).min(AHEAD);
        self.held.resize(left + more, 0);
        file.read_exact_at(self.held.get_mut(left..).unwrap_or_default(), self.at)?;
        self.at += more as u64;
        Ok(true)
    }
}

impl PartialEq for Run {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Run {}

impl PartialOrd for Run {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Run {
    fn cmp(&self, other: &Self) -> Ordering {
        order(self.record(), other.record())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn terms_come_back_in_order_and_once_however_many_runs_there_are() {
        let folder = tempfile::tempdir().unwrap();
        let beside = folder.path().join("copy.db.new");
        std::fs::write(folder.path().join("copy.db.new.terms"), b"left by one that was killed").unwrap();
        let mut sorter = Sorter::new(&beside).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let mut expected = BTreeSet::new();
        let mut state = 1_u64;
        for number in 0..300_000_u64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(number);
            let attribute = (state >> 60) as u32;
            // Keys of every length up to the longest, some the beginning of others.
            let key = vec![b'a' + (state >> 20 & 1) as u8; (state >> 40) as usize % 65];
            let entry = (state >> 30 & 15) as i64;
            sorter
                .push(Term {
                    attribute,
                    key: &key,
                    entry,
                })
                .unwrap();
            expected.insert((attribute, key, entry));
        }
        assert!(sorter.runs.len() > 1, "several runs are merged");
        let mut expected = expected.into_iter();
        sorter
            .finish(|term| {
                let next = expected.next().unwrap();
                assert_eq!((term.attribute, term.key.to_vec(), term.entry), next);
                Ok::<_, io::Error>(())
            })
            .unwrap();
        assert!(expected.next().is_none());
    }

    #[test]
    fn nothing_gives_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let sorter = Sorter::new(&folder.path().join("x")).unwrap();
        sorter.finish(|_| Err(io::Error::other("a term"))).unwrap();
    }
}
