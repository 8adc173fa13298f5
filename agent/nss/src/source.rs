//! Holding the current table while any number of threads read it.
//!
//! A reader announces itself in one of a few counters (picked by thread, so that threads do not share
//! a cache line), loads the number of the current table, reads, and leaves. Whoever notices that the
//! table was superseded opens the new one, makes it current, and unmaps the old one once each counter
//! has been seen at zero after the exchange: whoever announces itself later finds the new table.
//! Enumerations outlast a call and hold their table by a pin instead.
//!
//! Everything is static: no allocation, no thread-local, nothing that a fork could leave half done in
//! a way the child cannot repair (`after_fork_in_child`).

use crate::lock::Lock;
use crate::system::{Uncancelled, now_ms};
use dirless_table::{OpenError, Table};
use std::cell::UnsafeCell;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize};

/// Counters of readers; one bit each in [`Entry::busy`].
const READERS: usize = 32;
/// Tables held at once: the current one, one per pinned enumeration, and some being left.
const ENTRIES: usize = 8;
/// The number of no entry.
pub(crate) const NONE: usize = usize::MAX;
/// While there is no usable table, or the file found is marked as superseded, the file is looked at
/// again after 1, 2, 4 … and at most this many milliseconds.
const LONGEST_WAIT_MS: u64 = 512;

const FREE: u8 = 0;
const LIVE: u8 = 1;
const RETIRED: u8 = 2;

/// Where tables come from, and the ones in use.
#[derive(Debug)]
pub struct Source {
    path: &'static CStr,
    owner: u32,
    current: AtomicUsize,
    /// A retired table waits for a reader to leave.
    sweep_due: AtomicBool,
    /// The last attempt found a file, but no usable one.
    damaged: AtomicBool,
    /// Milliseconds of the monotonic clock before which the file is not looked at again.
    retry_at: AtomicU64,
    wait: AtomicU64,
    refreshing: Lock,
    readers: [Counter; READERS],
    entries: [Entry; ENTRIES],
}

/// Alone in its pair of cache lines: processors fetch them by two.
#[derive(Debug)]
#[repr(align(128))]
struct Counter(AtomicU32);

#[derive(Debug)]
struct Entry {
    state: AtomicU8,
    /// Enumerations that stand in this table.
    pins: AtomicU32,
    /// Counters not yet seen at zero since this table was retired.
    busy: AtomicU32,
    table: UnsafeCell<MaybeUninit<Table>>,
}

// SAFETY: an entry's table is written only while its state is FREE and `refreshing` is held, and taken
// out only when it is RETIRED, unpinned, and no reader can hold it; in between it is only read.
unsafe impl Sync for Entry {}

/// A reader's announcement, withdrawn on drop.
struct Reading<'a> {
    counter: &'a AtomicU32,
    table: Option<&'a Table>,
    index: usize,
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.counter.fetch_sub(1, Release);
    }
}

/// Why there is no table to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoTable {
    /// There is no file.
    Missing,
    /// There is one, but it cannot be used.
    Damaged,
}

impl Source {
    /// A source that has not looked at its file yet. `owner` is the uid the file must belong to.
    pub const fn new(path: &'static CStr, owner: u32) -> Self {
        Self {
            path,
            owner,
            current: AtomicUsize::new(NONE),
            sweep_due: AtomicBool::new(false),
            damaged: AtomicBool::new(false),
            retry_at: AtomicU64::new(0),
            wait: AtomicU64::new(0),
            refreshing: Lock::new(),
            readers: [const { Counter(AtomicU32::new(0)) }; READERS],
            entries: [const {
                Entry {
                    state: AtomicU8::new(FREE),
                    pins: AtomicU32::new(0),
                    busy: AtomicU32::new(0),
                    table: UnsafeCell::new(MaybeUninit::uninit()),
                }
            }; ENTRIES],
        }
    }

