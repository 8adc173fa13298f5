use std::time::Instant;

/// A token bucket as AWS throttles an account: `burst` calls at once, refilled at `per_second`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quota {
    /// Calls a second that last.
    pub per_second: f64,
    /// Calls that may come at once.
    pub burst: f64,
}

/// The bucket's level. Time comes as an argument.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    level: Option<(f64, Instant)>,
}

impl Bucket {
    /// Takes one token at `now`; `false` when the bucket is empty.
    pub(super) fn take(&mut self, quota: Quota, now: Instant) -> bool {
        let (before, at) = self.level.unwrap_or((quota.burst, now));
        let refill = now.saturating_duration_since(at).as_secs_f64() * quota.per_second;
        let level = (before + refill).min(quota.burst);
        let granted = level >= 1.0;
        self.level = Some((if granted { level - 1.0 } else { level }, now));
        granted
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_passes_then_the_rate_holds() {
        let quota = Quota {
            per_second: 10.0,
            burst: 3.0,
        };
        let start = Instant::now();
        let mut bucket = Bucket::default();
        let granted = (0..5).filter(|_| bucket.take(quota, start)).count();
        assert_eq!(granted, 3);
        assert!(bucket.take(quota, start + Duration::from_millis(100)));
        assert!(!bucket.take(quota, start + Duration::from_millis(150)));
        assert!(bucket.take(quota, start + Duration::from_secs(60)));
    }
}
