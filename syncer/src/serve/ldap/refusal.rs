//! What clients are told of a write that did not happen.

use dirless_directory::Dn;
use dirless_directory::schema::Violation;
use dirless_ldap::{Refusal, ResultCode};

use crate::tree::TreeError;

/// Why a write did not happen: the tree's reason, or ours.
#[derive(Debug)]
pub(super) enum Stopped {
    Tree(TreeError),
    Refused(Refusal),
}

impl From<TreeError> for Stopped {
    fn from(error: TreeError) -> Self {
        Self::Tree(error)
    }
}

impl From<Refusal> for Stopped {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

pub(super) fn refusal(code: ResultCode, message: impl Into<String>) -> Refusal {
    Refusal {
        code,
        matched: None,
        message: message.into(),
    }
}

/// The result code and text for the tree's reason. `is_seen` says of which entries the client may know.
pub(super) fn of(error: &TreeError, is_seen: impl Fn(&Dn) -> bool) -> Refusal {
    let code = match error {
        TreeError::Absent { matched, .. } => {
            let mut nearest = Some(matched.clone());
            while let Some(dn) = nearest.take_if(|dn| !dn.is_root() && !is_seen(dn)) {
                nearest = dn.parent();
            }
            return Refusal {
                code: ResultCode::NoSuchObject,
                matched: nearest.filter(|dn| !dn.is_root()),
                message: error.to_string(),
            };
        }
        TreeError::Exists(_) => ResultCode::EntryAlreadyExists,
        TreeError::NotLeaf(_) => ResultCode::NotAllowedOnNonLeaf,
        TreeError::Version { .. } => ResultCode::AssertionFailed,
        TreeError::Schema { violation, .. } => match violation {
            Violation::NoStructuralClass
            | Violation::TwoStructuralClasses(..)
            | Violation::UnknownClass(_)
            | Violation::Missing { .. }
            | Violation::NotAllowed(_) => ResultCode::ObjectClassViolation,
            Violation::UnknownAttribute(_) => ResultCode::UndefinedAttributeType,
            Violation::SingleValue(_) => ResultCode::ConstraintViolation,
            Violation::DuplicateValue(_) => ResultCode::AttributeOrValueExists,
            Violation::Syntax(_) => ResultCode::InvalidAttributeSyntax,
            Violation::Naming(_) => ResultCode::NamingViolation,
        },
        TreeError::Name(_) => ResultCode::InvalidDnSyntax,
        TreeError::Outside { .. } | TreeError::Move(_) => ResultCode::UnwillingToPerform,
        TreeError::KeptByServer(_) | TreeError::NotInteger(_) => ResultCode::ConstraintViolation,
        TreeError::NoSuchValue(_) => ResultCode::NoSuchAttribute,
        TreeError::ValueExists(_) => ResultCode::AttributeOrValueExists,
        TreeError::StructuralClass { .. } => ResultCode::ObjectClassModsProhibited,
        other => {
            tracing::error!(event = "ldap.write.failed", error = %other, "a write failed");
            return refusal(ResultCode::Unavailable, "the directory cannot write now");
        }
    };
    refusal(code, error.to_string())
}
