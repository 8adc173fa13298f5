use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Digest, KeyId, Label, PublicKey, Time, Version};

/// What a key may do at a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum KeyRole {
    /// Writes the tenant's objects, but no other publisher's heads and manifests; registers nodes and join codes.
    Publisher,
    /// A host: reads, and says that it is alive.
    Node,
}

impl KeyRole {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Publisher => "publisher",
            Self::Node => "node",
        }
    }
}

/// Body of `PUT /v2/{tenant}/credential/{key}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CredentialRequest {
    /// The whole public key; its name and hash are those of the path.
    pub key: PublicKey,
    /// What it may do.
    pub role: KeyRole,
    /// When it ends; absent is never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
}

/// A key that is or was registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CredentialReply {
    /// The whole public key.
    pub key: PublicKey,
    /// What it may do.
    pub role: KeyRole,
    /// When it was registered.
    pub created_at: Time,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Time>,
    /// When it was used last, to within ten minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Time>,
}

/// Reply of `GET /v2/{tenant}/credential`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CredentialList {
    /// By name and hash.
    pub credentials: Vec<CredentialReply>,
    /// What to ask for after this page (`?after=`); absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<KeyId>,
}

/// Body of `PUT /v2/{tenant}/join/{code}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinCodeRequest {
    /// SHA-256 of the bearer that hosts present with the code.
    pub bearer: Digest,
    /// When the code ends.
    pub expires_at: Time,
    /// How many hosts may use it.
    #[schema(minimum = 1, maximum = 100_000)]
    pub uses: u32,
}

impl JoinCodeRequest {
    /// Most uses of one code.
    pub const MAX_USES: u32 = 100_000;
}

/// A join code that is registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JoinCodeReply {
    /// Its label.
    pub code: Label,
    /// When it ends.
    pub expires_at: Time,
    /// How many more hosts may use it.
    pub uses_left: u32,
    /// When it was registered.
    pub created_at: Time,
}

/// A join request that waits; its bytes are at `join/{code}/{request}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JoinRequestReply {
    /// The code it came with.
    pub code: Label,
    /// Digest of its bytes.
    pub request: Digest,
    /// When it came.
    pub received_at: Time,
}

/// Reply of `GET /v2/{tenant}/join`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JoinList {
    /// Codes that are registered, by label.
    pub codes: Vec<JoinCodeReply>,
    /// The oldest requests that wait; more follow when these are deleted.
    pub requests: Vec<JoinRequestReply>,
}

/// The last receipt of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReceiptReply {
    /// The key that the node presented.
    pub node: KeyId,
    /// When it came.
    pub received_at: Time,
    /// The signed receipt, base64.
    pub receipt: String,
}

impl ReceiptReply {
    /// The bytes of the signed receipt; `None` when it is no base64.
    #[must_use]
    pub fn bytes(&self) -> Option<Vec<u8>> {
        STANDARD.decode(&self.receipt).ok()
    }
}

/// Reply of `GET /v2/{tenant}/receipts`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReceiptList {
    /// By node.
    pub receipts: Vec<ReceiptReply>,
    /// What to ask for after this page (`?after=`); absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<KeyId>,
}

/// Reply of `POST /v2/{tenant}/heartbeat`: what may be new to a node, so that in most minutes it asks for nothing
/// else. Hints: a host believes what is signed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeartbeatReply {
    /// Version of the newest policy; absent while there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Version>,
    /// The head of each publisher, as it is stored; absent when they are too long for a heartbeat or no text: then they
    /// have to be asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    pub heads: Option<BTreeMap<Label, String>>,
}

impl HeartbeatReply {
    /// Most bytes of all heads together.
    pub const MAX_HEADS_BYTES: u64 = 64 * 1024;
}

/// An object that is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StoredObject {
    /// Where, below `/v2/{tenant}/`.
    pub path: String,
    /// Its bytes.
    pub length: u64,
    /// Their digest.
    pub digest: Digest,
    /// When it was stored.
    pub stored_at: Time,
}

/// Reply of `GET /v2/{tenant}/`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StoredList {
    /// By path, as text.
    pub objects: Vec<StoredObject>,
    /// What to ask for after this page (`?after=`); absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_read_strictly() {
        let key = format!("syncer+0a1b2c3d+AQ{}", "A".repeat(42));
        let body = format!(r#"{{"key":"{key}","role":"publisher","expires_at":"2027-01-01T00:00:00Z"}}"#);
        let request: CredentialRequest = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (request.role.as_str(), serde_json::to_string(&request).unwrap()),
            ("publisher", body.clone())
        );
        for wrong in [
            body.replace("publisher", "operator"),
            body.replace("role", "rôle"),
            body.replace("2027-01-01T00:00:00Z", "2027-01-01"),
            body.replace("}", r#","admin":true}"#),
        ] {
            assert!(serde_json::from_str::<CredentialRequest>(&wrong).is_err(), "{wrong}");
        }
        let code = format!(
            r#"{{"bearer":"{}","expires_at":"2027-01-01T00:00:00Z","uses":3}}"#,
            "0a".repeat(32)
        );
        let request: JoinCodeRequest = serde_json::from_str(&code).unwrap();
        assert_eq!(
            (request.uses, serde_json::to_string(&request).unwrap()),
            (3, code.clone())
        );
        assert!(serde_json::from_str::<JoinCodeRequest>(&code.replace(":3", ":-1")).is_err());
    }

    #[test]
    fn the_last_page_says_nothing_of_a_next() {
        assert_eq!(
            serde_json::to_string(&StoredList::default()).unwrap(),
            r#"{"objects":[]}"#
        );
        assert_eq!(
            serde_json::to_string(&CredentialList::default()).unwrap(),
            r#"{"credentials":[]}"#
        );
        assert_eq!(
            serde_json::to_string(&ReceiptList::default()).unwrap(),
            r#"{"receipts":[]}"#
        );
    }
}
