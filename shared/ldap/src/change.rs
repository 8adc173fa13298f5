//! What clients may want changed, and what a store that takes changes does about it.

use dirless_directory::{AttributeName, Dn, Entry, Filter, Rdn, Value};
use zeroize::Zeroizing;

use crate::{Identity, ResultCode};

/// One change of a modify operation (RFC 4511 section 4.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Modification {
    /// Adds values.
    Add(AttributeName, Vec<Value>),
    /// Removes these values, or all when there are none here.
    Delete(AttributeName, Vec<Value>),
    /// Sets the values; none removes the attribute.
    Replace(AttributeName, Vec<Value>),
    /// Adds a number to each value (RFC 4525).
    Increment(AttributeName, Value),
}

/// A change that a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new entry.
    Add(Entry),
    /// Changes of attributes, all or none, in order.
    Modify(Dn, Vec<Modification>),
    /// An entry without subordinates goes.
    Delete(Dn),
    /// An entry and all below it get another name (RFC 4511 section 4.9).
    Rename {
        /// The entry.
        dn: Dn,
        /// Its new own name.
        rdn: Rdn,
        /// Whether the values of the old own name leave the entry.
        delete_old: bool,
        /// Where it moves; it stays under its parent when absent.
        superior: Option<Dn>,
    },
}

/// A change with what must hold for it.
#[derive(Debug)]
pub struct WriteRequest<'a> {
    /// Who asks. Access is the writer's decision.
    pub who: &'a Identity,
    /// The change.
    pub change: Change,
    /// The entry must match this in the same transaction (RFC 4528).
    pub assertion: Option<&'a Filter>,
}

/// The entry before and after a change, for the read entry controls (RFC 4527).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// As it was; none for an add.
    pub before: Option<Entry>,
    /// As it is; none for a delete.
    pub after: Option<Entry>,
}

/// A new password (RFC 3062).
pub struct PasswordRequest<'a> {
    /// Who asks.
    pub who: &'a Identity,
    /// Whose password: a name, or whatever else the directory understands; the asker's own when absent.
    pub user: Option<&'a str>,
    /// The password so far, when the client tells it; it must be right then.
    pub old: Option<&'a [u8]>,
    /// The new one; the directory makes one up when absent.
    pub new: Option<&'a [u8]>,
}

impl std::fmt::Debug for PasswordRequest<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("PasswordRequest")
            .field("who", self.who)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// Why a change was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The result code.
    pub code: ResultCode,
    /// For `noSuchObject`: the nearest entry above that is there.
    pub matched: Option<Dn>,
    /// For people: what is wrong.
    pub message: String,
}

/// Makes changes.
pub trait Writer: Send + Sync {
    /// Makes one change, or none at all.
    ///
    /// # Errors
    /// Why not, as the client is told.
    fn write(&self, request: WriteRequest<'_>) -> Result<Written, Refusal>;

    /// Does the change hash or verify passwords? Such changes wait their turn with the binds.
    fn is_slow(&self, _change: &Change) -> bool {
        false
    }

    /// Sets a password; answers the one that was made up when the request had none. It is called when
    /// [`Writer::sets_passwords`] says so.
    ///
    /// # Errors
    /// Why not, as the client is told.
    fn set_password(&self, _request: PasswordRequest<'_>) -> Result<Option<Zeroizing<String>>, Refusal> {
        Err(Refusal {
            code: ResultCode::UnwillingToPerform,
            matched: None,
            message: "passwords are not set here".to_owned(),
        })
    }

    /// Can passwords be set with [`Writer::set_password`]?
    fn sets_passwords(&self) -> bool {
        false
    }
}
