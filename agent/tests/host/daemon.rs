//! The daemon as a process: readiness, requests, signals, crashes, a full disk.

use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dirless_testkit::eventually;

use dirless_wire::{ETag, Notice, TenantState};

use crate::common::{Answer, CA, CLOUD, Fake, HEARTBEAT, Host, LOCAL, users};

const WATCH: &str = "GET /v1/watch";

const SOON: Duration = Duration::from_secs(30);

struct Daemon {
    child: Child,
    /// What it told the service manager, read as it comes: a full socket would hold it up.
    notices: Arc<Mutex<String>>,
    _folder: tempfile::TempDir,
}

impl Daemon {
    fn start(host: &Host) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let notices = Arc::new(Mutex::new(String::new()));
        let heard = Arc::clone(&notices);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length) = socket.recv(&mut buffer) {
                let text = String::from_utf8_lossy(buffer.get(..length).unwrap()).into_owned();
                heard.lock().unwrap().push_str(&text);
            }
        });
        let child = Command::new(env!("CARGO_BIN_EXE_dirless-agent"))
            .args(["run", "--root", &host.root()])
            .env_clear()
            .env("NOTIFY_SOCKET", &path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            child,
            notices,
            _folder: folder,
        }
    }

    fn notice(&self, wanted: &str) {
        eventually(SOON, wanted, || {
            self.notices.lock().unwrap().contains(wanted).then_some(())
        })
        .unwrap();
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn dirless(host: &Host, words: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_dirless"))
        .args(words)
        .args(["--root", &host.root()])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap(), said)
}

fn start(interval: u32) -> (Fake, Host) {
    let fake = Fake::start();
    let host = Host::new(&[fake.url()]);
    host.configure(&format!(
        "interval_seconds = {interval}\njitter_seconds = 0\nsplay_seconds = 0"
    ));
    fake.answer(CLOUD, Answer::sealed(&host.identity, &users(&["alice"], 70_001), "c1"));
    (fake, host)
}

