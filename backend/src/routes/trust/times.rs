//! Times of the store and of the wire.

use dirless_wire::trust::Time;
use jiff::Timestamp;

/// In whole seconds, as the verified protocol has them.
pub(super) fn time(at: Timestamp) -> Time {
    let seconds = u64::try_from(at.as_second()).unwrap_or_default();
    // The store's times end where those of the wire do, before the year 10,000.
    Time::from_unix_seconds(seconds).expect("a timestamp is before the year 10,000")
}

/// As the store has it.
pub(super) fn moment(time: &Time) -> Timestamp {
    let seconds = i64::try_from(time.unix_seconds()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_the_way_there_and_back() {
        for text in ["1970-01-01T00:00:00Z", "2026-11-22T08:00:00Z", "9999-12-30T00:00:00Z"] {
            let wire = Time::new(text).unwrap();
            assert_eq!(time(moment(&wire)), wire);
        }
        assert_eq!(time(Timestamp::MAX).as_str().get(..4), Some("9999"));
        assert_eq!(time(Timestamp::MIN).as_str(), "1970-01-01T00:00:00Z");
        assert!(moment(&Time::new("9999-12-31T23:59:59Z").unwrap()) <= Timestamp::MAX);
    }
}
