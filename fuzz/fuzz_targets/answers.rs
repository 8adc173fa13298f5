//! What a backend answers: to heartbeats of both protocols, to those who join, publish or look on, and what it says when it
//! refuses. What is read prints to what reads the same, texts for people are harmless, and access rules mean the same
//! to whoever fetches them as to whoever applies them. A certificate authority that it proposes is one key, whole, or none.
//! Beside it, what a metadata service says of the machine that it serves.

#![no_main]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dirless_model::access::AccessRules;
use dirless_wire::trust::{CredentialList, HeartbeatReply, JoinList, ReceiptList, StoredList};
use dirless_wire::{
    AuthzConfig, AwsAccountId, CaPublicKeyReply, Duplicates, ETag, ErrorReply, Health, PublicKeyReply, TenantState,
};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;

#[expect(dead_code, reason = "the rest of the file serves the client")]
#[path = "../../shared/client/src/refusal.rs"]
mod refusal;
#[path = "../../agent/src/host/ssh_key.rs"]
mod ssh_key;

use refusal::{MAX_RETRY_AFTER, MAX_SHOWN, Refusal, retry_after};
use ssh_key::SshPublicKey;

/// Types of keys that can be an authority, and one that cannot.
const KINDS: [&str; 8] = [
    "ssh-ed25519",
    "sk-ssh-ed25519@openssh.com",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "ssh-rsa",
    "ssh-dss",
];

fuzz_target!(|data: &[u8]| {
    if let Some(HeartbeatReply { heads: Some(heads), .. }) = one(data) {
        assert!(
            heads.keys().all(|publisher| !publisher.as_str().contains('/')),
            "a path of its own"
        );
    }
    if let Some(ReceiptList { receipts, .. }) = one(data) {
        for receipt in receipts {
            let bytes = receipt.bytes().unwrap_or_default();
            assert!(bytes.len() <= receipt.receipt.len());
        }
    }
    let _ = (
        one::<JoinList>(data),
        one::<CredentialList>(data),
        one::<StoredList>(data),
    );
    let _ = (
        one::<Health>(data),
        one::<TenantState>(data),
        one::<ErrorReply>(data),
        one::<Duplicates>(data),
    );
    let _ = one::<PublicKeyReply>(data);
    if let Some(text) = one::<CaPublicKeyReply>(data).and_then(|reply| reply.ca_public_key) {
        authority(&text);
    }
    // Without the base64 that a fuzzer does not see through.
    for kind in KINDS {
        let fields = [
            &u32::try_from(kind.len()).expect("a word").to_be_bytes(),
            kind.as_bytes(),
            data,
        ]
        .concat();
        let text = format!("{kind} {}", STANDARD.encode(fields));
        assert!(authority(&text).is_none_or(|line| line == text));
    }
    if let Ok(account) = AwsAccountId::of_identity_document(data) {
        assert!(account.as_str().len() == 12 && account.as_str().bytes().all(|byte| byte.is_ascii_digit()));
    }
    if let Some(config) = one::<AuthzConfig>(data) {
        let fetched = config.host_group_rules.iter().map(|rule| (&rule.group, &rule.host));
        match AccessRules::parse(data) {
            Ok(applied) => {
                assert_eq!(config.enforce_group_memberships, applied.enforced());
                assert!(fetched.eq(applied.rules().iter().map(|rule| (&rule.group, &rule.host))));
            }
            // Enforced without a list: nobody would be let in.
            Err(_) => assert!(config.enforce_group_memberships && config.host_group_rules.is_empty()),
        }
    }
    let refusal = Refusal::parse(data);
    for text in [Some(&refusal.error), refusal.hint.as_ref()].into_iter().flatten() {
        assert!(
            text.chars().count() <= MAX_SHOWN && !text.contains(char::is_control),
            "{text:?}"
        );
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    authority(text);
    if let Ok(tag) = ETag::parse(text) {
        assert_eq!(tag.header(), text);
        assert!(tag.weakly_equals(&ETag::strong(tag.opaque()).expect("what is in a tag")));
    }
    for now in [Timestamp::UNIX_EPOCH, Timestamp::MIN, Timestamp::MAX] {
        assert!(retry_after(text, now).is_none_or(|wait| wait <= MAX_RETRY_AFTER));
    }
});

/// Reads one kind of answer.
fn one<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(data: &[u8]) -> Option<T> {
    let answer: T = serde_json::from_slice(data).ok()?;
    let printed = serde_json::to_vec(&answer).expect("it has text keys");
    assert_eq!(serde_json::from_slice::<T>(&printed).ok().as_ref(), Some(&answer));
    Some(answer)
}

/// The line that sshd would be given for that text.
fn authority(text: &str) -> Option<String> {
    let key = SshPublicKey::parse(text).ok()?;
    let line = key.line();
    let words: Vec<&str> = line.split(' ').collect();
    assert!(
        words.len() == 2
            && KINDS[..7].contains(&words[0])
            && line.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
    );
    assert_eq!(SshPublicKey::parse(&line).as_ref(), Ok(&key));
    assert!(key.is_named_by(&key.fingerprint()) && key.is_named_by(&line) && key.is_named_by(text));
    assert!(text.contains(words[1]), "another key than the one that was proposed");
    // All of it is fields, of which the first is the name.
    let blob = STANDARD.decode(words[1]).expect("it was just written");
    let (mut rest, mut fields) = (blob.as_slice(), Vec::new());
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let (field, behind) = behind.split_at(u32::from_be_bytes(*length) as usize);
        fields.push(field);
        rest = behind;
    }
    assert!(rest.is_empty() && fields[0] == words[0].as_bytes());
    Some(line)
}
