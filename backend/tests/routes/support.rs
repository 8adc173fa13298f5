//! A server of its own for each test, and a client that sends exactly the bytes it is given.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use dirless_backend::App;
use dirless_backend::config::Config;
use dirless_backend::net::{Serving, Tls, bind};
use dirless_backend::store::{
    NewRealm, NewToken, Purpose, RealmChange, RealmName, Scope, SecretHash, Store, StoreOptions, TokenCreation, TokenId,
};
use dirless_program::Clock;
use tempfile::TempDir;
use tokio::sync::oneshot;

pub(crate) const SECRET: &str = "sekret-token-1";
pub(crate) const OTHER_SECRET: &str = "sekret-token-2";
pub(crate) const TENANT: &str = "615d1286d91a88073425f44e10dca43f4d0ec96a8c2581c7b582ad240178afac";
pub(crate) const KEY: &str = "age17vcec9dhw5cu4l58hx8a5pwxktryh9ej5ttqzl5gyqc2hnefkawq8pm37s";
pub(crate) const OTHER_KEY: &str = "age1sc4gd6wwdn3mfcc9r26lmeh0ze0l67artuy6gjp73ztafn3amensnq6mr6";
/// Begins like base64 of an age file; nothing looks further.
pub(crate) const SEALED: &str =
    "YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IFgyNTUxOSB1bmxTMmNKYXZ2SzloMDVEQ2d3VktxY2YyZlUrZmlZRGVqNE54";

