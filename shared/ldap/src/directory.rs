//! What a store offers to be served: reads in key order, changes in the order they happened, writes,
//! and who may see what.

use std::fs::File;
use std::ops::ControlFlow;
use std::sync::Arc;

use dirless_directory::encoded::Attributes;
use dirless_directory::{AttributeName, Dn, DnKey, Filter, Schema, Value};
use tokio::sync::watch;

use crate::Writer;

/// A directory behind the server.
///
/// Reads are called on the runtime's threads, in batches that the visitor ends early: an implementation
/// answers from memory or a local database and never waits for a network. Writes are called where
/// blocking is allowed. Each call sees one consistent state; a long search is several calls and may see
/// a newer state in each, as RFC 4511 section 4.5.2 allows. A visitor asks for nothing but [`visibility`](Self::visibility), which therefore answers from
/// memory; all else may be locked while it runs.
pub trait Directory: Send + Sync + 'static {
    /// The schema by which names and values are compared.
    fn schema(&self) -> Schema;

    /// The names of the topmost entries (RFC 4512 section 5.1.2).
    fn naming_contexts(&self) -> Vec<Dn>;

    /// Shows the entry of that name to `visit`; false when there is none.
    ///
    /// # Errors
    /// When the store cannot answer.
    fn lookup(&self, key: &DnKey, visit: &mut dyn FnMut(Stored<'_>)) -> Result<bool, Failure>;

    /// Shows entries of a subtree to `visit`, in the order of their keys, until it breaks. Every entry
    /// in scope that the filter matches is shown; others may be too, for the server holds the filter
    /// against each one that is not marked [`Candidate::exact`]. The more an index narrows, the
    /// faster.
    ///
    /// # Errors
    /// When the store cannot answer.
    fn candidates(
        &self,
        query: &Query<'_>,
        visit: &mut dyn FnMut(Candidate<'_>) -> ControlFlow<()>,
    ) -> Result<(), Failure>;

    /// Has the entry a value of that attribute that equals `value`? None when only looking at the entry
    /// tells. It is asked for entries that may be seen whole.
    ///
    /// # Errors
    /// When the store cannot answer.
    fn has_value(&self, _key: &DnKey, _name: &AttributeName, _value: &[u8]) -> Result<Option<bool>, Failure> {
        Ok(None)
    }

    /// The state that reads see now. Watching tells when there is a newer one.
    fn state(&self) -> watch::Receiver<State>;

    /// What became of entries after state number `since`, in order of change, an entry's last change
    /// only; none when the store no longer knows, and a consumer must read everything again.
    ///
    /// # Errors
    /// When the store cannot answer.
    fn changes(&self, since: u64) -> Result<Option<Vec<Changed>>, Failure>;

    /// What a simple bind as that entry is held against. The default takes the values of
    /// `userPassword`, as stored, whoever may read them.
    ///
    /// # Errors
    /// When the store cannot answer.
    fn credentials(&self, key: &DnKey) -> Result<Credentials, Failure> {
        let mut hashes = Vec::new();
        let found = self.lookup(key, &mut |stored| {
            let values = stored.attributes.attribute("userPassword").map(|found| found.values);
            hashes.extend(values.into_iter().flatten().map(|value| Value::from(value.to_vec())));
        })?;
        Ok(if found {
            Credentials::Hashes(hashes)
        } else {
            Credentials::Unknown
        })
    }

    /// May a password be held against that name now? It is asked for names that are not there too, before
    /// anything is verified; a directory says no when there were too many wrong ones.
    fn admits(&self, _name: &DnKey) -> bool {
        true
    }

    /// Is told how the verification of a password for that name ended, also when there is no such entry.
    fn verified(&self, _name: &DnKey, _right: bool) {}

    /// The entry that a process on this host is when it binds with SASL EXTERNAL over the local
    /// socket. The default makes the name of its ids that OpenLDAP makes.
    fn peer(&self, peer: Peer) -> Identity {
        Identity::Peer(peer)
    }

    /// What `who` may see of an entry. Filters see no more than that either.
    fn visibility(&self, who: &Identity, key: &[u8]) -> Visibility;

    /// What `who` may use of an entry in a filter or a comparison, when that is something else than what
    /// they may see; none when it is the same. Like [`visibility`](Self::visibility) it answers from
    /// memory. An entry that is [`Visibility::Hidden`] is no answer, whatever may be used of it.
    fn usable(&self, _who: &Identity, _key: &[u8], _purpose: Purpose) -> Option<Visibility> {
        None
    }

    /// Changes the directory, when clients may write at all. Called where blocking is allowed.
    fn writer(&self) -> Option<&dyn Writer> {
        None
    }
}

/// An entry as a store keeps it.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// The bytes of its [`DnKey`].
    pub key: &'a [u8],
    /// Its name as it was written.
    pub dn: &'a str,
    /// Its attributes as [`dirless_directory::encoded::encode`] made them.
    pub attributes: Attributes<'a>,
}

/// An entry that may match a query.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// The entry.
    pub stored: Stored<'a>,
    /// The store has held the whole filter against it: an index answered the query by itself.
    pub exact: bool,
    /// Attributes of an exact one that are not in `stored`: they are sent from where they lie.
    pub apart: &'a [Apart<'a>],
}

impl<'a> Candidate<'a> {
    /// An entry that nothing is known of.
    pub(crate) fn alone(stored: Stored<'a>) -> Self {
        Self {
            stored,
            exact: false,
            apart: &[],
        }
    }
}

