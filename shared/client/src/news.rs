//! What a host has heard of its tenant's state, and what follows from it: pure.

use std::time::{Duration, Instant};

use dirless_wire::{ETag, Notice};

/// Most looks after a notice that leads to nothing.
const LOOKS: u32 = 4;
/// The pause before the second look; it doubles with each.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What the backend has said of the tenant's state: one tag over everything that hosts read. In memory
/// only, so that the first cycle of a process asks for everything.
#[derive(Debug, Default)]
pub struct TenantState {
    /// The tag came with the last heartbeat; deployed backends send none.
    latest: Option<ETag>,
    /// The tag that was there before a cycle which left nothing to be done.
    settled: Option<ETag>,
}

impl TenantState {
    /// Takes what came with the answer to a heartbeat, `None` for no answer too.
    pub fn heard(&mut self, tag: Option<ETag>) {
        self.latest = tag;
    }

    /// Does the backend tell it? Then a cycle begins with a heartbeat.
    #[must_use]
    pub fn is_told(&self) -> bool {
        self.latest.is_some()
    }

    /// Was nothing left to be done in this state?
    #[must_use]
    pub fn is_settled(&self, tag: Option<&ETag>) -> bool {
        tag.is_some() && tag == self.settled.as_ref()
    }

    /// A cycle that began in this state left nothing to be done.
    pub fn settle(&mut self, tag: Option<&ETag>) {
        self.settled = tag.cloned();
    }

    /// The next cycle has to ask for everything.
    pub fn unsettle(&mut self) {
        self.settled = None;
    }

    /// Does a notice tell of something that the last cycles have not seen to?
    #[must_use]
    pub fn is_news(&self, notice: &Notice) -> bool {
        match notice {
            Notice::State(tag) => !self.is_settled(Some(tag)),
            Notice::Head(_) | Notice::Changed => true,
        }
    }

    /// Is a notice of something that the backend which was asked did not know of?
    #[must_use]
    pub fn is_ahead(&self, notice: &Notice) -> bool {
        matches!(notice, Notice::State(tag) if self.latest.as_ref() != Some(tag))
    }
}

/// How many notices in a row call a cycle at once.
const AT_ONCE: u32 = 8;
/// How far apart cycles are that more of them call.
const APART: Duration = Duration::from_secs(2);

/// Keeps notices from calling cycles back to back: changes in earnest come a few at a time, and whoever sends more, by mistake
/// or not, must not keep hosts busy.
#[derive(Debug, Default)]
pub struct Calls {
    /// When as many are due as have been let through.
    due: Option<Instant>,
}

impl Calls {
    /// A notice came `now`: the pause before the cycle it calls for, none for one at once.
    pub fn pause(&mut self, now: Instant) -> Option<Duration> {
        let due = self.due.unwrap_or(now).max(now);
        if due.duration_since(now) > APART * (AT_ONCE - 1) {
            return Some(APART);
        }
        self.due = Some(due + APART);
        None
    }
}

/// Looking again after a notice of something that the cycle after it did not find: another backend than the one that
/// told may be asked, and hear of it a moment later.
#[derive(Debug, Default)]
pub struct Looks(Option<(Notice, u32)>);

impl Looks {
    /// A cycle was begun because of `notice`.
    pub fn begin(&mut self, notice: Notice) {
        self.0 = Some((notice, 0));
    }

    /// After a cycle: the pause before the next, when that should come before its time.
    pub fn pause(&mut self, is_ahead: impl FnOnce(&Notice) -> bool) -> Option<Duration> {
        let (notice, looks) = self.0.take()?;
        if looks >= LOOKS || !is_ahead(&notice) {
            return None;
        }
        self.0 = Some((notice, looks + 1));
        Some(LOOK_AGAIN * (1 << looks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(text: &str) -> ETag {
        ETag::parse(text).unwrap()
    }

    #[test]
    fn a_few_notices_call_at_once_and_a_flood_calls_at_a_pace() {
        let start = Instant::now();
        let mut calls = Calls::default();
        let at_once = (0..100).filter(|_| calls.pause(start).is_none()).count();
        assert_eq!(at_once, 8);
        assert_eq!(calls.pause(start), Some(APART));
        let later = start + Duration::from_secs(60);
        assert!((0..8).all(|_| calls.pause(later).is_none()) && calls.pause(later).is_some());
        // Ten a second for ten minutes.
        let mut calls = Calls::default();
        let at = |tenths: u32| start + Duration::from_millis(100) * tenths;
        let called = (0..6000).filter(|tenths| calls.pause(at(*tenths)).is_none()).count();
        assert!((290..=310).contains(&called), "{called}");
    }

    #[test]
    fn a_state_is_news_until_a_cycle_that_began_in_it_left_nothing() {
        let (old, new) = (tag("\"a\""), tag("\"b\""));
        let mut state = TenantState::default();
        assert!(!state.is_told() && !state.is_settled(None));
        state.heard(Some(old.clone()));
        assert!(state.is_told() && state.is_news(&Notice::State(old.clone())));
        state.settle(Some(&old));
        assert!(!state.is_news(&Notice::State(old.clone())) && state.is_news(&Notice::State(new.clone())));
        assert!(state.is_ahead(&Notice::State(new)) && !state.is_ahead(&Notice::State(old.clone())));
        assert!(state.is_news(&Notice::Changed) && !state.is_ahead(&Notice::Changed));
        state.unsettle();
        assert!(state.is_news(&Notice::State(old)));
        state.settle(None);
        assert!(!state.is_settled(None), "a backend that tells nothing settles nothing");
    }

    #[test]
    fn a_notice_that_leads_to_nothing_is_looked_after_a_few_times_and_further_apart() {
        let mut looks = Looks::default();
        assert_eq!(looks.pause(|_| true), None);
        looks.begin(Notice::Changed);
        let pauses: Vec<u64> = std::iter::from_fn(|| looks.pause(|_| true))
            .map(|pause| pause.as_secs())
            .collect();
        assert_eq!(pauses, [1, 2, 4, 8]);
        looks.begin(Notice::Changed);
        assert!(looks.pause(|_| true).is_some());
        assert_eq!(looks.pause(|_| false), None, "found");
        assert_eq!(looks.pause(|_| true), None);
    }
}
