//! What operators are told: golden outputs of `why`, `status`, `list-users` and `doctor`.
#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "each test program uses a part of it")]
mod common;

use std::fs;
use std::time::Duration;

use common::{Host, KEY, user, users};
use dirless_agent::explain::{self, Caller, Check, Daemon, Level, Live, Told, Verdict, explain};

const RULES: &str = r#"{"enforce_group_memberships":true,"host_group_rules":[{"group":"ops","host":"db-1"},{"group":"Engineering Team","host":"web-1"}]}"#;

/// alice (in both sources) is admitted, bob is not, carol has a bad shell, dave a bad uid, and the
/// directory has a group called sudo.
fn host() -> Host {
    let host = Host::new();
    let local = format!(
        r#"{{"users":[{}],"ssh_keys":{{"alice":"no-pty {KEY} alice@laptop\nnonsense"}}}}"#,
        user("alice", 100_001)
    );
    let cloud = format!(
        r#"{{"sequence":7,"generated_at":"2026-11-22T11:58:00Z","source":"aws-identity-center",
            "users":[{},{},{},{}],
            "groups":[{{"name":"Engineering Team","gid":60001,"members":["Alice@corp.example","carol","dave"]}},
                      {{"name":"sudo","gid":60009,"members":["Alice@corp.example"]}}]}}"#,
        user("Alice@corp.example", 60_002).replace("/home/Alice@corp.example", "/home/alice"),
        user("bob", 60_003),
        user("carol", 60_004).replace("/bin/bash", "/bin/evil"),
        user("dave", 60_005).replace("60005", "0"),
    );
    host.put("local", &local);
    host.put("aws-identity-center", &cloud);
    host.rules(RULES);
    assert_eq!(host.publish().unwrap().0, 0);
    host
}

fn why(host: &Host, caller: Caller, name: &str) -> (u8, String) {
    let mut out = Vec::new();
    let code = explain::why(&host.paths, &host.options, &host.clock, caller, name, false, &mut out).unwrap();
    (code, String::from_utf8(out).unwrap())
}

#[test]
fn why_follows_a_present_user_through_every_stage() {
    let (code, text) = why(&host(), Caller::Root, "alice");
    let expected = r#"record      local: username "alice" uid 100001 gid 100001 gecos "" home "/home/alice" shell "/bin/bash" -> alice
            aws-identity-center: username "Alice@corp.example" uid 60002 gid 60002 gecos "" home "/home/alice" shell "/bin/bash" -> alice
merge       taken from local, which wins over aws-identity-center
ids         uid 100001, primary gid 100001
access      rule 2 admits members of "Engineering Team" on "web-1"
limits      within the host limits
groups      engineering-team (60001)
            sudo (60009) not published: it is a reserved name
keys        ssh-ed25519 SHA256:1o19BRWBPhGfwB8RqVPc2vh1bqBBhiCnGYCWyeVhIQU alice@laptop (no-pty)
dropped     keys of local: alice line 2 of the keys names no key type that sshd takes (ssh-ed25519, ecdsa-sha2-nistp256, ssh-rsa, ...)
table       generation 1: alice:x:100001:100001::/home/alice:/bin/bash
verdict     alice is a user of this host
"#;
    let text = blank_fingerprints(&text);
    assert_eq!(text, blank_fingerprints(expected));
    assert_eq!(code, 0);
}

