//! The functions glibc looks up in the module, under its names for a service called `dirless`.
//!
//! Each takes pointers as glibc's nsswitch documentation describes them; nothing unwinds out of them.

use crate::abi::{EIO, Group, Outcome, Passwd, Shadow, UNAVAIL};
use crate::emit::Buffer;
use crate::module::{Database, GidList, Key, Module};
use std::ffi::{CStr, c_char, c_int, c_long};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The table of this host. Nothing else, and nothing from the environment, can name another: the module
/// runs in set-uid programs.
static MODULE: Module = Module::new(dirless_table::TABLE_PATH_C, 0);

/// Turns an outcome into status and errno. A panic, which no input should cause, is "unavailable".
///
/// # Safety
/// `errnop` is null or an int to write.
#[inline]
unsafe fn answer(errnop: *mut c_int, ask: impl FnOnce() -> Outcome) -> c_int {
    let (status, errno) = catch_unwind(AssertUnwindSafe(ask)).map_or((UNAVAIL, Some(EIO)), Outcome::status);
    if let Some(errno) = errno
        && !errnop.is_null()
    {
        // SAFETY: the caller's promise.
        unsafe { errnop.write(errno) };
    }
    status
}

/// # Safety
/// `name` is null or a C string.
#[inline]
unsafe fn bytes<'a>(name: *const c_char) -> &'a [u8] {
    if name.is_null() {
        return b"";
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(name) }.to_bytes()
}

/// The functions that look one entry up: they differ in what they are asked by and what they give.
macro_rules! lookup {
    ($function:ident, $by:ident: $kind:ty, $key:expr, $ask:ident, $record:ty) => {
        /// As the C function without the prefix.
        ///
        /// # Safety
        /// As the C function: a name is a C string, `result` a structure to write, `buffer` holds `len`
        /// bytes, `errnop` is an int.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $function(
            $by: $kind,
            result: *mut $record,
            buffer: *mut c_char,
            len: usize,
            errnop: *mut c_int,
        ) -> c_int {
            // SAFETY: the caller's promise, handed on. errno is per thread, so its address tells threads
            // apart.
            unsafe {
                answer(errnop, || {
                    MODULE.$ask(errnop.addr(), $key, result, Buffer::new(buffer, len))
                })
            }
        }
    };
}

lookup!(_nss_dirless_getpwnam_r, name: *const c_char, Key::Name(bytes(name)), passwd, Passwd);
lookup!(_nss_dirless_getpwuid_r, uid: u32, Key::Id(uid), passwd, Passwd);
lookup!(_nss_dirless_getgrnam_r, name: *const c_char, Key::Name(bytes(name)), group, Group);
lookup!(_nss_dirless_getgrgid_r, gid: u32, Key::Id(gid), group, Group);
lookup!(_nss_dirless_getspnam_r, name: *const c_char, bytes(name), shadow, Shadow);

/// `initgroups_dyn`, behind `getgrouplist(3)` and `initgroups(3)`.
///
/// # Safety
/// `user` is a C string; `start`, `size` and `groups` describe a list from malloc with room for `size`
/// gids, `start` of them in use; `errnop` is an int.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _nss_dirless_initgroups_dyn(
    user: *const c_char,
    skip: u32,
    start: *mut c_long,
    size: *mut c_long,
    groups: *mut *mut u32,
    limit: c_long,
    errnop: *mut c_int,
) -> c_int {
    let list = GidList {
        start,
        size,
        gids: groups,
        limit,
    };
    // SAFETY: the caller's promise, handed on.
    unsafe { answer(errnop, || MODULE.initgroups(errnop.addr(), bytes(user), skip, &list)) }
}

/// The three functions that list a database: they differ in names and types alone.
macro_rules! listing {
    ($database:ident, $set:ident, $end:ident, $get:ident, $next:ident, $record:ty) => {
        /// Starts listing. The argument asks to keep a file open, and there is none.
        #[unsafe(no_mangle)]
        pub extern "C" fn $set(_stay_open: c_int) -> c_int {
            // SAFETY: a null errnop is allowed.
            unsafe { answer(std::ptr::null_mut(), || MODULE.start(Database::$database)) }
        }

        /// Ends listing.
        #[unsafe(no_mangle)]
        pub extern "C" fn $end() -> c_int {
            // SAFETY: a null errnop is allowed.
            unsafe { answer(std::ptr::null_mut(), || MODULE.end(Database::$database)) }
        }

        /// The next entry.
        ///
        /// # Safety
        /// As the C function: `result` is a structure to write, `buffer` holds `len` bytes, `errnop` is
        /// an int.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $get(
            result: *mut $record,
            buffer: *mut c_char,
            len: usize,
            errnop: *mut c_int,
        ) -> c_int {
            // SAFETY: the caller's promise, handed on.
            unsafe { answer(errnop, || MODULE.$next(result, Buffer::new(buffer, len))) }
        }
    };
}

listing!(
    Passwd,
    _nss_dirless_setpwent,
    _nss_dirless_endpwent,
    _nss_dirless_getpwent_r,
    next_passwd,
    Passwd
);
listing!(
    Group,
    _nss_dirless_setgrent,
    _nss_dirless_endgrent,
    _nss_dirless_getgrent_r,
    next_group,
    Group
);
listing!(
    Shadow,
    _nss_dirless_setspent,
    _nss_dirless_endspent,
    _nss_dirless_getspent_r,
    next_shadow,
    Shadow
);

unsafe extern "C" {
    /// Linked in statically by glibc with this object's own handle, so that unloading the module
    /// withdraws the handler.
    fn pthread_atfork(
        prepare: Option<extern "C" fn()>,
        parent: Option<extern "C" fn()>,
        child: Option<extern "C" fn()>,
    ) -> c_int;
}

extern "C" fn loaded() {
    // SAFETY: the handler lives as long as this object and touches only its own statics. Without
    // memory for it, a child forked during another thread's lookup may keep an old table mapped.
    unsafe { pthread_atfork(None, None, Some(forked)) };
}

extern "C" fn forked() {
    MODULE.after_fork_in_child();
}

extern "C" fn unloading() {
    MODULE.close();
}

#[used]
#[unsafe(link_section = ".init_array")]
static LOADED: extern "C" fn() = loaded;

#[used]
#[unsafe(link_section = ".fini_array")]
static UNLOADING: extern "C" fn() = unloading;
