//! From a search request to a search: the plan, the limits, and what the controls change.

use std::sync::Arc;

use dirless_directory::encoded::Matcher;
use dirless_directory::{Dn, DnKey, Filter, Schema};
use tokio::time::{Duration, Instant};

use crate::answers::Answers;
use crate::controls::Controls;
use crate::emit::{Emitter, Matching};
use crate::reply::{self, Outcome, SyncState};
use crate::request::SearchRequest;
use crate::root::{self, Offered};
use crate::search::{Base, Plan, Search};
use crate::select::{Selection, Wanted};
use crate::session::Session;
use crate::sort::Sorting;
use crate::sync::{Synchronising, known};
use crate::{Failure, ResultCode, Scope};

/// Matches in chain in one filter.
const CHAINS: usize = 8;

impl Session {
    /// Begins a search and works off its first batch, which for most is all.
    pub(crate) fn search(
        &mut self,
        id: u32,
        request: SearchRequest<'_>,
        controls: Controls,
        out: &mut Answers,
    ) -> Result<(), Failure> {
        match self.begin(id, request, controls)? {
            Ok(search) => self.run(search, out),
            Err(outcome) => reply::result(out, id, reply::SEARCH_DONE, &outcome, &[]),
        }
        Ok(())
    }

    fn begin(
        &mut self,
        id: u32,
        request: SearchRequest<'_>,
        controls: Controls,
    ) -> Result<Result<Search, Outcome>, Failure> {
        let schema = self.directory.schema();
        let Some(base) = self.base(&schema, request.base) else {
            return Ok(Err(Outcome::new(
                ResultCode::InvalidDnSyntax,
                "the search base is no name",
            )));
        };
        let filter = Arc::new(request.filter);
        let matcher = self.matcher(&schema, &filter)?;
        let selection = Selection::new(&schema, request.attributes.iter().copied(), request.types_only)
            .with_matched_values(controls.matched_values);
        let plan = self.plan(&schema, &base.key, &base.dn, request.scope, &matcher);
        if !self.may_read() && !matches!(plan, Plan::Own { .. }) {
            return Ok(Err(Outcome::new(ResultCode::StrongerAuthRequired, "bind first")));
        }
        let mut emitter = Emitter::new(id, self.who.clone(), schema.clone(), matcher, selection);
        emitter.dereference = controls
            .dereference
            .into_iter()
            .map(|one| {
                let names: Vec<&str> = one.wanted.iter().map(String::as_str).collect();
                (one.attribute, Selection::new(&schema, names, false))
            })
            .collect();
        let followed = emitter.dereference.iter().map(|(name, _)| Wanted::new(&schema, name));
        let wanted = emitter.selection.wanted(followed);
        if let Some(filter) = controls.assertion
            && let Some(outcome) = self.asserted(&base.dn, &base.key, &filter)?
        {
            return Ok(Err(outcome));
        }
        let limits = &self.config.limits;
        let asked = usize::try_from(request.size_limit).unwrap_or(usize::MAX);
        let limited_by_server = asked == 0 || asked > limits.entries;
        emitter.left = if limited_by_server { limits.entries } else { asked };
        let asked = Duration::from_secs(u64::from(request.time_limit));
        let time = if asked.is_zero() {
            limits.time
        } else {
            asked.min(limits.time)
        };
        let mut search = Search {
            emitter,
            base,
            scope: request.scope,
            filter,
            wanted,
            plan,
            after: None,
            deadline: Some(Instant::now() + time),
            limited_by_server,
            paged: false,
            sync: None,
            sort_result: None,
        };
        if request.without_base {
            // Keys sort after the key of what they are below.
            search.after = Some(search.base.key.as_bytes().to_vec());
            if let Plan::Keys { keys, next } = &mut search.plan {
                *next = usize::from(keys.first() == Some(&search.base.key));
            }
        }
        let prepared = self
            .sorted_by(&mut search, controls.sort)
            .and_then(|()| self.paged_by(&mut search, controls.paged));
        if let Err(outcome) = prepared {
            return Ok(Err(outcome));
        }
        match controls.sync {
            None => Ok(Ok(search)),
            Some(sync) => self.synchronised_by(search, &sync),
        }
    }

