//! What all workers share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use dirless_program::Clock;
use tokio::sync::{Mutex, MutexGuard};

use crate::cache::Cache;
use crate::config::Config;
use crate::http::limits::Limits;
use crate::http::log::RequestIds;
use crate::metrics::Metrics;
use crate::store::{HeartbeatLimits, HeartbeatSink, Store};
use crate::watch::Watch;

/// How many calls of [`App::tend`] (one a second) lie between two clean-ups of the limiters.
const CLEAN_UP_EVERY: u32 = 30;
/// Locks that keep a thousand hosts from loading the same body at once; a power of two.
const LOADERS: usize = 64;

/// What all workers share.
pub struct App {
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) heartbeats: Arc<HeartbeatSink>,
    pub(crate) cache: Arc<Cache>,
    pub(crate) watch: Arc<Watch>,
    pub(crate) limits: Limits,
    pub(crate) metrics: Metrics,
    pub(crate) request_ids: RequestIds,
    pub(crate) clock: Clock,
    loaders: Vec<Mutex<()>>,
    ticks: AtomicU32,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").finish_non_exhaustive()
    }
}

impl App {
    /// Puts a configuration and an open store together, and has the store tell the cache of changes.
    #[must_use]
    pub fn new(config: Config, store: Store, clock: Clock) -> Arc<Self> {
        let copies = config.tls.is_none().then(|| store.folder().to_owned());
        let cache = Arc::new(Cache::new(config.cache.max_bytes, copies));
        let watch = Arc::new(Watch::new(config.server.watchers()));
        let (kept, watched) = (Arc::clone(&cache), Arc::clone(&watch));
        let first = store.observe(Arc::new(move |change| {
            // In this order: whoever is told asks, and must not get what was before.
            kept.apply(change);
            watched.apply(change);
        }));
        debug_assert!(first, "a store serves one App");
        Arc::new(Self {
            heartbeats: Arc::new(HeartbeatSink::new(store.clone(), HeartbeatLimits::default())),
            limits: Limits::new(&config.limits),
            metrics: Metrics::new(),
            request_ids: RequestIds::new(),
            loaders: (0..LOADERS).map(|_| Mutex::default()).collect(),
            ticks: AtomicU32::new(0),
            config,
            store,
            cache,
            watch,
            clock,
        })
    }

    /// The sink of heartbeats, whose [`HeartbeatSink::run`] the program drives.
    #[must_use]
    pub fn heartbeats(&self) -> &Arc<HeartbeatSink> {
        &self.heartbeats
    }

    /// Housekeeping, called once a second.
    pub(crate) fn tend(&self) {
        if self.ticks.fetch_add(1, Ordering::Relaxed) % CLEAN_UP_EVERY == CLEAN_UP_EVERY - 1 {
            self.limits.tend();
        }
        self.metrics.tend();
    }

    /// The right to load what hashes to `key` into the cache. Others wait and find it there.
    pub(crate) async fn loader(&self, key: u64) -> MutexGuard<'_, ()> {
        let number = key as usize & (LOADERS - 1);
        self.loaders
            .get(number)
            .expect("the mask keeps the number below LOADERS")
            .lock()
            .await
    }
}
