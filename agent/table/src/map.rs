//! The mapping of a table file, and the only unsafe code of this crate.
//!
//! A mapped file that is cut short raises SIGBUS in whoever reads past its new end. Tables are
//! therefore only ever replaced by rename (see `publish`), never written in place; the file is
//! root-owned and writable by nobody else, so only root could cut it. A file that was already too
//! short when opened is refused, since its length is in its header.
//!
//! Opening goes past `std::fs`: its paths to allocation, panics and their messages would come along into
//! every process that loads the NSS module.

use crate::error::OpenError;
use crate::format::{HEADER_LEN, MAX_LEN, OVERLAY_AT, SUPERSEDED_AT};
use std::ffi::{c_char, c_int, c_uint, c_void};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

#[cfg(not(target_pointer_width = "64"))]
compile_error!("tables are mapped whole, and off_t is taken to be 64 bits wide: 64-bit systems only");

const O_RDONLY: c_int = 0;
#[cfg(any(target_arch = "aarch64", target_arch = "powerpc64"))]
pub(crate) const O_NOFOLLOW: c_int = 0o100_000;
#[cfg(not(any(target_arch = "aarch64", target_arch = "powerpc64")))]
pub(crate) const O_NOFOLLOW: c_int = 0o400_000;
const O_CLOEXEC: c_int = 0o2_000_000;
/// So that opening a pipe somebody put there does not wait for a writer.
const O_NONBLOCK: c_int = 0o4000;
const O_NOCTTY: c_int = 0o400;
const ENOENT: c_int = 2;
const ENOTDIR: c_int = 20;
pub(crate) const EINVAL: c_int = 22;
const ELOOP: c_int = 40;
const AT_EMPTY_PATH: c_int = 0x1000;
const STATX_BASIC_STATS: c_uint = 0x7ff;
const S_IFMT: u32 = 0o170_000;
const S_IFREG: u32 = 0o100_000;
const PROT_READ: c_int = 1;
const PROT_WRITE: c_int = 2;
const MAP_SHARED: c_int = 1;

/// `struct statx`, the same on all architectures; 256 bytes.
#[repr(C)]
struct Statx {
    mask: u32,
    block_size: u32,
    attributes: u64,
    links: u32,
    uid: u32,
    gid: u32,
    mode: u16,
    spare: u16,
    inode: u64,
    size: u64,
    more: [u64; 26],
}

const _: () = assert!(size_of::<Statx>() == 256);

unsafe extern "C" {
    fn open(path: *const c_char, flags: c_int, ...) -> c_int;
    fn close(fd: c_int) -> c_int;
    fn statx(dir: c_int, path: *const c_char, flags: c_int, mask: c_uint, out: *mut Statx) -> c_int;
    fn mmap(addr: *mut c_void, len: usize, prot: c_int, flags: c_int, fd: c_int, offset: i64) -> *mut c_void;
    fn munmap(addr: *mut c_void, len: usize) -> c_int;
    fn __errno_location() -> *mut c_int;
}

#[inline]
fn errno() -> c_int {
    // SAFETY: glibc and musl return the address of this thread's errno.
    unsafe { *__errno_location() }
}

/// An open descriptor.
struct Descriptor(c_int);

impl Drop for Descriptor {
    #[inline]
    fn drop(&mut self) {
        if self.0 >= 0 {
            // SAFETY: opened by `map_checked`, closed only here.
            unsafe { close(self.0) };
        }
    }
}

