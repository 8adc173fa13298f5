//! A server of a tenant's files that says what it likes.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long it holds a connection that it does not mean to serve.
const HOLD: Duration = Duration::from_secs(60);
/// Between two bytes of a slow answer: never silent for long, and never done.
const DRIP: Duration = Duration::from_millis(300);

/// What is said about one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 200 and these bytes.
    Bytes(Vec<u8>),
    /// This status, with these header lines and this body.
    Status(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// 200, a length, and other than so many bytes; then the end of the connection.
    Length(usize, Vec<u8>),
    /// 200 and these bytes, one after another, slowly.
    Slow(Vec<u8>),
    /// The connection is held without a word.
    Silence,
    /// The connection is closed without a word.
    Drop,
    /// 200 and bytes without an end.
    Endless,
    /// Header lines without an end.
    EndlessHeader,
}

impl Answer {
    /// There is no such file.
    #[must_use]
    pub fn absent() -> Self {
        let body = br#"{"error":"there is no such object","code":"object_absent"}"#;
        Self::Status(
            404,
            vec![("Content-Type", "application/json".to_owned())],
            body.to_vec(),
        )
    }

    /// A page of a web server that is proud of itself.
    #[must_use]
    pub fn page() -> Self {
        let text = "<!doctype html><title>Welcome</title><p>Something went wrong.</p>";
        Self::Bytes(text.as_bytes().to_vec())
    }
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    /// By path; a path that ends in `/` stands for all below it.
    lies: BTreeMap<String, Answer>,
    asked: Vec<String>,
    stopped: bool,
}

/// The running server; it stops when this is dropped.
#[derive(Debug)]
pub struct Liar {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

impl Liar {
    /// Serves `folder` below `prefix` (`/` or `/v2/TENANT/`) on a port of its own, truly until told otherwise.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn start(folder: &Path, prefix: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Mutex::new(Shared {
            folder: folder.to_owned(),
            lies: BTreeMap::new(),
            asked: Vec::new(),
            stopped: false,
        }));
        let (state, prefix) = (Arc::clone(&shared), prefix.to_owned());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if lock(&state).stopped {
                    break;
                }
                let (state, prefix) = (Arc::clone(&state), prefix.clone());
                std::thread::spawn(move || serve(stream, &state, &prefix));
            }
        });
        Ok(Self { address, shared })
    }

    /// Says `answer` about `path` (`head/syncer-1`; `blob/` for everything below it) from now on.
    pub fn say(&self, path: &str, answer: Answer) {
        lock(&self.shared).lies.insert(path.to_owned(), answer);
    }

    /// Serves these bytes at `path` from now on.
    pub fn put(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.say(path, Answer::Bytes(bytes.into()));
    }

    /// No more lies.
    pub fn truth(&self) {
        lock(&self.shared).lies.clear();
    }

    /// The file at `path` as it is served now.
    ///
    /// # Errors
    /// When there is none.
    pub fn file(&self, path: &str) -> std::io::Result<Vec<u8>> {
        let shared = lock(&self.shared);
        match shared.lies.get(path) {
            Some(Answer::Bytes(bytes)) => Ok(bytes.clone()),
            _ => std::fs::read(shared.folder.join(path)),
        }
    }

    /// Every path that was asked for so far, with its method, as it came.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        lock(&self.shared).asked.clone()
    }

    /// `http://address:port`
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        lock(&self.shared).stopped = true;
        // Wakes the thread that waits for a connection.
        let _ = TcpStream::connect(self.address);
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(stream: TcpStream, shared: &Mutex<Shared>, prefix: &str) {
    let Ok(mut out) = stream.try_clone() else {
        return;
    };
    let mut reader = BufReader::new(stream);
    while let Some((method, target)) = request(&mut reader) {
        let answer = {
            let mut shared = lock(shared);
            shared.asked.push(format!("{method} {target}"));
            answer(&shared, &method, &target, prefix)
        };
        // Whoever hangs up in the middle of a lie has heard enough.
        if !matches!(tell(&mut out, answer), Ok(true)) {
            return;
        }
    }
}

/// Method and target of the next request, its body read over.
fn request(reader: &mut impl BufRead) -> Option<(String, String)> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
    let mut words = line.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok().filter(|length| *length > 0)?;
        let header = header.trim_end().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    std::io::copy(&mut reader.take(length), &mut std::io::sink()).ok()?;
    Some((method, target))
}

fn answer(shared: &Shared, method: &str, target: &str, prefix: &str) -> Answer {
    let Some(path) = target.strip_prefix(prefix) else {
        return Answer::absent();
    };
    if method == "POST" && path == "heartbeat" {
        return heartbeat(shared);
    }
    said(shared, path)
}

fn said(shared: &Shared, path: &str) -> Answer {
    let below = shared
        .lies
        .iter()
        .find(|(at, _)| at.ends_with('/') && path.starts_with(at.as_str()));
    if let Some(lie) = shared.lies.get(path).or(below.map(|(_, lie)| lie)) {
        return lie.clone();
    }
    match std::fs::read(shared.folder.join(path)) {
        Ok(bytes) => Answer::Bytes(bytes),
        Err(_) => Answer::absent(),
    }
}

