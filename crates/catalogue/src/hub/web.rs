//! One request to the hub, and where it leads.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use ureq::http::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, LOCATION, RANGE};
use ureq::http::{Method, Request, Response, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body, Proxy};

use super::settings::{Settings, Token};
use crate::error::Error;

/// Longest wait for a connection, and for bytes on one.
const PATIENCE: Duration = Duration::from_secs(30);
/// Most redirects that are followed.
const REDIRECTS_MAX: usize = 10;
/// Longest text of others that a message repeats.
const SAID_CHARS_MAX: usize = 300;

/// Why no token is sent to some hubs.
const UNENCRYPTED: &str = "the token would go there unencrypted, for others to read: begin it with \
                           https://, or set HF_HUB_DISABLE_IMPLICIT_TOKEN=1 to ask without a token";

/// Sends requests. The token goes to the hub's own host only.
pub(super) struct Web {
    agent: Agent,
    endpoint: Uri,
    token: Option<Token>,
}

/// How far redirects are followed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Follow {
    /// As long as they stay on the host.
    OnHost,
    /// Wherever they lead.
    Anywhere,
}

/// What came of a request.
pub(super) struct Answer {
    pub response: Response<Body>,
    /// Who gave it.
    pub url: Uri,
    /// Whether that is the hub itself.
    pub is_of_hub: bool,
    /// The other host that it leads to, if that was not to be followed.
    pub elsewhere: Option<Uri>,
}

/// Why a request failed.
pub(super) enum Failure {
    /// It may succeed later.
    Passing {
        /// What happened.
        reason: String,
        /// When the server wants to be asked again.
        after: Option<Duration>,
    },
    /// It will fail again.
    Lasting(Error),
}

impl Failure {
    /// Something that may be over when the request is sent again.
    pub fn passing(reason: impl ToString) -> Self {
        Self::Passing { reason: said(&reason.to_string()), after: None }
    }
}

impl Web {
    /// Requests by these settings, through the proxy that the environment names, if it does; but none to this
    /// machine: a proxy takes that name for itself, and would read what is not encrypted.
    ///
    /// Error: this machine trusts no authorities, or there is a token and others could read it on the way.
    pub fn new(settings: &Settings) -> Result<Self, Error> {
        Self::with(settings, PATIENCE, Proxy::try_from_env())
    }

    pub(super) fn with(
        settings: &Settings,
        patience: Duration,
        proxy: Option<Proxy>,
    ) -> Result<Self, Error> {
        let endpoint: Uri = settings.endpoint.parse().expect("settings are checked");
        if settings.token.is_some() && !is_private(&endpoint) {
            return Err(Error::BadHubSetting { variable: "HF_ENDPOINT", reason: UNENCRYPTED });
        }
        let found = rustls_native_certs::load_native_certs();
        if found.certs.is_empty() && endpoint.scheme_str() == Some("https") {
            let reasons: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
            return Err(Error::NoAuthorities { reason: reasons.join("; ") });
        }
        let roots: Vec<_> = found
            .certs
            .iter()
            .map(|certificate| Certificate::from_der(certificate).to_owned())
            .collect();
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::Specific(Arc::new(roots)))
            .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
            .build();
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("millrace/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(patience))
            .timeout_recv_response(Some(patience))
            .timeout_per_read(Some(patience))
            .tls_config(tls)
            .proxy(proxy)
            .build()
            .into();
        Ok(Self { agent, endpoint, token: settings.token.clone() })
    }

    /// Asks for `url`, from byte `first` on, and follows where that leads.
    pub fn ask(
        &self,
        method: &Method,
        url: &Uri,
        first: u64,
        follow: Follow,
    ) -> Result<Answer, Failure> {
        let mut url = url.clone();
        for _ in 0..REDIRECTS_MAX {
            let response = self.send(method, &url, first)?;
            let is_of_hub = is_same_host(&url, &self.endpoint);
            let next =
                response.status().is_redirection().then(|| location(&url, response.headers()));
            let next = next.transpose().map_err(|reason| bad_reply(&url, reason))?;
            match next {
                Some(next) if follow == Follow::Anywhere || is_same_host(&url, &next) => url = next,
                elsewhere => return Ok(Answer { response, url, is_of_hub, elsewhere }),
            }
        }
        Err(bad_reply(&url, format!("it is the {REDIRECTS_MAX}th redirect in a row")))
    }

