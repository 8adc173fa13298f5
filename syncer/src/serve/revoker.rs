//! What takes people away for those who ask by REST.

use std::time::Duration;

use dirless_program::config::ConfigError;
use dirless_publish::revocation::{RestoreReply, RevocationReply, RevocationsReply, RevokeReply, RevokeRequest};
use futures_util::future::BoxFuture;

use crate::keys::KeysError;

/// Why nobody was taken away, or comes back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RevokeError {
    /// The request makes no sense.
    #[error("{0}")]
    Malformed(String),
    /// Nobody bears that name.
    #[error(
        "nobody is published under the name {0:?}, so nothing was done; see `dirless-syncer plan`. To have nobody published \
         under it from now on: --unknown"
    )]
    NotPublished(String),
    /// Nobody of that name is revoked.
    #[error("{0} is not revoked; see: dirless revoke --list")]
    NotRevoked(String),
    /// This syncer publishes nothing.
    #[error("{0}")]
    NotConfigured(String),
    /// It did not work. Whether somebody is on the list says the list.
    #[error("{0:#}")]
    Failed(anyhow::Error),
}

impl RevokeError {
    /// What kept us from it.
    #[must_use]
    pub fn of(error: anyhow::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(known) => known,
            Err(error) if error.is::<ConfigError>() || error.is::<KeysError>() => {
                Self::NotConfigured(format!("{error:#}"))
            }
            Err(error) => Self::Failed(error),
        }
    }
}

/// Takes people away. Whatever it answers is on disk.
pub trait Revoker: Send + Sync {
    /// Takes them away for `by`, and waits for hosts as long as the request says.
    fn revoke(&self, request: RevokeRequest, by: String) -> BoxFuture<'_, Result<RevokeReply, RevokeError>>;

    /// Lets somebody come back.
    fn restore(&self, name: String, by: String) -> BoxFuture<'_, Result<RestoreReply, RevokeError>>;

    /// Who is revoked, and how far hosts are with each.
    fn list(&self) -> BoxFuture<'_, Result<RevocationsReply, RevokeError>>;

    /// One of them, as soon as all connected hosts have applied it, or after `wait`.
    fn look(&self, name: String, wait: Duration) -> BoxFuture<'_, Result<RevocationReply, RevokeError>>;
}
