//! Encrypted connections: whom they trust.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

use super::Access;

/// Returns how connections are encrypted and whom they trust.
pub(super) fn tls(access: &Access) -> Result<TlsConfig, String> {
    let roots = if let Some(file) = &access.certificate {
        certificates(file)?
    } else {
        let found = rustls_native_certs::load_native_certs().certs;
        found.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect()
    };
    let own = match (&access.client_certificate, &access.client_key) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some(ClientCert::new_with_certs(&certificates(certificate)?, private(key)?)),
        _ => return Err("client_certificate and client_key go together".to_owned()),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(TlsConfig::builder()
        .unversioned_rustls_crypto_provider(provider)
        .root_certs(RootCerts::new_with_certs(&roots))
        .client_cert(own)
        .build())
}

fn certificates(file: &Path) -> Result<Vec<Certificate<'static>>, String> {
    let pem = read(file)?;
    let found: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if found.is_empty() { Err(format!("{}: there is no certificate in PEM form", file.display())) } else { Ok(found) }
}

fn private(file: &Path) -> Result<PrivateKey<'static>, String> {
    PrivateKey::from_pem(&read(file)?).map_err(|_| format!("{}: there is no key in PEM form", file.display()))
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    fs::read(file).map_err(|error| format!("{}: {error}", file.display()))
}
