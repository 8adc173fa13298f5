//! The structures and numbers of nss.h, pwd.h, grp.h and shadow.h on Linux.

use std::ffi::{c_char, c_int, c_long, c_ulong};

/// `struct passwd`.
#[repr(C)]
#[derive(Debug)]
pub struct Passwd {
    /// `pw_name`
    pub name: *mut c_char,
    /// `pw_passwd`, always `x`
    pub passwd: *mut c_char,
    /// `pw_uid`
    pub uid: u32,
    /// `pw_gid`
    pub gid: u32,
    /// `pw_gecos`
    pub gecos: *mut c_char,
    /// `pw_dir`
    pub dir: *mut c_char,
    /// `pw_shell`
    pub shell: *mut c_char,
}

/// `struct group`.
#[repr(C)]
#[derive(Debug)]
pub struct Group {
    /// `gr_name`
    pub name: *mut c_char,
    /// `gr_passwd`, always `x`
    pub passwd: *mut c_char,
    /// `gr_gid`
    pub gid: u32,
    /// `gr_mem`, ended by a null pointer
    pub members: *mut *mut c_char,
}

/// `struct spwd`. Days count from 1970; -1 is "not set".
#[repr(C)]
#[derive(Debug)]
pub struct Shadow {
    /// `sp_namp`
    pub name: *mut c_char,
    /// `sp_pwdp`, always `!`
    pub passwd: *mut c_char,
    /// `sp_lstchg`
    pub last_change: c_long,
    /// `sp_min`
    pub min: c_long,
    /// `sp_max`
    pub max: c_long,
    /// `sp_warn`
    pub warn: c_long,
    /// `sp_inact`
    pub inactive: c_long,
    /// `sp_expire`
    pub expire: c_long,
    /// `sp_flag`
    pub flag: c_ulong,
}

/// What a lookup came to, before it becomes a status and an errno.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// The result is written.
    Success,
    /// There certainly is none.
    NotFound,
    /// No table, so nothing is known.
    Missing,
    /// A table that cannot be used, so nothing is known.
    Damaged,
    /// The caller's buffer is too small; with a larger one the answer will be given.
    ShortBuffer,
    /// The caller's gid list could not grow.
    OutOfMemory,
}

/// `NSS_STATUS_TRYAGAIN`
pub const TRYAGAIN: c_int = -2;
/// `NSS_STATUS_UNAVAIL`
pub const UNAVAIL: c_int = -1;
/// `NSS_STATUS_NOTFOUND`
pub const NOTFOUND: c_int = 0;
/// `NSS_STATUS_SUCCESS`
pub const SUCCESS: c_int = 1;

/// errno values, the same on all Linux architectures.
pub const ENOENT: c_int = 2;
/// Input/output error.
pub const EIO: c_int = 5;
/// Out of memory.
pub const ENOMEM: c_int = 12;
/// Buffer too small.
pub const ERANGE: c_int = 34;

impl Outcome {
    /// The status, and the errno that goes with it; glibc treats ERANGE with TRYAGAIN alone as "come
    /// back with a larger buffer".
    pub fn status(self) -> (c_int, Option<c_int>) {
        match self {
            Self::Success => (SUCCESS, None),
            Self::NotFound => (NOTFOUND, Some(ENOENT)),
            Self::Missing => (UNAVAIL, Some(ENOENT)),
            Self::Damaged => (UNAVAIL, Some(EIO)),
            Self::ShortBuffer => (TRYAGAIN, Some(ERANGE)),
            Self::OutOfMemory => (TRYAGAIN, Some(ENOMEM)),
        }
    }
}
