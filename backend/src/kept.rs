//! Bodies in memory, and the copies of them that the kernel sends by itself.
//!
//! Writing a body to a socket copies it into the kernel each time, which for all but short bodies is most
//! of the work. A copy in a file without a name is sent with sendfile(2) instead: the socket takes
//! references to the pages in which the kernel keeps the file. The file lies in the storage folder and
//! not in a memfd, whose pages the kernel looks up one by one (docs/benchmarks.md). Over TLS every byte
//! is made anew, so only plain HTTP has use for it.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

/// Shorter bodies are sent as fast or faster by copying them.
const SHORTEST: usize = 16 * 1024;
/// Most copies at a time: each is an open file, and those are needed for connections.
const MOST: usize = 1024;

/// How many copies there are.
static COPIES: AtomicUsize = AtomicUsize::new(0);

/// A body in memory. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    bytes: Bytes,
    copy: Option<Arc<Copy>>,
}

#[derive(Debug)]
struct Copy(File);

impl Drop for Copy {
    fn drop(&mut self) {
        COPIES.fetch_sub(1, Ordering::Relaxed);
    }
}

impl From<Bytes> for Kept {
    fn from(bytes: Bytes) -> Self {
        Self { bytes, copy: None }
    }
}

impl Kept {
    /// The same body with a copy for the kernel beside it, in a file of `folder`, where that is worth it
    /// and possible. Takes as long as writing the file.
    pub(crate) fn with_copy(self, folder: &Path) -> Self {
        if self.bytes.len() < SHORTEST || self.copy.is_some() {
            return self;
        }
        let Some(copy) = copy_of(&self.bytes, folder) else {
            return self;
        };
        Self {
            copy: Some(Arc::new(copy)),
            ..self
        }
    }

    /// The body.
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Memory that the body takes, with its copy.
    pub(crate) fn cost(&self) -> u64 {
        let length = self.bytes.len() as u64;
        if self.copy.is_some() { 2 * length } else { length }
    }

    /// The copy, if there is one.
    pub(crate) fn copy(&self) -> Option<BorrowedFd<'_>> {
        self.copy.as_ref().map(|copy| copy.0.as_fd())
    }

    /// Where in the body these bytes are, when they are the very memory of it.
    pub(crate) fn place_of(&self, part: &[u8]) -> Option<usize> {
        let place = part.as_ptr().addr().checked_sub(self.bytes.as_ptr().addr())?;
        (!part.is_empty() && place.checked_add(part.len())? <= self.bytes.len()).then_some(place)
    }
}

#[cfg(test)]
impl Kept {
    /// This body's copy beside other bytes.
    pub(crate) fn instead_of(self, bytes: Bytes) -> Self {
        Self { bytes, ..self }
    }
}

/// `None` when there are too many already or the system has no more; the body is then sent from memory.
fn copy_of(bytes: &Bytes, folder: &Path) -> Option<Copy> {
    // Counted before it is made, and uncounted by its drop: never more than MOST.
    if COPIES.fetch_add(1, Ordering::Relaxed) >= MOST {
        COPIES.fetch_sub(1, Ordering::Relaxed);
        return None;
    }
    let Ok(file) = tempfile::tempfile_in(folder) else {
        COPIES.fetch_sub(1, Ordering::Relaxed);
        return None;
    };
    let mut copy = Copy(file);
    // Not synced: it need not outlive the process.
    copy.0.write_all(bytes).ok()?;
    Some(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_body_has_a_copy_of_the_same_bytes_that_has_no_name() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = Bytes::from((0..100_000_u32).map(|n| (n % 251) as u8).collect::<Vec<_>>());
        let kept = Kept::from(bytes.clone()).with_copy(folder.path());
        let mut read = vec![0; bytes.len() + 1];
        let length = rustix::io::pread(kept.copy().unwrap(), &mut read, 0).unwrap();
        assert_eq!((length, &read[..length]), (bytes.len(), &bytes[..]));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert_eq!(kept.cost(), 200_000);
    }

    #[test]
    fn short_bodies_have_none_and_neither_has_one_for_which_there_is_no_place() {
        let folder = tempfile::tempdir().unwrap();
        let short = Kept::from(Bytes::from(vec![1; SHORTEST - 1])).with_copy(folder.path());
        assert!(short.copy().is_none());
        assert_eq!(short.cost(), SHORTEST as u64 - 1);
        let homeless = Kept::from(Bytes::from(vec![1; SHORTEST])).with_copy(&folder.path().join("absent"));
        assert!(homeless.copy().is_none());
    }

    #[test]
    fn a_place_is_found_by_where_the_bytes_are_not_by_what_they_are() {
        let kept = Kept::from(Bytes::from(vec![7; 100]));
        let bytes = kept.bytes().clone();
        assert_eq!(kept.place_of(&bytes), Some(0));
        assert_eq!(kept.place_of(&bytes[40..60]), Some(40));
        assert_eq!(kept.place_of(&bytes[99..]), Some(99));
        assert_eq!(kept.place_of(&bytes[50..50]), None);
        assert_eq!(kept.place_of(&[7; 100]), None);
        let part = Kept::from(bytes.slice(10..20));
        assert_eq!(part.place_of(&bytes[10..20]), Some(0));
        assert_eq!(
            (part.place_of(&bytes[9..12]), part.place_of(&bytes[12..21])),
            (None, None)
        );
    }
}
