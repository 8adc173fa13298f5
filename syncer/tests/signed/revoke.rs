//! Somebody is taken away by hand: at once, from everything, for as long as the source has them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{ExitCode, Output};
use std::sync::{Arc, Mutex};

use clap::Parser;
use dirless_operator::Surroundings;
use dirless_seal::Note;
use dirless_seal::trust::{self, Receipt, print};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

use crate::program::{Site, now, until};
use crate::support::*;

/// What a host says that has applied the head of that version.
fn receipt(site: &Site, host: &Host, version: u64) -> Vec<u8> {
    let bytes = site.tenant.site().operator();
    let head = dirless_syncer::signed::Folder::get(&bytes, "head/syncer-1", 1 << 20)
        .unwrap()
        .unwrap();
    let head = Note::parse(&head, 1 << 20).unwrap();
    let receipt = Receipt {
        tenant: site.tenant.id,
        node: host.key.verifying().name().clone(),
        issued: jiff::Timestamp::from_second(now().as_second()).unwrap(),
        policy: trust::Seen {
            version: 1,
            digest: dirless_seal::Digest::of(b"policy"),
        },
        heads: vec![(
            label("syncer-1"),
            trust::Seen {
                version,
                digest: head.digest(),
            },
        )],
        generation: version,
        users: 1,
        groups: 1,
        dropped: 0,
        alarms: Vec::new(),
    };
    let note = Note::sign(print(&receipt).unwrap(), &[&host.key]).unwrap();
    note.to_string().into_bytes()
}

/// Is this user in what the host reads? The ledger goes on knowing whom a number was.
fn has(seen: &Seen, name: &str) -> bool {
    seen["people"].contains(&format!("\"username\":\"{name}\""))
}

fn current(site: &Site) -> u64 {
    head(&site.tenant).version
}

/// A site with two hosts that were let in.
fn site() -> (Site, Host, Host) {
    let site = Site::at_backend("classic = false");
    site.good(&["once"]);
    let hosts = ["web-1", "web-2"].map(|name| {
        let code = site.code(name);
        let host = Host::new(&site.tenant, "all");
        site.ask(&host, &code, name);
        host
    });
    site.good(&["node", "admit"]);
    let [mut one, two] = hosts;
    assert!(site.look(&mut one).unwrap()["people"].contains("ann"));
    (site, one, two)
}

fn json(output: &Output) -> serde_json::Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    serde_json::from_str(&text).unwrap_or_else(|_| unreachable!("{text}{error}"))
}

#[test]
fn a_person_is_gone_at_once_and_stays_away_until_it_is_undone() {
    let (site, mut host, offline) = site();
    let server = site.tenant.site();
    server.beat(&host.key, &receipt(&site, &host, current(&site)));
    let before = current(&site);
    // The source is not asked: it could not even be read.
    std::fs::rename(site.path("people"), site.path("away")).unwrap();
    let child = site
        .command(&[
            "revoke",
            "ann",
            "--reason",
            "left",
            "--wait",
            "--timeout",
            "60",
            "--json",
        ])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // The one host that is connected follows, as soon as there is something to follow.
    until("a new head", || current(&site) > before);
    let seen = site.look(&mut host).unwrap();
    assert!(
        !has(&seen, "ann") && has(&seen, "bob") && seen["people"].contains("\"members\":[]"),
        "user, keys and groups: {seen:?}"
    );
    server.beat(&host.key, &receipt(&site, &host, current(&site)));
    let output = child.wait_with_output().unwrap();
    let said = json(&output);
    assert_eq!(output.status.code(), Some(0), "{said:#}");
    assert_eq!(
        (&said["revoked"][0], &said["published"][0]["source"]),
        (&"ann".into(), &"people".into())
    );
    let hosts = &said["hosts"];
    assert_eq!((&hosts["connected"], &hosts["applied"]), (&1.into(), &1.into()));
    assert_eq!(
        hosts["offline"],
        serde_json::json!([offline.key.verifying().name().as_str()])
    );
    assert!(
        hosts["slowest_seconds"].is_number() && hosts["leases_end"].is_string(),
        "{said:#}"
    );

    // The source brings nobody back, and neither does another program.
    std::fs::rename(site.path("away"), site.path("people")).unwrap();
    site.good(&["once"]);
    assert!(!has(&site.look(&mut host).unwrap(), "ann"));
    let list = site.good(&["revoke", "--list"]);
    assert!(
        list.starts_with("ann since")
            && list.contains(", people (still has them): left\n  1 of 1 connected hosts; 1 offline"),
        "{list}"
    );
    assert!(site.good(&["status"]).contains("revoke --undo ann"));
    let (good, said) = site.ends(&["revoke", "carol"]);
    assert!(
        !good && said.contains("nobody is published under the name \"carol\""),
        "{said}"
    );
    assert!(!site.ends(&["revoke", "--undo", "bob"]).0);

    // Somebody else of the same name, whom nobody published before.
    site.good(&["revoke", "carol", "--unknown"]);
    site.people(&["ann", "bob", "carol", "dave"]);
    site.good(&["once"]);
    let seen = site.look(&mut host).unwrap();
    assert!(has(&seen, "dave") && !has(&seen, "carol"));

    // Undone, both are back with the next read, under the same numbers.
    site.good(&["revoke", "--undo", "ann", "carol"]);
    site.good(&["once"]);
    let seen = site.look(&mut host).unwrap();
    assert!(has(&seen, "ann") && has(&seen, "carol"));
    assert_eq!(site.good(&["revoke", "--list"]), "");
}

