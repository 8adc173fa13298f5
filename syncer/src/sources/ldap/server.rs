//! A directory server's address, and the encrypted stream to it.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::config::LdapConfig;
use crate::sources::SourceError;

/// A stream to a server.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + Sync {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + Sync> Stream for T {}

/// How the stream is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protection {
    /// TLS from the first byte.
    Ldaps,
    /// TLS after asking for it.
    StartTls,
    /// None.
    Plain,
}

/// A server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    /// As it is configured.
    pub(super) url: String,
    host: String,
    port: u16,
    pub(super) protection: Protection,
}

impl Server {
    /// Of a URL: `ldaps://HOST[:PORT]` or `ldap://HOST[:PORT]`.
    pub(super) fn parse(url: &str, starttls: bool) -> Result<Self, String> {
        let wrong = || format!("{url:?} must be ldaps://HOST[:PORT], or ldap://HOST[:PORT] with starttls = true");
        let (protection, rest) = match url.split_once("://") {
            Some(("ldaps", _)) if starttls => {
                return Err(format!(
                    "{url:?} is TLS already; take ldaps:// or starttls = true, not both"
                ));
            }
            Some(("ldaps", rest)) => (Protection::Ldaps, rest),
            Some(("ldap", rest)) if starttls => (Protection::StartTls, rest),
            Some(("ldap", rest)) => (Protection::Plain, rest),
            _ => return Err(wrong()),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.strip_prefix('[') {
            // An IPv6 address (RFC 3986 section 3.2.2).
            Some(rest) => {
                let (host, after) = rest.split_once(']').ok_or_else(wrong)?;
                let port = if after.is_empty() {
                    None
                } else {
                    Some(after.strip_prefix(':').ok_or_else(wrong)?)
                };
                (host, port)
            }
            None => rest
                .split_once(':')
                .map_or((rest, None), |(host, port)| (host, Some(port))),
        };
        let default = if protection == Protection::Ldaps { 636 } else { 389 };
        let port = port.map_or(Ok(default), |port| port.parse().map_err(|_| wrong()))?;
        if host.is_empty() || port == 0 || host.contains(['/', '@', '?', '#', ' ', '[', ']']) {
            return Err(wrong());
        }
        Ok(Self {
            url: url.to_owned(),
            host: host.to_owned(),
            port,
            protection,
        })
    }

    /// Connects.
    pub(super) async fn connect(&self) -> std::io::Result<TcpStream> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Begins TLS on a stream; the certificate must be the host's.
    pub(super) async fn protect(
        &self,
        stream: TcpStream,
        trust: &Arc<rustls::ClientConfig>,
    ) -> std::io::Result<Box<dyn Stream>> {
        let name = ServerName::try_from(self.host.clone()).map_err(std::io::Error::other)?;
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(trust));
        Ok(Box::new(connector.connect(name, stream).await?))
    }
}

/// What certificates to trust: those of the file, else those of the system.
pub(super) fn trust(config: &LdapConfig) -> Result<Arc<rustls::ClientConfig>, SourceError> {
    let mut roots = rustls::RootCertStore::empty();
    match &config.ca_file {
        Some(path) => add_file(&mut roots, path).map_err(SourceError::Setup)?,
        None => {
            // What the system has and cannot be read is of no use here; if nothing is left, no
            // certificate will do, and the error of the connection says so.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| SourceError::Setup(error.to_string()))?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

fn add_file(roots: &mut rustls::RootCertStore, path: &Path) -> Result<(), String> {
    let refuse = |reason: &dyn std::fmt::Display| format!("ca_file {}: {reason}", path.display());
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| refuse(&error))?;
    for certificate in certificates {
        roots
            .add(certificate.map_err(|error| refuse(&error))?)
            .map_err(|error| refuse(&error))?;
    }
    if roots.is_empty() {
        return Err(refuse(&"holds no certificate (PEM is expected)"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_a_host_and_a_port_of_its_scheme() {
        let parse = |url: &str, starttls| {
            let server = Server::parse(url, starttls).unwrap();
            (server.host, server.port, server.protection)
        };
        assert_eq!(
            parse("ldaps://dc1.corp", false),
            ("dc1.corp".to_owned(), 636, Protection::Ldaps)
        );
        assert_eq!(
            parse("ldap://dc1:3899/", true),
            ("dc1".to_owned(), 3899, Protection::StartTls)
        );
        assert_eq!(parse("ldap://[::1]", false), ("::1".to_owned(), 389, Protection::Plain));
        assert_eq!(parse("ldap://[::1]:1", false).1, 1);
    }

    #[test]
    fn what_is_no_such_url_is_refused() {
        for url in [
            "",
            "dc1",
            "http://dc1",
            "ldap://",
            "ldaps://:636",
            "ldap://a:x",
            "ldap://a:0",
            "ldap://a:70000",
            "ldap://[::1",
            "ldap://[::1]x",
            "ldap://u@a",
            "ldap://a/dc=x",
            "ldap://a b",
        ] {
            assert!(Server::parse(url, false).is_err(), "{url}");
        }
        assert!(Server::parse("ldaps://a", true).unwrap_err().contains("already"));
    }

    #[test]
    fn a_file_without_a_certificate_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let mut roots = rustls::RootCertStore::empty();
        assert!(add_file(&mut roots, &path).unwrap_err().contains("ca.pem"));
        std::fs::write(&path, "nothing").unwrap();
        assert!(add_file(&mut roots, &path).unwrap_err().contains("no certificate"));
    }
}
