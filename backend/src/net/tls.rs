//! Own TLS: the pair that programs share, and the session that it is shown in.

use std::sync::Arc;

use dirless_program::tls;
pub use dirless_program::tls::TlsError;
use rustls::ServerConfig;

use crate::config::TlsConfig;

/// Certificate, key and the parameters of sessions.
#[derive(Debug)]
pub struct Tls {
    pair: Arc<tls::Tls>,
    session: Arc<ServerConfig>,
}

impl Tls {
    /// Reads both files.
    ///
    /// # Errors
    /// When they cannot be used.
    pub fn load(files: &TlsConfig) -> Result<Self, TlsError> {
        let pair = tls::Tls::load(files, "tls")?;
        let session = pair.server(&[b"h2", b"http/1.1"])?;
        Ok(Self { pair, session })
    }

    /// What new connections use.
    #[must_use]
    pub fn session(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.session)
    }

    /// Reads the files again; connections in progress keep what they have. On an error the old pair
    /// stays in use.
    ///
    /// # Errors
    /// When the new pair cannot be used.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.pair.reload()
    }

    /// Whether a file has changed since it was last read.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.pair.is_stale()
    }
}
