//! The tree over LDAP, with writes.

mod access;
mod changes;
mod listen;
mod pass_through;
mod passwords;
mod refusal;
mod writer;

use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use dirless_directory::encoded::Attributes;
use dirless_directory::{AttributeName, Dn, DnKey, Filter, Schema, Value};
use dirless_ldap::{
    Candidate, Changed, Credentials, Directory, Failure, Identity, Peer, Purpose, Query, Scope, State, Stored, Verify,
    Visibility, Writer,
};
use dirless_program::Clock;
use tokio::sync::watch;

use self::access::{Access, Use};
pub(super) use self::listen::Ldap;
pub use self::pass_through::{PassThrough, Sources};
use crate::serve::config::LdapConfig;
use crate::serve::limits::{Failures, of_name};
use crate::tree::{self, Record, TreeError, TreeStore};

/// States of an account that nobody binds as.
const CLOSED: [&str; 3] = ["suspended", "locked", "disabled"];
/// Names that are not in the tree whose failures are remembered; beyond that some are forgotten.
const STRANGERS: usize = 10_000;
/// People whose failures are remembered: all of them.
const PEOPLE: usize = 2_000_000;
/// A hash as new ones are, of no password: it takes as long to verify.
const NOBODY: &str = "{PBKDF2-SHA512}210000$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// The tree as the LDAP server sees it.
pub(crate) struct TreeDirectory {
    tree: Arc<TreeStore>,
    schema: Schema,
    access: Access,
    state: watch::Sender<State>,
    manager: Identity,
    /// May somebody bind as the manager's entry? Only as one that the configuration names.
    manager_binds: bool,
    /// Who runs this program, besides root: it can change the database anyway.
    own_uid: Option<u32>,
    pass_through: Option<Arc<dyn PassThrough>>,
    has_lesser_uses: bool,
    /// Wrong passwords by name: of entries, and of what is none.
    wrong: [Failures; 2],
    clock: Clock,
}

impl TreeDirectory {
    pub(crate) fn new(
        config: &LdapConfig,
        tree: Arc<TreeStore>,
        pass_through: Option<Arc<dyn PassThrough>>,
        clock: Clock,
    ) -> Result<Self, TreeError> {
        let refuse = |reason| TreeError::Setting { key: "manager", reason };
        let manager = match &config.manager {
            Some(text) => Dn::parse(text).map_err(|error| refuse(error.to_string()))?,
            None => Dn::parse(&format!("cn=manager,{}", tree.base())).map_err(|error| refuse(error.to_string()))?,
        };
        let key = tree
            .schema()
            .dn_key(&manager)
            .ok_or_else(|| TreeError::Name(manager.clone()))?;
        let access = Access::new(config, &tree, key.clone())?;
        let state = State {
            lineage: lineage(&tree)?.into(),
            number: tree.read(|reader| reader.state())?,
        };
        Ok(Self {
            schema: tree.schema().clone(),
            has_lesser_uses: access.has_lesser_uses(),
            access,
            state: watch::Sender::new(state),
            manager: Identity::Entry {
                dn: manager.to_string().into(),
                key,
            },
            manager_binds: config.manager.is_some(),
            wrong: [
                Failures::remembering(config.failures_per_minute, PEOPLE),
                Failures::remembering(config.failures_per_minute, STRANGERS),
            ],
            clock,
            own_uid: std::fs::metadata("/proc/self").ok().map(|own| own.uid()),
            pass_through,
            tree,
        })
    }

    /// Tells the server's consumers of new states. Never ends.
    pub(crate) async fn follow(&self) {
        let mut numbers = self.tree.watch();
        loop {
            let number = *numbers.borrow_and_update();
            self.state.send_if_modified(|state| {
                let newer = number > state.number;
                state.number = state.number.max(number);
                newer
            });
            if numbers.changed().await.is_err() {
                return;
            }
        }
    }

    /// What decides about the password of an entry instead of a hash of its own, if anything does.
    fn elsewhere(&self, record: &Record) -> Option<Verify> {
        let pass_through = self.pass_through.as_ref()?;
        let (source, id) = first(record, "aitherSource").zip(first(record, "aitherSourceId"))?;
        pass_through.verifier(&source, &id)
    }

    fn seen_by(&self, who: &Identity, key: &[u8], wanted: Use) -> Visibility {
        self.access
            .visibility(&self.access.subject(&self.tree, who), key, wanted)
    }
}

/// What tells this tree from one that started over: the `entryUUID` of its base.
fn lineage(tree: &TreeStore) -> Result<String, TreeError> {
    let base = tree.read(|reader| reader.require(reader.base()))?;
    Ok(first(&base, "entryUUID").unwrap_or_default())
}

/// The first value of an attribute, as text.
fn first(record: &Record, name: &str) -> Option<String> {
    let attributes = Attributes::new(record.encoded()).ok()?;
    let value = attributes.attribute(name)?.values.into_iter().next()?;
    std::str::from_utf8(value).ok().map(str::to_owned)
}

/// Is it an account that nobody uses now?
fn closed(record: &Record) -> bool {
    let status = first(record, "aitherAccountStatus");
    status.is_some_and(|status| CLOSED.iter().any(|closed| closed.eq_ignore_ascii_case(&status)))
}

