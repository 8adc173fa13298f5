//! What strangers send to the REST interface: bodies, cursors, conditions, permissions. The first byte
//! chooses.

#![no_main]

use std::sync::LazyLock;

use dirless_directory::Schema;
use dirless_syncer::permissions::Permission;
use dirless_syncer::serve::requests::Requests;
use libfuzzer_sys::fuzz_target;

static REQUESTS: LazyLock<Requests> = LazyLock::new(|| Requests::new(Schema::standard()));

fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else {
        return;
    };
    let requests = &*REQUESTS;
    let text = std::str::from_utf8(rest);
    match choice % 6 {
        0 => {
            let _ = requests.is_revocation(rest);
            if let Some(filter) = requests.search(rest) {
                assert!(requests.is_permitted(&filter), "asks for a secret: {filter}");
            }
        }
        // A name, a line end, a body.
        1 => {
            let Some((name, body)) = text.ok().and_then(|text| text.split_once('\n')) else {
                return;
            };
            let Some(entry) = requests.entry(name, body.as_bytes()) else {
                return;
            };
            let shown = requests.shown(&entry);
            let hidden = String::from_utf8_lossy(&shown).contains("hidden");
            let back = requests.entry(name, &shown);
            assert!(
                hidden || back.as_ref() == Some(&entry),
                "{entry:?} came back as {back:?}"
            );
        }
        2 => {
            if let Ok(text) = text
                && let Some(key) = requests.cursor(text)
            {
                assert_eq!(requests.next(&key), text);
            }
        }
        3 => {
            let _ = requests.is_condition(rest);
        }
        4 => {
            let _ = requests.is_rename(rest);
        }
        _ => {
            if let Ok(text) = text
                && let Ok(permission) = Permission::parse(text)
            {
                let again = Permission::parse(&permission.to_string());
                assert_eq!(again.as_ref(), Ok(&permission));
                assert!(permission.covers(&permission));
            }
        }
    }
});
