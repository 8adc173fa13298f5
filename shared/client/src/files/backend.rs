//! Files at backends, by signed requests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use dirless_wire::ErrorCode;
use dirless_wire::trust::{HeartbeatReply, Label, ObjectPath};

use super::FilesError;
use super::kept::KeptHeads;
use crate::objects::no_object_route;
use crate::{Client, Cycle, Error, Fetched, SnapshotSink};

/// What the backends said to the requests since [`BackendFiles::begin`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// Nothing yet, or nothing that tells.
    #[default]
    Unknown,
    /// Our key is accepted.
    Accepted,
    /// Our key is refused, and it is not the clock.
    Refused,
    /// They refuse for another reason: the clock, a suspended customer.
    Barred(String),
    /// Nobody answers.
    Down(String),
}

/// Files at the backends of a client that has a key. Clones share what they know.
///
/// Once no request can do better than the last one (nobody answers, the key is refused), nothing more is asked before
/// the next [`BackendFiles::begin`].
#[derive(Clone, Debug)]
pub struct BackendFiles {
    client: Client,
    /// Asked for with the bearer of this join code, by a host that has no key there yet: policies alone.
    code: Option<Label>,
    heads: KeptHeads,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    cycle: Arc<Cycle>,
    standing: Standing,
    told: Option<Told>,
    retry_after: Option<Duration>,
}

/// What the answer to a heartbeat says of files.
#[derive(Debug)]
struct Told {
    /// The newest; 0 when there is none.
    policy: u64,
    heads: Option<BTreeMap<Label, String>>,
}

