//! Logs: what a host lacks is fetched, whatever is served in its place is refused, and the last good state stays.

use std::fs;
use std::path::Path;

use dirless_agent::trust::KeptLog;
use dirless_seal::trust::log::{Chain, LogFile};
use dirless_seal::{Digest, Identity};

use crate::support::{Host, Tenant, codes, copy, label, signed, user};

/// A tenant with a snapshot and one record of its log, and a host that has both.
struct Setting {
    folder: tempfile::TempDir,
    tenant: Tenant,
    host: Host,
}

impl Setting {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut tenant = Tenant::new(folder.path());
        let host = Host::join(&mut tenant);
        tenant.publish("local", "base", 0);
        tenant.add_user("local", "u0", 0);
        let setting = Self { folder, tenant, host };
        setting.walk(0, &[]);
        assert_eq!(setting.host.added("local"), ["u0"]);
        setting
    }

    /// Six hundred records in all; the host has half of them.
    fn add_six_hundred(&mut self) {
        for number in 1..600 {
            self.tenant.add_record("local", &user(&format!("u{number}")));
            if number == 300 {
                self.tenant.sign_head(1);
                self.walk(1, &[]);
            }
        }
        self.tenant.sign_head(2);
    }

    /// Walks over what is served here; which alarms there are.
    fn walk(&self, minute: i64, wanted: &[&str]) {
        let walked = self.host.walk(self.folder.path(), minute);
        assert_eq!(codes(&walked.alarms), wanted, "{:?}", walked.alarms);
    }

    fn remove(&self, file: LogFile) {
        fs::remove_file(self.tenant.log_path("local", file)).unwrap();
    }
}

#[test]
fn a_change_is_one_more_record_beside_the_same_body() {
    let mut setting = Setting::new();
    let body = fs::metadata(setting.host.body("local")).unwrap().modified().unwrap();
    setting.tenant.add_user("local", "u1", 1);
    let walked = setting.host.walk(setting.folder.path(), 1);
    assert!(walked.alarms.is_empty() && walked.installed[0].changed, "{walked:?}");
    assert_eq!(setting.host.added("local"), ["u0", "u1"]);
    assert_eq!(
        fs::metadata(setting.host.body("local")).unwrap().modified().unwrap(),
        body
    );
    let before = setting.host.everything();
    let walked = setting.host.walk(setting.folder.path(), 1);
    assert!(walked.alarms.is_empty() && !walked.installed[0].changed);
    assert_eq!(setting.host.everything(), before);
}

#[test]
fn a_new_base_ends_the_log() {
    let mut setting = Setting::new();
    setting.tenant.publish("local", "second base", 1);
    setting.walk(1, &[]);
    assert_eq!(setting.host.plaintext("local").unwrap(), "second base");
    assert!(setting.host.added("local").is_empty());
    setting.tenant.add_user("local", "u1", 2);
    setting.walk(2, &[]);
    assert_eq!(setting.host.added("local"), ["u1"]);
}

/// Six hundred records: by whole tiles and single records, for a host that knows nothing, and one that stopped anywhere.
#[test]
fn a_host_that_is_behind_takes_tiles() {
    let mut setting = Setting::new();
    setting.add_six_hundred();
    // What tiles hold need not be there as single files.
    for number in (0..250).chain(301..500) {
        setting.remove(LogFile::Record(number));
    }
    setting.walk(2, &[]);
    let wanted: Vec<String> = (0..600).map(|number| format!("u{number}")).collect();
    assert_eq!(setting.host.added("local"), wanted);

    let newcomer = Host::join(&mut setting.tenant);
    assert_eq!(newcomer.walk(setting.folder.path(), 2).alarms, []);
    assert_eq!(newcomer.added("local"), wanted);
}

#[test]
fn without_a_tile_its_records_will_do() {
    let mut setting = Setting::new();
    for number in 1..600 {
        setting.tenant.add_record("local", &user(&format!("u{number}")));
    }
    setting.tenant.sign_head(1);
    setting.remove(LogFile::Tile(1));
    setting.walk(1, &[]);
    let wanted: Vec<String> = (0..600).map(|number| format!("u{number}")).collect();
    assert_eq!(setting.host.added("local"), wanted);
    let newcomer = Host::join(&mut setting.tenant);
    assert_eq!(newcomer.walk(setting.folder.path(), 2).alarms, []);
    assert_eq!(newcomer.added("local"), wanted);
}

