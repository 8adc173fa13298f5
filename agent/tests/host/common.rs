//! A backend that answers as it is told, however wrongly, and a host in a folder of its own.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use dirless_agent::config;
use dirless_agent::daemon::{CycleOptions, Engine, Outcome, WorkerCommand};
use dirless_agent::host::sshd_program::SshdProgram;
use dirless_agent::paths::Paths;
use dirless_program::Clock;
use dirless_seal::Identity;
use dirless_table::Table;

pub(crate) const CLOUD: &str = "GET /v1/snapshot/aws-identity-center";
pub(crate) const LOCAL: &str = "GET /v1/snapshot/local";
pub(crate) const RULES: &str = "GET /v1/snapshot/authz-config";
pub(crate) const CA: &str = "GET /v1/snapshot/ca-public-key";
pub(crate) const DUPLICATES: &str = "PUT /v1/snapshot/duplicates";
pub(crate) const HEARTBEAT: &str = "POST /v1/agent/heartbeat";
pub(crate) const SECRET: &str = "sekret-token-1";
pub(crate) const TENANT: &str = "615d1286d91a88073425f44e10dca43f4d0ec96a8c2581c7b582ad240178afac";

/// One answer.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// Status, headers, body; 304 when the request names the ETag among the headers.
    Reply(u16, Vec<(String, String)>, Vec<u8>),
    /// A stream of events that lasts as long as the other end of the channel.
    Events(Arc<Mutex<mpsc::Receiver<Vec<u8>>>>),
    /// The connection ends without a byte.
    Drop,
    /// A good beginning, and then the end in the middle of the body.
    Truncated,
    /// Bytes that are no HTTP.
    Garbage,
}

impl Answer {
    /// A stream of events, and what to write them to.
    pub(crate) fn events() -> (Self, mpsc::Sender<Vec<u8>>) {
        let (sender, receiver) = mpsc::channel();
        (Self::Events(Arc::new(Mutex::new(receiver))), sender)
    }

    pub(crate) fn json(status: u16, body: &str) -> Self {
        Self::Reply(
            status,
            vec![("Content-Type".into(), "application/json".into())],
            body.into(),
        )
    }

    /// A sealed snapshot as our own backend sends it.
    pub(crate) fn sealed(identity: &Identity, json: &str, etag: &str) -> Self {
        Self::blob(seal(identity, json), etag)
    }

    pub(crate) fn blob(body: Vec<u8>, etag: &str) -> Self {
        let headers = vec![
            ("X-Dirless-Encrypted".into(), "age".into()),
            ("ETag".into(), format!("\"{etag}\"")),
        ];
        Self::Reply(200, headers, body)
    }

    pub(crate) fn with(self, name: &str, value: &str) -> Self {
        match self {
            Self::Reply(status, mut headers, body) => {
                headers.push((name.into(), value.into()));
                Self::Reply(status, headers, body)
            }
            other => other,
        }
    }
}

pub(crate) fn seal(identity: &Identity, json: &str) -> Vec<u8> {
    let mut out = Vec::new();
    dirless_seal::seal(&identity.recipient(), &mut json.as_bytes(), &mut out).unwrap();
    out
}

/// One request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) line: String,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

#[derive(Default)]
struct Shared {
    answers: HashMap<String, Answer>,
    asked: Vec<Asked>,
}

/// The backend. It ends with the test process.
#[derive(Clone)]
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

impl Fake {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Mutex::new(Shared::default()));
        let fake = Self { address, shared };
        let server = fake.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = server.clone();
                std::thread::spawn(move || server.serve(stream));
            }
        });
        fake.answer(
            RULES,
            Answer::json(200, r#"{"enforce_group_memberships":false,"host_group_rules":[]}"#),
        );
        fake.answer(CA, Answer::json(200, r#"{"ca_public_key":null}"#));
        fake.answer(DUPLICATES, Answer::json(200, "{}"));
        fake.answer(HEARTBEAT, Answer::json(200, "{}"));
        fake
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn answer(&self, line: &str, answer: Answer) {
        self.shared.lock().unwrap().answers.insert(line.to_owned(), answer);
    }

    /// Everything that was asked since the last call.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.shared.lock().unwrap().asked)
    }

    fn serve(&self, mut stream: TcpStream) {
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        while let Some(asked) = read_request(&mut stream) {
            let answer = {
                let mut shared = self.shared.lock().unwrap();
                shared.asked.push(asked.clone());
                shared.answers.get(&asked.line).cloned()
            };
            let absent = || Answer::json(404, r#"{"error":"never written","code":"source_absent"}"#);
            if !reply(&mut stream, &asked, answer.unwrap_or_else(absent)) {
                return;
            }
        }
    }
}

fn read_request(stream: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    let mut byte = [0u8; 1];
    while !bytes.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        bytes.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&bytes).into_owned();
    let mut words = head.split_whitespace();
    let line = format!("{} {}", words.next()?, words.next()?);
    let mut asked = Asked {
        line,
        head,
        body: Vec::new(),
    };
    let length = asked
        .header("content-length")
        .and_then(|length| length.parse().ok())
        .unwrap_or(0);
    asked.body = vec![0; length];
    stream.read_exact(&mut asked.body).ok()?;
    Some(asked)
}

/// True when the connection goes on.
fn reply(stream: &mut TcpStream, asked: &Asked, answer: Answer) -> bool {
    match answer {
        Answer::Reply(status, headers, body) => {
            let tag = headers
                .iter()
                .find(|(name, _)| name == "ETag")
                .map(|(_, tag)| tag.clone());
            let same = tag.is_some() && asked.header("if-none-match") == tag.as_deref();
            let (status, body) = match (same, status) {
                (true, _) => (304, Vec::new()),
                (false, 204) => (204, Vec::new()),
                (false, _) => (status, body),
            };
            let mut text = format!("HTTP/1.1 {status} X\r\n");
            for (name, value) in &headers {
                text.push_str(&format!("{name}: {value}\r\n"));
            }
            if !matches!(status, 204 | 304) {
                text.push_str(&format!("Content-Length: {}\r\n", body.len()));
            }
            text.push_str("\r\n");
            stream.write_all(text.as_bytes()).is_ok() && stream.write_all(&body).is_ok()
        }
        Answer::Events(pieces) => {
            let head = b"HTTP/1.1 200 X\r\nContent-Type: text/event-stream\r\n\r\n";
            let mut open = stream.write_all(head).is_ok();
            let pieces = pieces.lock().unwrap();
            while open && let Ok(piece) = pieces.recv() {
                open = stream.write_all(&piece).is_ok();
            }
            false
        }
        Answer::Drop => false,
        Answer::Truncated => {
            let text = "HTTP/1.1 200 X\r\nX-Dirless-Encrypted: age\r\nContent-Length: 100000\r\n\r\nYWdlLW";
            let _ = stream.write_all(text.as_bytes());
            false
        }
        Answer::Garbage => {
            let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n\r\n");
            false
        }
    }
}

/// A host in a folder.
pub(crate) struct Host {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) paths: Paths,
    pub(crate) identity: Identity,
    pub(crate) urls: Vec<String>,
}

