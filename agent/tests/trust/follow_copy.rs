//! The copy for LDAP behind logs: after each record it is the one that a host makes of everything.

use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;

use dirless_copy::{Reader, Scope};
use dirless_directory::{DnKey, Filter, Schema};
use dirless_seal::RecordKind;

use crate::follow::{Following, Source};

const BASE: &str = "dc=example,dc=com";

fn entry(name: &str, more: &str) -> String {
    format!(r#"{{"dn":"{name},{BASE}","attributes":{{"objectClass":["person"]{more}}}}}"#)
}

fn begin() -> Following {
    let mut tree = Source::default();
    for name in [
        "cn=web,ou=services",
        "uid=u1,ou=users",
        "cn=ops,ou=groups",
        "cn=x,ou=b,ou=a",
    ] {
        tree.put(RecordKind::Entry, &entry(name, r#","description":["first"]"#));
    }
    Following::begin_with(None, Some(tree))
}

impl Following {
    /// Names and attributes of the copy, but for what says when.
    fn copy(&self) -> Vec<(String, Vec<u8>)> {
        let reader = Reader::open(&self.setting.paths.directory_copy(), Schema::standard()).unwrap();
        let mut rows = Vec::new();
        let all = Filter::parse("(&)").unwrap();
        reader
            .candidates(&DnKey::from(Vec::new()), Scope::Subtree, &all, None, &mut |row| {
                let mut bytes = Vec::new();
                row.attributes.select(&mut bytes, |name| {
                    !matches!(name, "createTimestamp" | "modifyTimestamp" | "entryCSN")
                });
                rows.push((row.dn.to_owned(), bytes));
                ControlFlow::Continue(())
            })
            .unwrap();
        rows
    }

    fn finds(&self, filter: &str) -> usize {
        let reader = Reader::open(&self.setting.paths.directory_copy(), Schema::standard()).unwrap();
        let mut count = 0;
        let filter = Filter::parse(filter).unwrap();
        reader
            .candidates(&DnKey::from(Vec::new()), Scope::Subtree, &filter, None, &mut |row| {
                count += usize::from(row.exact);
                ControlFlow::Continue(())
            })
            .unwrap();
        count
    }

    /// Table and copy show what a run over everything shows, which is forced here.
    fn copy_agrees(&self) {
        let (shown, copy) = (self.shows(), self.copy());
        self.run_whole();
        assert_eq!(shown, self.shows());
        assert_eq!(copy, self.copy());
    }

    /// What a host keeps of a run: what a worker that is killed has not written yet.
    fn kept(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let paths = &self.setting.paths;
        [
            paths.report(),
            paths.daemon_state(),
            paths.records(),
            paths.directory_copy(),
        ]
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .into()
    }
}

#[test]
fn accounts_and_entries_are_followed_into_the_copy() {
    let mut following = begin();
    following.change(|source| source.user("zoe", 10_700));
    assert_eq!((following.whole_because(), following.overlays()), (None, 1));
    assert_eq!(following.finds("(uid=zoe)"), 1);
    following.change(|source| source.group("ops", 15_000, &["u2", "zoe"]));
    assert_eq!(following.finds("(memberOf=cn=ops,ou=groups,dc=example,dc=com)"), 2);
    following.change_tree(|tree| {
        tree.put(RecordKind::Entry, &entry("cn=db,ou=services", r#","mail":["db@x"]"#));
        tree.put(RecordKind::Entry, &entry("uid=u1,ou=users", r#","mail":["u1@x"]"#));
        tree.put(RecordKind::Entry, &entry("cn=below,cn=ops,ou=groups", ""));
        tree.remove(RecordKind::Entry, "cn=x,ou=b,ou=a,dc=example,dc=com");
    });
    assert_eq!(following.whole_because(), None);
    assert_eq!((following.finds("(mail=u1@x)"), following.finds("(ou=a)")), (1, 0));
    // Both at once, and an entry that says what only records say.
    following.stage(|source| source.remove(RecordKind::User, "u1"));
    following.stage_tree(|tree| tree.put(RecordKind::Entry, &entry("uid=toor,ou=users", r#","uidNumber":["0"]"#)));
    following.change(|source| source.group("ops", 15_001, &["u2"]));
    assert_eq!((following.whole_because(), following.finds("(uid=toor)")), (None, 0));
    following.copy_agrees();
}

#[test]
fn what_only_a_whole_run_can_tell_is_left_to_one_with_the_reason_in_the_report() {
    let mut following = begin();
    let schema = r#""schema":["attributetype ( 1.3.6.1.4.1.99999.1 NAME 'corpBadge' SUP name )"]"#;
    following.change_tree(|tree| tree.put(RecordKind::Other, schema));
    assert!(following.whole_because().unwrap().contains("something else of itself"));
    following.change_tree(|tree| tree.put(RecordKind::Entry, &entry("cn=db,ou=services", r#","corpBadge":["7"]"#)));
    assert_eq!((following.whole_because(), following.finds("(name=7)")), (None, 1));
    let uuid = r#","entryUUID":["0b7b5c2e-58b3-4f1a-9d0e-3f2a6f0c1d00"]"#;
    following.change_tree(|tree| {
        tree.put(RecordKind::Entry, &entry("cn=one", uuid));
        tree.put(RecordKind::Entry, &entry("cn=two", uuid));
    });
    assert!(following.whole_because().unwrap().contains("entryUUID"));
    following.change_tree(|tree| tree.put(RecordKind::Other, r#""host_groups":["db-*"]"#));
    assert!(following.whole_because().is_some());
    assert_eq!(following.finds("(cn=web)"), 0);
    // What is for other hosts is followed all the same, and shows nothing.
    following.change_tree(|tree| tree.put(RecordKind::Entry, &entry("cn=new", "")));
    assert_eq!((following.whole_because(), following.finds("(cn=new)")), (None, 0));
    following.copy_agrees();
}

#[test]
fn a_run_that_ends_anywhere_between_table_and_copy_is_made_good_by_the_next() {
    // Nothing after the table; the copy too; the file of records too.
    for written in 0..3 {
        let mut following = begin();
        following.change(|source| source.user("zoe", 10_700));
        let before = following.kept();
        following.change(|source| source.user("adam", 10_701));
        let [report, state, records, copy] = before.as_slice() else {
            unreachable!("four files")
        };
        let unwritten: &[_] = match written {
            0 => &[report, state, records, copy],
            1 => &[report, state, records],
            _ => &[report, state],
        };
        for (path, bytes) in unwritten {
            fs::remove_file(path).unwrap();
            fs::write(path, bytes).unwrap();
        }
        following.cycle();
        assert_eq!(following.finds("(uid=adam)"), 1, "{written}");
        following.change(|source| source.user("eve", 10_702));
        assert_eq!(
            (following.whole_because(), following.overlays()),
            (None, 1),
            "{written}"
        );
        following.copy_agrees();
    }
}

#[test]
fn a_copy_that_cannot_be_written_costs_no_account_and_is_made_good() {
    let mut following = begin();
    let mut draft = following.setting.paths.directory_copy().into_os_string();
    draft.push(".new");
    // Nobody removes a folder in place of a file.
    fs::create_dir(&draft).unwrap();
    let before = following.copy();
    following.change(|source| source.user("adam", 10_701));
    assert!(following.setting.names().contains(&"adam".to_owned()));
    assert!(following.setting.report().lacks_copy());
    assert_eq!(following.copy(), before);
    fs::remove_dir(&draft).unwrap();
    following.cycle();
    assert_eq!(following.finds("(uid=adam)"), 1);
    following.copy_agrees();
}

#[test]
fn a_removed_copy_is_made_again() {
    let mut following = begin();
    fs::remove_file(following.setting.paths.directory_copy()).unwrap();
    following.change(|source| source.user("zoe", 10_700));
    assert!(following.whole_because().unwrap().contains("copy for LDAP"));
    assert_eq!(following.finds("(uid=zoe)"), 1);
    following.change(|source| source.user("adam", 10_701));
    assert_eq!(following.whole_because(), None);
    following.copy_agrees();
}
