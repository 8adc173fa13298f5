//! A search under way. It goes on in batches, so that a big one holds up nobody else.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::vec::IntoIter;

use dirless_directory::encoded::Attributes;
use dirless_directory::{Dn, DnKey, Filter, Schema};
use tokio::time::Instant;

use crate::answers::Answers;
use crate::controls::{PAGED, SORT_RESULT};
use crate::emit::{Emitter, Offered};
use crate::reply::{self, Outcome, ReplyControl};
use crate::select::Wanted;
use crate::sort::Sorting;
use crate::sync::Synchronising;
use crate::{Candidate, Changed, Directory, Failure, Query, ResultCode, Scope, Stored};

/// Bytes of answers after which a batch ends.
const BATCH_BYTES: usize = 256 * 1024;
/// Entries after whose inspection a batch ends; without an index each costs a few microseconds.
const BATCH_VISITS: usize = 2048;
/// Entries of a batch that each need further look-ups.
const BATCH_COLLECTED: usize = 128;

/// A search with all that it has to remember between batches.
pub(crate) struct Search {
    pub(crate) emitter: Emitter,
    pub(crate) base: Arc<Base>,
    pub(crate) scope: Scope,
    pub(crate) filter: Arc<Filter>,
    /// The attributes that are looked at; none when it is all of them.
    pub(crate) wanted: Option<Arc<[Wanted]>>,
    pub(crate) plan: Plan,
    /// Key of the last entry looked at.
    pub(crate) after: Option<Vec<u8>>,
    pub(crate) deadline: Option<Instant>,
    /// Whether the limit of entries is the server's and not the client's.
    pub(crate) limited_by_server: bool,
    /// Whether the results are asked for in pages.
    pub(crate) paged: bool,
    pub(crate) sync: Option<Synchronising>,
    /// The outcome of sorting, to be told at the end.
    pub(crate) sort_result: Option<ResultCode>,
}

/// A base as it was asked for. Clients ask below the same one again and again.
#[derive(Debug)]
pub(crate) struct Base {
    pub(crate) text: Box<str>,
    pub(crate) dn: Dn,
    pub(crate) key: DnKey,
    /// What the key was made by.
    pub(crate) schema: Schema,
}

/// Where the entries come from.
pub(crate) enum Plan {
    /// In key order, from the directory.
    Scan,
    /// These, in this order.
    Keys { keys: Arc<[DnKey]>, next: usize },
    /// Not yet: all of them are read first.
    Sort(Sorting),
    /// One that the server itself has.
    Own { dn: &'static str, encoded: Vec<u8> },
    /// What changed, for a consumer.
    Changes(IntoIter<Changed>),
}

/// How a batch ended.
pub(crate) enum Step {
    /// There is more to come.
    More,
    /// Answered.
    Done(Outcome, Vec<ReplyControl>),
    /// As [`Step::Done`], and the rest of a sorted result is asked for later.
    Page(Vec<ReplyControl>, Arc<[DnKey]>),
    /// The refresh is over and the consumer stays.
    Persist,
}

enum Batch {
    Full,
    End,
    Page,
    Limit,
}

impl Search {
    /// Works off one batch.
    pub(crate) fn step(&mut self, directory: &dyn Directory, out: &mut Answers) -> Result<Step, Failure> {
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok(self.done(ResultCode::TimeLimitExceeded.into()));
        }
        if let Plan::Sort(sorting) = &mut self.plan {
            let query = Query {
                base: &self.base.key,
                scope: self.scope,
                filter: &self.filter,
                after: self.after.as_deref(),
                wants: crate::Wants::default(),
            };
            return match sorting.step(directory, &query, &mut self.emitter)? {
                crate::sort::Step::More(after) => {
                    self.after = Some(after);
                    Ok(Step::More)
                }
                crate::sort::Step::TooMany => Ok(self.done(ResultCode::AdminLimitExceeded.into())),
                crate::sort::Step::Sorted(keys) => {
                    self.plan = Plan::Keys { keys, next: 0 };
                    Ok(Step::More)
                }
            };
        }
        let batch = match &mut self.plan {
            Plan::Scan => self.scan(directory, out)?,
            Plan::Keys { .. } => self.keys(directory, out)?,
            Plan::Own { dn, encoded } => own(&mut self.emitter, dn, encoded, out),
            Plan::Changes(changes) => match &mut self.sync {
                Some(sync) => {
                    if sync.refresh(directory, &mut self.emitter, &self.base.key, self.scope, changes, out)? {
                        Batch::End
                    } else {
                        Batch::Full
                    }
                }
                None => Batch::End,
            },
            Plan::Sort(_) => Batch::Full,
        };
        self.emitter.finish(directory, out)?;
        self.ended(directory, &batch, out)
    }

    fn ended(&mut self, directory: &dyn Directory, batch: &Batch, out: &mut Answers) -> Result<Step, Failure> {
        match batch {
            Batch::Full => Ok(Step::More),
            Batch::Limit if self.limited_by_server => Ok(self.done(Outcome::new(
                ResultCode::AdminLimitExceeded,
                "more entries match than the server sends at once: ask for pages",
            ))),
            Batch::Limit => Ok(self.done(ResultCode::SizeLimitExceeded.into())),
            Batch::Page => {
                let mut controls = self.final_controls();
                if let Plan::Keys { keys, next } = &self.plan
                    && self.sort_result.is_some()
                {
                    controls.push(ReplyControl {
                        oid: PAGED,
                        value: reply::paged_value(format!("s{next}").as_bytes()),
                    });
                    return Ok(Step::Page(controls, Arc::clone(keys)));
                }
                let cookie = [b"k", self.after.as_deref().unwrap_or_default()].concat();
                controls.push(ReplyControl {
                    oid: PAGED,
                    value: reply::paged_value(&cookie),
                });
                Ok(Step::Done(Outcome::success(), controls))
            }
            Batch::End => {
                if self.emitter.sent == 0
                    && let Some(outcome) = self.missing_base(directory)?
                {
                    return Ok(self.done(outcome));
                }
                if let Some(sync) = &self.sync {
                    return Ok(sync.refreshed(self.emitter.id, out));
                }
                let mut done = self.done(Outcome::success());
                if let (true, Step::Done(_, controls)) = (self.paged, &mut done) {
                    controls.push(ReplyControl {
                        oid: PAGED,
                        value: reply::paged_value(b""),
                    });
                }
                Ok(done)
            }
        }
    }

