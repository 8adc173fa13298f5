use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::text::checked_text;

/// An AWS account id: twelve decimal digits, kept as text because zeros may lead.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, pattern = "^[0-9]{12}$")]
pub struct AwsAccountId(String);

impl AwsAccountId {
    /// Checks an account id.
    ///
    /// # Errors
    /// When it is anything but twelve ASCII digits.
    pub fn new(text: &str) -> Result<Self, AwsAccountIdError> {
        if text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(AwsAccountIdError)
        }
    }

    /// Reads the account from the identity document of an EC2 instance, as its metadata service serves it.
    ///
    /// # Errors
    /// What is wrong with the document.
    pub fn of_identity_document(json: &[u8]) -> Result<Self, IdentityDocumentError> {
        #[derive(Deserialize)]
        struct Document {
            #[serde(rename = "accountId")]
            account_id: String,
        }
        let document: Document = serde_json::from_slice(json).map_err(IdentityDocumentError::Json)?;
        Ok(Self::new(&document.account_id)?)
    }

    /// The twelve digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

checked_text!(AwsAccountId, AwsAccountIdError);

/// The text is not twelve digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an AWS account id is twelve digits")]
pub struct AwsAccountIdError;

/// A text is no identity document of an instance.
#[derive(Debug, thiserror::Error)]
pub enum IdentityDocumentError {
    /// It is no JSON object with an account.
    #[error("the identity document makes no sense: {0}")]
    Json(#[source] serde_json::Error),
    /// Its account is none.
    #[error("the identity document names no account: {0}")]
    Account(#[from] AwsAccountIdError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twelve_digits_and_nothing_else() {
        assert_eq!(AwsAccountId::new("012345678901").unwrap().as_str(), "012345678901");
        for text in [
            "",
            "12345678901",
            "1234567890123",
            "12345678901a",
            "１２３４",
            " 12345678901",
        ] {
            assert_eq!(AwsAccountId::new(text), Err(AwsAccountIdError), "{text:?}");
        }
    }

    #[test]
    fn the_account_stands_in_the_identity_document() {
        let document = br#"{"accountId":"012345678901","region":"eu-west-1"}"#;
        let account = AwsAccountId::of_identity_document(document).unwrap();
        assert_eq!(account.as_str(), "012345678901");
        for wrong in [
            &b""[..],
            b"{}",
            b"[]",
            br#"{"accountId":12}"#,
            br#"{"accountId":"12"}"#,
            b"\xff",
        ] {
            assert!(AwsAccountId::of_identity_document(wrong).is_err(), "{wrong:?}");
        }
    }
}
