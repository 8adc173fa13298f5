//! The service manager: readiness, watchdog, status line (sd_notify(3)) and the stop signals.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};

/// Tells the service manager that the program serves. Does nothing when it runs by hand.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Sets the line that `systemctl status` shows.
pub fn status(status: &str) {
    notify(&[NotifyState::Status(status)]);
}

/// Tells the service manager that the program is stopping.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// How often the watchdog wants to hear from the program: half of what the unit sets in
/// `WatchdogSec=`. `None` when the unit sets none.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

/// Tells the watchdog that the program is alive. Call it from the loop that does the work, never
/// from a timer of its own: a timer stays alive when the work hangs. Says nothing when the unit sets
/// no watchdog: a message that nobody waits for fills the manager's socket.
pub fn alive() {
    if watchdog_interval().is_some() {
        notify(&[NotifyState::Watchdog]);
    }
}

/// Waits for SIGTERM or SIGINT and names the one that came.
///
/// # Errors
/// When the process may not install signal handlers.
pub async fn stop_signal() -> std::io::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => Ok("SIGTERM"),
        _ = interrupt.recv() => Ok("SIGINT"),
    }
}

/// Raises the limit of open files of this process, and of those that it starts, as far as it may: to the hard limit,
/// and, for who may raise that too, to `wanted`. The soft limit is often 1024 for the sake of programs that use
/// select(2). Returns the limit that holds now, `None` for none.
///
/// # Errors
/// When the soft limit cannot be raised.
pub fn raise_open_files(wanted: u64) -> std::io::Result<Option<u64>> {
    let limit = getrlimit(Resource::Nofile);
    let set = |most| {
        setrlimit(
            Resource::Nofile,
            Rlimit {
                current: most,
                maximum: most,
            },
        )
    };
    if limit.maximum.is_some_and(|maximum| maximum < wanted) && set(Some(wanted)).is_ok() {
        return Ok(Some(wanted));
    }
    set(limit.maximum)?;
    Ok(limit.maximum)
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager could not be told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_files_are_raised_to_the_hard_limit_at_least() {
        let before = getrlimit(Resource::Nofile).maximum;
        let now = raise_open_files(0).unwrap();
        assert_eq!(now, before);
        assert_eq!(getrlimit(Resource::Nofile).current, before);
    }
}
