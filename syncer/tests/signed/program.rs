//! The program itself, with no backend at all.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dirless_seal::trust::{Enroller, JoinCode, Policy, Publisher};
use dirless_syncer::signed::{Custody, Folder};

use crate::at_backend::Site as Server;
use crate::support::{Place, *};

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A tenant whose syncer is the program.
pub(crate) struct Site {
    pub(crate) tenant: Tenant,
    folder: tempfile::TempDir,
    more: String,
}

impl Site {
    pub(crate) fn new(more: &str) -> Self {
        Self::of(Tenant::new(), more)
    }

    fn of(tenant: Tenant, more: &str) -> Self {
        let site = Self {
            folder: tempfile::tempdir().unwrap(),
            tenant,
            more: more.to_owned(),
        };
        std::fs::create_dir(site.path("people")).unwrap();
        site.people(&["ann", "bob"]);
        std::fs::write(
            site.path("people/rules.yaml"),
            "access:\n  enforce: false\n  rules:\n    - {group: eng, hosts: [web-1]}\n",
        )
        .unwrap();
        let lines = site.good(&["signing", "init", "syncer-1"]);
        site.tenant.put_policy(&site.policy(&lines));
        site
    }

    /// The same at a backend.
    pub(crate) fn at_backend(more: &str) -> Self {
        let mut site = Self::new(more);
        let text = std::fs::read_to_string(site.path("keys/publisher.key")).unwrap();
        let key = dirless_seal::SigningKey::parse(text.trim()).unwrap();
        let policy = site.tenant.folder().join("policy/1");
        let policy = std::fs::read(policy).unwrap();
        let backend = Server::start(site.tenant.id, &key, &dirless_program::Clock::system());
        backend.operator().create(&[("policy/1".to_owned(), policy)]).unwrap();
        site.tenant.place = Place::Backend(Arc::new(backend));
        site
    }

    fn place(&self) -> String {
        match &self.tenant.place {
            Place::Folder => format!(
                "folder = {:?}\nurl = \"https://dirless.example.com\"",
                self.tenant.folder()
            ),
            Place::Backend(site) => format!("urls = [\"http://127.0.0.1:1\", {:?}]", site.url()),
        }
    }

    /// The policy that an operator makes of the printed lines.
    fn policy(&self, lines: &str) -> Policy {
        let mut policy = self.tenant.policy();
        policy.issued = jiff::Timestamp::from_second(now().as_second()).unwrap();
        policy.expires = policy.issued + jiff::SignedDuration::from_hours(24);
        let words: Vec<Vec<&str>> = lines.lines().map(|line| line.split(' ').collect()).collect();
        assert_eq!((words[0][0], words[1][0]), ("publisher", "enroller"), "{lines}");
        let mut scope = policy.publishers[0].scope.clone();
        scope.sources.insert(label("people"));
        scope.ids = vec!["1000-2147483647".parse().unwrap()];
        policy.publishers = vec![Publisher {
            key: words[0][1].parse().unwrap(),
            scope,
        }];
        policy.enrollers = vec![Enroller {
            key: words[1][1].parse().unwrap(),
            recipient: words[1][2].parse().unwrap(),
        }];
        policy
    }