/// Nobody can follow the log any more, and nothing but another base helps.
#[test]
fn without_a_tile_and_its_records_a_host_stays_until_there_is_a_new_base() {
    let mut setting = Setting::new();
    setting.add_six_hundred();
    setting.remove(LogFile::Tile(1));
    for number in 256..512 {
        setting.remove(LogFile::Record(number));
    }
    let newcomer = Host::join(&mut setting.tenant);
    let before = setting.host.added("local");
    assert_eq!(before.len(), 301);
    for minute in [2, 3] {
        setting.walk(minute, &["missing"]);
        assert_eq!(setting.host.added("local"), before);
        assert_eq!(setting.host.plaintext("local").unwrap(), "base");
        assert_eq!(codes(&newcomer.walk(setting.folder.path(), minute).alarms), ["missing"]);
        assert!(!newcomer.body("local").exists());
    }
    // More records are no help.
    setting.tenant.add_user("local", "u600", 4);
    setting.walk(4, &["missing"]);
    assert_eq!(setting.host.added("local"), before);

    setting.tenant.publish("local", "second base", 5);
    setting.tenant.add_user("local", "u1", 5);
    setting.walk(5, &[]);
    assert_eq!(newcomer.walk(setting.folder.path(), 5).alarms, []);
    for host in [&setting.host, &newcomer] {
        assert_eq!(host.plaintext("local").unwrap(), "second base");
        assert_eq!(host.added("local"), ["u1"]);
    }
}

#[test]
fn a_record_that_is_not_there_is_found_in_its_tile() {
    let mut setting = Setting::new();
    for number in 1..255 {
        setting.tenant.add_record("local", &user(&format!("u{number}")));
    }
    setting.tenant.sign_head(1);
    setting.walk(1, &[]);
    setting.tenant.add_user("local", "u255", 2);
    // Only one is lacking, so its own file is asked for first.
    setting.remove(LogFile::Record(255));
    setting.walk(2, &[]);
    assert_eq!(setting.host.added("local").len(), 256);
}

/// A second record is published, and `lie` changes what is served. The codes of the alarms; nothing that the host has changes, and
/// the truth heals it.
fn lied(lie: impl FnOnce(&mut Tenant, &Path)) -> Vec<&'static str> {
    let mut setting = Setting::new();
    let base = fs::read(setting.host.body("local")).unwrap();
    setting.tenant.add_user("local", "u1", 1);
    let served = tempfile::tempdir().unwrap();
    copy(setting.folder.path(), served.path());
    let (head, logs) = (setting.tenant.head, setting.tenant.logs.clone());
    setting.tenant.folder = served.path().to_owned();
    lie(&mut setting.tenant, served.path());
    let walked = setting.host.walk(served.path(), 2);
    assert_eq!(setting.host.added("local"), ["u0"], "{walked:?}");
    assert_eq!(fs::read(setting.host.body("local")).unwrap(), base);

    setting.tenant.folder = setting.folder.path().to_owned();
    (setting.tenant.head, setting.tenant.logs) = (head + 10, logs);
    setting.tenant.add_user("local", "u2", 3);
    setting.walk(3, &[]);
    assert_eq!(setting.host.added("local"), ["u0", "u1", "u2"]);
    codes(&walked.alarms)
}

fn record(tenant: &Tenant, number: u64) -> std::path::PathBuf {
    tenant.log_path("local", LogFile::Record(number))
}

#[test]
fn records_that_are_others_than_signed_are_refused() {
    let change = |how: fn(&mut Vec<u8>)| {
        lied(move |tenant, _| {
            let path = record(tenant, 1);
            let mut bytes = fs::read(&path).unwrap();
            how(&mut bytes);
            fs::write(path, bytes).unwrap();
        })
    };
    assert_eq!(change(|bytes| bytes[40] ^= 1), ["mixed"]);
    assert_eq!(change(|bytes| bytes.truncate(9)), ["mixed"]);
    assert_eq!(change(|bytes| bytes.push(0)), ["mixed"]);
    assert_eq!(change(Vec::clear), ["mixed"]);
    assert_eq!(change(|bytes| bytes.resize((4 << 20) + 1, 0)), ["too-long"]);
}

#[test]
fn records_in_the_place_of_others_are_refused() {
    let reordered = lied(|tenant, served| {
        let (one, two) = (record(tenant, 0), record(tenant, 1));
        fs::rename(&one, served.join("aside")).unwrap();
        fs::rename(&two, &one).unwrap();
        fs::rename(served.join("aside"), &two).unwrap();
    });
    assert_eq!(reordered, ["mixed"]);
    let repeated = lied(|tenant, _| {
        let _bytes = fs::copy(record(tenant, 0), record(tenant, 1)).unwrap();
    });
    assert_eq!(repeated, ["mixed"]);
    let held_back = lied(|tenant, _| fs::remove_file(record(tenant, 1)).unwrap());
    assert_eq!(held_back, ["missing"]);
    // Sealed with the very key, under the very number: known by its hash all the same.
    let sealed_again = lied(|tenant, _| {
        let log = tenant.logs.get_mut(&label("local")).unwrap();
        log.pop();
        tenant.add_record("local", &user("root"));
    });
    assert_eq!(sealed_again, ["mixed"]);
}

#[test]
fn a_log_of_another_source_is_refused() {
    let codes = lied(|tenant, _| {
        tenant.stage("staff", "base of staff", 1);
        tenant.add_record("staff", &user("s0"));
        tenant.add_record("staff", &user("s1"));
        let other = tenant.log_path("staff", LogFile::Record(1));
        fs::copy(other, record(tenant, 1)).unwrap();
        tenant.manifests.pop();
    });
    assert_eq!(codes, ["mixed"]);
}

