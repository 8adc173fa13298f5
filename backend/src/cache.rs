//! Answers to reads, kept in bounded memory so that the hot path never asks the database.
//!
//! The store tells of every change before its writer is answered ([`crate::store::Observer`]), and the
//! change is applied here at once, so whoever saw a write acknowledged never reads what was before
//! it. A read from the database that was overtaken by a change is not kept: it carries the epoch
//! at which it began.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use dirless_wire::{ETag, Setting, TenantId};
use http::{HeaderName, HeaderValue, StatusCode};

use crate::kept::Kept;
use crate::store::Change;

/// Name of the access rules among a tenant's answers; reserved, so no source has it.
pub(crate) const AUTHZ_CONFIG: &str = "authz-config";
/// Name of the CA key among a tenant's answers.
pub(crate) const CA_PUBLIC_KEY: &str = "ca-public-key";
/// Name of the age key among a tenant's answers.
pub(crate) const PUBLIC_KEY: &str = "public-key";

/// Name of the tags of all that hosts read, among a tenant's answers; no source can have it.
pub(crate) const STATE: &str = "tenant state";

/// What the names of objects of the verified protocol begin with, among a tenant's answers; no source can have it.
pub(crate) const OBJECT: &str = "v2/";

/// Name of what heartbeats of the verified protocol are answered with, among a tenant's answers: newest policy and heads.
pub(crate) const NEWS: &str = "v2 news";

/// Shards of the map and of the epochs; a power of two.
const SHARDS: usize = 64;
/// Answers kept for one tenant; asking for thousands of absent sources must not fill the memory.
const ANSWERS_PER_TENANT: usize = 32;
/// Objects kept for one tenant: its heads, its current manifests and bodies, the end of its policies.
const OBJECTS_PER_TENANT: usize = 64;
/// What an entry costs besides its body: tenant id twice, map slots, headers, counters.
const OVERHEAD: u64 = 1024;

/// What a GET is answered with, except for the conditional part.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// Tag of the body; error answers have none.
    pub(crate) tag: Option<(ETag, HeaderValue)>,
    /// Content type and our own headers.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// Length of the body.
    pub(crate) length: u64,
    /// The body, unless it is too long to keep.
    pub(crate) body: Option<Kept>,
}

#[derive(Debug)]
struct Entry {
    name: Box<str>,
    answer: Arc<Answer>,
    touched: AtomicBool,
}

impl Entry {
    fn cost(&self) -> u64 {
        OVERHEAD + self.answer.body.as_ref().map_or(0, Kept::cost)
    }
}

#[derive(Debug, Default)]
struct Shard {
    tenants: RwLock<HashMap<TenantId, Vec<Entry>>>,
    epoch: AtomicU64,
}

/// Proof of when a read from the database began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Epoch(u64);

/// The cache.
#[derive(Debug)]
pub(crate) struct Cache {
    hasher: RandomState,
    shards: Vec<Shard>,
    max_bytes: u64,
    /// Where bodies get a copy for the kernel, which plain HTTP sends.
    copies: Option<PathBuf>,
    used: AtomicU64,
    /// Entries in the order of their arrival; the first untouched one goes when room is needed.
    queue: Mutex<VecDeque<(TenantId, Box<str>)>>,
}

impl Cache {
    pub(crate) fn new(max_bytes: u64, copies: Option<PathBuf>) -> Self {
        Self {
            copies,
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            max_bytes,
            used: AtomicU64::new(0),
            queue: Mutex::default(),
        }
    }

    /// Longest body that is kept: a quarter of the memory, so that one body cannot push out all others.
    pub(crate) fn longest_body(&self) -> u64 {
        (self.max_bytes / 4).saturating_sub(OVERHEAD)
    }

    /// A body as it is best kept here: with a copy for the kernel, unless body and copy are too long
    /// together. Takes as long as writing it to a file.
    pub(crate) fn kept(&self, body: Bytes) -> Kept {
        let kept = Kept::from(body);
        match &self.copies {
            Some(folder) if 2 * kept.cost() <= self.longest_body() => kept.with_copy(folder),
            _ => kept,
        }
    }

