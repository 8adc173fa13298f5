//! How often one address may be wrong.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

/// What failures are counted over.
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses that are remembered; beyond that, those whose minute is over are forgotten first.
const MOST: usize = 10_000;

/// Counts wrong tokens by address. A good token is taken whatever is counted: nobody can lock others
/// out who come from the same address.
#[derive(Debug)]
pub(crate) struct Failures {
    per_minute: u32,
    counted: Mutex<HashMap<u128, (Timestamp, u32)>>,
}

impl Failures {
    /// Takes `per_minute` failures of one address; 0 takes any number.
    pub(crate) fn new(per_minute: u32) -> Self {
        Self {
            per_minute,
            counted: Mutex::default(),
        }
    }

    /// Counts one failure. Some seconds when it was one too many.
    pub(crate) fn note(&self, address: IpAddr, now: Timestamp) -> Option<u64> {
        if self.per_minute == 0 {
            return None;
        }
        let window = i64::try_from(WINDOW.as_millis()).unwrap_or(i64::MAX);
        let left = |since: Timestamp| since.as_millisecond().saturating_add(window) - now.as_millisecond();
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let key = key(address);
        if counted.len() >= MOST && !counted.contains_key(&key) {
            counted.retain(|_, (since, _)| left(*since) > 0);
            if counted.len() >= MOST {
                counted.clear();
            }
        }
        let (since, count) = counted.entry(key).or_insert((now, 0));
        // A clock that was set back must not hold anybody for long.
        if left(*since) <= 0 || left(*since) > window {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        let wait = u64::try_from(left(*since)).unwrap_or(0).div_ceil(1000);
        (*count > self.per_minute).then_some(wait.max(1))
    }
}

/// The address, or the /64 of an IPv6 one, since a client owns all of it.
fn key(address: IpAddr) -> u128 {
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
        let one: IpAddr = "192.0.2.1".parse().unwrap();
        assert_eq!(failures.note(one, at(0)), None);
        assert_eq!(failures.note(one, at(10)), None);
        assert_eq!(failures.note(one, at(20)), Some(40));
        assert_eq!(failures.note("192.0.2.2".parse().unwrap(), at(20)), None);
        assert_eq!(failures.note(one, at(60)), None, "a new minute");
        assert_eq!(failures.note(one, at(0)), None, "the clock went back");
        assert!((0..100).all(|_| Failures::new(0).note(one, at(0)).is_none()));
    }

    #[test]
    fn one_customer_of_ipv6_is_one_address_and_memory_is_bounded() {
        assert_eq!(
            key("2001:db8::1".parse().unwrap()),
            key("2001:db8::ffff:1".parse().unwrap())
        );
        assert_eq!(
            key("::ffff:192.0.2.1".parse().unwrap()),
            key("192.0.2.1".parse().unwrap())
        );
        let failures = Failures::new(1);
        for number in 0..u32::try_from(MOST).unwrap() + 10 {
            let address = IpAddr::V4(std::net::Ipv4Addr::from_bits(number));
            let _ = failures.note(address, Timestamp::UNIX_EPOCH);
        }
        assert!(failures.counted.lock().unwrap().len() <= MOST);
    }
}
