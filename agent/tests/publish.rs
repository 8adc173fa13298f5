//! The worker over real files: what it keeps, what it survives.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Host, KEY, user, users};
use dirless_agent::pipeline::{DirectoryOptions, Ending, PublishError, Ratchet, Taken};

#[test]
fn defect_13_a_table_is_written_only_when_something_changed() {
    let host = Host::new();
    host.put("local", &users(&[("alice", 100_001)]));
    let (code, line) = host.publish().unwrap();
    assert_eq!(code, 0);
    assert!(
        line.starts_with(r#"{"ending":"published","degraded":false,"generation":1,"users":1"#),
        "{line}"
    );
    assert!(
        line.contains(r#""etag":"\"local-1\"""#) && line.ends_with('\n'),
        "{line}"
    );
    let inode = || fs::metadata(host.paths.table()).unwrap().ino();
    let first = inode();
    assert_eq!(fs::metadata(host.paths.table()).unwrap().mode() & 0o777, 0o644);
    assert_eq!(fs::metadata(host.paths.report()).unwrap().mode() & 0o777, 0o600);
    // The same people in another sealed body: nothing to write.
    host.put("local", &users(&[("alice", 100_001)]));
    assert!(host.publish().unwrap().1.contains("unchanged"));
    assert_eq!(inode(), first);
    host.put("local", &users(&[("bob", 100_002)]));
    assert!(host.publish().unwrap().1.contains("published"));
    assert_eq!(host.users(), ["bob"]);
    assert_eq!(host.table().stats().generation, 2);
    // A table that is gone or damaged is made anew, also when the directory is the same.
    fs::remove_file(host.paths.table()).unwrap();
    assert!(host.publish().unwrap().1.contains("published"));
    fs::write(host.paths.table(), "x").unwrap();
    assert!(host.publish().unwrap().1.contains("published"));
    // Without the report the table's own number counts on.
    let generation = host.table().stats().generation;
    fs::remove_file(host.paths.report()).unwrap();
    host.publish().unwrap();
    assert_eq!(host.table().stats().generation, generation + 1);
}

#[test]
fn nothing_is_done_again_until_something_that_counts_has_changed() {
    let mut host = Host::new();
    host.put("local", &users(&[("alice", 100_001), ("bob", 100_002)]));
    host.publish().unwrap();
    // A body that would be refused, put where the daemon never writes: only a second run would see it.
    let sealed = host.paths.sealed("local");
    let (good, file) = (
        fs::read(&sealed).unwrap(),
        fs::File::options().write(true).open(&sealed).unwrap(),
    );
    let time = fs::metadata(&sealed).unwrap().modified().unwrap();
    file.write_all_at(b"garbage", 0).unwrap();
    file.set_modified(time).unwrap();
    let (code, line) = host.publish().unwrap();
    assert!(
        code == 0 && line.contains(r#""ending":"unchanged","degraded":false"#),
        "{line}"
    );
    assert_eq!(host.report().sources[0].users, 2, "what the last run found still holds");
    file.write_all_at(&good, 0).unwrap();
    file.set_modified(time).unwrap();
    // Everything else that a run depends on.
    let passwd = fs::read_to_string(host.paths.passwd()).unwrap();
    fs::write(host.paths.passwd(), format!("{passwd}bob:x:1500:1500::/:/bin/sh\n")).unwrap();
    assert!(host.publish().unwrap().1.contains("published"));
    assert_eq!(host.users(), ["alice"]);
    fs::write(host.paths.passwd(), &passwd).unwrap();
    host.publish().unwrap();
    assert_eq!(host.users(), ["alice", "bob"]);
    host.rules(r#"{"enforce_group_memberships":true,"host_group_rules":[]}"#);
    host.publish().unwrap();
    assert_eq!(host.users(), Vec::<String>::new());
    host.rules(common::OPEN);
    host.publish().unwrap();
    assert_eq!(host.users(), ["alice", "bob"]);
    fs::write(host.paths.limits(), "user_ids = [\"1000-100001\"]\n").unwrap();
    host.publish().unwrap();
    assert_eq!(host.users(), ["alice"]);
    let generation = host.table().stats().generation;
    host.options.enumerate = !host.options.enumerate;
    assert!(host.publish().unwrap().1.contains("published"));
    assert_eq!(host.table().stats().generation, generation + 1);
    fs::remove_file(host.paths.table()).unwrap();
    assert!(host.publish().unwrap().1.contains("published"));
    assert!(host.publish().unwrap().1.contains("unchanged"));
}

#[test]
fn what_cannot_be_used_leaves_the_last_good_body_in_force() {
    let host = Host::new();
    host.put("local", &users(&[("alice", 100_001)]));
    host.put("aws-identity-center", &users(&[("bob", 60_002)]));
    host.publish().unwrap();
    host.put_bytes("local", b"garbage");
    host.put("aws-identity-center", &users(&[("carol", 60_003)]));
    let (code, line) = host.publish().unwrap();
    assert_eq!(code, 0);
    assert!(
        line.contains(r#""degraded":true"#) && line.contains("not-sealed"),
        "{line}"
    );
    assert_eq!(host.users(), ["alice", "carol"], "the other source's changes go on");
    assert_eq!(host.report().sources[0].taken, Taken::LastGood);
    // And once more, for the last good body is not used up.
    host.put_bytes("local", b"more garbage");
    host.publish().unwrap();
    assert_eq!(host.users(), ["alice", "carol"]);
    // Emptied on purpose: gone, and garbage does not bring it back.
    host.absent("local");
    host.publish().unwrap();
    assert_eq!(host.users(), ["carol"]);
    host.put_bytes("local", b"garbage");
    assert_eq!(host.publish().unwrap().0, 65);
    assert_eq!(host.users(), ["carol"], "the table in place stays");
}

#[test]
fn the_ratchet_is_on_disk_before_the_table_and_refuses_replays() {
    let host = Host::new();
    let snapshot = |sequence: u32, name: &str| format!(r#"{{"sequence":{sequence},"users":[{}]}}"#, user(name, 2000));
    host.put("local", &snapshot(7, "alice"));
    host.publish().unwrap();
    assert_eq!(Ratchet::load(&host.paths.ratchet()).unwrap().seen("local"), Some(7));
    host.put("local", &snapshot(6, "mallory"));
    host.publish().unwrap();
    assert_eq!(host.users(), ["alice"]);
    // Also when the table cannot be written, the sequence counts.
    fs::remove_dir_all(host.paths.table_folder()).unwrap();
    host.put("local", &snapshot(9, "bob"));
    assert_eq!(host.publish().unwrap().0, 74);
    assert_eq!(host.report().ending, Ending::Failed);
    assert_eq!(Ratchet::load(&host.paths.ratchet()).unwrap().seen("local"), Some(9));
    fs::write(host.paths.ratchet(), "{").unwrap();
    assert!(matches!(host.publish(), Err(PublishError::Ratchet(_))));
}

#[test]
fn malformed_access_rules_leave_the_last_good_ones_in_force() {
    let host = Host::new();
    host.put("local", &format!(
        r#"{{"users":[{},{}],"groups":[{{"name":"eng","gid":3000,"members":["alice"]}}],"ssh_keys":{{"alice":"{KEY}","bob":"{KEY}"}}}}"#,
        user("alice", 2000),
        user("bob", 2001)
    ));
    host.rules(r#"{"enforce_group_memberships":true,"host_group_rules":[{"group":"eng","host":"web-1"}]}"#);
    host.publish().unwrap();
    assert_eq!(host.users(), ["alice"]);
    assert!(host.table().keys(b"bob").unwrap().is_none_or(<[u8]>::is_empty));
    for broken in ["", "<html>", r#"{"enforce_group_memberships":"false"}"#] {
        host.rules(broken);
        assert_eq!(host.publish().unwrap().0, 0);
        assert_eq!(host.users(), ["alice"]);
        assert!(host.report().access.problem.is_some());
    }
    fs::remove_file(host.paths.access_rules()).unwrap();
    fs::remove_file(host.paths.good_access_rules()).unwrap();
    assert_eq!(host.publish().unwrap().0, 75);
    assert_eq!(host.users(), ["alice"]);
}

#[test]
fn a_host_that_is_set_up_wrongly_publishes_nothing_and_says_what_to_do() {
    let host = Host::new();
    host.put("local", &users(&[("alice", 2000)]));
    fs::write(host.paths.limits(), "max_users = 5\n").unwrap();
    fs::set_permissions(host.paths.limits(), Permissions::from_mode(0o666)).unwrap();
    let error = host.publish().unwrap_err();
    assert_eq!(error.exit_code(), 78);
    assert!(error.to_string().contains("chmod 644"), "{error}");
    let noted = host.report().problem.unwrap();
    assert!(noted.code == "setup" && noted.reason.contains("chmod 644"));
    fs::set_permissions(host.paths.limits(), Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(host.paths.age_key(), Permissions::from_mode(0o644)).unwrap();
    let error = host.publish().unwrap_err();
    assert!(matches!(error, PublishError::Key(_)) && error.to_string().contains("chmod 600"));
    fs::remove_file(host.paths.age_key()).unwrap();
    assert_eq!(host.publish().unwrap_err().exit_code(), 78);
    assert!(!host.paths.table().exists());
}

#[test]
fn defect_12_no_size_of_the_directory_and_no_publish_keeps_a_lookup_waiting() {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Instant;
    let host = Host::new();
    let list = |from: u32| {
        let users: Vec<_> = (from..from + 4000)
            .map(|number| user(&format!("u{number}"), 2000 + number))
            .collect();
        format!(r#"{{"users":[{}]}}"#, users.join(","))
    };
    host.put("local", &list(0));
    host.publish().unwrap();
    let done = AtomicBool::new(false);
    let worst = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut worst = Duration::ZERO;
            while !done.load(Ordering::SeqCst) {
                let start = Instant::now();
                // A process that starts now: opens the table and asks. u1500 is in every generation.
                let table = dirless_table::Table::open(&host.paths.table(), host.options.owner).unwrap();
                assert!(table.user_by_name(b"u1500").unwrap().is_some());
                worst = worst.max(start.elapsed());
            }
            worst
        });
        for from in 1..6 {
            host.put("local", &list(from * 100));
            assert_eq!(host.publish().unwrap().0, 0);
        }
        done.store(true, Ordering::SeqCst);
        asking.join().unwrap()
    });
    // Deployed agents took 51 s at this size. The bound leaves room for a busy machine.
    assert!(worst < Duration::from_secs(15), "{worst:?}");
}

#[test]
fn two_workers_do_not_meet() {
    let host = Host::new();
    let lock = fs::File::create(host.paths.publish_lock()).unwrap();
    lock.lock().unwrap();
    assert!(matches!(host.publish(), Err(PublishError::Busy)));
    drop(lock);
    assert_eq!(host.publish().unwrap().0, 0);
}

/// Not a test by itself: the process that the next one kills. It publishes without end.
#[test]
fn worker_process() {
    let Some(root) = dirless_program::environment("DIRLESS_TEST_WORKER_ROOT") else {
        return;
    };
    let paths = dirless_agent::paths::Paths::under(Path::new(&root));
    let mut options = dirless_agent::pipeline::Options::new("web-1".into());
    options.owner = fs::metadata(&root).unwrap().uid();
    let clock = dirless_program::Clock::system();
    loop {
        for source in ["one", "two"] {
            fs::copy(Path::new(&root).join(source), Path::new(&root).join("next")).unwrap();
            fs::rename(Path::new(&root).join("next"), paths.sealed("local")).unwrap();
            let mut line = Vec::new();
            dirless_agent::pipeline::publish_command(&paths, &options, &clock, &mut line).unwrap();
        }
    }
}

#[test]
fn a_worker_killed_at_any_moment_leaves_a_whole_table_and_a_high_ratchet() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::at(folder.path());
    let snapshot = |count: u32, name: &str| {
        let list: Vec<_> = (0..count)
            .map(|number| user(&format!("{name}{number}"), 2000 + number))
            .collect();
        format!(r#"{{"sequence":7,"users":[{}]}}"#, list.join(","))
    };
    for (file, name) in [("one", "a"), ("two", "b")] {
        host.put("local", &snapshot(300, name));
        fs::copy(host.paths.sealed("local"), folder.path().join(file)).unwrap();
    }
    host.publish().unwrap();
    let mut generation = 1;
    for round in 0..25_u64 {
        let mut worker = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "worker_process", "--nocapture"])
            .env("DIRLESS_TEST_WORKER_ROOT", folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Some die while they start, the others at a moment of their own after their first table. That
        // these are not the same each time is what is wanted.
        if round >= 5 {
            let before = generation;
            dirless_testkit::eventually(Duration::from_secs(60), "a table of the worker", || {
                generation = host.table().stats().generation;
                (generation > before).then_some(())
            })
            .unwrap();
        }
        std::thread::sleep(Duration::from_millis(round * 3));
        worker.kill().unwrap();
        worker.wait().unwrap();
        let users = host.users();
        assert_eq!(users.len(), 300);
        assert!(users.iter().all(|name| name.starts_with(users[0].get(..1).unwrap())));
        assert_eq!(Ratchet::load(&host.paths.ratchet()).unwrap().seen("local"), Some(7));
    }
    assert_eq!(host.publish().unwrap().0, 0);
    let leftovers = fs::read_dir(host.paths.table_folder()).unwrap().count();
    assert_eq!(leftovers, 1, "a dead worker's file is cleared away by the next");
}

#[test]
fn a_full_disk_keeps_the_table_in_place_and_is_told() {
    dirless_testkit::isolated("a_full_disk_keeps_the_table_in_place_and_is_told", || {
        let folder = tempfile::tempdir()?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m,mode=0755", "small"])
            .arg(folder.path())
            .status()?;
        anyhow::ensure!(mounted.success(), "tmpfs cannot be mounted");
        let host = Host::at(folder.path());
        host.put("local", &users(&[("alice", 2000)]));
        assert_eq!(host.publish()?.0, 0);
        let many: Vec<_> = (0..4000)
            .map(|number| user(&format!("u{number}"), 2000 + number))
            .collect();
        host.put("local", &format!(r#"{{"users":[{}]}}"#, many.join(",")));
        // Room for the small files and not for the table.
        fs::write(folder.path().join("ballast"), vec![0; 640 << 10])?;
        let (code, line) = host.publish()?;
        assert_eq!(code, 74, "{line}");
        assert!(line.contains("No space left"), "{line}");
        assert_eq!(host.users(), ["alice"]);
        assert!(host.report().problem.is_some());
        fs::remove_file(folder.path().join("ballast"))?;
        assert_eq!(host.publish()?.0, 0);
        assert_eq!(host.users().len(), 4000);
        Ok(())
    })
    .unwrap();
}

#[test]
fn the_memory_limit_ends_the_worker_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::at(folder.path());
    host.put("local", &users(&[("alice", 2000)]));
    host.publish().unwrap();
    let huge: Vec<_> = (0..20_000)
        .map(|number| user(&format!("user-{number}"), 2000 + number))
        .collect();
    host.put("local", &format!(r#"{{"users":[{}]}}"#, huge.join(",")));
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "small_worker_process", "--nocapture"])
        .env("DIRLESS_TEST_SMALL_ROOT", folder.path())
        // Otherwise the allocator has 64 MiB of address space for this thread in reserve.
        .env("MALLOC_ARENA_MAX", "1")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(!status.success());
    assert_eq!(host.users(), ["alice"]);
    assert_eq!(host.publish().unwrap().0, 0);
    assert_eq!(host.users().len(), 20_000);
}

/// Not a test by itself: a worker with hardly more memory than the program takes.
#[test]
fn small_worker_process() {
    let Some(root) = dirless_program::environment("DIRLESS_TEST_SMALL_ROOT") else {
        return;
    };
    let paths = dirless_agent::paths::Paths::under(Path::new(&root));
    let mut options = dirless_agent::pipeline::Options::new("web-1".into());
    options.owner = fs::metadata(&root).unwrap().uid();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmSize:")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    options.memory = Some((kib + 1024) * 1024);
    let mut line = Vec::new();
    let clock = dirless_program::Clock::system();
    dirless_agent::pipeline::publish_command(&paths, &options, &clock, &mut line).unwrap();
}

/// 60 MB for 100,000 users is the limit; what a fifth of them takes shows it in a fifth of the time.
#[test]
fn a_worker_takes_no_more_memory_than_its_directory_is_worth() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::at(folder.path());
    let names = (0..20_000).map(|number| format!("user-{number}"));
    let users: Vec<_> = names.clone().zip(2000..).map(|(name, id)| user(&name, id)).collect();
    let everyone: Vec<_> = names.map(|name| format!("{name:?}")).collect();
    let group = |gid: u32| {
        format!(
            r#"{{"name":"team-{gid}","gid":{gid},"members":[{}]}}"#,
            everyone.join(",")
        )
    };
    let groups: Vec<_> = (50_000..50_005).map(group).collect();
    host.put(
        "local",
        &format!(r#"{{"groups":[{}],"users":[{}]}}"#, groups.join(","), users.join(",")),
    );
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "measured_worker_process", "--nocapture"])
        .env("DIRLESS_TEST_MEASURED_ROOT", folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let grown = said.lines().find_map(|line| line.strip_prefix("grown by KiB: "));
    let grown: u64 = grown.unwrap().parse().unwrap();
    assert_eq!(host.users().len(), 20_000);
    assert!(grown < 60 * 1024 / 5, "{grown} KiB");
}

/// Not a test by itself: a worker that says how much memory it took on top of the program.
#[test]
fn measured_worker_process() {
    let Some(root) = dirless_program::environment("DIRLESS_TEST_MEASURED_ROOT") else {
        return;
    };
    let kib = |name: &str| -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let paths = dirless_agent::paths::Paths::under(Path::new(&root));
    let mut options = dirless_agent::pipeline::Options::new("web-1".into());
    options.owner = fs::metadata(&root).unwrap().uid();
    let (before, program) = (kib("VmRSS:"), kib("RssFile:"));
    let clock = dirless_program::Clock::system();
    dirless_agent::pipeline::publish_command(&paths, &options, &clock, &mut Vec::new()).unwrap();
    // Pages of the program itself that were not needed before say nothing about the directory.
    let program = kib("RssFile:").saturating_sub(program);
    println!("\ngrown by KiB: {}", kib("VmHWM:") - before - program);
}

#[test]
fn a_directory_copy_is_published_after_the_host_limits_and_only_when_something_changed() {
    use dirless_copy::{Reader, Scope};
    use dirless_directory::{Dn, DnKey, Filter, Schema};
    let schema = Schema::standard();
    let names = |path: &Path| {
        let reader = Reader::open(path, schema.clone()).unwrap();
        let mut found = Vec::new();
        let filter = Filter::parse("(objectClass=posixAccount)").unwrap();
        reader
            .candidates(&DnKey::from(Vec::new()), Scope::Subtree, &filter, None, &mut |row| {
                found.push(row.dn.to_owned());
                std::ops::ControlFlow::Continue(())
            })
            .unwrap();
        found
    };
    let mut host = Host::new();
    host.put("local", &users(&[("alice", 100_001), ("mallory", 5)]));
    host.publish().unwrap();
    let copy = host.paths.directory_copy();
    assert!(!copy.exists(), "nobody asked for one");
    host.options.directory = Some(DirectoryOptions {
        base: Dn::parse("dc=example,dc=com").unwrap(),
        sources: Vec::new(),
    });
    // The table says the same as before; the copy is made all the same.
    assert!(host.publish().unwrap().1.contains("unchanged"));
    assert_eq!(
        names(&copy),
        ["uid=alice,ou=users,dc=example,dc=com"],
        "a system id was let in"
    );
    assert_eq!(fs::metadata(&copy).unwrap().mode() & 0o777, 0o640);
    let inode = || fs::metadata(&copy).unwrap().ino();
    let first = inode();
    host.publish().unwrap();
    assert_eq!(inode(), first);
    host.put("local", &users(&[("alice", 100_001), ("bob", 100_002)]));
    host.publish().unwrap();
    assert_eq!(names(&copy).len(), 2);
    // Damaged, it is made anew; where it cannot be written, nobody's login waits for it.
    fs::write(&copy, "x").unwrap();
    host.publish().unwrap();
    assert_eq!(names(&copy).len(), 2);
    let folder = copy.parent().unwrap();
    fs::remove_dir_all(folder).unwrap();
    fs::write(folder, "in the way").unwrap();
    host.put("local", &users(&[("carol", 100_003)]));
    assert!(host.publish().unwrap().1.contains("published"));
    assert!(host.report().lacks_copy());
    assert_eq!(host.users(), ["carol"]);
    fs::remove_file(folder).unwrap();
    host.publish().unwrap();
    assert!(!host.report().lacks_copy());
    assert_eq!(names(&copy), ["uid=carol,ou=users,dc=example,dc=com"]);
    host.options.directory = None;
    host.publish().unwrap();
    assert!(!copy.exists(), "a copy that nobody asks for is removed");
}
