//! `GET /v1/watch`, `GET /v2/{tenant}/watch`: a request that a host keeps open and on which it is told what is new, as
//! server-sent events ([`Notice`]). First comes what holds now.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, Request, State};
use axum::response::Response;
use bytes::Bytes;
use dirless_wire::trust::{KeyId, ObjectPath};
use dirless_wire::{ErrorReply, KEEP_OPEN, NOTICES_MEDIA_TYPE, Notice, TenantId};
use futures_util::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use tokio::time::Instant;

use super::asked::Asked;
use super::state;
use super::trust::{self, objects};
use crate::app::App;
use crate::http::log::LoggedTenant;
use crate::http::{Endless, Failure, auth};
use crate::store::{Caller, SecretHash, StoreError, TenantHandle, TrustHandle};
use crate::watch::{News, Topic, Watched, Watcher};

/// Longest silence on a stream, where `[server] idle_seconds` allows it: shorter than fronts keep a silent answer.
const LONGEST_SILENCE: Duration = Duration::from_secs(30);
/// How long a stream lasts, from three to five quarters of it: hosts spread over backends that were added, and keys
/// that expired are noticed.
const LIFETIME: Duration = Duration::from_secs(3600);
/// Pause after the store could not be read.
const PAUSE: Duration = Duration::from_secs(1);
/// Heads that are told of: more publishers than a policy may name, retired ones included.
const HEADS: usize = 128;

/// What is new for hosts of a tenant, as it happens.
///
/// Event `state`: the tag over everything that hosts read, as in answers to heartbeats, and in a second line of data what
/// `GET /v1/snapshot` answers, unless that is long; the first one at once. Other events are to be passed over. The stream
/// ends after about an hour, and when the credential is not good any more.
#[utoipa::path(get, path = "/v1/watch", tag = "tenant", operation_id = "watchState",
    responses(
        (status = 200, body = String, content_type = "text/event-stream"),
        (status = 401, body = ErrorReply), (status = 403, body = ErrorReply), (status = 429, body = ErrorReply),
        (status = 503, body = ErrorReply, description = "As many watch as may; ask at intervals"),
    ), security(("bearer" = [], "tenant" = [])))]
pub(super) async fn of_state(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let (mut parts, _body) = request.into_parts();
    let asked = Asked::from_request_parts(&mut parts, &app).await?;
    let bearer = auth::bearer(&parts.headers).unwrap_or_default();
    let credential = Proven::Bearer(SecretHash::of(bearer), asked.tenant.tenant().clone());
    answer(&app, Watching::State(asked.tenant), credential)
}

/// The same for the verified protocol: its heads.
pub(super) async fn of_heads(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let tenant = trust::admit_anyone(&app, request).await?;
    let credential = match tenant.caller() {
        Caller::Key(key) => Proven::Key(key.id().clone(), tenant.tenant().clone()),
        Caller::Operator(_) | Caller::Joining => Proven::Once,
    };
    answer(&app, Watching::Heads(tenant), credential)
}

/// What is watched, with what reads it.
#[derive(Clone)]
enum Watching {
    State(TenantHandle),
    Heads(TrustHandle),
}

impl Watching {
    fn watched(&self) -> Watched {
        match self {
            Self::State(tenant) => Watched::State(tenant.tenant().clone()),
            Self::Heads(tenant) => Watched::Heads(tenant.tenant().clone()),
        }
    }

    /// What is to be told now, by name.
    async fn read(&self, app: &Arc<App>) -> Result<Vec<(Box<str>, Bytes)>, StoreError> {
        match self {
            Self::State(tenant) => {
                let notice = state::notice(app, tenant).await?;
                Ok(vec![("state".into(), notice.to_bytes().into())])
            }
            Self::Heads(tenant) => {
                let page = tenant.objects("head/", HEADS).await?;
                let mut notices = Vec::new();
                for meta in page.entries {
                    let Some(path @ ObjectPath::Head { .. }) = meta.path.parse().ok() else {
                        continue;
                    };
                    let head = objects::whole(app, tenant, &path).await?;
                    // Gone between the two looks: told by the next.
                    if let Some(head) = head {
                        notices.push((meta.path.into(), Notice::Head(head.to_vec()).to_bytes().into()));
                    }
                }
                Ok(notices)
            }
        }
    }
}

/// Keeps a topic told until nobody watches it.
async fn keep_told(app: Arc<App>, watching: Watching, topic: Arc<Topic>) {
    loop {
        while topic.is_wanted().await {
            loop {
                match watching.read(&app).await {
                    Ok(notices) => break topic.tell(notices),
                    Err(error) => {
                        tracing::error!(%error, "hosts cannot be told what is new; trying again");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        }
        if app.watch.is_over(&watching.watched()) {
            return;
        }
    }
}

/// Why a stream was opened, so that it can be asked again whether it may stay.
enum Proven {
    Bearer(SecretHash, TenantId),
    Key(KeyId, TenantId),
    /// By what is not kept: the stream ends, and whoever it is proves it again.
    Once,
}

impl Proven {
    fn holds(&self, app: &App) -> bool {
        match self {
            Self::Bearer(bearer, tenant) => auth::tenant_of_bearer(app, bearer, tenant.as_str())
                .is_some_and(|tenant| !tenant.credential().is_suspended()),
            Self::Key(key, tenant) => app
                .store
                .key_holder(tenant.as_str(), key)
                .is_some_and(|holder| !holder.is_suspended()),
            Self::Once => false,
        }
    }
}

/// One stream.
struct Stream {
    app: Arc<App>,
    watcher: Watcher,
    proven: Proven,
    silence: Duration,
    until: Instant,
}

fn answer(app: &Arc<App>, watching: Watching, proven: Proven) -> Result<Response, Failure> {
    let watched = watching.watched();
    let (Watched::State(tenant) | Watched::Heads(tenant)) = watched.clone();
    let reader = Arc::clone(app);
    let watcher = app.watch.subscribe(watched, |topic| {
        tokio::spawn(keep_told(reader, watching, topic));
    });
    let watcher = watcher.ok_or_else(|| Failure::unavailable("as many hosts watch as may; ask at intervals", 300))?;
    let idle = Duration::from_secs(u64::from(app.config.server.idle_seconds));
    let stream = Stream {
        app: Arc::clone(app),
        watcher,
        proven,
        silence: LONGEST_SILENCE.min(idle / 3).max(Duration::from_millis(100)),
        until: Instant::now() + LIFETIME.mul_f64(rand::random_range(0.75..1.25)),
    };
    let pieces = stream::unfold(stream, |mut stream| async move {
        let piece = stream.next().await?;
        Some((Ok::<_, Infallible>(piece), stream))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    *response.headers_mut() = HeaderMap::from_iter([
        (CONTENT_TYPE, HeaderValue::from_static(NOTICES_MEDIA_TYPE)),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ]);
    response.extensions_mut().insert(LoggedTenant(tenant));
    response.extensions_mut().insert(Endless);
    Ok(response)
}

impl Stream {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let silent_until = Instant::now() + self.silence;
            let news = tokio::time::timeout_at(silent_until.min(self.until), self.watcher.next()).await;
            match news {
                Ok(News::Notices(notices)) => {
                    self.app.metrics.notices.increment(1);
                    return Some(notices);
                }
                Ok(News::Credentials) if self.proven.holds(&self.app) => {}
                Ok(News::Credentials | News::Closing) => return None,
                Err(_elapsed) if Instant::now() >= self.until => return None,
                Err(_elapsed) => return Some(Bytes::from_static(KEEP_OPEN)),
            }
        }
    }
}
