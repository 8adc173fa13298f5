//! The mass-change guard from the outside.

use std::time::Duration;

use dirless_testkit::aws::{Directory, user_id};
use dirless_testkit::eventually;
use serde_json::Value;

use crate::support::{Site, few};

fn status(site: &Site) -> Value {
    serde_json::from_str(&site.good(&["status", "--json"])).unwrap()
}

fn held(site: &Site) -> String {
    status(site)["held"]["id"]
        .as_str()
        .expect("a change is held")
        .to_owned()
}

#[test]
fn an_empty_directory_is_held_back_until_exactly_that_change_is_accepted() {
    let site = Site::new(few());
    site.good(&["once"]);
    let before = site.numbers();
    site.aws.edit(|directory| {
        directory.users.clear();
        directory.groups.clear();
    });
    let text = site.ends(&["once"], 11);
    assert!(
        text.contains("no user at all (3 are published)") && text.contains("--accept"),
        "{text}"
    );
    assert_eq!(site.numbers(), before, "the last good one keeps serving");
    site.ends(&["once", "--accept", "000000000000"], 11);
    assert_eq!(site.numbers(), before);
    let id = held(&site);
    assert!(site.good(&["once", "--accept", &id]).contains("published"));
    assert!(site.numbers().is_empty());
    assert!(status(&site)["held"].is_null() && status(&site)["accepted"].is_null());
}

#[test]
fn a_fifth_may_go_a_quarter_waits_and_another_change_needs_another_acceptance() {
    let site = Site::new(Directory::sized(40, 4));
    site.good(&["once"]);
    site.aws
        .edit(|directory| (0..8).for_each(|number| directory.remove_user(&user_id(number))));
    site.good(&["once"]);
    assert_eq!(site.published()["users"].as_array().unwrap().len(), 32);
    site.aws
        .edit(|directory| (8..18).for_each(|number| directory.remove_user(&user_id(number))));
    let text = site.ends(&["once"], 11);
    assert!(text.contains("10 of 32 users disappear"), "{text}");
    let first = held(&site);
    site.aws.edit(|directory| directory.remove_user(&user_id(18)));
    site.ends(&["once", "--accept", &first], 11);
    assert!(
        status(&site)["accepted"].is_null(),
        "an acceptance that did not fit does not lie in wait"
    );
    let second = held(&site);
    assert_ne!(first, second);
    assert_eq!(site.published()["users"].as_array().unwrap().len(), 32);
    site.good(&["once", "--accept", &second]);
    assert_eq!(site.published()["users"].as_array().unwrap().len(), 21);
}

#[test]
fn a_held_change_that_goes_away_by_itself_is_forgotten() {
    let site = Site::new(few());
    site.good(&["once"]);
    let directory = site.aws.edit(std::mem::take);
    site.ends(&["once"], 11);
    let since = status(&site)["held"]["since"].clone();
    site.ends(&["once"], 11);
    assert_eq!(status(&site)["held"]["since"], since, "held since the first time");
    site.aws.edit(|empty| *empty = directory);
    site.good(&["once"]);
    assert!(status(&site)["held"].is_null());
    assert_eq!(site.backend.puts(), 1);
}

#[test]
fn a_held_change_gives_out_no_numbers() {
    let site = Site::new(few());
    site.good(&["once"]);
    let ledger = site.good(&["ledger", "export"]);
    site.aws.edit(|directory| {
        directory.users.clear();
        directory.user("u-50", "eve");
    });
    site.ends(&["once"], 11);
    assert_eq!(site.good(&["ledger", "export"]), ledger);
}

#[test]
fn plan_shows_everything_and_touches_nothing() {
    let site = Site::new(few());
    let text = site.ends(&["plan"], 10);
    assert!(
        text.contains("+ user alice") && text.contains("+ member ops: carol"),
        "{text}"
    );
    assert!(!site.path("state/ledger.db").exists() && site.backend.puts() == 0);
    site.good(&["once"]);
    assert!(site.good(&["plan"]).contains("nothing to publish"));
    site.aws.edit(|directory| {
        directory.users.get_mut("u-2").unwrap().name = "robert".to_owned();
        directory.user("u-4", "dave");
        directory.user("u-5", "Dave@other");
        directory.remove_user("u-3");
    });
    let text = site.ends(&["plan"], 10);
    for line in [
        "~ user bob name bob -> robert, ",
        "- user carol",
        "! left out: user \"dave\"",
        "Dave@other",
    ] {
        assert!(text.contains(line), "{line} is missing: {text}");
    }
    let output = site.run(&["plan", "--json"]);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["difference"]["users"]["removed"][0]["name"], "carol");
    assert_eq!(json["left_out"].as_array().unwrap().len(), 2);
    assert_eq!(
        (json["held"].clone(), json["unchanged"].clone()),
        (false.into(), false.into())
    );
    site.aws.edit(|directory| directory.users.clear());
    assert!(site.ends(&["plan"], 11).contains("would be held back"));
    assert_eq!(site.backend.puts(), 1);
}

#[test]
fn a_running_syncer_takes_an_acceptance_from_the_state() {
    let site = Site::bare(few());
    let mut child = site
        .command(&["run"])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let limit = Duration::from_secs(30);
    eventually(limit, "the first push", || (site.backend.puts() == 1).then_some(())).unwrap();
    site.aws.edit(|directory| directory.users.clear());
    let file = site.path("state/held.json");
    eventually(limit, "the change to be held", || file.exists().then_some(())).unwrap();
    let id = held(&site);
    // The daemon may be reading at this moment; then it publishes, else this does.
    let output = site.run(&["once", "--accept", &id]);
    assert!(output.status.success());
    eventually(limit, "the push", || (site.backend.puts() == 2).then_some(())).unwrap();
    let pid = pid_of(&child);
    std::process::Command::new("kill")
        .args(["-TERM", &pid])
        .status()
        .unwrap();
    assert!(child.wait().unwrap().success(), "SIGTERM is a clean end");
}

fn pid_of(child: &std::process::Child) -> String {
    child.id().to_string()
}
