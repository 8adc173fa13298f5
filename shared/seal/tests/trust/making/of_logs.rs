//! Logs: what is in a record, records as they are sealed, and many of them in a tile. Sealed here by the words of the
//! specification, with nothing of the code that opens them.

use dirless_seal::RecordKind;
use dirless_seal::trust::Entry;
use dirless_seal::trust::log::{Chain, Change, Changes, Hunk};
use ring::{aead, hkdf};

use super::of_publishers::manifest;
use super::{Digest, Maker, digest_of, identity, label, publisher, signed};

pub(super) fn make(maker: &mut Maker) {
    changes(maker);
    records(maker);
    tiles(maker);
}

fn of(content: &[u8], changes: Vec<(RecordKind, &str, Change)>) -> Changes {
    Changes {
        content: Digest::of(content),
        changes: changes
            .into_iter()
            .map(|(kind, key, change)| ((kind, key.as_bytes().to_vec()), change))
            .collect(),
    }
}

fn hunk(skip: u32, removed: u32, bytes: &str) -> Hunk {
    Hunk {
        skip,
        removed,
        bytes: bytes.as_bytes().to_vec(),
    }
}

fn three() -> Vec<Changes> {
    let user = br#"{"username":"carol","uid":2003,"gid":2003,"gecos":"Carol","home":"/home/carol","shell":"/bin/sh"}"#;
    vec![
        of(b"first", vec![(RecordKind::User, "carol", Change::Put(user.to_vec()))]),
        of(
            b"second",
            vec![
                (RecordKind::User, "alice", Change::Drop),
                (
                    RecordKind::Group,
                    "eng",
                    Change::Splice(vec![hunk(34, 7, "\"bob\""), hunk(300, 0, ",\"carol\"")]),
                ),
                (RecordKind::Entry, "cn=web,dc=dirless", Change::Put(b"{}".to_vec())),
                (
                    RecordKind::Other,
                    "\"sequence\"",
                    Change::Splice(vec![hunk(11, 1, "8")]),
                ),
            ],
        ),
        of(b"third", vec![]),
    ]
}

fn associated() -> String {
    let manifest = manifest();
    let digest = digest_of(&signed(&manifest, &[&publisher()]));
    format!(
        "dirless/log/v1\n{}\nsyncer-1\nlocal\nall\n2\n3\n{digest}\n",
        manifest.tenant
    )
}

/// Seals `plaintext` as record `number` of the log at `associated`.
fn sealed(associated: &str, number: usize, plaintext: &[u8]) -> Vec<u8> {
    let secret = identity(3).expose();
    let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, b"dirless/log-key/v1").extract(secret.as_bytes());
    let info = [associated.as_bytes()];
    let key = extracted.expand(&info, &aead::CHACHA20_POLY1305).unwrap();
    let key = aead::LessSafeKey::new(key.into());
    let nonce = [u8::try_from(number).unwrap(); 12];
    let mut bytes = plaintext.to_vec();
    key.seal_in_place_append_tag(
        aead::Nonce::assume_unique_for_key(nonce),
        aead::Aad::from(format!("{associated}{number}\n")),
        &mut bytes,
    )
    .unwrap();
    [&nonce, bytes.as_slice()].concat()
}

fn log() -> Vec<Vec<u8>> {
    let plain = three().into_iter().enumerate();
    plain
        .map(|(number, changes)| sealed(&associated(), number, &changes.encode().unwrap()))
        .collect()
}

/// What a head says of the three.
pub(super) fn entry() -> Entry {
    let digest = digest_of(&signed(&manifest(), &[&publisher()]));
    let mut hash = digest;
    for record in log() {
        hash = Digest::of(&[hash.as_bytes(), record.as_slice()].concat());
    }
    Entry {
        source: label("local"),
        compartment: label("all"),
        version: 3,
        chain: Chain { length: 3, hash },
    }
}