impl BackendFiles {
    /// At the backends of `client`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        let state = State {
            cycle: Arc::new(client.cycle()),
            standing: Standing::Unknown,
            told: None,
            retry_after: None,
        };
        Self {
            client,
            code: None,
            heads: KeptHeads::default(),
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// What a host may see that has nothing but the join code `code`, whose bearer `client` has: the policies.
    #[must_use]
    pub fn to_join(client: Client, code: Label) -> Self {
        Self {
            code: Some(code),
            ..Self::new(client)
        }
    }

    /// The client.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Begins a round: another backend may be taken, and what was said before counts no more.
    pub fn begin(&self) {
        let mut state = self.state();
        state.cycle = Arc::new(self.client.cycle());
        state.standing = Standing::Unknown;
        state.told = None;
        state.retry_after = None;
    }

    /// Begins a round because of a notice that brought `head`, made by `publisher` under `policy`: neither that nor what the
    /// heartbeat before told beside it is asked for in this round, so that a change is two requests. False when a
    /// heartbeat has to tell first: there was none yet, or it knew of another policy.
    #[must_use]
    pub fn begin_told(&self, publisher: &Label, policy: u64, head: String) -> bool {
        let told = self.state().told.take().filter(|told| told.policy == policy);
        self.begin();
        let mut state = self.state();
        // Nobody else's stream brings it.
        state.standing = Standing::Accepted;
        state.told = told.and_then(|mut told| {
            told.heads.as_mut()?.insert(publisher.clone(), head);
            Some(told)
        });
        state.told.is_some()
    }

    /// Says that this node is alive, with its signed receipt. What the answer says of heads and policies is not asked
    /// for again in this round.
    ///
    /// # Errors
    /// Any [`Error`]; files may be had all the same, unless the key was refused.
    pub async fn heartbeat(&self, receipt: Option<Bytes>) -> Result<(), Error> {
        let answer = self.cycle().post_receipt(receipt).await;
        match answer {
            Ok(HeartbeatReply { policy, heads }) => {
                let mut state = self.state();
                state.standing = Standing::Accepted;
                // An answer without either tells nothing.
                state.told = (policy.is_some() || heads.is_some()).then(|| Told {
                    policy: policy.map_or(0, Into::into),
                    heads,
                });
                Ok(())
            }
            Err(error) => {
                // That it cannot take heartbeats now says nothing about files.
                if !matches!(error, Error::Unavailable { .. }) {
                    self.note(&error);
                }
                Err(error)
            }
        }
    }

    /// What the backends have said in this round.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.state().standing.clone()
    }

    /// How long a backend asked to wait in this round.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.state().retry_after
    }

    /// The backend that answered last.
    #[must_use]
    pub fn backend(&self) -> Option<String> {
        self.cycle().backend()
    }

    pub(super) async fn get(&self, path: &str, most: u64) -> Result<Option<Bytes>, FilesError> {
        if let Some(known) = self.told(path) {
            return match known {
                Some(bytes) if bytes.len() as u64 > most => Err(FilesError::TooLong {
                    path: path.to_owned(),
                    most,
                }),
                known => Ok(known),
            };
        }
        if let Some(code) = &self.code {
            return self.policy_to_join(code, path, most).await;
        }
        let mut bytes = Vec::new();
        match self.ask(path, true, most, &mut bytes).await? {
            Fetched::NotModified => Ok(self.heads.bytes(path)),
            Fetched::Absent { .. } => Ok(None),
            Fetched::Body(body) => {
                let bytes = Bytes::from(bytes);
                self.heads.keep(path, body.etag, &bytes);
                Ok(Some(bytes))
            }
        }
    }

    pub(super) async fn copy(
        &self,
        path: &str,
        most: u64,
        sink: &mut impl SnapshotSink,
    ) -> Result<Option<u64>, FilesError> {
        match self.ask(path, false, most, sink).await? {
            Fetched::Body(body) => Ok(Some(body.length)),
            Fetched::Absent { .. } | Fetched::NotModified => Ok(None),
        }
    }

    async fn policy_to_join(&self, code: &Label, path: &str, most: u64) -> Result<Option<Bytes>, FilesError> {
        let Ok(ObjectPath::Policy { version }) = path.parse() else {
            return Err(FilesError::Path(path.to_owned()));
        };
        let found = self.cycle().get_policy_to_join(code, version, most).await;
        found.map(|note| note.map(Bytes::from)).map_err(|error| match error {
            Error::Unauthorized => FilesError::Refused("the backend does not accept this join code".to_owned()),
            error => FilesError::Web {
                path: path.to_owned(),
                reason: error.to_string(),
            },
        })
    }

    /// What is known of `path` from the answer to the heartbeat.
    fn told(&self, path: &str) -> Option<Option<Bytes>> {
        let state = self.state();
        let told = state.told.as_ref()?;
        if let Some(version) = path.strip_prefix("policy/") {
            let beyond = version.parse::<u64>().is_ok_and(|version| version > told.policy);
            return beyond.then_some(None);
        }
        let publisher = Label::new(path.strip_prefix("head/")?).ok()?;
        let head = told.heads.as_ref()?.get(&publisher);
        Some(head.map(|text| Bytes::from(text.clone().into_bytes())))
    }

    async fn ask(
        &self,
        path: &str,
        conditional: bool,
        most: u64,
        sink: &mut impl SnapshotSink,
    ) -> Result<Fetched, FilesError> {
        if let Some(error) = self.hopeless(path) {
            return Err(error);
        }
        let object: ObjectPath = path.parse().map_err(|_| FilesError::Path(path.to_owned()))?;
        let tag = conditional.then(|| self.heads.tag(path)).flatten();
        let answer = self.cycle().get_object(&object, tag.as_ref(), most, sink).await;
        let answer = answer.and_then(|fetched| match fetched {
            Fetched::Absent { code } if code != ErrorCode::ObjectAbsent => Err(no_object_route(code)),
            fetched => Ok(fetched),
        });
        match answer {
            Ok(fetched) => {
                self.state().standing = Standing::Accepted;
                Ok(fetched)
            }
            Err(Error::BodyTooLarge { limit, .. }) => Err(FilesError::TooLong {
                path: path.to_owned(),
                most: limit,
            }),
            Err(Error::Sink(source)) => Err(FilesError::Disk {
                path: path.to_owned(),
                source,
            }),
            Err(error) => {
                self.note(&error);
                let path_text = path.to_owned();
                Err(self.hopeless(path).unwrap_or_else(|| match &error {
                    Error::Malformed { .. } | Error::Rejected { .. } | Error::Forbidden { .. } => FilesError::Answer {
                        path: path_text,
                        answer: error.to_string(),
                    },
                    _ => FilesError::Web {
                        path: path_text,
                        reason: error.to_string(),
                    },
                }))
            }
        }
    }

    /// Notes what an error means for the requests after it.
    fn note(&self, error: &Error) {
        let mut state = self.state();
        match error {
            Error::KeyRefused { .. } if error.refuses_key() => state.standing = Standing::Refused,
            Error::KeyRefused { .. } | Error::Suspended { .. } => state.standing = Standing::Barred(error.to_string()),
            Error::Unavailable { .. } => state.standing = Standing::Down(error.to_string()),
            Error::RateLimited { retry_after } => {
                state.retry_after = *retry_after;
                state.standing = Standing::Down(error.to_string());
            }
            _ => {}
        }
    }

    /// Why nothing more is asked in this round.
    fn hopeless(&self, path: &str) -> Option<FilesError> {
        match &self.state().standing {
            Standing::Unknown | Standing::Accepted => None,
            Standing::Refused => Some(FilesError::Refused(Error::KeyRefused { ahead: None }.to_string())),
            Standing::Barred(reason) => Some(FilesError::Refused(reason.clone())),
            Standing::Down(reason) => Some(FilesError::Web {
                path: path.to_owned(),
                reason: reason.clone(),
            }),
        }
    }

    fn cycle(&self) -> Arc<Cycle> {
        Arc::clone(&self.state().cycle)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while holding it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
