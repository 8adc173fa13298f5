//! A whole site for the program under test: a stand-in for AWS, a small backend that remembers
//! what it is sent, and the folders and configuration of one syncer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use dirless_program::Clock;
use dirless_seal::{Identity, Limits, sha256_hex};
use dirless_syncer::config::Config;
use dirless_syncer::tree::TreeStore;
use dirless_testkit::aws::{Directory, IdentityCenter, Imds};
use serde_json::Value;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

pub const ACCOUNT: &str = "123456789012";
pub const TOKEN: &str = "sekret-token-1";
pub const TENANT: &str = "615d1286d91a88073425f44e10dca43f4d0ec96a8c2581c7b582ad240178afac";

/// What the backend remembers and how it behaves.
#[derive(Default)]
pub struct Memory {
    pub snapshot: Option<Vec<u8>>,
    pub headers: BTreeMap<String, String>,
    pub enrolled: Vec<Value>,
    pub puts: u64,
    pub gets: u64,
    pub refuse_enrolment: Option<(u16, String)>,
    pub refuse_put: Option<u16>,
    pub put_delay: std::time::Duration,
    pub etags: bool,
    /// Written by somebody else just before the next put.
    pub overtake: Option<Vec<u8>>,
    /// What it holds of the tree and of accounts entered into it, by source.
    pub of_tree: BTreeMap<String, Vec<u8>>,
    pub puts_of_tree: u64,
    /// Answers nothing about them.
    pub refuse_tree: bool,
}

#[derive(Clone)]
struct Answer(Arc<Mutex<Memory>>);

impl Respond for Answer {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let mut memory = self.0.lock().unwrap();
        let header = |name: &str| {
            request
                .headers
                .get(name)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(header("authorization").as_deref(), Some("Bearer sekret-token-1"));
        let path = request.url.path();
        match (request.method.as_str(), path) {
            ("POST", "/v1/enrollment/enroll") => {
                if let Some((status, body)) = &memory.refuse_enrolment {
                    return ResponseTemplate::new(*status).set_body_raw(body.clone(), "application/json");
                }
                memory.enrolled.push(serde_json::from_slice(&request.body).unwrap());
                ResponseTemplate::new(200).set_body_raw("{\"status\": \"enrolled\"}", "application/json")
            }
            ("GET", "/v1/snapshot/aws-identity-center") => {
                assert_eq!(header("x-tenant-id").as_deref(), Some(TENANT));
                memory.gets += 1;
                let Some(body) = &memory.snapshot else {
                    return ResponseTemplate::new(404).set_body_raw("{\"error\":\"none\"}", "application/json");
                };
                let etag = format!("\"{}\"", sha256_hex(body));
                if memory.etags && header("if-none-match").as_deref() == Some(&etag) {
                    return ResponseTemplate::new(304).insert_header("etag", etag.as_str());
                }
                let answer = ResponseTemplate::new(200)
                    .insert_header("x-dirless-encrypted", "age")
                    .set_body_bytes(body.clone());
                if memory.etags {
                    answer.insert_header("etag", etag.as_str())
                } else {
                    answer
                }
            }
            ("PUT", "/v1/snapshot/aws-identity-center") => {
                if let Some(status) = memory.refuse_put {
                    return ResponseTemplate::new(status);
                }
                assert_eq!(header("x-tenant-id").as_deref(), Some(TENANT));
                if !memory.put_delay.is_zero() {
                    return ResponseTemplate::new(200).set_delay(memory.put_delay);
                }
                if let Some(body) = memory.overtake.take() {
                    memory.snapshot = Some(body);
                }
                let stored = memory.snapshot.as_ref().filter(|_| memory.etags);
                let stored = stored.map(|body| format!("\"{}\"", sha256_hex(body)));
                let changed = header("if-match").is_some_and(|tag| stored.as_ref() != Some(&tag))
                    || (header("if-none-match").as_deref() == Some("*") && stored.is_some());
                if changed {
                    let body = "{\"error\":\"changed\",\"code\":\"precondition_failed\"}";
                    return ResponseTemplate::new(412).set_body_raw(body, "application/json");
                }
                memory.puts += 1;
                memory.snapshot = Some(request.body.clone());
                for (name, value) in &request.headers {
                    memory
                        .headers
                        .insert(name.to_string(), value.to_str().unwrap().to_owned());
                }
                let etag = format!("\"{}\"", sha256_hex(&request.body));
                let answer = ResponseTemplate::new(200).set_body_raw("{\"status\":\"ok\"}", "application/json");
                if memory.etags {
                    answer.insert_header("etag", etag.as_str())
                } else {
                    answer
                }
            }
            ("GET", "/v1/snapshot/authz-config") => {
                let rules = "{\"enforce_group_memberships\":false,\"host_group_rules\":[]}";
                ResponseTemplate::new(200).set_body_raw(rules, "application/json")
            }
            ("GET", "/v1/snapshot/local") => {
                ResponseTemplate::new(404).set_body_raw("{\"error\":\"none\"}", "application/json")
            }
            ("GET", "/v1/health") => ResponseTemplate::new(200).set_body_raw("{\"status\":\"ok\"}", "application/json"),
            (method, path) if of_tree(path).is_some() => memory.of_tree(method, of_tree(path).unwrap(), request),
            (method, path) => panic!("the syncer must not ask for {method} {path}"),
        }
    }
}