    /// Bytes in use.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// A tenant's answer, when it is here. Allocates nothing.
    pub(crate) fn find(&self, tenant: &TenantId, name: &str) -> Option<Arc<Answer>> {
        let tenants = self
            .shard(tenant)
            .tenants
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let entry = tenants.get(tenant)?.iter().find(|entry| *entry.name == *name)?;
        // Written only when it changes: a shared line that everybody writes is slow.
        if !entry.touched.load(Ordering::Relaxed) {
            entry.touched.store(true, Ordering::Relaxed);
        }
        Some(Arc::clone(&entry.answer))
    }

    /// To be taken before the database is asked.
    pub(crate) fn epoch(&self, tenant: &TenantId) -> Epoch {
        Epoch(self.shard(tenant).epoch.load(Ordering::Acquire))
    }

    /// Keeps an answer that was read from the database since `epoch`, unless a change came between.
    pub(crate) fn keep(&self, tenant: &TenantId, name: &str, answer: Arc<Answer>, epoch: Epoch) {
        let entry = Entry {
            name: name.into(),
            answer,
            touched: AtomicBool::new(false),
        };
        let cost = entry.cost();
        if cost > self.max_bytes / 4 {
            return;
        }
        let shard = self.shard(tenant);
        {
            let mut tenants = shard.tenants.write().unwrap_or_else(PoisonError::into_inner);
            // Under the lock that `forget` takes after raising the epoch: no change slips through.
            if shard.epoch.load(Ordering::Acquire) != epoch.0 {
                return;
            }
            let entries = tenants.entry(tenant.clone()).or_default();
            if let Some(place) = entries.iter().position(|old| old.name == entry.name) {
                self.used
                    .fetch_sub(entries.swap_remove(place).cost(), Ordering::Relaxed);
            }
            if name.starts_with(OBJECT) {
                self.make_room_for_object(entries);
            } else if entries.iter().filter(|entry| !entry.name.starts_with(OBJECT)).count() >= ANSWERS_PER_TENANT
                && name != STATE
            {
                // Each heartbeat wants the state: it finds room however many absent sources were asked for.
                return;
            }
            entries.push(entry);
            self.used.fetch_add(cost, Ordering::Relaxed);
        }
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.push_back((tenant.clone(), name.into()));
        self.make_room(&mut queue);
    }

    /// Applies a change of the store. Returns at once.
    pub(crate) fn apply(&self, change: &Change) {
        match change {
            Change::Snapshot { tenant, source, .. } | Change::SourceDeleted { tenant, source, .. } => {
                self.forget(tenant, Some(source.as_str()));
            }
            Change::AccessRules { tenant } => self.forget(tenant, Some(AUTHZ_CONFIG)),
            Change::Setting { tenant, key } if key == Setting::CA_PUBLIC_KEY => {
                self.forget(tenant, Some(CA_PUBLIC_KEY));
            }
            Change::Tenant { tenant } => self.forget(tenant, None),
            Change::Object { tenant, path } => self.forget_object(tenant, path),
            // Settings and credentials are not among the answers kept here.
            Change::Setting { .. } | Change::Credentials => {}
            Change::Everything => self.forget_everything(),
        }
    }

    fn shard(&self, tenant: &TenantId) -> &Shard {
        let number = self.hasher.hash_one(tenant.as_str()) as usize & (SHARDS - 1);
        self.shards.get(number).expect("the mask keeps the number below SHARDS")
    }

    /// Forgets an answer, or all of a tenant's; in any case the state, which is made of all.
    fn forget(&self, tenant: &TenantId, name: Option<&str>) {
        let shard = self.shard(tenant);
        shard.epoch.fetch_add(1, Ordering::AcqRel);
        let mut tenants = shard.tenants.write().unwrap_or_else(PoisonError::into_inner);
        let Some(entries) = tenants.get_mut(tenant) else { return };
        entries.retain(|entry| {
            let stays = name.is_some_and(|name| *entry.name != *name && *entry.name != *STATE);
            if !stays {
                self.used.fetch_sub(entry.cost(), Ordering::Relaxed);
            }
            stays
        });
        if entries.is_empty() {
            tenants.remove(tenant);
        }
    }

