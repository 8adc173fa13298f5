//! A tenant on a web server, or at a backend.

use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use dirless_client::BaseUrl;
use dirless_program::Secret;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Certificate, Client, Response, StatusCode};
use tokio::runtime::Runtime;

use super::Problem;
use super::source::Source;

/// Files below a URL.
pub(crate) struct HttpSource {
    base: String,
    client: Client,
    authorization: Option<HeaderValue>,
    runtime: Runtime,
}

impl HttpSource {
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
}

impl Source for HttpSource {
    fn open(&mut self, path: &str) -> Result<Option<Box<dyn Read + '_>>, Problem> {
        let mut request = self.client.get(format!("{}/{path}", self.base));
        if let Some(value) = &self.authorization {
            request = request.header(AUTHORIZATION, value);
        }
        // Within the runtime from the start: a request takes its timers when it is sent.
        let answer = self.runtime.block_on(async { request.send().await });
        let answer = answer.map_err(|error| Problem::new("unreachable", path, cause(&error)))?;
        match answer.status() {
            StatusCode::OK => Ok(Some(Box::new(Body {
                runtime: &self.runtime,
                answer,
                chunk: io::Cursor::default(),
            }))),
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(None),
            status => Err(Problem::new(
                "unreachable",
                path,
                format!("the server answers {status}"),
            )),
        }
    }
}

/// The body of an answer, as it comes.
struct Body<'a> {
    runtime: &'a Runtime,
    answer: Response,
    chunk: io::Cursor<Vec<u8>>,
}

impl Read for Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.chunk.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            let next = self.runtime.block_on(self.answer.chunk());
            match next.map_err(|error| io::Error::other(cause(&error)))? {
                Some(chunk) => self.chunk = io::Cursor::new(chunk.to_vec()),
                None => return Ok(0),
            }
        }
    }
}

/// The innermost cause: the outer ones only name the URL.
fn cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