    /// Adds to the configuration.
    pub(crate) fn more(&mut self, more: &str) {
        self.more.push('\n');
        self.more.push_str(more);
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn people(&self, names: &[&str]) {
        let lines: String = names.iter().map(|name| format!("  - {{name: {name}}}\n")).collect();
        let text = format!("people:\n{lines}groups:\n  - {{name: eng, members: [ann]}}\n");
        std::fs::write(self.path("people/people.yaml"), text).unwrap();
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let text = format!(
            "[syncer]\ninterval_seconds = 10\nkey_folder = {:?}\nstate_folder = {:?}\n\
             [[source]]\nkind = \"files\"\nname = \"people\"\nfolder = {:?}\naccess = true\n\
             [log]\nformat = \"text\"\n\
             [signed]\n{}\nroots = \"{}\"\ntenant = \"{}\"\n{}\n",
            self.path("keys"),
            self.path("state"),
            self.path("people"),
            self.place(),
            self.tenant.policy().fingerprint(),
            self.tenant.id,
            self.more,
        );
        std::fs::write(self.path("syncer.toml"), text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_dirless-syncer"));
        command
            .env_clear()
            .arg("--config")
            .arg(self.path("syncer.toml"))
            .args(arguments);
        command.stdin(Stdio::null());
        command
    }

    pub(crate) fn ends(&self, arguments: &[&str]) -> (bool, String) {
        let output = self.command(arguments).output().unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        (output.status.success(), text.concat())
    }

    pub(crate) fn good(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// For the only compartment.
    pub(crate) fn code(&self, name: &str) -> JoinCode {
        self.code_with(name, &[])
    }

    fn code_with(&self, name: &str, more: &[&str]) -> JoinCode {
        let out = self.path(name);
        let create = ["join-code", "create", "--out", out.to_str().unwrap()];
        let said = self.good(&[&create[..], more].concat());
        let text = std::fs::read_to_string(out).unwrap();
        assert!(!said.contains(text.trim()), "the secret was printed");
        JoinCode::parse(&text).unwrap()
    }

    /// A request of this host, sealed to the program's own enroller.
    pub(crate) fn ask(&self, host: &Host, code: &JoinCode, name: &str) {
        let identity = std::fs::read_to_string(self.path("keys/enroller.age")).unwrap();
        let to = dirless_seal::Identity::parse(&identity).unwrap().recipient();
        host.ask_sealed(&self.tenant, code, name, &to, now());
    }

    pub(crate) fn look(&self, host: &mut Host) -> Result<Seen, String> {
        host.look(&self.tenant.folder(), now())
    }
}

pub(crate) fn now() -> jiff::Timestamp {
    dirless_program::Clock::system().now()
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn it_publishes_lets_in_and_locks_out_in_a_folder() {
    publishes_lets_in_and_locks_out(&Site::new(""));
}

#[test]
fn it_publishes_lets_in_and_locks_out_at_a_backend() {
    let site = Site::at_backend("");
    publishes_lets_in_and_locks_out(&site);
    assert!(site.code("three").url.starts_with("http://127.0.0.1:"));
}

fn publishes_lets_in_and_locks_out(site: &Site) {
    assert!(site.good(&["check"]).contains("publisher syncer-1"));
    let said = site.good(&["once"]);
    assert!(
        said.contains("signed version 1 of people for all") && said.contains("of access-rules"),
        "{said}"
    );
    assert!(site.good(&["once"]).contains("nothing changed"));

    let (ok, said) = site.ends(&["join-code", "create"]);
    assert!(!ok && said.contains("no terminal"), "{said}");
    let (mut one, mut two) = (Host::new(&site.tenant, "all"), Host::new(&site.tenant, "all"));
    site.ask(&one, &site.code("one"), "web-1");
    let said = site.good(&["node", "admit"]);
    assert!(said.contains("admitted web-1 as"), "{said}");
    let seen = site.look(&mut one).unwrap();
    assert!(
        seen["people"].contains("\"ann\"") && seen["access-rules"].contains("web-1"),
        "{seen:?}"
    );

    // While it runs: a host comes in, a change is published, and another command locks a host out.
    let code = site.code("two");
    let log = std::fs::File::create(site.path("log")).unwrap();
    let _running = Running(site.command(&["run"]).stderr(log).spawn().unwrap());
    site.ask(&two, &code, "web-2");
    until("joining", || site.look(&mut two).is_ok());
    site.people(&["ann", "bob", "cid"]);
    until("publishing", || {
        site.look(&mut two).is_ok_and(|seen| seen["people"].contains("\"cid\""))
    });
    let said = site.good(&["node", "revoke", "web-2"]);
    assert!(said.contains("revoked"), "{said}");
    assert!(site.look(&mut two).is_err());
    assert!(site.look(&mut one).unwrap()["people"].contains("\"cid\""));
    let list: serde_json::Value = serde_json::from_str(&site.good(&["node", "list", "--json"])).unwrap();
    assert_eq!(list[0]["host"], "web-1");
    assert_eq!(list.as_array().unwrap().len(), 1);
    let status: serde_json::Value = serde_json::from_str(&site.good(&["signing", "status", "--json"])).unwrap();
    assert_eq!(status["epochs"][0]["epoch"], 2);
    let log = std::fs::read_to_string(site.path("log")).unwrap();
    assert!(
        log.contains("node.admitted") || log.contains("admitted host web-2"),
        "{log}"
    );
    for secret in ["PRIVATE+KEY", "AGE-SECRET-KEY"] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[test]
fn without_keys_or_a_role_it_says_what_to_do() {
    let site = Site::new("");
    let other = Custody::generate(&label("syncer-1")).unwrap().public().to_string();
    site.tenant.put_policy(&site.policy(&other));
    let (ok, said) = site.ends(&["once"]);
    assert!(!ok && said.contains("dirless publisher add"), "{said}");
    std::fs::remove_file(site.path("keys/publisher.key")).unwrap();
    let (ok, said) = site.ends(&["once"]);
    assert!(!ok && said.contains("signing init"), "{said}");
    assert!(site.good(&["check"]).contains("note: "));
    let (ok, said) = site.ends(&["local", "user", "list"]);
    assert!(!ok, "{said}");
}

#[test]
fn the_key_is_renewed_by_hand_and_status_tells() {
    let site = Site::at_backend("classic = false");
    site.good(&["once"]);
    let before = site.good(&["signing", "status"]);
    assert!(before.contains("its successor comes "), "{before}");
    let said = site.good(&["signing", "rotate-key"]);
    assert!(
        said.contains("the publisher's key is syncer-1+") && said.contains("(the publisher has another key)"),
        "{said}"
    );
    let after = site.good(&["signing", "status"]);
    assert!(
        after.contains("it is successor 1 of the policy's syncer-1+") && after.contains("signs along until "),
        "{after}"
    );
    let status: serde_json::Value = serde_json::from_str(&site.good(&["signing", "status", "--json"])).unwrap();
    assert_eq!(
        (&status["key"]["successors"], status["policy"].as_u64()),
        (&1.into(), Some(1))
    );
    let (ok, said) = site.ends(&["signing", "rotate-key"]);
    assert!(!ok && said.contains("replaced lately"), "{said}");
    site.people(&["ann", "bob", "cid"]);
    assert!(site.good(&["once"]).contains("of people for all"));
}

#[test]
fn rotating_and_withdrawing_by_hand() {
    let site = Site::new("");
    site.good(&["once"]);
    assert!(site.good(&["signing", "rotate"]).contains("epoch 2 of all began"));
    let (ok, said) = site.ends(&["signing", "rotate", "--compartment", "none"]);
    assert!(!ok && said.contains("no compartment none"), "{said}");
    assert!(
        site.good(&["signing", "withdraw", "access-rules"])
            .contains("signed head")
    );
    let status = site.good(&["signing", "status"]);
    assert!(
        status.contains("people for all: version 2, epoch 2") && !status.contains("access-rules"),
        "{status}"
    );
    // The state is lost, and taken over.
    std::fs::remove_dir_all(site.path("state/signed")).unwrap();
    let (ok, said) = site.ends(&["signing", "settle"]);
    assert!(!ok && said.contains("signing adopt"), "{said}");
    assert!(site.good(&["signing", "adopt"]).contains("continuing after head"));
    assert!(site.good(&["once"]).contains("signed version 3 of people"));
    let code = site.code("one");
    let codes = site.good(&["join-code", "list"]);
    assert!(codes.contains("0 of 1 used"), "{codes}");
    site.good(&["join-code", "revoke", code.code.as_str()]);
    assert!(!site.ends(&["join-code", "revoke", code.code.as_str()]).0);
}

#[test]
fn what_people_enter_is_published_at_once() {
    let site = Site::new("");
    site.good(&["once"]);
    let mut host = Host::new(&site.tenant, "all");
    site.ask(&host, &site.code("one"), "web-1");
    site.good(&["node", "admit"]);
    let said = site.good(&["local", "user", "add", "zoe", "--plan"]);
    assert!(
        said.contains("nothing is written") && !said.contains("signed"),
        "{said}"
    );
    assert!(!site.look(&mut host).unwrap().contains_key("local"));
    let said = site.good(&["local", "user", "add", "zoe"]);
    assert!(
        said.contains("uid 100001") && said.contains("signed version 1 of local for all"),
        "{said}"
    );
    assert!(site.good(&["local", "user", "add", "zoe"]).contains("nothing to do"));
    site.good(&["local", "user", "add", "yan"]);
    let seen = site.look(&mut host).unwrap();
    assert!(
        seen["local"].contains("\"zoe\"") && seen["local"].contains("100002"),
        "{seen:?}"
    );
    let shown: serde_json::Value = serde_json::from_str(&site.good(&["local", "show", "--json"])).unwrap();
    assert_eq!(shown["users"].as_array().unwrap().len(), 2);
    assert!(shown["sequence"].as_u64().unwrap() > 0);

    // Rules as well, though files that have them win with the next read.
    site.good(&["local", "access", "allow", "eng", "db-1"]);
    assert!(site.look(&mut host).unwrap()["access-rules"].contains("db-1"));
    assert!(site.good(&["local", "access", "show"]).contains("db-1"));
    site.good(&["once"]);
    assert!(!site.look(&mut host).unwrap()["access-rules"].contains("db-1"));
}

#[test]
fn a_lost_ledger_moves_nobody() {
    let site = Site::new("");
    site.good(&["once"]);
    let before = site.good(&["ledger", "show"]);
    for name in ["ledger.db", "ledger.db-wal", "ledger.db-shm"] {
        let _ = std::fs::remove_file(site.path("state").join(name));
    }
    // Even where nothing else is left of it, what is published is known here.
    std::fs::remove_dir_all(site.path("state/sources")).unwrap();
    let (ok, said) = site.ends(&["once"]);
    assert!(!ok && said.contains("ledger rebuild"), "{said}");
    assert!(site.good(&["ledger", "rebuild"]).contains("put back"));
    site.good(&["once"]);
    let numbers = |text: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.split_whitespace().next());
        lines.map(str::to_owned).collect()
    };
    assert_eq!(numbers(&site.good(&["ledger", "show"])), numbers(&before));
}

#[test]
fn hosts_are_told_the_access_rules_of_their_compartments_alone() {
    let groups = "[[signed.compartment]]\nname = \"web\"\n[[signed.compartment]]\nname = \"db\"\n\
                  [host_groups.web]\nhosts = [\"web-*\"]\ncompartments = [\"web\"]\n\
                  [host_groups.db]\nhosts = [\"db-1\", \"db-2\"]\ncompartments = [\"db\"]\n";
    let site = Site::of(Tenant::with(&[("db", None), ("web", None)]), groups);
    let rules = |hosts: &str| {
        let text = format!("access:\n  enforce: false\n  rules:\n    - {{group: eng, hosts: [{hosts}]}}\n");
        std::fs::write(site.path("people/rules.yaml"), text).unwrap();
        site.good(&["once"])
    };
    rules("web-1, db-1, build-1");
    let (ok, said) = site.ends(&["join-code", "create", "--out", "/nowhere"]);
    assert!(!ok && said.contains("--host-group or --compartment"), "{said}");
    let (mut web, mut db) = (Host::new(&site.tenant, "web"), Host::new(&site.tenant, "db"));
    site.ask(&web, &site.code_with("web-code", &["--host-group", "web"]), "web-1");
    site.ask(&db, &site.code_with("db-code", &["--host-group", "db"]), "db-1");
    site.good(&["node", "admit"]);
    let (at_web, at_db) = (site.look(&mut web).unwrap(), site.look(&mut db).unwrap());
    assert_eq!(at_web["people"], at_db["people"]);
    let (at_web, at_db) = (&at_web["access-rules"], &at_db["access-rules"]);
    assert!(at_web.contains("web-1") && at_web.contains("build-1"), "{at_web}");
    assert!(at_db.contains("db-1") && at_db.contains("build-1"), "{at_db}");
    assert!(!at_web.contains("db-1") && !at_db.contains("web-1"), "{at_web} {at_db}");

    // What changes for others is not even told to have changed.
    let said = rules("web-1, db-1, db-2, build-1");
    assert!(
        said.contains("of access-rules for db") && !said.contains("of access-rules for web"),
        "{said}"
    );
    assert!(site.look(&mut db).unwrap()["access-rules"].contains("db-2"));
    assert!(!site.look(&mut web).unwrap()["access-rules"].contains("db-"));
    assert!(rules("web-1, db-1, db-2, build-1").contains("nothing changed"));
}
