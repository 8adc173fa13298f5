//! What an LDAP server sends to the syncer that reads it: any bytes are a message or refused, values
//! of controls are read or not, and an entry that is read is kept so that it reads the same.
//! The sources are taken in by path: the syncer as a whole would bring the AWS SDK into an
//! instrumented build.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[expect(dead_code, reason = "the rest of the file serves the syncer")]
#[path = "../../syncer/src/sources/ldap/controls.rs"]
mod controls;
#[expect(dead_code, reason = "the rest of the file serves the syncer")]
#[path = "../../syncer/src/sources/ldap/record.rs"]
mod record;
#[expect(dead_code, reason = "the rest of the file serves the syncer")]
#[path = "../../syncer/src/sources/error.rs"]
mod sources;
#[expect(dead_code, reason = "the rest of the file serves the syncer")]
#[path = "../../syncer/src/sources/ldap/wire.rs"]
mod wire;

use record::{Record, guid, guid_bytes};
use wire::{Operation, lengths, reply};

fuzz_target!(|data: &[u8]| {
    if let Ok(Some((header, content))) = lengths(data) {
        // A reader waits for that many bytes: no more than what four bytes of length can say.
        assert!(header <= 6 && u32::try_from(content).is_ok());
    }
    if let Some(text) = guid(data) {
        assert_eq!(guid_bytes(&text).as_ref().map(<[u8; 16]>::as_slice), Some(data));
    }
    let Ok(message) = reply(data) else { return };
    let controls = &message.controls;
    let _ = (controls::next_page(controls), controls::dirsync_state(controls));
    let _ = (controls::sync_state(controls), controls::sync_done(controls));
    match message.operation {
        Operation::Entry(name, attributes) => {
            let Ok(mut record) = Record::read(name, attributes) else {
                return;
            };
            assert_eq!(Record::read(name, &record.encoded()).ok().as_ref(), Some(&record));
            let names: Vec<String> = record.names().map(str::to_owned).collect();
            for name in &names {
                let _ = record.take_range(name.split(';').next().unwrap_or_default());
            }
        }
        Operation::Intermediate(_, value) => {
            let _ = controls::sync_info(value);
        }
        Operation::SearchDone(ending) | Operation::Bound(ending) | Operation::Extended(ending) => {
            for text in ending.referrals.iter().chain([&ending.matched, &ending.message]) {
                assert!(!text.contains(char::is_control), "shown to people: {text:?}");
            }
        }
        Operation::Reference => {}
    }
});
