//! Who wins when keys and accounts disagree: pure functions, no storage.

use dirless_wire::{AgePublicKey, AwsAccountId};

/// By which call the registered key of a tenant is replaced (`[keys] replace_by`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReplaceBy {
    /// Enrolling again replaces the key; `PUT public-key` is first-writer-wins.
    #[default]
    Enroll,
    /// Enrolling with another key is refused; `PUT public-key` replaces.
    RotateKey,
}

/// The call that brings a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyCall {
    /// `POST /v1/enrollment/enroll`.
    Enroll,
    /// `PUT /v1/snapshot/public-key`.
    PutPublicKey,
}

/// What becomes of an offered key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum KeyDecision {
    /// No key was registered: the offered one is stored.
    First,
    /// The offered key is the registered one.
    Same,
    /// The offered key takes the place of this one.
    Replace(AgePublicKey),
    /// The registered key stays.
    Refuse(AgePublicKey),
}

/// Decides about a key `offered` through `call`.
pub fn decide_key(
    registered: Option<&AgePublicKey>,
    offered: &AgePublicKey,
    call: KeyCall,
    replace_by: ReplaceBy,
) -> KeyDecision {
    match (registered, call, replace_by) {
        (None, ..) => KeyDecision::First,
        (Some(key), ..) if key == offered => KeyDecision::Same,
        (Some(key), KeyCall::Enroll, ReplaceBy::Enroll) | (Some(key), KeyCall::PutPublicKey, ReplaceBy::RotateKey) => {
            KeyDecision::Replace(key.clone())
        }
        (Some(key), ..) => KeyDecision::Refuse(key.clone()),
    }
}

/// Whether a snapshot may be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Admission {
    /// Yes; the account, when there is one, is the tenant's first.
    Admit {
        /// The account to remember as the tenant's.
        bind: Option<AwsAccountId>,
    },
    /// It is sealed to another key than this registered one.
    WrongRecipient(AgePublicKey),
    /// It comes from another account than this one, the first seen.
    OtherAccount(AwsAccountId),
}

/// Decides about a snapshot for `recipient` (when it says so) from `account` (when it says so).
pub fn admit(
    registered: &AgePublicKey,
    bound: Option<&AwsAccountId>,
    recipient: Option<&AgePublicKey>,
    account: Option<&AwsAccountId>,
) -> Admission {
    if recipient.is_some_and(|key| key != registered) {
        return Admission::WrongRecipient(registered.clone());
    }
    match (bound, account) {
        (Some(first), Some(other)) if first != other => Admission::OtherAccount(first.clone()),
        (None, Some(first)) => Admission::Admit {
            bind: Some(first.clone()),
        },
        _ => Admission::Admit { bind: None },
    }
}
