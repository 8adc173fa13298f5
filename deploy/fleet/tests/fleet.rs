//! The simulator itself, with few hosts: it finds what is there, and does not find what is not.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use dirless_fleet::report::{Played, Report};
use dirless_testkit::{Program, isolated};

/// Several troubles after each other take half a minute on a quiet machine.
const PATIENCE: Duration = Duration::from_secs(300);

fn fleet(arguments: &[&str]) -> Program {
    let program = Program::system(env!("CARGO_BIN_EXE_dirless-fleet"));
    program.args(arguments).within(PATIENCE)
}

fn report(arguments: &[&str]) -> Report {
    serde_json::from_str(&fleet(arguments).succeed().unwrap()).unwrap()
}

/// How many hosts have a time of that name.
fn count(act: &Played, name: &str) -> usize {
    act.times.get(name).map_or(0, |times| times.count)
}

#[test]
fn a_change_reaches_everybody_and_an_outage_heals() {
    let folder = tempfile::tempdir().unwrap();
    let chart = folder.path().join("chart.svg");
    let pace = [
        "run",
        "--hosts",
        "50",
        "--backends",
        "2",
        "--splay",
        "1",
        "--interval",
        "5",
        "--pause",
        "0",
    ];
    let acts = ["connect=0", "slow=3", "churn=2", "outage=0", "reconnect=20", "restart"];
    let to = ["--chart", chart.to_str().unwrap()];
    let report = report(&[&pace[..], &acts[..], &to[..]].concat());
    assert_eq!(report.hosts, 50);
    let played: Vec<_> = report.acts.iter().map(|act| act.act.as_str()).collect();
    assert_eq!(played, acts);
    let [_, slow, churn, outage, reconnect, restart] = &report.acts[..] else {
        unreachable!("compared above")
    };
    assert_eq!(slow.figures.get("readers_that_never_read"), Some(&3.0));
    assert_eq!((count(churn, "notice"), count(churn, "applied")), (100, 100));
    for act in [outage, restart] {
        assert_eq!(count(act, "back_after_it_serves_again"), 50, "{}", act.act);
        assert_eq!(count(act, "next_change_applied"), 50, "{}", act.act);
        let back = act.per_second.get("reconnects").unwrap();
        assert_eq!(back.iter().sum::<u64>(), 50, "{}", act.act);
    }
    assert_eq!(
        (count(reconnect, "back"), count(reconnect, "next_change_notice")),
        (20, 50)
    );
    let drawn = std::fs::read_to_string(chart).unwrap();
    assert!(
        drawn.starts_with("<svg") && drawn.contains("reconnects per second"),
        "{drawn}"
    );
}

#[test]
fn hosts_that_check_signatures_are_reached_and_come_back_too() {
    let pace = ["run", "--verified", "--users", "60", "--hosts", "20", "--backends", "2"];
    let rhythm = ["--splay", "1", "--interval", "5", "--pause", "0"];
    let acts = [
        "connect=0",
        "steady=1",
        "slow=2",
        "churn=3",
        "revoke=2",
        "outage=0",
        "reconnect=10",
        "restart",
    ];
    let report = report(&[&pace[..], &rhythm[..], &acts[..]].concat());
    let [churn, revoke] = &report.acts[3..5] else {
        unreachable!("each was played")
    };
    assert_eq!((count(churn, "notice"), count(churn, "applied")), (60, 60));
    // Two people leave each of two tenants.
    assert_eq!((count(revoke, "published"), count(revoke, "all_receipts_seen")), (4, 4));
    for act in &report.acts[5..] {
        assert_eq!(count(act, "next_change_applied"), 20, "{}", act.act);
        assert_eq!(act.figures.get("older_bodies_so_far"), Some(&0.0), "{}", act.act);
    }
}

#[test]
fn hosts_are_played_by_several_processes() {
    for protocol in [&[][..], &["--verified", "--users", "20"]] {
        let pace = [
            "run",
            "--hosts",
            "21",
            "--processes",
            "2",
            "--splay",
            "1",
            "--pause",
            "0",
        ];
        let acts = ["connect=0", "churn=2", "reconnect=15", "outage=0"];
        let report = report(&[&pace[..], protocol, &acts[..]].concat());
        let [_, churn, reconnect, outage] = &report.acts[..] else {
            unreachable!("each was played")
        };
        assert_eq!((count(churn, "notice"), count(churn, "applied")), (42, 42));
        assert_eq!(
            (count(reconnect, "back"), count(reconnect, "next_change_applied")),
            (15, 21)
        );
        assert_eq!(count(outage, "next_change_applied"), 21);
    }
}

#[test]
fn hosts_that_check_signatures_lose_nothing_whatever_is_killed_or_cut_off() -> anyhow::Result<()> {
    isolated(
        "hosts_that_check_signatures_lose_nothing_whatever_is_killed_or_cut_off",
        || {
            let troubles = ["kill-backend", "kill-primary", "kill-both", "cut=2"];
            let acts = ["--verified", "--networks", "connect=0", "write=2"];
            let report = shared(&[&acts[..], &troubles[..]].concat())?;
            felt_by(&report, &troubles, 30);
            assert!(verified(&report) >= 80);
            // A backend that was away may serve an older file, which is refused.
            let verify = report.acts.last().unwrap();
            assert_eq!(verify.figures.get("older_bodies"), Some(&0.0), "{verify:?}");
            Ok(())
        },
    )
}

