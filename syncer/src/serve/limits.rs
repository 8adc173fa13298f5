//! How often one address may be wrong.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use ring::digest::{SHA256, digest};

/// What failures are counted over.
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses that are remembered; beyond that, those whose minute is over are forgotten first.
const MOST: usize = 10_000;

/// Counts failures by what stands for somebody: an address ([`of_address`]), a name ([`of_name`]).
///
/// Wrong tokens are counted by address, and a good token is taken whatever is counted: nobody can lock
/// others out who come from the same address.
#[derive(Debug)]
pub(crate) struct Failures {
    per_minute: u32,
    most: usize,
    counted: Mutex<HashMap<u128, (Timestamp, u32)>>,
}

impl Failures {
    /// Takes `per_minute` failures of one; 0 takes any number.
    pub(crate) fn new(per_minute: u32) -> Self {
        Self::remembering(per_minute, MOST)
    }

    /// [`Failures::new`] with the number of those that are remembered.
    pub(crate) fn remembering(per_minute: u32, most: usize) -> Self {
        Self {
            per_minute,
            most,
            counted: Mutex::default(),
        }
    }

    /// Counts one failure. Some seconds when it was one too many.
    pub(crate) fn note(&self, key: u128, now: Timestamp) -> Option<u64> {
        if self.per_minute == 0 {
            return None;
        }
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if counted.len() >= self.most && !counted.contains_key(&key) {
            counted.retain(|_, (since, _)| left(*since, now).is_some());
            if counted.len() >= self.most {
                counted.clear();
            }
        }
        let (since, count) = counted.entry(key).or_insert((now, 0));
        if left(*since, now).is_none() {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        let wait = left(*since, now).unwrap_or(0).div_ceil(1000);
        (*count > self.per_minute).then_some(wait.max(1))
    }

    /// Were there as many failures as may be in this minute?
    pub(crate) fn are_used_up(&self, key: u128, now: Timestamp) -> bool {
        let counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let noted = counted.get(&key);
        self.per_minute > 0
            && noted.is_some_and(|(since, count)| left(*since, now).is_some() && *count >= self.per_minute)
    }
}

/// Milliseconds left of the minute that began at `since`. None when it is over, and when the clock was
/// set back: that must not hold anybody for long.
fn left(since: Timestamp, now: Timestamp) -> Option<u64> {
    let window = i64::try_from(WINDOW.as_millis()).unwrap_or(i64::MAX);
    let left = since.as_millisecond().saturating_add(window) - now.as_millisecond();
    u64::try_from(left).ok().filter(|_| (1..=window).contains(&left))
}

/// What stands for a name: as good as the name, and of one size.
pub(crate) fn of_name(name: &[u8]) -> u128 {
    let first = digest(&SHA256, name)
        .as_ref()
        .first_chunk()
        .copied()
        .unwrap_or_default();
    u128::from_be_bytes(first)
}

/// What stands for an address: itself, or the /64 of an IPv6 one, since a client owns all of it.
pub(crate) fn of_address(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => u128::from(address.to_bits()) | 0xffff_0000_0000,
        IpAddr::V6(address) => address.to_bits() & !u128::from(u64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_waits_for_the_end_of_its_minute() {
        let failures = Failures::new(2);
        let at = |seconds: i64| Timestamp::from_second(seconds).unwrap();
        let of = |text: &str| of_address(text.parse().unwrap());
        let one = of("192.0.2.1");
        assert_eq!(failures.note(one, at(0)), None);
        assert_eq!(failures.note(one, at(10)), None);
        assert_eq!(failures.note(one, at(20)), Some(40));
        assert_eq!(failures.note(of("192.0.2.2"), at(20)), None);
        assert!(failures.are_used_up(one, at(20)) && !failures.are_used_up(of("192.0.2.2"), at(20)));
        assert!(!failures.are_used_up(one, at(60)));
        assert_eq!(failures.note(one, at(60)), None, "a new minute");
        assert_eq!(failures.note(one, at(0)), None, "the clock went back");
        assert!((0..100).all(|_| Failures::new(0).note(one, at(0)).is_none()));
        assert!(!Failures::new(0).are_used_up(one, at(0)));
    }

    #[test]
    fn one_customer_of_ipv6_is_one_address_and_memory_is_bounded() {
        let of = |text: &str| of_address(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        let failures = Failures::new(1);
        for number in 0..u32::try_from(MOST).unwrap() + 10 {
            let address = IpAddr::V4(std::net::Ipv4Addr::from_bits(number));
            let _ = failures.note(of_address(address), Timestamp::UNIX_EPOCH);
        }
        assert!(failures.counted.lock().unwrap().len() <= MOST);
    }

    #[test]
    fn names_are_told_apart() {
        assert_ne!(of_name(b"uid=a"), of_name(b"uid=b"));
        assert_eq!(of_name(b"uid=a"), of_name(b"uid=a"));
    }
}
