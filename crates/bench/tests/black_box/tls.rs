//! A server behind TLS: whom the load test believes, and what it says when it does not.

use std::path::PathBuf;
use std::sync::Arc;

use bench::{BenchConfig, BenchError, Trust};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::mock_server::{Behaviour, MockServer};
use crate::{assert_all_ok, config, run, try_run};

/// An authority of its own, the file with its certificate, and a server that it vouches for.
struct Secure {
    folder: TempDir,
    acceptor: TlsAcceptor,
}

impl Secure {
    /// For a server whose certificate says `name`.
    fn named(name: &str) -> Secure {
        let key = || KeyPair::generate().expect("a key");
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, key()).expect("an authority");
        let server_key = key();
        let server = CertificateParams::new([name.to_owned()]).expect("a name");
        let server = server.signed_by(&server_key, &authority).expect("a certificate");
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("ca.pem"), authority.pem()).expect("it is writable");
        let key = PrivateKeyDer::try_from(server_key.serialize_der()).expect("a key");
        Secure { folder, acceptor: acceptor(server.der().clone(), key) }
    }

    fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    async fn start(&self, behaviour: Behaviour) -> MockServer {
        MockServer::start_secure(behaviour, self.acceptor.clone()).await
    }
}

fn acceptor(certificate: CertificateDer<'static>, key: PrivateKeyDer<'static>) -> TlsAcceptor {
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("they belong together");
    TlsAcceptor::from(Arc::new(config))
}

async fn refusal(url: String, trust: Trust) -> String {
    let error = try_run(BenchConfig { trust, ..config(url, &[1], 1) }).await;
    error.expect_err("nothing can be tested").to_string()
}

#[tokio::test]
async fn a_server_behind_tls_is_measured_like_any_other() {
    let secure = Secure::named("127.0.0.1");
    let server = secure.start(Behaviour { piece: 7, ..Behaviour::default() }).await;
    let trust = Trust::Authority(secure.authority());
    let outcome = run(BenchConfig { trust, ..config(server.url(), &[1, 3], 2) }).await;
    assert_all_ok(&outcome, 8);
    assert_eq!(server.completions().len(), 9, "the warm-up and eight requests");
    assert!(outcome.summary.setup.server.url.starts_with("https://127.0.0.1:"));
    for level in &outcome.summary.levels {
        let (ttft, latency) = (level.ttft_ms.expect("answers"), level.latency_ms.expect("answers"));
        assert!(0.0 < ttft.min && ttft.min <= latency.min, "{ttft:?} {latency:?}");
    }
}

#[tokio::test]
async fn a_server_of_an_unknown_authority_is_not_believed() {
    let (secure, other) = (Secure::named("127.0.0.1"), Secure::named("127.0.0.1"));
    let server = secure.start(Behaviour::default()).await;
    let message = refusal(server.url(), Trust::Authority(other.authority())).await;
    assert!(message.contains("TLS: invalid peer certificate"), "{message}");
    assert!(message.contains("--ca-cert"), "{message}");
    assert!(server.completions().is_empty());
}

#[tokio::test]
async fn a_certificate_of_another_name_is_not_believed() {
    let secure = Secure::named("elsewhere.example");
    let server = secure.start(Behaviour::default()).await;
    let message = refusal(server.url(), Trust::Authority(secure.authority())).await;
    assert!(message.contains("TLS: invalid peer certificate"), "{message}");
    let insecure = BenchConfig { trust: Trust::Anybody, ..config(server.url(), &[1], 1) };
    assert_all_ok(&run(insecure).await, 1);
}

#[tokio::test]
async fn a_server_without_tls_is_told_from_one_with_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("https://{}", listener.local_addr().expect("it is bound"));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let reply = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
            drop(stream.write_all(reply).await);
            // Not closed before the client has gone, or it would see only that.
            drop(stream.read_to_end(&mut Vec::new()).await);
        }
    });
    let message = refusal(url, Trust::Anybody).await;
    assert!(message.contains("does it speak http://?"), "{message}");
}

#[tokio::test]
async fn a_file_without_authorities_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("none.pem");
    for text in [
        None,
        Some("nothing"),
        Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
    ] {
        if let Some(text) = text {
            std::fs::write(&path, text).expect("it is writable");
        }
        let trust = Trust::Authority(path.clone());
        let config = BenchConfig { trust, ..config("https://127.0.0.1:1".to_owned(), &[1], 1) };
        let error = try_run(config).await.expect_err("it cannot be used");
        assert!(matches!(error, BenchError::Authority { .. }), "{error}");
        assert!(error.to_string().contains("none.pem"), "{error}");
    }
}
