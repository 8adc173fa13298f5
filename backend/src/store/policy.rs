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

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> AgePublicKey {
        text.parse().unwrap()
    }

    fn keys() -> (AgePublicKey, AgePublicKey) {
        (
            key("age17vcec9dhw5cu4l58hx8a5pwxktryh9ej5ttqzl5gyqc2hnefkawq8pm37s"),
            key("age1sc4gd6wwdn3mfcc9r26lmeh0ze0l67artuy6gjp73ztafn3amensnq6mr6"),
        )
    }

    /// The whole table of the key policy.
    #[test]
    fn exactly_one_call_replaces_a_key() {
        let (one, two) = keys();
        for call in [KeyCall::Enroll, KeyCall::PutPublicKey] {
            for by in [ReplaceBy::Enroll, ReplaceBy::RotateKey] {
                assert_eq!(decide_key(None, &two, call, by), KeyDecision::First);
                assert_eq!(decide_key(Some(&one), &one, call, by), KeyDecision::Same);
            }
        }
        let other = |call, by| decide_key(Some(&one), &two, call, by);
        let (replace, refuse) = (KeyDecision::Replace(one.clone()), KeyDecision::Refuse(one.clone()));
        assert_eq!(other(KeyCall::Enroll, ReplaceBy::Enroll), replace);
        assert_eq!(other(KeyCall::PutPublicKey, ReplaceBy::Enroll), refuse);
        assert_eq!(other(KeyCall::Enroll, ReplaceBy::RotateKey), refuse);
        assert_eq!(other(KeyCall::PutPublicKey, ReplaceBy::RotateKey), replace);
    }

    #[test]
    fn recipient_comes_before_account_and_silence_is_consent() {
        let (one, two) = keys();
        let (first, second): (AwsAccountId, AwsAccountId) =
            ("123456789012".parse().unwrap(), "210987654321".parse().unwrap());
        let silent = Admission::Admit { bind: None };
        assert_eq!(admit(&one, None, None, None), silent);
        assert_eq!(admit(&one, Some(&first), None, None), silent);
        assert_eq!(admit(&one, Some(&first), Some(&one), Some(&first)), silent);
        let bind = Admission::Admit {
            bind: Some(first.clone()),
        };
        assert_eq!(admit(&one, None, Some(&one), Some(&first)), bind);
        assert_eq!(
            admit(&one, Some(&first), None, Some(&second)),
            Admission::OtherAccount(first.clone())
        );
        assert_eq!(
            admit(&one, Some(&first), Some(&two), Some(&second)),
            Admission::WrongRecipient(one.clone())
        );
        assert_eq!(
            admit(&one, None, Some(&two), Some(&first)),
            Admission::WrongRecipient(one)
        );
    }

    #[test]
    fn the_configuration_spells_the_policy_with_a_dash() {
        #[derive(serde::Deserialize)]
        struct Keys {
            replace_by: ReplaceBy,
        }
        let read = |text: &str| toml::from_str::<Keys>(text).map(|keys| keys.replace_by);
        assert_eq!(read("replace_by = 'enroll'").unwrap(), ReplaceBy::Enroll);
        assert_eq!(read("replace_by = 'rotate-key'").unwrap(), ReplaceBy::RotateKey);
        assert!(read("replace_by = 'never'").is_err());
        assert_eq!(ReplaceBy::default(), ReplaceBy::Enroll);
    }
}
