//! The log beside a body, as a host keeps it and reads it. Whatever lies in its two files, what is believed of them is what
//! a simpler reading finds. Records that the publisher sealed either lead to what a host shows of a whole snapshot that
//! says the same, or are refused.
//!
//! The first byte chooses. Files: a byte with the length of `X.at`, that, and `X.log`. Records: a line for each change (`+` to
//! put, `-` to drop, `~` to splice; the kind; the key; then the record, or what is skipped, removed and put in); `=` begins
//! the next record of the log.

#![no_main]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use dirless_agent::pipeline::{Body, Opener, run};
use dirless_agent::trust::{KeptLog, SignedBody};
use dirless_model::snapshot::{Caps, Joined, Part, read_records, record_key};
use dirless_program::Clock;
use dirless_seal::trust::log::{Chain, Change, Changes, Hunk, LogKey, Place};
use dirless_seal::trust::{Manifest, Policy, Publisher, Right, Scope, Wrap, print};
use dirless_seal::{Content, Digest, Identity, Label, Note, RecordKind, SigningKey, seal_file};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;

#[path = "../folder.rs"]
mod folder;
#[path = "../host.rs"]
mod host;

use folder::Folder;

const BASE: &str = concat!(
    r#"{"sequence":7,"users":["#,
    r#"{"username":"a","uid":2001,"gid":2001,"gecos":"","home":"/home/a","shell":"/bin/sh"},"#,
    r#"{"username":"b","uid":2002,"gid":2002,"gecos":"","home":"/home/b","shell":"/bin/sh"}],"#,
    r#""groups":[{"name":"eng","gid":3001,"members":["a","b"]},{"name":"ops","gid":3002,"members":["b"]}],"#,
    r#""ssh_keys":{"a":"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJPdVyBVxvJBVDnNOqTvKlZ3iGKwPpkKqbGhGgzLnNuc a"}}"#,
);

fuzz_target!(|data: &[u8]| {
    match data.split_first() {
        Some((choice, rest)) if choice % 2 == 0 => files(*choice, rest),
        Some((_, rest)) => records(&String::from_utf8_lossy(rest)),
        None => {}
    }
});

/// Two files of anything. Further bits of `choice` make them good ones, up to their ends.
fn files(choice: u8, data: &[u8]) {
    let Some((length, rest)) = data.split_first() else {
        return;
    };
    let (at, log) = rest.split_at(usize::from(*length).min(rest.len()));
    let (mut at, mut log) = (at.to_vec(), log.to_vec());
    let manifest = Digest::of(b"a manifest");
    if choice & 2 != 0 {
        log = [manifest.as_bytes(), log.as_slice()].concat();
    }
    if choice & 4 != 0 {
        let (records, hash) = frames(&log, manifest, u64::MAX);
        let hash = hash.unwrap_or(manifest);
        at = format!("{manifest} {} {hash}\n", records.len()).into_bytes();
    }
    let folder = Folder::new();
    let body = folder.path().join("a.sealed");
    fs::write(folder.path().join("a.at"), &at).expect("memory can be written");
    fs::write(folder.path().join("a.log"), &log).expect("memory can be written");
    let found = KeptLog::beside(&body, manifest).expect("the files can be read");
    let (chain, records) = simply(&at, &log, manifest).unwrap_or((Chain::of(manifest), Vec::new()));
    assert_eq!(found.chain(), chain);
    assert_eq!(
        found.bytes(),
        records.iter().map(|record| record.len() as u64).sum::<u64>()
    );
    assert_eq!(found.records(0).expect("it can be read"), records);
    let last = records.len().saturating_sub(1);
    assert_eq!(
        found.records(last as u64).expect("it can be read"),
        records.get(last..).unwrap_or_default()
    );
}

/// A log of that manifest, if the files say so.
fn simply(at: &[u8], log: &[u8], manifest: Digest) -> Option<(Chain, Vec<Vec<u8>>)> {
    let text = std::str::from_utf8(at).ok()?;
    let mut words = text.split_whitespace();
    let (of, length, hash) = (words.next()?, words.next()?, words.next()?);
    if words.next().is_some() || of.parse() != Ok(manifest) {
        return None;
    }
    let chain = Chain {
        length: length.parse().ok()?,
        hash: hash.parse().ok()?,
    };
    let (records, last) = frames(log, manifest, chain.length);
    (records.len() as u64 == chain.length && last == Some(chain.hash)).then_some((chain, records))
}

