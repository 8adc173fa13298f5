//! A real backend with a tenant on it, its publisher and enroller played by hand, and a wire to it that counts requests.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dirless_agent::trust::request_key;
use dirless_client::{ClientBuilder, Cycle, Error, Expected, RetryPolicy};
use dirless_program::Clock;
use dirless_seal::trust::{Enroller, JoinCode, JoinRequest, Receipt};
use dirless_seal::{Content, Digest, Identity, Limits, Note, RecordKind, SigningKey, VerifyingKey};
use dirless_testkit::{Program, Running};
use dirless_wire::TenantId;
use dirless_wire::trust as wire;
use jiff::{SignedDuration, Timestamp};

use crate::support::{Tenant, at, label, manifest};

pub(crate) fn now() -> Timestamp {
    Timestamp::from_second(Clock::system().now().as_second()).unwrap()
}

/// Now, as the helper for files by hand counts.
pub(crate) fn minute() -> i64 {
    now().duration_since(at(0)).as_mins()
}

pub(crate) fn user(name: &str, uid: u32) -> String {
    format!(r#"{{"username":"{name}","uid":{uid},"gid":{uid},"gecos":"","home":"/home/{name}","shell":"/bin/bash"}}"#)
}

pub(crate) fn key_id(key: &VerifyingKey) -> wire::KeyId {
    let key: wire::PublicKey = key.to_string().parse().unwrap();
    key.id().clone()
}

/// A tenant's folder under its second policy, which is good now, and what opens join requests.
pub(crate) fn tenant_with_enroller(folder: &Path) -> (Tenant, Identity) {
    let mut tenant = Tenant::new(folder);
    let enroller = Identity::generate();
    let signer = SigningKey::generate(label("enroller-1")).unwrap();
    tenant.next_policy(|policy| {
        policy.issued = now();
        policy.expires = now() + SignedDuration::from_hours(24 * 365);
        policy.enrollers = vec![Enroller {
            key: signer.verifying().clone(),
            recipient: enroller.recipient(),
        }];
    });
    (tenant, enroller)
}

/// A join code for hosts of `tenant`, which they find at `url`.
pub(crate) fn code_for(tenant: &Tenant, url: &str, name: &str) -> JoinCode {
    JoinCode {
        url: url.to_owned(),
        tenant: tenant.id,
        roots: tenant.policy.fingerprint(),
        policy: tenant.policy.version,
        compartments: [label("all")].into(),
        code: label(name),
        secret: JoinCode::secret().unwrap(),
    }
}

/// A tenant on a backend of its own.
pub(crate) struct Site {
    pub(crate) tenant: Tenant,
    pub(crate) wire: Wire,
    pub(crate) runtime: tokio::runtime::Runtime,
    enroller: Identity,
    backend: Option<Running>,
    cycle: Cycle,
    address: SocketAddr,
    token: String,
    folder: tempfile::TempDir,
}

impl Site {
    /// With a first policy and nothing published.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (tenant, enroller) = tenant_with_enroller(&folder.path().join("tenant"));
        let (backend, address, token) = start_backend(folder.path());
        let wire = Wire::to(address);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let site = Self {
            cycle: asked_by(&tenant, &tenant.publisher, address, &runtime),
            address,
            token,
            tenant,
            wire,
            runtime,
            enroller,
            backend: Some(backend),
            folder,
        };
        site.register_publisher(site.tenant.publisher.verifying());
        site
    }

    /// What an operator does once, with a token.
    fn register_publisher(&self, key: &VerifyingKey) {
        let (address, token) = (self.address, &self.token);
        let path = format!("/v2/{}/credential/{}", self.tenant.id, key_id(key));
        let body = format!(r#"{{"key":"{key}","role":"publisher"}}"#);
        let mut stream = TcpStream::connect(address).unwrap();
        let head = format!(
            "PUT {path} HTTP/1.1\r\nHost: backend\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    }

    /// The requests of another publisher with this key, which the policy has to name.
    pub(crate) fn another_publisher(&self, key: &SigningKey) -> Cycle {
        self.register_publisher(key.verifying());
        asked_by(&self.tenant, key, self.address, &self.runtime)
    }

    /// The publisher's key names a successor: the old key says so to hosts and to the backend. The requests of the old one.
    pub(crate) fn succeed(&mut self) -> Cycle {
        self.tenant.succeed(minute());
        self.push();
        let credential = wire::CredentialRequest {
            key: self.tenant.publisher.verifying().to_string().parse().unwrap(),
            role: wire::KeyRole::Publisher,
            expires_at: None,
        };
        self.call(self.cycle.put_credential(&credential));
        let by_new = asked_by(&self.tenant, &self.tenant.publisher, self.address, &self.runtime);
        std::mem::replace(&mut self.cycle, by_new)
    }

    /// The old key signs along no more, and the backend is told so by the new one.
    pub(crate) fn end_overlap(&mut self) {
        let old = self.tenant.along.take().unwrap();
        self.call(self.cycle.delete_credential(&key_id(old.verifying())));
    }

    pub(crate) fn kill_backend(&mut self) {
        self.backend.take().unwrap().kill().unwrap();
    }

    fn call<T>(&self, call: impl Future<Output = Result<T, Error>>) -> T {
        self.runtime.block_on(call).unwrap()
    }

    /// Brings everything that was made by hand to the backend, heads last.
    pub(crate) fn push(&self) {
        let mut paths = Vec::new();
        list(&self.tenant.folder, "", &mut paths);
        paths.sort_by_key(|path| path.starts_with("head/"));
        for path in paths {
            let bytes = fs::read(self.tenant.folder.join(&path)).unwrap();
            let object: wire::ObjectPath = path.parse().unwrap();
            let mut stored = Vec::new();
            let before = self.call(self.cycle.get_object(&object, None, 1 << 20, &mut stored));
            let expected = match before {
                _ if !object.is_mutable() => Expected::Anything,
                dirless_client::Fetched::Body(body) => Expected::Tag(body.etag.unwrap()),
                _ => Expected::Absent,
            };
            self.call(self.cycle.put_object(&object, bytes.into(), &expected));
        }
    }

    /// Publishes these people, and brings it to the backend.
    pub(crate) fn publish(&mut self, source: &str, people: &[(&str, u32)]) {
        let users: Vec<String> = people.iter().map(|(name, uid)| user(name, *uid)).collect();
        let mut content = Content::default();
        users
            .iter()
            .for_each(|user| content.add(RecordKind::User.leaf(user.as_bytes())));
        let text = format!(r#"{{"users":[{}]}}"#, users.join(","));
        let mut made = self.tenant.stage(source, &text, minute());
        self.tenant.manifests.retain(|note| manifest(note) != made);
        made.content = content.root();
        self.tenant.put_manifest(&made);
        self.sign_head();
    }

    /// The head once more, as each minute.
    pub(crate) fn sign_head(&mut self) {
        self.tenant.sign_head(minute());
        self.push();
    }

    /// A join code that the backend knows.
    pub(crate) fn code(&self, name: &str, uses: u32) -> JoinCode {
        let code = code_for(&self.tenant, &self.wire.url(), name);
        let bearer = code.secret.bearer(code.tenant, &code.code);
        let seconds = u64::try_from(now().as_second()).unwrap() + 3600;
        let request = wire::JoinCodeRequest {
            bearer: Digest::of(bearer.as_bytes()).to_string().parse().unwrap(),
            expires_at: wire::Time::from_unix_seconds(seconds).unwrap(),
            uses,
        };
        self.call(self.cycle.put_join_code(&name.parse().unwrap(), &request));
        code
    }

    /// How many requests wait.
    pub(crate) fn waiting(&self) -> usize {
        self.call(self.cycle.get_mailbox()).requests.len()
    }

    /// Takes all requests out of the mailbox, and admits nobody.
    pub(crate) fn empty_mailbox(&self) {
        for waiting in self.call(self.cycle.get_mailbox()).requests {
            self.call(self.cycle.delete_join_request(&waiting.code, &waiting.request));
        }
    }

    /// Ends a join code.
    pub(crate) fn end_code(&self, code: &JoinCode) {
        let label = code.code.as_str().parse().unwrap();
        self.call(self.cycle.delete_join_code(&label));
    }

    /// Admits whoever waits with `code`: the keys of the new nodes.
    pub(crate) fn admit(&mut self, code: &JoinCode) -> Vec<VerifyingKey> {
        let mut admitted = Vec::new();
        for waiting in self.call(self.cycle.get_mailbox()).requests {
            let sealed = self.call(self.cycle.get_join_request(&waiting.code, &waiting.request));
            let mut note = Vec::new();
            dirless_seal::open_file(&self.enroller, sealed.unwrap().as_slice(), Limits::default())
                .unwrap()
                .read_to_end(&mut note)
                .unwrap();
            let note = Note::parse(&note, 4096).unwrap();
            let request = JoinRequest::read(&note).unwrap();
            request.check(&note, self.tenant.id, &code.secret).unwrap();
            self.tenant.wrap(request.key.name(), &request.recipient);
            self.tenant.nodes.push((request.key.name().clone(), request.recipient));
            self.push();
            let credential = wire::CredentialRequest {
                key: request.key.to_string().parse().unwrap(),
                role: wire::KeyRole::Node,
                expires_at: None,
            };
            self.call(self.cycle.put_credential(&credential));
            self.call(self.cycle.delete_join_request(&waiting.code, &waiting.request));
            admitted.push(request.key);
        }
        admitted
    }

    /// Loses all bodies, until they are pushed again.
    pub(crate) fn lose_bodies(&self) {
        let mut paths = Vec::new();
        list(&self.tenant.folder, "", &mut paths);
        for path in paths.iter().filter(|path| path.starts_with("blob/")) {
            self.call(self.cycle.delete_object(&path.parse().unwrap()));
        }
    }

    pub(crate) fn revoke(&self, node: &VerifyingKey) {
        self.call(self.cycle.delete_credential(&key_id(node)));
    }

    /// What `node` says that it applied.
    pub(crate) fn receipt(&self, node: &VerifyingKey) -> Option<Receipt> {
        use base64::Engine as _;
        let list = self.call(self.cycle.get_receipts(None));
        let reply = list.receipts.into_iter().find(|reply| reply.node == key_id(node))?;
        let bytes = base64::engine::general_purpose::STANDARD.decode(reply.receipt).unwrap();
        // A heartbeat without a receipt is a sign of life alone.
        let note = Note::parse(&bytes, 16 * 1024).ok()?;
        Some(Receipt::accept(self.tenant.id, node, &note).unwrap())
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// Requests of the publisher with this key.
fn asked_by(tenant: &Tenant, key: &SigningKey, address: SocketAddr, runtime: &tokio::runtime::Runtime) -> Cycle {
    let _inside = runtime.enter();
    let client = ClientBuilder::new()
        .url(&format!("http://{address}"))
        .unwrap()
        .tenant(TenantId::new(&tenant.id.to_string()).unwrap())
        .key(request_key(SigningKey::parse(&key.expose()).unwrap()))
        .retry(RetryPolicy::none())
        .build();
    client.unwrap().cycle()
}

fn start_backend(folder: &Path) -> (Running, SocketAddr, String) {
    let config = folder.join("backend.toml");
    let store = folder.join("store");
    let text = format!(
        "[server]\nport = 0\nworkers = 1\n[storage]\npath = \"{}\"\n[hmac]\nsecret_file = \"{}\"\n",
        store.display(),
        folder.join("secret").display()
    );
    private(&config, &text);
    private(&folder.join("secret"), "sekret-token-1");
    let program = || Program::ours("dirless-backend").unwrap().arg("--config").arg(&config);
    let create = ["token", "create", "--label", "test", "--scope", "tenants"];
    let said = program().args(create).succeed().unwrap();
    let token = said.lines().last().unwrap().to_owned();
    let running = program().arg("run").serve().unwrap();
    let ready = running.ready().to_owned();
    let address = ready
        .split("http://")
        .nth(1)
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap();
    (running, address.parse().unwrap(), token)
}

pub(crate) fn private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn list(folder: &Path, prefix: &str, paths: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type().unwrap().is_dir() {
            list(&entry.path(), &format!("{name}/"), paths);
        } else {
            paths.push(name);
        }
    }
}

/// Carries bytes to a server and counts the requests in them.
pub(crate) struct Wire {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
}

impl Wire {
    fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let Ok(upstream) = TcpStream::connect(server) else {
                    continue;
                };
                let (back, forth) = (stream.try_clone().unwrap(), upstream.try_clone().unwrap());
                let counted = Arc::clone(&counted);
                std::thread::spawn(move || carry(stream, forth, Some(&counted)));
                std::thread::spawn(move || carry(upstream, back, None));
            }
        });
        Self { address, requests }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many requests `run` sends.
    pub(crate) fn count<T>(&self, run: impl FnOnce() -> T) -> (T, usize) {
        let before = self.requests();
        let done = run();
        (done, self.requests() - before)
    }

    /// How many requests were sent until now.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, counted: Option<&AtomicUsize>) {
    let mut piece = [0; 1 << 16];
    while let Ok(length) = from.read(&mut piece) {
        let bytes = &piece[..length];
        if let Some(counted) = counted {
            // A client sends a head in one piece.
            let heads = bytes.windows(11).filter(|window| window == b" HTTP/1.1\r\n").count();
            counted.fetch_add(heads, Ordering::SeqCst);
        }
        if length == 0 || to.write_all(bytes).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
