use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;

/// Names one backend: which configured URL, and which address of its host. No address means that a
/// proxy finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct BackendKey {
    pub(crate) base: usize,
    pub(crate) address: Option<SocketAddr>,
}

/// What is known of one backend, for status reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendState {
    /// The configured URL, with the address when the host has one.
    pub name: String,
    /// Why it is avoided, and since when; `None` while it is healthy.
    pub failure: Option<(Timestamp, String)>,
}

#[derive(Debug)]
struct Entry {
    key: BackendKey,
    failure: Option<(Timestamp, String)>,
}

/// Health of every known address, and the choice among them. Pure: time is an argument.
#[derive(Debug)]
pub(crate) struct Backends {
    entries: Vec<Entry>,
    readmit_after: Duration,
    random: SmallRng,
}

impl Backends {
    pub(crate) fn new(readmit_after: Duration, random: SmallRng) -> Self {
        Self {
            entries: Vec::new(),
            readmit_after,
            random,
        }
    }

    /// Makes `addresses` the ones behind URL number `base`; those already known keep their health.
    pub(crate) fn set_addresses(&mut self, base: usize, addresses: &[Option<SocketAddr>]) {
        self.entries
            .retain(|entry| entry.key.base != base || addresses.contains(&entry.key.address));
        for &address in addresses {
            let key = BackendKey { base, address };
            if !self.entries.iter().any(|entry| entry.key == key) {
                self.entries.push(Entry { key, failure: None });
            }
        }
    }

    /// A random healthy backend outside `excluded`; when there is none, the one that failed longest
    /// ago, as a last resort.
    pub(crate) fn pick(&mut self, excluded: &[BackendKey], now: Timestamp) -> Option<BackendKey> {
        let open: Vec<&Entry> = self
            .entries
            .iter()
            .filter(|entry| !excluded.contains(&entry.key))
            .collect();
        let healthy: Vec<BackendKey> = open
            .iter()
            .filter(|entry| entry.is_healthy(now, self.readmit_after))
            .map(|entry| entry.key)
            .collect();
        if let Some(key) = healthy.choose(&mut self.random) {
            return Some(*key);
        }
        open.iter()
            .min_by_key(|entry| entry.failure.as_ref().map(|(since, _)| *since))
            .map(|entry| entry.key)
    }

    /// Whether `key` is known and may be used without being a last resort.
    #[cfg(test)]
    fn is_usable(&self, key: BackendKey, now: Timestamp) -> bool {
        self.entries
            .iter()
            .any(|entry| entry.key == key && entry.is_healthy(now, self.readmit_after))
    }

    /// Notes that `key` answered. Returns whether it was avoided before.
    pub(crate) fn answered(&mut self, key: BackendKey) -> bool {
        self.entry(key).is_some_and(|entry| entry.failure.take().is_some())
    }

    /// Notes that `key` failed. Returns whether it was healthy before.
    pub(crate) fn failed(&mut self, key: BackendKey, now: Timestamp, reason: &str) -> bool {
        self.entry(key)
            .is_some_and(|entry| entry.failure.replace((now, reason.to_owned())).is_none())
    }

    pub(crate) fn keys(&self) -> Vec<BackendKey> {
        self.entries.iter().map(|entry| entry.key).collect()
    }

    pub(crate) fn states(&self) -> impl Iterator<Item = (BackendKey, Option<(Timestamp, String)>)> {
        self.entries.iter().map(|entry| (entry.key, entry.failure.clone()))
    }

    fn entry(&mut self, key: BackendKey) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.key == key)
    }
}

impl Entry {
    fn is_healthy(&self, now: Timestamp, readmit_after: Duration) -> bool {
        match &self.failure {
            None => true,
            // A clock that was set back must not lock a backend out for longer: then readmit.
            Some((since, _)) => {
                let elapsed = now.duration_since(*since);
                elapsed.is_negative() || elapsed.unsigned_abs() >= readmit_after
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;

    use super::*;

    const READMIT: Duration = Duration::from_secs(300);

    fn address(last: u8) -> Option<SocketAddr> {
        Some(SocketAddr::from(([10, 0, 0, last], 443)))
    }

    fn key(last: u8) -> BackendKey {
        BackendKey {
            base: 0,
            address: address(last),
        }
    }

    fn pool(count: u8) -> Backends {
        let mut pool = Backends::new(READMIT, SmallRng::seed_from_u64(7));
        pool.set_addresses(0, &(0..count).map(address).collect::<Vec<_>>());
        pool
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn every_healthy_backend_is_picked_now_and_then() {
        let mut pool = pool(3);
        let picked: std::collections::HashSet<_> = (0..100).filter_map(|_| pool.pick(&[], at(0))).collect();
        assert_eq!(picked.len(), 3);
    }

    #[test]
    fn a_failed_one_is_avoided_until_its_time_and_taken_as_last_resort() {
        let mut pool = pool(2);
        assert!(pool.failed(key(0), at(10), "refused"));
        assert!(!pool.failed(key(0), at(10), "refused"));
        assert!((0..50).all(|_| pool.pick(&[], at(309)) == Some(key(1))));
        assert!((0..50).any(|_| pool.pick(&[], at(310)) == Some(key(0))));
        pool.failed(key(1), at(20), "timeout");
        assert_eq!(pool.pick(&[], at(21)), Some(key(0)), "failed longest ago");
        assert_eq!(pool.pick(&[key(0)], at(21)), Some(key(1)));
        assert_eq!(pool.pick(&[key(0), key(1)], at(21)), None);
        assert!(pool.answered(key(0)) && !pool.answered(key(0)));
        assert!(pool.is_usable(key(0), at(21)) && !pool.is_usable(key(1), at(21)));
    }

    #[test]
    fn a_clock_set_back_readmits() {
        let mut pool = pool(1);
        pool.failed(key(0), at(1_000_000), "refused");
        assert!(pool.is_usable(key(0), at(5)));
    }

    #[test]
    fn new_addresses_join_and_old_ones_leave_while_the_rest_keeps_its_health() {
        let mut pool = pool(2);
        pool.failed(key(1), at(0), "refused");
        pool.set_addresses(0, &[address(1), address(2), address(2)]);
        assert_eq!(pool.keys(), [key(1), key(2)]);
        assert!(!pool.is_usable(key(1), at(1)));
        pool.set_addresses(1, &[None]);
        assert_eq!(pool.keys().len(), 3);
        assert!(!pool.failed(key(0), at(0), "gone"), "a forgotten one is not noted");
    }

    proptest! {
        #[test]
        fn something_is_picked_while_anything_is_left(
            failures in proptest::collection::vec((0u8..5, 0i64..1000), 0..20),
            excluded in proptest::collection::hash_set(0u8..5, 0..6),
            now in 0i64..2000,
        ) {
            let mut pool = pool(5);
            for (last, second) in failures {
                pool.failed(key(last), at(second), "x");
            }
            let excluded: Vec<_> = excluded.into_iter().map(key).collect();
            let picked = pool.pick(&excluded, at(now));
            prop_assert_eq!(picked.is_some(), excluded.len() < 5);
            if let Some(picked) = picked {
                prop_assert!(!excluded.contains(&picked));
                let any_healthy = pool.keys().into_iter()
                    .any(|other| !excluded.contains(&other) && pool.is_usable(other, at(now)));
                prop_assert_eq!(pool.is_usable(picked, at(now)), any_healthy);
            }
        }
    }
}
