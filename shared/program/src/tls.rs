//! Own TLS: certificate and key from files, taken anew when they change.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// A table of a program's configuration that turns own TLS on.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// Certificate chain, PEM, leaf first.
    pub certificate: PathBuf,
    /// Its private key, PEM, not readable by everyone.
    pub key: PathBuf,
}

/// Why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing, unreadable or not PEM.
    #[error("[{table}] {path} cannot be used: {reason}")]
    File {
        /// The table of the configuration.
        table: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The private key is readable by everyone.
    #[error("[{table}] {path} can be read by everyone on this machine (mode {mode:04o}); run: chmod o-rwx {path}")]
    Exposed {
        /// The table of the configuration.
        table: &'static str,
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Certificate and key do not belong together, or the key is of an unknown kind.
    #[error("[{table}] certificate {certificate} and key {key} cannot be used together: {reason}")]
    Pair {
        /// The table of the configuration.
        table: &'static str,
        /// The certificate file.
        certificate: PathBuf,
        /// The key file.
        key: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// When both files were last changed.
type Stamp = (SystemTime, SystemTime);

/// Certificate and key, replaced whole. Connections in progress keep what they have.
#[derive(Debug)]
pub struct Tls {
    files: TlsFiles,
    table: &'static str,
    provider: Arc<CryptoProvider>,
    current: RwLock<(Arc<CertifiedKey>, Option<Stamp>)>,
}

impl Tls {
    /// Reads both files. `table` is where the configuration names them, for errors.
    ///
    /// # Errors
    /// When they cannot be used.
    pub fn load(files: &TlsFiles, table: &'static str) -> Result<Arc<Self>, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let stamp = stamp(files);
        let pair = pair(files, table, &provider)?;
        Ok(Arc::new(Self {
            files: files.clone(),
            table,
            provider,
            current: RwLock::new((pair, stamp)),
        }))
    }

    /// What a server needs that speaks the protocols of these names (RFC 7301); none for LDAP. It always
    /// shows the current pair, and clients that come back resume instead of handshaking anew.
    ///
    /// # Errors
    /// When the crypto library refuses.
    pub fn server(self: &Arc<Self>, protocols: &[&[u8]]) -> Result<Arc<ServerConfig>, TlsError> {
        let unusable = |error| unusable(&self.files, self.table, error);
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(unusable)?;
        let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(self) as _;
        let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        // The key that seals tickets rotates by itself.
        config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(unusable)?;
        Ok(Arc::new(config))
    }

    /// Has a file changed since it was last read?
    #[must_use]
    pub fn is_stale(&self) -> bool {
        stamp(&self.files) != self.current.read().unwrap_or_else(PoisonError::into_inner).1
    }

    /// Reads the files again. On an error the old pair stays in use, and [`Tls::is_stale`] is quiet until
    /// the next change: a broken pair is told once, not every few seconds.
    ///
    /// # Errors
    /// When the new pair cannot be used.
    pub fn reload(&self) -> Result<(), TlsError> {
        let stamp = stamp(&self.files);
        let pair = pair(&self.files, self.table, &self.provider);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        current.1 = stamp;
        current.0 = pair?;
        Ok(())
    }

    /// [`Tls::reload`] when a file has changed; true when it has.
    ///
    /// # Errors
    /// As there.
    pub fn refresh(&self) -> Result<bool, TlsError> {
        let stale = self.is_stale();
        if stale {
            self.reload()?;
        }
        Ok(stale)
    }
}

impl ResolvesServerCert for Tls {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&current.0))
    }
}

fn stamp(files: &TlsFiles) -> Option<Stamp> {
    let changed = |path: &Path| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    changed(&files.certificate).zip(changed(&files.key))
}

fn unusable(files: &TlsFiles, table: &'static str, error: rustls::Error) -> TlsError {
    TlsError::Pair {
        table,
        certificate: files.certificate.clone(),
        key: files.key.clone(),
        reason: error.to_string(),
    }
}

fn pair(files: &TlsFiles, table: &'static str, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, TlsError> {
    let broken = |path: &Path, reason: String| TlsError::File {
        table,
        path: path.to_owned(),
        reason,
    };
    let chain = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| broken(&files.certificate, error.to_string()))?;
    if chain.is_empty() {
        return Err(broken(&files.certificate, "it holds no certificate".to_owned()));
    }
    let metadata = std::fs::metadata(&files.key).map_err(|error| broken(&files.key, error.to_string()))?;
    let mode = metadata.mode() & 0o7777;
    // Group-readable is how certificate tools share a key with a service.
    if mode & 0o007 != 0 {
        return Err(TlsError::Exposed {
            table,
            path: files.key.clone(),
            mode,
        });
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| broken(&files.key, error.to_string()))?;
    let pair = CertifiedKey::from_der(chain, key, provider).map_err(|error| unusable(files, table, error))?;
    Ok(Arc::new(pair))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn write_pair(folder: &Path) -> TlsFiles {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let files = TlsFiles {
            certificate: folder.join("c.pem"),
            key: folder.join("k.pem"),
        };
        crate::fs::publish(&files.certificate, 0o644, made.cert.pem().as_bytes()).unwrap();
        crate::fs::publish(&files.key, 0o600, made.signing_key.serialize_pem().as_bytes()).unwrap();
        files
    }

    fn held(tls: &Tls) -> Arc<CertifiedKey> {
        Arc::clone(&tls.current.read().unwrap().0)
    }

    #[test]
    fn a_changed_pair_is_taken_and_a_broken_one_leaves_the_old() {
        let folder = tempfile::tempdir().unwrap();
        let files = write_pair(folder.path());
        let tls = Tls::load(&files, "tls").unwrap();
        tls.server(&[b"h2"]).unwrap();
        let first = held(&tls);
        assert!(!tls.refresh().unwrap());
        let later = stamp(&files).unwrap().0 + std::time::Duration::from_secs(5);
        std::fs::write(&files.certificate, "nonsense").unwrap();
        let set = |path: &Path, at| {
            std::fs::File::options()
                .write(true)
                .open(path)
                .unwrap()
                .set_modified(at)
                .unwrap()
        };
        set(&files.certificate, later);
        assert!(tls.refresh().is_err());
        assert!(!tls.refresh().unwrap(), "told once");
        assert!(Arc::ptr_eq(&first, &held(&tls)));
        write_pair(folder.path());
        assert!(tls.refresh().unwrap());
        assert!(!Arc::ptr_eq(&first, &held(&tls)));
    }

    #[test]
    fn an_exposed_key_and_a_foreign_key_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let files = write_pair(folder.path());
        std::fs::set_permissions(&files.key, std::fs::Permissions::from_mode(0o604)).unwrap();
        let exposed = Tls::load(&files, "serve.tls").unwrap_err();
        assert!(matches!(exposed, TlsError::Exposed { .. }) && exposed.to_string().starts_with("[serve.tls] "));
        let other = tempfile::tempdir().unwrap();
        let foreign = TlsFiles {
            key: write_pair(other.path()).key,
            ..files
        };
        assert!(matches!(Tls::load(&foreign, "tls"), Err(TlsError::Pair { .. })));
    }
}