/// Fingerprints are checked by their own test; here only their place counts.
fn blank_fingerprints(text: &str) -> String {
    let words = text.split(' ').map(|word| {
        if word.starts_with("SHA256:") {
            "SHA256:..."
        } else {
            word
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn why_names_the_line_that_decides_for_an_absent_user() {
    let host = host();
    let cases = [
        (
            "bob",
            "verdict     the access rules for this host want a member of \"Engineering Team\"\nchange      add bob to one of these groups, or a rule for host \"web-1\" and a group of the user\n",
        ),
        (
            "carol",
            "verdict     carol of aws-identity-center has the shell /bin/evil, which is not allowed here\nchange      change the shell at the source, or add it to shells in limits.toml or to /etc/shells\n",
        ),
        (
            "dave",
            "verdict     dave of aws-identity-center has a uid that is refused: 0 is root\nchange      give it another id at the source; no host takes this one\n",
        ),
        (
            "erin",
            "verdict     no source has a user called erin\nchange      add the user at the source; a change there reaches this host after one sync of the syncer and one of the agent\n",
        ),
    ];
    for (name, end) in cases {
        let (code, text) = why(&host, Caller::Root, name);
        assert_eq!(code, 1, "{text}");
        assert!(text.ends_with(end), "{text}");
        assert!(
            text.contains(&format!("table       generation 1: no {name}\n")),
            "{text}"
        );
    }
}

#[test]
fn why_tells_what_the_next_publish_changes() {
    let host = host();
    let verdict = |name: &str| explain(&host.paths, &host.options, &host.clock, Caller::Root, name).verdict;
    assert_eq!(verdict("alice"), Verdict::Present);
    host.rules(RULES.replace("web-1", "web-2").as_str());
    assert_eq!(verdict("alice"), Verdict::Leaving);
    host.rules(common::OPEN);
    assert_eq!(verdict("bob"), Verdict::Pending);
    assert_eq!(verdict("carol"), Verdict::Absent);
    host.put_bytes("local", b"garbage");
    fs::remove_file(host.paths.last_good("local")).unwrap();
    assert_eq!(
        verdict("alice"),
        Verdict::Present,
        "nothing new can be published, so the table stays"
    );
    assert_eq!(verdict("bob"), Verdict::Unknown);
    fs::remove_file(host.paths.age_key()).unwrap();
    let answer = explain(&host.paths, &host.options, &host.clock, Caller::Root, "alice");
    assert!(answer.because.contains("age.key"), "{}", answer.because);
}

#[test]
fn anybody_may_ask_the_table_and_is_told_who_knows_more() {
    let host = host();
    let (code, text) = why(&host, Caller::Other, "Alice@corp.example");
    assert_eq!(code, 0);
    assert!(text.contains("groups      engineering-team (60001)\n"), "{text}");
    assert!(text.contains("sudo dirless why alice"), "{text}");
    assert!(!text.contains("record"), "{text}");
    let (code, text) = why(&host, Caller::Other, "bob");
    assert_eq!(code, 1);
    assert!(!text.contains("Engineering"), "{text}");
}

#[test]
fn why_as_json_has_the_same_facts() {
    let host = host();
    let mut out = Vec::new();
    explain::why(
        &host.paths,
        &host.options,
        &host.clock,
        Caller::Root,
        "bob",
        true,
        &mut out,
    )
    .unwrap();
    let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(value["verdict"], "absent");
    assert_eq!(value["access"]["decision"], "excluded");
    assert_eq!(value["access"]["wanted"][0], "Engineering Team");
    assert_eq!(value["merged"]["uid"], 60_003);
}

#[test]
fn fingerprints_are_those_of_ssh_keygen() {
    let host = host();
    let answer = explain(&host.paths, &host.options, &host.clock, Caller::Root, "alice");
    let key = &answer.table.unwrap().keys[0];
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key.pub");
    fs::write(&file, KEY).unwrap();
    let said = std::process::Command::new("ssh-keygen")
        .arg("-lf")
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.contains(&key.fingerprint), "{said} {}", key.fingerprint);
    assert_eq!(key.options, ["no-pty"]);
}

#[test]
fn status_fits_a_screen_and_says_what_was_dropped() {
    let host = host();
    host.clock.advance(Duration::from_secs(90));
    let live = Live {
        version: "0.1.0".into(),
        backend: Some("https://dirless.example".into()),
        told_by: Some("https://dirless.example".into()),
        last_cycle_at: Some("2026-11-22T12:01:00Z".into()),
        last_good_cycle_at: Some("2026-11-22T11:00:00Z".into()),
        problems: vec!["one thing".into()],
        next_cycle_in: Some(30),
    };
    let told = Told {
        daemon: Daemon::Runs(live),
        trust: None,
    };
    let mut out = Vec::new();
    let code = explain::status(
        &host.paths,
        host.options.owner,
        Caller::Root,
        &told,
        &host.clock,
        false,
        &mut out,
    );
    let text = String::from_utf8(out).unwrap();
    let expected = r#"agent       version 0.1.0 runs, next in 30 s
backend     https://dirless.example; last contact 30 s ago, last without a problem 61 min ago
            https://dirless.example tells of changes as they happen
problems    one thing
table       generation 1 written 90 s ago: 1 users, 2 groups
last run    published 90 s ago, in 0 ms
sources     local: as fetched; 1 users, 0 groups, 1 with keys
            aws-identity-center: as fetched; 3 users, 2 groups, 0 with keys, sequence 7, made 2026-11-22T11:58:00Z
access      enforced: 2 rules, 1 for host "web-1"; 1 users excluded
dropped     keys alice of local: line 2 of the keys names no key type that sshd takes (ssh-ed25519, ecdsa-sha2-nistp256, ssh-rsa, ...)
            user dave of aws-identity-center: has a uid that is refused: 0 is root
            user carol of aws-identity-center: has the shell /bin/evil, which is not allowed here
            group sudo of aws-identity-center: is a reserved name
duplicates  alice
cautions    1 memberships name users that no source has; they are left out
"#;
    assert_eq!(text, expected);
    assert_eq!(code.unwrap(), 1, "the daemon has a problem");
}

#[test]
fn status_without_daemon_report_or_root_still_tells_the_table() {
    let host = host();
    let status_with = |daemon, caller, json| {
        let mut out = Vec::new();
        let told = Told { daemon, trust: None };
        let code = explain::status(
            &host.paths,
            host.options.owner,
            caller,
            &told,
            &host.clock,
            json,
            &mut out,
        )
        .unwrap();
        (code, String::from_utf8(out).unwrap())
    };
    let status = |caller, json| status_with(Daemon::Silent, caller, json);
    let (code, text) = status(Caller::Other, false);
    assert_eq!(code, 0);
    assert!(text.contains("generation 1") && !text.contains("dave"), "{text}");
    // Who can know that it should answer is told, and one that is busy is no trouble.
    let (code, text) = status(Caller::Root, false);
    assert_eq!(code, 1);
    assert!(text.starts_with("agent       DOES NOT ANSWER"), "{text}");
    let (code, text) = status_with(Daemon::Busy, Caller::Root, false);
    assert_eq!(code, 0);
    assert!(text.starts_with("agent       is busy"), "{text}");
    let (_, text) = status(Caller::Root, true);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["generation"], 1);
    assert_eq!(value["report"]["dropped"]["by_code"]["shell"], 1);
    fs::remove_file(host.paths.table()).unwrap();
    let (code, text) = status(Caller::Root, false);
    assert_eq!(code, 1);
    assert!(text.contains("table       none: no such file"), "{text}");
}

#[test]
fn list_users_shows_three_lists_to_root_and_one_to_others() {
    let host = host();
    let list = |caller, json| {
        let mut out = Vec::new();
        explain::list_users(&host.paths, host.options.owner, caller, json, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    let text = list(Caller::Root, false);
    assert!(text.starts_with("Authorized users (1)\n  USERNAME"), "{text}");
    assert!(
        text.contains("\n  alice                                100001     100001  /home/alice"),
        "{text}"
    );
    let excluded = text.find("\nExcluded by the access rules (1)\n").unwrap();
    assert!(text[excluded..].contains("  bob "), "{text}");
    assert!(text.contains("\nDropped (4)\n"), "{text}");
    let text = list(Caller::Other, false);
    assert!(text.contains("alice") && !text.contains("bob"), "{text}");
    let value: serde_json::Value = serde_json::from_str(&list(Caller::Root, true)).unwrap();
    assert_eq!(value["authorized"][0]["username"], "alice");
    assert_eq!(value["excluded"][0]["name"], "bob");
}

fn doctor(host: &Host) -> (u8, Vec<(String, String, String)>) {
    let mut out = Vec::new();
    let backend = |_: &dirless_agent::config::Config| vec![Check::new(Level::Ok, "backend", "answers", "")];
    let code = explain::doctor(
        &host.paths,
        host.options.owner,
        "web-1",
        &host.clock,
        backend,
        true,
        &mut out,
    )
    .unwrap();
    let value: Vec<serde_json::Value> = serde_json::from_slice(&out).unwrap();
    let text = |check: &serde_json::Value, key: &str| check[key].as_str().unwrap().to_owned();
    let checks = value
        .iter()
        .map(|check| (text(check, "level"), text(check, "what"), text(check, "fix")));
    (code, checks.collect())
}

#[test]
fn doctor_finds_what_is_wrong_and_falls_silent_when_it_is_right() {
    use std::os::unix::fs::PermissionsExt;
    let host = host();
    let (code, checks) = doctor(&host);
    assert_eq!(code, 1);
    let failed: Vec<_> = checks
        .iter()
        .filter(|check| check.0 == "fail")
        .map(|check| check.1.as_str())
        .collect();
    assert_eq!(failed, ["configuration", "backend", "nsswitch", "NSS library"]);
    assert!(
        checks.iter().all(|check| check.0 == "ok" || !check.2.is_empty()),
        "{checks:?}"
    );

    let config = format!(
        "[backend]\nurl = \"https://dirless.example\"\n[agent]\nid = \"node-a\"\nfuture = 1\n[auth]\nhmac_secret = \"hunter2\"\ntenant_id = \"{}\"\n[local]\nage_key_path = \"/etc/dirless/age.key\"\n",
        "6".repeat(64)
    );
    fs::write(host.paths.config(), config).unwrap();
    fs::set_permissions(host.paths.config(), fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(host.paths.nsswitch(), "passwd: files dirless\ngroup: files dirless\n").unwrap();
    fs::create_dir_all(host.paths.root().join("usr/lib/x86_64-linux-gnu")).unwrap();
    fs::write(
        host.paths.root().join("usr/lib/x86_64-linux-gnu/libnss_dirless.so.2"),
        "",
    )
    .unwrap();
    fs::write(host.paths.old_database(), "").unwrap();
    fs::set_permissions(host.paths.old_database(), fs::Permissions::from_mode(0o666)).unwrap();
    let (code, checks) = doctor(&host);
    assert_eq!(code, 1);
    let failed: Vec<_> = checks.iter().filter(|check| check.0 == "fail").collect();
    assert!(
        failed
            .iter()
            .any(|check| check.1 == "secrets" && check.2.contains("chmod 600")),
        "{failed:?}"
    );

    fs::set_permissions(host.paths.config(), fs::Permissions::from_mode(0o600)).unwrap();
    let (code, checks) = doctor(&host);
    assert_eq!(code, 0, "{checks:?}");
    let warned: Vec<_> = checks
        .iter()
        .filter(|check| check.0 == "warning")
        .map(|check| check.1.as_str())
        .collect();
    assert_eq!(warned, ["dropped", "old database"]);
}

#[test]
fn doctor_never_shows_a_secret() {
    let host = host();
    fs::write(host.paths.config(), "[auth]\nhmac_secret = \"hunter2\"\nbroken").unwrap();
    fs::write(host.paths.age_key(), "hunter2").unwrap();
    let mut out = Vec::new();
    let backend = |_: &dirless_agent::config::Config| Vec::new();
    explain::doctor(
        &host.paths,
        host.options.owner,
        "web-1",
        &host.clock,
        backend,
        false,
        &mut out,
    )
    .unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("FAIL") && !text.contains("hunter2"), "{text}");
}

#[test]
fn a_name_that_is_none_is_looked_for_as_it_stands() {
    let host = Host::new();
    host.put("local", &users(&[("alice", 2000)]).replace("alice", "Al ice"));
    host.publish().unwrap();
    let (code, text) = why(&host, Caller::Root, "Al ice");
    assert_eq!(code, 1);
    assert!(
        text.contains("verdict     Al ice of local has a name that holds ' '"),
        "{text}"
    );
}
