//! Own TLS, for REST and LDAP: certificate and key from files, taken anew when they change.

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

use super::config::TlsFiles;

/// Why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing, unreadable or not PEM.
    #[error("[serve.tls] {path} cannot be used: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The private key is readable by everyone.
    #[error("[serve.tls] {path} can be read by everyone on this machine (mode {mode:04o}); run: chmod o-rwx {path}")]
    Exposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Certificate and key do not belong together, or the key is of an unknown kind.
    #[error("[serve.tls] certificate {certificate} and key {key} cannot be used together: {reason}")]
    Pair {
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
    provider: Arc<CryptoProvider>,
    current: RwLock<(Arc<CertifiedKey>, Option<Stamp>)>,
}

impl Tls {
    /// Reads both files.
    ///
    /// # Errors
    /// When they cannot be used.
    pub fn load(files: &TlsFiles) -> Result<Arc<Self>, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let stamp = stamp(files);
        let pair = pair(files, &provider)?;
        Ok(Arc::new(Self {
            files: files.clone(),
            provider,
            current: RwLock::new((pair, stamp)),
        }))
    }

    /// What a server needs that speaks the protocols of these names (RFC 7301); none for LDAP.
    ///
    /// # Errors
    /// When the crypto library refuses.
    pub fn server(self: &Arc<Self>, protocols: &[&[u8]]) -> Result<Arc<ServerConfig>, TlsError> {
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&self.files, error))?;
        let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(self) as _;
        let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(Arc::new(config))
    }

    /// Reads the files again when they have changed. On an error the old pair stays in use, and it is
    /// told once.
    ///
    /// # Errors
    /// When the new pair cannot be used.
    pub fn refresh(&self) -> Result<bool, TlsError> {
        let stamp = stamp(&self.files);
        if stamp == self.current.read().unwrap_or_else(PoisonError::into_inner).1 {
            return Ok(false);
        }
        let pair = pair(&self.files, &self.provider);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        current.1 = stamp;
        current.0 = pair?;
        Ok(true)
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

fn unusable(files: &TlsFiles, error: rustls::Error) -> TlsError {
    TlsError::Pair {
        certificate: files.certificate.clone(),
        key: files.key.clone(),
        reason: error.to_string(),
    }
}

fn pair(files: &TlsFiles, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, TlsError> {
    let broken = |path: &Path, reason: String| TlsError::File {
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
            path: files.key.clone(),
            mode,
        });
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| broken(&files.key, error.to_string()))?;
    let pair = CertifiedKey::from_der(chain, key, provider).map_err(|error| unusable(files, error))?;
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
        dirless_program::fs::publish(&files.certificate, 0o644, made.cert.pem().as_bytes()).unwrap();
        dirless_program::fs::publish(&files.key, 0o600, made.signing_key.serialize_pem().as_bytes()).unwrap();
        files
    }

    fn held(tls: &Tls) -> Arc<CertifiedKey> {
        Arc::clone(&tls.current.read().unwrap().0)
    }

    #[test]
    fn a_changed_pair_is_taken_and_a_broken_one_leaves_the_old() {
        let folder = tempfile::tempdir().unwrap();
        let files = write_pair(folder.path());
        let tls = Tls::load(&files).unwrap();
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
        assert!(matches!(Tls::load(&files), Err(TlsError::Exposed { .. })));
        let other = tempfile::tempdir().unwrap();
        let foreign = TlsFiles {
            key: write_pair(other.path()).key,
            ..files
        };
        assert!(matches!(Tls::load(&foreign), Err(TlsError::Pair { .. })));
    }
}
