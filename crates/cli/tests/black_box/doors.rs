//! Who may come in: certificates, keys, hosts and origins as the command line gives them.

use std::fs;
use std::io::Write;
use std::net::TcpStream;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::TempDir;

use crate::http::Open;
use crate::process::{Server, TINY, millrace};

fn path(folder: &TempDir, name: &str) -> String {
    folder.path().join(name).to_str().expect("text").to_owned()
}

/// A folder with `cert.pem` and `key.pem` of a server at 127.0.0.1.
fn certificate() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    fs::write(folder.path().join("cert.pem"), cert.pem()).expect("it is writable");
    fs::write(folder.path().join("key.pem"), signing_key.serialize_pem()).expect("it is writable");
    folder
}

/// The status of a `GET` with these headers.
fn status(server: &Server, path: &str, headers: &[(&str, &str)]) -> u16 {
    let mut connection = TcpStream::connect(server.address).expect("the server listens");
    let fields = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
    let fields: String = fields.collect();
    let head = format!("GET {path} HTTP/1.1\r\nconnection: close\r\n{fields}\r\n");
    connection.write_all(head.as_bytes()).expect("the server reads");
    Open::new(connection).status
}

#[test]
fn a_server_behind_tls_is_measured_by_the_load_test() {
    let folder = certificate();
    let (certificates, key) = (path(&folder, "cert.pem"), path(&folder, "key.pem"));
    let files = ["--ssl-certfile", &certificates, "--ssl-keyfile", &key, "--api-key", "sesame"];
    let server = Server::start(TINY.iter().copied().chain(files));
    let url = format!("https://{}", server.address);
    assert!(server.stderr().contains(&url), "{}", server.stderr());
    let bench = |trust: &[&str]| {
        let load = ["bench", "--url", &url, "--api-key", "sesame", "--levels", "2"];
        let short = ["--requests-per-user", "1", "--prompt-tokens", "20", "--output-tokens", "5"];
        millrace(load.into_iter().chain(short).chain(trust.iter().copied()))
    };
    let report = bench(&["--ca-cert", &certificates]);
    assert!(report.output().contains("## Concurrency Level: 2"), "{}", report.stdout);
    assert!(bench(&["--insecure"]).output().contains("## Concurrency Level: 2"));
    let refused = bench(&["--ca-cert", &key]);
    assert!(!refused.status.success() && refused.stderr.contains("--ca-cert"), "{refused:#?}");
    let other = certificate();
    let refused = bench(&["--ca-cert", &path(&other, "cert.pem")]);
    assert!(refused.stderr.contains("invalid peer certificate"), "{refused:#?}");
}

#[test]
fn keys_come_from_options_and_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = path(&folder, "keys");
    fs::write(&file, "# key owner weight\nsk-1 search 2\nsk-2\n").expect("it is writable");
    let options = ["--api-key", "sk-3", "--api-key", "sk-4", "--api-key-file", &file];
    let server = Server::start(TINY.iter().copied().chain(options));
    let host = ("host", "localhost");
    for key in ["sk-1", "sk-2", "sk-3", "sk-4"] {
        assert_eq!(status(&server, "/v1/models", &[host, ("x-api-key", key)]), 200, "{key}");
    }
    assert_eq!(status(&server, "/v1/models", &[host, ("x-api-key", "sk-5")]), 401);
    assert_eq!(status(&server, "/v1/models", &[host]), 401);
    assert_eq!(status(&server, "/health", &[host]), 200);
    assert!(!server.stderr().contains("sk-"), "{}", server.stderr());
}

#[test]
fn a_server_on_a_loopback_address_is_closed_to_the_pages_of_others() {
    let evil = [("host", "evil.example")];
    let page = [("host", "localhost"), ("origin", "https://chat.example")];
    let server = Server::start(TINY.iter().copied());
    assert_eq!(status(&server, "/load", &[("host", "127.0.0.1:80")]), 200);
    assert_eq!(status(&server, "/load", &evil), 403);
    assert_eq!(status(&server, "/load", &page), 403);
    let options =
        ["--allowed-host", "evil.example", "--allowed-origins", r#"["https://chat.example"]"#];
    let server = Server::start(TINY.iter().copied().chain(options));
    assert_eq!(status(&server, "/load", &evil), 200);
    assert_eq!(status(&server, "/load", &page), 200);
    assert_eq!(status(&server, "/load", &[page[0], ("origin", "https://other.example")]), 403);
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_place() {
    let folder = certificate();
    let write = |name: &str, text: &str| {
        fs::write(folder.path().join(name), text).expect("it is writable");
        path(&folder, name)
    };
    let (certificates, key) = (path(&folder, "cert.pem"), path(&folder, "key.pem"));
    let (empty, twice) = (write("empty", "# none\n"), write("twice", "sk-1\n\nsk-1 a\n"));
    // Its last line would be another key if it were cut.
    let large = write("large", &format!("{}\nsk-1-and-more\n", "#".repeat((16 << 20) - 5)));
    let cases: [(&[&str], &[&str]); 9] = [
        (&["--ssl-certfile", &certificates], &["--ssl-keyfile"]),
        (&["--ssl-certfile", "/no/c", "--ssl-keyfile", &key], &["/no/c", "No such file"]),
        (&["--ssl-certfile", &certificates, "--ssl-keyfile", &empty], &["empty", "private key"]),
        (&["--api-key-file", "/no/keys"], &["--api-key-file", "/no/keys", "No such file"]),
        (&["--api-key-file", &empty], &["--api-key-file", "no key"]),
        (&["--api-key-file", &twice], &["twice", "line 3", "each once"]),
        (&["--api-key-file", &large], &["large", "more than 16 MiB"]),
        (&["--api-key", ""], &["--api-key", "visible"]),
        (&["--allowed-origins", "https://a/"], &["--allowed-origins", "https://a/"]),
    ];
    for (options, parts) in cases {
        let arguments = ["serve", "--port", "0"].into_iter().chain(TINY.iter().copied());
        let ended = millrace(arguments.chain(options.iter().copied()));
        assert!(!ended.status.success(), "{options:?}");
        for part in parts {
            assert!(ended.stderr.contains(part), "no {part} in {}", ended.stderr);
        }
        assert!(!ended.stderr.contains("sk-1"), "{}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    }
}
