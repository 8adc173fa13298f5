use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dirless_program::Clock;
use dirless_wire::TenantId;
use dirless_wire::trust::SCHEME;
use http::header::WWW_AUTHENTICATE;
use http::{Method, StatusCode};
use jiff::Timestamp;
use rand::rngs::SmallRng;

use crate::backends::{BackendKey, Backends};
use crate::reply::{Answer, Failure, Reader};
use crate::resolve::Resolve;
use crate::transport::{Call, Identity, Pace, Transport};
use crate::{Attempt, BackendState, Backoff, Error, RetryPolicy};

/// A tenant's way to its backends. Cheap to clone; clones share health and connections.
#[derive(Clone, Debug)]
pub struct Client(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    transport: Transport,
    retry: RetryPolicy,
    resolve_every: Duration,
    clock: Clock,
    resolver: Arc<dyn Resolve>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    backends: Backends,
    resolved_at: Option<Timestamp>,
    /// Why a URL has no address now, for the error when nothing is left to try.
    unresolved: Vec<Attempt>,
    seed: u64,
}

/// What one address said to a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeResult {
    /// The URL, with the address when the host has one.
    pub backend: String,
    /// The HTTP status, any of which means "alive", or why there was none.
    pub outcome: Result<u16, String>,
}

impl Client {
    pub(crate) fn assemble(
        transport: Transport,
        retry: RetryPolicy,
        readmit_after: Duration,
        resolve_every: Duration,
        clock: Clock,
        resolver: Arc<dyn Resolve>,
        (random, seed): (SmallRng, u64),
    ) -> Self {
        let state = State {
            backends: Backends::new(readmit_after, random),
            resolved_at: None,
            unresolved: Vec::new(),
            seed,
        };
        Self(Arc::new(Shared {
            transport,
            retry,
            resolve_every,
            clock,
            resolver,
            state: Mutex::new(state),
        }))
    }

    /// A set of calls that go to one backend, chosen at random among the healthy ones at the first
    /// call, and left only when it fails.
    #[must_use]
    pub fn cycle(&self) -> Cycle {
        Cycle {
            client: self.clone(),
            pinned: Mutex::new(None),
        }
    }

    /// Asks every address, over the URL's own scheme and without credentials, whether it is alive:
    /// any HTTP answer counts. Health is updated from what they say.
    pub async fn probe(&self) -> Vec<ProbeResult> {
        self.refresh_addresses().await;
        let call = Call {
            identity: Identity::Nobody,
            pace: Pace::Probe,
            ..Call::new(Method::GET, "/v1/health")
        };
        let (keys, mut results) = {
            let state = self.state();
            let unresolved = state.unresolved.iter().map(|attempt| ProbeResult {
                backend: attempt.backend.clone(),
                outcome: Err(attempt.reason.clone()),
            });
            (state.backends.keys(), unresolved.collect::<Vec<_>>())
        };
        let mut probes = tokio::task::JoinSet::new();
        for key in keys {
            let (client, call) = (self.clone(), call.clone());
            probes.spawn(async move { (key, client.0.transport.send(key, &call).await) });
        }
        while let Some(probed) = probes.join_next().await {
            let Ok((key, answer)) = probed else { continue };
            let outcome = match answer {
                Ok(response) => {
                    self.note_answer(key);
                    Ok(response.status().as_u16())
                }
                Err(nothing) => {
                    self.note_failure(key, &nothing.reason);
                    Err(nothing.reason)
                }
            };
            results.push(ProbeResult {
                backend: self.0.transport.name(key),
                outcome,
            });
        }
        results.sort_by(|left, right| left.backend.cmp(&right.backend));
        results
    }

    /// Whether it has a key to sign requests with.
    pub(crate) fn signs(&self) -> bool {
        self.0.transport.sender.key.is_some()
    }