/// The source that `path` is about, when it is one of the tree's.
fn of_tree(path: &str) -> Option<&str> {
    let source = path.strip_prefix("/v1/snapshot/")?;
    (source == "directory" || source.starts_with("tree")).then_some(source)
}

impl Memory {
    fn of_tree(&mut self, method: &str, source: &str, request: &Request) -> ResponseTemplate {
        let tag = |body: &[u8]| format!("\"{}\"", sha256_hex(body));
        if self.refuse_tree {
            return ResponseTemplate::new(503);
        }
        if method == "PUT" {
            self.of_tree.insert(source.to_owned(), request.body.clone());
            self.puts_of_tree += 1;
            return ResponseTemplate::new(200).insert_header("etag", tag(&request.body).as_str());
        }
        let Some(body) = self.of_tree.get(source) else {
            return ResponseTemplate::new(404).set_body_raw("{\"error\":\"none\"}", "application/json");
        };
        let known = request
            .headers
            .get("if-none-match")
            .map(|value| value.to_str().unwrap());
        let answer = ResponseTemplate::new(if known == Some(&tag(body)) { 304 } else { 200 });
        let answer = answer.insert_header("etag", tag(body).as_str());
        if known == Some(&tag(body)) {
            return answer;
        }
        answer
            .insert_header("x-dirless-encrypted", "age")
            .set_body_bytes(body.clone())
    }
}

/// A backend in memory.
pub struct Backend {
    memory: Arc<Mutex<Memory>>,
    server: MockServer,
    runtime: tokio::runtime::Runtime,
}

impl Backend {
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let memory = Arc::new(Mutex::new(Memory {
            etags: true,
            ..Memory::default()
        }));
        let answer = Answer(Arc::clone(&memory));
        let server = runtime.block_on(async {
            let server = MockServer::start().await;
            Mock::given(any()).respond_with(answer).mount(&server).await;
            server
        });
        Self {
            memory,
            server,
            runtime,
        }
    }

    pub fn with<T>(&self, work: impl FnOnce(&mut Memory) -> T) -> T {
        work(&mut self.memory.lock().unwrap())
    }

    pub fn puts(&self) -> u64 {
        self.with(|memory| memory.puts)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        // The server's own clean-up wants a runtime around it.
        let _guard = self.runtime.enter();
        self.with(|_| ());
    }
}

/// Everything together.
pub struct Site {
    pub folder: tempfile::TempDir,
    pub aws: IdentityCenter,
    pub imds: Imds,
    pub backend: Backend,
    pub extra: String,
}