#[test]
fn a_head_that_says_more_than_there_is_is_refused() {
    let codes = |length: u64| {
        lied(move |tenant, _| {
            let mut head = tenant.next_head(2);
            head.entries[0].chain.length = length;
            tenant.put_head(&head);
        })
    };
    assert_eq!(codes(3), ["missing"]);
    assert_eq!(codes(1 << 24), ["missing"]);
    let nobody_counts_that_far = lied(|tenant, _| {
        let head = tenant.next_head(2);
        let note = signed(&head, &[&tenant.publisher]);
        let text = note.text().replace(" 2\n", &format!(" {}\n", 1_u64 << 40));
        let note = dirless_seal::Note::sign(text, &[&tenant.publisher]).unwrap();
        tenant.write("head/syncer-1", note.to_string());
    });
    assert_eq!(nobody_counts_that_far, ["malformed"]);
}

#[test]
fn endless_tiles_are_not_read_to_their_end() {
    let mut setting = Setting::new();
    for number in 1..300 {
        setting.tenant.add_record("local", &user(&format!("u{number}")));
    }
    setting.tenant.sign_head(1);
    let path = setting.tenant.log_path("local", LogFile::Tile(0));
    let good = fs::read(&path).unwrap();
    let file = fs::File::create(&path).unwrap();
    file.set_len(1 << 40).unwrap();
    setting.walk(1, &["too-long"]);
    assert_eq!(setting.host.added("local"), ["u0"]);
    for bad in [
        &good[..good.len() - 1],
        &[good.as_slice(), &[0]].concat(),
        b"",
        &[255; 64],
    ] {
        fs::write(&path, bad).unwrap();
        setting.walk(1, &["mixed"]);
    }
    fs::write(&path, good).unwrap();
    setting.walk(1, &[]);
    assert_eq!(setting.host.added("local").len(), 300);
}

/// The publisher's own key, used to tell an older or another story under the same base.
#[test]
fn a_log_that_shrinks_or_forks_is_refused() {
    for (how, code) in [("shorter", "rollback"), ("none", "rollback"), ("other", "fork")] {
        let mut setting = Setting::new();
        setting.tenant.add_user("local", "u1", 1);
        setting.walk(1, &[]);
        let before = setting.host.added("local");
        let truth = setting.tenant.logs.clone();
        let log = setting.tenant.logs.get_mut(&label("local")).unwrap();
        match how {
            "shorter" => log.truncate(1),
            "none" => log.clear(),
            _ => {
                log.truncate(1);
                setting.tenant.add_record("local", &user("root"));
            }
        }
        setting.tenant.sign_head(2);
        setting.walk(2, &[code]);
        assert_eq!(setting.host.added("local"), before, "{how}");
        setting.tenant.logs = truth;
        setting.tenant.sign_head(3);
        setting.walk(3, &[]);
    }
}

/// Longer than before, but not over what was accepted before.
#[test]
fn another_log_that_is_longer_is_a_fork_too() {
    let mut setting = Setting::new();
    setting.tenant.logs.get_mut(&label("local")).unwrap().clear();
    for name in ["x", "y", "z"] {
        setting.tenant.add_user("local", name, 1);
    }
    setting.walk(1, &["fork"]);
    assert_eq!(setting.host.added("local"), ["u0"]);
}

#[test]
fn what_this_host_lost_is_fetched_again() {
    let mut setting = Setting::new();
    setting.tenant.add_user("local", "u1", 1);
    setting.walk(1, &[]);
    let body = setting.host.body("local");
    for lose in ["log", "at", "sealed"] {
        fs::remove_file(body.with_extension(lose)).unwrap();
        setting.walk(1, &[]);
        assert_eq!(setting.host.added("local"), ["u0", "u1"], "{lose}");
        assert_eq!(setting.host.plaintext("local").unwrap(), "base");
    }
    fs::write(body.with_extension("log"), b"garbage").unwrap();
    setting.walk(1, &[]);
    assert_eq!(setting.host.added("local"), ["u0", "u1"]);
    // A log of another body says nothing about this one.
    let other = KeptLog::beside(&body, Digest::of(b"other")).unwrap();
    assert_eq!(other.chain(), Chain::of(Digest::of(b"other")));
}

#[test]
fn a_new_epoch_needs_its_key_for_the_log_as_well() {
    let mut setting = Setting::new();
    setting.tenant.epoch = (2, Identity::generate());
    setting.tenant.stage("local", "second base", 1);
    setting.tenant.add_user("local", "u1", 1);
    setting.walk(1, &["not-admitted"]);
    assert_eq!(setting.host.added("local"), ["u0"]);
    let nodes = setting.tenant.nodes.clone();
    for (node, recipient) in nodes {
        setting.tenant.wrap(&node, &recipient);
    }
    setting.walk(1, &[]);
    assert_eq!(setting.host.added("local"), ["u1"]);
}
