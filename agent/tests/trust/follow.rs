//! Following logs: what a host shows after each record is what a host that reads everything shows.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;

use dirless_model::snapshot::{Joined, Part, record_key};
use dirless_seal::trust::log::{Change, diff};
use dirless_seal::{Content, RecordKind};
use dirless_table::Table;

use crate::publish::{Setting, only_these_sources, user};

pub(crate) type Records = BTreeMap<(RecordKind, Vec<u8>), Vec<u8>>;

/// What a source says, record by record.
#[derive(Clone, Default)]
pub(crate) struct Source(pub(crate) Records);

impl Source {
    pub(crate) fn put(&mut self, kind: RecordKind, record: &str) {
        let key = record_key(Part::from(kind), record.as_bytes()).unwrap().into_owned();
        self.0.insert((kind, key), record.as_bytes().to_vec());
    }

    pub(crate) fn user(&mut self, name: &str, uid: u32) {
        self.put(RecordKind::User, &user(name, uid));
    }

    pub(crate) fn group(&mut self, name: &str, gid: u32, members: &[&str]) {
        let members = serde_json::to_string(members).unwrap();
        self.put(
            RecordKind::Group,
            &format!(r#"{{"name":"{name}","gid":{gid},"members":{members}}}"#),
        );
    }

    pub(crate) fn remove(&mut self, kind: RecordKind, name: &str) {
        assert!(self.0.remove(&(kind, name.as_bytes().to_vec())).is_some());
    }

    pub(crate) fn content(&self) -> Content {
        let mut content = Content::default();
        for ((kind, _), bytes) in &self.0 {
            content.add(kind.leaf(bytes));
        }
        content
    }

    pub(crate) fn document(&self) -> String {
        let mut joined = Joined::default();
        for ((kind, _), bytes) in &self.0 {
            joined.add(Part::from(*kind), bytes);
        }
        String::from_utf8(joined.finish()).unwrap()
    }
}

/// A host of which the first whole run over a log was made, so that further records can be followed.
pub(crate) struct Following {
    pub(crate) setting: Setting,
    pub(crate) source: Source,
    /// Entries of the tree, where there is a copy for LDAP.
    pub(crate) tree: Source,
    pub(crate) minute: i64,
}

impl Following {
    fn begin(limits: Option<&str>) -> Self {
        Self::begin_with(limits, None)
    }

    /// With a copy for LDAP of the accounts and of `tree`, unless that is none.
    pub(crate) fn begin_with(limits: Option<&str>, tree: Option<Source>) -> Self {
        let mut setting = Setting::new();
        setting.join(false).unwrap();
        only_these_sources(&setting);
        if tree.is_some() {
            let mut text = fs::read_to_string(setting.paths.config()).unwrap();
            text.push_str("[directory]\nbase = \"dc=example,dc=com\"\nsources = [\"tree\"]\n");
            fs::write(setting.paths.config(), text).unwrap();
        }
        setting.admit();
        if let Some(limits) = limits {
            fs::write(setting.paths.limits(), limits).unwrap();
        }
        let mut source = Source::default();
        for number in 0..40 {
            source.user(&format!("u{number}"), 10_000 + number);
        }
        source.group("ops", 15_000, &["u1", "u2", "nobody-here"]);
        source.put(RecordKind::Other, &keys("u3", "first"));
        setting.publish_as("local", &source.document(), &source.content(), 0);
        setting.publish("staff", &[], 0);
        if let Some(tree) = &tree {
            setting.publish_as("tree", &tree.document(), &tree.content(), 0);
        }
        assert_eq!(setting.cycle(0).problems, Vec::<String>::new());
        let mut following = Self {
            setting,
            source,
            tree: tree.unwrap_or_default(),
            minute: 0,
        };
        following.change(|source| source.user("u40", 10_040));
        let records = fs::metadata(following.setting.paths.records()).unwrap();
        assert_eq!((records.mode() & 0o777, following.overlays()), (0o600, 0));
        following
    }

    /// Publishes a change that shows as a record of the log, and has the host take it.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Source)) {
        assert!(self.takes(change));
    }

    /// The same; whether it shows.
    fn takes(&mut self, change: impl FnOnce(&mut Source)) -> bool {
        self.stage(change);
        self.cycle()
    }

    /// Publishes a change that the host has not heard of.
    pub(crate) fn stage(&mut self, change: impl FnOnce(&mut Source)) {
        let before = self.source.clone();
        change(&mut self.source);
        let changes = diff(&before.0, &self.source.0, self.source.content().root()).unwrap();
        self.setting.tenant.add_record("local", &changes);
    }