pub(crate) struct Site {
    pub(crate) address: SocketAddr,
    pub(crate) store: Store,
    pub(crate) app: Arc<App>,
    _folder: TempDir,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Site {
    /// With the default configuration and two realms.
    pub(crate) fn start() -> Self {
        Self::with("")
    }

    /// The same with `TENANT` enrolled.
    pub(crate) fn enrolled() -> Self {
        Self::enrolled_with("")
    }

    pub(crate) fn enrolled_with(toml: &str) -> Self {
        let site = Self::with(toml);
        site.enroll(SECRET, TENANT, KEY).expect_status(200);
        site
    }

    pub(crate) fn with(toml: &str) -> Self {
        Self::launch(toml, None)
    }

    pub(crate) fn launch(toml: &str, tls: Option<Arc<Tls>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config: Config = dirless_program::config::parse(toml, Path::new("test.toml")).unwrap();
        config.validate(Path::new("test.toml")).unwrap();
        let store = Store::open(StoreOptions::new(folder.path().join("store")), Purpose::Serve).unwrap();
        block_on(async {
            let first = store
                .ensure_default_realm(SecretHash::of(SECRET.as_bytes()))
                .await
                .unwrap();
            assert_eq!(first, RealmChange::Done);
            let name = RealmName::parse("other").unwrap();
            let other = store
                .create_realm(&name, SecretHash::of(OTHER_SECRET.as_bytes()))
                .await
                .unwrap();
            assert_eq!(other, NewRealm::Created);
        });
        let listeners = bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        let address = listeners[0].local_addr().unwrap();
        let app = App::new(config, store.clone(), Clock::system());
        let serving = Serving {
            app: Arc::clone(&app),
            listeners,
            tls,
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            block_on(serving.run(async { drop(stopped.await) }, || {})).unwrap();
        });
        Self {
            address,
            store,
            app,
            _folder: folder,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Asks the server to stop, without waiting.
    pub(crate) fn ask_to_stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// Sends bytes on a new connection and reads one answer.
    pub(crate) fn exchange(&self, bytes: &[u8]) -> Reply {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        Reply::read(&mut stream, false)
    }

    pub(crate) fn enroll(&self, secret: &str, tenant: &str, key: &str) -> Reply {
        let body = format!(r#"{{"tenant_id":"{tenant}","age_public_key":"{key}"}}"#);
        ask("POST", "/v1/enrollment/enroll")
            .bearer(secret)
            .body(body)
            .send(self)
    }

    pub(crate) fn put(&self, source: &str, body: &str) -> Reply {
        ask("PUT", &format!("/v1/snapshot/{source}"))
            .tenant(SECRET, TENANT)
            .header("X-Dirless-Recipient", KEY)
            .body(body)
            .send(self)
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        ask("GET", path).tenant(SECRET, TENANT).send(self)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.ask_to_stop();
        let ended = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            ended.unwrap();
        }
    }
}

pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

/// Waits until `condition` holds, ten seconds at most.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let started = std::time::Instant::now();
    while !condition() {
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "not within ten seconds: {what}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A request in the making.
#[derive(Clone)]
pub(crate) struct Ask {
    head: String,
    method: String,
    body: Option<Vec<u8>>,
}

pub(crate) fn ask(method: &str, path: &str) -> Ask {
    Ask {
        head: format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n"),
        method: method.to_owned(),
        body: None,
    }
}

impl Ask {
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.head.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    pub(crate) fn bearer(self, secret: &str) -> Self {
        self.header("Authorization", &format!("Bearer {secret}"))
    }

    pub(crate) fn tenant(self, secret: &str, tenant: &str) -> Self {
        self.bearer(secret).header("X-Tenant-ID", tenant)
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.head.clone().into_bytes();
        if let Some(body) = &self.body {
            bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
            bytes.extend_from_slice(body);
        } else {
            bytes.extend_from_slice(b"\r\n");
        }
        bytes
    }

    pub(crate) fn send(&self, site: &Site) -> Reply {
        let mut stream = site.connect();
        self.send_on(&mut stream)
    }

    pub(crate) fn send_on<S: Read + Write>(&self, stream: &mut S) -> Reply {
        stream.write_all(&self.bytes()).unwrap();
        Reply::read(stream, self.method == "HEAD")
    }
}

/// An answer taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// Reads one answer, and not a byte more.
    pub(crate) fn read(stream: &mut impl Read, head_only: bool) -> Self {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            assert_eq!(
                stream.read(&mut byte).unwrap(),
                1,
                "closed after {:?}",
                String::from_utf8_lossy(&head)
            );
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status: u16 = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<_> = lines
            .map(|line| line.split_once(':').unwrap())
            .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
            .collect();
        let length = headers
            .iter()
            .find(|(name, _)| name == "content-length")
            .map_or(0, |(_, value)| value.parse().unwrap());
        let mut body = vec![0; if head_only || status == 304 { 0 } else { length }];
        stream.read_exact(&mut body).unwrap();
        Self { status, headers, body }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn expect_status(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        self
    }

    /// That it is an error with this status and code, in JSON.
    pub(crate) fn expect_error(self, status: u16, code: &str) -> serde_json::Value {
        let reply = self.expect_status(status);
        let json = reply.json();
        assert_eq!(json["code"], code, "{json}");
        assert!(!json["error"].as_str().unwrap().is_empty());
        json
    }

    /// The answer without what differs from one request to the next.
    pub(crate) fn lasting(mut self) -> Self {
        self.headers
            .retain(|(name, _)| name != "date" && name != "x-request-id");
        self.headers.sort();
        self
    }
}

impl Site {
    /// Makes an operator's token and gives its secret.
    pub(crate) fn token(&self, scopes: &[Scope], realm: Option<&str>) -> String {
        let random = ring::rand::SystemRandom::new();
        let id = TokenId::generate(&random).unwrap();
        let secret = format!("token-{}", id.as_str());
        let new = NewToken {
            id,
            label: "test".to_owned(),
            scopes: scopes.to_vec(),
            realm: realm.map(|name| RealmName::parse(name).unwrap()),
            expires_at: None,
            secret: SecretHash::of(secret.as_bytes()),
        };
        assert_eq!(block_on(self.store.create_token(new)).unwrap(), TokenCreation::Created);
        secret
    }
}
