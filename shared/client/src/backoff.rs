use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// How often, and how long apart, a call that failed everywhere is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Rounds over all addresses, the first included; 1 means no second try, 0 counts as 1.
    pub rounds: u32,
    /// Upper bound of the first wait; it doubles with each round.
    pub first: Duration,
    /// Upper bound of every wait, also of one that a `Retry-After` asks for: a longer one is given
    /// back to the caller as an error instead.
    pub ceiling: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            rounds: 3,
            first: Duration::from_millis(500),
            ceiling: Duration::from_secs(10),
        }
    }
}

impl RetryPolicy {
    /// One round over all addresses and no waiting: for loops that have their own pace.
    #[must_use]
    pub fn none() -> Self {
        Self {
            rounds: 1,
            ..Self::default()
        }
    }
}

/// Waits that double up to a ceiling, each drawn evenly from the upper half of its bound, so that
/// clients that failed together do not come back together.
#[derive(Debug)]
pub struct Backoff {
    bound: Duration,
    ceiling: Duration,
    random: SmallRng,
}

impl Backoff {
    /// A fresh sequence; the same seed gives the same waits.
    #[must_use]
    pub fn new(first: Duration, ceiling: Duration, seed: u64) -> Self {
        Self {
            bound: first.min(ceiling),
            ceiling,
            random: SmallRng::seed_from_u64(seed),
        }
    }

    /// The next wait, at most the ceiling.
    pub fn wait(&mut self) -> Duration {
        let bound = self.bound;
        self.bound = bound.saturating_mul(2).min(self.ceiling);
        bound.mul_f64(self.random.random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn waits_stay_in_the_upper_half_of_a_doubling_bound(first in 1u64..5_000, ceiling in 1u64..60_000, seed: u64) {
            let (first, ceiling) = (Duration::from_millis(first), Duration::from_millis(ceiling));
            let mut backoff = Backoff::new(first, ceiling, seed);
            let mut bound = first.min(ceiling);
            for _ in 0..40 {
                let wait = backoff.wait();
                prop_assert!(wait <= bound && wait >= bound.mul_f64(0.499), "{wait:?} of {bound:?}");
                bound = (bound * 2).min(ceiling);
            }
        }
    }

    #[test]
    fn seeds_decide() {
        let waits = |seed| {
            let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60), seed);
            (0..5).map(|_| backoff.wait()).collect::<Vec<_>>()
        };
        assert_eq!(waits(1), waits(1));
        assert_ne!(waits(1), waits(2));
    }
}
