//! The lookups, free of the C names they are exported under.

use crate::abi::{Group, Outcome, Passwd, Shadow};
use crate::cursor::{Cursor, unavailable};
use crate::emit::{self, Buffer};
use crate::source::Source;
use dirless_table::{Gids, Lookup, Table};
use std::ffi::{CStr, c_long, c_void};

/// A source of tables and the three enumerations over it.
#[derive(Debug)]
pub struct Module {
    source: Source,
    passwd: Cursor,
    group: Cursor,
    shadow: Cursor,
}

/// Which enumeration is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Database {
    /// passwd
    Passwd,
    /// group
    Group,
    /// shadow
    Shadow,
}

/// How to find an entry.
#[derive(Debug, Clone, Copy)]
pub enum Key<'a> {
    /// By name.
    Name(&'a [u8]),
    /// By uid or gid.
    Id(u32),
}

impl Module {
    /// A module that reads the table at `path`, which must belong to the uid `owner`.
    pub const fn new(path: &'static CStr, owner: u32) -> Self {
        Self {
            source: Source::new(path, owner),
            passwd: Cursor::new(),
            group: Cursor::new(),
            shadow: Cursor::new(),
        }
    }

    /// Where the tables come from.
    pub fn source(&self) -> &Source {
        &self.source
    }

    fn cursor(&self, database: Database) -> &Cursor {
        match database {
            Database::Passwd => &self.passwd,
            Database::Group => &self.group,
            Database::Shadow => &self.shadow,
        }
    }

    /// `getpwnam_r` and `getpwuid_r`.
    ///
    /// # Safety
    /// `out` is a passwd to write, `buffer` the caller's own memory.
    #[inline]
    pub unsafe fn passwd(&self, thread: usize, key: Key<'_>, out: *mut Passwd, buffer: Buffer) -> Outcome {
        self.read(thread, |table| {
            let user = match key {
                Key::Name(name) => table.user_by_name(name),
                Key::Id(uid) => table.user_by_uid(uid),
            };
            // SAFETY: the caller's promise.
            found(user, |user| unsafe { emit::passwd(&user, out, buffer) })
        })
    }

    /// `getgrnam_r` and `getgrgid_r`.
    ///
    /// # Safety
    /// `out` is a group to write, `buffer` the caller's own memory.
    #[inline]
    pub unsafe fn group(&self, thread: usize, key: Key<'_>, out: *mut Group, buffer: Buffer) -> Outcome {
        self.read(thread, |table| {
            let group = match key {
                Key::Name(name) => table.group_by_name(name),
                Key::Id(gid) => table.group_by_gid(gid),
            };
            // SAFETY: the caller's promise.
            found(group, |group| unsafe { emit::group(&group, out, buffer) })
        })
    }

    /// `getspnam_r`.
    ///
    /// # Safety
    /// `out` is an spwd to write, `buffer` the caller's own memory.
    pub unsafe fn shadow(&self, thread: usize, name: &[u8], out: *mut Shadow, buffer: Buffer) -> Outcome {
        self.read(thread, |table| {
            // SAFETY: the caller's promise.
            found(table.user_by_name(name), |user| unsafe {
                emit::shadow(&user, out, buffer)
            })
        })
    }

    /// `initgroups_dyn`: adds the gids of all groups that list `name` to the caller's list.
    ///
    /// # Safety
    /// `list` points to the caller's list as glibc describes it.
    #[inline]
    pub unsafe fn initgroups(&self, thread: usize, name: &[u8], skip: u32, list: &GidList) -> Outcome {
        self.read(thread, |table| {
            // SAFETY: the caller's promise.
            found(table.initgroups(name), |gids| unsafe { list.extend(gids, skip) })
        })
    }

    #[inline]
    fn read(&self, thread: usize, ask: impl FnOnce(&Table) -> Outcome) -> Outcome {
        self.source.read(thread, ask).unwrap_or_else(unavailable)
    }

    /// `setpwent` and its like.
    pub fn start(&self, database: Database) -> Outcome {
        self.cursor(database).start(&self.source)
    }

    /// `endpwent` and its like.
    pub fn end(&self, database: Database) -> Outcome {
        self.cursor(database).end(&self.source)
    }

