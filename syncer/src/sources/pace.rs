use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Calls a second below which throttling never pushes the pace.
const SLOWEST: f64 = 0.5;
/// What is left of the pace after a throttled call.
const CUT: f64 = 0.8;
/// What is left of it at least, however few calls were answered since the last cut: a moment says little.
const DEEPEST_CUT: f64 = 0.5;
/// Throttled replies that come closer together than this are one event.
const ONE_EVENT: Duration = Duration::from_millis(500);
/// How much faster the pace gets within a second without throttling, as a share of itself.
const GROWTH_A_SECOND: f64 = 0.05;

/// A pace for calls that a service throttles: unlimited until the service complains, then just
/// below the rate at which it did, and slowly up again. The quota of an account is not known in
/// advance and is shared with others, so it has to be found by trying.
#[derive(Debug)]
pub(super) struct Pace(Mutex<State>);

/// How a call lines up for its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// One of many that may be made in any order.
    Common,
    /// The next page of a list whose pages name each other. Such a list is the longest way through
    /// a read, since none of its calls can be made early; in the common line it would get one turn
    /// for each of all the others in it, and still be at it, alone, long after they are done.
    Chain,
}

#[derive(Debug)]
struct State {
    /// Calls a second; `None` before the first complaint.
    rate: Option<f64>,
    /// The next free turn in the common line.
    next: Instant,
    /// The next free turn for chains.
    next_chain: Instant,
    cut_at: Option<Instant>,
    window_start: Instant,
    window_calls: f64,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new(State {
            rate: None,
            next: now,
            next_chain: now,
            cut_at: None,
            window_start: now,
            window_calls: 0.0,
        }))
    }

    /// Waits for this caller's turn.
    pub(super) async fn turn(&self, line: Line) {
        let until = self.reserve(line, Instant::now());
        if let Some(until) = until {
            tokio::time::sleep_until(until).await;
        }
    }

    fn reserve(&self, line: Line, now: Instant) -> Option<Instant> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let gap = Duration::from_secs_f64(1.0 / state.rate?);
        let common = state.next.max(now);
        // A chain's turn comes out of the common line's, so that both together keep the rate.
        state.next = common + gap;
        let at = match line {
            Line::Common => common,
            Line::Chain => {
                let at = state.next_chain.max(now);
                state.next_chain = at + gap;
                at
            }
        };
        (at > now).then_some(at)
    }

    /// A call was answered.
    pub(super) fn succeeded(&self, now: Instant) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(state.window_start) > Duration::from_secs(2) {
            // Halving both keeps a moving average without a history.
            let half = now.saturating_duration_since(state.window_start) / 2;
            state.window_start += half;
            state.window_calls /= 2.0;
        }
        state.window_calls += 1.0;
        if let Some(rate) = &mut state.rate {
            // A success stands for 1/rate seconds, so a second's worth of them grows by the share.
            *rate += GROWTH_A_SECOND;
        }
    }

    /// A call was refused for coming too fast.
    pub(super) fn throttled(&self, now: Instant) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state
            .cut_at
            .is_some_and(|at| now.saturating_duration_since(at) < ONE_EVENT)
        {
            return;
        }
        state.cut_at = Some(now);
        let window = now.saturating_duration_since(state.window_start).as_secs_f64().max(0.1);
        let seen = state.window_calls / window;
        let least = state.rate.unwrap_or(seen) * DEEPEST_CUT;
        let before = state.rate.map_or(seen, |rate| rate.min(seen));
        state.rate = Some((before * CUT).max(least).max(SLOWEST));
        state.next = state.next.max(now);
        // What the service lets through from here on is its quota, without the burst that went before.
        state.window_start = now;
        state.window_calls = 0.0;
    }

    /// Calls a second, when limited.
    #[cfg(test)]
    fn rate(&self) -> Option<f64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).rate
    }
}