/// At most that many records, and the hash behind the last of them.
fn frames(log: &[u8], manifest: Digest, most: u64) -> (Vec<Vec<u8>>, Option<Digest>) {
    let (mut records, mut last, mut at) = (Vec::new(), None, 32);
    if !log.starts_with(manifest.as_bytes()) {
        return (records, last);
    }
    while (records.len() as u64) < most && log.len() >= at + 4 {
        let length = log[at..at + 4]
            .iter()
            .fold(0, |length, byte| length << 8 | usize::from(*byte));
        let end = at + 4 + length;
        if log.len() < end + 32 {
            break;
        }
        records.push(log[at + 4..end].to_vec());
        last = Some(Digest::from_bytes(
            log[end..end + 32].try_into().expect("it has 32 bytes"),
        ));
        at = end + 32;
    }
    (records, last)
}

/// Records by kind and key.
type Records = BTreeMap<(RecordKind, Vec<u8>), Vec<u8>>;

fn records(text: &str) {
    let mut log: Vec<Changes> = text
        .split("\n=")
        .map(changes)
        .filter(|one| !one.changes.is_empty())
        .collect();
    let base = parts(BASE);
    let applied = applied(&base, &log);
    let mut content = Content::default();
    for (kind, bytes) in applied.iter().flatten() {
        content.add(kind.leaf(bytes));
    }
    let Some(last) = log.last_mut() else { return };
    last.content = content.root();
    let folder = Folder::new();
    let path = folder.path().join("local.sealed");
    put(&path, BASE.as_bytes(), Digest::of(b"that of the log counts"), &log);
    let followed = shown(&path);
    let Some(applied) = applied else {
        assert_eq!(followed, Err("log-record".to_owned()));
        return;
    };
    let mut joined = Joined::default();
    for (kind, bytes) in &applied {
        joined.add(Part::from(*kind), bytes);
    }
    put(&path, &joined.finish(), content.root(), &[]);
    assert_eq!(followed, shown(&path));
}

fn changes(text: &str) -> Changes {
    let mut all = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.splitn(3, ' ');
        let (what, key, rest) = (words.next(), words.next(), words.next().unwrap_or_default());
        let (Some(what), Some(key)) = (what, key) else { continue };
        let kind = match what.get(1..) {
            Some("u") => RecordKind::User,
            Some("g") => RecordKind::Group,
            Some("e") => RecordKind::Entry,
            _ => RecordKind::Other,
        };
        let change = match what.get(..1) {
            Some("+") => Change::Put(rest.as_bytes().to_vec()),
            Some("-") => Change::Drop,
            _ => {
                let mut words = rest.splitn(3, ' ');
                let mut number = || words.next().and_then(|word| word.parse().ok()).unwrap_or(1);
                let (skip, removed) = (number(), number());
                let bytes = words.next().unwrap_or_default().as_bytes().to_vec();
                if removed == 0 && bytes.is_empty() {
                    continue;
                }
                Change::Splice(vec![Hunk { skip, removed, bytes }])
            }
        };
        all.insert((kind, key.as_bytes().to_vec()), change);
    }
    Changes {
        content: Digest::of(b"before the last nobody looks"),
        changes: all,
    }
}

/// The records of a document in their order.
fn parts(document: &str) -> Vec<(RecordKind, Vec<u8>)> {
    let mut all = Vec::new();
    read_records(document.as_bytes(), Caps::default(), &mut (), &mut |part, bytes| {
        all.push((RecordKind::from(part), bytes.to_vec()));
    })
    .expect("a snapshot");
    all
}

/// Those records once the log was applied, the untouched ones first; none when it does not fit them.
fn applied(base: &[(RecordKind, Vec<u8>)], log: &[Changes]) -> Option<Vec<(RecordKind, Vec<u8>)>> {
    let key = |(kind, bytes): &(RecordKind, Vec<u8>)| {
        record_key(Part::from(*kind), bytes).map(|key| (*kind, key.into_owned()))
    };
    let is_touched = |one: &(RecordKind, Vec<u8>)| {
        key(one).is_some_and(|key| log.iter().any(|changes| changes.changes.contains_key(&key)))
    };
    let (touched, mut all): (Vec<_>, Vec<_>) = base.iter().cloned().partition(is_touched);
    let mut records: Records = touched
        .into_iter()
        .filter_map(|one| Some((key(&one)?, one.1)))
        .collect();
    for one in log {
        one.apply(&mut records).ok()?;
    }
    for ((kind, own), bytes) in records {
        if key(&(kind, bytes.clone())) != Some((kind, own)) {
            return None;
        }
        all.push((kind, bytes));
    }
    Some(all)
}

