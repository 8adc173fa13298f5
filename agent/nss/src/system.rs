//! The clock, and the keeping away of cancellation.

use std::ffi::{c_int, c_long};

#[repr(C)]
struct Timespec {
    seconds: c_long,
    nanoseconds: c_long,
}

const CLOCK_MONOTONIC_COARSE: c_int = 6;
const PTHREAD_CANCEL_DISABLE: c_int = 1;

unsafe extern "C" {
    fn clock_gettime(clock: c_int, time: *mut Timespec) -> c_int;
    fn pthread_setcancelstate(state: c_int, old: *mut c_int) -> c_int;
}

/// Milliseconds of the monotonic clock, from the vDSO.
pub(crate) fn now_ms() -> u64 {
    let mut time = Timespec {
        seconds: 0,
        nanoseconds: 0,
    };
    // SAFETY: `time` is a valid timespec to write.
    unsafe { clock_gettime(CLOCK_MONOTONIC_COARSE, &raw mut time) };
    (time.seconds as u64)
        .wrapping_mul(1000)
        .wrapping_add(time.nanoseconds as u64 / 1_000_000)
}

/// Keeps pthread_cancel from ending this thread between taking and releasing the lock: opening a file
/// is a cancellation point.
pub(crate) struct Uncancelled {
    before: c_int,
}

impl Uncancelled {
    pub(crate) fn new() -> Self {
        let mut before = 0;
        // SAFETY: `before` is a valid int to write.
        unsafe { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &raw mut before) };
        Self { before }
    }
}

impl Drop for Uncancelled {
    fn drop(&mut self) {
        // SAFETY: a null pointer means that the old state is not wanted (glibc, musl).
        unsafe { pthread_setcancelstate(self.before, std::ptr::null_mut()) };
    }
}
