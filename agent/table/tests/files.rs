//! Publishing and opening real files.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{META, small, user};
use dirless_table::{
    Draft, GroupRecord, OpenError, Table, TableBuilder, TableMeta, TableStats, WriteError, publish, publish_bytes,
    publish_changed,
};
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

fn publish_one(path: &Path, generation: u64, name: &str) -> TableStats {
    let fill = |builder: &mut TableBuilder<Draft>| builder.add_user(&user(name, 1, "/"));
    publish::<WriteError>(path, TableMeta { generation, ..META }, fill).unwrap()
}

fn me() -> u32 {
    fs::metadata("/proc/self").unwrap().uid()
}

#[test]
fn published_table_is_world_readable_and_alone_in_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table");
    fs::write(folder.path().join("table.new"), "left by a publisher that died").unwrap();
    let stats = publish_one(&path, 1, "alice");
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o644);
    assert_eq!(fs::metadata(&path).unwrap().len(), stats.bytes);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let table = Table::open(&path, me()).unwrap();
    table.verify().unwrap();
    assert_eq!(table.stats(), stats);
}

#[test]
fn old_mapping_learns_that_it_is_superseded_and_still_answers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table");
    publish_one(&path, 1, "alice");
    let old = Table::open(&path, me()).unwrap();
    assert!(!old.superseded());
    publish_one(&path, 2, "bob");
    assert!(old.superseded());
    assert!(old.user_by_name(b"alice").unwrap().is_some());
    let new = Table::open(&path, me()).unwrap();
    assert!(!new.superseded() && !new.same_as(&old));
    assert!(new.user_by_name(b"alice").unwrap().is_none());
    publish_bytes(&path, &small()).unwrap();
    assert!(new.superseded());
}

#[test]
fn streamed_file_equals_the_one_built_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table");
    let names: Vec<String> = (0..5000).map(|n| format!("user-{n}")).collect();
    fn fill<W: std::io::Write + std::io::Seek>(b: &mut TableBuilder<W>, names: &[String]) -> Result<(), WriteError> {
        b.add_group(&GroupRecord { name: "all", gid: 3 }, names.iter().map(String::as_str))?;
        names
            .iter()
            .zip(1..)
            .try_for_each(|(name, uid)| b.add_user(&user(name, uid, "/home")))
    }
    publish(&path, META, |builder| fill(builder, &names)).unwrap();
    let mut builder = TableBuilder::in_memory(META).unwrap();
    fill(&mut builder, &names).unwrap();
    assert!(fs::read(&path).unwrap() == builder.finish().unwrap().0.into_inner());
}

#[test]
fn failed_publishing_keeps_the_old_table_unmarked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table");
    publish_one(&path, 1, "alice");
    let old = Table::open(&path, me()).unwrap();
    let failed = publish::<WriteError>(&path, META, |_| Err(WriteError::TooLarge));
    assert!(failed.is_err());
    assert!(publish_bytes(&path, b"not a table").is_err());
    assert!(publish_bytes(&path, &small()[..400]).is_err());
    assert!(!old.superseded());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    assert_eq!(Table::open(&path, me()).unwrap().stats().generation, 1);
}

#[test]
fn missing_folder_is_an_error_that_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let refused = publish_bytes(&folder.path().join("none/table"), &small()).unwrap_err();
    assert!(
        refused.to_string().starts_with("opening the table's folder"),
        "{refused}"
    );
}

#[test]
fn only_a_regular_file_of_the_owner_that_nobody_else_writes_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table");
    assert!(matches!(Table::open(&path, me()), Err(OpenError::Missing)));
    assert!(matches!(
        Table::open(&path.join("below"), me()),
        Err(OpenError::Missing)
    ));
    publish_bytes(&path, &small()).unwrap();
    assert!(matches!(Table::open(&path, me() + 1), Err(OpenError::Owner { .. })));
    for mode in [0o664, 0o646, 0o666] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert!(
            matches!(Table::open(&path, me()), Err(OpenError::Writable { .. })),
            "{mode:o}"
        );
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    Table::open(&path, me()).unwrap();

    let link = folder.path().join("link");
    symlink(&path, &link).unwrap();
    assert!(matches!(Table::open(&link, me()), Err(OpenError::NotAFile)));
    assert!(matches!(Table::open(folder.path(), me()), Err(OpenError::NotAFile)));
    assert!(Table::open(Path::new("/dev/null"), 0).is_err());
    let pipe = folder.path().join("pipe");
    assert!(
        std::process::Command::new("mkfifo")
            .arg("-m644")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    assert!(
        matches!(Table::open(&pipe, me()), Err(OpenError::NotAFile)),
        "and without waiting for a writer"
    );
}

