//! The page at `/`: a chat and the server's live figures, for people with a browser.
//!
//! Its files are part of the binary. It loads nothing from elsewhere, and the browser is told so: its
//! policy allows scripts, styles and requests of this server alone, and no text to become HTML.

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header;

/// One file of the page.
#[derive(Debug)]
pub struct File {
    /// Where it is served.
    pub path: &'static str,
    media_type: &'static str,
    text: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// All of them. They hold nothing secret: whoever has the binary has them.
pub const FILES: [File; 8] = [
    File { path: "/", media_type: HTML, text: include_str!("page/index.html") },
    File { path: "/page/page.css", media_type: CSS, text: include_str!("page/page.css") },
    File { path: "/page/icon.svg", media_type: SVG, text: include_str!("page/icon.svg") },
    File { path: "/page/page.js", media_type: SCRIPT, text: include_str!("page/page.js") },
    File { path: "/page/api.js", media_type: SCRIPT, text: include_str!("page/api.js") },
    File { path: "/page/chat.js", media_type: SCRIPT, text: include_str!("page/chat.js") },
    File { path: "/page/markdown.js", media_type: SCRIPT, text: include_str!("page/markdown.js") },
    File { path: "/page/panel.js", media_type: SCRIPT, text: include_str!("page/panel.js") },
];

/// What the page may do in a browser: ask this server, and nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

/// The routes of all files.
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    FILES.iter().fold(Router::new(), |router, file| {
        router.route(file.path, get(async move || file.reply()))
    })
}

impl File {
    fn reply(&self) -> Response {
        let headers = [
            (header::CONTENT_TYPE, self.media_type),
            // Forty kilobytes are loaded again sooner than an old page is understood.
            (header::CACHE_CONTROL, "no-cache"),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
        ];
        (headers, self.text).into_response()
    }
}
