//! `dirless watch`: what holds, and what comes.

use std::io::{self, Write};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use dirless_syncer::signed::{Registry, Wish};
use serde_json::{Value, json};

use crate::operator::Desk;
use crate::support::*;

#[test]
fn heads_and_receipts_are_watched_and_verified() {
    let desk = Desk::of(Tenant::at_backend());
    let tenant = &desk.tenant;
    stock(&tenant.signer(), "corp", &snapshot(2000, &["alice"]));
    settle(&tenant.signer());
    let (one, two) = (tenant.join("web-1", &["all"]), tenant.join("web-2", &["all"]));
    settle(&tenant.signer());
    let watch = || desk.good(&format!("watch {} --once", desk.at()));
    let said = watch();
    assert!(
        said.contains("syncer-1  head ") && said.contains("lease ends"),
        "{said}"
    );
    assert_eq!(said.matches("offline  never reported").count(), 2, "{said}");

    let version = head(tenant).version;
    let receipt = |host: &Host, version, content: &[u8], alarms: &[(&str, &str)]| {
        desk.receipt(host, version, content, alarms);
    };
    receipt(&one, version + 1, b"later", &[]);
    let withheld = [("missing", "blob/0123"), ("stale", "head/syncer-1")];
    receipt(&two, version - 1, b"earlier", &withheld);
    let said = watch();
    assert!(
        said.contains("applied  generation 3  1 users  0 groups  2 dropped"),
        "{said}"
    );
    assert!(
        said.contains(&format!(
            "behind  generation 3  1 users  0 groups  2 dropped  syncer-1 at {}",
            version - 1
        )),
        "{said}"
    );
    let why = "  because missing blob/0123, stale head/syncer-1  lease ends 20";
    assert!(said.contains(why), "{said}");
    let lines = desk.good(&format!("watch {} --once --json", desk.at()));
    let events: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let hosts: Vec<_> = events.iter().filter(|event| event["event"] == "host").collect();
    assert_eq!(hosts.len(), 2);
    let behind = hosts.iter().find(|event| event["standing"] == "behind").unwrap();
    assert_eq!(
        behind["alarms"],
        serde_json::json!(["missing blob/0123", "stale head/syncer-1"])
    );
    assert!(
        behind["lease_ends_at"].is_string() && behind["refused"].is_null(),
        "{behind}"
    );
    // Receipts at the backend are compared, and checked, without being asked for.
    let verify = format!("verify {}/v2/{} --token-file @/token", tenant.site().url(), tenant.id);
    let said = desk.good(&verify);
    assert!(said.contains("receipts: 2 agree"), "{said}");
    receipt(&two, version + 1, b"something else", &[]);
    let error = desk.run(&verify).unwrap_err();
    assert!(error.contains("split-view") || error.contains("is shown as"), "{error}");
    for host in [&one, &two] {
        assert!(error.contains(host.key.verifying().name().as_str()), "{error}");
    }
    assert!(watch().contains("problem: split-view"), "{}", watch());

    // Locked out at the backend alone: silent, and it says why.
    let three = tenant.join("web-3", &["all"]);
    settle(&tenant.signer());
    let id = format!("{}+{}", three.key.verifying().name(), three.key.verifying().hash());
    tenant.site().operator().end_key(&id).unwrap();
    let said = watch();
    let refused = format!("{}  refused  never reported  ", three.key.verifying().name());
    assert!(
        said.contains(&refused) && said.contains("  its key was revoked at the backend at 2"),
        "{said}"
    );
}

/// What a command said so far that does not end by itself.
#[derive(Default)]
struct Page {
    said: Mutex<(Vec<u8>, bool)>,
    more: Condvar,
}

impl Write for &Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut said = self.said.lock().unwrap();
        said.0.extend_from_slice(bytes);
        self.more.notify_all();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.said.lock().unwrap().1 {
            true => Err(io::Error::from(io::ErrorKind::BrokenPipe)),
            false => Ok(()),
        }
    }
}

