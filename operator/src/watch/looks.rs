//! When receipts are looked at. All of them are read each time, so that of many thousands of hosts a look takes seconds, at both
//! ends.

use std::time::{Duration, Instant};

/// Pause between two looks while nothing is told.
const EVERY: Duration = Duration::from_secs(2);
/// How soon after a notice hosts may have applied it.
const SOON: Duration = Duration::from_millis(200);
/// For how long after a notice receipts are looked at that often.
const BUSY: Duration = Duration::from_secs(10);
/// While nothing is told, pauses are this many times as long as the look before.
const REST: u32 = 9;
/// Longest pause, whatever a look took.
const LONGEST: Duration = Duration::from_secs(60);

/// When it is time for the next look.
pub(super) struct Looks {
    next: Instant,
    busy_until: Instant,
    /// How long the last one took.
    took: Duration,
}

impl Looks {
    /// After a first one, at `now`.
    pub(super) fn begin(now: Instant) -> Self {
        Self {
            next: now + EVERY,
            busy_until: now,
            took: Duration::ZERO,
        }
    }

    /// How long it is until the next.
    pub(super) fn left(&self, now: Instant) -> Duration {
        self.next.saturating_duration_since(now)
    }

    /// There is something new, which hosts apply from `now` on.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.busy_until = now + BUSY;
        self.next = self.next.min(now + self.pause(now));
    }

    /// One was made.
    pub(super) fn made(&mut self, began: Instant, now: Instant) {
        self.took = now.saturating_duration_since(began);
        self.next = now + self.pause(now);
    }

    fn pause(&self, now: Instant) -> Duration {
        let pause = match now < self.busy_until {
            true => self.took.max(SOON),
            false => (self.took * REST).max(EVERY),
        };
        pause.min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_frequent_while_hosts_apply_something_and_cost_no_more_than_a_tenth_of_the_time_else() {
        let now = Instant::now();
        let after = |milliseconds| now + Duration::from_millis(milliseconds);
        let mut looks = Looks::begin(now);
        assert_eq!((looks.left(now), looks.left(after(5000))), (EVERY, Duration::ZERO));
        looks.made(after(2000), after(2010));
        assert_eq!(looks.left(after(2010)), EVERY);

        looks.hurry(after(2100));
        assert_eq!(looks.left(after(2100)), SOON);
        // Notice upon notice puts nothing off.
        looks.hurry(after(2200));
        assert_eq!(looks.left(after(2200)), SOON - Duration::from_millis(100));
        looks.made(after(2300), after(2310));
        assert_eq!(looks.left(after(2310)), SOON);
        looks.made(after(12_200), after(12_210));
        assert_eq!(looks.left(after(12_210)), EVERY);

        // Of many hosts.
        let mut looks = Looks::begin(now);
        looks.made(now, after(1500));
        assert_eq!(looks.left(after(1500)), Duration::from_millis(13_500));
        looks.hurry(after(3000));
        assert_eq!(looks.left(after(3000)), Duration::from_millis(1500));
        looks.made(after(20_000), after(50_000));
        assert_eq!(looks.left(after(50_000)), LONGEST);
    }
}