/// A tenant of one publisher, its key, and the key of its epoch.
static TENANT: LazyLock<(Policy, SigningKey, Wrap)> = LazyLock::new(|| {
    let key = SigningKey::generate(label("syncer-1")).expect("the system has random bytes");
    let tenant = Digest::of(b"tenant");
    let scope = Scope {
        sources: [label("local")].into(),
        ids: vec!["1-2147483647".parse().expect("a range")],
        names: vec!["*".parse().expect("a pattern")],
        may: Right::ALL.into(),
    };
    let policy = Policy {
        tenant,
        version: 1,
        previous: None,
        issued: Timestamp::UNIX_EPOCH,
        expires: Timestamp::MAX,
        format: 1,
        lease: 86_400,
        threshold: 1,
        roots: [key.verifying().clone()].into(),
        publishers: vec![Publisher {
            key: key.verifying().clone(),
            scope,
        }],
        enrollers: Vec::new(),
        recovery: Vec::new(),
        compartments: Vec::new(),
    };
    let wrap = Wrap {
        tenant,
        compartment: label("all"),
        epoch: 1,
        identity: Identity::generate(),
    };
    (policy, key, wrap)
});

fn label(text: &str) -> Label {
    text.parse().expect("a label")
}

/// Puts a body with its manifest and its log where a host has them.
fn put(path: &Path, plaintext: &[u8], content: Digest, log: &[Changes]) {
    let (_, key, wrap) = &*TENANT;
    let recipient = wrap.identity.recipient();
    let mut sealed = Vec::new();
    seal_file(&[&recipient], &mut sealed, |out| out.write_all(plaintext)).expect("memory can be written");
    let manifest = Manifest {
        tenant: wrap.tenant,
        publisher: label("syncer-1"),
        source: label("local"),
        compartment: wrap.compartment.clone(),
        version: 1,
        previous: None,
        issued: Timestamp::UNIX_EPOCH,
        epoch: wrap.epoch,
        recipient,
        ciphertext: Digest::of(&sealed),
        ciphertext_size: sealed.len() as u64,
        plaintext_size: plaintext.len() as u64,
        content,
    };
    let note = Note::sign(print(&manifest).expect("a manifest"), &[key]).expect("a text");
    let mut file = Vec::new();
    SignedBody::begin(&mut file, &note).expect("memory can be written");
    file.extend_from_slice(&sealed);
    fs::write(path, file).expect("memory can be written");
    let (records, at) = (path.with_extension("log"), path.with_extension("at"));
    if log.is_empty() {
        let _ = (fs::remove_file(records), fs::remove_file(at));
        return;
    }
    let key = LogKey::new(&wrap.identity, &Place::of(&manifest, note.digest()));
    let (mut frames, mut chain) = (note.digest().as_bytes().to_vec(), Chain::of(note.digest()));
    for (number, changes) in (0..).zip(log) {
        let sealed = key.seal(number, changes).expect("a small record");
        chain = chain.then(&sealed);
        frames.extend_from_slice(&u32::try_from(sealed.len()).expect("a small record").to_be_bytes());
        frames.extend_from_slice(&sealed);
        frames.extend_from_slice(chain.hash.as_bytes());
    }
    fs::write(records, frames).expect("memory can be written");
    let text = format!("{} {} {}\n", note.digest(), chain.length, chain.hash);
    fs::write(at, text).expect("memory can be written");
}

/// The table that a host makes of it, or the code of its refusal.
fn shown(path: &Path) -> Result<Vec<u8>, String> {
    let (policy, _, wrap) = &*TENANT;
    let opener = Opener::Signed {
        policy: Box::new(policy.clone()),
        keys: vec![Wrap {
            tenant: wrap.tenant,
            compartment: wrap.compartment.clone(),
            epoch: wrap.epoch,
            identity: Identity::parse(&wrap.identity.expose()).expect("it was just printed"),
        }],
    };
    let inputs = host::inputs(Body::File(path.to_owned()), opener, Default::default());
    let outcome = run(&inputs, &Clock::manual(Timestamp::UNIX_EPOCH), None);
    let Some(content) = outcome.content else {
        let problem = outcome.report.sources.into_iter().find_map(|source| source.problem);
        let problem = problem
            .or(outcome.report.problem)
            .expect("nothing is refused without a word");
        return Err(problem.code);
    };
    Ok(host::table(&content))
}
