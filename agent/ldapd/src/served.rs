//! The copy as the LDAP server sees it.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use dirless_copy::{CopyError, Hot, Kind, Position, Reader, Row};
use dirless_directory::schema::object_class;
use dirless_directory::{AttributeName, Dn, DnKey, Filter, Schema, Value};
use dirless_ldap::{
    Apart, Candidate, ChangeKind, Changed, Credentials, Directory, Failure, Identity, NotReady, Peer, Query, Scope,
    State, Stored, Visibility,
};
use tokio::sync::watch;

/// Readers that are kept open for the next requests.
const KEPT: usize = 8;

/// The generation that is served, with readers that wait for work.
struct Generation {
    position: Position,
    schema: Schema,
    contexts: Vec<Dn>,
    /// What all its readers go by.
    hot: Option<Arc<Hot>>,
    /// Never lent, so that there is always one to tell whether this generation is the newest.
    first: Mutex<Reader>,
    waiting: Mutex<Vec<Reader>>,
}

/// The host's copy, the newest generation of it.
pub struct Served {
    path: PathBuf,
    /// What is served while there is no generation.
    generation: RwLock<Option<Arc<Generation>>>,
    state: watch::Sender<State>,
}

impl std::fmt::Debug for Served {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Served({})", self.path.display())
    }
}

impl Served {
    /// The copy at `path`. There may be none yet: reads are told so until there is.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            generation: RwLock::new(None),
            state: watch::Sender::new(State::default()),
        }
    }

    /// Takes up a newer generation when there is one, and says whether there was.
    ///
    /// # Errors
    /// When the file cannot be opened; what was served before is served on.
    pub fn refresh(&self) -> Result<bool, CopyError> {
        let current = self.current();
        if let Some(current) = &current
            && lock(&current.first).is_current()
        {
            return Ok(false);
        }
        let mut first = Reader::open(&self.path, schema_of(current.as_deref()))?;
        let position = first.position().clone();
        let hot = hot(current.as_deref(), &first)?;
        first.go_by(hot.clone());
        let next = Generation {
            contexts: first.topmost()?.iter().filter_map(|dn| Dn::parse(dn).ok()).collect(),
            position: position.clone(),
            schema: first.schema().clone(),
            hot,
            first: Mutex::new(first),
            waiting: Mutex::default(),
        };
        *self.generation.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(next));
        // Another file may hold the same generation; nobody who follows has anything to learn then.
        let newer = current.is_none_or(|current| current.position != position);
        if newer {
            self.state.send_replace(State {
                lineage: position.lineage,
                number: position.number,
            });
        }
        Ok(newer)
    }

    fn current(&self) -> Option<Arc<Generation>> {
        self.generation.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Runs `read` on a reader of the current generation.
    fn with<T>(&self, read: impl FnOnce(&Reader) -> Result<T, CopyError>) -> Result<T, Failure> {
        let generation = self.current().ok_or_else(|| Failure(Box::new(NotReady)))?;
        let waiting = lock(&generation.waiting).pop();
        let reader = match waiting {
            Some(reader) => reader,
            None => {
                let mut reader = Reader::open(&self.path, generation.schema.clone()).map_err(failure)?;
                if *reader.position() == generation.position {
                    reader.go_by(generation.hot.clone());
                }
                reader
            }
        };
        let result = read(&reader).map_err(failure);
        // One that was opened while a newer generation came is of that one: it is not kept here.
        if *reader.position() == generation.position {
            let mut waiting = lock(&generation.waiting);
            if waiting.len() < KEPT {
                waiting.push(reader);
            }
        }
        result
    }

    /// The entry of the user with that number.
    fn account(&self, uid: u32) -> Result<Option<Identity>, Failure> {
        let Ok(number) = AttributeName::parse("uidNumber") else {
            return Ok(None);
        };
        let filter = Filter::And(vec![
            Filter::Equality(object_class(), Value::from("posixAccount")),
            Filter::Equality(number, Value::from(uid.to_string())),
        ]);
        let mut found = None;
        let root = DnKey::from(Vec::new());
        self.with(|reader| {
            reader.candidates(&root, dirless_copy::Scope::Subtree, &filter, None, &mut |row| {
                if row.exact {
                    found = Some(Identity::Entry {
                        dn: row.dn.into(),
                        key: DnKey::from(row.key.to_vec()),
                    });
                }
                ControlFlow::Break(())
            })
        })?;
        Ok(found)
    }
}

