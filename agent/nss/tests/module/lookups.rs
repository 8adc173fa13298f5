//! What a single call writes and returns.

use crate::ask::{uid_of, write_as_table};
use crate::host::Host;
use crate::tables::{META, table, user};
use dirless_table::{GroupRecord, TableBuilder};
use nss_dirless::abi::{self, Group, Outcome, Passwd, Shadow};
use nss_dirless::{Buffer, GidList, Key, Module};
use std::ffi::{CStr, c_char, c_long, c_void};

const CANARY: u8 = 0xa5;

/// Calls with `len` bytes at `offset` of a buffer whose other bytes must stay as they are.
fn within(offset: usize, len: usize, call: impl FnOnce(Buffer) -> Outcome) -> (Outcome, Vec<u64>) {
    // Of u64, so that offset 0 is aligned for pointers.
    let mut memory = vec![u64::from_ne_bytes([CANARY; 8]); (offset + len) / 8 + 8];
    let start = memory.as_mut_ptr().cast::<u8>();
    // SAFETY: offset..offset+len lies inside `memory`.
    let outcome = call(unsafe { Buffer::new(start.add(offset).cast(), len) });
    // SAFETY: as many bytes as were allocated.
    let bytes = unsafe { std::slice::from_raw_parts(start, memory.len() * 8) };
    assert!(
        bytes[..offset].iter().all(|byte| *byte == CANARY),
        "written before the buffer"
    );
    assert!(
        bytes[offset + len..].iter().all(|byte| *byte == CANARY),
        "written past the buffer"
    );
    (outcome, memory)
}

