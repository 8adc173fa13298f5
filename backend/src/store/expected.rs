//! What a writer believes is stored, checked in the transaction that replaces it, so that two people
//! who edit the same thing cannot undo each other unseen.

use dirless_wire::ETag;

/// What must be stored for a write to go ahead (RFC 9110 section 13.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Expected {
    /// Whatever there is.
    #[default]
    Anything,
    /// Something, whatever it is (`If-Match: *`).
    Something,
    /// Nothing (`If-None-Match: *`).
    Nothing,
    /// What has this tag (`If-Match`).
    Tag(ETag),
}

impl Expected {
    /// Whether a write over what has the tag `stored` may go ahead.
    #[must_use]
    pub fn holds(&self, stored: Option<&ETag>) -> bool {
        match (self, stored) {
            (Self::Anything, _) | (Self::Something, Some(_)) | (Self::Nothing, None) => true,
            (Self::Something, None) | (Self::Nothing, Some(_)) => false,
            // Strong comparison: both strong, same text.
            (Self::Tag(wanted), Some(stored)) => !wanted.is_weak() && wanted == stored,
            (Self::Tag(_), None) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expectations_are_those_of_the_specification() {
        let (one, other) = (ETag::strong("1").unwrap(), ETag::strong("2").unwrap());
        let weak = ETag::parse("W/\"1\"").unwrap();
        for (expected, with_one, with_none) in [
            (Expected::Anything, true, true),
            (Expected::Something, true, false),
            (Expected::Nothing, false, true),
            (Expected::Tag(one.clone()), true, false),
            (Expected::Tag(other), false, false),
            (Expected::Tag(weak), false, false),
        ] {
            assert_eq!(expected.holds(Some(&one)), with_one, "{expected:?}");
            assert_eq!(expected.holds(None), with_none, "{expected:?}");
        }
    }
}