#[test]
fn it_is_ready_after_the_first_cycle_refreshes_on_request_and_stops_cleanly() {
    let (fake, host) = start(3600);
    let mut daemon = Daemon::start(&host);
    daemon.notice("READY=1");
    assert!(host.has("alice"));

    fake.answer(LOCAL, Answer::sealed(&host.identity, &users(&["bob"], 100_001), "l1"));
    let (code, said) = dirless(&host, &["refresh"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("table 2, new") && host.has("bob"), "{said}");
    let (_, said) = dirless(&host, &["refresh"]);
    assert!(said.contains("table 2, unchanged"), "{said}");

    fake.answer(LOCAL, Answer::sealed(&host.identity, &users(&["carol"], 100_001), "l2"));
    daemon.signal("-HUP");
    eventually(SOON, "carol", || host.has("carol").then_some(())).unwrap();

    fake.answer(LOCAL, Answer::json(404, "{}"));
    let (code, said) = dirless(&host, &["refresh"]);
    assert!(
        code == 0 && said.contains("--accept-absent local") && host.has("carol"),
        "{said}"
    );
    let (code, said) = dirless(&host, &["refresh", "--accept-absent", "local"]);
    assert!(code == 0 && !host.has("carol") && host.has("alice"), "{said}");
    let (code, said) = dirless(&host, &["refresh", "--accept-absent", "other"]);
    assert!(code == 1 && said.contains("aws-identity-center, local"), "{said}");

    fake.answer(CLOUD, Answer::json(500, "{}"));
    let (code, said) = dirless(&host, &["refresh"]);
    assert!(code == 1 && said.contains("500"), "{said}");
    let (_, said) = dirless(&host, &["status"]);
    assert!(said.contains("500"), "{said}");

    daemon.signal("-TERM");
    let status = eventually(SOON, "the end", || daemon.child.try_wait().unwrap()).unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(!host.paths.control_socket().exists());
    let (code, said) = dirless(&host, &["refresh"]);
    assert!(code == 1 && said.contains("systemctl start dirless-agent"), "{said}");
}

#[test]
fn a_notice_begins_a_cycle_at_once_and_one_of_what_is_known_begins_none() {
    let (fake, host) = start(3600);
    let state = |tag: &str| Answer::json(200, "{}").with("X-Dirless-Tenant-State", tag);
    let notice = |tag: &str| Notice::State(ETag::parse(tag).unwrap(), None).to_bytes();
    fake.answer(HEARTBEAT, state("\"t1\""));
    let (events, say) = Answer::events();
    fake.answer(WATCH, events);
    let daemon = Daemon::start(&host);
    daemon.notice("READY=1");
    assert!(host.has("alice"));
    eventually(SOON, "listening", || {
        let (_, said) = dirless(&host, &["status"]);
        said.contains("tells of changes as they happen").then_some(())
    })
    .unwrap();

    let asks = |line: &str| fake.asked().iter().any(|asked| asked.line == line);
    fake.asked();
    say.send(notice("\"t1\"")).unwrap();
    // What a cycle asks for last.
    eventually(SOON, "a cycle that finds nothing", || asks(CA).then_some(())).unwrap();
    say.send(notice("\"t1\"")).unwrap();
    fake.answer(CLOUD, Answer::sealed(&host.identity, &users(&["bob"], 70_002), "c2"));
    // The backend that is asked hears of it later than the one that tells.
    say.send(notice("\"t2\"")).unwrap();
    eventually(SOON, "a look", || asks(HEARTBEAT).then_some(())).unwrap();
    assert!(host.has("alice") && !host.has("bob"));
    fake.answer(HEARTBEAT, state("\"t2\""));
    eventually(SOON, "bob", || host.has("bob").then_some(())).unwrap();

    // Whoever tells no more is replaced: the stream that follows is another request.
    drop(say);
    let (events, say) = Answer::events();
    fake.answer(WATCH, events);
    fake.answer(CLOUD, Answer::sealed(&host.identity, &users(&["carol"], 70_003), "c3"));
    fake.answer(HEARTBEAT, state("\"t3\""));
    say.send(notice("\"t3\"")).unwrap();
    eventually(SOON, "carol", || host.has("carol").then_some(())).unwrap();
}

#[test]
fn a_notice_that_tells_what_changed_is_followed_by_two_requests() {
    let (fake, host) = start(3600);
    let state = |tag: &str| Answer::json(200, "{}").with("X-Dirless-Tenant-State", tag);
    let notice = |tag: &str, cloud: &str, other: u32| {
        let parts = serde_json::json!({
            "sources": {"aws-identity-center": format!("\"{cloud}\""), "other": format!("\"{other}\"")},
            "authz_config": null, "ca_public_key": null,
            "public_key": "age17vcec9dhw5cu4l58hx8a5pwxktryh9ej5ttqzl5gyqc2hnefkawq8pm37s",
        });
        let parts: TenantState = serde_json::from_value(parts).unwrap();
        Notice::State(ETag::parse(tag).unwrap(), Some(Box::new(parts))).to_bytes()
    };
    fake.answer(HEARTBEAT, state("\"t1\""));
    let (events, say) = Answer::events();
    fake.answer(WATCH, events);
    let _daemon = Daemon::start(&host);
    eventually(SOON, "listening", || {
        let (_, said) = dirless(&host, &["status"]);
        said.contains("tells of changes as they happen").then_some(())
    })
    .unwrap();
    fake.asked();
    say.send(notice("\"t1\"", "c1", 1)).unwrap();
    let asked = |last: &str| {
        let mut lines = Vec::new();
        eventually(SOON, last, || {
            lines.extend(fake.asked().into_iter().map(|asked| asked.line));
            lines.iter().any(|line| line == last).then_some(())
        })
        .unwrap();
        lines
    };
    assert!(asked(CA).contains(&LOCAL.to_owned()), "the first asks for everything");

    let change = |tag: &str, user: &str, body: &str| {
        fake.answer(CLOUD, Answer::sealed(&host.identity, &users(&[user], 70_002), body));
        fake.answer(HEARTBEAT, state(tag));
    };
    change("\"t2\"", "bob", "c2");
    say.send(notice("\"t2\"", "c2", 1)).unwrap();
    assert_eq!(asked(HEARTBEAT), [CLOUD, HEARTBEAT]);
    assert!(host.has("bob"), "the heartbeat says what is served");
    // What is of no concern to this host costs nothing: the next requests are those of the next change.
    change("\"t4\"", "carol", "c4");
    say.send(notice("\"t3\"", "c2", 2)).unwrap();
    say.send(notice("\"t4\"", "c4", 2)).unwrap();
    assert_eq!(asked(HEARTBEAT), [CLOUD, HEARTBEAT]);
    // A backend that does not have what was told yet is asked again, and for everything.
    say.send(notice("\"t5\"", "c5", 2)).unwrap();
    let lines = asked(CLOUD);
    assert_eq!(lines.first().map(String::as_str), Some(CLOUD));
    change("\"t5\"", "dave", "c5");
    eventually(SOON, "dave", || host.has("dave").then_some(())).unwrap();
}

#[test]
fn a_host_that_shall_not_listen_asks_nobody_to_tell() {
    let fake = Fake::start();
    let host = Host::new(&[fake.url()]);
    host.configure("interval_seconds = 1\njitter_seconds = 0\nsplay_seconds = 0\nwatch = false");
    fake.answer(CLOUD, Answer::sealed(&host.identity, &users(&["alice"], 70_001), "c1"));
    let _daemon = Daemon::start(&host);
    let mut beats = 0;
    eventually(SOON, "three cycles", || {
        let asked = fake.asked();
        assert!(asked.iter().all(|asked| asked.line != WATCH));
        beats += asked.iter().filter(|asked| asked.line == HEARTBEAT).count();
        (beats >= 3).then_some(())
    })
    .unwrap();
}

#[test]
fn a_syncer_that_lost_its_numbers_is_let_begin_anew_by_the_operator() {
    let (fake, host) = start(3600);
    let numbered = |sequence: u64, name: &str| {
        let text = users(&[name], 100_001).replacen('{', &format!("{{\"sequence\":{sequence},"), 1);
        Answer::sealed(&host.identity, &text, &format!("l{sequence}"))
    };
    fake.answer(LOCAL, numbered(9, "bob"));
    let daemon = Daemon::start(&host);
    daemon.notice("READY=1");
    assert!(host.has("bob"));

    fake.answer(LOCAL, numbered(1, "carol"));
    let (_, said) = dirless(&host, &["refresh"]);
    let command = "dirless refresh --forget-sequence local";
    assert!(
        said.contains(command) && host.has("bob") && !host.has("carol"),
        "{said}"
    );
    // The forged one cannot drive the number to where nothing comes after it.
    fake.answer(LOCAL, numbered(u64::MAX, "mallory"));
    let (_, said) = dirless(&host, &["refresh"]);
    assert!(
        said.contains("forged") && host.has("bob") && !host.has("mallory"),
        "{said}"
    );

    fake.answer(LOCAL, numbered(2, "carol"));
    let (code, said) = dirless(&host, &["refresh", "--forget-sequence", "local"]);
    assert!(code == 0 && said.contains("sequence 9") && host.has("carol"), "{said}");
    let (code, said) = dirless(&host, &["refresh", "--forget-sequence", "other"]);
    assert!(code == 1 && said.contains("no source other"), "{said}");
}

#[test]
fn at_rest_it_takes_little_memory() {
    let (fake, host) = start(3600);
    let many: Vec<String> = (0..20_000).map(|number| format!("u{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    fake.answer(LOCAL, Answer::sealed(&host.identity, &users(&many, 100_001), "l1"));
    let daemon = Daemon::start(&host);
    daemon.notice("READY=1");
    for _ in 0..3 {
        assert_eq!(dirless(&host, &["refresh"]).0, 0);
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.child.id())).unwrap();
    let kib = |name: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    println!("resident {} KiB, of it private {} KiB", kib("VmRSS:"), kib("RssAnon:"));
    // Unoptimised code is several times as large; what the program itself holds is not.
    assert!(kib("RssAnon:") < 8 * 1024, "{status}");
    if !cfg!(debug_assertions) {
        assert!(kib("VmRSS:") < 15 * 1024, "{status}");
    }
}

#[test]
fn a_restart_serves_at_once_while_the_backend_is_away() {
    let (fake, host) = start(3600);
    {
        let daemon = Daemon::start(&host);
        daemon.notice("READY=1");
    }
    fake.answer(CLOUD, Answer::Drop);
    fake.answer(LOCAL, Answer::Drop);
    let daemon = Daemon::start(&host);
    daemon.notice("serving the last published table");
    assert!(host.has("alice"));
    let (code, said) = dirless(&host, &["status"]);
    assert!(said.contains("no backend answered") || code == 0, "{said}");
}

#[test]
fn a_host_without_a_backend_becomes_ready_after_trying() {
    let host = Host::new(&["http://127.0.0.1:9".to_owned()]);
    let daemon = Daemon::start(&host);
    daemon.notice("READY=1");
    assert!(host.table().is_none());
}

#[test]
fn a_configuration_that_cannot_be_used_has_its_own_code() {
    let (_fake, host) = start(60);
    host.write(&host.paths.config(), "[backend]\n");
    let output = Command::new(env!("CARGO_BIN_EXE_dirless-agent"))
        .args(["run", "--root", &host.root()])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&output.stderr).contains("backend.url"));
    let check = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dirless-agent"));
        command
            .arg("check")
            .args(words)
            .args(["--root", &host.root()])
            .output()
            .unwrap()
            .status
            .code()
    };
    assert_eq!(check(&[]), Some(78));
    host.configure("colour = 1");
    assert_eq!(check(&[]), Some(0));
    let limits = host.folder.path().join("limits.toml");
    std::fs::write(&limits, "nonsense = 1\n").unwrap();
    assert_ne!(check(&["--limits", limits.to_str().unwrap()]), Some(0));
}

