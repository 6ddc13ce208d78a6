//! TLS: the server's certificate, and the handshake with a client.
//!
//! TLS 1.2 and 1.3, HTTP/1.1 alone. No certificate is asked of clients: they show a key.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{Error as PemError, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, InconsistentKeys, ServerConfig};
use tokio_rustls::server::TlsStream;

use crate::limits::{HANDSHAKE_TIMEOUT, TLS_BUFFER_BYTES};

/// Why a certificate or its key cannot be served with.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be used.
    #[error("{}: {reason}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The key is another certificate's.
    #[error(
        "{} does not hold the key of the first certificate in {}; give the pair that was made \
         together, and put the server's own certificate before those that vouch for it",
        key.display(), certificates.display()
    )]
    Mismatch {
        /// The file of the key.
        key: PathBuf,
        /// The file of the certificates.
        certificates: PathBuf,
    },
}

/// What shakes hands with clients.
#[derive(Clone)]
pub struct Tls(TlsAcceptor);

impl Tls {
    /// Reads PEM files: the server's certificate, then those that vouch for it; and its key (PKCS #8,
    /// PKCS #1 or SEC 1, not encrypted). Both may be the same file.
    ///
    /// # Errors
    /// A file that cannot be read or lacks what it should hold, a kind of key that is not spoken, a key
    /// of another certificate.
    pub fn load(certificates: &Path, key: &Path) -> Result<Tls, TlsError> {
        let chain = read_certificates(certificates).map_err(|error| about(certificates, error))?;
        let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| {
            about(key, say(&error, "an unencrypted private key (`-----BEGIN PRIVATE KEY-----`)"))
        })?;
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has ciphers for TLS 1.2 and 1.3")
            .with_no_client_auth();
        let mut config = builder.with_single_cert(chain, secret).map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                let (key, certificates) = (key.to_owned(), certificates.to_owned());
                TlsError::Mismatch { key, certificates }
            }
            rustls::Error::InvalidCertificate(_) => about(certificates, error.to_string()),
            other => about(key, other.to_string()),
        })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Tls(TlsAcceptor::from(Arc::new(config))))
    }

    /// Shakes hands. None if that does not succeed in time: then nobody is there to be told.
    pub(crate) async fn accept(&self, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
        let handshake =
            self.0.accept_with(stream, |session| session.set_buffer_limit(Some(TLS_BUFFER_BYTES)));
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(stream)) => Some(stream),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a TLS handshake failed");
                None
            }
            Err(_) => {
                tracing::debug!("a TLS handshake took too long");
                None
            }
        }
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls(..)")
    }
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let needed = "a certificate (`-----BEGIN CERTIFICATE-----`)";
    let found = CertificateDer::pem_file_iter(path).map_err(|error| say(&error, needed))?;
    let chain = found.collect::<Result<Vec<_>, _>>().map_err(|error| say(&error, needed))?;
    if chain.is_empty() {
        return Err(say(&PemError::NoItemsFound, needed));
    }
    Ok(chain)
}

/// What is wrong with a PEM file in which `needed` was looked for.
fn say(error: &PemError, needed: &str) -> String {
    match error {
        PemError::NoItemsFound => format!("it does not hold {needed}"),
        other => other.to_string(),
    }
}

fn about(path: &Path, reason: String) -> TlsError {
    TlsError::File { path: path.to_owned(), reason }
}