/// The values of the generation that `first` reads, brought along from the one before when they can be.
fn hot(before: Option<&Generation>, first: &Reader) -> Result<Option<Arc<Hot>>, CopyError> {
    if let Some(before) = before
        && let Some(held) = &before.hot
        && let Some(next) = held.brought_to(&lock(&before.first), first)?
    {
        return Ok(Some(Arc::new(next)));
    }
    Ok(Hot::read(first)?.map(Arc::new))
}

/// What a generation is read by; before there is one, what every directory starts from.
fn schema_of(generation: Option<&Generation>) -> Schema {
    generation.map_or_else(Schema::standard, |generation| generation.schema.clone())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Directory for Served {
    fn schema(&self) -> Schema {
        schema_of(self.current().as_deref())
    }

    fn naming_contexts(&self) -> Vec<Dn> {
        self.current()
            .map(|generation| generation.contexts.clone())
            .unwrap_or_default()
    }

    fn lookup(&self, key: &DnKey, visit: &mut dyn FnMut(Stored<'_>)) -> Result<bool, Failure> {
        self.with(|reader| reader.lookup(key.as_bytes(), &mut |row| visit(stored(row))))
    }

    fn candidates(
        &self,
        query: &Query<'_>,
        visit: &mut dyn FnMut(Candidate<'_>) -> ControlFlow<()>,
    ) -> Result<(), Failure> {
        let scope = match query.scope {
            Scope::Base => dirless_copy::Scope::Base,
            Scope::OneLevel => dirless_copy::Scope::OneLevel,
            Scope::Subtree => dirless_copy::Scope::Subtree,
        };
        self.with(|reader| {
            let query = dirless_copy::Query {
                base: query.base,
                scope,
                filter: query.filter,
                after: query.after,
                wants: query.wants.names,
                apart: query.wants.apart,
            };
            reader.search(&query, &mut |row| {
                visit(Candidate {
                    stored: stored(row),
                    exact: row.exact,
                    apart: &row.apart.iter().map(lying).collect::<Vec<_>>(),
                })
            })
        })
    }

    fn has_value(&self, key: &DnKey, name: &AttributeName, value: &[u8]) -> Result<Option<bool>, Failure> {
        self.with(|reader| reader.has_value(key.as_bytes(), name.as_str(), value))
    }

    fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    fn changes(&self, since: u64) -> Result<Option<Vec<Changed>>, Failure> {
        let changes = self.with(|reader| reader.changes(since))?;
        Ok(changes.map(|changes| {
            let told = changes.into_iter().map(|change| Changed {
                uuid: change.uuid,
                dn: change.dn.into(),
                key: change.key,
                kind: match change.kind {
                    Kind::Added => ChangeKind::Added,
                    Kind::Modified => ChangeKind::Modified,
                    Kind::Deleted => ChangeKind::Deleted,
                },
            });
            told.collect()
        }))
    }

    /// A user of this host is their entry; anyone else is named by their ids.
    fn peer(&self, peer: Peer) -> Identity {
        match self.account(peer.uid) {
            Ok(Some(identity)) => identity,
            Ok(None) => Identity::Peer(peer),
            Err(error) => {
                tracing::debug!(name: "ldapd.peer", %error, "a peer cannot be looked up: {error}");
                Identity::Peer(peer)
            }
        }
    }

    /// The copy keeps apart what nobody is shown, whatever a snapshot holds.
    fn visibility(&self, _who: &Identity, _key: &[u8]) -> Visibility {
        Visibility::Whole
    }

    fn credentials(&self, key: &DnKey) -> Result<Credentials, Failure> {
        let mut hashes = Vec::new();
        let found = self.with(|reader| {
            reader.secrets(key.as_bytes(), &mut |secrets| {
                let values = secrets.attribute("userPassword").into_iter().flat_map(|one| one.values);
                hashes.extend(values.map(|value| Value::from(value.to_vec())));
            })
        })?;
        Ok(if found {
            Credentials::Hashes(hashes)
        } else {
            Credentials::Unknown
        })
    }
}

fn stored(row: Row<'_>) -> Stored<'_> {
    Stored {
        key: row.key,
        dn: row.dn,
        attributes: row.attributes,
    }
}

fn lying<'a>(apart: &dirless_copy::Apart<'a>) -> Apart<'a> {
    Apart {
        name: apart.name,
        operational: apart.operational,
        file: apart.file,
        offset: apart.offset,
        length: apart.length,
    }
}

fn failure(error: CopyError) -> Failure {
    Failure(Box::new(error))
}