impl Host {
    pub(crate) fn new(urls: &[String]) -> Self {
        dirless_program::command::start();
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::under(folder.path());
        let identity = Identity::generate();
        let host = Self {
            folder,
            paths,
            identity,
            urls: urls.to_vec(),
        };
        host.write(&host.paths.passwd(), "root:x:0:0:root:/root:/bin/bash\n");
        host.write(&host.paths.group(), "root:x:0:\nsudo:x:27:\n");
        host.write(&host.paths.age_key(), &host.identity.expose());
        host.configure("interval_seconds = 1\nsplay_seconds = 0");
        host
    }

    pub(crate) fn write(&self, path: &std::path::Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        dirless_program::fs::publish(path, 0o600, text.as_bytes()).unwrap();
    }

    pub(crate) fn configure(&self, agent: &str) {
        let urls = format!("{:?}", self.urls);
        let text = format!(
            "[backend]\nurls = {urls}\n[agent]\nid = \"node-a\"\nfetch_timeout_seconds = 5\n{agent}\n[auth]\n\
             hmac_secret = \"{SECRET}\"\ntenant_id = \"{TENANT}\"\n"
        );
        self.write(&self.paths.config(), &text);
    }

    pub(crate) fn root(&self) -> String {
        self.folder.path().to_string_lossy().into_owned()
    }

    pub(crate) fn engine(&self) -> Engine {
        self.engine_with(SshdProgram::none())
    }

    pub(crate) fn engine_with(&self, sshd: SshdProgram) -> Engine {
        let config = config::load(&self.paths.config(), &self.paths, "web-1").unwrap();
        let worker = WorkerCommand {
            program: PathBuf::from(env!("CARGO_BIN_EXE_dirless-agent")),
            arguments: [
                "publish",
                "--root",
                &self.root(),
                "--config",
                &self.paths.config().to_string_lossy(),
            ]
            .map(str::to_owned)
            .to_vec(),
            timeout: Duration::from_secs(60),
        };
        Engine::new(config, self.paths.clone(), Clock::system(), worker, sshd).unwrap()
    }

    /// The table, checked to its last byte.
    pub(crate) fn table(&self) -> Option<Table> {
        let table = Table::open(&self.paths.table(), rustix::process::geteuid().as_raw()).ok()?;
        table.verify().unwrap();
        Some(table)
    }

    pub(crate) fn has(&self, user: &str) -> bool {
        self.table()
            .is_some_and(|table| matches!(table.user_by_name(user.as_bytes()), Ok(Some(_))))
    }

    /// Every file of the state with its time and number: what was written shows.
    pub(crate) fn stamps(&self) -> Vec<(PathBuf, i64, i64, u64)> {
        use std::os::unix::fs::MetadataExt;
        let mut stamps = Vec::new();
        let mut folders = vec![self.paths.state_folder()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().flatten() {
                let data = entry.metadata().unwrap();
                if data.is_dir() {
                    folders.push(entry.path());
                }
                stamps.push((entry.path(), data.mtime(), data.mtime_nsec(), data.ino()));
            }
        }
        stamps.sort();
        stamps
    }
}

pub(crate) async fn cycle(engine: &mut Engine) -> Outcome {
    engine.cycle(&CycleOptions::default(), &mut || {}).await
}

/// A snapshot with these users, numbered from `first`.
pub(crate) fn users(names: &[&str], first: u32) -> String {
    let users: Vec<String> = names
        .iter()
        .zip(first..)
        .map(|(name, uid)| {
            format!(
                r#"{{"username":"{name}","uid":{uid},"gid":{uid},"gecos":"{name}","home":"/home/{name}","shell":"/bin/bash"}}"#
            )
        })
        .collect();
    format!(r#"{{"users":[{}],"groups":[]}}"#, users.join(","))
}
