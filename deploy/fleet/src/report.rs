//! What a run found, as JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Upper bound of the first step of a histogram, milliseconds.
const FIRST_STEP: f64 = 0.1;
/// From one step to the next: four steps double.
const GROWTH: f64 = 1.189_207_115_002_721;

/// A run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Hosts that were played.
    pub hosts: usize,
    /// What was played.
    pub acts: Vec<Played>,
}

/// What an act found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Played {
    /// As it was written.
    pub act: String,
    /// How long it took.
    pub seconds: f64,
    /// Single figures, with their unit at the end of the name.
    pub figures: BTreeMap<String, f64>,
    /// How long something took, each time or for each host.
    pub times: BTreeMap<String, Times>,
    /// How often something happened in each second from the beginning of the act.
    pub per_second: BTreeMap<String, Vec<u64>>,
}

impl Played {
    /// Notes a figure.
    pub fn figure(&mut self, name: &str, value: f64) {
        // Three decimals say more than any of these measurements knows.
        self.figures.insert(name.to_owned(), (value * 1000.0).round() / 1000.0);
    }

    /// Notes times; none are left out.
    pub fn times(&mut self, name: &str, times: Vec<Duration>) {
        if let Some(times) = Times::of(times) {
            self.times.insert(name.to_owned(), times);
        }
    }
}

/// A histogram with what is asked of it most.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// How many.
    pub count: usize,
    /// Half took no longer, milliseconds.
    pub p50_ms: f64,
    /// 99 in 100 took no longer.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
    /// Upper bound of each step in milliseconds, and how many are in it; empty ones are left out.
    pub steps: Vec<(f64, usize)>,
}

impl Times {
    /// `None` of nothing.
    #[must_use]
    pub fn of(mut times: Vec<Duration>) -> Option<Self> {
        times.sort_unstable();
        let milliseconds = |time: &Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
        let at = |share: usize| {
            times
                .get((times.len() * share).div_ceil(100).max(1) - 1)
                .map(milliseconds)
        };
        let (p50_ms, p99_ms, max_ms) = (at(50)?, at(99)?, at(100)?);
        let mut steps: Vec<(f64, usize)> = Vec::new();
        let mut bound = FIRST_STEP;
        for time in times.iter().map(milliseconds) {
            while time > bound {
                bound *= GROWTH;
            }
            let shown = (bound * 1000.0).round() / 1000.0;
            match steps.last_mut() {
                Some((last, count)) if *last == shown => *count += 1,
                _ => steps.push((shown, 1)),
            }
        }
        Some(Self {
            count: times.len(),
            p50_ms,
            p99_ms,
            max_ms,
            steps,
        })
    }
}

/// How often something happened in each second, up to the last in which it did.
#[must_use]
pub fn per_second(times: impl IntoIterator<Item = Duration>) -> Vec<u64> {
    let mut counts = Vec::new();
    for second in times
        .into_iter()
        .map(|time| usize::try_from(time.as_secs()).unwrap_or(usize::MAX))
    {
        // A run takes minutes; what says otherwise is no time.
        if second < 100_000 {
            if counts.len() <= second {
                counts.resize(second + 1, 0);
            }
            if let Some(count) = counts.get_mut(second) {
                *count += 1;
            }
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_share_is_of_those_that_took_no_longer() {
        let times = Times::of((1..=200).map(Duration::from_millis).collect()).unwrap();
        assert_eq!(
            (times.count, times.p50_ms, times.p99_ms, times.max_ms),
            (200, 100.0, 198.0, 200.0)
        );
        assert_eq!(Times::of(Vec::new()), None);
        let one = Times::of(vec![Duration::ZERO]).unwrap();
        assert_eq!((one.p50_ms, one.max_ms, one.steps), (0.0, 0.0, vec![(0.1, 1)]));
    }

    #[test]
    fn seconds_without_anything_are_shown() {
        let times = [0, 999, 2000, 2001].map(Duration::from_millis);
        assert_eq!(per_second(times), [2, 0, 2]);
        assert!(per_second([]).is_empty());
    }

    proptest! {
        #[test]
        fn every_time_is_in_one_step_and_the_bounds_hold(micros in prop::collection::vec(0u64..100_000_000, 1..200)) {
            let all: Vec<_> = micros.iter().copied().map(Duration::from_micros).collect();
            let times = Times::of(all.clone()).unwrap();
            prop_assert_eq!(times.steps.iter().map(|(_, count)| count).sum::<usize>(), all.len());
            prop_assert!(times.steps.is_sorted_by(|left, right| left.0 < right.0));
            prop_assert!(times.p50_ms <= times.p99_ms && times.p99_ms <= times.max_ms);
            let last = times.steps.last().unwrap().0;
            prop_assert!(last * 1.001 >= times.max_ms && last <= (times.max_ms * 1.2).max(0.1));
        }
    }
}