    /// The base that a text names; none when it is no name.
    fn base(&mut self, schema: &Schema, text: &str) -> Option<Arc<Base>> {
        if let Some(last) = &self.base
            && *last.text == *text
            && last.schema.shares(schema)
        {
            return Some(Arc::clone(last));
        }
        let dn = Dn::parse(text).ok()?;
        let base = Arc::new(Base {
            text: text.into(),
            key: schema.dn_key(&dn)?,
            dn,
            schema: schema.clone(),
        });
        self.base = Some(Arc::clone(&base));
        Some(base)
    }

    /// Prepares the filter. What looks beyond one entry is resolved first; without such a thing the
    /// store may answer by itself, and nothing is prepared before it is needed.
    fn matcher(&self, schema: &Schema, filter: &Arc<Filter>) -> Result<Matching, Failure> {
        if !looks_beyond(filter) {
            return Ok(Matching::Pending(Arc::clone(filter)));
        }
        let mut failed = None;
        let mut chains = 0;
        let matcher = Matcher::with_sets(schema, filter, |extensible| {
            // Each chain walks the directory; a filter of hundreds of them is no honest question, and
            // the further ones are Undefined.
            if chains == CHAINS {
                return None;
            }
            chains += usize::from(extensible.rule.as_deref() == Some(crate::chain::IN_CHAIN));
            match crate::chain::entries(self.directory.as_ref(), schema, &self.who, extensible)? {
                Ok(set) => Some(set),
                Err(failure) => {
                    failed = Some(failure);
                    None
                }
            }
        });
        match failed {
            Some(failure) => Err(failure),
            None => Ok(Matching::Ready(matcher)),
        }
    }

    fn plan(&self, schema: &Schema, base: &DnKey, base_dn: &Dn, scope: Scope, matcher: &Matching) -> Plan {
        if base_dn.is_root() && scope == Scope::Base {
            let offered = Offered {
                external: self.link.peer.is_some(),
                start_tls: self.link.start_tls && !self.link.tls,
            };
            let state = self.directory.state().borrow().clone();
            return Plan::Own {
                dn: "",
                encoded: root::root_dse(self.directory.as_ref(), &state, offered),
            };
        }
        // Its name has one component: for most searches that settles it.
        if base_dn.rdns().len() == 1
            && scope != Scope::OneLevel
            && base.as_bytes().starts_with(b"cn=")
            && root::subschema_key(schema).is_some_and(|key| key == *base)
        {
            return Plan::Own {
                dn: root::SUBSCHEMA_DN,
                encoded: root::subschema(schema),
            };
        }
        let keys = |mut keys: Vec<DnKey>| {
            keys.sort_unstable();
            Plan::Keys {
                keys: keys.into(),
                next: 0,
            }
        };
        if base_dn.is_root() && scope == Scope::OneLevel {
            // Right below the root are the naming contexts, however many components their names have.
            let contexts = self.directory.naming_contexts();
            return keys(contexts.iter().filter_map(|dn| schema.dn_key(dn)).collect());
        }
        match matcher.bound() {
            Some(set) => {
                let within = set.iter().filter(|key| scope.holds(base, key.as_bytes()));
                keys(within.cloned().collect())
            }
            None => Plan::Scan,
        }
    }

