//! One exact spelling: no other bytes mean the same.

use std::path::Path;

use dirless_seal::trust::{
    Head, JoinCode, JoinRequest, Manifest, NodeList, Object, Policy, Receipt, ReceiptAlarm, Seen, Succession, Wrap,
    parse, print,
};
use dirless_seal::{Digest, Note};
use proptest::prelude::*;

use crate::support::{Tenant, at, label};

fn texts() -> Vec<String> {
    let tenant = Tenant::new();
    let manifest = tenant.manifest(3, Some(tenant.id));
    let note = Note::sign(print(&manifest).unwrap(), &[]).unwrap();
    let receipt = Receipt {
        tenant: tenant.id,
        node: label("n0123456789abcdef"),
        issued: at(0),
        policy: Seen {
            version: 1,
            digest: tenant.id,
        },
        heads: vec![(
            label("syncer-1"),
            Seen {
                version: 9,
                digest: Digest::of(b"head"),
            },
        )],
        generation: 12,
        users: 3,
        groups: 2,
        dropped: 0,
        alarms: vec![ReceiptAlarm::new("no-head", "head/syncer-1").unwrap()],
    };
    vec![
        print(&tenant.policy()).unwrap(),
        print(&tenant.head(2, 0, &[&note])).unwrap(),
        print(&manifest).unwrap(),
        print(&receipt).unwrap(),
    ]
}

/// Whether any object reads this text.
fn is_read(text: &str) -> bool {
    let Ok(note) = Note::sign(text.to_owned(), &[]) else {
        return false;
    };
    parse::<Policy>(&note).is_ok()
        || parse::<Head>(&note).is_ok()
        || parse::<Manifest>(&note).is_ok()
        || parse::<Receipt>(&note).is_ok()
}

#[test]
fn other_spellings_are_refused() {
    for text in texts() {
        assert!(is_read(&text), "{text}");
        for (from, to) in [
            ("version ", "version 0"),
            ("version ", "version +"),
            ("version ", "version  "),
            ("08:00:00Z", "08:00:00.0Z"),
            ("T08:00:00Z", "t08:00:00z"),
            ("T08:00:00Z", " 08:00:00Z"),
            ("08:00:00Z", "09:00:00+01:00"),
            ("tenant ", "tenant\u{a0}"),
            ("tenant ", "Tenant "),
        ] {
            let other = text.replacen(from, to, 1);
            assert!(other == text || !is_read(&other), "{other}");
        }
        assert!(!is_read(&format!("{text}\n")), "a blank line more");
        assert!(!is_read(&format!("{text}more yes\n")), "a field more");
        let mut lines: Vec<_> = text.lines().collect();
        lines.swap(1, 2);
        assert!(!is_read(&(lines.join("\n") + "\n")), "another order");
    }
}

#[test]
fn errors_name_line_and_field() {
    let tenant = Tenant::new();
    let text = print(&tenant.policy()).unwrap();
    let error = |text: String| {
        parse::<Policy>(&Note::sign(text, &[]).unwrap())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        error(text.replace("version 1", "version x")),
        "line 3 should be `version …`: invalid digit found in string"
    );
    assert_eq!(error(text.replace("format 1\n", "")), "line 7 should be `format …`");
    assert!(error(text.replace("ids=", "id=")).contains("`publisher …`: ids=… is expected"));
    assert!(error(text.replace("10000-19999", "0-19999")).contains("no range of ids"));
    assert!(error(text.replace("/policy/", "/polity/")).contains("dirless/policy/v1"));
}

proptest! {
    /// Any change of a single byte is either refused or another object: nothing is overlooked.
    #[test]
    fn no_byte_is_without_meaning(which in 0usize..4, place in 0usize..10_000, byte in 0x20u8..0x7f) {
        let text = texts().swap_remove(which);
        let place = place % text.len();
        let mut changed = text.clone().into_bytes();
        changed[place] = byte;
        let changed = String::from_utf8(changed).unwrap();
        if changed != text && is_read(&changed) {
            let (note, other) = (Note::sign(text, &[]).unwrap(), Note::sign(changed, &[]).unwrap());
            prop_assert_ne!(note.digest(), other.digest());
            let same = parse::<Policy>(&note).ok() == parse::<Policy>(&other).ok()
                && parse::<Head>(&note).ok() == parse::<Head>(&other).ok()
                && parse::<Manifest>(&note).ok() == parse::<Manifest>(&other).ok()
                && parse::<Receipt>(&note).ok() == parse::<Receipt>(&other).ok();
            prop_assert!(!same);
        }
    }
}

#[test]
fn the_specification_names_every_context_and_its_size() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/protocol.md");
    let page = std::fs::read_to_string(page).unwrap();
    fn row<T: Object>() -> (&'static str, usize) {
        (T::CONTEXT, T::MOST)
    }
    for (context, most) in [
        row::<Policy>(),
        row::<Succession>(),
        row::<Manifest>(),
        row::<Head>(),
        row::<NodeList>(),
        row::<Receipt>(),
        row::<JoinRequest>(),
        row::<JoinCode>(),
        row::<Wrap>(),
    ] {
        let named = format!("| `{context}` |");
        let line = page.lines().find(|line| line.contains(&named));
        let line = line.unwrap_or_else(|| panic!("docs/protocol.md does not name {context}"));
        let size = match most >> 20 {
            0 => format!("| {} KiB", most >> 10),
            mebibytes => format!("| {mebibytes} MiB"),
        };
        assert!(line.contains(&size), "{line}: {size}");
    }
}
