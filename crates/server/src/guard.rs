//! Where a request says that it goes to and comes from: what keeps the web pages of others out.
//!
//! A page from anywhere can make a browser on this machine ask a server that only this machine reaches.
//! Its `Origin` then names another site. By DNS rebinding (a name of its own that suddenly has a loopback
//! address) it can make the two look like one site to the browser; its `Host` then has that name. So a
//! server on a loopback address looks at both. What is no browser sends no `Origin`, and the `Host` that
//! it was pointed to.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::header::{HOST, ORIGIN, RETRY_AFTER};
use http::uri::Authority;
use http::{HeaderValue, Method, Request, Uri};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use crate::request_id;

/// How long a browser may remember what it is allowed.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_secs(600);

/// Stands for all hosts or all origins.
const ANY: &str = "*";

/// Why a guard cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GuardError {
    /// No host.
    #[error("`{}` is no host; give a name or an address without port, or `*` for any", .0.escape_default())]
    Host(String),
    /// No origin.
    #[error("`{}` is no origin; give one like `https://chat.example:8443`, `null`, or `*` for any", .0.escape_default())]
    Origin(String),
}

/// Why a request is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It went to a host that is not this one.
    #[error(
        "this server is not `{host}`; where that is a name of it, start it with --allowed-host"
    )]
    Host {
        /// What the request says.
        host: String,
    },
    /// It came from a page of another site.
    #[error(
        "pages of `{origin}` may not ask this server; to let them, start it with --allowed-origins"
    )]
    Origin {
        /// What the request says.
        origin: String,
    },
}

/// Which hosts requests may go to, and which origins they may come from.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    /// In lower case, beside those of this machine; none: nothing is checked.
    hosts: Option<Vec<String>>,
    origins: Origins,
}

#[derive(Debug, Clone)]
enum Origins {
    Any,
    These(Vec<HeaderValue>),
}

impl Default for Origins {
    fn default() -> Self {
        Origins::These(Vec::new())
    }
}

impl Guard {
    /// The guard of a server at `address`. Hosts are checked if that is a loopback address or if some are
    /// given; those of this machine are always allowed, and `*` allows all.
    ///
    /// # Errors
    /// What is no host or no origin.
    pub fn new(
        address: SocketAddr,
        hosts: &[String],
        origins: &[String],
    ) -> Result<Guard, GuardError> {
        let is_checked = address.ip().is_loopback() || !hosts.is_empty();
        let hosts = hosts.iter().map(|host| parse_host(host)).collect::<Result<Vec<_>, _>>()?;
        let is_checked = is_checked && !hosts.iter().any(|host| host == ANY);
        let origins = if origins.iter().any(|origin| origin == ANY) {
            Origins::Any
        } else {
            let parsed = origins.iter().map(|origin| parse_origin(origin));
            Origins::These(parsed.collect::<Result<_, _>>()?)
        };
        Ok(Guard { hosts: is_checked.then_some(hosts), origins })
    }

    /// Refuses what goes to an unknown host or comes from an unknown origin.
    ///
    /// # Errors
    /// Which it was.
    pub fn check<T>(&self, request: &Request<T>) -> Result<(), Refusal> {
        let Some(hosts) = &self.hosts else { return Ok(()) };
        let headers = request.headers();
        let refused = |host: &[u8]| Refusal::Host { host: shown(host) };
        for host in headers.get_all(HOST) {
            let known =
                host.to_str().ok().and_then(host_of).is_some_and(|host| knows(hosts, &host));
            if !known {
                return Err(refused(host.as_bytes()));
            }
        }
        if let Some(host) = request.uri().host().filter(|host| !knows(hosts, &plain(host))) {
            return Err(refused(host.as_bytes()));
        }
        for origin in headers.get_all(ORIGIN) {
            if !self.origins.allow(origin) && !is_same_site(origin, headers.get(HOST)) {
                return Err(Refusal::Origin { origin: shown(origin.as_bytes()) });
            }
        }
        Ok(())
    }

    /// What tells browsers that pages of the allowed origins may read replies; none if there are none.
    pub fn cors(&self) -> Option<CorsLayer> {
        let origins = match &self.origins {
            Origins::These(origins) if origins.is_empty() => return None,
            Origins::These(origins) => AllowOrigin::list(origins.clone()),
            Origins::Any => AllowOrigin::any(),
        };
        let layer = CorsLayer::new()
            .allow_origin(origins)
            .allow_methods([Method::GET, Method::POST])
            // Clients send fields of their own, such as the version of their library.
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers([request_id::HEADER, RETRY_AFTER])
            .max_age(PREFLIGHT_MAX_AGE);
        Some(layer)
    }
}

impl Origins {
    fn allow(&self, origin: &HeaderValue) -> bool {
        match self {
            Origins::Any => true,
            Origins::These(origins) => origins.contains(origin),
        }
    }
}

fn parse_host(text: &str) -> Result<String, GuardError> {
    let bad = || GuardError::Host(text.to_owned());
    if text == ANY {
        return Ok(ANY.to_owned());
    }
    if text.parse::<IpAddr>().is_ok() {
        return Ok(text.to_ascii_lowercase());
    }
    let authority: Authority = text.parse().map_err(|_| bad())?;
    let is_bare = authority.port().is_none() && !text.contains(['@', ':', '*']) && !text.is_empty();
    let is_bare = is_bare || (text.starts_with('[') && text.ends_with(']'));
    if is_bare { Ok(plain(authority.host())) } else { Err(bad()) }
}

fn parse_origin(text: &str) -> Result<HeaderValue, GuardError> {
    let bad = || GuardError::Origin(text.to_owned());
    let is_origin = text == "null" || {
        let uri: Uri = text.parse().map_err(|_| bad())?;
        let authority = uri.authority().ok_or_else(bad)?;
        let scheme = uri.scheme_str().ok_or_else(bad)?;
        // A browser sends no more than this, in lower case.
        text == format!("{scheme}://{authority}")
            && text == text.to_ascii_lowercase()
            && !text.contains(['@', '*'])
    };
    if !is_origin {
        return Err(bad());
    }
    HeaderValue::from_str(text).map_err(|_| bad())
}

/// The host of a `Host` header.
fn host_of(header: &str) -> Option<String> {
    let authority: Authority = header.parse().ok()?;
    (!header.contains('@')).then(|| plain(authority.host()))
}

/// A host in one spelling: lower case, no brackets, no dot of the root.
fn plain(host: &str) -> String {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// Whether `host` is this machine's own name for itself or one of `hosts`.
fn knows(hosts: &[String], host: &str) -> bool {
    let is_loopback = host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    // Names below `localhost` are loopback addresses to every browser.
    is_loopback
        || host == "localhost"
        || host.ends_with(".localhost")
        || hosts.iter().any(|known| known == host)
}

/// Whether a page of `origin` was served by what it asks.
fn is_same_site(origin: &HeaderValue, host: Option<&HeaderValue>) -> bool {
    let (Ok(origin), Some(Ok(host))) = (origin.to_str(), host.map(HeaderValue::to_str)) else {
        return false;
    };
    let site = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    site.is_some_and(|site| site.eq_ignore_ascii_case(host))
}

/// What was sent, for a message.
fn shown(bytes: &[u8]) -> String {
    bytes
        .escape_ascii()
        .take(200)
        .collect::<Vec<u8>>()
        .iter()
        .map(|&byte| char::from(byte))
        .collect()
}

#[cfg(test)]
mod tests;
