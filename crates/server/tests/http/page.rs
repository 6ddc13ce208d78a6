//! The page's files as a browser gets them. What it does with them: `crates/cli/tests/browser`.

use http::Method;
use server::page::FILES;

use crate::harness::Setup;

/// A server that asks for a key.
fn with_key() -> Setup {
    Setup::with_keys("secret")
}

#[tokio::test]
async fn the_page_is_open_to_everyone_and_may_ask_this_server_only() {
    let server = with_key().start().await;
    for file in FILES {
        let reply = server.get(file.path).await;
        assert_eq!(reply.status, 200, "{}", file.path);
        assert!(!reply.body.contains("secret"));
        let policy = reply.headers["content-security-policy"].to_str().unwrap();
        for rule in ["default-src 'none'", "script-src 'self'", "connect-src 'self'"] {
            assert!(policy.split("; ").any(|found| found == rule), "{policy}");
        }
        for (header, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-cache"),
        ] {
            assert_eq!(reply.headers[header], value, "{}", file.path);
        }
        let media_type = match file.path.rsplit_once('.') {
            None => "text/html; charset=utf-8",
            Some((_, "css")) => "text/css; charset=utf-8",
            Some((_, "svg")) => "image/svg+xml",
            Some(_) => "text/javascript; charset=utf-8",
        };
        assert_eq!(reply.headers["content-type"], media_type);
        assert_eq!(server.open(Method::POST, file.path, "{}").await.response.status(), 405);
    }
    // What the page asks for is not open.
    for path in ["/server_info", "/metrics", "/page/", "/page/index.html"] {
        assert_eq!(server.get(path).await.status, 401, "{path}");
    }
}

#[tokio::test]
async fn the_page_asks_for_files_that_are_there() {
    let server = Setup::new().start().await;
    let mut named = Vec::new();
    for file in FILES {
        let text = server.get(file.path).await.body;
        let (pattern, folder) = match file.path {
            "/" => ("=\"page/", "/page/"),
            _ => (" from \"./", "/page/"),
        };
        for rest in text.split(pattern).skip(1) {
            named.push(folder.to_owned() + rest.split('"').next().expect("a quoted name"));
        }
    }
    named.sort();
    named.dedup();
    let mut served: Vec<&str> = FILES.iter().map(|file| file.path).skip(1).collect();
    served.sort_unstable();
    assert_eq!(named, served);
}

#[tokio::test]
async fn a_server_without_the_page_has_nothing_there() {
    let mut setup = Setup::new();
    setup.server.web_page = false;
    let server = setup.start().await;
    for file in FILES {
        assert_eq!(server.get(file.path).await.status, 404, "{}", file.path);
    }
    assert_eq!(server.get("/v1/models").await.status, 200);
    let mut setup = with_key();
    setup.server.web_page = false;
    assert_eq!(setup.start().await.get("/").await.status, 401);
}
