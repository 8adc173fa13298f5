//! Is that somebody's password? The server decides.

use std::time::Duration;

use dirless_directory::{Dn, Filter, Value};
use dirless_program::Secret;
use futures_util::future::BoxFuture;

use super::connection::{Connection, Verdict, unavailable};
use super::follow::name;
use super::map;
use super::record::Record;
use super::server::Server;
use super::wire::{Scope, Search};
use super::{LdapSource, Preset, none_left};
use crate::sources::SourceError;

/// How long one answer may take in all, waiting for a turn included.
const PATIENCE: Duration = Duration::from_secs(30);
/// Entries that may match a name; with more than one nobody is meant.
const MATCHES: usize = 10;
/// Bytes of a name or password above which it is none.
const LONGEST: usize = 4096;

/// Somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// By login name; on Active Directory also by userPrincipalName.
    Name(String),
    /// By object id, as in `SourceUser`.
    Id(String),
    /// By the name of the entry.
    Dn(String),
}

/// Can tell whether a password is somebody's.
pub trait VerifyPassword: Send + Sync {
    /// Is `password` the one of the enabled user `who`? Nobody, a disabled user and a wrong password
    /// are the same answer, after the same steps; an empty password is always wrong.
    ///
    /// # Errors
    /// When the server cannot say. That is not "wrong".
    fn verify_password<'a>(&'a self, who: &'a Who, password: &'a Secret)
    -> BoxFuture<'a, Result<Verdict, SourceError>>;
}

impl VerifyPassword for LdapSource {
    fn verify_password<'a>(
        &'a self,
        who: &'a Who,
        password: &'a Secret,
    ) -> BoxFuture<'a, Result<Verdict, SourceError>> {
        Box::pin(async move {
            let (Who::Name(text) | Who::Id(text) | Who::Dn(text)) = who;
            let usable = |text: &str| !text.is_empty() && text.len() <= LONGEST && !text.contains('\0');
            if !usable(text) || !usable(password.expose()) {
                return Ok(Verdict::Wrong);
            }
            let verdict = tokio::time::timeout(PATIENCE, async {
                // Never closed.
                let _turn = self.verifying.acquire().await;
                let mut reasons = Vec::new();
                for server in &self.servers {
                    match self.verify_at(server, who, password).await {
                        Err(SourceError::Unavailable { operation, reason }) => {
                            self.note(server, operation, reason, &mut reasons);
                        }
                        outcome => return outcome,
                    }
                }
                Err(none_left(reasons))
            });
            let late = || {
                Err(unavailable(
                    "verify",
                    format!("no answer within {} s", PATIENCE.as_secs()),
                ))
            };
            verdict.await.unwrap_or_else(|_| late())
        })
    }
}

impl LdapSource {
    /// Looks `who` up and binds as them, on one connection. Where there is nobody the bind is tried as
    /// somebody who is not there: as many answers, and about the same time.
    async fn verify_at(&self, server: &Server, who: &Who, password: &Secret) -> Result<Verdict, SourceError> {
        let mut connection = self.connect(server).await?;
        let found = self.find(&mut connection, who).await?;
        let now = self.clock.now().as_second();
        let enabled = match &found {
            Some(record) => map::user(&self.layout, record, now)?.enabled,
            None => false,
        };
        let verdict = match found.filter(|_| enabled) {
            Some(record) => connection.verdict(&record.dn, password).await?,
            None => {
                let (base, ..) = self.searches()[0];
                let nobody = format!("cn={:032x},{base}", rand::random::<u128>());
                let _ = connection.verdict(&nobody, password).await?;
                Verdict::Wrong
            }
        };
        connection.close().await;
        Ok(verdict)
    }

    /// The one user meant by `who`, who must be among those that a read finds.
    async fn find(&self, connection: &mut Connection, who: &Who) -> Result<Option<Record>, SourceError> {
        let [(base, users, _), _] = self.searches();
        let attributes = self.layout.user_attributes();
        let is = match who {
            Who::Name(login) => {
                let mut names = vec![Filter::Equality(
                    name(&self.layout.user_name)?,
                    Value::from(login.as_str()),
                )];
                if self.layout.preset == Preset::Ad {
                    names.push(Filter::Equality(
                        name("userPrincipalName")?,
                        Value::from(login.as_str()),
                    ));
                }
                Filter::Or(names)
            }
            Who::Id(id) => self.by_ids(std::slice::from_ref(id))?,
            Who::Dn(dn) => {
                let (Ok(below), Ok(above)) = (Dn::parse(dn), Dn::parse(base)) else {
                    return Ok(None);
                };
                if !is_under(&below, &above) {
                    return Ok(None);
                }
                return connection.entry(dn, users, &attributes).await;
            }
        };
        let filter = Filter::And(vec![users.clone(), is]);
        let what = Search {
            base,
            scope: Scope::Subtree,
            filter: &filter,
            attributes: &attributes,
        };
        let mut found = Vec::new();
        let read = connection.read(&what, MATCHES, |record| {
            found.push(record);
            Ok(())
        });
        read.await?;
        Ok(<[Record; 1]>::try_from(found).ok().map(|[record]| record))
    }
}

/// Is the entry under the base, or the base itself?
fn is_under(dn: &Dn, base: &Dn) -> bool {
    let key = |dn: &Dn| map::key_of(&dn.to_string());
    let mut at = Some(dn.clone());
    while let Some(dn) = at {
        if key(&dn) == key(base) {
            return true;
        }
        at = dn.parent().filter(|parent| !parent.is_root());
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_under_its_base_however_it_is_written() {
        let under = |dn: &str, base: &str| is_under(&Dn::parse(dn).unwrap(), &Dn::parse(base).unwrap());
        assert!(under("CN=a, OU=People,dc=X", "ou=people,DC=x"));
        assert!(under("dc=x", "DC=X"));
        assert!(!under("cn=a,dc=y", "dc=x"));
        assert!(!under("dc=x", "ou=people,dc=x"));
    }
}
