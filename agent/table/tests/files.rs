//! Publishing and opening real files.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{META, small, user};
use dirless_table::{OpenError, Table, TableBuilder, TableMeta, TableStats, WriteError, publish, publish_bytes};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

fn publish_one(path: &Path, generation: u64, name: &str) -> TableStats {
    let fill = |builder: &mut TableBuilder<&fs::File>| builder.add_user(&user(name, 1, "/"));
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
        b.add_group(
            &dirless_table::GroupRecord { name: "all", gid: 3 },
            names.iter().map(String::as_str),
        )?;
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
