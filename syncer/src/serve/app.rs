//! What all routes share: the tree, the tokens, who asks.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use dirless_directory::{Dn, Schema};
use dirless_program::Clock;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts;
use tokio::sync::{Semaphore, watch};

use super::json::Secrets;
use super::limits::{Failures, of_address};
use super::problem::{Code, Problem};
use super::revoker::Revoker;
use super::tokens::{Scope, Token, TokenStore};
use super::triggers::Triggers;
use crate::tree::{Actor, TreeStore};

/// Requests that work on the tree at once; more wait.
const WORKERS: usize = 16;

/// Everything the routes work with.
pub struct App {
    pub(crate) tree: Arc<TreeStore>,
    pub(crate) tokens: Arc<TokenStore>,
    pub(crate) triggers: Arc<dyn Triggers>,
    pub(crate) revoker: Arc<dyn Revoker>,
    pub(crate) schema: Schema,
    pub(crate) secrets: Secrets,
    pub(crate) streams: Arc<Semaphore>,
    /// True when the server ends.
    pub(crate) ending: watch::Receiver<bool>,
    failures: Failures,
    clock: Clock,
    workers: Semaphore,
}

impl std::fmt::Debug for App {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("App")
            .field("tree", &self.tree)
            .finish_non_exhaustive()
    }
}

/// What an [`App`] is made of.
#[expect(missing_debug_implementations, reason = "triggers and revokers have none")]
pub struct Shared {
    /// The tree.
    pub tree: Arc<TreeStore>,
    /// The tokens.
    pub tokens: Arc<TokenStore>,
    /// What can be made to happen.
    pub triggers: Arc<dyn Triggers>,
    /// What takes people away.
    pub revoker: Arc<dyn Revoker>,
    /// The clock.
    pub clock: Clock,
    /// Wrong tokens of one address in a minute.
    pub failures_per_minute: u32,
    /// Live streams at once.
    pub streams: usize,
    /// Becomes true when the server ends.
    pub ending: watch::Receiver<bool>,
}

impl App {
    /// Puts it together.
    #[must_use]
    pub fn new(parts: Shared) -> Self {
        let schema = parts.tree.schema().clone();
        Self {
            secrets: Secrets::passwords(&schema),
            schema,
            tree: parts.tree,
            tokens: parts.tokens,
            triggers: parts.triggers,
            revoker: parts.revoker,
            streams: Arc::new(Semaphore::new(parts.streams)),
            ending: parts.ending,
            failures: Failures::new(parts.failures_per_minute),
            clock: parts.clock,
            workers: Semaphore::new(WORKERS),
        }
    }

    /// Runs `work` where blocking is allowed, with at most so many others.
    pub(crate) async fn work<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let stopping = |_| Problem::new(Code::Unavailable, "the syncer is stopping").retry_after(5);
        let _place = self.workers.acquire().await.map_err(stopping)?;
        let app = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || work(&app)).await;
        done.unwrap_or_else(|error| {
            tracing::error!(event = "rest.panicked", %error, "a request failed; this is a defect");
            Err(Problem::internal())
        })
    }

    /// The token of the request, when it is good for one of `scopes`.
    async fn authorise(self: &Arc<Self>, parts: &Parts, scopes: &[Scope]) -> Result<Token, Problem> {
        let Some(text) = bearer(&parts.headers).map(str::to_owned) else {
            return Err(Problem::unauthorized());
        };
        let client = parts.extensions.get::<Client>().copied();
        let words: Vec<_> = scopes.iter().map(|scope| scope.as_str()).collect();
        let token = self.work(move |app| Ok(app.tokens.authenticate(&text)?)).await?;
        match token {
            Some(token) if scopes.iter().any(|scope| token.allows(*scope)) => Ok(token),
            Some(token) => Err(Problem::new(
                Code::Forbidden,
                format!("the token {} does not allow {}", token.name, words.join(" or ")),
            )
            .at("header Authorization")
            .hint(format!(
                "use another token, or make one with: dirless-syncer token create NAME --scope {}",
                words.first().copied().unwrap_or_default()
            ))),
            None => {
                let failed = client.and_then(|client| self.failures.note(of_address(client.0), self.clock.now()));
                if let Some(seconds) = failed {
                    return Err(
                        Problem::new(Code::RateLimited, "too many wrong tokens from this address")
                            .at("header Authorization")
                            .hint("a good token is taken at any time")
                            .retry_after(seconds),
                    );
                }
                let address = client.map(|client| client.0.to_string());
                tracing::warn!(event = "token.refused", address, "a wrong token");
                Err(Problem::unauthorized())
            }
        }
    }
}

/// Where a request comes from, put into its extensions before any route sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client(pub(crate) IpAddr);

/// Somebody who may look.
#[derive(Clone, Debug)]
pub(crate) struct Reads;

/// Somebody who may write, and under which name.
#[derive(Clone, Debug)]
pub(crate) struct Writes(pub(crate) Actor);

/// Somebody who may start syncs.
#[derive(Clone, Debug)]
pub(crate) struct Syncs(pub(crate) Token);

/// Somebody who may take people away.
#[derive(Clone, Debug)]
pub(crate) struct Revokes(pub(crate) Token);

/// Somebody who may let them come back.
#[derive(Clone, Debug)]
pub(crate) struct Restores(pub(crate) Token);

/// Somebody who may do either, and therefore see whom it is about.
#[derive(Clone, Debug)]
pub(crate) struct SeesRevoked;

impl FromRequestParts<Arc<App>> for Reads {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        app.authorise(parts, &[Scope::Read]).await.map(|_token| Self)
    }
}

impl FromRequestParts<Arc<App>> for Writes {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let token = app.authorise(parts, &[Scope::Write]).await?;
        Ok(Self(Actor::operator(token.name.as_str())))
    }
}

impl FromRequestParts<Arc<App>> for Syncs {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        app.authorise(parts, &[Scope::Sync]).await.map(Self)
    }
}

impl FromRequestParts<Arc<App>> for Revokes {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        app.authorise(parts, &[Scope::Revoke]).await.map(Self)
    }
}

impl FromRequestParts<Arc<App>> for Restores {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        app.authorise(parts, &[Scope::Restore]).await.map(Self)
    }
}

impl FromRequestParts<Arc<App>> for SeesRevoked {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let scopes = [Scope::Revoke, Scope::Restore];
        app.authorise(parts, &scopes).await.map(|_token| Self)
    }
}

/// What follows `Bearer` (RFC 6750 section 2.1; the scheme in any case).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    let rest = rest.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !rest.is_empty()).then_some(rest)
}

/// A distinguished name in a request.
pub(crate) fn name(text: &str, place: &str) -> Result<Dn, Problem> {
    Dn::parse(text).map_err(|error| {
        Problem::new(Code::InvalidName, error.to_string())
            .at(place)
            .hint("write it as in uid=alice,ou=users,dc=dirless, percent-encoded in a path")
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_scheme_is_read_in_any_case_and_nothing_else_is_a_bearer() {
        let of = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::from_static(text));
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(of("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(of("bearer  abc ").as_deref(), Some("abc"));
        for text in ["", "Bearer", "Bearer ", "Basic abc", "abc", "Bearerabc"] {
            assert_eq!(of(text), None, "{text:?}");
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }
}
