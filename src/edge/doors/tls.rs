//! The certificate that the doors show.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::config::DoorsConfig;

/// The doors' certificate, its key or the certificates for clients cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{setting}: {}{reason}", path.as_ref().map(|path| format!("{}: ", path.display())).unwrap_or_default())]
pub struct CertificateError {
    /// The setting.
    pub setting: &'static str,
    /// The file that it names, if any.
    pub path: Option<PathBuf>,
    /// What is wrong with it.
    pub reason: String,
}

fn unusable(setting: &'static str, path: &Path, reason: impl std::fmt::Display) -> CertificateError {
    CertificateError { setting, path: Some(path.to_owned()), reason: reason.to_string() }
}

/// Reads the certificate and its key, if the settings name any.
///
/// # Errors
///
/// A file is missing, or cannot be used.
pub(super) fn server_config(doors: &DoorsConfig) -> Result<Option<Arc<ServerConfig>>, CertificateError> {
    let (certificate, key) = match (doors.certificate.path(), doors.key.path()) {
        (None, None) => return without_certificate(doors),
        (Some(certificate), Some(key)) => (certificate, key),
        (Some(_), None) => return Err(missing("doors.key", "a certificate needs its private key")),
        (None, Some(_)) => return Err(missing("doors.certificate", "a key needs its certificate")),
    };
    let chain = certificates("doors.certificate", certificate)?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable("doors.key", key, error))?;
    let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable("doors.certificate", certificate, error))?;
    let builder = match doors.client_certificates.path() {
        None => builder.with_no_client_auth(),
        Some(path) => {
            const SETTING: &str = "doors.client_certificates";
            let mut roots = RootCertStore::empty();
            for certificate in certificates(SETTING, path)? {
                roots.add(certificate).map_err(|error| unusable(SETTING, path, error))?;
            }
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| unusable(SETTING, path, error))?)
        }
    };
    let config = builder.with_single_cert(chain, private).map_err(|error| unusable("doors.key", key, error))?;
    Ok(Some(Arc::new(config)))
}

fn without_certificate(doors: &DoorsConfig) -> Result<Option<Arc<ServerConfig>>, CertificateError> {
    match doors.client_certificates.path() {
        Some(_) => {
            Err(missing("doors.client_certificates", "it needs doors.certificate: without TLS no client has one"))
        }
        None => Ok(None),
    }
}

fn missing(setting: &'static str, reason: &str) -> CertificateError {
    CertificateError { setting, path: None, reason: reason.to_owned() }
}

fn certificates(setting: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = certificates.map_err(|error| unusable(setting, path, error))?;
    if certificates.is_empty() {
        return Err(unusable(setting, path, "there is no certificate in it"));
    }
    Ok(certificates)
}
