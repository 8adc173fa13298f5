use std::fs::File;
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::support::{Site, until};

const SOURCE: &str = "[[source]]\nkind = \"files\"\nname = \"people\"\nfolder = \"GIT\"\nengines = [\"configs\"]\n";

/// Ended when the test is, however it ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The program reads every hour; what it picks up sooner it has noticed.
#[test]
fn a_commit_that_is_checked_out_is_published_at_once() {
    let site = Site::new(SOURCE);
    site.write("people.yaml", "people: [{name: ann}]\n");
    site.git(&["add", "-A"]);
    site.git(&["commit", "-q", "-m", "one"]);
    site.git(&["checkout", "-q", "-b", "next"]);
    site.write("people.yaml", "people: [{name: ann}, {name: bob}]\n");
    site.write("configs/theme.yaml", "dark: true\n");
    site.git(&["add", "-A"]);
    site.git(&["commit", "-q", "-m", "two"]);
    site.git(&["checkout", "-q", "main"]);
    let child = site
        .command(&["run"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _running = Running(child);
    let sequence = || {
        let text = std::fs::read_to_string(site.path("state/sources/people/sequence.json"));
        text.ok()
            .and_then(|text| text.trim().parse::<u64>().ok())
            .unwrap_or_default()
    };
    until("the first snapshot", || sequence() == 1);
    site.git(&["checkout", "-q", "next"]);
    until("the snapshot of the other branch", || sequence() == 2);
    until("the config", || site.found("(cn=theme)").len() == 1);
    site.git(&["checkout", "-q", "main"]);
    until("the way back", || sequence() == 3);
}

/// A file is written, the change is noticed, the files are read and published: in that order, and
/// without waiting for a directory elsewhere, which is here one that nobody can reach.
#[test]
fn a_change_of_a_file_waits_for_no_other_source() {
    let elsewhere = "[[source]]\nkind = \"ldap\"\nname = \"corp\"\npreset = \"rfc2307\"\nurl = \"ldap://127.0.0.1:9\"\n\
                     permit_plain = true\nbase = \"dc=corp\"\n";
    let site = Site::new(&format!("{elsewhere}{SOURCE}"));
    site.write("people.yaml", "people: [{name: ann}]\n");
    let log = site.path("log");
    let child = site
        .command(&["run", "--log-format", "json"])
        .stdout(Stdio::null())
        .stderr(File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let _running = Running(child);
    // What happened, each with the source that it happened to.
    let events = || -> Vec<(String, String)> {
        let text = std::fs::read_to_string(&log).unwrap();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines
            .map(|line| {
                let field = |name: &str| {
                    let held = line.get(name).or_else(|| line.get("fields")?.get(name));
                    held.and_then(Value::as_str).unwrap_or_default().to_owned()
                };
                (field("event"), field("source"))
            })
            .collect()
    };
    let is_read = |(event, source): &(String, String)| event.starts_with("snapshot.") && source == "people";
    until("the first snapshot", || events().iter().any(is_read));
    let failed = ("cycle.failed".to_owned(), "corp".to_owned());
    assert!(events().contains(&failed), "a cycle asks everybody");
    for text in ["people: [{name: ann}, {name: bob}]\n", "people: [{name: bob}]\n"] {
        let before = events().len();
        site.write("people.yaml", text);
        // From the notice to the end of the read that follows it.
        let round = || {
            let all = events().split_off(before);
            let noticed = all.iter().position(|(event, _)| event == "files.changed")?;
            let read = all[noticed..].iter().position(is_read)?;
            Some(all[noticed..noticed + read].to_vec())
        };
        until("the notice and the read after it", || round().is_some());
        assert!(!round().unwrap().contains(&failed), "somebody else was asked first");
        until("what was written", || {
            site.found("(uid=ann)").is_empty() != text.contains("ann")
        });
    }
}