/// Opens a file and maps it: regular, not through a link, of that owner, writable by nobody else. The
/// descriptor is closed again. The path ends with its first NUL byte.
#[inline]
pub(crate) fn map_checked(path: &[u8], owner: u32) -> Result<(Mapping, u64), OpenError> {
    let flags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
    if path.last() != Some(&0) {
        return Err(OpenError::System { errno: EINVAL });
    }
    // SAFETY: a NUL byte ends `path`; no mode is read without O_CREAT.
    let file = Descriptor(unsafe { open(path.as_ptr().cast(), flags) });
    if file.0 < 0 {
        return Err(match errno() {
            ENOENT | ENOTDIR => OpenError::Missing,
            ELOOP => OpenError::NotAFile,
            errno => OpenError::System { errno },
        });
    }
    // SAFETY: all-zero bytes are a valid `Statx`.
    let mut found = unsafe { std::mem::zeroed::<Statx>() };
    // SAFETY: the descriptor is open, the path an empty C string, `found` as large as the kernel's.
    let failed = unsafe { statx(file.0, c"".as_ptr(), AT_EMPTY_PATH, STATX_BASIC_STATS, &raw mut found) };
    if failed != 0 {
        return Err(OpenError::System { errno: errno() });
    }
    let mode = u32::from(found.mode);
    if mode & S_IFMT != S_IFREG {
        return Err(OpenError::NotAFile);
    }
    if found.uid != owner {
        return Err(OpenError::Owner {
            found: found.uid,
            expected: owner,
        });
    }
    if mode & 0o022 != 0 {
        return Err(OpenError::Writable { mode: mode & 0o7777 });
    }
    if found.size < HEADER_LEN as u64 || found.size > MAX_LEN {
        return Err(OpenError::Size { found: found.size });
    }
    Ok((Mapping::new(&file, found.size)?, found.size))
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
    #[inline]
    fn new(file: &Descriptor, len: u64) -> Result<Self, OpenError> {
        let len = usize::try_from(len)
            .ok()
            .filter(|len| *len >= HEADER_LEN)
            .ok_or(OpenError::Size { found: len })?;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours; the
        // descriptor is open for the duration of the call.
        let address = unsafe { mmap(std::ptr::null_mut(), len, PROT_READ, MAP_SHARED, file.0, 0) };
        match NonNull::new(address.cast::<u8>()) {
            // MAP_FAILED is the address -1.
            Some(start) if address.addr() != usize::MAX => Ok(Self { start, len }),
            _ => Err(OpenError::System { errno: errno() }),
        }
    }

    /// A copy of the header.
    #[inline]
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

    /// What the publisher has written into the header since: both words as of one moment.
    #[inline]
    pub(crate) fn mark(&self) -> Mark {
        const { assert!(SUPERSEDED_AT.is_multiple_of(8) && OVERLAY_AT == SUPERSEDED_AT + 4) };
        // SAFETY: both words are inside the header, a multiple of eight from a page boundary; they are
        // accessed atomically only.
        let words = unsafe { AtomicU64::from_ptr(self.start.as_ptr().add(SUPERSEDED_AT).cast::<u64>()) };
        Mark(u64::from_le(words.load(Ordering::Acquire)))
    }
}

impl Drop for Mapping {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: this is the mapping made in `new`; slices of it borrow self and are gone.
        unsafe { munmap(self.start.as_ptr().cast::<c_void>(), self.len) };
    }
}

/// The two words of a table's header that change while it is in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark(u64);

impl Mark {
    /// Of a table in memory, and of one without overlay.
    pub(crate) const NONE: Self = Self(0);

    /// Whether the table was replaced, or is about to be.
    #[inline]
    pub(crate) fn superseded(self) -> bool {
        self.0 as u32 != 0
    }

    /// The number of the table's overlay, 0 for none.
    #[inline]
    pub(crate) fn overlay(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The same without the word that says that the table was replaced.
    #[inline]
    pub(crate) fn in_place(self) -> Self {
        Self(self.0 & !0xffff_ffff)
    }
}

/// Stores the number of its overlay in the header of a table, which is open for reading and writing, at
/// least a header long, and no publisher's but the caller's. One store to the page that all readers have
/// mapped: they find the number before or the one after, where writing to the file promises no such thing
/// of four bytes.
pub(crate) fn store_overlay(table: &File, number: u32) -> io::Result<()> {
    let (access, descriptor) = (PROT_READ | PROT_WRITE, table.as_raw_fd());
    // SAFETY: as in `Mapping::new`; `table` is open.
    let address = unsafe { mmap(std::ptr::null_mut(), HEADER_LEN, access, MAP_SHARED, descriptor, 0) };
    // MAP_FAILED is the address -1.
    if address.is_null() || address.addr() == usize::MAX {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: inside the header that was just mapped, a multiple of four from a page boundary; the word is
    // accessed atomically only.
    let word = unsafe { AtomicU32::from_ptr(address.cast::<u8>().add(OVERLAY_AT).cast::<u32>()) };
    word.store(number.to_le(), Ordering::Release);
    // SAFETY: the mapping made above; nothing refers to it any more.
    unsafe { munmap(address, HEADER_LEN) };
    Ok(())
}
