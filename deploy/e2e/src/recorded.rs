//! A backend that answers what it is told to, as deployed backends do, and remembers what it was asked.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a path is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Status, extra header lines, body.
    Reply(u16, Vec<(String, String)>, Vec<u8>),
    /// The connection is closed without a word.
    Drop,
}

impl Answer {
    /// A JSON reply.
    #[must_use]
    pub fn json(status: u16, body: &str) -> Self {
        let headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
        Self::Reply(status, headers, body.as_bytes().to_vec())
    }

    /// A snapshot as deployed backends serve it: base64 text, with the header that says it is sealed.
    #[must_use]
    pub fn sealed(body: &str) -> Self {
        let headers = vec![("X-Dirless-Encrypted".to_owned(), "age".to_owned())];
        Self::Reply(200, headers, body.as_bytes().to_vec())
    }

    /// A snapshot in clear.
    #[must_use]
    pub fn clear(body: &str) -> Self {
        Self::Reply(200, Vec::new(), body.as_bytes().to_vec())
    }
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `GET /v1/…`
    pub line: String,
    /// Header names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Asked {
    /// The first value of the header `name` (lower case).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(own, _)| own == name)
            .map(|(_, value)| value.as_str())
    }
}

#[derive(Debug, Default)]
struct Shared {
    answers: BTreeMap<String, Answer>,
    asked: Vec<Asked>,
    stopped: bool,
}

/// The running stand-in; it stops when this is dropped.
#[derive(Debug)]
pub struct Recorded {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

impl Recorded {
    /// Listens on `address` (port 0 for any), with the answers of an empty tenant.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub fn start(address: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Mutex::new(Shared::default()));
        let state = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if lock(&state).stopped {
                    break;
                }
                let state = Arc::clone(&state);
                std::thread::spawn(move || serve(stream, &state));
            }
        });
        let recorded = Self { address, shared };
        recorded.answer(
            "GET /v1/snapshot/authz-config",
            Answer::json(200, "{\"enforce_group_memberships\":false,\"host_group_rules\":[]}"),
        );
        recorded.answer(
            "GET /v1/snapshot/ca-public-key",
            Answer::json(200, "{\"ca_public_key\":null}"),
        );
        recorded.answer("POST /v1/agent/heartbeat", Answer::json(200, "{\"status\":\"ok\"}"));
        recorded.answer("PUT /v1/snapshot/duplicates", Answer::json(200, "{\"status\":\"ok\"}"));
        recorded.answer(
            "POST /v1/enrollment/enroll",
            Answer::json(200, "{\"status\": \"enrolled\"}"),
        );
        Ok(recorded)
    }

    /// Answers `line` (`GET /v1/…`) with `answer` from now on; what is not set is answered 404.
    pub fn answer(&self, line: &str, answer: Answer) {
        lock(&self.shared).answers.insert(line.to_owned(), answer);
    }

    /// Everything asked so far.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.shared).asked.clone()
    }

    /// How often `line` was asked.
    #[must_use]
    pub fn count(&self, line: &str) -> usize {
        lock(&self.shared)
            .asked
            .iter()
            .filter(|asked| asked.line == line)
            .count()
    }

    /// `http://address:port`
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        lock(&self.shared).stopped = true;
        // Wakes the thread that waits for a connection.
        let _ = TcpStream::connect(self.address);
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(stream: TcpStream, shared: &Mutex<Shared>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut writer = stream;
    // One request a connection, as deployed backends' clients do it.
    let asked = read(&mut reader)?;
    let mut state = lock(shared);
    let answer = state.answers.get(&asked.line).cloned();
    state.asked.push(asked);
    drop(state);
    let missing = Answer::json(404, "{\"error\":\"not found\"}");
    match answer.unwrap_or(missing) {
        Answer::Drop => None,
        Answer::Reply(status, headers, body) => {
            let mut head = format!(
                "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n",
                body.len()
            );
            for (name, value) in headers {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            writer.write_all(&[head.as_bytes(), b"\r\n", &body].concat()).ok()
        }
    }
}

fn read(reader: &mut impl BufRead) -> Option<Asked> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let line = line.trim_end().strip_suffix(" HTTP/1.1")?.to_owned();
    let mut headers = Vec::new();
    loop {
        let mut text = String::new();
        reader.read_line(&mut text).ok()?;
        let Some((name, value)) = text.trim_end().split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut asked = Asked {
        line,
        headers,
        body: Vec::new(),
    };
    let length = asked
        .header("content-length")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    asked.body = vec![0; length];
    reader.read_exact(&mut asked.body).ok()?;
    Some(asked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http;

    #[test]
    fn it_answers_as_told_and_remembers() {
        let backend = Recorded::start("127.0.0.1:0").unwrap();
        backend.answer("GET /v1/snapshot/local", Answer::sealed("AAAA"));
        backend.answer("GET /gone", Answer::Drop);
        let host = backend.address.to_string();
        let ask = |path: &str| http::exchange(&host, &http::request("GET", path, &host, &[("X-Tenant-ID", "t")], b""));
        let reply = ask("/v1/snapshot/local").unwrap();
        assert_eq!((reply.status, reply.header("x-dirless-encrypted")), (200, Some("age")));
        assert_eq!(ask("/v1/nothing").unwrap().status, 404);
        assert!(ask("/gone").is_err());
        assert_eq!(backend.count("GET /v1/snapshot/local"), 1);
        assert_eq!(backend.asked()[0].header("x-tenant-id"), Some("t"));
    }
}
