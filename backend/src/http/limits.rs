//! How often who may ask. The arithmetic behind the defaults is at
//! [`LimitsConfig`](crate::config::LimitsConfig).

use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use dirless_wire::TenantId;
use governor::clock::{Clock, DefaultClock};
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};

use crate::config::LimitsConfig;
use crate::http::address::Client;

type Keyed<K> = RateLimiter<K, DefaultKeyedStateStore<K>, DefaultClock>;

/// The verdict on a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Pace {
    /// Go on.
    Fine,
    /// Come back after so many seconds.
    Wait(u64),
}

/// All rate limits of the server.
pub(crate) struct Limits {
    addresses: Option<Keyed<u128>>,
    failures: Option<Keyed<u128>>,
    tenants: Option<Keyed<TenantId>>,
    /// Addresses that failed too often, and until when they wait. Almost always empty.
    held: Mutex<HashMap<u128, Instant>>,
    held_count: AtomicUsize,
    clock: DefaultClock,
}

impl std::fmt::Debug for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limits").finish_non_exhaustive()
    }
}

impl Limits {
    pub(crate) fn new(config: &LimitsConfig) -> Self {
        let cost = config.failed_authentication_cost;
        let failures = |number: u32| number.checked_div(cost).map_or(0, |few| few.max(u32::from(number > 0)));
        Self {
            addresses: keyed(config.address_per_minute, config.address_burst),
            failures: keyed(failures(config.address_per_minute), failures(config.address_burst)),
            tenants: keyed(config.tenant_per_minute, config.tenant_burst),
            held: Mutex::default(),
            held_count: AtomicUsize::new(0),
            clock: DefaultClock::default(),
        }
    }

    /// Counts a request of this client, before anything else is done for it.
    pub(crate) fn request(&self, client: &Client) -> Pace {
        let key = client.limit_key();
        if self.held_count.load(Ordering::Relaxed) > 0
            && let Some(until) = self.held().get(&key)
            && let left = until.saturating_duration_since(Instant::now())
            && !left.is_zero()
        {
            return Pace::Wait(seconds(left));
        }
        self.check(self.addresses.as_ref(), &key)
    }

    /// Counts a wrong bearer of this client; after too many its requests are refused unseen for a
    /// while, whoever sits behind the same address translator.
    pub(crate) fn failed(&self, client: &Client) {
        let key = client.limit_key();
        let Some(limiter) = &self.failures else { return };
        if let Err(wait) = limiter.check_key(&key) {
            let until = Instant::now() + wait.wait_time_from(self.clock.now());
            let mut held = self.held();
            held.insert(key, until);
            self.held_count.store(held.len(), Ordering::Relaxed);
        }
    }

    /// Counts a request of a tenant, after it is known to be one.
    pub(crate) fn tenant(&self, tenant: &TenantId) -> Pace {
        self.check(self.tenants.as_ref(), tenant)
    }

    /// Forgets clients and tenants that are as good as new. Called on a timer.
    pub(crate) fn tend(&self) {
        if let Some(limiter) = &self.addresses {
            limiter.retain_recent();
        }
        if let Some(limiter) = &self.failures {
            limiter.retain_recent();
        }
        if let Some(limiter) = &self.tenants {
            limiter.retain_recent();
        }
        let now = Instant::now();
        let mut held = self.held();
        held.retain(|_, until| *until > now);
        self.held_count.store(held.len(), Ordering::Relaxed);
    }

    fn held(&self) -> std::sync::MutexGuard<'_, HashMap<u128, Instant>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check<K: Hash + Eq + Clone>(&self, limiter: Option<&Keyed<K>>, key: &K) -> Pace {
        match limiter.map(|limiter| limiter.check_key(key)) {
            None | Some(Ok(())) => Pace::Fine,
            Some(Err(wait)) => Pace::Wait(seconds(wait.wait_time_from(self.clock.now()))),
        }
    }
}

fn keyed<K: Hash + Eq + Clone>(per_minute: u32, burst: u32) -> Option<Keyed<K>> {
    let rate = NonZeroU32::new(per_minute)?;
    let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
    Some(RateLimiter::keyed(Quota::per_minute(rate).allow_burst(burst)))
}

fn seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(address: &str) -> Client {
        Client {
            address: address.parse().unwrap(),
            is_local: false,
        }
    }

    fn small() -> LimitsConfig {
        LimitsConfig {
            address_per_minute: 20,
            address_burst: 10,
            failed_authentication_cost: 5,
            tenant_per_minute: 6,
            tenant_burst: 3,
        }
    }

    #[test]
    fn addresses_and_tenants_are_counted_apart() {
        let limits = Limits::new(&small());
        let (one, other) = (client("192.0.2.1"), client("192.0.2.2"));
        assert!((0..10).all(|_| limits.request(&one) == Pace::Fine));
        assert!(matches!(limits.request(&one), Pace::Wait(1..=3)));
        assert_eq!(limits.request(&other), Pace::Fine);
        let (acme, umbrella) = (TenantId::new("acme").unwrap(), TenantId::new("umbrella").unwrap());
        assert!((0..3).all(|_| limits.tenant(&acme) == Pace::Fine));
        assert!(matches!(limits.tenant(&acme), Pace::Wait(1..=10)));
        assert_eq!(limits.tenant(&umbrella), Pace::Fine);
    }

    #[test]
    fn failures_cost_more_than_requests() {
        let limits = Limits::new(&small());
        let guesser = client("192.0.2.1");
        // 10 / 5 failures at once are borne, the third holds the address.
        for _ in 0..2 {
            assert_eq!(limits.request(&guesser), Pace::Fine);
            limits.failed(&guesser);
        }
        assert_eq!(limits.request(&guesser), Pace::Fine);
        limits.failed(&guesser);
        assert!(matches!(limits.request(&guesser), Pace::Wait(1..=15)));
        assert_eq!(limits.request(&client("192.0.2.9")), Pace::Fine);
        limits.tend();
        assert!(matches!(limits.request(&guesser), Pace::Wait(_)));
    }

    #[test]
    fn the_defaults_carry_ten_thousand_hosts_behind_one_address() {
        let limits = Limits::new(&LimitsConfig::default());
        let (translator, fleet) = (client("192.0.2.1"), TenantId::new("fleet").unwrap());
        for _ in 0..10_000 * 7 {
            assert_eq!(limits.request(&translator), Pace::Fine);
            assert_eq!(limits.tenant(&fleet), Pace::Fine);
        }
    }

    #[test]
    fn zero_switches_a_limit_off() {
        let limits = Limits::new(&LimitsConfig {
            address_per_minute: 0,
            tenant_per_minute: 0,
            ..small()
        });
        let (someone, acme) = (client("192.0.2.1"), TenantId::new("acme").unwrap());
        for _ in 0..1000 {
            limits.failed(&someone);
            assert_eq!(
                (limits.request(&someone), limits.tenant(&acme)),
                (Pace::Fine, Pace::Fine)
            );
        }
    }
}