#[test]
fn bare_listeners_are_told_too_and_cost_little() {
    let report = report(&["listen", "--hosts", "400", "--changes", "2", "--pause", "0", "dirless"]);
    let [dirless] = &report.acts[..] else {
        unreachable!("one server: {report:?}")
    };
    assert_eq!(
        (
            count(dirless, "notice_since_sent"),
            count(dirless, "notice_since_acknowledged")
        ),
        (800, 800)
    );
    let each = dirless.figures.get("bytes_per_host").unwrap();
    assert!(
        *each <= 16.0 * 1024.0,
        "a host that only waits costs the backend {each} bytes"
    );
}

#[test]
fn what_cannot_be_played_says_why_and_keeps_what_was() {
    let again = fleet(&["run", "--hosts", "2", "--splay", "1", "connect=0", "connect=0"])
        .run()
        .unwrap();
    assert_ne!(again.code(), 0);
    assert!(
        again
            .stderr
            .contains("playing connect=0: the hosts are connected already"),
        "{}",
        again.stderr
    );
    let report: Report = serde_json::from_str(&again.stdout).unwrap();
    assert_eq!(report.acts.len(), 1);
}

/// The last thing a run with writers says: how many writes were acknowledged, and that none is lost.
fn verified(report: &Report) -> usize {
    let verify = report.acts.last().unwrap();
    assert_eq!(verify.act, "verify");
    assert_eq!(verify.figures.get("lost_writes"), Some(&0.0), "{verify:?}");
    assert_eq!(verify.figures.get("wrong_bodies"), Some(&0.0), "{verify:?}");
    *verify.figures.get("acknowledged_writes").unwrap() as usize
}

/// Each of these acts says how long it was felt, and everybody had the change after it and the next one.
fn felt_by(report: &Report, acts: &[&str], hosts: usize) {
    for name in acts {
        let act = report.acts.iter().find(|act| act.act == *name).unwrap();
        for figure in ["change_acknowledged_after_ms", "longest_time_without_a_write_ms"] {
            assert!(act.figures.contains_key(figure), "{name}: {figure}");
        }
        for times in ["applied_after_the_event", "next_change_applied"] {
            assert_eq!(count(act, times), hosts, "{name}: {times}");
        }
    }
}

const SMALL: [&str; 9] = [
    "run",
    "--hosts",
    "30",
    "--splay",
    "1",
    "--interval",
    "3",
    "--pause",
    "0",
];

/// Two backends on one database.
fn shared(acts: &[&str]) -> anyhow::Result<Report> {
    let two = ["--backends", "2", "--database"];
    // PostgreSQL runs as another user, who has to get there.
    let said = fleet(&[&SMALL[..], &two[..], acts].concat())
        .env("TMPDIR", "/tmp")
        .succeed()?;
    Ok(serde_json::from_str(&said)?)
}

#[test]
fn nothing_is_lost_when_backends_and_the_primary_are_killed() {
    let troubles = ["kill-backend", "kill-primary", "kill-both"];
    let acts = ["connect=0", "write=3", "restart"];
    let report = shared(&[&acts[..], &troubles[..]].concat()).unwrap();
    felt_by(&report, &troubles, 30);
    assert!(verified(&report) >= 100);
}

#[test]
fn a_network_that_is_cut_leaves_the_other_backend_to_all() -> anyhow::Result<()> {
    isolated("a_network_that_is_cut_leaves_the_other_backend_to_all", || {
        let report = shared(&["--networks", "connect=0", "write=3", "cut=2"])?;
        felt_by(&report, &["cut=2"], 30);
        assert!(verified(&report) >= 40);
        Ok(())
    })
}

#[test]
fn a_disk_that_is_full_or_slow_is_borne() -> anyhow::Result<()> {
    isolated("a_disk_that_is_full_or_slow_is_borne", || {
        let folder = tempfile::tempdir()?;
        let mount = [
            "-t",
            "tmpfs",
            "-o",
            "size=48m",
            "small",
            folder.path().to_str().unwrap(),
        ];
        Program::system("mount").args(mount).succeed()?;
        let acts = ["connect=0", "write=2", "full-disk=1", "slow-disk=50"];
        let storage = ["--storage", folder.path().to_str().unwrap()];
        let said = fleet(&[&SMALL[..], &storage[..], &acts[..]].concat()).succeed()?;
        let report: Report = serde_json::from_str(&said)?;
        felt_by(&report, &acts[2..], 30);
        let full = &report.acts[2].figures;
        assert!(
            full.iter()
                .any(|(name, count)| name.starts_with("writes_refused_") && *count > 0.0),
            "{full:?}"
        );
        assert!(verified(&report) >= 40);
        Ok(())
    })
}