    /// Forgets an object of the verified protocol, which the state of the classic one does not speak of, and the news if
    /// they speak of it.
    fn forget_object(&self, tenant: &TenantId, path: &str) {
        let shard = self.shard(tenant);
        shard.epoch.fetch_add(1, Ordering::AcqRel);
        let mut tenants = shard.tenants.write().unwrap_or_else(PoisonError::into_inner);
        let Some(entries) = tenants.get_mut(tenant) else { return };
        let is_news = path.starts_with("head/") || path.starts_with("policy/");
        let told = |entry: &Entry| entry.name.strip_prefix(OBJECT) == Some(path) || (is_news && *entry.name == *NEWS);
        while let Some(place) = entries.iter().position(told) {
            self.used
                .fetch_sub(entries.swap_remove(place).cost(), Ordering::Relaxed);
        }
    }

    fn forget_everything(&self) {
        for shard in &self.shards {
            shard.epoch.fetch_add(1, Ordering::AcqRel);
            let mut tenants = shard.tenants.write().unwrap_or_else(PoisonError::into_inner);
            let cost: u64 = tenants.values().flatten().map(Entry::cost).sum();
            self.used.fetch_sub(cost, Ordering::Relaxed);
            tenants.clear();
        }
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Objects follow one another, so the tenant's oldest one that was not asked for lately gives way.
    fn make_room_for_object(&self, entries: &mut Vec<Entry>) {
        let objects = entries.iter().filter(|entry| entry.name.starts_with(OBJECT));
        if objects.clone().count() < OBJECTS_PER_TENANT {
            return;
        }
        let all_touched = objects.clone().all(|entry| entry.touched.load(Ordering::Relaxed));
        if all_touched {
            objects.for_each(|entry| entry.touched.store(false, Ordering::Relaxed));
        }
        let idle = |entry: &Entry| entry.name.starts_with(OBJECT) && !entry.touched.load(Ordering::Relaxed);
        if let Some(place) = entries.iter().position(idle) {
            // In order, so that the first is the oldest.
            self.used.fetch_sub(entries.remove(place).cost(), Ordering::Relaxed);
        }
    }

    /// Second chance: an entry that was asked for since it was last looked at goes to the back.
    fn make_room(&self, queue: &mut VecDeque<(TenantId, Box<str>)>) {
        // Places in the queue whose entry was forgotten meanwhile cost a little memory each; without
        // this bound a tenant that writes and reads in turns would add one a turn.
        let longest = usize::try_from(self.max_bytes / OVERHEAD).unwrap_or(usize::MAX).max(16);
        let mut looks = 2 * queue.len();
        while (self.used() > self.max_bytes || queue.len() > longest) && looks > 0 {
            looks -= 1;
            let Some((tenant, name)) = queue.pop_front() else {
                return;
            };
            if self.evict(&tenant, &name) == Eviction::Touched {
                queue.push_back((tenant, name));
            }
        }
    }

    fn evict(&self, tenant: &TenantId, name: &str) -> Eviction {
        let mut tenants = self
            .shard(tenant)
            .tenants
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let Some(entries) = tenants.get_mut(tenant) else {
            return Eviction::Gone;
        };
        let Some(place) = entries.iter().position(|entry| *entry.name == *name) else {
            return Eviction::Gone;
        };
        if entries
            .get(place)
            .is_some_and(|entry| entry.touched.swap(false, Ordering::Relaxed))
        {
            return Eviction::Touched;
        }
        self.used
            .fetch_sub(entries.swap_remove(place).cost(), Ordering::Relaxed);
        if entries.is_empty() {
            tenants.remove(tenant);
        }
        Eviction::Gone
    }
}

#[derive(PartialEq, Eq)]
enum Eviction {
    Gone,
    Touched,
}

#[cfg(test)]
mod tests {
    use dirless_wire::SourceName;
    use proptest::prelude::*;