#[test]
fn one_cycle_by_hand_says_what_is_wrong_by_its_code() {
    let (fake, host) = start(60);
    let once = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dirless-agent"));
        command
            .args(["run", "--once", "--root", &host.root()])
            .output()
            .unwrap()
            .status
            .code()
    };
    assert_eq!(once(), Some(0));
    assert!(host.has("alice"));
    fake.answer(CLOUD, Answer::json(500, "{}"));
    assert_eq!(once(), Some(1));
    assert!(host.has("alice"));
}

#[test]
fn killed_at_any_moment_it_leaves_a_whole_table_and_converges() {
    let (fake, host) = start(1);
    let names = |round: usize| (0..40).map(|number| format!("r{round}u{number}")).collect::<Vec<_>>();
    let put = |round: usize| {
        let names = names(round);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        fake.answer(
            CLOUD,
            Answer::sealed(&host.identity, &users(&names, 70_001), &format!("c{round}")),
        );
    };
    put(0);
    Daemon::start(&host).notice("READY=1");
    for round in 1..=20usize {
        put(round);
        let daemon = Daemon::start(&host);
        // Moments spread over start-up, fetch, publish and report; their scatter is the point.
        std::thread::sleep(Duration::from_millis(u64::try_from(round * 17 % 240).unwrap()));
        drop(daemon);
        let table = host.table().expect("the table is there and whole");
        let first = table.users().next().unwrap().unwrap();
        let first = String::from_utf8(first.name().to_vec()).unwrap();
        let (generation, _) = first.split_once('u').unwrap();
        let all = table
            .users()
            .all(|user| user.unwrap().name().starts_with(generation.as_bytes()));
        assert!(all && table.stats().users == 40, "round {round}: a mixture");
    }
    put(99);
    let daemon = Daemon::start(&host);
    eventually(SOON, "the last state", || host.has("r99u39").then_some(())).unwrap();
    daemon.notice("READY=1");
    drop(daemon);
    let left: Vec<_> = std::fs::read_dir(host.paths.sources_folder())
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name().into_string().unwrap())
        .filter(|name| name.starts_with('.'))
        .collect();
    assert!(left.len() <= 1, "leftovers pile up: {left:?}");
}

