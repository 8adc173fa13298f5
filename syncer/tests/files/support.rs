//! A backend, a git checkout and the program.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dirless_backend::App;
use dirless_backend::net::{Serving, bind};
use dirless_backend::store::{Purpose, SecretHash, Store, StoreOptions};
use dirless_client::{ClientBuilder, Cycle, RetryPolicy};
use dirless_directory::{AttributeName, Dn, Filter, Schema};
use dirless_program::{Clock, Secret};
use dirless_syncer::tree::{Query, Scope, Settings, TreeError, TreeStore};
use dirless_wire::TenantId;
use tokio::sync::oneshot;

pub(crate) const TOKEN: &str = "sekret-token-1";
const TENANT: &str = "acme";

pub(crate) struct Site {
    pub(crate) folder: tempfile::TempDir,
    /// Tables of the configuration.
    pub(crate) extra: String,
    url: String,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Site {
    /// A site that is enrolled, with an empty checkout in `git/`.
    pub(crate) fn new(extra: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = dirless_program::config::parse("", Path::new("test.toml")).unwrap();
        let store = Store::open(StoreOptions::new(folder.path().join("store")), Purpose::Serve).unwrap();
        let listeners = bind("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let url = format!("http://{}", listeners[0].local_addr().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let _ = store
                    .ensure_default_realm(SecretHash::of(TOKEN.as_bytes()))
                    .await
                    .unwrap();
                let serving = Serving {
                    app: App::new(config, store, Clock::system()),
                    listeners,
                    tls: None,
                };
                serving.run(async { drop(stopped.await) }, || {}).await.unwrap();
            });
        });
        let site = Self {
            folder,
            extra: extra.to_owned(),
            url,
            stop: Some(stop),
            thread: Some(thread),
        };
        site.git(&["init", "-q", "-b", "main", site.path("git").to_str().unwrap()]);
        site.good(&["enroll"]);
        site
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file of the checkout.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path("git").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(crate) fn git(&self, arguments: &[&str]) {
        let checkout = self.path("git");
        let made = checkout.exists();
        let output = Command::new("git")
            .args([
                "-c",
                "user.name=t",
                "-c",
                "user.email=t@t",
                "-c",
                "commit.gpgsign=false",
            ])
            .args(arguments)
            .current_dir(if made { checkout } else { self.path("") })
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let text = format!(
            "[backend]\nurl = {:?}\nenrollment_token = {TOKEN:?}\ntenant_id = {TENANT:?}\n[syncer]\ninterval_seconds = 3600\n\
             key_folder = {:?}\nstate_folder = {:?}\n{}\n",
            self.url,
            self.path("keys"),
            self.path("state"),
            self.extra.replace("GIT", self.path("git").to_str().unwrap()),
        );
        std::fs::write(self.path("syncer.toml"), text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_dirless-syncer"));
        command
            .env_clear()
            .arg("--config")
            .arg(self.path("syncer.toml"))
            .args(arguments);
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that must succeed; answers with its standard output.
    pub(crate) fn good(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", both(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must end with `code`; answers with all it said.
    pub(crate) fn ends(&self, arguments: &[&str], code: i32) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", both(&output));
        both(&output)
    }

    pub(crate) fn cycle(&self) -> Cycle {
        ClientBuilder::new()
            .url(&self.url)
            .unwrap()
            .bearer(Secret::new(TOKEN.to_owned()))
            .tenant(TenantId::new(TENANT).unwrap())
            .retry(RetryPolicy::none())
            .build()
            .unwrap()
            .cycle()
    }

    /// The tree as it is now.
    pub(crate) fn tree(&self) -> TreeStore {
        let settings = Settings {
            path: self.path("state/tree.db"),
            base: Dn::parse("dc=dirless").unwrap(),
            schema: Schema::standard(),
            indexed: Vec::new(),
        };
        TreeStore::open(settings, Clock::system()).unwrap()
    }

    /// The names that a search of the whole tree finds.
    pub(crate) fn found(&self, filter: &str) -> Vec<String> {
        let store = self.tree();
        let query = Query {
            base: &Dn::parse("dc=dirless").unwrap(),
            scope: Scope::Subtree,
            filter: &Filter::parse(filter).unwrap(),
            after: None,
        };
        let page = store.search(&query, usize::MAX).unwrap();
        page.records.iter().map(|record| record.dn().to_string()).collect()
    }

    /// Values of an attribute of an entry of the tree.
    pub(crate) fn value(&self, dn: &str, attribute: &str) -> Vec<String> {
        let record = self.tree().get(&Dn::parse(dn).unwrap()).unwrap();
        let entry = record.unwrap_or_else(|| panic!("there is no {dn}")).entry();
        let entry = entry.map_err(|error: TreeError| error.to_string()).unwrap();
        let values = entry.values(&AttributeName::parse(attribute).unwrap()).iter();
        values.map(|value| value.as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

pub(crate) fn both(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Waits, for as long as the slowest machine may take.
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < end, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(50));
    }
}
