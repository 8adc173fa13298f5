//! Defects 5 and 9 to 16 of deployed Dirless, each shown to be absent on a whole host.
//! (docs/testing.md has the list of all sixteen.)

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use dirless_e2e::machine::{Authority, Person, getent, start_sshd};
use dirless_e2e::recorded::{Answer, Recorded};
use dirless_e2e::site::Site;
use dirless_e2e::vectors;
use dirless_e2e::world::{ARRIVAL, World, appears, as_nobody, below, group, keys, user};
use dirless_testkit::{Program, eventually, isolated};
use serde_json::{Value, json};

/// Looks up users from several threads and all the while checks whose answer came; prints the worst
/// time of one lookup in milliseconds.
const TORTURE: &str = r#"
import pwd, sys, threading, time
names, seconds = sys.argv[2:], float(sys.argv[1])
until, worst, wrong = time.monotonic() + seconds, [0.0], []
def work(name):
    while time.monotonic() < until:
        start = time.monotonic()
        try:
            if pwd.getpwnam(name).pw_name != name: wrong.append(name)
        except KeyError: wrong.append("lost " + name)
        worst[0] = max(worst[0], time.monotonic() - start)
threads = [threading.Thread(target=work, args=(name,)) for name in names]
[thread.start() for thread in threads]; [thread.join() for thread in threads]
print(int(worst[0] * 1000))
sys.exit("wrong answers: %s" % wrong[:5] if wrong else 0)
"#;

fn python(script: &str) -> Program {
    Program::system("/usr/bin/python3").args(["-c", script])
}

#[test]
fn defect_05_no_backend_plants_a_certificate_authority() {
    isolated("defect_05_no_backend_plants_a_certificate_authority", || {
        let world = World::start()?;
        world.put("local", &json!({"users": [user("alice", 100_001)]}))?;
        appears("alice")?;
        let _sshd = start_sshd()?;
        let (authority, alice) = (Authority::new("authority")?, Person::new("alice")?);
        authority.sign(&alice, "alice")?;
        let key = std::fs::read_to_string(authority.public_key())?;
        world.set("ca_public_key", &key)?;
        let authorities = || Program::ours("dirless")?.args(["ssh", "show"]).succeed();
        let proposes = |fingerprint: &str| {
            let line = format!("proposed  {fingerprint}");
            eventually(ARRIVAL, &line, || {
                authorities().ok().filter(|said| said.contains(&line))
            })
        };
        let fingerprint = |authority: &Authority| -> anyhow::Result<String> {
            let said = Program::system("ssh-keygen")
                .arg("-lf")
                .arg(authority.public_key())
                .succeed()?;
            Ok(said.split_whitespace().nth(1).unwrap().to_owned())
        };
        let own = fingerprint(&authority)?;
        proposes(&own)?;
        assert!(
            !Path::new("/etc/ssh/dirless_ca.pub").exists(),
            "the backend planted an authority"
        );
        assert!(!alice.ssh("true")?.status.success());

        // The operator of this host accepts it.
        Program::ours("dirless")?.args(["ssh", "accept-ca", &own]).succeed()?;
        eventually(ARRIVAL, "the accepted authority", || {
            Path::new("/etc/ssh/dirless_ca.pub").exists().then_some(())
        })?;
        eventually(ARRIVAL, "a login by certificate", || {
            alice.ssh("whoami").ok().filter(|said| said.stdout == "alice\n")
        })?;

        // Another one in its place is not trusted, and no answer withdraws it.
        let other = Authority::new("other")?;
        world.set("ca_public_key", &std::fs::read_to_string(other.public_key())?)?;
        proposes(&fingerprint(&other)?)?;
        let trusted = std::fs::read_to_string("/etc/ssh/dirless_ca.pub").unwrap_or_default();
        assert!(trusted.is_empty() || key.starts_with(trusted.trim()), "{trusted}");
        world.set("ca_public_key", "")?;
        eventually(ARRIVAL, "the withdrawal", || {
            (!Path::new("/etc/ssh/dirless_ca.pub").exists()).then_some(())
        })?;
        Ok(())
    })
    .unwrap();
}