    /// Runs `ask` on the current table, opening it first if need be. `thread` is any number that tends
    /// to differ between threads.
    ///
    /// # Errors
    /// When there is no usable table.
    #[inline]
    pub fn read<R>(&self, thread: usize, ask: impl FnOnce(&Table) -> R) -> Result<R, NoTable> {
        let mut reading = self.enter(thread);
        if self.wants_refresh(reading.table) {
            drop(reading);
            self.refresh();
            reading = self.enter(thread);
        }
        reading.table.map(ask).ok_or_else(|| self.reason())
    }

    /// Pins the current table and returns its number for [`Source::pinned`] and [`Source::unpin`].
    pub(crate) fn pin(&self, thread: usize) -> Result<usize, NoTable> {
        let mut reading = self.enter(thread);
        if self.wants_refresh(reading.table) {
            drop(reading);
            self.refresh();
            reading = self.enter(thread);
        }
        match (reading.table, self.entries.get(reading.index)) {
            (Some(_), Some(entry)) => {
                entry.pins.fetch_add(1, SeqCst);
                Ok(reading.index)
            }
            _ => Err(self.reason()),
        }
    }

    /// The table of a pin.
    ///
    /// # Safety
    /// `index` is pinned until the reference is gone.
    pub(crate) unsafe fn pinned(&self, index: usize) -> Option<&Table> {
        // SAFETY: as the caller promises, the entry is not reclaimed meanwhile.
        unsafe { self.table(index) }
    }

    pub(crate) fn unpin(&self, index: usize) {
        if let Some(entry) = self.entries.get(index) {
            entry.pins.fetch_sub(1, SeqCst);
            if entry.state.load(Relaxed) == RETIRED {
                self.sweep_due.store(true, Relaxed);
            }
        }
    }

    fn reason(&self) -> NoTable {
        if self.damaged.load(Relaxed) {
            NoTable::Damaged
        } else {
            NoTable::Missing
        }
    }

    #[inline]
    fn enter(&self, thread: usize) -> Reading<'_> {
        // Thread-local addresses are far apart and page-aligned up to a constant; the high half of the
        // product mixes all their bits.
        let hash = (thread as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        let [first, ..] = &self.readers;
        let Counter(counter) = self.readers.get(hash as usize % READERS).unwrap_or(first);
        // SeqCst on both: either the sweeper sees this announcement, or we see its new current table.
        counter.fetch_add(1, SeqCst);
        let index = self.current.load(SeqCst);
        // SAFETY: announced before `index` was read, so the sweeper waits for us.
        let table = unsafe { self.table(index) };
        Reading { counter, table, index }
    }

    /// # Safety
    /// The entry must be current or pinned, and the caller announced, while the reference is used.
    #[inline]
    unsafe fn table(&self, index: usize) -> Option<&Table> {
        // SAFETY: an entry's table is initialised before its number becomes known.
        self.entries
            .get(index)
            .map(|entry| unsafe { (*entry.table.get()).assume_init_ref() })
    }

    #[inline]
    fn wants_refresh(&self, table: Option<&Table>) -> bool {
        match table {
            Some(table) if !table.superseded() => self.sweep_due.load(Relaxed),
            _ => self.due(),
        }
    }

    /// Whether enough time has passed since the last look at the file. Reads the clock (without a
    /// system call) only in the rare states in which that look did not settle things.
    fn due(&self) -> bool {
        let retry_at = self.retry_at.load(Relaxed);
        retry_at == 0 || now_ms() >= retry_at
    }

    #[cold]
    fn refresh(&self) {
        let _uncancelled = Uncancelled::new();
        // Without a table there is nothing to go on with, so wait for whoever is opening one.
        let waits = self.current.load(SeqCst) == NONE;
        let Some(_held) = (if waits {
            Some(self.refreshing.lock())
        } else {
            self.refreshing.try_lock()
        }) else {
            return;
        };
        self.sweep();
        let current = self.current.load(SeqCst);
        // SAFETY: `refreshing` is held, so nobody replaces or reclaims the current entry.
        let table = unsafe { self.table(current) };
        if table.is_none_or(Table::superseded) && self.due() {
            self.reopen(current, table);
        }
    }