#[test]
fn a_full_disk_keeps_the_last_good_table_and_is_told() {
    let name = "daemon::a_full_disk_keeps_the_last_good_table_and_is_told";
    let outcome = dirless_testkit::isolated(name, || {
        let (fake, host) = start(3600);
        std::fs::create_dir_all(host.paths.state_folder())?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m,mode=0755", "small"])
            .arg(host.paths.state_folder())
            .status()?;
        assert!(mounted.success());
        let daemon = Daemon::start(&host);
        daemon.notice("READY=1");
        assert!(host.has("alice"));
        let ballast = host.paths.state_folder().join("ballast");
        let _ = std::fs::write(&ballast, vec![1; 2 * 1024 * 1024]);
        let many: Vec<String> = (0..3000).map(|number| format!("u{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        fake.answer(CLOUD, Answer::sealed(&host.identity, &users(&many, 70_001), "c2"));
        fake.asked();
        let (code, said) = dirless(&host, &["refresh"]);
        assert!(code == 1 && said.to_lowercase().contains("space"), "{said}");
        assert!(host.has("alice"), "the full disk cost the last good table");
        let beat = fake.asked().into_iter().find(|asked| asked.line == HEARTBEAT).unwrap();
        assert!(String::from_utf8_lossy(&beat.body).to_lowercase().contains("space"));
        std::fs::remove_file(&ballast)?;
        let (code, said) = dirless(&host, &["refresh"]);
        assert!(code == 0 && host.has("u2999"), "{said}");
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn install_and_uninstall_by_command_are_the_identity() {
    let (_fake, host) = start(60);
    let nsswitch = "passwd: files systemd\ngroup: files [SUCCESS=merge] systemd\nshadow: files\nhosts: dns";
    host.write(&host.paths.nsswitch(), nsswitch);
    host.write(&host.paths.sshd_config(), "Port 22\n");
    let (code, said) = dirless(&host, &["install", "--dry-run"]);
    assert!(code == 0 && said.contains("+passwd: files dirless systemd"), "{said}");
    assert_eq!(std::fs::read_to_string(host.paths.nsswitch()).unwrap(), nsswitch);
    let (code, said) = dirless(&host, &["install"]);
    assert_eq!(code, 0, "{said}");
    assert!(host.paths.sshd_snippet().exists());
    let (code, said) = dirless(&host, &["install"]);
    assert!(code == 0 && said.contains("nothing to change"), "{said}");
    let (code, said) = dirless(&host, &["uninstall"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(std::fs::read_to_string(host.paths.nsswitch()).unwrap(), nsswitch);
    assert_eq!(std::fs::read_to_string(host.paths.sshd_config()).unwrap(), "Port 22\n");
    assert!(!host.paths.sshd_snippet().exists());
}

#[test]
fn authorities_are_accepted_and_forgotten_by_command() {
    let (_fake, host) = start(60);
    let fingerprint = "SHA256:ICRz6TsJeB9hZfsYR7Fa7pYtWl5GLPI7IV17Op4qf2E";
    assert_eq!(dirless(&host, &["ssh", "accept-ca", fingerprint]).0, 0);
    let (_, said) = dirless(&host, &["ssh", "show"]);
    assert!(said.contains(&format!("accepted  {fingerprint}")), "{said}");
    assert_eq!(dirless(&host, &["ssh", "forget-ca", fingerprint]).0, 0);
    assert_eq!(dirless(&host, &["ssh", "forget-ca", fingerprint]).0, 1);
    assert_eq!(dirless(&host, &["ssh", "accept-ca", "nonsense"]).0, 1);
}