    /// Publishes a change of the tree as a record of its log, and has the host take it. The lookup table stays.
    pub(crate) fn change_tree(&mut self, change: impl FnOnce(&mut Source)) {
        self.stage_tree(change);
        assert!(!self.cycle());
    }

    /// Publishes a change of the tree that the host has not heard of.
    pub(crate) fn stage_tree(&mut self, change: impl FnOnce(&mut Source)) {
        let before = self.tree.clone();
        change(&mut self.tree);
        let changes = diff(&before.0, &self.tree.0, self.tree.content().root()).unwrap();
        self.setting.tenant.add_record("tree", &changes);
    }

    /// Has the host take what there is; whether the table is another one then.
    pub(crate) fn cycle(&mut self) -> bool {
        self.minute += 1;
        self.setting.tenant.sign_head(self.minute);
        let outcome = self.setting.cycle(self.minute);
        assert_eq!(outcome.problems, Vec::<String>::new());
        outcome.changed
    }

    /// Publishes all of the source as a new base.
    fn publish_whole(&mut self) {
        let (document, content) = (self.source.document(), self.source.content());
        self.setting.publish_as("local", &document, &content, self.minute);
    }

    pub(crate) fn whole_because(&self) -> Option<String> {
        self.setting.report().whole_because
    }

    /// How many overlays lie beside the table.
    pub(crate) fn overlays(&self) -> usize {
        let folder = fs::read_dir(self.setting.paths.table_folder()).unwrap();
        let names = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.contains(".overlay.")).count()
    }

    fn table(&self) -> Table {
        let owner = fs::metadata(self.setting.paths.root()).unwrap().uid();
        Table::open(&self.setting.paths.table(), owner).unwrap()
    }

    /// Has the host make everything anew from the same files.
    pub(crate) fn run_whole(&self) {
        fs::remove_file(self.setting.paths.records()).unwrap();
        fs::remove_file(self.setting.paths.report()).unwrap();
        fs::remove_file(self.setting.paths.daemon_state()).unwrap();
        self.setting.cycle(self.minute);
    }

    /// Everything that the table shows, and what the report says of it.
    pub(crate) fn shows(&self) -> (Vec<String>, String) {
        let table = self.table();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let mut lines: Vec<String> = Vec::new();
        for user in table.users() {
            let user = user.unwrap();
            let keys = table.keys(user.name()).unwrap().map(text);
            let mut groups: Vec<u32> = table.initgroups(user.name()).unwrap().unwrap().iter().collect();
            groups.sort_unstable();
            lines.push(format!(
                "{} {} {} {keys:?} {groups:?}",
                text(user.name()),
                user.uid,
                user.gid
            ));
        }
        for group in table.groups() {
            let group = group.unwrap();
            let mut members: Vec<String> = group.members().map(text).collect();
            members.sort();
            lines.push(format!("{} {} {members:?}", text(group.name()), group.gid));
        }
        lines.sort();
        let report = self.setting.report();
        let published = report.published.unwrap();
        let told = (published.users, published.groups, published.users_with_keys);
        let sources: Vec<_> = report
            .sources
            .iter()
            .map(|source| (source.users, source.groups, source.keys))
            .collect();
        let dropped = (report.dropped.total, report.dropped.by_code);
        (
            lines,
            format!("{told:?} {sources:?} {dropped:?} {}", report.excluded_total),
        )
    }

    /// The overlay shows what a run over everything shows, which is forced here.
    fn agrees(&self) {
        assert_eq!(self.overlays(), 1, "it was followed");
        let followed = self.shows();
        self.run_whole();
        assert_eq!(self.overlays(), 0, "it was made of everything");
        assert_eq!(followed, self.shows());
    }
}

fn keys(name: &str, comment: &str) -> String {
    format!(
        r#""ssh_keys":"{name}":"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJhmVTGUVH8BWEvFbbLhWPFnhX8QdzBPE2tQTfmGqsZM {comment}""#
    )
}

