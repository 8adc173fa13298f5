//! No lookup allocates, and no step of an enumeration does.
#![expect(
    unsafe_code,
    clippy::unwrap_used,
    reason = "tests call a C interface and count allocations"
)]

#[path = "common/host.rs"]
mod host;
#[path = "common/tables.rs"]
mod tables;

use host::Host;
use nss_dirless::abi::{Group, Outcome, Passwd, Shadow};
use nss_dirless::{Buffer, Database, GidList, Key};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};
use tables::{META, table, user};

struct Counting;

static CALLS: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        CALLS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The only test of this file: another thread would be counted too.
#[test]
fn nothing_allocates() {
    let host = Host::with(&table(META, 10));
    ask_a_thousand_times(&host);
    // The same answers for those asked about, most of them now from an overlay.
    host.change(2, |draft| {
        draft.put_user(&user("bob", 60_002))?;
        draft.put_user(&user("carol", 70_000))?;
        draft.drop_user("user3");
        draft.change_members("eng", ["carol"], ["bob"])
    });
    ask_a_thousand_times(&host);
}

fn ask_a_thousand_times(host: &Host) {
    let mut memory = vec![0u64; 4096];
    let mut list = vec![0u32; 64];
    let before = CALLS.load(Ordering::SeqCst);
    // SAFETY: zeroed structures are valid; buffer and list are ours and large enough not to be grown.
    unsafe {
        let mut passwd = std::mem::zeroed::<Passwd>();
        let mut group = std::mem::zeroed::<Group>();
        let mut shadow = std::mem::zeroed::<Shadow>();
        let mut buffer = || Buffer::new(memory.as_mut_ptr().cast(), 4096 * 8);
        for _ in 0..1000 {
            for key in [Key::Name(b"alice"), Key::Id(60_002), Key::Name(b"nobody"), Key::Id(1)] {
                let _ = host.module.passwd(1, key, &raw mut passwd, buffer());
                let _ = host.module.group(1, key, &raw mut group, buffer());
            }
            assert_eq!(
                host.module.group(1, Key::Id(2001), &raw mut group, buffer()),
                Outcome::Success
            );
            assert_eq!(
                host.module.shadow(1, b"bob", &raw mut shadow, buffer()),
                Outcome::Success
            );
            let (mut start, mut size, mut gids) = (1, 64, list.as_mut_ptr());
            let target = GidList {
                start: &raw mut start,
                size: &raw mut size,
                gids: &raw mut gids,
                limit: 0,
            };
            assert_eq!(host.module.initgroups(1, b"alice", 0, &target), Outcome::Success);
            assert_eq!(start, 3);
            assert_eq!(host.module.start(Database::Passwd), Outcome::Success);
            assert_eq!(host.module.next_passwd(&raw mut passwd, buffer()), Outcome::Success);
            assert_eq!(host.module.end(Database::Passwd), Outcome::Success);
        }
    }
    assert_eq!(CALLS.load(Ordering::SeqCst) - before, 0, "opening the table included");
}
