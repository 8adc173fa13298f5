//! What a backend answers: to heartbeats of both protocols, to those who join, publish or look on, and what it says when it
//! refuses. What is read prints to what reads the same, texts for people are harmless, and access rules mean the same
//! to whoever fetches them as to whoever applies them.

#![no_main]

use dirless_model::access::AccessRules;
use dirless_wire::trust::{CredentialList, HeartbeatReply, JoinList, ReceiptList, StoredList};
use dirless_wire::{AuthzConfig, CaPublicKeyReply, Duplicates, ETag, ErrorReply, Health, PublicKeyReply, TenantState};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;

#[expect(dead_code, reason = "the rest of the file serves the client")]
#[path = "../../shared/client/src/refusal.rs"]
mod refusal;

use refusal::{MAX_RETRY_AFTER, MAX_SHOWN, Refusal, retry_after};

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
    let _ = (one::<PublicKeyReply>(data), one::<CaPublicKeyReply>(data));
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
