//! What happens to hosts, as they say it themselves, in this process or in another one.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Tells apart what hosts have: the first eight bytes of a SHA-256, of a body or of all records in it.
pub(crate) type Mark = u64;

/// The mark in a SHA-256.
pub(crate) fn mark_of(digest: &[u8; 32]) -> Mark {
    digest.iter().take(8).fold(0, |mark, byte| mark << 8 | u64::from(*byte))
}

/// Something that happened to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    /// Its place on the board.
    pub(crate) host: usize,
    /// When, in microseconds since the board was hung up.
    pub(crate) at: u64,
    /// What.
    pub(crate) what: What,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum What {
    /// A notice came, whatever it said.
    Heard,
    /// A notice came that says something else than the one before.
    Told,
    /// This was fetched and checked.
    Has(Mark),
    /// A file was refused: one that came after a newer one, or one that nobody may have made.
    Refused {
        /// After a newer one.
        older: bool,
    },
    /// A cycle begins.
    Begins,
    /// It ends.
    Ends {
        /// Without a failure.
        well: bool,
    },
}

/// Where it is noted.
pub(crate) trait Notes: Debug + Send + Sync {
    /// Time since the board was hung up.
    fn now(&self) -> Duration;

    /// Notes that something happened.
    fn note(&self, event: Event);
}

/// Where one host notes it.
#[derive(Clone, Debug)]
pub(crate) struct Desk {
    /// Its place on the board.
    pub(crate) host: usize,
    pub(crate) notes: Arc<dyn Notes>,
}

impl Desk {
    /// Something happens now.
    pub(crate) fn say(&self, what: What) {
        let at = u64::try_from(self.notes.now().as_micros()).unwrap_or(u64::MAX);
        let host = self.host;
        self.notes.note(Event { host, at, what });
    }
}

/// The time of a clock that all processes of a machine share and nobody sets.
pub(crate) fn monotonic() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_of_the_first_bytes() {
        let mut digest = [7; 32];
        let mark = mark_of(&digest);
        assert_eq!(mark, 0x0707_0707_0707_0707);
        digest[8] = 0;
        assert_eq!(mark_of(&digest), mark);
        digest[7] = 0;
        assert_ne!(mark_of(&digest), mark);
    }

    #[test]
    fn the_clock_goes_on() {
        let before = monotonic();
        assert!(before > Duration::ZERO && monotonic() >= before);
    }
}
