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
}
