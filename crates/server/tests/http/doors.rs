//! Who may come in: keys, hosts and origins, on every route.

use http::{HeaderMap, Method};
use serde_json::{Value, json};
use server::guard::Guard;

use crate::client::{Reply, request_with, send};
use crate::harness::{Server, Setup};

const COMPLETIONS: &str = "/v1/completions";
/// Asked by programs that hold no key.
const PROBES: [&str; 4] = ["/health", "/ready", "/ping", "/live"];
/// The load, in a header of the reply.
const ASKS_FOR_LOAD: (&str, &str) = ("endpoint-load-metrics-format", "JSON");

async fn ask(server: &Server, (method, path): (Method, &str), headers: &[(&str, &str)]) -> Reply {
    let request = request_with((method, path, ""), headers);
    send(server.address, request).await.expect("a reply").reply().await
}

#[tokio::test]
async fn without_a_key_every_route_there_is_is_closed_but_the_probes() {
    let server = Setup::with_keys("sk-1\nsk-2 two\n").start().await;
    let described = ask(&server, (Method::GET, "/openapi.json"), &[("x-api-key", "sk-2")]).await;
    let document: Value = described.json();
    let paths = document["paths"].as_object().expect("paths");
    assert!(20 < paths.len());
    for (path, methods) in paths {
        let path = path.replace("{id}", "tiny");
        let described = methods.as_object().expect("methods").keys();
        let described = described.map(|name| name.to_uppercase().parse().expect("a method"));
        let others = [Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE, Method::PATCH];
        for method in described.chain(others) {
            for key in [("x-key", "sk-1"), ("authorization", "Bearer sk-3"), ("x-api-key", "sk-")] {
                let reply = ask(&server, (method.clone(), &path), &[key, ASKS_FOR_LOAD]).await;
                let is_open = PROBES.contains(&path.as_str());
                assert_eq!(reply.status != 401, is_open, "{method} {path}: {}", reply.status);
                assert!(!reply.headers.contains_key("endpoint-load-metrics"), "{method} {path}");
            }
        }
    }
    for headers in [("authorization", "Bearer sk-1"), ("x-api-key", "sk-1"), ("x-api-key", "sk-2")]
    {
        for path in ["/v1/models", "/health"] {
            let reply = ask(&server, (Method::GET, path), &[headers, ASKS_FOR_LOAD]).await;
            assert_eq!(reply.status, 200);
            assert!(reply.headers.contains_key("endpoint-load-metrics"), "{path}");
        }
    }
}

fn guarded(origins: &[&str]) -> Setup {
    let mut setup = Setup::new();
    let address = "127.0.0.1:1".parse().expect("an address");
    let origins: Vec<String> = origins.iter().map(|origin| (*origin).to_owned()).collect();
    setup.server.guard = Guard::new(address, &[], &origins).expect("good");
    setup
}

#[tokio::test]
async fn a_name_that_was_bound_to_a_loopback_address_opens_no_route() {
    let server = guarded(&[]).start().await;
    for path in ["/", "/v1/models", "/health", "/metrics", "/nothing"] {
        let headers = [("host", "evil.example:80"), ASKS_FOR_LOAD];
        let reply = ask(&server, (Method::GET, path), &headers).await;
        assert!(!reply.headers.contains_key("endpoint-load-metrics"));
        assert_eq!((reply.status.as_u16(), reply.error("code")), (403, json!("host_not_allowed")));
        let message = reply.error("message");
        assert!(message.as_str().is_some_and(|text| text.contains("--allowed-host")), "{message}");
        assert!(reply.headers.contains_key("x-request-id"));
        let origin = [("host", "localhost:1"), ("origin", "http://evil.example")];
        let reply = ask(&server, (Method::GET, path), &origin).await;
        assert_eq!(reply.error("code"), "origin_not_allowed");
        assert!(!reply.headers.contains_key("access-control-allow-origin"));
    }
    assert_eq!(ask(&server, (Method::GET, "/load"), &[("host", "localhost")]).await.status, 200);
}

/// The values of `access-control-NAME`.
fn allows(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(format!("access-control-{name}"))?;
    Some(value.to_str().expect("text").to_ascii_lowercase())
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_may_ask_and_read() {
    let mut setup = guarded(&["https://chat.example"]);
    setup.server.keys.add("sk-1").expect("a key");
    let server = setup.start().await;
    let asks = [
        ("host", "localhost:1"),
        ("origin", "https://chat.example"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,content-type,x-stainless-os"),
    ];
    // A browser sends no key with it.
    let preflight = ask(&server, (Method::OPTIONS, COMPLETIONS), &asks).await;
    assert_eq!(preflight.status, 200);
    let headers = &preflight.headers;
    assert_eq!(allows(headers, "allow-origin").as_deref(), Some("https://chat.example"));
    assert_eq!(allows(headers, "allow-headers").as_deref(), Some(asks[3].1));
    assert!(allows(headers, "allow-methods").is_some_and(|methods| methods.contains("post")));
    assert_eq!(allows(headers, "allow-credentials"), None);
    // Refusals can be read too.
    for (key, status) in [("Bearer sk-1", 200), ("Bearer no", 401)] {
        let headers = [asks[0], asks[1], ("authorization", key)];
        let reply = ask(&server, (Method::GET, "/v1/models"), &headers).await;
        assert_eq!(reply.status, status);
        let origin = allows(&reply.headers, "allow-origin");
        assert_eq!(origin.as_deref(), Some("https://chat.example"));
        let exposed = allows(&reply.headers, "expose-headers").expect("some are");
        assert!(exposed.contains("x-request-id") && exposed.contains("retry-after"), "{exposed}");
    }
    let other = [asks[0], ("origin", "https://other.example"), asks[2], asks[3]];
    let preflight = ask(&server, (Method::OPTIONS, COMPLETIONS), &other).await;
    assert_eq!(preflight.status, 403);
}

#[tokio::test]
async fn without_allowed_origins_nothing_is_said_to_browsers() {
    let server = Setup::new().start().await;
    let headers = [("origin", "https://chat.example"), ("access-control-request-method", "POST")];
    let preflight = ask(&server, (Method::OPTIONS, COMPLETIONS), &headers).await;
    assert_eq!(preflight.status, 405);
    let reply = ask(&server, (Method::GET, "/v1/models"), &headers[..1]).await;
    assert_eq!(reply.status, 200);
    assert_eq!(allows(&reply.headers, "allow-origin"), None);
}
