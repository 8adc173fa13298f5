//! The mapping of a table file, and the only unsafe code of this crate.
//!
//! A mapped file that is cut short raises SIGBUS in whoever reads past its new end. Tables are
//! therefore only ever replaced by rename (see `publish`), never written in place; the file is
//! root-owned and writable by nobody else, so only root could cut it. A file that was already too
//! short when opened is refused, since its length is in its header.

use crate::error::OpenError;
use crate::format::{HEADER_LEN, MAX_LEN, SUPERSEDED_AT};
use std::ffi::{c_int, c_void};
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

#[cfg(not(target_pointer_width = "64"))]
compile_error!("tables are mapped whole, and off_t is taken to be 64 bits wide: 64-bit systems only");

#[cfg(any(target_arch = "aarch64", target_arch = "powerpc64"))]
pub(crate) const O_NOFOLLOW: c_int = 0o100_000;
#[cfg(not(any(target_arch = "aarch64", target_arch = "powerpc64")))]
pub(crate) const O_NOFOLLOW: c_int = 0o400_000;
/// So that opening a pipe somebody put there does not wait for a writer.
const O_NONBLOCK: c_int = 0o4000;
const O_NOCTTY: c_int = 0o400;
const ELOOP: i32 = 40;
const PROT_READ: c_int = 1;
const MAP_SHARED: c_int = 1;

unsafe extern "C" {
    fn mmap(addr: *mut c_void, len: usize, prot: c_int, flags: c_int, fd: c_int, offset: i64) -> *mut c_void;
    fn munmap(addr: *mut c_void, len: usize) -> c_int;
}

/// Opens a file for mapping: regular, not through a link, of that owner, writable by nobody else.
/// Returns its length too. The standard library adds O_CLOEXEC.
pub(crate) fn open_checked(path: &Path, owner: u32) -> Result<(File, u64), OpenError> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(O_NOFOLLOW | O_NONBLOCK | O_NOCTTY)
        .open(path);
    let file = opened.map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => OpenError::Missing,
        _ if error.raw_os_error() == Some(ELOOP) => OpenError::NotAFile,
        _ => OpenError::Io(error),
    })?;
    let metadata = file.metadata().map_err(OpenError::Io)?;
    if !metadata.is_file() {
        return Err(OpenError::NotAFile);
    }
    if metadata.uid() != owner {
        return Err(OpenError::Owner {
            found: metadata.uid(),
            expected: owner,
        });
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(OpenError::Writable {
            mode: metadata.mode() & 0o7777,
        });
    }
    let len = metadata.len();
    if len < HEADER_LEN as u64 || len > MAX_LEN {
        return Err(OpenError::Size { found: len });
    }
    Ok((file, len))
}

/// A read-only shared mapping of at least a header's length.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is read-only and stays until drop; the one word that changes underneath is only
// read atomically.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes of `file`, which must hold that many and at least a header.
    pub(crate) fn new(file: &File, len: u64) -> Result<Self, OpenError> {
        let len = usize::try_from(len)
            .ok()
            .filter(|len| *len >= HEADER_LEN)
            .ok_or(OpenError::Size { found: len })?;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours; the
        // descriptor is open for the duration of the call.
        let address = unsafe { mmap(std::ptr::null_mut(), len, PROT_READ, MAP_SHARED, file.as_raw_fd(), 0) };
        match NonNull::new(address.cast::<u8>()) {
            // MAP_FAILED is the address -1.
            Some(start) if address.addr() != usize::MAX => Ok(Self { start, len }),
            _ => Err(OpenError::Io(std::io::Error::last_os_error())),
        }
    }

    /// A copy of the header.
    pub(crate) fn header(&self) -> [u8; HEADER_LEN] {
        // SAFETY: the mapping holds at least HEADER_LEN readable bytes; reading volatile makes no claim
        // that nobody else writes the superseded word meanwhile.
        unsafe { self.start.cast::<[u8; HEADER_LEN]>().read_volatile() }
    }

    /// The bytes after the header; nothing ever writes these.
    #[inline]
    pub(crate) fn body(&self) -> &[u8] {
        // SAFETY: start..start+len is mapped readable until drop, len >= HEADER_LEN, and published files
        // are never written or cut after the rename, but for the header's superseded word.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(HEADER_LEN), self.len - HEADER_LEN) }
    }

    /// Whether the publisher has marked this file as replaced.
    #[inline]
    pub(crate) fn superseded(&self) -> bool {
        // SAFETY: SUPERSEDED_AT is inside the header and a multiple of four from a page boundary; the
        // word is accessed atomically only.
        let word = unsafe { AtomicU32::from_ptr(self.start.as_ptr().add(SUPERSEDED_AT).cast::<u32>()) };
        word.load(Ordering::Acquire) != 0
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this is the mapping made in `new`; slices of it borrow self and are gone.
        unsafe { munmap(self.start.as_ptr().cast::<c_void>(), self.len) };
    }
}
