//! Bodies in memory, and the copies of them that the kernel sends by itself.
//!
//! Writing a body to a socket copies it into the kernel each time, which for large bodies is most of
//! the work. A copy in a file that has no name and lies in memory (memfd_create(2)) is sent with
//! sendfile(2) instead: the socket takes references to its pages. Over TLS every byte is made anew, so
//! only plain HTTP has use for it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

/// Shorter bodies are sent as fast or faster by copying them (docs/benchmarks.md).
const SHORTEST: usize = 64 * 1024;
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
struct Copy(OwnedFd);

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
    /// The same body with a copy for the kernel beside it, where that is worth it and possible. Takes
    /// as long as writing the body to memory.
    pub(crate) fn with_copy(self) -> Self {
        if self.bytes.len() < SHORTEST || self.copy.is_some() {
            return self;
        }
        let Some(copy) = copy_of(&self.bytes) else { return self };
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
fn copy_of(bytes: &Bytes) -> Option<Copy> {
    // Counted before it is made, and uncounted by its drop: never more than MOST.
    if COPIES.fetch_add(1, Ordering::Relaxed) >= MOST {
        COPIES.fetch_sub(1, Ordering::Relaxed);
        return None;
    }
    let made = memfd_create("dirless-body", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING);
    let Ok(file) = made else {
        COPIES.fetch_sub(1, Ordering::Relaxed);
        return None;
    };
    let copy = Copy(file);
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(&copy.0, rest)).ok()?;
        rest = rest.get(written..).filter(|_| written > 0)?;
    }
    // Nothing in this process may change it any more: answers are made of it for as long as it lives.
    fcntl_add_seals(
        &copy.0,
        SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE,
    )
    .ok()?;
    Some(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_body_has_a_copy_of_the_same_bytes_that_cannot_be_changed() {
        let bytes = Bytes::from((0..100_000_u32).map(|n| (n % 251) as u8).collect::<Vec<_>>());
        let kept = Kept::from(bytes.clone()).with_copy();
        let copy = kept.copy().unwrap();
        let mut read = vec![0; bytes.len() + 1];
        let length = rustix::io::pread(copy, &mut read, 0).unwrap();
        assert_eq!((length, &read[..length]), (bytes.len(), &bytes[..]));
        assert!(rustix::io::pwrite(copy, b"x", 0).is_err());
        assert!(rustix::fs::ftruncate(copy, 1).is_err());
        assert_eq!(kept.cost(), 200_000);
    }

    #[test]
    fn short_bodies_have_none() {
        let kept = Kept::from(Bytes::from(vec![1; SHORTEST - 1])).with_copy();
        assert!(kept.copy().is_none());
        assert_eq!(kept.cost(), SHORTEST as u64 - 1);
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