fn text(pointer: *const c_char) -> String {
    // SAFETY: only called on strings the module returned.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}

fn passwd(module: &Module, key: Key<'_>, len: usize) -> (Outcome, Option<[String; 5]>) {
    let mut out = std::mem::MaybeUninit::<Passwd>::uninit();
    // SAFETY: valid structure and buffer.
    let (outcome, memory) = within(0, len, |buffer| unsafe {
        module.passwd(1, key, out.as_mut_ptr(), buffer)
    });
    let fields = (outcome == Outcome::Success).then(|| {
        // SAFETY: written on success.
        let out = unsafe { out.assume_init() };
        [out.name, out.passwd, out.gecos, out.dir, out.shell].map(|field| text(field))
    });
    drop(memory);
    (outcome, fields)
}

#[test]
fn every_too_small_buffer_gives_erange_and_is_left_alone() {
    let host = Host::with(&table(META, 0));
    let needed = "alice\0x\0Some One\0/home/x\0/bin/sh\0".len();
    for len in 0..needed {
        assert_eq!(
            passwd(host.module, Key::Name(b"alice"), len).0,
            Outcome::ShortBuffer,
            "{len}"
        );
        let (outcome, memory) = within(3, len, |buffer| {
            let mut out = std::mem::MaybeUninit::<Passwd>::uninit();
            // SAFETY: valid structure and buffer.
            unsafe { host.module.passwd(1, Key::Id(60_001), out.as_mut_ptr(), buffer) }
        });
        assert_eq!(outcome, Outcome::ShortBuffer);
        assert!(
            memory.iter().all(|word| *word == u64::from_ne_bytes([CANARY; 8])),
            "nothing written at all"
        );
    }
    let (outcome, fields) = passwd(host.module, Key::Name(b"alice"), needed);
    assert_eq!(outcome, Outcome::Success);
    assert_eq!(fields.unwrap(), ["alice", "x", "Some One", "/home/x", "/bin/sh"]);
    assert_eq!(Outcome::ShortBuffer.status(), (abi::TRYAGAIN, Some(abi::ERANGE)));
}

#[test]
fn group_pointers_are_aligned_wherever_the_buffer_begins() {
    let host = Host::with(&table(META, 0));
    for offset in 0..16 {
        let mut succeeded_at = None;
        for len in 0..100 {
            let mut out = std::mem::MaybeUninit::<Group>::uninit();
            let (outcome, memory) = within(offset, len, |buffer| {
                // SAFETY: valid structure and buffer.
                unsafe { host.module.group(1, Key::Name(b"eng"), out.as_mut_ptr(), buffer) }
            });
            if outcome == Outcome::ShortBuffer {
                assert_eq!(succeeded_at, None, "a larger buffer failed");
                continue;
            }
            assert_eq!(outcome, Outcome::Success);
            succeeded_at.get_or_insert(len);
            // SAFETY: written on success.
            let out = unsafe { out.assume_init() };
            assert!(out.members.is_aligned(), "offset {offset}");
            // SAFETY: two members and a null pointer.
            let members = unsafe { std::slice::from_raw_parts(out.members, 3) };
            assert_eq!([text(members[0]), text(members[1])], ["alice", "bob"]);
            assert!(members[2].is_null());
            assert_eq!(
                (text(out.name), text(out.passwd), out.gid),
                ("eng".into(), "x".into(), 2001)
            );
            drop(memory);
        }
        let padding = offset.wrapping_neg() % 8;
        assert_eq!(succeeded_at, Some(padding + 3 * 8 + "eng\0x\0alice\0bob\0".len()));
    }
}

#[test]
fn a_group_of_a_hundred_thousand_is_answered_whole() {
    let names: Vec<String> = (0..100_000).map(|n| format!("member{n}")).collect();
    let mut builder = TableBuilder::in_memory(META).unwrap();
    builder
        .add_group(&GroupRecord { name: "all", gid: 7 }, names.iter().map(String::as_str))
        .unwrap();
    let host = Host::with(&builder.finish().unwrap().0.into_inner());
    let mut len = 1024;
    loop {
        let mut out = std::mem::MaybeUninit::<Group>::uninit();
        // SAFETY: valid structure and buffer.
        let ask = |buffer| unsafe { host.module.group(1, Key::Id(7), out.as_mut_ptr(), buffer) };
        let (outcome, memory) = within(0, len, ask);
        if outcome == Outcome::ShortBuffer {
            len *= 2;
            continue;
        }
        assert_eq!(outcome, Outcome::Success);
        // SAFETY: written on success.
        let out = unsafe { out.assume_init() };
        // SAFETY: as many members as were stored, and a null pointer.
        let members = unsafe { std::slice::from_raw_parts(out.members, names.len() + 1) };
        assert!(members.iter().zip(&names).all(|(member, name)| text(*member) == *name));
        assert!(members[names.len()].is_null());
        drop(memory);
        break;
    }
}

#[test]
fn absent_is_not_found_and_no_table_is_unavailable() {
    let host = Host::with(&table(META, 0));
    for name in ["carol", "", "eng", "Alice", &"x".repeat(5000)] {
        assert_eq!(host.uid_of(name), Err(Outcome::NotFound), "{name}");
    }
    assert_eq!(passwd(host.module, Key::Id(0), 500).0, Outcome::NotFound);
    assert_eq!(Outcome::NotFound.status(), (abi::NOTFOUND, Some(abi::ENOENT)));

    let nowhere = Host::new();
    assert_eq!(nowhere.uid_of("alice"), Err(Outcome::Missing));
    assert_eq!(Outcome::Missing.status(), (abi::UNAVAIL, Some(abi::ENOENT)));
    assert_eq!(nowhere.module.start(nss_dirless::Database::Passwd), Outcome::Missing);

    let bytes = table(META, 0);
    for len in [0, 10, 256, bytes.len() - 1] {
        let damaged = Host::new();
        write_as_table(&damaged.path(), &bytes[..len]);
        assert_eq!(damaged.uid_of("alice"), Err(Outcome::Damaged), "cut at {len}");
    }
    assert_eq!(Outcome::Damaged.status(), (abi::UNAVAIL, Some(abi::EIO)));
}

#[test]
fn files_of_others_links_and_writable_files_are_not_read() {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};
    let good = Host::with(&table(META, 0));
    let linked = Host::new();
    symlink(good.path(), linked.path()).unwrap();
    assert_eq!(linked.uid_of("alice"), Err(Outcome::Damaged));
    let writable = Host::with(&table(META, 0));
    std::fs::set_permissions(writable.path(), std::fs::Permissions::from_mode(0o664)).unwrap();
    assert_eq!(writable.uid_of("alice"), Err(Outcome::Damaged));
    let foreign = Host::with(&table(META, 0));
    chown(foreign.path(), Some(65_534), None).expect("these tests run as root");
    assert_eq!(foreign.uid_of("alice"), Err(Outcome::Damaged));
}

/// Whatever a hostile table holds, calls end with some status, and write inside the buffer only.
#[test]
fn hostile_tables_never_crash_a_call() {
    let bytes = table(META, 3);
    let mut survived = 0;
    for at in (256..bytes.len()).step_by(3) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0xff;
        let host = Host::new();
        write_as_table(&host.path(), &damaged);
        for key in [Key::Name(b"alice"), Key::Name(b"eng"), Key::Id(2001), Key::Id(60_002)] {
            let _ = passwd(host.module, key, 200);
            let mut out = std::mem::MaybeUninit::<Group>::uninit();
            // SAFETY: valid structure and buffer.
            let _ = within(1, 300, |buffer| unsafe {
                host.module.group(1, key, out.as_mut_ptr(), buffer)
            });
        }
        let _ = gids(host.module, b"alice", 60_001, &mut vec![1], 0);
        host.module.close();
        survived += 1;
    }
    assert!(survived > 100);
}

