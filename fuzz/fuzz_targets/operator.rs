//! What an operator's commands read of others: answers of a syncer's REST interface, drafts of a policy, the lines of a syncer
//! that is to be admitted. Nothing that is said moves a terminal; a draft is kept as it was read; lines add publishers and
//! enrollers and change nothing else. The first byte chooses.

#![no_main]

use std::sync::LazyLock;

use dirless_operator::foreign::{admitted, answers, draft};
use dirless_seal::trust::{Policy, print};
use dirless_seal::{Digest, Identity, SigningKey};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;

static POLICY: LazyLock<Policy> = LazyLock::new(|| {
    let key = SigningKey::generate("root-1".parse().expect("a name")).expect("the system has random bytes");
    Policy {
        tenant: Digest::of(b"tenant"),
        version: 1,
        previous: None,
        issued: Timestamp::UNIX_EPOCH,
        expires: Timestamp::from_second(4_000_000_000).expect("a time"),
        format: 1,
        lease: 86_400,
        threshold: 1,
        roots: [key.verifying().clone()].into(),
        publishers: Vec::new(),
        enrollers: Vec::new(),
        recovery: vec![Identity::generate().recipient()],
        compartments: Vec::new(),
    }
});

fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else {
        return;
    };
    match choice % 4 {
        0 => said(200, rest),
        1 => said(422, rest),
        2 => {
            let Some((policy, text)) = draft(rest) else { return };
            assert_eq!(text.as_bytes(), rest);
            let again = draft(print(&policy).expect("it was just read").as_bytes());
            assert_eq!(again.map(|(policy, _)| policy), Some(policy));
        }
        _ => {
            let lines = String::from_utf8_lossy(rest);
            let Some(after) = admitted(&POLICY, &lines) else { return };
            assert!(!after.publishers.is_empty());
            let count = |kind: &str| lines.lines().filter(|line| line.trim().starts_with(kind)).count();
            assert_eq!(
                (after.publishers.len(), after.enrollers.len()),
                (count("publisher "), count("enroller "))
            );
            let bare = Policy {
                publishers: Vec::new(),
                enrollers: Vec::new(),
                ..after
            };
            assert_eq!(bare, *POLICY);
        }
    }
});

fn said(status: u16, answer: &[u8]) {
    let all = answers(status, answer);
    assert_eq!(all.len(), 4);
    for text in all.into_iter().map(|said| said.unwrap_or_else(|error| error)) {
        assert!(
            !text.contains(|character: char| character.is_control() && character != '\n'),
            "{text:?}"
        );
    }
}
