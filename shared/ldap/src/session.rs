//! One client's requests, in order: what each asks is decided here, what takes time is handed back.

use std::sync::Arc;

use dirless_directory::encoded::Matcher;
use dirless_directory::filter::Truth;
use dirless_directory::{AttributeName, Dn, DnKey, Filter, Value};
use zeroize::Zeroizing;

use crate::answers::Answers;
use crate::controls::{Controls, For};
use crate::decode_filter::FilterLimits;
use crate::emit::{Matching, subject};
use crate::reply::{self, Outcome};
use crate::request::{Bind, Message, Method, Operation};
use crate::search::{Base, Search, Step, missing};
use crate::writes::{SetPassword, Write};
use crate::{
    Config, Credentials, Directory, Failure, Identity, NotReady, Peer, Purpose, Query, ResultCode, Visibility,
};

/// What the connection is, as far as requests depend on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    /// Nobody on the way can read it.
    pub(crate) private: bool,
    /// Under TLS.
    pub(crate) tls: bool,
    /// TLS may be started.
    pub(crate) start_tls: bool,
    /// Who is at the other end of a local socket.
    pub(crate) peer: Option<Peer>,
}

/// What the connection has to do before the next request.
pub(crate) enum Action {
    /// Nothing.
    None,
    /// Verify a password, then tell [`Session::bound`].
    Verify(Verification),
    /// Make a change.
    Write(Box<Write>),
    /// Set a password.
    SetPassword(Box<SetPassword>),
    /// Start TLS; the answer is written.
    StartTls,
    /// End the connection.
    Close,
}

/// A password to be verified apart.
pub(crate) struct Verification {
    pub(crate) id: u32,
    pub(crate) who: Identity,
    pub(crate) name: DnKey,
    pub(crate) credentials: Credentials,
    pub(crate) password: Zeroizing<Vec<u8>>,
}

/// A client's state.
pub(crate) struct Session {
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) config: Arc<Config>,
    pub(crate) link: Link,
    pub(crate) who: Identity,
    /// Searches under way, oldest first.
    pub(crate) running: Vec<Search>,
    /// Consumers that stay.
    pub(crate) consumers: Vec<Search>,
    /// The rest of a sorted result that is read in pages.
    pub(crate) sorted: Option<Arc<[DnKey]>>,
    /// The base of the last search.
    pub(crate) base: Option<Arc<Base>>,
}

impl Session {
    pub(crate) fn new(directory: Arc<dyn Directory>, config: Arc<Config>, link: Link) -> Self {
        Self {
            directory,
            config,
            link,
            who: Identity::Anonymous,
            running: Vec::new(),
            consumers: Vec::new(),
            sorted: None,
            base: None,
        }
    }

    pub(crate) fn filter_limits(&self) -> FilterLimits {
        FilterLimits {
            nodes: self.config.limits.filter_nodes,
        }
    }

    /// Takes one request.
    pub(crate) fn handle(&mut self, message: Message<'_>, out: &mut Answers) -> Action {
        let id = message.id;
        let (tag, purpose) = match &message.operation {
            Operation::Bind(_) => (reply::BIND, For::Bind),
            Operation::Search(_) => (reply::SEARCH_DONE, For::Search),
            Operation::Compare { .. } => (reply::COMPARE, For::Compare),
            Operation::Other(operation) => crate::writes::answer_tag(operation),
            Operation::Unbind => return Action::Close,
            Operation::Abandon(abandoned) => {
                self.remove(*abandoned);
                return Action::None;
            }
        };
        let limits = self.filter_limits();
        let controls = match Controls::read(&message.controls, purpose, limits) {
            Ok(controls) => controls,
            Err(error) => {
                let outcome = Outcome::new(error.code, error.message);
                reply::result(out, id, tag, &outcome, &[]);
                return Action::None;
            }
        };
        let answered = match message.operation {
            Operation::Bind(bind) => self.bind(id, &bind, out),
            Operation::Search(request) => self.search(id, request, controls, out).map(|()| Action::None),
            Operation::Compare { dn, attribute, value } => {
                let outcome = self.compare(dn, attribute, value, controls.assertion.as_ref());
                outcome.map(|outcome| {
                    reply::result(out, id, tag, &outcome, &[]);
                    Action::None
                })
            }
            Operation::Other(operation) => self.other(id, operation, controls, out),
            Operation::Unbind | Operation::Abandon(_) => Ok(Action::None),
        };
        answered.unwrap_or_else(|failure| {
            reply::result(out, id, tag, &unavailable(&failure), &[]);
            Action::None
        })
    }

