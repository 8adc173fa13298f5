//! A bound connection, and searches that are complete or an error.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dirless_program::Secret;
use ldap3::controls::{Control, ControlType, MakeCritical, PagedResults};
use ldap3::{Ldap, LdapConnAsync, LdapConnSettings, LdapError, LdapResult, Scope, SearchEntry};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::sync::Mutex;

use super::config::LdapConfig;
use super::record::Record;
use crate::sources::{Complete, SourceError};

/// How long connecting, and each single answer, may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Pages without an entry that may follow each other: a server may look at many entries that do not
/// match, but not for ever.
const EMPTY_PAGES: u32 = 1000;

/// `invalidCredentials` (RFC 4511 appendix A.2).
const INVALID_CREDENTIALS: u32 = 49;
/// `insufficientAccessRights`, `inappropriateAuthentication`, `strongerAuthRequired`.
const DENIED: [u32; 4] = [INVALID_CREDENTIALS, 50, 48, 8];

/// A connection, bound as the configuration says.
#[derive(Debug)]
pub(super) struct Connection {
    ldap: Mutex<Ldap>,
    page: i32,
}

/// One page, and the cookie of the page after it unless this is the last.
struct Page {
    entries: Vec<Record>,
    next: Option<Vec<u8>>,
}

/// What a bind came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// The password is the person's.
    Right,
    /// It is not, or there is no such person.
    Wrong,
}

impl Connection {
    /// Connects and binds.
    pub(super) async fn open(config: &LdapConfig, password: Option<&Secret>) -> Result<Self, SourceError> {
        let mut ldap = connect(config).await?;
        if let (Some(dn), Some(password)) = (&config.bind_dn, password) {
            let result = ldap.with_timeout(PATIENCE).simple_bind(dn, password.expose()).await;
            check("bind", &result.map_err(|error| failed("bind", &error))?)?;
        }
        Ok(Self {
            ldap: Mutex::new(ldap),
            page: config.page,
        })
    }

    /// All entries under `base` that match `filter`. Every page must have ended with success: a size
    /// limit, a referral in place of an answer and a broken connection are errors, not ends.
    pub(super) async fn search(
        &self,
        base: &str,
        filter: &str,
        attributes: &[String],
        mut so_far: impl FnMut(usize),
    ) -> Result<Complete<Vec<Record>>, SourceError> {
        let (mut list, mut cookie, mut empty) = (Vec::new(), Vec::new(), 0);
        loop {
            let page = self.one_page(base, filter, attributes, cookie).await?;
            empty = if page.entries.is_empty() { empty + 1 } else { 0 };
            list.extend(page.entries);
            so_far(list.len());
            match page.next {
                None => return Ok(Complete::proven(list)),
                // Not the same cookie twice: Samba's stays the same for a whole search.
                Some(_) if empty > EMPTY_PAGES => {
                    return Err(SourceError::Inconsistent(format!(
                        "the server sent {empty} empty pages in a row, so the list has no end"
                    )));
                }
                Some(next) => cookie = next,
            }
        }
    }

    async fn one_page(
        &self,
        base: &str,
        filter: &str,
        attributes: &[String],
        cookie: Vec<u8>,
    ) -> Result<Page, SourceError> {
        let mut ldap = self.ldap.lock().await;
        let size = self.page;
        let reply = ldap
            .with_timeout(PATIENCE)
            // Critical: a server that cannot page must say so instead of cutting the answer short.
            .with_controls(PagedResults { size, cookie }.critical())
            .search(base, Scope::Subtree, filter, attributes)
            .await
            .map_err(|error| failed("search", &error))?;
        drop(ldap);
        let (entries, result) = (reply.0, reply.1);
        check("search", &result)?;
        let entries: Vec<Record> = entries
            .into_iter()
            // Active Directory adds referrals to other partitions to every search.
            .filter(|entry| !entry.is_ref() && !entry.is_intermediate())
            .map(|entry| {
                let entry = SearchEntry::construct(entry);
                Record::from_parts(&entry.dn, entry.attrs, entry.bin_attrs)
            })
            .collect();
        Ok(Page {
            entries,
            next: next_cookie(&result)?,
        })
    }

