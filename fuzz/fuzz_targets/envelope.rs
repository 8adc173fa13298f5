//! Sealed files of strangers: the envelope of base64, age and gzip, bare age files, wraps, join requests, files under a
//! passphrase. Whoever knows a recipient can seal to it, so most is sealed here and opened again: behind the encryption is
//! anything. No file may cost more than its limits, and what is opened is what was sealed. The first byte chooses.

#![no_main]

use std::io::Read;
use std::sync::LazyLock;

use dirless_seal::trust::{JoinRequest, Wrap, print};
use dirless_seal::{
    Identity, Limits, Note, Opened, UnlockError, WorkFactor, lock, open, open_file, seal, seal_file, unlock,
};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits {
    header: 8 * 1024,
    stanzas: 16,
    plaintext: 1 << 20,
};
/// What is locked, and under which passphrase.
const SECRET: &str = "PRIVATE+KEY+a";
const PASSPHRASE: &str = "correct horse";
/// First bytes of what is unpacked before it is read.
const GZIP: &[u8] = &[0x1f, 0x8b];

static IDENTITY: LazyLock<Identity> = LazyLock::new(Identity::generate);
static LOCKED: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let work = WorkFactor::new(10).expect("the least");
    lock(SECRET, PASSPHRASE, work).expect("the system has random bytes")
});

fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else {
        return;
    };
    match choice % 8 {
        0 => drop(open(&IDENTITY, rest, LIMITS).map(whole)),
        1 => {
            drop(open_file(&IDENTITY, rest, LIMITS).map(whole));
            assert!(Wrap::open(rest, &IDENTITY).is_err(), "sealed to us by nobody");
        }
        2 => sealed(rest),
        3 => {
            let Ok(wrap) = Wrap::open(&file(rest), &IDENTITY) else {
                return;
            };
            if !rest.starts_with(GZIP) {
                assert_eq!(print(&wrap).expect("it was just read").as_bytes(), rest);
            }
        }
        4 => {
            // As an enroller does.
            let bytes = whole(open_file(&IDENTITY, file(rest).as_slice(), LIMITS).expect("sealed to us"));
            let note = bytes.ok().and_then(|bytes| Note::parse(&bytes, 64 * 1024).ok());
            if let Some((note, request)) = note.and_then(|note| Some((JoinRequest::read(&note).ok()?, note))) {
                assert_eq!(print(&note).as_deref(), Ok(request.text()));
            }
        }
        5 => {
            if is_little_work(rest) {
                assert!(unlock(rest, PASSPHRASE).is_err(), "locked by nobody");
            }
        }
        6 => locked(rest),
        _ => bare(rest),
    }
});

/// All of it, which is no more than the limit.
fn whole(mut opened: Opened<'_>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    opened.by_ref().take(LIMITS.plaintext + 1).read_to_end(&mut bytes)?;
    assert!(bytes.len() as u64 <= LIMITS.plaintext);
    Ok(bytes)
}

/// A file that is sealed to us.
fn file(plaintext: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::new();
    seal_file(&[&IDENTITY.recipient()], &mut sealed, |out| out.write_all(plaintext)).expect("memory can be written");
    sealed
}

/// What was sealed comes out.
fn sealed(plaintext: &[u8]) {
    let mut envelope = Vec::new();
    seal(&IDENTITY.recipient(), &mut &*plaintext, &mut envelope).expect("memory can be written");
    let opened = whole(open(&IDENTITY, envelope.as_slice(), LIMITS).expect("sealed to us"));
    assert_eq!(opened.expect("it is whole"), plaintext);
}

/// The same without base64, where what is gzip data is unpacked. Nothing comes of what was cut or changed.
fn bare(plaintext: &[u8]) {
    let mut file = file(plaintext);
    let opened = open_file(&IDENTITY, file.as_slice(), LIMITS).map(whole);
    if !plaintext.starts_with(GZIP) {
        assert_eq!(opened.expect("sealed to us").expect("it is whole"), plaintext);
    }
    let place = plaintext.len() % file.len();
    let cut = open_file(&IDENTITY, &file[..place], LIMITS).map(whole);
    assert!(!matches!(cut, Ok(Ok(_))), "cut at {place}");
    file[place] ^= 1;
    let changed = open_file(&IDENTITY, file.as_slice(), LIMITS).map(whole);
    assert!(!matches!(changed, Ok(Ok(_))), "changed at {place}");
}

/// A file that was locked, with pairs of place and byte changed in it: the secret, or nothing.
fn locked(changes: &[u8]) {
    let mut file = LOCKED.clone();
    for change in changes.chunks_exact(3) {
        let [high, low, byte] = change else { continue };
        let place = usize::from(u16::from_be_bytes([*high, *low])) % file.len();
        file[place] = *byte;
    }
    if !is_little_work(&file) {
        return;
    }
    match unlock(&file, PASSPHRASE) {
        Ok(secret) => assert!(secret.as_str() == SECRET && file == *LOCKED),
        Err(error) => {
            assert_ne!(file, *LOCKED, "{error}");
            assert!(
                matches!(error, UnlockError::TooMuchWork) <= asks_too_much(&file),
                "{error}"
            );
        }
    }
}

/// What each stanza for a passphrase asks for.
fn work(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = file.split(|byte| *byte == b'\n');
    let stanzas = lines.filter(|line| line.starts_with(b"-> scrypt"));
    stanzas.map(|line| line.rsplit(|byte| *byte == b' ').next().unwrap_or_default())
}

/// Does trying one passphrase take milliseconds, or is it too much to be begun?
fn is_little_work(file: &[u8]) -> bool {
    asks_too_much(file) || work(file).all(|work| work == b"10")
}

fn asks_too_much(file: &[u8]) -> bool {
    let mut all = work(file).peekable();
    let number = |work: &[u8]| std::str::from_utf8(work).ok()?.parse::<u8>().ok();
    all.peek().is_some() && all.all(|work| number(work).is_some_and(|number| number > 22))
}