    use super::*;
    use crate::store::Generation;

    fn tenant(name: &str) -> TenantId {
        TenantId::new(name).unwrap()
    }

    fn answer(length: usize) -> Arc<Answer> {
        Arc::new(Answer {
            status: StatusCode::OK,
            tag: None,
            headers: Vec::new(),
            length: length as u64,
            body: Some(Bytes::from(vec![b'x'; length]).into()),
        })
    }

    fn pushed(name: &str) -> Change {
        Change::Snapshot {
            tenant: tenant(name),
            source: SourceName::local(),
            generation: Generation(1),
            etag: ETag::strong("x").unwrap(),
        }
    }

    #[test]
    fn objects_give_way_to_newer_ones_and_to_nobody_else() {
        let cache = Cache::new(1 << 30, None);
        let acme = tenant("acme");
        cache.keep(&acme, "local", answer(10), cache.epoch(&acme));
        cache.keep(&acme, STATE, answer(10), cache.epoch(&acme));
        for number in 0..1000 {
            cache.keep(&acme, &format!("v2/policy/{number}"), answer(10), cache.epoch(&acme));
            assert!(
                cache.find(&acme, "v2/policy/0").is_some(),
                "it is asked for all the time"
            );
        }
        let kept = (0..1000).filter(|number| cache.find(&acme, &format!("v2/policy/{number}")).is_some());
        assert_eq!(kept.count(), OBJECTS_PER_TENANT);
        assert_eq!(cache.used(), (OBJECTS_PER_TENANT as u64 + 2) * (OVERHEAD + 10));
        let path = "policy/0".to_owned();
        let change = Change::Object {
            tenant: acme.clone(),
            path,
        };
        cache.apply(&change);
        assert!(cache.find(&acme, "v2/policy/0").is_none() && cache.find(&acme, "v2/policy/999").is_some());
        for (path, stays) in [
            ("blob/00", true),
            ("wrap/all/1/n", true),
            ("head/p", false),
            ("policy/9", false),
        ] {
            cache.keep(&acme, NEWS, answer(10), cache.epoch(&acme));
            let path = path.to_owned();
            let tenant = acme.clone();
            cache.apply(&Change::Object {
                tenant,
                path: path.clone(),
            });
            assert_eq!(cache.find(&acme, NEWS).is_some(), stays, "{path}");
        }
        assert!(cache.find(&acme, STATE).is_some() && cache.find(&acme, "local").is_some());
        for number in 0..100 {
            cache.keep(&acme, &format!("s{number}"), answer(10), cache.epoch(&acme));
        }
        assert!(cache.find(&acme, "s29").is_some() && cache.find(&acme, "s30").is_none());
    }

    #[test]
    fn an_answer_is_found_until_a_change_forgets_it() {
        let cache = Cache::new(1 << 20, None);
        let acme = tenant("acme");
        cache.keep(&acme, "local", answer(10), cache.epoch(&acme));
        cache.keep(&acme, AUTHZ_CONFIG, answer(10), cache.epoch(&acme));
        assert!(cache.find(&acme, "local").is_some() && cache.find(&tenant("other"), "local").is_none());
        cache.keep(&acme, STATE, answer(10), cache.epoch(&acme));
        cache.apply(&pushed("other"));
        assert!(cache.find(&acme, "local").is_some() && cache.find(&acme, STATE).is_some());
        cache.apply(&pushed("acme"));
        assert!(cache.find(&acme, "local").is_none() && cache.find(&acme, AUTHZ_CONFIG).is_some());
        assert!(cache.find(&acme, STATE).is_none(), "it names the snapshot before");
        cache.apply(&Change::Tenant { tenant: acme.clone() });
        assert!(cache.find(&acme, AUTHZ_CONFIG).is_none());
        assert_eq!(cache.used(), 0);
    }