    /// Ends the search or consumer of that id without an answer.
    pub(crate) fn remove(&mut self, id: u32) -> bool {
        let before = self.running.len() + self.consumers.len();
        self.running.retain(|search| search.emitter.id != id);
        self.consumers.retain(|search| search.emitter.id != id);
        before > self.running.len() + self.consumers.len()
    }

    fn bind(&mut self, id: u32, bind: &Bind<'_>, out: &mut Answers) -> Result<Action, Failure> {
        // A bind ends what is under way, and whatever comes of it, the old identity is gone (RFC 4513
        // section 4).
        self.running.clear();
        self.consumers.clear();
        self.sorted = None;
        self.who = Identity::Anonymous;
        let outcome = if bind.version == 3 {
            match &bind.method {
                Method::Simple(password) => match self.simple(id, bind.dn, password)? {
                    Ok(action) => return Ok(action),
                    Err(outcome) => outcome,
                },
                Method::Sasl("EXTERNAL", authorization) => self.external(authorization.unwrap_or_default()),
                Method::Sasl(..) | Method::Unknown => Outcome::new(
                    ResultCode::AuthMethodNotSupported,
                    "simple binds and SASL EXTERNAL over the local socket are supported",
                ),
            }
        } else {
            Outcome::new(ResultCode::ProtocolError, "only LDAP version 3 is spoken")
        };
        reply::result(out, id, reply::BIND, &outcome, &[]);
        Ok(Action::None)
    }

    fn simple(&self, id: u32, dn: &str, password: &[u8]) -> Result<Result<Action, Outcome>, Failure> {
        if password.is_empty() {
            // A name without a password proves nothing (RFC 4513 section 5.1.2).
            let outcome = if dn.is_empty() {
                Outcome::success()
            } else {
                Outcome::new(ResultCode::UnwillingToPerform, "a name needs a password")
            };
            return Ok(Err(outcome));
        }
        if !(self.link.private || self.config.plain_passwords) {
            return Ok(Err(Outcome::new(
                ResultCode::ConfidentialityRequired,
                "passwords are taken over TLS only: start TLS first",
            )));
        }
        let schema = self.directory.schema();
        let Some((name, key)) = schema.name_and_key(dn) else {
            return Ok(Err(Outcome::new(ResultCode::InvalidDnSyntax, "this is no name")));
        };
        let credentials = self.directory.credentials(&key)?;
        Ok(Ok(Action::Verify(Verification {
            id,
            name: key.clone(),
            who: Identity::Entry { dn: name.into(), key },
            credentials,
            password: Zeroizing::new(password.to_vec()),
        })))
    }

    fn external(&mut self, authorization: &[u8]) -> Outcome {
        let Some(peer) = self.link.peer else {
            return Outcome::new(
                ResultCode::InappropriateAuthentication,
                "SASL EXTERNAL works over the local socket",
            );
        };
        let who = self.directory.peer(peer);
        let own = format!("dn:{}", who.dn());
        if !(authorization.is_empty() || authorization.eq_ignore_ascii_case(own.as_bytes())) {
            return Outcome::new(ResultCode::InvalidCredentials, "nobody else can be spoken for");
        }
        self.who = who;
        Outcome::success()
    }

    /// Takes the outcome of a verification.
    pub(crate) fn bound(&mut self, id: u32, who: Identity, verified: Result<bool, Outcome>, out: &mut Answers) {
        let outcome = match verified {
            Ok(true) => {
                self.who = who;
                Outcome::success()
            }
            Ok(false) => ResultCode::InvalidCredentials.into(),
            Err(outcome) => outcome,
        };
        reply::result(out, id, reply::BIND, &outcome, &[]);
    }

    pub(crate) fn may_read(&self) -> bool {
        !(self.config.refuse_anonymous && self.who == Identity::Anonymous)
    }

