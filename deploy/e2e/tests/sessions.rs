//! What people have running ends with them, where the host says so, and nobody else's does.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use dirless_e2e::world::{ARRIVAL, World, appears, user, vanishes};
use dirless_testkit::{Program, eventually, isolated};
use serde_json::json;

/// Something that runs until it is ended.
struct Shell(Child);

impl Shell {
    /// As `uid`; does not listen to SIGTERM when it is `stubborn`.
    fn of(uid: u32, stubborn: bool) -> Self {
        let trap = if stubborn { "trap '' TERM; " } else { "" };
        let shell = Command::new("sh")
            .args(["-c", &format!("{trap}while true; do sleep 1; done")])
            .uid(uid)
            .gid(uid)
            .stdin(Stdio::null())
            .spawn();
        Self(shell.unwrap())
    }

    fn is_alive(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    fn ends(&mut self, what: &str) -> anyhow::Result<()> {
        eventually(ARRIVAL, what, || (!self.is_alive()).then_some(()))
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How many processes have the real uid.
fn count(uid: u32) -> usize {
    let said = Command::new("pgrep")
        .args(["--uid", &uid.to_string()])
        .output()
        .unwrap();
    String::from_utf8_lossy(&said.stdout).lines().count()
}

fn limits(text: &str) {
    std::fs::create_dir_all("/etc/dirless").unwrap();
    std::fs::write("/etc/dirless/limits.toml", text).unwrap();
}

fn directory(names: &[(&str, i64)]) -> serde_json::Value {
    let users: Vec<_> = names.iter().map(|(name, uid)| user(name, *uid)).collect();
    json!({"users": users, "groups": []})
}

#[test]
fn who_is_removed_has_nothing_running_and_others_keep_all() {
    isolated("who_is_removed_has_nothing_running_and_others_keep_all", || {
        // A local account with a number that the directory has as well, and one outside the host's limits.
        let passwd = std::fs::read_to_string("/etc/passwd")?;
        std::fs::write("/etc/passwd", passwd + "joe:x:100003:100003::/home/joe:/bin/sh\n")?;
        limits("end_sessions = true\nuser_ids = [\"100000-100999\"]\n");
        let world = World::start()?;
        let all = [("alice", 100_001), ("bob", 100_002), ("carol", 100_003)];
        world.put("local", &directory(&all))?;
        appears("alice")?;
        let (mut alice, mut deaf) = (Shell::of(100_001, false), Shell::of(100_001, true));
        let (mut bob, mut joe, mut stranger, mut outside) = (
            Shell::of(100_002, false),
            Shell::of(100_003, false),
            Shell::of(100_500, false),
            Shell::of(200_000, false),
        );
        world.put("local", &directory(&all[1..]))?;
        vanishes("alice")?;
        alice.ends("alice's shell")?;
        deaf.ends("a shell of hers that does not listen")?;
        eventually(ARRIVAL, "the last process of alice", || {
            (count(100_001) == 0).then_some(())
        })?;
        let status = || {
            Program::ours("dirless")
                .unwrap()
                .args(["status", "--json"])
                .run()
                .unwrap()
                .stdout
        };
        eventually(ARRIVAL, "the count in the status", || {
            let status: serde_json::Value = serde_json::from_str(&status()).ok()?;
            (status["sessions_ended"] == 1).then_some(())
        })?;
        // Carol was never published: her number is joe's. The others the directory never had.
        world.put("local", &directory(&[("bob", 100_002), ("dave", 100_004)]))?;
        appears("dave")?;
        for (name, shell) in [
            ("bob", &mut bob),
            ("joe", &mut joe),
            ("stranger", &mut stranger),
            ("outside", &mut outside),
        ] {
            assert!(shell.is_alive(), "{name}");
        }
        let log = world.agent.as_ref().unwrap().log();
        assert!(log.contains("nothing runs as alice any more"), "{log}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_login_that_begins_just_after_somebody_was_removed_is_ended_as_well() {
    isolated(
        "a_login_that_begins_just_after_somebody_was_removed_is_ended_as_well",
        || {
            limits("end_sessions = true\n");
            let mut world = World::start()?;
            // Nothing but notices begins a cycle.
            let config = "/etc/dirless/dirless-agent.toml";
            let slow = std::fs::read_to_string(config)?.replace("interval_seconds = 1\n", "interval_seconds = 3600\n");
            std::fs::write(config, slow)?;
            world.restart_agent()?;
            let all = [("alice", 100_001), ("bob", 100_002), ("carol", 100_003)];
            world.put("local", &directory(&all))?;
            appears("alice")?;
            world.put("local", &directory(&all[1..]))?;
            vanishes("alice")?;
            // It had passed the checks of the account. Another publication, so that whatever follows a removal is over.
            world.put("local", &directory(&all[2..]))?;
            vanishes("bob")?;
            let (mut alice, mut bob) = (Shell::of(100_001, false), Shell::of(100_002, false));
            alice.ends("alice's shell")?;
            bob.ends("bob's shell")?;
            // Over a restart as well.
            world.restart_agent()?;
            Shell::of(100_001, false).ends("alice's second shell")?;
            Ok(())
        },
    )
    .unwrap();
}

#[test]
fn nobody_is_thrown_out_by_default_by_an_empty_directory_or_in_crowds() {
    isolated(
        "nobody_is_thrown_out_by_default_by_an_empty_directory_or_in_crowds",
        || {
            let mut world = World::start()?;
            let all = [
                ("alice", 100_001),
                ("bob", 100_002),
                ("carol", 100_003),
                ("dave", 100_004),
            ];
            world.put("local", &directory(&all))?;
            appears("alice")?;
            let mut alice = Shell::of(100_001, false);
            world.put("local", &directory(&all[1..]))?;
            vanishes("alice")?;
            // Another publication, so that whatever follows a removal is over.
            world.put("local", &directory(&[&all[1..], &[("erin", 100_005)]].concat()))?;
            appears("erin")?;
            assert!(alice.is_alive(), "by default");

            limits("end_sessions = true\nend_sessions_most = 1\n");
            world.restart_agent()?;
            let (mut bob, mut carol) = (Shell::of(100_002, false), Shell::of(100_003, false));
            world.put("local", &directory(&[("dave", 100_004)]))?;
            vanishes("bob")?;
            let status = || Program::ours("dirless").unwrap().arg("status").run().unwrap();
            eventually(ARRIVAL, "the alarm", || {
                let said = status();
                (said.stdout + &said.stderr)
                    .contains("looks like an accident")
                    .then_some(())
            })?;
            assert!(bob.is_alive() && carol.is_alive(), "two at once");
            // The operator raises the limit: they are remembered, over a restart as well.
            limits("end_sessions = true\nend_sessions_most = 2\n");
            world.restart_agent()?;
            bob.ends("bob's shell")?;
            carol.ends("carol's shell")?;
            let mut dave = Shell::of(100_004, false);
            world.put("local", &directory(&[]))?;
            vanishes("dave")?;
            eventually(ARRIVAL, "the alarm", || {
                let said = status();
                (said.stdout + &said.stderr)
                    .contains("looks like an accident")
                    .then_some(())
            })?;
            assert!(dave.is_alive(), "an empty directory");
            Ok(())
        },
    )
    .unwrap();
}

#[test]
fn logind_is_asked_where_it_is() {
    isolated("logind_is_asked_where_it_is", || {
        std::fs::create_dir_all("/run/systemd/system")?;
        std::fs::remove_file("/usr/bin/loginctl").ok();
        std::fs::write("/usr/bin/loginctl", "#!/bin/sh\necho \"$@\" >> /run/loginctl-said\n")?;
        std::fs::set_permissions("/usr/bin/loginctl", std::fs::Permissions::from_mode(0o755))?;
        limits("end_sessions = true\n");
        let world = World::start()?;
        world.put("local", &directory(&[("alice", 100_001), ("bob", 100_002)]))?;
        appears("alice")?;
        let mut alice = Shell::of(100_001, false);
        world.put("local", &directory(&[("bob", 100_002)]))?;
        vanishes("alice")?;
        // What logind leaves behind is seen to.
        alice.ends("alice's shell")?;
        assert_eq!(
            std::fs::read_to_string("/run/loginctl-said")?,
            "terminate-user 100001\n"
        );
        drop(world);
        Ok(())
    })
    .unwrap();
}
