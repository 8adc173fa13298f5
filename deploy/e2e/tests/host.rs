//! A host through bad days: two backends, a full disk, a restart of everything, crashes, and nothing
//! secret left lying about.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use dirless_e2e::machine::{Person, getent, start_sshd};
use dirless_e2e::recorded::{Answer, Recorded};
use dirless_e2e::site::{SECRET, Site, private, start_backend};
use dirless_e2e::world::{ARRIVAL, World, appears, as_nobody, below, user, vanishes};
use dirless_e2e::{blob, demo, vectors};
use dirless_testkit::{Program, Running, eventually, isolated};
use serde_json::json;

const CLOUD: &str = "GET /v1/snapshot/aws-identity-center";

fn sealed(users: &[(&str, i64)]) -> Answer {
    let users: Vec<_> = users.iter().map(|(name, uid)| user(name, *uid)).collect();
    let key = blob::recipient(vectors::IDENTITY).unwrap();
    Answer::sealed(&blob::sealed(&key, &json!({"users": users, "groups": []})).unwrap())
}

#[test]
fn another_backend_takes_over_and_the_first_is_taken_back() {
    isolated("another_backend_takes_over_and_the_first_is_taken_back", || {
        let first = Recorded::start("127.0.0.2:4000")?;
        let second = Recorded::start("127.0.0.3:4000")?;
        for backend in [&first, &second] {
            backend.answer(CLOUD, sealed(&[("alice", 100_001)]));
        }
        let hosts = std::fs::read_to_string("/etc/hosts")?;
        std::fs::write(
            "/etc/hosts",
            hosts + "\n127.0.0.2 backend.test\n127.0.0.3 backend.test\n",
        )?;
        let mut world = World::of(&first)?;
        world.agent.take().unwrap().stop()?;
        let path = "/etc/dirless/dirless-agent.toml";
        let config = std::fs::read_to_string(path)?.replace(&first.url(), "http://backend.test:4000");
        private(path, &config)?;
        world.agent = Some(demo::start_agent()?);
        appears("alice")?;
        for (down, up, newcomer) in [(&first, &second, "bob"), (&second, &first, "carol")] {
            for line in [CLOUD, "GET /v1/snapshot/local", "GET /v1/snapshot/authz-config"] {
                down.answer(line, Answer::Drop);
            }
            up.answer("GET /v1/snapshot/local", Answer::json(404, "{}"));
            up.answer(
                "GET /v1/snapshot/authz-config",
                Answer::json(200, "{\"enforce_group_memberships\":false,\"host_group_rules\":[]}"),
            );
            up.answer(CLOUD, sealed(&[("alice", 100_001), (newcomer, 100_002)]));
            appears(newcomer)?;
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_full_disk_keeps_the_last_good_table() {
    isolated("a_full_disk_keeps_the_last_good_table", || {
        std::fs::create_dir_all("/var/lib/dirless")?;
        Program::system("mount")
            .args(["-t", "tmpfs", "-o", "size=4m,mode=0755", "small", "/var/lib/dirless"])
            .succeed()?;
        let mut world = World::start()?;
        world.put("local", &json!({"users": [user("alice", 100_001)], "groups": []}))?;
        appears("alice")?;
        Program::system("dd")
            .args(["if=/dev/zero", "of=/var/lib/dirless/ballast", "bs=4k"])
            .run()?;
        let many: Vec<_> = (100_001..103_001).map(|uid| user(&format!("u{uid}"), uid)).collect();
        world.put("local", &json!({"users": many, "groups": []}))?;
        let status = || Program::ours("dirless").unwrap().arg("status").run().unwrap();
        eventually(ARRIVAL, "the alarm in the status", || {
            let said = status();
            (said.stdout + &said.stderr)
                .to_lowercase()
                .contains("space")
                .then_some(())
        })?;
        assert!(
            getent("passwd", "alice")?.is_some(),
            "the full disk cost the last good table"
        );
        assert!(world.agent.as_mut().unwrap().alive(), "the agent died of it");
        std::fs::remove_file("/var/lib/dirless/ballast")?;
        appears("u103000")?;
        Ok(())
    })
    .unwrap();
}

#[test]
fn everything_down_and_up_again() {
    isolated("everything_down_and_up_again", || {
        let mut world = World::start()?;
        let alice = Person::new("alice")?;
        let key = std::fs::read_to_string(alice.public_key())?;
        world.put(
            "local",
            &json!({"users": [user("alice", 100_001)], "groups": [], "ssh_keys": {"alice": key}}),
        )?;
        appears("alice")?;
        world.agent.take().unwrap().kill()?;
        world.backend.take().unwrap().kill()?;
        // Early boot: only files are there.
        std::fs::remove_dir_all("/run/dirless-agent").ok();
        assert!(getent("passwd", "alice")?.is_some());
        let _sshd = start_sshd()?;
        assert_eq!(alice.ssh("whoami")?.stdout, "alice\n");
        // The agent before the backend, as hosts come up in any order.
        world.agent = Some(demo::start_agent()?);
        assert!(getent("passwd", "alice")?.is_some());
        world.backend = Some(start_backend()?);
        world.put("local", &json!({"users": [user("bob", 100_002)], "groups": []}))?;
        appears("bob")?;
        vanishes("alice")?;
        assert!(!alice.ssh("whoami")?.status.success());
        Ok(())
    })
    .unwrap();
}

#[test]
fn killed_at_any_moment_nothing_is_lost_or_half_done() {
    isolated("killed_at_any_moment_nothing_is_lost_or_half_done", || {
        let mut site = Site::new()?;
        let ids: Vec<String> = (0..30)
            .map(|number| site.moto.add_user(&format!("user{number:02}"), "Some One"))
            .collect::<Result<_, _>>()?;
        site.moto
            .add_group("all", &ids.iter().map(String::as_str).collect::<Vec<_>>())?;
        site.start_backend()?;
        site.syncer()?.arg("enroll").succeed()?;
        site.syncer()?.arg("once").succeed()?;
        let identity = std::fs::read_to_string(Site::age_key())?;
        let identity = identity
            .lines()
            .find(|line| line.starts_with("AGE-SECRET-KEY-1"))
            .unwrap();
        let stored = || -> anyhow::Result<serde_json::Value> {
            let reply = dirless_e2e::site::call("GET", "/v1/snapshot/aws-identity-center", &[], b"")?;
            anyhow::ensure!(reply.status == 200, "{}", reply.text());
            blob::opened(identity, &reply.body)
        };
        let numbers = |snapshot: &serde_json::Value| snapshot["users"].to_string();
        let before = numbers(&stored()?);
        // Kills spread over the run of a sync, backend and syncer in turn; the delays are what chance
        // would give, spelled out so that a failure can be repeated.
        for (round, delay) in [3u64, 11, 23, 41, 67, 101, 157, 211].into_iter().enumerate() {
            let syncer = site.syncer()?.arg("once").spawn()?;
            std::thread::sleep(std::time::Duration::from_millis(delay));
            if round % 2 == 0 {
                site.kill_backend()?;
                site.start_backend()?;
            }
            syncer.kill()?;
            assert_eq!(numbers(&stored()?), before, "round {round}");
        }
        site.syncer()?.arg("once").succeed()?;
        assert_eq!(numbers(&stored()?), before);
        Ok(())
    })
    .unwrap();
}

#[test]
fn the_agent_killed_while_publishing_leaves_the_old_table_or_the_new() {
    isolated(
        "the_agent_killed_while_publishing_leaves_the_old_table_or_the_new",
        || {
            let mut world = World::start()?;
            let at = |round: i64| {
                let mut users: Vec<_> = (100_001..102_001).map(|uid| user(&format!("u{uid}"), uid)).collect();
                users.push(user(&format!("round{round}"), 200_000 + round));
                json!({"users": users, "groups": []})
            };
            world.put("local", &at(0))?;
            appears("round0")?;
            for (round, delay) in (1..).zip([5u64, 20, 45, 80, 130, 210]) {
                world.put("local", &at(round))?;
                std::thread::sleep(std::time::Duration::from_millis(delay));
                world.restart_agent()?;
                assert!(getent("passwd", "u102000")?.is_some(), "round {round}");
            }
            appears("round6")?;
            Ok(())
        },
    )
    .unwrap();
}

/// Neither the command line, nor the environment, nor the log of `program` holds one of `secrets`.
fn keeps_quiet(program: &Running, secrets: &[&str]) -> anyhow::Result<()> {
    let environment = std::fs::read(format!("/proc/{}/environ", program.id()))?;
    let arguments = std::fs::read(format!("/proc/{}/cmdline", program.id()))?;
    for text in [environment, arguments, program.log().into_bytes()] {
        let text = String::from_utf8_lossy(&text);
        assert!(
            secrets.iter().all(|secret| !text.contains(secret)),
            "{program:?} shows a secret"
        );
    }
    Ok(())
}

#[test]
fn the_syncer_keeps_quiet_about_its_secrets() {
    isolated("the_syncer_keeps_quiet_about_its_secrets", || {
        let mut site = Site::new()?;
        site.moto.add_user("alice", "Alice Example")?;
        site.start_backend()?;
        site.syncer()?.arg("enroll").succeed()?;
        let syncer = site.syncer()?.arg("run").serve()?;
        eventually(ARRIVAL, "the first snapshot", || {
            let reply = dirless_e2e::site::call("GET", "/v1/snapshot/aws-identity-center", &[], b"").ok()?;
            (reply.status == 200).then_some(())
        })?;
        keeps_quiet(&syncer, &[SECRET, "AGE-SECRET-KEY-1"])?;
        let stopped = syncer.stop()?;
        assert_eq!(stopped.code(), 0, "{}", stopped.stderr);
        for path in below("/srv/syncer")?.iter().filter(|path| path.is_file()) {
            let text = String::from_utf8_lossy(&std::fs::read(path)?).into_owned();
            let mode = std::fs::metadata(path)?.permissions().mode();
            let secret = text.contains(SECRET) || text.contains("AGE-SECRET-KEY-1");
            assert!(
                !secret || mode & 0o077 == 0,
                "{} is open to others: {mode:o}",
                path.display()
            );
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn no_secret_lies_about() {
    isolated("no_secret_lies_about", || {
        let world = World::start()?;
        world.put("local", &json!({"users": [user("alice", 100_001)], "groups": []}))?;
        appears("alice")?;
        let secrets = [SECRET, vectors::IDENTITY];
        let clean = |place: &str, text: &[u8]| {
            let text = String::from_utf8_lossy(text);
            assert!(
                secrets.iter().all(|secret| !text.contains(secret)),
                "{place} holds a secret"
            );
        };
        let running: Vec<&Running> = world.backend.iter().chain(&world.agent).collect();
        for program in running {
            keeps_quiet(program, &secrets)?;
        }
        for command in [["status", "--json"], ["doctor", "--json"]] {
            let said = Program::ours("dirless")?.args(command).run()?;
            clean(command[0], (said.stdout + &said.stderr).as_bytes());
        }
        for folder in ["/etc/dirless", "/var/lib/dirless", "/run/dirless-agent"] {
            for path in below(folder)?.iter().filter(|path| path.is_file()) {
                if std::fs::metadata(path)?.permissions().mode() & 0o077 != 0 {
                    clean(&path.to_string_lossy(), &std::fs::read(path)?);
                }
            }
        }
        // And nobody gets at the private ones by another way.
        let private = [
            "/etc/dirless/age.key",
            "/etc/dirless/dirless-agent.toml",
            "/var/lib/dirless/agent",
        ];
        for path in private.into_iter().filter(|path| Path::new(path).exists()) {
            assert!(
                !as_nobody(["ls", path]).run()?.status.success() || !as_nobody(["cat", path]).run()?.status.success(),
                "{path}"
            );
        }
        Ok(())
    })
    .unwrap();
}
