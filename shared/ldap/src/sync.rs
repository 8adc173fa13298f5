//! Content synchronisation (RFC 4533): a consumer gets the whole content or what changed, and may stay
//! to be told of every further change.

use std::vec::IntoIter;

use dirless_directory::DnKey;

use crate::answers::Answers;
use crate::controls::{SYNC_DONE, SYNC_STATE};
use crate::emit::{Emitter, Offered};
use crate::reply::{self, Outcome, ReplyControl, SyncInfo, SyncState};
use crate::search::Step;
use crate::{
    Candidate, ChangeKind, Changed, Directory, Failure, Identity, Query, ResultCode, Scope, State, Visibility,
};

const BATCH: usize = 256;
/// UUIDs in one message.
const SET: usize = 1024;

/// A consumer's state.
pub(crate) struct Synchronising {
    pub(crate) persist: bool,
    /// The state that the refresh leads to, later the one last told.
    pub(crate) state: State,
    /// Only what changed is sent, because the consumer has the rest.
    pub(crate) incremental: bool,
    deleted: Vec<[u8; 16]>,
}

/// The cookie of a state: `lineage#number`, as RootDSE has it in `contextCSN`.
pub(crate) fn cookie(state: &State) -> String {
    format!("{}#{}", state.lineage, state.number)
}

/// The number in a consumer's cookie, if it is of this lineage and not ahead of it.
pub(crate) fn known(state: &State, cookie: Option<&[u8]>) -> Option<u64> {
    let (lineage, number) = std::str::from_utf8(cookie?).ok()?.split_once('#')?;
    let number = number.parse().ok()?;
    (lineage == &*state.lineage && number <= state.number).then_some(number)
}

impl Synchronising {
    pub(crate) fn new(persist: bool, state: State, incremental: bool) -> Self {
        Self {
            persist,
            state,
            incremental,
            deleted: Vec::new(),
        }
    }

    /// Sends a batch of what changed since the consumer's cookie; true when that was all.
    pub(crate) fn refresh(
        &mut self,
        directory: &dyn Directory,
        emitter: &mut Emitter,
        base: &DnKey,
        scope: Scope,
        changes: &mut IntoIter<Changed>,
        out: &mut Answers,
    ) -> Result<bool, Failure> {
        for changed in changes.by_ref().take(BATCH) {
            if !send(directory, emitter, base, scope, &changed, out)? {
                self.deleted.push(changed.uuid);
            }
        }
        let end = changes.len() == 0;
        while self.deleted.len() >= SET || (end && !self.deleted.is_empty()) {
            let rest = self.deleted.split_off(self.deleted.len().min(SET));
            reply::sync_info(out, emitter.id, &SyncInfo::Deleted(&self.deleted));
            self.deleted = rest;
        }
        Ok(end)
    }

    /// Tells that the refresh is over.
    pub(crate) fn refreshed(&self, id: u32, out: &mut Answers) -> Step {
        let cookie = cookie(&self.state);
        if self.persist {
            let info = if self.incremental {
                SyncInfo::RefreshDelete(&cookie)
            } else {
                SyncInfo::RefreshPresent(&cookie)
            };
            reply::sync_info(out, id, &info);
            return Step::Persist;
        }
        let control = ReplyControl {
            oid: SYNC_DONE,
            value: reply::sync_done_value(&cookie, self.incremental),
        };
        Step::Done(Outcome::success(), vec![control])
    }

    /// Tells a consumer that stayed what changed since; the outcome that ends it when that is not
    /// known any more.
    pub(crate) fn follow(
        &mut self,
        directory: &dyn Directory,
        emitter: &mut Emitter,
        query: &Query<'_>,
        out: &mut Answers,
    ) -> Result<Option<Outcome>, Failure> {
        let state = directory.state().borrow().clone();
        if state == self.state {
            return Ok(None);
        }
        let changes = if state.lineage == self.state.lineage {
            directory.changes(self.state.number)?
        } else {
            None
        };
        let Some(changes) = changes else {
            return Ok(Some(Outcome::new(
                ResultCode::SyncRefreshRequired,
                "the changes since are not known any more: refresh",
            )));
        };
        self.state = state;
        let cookie = cookie(&self.state);
        let last = changes.len().saturating_sub(1);
        for (at, changed) in changes.iter().enumerate() {
            let told = (at == last).then_some(cookie.as_str());
            if !send(directory, emitter, query.base, query.scope, changed, out)? {
                put_deleted(directory, emitter, query, changed, told, out);
            }
        }
        Ok(None)
    }
}

/// Sends a changed entry if it is there and of the content.
fn send(
    directory: &dyn Directory,
    emitter: &mut Emitter,
    base: &DnKey,
    scope: Scope,
    changed: &Changed,
    out: &mut Answers,
) -> Result<bool, Failure> {
    emitter.sync = Some(match changed.kind {
        ChangeKind::Added => SyncState::Add,
        ChangeKind::Modified => SyncState::Modify,
        ChangeKind::Deleted => return Ok(false),
    });
    if !scope.holds(base, changed.key.as_bytes()) {
        return Ok(false);
    }
    let mut offered = Offered::Passed;
    directory.lookup(&changed.key, &mut |stored| {
        offered = emitter.offer(directory, Candidate::alone(stored), out);
    })?;
    emitter.finish(directory, out)?;
    Ok(offered == Offered::Taken)
}

/// Sends that an entry is gone. Its name is told only to those who could have seen it.
fn put_deleted(
    directory: &dyn Directory,
    emitter: &Emitter,
    query: &Query<'_>,
    changed: &Changed,
    cookie: Option<&str>,
    out: &mut Answers,
) {
    let key = changed.key.as_bytes();
    let seen = |who: &Identity| directory.visibility(who, key) != Visibility::Hidden;
    let dn = if query.scope.holds(query.base, key) && seen(&emitter.who) {
        &*changed.dn
    } else {
        ""
    };
    let control = ReplyControl {
        oid: SYNC_STATE,
        value: reply::sync_state_value(SyncState::Delete, &changed.uuid, cookie),
    };
    reply::entry(out, emitter.id, dn, &[], &[control]);
}