#[test]
fn file_cut_before_opening_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table");
    let bytes = small();
    for len in [0, 1, 255, 256, 300, bytes.len() - 1] {
        fs::write(&path, &bytes[..len]).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Table::open(&path, me()).is_err(), "length {len}");
    }
}

#[test]
fn mapped_file_needs_no_descriptor() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table");
    publish_bytes(&path, &small()).unwrap();
    let table = Table::open(&path, me()).unwrap();
    let open = fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    assert!(!open.into_iter().any(|target| target == path));
    fs::remove_file(&path).unwrap();
    assert!(table.user_by_name(b"alice").unwrap().is_some());
}

/// The publisher's mark is made without knowing what the old file is; a stranger's file stays as it was.
#[test]
fn replacing_something_that_is_no_table_works() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table");
    let other = folder.path().join("other");
    fs::write(&other, [7; 1000]).unwrap();
    symlink(&other, &path).unwrap();
    publish_bytes(&path, &small()).unwrap();
    assert_eq!(
        fs::read(&other).unwrap(),
        [7; 1000],
        "the link's target is not ours to mark"
    );
    assert!(!fs::symlink_metadata(&path).unwrap().is_symlink());
    fs::write(&path, "short").unwrap();
    publish_bytes(&path, &small()).unwrap();
    Table::open(&path, me()).unwrap();
}

/// Publishes users with the given homes when that says something new.
fn publish_homes(path: &Path, meta: TableMeta, homes: &[String]) -> Option<TableStats> {
    let names: Vec<String> = (0..homes.len()).map(|n| format!("user{n}")).collect();
    let fill = |builder: &mut TableBuilder<Draft>| {
        let all = GroupRecord { name: "all", gid: 3 };
        builder.add_group(&all, names.iter().map(String::as_str))?;
        let users = names.iter().zip(homes).zip(1..);
        users
            .into_iter()
            .try_for_each(|((name, home), uid)| builder.add_user(&user(name, uid, home)))
    };
    publish_changed::<WriteError>(path, me(), meta, fill).unwrap()
}

#[test]
fn the_table_in_place_is_kept_only_while_nothing_is_wrong_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table");
    let homes = ["/a".to_owned(), "/b".to_owned()];
    let publish = |generation, enumerate| {
        let meta = TableMeta {
            generation,
            enumerate,
            ..META
        };
        publish_homes(&path, meta, &homes).is_some()
    };
    assert!(publish(1, true));
    assert!(!publish(2, true));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    assert!(
        publish(3, false),
        "whether entries are listed is part of what a table says"
    );
    assert!(publish(4, true));
    let whole = fs::read(&path).unwrap();
    for at in [0, 60, 192, 300, whole.len() - 1] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert!(publish(4, true), "byte {at}");
        assert_eq!(fs::read(&path).unwrap(), whole);
    }
    fs::write(&path, &whole[..whole.len() - 4]).unwrap();
    assert!(publish(4, true));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(publish(4, true));
    fs::remove_file(&path).unwrap();
    assert!(publish(4, true));
    assert!(!publish(5, true));
    assert_eq!(fs::read(&path).unwrap(), whole);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// The tables are larger than the pieces that are compared.
    #[test]
    fn only_what_differs_is_written_and_then_whole(
        count in 1..400_usize,
        change in prop::option::of((any::<prop::sample::Index>(), 0..600_usize)),
        more in 0..2_usize,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let (path, fresh) = (folder.path().join("table"), folder.path().join("fresh"));
        let mut homes: Vec<String> = (0..count).map(|n| format!("/home/{}{n}", "x".repeat(300))).collect();
        publish_homes(&path, META, &homes).unwrap();
        let mut same = more == 0;
        homes.extend((0..more).map(|n| format!("/more/{n}")));
        if let Some((at, len)) = change {
            let home = at.get(&homes).clone();
            let new = format!("/{}", "y".repeat(len));
            same &= home == new;
            *homes.iter_mut().find(|one| **one == home).unwrap() = new;
        }
        let meta = TableMeta { generation: 8, ..META };
        prop_assert_eq!(publish_homes(&path, meta, &homes).is_none(), same);
        publish_homes(&fresh, if same { META } else { meta }, &homes).unwrap();
        prop_assert!(fs::read(&path).unwrap() == fs::read(&fresh).unwrap());
        prop_assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