    fn final_controls(&self) -> Vec<ReplyControl> {
        let sort = self.sort_result.map(|code| ReplyControl {
            oid: SORT_RESULT,
            value: reply::sort_value(code),
        });
        sort.into_iter().collect()
    }

    fn done(&self, outcome: Outcome) -> Step {
        Step::Done(outcome, self.final_controls())
    }

    /// Only a search that found nothing has to ask whether its base is there at all.
    fn missing_base(&self, directory: &dyn Directory) -> Result<Option<Outcome>, Failure> {
        if matches!(self.plan, Plan::Own { .. }) || self.base.dn.is_root() || self.after_page() {
            return Ok(None);
        }
        missing(directory, &self.emitter.schema, &self.emitter.who, &self.base.dn)
    }

    /// A page that starts after an entry has found its base before.
    fn after_page(&self) -> bool {
        self.paged && self.after.is_some()
    }

    fn scan(&mut self, directory: &dyn Directory, out: &mut Answers) -> Result<Batch, Failure> {
        let wanted = self.wanted.clone();
        let wants = |name: &str| wanted.iter().flat_map(|wanted| wanted.iter()).any(|one| one.fits(name));
        let query = Query {
            base: &self.base.key,
            scope: self.scope,
            filter: &self.filter,
            after: self.after.as_deref(),
            wants: crate::Wants {
                names: wanted.is_some().then_some(&wants),
                apart: self.emitter.takes_apart(),
            },
        };
        let start = out.size();
        let mut batch = Batch::End;
        let mut visits = 0;
        let mut last: Vec<u8> = Vec::new();
        let emitter = &mut self.emitter;
        directory.candidates(&query, &mut |candidate| {
            match emitter.offer(directory, candidate, out) {
                Offered::Taken | Offered::Passed => {}
                Offered::PageFull => {
                    batch = Batch::Page;
                    return ControlFlow::Break(());
                }
                Offered::LimitReached => {
                    batch = Batch::Limit;
                    return ControlFlow::Break(());
                }
            }
            visits += 1;
            last.clear();
            last.extend_from_slice(candidate.stored.key);
            if visits >= BATCH_VISITS || out.size() - start >= BATCH_BYTES || emitter.waiting() >= BATCH_COLLECTED {
                batch = Batch::Full;
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        if visits > 0 {
            self.after = Some(last);
        }
        Ok(batch)
    }

    fn keys(&mut self, directory: &dyn Directory, out: &mut Answers) -> Result<Batch, Failure> {
        let Plan::Keys { keys, next } = &mut self.plan else {
            return Ok(Batch::End);
        };
        let start = out.size();
        let mut visits = 0;
        while let Some(key) = keys.get(*next) {
            if visits >= BATCH_VISITS || out.size() - start >= BATCH_BYTES || self.emitter.waiting() >= BATCH_COLLECTED
            {
                return Ok(Batch::Full);
            }
            visits += 1;
            let mut offered = Offered::Passed;
            let emitter = &mut self.emitter;
            directory.lookup(key, &mut |stored| {
                offered = emitter.offer(directory, Candidate::alone(stored), out)
            })?;
            match offered {
                Offered::PageFull => return Ok(Batch::Page),
                Offered::LimitReached => return Ok(Batch::Limit),
                Offered::Taken | Offered::Passed => {
                    *next += 1;
                    self.after = Some(key.as_bytes().to_vec());
                }
            }
        }
        Ok(Batch::End)
    }
}

fn own(emitter: &mut Emitter, dn: &'static str, encoded: &[u8], out: &mut Answers) -> Batch {
    if let Ok(attributes) = Attributes::new(encoded) {
        let stored = Stored {
            key: &[],
            dn,
            attributes,
        };
        if emitter.offer_own(stored, out) == Offered::LimitReached {
            return Batch::Limit;
        }
    }
    Batch::End
}

/// The outcome when there is no entry of that name that the client may see: how far down the tree its
/// name leads (RFC 4511 section 4.1.9). None when it is there.
pub(crate) fn missing(
    directory: &dyn Directory,
    schema: &Schema,
    who: &crate::Identity,
    dn: &Dn,
) -> Result<Option<Outcome>, Failure> {
    let mut name = dn.clone();
    let mut below = false;
    loop {
        let mut found = None;
        if let Some(key) = schema.dn_key(&name) {
            directory.lookup(&key, &mut |stored| {
                if directory.visibility(who, stored.key) != crate::Visibility::Hidden {
                    found = Some(stored.dn.to_owned());
                }
            })?;
        }
        if found.is_some() && !below {
            return Ok(None);
        }
        let parent = name.parent().filter(|parent| !parent.is_root());
        match (found, parent) {
            (None, Some(parent)) => name = parent,
            (found, _) => {
                let mut outcome = Outcome::from(ResultCode::NoSuchObject);
                outcome.matched = found.unwrap_or_default();
                return Ok(Some(outcome));
            }
        }
        below = true;
    }
}
