//! An LDAP server or Active Directory.
//!
//! Users and groups are read page by page into a copy, each page checked; later reads ask only
//! for what changed, and now and then everything is read again. Groups in groups are resolved
//! by the server on Active Directory and here elsewhere. The object id is the server's own (objectGUID,
//! entryUUID), so that a renamed person keeps the number. Nothing is written, ever, and the server is
//! not trusted: what it may send is bounded.

mod config;
mod connection;
mod controls;
mod copy;
mod follow;
mod layout;
mod map;
mod nesting;
mod read;
mod record;
mod server;
mod stamp;
mod verify;
mod wire;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dirless_directory::Filter;
use dirless_program::{Clock, Lookup, Secret};
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;

pub use config::{AttributeNames, Incremental, LdapConfig, LockedBy, Nested, Preset, Urls};
pub use connection::{Bounds, Verdict};
pub use layout::Layout;
pub use map::{Gather, Mapping};
pub use nesting::{Member, TooMany, expand};
pub use record::{Record, guid, guid_bytes, rid};
pub use verify::{VerifyPassword, Who};
pub use wire::{Malformed, lengths, reply};

use super::{Progress, Source, SourceDirectory, SourceError};
use connection::{Connection, unavailable};
use server::Server;
use stamp::Stamp;

/// Passwords that are verified at the same time; more wait.
const AT_ONCE: usize = 16;
/// The file with the copy in the folder of the source's state.
const COPY: &str = "ldap.db";

/// An LDAP source.
#[derive(Debug)]
pub struct LdapSource {
    name: String,
    config: LdapConfig,
    layout: Layout,
    users: Filter,
    groups: Filter,
    servers: Vec<Server>,
    trust: Arc<rustls::ClientConfig>,
    password: Option<Secret>,
    bounds: Bounds,
    folder: Option<PathBuf>,
    verifying: Semaphore,
    clock: Clock,
}

impl LdapSource {
    /// The source `name` that `config` describes. What was read last is kept in `folder`; without one
    /// every read is a whole one. Nothing is asked yet.
    ///
    /// # Errors
    /// When the password or the authorities cannot be read, or the table makes no sense.
    pub fn open(
        name: &str,
        config: &LdapConfig,
        bounds: Bounds,
        folder: Option<&Path>,
        environment: Lookup<'_>,
    ) -> Result<Self, SourceError> {
        let setup = |reason: &dyn std::fmt::Display| SourceError::Setup(format!("source {name}: {reason}"));
        let password = match (&config.password_file, &config.password_credential) {
            (Some(path), _) => Some(Secret::from_file(path).map_err(|error| setup(&error))?),
            (None, Some(credential)) => {
                let found = Secret::from_credential(credential, environment).map_err(|error| setup(&error))?;
                let missing = || setup(&format!("there is no service credential {credential}"));
                Some(found.ok_or_else(missing)?)
            }
            (None, None) => None,
        };
        if password.as_ref().is_some_and(|password| password.expose().is_empty()) {
            // RFC 4513 section 5.1.2: that would be an anonymous bind that reports success.
            return Err(setup(&"the password is empty"));
        }
        let layout = Layout::of(config);
        Ok(Self {
            name: name.to_owned(),
            users: Filter::parse(&layout.user_filter).map_err(|error| setup(&error))?,
            groups: Filter::parse(&layout.group_filter).map_err(|error| setup(&error))?,
            servers: config.servers().map_err(|error| setup(&error))?,
            trust: server::trust(config).map_err(|error| setup(&error))?,
            layout,
            config: config.clone(),
            password,
            bounds,
            folder: folder.map(ToOwned::to_owned),
            verifying: Semaphore::new(AT_ONCE),
            clock: Clock::system(),
        })
    }

    /// A connection to `server`, bound as the configuration says.
    async fn connect(&self, server: &Server) -> Result<Connection, SourceError> {
        let mut connection = Connection::open(server, &self.trust, self.config.page, &self.bounds).await?;
        if let (Some(name), Some(password)) = (&self.config.bind_dn, &self.password) {
            connection.bind(name, password).await?;
        }
        Ok(connection)
    }

    /// Where users and where groups are, by which filter, and how many there may be.
    fn searches(&self) -> [(&str, &Filter, usize); 2] {
        let users = self.config.user_base.as_ref().unwrap_or(&self.config.base);
        let groups = self.config.group_base.as_ref().unwrap_or(&self.config.base);
        [
            (users, &self.users, self.bounds.users),
            (groups, &self.groups, self.bounds.groups),
        ]
    }

    /// Notes that `server` is not there, for the next one to be asked. Only that: neither a password
    /// that is refused nor an answer that makes no sense gets better elsewhere.
    fn note(
        &self,
        server: &Server,
        operation: &'static str,
        reason: String,
        reasons: &mut Vec<(&'static str, String)>,
    ) {
        if self.servers.len() > 1 {
            tracing::warn!(
                event = "ldap.server_failed",
                server = server.url,
                "{operation} failed: {reason}"
            );
        }
        reasons.push((operation, reason));
    }
}

/// What all servers said, as one error.
fn none_left(reasons: Vec<(&'static str, String)>) -> SourceError {
    match <[_; 1]>::try_from(reasons) {
        Ok([(operation, reason)]) => unavailable(operation, reason),
        Err(reasons) => {
            let reasons = reasons
                .into_iter()
                .map(|(operation, reason)| format!("{operation}: {reason}"));
            unavailable("asking every server", reasons.collect::<Vec<_>>().join("; "))
        }
    }
}

impl Source for LdapSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn read<'a>(&'a self, progress: &'a dyn Progress) -> BoxFuture<'a, Result<SourceDirectory, SourceError>> {
        Box::pin(async move {
            let limit = Duration::from_secs(self.config.deadline_seconds);
            let read = async {
                let mut reasons = Vec::new();
                for server in &self.servers {
                    match self.read_from(server, progress).await {
                        Err(SourceError::Unavailable { operation, reason }) => {
                            self.note(server, operation, reason, &mut reasons)
                        }
                        outcome => return outcome,
                    }
                }
                Err(none_left(reasons))
            };
            match tokio::time::timeout(limit, read).await {
                Ok(outcome) => outcome,
                Err(_) => Err(unavailable(
                    "read",
                    format!(
                        "it was not complete after {} s; raise deadline_seconds of source {}",
                        limit.as_secs(),
                        self.name
                    ),
                )),
            }
        })
    }

    fn probe(&self) -> BoxFuture<'_, Result<Vec<String>, SourceError>> {
        Box::pin(async move {
            let mut said = Vec::new();
            for server in &self.servers {
                let mut connection = self.connect(server).await?;
                let way = self.way(&mut connection).await?;
                connection.close().await;
                let way = way.map_or("whole reads only", |(way, _)| way.text());
                said.push(format!("{}: bound; changes are found by {way}", server.url));
            }
            Ok(said)
        })
    }

    fn passwords(&self) -> Option<&dyn VerifyPassword> {
        Some(self)
    }
}

#[cfg(test)]
mod tests;
