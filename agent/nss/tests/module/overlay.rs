//! Tables under overlays, as a process sees them that has been running all along.

use crate::ask::{eventually, uid_of};
use crate::host::Host;
use crate::tables::{META, table, user};
use dirless_table::overlay::Draft;
use dirless_table::{GroupRecord, WriteError};
use nss_dirless::abi::{Group, Outcome, Passwd};
use nss_dirless::{Buffer, Database, GidList, Key, Module};
use std::ffi::{CStr, c_char};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A group's gid and members, with a buffer that holds just `len` bytes.
fn group(module: &Module, key: Key<'_>, len: usize) -> Result<(u32, Vec<String>), Outcome> {
    let mut memory = vec![u64::MAX; len / 8 + 2];
    let mut out = std::mem::MaybeUninit::<Group>::uninit();
    // SAFETY: buffer and structure are ours; what is read was written on success, up to the null pointer.
    unsafe {
        let start = memory.as_mut_ptr().cast::<c_char>();
        match module.group(1, key, out.as_mut_ptr(), Buffer::new(start, len)) {
            Outcome::Success => {}
            other => return Err(other),
        }
        let past = std::slice::from_raw_parts(start.add(len).cast::<u8>(), 8);
        assert_eq!(past, [0xff; 8], "written past the buffer");
        let out = out.assume_init();
        let members = (0..)
            .map(|n| *out.members.add(n))
            .take_while(|member| !member.is_null());
        let text = |pointer: *mut c_char| CStr::from_ptr(pointer).to_str().unwrap().to_owned();
        Ok((out.gid, members.map(text).collect()))
    }
}

fn gids_of(module: &Module, name: &str) -> Result<Vec<u32>, Outcome> {
    let mut list = vec![0u32; 64];
    let (mut start, mut size, mut gids) = (0, 64, list.as_mut_ptr());
    let target = GidList {
        start: &raw mut start,
        size: &raw mut size,
        gids: &raw mut gids,
        limit: 0,
    };
    // SAFETY: the list is ours and large enough not to be grown.
    match unsafe { module.initgroups(1, name.as_bytes(), 0, &target) } {
        Outcome::Success => {
            list.truncate(start as usize);
            Ok(list)
        }
        other => Err(other),
    }
}

fn name_of(module: &Module, uid: u32) -> Result<String, Outcome> {
    let mut buffer = [0; 1024];
    let mut out = std::mem::MaybeUninit::<Passwd>::uninit();
    // SAFETY: buffer and structure are ours, and written on success.
    unsafe {
        let scratch = Buffer::new((&raw mut buffer).cast::<c_char>(), buffer.len());
        match module.passwd(1, Key::Id(uid), out.as_mut_ptr(), scratch) {
            Outcome::Success => Ok(CStr::from_ptr(out.assume_init().name).to_str().unwrap().to_owned()),
            other => Err(other),
        }
    }
}

fn listed(module: &Module) -> usize {
    let mut memory = vec![0u64; 64];
    let mut count = 0;
    let mut out = std::mem::MaybeUninit::<Passwd>::uninit();
    // SAFETY: buffer and structure are ours.
    while unsafe { module.next_passwd(out.as_mut_ptr(), Buffer::new(memory.as_mut_ptr().cast(), 512)) }
        == Outcome::Success
    {
        count += 1;
    }
    count
}

/// bob goes, alice moves to another uid, carol comes, into eng too.
fn changed(draft: &mut Draft<'_>) -> Result<(), WriteError> {
    draft.put_user(&user("alice", 60_010))?;
    draft.put_user(&user("carol", 60_003))?;
    draft.drop_user("bob");
    draft.change_members("eng", ["carol"], ["bob"])
}

#[test]
fn the_very_next_lookup_of_every_kind_sees_the_overlay() {
    let host = Host::with(&table(META, 3));
    let module = host.module;
    assert_eq!(host.uid_of("bob"), Ok(60_002));
    host.change(2, changed);
    assert_eq!(host.uid_of("bob"), Err(Outcome::NotFound));
    assert_eq!((host.uid_of("alice"), host.uid_of("carol")), (Ok(60_010), Ok(60_003)));
    assert_eq!(host.uid_of("user0"), Ok(100_000));
    for gone in [60_001, 60_002] {
        assert_eq!(name_of(module, gone), Err(Outcome::NotFound));
    }
    assert_eq!(name_of(module, 60_010).as_deref(), Ok("alice"));
    assert_eq!(gids_of(module, "alice"), Ok(vec![2000, 2001]));
    assert_eq!(gids_of(module, "carol"), Ok(vec![2001]));
    assert_eq!(gids_of(module, "bob"), Err(Outcome::NotFound));
    let eng = Ok((2001, vec!["alice".to_owned(), "carol".to_owned()]));
    assert_eq!(group(module, Key::Name(b"eng"), 1024), eng);
    assert_eq!(group(module, Key::Id(2001), 1024), eng);
    assert_eq!(listed(module), 5);
    assert_eq!(module.source().tables_held(), 1);
    host.publish(&table(META, 0));
    assert_eq!(host.uid_of("bob"), Ok(60_002));
    assert_eq!(module.end(Database::Passwd), Outcome::Success);
}

