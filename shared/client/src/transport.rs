use std::collections::HashMap;
use std::error::Error as _;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use dirless_program::{Clock, Secret};
use dirless_wire::{TenantId, header};
use http::{HeaderMap, HeaderValue, Method};
use zeroize::Zeroizing;

use crate::backends::BackendKey;
use crate::builder::{BuildError, Timeouts};
use crate::{BaseUrl, RequestKey};

/// How long a quiet connection is kept for the next call: those of a cycle follow each other, and what a backend keeps for a
/// connection costs it more than another one once a minute.
const POOL_IDLE: Duration = Duration::from_secs(3);

/// After how long without a word the other machine is asked whether it is there (tcp(7), TCP_KEEPALIVE), and how long it has for
/// that. Sent by the system, on connections on which somebody waits.
const QUIET: Duration = Duration::from_secs(15);
const QUIET_AGAIN: Duration = Duration::from_secs(5);

/// Who a call says it is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// Nobody: probes and health.
    Nobody,
    /// The bearer alone: enrolment.
    Bearer,
    /// Bearer and tenant: everything else of the classic protocol.
    Tenant,
    /// The owner of a key: the verified protocol.
    Key,
}

/// Who sends.
#[derive(Debug)]
pub(crate) struct Sender {
    pub(crate) bearer: Option<Secret>,
    pub(crate) tenant: Option<TenantId>,
    pub(crate) key: Option<RequestKey>,
    /// Signed requests name the time.
    pub(crate) clock: Clock,
}

/// Which deadline a call has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    Call,
    Fetch,
    Probe,
    /// The head in the time of a call; what follows takes as long as it likes.
    Watch,
}

/// One request, ready to be sent to any backend and as often as needed.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Bytes>,
    pub(crate) identity: Identity,
    pub(crate) pace: Pace,
    /// Whether it may be sent again after it may have arrived.
    pub(crate) repeatable: bool,
}

impl Call {
    pub(crate) fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            headers: HeaderMap::new(),
            body: None,
            identity: Identity::Tenant,
            pace: Pace::Call,
            repeatable: true,
        }
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        // Values are newtypes, numbers and entity tags: always legal in a header.
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    pub(crate) fn json(self, body: Vec<u8>) -> Self {
        Self {
            body: Some(Bytes::from(body)),
            ..self
        }
        .header("content-type", header::JSON_MEDIA_TYPE)
    }
}

/// A try that got no answer.
#[derive(Debug)]
pub(crate) struct NoAnswer {
    pub(crate) reason: String,
    /// Whether the request may have reached the backend.
    pub(crate) may_have_arrived: bool,
}

/// The connections: one HTTP client for each address, so that a request goes where it is meant to
/// while TLS and `Host` still see the configured name.
#[derive(Debug)]
pub(crate) struct Transport {
    pub(crate) urls: Vec<BaseUrl>,
    pub(crate) timeouts: Timeouts,
    pub(crate) sender: Sender,
    authorities: Vec<reqwest::Certificate>,
    proxy: Option<reqwest::Proxy>,
    user_agent: String,
    clients: Mutex<HashMap<BackendKey, reqwest::Client>>,
}

impl Transport {
    pub(crate) fn new(
        urls: Vec<BaseUrl>,
        sender: Sender,
        timeouts: Timeouts,
        ca_file: Option<&Path>,
        proxy: Option<&str>,
        user_agent: String,
    ) -> Result<Self, BuildError> {
        // Programs install it at their start already; a second time is refused and harmless.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let authorities = ca_file.map_or(Ok(Vec::new()), read_authorities)?;
        let proxy = proxy
            .map(reqwest::Proxy::all)
            .transpose()
            .map_err(|error| BuildError::Proxy(root_cause(&error)))?;
        let transport = Self {
            urls,
            timeouts,
            sender,
            authorities,
            proxy,
            user_agent,
            clients: Mutex::default(),
        };
        // One throw-away client for each URL shows what cannot work while there is someone to tell.
        for base in 0..transport.urls.len() {
            transport
                .make(BackendKey { base, address: None })
                .map_err(|error| BuildError::Tls(root_cause(&error)))?;
        }
        Ok(transport)
    }

