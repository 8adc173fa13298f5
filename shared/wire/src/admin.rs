use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Body of `POST /v1/admin/settings`; both are texts, also when the value is a number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Setting {
    /// Name of the setting; `ca_public_key` and `server_limit` are known to be in use.
    #[schema(min_length = 1, max_length = 128)]
    pub key: String,
    /// Its value; empty withdraws the setting.
    #[schema(max_length = 16384)]
    pub value: String,
}

impl Setting {
    /// The setting that feeds `GET /v1/snapshot/ca-public-key`.
    pub const CA_PUBLIC_KEY: &'static str = "ca_public_key";
    /// Longest name, in bytes.
    pub const MAX_KEY_BYTES: usize = 128;
    /// Longest value, in bytes: several SSH keys with comments fit.
    pub const MAX_VALUE_BYTES: usize = 16 * 1024;
}

/// Reply of `GET /v1/snapshot/ca-public-key`; `null` while no key is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CaPublicKeyReply {
    /// One line in OpenSSH form.
    pub ca_public_key: Option<String>,
}

/// Reply to a write that has nothing else to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatusReply {
    /// `ok`.
    pub status: String,
}

impl StatusReply {
    /// The one such reply.
    #[must_use]
    pub fn ok() -> Self {
        Self {
            status: "ok".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_fields_are_texts() {
        let setting: Setting = serde_json::from_str(r#"{"key":"server_limit","value":"25"}"#).unwrap();
        assert_eq!((setting.key.as_str(), setting.value.as_str()), ("server_limit", "25"));
        assert!(serde_json::from_str::<Setting>(r#"{"key":"server_limit","value":25}"#).is_err());
    }

    #[test]
    fn replies_have_the_recorded_shape() {
        assert_eq!(
            serde_json::to_string(&CaPublicKeyReply::default()).unwrap(),
            r#"{"ca_public_key":null}"#
        );
        assert_eq!(serde_json::to_string(&StatusReply::ok()).unwrap(), r#"{"status":"ok"}"#);
    }
}
