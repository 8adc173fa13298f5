//! Where an enumeration stands. The table it began with stays pinned until it ends, so that a
//! replacement in between neither skips nor repeats anybody.

use crate::abi::Outcome;
use crate::lock::Lock;
use crate::source::{NONE, NoTable, Source};
use dirless_table::Table;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicUsize};

/// One per database and process, as glibc has it; shared by all threads.
#[derive(Debug)]
pub(crate) struct Cursor {
    lock: Lock,
    /// The pinned entry, or [`NONE`].
    index: AtomicUsize,
    position: AtomicU32,
}

impl Cursor {
    pub(crate) const fn new() -> Self {
        Self {
            lock: Lock::new(),
            index: AtomicUsize::new(NONE),
            position: AtomicU32::new(0),
        }
    }

    /// Back to the beginning, of the newest table.
    pub(crate) fn start(&self, source: &Source) -> Outcome {
        let _held = self.lock.lock();
        self.release(source);
        match self.pin(source) {
            Ok(_) => Outcome::Success,
            Err(none) => unavailable(none),
        }
    }

    /// Offers the entry at the cursor to `emit` and moves on when it was taken. A buffer too small
    /// leaves the cursor where it is.
    pub(crate) fn next(&self, source: &Source, emit: impl FnOnce(&Table, u32) -> Outcome) -> Outcome {
        let _held = self.lock.lock();
        let index = match self.index.load(Relaxed) {
            NONE => match self.pin(source) {
                Ok(index) => index,
                Err(none) => return unavailable(none),
            },
            index => index,
        };
        // SAFETY: pinned by this cursor, whose lock is held until after the last use.
        let Some(table) = (unsafe { source.pinned(index) }) else {
            return Outcome::Missing;
        };
        if !table.stats().enumerate {
            return Outcome::NotFound;
        }
        let position = self.position.load(Relaxed);
        let outcome = emit(table, position);
        if outcome == Outcome::Success {
            self.position.store(position.saturating_add(1), Relaxed);
        }
        outcome
    }

    /// Lets go of the table.
    pub(crate) fn end(&self, source: &Source) -> Outcome {
        let _held = self.lock.lock();
        self.release(source);
        Outcome::Success
    }

    /// As `end`, for unloading: a cursor in use stays.
    pub(crate) fn close(&self, source: &Source) {
        if let Some(_held) = self.lock.try_lock() {
            self.release(source);
        }
    }

    /// In a forked child: the lock's holder may be gone. Returns the entry that stays pinned.
    pub(crate) fn after_fork_in_child(&self) -> usize {
        self.lock.reset();
        self.index.load(Relaxed)
    }

    fn pin(&self, source: &Source) -> Result<usize, NoTable> {
        let index = source.pin(std::ptr::from_ref(self).addr())?;
        self.position.store(0, Relaxed);
        self.index.store(index, Relaxed);
        Ok(index)
    }

    fn release(&self, source: &Source) {
        let index = self.index.swap(NONE, Relaxed);
        if index != NONE {
            source.unpin(index);
        }
    }
}

/// The outcome when there is no table.
pub(crate) fn unavailable(none: NoTable) -> Outcome {
    match none {
        NoTable::Missing => Outcome::Missing,
        NoTable::Damaged => Outcome::Damaged,
    }
}
