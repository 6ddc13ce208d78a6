//! The server behind TLS: real handshakes, and everything that is none.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::json;
use server::limits::HANDSHAKE_TIMEOUT;
use server::tls::Tls;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::advance;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::client::{Open, request, send_on};
use crate::harness::{Server, Setup};
use crate::silence::stop_the_clock;

const COMPLETIONS: &str = "/v1/completions";

/// A certificate for localhost and its key, in files and out of them.
struct Pair {
    folder: TempDir,
    certificate: CertificateDer<'static>,
}

impl Pair {
    fn new() -> Pair {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let folder = tempfile::tempdir().expect("a folder");
        let pair = Pair { folder, certificate: cert.der().clone() };
        std::fs::write(pair.certificates(), cert.pem()).expect("it is writable");
        std::fs::write(pair.key(), signing_key.serialize_pem()).expect("it is writable");
        pair
    }

    fn certificates(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }

    fn tls(&self) -> Tls {
        Tls::load(&self.certificates(), &self.key()).expect("they belong together")
    }

    fn setup(&self) -> Setup {
        let mut setup = Setup::new();
        setup.server.tls = Some(self.tls());
        setup
    }

    /// A handshake that offers `protocols`.
    fn connect(
        &self,
        server: &Server,
        protocols: &[&str],
    ) -> impl Future<Output = io::Result<TlsStream<TcpStream>>> + Send + 'static {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("a certificate");
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = ServerName::try_from("localhost").expect("a name");
        let address = server.address;
        async move {
            let stream = TcpStream::connect(address).await?;
            TlsConnector::from(Arc::new(config)).connect(name, stream).await
        }
    }

    async fn open(&self, server: &Server, method: Method, path: &str, body: &str) -> Open {
        let stream = self.connect(server, &["http/1.1"]).await.expect("they shake hands");
        send_on(stream, request(method, path, body)).await.expect("a reply")
    }
}

#[tokio::test]
async fn replies_and_streams_are_those_of_a_server_without_tls() {
    let pair = Pair::new();
    let (secure, clear) = (pair.setup().start().await, Setup::new().start().await);
    let mut body = json!({"prompt": "ab", "temperature": 0, "max_tokens": 300});
    let plain = clear.post(COMPLETIONS, &body).await.json();
    let whole = pair.open(&secure, Method::POST, COMPLETIONS, &body.to_string()).await;
    let whole = whole.reply().await.json();
    assert_eq!(whole["choices"], plain["choices"]);
    body["stream"] = true.into();
    let mut stream = pair.open(&secure, Method::POST, COMPLETIONS, &body.to_string()).await;
    let events = stream.events().await;
    let (done, chunks) = events.split_last().expect("events");
    assert_eq!(done.data, "[DONE]");
    let text = |chunk: &crate::client::SseEvent| {
        chunk.json()["choices"][0]["text"].as_str().unwrap_or_default().to_owned()
    };
    let streamed: String = chunks.iter().map(text).collect();
    assert_eq!(json!(streamed), plain["choices"][0]["text"]);
}

#[tokio::test]
async fn only_http_1_1_is_agreed_on() {
    let pair = Pair::new();
    let server = pair.setup().start().await;
    for (offered, agreed) in [(&["h2", "http/1.1"][..], Some(&b"http/1.1"[..])), (&[], None)] {
        let stream = pair.connect(&server, offered).await.expect("they shake hands");
        assert_eq!(stream.get_ref().1.alpn_protocol(), agreed, "{offered:?}");
    }
    let refused = pair.connect(&server, &["h2"]).await.expect_err("it is not spoken");
    assert!(refused.to_string().contains("NoApplicationProtocol"), "{refused}");
}

/// Whether the server answers over TLS.
async fn assert_lives(pair: &Pair, server: &Server) {
    let reply = pair.open(server, Method::GET, "/health", "").await.reply().await;
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn what_is_no_handshake_ends_its_own_connection_alone() {
    let pair = Pair::new();
    let server = pair.setup().start().await;
    let record_of_16_kib = [&[22, 3, 1, 0x40, 0][..], &[0xff; 0x4000][..]].concat();
    let junk: [&[u8]; 5] = [
        b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n",
        b"\0\0\0\0\0\0\0\0\0\0\0\0",
        &[0xff; 70_000],
        &record_of_16_kib,
        // An alert before anything was said.
        &[21, 3, 3, 0, 2, 2, 40],
    ];
    for bytes in junk {
        let mut stream = TcpStream::connect(server.address).await.expect("the server listens");
        // It may be closed before all was written, and then it may be reset.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
        assert_lives(&pair, &server).await;
    }
}

#[tokio::test]
async fn half_a_handshake_takes_a_place_and_loses_it_when_its_time_is_over() {
    let pair = Pair::new();
    let mut setup = pair.setup();
    setup.server.connections_max = 2;
    let server = setup.start().await;
    let _clock = stop_the_clock();
    let began = tokio::time::Instant::now();
    let mut halves = Vec::new();
    for bytes in [&b""[..], &[22, 3, 1]] {
        let mut half = TcpStream::connect(server.address).await.expect("the server listens");
        half.write_all(bytes).await.expect("it is open");
        halves.push(half);
    }
    let mut third = tokio::spawn(pair.connect(&server, &["http/1.1"]));
    let passing = async {
        loop {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            advance(Duration::from_secs(1)).await;
        }
    };
    let mut rest = [0; 8];
    tokio::select! {
        read = halves[0].read(&mut rest) => assert_eq!(read.expect("its end"), 0),
        () = passing => unreachable!("time does not end"),
        _ = &mut third => panic!("it came in before a place was free"),
    }
    third.await.expect("it does not panic").expect("a place is free");
    assert!(HANDSHAKE_TIMEOUT <= began.elapsed());
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named_with_what_is_wrong() {
    let (pair, other) = (Pair::new(), Pair::new());
    let file = |name: &str, text: &str| {
        let path = pair.folder.path().join(name);
        std::fs::write(&path, text).expect("it is writable");
        path
    };
    let certificate =
        |text: &str| format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let no_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let (certificates, key) = (pair.certificates(), pair.key());
    let cases: [(PathBuf, PathBuf, &str, &str); 9] = [
        ("/nowhere/c.pem".into(), key.clone(), "/nowhere/c.pem", "No such file"),
        (certificates.clone(), "/nowhere/k.pem".into(), "/nowhere/k.pem", "No such file"),
        (pair.folder.path().into(), key.clone(), "", "directory"),
        (key.clone(), key.clone(), "key.pem", "does not hold a certificate"),
        (certificates.clone(), certificates.clone(), "cert.pem", "does not hold an unencrypted"),
        (file("junk.pem", &certificate("AAAA")), key.clone(), "junk.pem", "certificate"),
        (file("odd.pem", &certificate("?")), key.clone(), "odd.pem", "base64"),
        (certificates.clone(), file("locked.pem", encrypted), "locked.pem", "unencrypted"),
        (certificates.clone(), file("bad.pem", no_key), "bad.pem", "key"),
    ];
    for (certificates, key, name, reason) in cases {
        let message = refusal(&certificates, &key);
        assert!(message.contains(name) && message.contains(reason), "{message}");
    }
    let message = refusal(&certificates, &other.key());
    assert!(message.contains("does not hold the key of the first certificate"), "{message}");
}

fn refusal(certificates: &Path, key: &Path) -> String {
    Tls::load(certificates, key).expect_err("it cannot be used").to_string()
}
