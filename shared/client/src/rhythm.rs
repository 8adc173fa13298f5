//! When the next cycle comes: pure arithmetic on a random number.

use std::time::Duration;

/// Longest wait after failures, whatever the interval: a host comes back within this time after an
/// outage of any length.
const LONGEST_BACKOFF: Duration = Duration::from_secs(300);

/// First wait after a failure; it doubles with each further one.
const FIRST_BACKOFF: Duration = Duration::from_secs(5);

/// How often a host looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rhythm {
    /// From the end of one cycle to the start of the next.
    pub interval: Duration,
    /// Each wait is this much shorter or longer at most, at random.
    pub jitter: Duration,
    /// The first cycle after a start waits up to this long, when there is something to serve already.
    pub splay: Duration,
}

impl Rhythm {
    /// The wait before the first cycle after a start. A host that serves nothing does not wait. `random` is from 0 to 1.
    #[must_use]
    pub fn first(&self, serves: bool, random: f64) -> Duration {
        if serves {
            self.splay.mul_f64(random.clamp(0.0, 1.0))
        } else {
            Duration::ZERO
        }
    }

    /// The wait after a cycle; `failures` cycles in a row have failed. After a success that is the
    /// interval give or take the jitter; after failures a doubling bound, drawn from its upper half so
    /// that hosts that failed together do not come back together. `asked` is what a backend asked for
    /// (`Retry-After`).
    #[must_use]
    pub fn next(&self, failures: u32, asked: Option<Duration>, random: f64) -> Duration {
        let random = random.clamp(0.0, 1.0);
        let wait = if failures == 0 {
            let jitter = self.jitter.min(self.interval);
            (self.interval - jitter) + (jitter * 2).mul_f64(random)
        } else {
            let ceiling = LONGEST_BACKOFF.max(self.interval);
            let doubled = FIRST_BACKOFF
                .min(self.interval)
                .saturating_mul(1u32.checked_shl(failures - 1).unwrap_or(u32::MAX));
            doubled.min(ceiling).mul_f64(0.5 + random / 2.0)
        };
        // An hour at most: a broken front must not silence a host for good.
        wait.max(asked.unwrap_or_default().min(Duration::from_secs(3600)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rhythm(interval: u64, jitter: u64) -> Rhythm {
        Rhythm {
            interval: Duration::from_secs(interval),
            jitter: Duration::from_secs(jitter),
            splay: Duration::from_secs(15),
        }
    }

    #[test]
    fn success_keeps_the_interval_and_failures_double_up_to_a_ceiling() {
        let rhythm = rhythm(60, 6);
        assert_eq!(rhythm.next(0, None, 0.0), Duration::from_secs(54));
        assert_eq!(rhythm.next(0, None, 1.0), Duration::from_secs(66));
        let waits: Vec<u64> = (1..9)
            .map(|failures| rhythm.next(failures, None, 1.0).as_secs())
            .collect();
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 300, 300]);
        let asked = rhythm.next(1, Some(Duration::from_secs(90)), 0.0);
        assert_eq!(asked, Duration::from_secs(90));
    }

    #[test]
    fn only_a_host_that_serves_already_waits_before_its_first_cycle() {
        assert_eq!(rhythm(60, 6).first(false, 1.0), Duration::ZERO);
        assert_eq!(rhythm(60, 6).first(true, 1.0), Duration::from_secs(15));
    }

    proptest! {
        #[test]
        fn waits_are_never_zero_after_a_cycle_and_never_past_the_ceiling(
            interval in 1u64..90_000, jitter in 0u64..90_000, failures: u32, random in -1.0f64..2.0
        ) {
            let wait = rhythm(interval, jitter).next(failures, None, random);
            prop_assert!(wait <= LONGEST_BACKOFF.max(Duration::from_secs(interval * 2)));
            prop_assert!(failures == 0 || wait >= Duration::from_millis(500));
        }
    }
}
