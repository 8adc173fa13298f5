//! Asking a server over HTTPS, with a token that is shown to nobody else.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use dirless_client::BaseUrl;
use dirless_program::Secret;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Certificate, Client, Method, Response};
use tokio::runtime::Runtime;

/// A server, and how it is asked.
pub(crate) struct Server {
    base: String,
    client: Client,
    authorization: Option<HeaderValue>,
    runtime: Runtime,
}

impl Server {
    pub(crate) fn new(base: &str, token: Option<&Secret>, ca_file: Option<&Path>) -> anyhow::Result<Self> {
        dirless_program::command::start();
        if token.is_some() && BaseUrl::new(base)?.exposes_bearer() {
            bail!("a token is not sent without TLS; use an https:// URL");
        }
        let mut builder = Client::builder()
            .user_agent(concat!("dirless/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(Duration::from_secs(60));
        builder = if base.starts_with("https://") {
            let pem = ca_file.map(std::fs::read).transpose().context("reading --ca-file")?;
            let own = pem.map(|pem| Certificate::from_pem_bundle(&pem)).transpose();
            builder.tls_certs_merge(own.context("in --ca-file")?.unwrap_or_default())
        } else {
            builder.tls_certs_only([])
        };
        let authorization = token.map(|token| {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose()))?;
            value.set_sensitive(true);
            anyhow::Ok(value)
        });
        Ok(Self {
            base: base.trim_end_matches('/').to_owned(),
            client: builder.build().context("setting up TLS")?,
            authorization: authorization
                .transpose()
                .context("the token has characters that no token has")?,
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .context("starting the runtime")?,
        })
    }

    /// Sends a request with a JSON body, if any, and waits for the head of the answer. The error is the cause in words.
    pub(crate) fn send(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Result<Response, String> {
        let mut request = self.client.request(method, format!("{}/{path}", self.base));
        if let Some(value) = &self.authorization {
            request = request.header(AUTHORIZATION, value);
        }
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body);
        }
        // Within the runtime from the start: a request takes its timers when it is sent.
        let answer = self.wait(async { request.send().await });
        answer.map_err(|error| cause(&error))
    }

    /// Waits for something about an answer.
    pub(crate) fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Its URL.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }
}

/// The innermost cause: the outer ones only name the URL.
pub(crate) fn cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
