//! Where the server is.

use http::Uri;

use crate::error::BenchError;

/// Where the server is, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Whether TLS is spoken.
    pub(crate) is_secure: bool,
    /// Name or address, without the brackets of IPv6.
    pub(crate) host: String,
    /// TCP port.
    pub(crate) port: u16,
    /// `host:port` as the `Host` header has it.
    pub(crate) authority: String,
    /// Path before `/v1`, without a slash at its end; mostly empty.
    base: String,
}

impl Endpoint {
    /// Takes `url` apart. A `/v1` at its end is what all paths begin with anyway.
    pub(crate) fn parse(url: &str) -> Result<Endpoint, BenchError> {
        let bad =
            |reason: &str| BenchError::BadUrl { url: url.to_owned(), reason: reason.to_owned() };
        let uri: Uri = url.trim().parse().map_err(|error| bad(&format!("{error}")))?;
        let is_secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(_) => return Err(bad("only http and https are spoken")),
            None => return Err(bad("it does not begin with http:// or https://")),
        };
        let authority = uri.authority().ok_or_else(|| bad("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(bad("it holds a user name; a key goes into --api-key"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let path = uri.path().trim_end_matches('/');
        Ok(Endpoint {
            is_secure,
            host: host.to_owned(),
            port: authority.port_u16().unwrap_or(if is_secure { 443 } else { 80 }),
            authority: authority.as_str().to_owned(),
            base: path.strip_suffix("/v1").unwrap_or(path).to_owned(),
        })
    }

    /// The path to ask for, given one that begins with a slash.
    pub(crate) fn path(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// The address in short, for messages and the report.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.is_secure { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority, self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(url: &str) -> (String, u16, String) {
        let endpoint = Endpoint::parse(url).expect("a good address");
        let path = endpoint.path("/v1/models");
        (endpoint.host, endpoint.port, path)
    }

    #[test]
    fn addresses_are_taken_apart() {
        let check = |url, host: &str, port, path: &str| {
            assert_eq!(parts(url), (host.to_owned(), port, path.to_owned()), "{url}");
        };
        check("http://127.0.0.1:8000", "127.0.0.1", 8000, "/v1/models");
        check("http://localhost", "localhost", 80, "/v1/models");
        check("http://localhost:1/v1/", "localhost", 1, "/v1/models");
        check("http://proxy:80/llm/v1", "proxy", 80, "/llm/v1/models");
        check("https://proxy/llm", "proxy", 443, "/llm/v1/models");
        check("http://[::1]:8000/", "::1", 8000, "/v1/models");
    }

    #[test]
    fn an_address_is_told_as_it_is_spoken_to() {
        for url in ["http://h:1", "https://h/llm"] {
            assert_eq!(Endpoint::parse(url).expect("a good address").url(), url);
        }
    }

    #[test]
    fn other_schemes_are_refused_with_a_reason() {
        let message = |url| Endpoint::parse(url).expect_err("it is refused").to_string();
        assert!(message("localhost:8000").contains("http://host:8000"));
        assert!(message("ftp://host").contains("only http and https"));
        assert!(message("http://me:secret@host").contains("--api-key"));
        assert!(message("").contains("not the address of a server"));
    }
}
