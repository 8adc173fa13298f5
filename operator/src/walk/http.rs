//! A tenant on a web server, or at a backend.

use std::io::{self, Read};
use std::path::Path;

use dirless_program::Secret;
use reqwest::{Method, Response, StatusCode};

use super::Problem;
use super::source::Source;
use crate::http::{Server, cause};

/// Files below a URL.
pub(crate) struct HttpSource(Server);

impl HttpSource {
    pub(crate) fn new(base: &str, token: Option<&Secret>, ca_file: Option<&Path>) -> anyhow::Result<Self> {
        Server::new(base, token, ca_file).map(Self)
    }
}

impl Source for HttpSource {
    fn open(&mut self, path: &str) -> Result<Option<Box<dyn Read + '_>>, Problem> {
        let answer = self.0.send(Method::GET, path, None);
        let answer = answer.map_err(|reason| Problem::new("unreachable", path, reason))?;
        match answer.status() {
            StatusCode::OK => Ok(Some(Box::new(Body {
                server: &self.0,
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
    server: &'a Server,
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
            let next = self.server.wait(self.answer.chunk());
            match next.map_err(|error| io::Error::other(cause(&error)))? {
                Some(chunk) => self.chunk = io::Cursor::new(chunk.to_vec()),
                None => return Ok(0),
            }
        }
    }
}
