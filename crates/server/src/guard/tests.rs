use super::*;

const LOOPBACK: &str = "127.0.0.1:8000";
const EVERYWHERE: &str = "0.0.0.0:8000";

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn guard(address: &str, hosts: &[&str], origins: &[&str]) -> Guard {
    let address = address.parse().expect("an address");
    Guard::new(address, &strings(hosts), &strings(origins)).expect("good")
}

/// Whether a request with these headers is refused.
fn refused(guard: &Guard, uri: &str, headers: &[(&str, &str)]) -> bool {
    let mut request = Request::builder().uri(uri);
    for (name, value) in headers {
        request = request.header(*name, HeaderValue::from_bytes(value.as_bytes()).expect("bytes"));
    }
    let request = request.body(()).expect("a request");
    guard.check(&request).is_err()
}

#[test]
fn a_loopback_server_is_asked_by_its_own_names_alone() {
    for address in [LOOPBACK, "[::1]:8000", "127.0.0.9:1"] {
        let guard = guard(address, &["Millrace.internal", "10.0.0.7"], &[]);
        for host in [
            "localhost",
            "localhost:8000",
            "LOCALHOST.:1",
            "chat.localhost:8000",
            "127.0.0.1:8000",
            "127.8.9.1",
            "[::1]:8000",
            "[::1]",
            "millrace.INTERNAL:443",
            "10.0.0.7:80",
        ] {
            assert!(!refused(&guard, "/", &[("host", host)]), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:8000",
            "localhost.evil.example",
            "evil-localhost",
            "127.0.0.1.evil.example",
            "127.0.0.1@evil.example",
            "evil@localhost",
            "10.0.0.8",
            "millrace.internal.evil.example",
            "[::2]",
            "0.0.0.0:8000",
            "localhost, evil.example",
            "caf\u{e9}.example",
        ] {
            assert!(refused(&guard, "/", &[("host", host)]), "{host}");
        }
    }
}

#[test]
fn every_place_that_names_a_host_is_looked_at() {
    let guard = guard(LOOPBACK, &[], &[]);
    let (good, evil) = (("host", "localhost"), ("host", "evil.example"));
    assert!(refused(&guard, "/", &[good, evil]));
    assert!(refused(&guard, "/", &[evil, good]));
    assert!(refused(&guard, "http://evil.example/load", &[good]));
    assert!(!refused(&guard, "http://localhost/load", &[good]));
    // A browser always names one.
    assert!(!refused(&guard, "/", &[]));
}

#[test]
fn a_server_for_others_is_asked_by_any_name_unless_some_are_given() {
    let evil = &[("host", "evil.example"), ("origin", "https://evil.example:1")];
    assert!(!refused(&guard(EVERYWHERE, &[], &[]), "/", evil));
    assert!(!refused(&guard(LOOPBACK, &["*"], &[]), "/", evil));
    let named = guard(EVERYWHERE, &["millrace.example"], &[]);
    assert!(refused(&named, "/", evil));
    assert!(!refused(&named, "/", &[("host", "millrace.example:8000")]));
}

#[test]
fn pages_of_others_are_refused_unless_their_origin_is_allowed() {
    let host = ("host", "localhost:8000");
    let check = |origins: &[&str], origin: &str| {
        refused(&guard(LOOPBACK, &[], origins), "/", &[host, ("origin", origin)])
    };
    assert!(!check(&[], "http://localhost:8000"), "the page of this server");
    for evil in [
        "https://evil.example",
        "http://localhost:3000",
        "http://localhost",
        "http://127.0.0.1:8000",
        "http://localhost:8000.evil.example",
        "localhost:8000",
        "null",
        "",
    ] {
        assert!(check(&[], evil), "{evil}");
        assert!(!check(&["*"], evil), "{evil}");
    }
    let origins = &["https://chat.example", "http://localhost:3000", "null"];
    for origin in origins {
        assert!(!check(origins, origin), "{origin}");
    }
    assert!(check(origins, "https://chat.example:8443"));
    assert!(check(origins, "http://chat.example"));
}

#[test]
fn what_is_no_host_or_no_origin_is_refused() {
    let address: SocketAddr = LOOPBACK.parse().expect("an address");
    for host in ["", "a:80", "http://a", "a/b", "a b", "*.a", "u@a", "[::1]:80"] {
        let error = Guard::new(address, &strings(&[host]), &[]).expect_err(host);
        assert_eq!(error, GuardError::Host(host.to_owned()));
    }
    for host in ["::1", "[::1]", "a.example.", "10.0.0.1", "*"] {
        assert!(Guard::new(address, &strings(&[host]), &[]).is_ok(), "{host}");
    }
    for origin in
        ["", "a.example", "https://a.example/", "https://a.example/x", "https://*", "HTTPS://a"]
    {
        let error = Guard::new(address, &[], &strings(&[origin])).expect_err(origin);
        assert_eq!(error, GuardError::Origin(origin.to_owned()));
    }
}
