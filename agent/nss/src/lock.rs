//! A lock that a forked child can reset. Held for microseconds; waiters yield.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

unsafe extern "C" {
    fn sched_yield() -> std::ffi::c_int;
}

#[derive(Debug)]
pub(crate) struct Lock(AtomicBool);

/// Released on drop.
#[derive(Debug)]
pub(crate) struct Held<'a>(&'a AtomicBool);

impl Lock {
    pub(crate) const fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    pub(crate) fn try_lock(&self) -> Option<Held<'_>> {
        self.0
            .compare_exchange(false, true, Acquire, Relaxed)
            .ok()
            .map(|_| Held(&self.0))
    }

    pub(crate) fn lock(&self) -> Held<'_> {
        loop {
            for _ in 0..100 {
                if let Some(held) = self.try_lock() {
                    return held;
                }
                std::hint::spin_loop();
            }
            // SAFETY: no arguments, no memory.
            unsafe { sched_yield() };
        }
    }

    /// In a forked child the holder may be a thread that was not copied.
    pub(crate) fn reset(&self) {
        self.0.store(false, Release);
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.store(false, Release);
    }
}
