//! TLS to the database: the certificate must be the host's.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::super::StoreError;

/// Trusts the authorities in `file`, or those of the system.
pub(super) fn connector(file: Option<&Path>) -> Result<MakeRustlsConnect, StoreError> {
    let mut roots = rustls::RootCertStore::empty();
    match file {
        Some(path) => add_file(&mut roots, path)?,
        None => {
            // One that cannot be read is of no use; without any, the error of the connection says so.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| StoreError::Engine(Arc::new(error)))?;
    Ok(MakeRustlsConnect::new(
        builder.with_root_certificates(roots).with_no_client_auth(),
    ))
}

fn add_file(roots: &mut rustls::RootCertStore, path: &Path) -> Result<(), StoreError> {
    let refuse = |reason: String| StoreError::file(path, std::io::Error::other(reason));
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| refuse(error.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| refuse(error.to_string()))?;
        roots.add(certificate).map_err(|error| refuse(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(refuse("it holds no certificate (PEM is expected)".to_owned()));
    }
    Ok(())
}
