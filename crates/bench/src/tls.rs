//! TLS to a server at an `https://` address: who is trusted, and the handshake.
//!
//! It lies above the stamped stream, so that stamps are those of the TCP bytes that a chunk was decrypted
//! from.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use crate::config::Trust;
use crate::endpoint::Endpoint;
use crate::error::BenchError;
use crate::stamped::StampedStream;

/// Makes TLS streams to one server.
#[derive(Clone)]
pub(crate) struct Tls {
    connector: TlsConnector,
    server: ServerName<'static>,
}

impl Tls {
    /// What connections to `endpoint` need; nothing where it is spoken to in the clear.
    pub(crate) fn of(endpoint: &Endpoint, trust: &Trust) -> Result<Option<Tls>, BenchError> {
        if !endpoint.is_secure {
            return Ok(None);
        }
        let server = ServerName::try_from(endpoint.host.clone()).map_err(|error| {
            BenchError::BadUrl { url: endpoint.url(), reason: error.to_string() }
        })?;
        let provider = Arc::new(ring::default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has ciphers for TLS 1.2 and 1.3");
        let builder = match trust {
            Trust::System => builder.with_root_certificates(system_roots(endpoint)?),
            Trust::Authority(path) => {
                let refused = |reason| BenchError::Authority { path: path.clone(), reason };
                builder.with_root_certificates(roots_of(path).map_err(refused)?)
            }
            Trust::Anybody => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyCertificate(algorithms))),
        };
        let mut config = builder.with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Some(Tls { connector: TlsConnector::from(Arc::new(config)), server }))
    }

    /// Shakes hands on `stream`. An error says what to do about it.
    pub(crate) async fn connect(
        &self,
        stream: StampedStream,
    ) -> Result<TlsStream<StampedStream>, String> {
        let connected = self.connector.connect(self.server.clone(), stream).await;
        connected.map_err(|error| format!("TLS: {error}{}", advice(&error)))
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("server", &self.server).finish_non_exhaustive()
    }
}

fn advice(error: &io::Error) -> &'static str {
    match error.get_ref().and_then(|error| error.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(_)) => {
            "; give the certificate of its authority as --ca-cert, or --insecure to trust anybody"
        }
        Some(Error::InvalidMessage(_)) => "; does it speak http://?",
        _ => "",
    }
}

/// The authorities that this machine trusts.
fn system_roots(endpoint: &Endpoint) -> Result<RootCertStore, BenchError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // The stores of systems hold old certificates that cannot be read; they say nothing of the others.
    roots.add_parsable_certificates(found.certs);
    if !roots.is_empty() {
        return Ok(roots);
    }
    let reasons: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
    Err(BenchError::NoAuthorities { url: endpoint.url(), reason: reasons.join("; ") })
}

/// The certificates in the PEM file at `path`.
fn roots_of(path: &Path) -> Result<RootCertStore, String> {
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| error.to_string())?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() {
        return Err("it holds no `-----BEGIN CERTIFICATE-----`".to_owned());
    }
    Ok(roots)
}

/// Accepts every certificate. Who shakes hands must still have the key that belongs to it.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