/// What a backend answers to a heartbeat, no truer than the rest: the newest policy, and all heads if they can stand there.
fn heartbeat(shared: &Shared) -> Answer {
    let absent = |path: &str| matches!(said(shared, path), Answer::Status(404 | 410, ..));
    let policy = (1_u64..100)
        .take_while(|version| !absent(&format!("policy/{version}")))
        .last();
    let folder = std::fs::read_dir(shared.folder.join("head"))
        .into_iter()
        .flatten()
        .flatten();
    let names = folder.filter_map(|entry| entry.file_name().into_string().ok());
    let mut heads = Some(serde_json::Map::new());
    for name in names {
        match said(shared, &format!("head/{name}")) {
            Answer::Bytes(bytes) => match (String::from_utf8(bytes), &mut heads) {
                (Ok(text), Some(heads)) => drop(heads.insert(name, text.into())),
                _ => heads = None,
            },
            Answer::Status(404 | 410, ..) => {}
            _ => heads = None,
        }
    }
    let reply = serde_json::json!({"policy": policy, "heads": heads});
    let json = vec![("Content-Type", "application/json".to_owned())];
    Answer::Status(200, json, reply.to_string().into_bytes())
}

/// Says it; false when the connection ends with it.
fn tell(out: &mut TcpStream, answer: Answer) -> std::io::Result<bool> {
    let ok = "HTTP/1.1 200 OK\r\n";
    match answer {
        Answer::Bytes(bytes) => {
            write!(out, "{ok}Content-Length: {}\r\n\r\n", bytes.len())?;
            out.write_all(&bytes)?;
            return Ok(true);
        }
        Answer::Status(status, headers, body) => {
            write!(out, "HTTP/1.1 {status} Said So\r\n")?;
            for (name, value) in headers {
                write!(out, "{name}: {value}\r\n")?;
            }
            // Neither has a body, nor says how long it would be.
            if !matches!(status, 204 | 304) {
                write!(out, "Content-Length: {}\r\n", body.len())?;
            }
            out.write_all(b"\r\n")?;
            out.write_all(&body)?;
            return Ok(true);
        }
        Answer::Length(length, bytes) => {
            write!(out, "{ok}Content-Length: {length}\r\n\r\n")?;
            out.write_all(&bytes)?;
        }
        Answer::Slow(bytes) => {
            write!(out, "{ok}Content-Length: {}\r\n\r\n", bytes.len())?;
            for byte in bytes {
                out.write_all(&[byte])?;
                std::thread::sleep(DRIP);
            }
        }
        Answer::Silence => {
            // Ends early when the other side hangs up.
            out.set_read_timeout(Some(HOLD))?;
            let _ = out.read(&mut [0]);
        }
        Answer::Drop => {}
        Answer::Endless => {
            write!(out, "{ok}Transfer-Encoding: chunked\r\n\r\n")?;
            let chunk = format!("4000\r\n{}\r\n", "x".repeat(0x4000));
            loop {
                out.write_all(chunk.as_bytes())?;
            }
        }
        Answer::EndlessHeader => {
            out.write_all(ok.as_bytes())?;
            loop {
                out.write_all(b"X-More: and more and more and more and more and more and more and more\r\n")?;
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{exchange, request};

    fn ask(liar: &Liar, path: &str) -> crate::http::Reply {
        let address = liar.url().split_off("http://".len());
        exchange(&address, &request("GET", path, &address, &[], b"")).unwrap()
    }

    #[test]
    fn it_tells_the_truth_until_it_lies_and_then_again() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("head")).unwrap();
        std::fs::write(folder.path().join("head/a"), "true").unwrap();
        let liar = Liar::start(folder.path(), "/v2/t/").unwrap();
        assert_eq!(ask(&liar, "/v2/t/head/a").text(), "true");
        assert_eq!(ask(&liar, "/head/a").status, 404);
        liar.put("head/a", "lie");
        assert_eq!(ask(&liar, "/v2/t/head/a").text(), "lie");
        liar.say("head/", Answer::absent());
        assert_eq!(ask(&liar, "/v2/t/head/b").status, 404);
        liar.truth();
        assert_eq!(ask(&liar, "/v2/t/head/a").text(), "true");
        assert_eq!(liar.asked().len(), 5);
    }

    #[test]
    fn a_promised_length_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let liar = Liar::start(folder.path(), "/").unwrap();
        liar.say("a", Answer::Length(10, b"abc".to_vec()));
        let address = liar.url().split_off("http://".len());
        assert!(exchange(&address, &request("GET", "/a", &address, &[], b"")).is_err());
        liar.say(
            "a",
            Answer::Status(302, vec![("Location", "/b".to_owned())], Vec::new()),
        );
        assert_eq!(ask(&liar, "/a").header("location"), Some("/b"));
    }
}