    /// `getpwent_r`.
    ///
    /// # Safety
    /// As [`Module::passwd`].
    pub unsafe fn next_passwd(&self, out: *mut Passwd, buffer: Buffer) -> Outcome {
        self.passwd.next(&self.source, |table, position| {
            // SAFETY: the caller's promise.
            found(table.user_at_position(position), |user| unsafe {
                emit::passwd(&user, out, buffer)
            })
        })
    }

    /// `getgrent_r`.
    ///
    /// # Safety
    /// As [`Module::group`].
    pub unsafe fn next_group(&self, out: *mut Group, buffer: Buffer) -> Outcome {
        self.group.next(&self.source, |table, position| {
            // SAFETY: the caller's promise.
            found(table.group_at_position(position), |group| unsafe {
                emit::group(&group, out, buffer)
            })
        })
    }

    /// `getspent_r`.
    ///
    /// # Safety
    /// As [`Module::shadow`].
    pub unsafe fn next_shadow(&self, out: *mut Shadow, buffer: Buffer) -> Outcome {
        self.shadow.next(&self.source, |table, position| {
            // SAFETY: the caller's promise.
            found(table.user_at_position(position), |user| unsafe {
                emit::shadow(&user, out, buffer)
            })
        })
    }

    /// Called in a forked child before anything else.
    pub fn after_fork_in_child(&self) {
        let cursors = [&self.passwd, &self.group, &self.shadow];
        self.source
            .after_fork_in_child(cursors.into_iter().map(Cursor::after_fork_in_child));
    }

    /// Lets go of every table nobody uses; for unloading.
    pub fn close(&self) {
        for cursor in [&self.passwd, &self.group, &self.shadow] {
            cursor.close(&self.source);
        }
        self.source.close();
    }
}

#[inline]
fn found<T>(lookup: Lookup<T>, emit: impl FnOnce(T) -> Outcome) -> Outcome {
    match lookup {
        Ok(Some(entry)) => emit(entry),
        Ok(None) => Outcome::NotFound,
        Err(_) => Outcome::Damaged,
    }
}

/// The growing list of `initgroups_dyn`: `start` gids in use of `size`, at `*gids`, from malloc.
#[derive(Debug)]
pub struct GidList {
    /// How many are in use.
    pub start: *mut c_long,
    /// How many there is room for.
    pub size: *mut c_long,
    /// The list.
    pub gids: *mut *mut u32,
    /// The most there may be; 0 or less is "no limit".
    pub limit: c_long,
}

unsafe extern "C" {
    fn realloc(memory: *mut c_void, size: usize) -> *mut c_void;
}

impl GidList {
    /// # Safety
    /// The pointers are as `initgroups_dyn` receives them.
    unsafe fn extend(&self, gids: Gids<'_>, skip: u32) -> Outcome {
        for gid in gids.iter().filter(|gid| *gid != skip) {
            // SAFETY: the caller's promise; there is room for `start + 1` once `reserve` said so.
            unsafe {
                match self.reserve() {
                    Room::Yes => {}
                    Room::AtLimit => return Outcome::Success,
                    Room::OutOfMemory => return Outcome::OutOfMemory,
                }
                let start = self.start.read();
                (*self.gids).add(start as usize).write(gid);
                self.start.write(start + 1);
            }
        }
        Outcome::Success
    }

    /// Makes room for one more. A list that could not grow stays as it was.
    ///
    /// # Safety
    /// As [`GidList::extend`].
    unsafe fn reserve(&self) -> Room {
        // SAFETY: the caller's promise; `gids` came from malloc, and realloc keeps it when it fails.
        unsafe {
            let (start, size) = (self.start.read(), self.size.read());
            if self.limit > 0 && start >= self.limit {
                return Room::AtLimit;
            }
            if start < size {
                return Room::Yes;
            }
            let doubled = size.max(8).saturating_mul(2);
            let wanted = if self.limit > 0 {
                doubled.min(self.limit)
            } else {
                doubled
            };
            let Some(bytes) = (wanted as usize).checked_mul(size_of::<u32>()) else {
                return Room::OutOfMemory;
            };
            let grown = realloc((*self.gids).cast(), bytes);
            if grown.is_null() {
                return Room::OutOfMemory;
            }
            self.gids.write(grown.cast());
            self.size.write(wanted);
            Room::Yes
        }
    }
}

enum Room {
    Yes,
    AtLimit,
    OutOfMemory,
}