#[test]
fn defect_09_numbers_never_move() {
    isolated("defect_09_numbers_never_move", || {
        let mut site = Site::new()?;
        site.start_backend()?;
        let ids: Vec<String> = (0..20)
            .map(|number| {
                site.moto
                    .add_user(&format!("user{number:02}"), &format!("User {number}"))
            })
            .collect::<Result<_, _>>()?;
        site.moto.add_group("first", &[&ids[0], &ids[1]])?;
        site.syncer()?.arg("enroll").succeed()?;
        let numbers = |site: &Site| -> anyhow::Result<Vec<(String, u64)>> {
            site.syncer()?.arg("once").succeed()?;
            let reply = dirless_e2e::site::call("GET", "/v1/snapshot/aws-identity-center", &[], b"")?;
            let identity = std::fs::read_to_string(Site::age_key())?;
            let identity = identity
                .lines()
                .find(|line| line.starts_with("AGE-SECRET-KEY-1"))
                .unwrap();
            let snapshot = dirless_e2e::blob::opened(identity, &reply.body)?;
            let users = snapshot["users"].as_array().unwrap().iter();
            Ok(users
                .map(|user| {
                    (
                        user["username"].as_str().unwrap().to_owned(),
                        user["uid"].as_u64().unwrap(),
                    )
                })
                .collect())
        };
        let before = numbers(&site)?;
        assert_eq!(before.len(), 20);
        site.moto.add_group("another", &[&ids[2]])?;
        assert_eq!(numbers(&site)?, before, "a new group moved somebody");
        site.moto.add_user("aaron", "Aaron First")?;
        let mut grown = numbers(&site)?;
        grown.retain(|(name, _)| name != "aaron");
        assert_eq!(grown, before, "a new user moved somebody");
        site.moto.remove_user(&ids[5])?;
        let left = numbers(&site)?;
        assert!(
            left.iter()
                .filter(|(name, _)| name != "aaron")
                .all(|entry| before.contains(entry)),
            "a leaver moved somebody"
        );
        site.moto.add_user("newcomer", "New Comer")?;
        let newcomer = numbers(&site)?
            .into_iter()
            .find(|(name, _)| name == "newcomer")
            .unwrap()
            .1;
        assert!(
            before.iter().all(|(_, uid)| *uid != newcomer),
            "the leaver's number was given away"
        );
        Ok(())
    })
    .unwrap();
}

#[test]
fn defect_10_threads_long_answers_and_closed_descriptors() {
    isolated("defect_10_threads_long_answers_and_closed_descriptors", || {
        let world = World::start()?;
        let names: Vec<String> = (0..3000).map(|number| format!("member{number:05}")).collect();
        let users: Vec<Value> = (100_001..).zip(&names).map(|(uid, name)| user(name, uid)).collect();
        let members: Vec<&str> = names.iter().map(String::as_str).collect();
        world.put(
            "local",
            &json!({"users": users, "groups": [group("everyone", 200_000, &members)]}),
        )?;
        appears("member02999")?;
        let everyone = getent("group", "everyone")?.unwrap();
        assert_eq!(
            everyone.split(':').nth(3).unwrap().split(',').count(),
            3000,
            "the answer was cut"
        );
        python(TORTURE)
            .args(["2", "member00000", "member00001", "member02999", "member01234"])
            .succeed()?;
        let reused = "import os, pwd\npwd.getpwnam('member00001')\nos.closerange(3, 64)\n\
                      held = [os.open('/run/work/held%d' % n, os.O_CREAT | os.O_RDWR) for n in range(8)]\n\
                      assert pwd.getpwnam('member00002').pw_name == 'member00002'\n\
                      assert all(os.fstat(f).st_size == 0 for f in held)\n";
        python(reused).succeed()?;
        Ok(())
    })
    .unwrap();
}

#[test]
fn defect_11_a_stopped_or_absent_agent_blocks_nobody() {
    isolated("defect_11_a_stopped_or_absent_agent_blocks_nobody", || {
        let mut world = World::start()?;
        world.put("local", &json!({"users": [user("alice", 100_001)]}))?;
        appears("alice")?;
        Program::system("kill")
            .args(["-STOP", &world.agent_id()?.to_string()])
            .succeed()?;
        let start = Instant::now();
        assert!(getent("passwd", "alice")?.is_some() && getent("passwd", "nobody-at-all")?.is_none());
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
        world.agent.take().unwrap().kill()?;
        assert!(getent("passwd", "alice")?.is_some());
        world.backend.take().unwrap().kill()?;
        assert!(getent("passwd", "100001")?.is_some());
        Ok(())
    })
    .unwrap();
}