/// An attribute in a file, as a whole `PartialAttribute` (RFC 4511 section 4.1.7).
#[derive(Clone, Copy, Debug)]
pub struct Apart<'a> {
    /// Its description.
    pub name: &'a str,
    /// It is an operational attribute.
    pub operational: bool,
    /// The file, of which these bytes never change.
    pub file: &'a Arc<File>,
    /// Where in it the attribute begins.
    pub offset: u64,
    /// Bytes of it.
    pub length: usize,
}

/// How far below its base a search looks (RFC 4511 section 4.5.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The base alone.
    Base,
    /// The entries right below it.
    OneLevel,
    /// The base and everything below it.
    Subtree,
}

impl Scope {
    /// Is the entry of that key in this scope of `base`?
    #[must_use]
    pub fn holds(self, base: &DnKey, key: &[u8]) -> bool {
        let Some(below) = key.strip_prefix(base.as_bytes()) else {
            return false;
        };
        match self {
            Self::Base => below.is_empty(),
            // Each component of a key ends in a zero byte.
            Self::OneLevel => below
                .iter()
                .position(|byte| *byte == 0)
                .is_some_and(|end| end + 1 == below.len()),
            Self::Subtree => true,
        }
    }
}

/// Which entries are asked for.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// The base; empty for the whole directory.
    pub base: &'a DnKey,
    /// The scope below it.
    pub scope: Scope,
    /// What the entries must match.
    pub filter: &'a Filter,
    /// Only entries whose key sorts after these bytes: where the batch before ended.
    pub after: Option<&'a [u8]>,
    /// Which attributes of an exact candidate are looked at. A store may leave out the others, for
    /// instance the members of a large group that is asked for its number.
    pub wants: Wants<'a>,
}

/// How much of an entry is looked at.
#[derive(Clone, Copy, Default)]
pub struct Wants<'a> {
    /// Says which attributes are looked at; all when there is nothing that says it.
    pub names: Option<&'a dyn Fn(&str) -> bool>,
    /// Attributes that take much room may stay apart ([`Candidate::apart`]).
    pub apart: bool,
}

impl std::fmt::Debug for Wants<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(if self.names.is_some() {
            "Wants(some)"
        } else {
            "Wants(all)"
        })
    }
}

/// The state of a directory: how far its changes have come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Whose numbers these are. A store that starts over from nothing takes another text here, and
    /// consumers read everything again. Letters, digits and hyphens, at most 64 bytes.
    pub lineage: Arc<str>,
    /// Grows with every change.
    pub number: u64,
}

/// The last change of an entry since some state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Its `entryUUID`.
    pub uuid: [u8; 16],
    /// Its name now, or the last one it had.
    pub dn: Box<str>,
    /// The key of that name.
    pub key: DnKey,
    /// Whether it is there now.
    pub kind: ChangeKind,
}

/// What happened to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was added, and is there.
    Added,
    /// It was there before, and is there, perhaps under another name.
    Modified,
    /// It is gone.
    Deleted,
}

/// Decides whether a password is right.
pub type Verify = Box<dyn FnOnce(&[u8]) -> Result<bool, Failure> + Send>;

/// What a password is held against.
pub enum Credentials {
    /// There is no such entry. The client learns no more than that it is wrong.
    Unknown,
    /// Stored values of `userPassword`, `{SCHEME}…` (RFC 2307 section 5.3). They are verified apart
    /// from the threads that serve. None: nobody binds as this entry.
    Hashes(Vec<Value>),
    /// Something else decides, for instance the source the entry came from. It is called where
    /// blocking is allowed, with the password.
    Ask(Verify),
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Unknown => "Unknown",
            Self::Hashes(_) => "Hashes(..)",
            Self::Ask(_) => "Ask(..)",
        })
    }
}

/// A process on this host, as the kernel names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// Who a connection speaks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Identity {
    /// Nobody in particular.
    #[default]
    Anonymous,
    /// An entry, by password or by [`Directory::peer`].
    Entry {
        /// Its name as it is written.
        dn: Box<str>,
        /// The key of that name.
        key: DnKey,
    },
    /// A process on this host.
    Peer(Peer),
}

impl Identity {
    /// The name that the WhoAmI operation (RFC 4532) tells and that changes are attributed to; empty
    /// for anonymous.
    #[must_use]
    pub fn dn(&self) -> String {
        match self {
            Self::Anonymous => String::new(),
            Self::Entry { dn, .. } => dn.to_string(),
            Self::Peer(Peer { uid, gid }) => {
                format!("gidNumber={gid}+uidNumber={uid},cn=peercred,cn=external,cn=auth")
            }
        }
    }
}

/// What an entry is used for without being shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It is held against the filter of a search.
    Search,
    /// It is asked whether it has a value.
    Compare,
}

/// What somebody may see of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Visibility {
    /// Nothing: it is as if it were not there.
    Hidden,
    /// All of it.
    Whole,
    /// All but these attributes, which are as if they were absent. Under all names of each.
    Without(Arc<[AttributeName]>),
    /// Nothing but these attributes, under all names of each.
    Only(Arc<[AttributeName]>),
}

/// There is nothing to serve yet: a [`Failure`] that is nobody's fault, and that requests do not log.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("there is no copy of the directory yet")]
pub struct NotReady;

/// The store could not answer. The client is told `unavailable` and no more; the reason goes to the log.
#[derive(Debug, thiserror::Error)]
#[error("the directory cannot answer: {0}")]
pub struct Failure(#[source] pub Box<dyn std::error::Error + Send + Sync>);
