//! Host limits against a directory: whatever stands in the limits file and whatever a publisher
//! sealed, nothing that grants rights gets into the table.
//!
//! The input is a limits file, a NUL, and the JSON of a snapshot.

#![no_main]

use std::path::Path;

use dirless_agent::pipeline::{Body, HostLimits, Opener, run};
use dirless_program::Clock;
use dirless_seal::Identity;
use dirless_table::{Table, TableBuilder, TableMeta};
use libfuzzer_sys::fuzz_target;

#[path = "../host.rs"]
mod host;

fuzz_target!(|data: &[u8]| {
    let place = data.iter().position(|byte| *byte == 0);
    let (limits, json) = place.map_or((&b""[..], data), |at| (&data[..at], &data[at + 1..]));
    let limits = std::str::from_utf8(limits).ok();
    let limits = limits.and_then(|text| HostLimits::parse(text, Path::new("limits.toml")).ok());
    let limits = limits.unwrap_or_default();
    let mapped: Vec<String> = limits.map_groups.iter().map(ToString::to_string).collect();
    let identity = Identity::generate();
    let mut sealed = Vec::new();
    dirless_seal::seal(&identity.recipient(), &mut &*json, &mut sealed).expect("memory can be written");
    let inputs = host::inputs(Body::Bytes(sealed), Opener::Key(identity), limits);
    let outcome = run(&inputs, &Clock::system(), None);
    let Some(content) = outcome.content else { return };
    let meta = TableMeta {
        generation: 1,
        created: 0,
        enumerate: true,
    };
    let mut builder = TableBuilder::in_memory(meta).expect("memory can be written");
    content
        .write(&mut builder)
        .expect("what passed the limits fits the table");
    let (bytes, _) = builder.finish().expect("memory can be written");
    check(
        &Table::from_bytes(bytes.into_inner()).expect("what was written can be read"),
        &mapped,
    );
});

fn check(table: &Table, mapped: &[String]) {
    for user in table.users() {
        let user = user.expect("whole");
        assert!(user.uid != 0 && user.gid != 0 && user.uid != 1500 && user.gid != 1500 && user.gid != 27);
        for name in [&b"root"[..], b"local", b"sudo"] {
            assert_ne!(user.name(), name);
        }
        assert!(!user.strings.contains(&b':') && !user.strings.contains(&b'\n'));
        assert!(user.home().starts_with(b"/") && !user.home().ends_with(b"/.."));
    }
    for group in table.groups() {
        let group = group.expect("whole");
        assert_ne!(group.gid, 0);
        let name = String::from_utf8_lossy(group.name()).into_owned();
        assert_ne!(name, "root");
        let local = ["sudo", "local"].contains(&name.as_str()) || [27, 1500].contains(&group.gid);
        assert!(!local || mapped.contains(&name), "{name}");
    }
}
