use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{AgePublicKey, TenantId};

/// Body of `POST /v1/enrollment/enroll`. Deployed tools may add fields (`ca_cert`); they are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnrollRequest {
    /// The tenant to bind to the credential's realm.
    pub tenant_id: TenantId,
    /// The key every snapshot of the tenant is sealed to.
    pub age_public_key: AgePublicKey,
}

/// Reply to an enrolment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnrollReply {
    /// `enrolled`; deployed tools print it.
    pub status: String,
}

impl EnrollReply {
    /// The one reply a successful enrolment has.
    #[must_use]
    pub fn enrolled() -> Self {
        Self {
            status: "enrolled".to_owned(),
        }
    }
}

/// Body of `PUT /v1/snapshot/public-key`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PublicKeyRequest {
    /// The new key.
    pub age_public_key: AgePublicKey,
}

/// Reply of `GET /v1/snapshot/public-key`; `null` while the tenant has none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PublicKeyReply {
    /// The registered key.
    pub age_public_key: Option<AgePublicKey>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorded_enrolment_is_read() {
        let body = concat!(
            r#"{"tenant_id":"615d1286d91a88073425f44e10dca43f4d0ec96a8c2581c7b582ad240178afac","#,
            r#""age_public_key":"age17vcec9dhw5cu4l58hx8a5pwxktryh9ej5ttqzl5gyqc2hnefkawq8pm37s"}"#
        );
        let request: EnrollRequest = serde_json::from_str(body).unwrap();
        assert_eq!(serde_json::to_string(&request).unwrap(), body);
    }

    #[test]
    fn older_tools_fields_are_ignored_and_missing_ones_named() {
        let key = "age17vcec9dhw5cu4l58hx8a5pwxktryh9ej5ttqzl5gyqc2hnefkawq8pm37s";
        let body = format!(r#"{{"tenant_id":"aws___acme","age_public_key":"{key}","ca_cert":"x"}}"#);
        assert_eq!(
            serde_json::from_str::<EnrollRequest>(&body).unwrap().tenant_id.as_str(),
            "acme"
        );
        let error = serde_json::from_str::<EnrollRequest>(r#"{"tenant_id":"acme"}"#).unwrap_err();
        assert!(error.to_string().contains("age_public_key"), "{error}");
    }

    #[test]
    fn an_absent_key_is_null() {
        let reply = serde_json::to_string(&PublicKeyReply { age_public_key: None }).unwrap();
        assert_eq!(reply, r#"{"age_public_key":null}"#);
        assert_eq!(
            serde_json::to_string(&EnrollReply::enrolled()).unwrap(),
            r#"{"status":"enrolled"}"#
        );
    }
}
