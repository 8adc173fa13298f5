//! Crashes, full disks, and two syncers at once.

use std::process::Stdio;
use std::time::Duration;

use dirless_testkit::aws::{Directory, Failure};
use dirless_testkit::eventually;

use crate::support::{Site, both, few};

#[test]
fn killed_between_the_ledger_and_the_push_the_ids_stay() {
    let site = Site::new(few());
    // The push meets a backend that takes its time, so that the kill comes in between.
    site.backend.with(|memory| memory.put_delay = Duration::from_secs(30));
    let mut child = site
        .command(&["once"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let file = site.path("state/sequence.json");
    eventually(Duration::from_secs(30), "the number to be used", || {
        file.exists().then_some(())
    })
    .unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let ledger = site.good(&["ledger", "export"]);
    assert_eq!(ledger.matches("\"number\"").count(), 5);
    site.backend.with(|memory| memory.put_delay = Duration::ZERO);
    assert!(site.good(&["once"]).contains("published snapshot"));
    assert_eq!(site.good(&["ledger", "export"]), ledger);
    assert!(
        site.published()["sequence"].as_u64().unwrap() >= 2,
        "the number that may have been seen is not used again"
    );
}

#[test]
fn killed_at_any_moment_no_number_moves() {
    let site = Site::new(few());
    site.good(&["once"]);
    let before = site.numbers();
    for round in 0..12_u32 {
        site.aws.edit(|directory| {
            directory
                .user(&format!("u-1{round}"), &format!("new{round}"))
                .name
                .clone()
        });
        let mut child = site
            .command(&["once"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(u64::from(round) * 12));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let known: Vec<_> = site.numbers().into_iter().collect();
    site.good(&["once"]);
    let after = site.numbers();
    for (name, number) in before.into_iter().chain(known) {
        assert_eq!(after[&name], number, "{name} moved");
    }
    assert_eq!(after.len(), 17);
    assert_eq!(
        after.values().collect::<std::collections::BTreeSet<_>>().len(),
        after.len()
    );
}

#[test]
fn a_full_disk_publishes_nothing_and_loses_nothing() {
    let site = Site::new(few());
    let state = site.path("state");
    std::fs::create_dir_all(&state).unwrap();
    // A file system of a few megabytes of its own; it goes with the namespace.
    let script = "mount -t tmpfs -o size=6m,mode=0700 tmpfs \"$STATE\" || exit 99
        \"$@\" || exit 98
        cp \"$STATE/ledger.db\" \"$STATE.before\"
        cat /dev/zero > \"$STATE/filler\" 2>/dev/null
        \"$@\"; echo \"ended $?\"
        rm \"$STATE/filler\"
        \"$@\" || exit 97";
    let program = site.command(&["once"]);
    let mut command = std::process::Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "sh", "-c", script, "full"])
        .arg(program.get_program());
    command.args(program.get_args()).env("STATE", &state);
    for (name, value) in program.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    // Somebody new appears between the first and the second run.
    let site_aws = &site.aws;
    std::thread::scope(|scope| {
        let runner = scope.spawn(move || command.output().unwrap());
        eventually(Duration::from_secs(30), "the first push", || {
            (site.backend.puts() == 1).then_some(())
        })
        .unwrap();
        site_aws.edit(|directory| *directory = crowd());
        let output = runner.join().unwrap();
        let text = both(&output);
        assert!(output.status.success(), "{:?}: {text}", output.status);
        assert!(text.contains("ended 1"), "{text}");
        assert!(text.contains("see whether the disk is full"), "{text}");
        assert!(text.contains("published snapshot"), "{text}");
    });
    let numbers = site.numbers();
    assert_eq!(numbers.len(), 405);
}

fn crowd() -> Directory {
    let mut directory = few();
    for number in 0..400 {
        directory.user(&format!("u-9{number:03}"), &format!("crowd{number}"));
    }
    directory
}

#[test]
fn two_syncers_on_one_ledger_are_one_too_many() {
    let site = Site::new(few());
    site.good(&["once"]);
    site.aws
        .behave(|behaviour| behaviour.failures = vec![("ListUsers".to_owned(), 0, Failure::Hang)]);
    let seen = site.aws.calls("ListUsers");
    let mut first = site
        .command(&["once"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually(Duration::from_secs(30), "the first to read", || {
        (site.aws.calls("ListUsers") > seen).then_some(())
    })
    .unwrap();
    let text = site.ends(&["once"], 1);
    assert!(text.contains("another syncer"), "{text}");
    // Looking is allowed all the time.
    site.good(&["status"]);
    site.good(&["ledger", "show"]);
    first.kill().unwrap();
    first.wait().unwrap();
    site.aws.behave(|behaviour| behaviour.failures.clear());
    site.good(&["once"]);
}

#[test]
fn a_bad_configuration_has_its_own_exit_code() {
    let mut site = Site::bare(few());
    site.extra = "[guard]\npercent = 200\n".to_owned();
    assert!(site.ends(&["check"], 78).contains("guard.percent"));
    site.extra = "unknown_key = 1\n".to_owned();
    assert!(site.ends(&["run"], 78).contains("unknown_key"));
    site.extra.clear();
    assert!(site.good(&["check"]).contains("is good"));
    assert!(site.ends(&["check", "--online"], 1).contains("enroll"));
}

#[test]
fn man_pages_and_completions_are_written() {
    let site = Site::bare(few());
    let folder = site.path("generated");
    site.good(&["generate", "man", "--folder", folder.to_str().unwrap()]);
    assert!(folder.join("dirless-syncer.1").exists() && folder.join("dirless-syncer-ledger-show.1").exists());
}