#[test]
fn what_the_policy_refuses_of_others_keeps_nobody() {
    let (site, mut host, _) = site();
    site.tenant
        .next_policy(|policy| policy.publishers[0].scope.names = vec!["a*".parse().unwrap()]);
    let (good, said) = site.ends(&["revoke", "ann"]);
    assert!(
        !good && said.contains("source people is published without what policy 2") && said.contains("user bob"),
        "{said}"
    );
    let seen = site.look(&mut host).unwrap();
    assert!(!has(&seen, "ann") && !has(&seen, "bob"), "{seen:?}");
    let list = site.good(&["revoke", "--list"]);
    assert!(
        list.starts_with("ann since") && list.contains("connected hosts"),
        "{list}"
    );
}

#[test]
fn hosts_that_do_not_follow_are_told_apart() {
    let (site, host, _) = site();
    let server = site.tenant.site();
    server.beat(&host.key, &receipt(&site, &host, current(&site)));
    let output = site
        .command(&["revoke", "ann", "--wait", "--timeout", "1"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(13), "{said}");
    assert!(
        said.contains("0 of 1 connected hosts; 1 offline, leases end at 20"),
        "{said}"
    );
    assert!(
        said.contains(&format!("not applied by {}", host.key.verifying().name())),
        "{said}"
    );
    // A head that nobody signed is none, however high its number.
    server.beat(&host.key, &receipt(&site, &host, current(&site) + 10));
    let (_, said) = site.ends(&["revoke", "ann", "--wait", "--timeout", "1"]);
    assert!(
        said.contains("0 of 1 connected hosts") && said.contains("says that it applied head"),
        "{said}"
    );
    // Waiting goes on where it was, and the last one of a directory goes as well.
    let before = current(&site);
    let child = site
        .command(&["revoke", "ann", "bob", "--wait", "--json"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    until("a head without both", || current(&site) > before);
    server.beat(&host.key, &receipt(&site, &host, current(&site)));
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{:#}", json(&output));
    site.good(&["once"]);
}

#[test]
fn a_running_syncer_does_not_bring_anybody_back() {
    let (site, mut host, _) = site();
    let mut running = site.command(&["run"]).spawn().unwrap();
    let before = current(&site);
    site.good(&["revoke", "ann"]);
    until("a head without her", || current(&site) > before);
    assert!(!has(&site.look(&mut host).unwrap(), "ann"));
    // It reads the source again when a file changes.
    site.people(&["ann", "bob", "carol"]);
    until("carol", || site.look(&mut host).is_ok_and(|seen| has(&seen, "carol")));
    assert!(!has(&site.look(&mut host).unwrap(), "ann"));
    running.kill().unwrap();
    running.wait().unwrap();
}

/// `dirless revoke`, on a machine that has nothing but a token.
#[derive(Debug, Parser)]
struct Elsewhere {
    #[command(flatten)]
    revoke: dirless_operator::Revoke,
}

/// A syncer that serves, and who asks it.
struct Serving {
    child: std::process::Child,
    url: String,
    token: PathBuf,
}

impl Serving {
    fn start(site: &Site, scope: &str) -> Self {
        let token = site.path(&format!("token-{scope}"));
        let create = [
            "token",
            "create",
            scope,
            "--scope",
            scope,
            "--file",
            token.to_str().unwrap(),
        ];
        site.good(&create);
        let log = site.path("serve.log");
        let file = std::fs::File::create(&log).unwrap();
        let child = site.command(&["serve"]).stderr(file).spawn().unwrap();
        let mut url = String::new();
        until("the syncer's REST interface", || {
            let text = std::fs::read_to_string(&log).unwrap();
            let found = text
                .split_once("serving on ")
                .map(|(_, rest)| rest.split_whitespace().next());
            url = found.flatten().unwrap_or_default().to_owned();
            !url.is_empty()
        });
        Self { child, url, token }
    }

    fn run(&self, arguments: &[&str]) -> (Result<ExitCode, String>, String) {
        let token = self.token.to_str().unwrap();
        let place = ["dirless", "--syncer", &self.url, "--token-file", token];
        let parsed = Elsewhere::try_parse_from([&place[..], arguments].concat()).unwrap();
        let mut out = Vec::new();
        let ended = parsed.revoke.run(&mut Surroundings {
            out: &mut out,
            terminal: &mut dirless_operator::SystemTerminal,
            clock: dirless_program::Clock::system(),
            environment: &|_| None,
        });
        (
            ended.map_err(|error| format!("{error:#}")),
            String::from_utf8(out).unwrap(),
        )
    }

    fn good(&self, arguments: &[&str]) -> String {
        let (ended, said) = self.run(arguments);
        assert_eq!(ended, Ok(ExitCode::SUCCESS), "{said}");
        said
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What is told, without the numbers that grow.
fn told(text: &str) -> Vec<String> {
    let plain = |line: &str| match line.split_once(", slowest") {
        Some((before, after)) => format!("{before}{}", after.split_once(" s").unwrap().1),
        None => line.replace(|character: char| character.is_ascii_digit(), ""),
    };
    text.lines().map(plain).collect()
}

#[test]
fn somebody_elsewhere_takes_away_as_well_and_says_the_same() {
    let (mut site, mut host, _) = site();
    site.more("[serve]\nlisten = \"127.0.0.1:0\"");
    let server = site.tenant.site();
    server.beat(&host.key, &receipt(&site, &host, current(&site)));
    let serving = Serving::start(&site, "revoke");
    let before = current(&site);
    let remote = std::thread::scope(|scope| {
        let asked = scope.spawn(|| serving.good(&["ann", "--reason", "left", "--wait", "--timeout", "60"]));
        until("a new head", || current(&site) > before);
        assert!(!has(&site.look(&mut host).unwrap(), "ann"));
        server.beat(&host.key, &receipt(&site, &host, current(&site)));
        asked.join().unwrap()
    });
    assert!(
        remote.starts_with("revoked ann: kept out") && remote.contains("published "),
        "{remote}"
    );
    assert!(
        remote.contains("1 of 1 connected hosts, slowest ") && remote.contains("; 1 offline, leases end at 2"),
        "{remote}"
    );

    // Asked again, here or there, nothing is done twice, and hosts are where they were.
    let head = |said: &str| {
        said.lines()
            .find(|line| line.starts_with("signed head"))
            .unwrap()
            .to_owned()
    };
    let (here, there) = (
        site.good(&["revoke", "ann", "--wait"]),
        serving.good(&["ann", "--wait"]),
    );
    assert_eq!((told(&here), head(&here)), (told(&there), head(&remote)));
    assert!(!here.contains("published "), "{here}");
    let (here, there) = (site.good(&["revoke", "--list"]), serving.good(&["--list"]));
    assert_eq!(here, there);
    assert!(
        here.contains("by token revoke, people (still has them): left\n  1 of 1 connected hosts"),
        "{here}"
    );
    let json: serde_json::Value = serde_json::from_str(&serving.good(&["--list", "--json"])).unwrap();
    assert_eq!(json["revocations"][0]["hosts"]["applied"], 1, "{json:#}");

    // Hosts that do not follow; nobody; and what this token may not.
    let (ended, said) = serving.run(&["bob", "--wait", "--timeout", "1"]);
    assert_eq!(ended, Ok(ExitCode::from(13)), "{said}");
    assert!(
        said.contains(&format!("not applied by {}", host.key.verifying().name())),
        "{said}"
    );
    let refused = serving.run(&["carol"]).0.unwrap_err();
    assert!(
        refused.contains("nobody is published under the name \"carol\""),
        "{refused}"
    );
    let refused = serving.run(&["--undo", "ann"]).0.unwrap_err();
    assert!(refused.contains("does not allow restore"), "{refused}");
    drop(serving);

    let serving = Serving::start(&site, "restore");
    let refused = serving.run(&["bob"]).0.unwrap_err();
    assert!(refused.contains("does not allow revoke"), "{refused}");
    let undone = serving.good(&["--undo", "ann"]);
    assert_eq!(
        undone,
        "ann comes back with the next read of the sources; to read now: dirless-syncer once\n"
    );
    assert!(
        serving
            .run(&["--undo", "ann"])
            .0
            .unwrap_err()
            .starts_with("ann is not revoked")
    );
    site.people(&["ann", "bob", "carol"]);
    until("ann", || site.look(&mut host).is_ok_and(|seen| has(&seen, "ann")));
    assert!(!has(&site.look(&mut host).unwrap(), "bob"));
}

/// A backend of deployed clients: it keeps what it is sent, until it is told to show something else.
#[derive(Clone, Default)]
struct Deployed(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    bodies: BTreeMap<String, Vec<u8>>,
    /// What it answers from now on.
    shows: Option<(u16, &'static [u8])>,
}

impl Respond for Deployed {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let mut kept = self.0.lock().unwrap();
        let path = request.url.path().to_owned();
        if let Some((status, body)) = kept.shows {
            return ResponseTemplate::new(status).set_body_bytes(body);
        }
        match request.method.as_str() {
            "GET" => match kept.bodies.get(&path) {
                Some(body) => ResponseTemplate::new(200)
                    .insert_header("x-dirless-encrypted", "age")
                    .set_body_bytes(body.clone()),
                None => ResponseTemplate::new(404),
            },
            _ => {
                kept.bodies.insert(path, request.body.clone());
                ResponseTemplate::new(200).set_body_raw("{\"status\":\"ok\"}", "application/json")
            }
        }
    }
}

#[test]
fn a_backend_of_deployed_clients_holds_up_nothing_that_is_signed() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let deployed = Deployed::default();
    let server = runtime.block_on(MockServer::start());
    runtime.block_on(Mock::given(any()).respond_with(deployed.clone()).mount(&server));
    let site = Site::at_backend(&format!(
        "classic = true\n[backend]\nurl = {:?}\nenrollment_token = \"sekret-token-1\"\ntenant_id = {:?}",
        server.uri(),
        "ab".repeat(32),
    ));
    site.good(&["enroll"]);
    site.good(&["once"]);
    let code = site.code("web-1");
    let mut host = Host::new(&site.tenant, "all");
    site.ask(&host, &code, "web-1");
    site.good(&["node", "admit"]);
    assert!(has(&site.look(&mut host).unwrap(), "ann"));

    // Whatever it says, or if it says nothing that makes sense.
    let wrong: [(u16, &[u8], &str); 2] = [(500, b"", "ann"), (200, b"no snapshot of this syncer", "bob")];
    for (status, body, name) in wrong {
        deployed.0.lock().unwrap().shows = Some((status, body));
        let (ended_well, said) = site.ends(&["revoke", name]);
        assert!(!ended_well && said.contains("people: "), "{said}");
        assert!(said.contains("signed head"), "{said}");
        assert!(!has(&site.look(&mut host).unwrap(), name), "{status}");
    }
    // What is new is signed as well.
    deployed.0.lock().unwrap().shows = Some((500, b""));
    site.people(&["ann", "bob", "zoe"]);
    let (ended_well, said) = site.ends(&["once"]);
    assert!(!ended_well && said.contains("the backend"), "{said}");
    let seen = site.look(&mut host).unwrap();
    assert!(
        has(&seen, "zoe") && !has(&seen, "ann") && !has(&seen, "bob"),
        "{seen:?}"
    );

    // It has everything as soon as it works again.
    deployed.0.lock().unwrap().shows = None;
    let before = deployed.0.lock().unwrap().bodies.clone();
    site.good(&["once"]);
    assert_ne!(deployed.0.lock().unwrap().bodies, before);
    assert!(site.good(&["once"]).contains("nothing changed"));
}