    pub(crate) fn is_proxied(&self) -> bool {
        self.proxy.is_some()
    }

    /// What people call this backend.
    pub(crate) fn name(&self, key: BackendKey) -> String {
        let Some(url) = self.urls.get(key.base) else {
            return String::new();
        };
        match key.address {
            Some(address) if address.ip().to_string() != url.host() => format!("{url} at {}", address.ip()),
            _ => url.to_string(),
        }
    }

    /// Forgets the connections to `key`, so that the next try starts afresh and reads the
    /// certificate authorities again.
    pub(crate) fn forget(&self, key: BackendKey) {
        if let Ok(mut clients) = self.clients.lock() {
            clients.remove(&key);
        }
    }

    /// Sends `call` to `key` and waits for the head of the answer, whatever its status.
    pub(crate) async fn send(&self, key: BackendKey, call: &Call) -> Result<reqwest::Response, NoAnswer> {
        let unsent = |reason: String| NoAnswer {
            reason,
            may_have_arrived: false,
        };
        let url = self
            .urls
            .get(key.base)
            .ok_or_else(|| unsent("unknown backend".to_owned()))?;
        let client = self.client(key).map_err(|error| unsent(root_cause(&error)))?;
        let timeout = match call.pace {
            Pace::Call | Pace::Watch => self.timeouts.call,
            Pace::Fetch => self.timeouts.fetch,
            Pace::Probe => self.timeouts.probe,
        };
        let mut request = client
            .request(call.method.clone(), url.join(&call.path))
            .headers(call.headers.clone());
        let Sender {
            bearer,
            tenant,
            key,
            clock,
        } = &self.sender;
        if let (Identity::Bearer | Identity::Tenant, Some(bearer)) = (call.identity, bearer) {
            request = request.header(http::header::AUTHORIZATION, authorization(bearer));
        }
        if let (Identity::Tenant, Some(tenant)) = (call.identity, tenant) {
            request = request.header(header::TENANT_ID, tenant.as_str());
        }
        if let (Identity::Key, Some(key), Some(tenant)) = (call.identity, key, tenant) {
            // Each time anew: a try that comes late must not bear the time of the first.
            let value = key.authorization(call, tenant, clock.now());
            request = request.header(http::header::AUTHORIZATION, value);
        }
        if let Some(body) = &call.body {
            request = request.body(body.clone());
        }
        let answer = if call.pace == Pace::Watch {
            let answer = tokio::time::timeout(timeout, request.send()).await;
            answer.map_err(|_elapsed| NoAnswer {
                may_have_arrived: true,
                reason: "timeout (waiting for an answer)".to_owned(),
            })?
        } else {
            request.timeout(timeout).send().await
        };
        answer.map_err(|error| NoAnswer {
            may_have_arrived: !error.is_connect() && !error.is_builder(),
            reason: describe(&error),
        })
    }

    fn client(&self, key: BackendKey) -> reqwest::Result<reqwest::Client> {
        let Ok(mut clients) = self.clients.lock() else {
            return self.make(key);
        };
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let client = self.make(key)?;
        clients.insert(key, client.clone());
        Ok(client)
    }

    fn make(&self, key: BackendKey) -> reqwest::Result<reqwest::Client> {
        let mut builder = reqwest::Client::builder()
            .user_agent(&self.user_agent)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .no_proxy()
            .connect_timeout(self.timeouts.connect)
            .tcp_user_timeout(self.timeouts.silence)
            .tcp_keepalive(QUIET)
            .tcp_keepalive_interval(QUIET_AGAIN)
            // Long enough for the calls of a cycle, shorter than servers and fronts keep a quiet
            // connection: a request must not meet one that is being closed.
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(1);
        if let Some(proxy) = &self.proxy {
            builder = builder.proxy(proxy.clone());
        }
        let Some(url) = self.urls.get(key.base) else {
            return builder.build();
        };
        if let Some(address) = key.address {
            builder = builder.resolve(url.host(), address);
        }
        // Without TLS the system's authorities would only cost memory, and need not be installed.
        builder = if url.is_tls() {
            builder.tls_certs_merge(self.authorities.iter().cloned())
        } else {
            builder.tls_certs_only([])
        };
        builder.build()
    }
}

