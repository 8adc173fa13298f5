//! setpwent, getpwent, endpwent and their like.

use crate::host::Host;
use crate::tables::{META, table};
use dirless_table::TableMeta;
use nss_dirless::abi::{Group, Outcome, Passwd, Shadow};
use nss_dirless::{Buffer, Database, Module};
use std::collections::BTreeSet;
use std::ffi::{CStr, c_char};

/// One step in any database: the entry's name.
fn step(module: &Module, database: Database, len: usize) -> Result<String, Outcome> {
    let mut memory = vec![0u64; len / 8 + 1];
    let name = |outcome: Outcome, name: *mut c_char| match outcome {
        // SAFETY: written on success, in `memory`.
        Outcome::Success => Ok(unsafe { CStr::from_ptr(name) }.to_str().unwrap().to_owned()),
        other => Err(other),
    };
    // SAFETY: zeroed structures of integers and pointers are valid; buffer and structures are ours.
    unsafe {
        let buffer = Buffer::new(memory.as_mut_ptr().cast(), len);
        match database {
            Database::Passwd => {
                let mut out = std::mem::zeroed::<Passwd>();
                let outcome = module.next_passwd(&raw mut out, buffer);
                name(outcome, out.name)
            }
            Database::Group => {
                let mut out = std::mem::zeroed::<Group>();
                let outcome = module.next_group(&raw mut out, buffer);
                name(outcome, out.name)
            }
            Database::Shadow => {
                let mut out = std::mem::zeroed::<Shadow>();
                let outcome = module.next_shadow(&raw mut out, buffer);
                name(outcome, out.name)
            }
        }
    }
}

fn rest(module: &Module, database: Database) -> Vec<String> {
    std::iter::from_fn(|| step(module, database, 1024).ok()).collect()
}

#[test]
fn lists_everybody_once_in_order_and_begins_again() {
    let host = Host::with(&table(META, 2));
    for (database, wanted) in [
        (Database::Passwd, &["alice", "bob", "user0", "user1"][..]),
        (Database::Group, &["eng", "ops", "nobodys"]),
        (Database::Shadow, &["alice", "bob", "user0", "user1"]),
    ] {
        assert_eq!(rest(host.module, database), wanted, "without being started");
        assert_eq!(
            step(host.module, database, 1024),
            Err(Outcome::NotFound),
            "and stays at the end"
        );
        assert_eq!(host.module.start(database), Outcome::Success);
        assert_eq!(step(host.module, database, 1024).as_deref(), Ok(wanted[0]));
        assert_eq!(host.module.start(database), Outcome::Success);
        assert_eq!(rest(host.module, database), wanted);
        assert_eq!(host.module.end(database), Outcome::Success);
        assert_eq!(rest(host.module, database), wanted);
        assert_eq!(host.module.end(database), Outcome::Success);
    }
}

#[test]
fn a_small_buffer_loses_nobody() {
    let host = Host::with(&table(META, 2));
    for database in [Database::Passwd, Database::Group, Database::Shadow] {
        let mut names = Vec::new();
        loop {
            match (0..200)
                .map(|len| step(host.module, database, len))
                .find(|step| *step != Err(Outcome::ShortBuffer))
            {
                Some(Ok(name)) => names.push(name),
                end => break assert_eq!(end, Some(Err(Outcome::NotFound))),
            }
        }
        assert_eq!(names.len(), if database == Database::Group { 3 } else { 4 });
    }
}

#[test]
fn switched_off_it_is_empty_and_lookups_still_answer() {
    let host = Host::with(&table(
        TableMeta {
            enumerate: false,
            ..META
        },
        2,
    ));
    for database in [Database::Passwd, Database::Group, Database::Shadow] {
        assert_eq!(host.module.start(database), Outcome::Success);
        assert_eq!(step(host.module, database, 1024), Err(Outcome::NotFound));
    }
    assert_eq!(host.uid_of("alice"), Ok(60_001));
}

#[test]
fn goes_on_in_the_table_it_began_with() {
    let host = Host::with(&table(META, 50));
    assert_eq!(host.module.start(Database::Passwd), Outcome::Success);
    assert_eq!(step(host.module, Database::Passwd, 1024).as_deref(), Ok("alice"));
    host.publish(&table(TableMeta { generation: 2, ..META }, 1));
    assert_eq!(host.uid_of("user40"), Err(Outcome::NotFound), "lookups have moved on");
    assert_eq!(rest(host.module, Database::Passwd).len(), 51, "the enumeration has not");
    assert_eq!(host.module.source().tables_held(), 2);
    assert_eq!(host.module.start(Database::Passwd), Outcome::Success);
    assert_eq!(rest(host.module, Database::Passwd).len(), 3);
    assert_eq!(host.uid_of("alice"), Ok(60_001));
    assert_eq!(host.module.source().tables_held(), 1, "the old table is gone");
}

/// All threads share one cursor, as in glibc: together they get everybody exactly once.
#[test]
fn several_threads_share_one_enumeration() {
    let host = Host::with(&table(META, 5000));
    let module = host.module;
    assert_eq!(module.start(Database::Passwd), Outcome::Success);
    let threads: Vec<_> = (0..4)
        .map(|_| std::thread::spawn(move || rest(module, Database::Passwd)))
        .collect();
    let names: Vec<String> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    assert_eq!(names.len(), 5002);
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), 5002);
}
