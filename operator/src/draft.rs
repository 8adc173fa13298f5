//! The draft of the next policy, which gathers signatures until there are enough.

use dirless_seal::trust::{FormatError, Object, Policy, parse, print};
use dirless_seal::{Note, NoteError, SigningKey, VerifyingKey};

use crate::folder::Current;

/// A policy that is not in force.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    policy: Policy,
    note: Note,
}

/// A draft cannot be read or made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DraftError {
    /// It is no text of a policy, with signatures or without.
    #[error("it is no policy: {0}")]
    Note(#[from] NoteError),
    /// The policy is not well-formed.
    #[error("the policy is not well-formed: {0}")]
    Format(#[from] FormatError),
}

/// Whose signatures are missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing<'a> {
    /// Who signed, of all roots that count.
    pub(crate) signed: Vec<&'a VerifyingKey>,
    /// How many signatures of its own roots are missing, and of which of them.
    pub(crate) own: Missing<'a>,
    /// The same for the roots of the policy in force; none for the first.
    pub(crate) before: Option<Missing<'a>>,
}

/// How many signatures are missing, and who may give them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Missing<'a> {
    pub(crate) count: usize,
    pub(crate) of: Vec<&'a VerifyingKey>,
}

impl<'a> Missing<'a> {
    fn new(note: &Note, policy: &'a Policy) -> Self {
        let signers = note.signers(&policy.roots);
        Self {
            count: policy.threshold.saturating_sub(signers.len()),
            of: policy.roots.iter().filter(|root| !signers.contains(root)).collect(),
        }
    }
}

impl Standing<'_> {
    pub(crate) fn is_complete(&self) -> bool {
        self.own.count == 0 && self.before.as_ref().is_none_or(|before| before.count == 0)
    }
}

impl Draft {
    pub(crate) fn new(policy: &Policy) -> Result<Self, DraftError> {
        let note = Note::sign(print(policy)?, &[])?;
        Ok(Self {
            // What a reader makes of it: in order, without parts of seconds.
            policy: parse(&note)?,
            note,
        })
    }

    /// Reads a draft: the text alone, or with signatures.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, DraftError> {
        let note = match Note::parse(bytes, Policy::MOST) {
            Err(NoteError::Unsigned) => {
                let text = std::str::from_utf8(bytes).map_err(|_| NoteError::Characters)?;
                Note::sign(text.to_owned(), &[])?
            }
            other => other?,
        };
        Ok(Self {
            policy: parse(&note)?,
            note,
        })
    }

    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }

    pub(crate) fn note(&self) -> &Note {
        &self.note
    }

    /// As it is kept: without a blank line at the end when nobody signed yet.
    pub(crate) fn text(&self) -> String {
        let whole = self.note.to_string();
        if whole.len() == self.note.text().len() + 1 {
            self.note.text().to_owned()
        } else {
            whole
        }
    }

    pub(crate) fn sign(&mut self, key: &SigningKey) {
        self.note.add(key);
    }

    /// Does it continue `current`?
    pub(crate) fn continues(&self, current: &Current) -> bool {
        self.policy.tenant == current.policy.tenant
            && self.policy.version == current.policy.version + 1
            && self.policy.previous == Some(current.digest())
    }

    /// Who signed it and who has to, beside the policy in force.
    pub(crate) fn standing<'a>(&'a self, current: Option<&'a Policy>) -> Standing<'a> {
        let mut signed = self.note.signers(&self.policy.roots);
        if let Some(current) = current {
            signed.extend(self.note.signers(&current.roots));
        }
        Standing {
            signed: signed.into_iter().collect(),
            own: Missing::new(&self.note, &self.policy),
            before: current.map(|current| Missing::new(&self.note, current)),
        }
    }
}