#[test]
fn a_group_in_pieces_is_answered_whole_or_not_at_all() {
    let host = Host::new();
    let five = ["a", "bb", "ccc", "dddd", "eeeee"];
    host.publish(&{
        let mut builder = dirless_table::TableBuilder::in_memory(META).unwrap();
        builder.add_group(&GroupRecord { name: "new", gid: 5 }, five).unwrap();
        builder.finish().unwrap().0.into_inner()
    });
    host.change(2, |draft| draft.change_members("new", ["zz", "y"], ["a", "ccc"]));
    let needed = 6 * 8 + "new\0x\0bb\0dddd\0eeeee\0y\0zz\0".len();
    for len in 0..needed {
        assert_eq!(group(host.module, Key::Id(5), len), Err(Outcome::ShortBuffer), "{len}");
    }
    let members = ["bb", "dddd", "eeeee", "y", "zz"].map(str::to_owned).to_vec();
    assert_eq!(group(host.module, Key::Name(b"new"), needed), Ok((5, members)));
}

#[test]
fn an_enumeration_goes_on_in_the_state_it_began_with() {
    let host = Host::with(&table(META, 50));
    assert_eq!(host.module.start(Database::Passwd), Outcome::Success);
    host.change(2, |draft| {
        (0..20).for_each(|n| draft.drop_user(&format!("user{n}")));
        Ok(())
    });
    assert_eq!(host.uid_of("user7"), Err(Outcome::NotFound), "lookups have moved on");
    assert_eq!(listed(host.module), 52, "the enumeration has not");
    assert_eq!(host.module.start(Database::Passwd), Outcome::Success);
    assert_eq!(listed(host.module), 32);
    assert_eq!(host.module.end(Database::Passwd), Outcome::Success);
}

/// A process keeps the state it has, one that starts gets none; nobody gets the table alone.
#[test]
fn a_lost_overlay_is_unavailable_and_never_the_table_alone() {
    let host = Host::with(&table(META, 0));
    let overlay = host.folder.path().join("table.overlay.00000001");
    host.change(2, changed);
    assert_eq!(host.uid_of("bob"), Err(Outcome::NotFound));
    std::fs::remove_file(overlay).unwrap();
    // Another process on the same files.
    let late = Host::new();
    std::fs::hard_link(host.path(), late.path()).unwrap();
    for _ in 0..1000 {
        assert_eq!(host.uid_of("bob"), Err(Outcome::NotFound));
        assert_eq!(host.uid_of("carol"), Ok(60_003));
        assert_eq!(late.uid_of("alice"), Err(Outcome::Damaged));
        assert_eq!(late.uid_of("bob"), Err(Outcome::Damaged));
    }
    host.publish(&table(META, 1));
    eventually("the next table", || host.uid_of("user0").is_ok());
}

/// Two threads ask without a pause while overlays and tables are replaced. State N gives alice the uid N and
/// her group the gid N; every single answer is of one state, and states never go back.
#[test]
fn every_answer_under_constant_change_is_of_one_published_state() {
    const FIRST: u32 = 200_000;
    let state = |draft: &mut Draft<'_>, n: u32| {
        let (own, gone) = (format!("only{n}"), format!("only{}", n - 1));
        draft.drop_user(&gone);
        draft.put_user(&user(&own, n))?;
        draft.put_user(&user("alice", n + 1_000_000))?;
        draft.put_group(&GroupRecord { name: "eng", gid: n }, ["bob", &own])
    };
    let host = Host::with(&table(META, 100));
    host.change(1, |draft| state(draft, FIRST));
    let module = host.module;
    let stop = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                let (mut last, mut asked) = (0, 0u64);
                while !stop.load(Ordering::Relaxed) {
                    let (gid, members) = group(module, Key::Name(b"eng"), 512).unwrap();
                    assert_eq!(members, ["bob".to_owned(), format!("only{gid}")]);
                    let uid = uid_of(module, "alice").unwrap() - 1_000_000;
                    assert_eq!(gids_of(module, "bob").unwrap().len(), 1, "in eng, whatever its gid");
                    assert!(last <= gid && gid <= uid, "{last}, then {gid}, then {uid}");
                    assert_eq!(uid_of(module, "nobody"), Err(Outcome::NotFound));
                    assert_eq!(uid_of(module, "user7"), Ok(100_007));
                    last = uid;
                    asked += 1;
                }
                asked
            })
        })
        .collect();
    for n in FIRST + 1..FIRST + 300 {
        if n % 16 == 0 {
            let mut builder = dirless_table::TableBuilder::in_memory(META).unwrap();
            let own = format!("only{n}");
            builder
                .add_group(&GroupRecord { name: "eng", gid: n }, ["bob", &own])
                .unwrap();
            builder.add_user(&user("alice", n + 1_000_000)).unwrap();
            builder.add_user(&user(&own, n)).unwrap();
            builder.add_user(&user("user7", 100_007)).unwrap();
            host.publish(&builder.finish().unwrap().0.into_inner());
        } else {
            host.change(u64::from(n), |draft| state(draft, n));
        }
    }
    stop.store(true, Ordering::Relaxed);
    assert!(threads.into_iter().map(|thread| thread.join().unwrap()).sum::<u64>() > 0);
    eventually("old tables unmapped", || {
        uid_of(module, "alice").is_ok() && module.source().tables_held() == 1
    });
    let mapped = std::fs::read_to_string("/proc/self/maps").unwrap();
    let folder = host.folder.path().to_str().unwrap();
    assert_eq!(
        mapped.lines().filter(|line| line.contains(folder)).count(),
        2,
        "a table and an overlay"
    );
}
