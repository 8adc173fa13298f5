//! Publishing and opening real files: what is in place at each step, and what is refused.

use crate::model::{Questions, change, me, meta, small};
use dirless_table::overlay::{self, Published, limit};
use dirless_table::{OpenError, Table, WriteError, publish_bytes, publish_changed};
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

struct Host {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Host {
    fn new() -> Self {
        let folder = crate::model::folder();
        let path = folder.path().join("table");
        publish_bytes(&path, &small().bytes()).unwrap();
        Self { _folder: folder, path }
    }

    /// Without bob, who is told apart by an overlay.
    fn without_bob() -> Self {
        let host = Self::new();
        host.drop_user("bob");
        host
    }

    fn drop_user(&self, name: &str) {
        let dropped = change(&self.path, |draft| {
            draft.drop_user(name);
            Ok(())
        });
        assert!(matches!(dropped.unwrap(), Published::Overlay(_)));
    }

    fn overlay(&self, number: u32) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(format!(".overlay.{number:08x}"));
        path.into()
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path.parent().unwrap()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn open(&self) -> Result<Table, OpenError> {
        Table::open(&self.path, me())
    }

    /// The words of the header that change.
    fn store(&self, at: u64, word: u32) {
        let file = fs::OpenOptions::new().write(true).open(&self.path).unwrap();
        file.write_all_at(&word.to_le_bytes(), at).unwrap();
    }
}

/// Another file of that name: one that is mapped must not be cut.
fn replace(path: &Path, bytes: &[u8]) {
    let aside = path.with_extension("aside");
    fs::write(&aside, bytes).unwrap();
    fs::set_permissions(&aside, fs::Permissions::from_mode(0o644)).unwrap();
    fs::rename(&aside, path).unwrap();
}

fn knows(table: &Table, name: &str) -> bool {
    table.user_by_name(name.as_bytes()).unwrap().is_some()
}

#[test]
fn an_opened_table_learns_of_each_overlay_and_keeps_its_own_answers() {
    let host = Host::new();
    let first = host.open().unwrap();
    assert!(!first.superseded() && !first.marked());
    host.drop_user("bob");
    assert!(first.superseded() && !first.marked());
    let second = host.open().unwrap();
    assert!(!second.superseded() && !second.same_as(&first));
    assert_eq!((second.stats().generation, second.stats().users), (8, 1));
    second.verify().unwrap();
    host.drop_user("alice");
    assert!(second.superseded());
    let third = host.open().unwrap();
    assert!(third.same_as(&host.open().unwrap()) && !third.same_as(&second));
    for (table, alice, bob) in [(&first, true, true), (&second, true, false), (&third, false, false)] {
        assert_eq!((knows(table, "alice"), knows(table, "bob")), (alice, bob));
    }
    assert_eq!(host.files(), ["table", "table.overlay.00000002"]);
    assert_eq!(fs::metadata(host.overlay(2)).unwrap().mode() & 0o7777, 0o644);
    publish_bytes(&host.path, &small().bytes()).unwrap();
    assert!(third.superseded() && third.marked());
    assert_eq!(host.files(), ["table"], "overlays go with their table");
    assert!(knows(&host.open().unwrap(), "bob"));
}

#[test]
fn nothing_new_is_not_written() {
    let host = Host::new();
    let nothing = || change(&host.path, |_| Ok(())).unwrap();
    assert_eq!(nothing(), Published::Unchanged);
    host.drop_user("bob");
    assert_eq!(nothing(), Published::Unchanged);
    let back = small().users.remove("bob").unwrap();
    let published = change(&host.path, |draft| draft.put_user(&back.record("bob"))).unwrap();
    let Published::Overlay(stats) = published else {
        panic!("bob is back");
    };
    assert_eq!((stats.number, stats.names, stats.groups), (2, 0, 0));
    let questions = Questions::about(&[&small()]);
    let anew = Table::from_bytes(small().bytes()).unwrap();
    assert_eq!(questions.ask(&host.open().unwrap()), questions.ask(&anew));
}

/// Every way in which the overlay that is asked for is not there: no answer, and no bob.
#[test]
fn a_lost_or_damaged_overlay_brings_nobody_back() {
    let good = Host::without_bob();
    let bytes = fs::read(good.overlay(1)).unwrap();
    assert!(!knows(&good.open().unwrap(), "bob"));
    let refused = |what: &str, spoil: &dyn Fn(&Path)| {
        let host = Host::without_bob();
        let running = host.open().unwrap();
        spoil(&host.overlay(1));
        let error = host.open().map(|_| ()).expect_err(what);
        assert!(!matches!(error, OpenError::Missing), "{what}: there is a table");
        assert!(!running.superseded() && !knows(&running, "bob"), "{what}");
        // The next table mends it.
        let whole = change(&host.path, |draft| {
            draft.drop_user("alice");
            Ok(())
        });
        assert!(matches!(whole, Err(WriteError::WholeTable { .. })), "{what}: {whole:?}");
        let fill = |builder: &mut dirless_table::TableBuilder<_>| -> Result<(), WriteError> {
            builder.add_user(&crate::common::user("alice", 1, "/"))
        };
        assert!(publish_changed(&host.path, me(), meta(9), fill).unwrap().is_some());
        assert!(knows(&host.open().unwrap(), "alice"));
        assert_eq!(host.files(), ["table"]);
    };
    refused("removed", &|path| fs::remove_file(path).unwrap());
    refused("a link", &|path| {
        fs::remove_file(path).unwrap();
        symlink("/dev/null", path).unwrap();
    });
    refused("writable", &|path| {
        fs::set_permissions(path, fs::Permissions::from_mode(0o664)).unwrap();
    });
    refused("empty", &|path| replace(path, &[]));
    refused("cut short", &|path| replace(path, &bytes[..bytes.len() - 4]));
    refused("too large", &|path| {
        let most = usize::try_from(overlay::MOST_BYTES).unwrap();
        replace(path, &vec![0; most + 1]);
    });
    for at in [0, 9, 12, 30, 50, 100, 250, 256, bytes.len() - 1] {
        refused("one bit", &|path| {
            let mut other = bytes.clone();
            other[at] ^= 1;
            replace(path, &other);
        });
    }
    let of_other = Host::new();
    publish_bytes(&of_other.path, &crate::common::small()).unwrap();
    of_other.drop_user("bob");
    let others = fs::read(of_other.overlay(1)).unwrap();
    refused("another table's", &|path| replace(path, &others));
    let twice = Host::without_bob();
    twice.drop_user("alice");
    let second = fs::read(twice.overlay(2)).unwrap();
    refused("another number's", &|path| replace(path, &second));
}

#[test]
fn an_overlay_of_another_owner_is_refused() {
    let host = Host::without_bob();
    std::os::unix::fs::chown(host.overlay(1), Some(me() + 1), None).expect("these tests run as root");
    assert!(matches!(host.open(), Err(OpenError::Owner { .. })));
}

/// The publisher died, or power was lost, after each of its steps.
#[test]
fn every_interrupted_step_leaves_one_of_the_states() {
    // A file aside, and an overlay that the header does not ask for yet.
    let host = Host::without_bob();
    fs::write(host.path.with_file_name("table.new"), "half").unwrap();
    fs::copy(host.overlay(1), host.overlay(2)).unwrap();
    assert!(!knows(&host.open().unwrap(), "bob") && knows(&host.open().unwrap(), "alice"));
    host.drop_user("alice");
    assert_eq!(host.files(), ["table", "table.overlay.00000002"]);

    // The number is stored, the overlay before is still there.
    let host = Host::without_bob();
    let before = fs::read(host.overlay(1)).unwrap();
    host.drop_user("alice");
    fs::write(host.overlay(1), &before).unwrap();
    assert!(!knows(&host.open().unwrap(), "alice"));
    // The number did not get to the disk.
    host.store(196, 1);
    fs::set_permissions(host.overlay(1), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(knows(&host.open().unwrap(), "alice") && !knows(&host.open().unwrap(), "bob"));
    host.drop_user("alice");
    assert_eq!(host.files(), ["table", "table.overlay.00000002"]);
    assert!(!knows(&host.open().unwrap(), "alice"));

    // The table is marked as superseded, and was not replaced.
    host.store(192, 1);
    let marked = host.open().unwrap();
    assert!(marked.marked() && marked.superseded() && !knows(&marked, "bob"));
    let whole = change(&host.path, |_| Ok(()));
    assert!(matches!(whole, Err(WriteError::WholeTable { .. })), "{whole:?}");

    // It was replaced, and overlays are left; the new table's first one takes the place of one of them.
    let host = Host::without_bob();
    let left = fs::read(host.overlay(1)).unwrap();
    publish_bytes(&host.path, &crate::common::small()).unwrap();
    for number in [1, 7] {
        fs::write(host.overlay(number), &left).unwrap();
    }
    assert!(knows(&host.open().unwrap(), "bob"));
    host.drop_user("alice");
    assert_eq!(host.files(), ["table", "table.overlay.00000001"]);
    let table = host.open().unwrap();
    assert!(knows(&table, "bob") && !knows(&table, "alice"));
}

#[test]
fn what_needs_a_whole_table_is_said_to() {
    let host = Host::new();
    let wants_whole = |published: Result<Published, WriteError>| {
        let error = published.unwrap_err();
        assert!(matches!(error, WriteError::WholeTable { .. }), "{error}");
        assert!(error.to_string().ends_with("write a whole table"), "{error}");
        assert!(!error.concerns_one_record());
    };
    let drop_bob = |draft: &mut overlay::Draft<'_>| {
        draft.drop_user("bob");
        Ok(())
    };
    wants_whole(overlay::publish(&host.path, me(), meta(8), 400, drop_bob));
    let listed = dirless_table::TableMeta {
        enumerate: false,
        ..meta(8)
    };
    wants_whole(overlay::publish(&host.path, me(), listed, 4000, drop_bob));
    wants_whole(overlay::publish(&host.path, me() + 1, meta(8), 4000, drop_bob));
    host.store(196, u32::MAX);
    wants_whole(change(&host.path, drop_bob));
    fs::remove_file(&host.path).unwrap();
    wants_whole(change(&host.path, drop_bob));
    assert_eq!(host.files(), [""; 0]);
}

/// Overlays repeat each other: after very many of them a table is cheaper.
#[test]
fn after_very_many_overlays_a_whole_table_is_due() {
    for (number, due) in [(1000u32, false), (4000, true)] {
        let host = Host::without_bob();
        let mut overlay = fs::read(host.overlay(1)).unwrap();
        overlay[12..16].copy_from_slice(&number.to_le_bytes());
        overlay::repair(&mut overlay);
        replace(&host.overlay(number), &overlay);
        host.store(196, number);
        let next = change(&host.path, |draft| {
            draft.drop_user("alice");
            Ok(())
        });
        assert_eq!(
            matches!(next, Err(WriteError::WholeTable { .. })),
            due,
            "{number}: {next:?}"
        );
        assert_eq!(next.is_ok(), !due);
    }
}

#[test]
fn a_failed_change_leaves_the_state_as_it_was() {
    let host = Host::without_bob();
    let table = host.open().unwrap();
    let failed = change(&host.path, |draft| {
        draft.drop_user("alice");
        Err(WriteError::TooLarge)
    });
    assert!(matches!(failed, Err(WriteError::TooLarge)));
    assert!(!table.superseded());
    assert_eq!(host.files(), ["table", "table.overlay.00000001"]);
}

/// Bytes from a table in place are published as what they are: a table, alone.
#[test]
fn published_bytes_ask_for_no_overlay() {
    let host = Host::without_bob();
    host.store(192, 1);
    publish_bytes(&host.path, &fs::read(&host.path).unwrap()).unwrap();
    let table = host.open().unwrap();
    assert!(knows(&table, "bob") && !table.superseded());
}

#[test]
fn a_table_with_an_overlay_is_never_what_was_written() {
    let host = Host::without_bob();
    let same = |builder: &mut dirless_table::TableBuilder<_>| -> Result<(), WriteError> {
        for (name, team) in &small().groups {
            let group = dirless_table::GroupRecord { name, gid: team.gid };
            builder.add_group(&group, team.members.iter().map(String::as_str))?;
        }
        let users = small().users;
        users
            .iter()
            .try_for_each(|(name, person)| builder.add_user(&person.record(name)))
    };
    assert!(publish_changed(&host.path, me(), meta(9), same).unwrap().is_some());
    assert!(knows(&host.open().unwrap(), "bob"));
    assert!(publish_changed(&host.path, me(), meta(9), same).unwrap().is_none());
}

#[test]
fn an_overlay_is_worth_a_share_of_its_table() {
    assert_eq!(
        [0, 1 << 20, 4 << 20, 1 << 30].map(limit),
        [64 << 10, 128 << 10, 512 << 10, 1 << 20]
    );
}

/// One thread publishes overlays and tables without a pause, others open and ask: each finds a state that
/// was published, whole.
#[test]
fn whoever_opens_while_states_are_published_finds_one_of_them() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let host = Host::new();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let (mut opened, mut last) = (0u32, 0);
                    while !stop.load(Ordering::Relaxed) || opened == 0 {
                        let table = host.open().unwrap();
                        // In every state alice's uid, gid of her group and number of members are the same.
                        let alice = table.user_by_name(b"alice").unwrap().unwrap();
                        let state = alice.uid;
                        assert_eq!(table.user_by_uid(state).unwrap(), Some(alice));
                        let Some(eng) = table.group_by_name(b"eng").unwrap() else {
                            panic!("there is always eng");
                        };
                        let alone = [eng.gid];
                        assert!(state == 60_001 || eng.gid == state, "{state} and {}", eng.gid);
                        assert!(state == 60_001 || alice.gids().iter().eq(alone));
                        assert!(state == 60_001 || state >= last, "back from {last} to {state}");
                        last = state;
                        opened += 1;
                    }
                })
            })
            .collect();
        for state in 100_000..100_400u32 {
            if state % 10 == 0 {
                publish_bytes(&host.path, &small().bytes()).unwrap();
            }
            let _ = change(&host.path, |draft| {
                draft.put_user(&crate::common::user("alice", state, "/"))?;
                draft.drop_group("ops");
                draft.put_group(
                    &dirless_table::GroupRecord {
                        name: "eng",
                        gid: state,
                    },
                    ["alice"],
                )
            })
            .unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
}