    /// Says goodbye; that it went wrong changes nothing any more.
    pub(super) async fn close(self) {
        let _ = self.ldap.into_inner().unbind().await;
    }
}

/// Binds as `dn` on a connection of its own. The password must not be empty: servers take such a
/// bind for an anonymous one and answer "success" (RFC 4513 section 5.1.2).
pub(super) async fn try_password(config: &LdapConfig, dn: &str, password: &Secret) -> Result<Verdict, SourceError> {
    if password.expose().is_empty() || dn.is_empty() {
        return Ok(Verdict::Wrong);
    }
    let mut ldap = connect(config).await?;
    let result = ldap.with_timeout(PATIENCE).simple_bind(dn, password.expose()).await;
    let result = result.map_err(|error| failed("bind", &error))?;
    let _ = ldap.unbind().await;
    match result.rc {
        0 => Ok(Verdict::Right),
        INVALID_CREDENTIALS => Ok(Verdict::Wrong),
        _ => Err(refused("bind", &result)),
    }
}

async fn connect(config: &LdapConfig) -> Result<Ldap, SourceError> {
    let mut settings = LdapConnSettings::new()
        .set_conn_timeout(PATIENCE)
        .set_starttls(config.starttls);
    if let Some(path) = &config.ca_file {
        settings = settings.set_config(Arc::new(trust(path)?));
    }
    let (connection, ldap) = LdapConnAsync::with_settings(settings, &config.url)
        .await
        .map_err(|error| failed("connect", &error))?;
    let url = config.url.clone();
    tokio::spawn(async move {
        if let Err(error) = connection.drive().await {
            // Whoever waits for an answer gets the error too, and tells of it.
            tracing::debug!(event = "ldap.connection_lost", url, "{error}");
        }
    });
    Ok(ldap)
}

fn trust(path: &Path) -> Result<rustls::ClientConfig, SourceError> {
    let refuse = |reason: String| SourceError::Setup(format!("{}: {reason}", path.display()));
    let mut roots = rustls::RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| refuse(error.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| refuse(error.to_string()))?;
        roots.add(certificate).map_err(|error| refuse(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(refuse("holds no certificate (PEM is expected)".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| refuse(error.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// The cookie for the next page; `None` after the last one.
fn next_cookie(result: &LdapResult) -> Result<Option<Vec<u8>>, SourceError> {
    for Control(kind, raw) in &result.ctrls {
        if matches!(kind, Some(ControlType::PagedResults)) {
            let paged: PagedResults = raw.parse();
            return Ok(Some(paged.cookie).filter(|cookie| !cookie.is_empty()));
        }
    }
    Err(SourceError::Inconsistent(
        "the server left out the paged-results control, so that nothing tells whether the list is whole".to_owned(),
    ))
}

fn check(operation: &'static str, result: &LdapResult) -> Result<(), SourceError> {
    match result.rc {
        0 => Ok(()),
        _ => Err(refused(operation, result)),
    }
}

fn refused(operation: &'static str, result: &LdapResult) -> SourceError {
    let reason = match result.rc {
        4 => format!("{result} (the server's size limit cut the answer short: raise it for the bind DN)"),
        10 => format!(
            "{result} (the server refers to {}: name that one in url)",
            result.refs.join(", ")
        ),
        32 => format!("{result} (there is no such base; matched {:?})", result.matched),
        _ => result.to_string(),
    };
    if DENIED.contains(&result.rc) {
        SourceError::Refused { operation, reason }
    } else {
        SourceError::Unavailable { operation, reason }
    }
}

fn failed(operation: &'static str, error: &LdapError) -> SourceError {
    let mut reason = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let text = inner.to_string();
        if !reason.contains(&text) {
            reason.push_str(": ");
            reason.push_str(&text);
        }
        cause = inner.source();
    }
    SourceError::Unavailable { operation, reason }
}