#[test]
fn shadow_entries_are_locked_and_never_age() {
    let host = Host::with(&table(META, 0));
    let mut out = std::mem::MaybeUninit::<Shadow>::uninit();
    for len in 0.."alice\0!\0".len() {
        // SAFETY: valid structure and buffer.
        let (outcome, _) = within(0, len, |buffer| unsafe {
            host.module.shadow(1, b"alice", out.as_mut_ptr(), buffer)
        });
        assert_eq!(outcome, Outcome::ShortBuffer);
    }
    // SAFETY: valid structure and buffer.
    let (outcome, memory) = within(0, 8, |buffer| unsafe {
        host.module.shadow(1, b"alice", out.as_mut_ptr(), buffer)
    });
    assert_eq!(outcome, Outcome::Success);
    // SAFETY: written on success.
    let out = unsafe { out.assume_init() };
    assert_eq!((text(out.name), text(out.passwd)), ("alice".into(), "!".into()));
    let ages = [out.last_change, out.min, out.max, out.warn, out.inactive, out.expire];
    assert_eq!(ages, [19_900, 0, 99_999, 7, -1, -1]);
    drop(memory);
    let mut out = std::mem::MaybeUninit::<Shadow>::uninit();
    // SAFETY: valid structure and buffer.
    let (root, _) = within(0, 99, |buffer| unsafe {
        host.module.shadow(1, b"root", out.as_mut_ptr(), buffer)
    });
    assert_eq!(
        root,
        Outcome::NotFound,
        "nobody but the table's users has an entry here"
    );
}

unsafe extern "C" {
    fn malloc(size: usize) -> *mut c_void;
    fn free(memory: *mut c_void);
}

/// Runs initgroups on a list from malloc that begins as `list`, full; returns size and outcome.
fn gids(module: &Module, name: &[u8], skip: u32, list: &mut Vec<u32>, limit: c_long) -> (Outcome, c_long) {
    // SAFETY: the list is malloc's, as glibc's is, with `size` places of which `start` are set.
    unsafe {
        let mut memory = malloc(list.len() * 4).cast::<u32>();
        memory.copy_from_nonoverlapping(list.as_ptr(), list.len());
        let (mut start, mut size) = (list.len() as c_long, list.len() as c_long);
        let target = GidList {
            start: &raw mut start,
            size: &raw mut size,
            gids: &raw mut memory,
            limit,
        };
        let outcome = module.initgroups(1, name, skip, &target);
        assert!(start <= size, "more gids than room");
        *list = std::slice::from_raw_parts(memory, start as usize).to_vec();
        free(memory.cast());
        (outcome, size)
    }
}

#[test]
fn initgroups_appends_grows_skips_and_stops_at_the_limit() {
    let names: Vec<String> = (0..500).map(|n| format!("group{n}")).collect();
    let mut builder = TableBuilder::in_memory(META).unwrap();
    for (gid, name) in (1000..).zip(&names) {
        builder.add_group(&GroupRecord { name, gid }, ["alice"]).unwrap();
    }
    builder.add_user(&user("alice", 1)).unwrap();
    builder.add_user(&user("loner", 2)).unwrap();
    let host = Host::with(&builder.finish().unwrap().0.into_inner());
    let all: Vec<u32> = (1000..1500).collect();

    for limit in [0, -1, 10_000] {
        let mut list = vec![77];
        assert_eq!(gids(host.module, b"alice", 77, &mut list, limit).0, Outcome::Success);
        assert_eq!((list[0], &list[1..]), (77, &all[..]), "limit {limit}");
    }
    let mut list = vec![77];
    assert_eq!(gids(host.module, b"alice", 1001, &mut list, 0).0, Outcome::Success);
    assert_eq!(
        (list.len(), list.contains(&1001)),
        (500, false),
        "the gid given is not added again"
    );
    for limit in [1, 2, 16, 17, 100] {
        let mut list = vec![77];
        let (outcome, size) = gids(host.module, b"alice", 77, &mut list, limit);
        assert_eq!((outcome, list.len() as c_long), (Outcome::Success, limit));
        assert!(size <= limit.max(1), "never grown past the limit");
    }
    let mut list = vec![77];
    assert_eq!(gids(host.module, b"loner", 77, &mut list, 0).0, Outcome::Success);
    assert_eq!(gids(host.module, b"nobody", 77, &mut list, 0).0, Outcome::NotFound);
    assert_eq!(list, [77]);
    assert_eq!(gids(Host::new().module, b"alice", 77, &mut list, 0).0, Outcome::Missing);
}

#[test]
fn each_module_answers_from_its_own_file() {
    let (one, other) = (Host::with(&table(META, 0)), Host::with(&table(META, 5)));
    assert_eq!(uid_of(other.module, "user4"), Ok(100_004));
    assert_eq!(uid_of(one.module, "user4"), Err(Outcome::NotFound));
}