fn changes(maker: &mut Maker) {
    const KIND: &str = "changes";
    let all = three();
    let good = all[1].encode().unwrap();
    maker.add(KIND, "good", "ok", good.clone());
    maker.add(KIND, "of-one-user", "ok", all[0].encode().unwrap());
    let nothing = all[2].encode().unwrap();
    maker.add(KIND, "none", "ok", nothing.clone());
    let long = vec![b'x'; 1000];
    let long = of(b"long", vec![(RecordKind::Other, "\"x\"", Change::Put(long))]);
    maker.add(KIND, "long", "ok", long.encode().unwrap());

    maker.add(KIND, "empty", "malformed/short", "");
    maker.add(KIND, "without-an-end", "malformed/short", &good[..60]);
    maker.add(KIND, "without-padding", "malformed/spelling-33", &nothing[..33]);
    maker.add(
        KIND,
        "padding-too-long",
        "malformed/spelling-33",
        [&nothing[..], &[0; 32]].concat(),
    );
    let mut dirty = nothing.clone();
    dirty[159] = 1;
    maker.add(KIND, "padding-with-something", "malformed/spelling-33", dirty);
    let mut add = |name: &str, result, operations: &[u8]| {
        let mut bytes = nothing[..32].to_vec();
        bytes.extend(operations);
        bytes.resize(160, 0);
        maker.add(KIND, name, result, bytes);
    };
    add("drop", "ok", b"\x09\x01a");
    add("drop-of-no-name", "ok", b"\x0c\x00");
    add("tag-13", "malformed/meaningless-32", b"\x0d\x01a");
    add("tag-255", "malformed/meaningless-32", b"\xff\x01a");
    add("twice", "malformed/spelling-35", b"\x09\x01a\x09\x01a");
    add("unsorted-keys", "malformed/spelling-35", b"\x09\x01b\x09\x01a");
    add("unsorted-kinds", "malformed/spelling-35", b"\x0a\x01a\x09\x01b");
    add("put-and-drop", "malformed/spelling-36", b"\x01\x01a\x00\x09\x01a");
    add("key-beyond-the-end", "malformed/short", b"\x09\x7f");
    add("key-of-4-gib", "malformed/short", b"\x09\xff\xff\xff\xff\x0f");
    add(
        "number-of-33-bits",
        "malformed/meaningless-33",
        b"\x09\xff\xff\xff\xff\x1f",
    );
    add(
        "number-of-six-bytes",
        "malformed/meaningless-33",
        b"\x09\xff\xff\xff\xff\xff\x01",
    );
    add("number-with-zero", "malformed/spelling-33", b"\x09\x81\x00a");
    add("put-beyond-the-end", "malformed/short", b"\x01\x01a\xff\x7f");
    add("splice", "ok", b"\x05\x01a\x01\x00\x00\x01x");
    add("splice-of-no-hunk", "malformed/meaningless-35", b"\x05\x01a\x00");
    add(
        "hunk-of-nothing",
        "malformed/meaningless-35",
        b"\x05\x01a\x01\x05\x00\x00",
    );
    add(
        "hunks-that-touch",
        "malformed/meaningless-35",
        b"\x05\x01a\x02\x00\x01\x00\x00\x01\x00",
    );
    add(
        "hunks-beyond-the-end",
        "malformed/short",
        b"\x05\x01a\x7f\x01\x01\x01x\x01\x01\x7f",
    );
}

fn records(maker: &mut Maker) {
    const KIND: &str = "record";
    let log = log();
    let plain = three()[1].encode().unwrap();
    let good = log[1].clone();
    maker.add(KIND, "good", "ok", good.clone());
    maker.add(KIND, "of-another-number", "sealed", log[0].clone());
    for (name, from, to) in [
        ("of-another-context", "log/v1", "log/v2"),
        ("of-another-publisher", "syncer-1", "syncer-2"),
        ("of-another-source", "\nlocal\n", "\naws-identity-center\n"),
        ("of-another-compartment", "\nall\n", "\nweb\n"),
        ("of-another-epoch", "\n2\n", "\n1\n"),
        ("of-another-base", "\n3\n", "\n4\n"),
    ] {
        let elsewhere = associated().replacen(from, to, 1);
        assert_ne!(elsewhere, associated(), "{name}");
        maker.add(KIND, name, "sealed", sealed(&elsewhere, 1, &plain));
    }
    let mut changed = good.clone();
    changed[40] ^= 1;
    maker.add(KIND, "changed", "sealed", changed);
    let mut changed = good.clone();
    changed[0] ^= 1;
    maker.add(KIND, "another-nonce", "sealed", changed);
    maker.add(KIND, "cut", "sealed", &good[..good.len() - 1]);
    maker.add(KIND, "longer", "sealed", [&good[..], &[0]].concat());
    maker.add(KIND, "empty", "sealed", "");
    maker.add(KIND, "nonce-alone", "sealed", &good[..12]);
    maker.add(
        KIND,
        "of-no-changes",
        "malformed/short",
        sealed(&associated(), 1, b"{}"),
    );
}

fn tiles(maker: &mut Maker) {
    const KIND: &str = "tile";
    let tile = |records: &[&[u8]]| {
        let framed = |record: &&[u8]| [&u32::try_from(record.len()).unwrap().to_be_bytes(), *record].concat();
        records.iter().map(framed).collect::<Vec<_>>().concat()
    };
    let log = log();
    let [one, two, three] = [&log[0][..], &log[1], &log[2]];
    let good = tile(&[one, two, three]);
    maker.add(KIND, "good", "ok", good.clone());
    maker.add(KIND, "reordered", "mixed", tile(&[two, one, three]));
    maker.add(KIND, "one-missing", "mixed", tile(&[one, two]));
    maker.add(KIND, "one-too-many", "mixed", tile(&[one, two, three, three]));
    maker.add(KIND, "empty", "mixed", "");
    let mut changed = good.clone();
    changed[100] ^= 1;
    maker.add(KIND, "changed", "mixed", changed);
    maker.add(KIND, "cut", "no-tile", &good[..good.len() - 1]);
    maker.add(KIND, "cut-in-a-length", "no-tile", &good[..2]);
    maker.add(KIND, "longer", "no-tile", [&good[..], &[0]].concat());
    maker.add(KIND, "record-of-4-gib", "no-tile", [255; 8]);
}