#[test]
fn defect_12_and_13_neither_start_nor_publishing_blocks_lookups() {
    isolated("defect_12_and_13_neither_start_nor_publishing_blocks_lookups", || {
        let mut world = World::start()?;
        let users: Vec<Value> = (100_001..110_001).map(|uid| user(&format!("u{uid}"), uid)).collect();
        let mut round = 0;
        let mut publish = |world: &World| {
            round += 1;
            let mut all = users.clone();
            all.push(user(&format!("round{round}"), 200_000 + round));
            world.put("local", &json!({"users": all, "groups": []}))?;
            appears(&format!("round{round}"))
        };
        publish(&world)?;
        // A restart serves at once from the table that is there.
        let start = Instant::now();
        world.restart_agent()?;
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "the start took {:?}",
            start.elapsed()
        );
        // Lookups go on while new generations of 10,000 users are published under them.
        let lookups = std::thread::spawn(|| python(TORTURE).args(["8", "u100001", "u110000"]).succeed());
        for _ in 0..2 {
            publish(&world)?;
        }
        let worst: u64 = lookups.join().unwrap()?.trim().parse()?;
        assert!(worst < 1000, "a lookup took {worst} ms");
        Ok(())
    })
    .unwrap();
}

#[test]
fn defect_13_nothing_is_written_when_nothing_changed() {
    isolated("defect_13_nothing_is_written_when_nothing_changed", || {
        let backend = Recorded::start("127.0.0.1:4000")?;
        backend.answer("GET /v1/snapshot/aws-identity-center", Answer::sealed(vectors::SEALED));
        let _world = World::of(&backend)?;
        appears("alice")?;
        let cycles = || backend.count("POST /v1/agent/heartbeat");
        eventually(ARRIVAL, "a full cycle", || (cycles() >= 2).then_some(()))?;
        let stamp = || -> anyhow::Result<Vec<(std::path::PathBuf, u64, i64, i64)>> {
            let stamps = below("/var/lib/dirless")?
                .into_iter()
                .filter(|path| path.is_file())
                .map(|path| {
                    let meta = std::fs::metadata(&path).unwrap();
                    (path, meta.ino(), meta.mtime(), meta.mtime_nsec())
                });
            Ok(stamps.collect())
        };
        let (before, seen) = (stamp()?, cycles());
        eventually(ARRIVAL, "three cycles", || (cycles() >= seen + 3).then_some(()))?;
        assert_eq!(stamp()?, before);
        Ok(())
    })
    .unwrap();
}

#[test]
fn defect_14_strangers_reach_no_socket_of_the_agent() {
    isolated("defect_14_strangers_reach_no_socket_of_the_agent", || {
        let world = World::start()?;
        world.put("local", &json!({"users": [user("alice", 100_001)]}))?;
        appears("alice")?;
        let listed = Program::system("ss").args(["-xlnpH"]).succeed()?;
        for line in listed.lines().filter(|line| line.contains("dirless-agent")) {
            let path = line.split_whitespace().nth(4).unwrap();
            let connect = format!("import socket; socket.socket(socket.AF_UNIX).connect({path:?})");
            let outcome = as_nobody(["/usr/bin/python3", "-c", &connect]).run()?;
            assert!(!outcome.status.success(), "anybody can connect to {path}");
            // Even root cannot make it grow with a line that never ends.
            let resident = || -> u64 {
                let status = std::fs::read_to_string(format!("/proc/{}/status", world.agent_id().unwrap())).unwrap();
                let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
                line.split_whitespace().nth(1).unwrap().parse().unwrap()
            };
            let before = resident();
            let flood = format!(
                "import socket\ns = socket.socket(socket.AF_UNIX); s.connect({path:?})\ns.settimeout(5)\n\
                 try:\n for _ in range(200): s.sendall(b'x' * 1048576)\nexcept OSError: pass\n"
            );
            python(&flood).succeed()?;
            assert!(
                resident() < before + 16 * 1024,
                "grew from {before} to {} KiB",
                resident()
            );
        }
        assert!(!listed.contains("nss.sock"), "{listed}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn defect_16_the_keys_helper_never_fails_while_the_agent_writes() {
    isolated("defect_16_the_keys_helper_never_fails_while_the_agent_writes", || {
        let world = World::start()?;
        let alice = Person::new("alice")?;
        let key = std::fs::read_to_string(alice.public_key())?;
        let at = |round: i64| {
            let users = [user("alice", 100_001), user(&format!("round{round}"), 100_100 + round)];
            json!({"users": users, "groups": [], "ssh_keys": {"alice": key}})
        };
        world.put("local", &at(0))?;
        appears("round0")?;
        let expected = keys("alice")?;
        assert!(key.contains(expected.split_whitespace().nth(1).unwrap()), "{expected}");
        for round in 1..6 {
            world.put("local", &at(round))?;
            eventually(ARRIVAL, "the next generation", || {
                assert_eq!(keys("alice").unwrap(), expected);
                getent("passwd", &format!("round{round}")).ok().flatten()
            })?;
        }
        Ok(())
    })
    .unwrap();
}