    fn asserted(&self, dn: &Dn, key: &DnKey, filter: &Filter) -> Result<Option<Outcome>, Failure> {
        let schema = self.directory.schema();
        let mut emitter = Emitter::new(
            0,
            self.who.clone(),
            schema.clone(),
            Matching::Ready(Matcher::new(&schema, filter)),
            Selection::new(&schema, [], false),
        );
        let mut holds = None;
        self.directory.lookup(key, &mut |stored| {
            let matched = emitter.matching(self.directory.as_ref(), stored, false, |_, _| ());
            holds = Some(matched.is_some());
        })?;
        match holds {
            Some(true) => Ok(None),
            Some(false) => Ok(Some(ResultCode::AssertionFailed.into())),
            None => crate::search::missing(self.directory.as_ref(), &schema, &self.who, dn),
        }
    }

    fn sorted_by(&self, search: &mut Search, sort: Option<crate::controls::Sort>) -> Result<(), Outcome> {
        let Some(sort) = sort else { return Ok(()) };
        match Sorting::new(&search.emitter.schema, &sort, self.config.limits.sorted) {
            Err(code) if sort.critical => Err(Outcome::new(
                ResultCode::UnavailableCriticalExtension,
                format!("the order cannot be made: result {}", code.number()),
            )),
            Err(code) => {
                search.sort_result = Some(code);
                Ok(())
            }
            Ok(sorting) => {
                search.sort_result = Some(ResultCode::Success);
                if matches!(search.plan, Plan::Scan) {
                    search.plan = Plan::Sort(sorting);
                }
                Ok(())
            }
        }
    }

    fn paged_by(&self, search: &mut Search, paged: Option<crate::controls::Paged>) -> Result<(), Outcome> {
        let Some(paged) = paged else { return Ok(()) };
        search.paged = true;
        if paged.size == 0 {
            // The client asks how many there are, or gives up (RFC 2696 section 3): neither sends any.
            search.emitter.page_left = 0;
            search.plan = Plan::Keys {
                keys: Arc::from([]),
                next: 0,
            };
            search.after = Some(Vec::new());
            return Ok(());
        }
        search.emitter.page_left = usize::try_from(paged.size).unwrap_or(usize::MAX);
        let wrong = || Outcome::new(ResultCode::UnwillingToPerform, "the page cookie is not of this result");
        match paged.cookie.split_first() {
            None => Ok(()),
            Some((b'k', key)) => {
                if let Plan::Keys { keys, next } = &mut search.plan {
                    *next = keys.partition_point(|one| one.as_bytes() <= key);
                }
                search.after = Some(key.to_vec());
                Ok(())
            }
            Some((b's', number)) => {
                let next = std::str::from_utf8(number).ok().and_then(|text| text.parse().ok());
                let keys = self.sorted.clone();
                let (next, keys) = next.zip(keys).ok_or_else(wrong)?;
                search.after = Some(Vec::new());
                search.plan = Plan::Keys { keys, next };
                Ok(())
            }
            Some(_) => Err(wrong()),
        }
    }

    fn synchronised_by(
        &self,
        mut search: Search,
        sync: &crate::controls::Sync,
    ) -> Result<Result<Search, Outcome>, Failure> {
        if sync.persist && self.consumers.len() >= self.config.limits.consumers {
            return Ok(Err(Outcome::new(
                ResultCode::AdminLimitExceeded,
                "too many consumers on this connection",
            )));
        }
        let state = self.directory.state().borrow().clone();
        let changes = match known(&state, sync.cookie.as_deref()) {
            Some(since) => self.directory.changes(since)?,
            None => None,
        };
        search.sync = Some(Synchronising::new(sync.persist, state, changes.is_some()));
        search.emitter.sync = Some(SyncState::Add);
        search.emitter.left = usize::MAX;
        search.deadline = None;
        if let Some(changes) = changes {
            search.plan = Plan::Changes(changes.into_iter());
        }
        Ok(Ok(search))
    }
}

/// Does a part of the filter depend on more than the entry it is held against?
fn looks_beyond(filter: &Filter) -> bool {
    match filter {
        Filter::And(filters) | Filter::Or(filters) => filters.iter().any(looks_beyond),
        Filter::Not(filter) => looks_beyond(filter),
        Filter::Extensible(_) => true,
        _ => false,
    }
}