/// How long the `attempt`-th repetition of one throttled call waits: doubling from 0.1 s to 5 s,
/// with `jitter` (0 to 1) choosing between half and all of it. A chain, of which there are two at most,
/// begins with a quarter: while the many wait, the service has room for it.
pub(super) fn backoff(line: Line, attempt: u32, jitter: f64) -> Duration {
    let first = match line {
        Line::Common => 0.1,
        Line::Chain => 0.025,
    };
    let full = (first * f64::from(2_u32.saturating_pow(attempt.min(10)))).min(5.0);
    Duration::from_secs_f64(full * (0.5 + jitter.clamp(0.0, 1.0) / 2.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_waits_until_the_service_complains() {
        let start = Instant::now();
        let pace = Pace::new(start);
        assert!((0..1000).all(|_| pace.reserve(Line::Common, start).is_none()));
    }

    #[test]
    fn after_a_complaint_calls_come_below_the_rate_that_caused_it() {
        let start = Instant::now();
        let pace = Pace::new(start);
        let mut now = start;
        for _ in 0..100 {
            now += Duration::from_millis(10);
            pace.succeeded(now);
        }
        pace.throttled(now);
        pace.throttled(now);
        let rate = pace.rate().unwrap();
        assert!((75.0..85.0).contains(&rate), "100 calls a second were cut to {rate}");
        let last = (0..80).filter_map(|_| pace.reserve(Line::Common, now)).last().unwrap();
        let took = (last - now).as_secs_f64();
        assert!((0.9..1.1).contains(&took), "80 calls take {took} s");
    }

    /// A burst lets many calls through before the first complaint; what comes through after it is the
    /// quota.
    #[test]
    fn the_second_complaint_knows_the_quota() {
        let start = Instant::now();
        let pace = Pace::new(start);
        let mut now = start;
        for _ in 0..450 {
            now += Duration::from_micros(2_222);
            pace.succeeded(now);
        }
        pace.throttled(now);
        assert!(pace.rate().unwrap() > 300.0, "all that is known is the burst");
        for _ in 0..120 {
            now += Duration::from_millis(5);
            pace.succeeded(now);
        }
        pace.throttled(now);
        let rate = pace.rate().unwrap();
        assert!((150.0..200.0).contains(&rate), "{rate} for a quota of 200");
        for _ in 0..3 {
            now += Duration::from_millis(600);
            pace.throttled(now);
        }
        let last = pace.rate().unwrap();
        assert!(
            (rate / 8.01..rate / 7.9).contains(&last),
            "never more than half at once: {last}"
        );
    }

    /// A pace of 80 calls a second.
    fn limited(start: Instant) -> (Pace, Instant) {
        let pace = Pace::new(start);
        let mut now = start;
        for _ in 0..100 {
            now += Duration::from_millis(10);
            pace.succeeded(now);
        }
        pace.throttled(now);
        (pace, now)
    }

    #[test]
    fn a_chain_does_not_wait_behind_the_many_and_both_keep_the_rate() {
        let (pace, start) = limited(Instant::now());
        let rate = pace.rate().unwrap();
        // Eight in the common line, and after each call of the chain one more of them.
        let mut last = start;
        for _ in 0..8 {
            last = pace.reserve(Line::Common, start).unwrap_or(start);
        }
        let mut now = start;
        for _ in 0..100 {
            now = pace.reserve(Line::Chain, now).unwrap_or(now);
            last = pace.reserve(Line::Common, now).unwrap_or(now);
        }
        let chain = (now - start).as_secs_f64() * rate;
        assert!(
            (98.0..101.0).contains(&chain),
            "100 calls of the chain took the time of {chain}"
        );
        let all = (last - start).as_secs_f64() * rate;
        assert!((206.0..209.0).contains(&all), "208 calls took the time of {all}");
    }

    #[test]
    fn the_pace_recovers_and_never_stops() {
        let start = Instant::now();
        let pace = Pace::new(start);
        for second in 1..50 {
            pace.throttled(start + Duration::from_secs(second));
        }
        assert!(pace.rate().unwrap() >= SLOWEST);
        for _ in 0..1000 {
            pace.succeeded(start + Duration::from_secs(60));
        }
        assert!(pace.rate().unwrap() > 40.0);
    }

    #[test]
    fn backoff_doubles_up_to_its_ceiling() {
        assert_eq!(backoff(Line::Common, 0, 1.0), Duration::from_millis(100));
        assert_eq!(backoff(Line::Common, 3, 1.0), Duration::from_millis(800));
        assert_eq!(backoff(Line::Common, 3, 0.0), Duration::from_millis(400));
        assert_eq!(backoff(Line::Chain, 2, 1.0), Duration::from_millis(100));
        assert_eq!(backoff(Line::Chain, 60, 1.0), Duration::from_secs(5));
    }
}
