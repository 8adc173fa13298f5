//! Waiting for what may take its time: the watchdog is for what hangs, not for what is slow.

use std::time::Duration;

/// How often the service manager is told; the unit's `WatchdogSec=` is many times that.
const EVERY: Duration = Duration::from_secs(2);

/// Waits for `step`, which has a limit of its own, and calls `alive` every two seconds meanwhile.
pub(super) fn patiently<T>(step: impl Future<Output = T>, alive: &mut dyn FnMut()) -> impl Future<Output = T> {
    let mut step = Box::pin(step);
    async move {
        loop {
            match tokio::time::timeout(EVERY, &mut step).await {
                Ok(done) => return done,
                Err(_elapsed) => alive(),
            }
        }
    }
}