    #[test]
    fn a_read_overtaken_by_a_change_is_not_kept() {
        let cache = Cache::new(1 << 20, None);
        let acme = tenant("acme");
        let before = cache.epoch(&acme);
        cache.apply(&pushed("acme"));
        cache.keep(&acme, "local", answer(10), before);
        assert!(cache.find(&acme, "local").is_none());
    }

    #[test]
    fn memory_stays_bounded_and_the_untouched_go_first() {
        let cache = Cache::new(40 * 1024, None);
        let wanted = tenant("wanted");
        cache.keep(&wanted, "local", answer(4096), cache.epoch(&wanted));
        for number in 0..100 {
            assert!(cache.find(&wanted, "local").is_some(), "pushed out at {number}");
            let other = tenant(&format!("t{number}"));
            cache.keep(&other, "local", answer(4096), cache.epoch(&other));
            assert!(cache.used() <= 40 * 1024);
        }
    }

    #[test]
    fn copies_are_made_where_wanted_and_where_they_fit_and_are_counted() {
        let body = |length| Bytes::from(vec![0; length]);
        let acme = tenant("acme");
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(1 << 20, Some(folder.path().to_owned()));
        let kept = cache.kept(body(100_000));
        assert!(kept.copy().is_some() && Cache::new(1 << 20, None).kept(body(100_000)).copy().is_none());
        let answer = Answer {
            body: Some(kept),
            ..(*answer(100_000)).clone()
        };
        cache.keep(&acme, "local", Arc::new(answer), cache.epoch(&acme));
        assert_eq!(cache.used(), OVERHEAD + 200_000);
        assert!(cache.kept(body(200_000)).copy().is_none());
    }

    #[test]
    fn too_long_bodies_and_too_many_names_are_not_kept() {
        let cache = Cache::new(1 << 20, None);
        let acme = tenant("acme");
        cache.keep(&acme, "long", answer(1 << 19), cache.epoch(&acme));
        assert!(cache.find(&acme, "long").is_none());
        for number in 0..1000 {
            cache.keep(&acme, &format!("s{number}"), answer(1), cache.epoch(&acme));
        }
        assert!(cache.used() <= (ANSWERS_PER_TENANT as u64) * (OVERHEAD + 1));
        cache.keep(&acme, STATE, answer(1), cache.epoch(&acme));
        assert!(cache.find(&acme, STATE).is_some());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Keep(u8, u8, usize),
        Find(u8, u8),
        Push(u8),
        Everything,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..6u8, 0..4u8, 0..9000usize).prop_map(|(t, n, l)| Step::Keep(t, n, l)),
            3 => (0..6u8, 0..4u8).prop_map(|(t, n)| Step::Find(t, n)),
            2 => (0..6u8).prop_map(Step::Push),
            1 => Just(Step::Everything),
        ]
    }

    proptest! {
        #[test]
        fn the_account_of_bytes_is_always_right(steps in proptest::collection::vec(step(), 0..200)) {
            let cache = Cache::new(32 * 1024, None);
            for step in steps {
                match step {
                    Step::Keep(t, n, length) => {
                        let tenant = tenant(&format!("t{t}"));
                        cache.keep(&tenant, &format!("n{n}"), answer(length), cache.epoch(&tenant));
                    }
                    Step::Find(t, n) => drop(cache.find(&tenant(&format!("t{t}")), &format!("n{n}"))),
                    Step::Push(t) => cache.apply(&Change::Tenant { tenant: tenant(&format!("t{t}")) }),
                    Step::Everything => cache.apply(&Change::Everything),
                }
                let real: u64 = cache.shards.iter()
                    .map(|shard| shard.tenants.read().unwrap().values().flatten().map(Entry::cost).sum::<u64>()).sum();
                prop_assert_eq!(real, cache.used());
                prop_assert!(cache.used() <= 32 * 1024);
            }
        }
    }
}
