//! Own TLS: certificate and key from files, read again when they change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::TlsConfig;

/// Certificate, key and the session parameters made of them; replaced whole.
#[derive(Debug)]
pub struct Tls {
    files: TlsConfig,
    current: RwLock<Current>,
}

#[derive(Debug)]
struct Current {
    session: Arc<ServerConfig>,
    stamp: Option<Stamp>,
}

/// When both files were last changed.
type Stamp = (SystemTime, SystemTime);

/// Why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing, unreadable or not PEM.
    #[error("[tls] {path} cannot be used: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The private key is readable by everyone.
    #[error("[tls] {path} can be read by everyone on this machine (mode {mode:04o}); run: chmod o-rwx {path}")]
    Exposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Certificate and key do not belong together, or the key is of an unknown kind.
    #[error("[tls] certificate {certificate} and key {key} cannot be used together: {reason}")]
    Pair {
        /// The certificate file.
        certificate: PathBuf,
        /// The key file.
        key: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl Tls {
    /// Reads both files.
    ///
    /// # Errors
    /// When they cannot be used.
    pub fn load(files: &TlsConfig) -> Result<Self, TlsError> {
        let stamp = stamp(files);
        let session = session(files)?;
        Ok(Self {
            files: files.clone(),
            current: RwLock::new(Current { session, stamp }),
        })
    }

    /// What new connections use.
    #[must_use]
    pub fn session(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).session)
    }

    /// Reads the files again; connections in progress keep what they have. On an error the old pair
    /// stays in use.
    ///
    /// # Errors
    /// When the new pair cannot be used.
    pub fn reload(&self) -> Result<(), TlsError> {
        let stamp = stamp(&self.files);
        let outcome = session(&self.files);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        // Also after a failure: a broken pair is complained about once, not every few seconds.
        current.stamp = stamp;
        current.session = outcome?;
        Ok(())
    }

    /// Whether a file has changed since it was last read.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        stamp(&self.files) != self.current.read().unwrap_or_else(PoisonError::into_inner).stamp
    }
}

fn stamp(files: &TlsConfig) -> Option<Stamp> {
    let changed = |path: &Path| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    changed(&files.certificate).zip(changed(&files.key))
}

fn session(files: &TlsConfig) -> Result<Arc<ServerConfig>, TlsError> {
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
    check_mode(&files.key)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| broken(&files.key, error.to_string()))?;
    let unusable = |error: rustls::Error| TlsError::Pair {
        certificate: files.certificate.clone(),
        key: files.key.clone(),
        reason: error.to_string(),
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(unusable)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Clients that reconnect each cycle resume instead of handshaking anew; the ticket key rotates.
    config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(unusable)?;
    Ok(Arc::new(config))
}

fn check_mode(path: &Path) -> Result<(), TlsError> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(path).map_err(|error| TlsError::File {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    let mode = metadata.mode() & 0o7777;
    // Group-readable is how certificate tools share a key with a service.
    if mode & 0o007 == 0 {
        return Ok(());
    }
    Err(TlsError::Exposed {
        path: path.to_owned(),
        mode,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn write_pair(folder: &Path) -> TlsConfig {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let files = TlsConfig {
            certificate: folder.join("c.pem"),
            key: folder.join("k.pem"),
        };
        dirless_program::fs::publish(&files.certificate, 0o644, made.cert.pem().as_bytes()).unwrap();
        dirless_program::fs::publish(&files.key, 0o600, made.signing_key.serialize_pem().as_bytes()).unwrap();
        files
    }

    #[test]
    fn a_pair_is_loaded_and_reloaded_and_a_broken_one_leaves_the_old() {
        let folder = tempfile::tempdir().unwrap();
        let files = write_pair(folder.path());
        let tls = Tls::load(&files).unwrap();
        assert!(!tls.is_stale());
        let first = tls.session();
        std::fs::write(&files.certificate, "nonsense").unwrap();
        assert!(tls.reload().is_err());
        assert!(Arc::ptr_eq(&first, &tls.session()));
        assert!(!tls.is_stale());
        write_pair(folder.path());
        tls.reload().unwrap();
        assert!(!Arc::ptr_eq(&first, &tls.session()));
    }

    #[test]
    fn an_exposed_key_and_a_foreign_key_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let files = write_pair(folder.path());
        std::fs::set_permissions(&files.key, std::fs::Permissions::from_mode(0o604)).unwrap();
        assert!(matches!(Tls::load(&files), Err(TlsError::Exposed { .. })));
        let other = tempfile::tempdir().unwrap();
        let foreign = TlsConfig {
            key: write_pair(other.path()).key,
            ..files
        };
        assert!(matches!(Tls::load(&foreign), Err(TlsError::Pair { .. })));
    }
}
