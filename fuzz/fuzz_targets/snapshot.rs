//! The snapshot reader: whatever a publisher sealed, it ends with records or an error, and a record
//! that is let through keeps what its type promises.

#![no_main]

use dirless_model::NameRule;
use dirless_model::snapshot::{Caps, RawEntry, RawGroup, RawUser, Sink, read};
use libfuzzer_sys::fuzz_target;

struct Checked;

impl Sink for Checked {
    fn user(&mut self, user: RawUser<'_>) {
        let _ = user.label();
        if let Ok(user) = user.check(&NameRule::default()) {
            let shown = format!("{user:?}");
            assert!(!shown.contains('\n'), "a field with a line end became a user: {shown}");
        }
    }

    fn group(&mut self, group: RawGroup<'_>) {
        let _ = group.label();
        let _ = group.check(&NameRule::default()).is_ok();
    }

    fn keys(&mut self, _username: &str, _lines: &str) {}

    fn entry(&mut self, entry: RawEntry) {
        let _ = entry.label();
        let _ = entry.check().is_ok();
    }
}

fuzz_target!(|data: &[u8]| {
    let caps = Caps {
        users: 1000,
        groups: 1000,
        entries: 1000,
    };
    let _ = read(data, caps, &mut Checked);
});