    fn send(&self, method: &Method, url: &Uri, first: u64) -> Result<Response<Body>, Failure> {
        let request = Request::builder().method(method.clone()).uri(url.clone());
        // Lengths and hashes are those of the bytes as they are.
        let mut request = request.header(ACCEPT_ENCODING, "identity");
        if 0 < first {
            request = request.header(RANGE, format!("bytes={first}-"));
        }
        if let Some(token) = self.token.as_ref().filter(|_| is_same_host(url, &self.endpoint)) {
            request = request.header(AUTHORIZATION, token.header());
        }
        let mut request = request.body(()).expect("the parts are checked");
        if is_loopback(url) {
            request = self.agent.configure_request(request).proxy(None).build();
        }
        self.agent.run(request).map_err(|error| match error {
            ureq::Error::Tls(_) | ureq::Error::Rustls(_) | ureq::Error::InvalidProxyUrl => {
                unusable(url, &error)
            }
            // A handshake that fails arrives as an error in reading.
            ureq::Error::Io(ref source) if is_of_tls(source) => unusable(url, &error),
            error => Failure::passing(format!("{}: {error}", host(url))),
        })
    }
}

fn unusable(url: &Uri, error: &ureq::Error) -> Failure {
    Failure::Lasting(Error::HubUnreachable {
        host: host(url),
        reason: said(&error.to_string()),
        tries: 1,
    })
}

fn is_of_tls(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|source| source.is::<rustls::Error>())
}

/// Scheme, host and port, for messages.
pub(super) fn host(url: &Uri) -> String {
    let authority = url.authority().map_or("", |authority| authority.as_str());
    format!("{}://{authority}", url.scheme_str().unwrap_or_default())
}

/// An answer that is not what the hub's interface promises.
pub(super) fn bad_reply(url: &Uri, reason: impl ToString) -> Failure {
    // The query of a link to large files is a secret for some time.
    let url = format!("{}{}", host(url), url.path());
    Failure::Lasting(Error::BadHubReply { url, reason: said(&reason.to_string()) })
}

/// A text of others, as a message may repeat it.
pub(super) fn said(text: &str) -> String {
    text.chars().take(SAID_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn is_same_host(one: &Uri, other: &Uri) -> bool {
    one.scheme() == other.scheme() && one.authority() == other.authority()
}

/// Whether nobody else can read what is sent there: it is encrypted, or stays on this machine.
fn is_private(url: &Uri) -> bool {
    url.scheme_str() == Some("https") || is_loopback(url)
}

/// Whether it is this machine.
fn is_loopback(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let is_loopback = host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    is_loopback || host.eq_ignore_ascii_case("localhost")
}

/// Where a redirect from `url` leads.
fn location(url: &Uri, headers: &HeaderMap) -> Result<Uri, String> {
    let Some(to) = headers.get(LOCATION) else { return Err("it redirects to nowhere".to_owned()) };
    let to = to.to_str().map_err(|_| "it redirects to what is no address".to_owned())?;
    let scheme = url.scheme_str().unwrap_or_default();
    let whole = if to.starts_with("//") {
        format!("{scheme}:{to}")
    } else if to.starts_with('/') {
        format!("{}{to}", host(url))
    } else {
        to.to_owned()
    };
    let next: Uri =
        whole.parse().map_err(|_| format!("it redirects to `{to}`, which is no address"))?;
    match next.scheme_str() {
        Some("https") => Ok(next),
        Some("http") if scheme == "http" => Ok(next),
        _ => Err(format!("it redirects to `{to}`, which is not followed from {scheme}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_on_the_host_or_elsewhere_but_never_out_of_tls() {
        let to = |from: &'static str, to: &str| {
            let headers = [(LOCATION, to.parse().unwrap())].into_iter().collect();
            location(&Uri::from_static(from), &headers).map(|uri| uri.to_string())
        };
        assert_eq!(to("https://a/b?c", "/d?e").unwrap(), "https://a/d?e");
        assert_eq!(to("https://a:1/b", "//c/d").unwrap(), "https://c/d");
        assert_eq!(to("http://a/b", "https://c/d").unwrap(), "https://c/d");
        assert_eq!(to("http://a/b", "http://c/d").unwrap(), "http://c/d");
        for bad in ["http://c/d", "ftp://c/d", "file:///d", "d", "", "https://"] {
            assert!(to("https://a/b", bad).is_err(), "{bad}");
        }
        assert!(location(&Uri::from_static("https://a/b"), &HeaderMap::new()).is_err());
    }

    #[test]
    fn a_host_is_scheme_name_and_port() {
        let same = |one, other| is_same_host(&Uri::from_static(one), &Uri::from_static(other));
        assert!(same("https://a/b", "https://A/c?d"));
        for other in ["http://a/b", "https://a:444/b", "https://a.b/b", "https://b/a"] {
            assert!(!same("https://a/b", other), "{other}");
        }
    }

    #[test]
    fn only_encryption_and_loopback_keep_what_is_sent() {
        let is_private = |url| is_private(&Uri::from_static(url));
        for url in ["https://a.b", "http://127.9.0.1:8", "http://[::1]:8/c", "http://Localhost"] {
            assert!(is_private(url), "{url}");
        }
        for url in ["http://a.b", "http://10.0.0.1", "http://[::2]", "http://127.0.0.1.a.b"] {
            assert!(!is_private(url), "{url}");
        }
    }
}
