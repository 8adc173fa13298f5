//! An LDAP server or Active Directory.
//!
//! Users and groups are read page by page, each page checked; groups in groups are resolved by the
//! server on Active Directory and here elsewhere. The object id is the server's own (objectGUID,
//! entryUUID), so that a renamed person keeps the number. Nothing is written, ever.

mod config;
mod connection;
mod map;
mod nesting;
mod record;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dirless_program::{Clock, Lookup, Secret};
use futures_util::future::BoxFuture;

pub use config::{AttributeNames, Layout, LdapConfig, Nested, Preset};
pub use connection::Verdict;
pub use map::{Mapping, map};
pub use nesting::{Member, expand};
pub use record::{Record, guid, rid};

use super::{Progress, Source, SourceDirectory, SourceError};
use connection::Connection;

/// Seconds of a day, for shadow(5).
const DAY: i64 = 86_400;

/// An LDAP source.
#[derive(Debug)]
pub struct LdapSource {
    name: String,
    config: LdapConfig,
    layout: Layout,
    password: Option<Secret>,
    clock: Clock,
}

impl LdapSource {
    /// The source `name` that `config` describes. Nothing is asked yet.
    ///
    /// # Errors
    /// When the password cannot be read.
    pub fn open(name: &str, config: &LdapConfig, environment: Lookup<'_>) -> Result<Self, SourceError> {
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
        Ok(Self {
            name: name.to_owned(),
            layout: Layout::of(config),
            config: config.clone(),
            password,
            clock: Clock::system(),
        })
    }

    /// Does `password` belong to the enabled user with login name `user`? The server decides: the
    /// user's entry is looked up, and a bind is tried as it.
    ///
    /// # Errors
    /// When the server cannot say. That is not "wrong".
    pub async fn verify(&self, user: &str, password: &Secret) -> Result<Verdict, SourceError> {
        if user.is_empty() || password.expose().is_empty() {
            return Ok(Verdict::Wrong);
        }
        let filter = format!(
            "(&{}({}={}))",
            self.layout.user_filter,
            self.layout.user_name,
            ldap3::ldap_escape(user)
        );
        let connection = Connection::open(&self.config, self.password.as_ref()).await?;
        let base = self.config.user_base.as_ref().unwrap_or(&self.config.base);
        let found = connection
            .search(base, &filter, &self.layout.user_attributes(), |_| {})
            .await;
        connection.close().await;
        let found = found?.into_inner();
        let mapping = self.map(&found, &[], &BTreeMap::new())?;
        match (found.as_slice(), mapping.users.as_slice()) {
            ([record], [user]) if user.enabled => connection::try_password(&self.config, &record.dn, password).await,
            _ => Ok(Verdict::Wrong),
        }
    }

    fn map(
        &self,
        users: &[Record],
        groups: &[Record],
        chains: &BTreeMap<String, BTreeSet<String>>,
    ) -> Result<Mapping, SourceError> {
        let today = self.clock.now().as_second() / DAY;
        map(&self.layout, &self.config.roles, users, groups, chains, today)
    }

    async fn read_all(&self, progress: &dyn Progress) -> Result<SourceDirectory, SourceError> {
        let connection = Connection::open(&self.config, self.password.as_ref()).await?;
        let config = &self.config;
        let user_base = config.user_base.as_ref().unwrap_or(&config.base);
        let group_base = config.group_base.as_ref().unwrap_or(&config.base);
        let users = connection
            .search(
                user_base,
                &self.layout.user_filter,
                &self.layout.user_attributes(),
                |count| {
                    progress.users(count);
                },
            )
            .await?;
        let groups = connection
            .search(
                group_base,
                &self.layout.group_filter,
                &self.layout.group_attributes(),
                |count| {
                    progress.groups(count);
                },
            )
            .await?;
        let chains = self.chains(&connection, user_base, groups.get(), progress).await?;
        connection.close().await;
        let mapping = self.map(users.get(), groups.get(), &chains)?;
        let mut members = mapping.members;
        let lists = mapping.groups.iter().map(|group| {
            let list = members.remove(&group.id).unwrap_or_default();
            (group.id.clone(), groups.derive(|_| list.into_iter().collect()))
        });
        let lists = lists.collect();
        SourceDirectory::assemble(
            users.derive(|_| mapping.users),
            groups.derive(|_| mapping.groups),
            lists,
        )
    }

    /// The users in each group at any depth, as the server resolves it.
    async fn chains(
        &self,
        connection: &Connection,
        base: &str,
        groups: &[Record],
        progress: &dyn Progress,
    ) -> Result<BTreeMap<String, BTreeSet<String>>, SourceError> {
        let mut chains = BTreeMap::new();
        if self.layout.nested != Nested::InChain {
            return Ok(chains);
        }
        let attributes = [self.layout.id.clone()];
        for (done, group) in groups.iter().enumerate() {
            // LDAP_MATCHING_RULE_IN_CHAIN (MS-ADTS 3.1.1.3.4.4.3).
            let filter = format!(
                "(&{}(memberOf:1.2.840.113556.1.4.1941:={}))",
                self.layout.user_filter,
                ldap3::ldap_escape(group.dn.as_str())
            );
            let found = connection.search(base, &filter, &attributes, |_| {}).await?;
            let ids = found.get().iter().map(|record| map::id(&self.layout, record));
            chains.insert(map::id(&self.layout, group)?, ids.collect::<Result<_, _>>()?);
            progress.memberships(done + 1, groups.len());
        }
        Ok(chains)
    }
}

impl Source for LdapSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn read<'a>(&'a self, progress: &'a dyn Progress) -> BoxFuture<'a, Result<SourceDirectory, SourceError>> {
        Box::pin(async move {
            let limit = Duration::from_secs(self.config.deadline_seconds);
            match tokio::time::timeout(limit, self.read_all(progress)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(SourceError::Unavailable {
                    operation: "read",
                    reason: format!(
                        "it was not complete after {} s; raise deadline_seconds of source {}",
                        limit.as_secs(),
                        self.name
                    ),
                }),
            }
        })
    }
}

#[cfg(test)]
mod tests;
