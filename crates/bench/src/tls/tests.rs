use std::time::{Duration, Instant};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::*;
use crate::clock::Clock;
use crate::stamped::Stamps;

/// How long bytes lie before they are read.
const REST: Duration = Duration::from_millis(3);

fn acceptor() -> TlsAcceptor {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .expect("they belong together");
    TlsAcceptor::from(Arc::new(config))
}

/// Both ends of a TLS connection, and the near one's stamps.
async fn pair(
    clock: Clock,
) -> (TlsStream<StampedStream>, Arc<Stamps>, tokio_rustls::server::TlsStream<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (stream, stamps) = StampedStream::new(near.expect("it listens"), clock);
    let endpoint = Endpoint::parse("https://localhost").expect("an address");
    let tls = Tls::of(&endpoint, &Trust::Anybody).expect("nothing is read").expect("https");
    let acceptor = acceptor();
    let (near, far) =
        tokio::join!(tls.connect(stream), acceptor.accept(far.expect("it was connected").0));
    (near.expect("they shake hands"), stamps, far.expect("they shake hands"))
}

#[tokio::test]
async fn what_was_decrypted_is_stamped_with_the_arrival_of_its_bytes() {
    let clock = Clock::start_at(0);
    let (mut near, stamps, mut far) = pair(clock).await;
    let mut noted = 0;
    for _ in 0..300 {
        let sent_ns = clock.now_ns();
        far.write_all(b"token").await.expect("it is open");
        far.flush().await.expect("it is open");
        let lies = Instant::now();
        while lies.elapsed() < REST {
            std::hint::spin_loop();
        }
        let read_ns = clock.now_ns();
        let mut token = [0; 5];
        near.read_exact(&mut token).await.expect("bytes are there");
        let arrival_ns = stamps.last_arrival_ns();
        assert_eq!(&token, b"token");
        assert!(sent_ns <= arrival_ns, "{arrival_ns} is before {sent_ns}");
        // The kernel may need a moment before it notes arrivals.
        noted += u32::from(arrival_ns < read_ns);
        if noted == 3 {
            return;
        }
    }
    panic!("bytes that lay for a while were stamped when they were read");
}

#[tokio::test]
async fn a_request_is_stamped_when_its_first_record_is_written() {
    let clock = Clock::start_at(0);
    let (mut near, stamps, _far) = pair(clock).await;
    stamps.begin_request();
    assert_eq!(stamps.first_write_ns(), None, "the handshake is no part of a request");
    let before_ns = clock.now_ns();
    near.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("it is open");
    let written_ns = stamps.first_write_ns().expect("it was written");
    assert!((before_ns..=clock.now_ns()).contains(&written_ns));
}