    fn compare(&self, dn: &str, attribute: &str, value: &[u8], assertion: Option<&Filter>) -> Result<Outcome, Failure> {
        if !self.may_read() {
            return Ok(Outcome::new(ResultCode::StrongerAuthRequired, "bind first"));
        }
        let schema = self.directory.schema();
        let Some(key) = schema.dn_key_of(dn) else {
            return Ok(Outcome::new(ResultCode::InvalidDnSyntax, "this is no name"));
        };
        let Ok(name) = AttributeName::parse(attribute) else {
            return Ok(ResultCode::UndefinedAttributeType.into());
        };
        if assertion.is_none()
            && self.directory.visibility(&self.who, key.as_bytes()) == Visibility::Whole
            && let Some(equal) = self.directory.has_value(&key, &name, value)?
        {
            let code = if equal {
                ResultCode::CompareTrue
            } else {
                ResultCode::CompareFalse
            };
            return Ok(code.into());
        }
        let equality = Matcher::new(&schema, &Filter::Equality(name.clone(), Value::from(value.to_vec())));
        let present = Matcher::new(&schema, &Filter::Present(name));
        let asserted = assertion.map(|filter| Matcher::new(&schema, filter));
        let usable_for = |purpose, key: &[u8]| {
            let usable = self.directory.usable(&self.who, key, purpose);
            usable.unwrap_or_else(|| self.directory.visibility(&self.who, key))
        };
        let mut code = None;
        self.directory.lookup(&key, &mut |stored| {
            let mut emitter = crate::emit::Emitter::new(
                0,
                self.who.clone(),
                schema.clone(),
                Matching::Ready(Matcher::new(&schema, &Filter::And(Vec::new()))),
                crate::select::Selection::new(&schema, [], false),
            );
            let usable = usable_for(Purpose::Compare, stored.key);
            // An assertion is a filter: it takes what filters may use, which can be less.
            let holds = asserted.as_ref().is_none_or(|matcher| {
                let searched = usable_for(Purpose::Search, stored.key);
                let truth = emitter.matching_as(&searched, stored, false, |_, seen| {
                    matcher.matches(&schema, subject(&seen))
                });
                truth == Some(Truth::True)
            });
            code = emitter.matching_as(&usable, stored, false, |_, seen| {
                let subject = subject(&seen);
                if !holds {
                    return ResultCode::AssertionFailed;
                }
                match equality.matches(&schema, subject) {
                    Truth::True => ResultCode::CompareTrue,
                    _ if schema.equality(attribute).is_none() => ResultCode::InappropriateMatching,
                    Truth::Undefined => ResultCode::InvalidAttributeSyntax,
                    Truth::False if present.matches(&schema, subject) == Truth::True => ResultCode::CompareFalse,
                    Truth::False => ResultCode::NoSuchAttribute,
                }
            });
        })?;
        match code {
            Some(code) => Ok(code.into()),
            None => {
                let dn = Dn::parse(dn).unwrap_or_default();
                Ok(missing(self.directory.as_ref(), &schema, &self.who, &dn)?
                    .unwrap_or_else(|| ResultCode::NoSuchObject.into()))
            }
        }
    }

    /// Works off one batch of every search under way.
    pub(crate) fn step(&mut self, out: &mut Answers) {
        for search in std::mem::take(&mut self.running) {
            self.run(search, out);
        }
    }

    /// Works off one batch, and keeps the search when there is more.
    pub(crate) fn run(&mut self, mut search: Search, out: &mut Answers) {
        let id = search.emitter.id;
        let (outcome, controls) = match search.step(self.directory.as_ref(), out) {
            Ok(Step::More) => return self.running.push(search),
            Ok(Step::Persist) => return self.consumers.push(search),
            Ok(Step::Page(controls, keys)) => {
                self.sorted = Some(keys);
                (Outcome::success(), controls)
            }
            Ok(Step::Done(outcome, controls)) => (outcome, controls),
            Err(failure) => (unavailable(&failure), Vec::new()),
        };
        reply::result(out, id, reply::SEARCH_DONE, &outcome, &controls);
    }

    /// Tells consumers what changed.
    pub(crate) fn follow(&mut self, out: &mut Answers) {
        let directory = Arc::clone(&self.directory);
        self.consumers.retain_mut(|search| {
            let query = Query {
                base: &search.base.key,
                scope: search.scope,
                filter: &search.filter,
                after: None,
                wants: crate::Wants::default(),
            };
            let followed = match &mut search.sync {
                Some(sync) => sync.follow(directory.as_ref(), &mut search.emitter, &query, out),
                None => Ok(Some(Outcome::success())),
            };
            let ended = followed.unwrap_or_else(|failure| Some(unavailable(&failure)));
            if let Some(outcome) = &ended {
                reply::result(out, search.emitter.id, reply::SEARCH_DONE, outcome, &[]);
            }
            ended.is_none()
        });
    }
}

/// The client learns that it should come back; the log learns why.
pub(crate) fn unavailable(failure: &Failure) -> Outcome {
    if failure.0.is::<NotReady>() {
        tracing::debug!("ldap.directory.not_ready");
    } else {
        tracing::error!(error = %failure.0, "ldap.directory.failed");
    }
    Outcome::new(ResultCode::Unavailable, "the directory cannot answer now")
}
