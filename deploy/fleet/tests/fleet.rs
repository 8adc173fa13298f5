//! The simulator itself, with few hosts: it finds what is there, and does not find what is not.
#![expect(clippy::unwrap_used, reason = "tests")]

use dirless_fleet::report::{Played, Report};
use dirless_testkit::Program;

fn fleet(arguments: &[&str]) -> Program {
    Program::system(env!("CARGO_BIN_EXE_dirless-fleet")).args(arguments)
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
fn bare_listeners_are_told_too() {
    let report = report(&["listen", "--hosts", "50", "--changes", "2", "--pause", "0", "dirless"]);
    let [dirless] = &report.acts[..] else {
        unreachable!("one server: {report:?}")
    };
    assert_eq!(
        (
            count(dirless, "notice_since_sent"),
            count(dirless, "notice_since_acknowledged")
        ),
        (100, 100)
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