    /// Holding `refreshing`.
    fn reopen(&self, current: usize, table: Option<&Table>) {
        let free = self.entries.iter().position(|entry| entry.state.load(Acquire) == FREE);
        let (Some(free), Ok(new)) = (free, self.open()) else {
            self.look_again_later();
            return;
        };
        if new.marked() {
            // Between the publisher's mark and its rename, or it died there.
            self.look_again_later();
            if table.is_some_and(|table| table.same_as(&new)) {
                return;
            }
        } else {
            self.wait.store(0, Relaxed);
            self.retry_at.store(0, Relaxed);
        }
        if let Some(entry) = self.entries.get(free) {
            // SAFETY: the entry is free and `refreshing` is held; what a forked parent may have left in
            // it is overwritten without being dropped.
            unsafe { (*entry.table.get()).write(new) };
            entry.state.store(LIVE, Release);
            self.current.store(free, SeqCst);
            self.retire(current);
            self.sweep();
        }
    }

    fn open(&self) -> Result<Table, ()> {
        let opened = Table::open_c(self.path, self.owner);
        let damaged = opened.as_ref().is_err_and(|error| !matches!(error, OpenError::Missing));
        self.damaged.store(damaged, Relaxed);
        opened.map_err(|_| ())
    }

    fn look_again_later(&self) {
        let wait = (self.wait.load(Relaxed) * 2).clamp(1, LONGEST_WAIT_MS);
        self.wait.store(wait, Relaxed);
        self.retry_at.store(now_ms() + wait, Relaxed);
    }

    /// Holding `refreshing`, after another entry became current.
    fn retire(&self, index: usize) {
        if let Some(entry) = self.entries.get(index) {
            entry.busy.store(u32::MAX, Relaxed);
            entry.state.store(RETIRED, Release);
        }
    }

    /// Holding `refreshing`: unmaps retired tables that nobody reads any more.
    fn sweep(&self) {
        let mut waiting = false;
        for entry in self.entries.iter().filter(|entry| entry.state.load(Acquire) == RETIRED) {
            let mut busy = entry.busy.load(Relaxed);
            for (bit, Counter(counter)) in self.readers.iter().enumerate() {
                if busy & (1 << bit) != 0 && counter.load(SeqCst) == 0 {
                    busy &= !(1 << bit);
                }
            }
            entry.busy.store(busy, Relaxed);
            if busy != 0 {
                waiting = true;
            } else if entry.pins.load(SeqCst) == 0 {
                // SAFETY: retired, so no new reader or pin; every counter was at zero since, so no old
                // reader; not pinned. Moved out before the entry is free for others.
                let table = unsafe { (*entry.table.get()).assume_init_read() };
                entry.state.store(FREE, Release);
                drop(table);
            }
        }
        self.sweep_due.store(waiting, Relaxed);
    }

    /// Puts things right in a forked child, where only the forking thread lives on: announcements and
    /// locks of the others are void. `pinned` are the entries that enumerations stand in.
    pub(crate) fn after_fork_in_child(&self, pinned: impl Iterator<Item = usize>) {
        self.refreshing.reset();
        for Counter(counter) in &self.readers {
            counter.store(0, Relaxed);
        }
        let current = self.current.load(Relaxed);
        for (index, entry) in self.entries.iter().enumerate() {
            entry.pins.store(0, Relaxed);
            let state = entry.state.load(Relaxed);
            if state != FREE {
                entry.busy.store(0, Relaxed);
                entry
                    .state
                    .store(if index == current { LIVE } else { RETIRED }, Relaxed);
                self.sweep_due.fetch_or(index != current, Relaxed);
            }
        }
        for entry in pinned.filter_map(|index| self.entries.get(index)) {
            entry.pins.fetch_add(1, Relaxed);
        }
    }

    /// Unmaps what nobody reads at this moment; for unloading. At process exit, where other threads
    /// may still be looking things up, theirs stays.
    pub(crate) fn close(&self) {
        let Some(_held) = self.refreshing.try_lock() else {
            return;
        };
        let current = self.current.swap(NONE, SeqCst);
        self.retire(current);
        self.sweep();
    }

    /// How many tables are mapped.
    pub fn tables_held(&self) -> usize {
        self.entries
            .iter()
            .filter(|entry| entry.state.load(Acquire) != FREE)
            .count()
    }
}