#[test]
fn records_of_every_kind_are_followed_one_after_another() {
    let mut following = Following::begin(None);
    following.change(|source| source.remove(RecordKind::User, "u7"));
    following.change(|source| source.user("zoe", 10_700));
    following.change(|source| source.group("ops", 15_000, &["u2", "zoe"]));
    following.change(|source| {
        source.group("dev", 15_001, &["u5", "u6"]);
        source.user("u5", 10_500);
    });
    following.change(|source| source.put(RecordKind::Other, &keys("u3", "second")));
    assert!(!following.takes(|source| source.put(RecordKind::Other, r#""sequence":9"#)));
    following.change(|source| {
        source.user("u8", 10_009);
        source.user("u9", 10_008);
    });
    following.change(|source| source.user("u11", 10_012));
    following.agrees();
}

#[test]
fn several_records_at_once_are_one_overlay() {
    let mut following = Following::begin(None);
    for number in 0..5 {
        let before = following.source.clone();
        following.source.remove(RecordKind::User, &format!("u{number}"));
        let changes = diff(&before.0, &following.source.0, following.source.content().root()).unwrap();
        following.setting.tenant.add_record("local", &changes);
    }
    following.change(|source| source.user("late", 10_900));
    following.agrees();
}

#[test]
fn limits_and_scope_hold_for_what_comes_by_a_log() {
    let mut following = Following::begin(Some("user_ids = [\"10000-10999\"]\nreserved_users = [\"mallory\"]\n"));
    following.change(|source| {
        source.user("mallory", 10_666);
        source.user("root", 10_667);
        source.user("high", 12_000);
        source.user("fine", 10_668);
    });
    let names = following.setting.names();
    assert!(names.contains(&"fine".to_owned()));
    assert!(
        ["mallory", "root", "high"]
            .iter()
            .all(|name| !names.contains(&(*name).to_owned()))
    );
    following.agrees();
}

#[test]
fn a_record_whose_content_root_is_another_is_left_to_a_run_over_everything_which_refuses_it() {
    let mut following = Following::begin(None);
    let shown = following.shows();
    let mut forged = following.source.clone();
    forged.user("mallory", 10_666);
    let changes = diff(&following.source.0, &forged.0, following.source.content().root()).unwrap();
    following.setting.tenant.add_record("local", &changes);
    following.setting.tenant.sign_head(2);
    let outcome = following.setting.cycle(2);
    assert!(
        outcome.problems.iter().any(|problem| problem.contains("content root")),
        "{outcome:?}"
    );
    assert_eq!(following.shows().0, shown.0);
}

#[test]
fn whatever_else_changes_is_a_run_over_everything() {
    let mut following = Following::begin(None);
    following.change(|source| source.user("one", 10_701));
    assert_eq!(following.overlays(), 1);
    fs::write(following.setting.paths.limits(), "reserved_users = [\"u4\"]\n").unwrap();
    following.change(|source| source.user("two", 10_702));
    assert_eq!(following.overlays(), 0);
    assert!(!following.setting.names().contains(&"u4".to_owned()));
    following.change(|source| source.user("three", 10_703));
    assert_eq!(following.overlays(), 1, "and it goes on from there");
    // A file of records that is no such file is made anew.
    fs::write(following.setting.paths.records(), "garbage").unwrap();
    following.change(|source| source.user("four", 10_704));
    assert_eq!(following.overlays(), 0);
    following.change(|source| source.user("five", 10_705));
    following.agrees();
}

#[test]
fn a_body_that_holds_what_was_followed_is_no_run_over_everything() {
    let mut following = Following::begin(None);
    following.change(|source| source.user("one", 10_701));
    // Sealed anew, also in another epoch, as after a node was revoked.
    following.setting.tenant.rotate();
    following.publish_whole();
    assert!(!following.cycle(), "the table stays");
    following.change(|source| source.user("two", 10_702));
    assert_eq!((following.overlays(), following.whole_because()), (1, None));
    // A base and records on it at once.
    following.publish_whole();
    following.change(|source| source.user("three", 10_703));
    assert_eq!((following.overlays(), following.whole_because()), (1, None));
    following.agrees();
    // One that says more than that is read.
    following.source.user("four", 10_704);
    following.publish_whole();
    assert!(following.cycle());
    assert!(following.whole_because().unwrap().contains("another one"));
    assert!(following.setting.names().contains(&"four".to_owned()));
}

#[test]
fn a_small_change_of_a_large_group_is_told_in_few_bytes() {
    let mut following = Following::begin(None);
    let names: Vec<String> = (0..40).map(|number| format!("u{number}")).collect();
    let mut members: Vec<&str> = names.iter().map(String::as_str).collect();
    following.change(|source| source.group("all", 15_100, &members));
    let before = following.source.clone();
    members.pop();
    following.change(|source| source.group("all", 15_100, &members));
    let changes = diff(&before.0, &following.source.0, following.source.content().root()).unwrap();
    let (_, change) = changes.changes.first_key_value().unwrap();
    assert!(matches!(change, Change::Splice(_)));
    following.agrees();
}