/// Ends the command, also when a test fails.
struct Reader<'a>(&'a Page);

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        if let Ok(mut said) = self.0.said.lock() {
            said.1 = true;
        }
    }
}

impl Page {
    fn events(said: &[u8]) -> Vec<Value> {
        let whole = said.split_inclusive(|byte| *byte == b'\n');
        let whole = whole.filter(|line| line.ends_with(b"\n"));
        whole.map(|line| serde_json::from_slice(line).unwrap()).collect()
    }

    /// Waits for the event that `is_it`.
    fn wait(&self, is_it: impl Fn(&Value) -> bool) -> Value {
        let find = |said: &[u8]| Self::events(said).into_iter().find(&is_it);
        let said = self.said.lock().unwrap();
        let missing = |said: &mut (Vec<u8>, bool)| find(&said.0).is_none();
        let (said, _) = self
            .more
            .wait_timeout_while(said, Duration::from_secs(60), missing)
            .unwrap();
        let found = find(&said.0);
        let so_far = String::from_utf8_lossy(&said.0).into_owned();
        drop(said);
        assert!(found.is_some(), "{so_far}");
        found.unwrap()
    }

    /// Waits until this version of the head is shown.
    fn head(&self, version: u64) -> Value {
        self.wait(|event| event["event"] == "head" && event["version"] == version)
    }

    /// Waits until a host stands so, with this head.
    fn host(&self, host: &Host, standing: &str, head: u64) -> Value {
        let name = host.key.verifying().name().as_str();
        self.wait(|event| event["node"] == name && event["standing"] == standing && event["heads"]["syncer-1"] == head)
    }
}

#[test]
fn heads_and_receipts_are_shown_as_they_come() {
    let desk = Desk::of(Tenant::at_backend());
    let tenant = &desk.tenant;
    stock(&tenant.signer(), "corp", &snapshot(2000, &["alice"]));
    settle(&tenant.signer());
    let host = tenant.join("web-1", &["all"]);
    let first = head(tenant).version;
    let (page, line) = (Page::default(), format!("watch {} --json", desk.at()));
    let ended = std::thread::scope(|scope| {
        let watching = scope.spawn(|| desk.run_into(&line, &mut &page));
        let reader = Reader(&page);
        page.head(first);
        page.wait(|event| event["standing"] == "offline" && event["heads"].is_null());

        // A new head, by a notice; and a receipt, by looking.
        stock(&tenant.signer(), "corp", &snapshot(2000, &["alice", "bob"]));
        settle(&tenant.signer());
        let second = head(tenant).version;
        assert_eq!(page.head(second)["content_since"], second);
        desk.receipt(&host, first, b"first", &[]);
        let behind = page.host(&host, "behind", first);
        assert_eq!(behind["behind"], json!([format!("syncer-1 at {first} of {second}")]));
        desk.receipt(&host, second, b"second", &[]);
        page.host(&host, "applied", second);

        // The publisher's key is renewed meanwhile, and the one before signs no more.
        let wish = Wish {
            key: true,
            ..Wish::default()
        };
        assert!(tenant.signer().settle(&wish).unwrap().key.is_some());
        page.head(head(tenant).version);
        tenant.minutes(8 * 24 * 60);
        settle(&tenant.signer());
        let third = head(tenant).version;
        page.head(third);
        page.host(&host, "offline", second);
        desk.receipt(&host, third, b"third", &[]);
        page.host(&host, "applied", third);

        // A host that nobody knew when it began.
        let other = tenant.join("web-2", &["all"]);
        tenant.minutes(1);
        let name = other.key.verifying().name().as_str();
        // Known from a node list before it says anything.
        page.wait(|event| event["node"] == name);
        desk.receipt(&other, third, b"third", &[]);
        page.host(&other, "applied", third);
        drop(reader);
        watching.join().unwrap()
    });
    assert!(ended.is_err(), "it was ended by nobody reading it");
    let events = Page::events(&page.said.lock().unwrap().0);
    assert!(events.iter().all(|event| event["event"] != "problem"), "{events:?}");
}
