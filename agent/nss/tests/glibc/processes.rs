//! What programs do to a module: threads, forks, closed descriptors, chroots, set-uid, unloading.

use crate::namespace::Namespace;
use crate::tables::{META, table, user};
use dirless_table::overlay::{self, Published};
use dirless_table::{GroupRecord, TableBuilder, TableMeta, WriteError};
use std::process::{Child, Stdio};

/// Replaces the table while the program runs, ten times at least: on a slow disk the program runs
/// again until that many tables went by. Hands out what it said last.
fn while_publishing(host: &Namespace, script: &str) -> String {
    let mut generation = 1;
    loop {
        let mut command = host.command(script);
        let mut program: Child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        while program.try_wait().unwrap().is_none() {
            generation += 1;
            host.publish(&table(TableMeta { generation, ..META }, 3 + (generation % 5) as u32));
        }
        let output = program.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "{:?} {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        if generation > 10 {
            return String::from_utf8(output.stdout).unwrap();
        }
    }
}

/// As the usual table, but most of what the program asks for is said by an overlay.
fn under_overlay() -> Namespace {
    let mut builder = TableBuilder::in_memory(META).unwrap();
    builder
        .add_group(&GroupRecord { name: "eng", gid: 2003 }, ["alice"])
        .unwrap();
    builder
        .add_group(&GroupRecord { name: "ops", gid: 2000 }, ["alice"])
        .unwrap();
    builder.add_user(&user("alice", 4711)).unwrap();
    builder.add_user(&user("nobody-of-that-name", 60_002)).unwrap();
    let host = Namespace::new(&builder.finish().unwrap().0.into_inner());
    let published = overlay::publish::<WriteError>(&host.table(), 0, META, overlay::MOST_BYTES, |draft| {
        draft.put_user(&user("alice", 60_001))?;
        draft.put_user(&user("bob", 60_002))?;
        draft.drop_user("nobody-of-that-name");
        draft.put_group(&GroupRecord { name: "eng", gid: 2001 }, ["alice", "bob"])
    });
    assert!(
        matches!(published, Ok(Published::Overlay(_))),
        "{published:?} (these tests run as root)"
    );
    host
}

#[test]
fn no_lookup_makes_a_system_call() {
    assert_eq!(Namespace::new(&table(META, 0)).output("./probe seccomp"), "ok\n");
    assert_eq!(under_overlay().output("./probe seccomp"), "ok\n");
}

#[test]
fn unloading_leaves_nothing_behind() {
    assert_eq!(Namespace::new(&table(META, 0)).output("./probe dlclose"), "ok\n");
    assert_eq!(under_overlay().output("./probe dlclose"), "ok\n");
}

#[test]
fn a_list_that_cannot_grow_stays_as_it_is() {
    assert_eq!(Namespace::new(&table(META, 0)).output("./probe realloc"), "ok\n");
}

#[test]
fn programs_that_close_and_reuse_descriptors_are_safe() {
    let host = Namespace::new(&table(META, 3));
    assert_eq!(while_publishing(&host, "./probe descriptors /var/lib/scratch"), "ok\n");
}

#[test]
fn children_forked_during_lookups_and_replacements_go_on() {
    let host = Namespace::new(&table(META, 3));
    assert_eq!(while_publishing(&host, "./probe fork"), "ok\n");
}

#[test]
fn cancelled_threads_leave_no_lock_behind() {
    let host = Namespace::new(&table(META, 3));
    assert_eq!(while_publishing(&host, "./probe cancel"), "ok\n");
}

#[test]
fn in_a_chroot_without_the_file_nothing_is_known() {
    assert_eq!(
        Namespace::new(&table(META, 0)).output("./probe chroot /var/lib/dirless/empty"),
        "ok\n"
    );
}

/// The deployed module read a socket's path from the environment, in set-uid programs too: any local
/// user could become root. This one reads nothing from it.
#[test]
fn set_uid_programs_cannot_be_given_another_table() {
    let host = Namespace::new(&table(META, 0));
    let script = "
        chmod 4755 probe
        mkdir -m 777 mine && cp nss/table mine/table
        export DIRLESS_NSS_SOCK=$PWD/mine/sock DIRLESS_DB_PATH=$PWD/mine/table DIRLESS_TABLE=$PWD/mine/table
        ask() { setpriv --reuid 65534 --regid 65534 --clear-groups ./probe set-uid alice; }
        ask; rm nss/table; ask";
    assert_eq!(host.output(script), "euid 0 uid 60001\nok\neuid 0 uid -1\nok\n");
}

#[test]
fn the_table_is_readable_by_everybody_and_needs_no_daemon() {
    let host = Namespace::new(&table(META, 0));
    let script = "setpriv --reuid 65534 --regid 65534 --clear-groups getent passwd alice";
    assert!(host.output(script).starts_with("alice:x:60001:"));
}