/// A client for `base` alone that says nothing about who asks.
pub(crate) fn plain_client(
    base: &BaseUrl,
    ca_file: Option<&Path>,
    patience: Duration,
) -> Result<reqwest::Client, BuildError> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let authorities = ca_file.map_or(Ok(Vec::new()), read_authorities)?;
    let builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .connect_timeout(patience)
        .read_timeout(patience)
        .pool_idle_timeout(POOL_IDLE)
        .pool_max_idle_per_host(1);
    let builder = if base.is_tls() {
        builder.tls_certs_merge(authorities)
    } else {
        builder.tls_certs_only([])
    };
    builder.build().map_err(|error| BuildError::Tls(root_cause(&error)))
}

/// The bearer as a header value. The HTTP library keeps its copies of it in memory of its own for
/// the length of the request; marked sensitive, it stays out of logs and of header compression.
fn authorization(bearer: &Secret) -> HeaderValue {
    let text = Zeroizing::new(format!("{}{}", header::BEARER_PREFIX, bearer.expose()));
    let mut value = HeaderValue::from_str(&text).expect("the builder refuses a bearer with anything but visible ASCII");
    value.set_sensitive(true);
    value
}

fn read_authorities(path: &Path) -> Result<Vec<reqwest::Certificate>, BuildError> {
    let pem = std::fs::read(path).map_err(|source| BuildError::CaRead {
        path: path.to_owned(),
        source,
    })?;
    let unusable = |reason: String| BuildError::CaContent {
        path: path.to_owned(),
        reason,
    };
    let authorities = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| unusable(root_cause(&error)))?;
    if authorities.is_empty() {
        return Err(unusable("no certificate in it".to_owned()));
    }
    // Bytes that are no certificate are noticed only when they are put to use.
    reqwest::Client::builder()
        .tls_certs_only(authorities.iter().cloned())
        .build()
        .map_err(|error| unusable(root_cause(&error)))?;
    Ok(authorities)
}

/// What went wrong, for people: the innermost cause, and advice where there is some.
pub(crate) fn describe(error: &reqwest::Error) -> String {
    if let Some(advice) = tls_advice(error) {
        return advice;
    }
    if error.is_timeout() {
        let what = if error.is_connect() {
            "connecting"
        } else {
            "no whole answer"
        };
        return format!("timeout ({what})");
    }
    root_cause(error)
}

fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// The TLS library's verdict, wherever it sits in the chain.
fn tls_advice(error: &reqwest::Error) -> Option<String> {
    let mut next = error.source();
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref::<rustls::Error>() {
            return Some(advice_for(found));
        }
        next = match cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            // `source` of an I/O error is the source of what it carries, and would skip that.
            Some(carried) => Some(carried),
            None => cause.source(),
        };
    }
    None
}

fn advice_for(error: &rustls::Error) -> String {
    use rustls::CertificateError as Certificate;
    let advice = match error {
        rustls::Error::InvalidCertificate(reason) => match reason {
            // The second is what an authority looks like that has the name of a trusted one but another key.
            Certificate::UnknownIssuer | Certificate::BadSignature => "name the authority that signed it as CA file",
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => {
                "the certificate is for another host name than the URL's"
            }
            Certificate::Expired | Certificate::ExpiredContext { .. } => "renew the certificate, or check this clock",
            Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => "check the clock of this machine",
            _ => "the certificate is not acceptable",
        },
        rustls::Error::InvalidMessage(_) => "this port may not speak TLS: check http:// or https://",
        _ => return format!("TLS: {error}"),
    };
    format!("TLS: {error}; {advice}")
}
