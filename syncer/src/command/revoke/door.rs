//! Taking people away for those who ask by REST: the very work of the command line, beside the cycles. It runs where it may
//! wait, so that a cycle that reads a hundred thousand people holds nothing up.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use dirless_program::Clock;
use dirless_publish::revocation::{
    LONGEST_WAIT, RestoreReply, RevocationReply, RevocationsReply, RevokeReply, RevokeRequest,
};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::super::Setting;
use super::work::{self, Applied};
use crate::config::Config;
use crate::serve::revoker::{RevokeError, Revoker};
use crate::signed::{Awaited, Connections, Pace};

/// How long one thread waits for hosts before it lets go, so that the program can end.
const SLICE: Duration = Duration::from_secs(2);
/// Rest after a look that failed.
const AFTER_FAILURE: Duration = Duration::from_millis(200);
/// Requests that look at hosts at once; more wait.
const LOOKS: usize = 8;
/// Of how many of the latest heads it is remembered how quickly hosts applied them.
const PACES: usize = 64;

/// The door.
#[derive(Clone, Debug)]
pub(in crate::command) struct Door(Arc<Inside>);

#[derive(Debug)]
struct Inside {
    path: PathBuf,
    config: Arc<Config>,
    /// All that this work asks the environment for.
    credentials: Option<String>,
    clock: Clock,
    connections: Arc<Connections>,
    /// By the version of the head.
    paces: Mutex<BTreeMap<u64, Pace>>,
    looks: Semaphore,
}

impl Door {
    pub(in crate::command) fn of(setting: &Setting<'_>) -> Self {
        Self(Arc::new(Inside {
            path: setting.path.clone(),
            config: Arc::clone(&setting.config),
            credentials: (setting.environment)(CREDENTIALS),
            clock: setting.clock.clone(),
            connections: Arc::clone(&setting.connections),
            paces: Mutex::default(),
            looks: Semaphore::new(LOOKS),
        }))
    }

    /// Does it on a thread that may wait. It is done to its end also when nobody waits for it any more.
    async fn work<T: Send + 'static>(
        &self,
        work: impl AsyncFnOnce(&Setting<'_>) -> anyhow::Result<T> + Send + 'static,
    ) -> Result<T, RevokeError> {
        let inside = Arc::clone(&self.0);
        let runtime = Handle::current();
        let done = tokio::task::spawn_blocking(move || {
            let environment = |name: &str| inside.credentials.clone().filter(|_| name == CREDENTIALS);
            let setting = Setting {
                path: inside.path.clone(),
                config: Arc::clone(&inside.config),
                environment: &environment,
                clock: inside.clock.clone(),
                connections: Arc::clone(&inside.connections),
            };
            runtime.block_on(work(&setting))
        });
        let done = done.await.context("a revocation").unwrap_or_else(Err);
        done.map_err(RevokeError::of)
    }

    async fn revoke(&self, request: RevokeRequest, by: String) -> Result<RevokeReply, RevokeError> {
        let began = Instant::now();
        let wait = Duration::from_secs(request.wait_seconds.min(LONGEST_WAIT));
        let taken = self.work(async move |setting| work::revoke(setting, &request, &by).await);
        let (mut reply, awaited) = taken.await?;
        if let Some(awaited) = awaited {
            self.begin(awaited, began);
        }
        if let Some(awaited) = awaited.filter(|_| !wait.is_zero()) {
            let waited = self.applied(awaited, began + wait).await;
            work::note_hosts(&mut reply, waited);
        }
        Ok(reply)
    }

    async fn look(&self, name: String, wait: Duration) -> Result<RevocationReply, RevokeError> {
        let end = Instant::now() + wait.min(Duration::from_secs(LONGEST_WAIT));
        let found = self.work(async move |setting| {
            let (reply, awaited) = work::one(setting, &name)?;
            Ok((reply, awaited.filter(|_| setting.config.signed.is_some())))
        });
        let (mut reply, awaited) = found.await?;
        if let Some(awaited) = awaited {
            reply.hosts = self.applied(awaited, end).await?.hosts;
        }
        Ok(reply)
    }

    /// How far hosts are, once all that are connected have applied it, or it is the `end`. A failing backend is asked again.
    async fn applied(&self, awaited: Awaited, end: Instant) -> Result<Applied, RevokeError> {
        loop {
            let until = end.min(Instant::now() + SLICE);
            let place = self.0.looks.acquire().await;
            let before = self.pace(awaited);
            let looked = self.work(async move |setting| {
                let mut pace = before;
                let applied = work::applied(setting, awaited, &mut pace, until).await?;
                Ok((applied, pace))
            });
            let looked = looked.await;
            drop(place);
            let is_over = Instant::now() >= end;
            match looked {
                Ok((applied, pace)) => {
                    self.keep(awaited, pace);
                    if is_over || !applied.is_behind() {
                        return Ok(applied);
                    }
                }
                Err(error) if is_over => return Err(error),
                Err(_again) => tokio::time::sleep(AFTER_FAILURE).await,
            }
        }
    }

    fn paces(&self) -> MutexGuard<'_, BTreeMap<u64, Pace>> {
        self.0.paces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody was taken away: from now on it is known how quickly hosts apply it.
    fn begin(&self, awaited: Awaited, began: Instant) {
        let mut paces = self.paces();
        paces.entry(awaited.version).or_insert_with(|| Pace::since(began));
        while paces.len() > PACES {
            paces.pop_first();
        }
    }

    fn pace(&self, awaited: Awaited) -> Pace {
        self.paces().get(&awaited.version).copied().unwrap_or_default()
    }

    fn keep(&self, awaited: Awaited, pace: Pace) {
        if let Some(own) = self.paces().get_mut(&awaited.version) {
            *own = own.or(pace);
        }
    }
}

/// Where the service manager hands keys over (systemd.exec(5)).
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

impl Revoker for Door {
    fn revoke(&self, request: RevokeRequest, by: String) -> BoxFuture<'_, Result<RevokeReply, RevokeError>> {
        self.revoke(request, by).boxed()
    }

    fn restore(&self, name: String, by: String) -> BoxFuture<'_, Result<RestoreReply, RevokeError>> {
        let restored = name.clone();
        let done = self.work(async move |setting| work::restore(setting, &name, &by).await);
        async move { done.await.map(|()| RestoreReply { restored }) }.boxed()
    }

    fn list(&self) -> BoxFuture<'_, Result<RevocationsReply, RevokeError>> {
        async {
            let _place = self.0.looks.acquire().await;
            self.work(async |setting| work::list(setting).await).await
        }
        .boxed()
    }

    fn look(&self, name: String, wait: Duration) -> BoxFuture<'_, Result<RevocationReply, RevokeError>> {
        self.look(name, wait).boxed()
    }
}