    /// Whether a backend is there that speaks the verified protocol: asked without credentials, it names the scheme of
    /// signed requests.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when nobody answers.
    pub async fn is_verified_backend(&self) -> Result<bool, Error> {
        self.refresh_addresses().await;
        let call = Call {
            identity: Identity::Nobody,
            ..Call::new(Method::GET, self.cycle().path_below_tenant(""))
        };
        let (keys, mut tried) = {
            let state = self.state();
            (state.backends.keys(), state.unresolved.clone())
        };
        for key in keys {
            match self.0.transport.send(key, &call).await {
                Ok(response) => {
                    let challenge = response.headers().get(WWW_AUTHENTICATE);
                    return Ok(response.status() == StatusCode::UNAUTHORIZED
                        && challenge.is_some_and(|value| value.as_bytes() == SCHEME.as_bytes()));
                }
                Err(nothing) => tried.push(Attempt {
                    backend: self.0.transport.name(key),
                    reason: nothing.reason,
                }),
            }
        }
        Err(Error::Unavailable { tried })
    }

    /// What is known of every address, without asking any.
    #[must_use]
    pub fn backends(&self) -> Vec<BackendState> {
        let state = self.state();
        let known = state.backends.states();
        known
            .map(|(key, failure)| BackendState {
                name: self.0.transport.name(key),
                failure,
            })
            .collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while holding it, and half-written state would still be only a hint.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_answer(&self, key: BackendKey) {
        if self.state().backends.answered(key) {
            let backend = self.0.transport.name(key);
            tracing::info!(name: "client.backend_readmitted", %backend, "{backend} answers again");
        }
    }

    fn note_failure(&self, key: BackendKey, reason: &str) {
        self.0.transport.forget(key);
        if self.state().backends.failed(key, self.0.clock.now(), reason) {
            let backend = self.0.transport.name(key);
            tracing::warn!(name: "client.backend_failed", %backend, reason, "{backend} failed: {reason}");
        }
    }

    /// Resolves every host again when the last time is long ago, or failed. What cannot be resolved
    /// keeps the addresses it had.
    async fn refresh_addresses(&self) {
        let now = self.0.clock.now();
        let fresh = |at: Timestamp| {
            let age = now.duration_since(at);
            !age.is_negative() && age.unsigned_abs() < self.0.resolve_every
        };
        {
            let state = self.state();
            if state.unresolved.is_empty() && state.resolved_at.is_some_and(fresh) {
                return;
            }
        }
        let mut unresolved = Vec::new();
        for (base, url) in self.0.transport.urls.iter().enumerate() {
            match self.resolve(url.host(), url.port()).await {
                Ok(addresses) => self.state().backends.set_addresses(base, &addresses),
                Err(reason) => unresolved.push(Attempt {
                    backend: url.to_string(),
                    reason,
                }),
            }
        }
        let mut state = self.state();
        state.resolved_at = Some(now);
        state.unresolved = unresolved;
    }

    async fn resolve(&self, host: &str, port: u16) -> Result<Vec<Option<SocketAddr>>, String> {
        if self.0.transport.is_proxied() {
            return Ok(vec![None]);
        }
        let looking = self.0.resolver.resolve(host, port);
        match tokio::time::timeout(self.0.transport.timeouts.connect, looking).await {
            Ok(Ok(addresses)) if !addresses.is_empty() => Ok(addresses.into_iter().map(Some).collect()),
            Ok(Ok(_)) => Err(format!("the name {host} has no address")),
            Ok(Err(error)) => Err(format!("cannot resolve {host}: {error}")),
            Err(_) => Err(format!("cannot resolve {host}: timeout")),
        }
    }
}

/// Calls that belong together: see [`Client::cycle`].
#[derive(Debug)]
pub struct Cycle {
    client: Client,
    pinned: Mutex<Option<BackendKey>>,
}

/// How one round over all backends ended without a result.
enum Round {
    /// Nobody answered.
    Exhausted,
    /// Somebody asked to wait.
    Wait(Option<Duration>),
}

impl Cycle {
    /// The backend the last answer came from.
    #[must_use]
    pub fn backend(&self) -> Option<String> {
        self.pinned().map(|key| self.client.0.transport.name(key))
    }

    /// The path of a route of the verified protocol.
    pub(crate) fn path_below_tenant(&self, path: &str) -> String {
        let tenant = self.client.0.transport.sender.tenant.as_ref();
        format!("/v2/{}/{path}", tenant.map_or("", TenantId::as_str))
    }

