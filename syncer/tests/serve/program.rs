//! The program itself: it serves with everything else down, and ends when told to.

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use crate::support::{PATIENCE, client};

struct Home(TempDir);

impl Home {
    fn new(serve: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state").display().to_string();
        let keys = folder.path().join("keys").display().to_string();
        // Nobody listens on port 1.
        let config = format!(
            "[backend]\nurl = \"http://127.0.0.1:1\"\nenrollment_token = \"sekret\"\ntenant_id = \"acme\"\n\
             [syncer]\ninterval_seconds = 10\nstate_folder = {state:?}\nkey_folder = {keys:?}\n\
             [log]\nformat = \"text\"\n[serve]\n{serve}"
        );
        std::fs::write(folder.path().join("syncer.toml"), config).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dirless-syncer"));
        command.arg("--config").arg(self.path("syncer.toml")).args(arguments);
        command.stdin(Stdio::null());
        command
    }

    /// Runs a command to its end: code, standard output, standard error.
    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let output = self.command(arguments).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    fn token(&self, name: &str, scope: &str) -> String {
        let file = self.path(name);
        let arguments = [
            "token",
            "create",
            name,
            "--scope",
            scope,
            "--file",
            file.to_str().unwrap(),
        ];
        let (code, out, error) = self.run(&arguments);
        assert_eq!(code, Some(0), "{error}");
        assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        let token = std::fs::read_to_string(file).unwrap().trim().to_owned();
        assert!(!out.contains(&token) && token.starts_with("dsy_"));
        token
    }
}

struct Serving {
    child: Child,
    log: PathBuf,
    url: String,
}

impl Serving {
    fn start(home: &Home) -> Self {
        let log = home.path("log");
        let file = std::fs::File::create(&log).unwrap();
        let mut child = home.command(&["serve"]).stderr(file).spawn().unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = std::fs::read_to_string(&log).unwrap();
            if let Some((_, rest)) = text.split_once("serving on ") {
                let url = rest.split_whitespace().next().unwrap().to_owned();
                return Self { child, log, url };
            }
            assert!(
                child.try_wait().unwrap().is_none() && Instant::now() < deadline,
                "{text}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn stop(mut self) -> String {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        };
        let mut text = String::new();
        std::fs::File::open(&self.log)
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        assert!(status.success(), "{text}");
        text
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

#[tokio::test]
async fn it_serves_with_the_backend_down_and_ends_in_good_order() {
    let home = Home::new("listen = \"127.0.0.1:0\"\n");
    let token = home.token("ci", "read,write,sync");
    let serving = Serving::start(&home);
    let client = client(None);
    let entry = format!("{}/v1/entries/cn%3Downer%2Cou%3Droles%2Cdc%3Ddirless", serving.url);
    let body = json!({"attributes": {"objectClass": "aitherRole", "aitherPermission": ["*"]}});
    let put = client.put(&entry).bearer_auth(&token).json(&body).send().await.unwrap();
    assert_eq!(put.status(), 201);
    let read = client.get(&entry).bearer_auth(&token).send().await.unwrap();
    assert!(read.text().await.unwrap().contains("cn=ci,cn=operators"));
    let sync = client.post(format!("{}/v1/sync/all", serving.url)).bearer_auth(&token);
    let sync: serde_json::Value = serde_json::from_str(&sync.send().await.unwrap().text().await.unwrap()).unwrap();
    assert_eq!(sync["parts"][0]["outcome"], "failed", "{sync}");
    let (_, list, _) = home.run(&["token", "list", "--json"]);
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    assert!(
        list[0]["last_used_at"].is_string() && list[0]["scopes"] == json!(["read", "write", "sync"]),
        "{list}"
    );
    let (code, _, error) = home.run(&["token", "revoke", "ci"]);
    assert_eq!(code, Some(0), "{error}");
    assert_eq!(
        client.get(&entry).bearer_auth(&token).send().await.unwrap().status(),
        401
    );
    let log = serving.stop();
    assert!(!log.contains(&token) && !log.contains("sekret"), "{log}");
}

#[test]
fn tokens_are_shown_to_nobody_who_may_write_them_down() {
    let home = Home::new("");
    let (code, out, error) = home.run(&["token", "create", "ci", "--scope", "read"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(error.contains("--file"), "{error}");
    let token = home.token("ci", "read");
    let file = home.path("other");
    let twice = [
        "token",
        "create",
        "ci",
        "--scope",
        "read",
        "--file",
        file.to_str().unwrap(),
    ];
    let (code, _, error) = home.run(&twice);
    assert!(code == Some(1) && error.contains("revoke it first"), "{error}");
    let (_, list, _) = home.run(&["token", "list"]);
    assert!(
        list.contains("ci") && list.contains("good") && !list.contains(&token[21..]),
        "{list}"
    );
    let (code, _, error) = home.run(&["token", "revoke", "none"]);
    assert!(code == Some(1) && error.contains("token list"), "{error}");
}

#[test]
fn what_would_be_open_to_others_does_not_start() {
    let home = Home::new("listen = \"0.0.0.0:0\"\n");
    let (code, _, error) = home.run(&["serve"]);
    assert!(
        code == Some(78) && error.contains("serve.listen") && error.contains("[serve.tls]"),
        "{error}"
    );
}

#[test]
fn permissions_are_asked_at_the_shell_too() {
    let home = Home::new("");
    let (code, _, error) = home.run(&["permissions", "check", "alice", "a:b:c"]);
    assert!(code == Some(1) && error.contains("\"alice\""), "{error}");
    let tree = home.path("state/tree.db");
    assert!(tree.exists());
    let settings = dirless_syncer::tree::Settings {
        path: tree,
        base: dirless_directory::Dn::parse("dc=dirless").unwrap(),
        schema: dirless_directory::Schema::standard(),
        indexed: Vec::new(),
    };
    let store = dirless_syncer::tree::TreeStore::open(settings, dirless_program::Clock::system()).unwrap();
    let name = |text| dirless_directory::AttributeName::parse(text).unwrap();
    let mut role = dirless_directory::Entry::new(dirless_directory::Dn::parse("cn=r,ou=roles,dc=dirless").unwrap());
    role.add(name("objectClass"), "aitherRole".into());
    role.add(name("aitherPermission"), "a:*:*".into());
    let mut user =
        dirless_directory::Entry::new(dirless_directory::Dn::parse("uid=alice,ou=users,dc=dirless").unwrap());
    for (attribute, value) in [
        ("objectClass", "inetOrgPerson"),
        ("objectClass", "aitherUser"),
        ("cn", "Alice"),
        ("sn", "A"),
        ("aitherUserType", "human"),
        ("aitherRoles", "r"),
    ] {
        user.add(name(attribute), value.into());
    }
    let actor = dirless_syncer::tree::Actor::syncer();
    store.add(&actor, &role).unwrap();
    store.add(&actor, &user).unwrap();
    let (code, out, _) = home.run(&["permissions", "check", "alice", "a:b:c"]);
    assert_eq!(
        (code, out.as_str()),
        (
            Some(0),
            "yes\n  user uid=alice,ou=users,dc=dirless\n  has the role cn=r,ou=roles,dc=dirless\n  which allows a:*:*\n"
        )
    );
    let (code, out, _) = home.run(&["permissions", "check", "alice", "x:b:c", "--json"]);
    assert!(code == Some(12) && out.contains("\"allowed\": false"), "{out}");
}
