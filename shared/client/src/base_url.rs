use std::fmt;
use std::net::IpAddr;

use reqwest::Url;

/// Where a backend is: scheme, host, port and an optional path prefix, without a trailing slash.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct BaseUrl {
    url: Url,
    prefix: String,
}

/// Why a text is not the URL of a backend. Never repeats the text: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BaseUrlError {
    /// It does not parse at all.
    #[error("the backend URL is malformed ({0}); write it like https://dirless.example.com")]
    Malformed(String),
    /// Another scheme than http or https.
    #[error("the backend URL must begin with https:// (or http:// on a trusted network), not with {0}://")]
    Scheme(String),
    /// No host in it.
    #[error("the backend URL has no host name; write it like https://dirless.example.com")]
    Host,
    /// `user:password@`.
    #[error("the backend URL must not hold a user name or password; the token has its own place in the configuration")]
    Credentials,
    /// `?…` or `#…`.
    #[error("the backend URL must end with its path; take off everything from the '?' or '#' on")]
    Query,
}

impl BaseUrl {
    /// Checks and normalises the URL of a backend.
    ///
    /// # Errors
    /// When it is not `http[s]://host[:port][/prefix]`.
    pub fn new(text: &str) -> Result<Self, BaseUrlError> {
        let url = Url::parse(text.trim()).map_err(|error| BaseUrlError::Malformed(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(BaseUrlError::Scheme(url.scheme().to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(BaseUrlError::Credentials);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(BaseUrlError::Query);
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(BaseUrlError::Host);
        }
        let prefix = url.path().trim_end_matches('/').to_owned();
        Ok(Self { url, prefix })
    }

    /// The host name or address, without brackets around an IPv6 one.
    #[must_use]
    pub fn host(&self) -> &str {
        let host = self.url.host_str().unwrap_or_default();
        host.strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(host)
    }

    /// The port, the scheme's own when none is written.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.url.port_or_known_default().unwrap_or(443)
    }

    /// Whether the connection is encrypted.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// Whether the bearer would cross a network in clear: `http://` to anything but this machine.
    #[must_use]
    pub fn exposes_bearer(&self) -> bool {
        let here = match self.host().parse::<IpAddr>() {
            Ok(address) => address.is_loopback(),
            Err(_) => self.host() == "localhost" || self.host().ends_with(".localhost"),
        };
        !self.is_tls() && !here
    }

    /// The URL of a route; `path` begins with a slash, may end with a query, and is already safe to stand in a URL.
    pub(crate) fn join(&self, path: &str) -> Url {
        let (path, query) = path
            .split_once('?')
            .map_or((path, None), |(path, query)| (path, Some(query)));
        let mut url = self.url.clone();
        url.set_path(&format!("{}{path}", self.prefix));
        url.set_query(query);
        url
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.url.as_str().trim_end_matches('/'))
    }
}

impl fmt::Debug for BaseUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "BaseUrl({self})")
    }
}

impl std::str::FromStr for BaseUrl {
    type Err = BaseUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_prefix_is_kept_and_a_trailing_slash_is_not() {
        for (text, joined) in [
            ("http://127.0.0.1:4000", "http://127.0.0.1:4000/v1/health"),
            ("http://127.0.0.1:4000/", "http://127.0.0.1:4000/v1/health"),
            ("https://h.example/p", "https://h.example/p/v1/health"),
            ("https://h.example/p/q//", "https://h.example/p/q/v1/health"),
            (" https://h.example:443 ", "https://h.example/v1/health"),
            ("http://[::1]:4000", "http://[::1]:4000/v1/health"),
        ] {
            assert_eq!(BaseUrl::new(text).unwrap().join("/v1/health").as_str(), joined);
        }
    }

    #[test]
    fn a_query_stays_one() {
        let base = BaseUrl::new("https://h.example/p").unwrap();
        let joined = base.join("/v2/acme/join?after=a+b&limit=3");
        assert_eq!(joined.as_str(), "https://h.example/p/v2/acme/join?after=a+b&limit=3");
    }

    #[test]
    fn host_and_port_are_what_to_resolve() {
        let six = BaseUrl::new("http://[::1]:4000").unwrap();
        assert_eq!((six.host(), six.port()), ("::1", 4000));
        let name = BaseUrl::new("https://Backend.Example/x").unwrap();
        assert_eq!((name.host(), name.port()), ("backend.example", 443));
        assert_eq!(BaseUrl::new("http://h").unwrap().port(), 80);
    }

    #[test]
    fn what_is_no_backend_is_refused_without_repeating_it() {
        assert!(matches!(BaseUrl::new("backend:4000"), Err(BaseUrlError::Scheme(_))));
        assert!(matches!(BaseUrl::new("not a url"), Err(BaseUrlError::Malformed(_))));
        assert_eq!(BaseUrl::new("ftp://h"), Err(BaseUrlError::Scheme("ftp".into())));
        assert_eq!(BaseUrl::new("https://h/?token=x"), Err(BaseUrlError::Query));
        let leak = BaseUrl::new("https://user:hunter2@h").unwrap_err();
        assert_eq!(leak, BaseUrlError::Credentials);
        assert!(!format!("{leak} {leak:?}").contains("hunter2"));
    }

    #[test]
    fn only_plain_http_to_elsewhere_exposes_the_bearer() {
        for (text, exposed) in [
            ("http://127.0.0.1:4000", false),
            ("http://[::1]", false),
            ("http://localhost", false),
            ("https://h.example", false),
            ("http://h.example", true),
            ("http://10.0.0.1", true),
        ] {
            assert_eq!(BaseUrl::new(text).unwrap().exposes_bearer(), exposed, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived_and_what_is_taken_reads_back(text in "(https?://)?[a-z0-9.:/\\[\\]@?#%-]{0,40}") {
            if let Ok(base) = BaseUrl::new(&text) {
                prop_assert_eq!(BaseUrl::new(&base.to_string()).unwrap().join("/x"), base.join("/x"));
            }
        }
    }
}