impl Site {
    /// A site that is not enrolled yet.
    pub fn bare(directory: Directory) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            aws: IdentityCenter::start(directory).unwrap(),
            imds: Imds::start(ACCOUNT, "eu-west-1").unwrap(),
            backend: Backend::start(),
            extra: String::new(),
        }
    }

    /// A site that is enrolled.
    pub fn new(directory: Directory) -> Self {
        let site = Self::bare(directory);
        site.good(&["enroll"]);
        site
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes the configuration: the deployed file, this site's folders, and [`Site::extra`].
    pub fn configure(&self) -> PathBuf {
        let text = format!(
            "[backend]\nurl = {:?}\nenrollment_token = {TOKEN:?}\n[syncer]\ninterval_seconds = 10\nkey_folder = \
             {:?}\nstate_folder = {:?}\n{}\n",
            self.backend.server.uri(),
            self.path("keys"),
            self.path("state"),
            self.extra
        );
        let path = self.path("syncer.toml");
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The program, ready to run in this site.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dirless-syncer"));
        command
            .env_clear()
            .env("AWS_ENDPOINT_URL", self.aws.url())
            .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", self.imds.url())
            .arg("--config")
            .arg(self.configure())
            .args(arguments);
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that must succeed; answers with its standard output.
    pub fn good(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", both(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must end with `code`; answers with all it said.
    pub fn ends(&self, arguments: &[&str], code: i32) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", both(&output));
        both(&output)
    }

    pub fn identity(&self) -> Identity {
        Identity::parse(&std::fs::read_to_string(self.path("keys/age.key")).unwrap()).unwrap()
    }

    /// What the backend holds, opened as a host would.
    pub fn published(&self) -> Value {
        let sealed = self
            .backend
            .with(|memory| memory.snapshot.clone())
            .expect("something is published");
        self.opened(&sealed)
    }

    /// The same of a source of the tree.
    pub fn published_of_tree(&self, source: &str) -> Value {
        let sealed = self.backend.with(|memory| memory.of_tree.get(source).cloned());
        self.opened(&sealed.expect("it is published"))
    }

    fn opened(&self, sealed: &[u8]) -> Value {
        let mut opened = dirless_seal::open(&self.identity(), sealed, Limits::default()).unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut opened, &mut text).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// The tree, as `dirless-syncer serve` opens it.
    pub fn tree(&self) -> TreeStore {
        let config = Config::load(&self.configure()).unwrap();
        config.tree.open(&self.path("state"), Clock::system()).unwrap()
    }

    /// Name to number of what is published, groups with an `@` in front.
    pub fn numbers(&self) -> BTreeMap<String, u64> {
        let snapshot = self.published();
        let list = |key: &str| snapshot[key].as_array().unwrap().clone();
        let users = list("users").into_iter().map(|user| {
            let name = user["username"].as_str().unwrap().to_owned();
            (name, user["uid"].as_u64().unwrap())
        });
        let groups = list("groups").into_iter().map(|group| {
            let name = format!("@{}", group["name"].as_str().unwrap());
            (name, group["gid"].as_u64().unwrap())
        });
        users.chain(groups).collect()
    }
}

/// Standard output and error of a program that ended.
pub fn both(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Seals `json` to the site's own key, as a deployed syncer would have.
pub fn seal(identity: &Identity, json: &str) -> Vec<u8> {
    let mut sealed = Vec::new();
    dirless_seal::seal(&identity.recipient(), &mut json.as_bytes(), &mut sealed).unwrap();
    sealed
}

/// A few people and groups.
pub fn few() -> Directory {
    let mut directory = Directory::default();
    directory.user("u-1", "Alice@corp.example");
    directory.user("u-2", "bob");
    directory.user("u-3", "carol");
    directory.group("g-1", "Engineering Team", &["u-1", "u-2"]);
    directory.group("g-2", "ops", &["u-3"]);
    directory
}

/// Sets `key` of a JSON file of the state folder.
pub fn patch(path: &Path, key: &str, to: Value) {
    let mut value: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    value[key] = to;
    std::fs::write(path, value.to_string()).unwrap();
}