fn failure(error: TreeError) -> Failure {
    Failure(error.into())
}

impl Directory for TreeDirectory {
    fn schema(&self) -> Schema {
        self.schema.clone()
    }

    fn naming_contexts(&self) -> Vec<Dn> {
        vec![self.tree.base().clone()]
    }

    fn lookup(&self, key: &DnKey, visit: &mut dyn FnMut(Stored<'_>)) -> Result<bool, Failure> {
        let record = self.tree.read(|reader| reader.find(key)).map_err(failure)?;
        let Some(record) = record else { return Ok(false) };
        let dn = record.dn().to_string();
        visit(Stored {
            key: record.key().as_bytes(),
            dn: &dn,
            attributes: Attributes::new(record.encoded()).map_err(|error| Failure(error.into()))?,
        });
        Ok(true)
    }

    fn candidates(
        &self,
        query: &Query<'_>,
        visit: &mut dyn FnMut(Candidate<'_>) -> ControlFlow<()>,
    ) -> Result<(), Failure> {
        let after = query.after.map(|after| DnKey::from(after.to_vec()));
        let scope = match query.scope {
            Scope::Base => tree::Scope::Base,
            Scope::OneLevel => tree::Scope::OneLevel,
            Scope::Subtree => tree::Scope::Subtree,
        };
        let searched = self.tree.read(|reader| {
            let base = if query.base.as_bytes().is_empty() {
                Dn::ROOT
            } else {
                match reader.find(query.base)? {
                    Some(record) => record.dn().clone(),
                    None => return Ok(()),
                }
            };
            let own = tree::Query {
                base: &base,
                scope,
                filter: query.filter,
                after: after.as_ref(),
            };
            reader.narrow(&own, |record: Record| {
                let dn = record.dn().to_string();
                let attributes = Attributes::new(record.encoded()).map_err(|error| TreeError::Damaged {
                    dn: dn.clone(),
                    reason: error.to_string(),
                })?;
                let stored = Stored {
                    key: record.key().as_bytes(),
                    dn: &dn,
                    attributes,
                };
                Ok(visit(Candidate {
                    stored,
                    exact: false,
                    apart: &[],
                }))
            })
        });
        searched.map_err(failure)
    }

    fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    fn changes(&self, since: u64) -> Result<Option<Vec<Changed>>, Failure> {
        self.tree.read(|reader| changes::since(reader, since)).map_err(failure)
    }

    fn credentials(&self, key: &DnKey) -> Result<Credentials, Failure> {
        let nobody = || Ok(Credentials::Hashes(vec![Value::from(NOBODY)]));
        let is_manager = matches!(&self.manager, Identity::Entry { key: manager, .. } if manager == key);
        if is_manager && !self.manager_binds {
            return nobody();
        }
        let record = self.tree.read(|reader| reader.find(key)).map_err(failure)?;
        let Some(record) = record.filter(|record| !closed(record)) else {
            return nobody();
        };
        if let Some(verify) = self.elsewhere(&record) {
            return Ok(Credentials::Ask(verify));
        }
        let name = AttributeName::parse("userPassword").map_err(|error| Failure(error.into()))?;
        match record.entry().map_err(failure)?.values(&name) {
            [] => nobody(),
            hashes => Ok(Credentials::Hashes(hashes.to_vec())),
        }
    }

    fn admits(&self, name: &DnKey) -> bool {
        let (key, now) = (of_name(name.as_bytes()), self.clock.now());
        !self.wrong.iter().any(|wrong| wrong.are_used_up(key, now))
    }

    fn verified(&self, name: &DnKey, right: bool) {
        if right {
            return;
        }
        // An entry's failures are not forgotten however many names are tried that are none.
        let is_there = self.tree.read(|reader| reader.find(name));
        let [people, strangers] = &self.wrong;
        let wrong = match is_there {
            Ok(None) => strangers,
            Ok(Some(_)) | Err(_) => people,
        };
        let _ = wrong.note(of_name(name.as_bytes()), self.clock.now());
    }

    fn peer(&self, peer: Peer) -> Identity {
        if peer.uid == 0 || Some(peer.uid) == self.own_uid {
            self.manager.clone()
        } else {
            Identity::Peer(peer)
        }
    }

    fn visibility(&self, who: &Identity, key: &[u8]) -> Visibility {
        self.seen_by(who, key, Use::Read)
    }

    fn usable(&self, who: &Identity, key: &[u8], purpose: Purpose) -> Option<Visibility> {
        let wanted = match purpose {
            Purpose::Search => Use::Search,
            Purpose::Compare => Use::Compare,
        };
        self.has_lesser_uses.then(|| self.seen_by(who, key, wanted))
    }

    fn writer(&self) -> Option<&dyn Writer> {
        Some(self)
    }
}

/// The filter that finds the entry whose last write has that number.
fn of_csn(csn: &str) -> Option<Filter> {
    let name = AttributeName::parse("entryCSN").ok()?;
    Some(Filter::Equality(name, Value::from(csn)))
}