    /// Who a call of the verified protocol is from: the owner of the key, or without one an operator with a token.
    pub(crate) fn owner(&self) -> Identity {
        match self.client.0.transport.sender.key {
            Some(_) => Identity::Key,
            None => Identity::Bearer,
        }
    }

    /// Sends `call` until a backend gives an answer that `reader` makes something of.
    pub(crate) async fn run<R: Reader>(&self, call: &Call, reader: &mut R) -> Result<R::Output, Error> {
        let policy = self.client.0.retry;
        let mut backoff = {
            let mut state = self.client.state();
            state.seed = state.seed.wrapping_add(1);
            Backoff::new(policy.first, policy.ceiling, state.seed)
        };
        let mut tried = Vec::new();
        let mut round = 1;
        loop {
            let ended = match self.round(call, reader, &mut tried).await {
                Ok(output) => return Ok(output),
                Err(Failed::For(error)) => return Err(*error),
                Err(Failed::Round(ended)) => ended,
            };
            let wait = backoff.wait();
            let (wait, asked) = match ended {
                Round::Exhausted => (wait, None),
                Round::Wait(asked) => (wait.max(asked.unwrap_or_default()), Some(asked)),
            };
            if round >= policy.rounds || wait > policy.ceiling {
                return Err(match asked {
                    Some(retry_after) => Error::RateLimited { retry_after },
                    None => Error::Unavailable { tried },
                });
            }
            round += 1;
            tokio::time::sleep(wait).await;
        }
    }

    /// One try at each backend, the pinned one first.
    async fn round<R: Reader>(
        &self,
        call: &Call,
        reader: &mut R,
        tried: &mut Vec<Attempt>,
    ) -> Result<R::Output, Failed> {
        let mut excluded = Vec::new();
        while let Some(key) = self.choose(&excluded, tried).await {
            match self.attempt(key, call, reader).await {
                Ok(output) => return Ok(output),
                Err(Failure::Final(error)) => return Err(Failed::For(error)),
                Err(Failure::Limited { retry_after }) => return Err(Failed::Round(Round::Wait(retry_after))),
                Err(Failure::Elsewhere {
                    reason,
                    may_have_arrived,
                }) => {
                    self.client.note_failure(key, &reason);
                    self.pin(None);
                    excluded.push(key);
                    tried.push(Attempt {
                        backend: self.client.0.transport.name(key),
                        reason,
                    });
                    if may_have_arrived && !call.repeatable {
                        let tried = std::mem::take(tried);
                        return Err(Failed::For(Box::new(Error::Unavailable { tried })));
                    }
                }
            }
        }
        Err(Failed::Round(Round::Exhausted))
    }

    async fn attempt<R: Reader>(&self, key: BackendKey, call: &Call, reader: &mut R) -> Result<R::Output, Failure> {
        let transport = &self.client.0.transport;
        let response = transport.send(key, call).await.map_err(|nothing| Failure::Elsewhere {
            reason: nothing.reason,
            may_have_arrived: nothing.may_have_arrived,
        })?;
        let backend = transport.name(key);
        let result = match Answer::classify(response, call, backend, self.client.0.clock.now()).await {
            Ok(answer) => reader.read(answer).await,
            Err(failure) => Err(failure),
        };
        if !matches!(result, Err(Failure::Elsewhere { .. })) {
            self.client.note_answer(key);
            self.pin(Some(key));
        }
        result
    }

    /// The pinned backend while it is not excluded, else a fresh choice.
    async fn choose(&self, excluded: &[BackendKey], tried: &mut Vec<Attempt>) -> Option<BackendKey> {
        if let Some(key) = self.pinned().filter(|key| !excluded.contains(key)) {
            return Some(key);
        }
        self.client.refresh_addresses().await;
        let mut state = self.client.state();
        let picked = state.backends.pick(excluded, self.client.0.clock.now());
        if picked.is_none() {
            tried.extend(state.unresolved.iter().cloned());
        }
        picked
    }

    fn pinned(&self) -> Option<BackendKey> {
        *self.pinned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pin(&self, key: Option<BackendKey>) {
        *self.pinned.lock().unwrap_or_else(PoisonError::into_inner) = key;
    }
}

/// Why a round gave no output.
enum Failed {
    For(Box<Error>),
    Round(Round),
}
