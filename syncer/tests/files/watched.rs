use std::process::{Child, Stdio};

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
