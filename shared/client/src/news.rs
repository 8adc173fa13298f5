//! What a host has heard of its tenant's state, and what follows from it: pure.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use dirless_wire::{ETag, Notice, SourceName, TenantState as Parts};

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
    /// What that state consists of, where a notice told.
    settled_parts: Option<Box<Parts>>,
    /// The last notice that told of parts.
    told: Option<(ETag, Box<Parts>)>,
    /// It has called for a cycle that did not begin yet.
    is_called: bool,
}

/// What a notice tells to have changed since the last settled state: bodies of sources, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    tag: ETag,
    sources: BTreeMap<SourceName, ETag>,
}

impl Changes {
    /// The tag of the state that they lead to.
    #[must_use]
    pub fn tag(&self) -> &ETag {
        &self.tag
    }

    /// Is it among what changed?
    #[must_use]
    pub fn has(&self, source: &SourceName) -> bool {
        self.sources.contains_key(source)
    }

    /// Is this tag of a source's body the one that was told? A backend may be asked that does not know of it yet, or knows a
    /// newer one.
    #[must_use]
    pub fn is_found(&self, source: &SourceName, tag: Option<&ETag>) -> bool {
        let wanted = self.sources.get(source);
        wanted.is_some_and(|wanted| tag.is_some_and(|tag| tag.opaque() == wanted.opaque()))
    }
}

/// The tags of what a cycle found: other backends may have answered than the one that told the state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Of the bodies of sources.
    pub sources: BTreeMap<SourceName, Option<ETag>>,
    /// Of the access rules.
    pub rules: Option<ETag>,
}

impl Found {
    /// Is it what there is in this state? Of what is gone there nothing is asked: it is not believed at once.
    fn is_all_of(&self, parts: &Parts) -> bool {
        let same = |wanted: Option<&ETag>, found: Option<&ETag>| {
            wanted.is_none_or(|wanted| found.is_some_and(|found| found.opaque() == wanted.opaque()))
        };
        let mut sources = self.sources.iter();
        same(parts.authz_config.as_ref(), self.rules.as_ref())
            && sources.all(|(name, found)| same(parts.sources.get(name).and_then(Option::as_ref), found.as_ref()))
    }
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

    /// What the state of this tag consists of, if the last notice told.
    #[must_use]
    pub fn parts(&self, tag: &ETag) -> Option<Box<Parts>> {
        let told = self.told.as_ref().filter(|(told, _)| told == tag);
        told.map(|(_, parts)| parts.clone())
    }

    /// A cycle that began in the state of this tag, which consists of `parts`, left nothing to be done. That is so where it
    /// found all of that state.
    pub fn settle(&mut self, tag: &ETag, parts: Box<Parts>, found: &Found) {
        if found.is_all_of(&parts) {
            self.settled = Some(tag.clone());
            self.settled_parts = Some(parts);
        } else {
            self.unsettle();
        }
    }

    /// A notice calls for a cycle.
    pub fn called(&mut self, notice: &Notice) {
        self.told = match notice {
            Notice::State(tag, Some(parts)) => Some((tag.clone(), parts.clone())),
            _ => None,
        };
        self.is_called = self.told.is_some();
    }

    /// All that the next cycle has to ask for, where the notice that called for it leaves no doubt: the bodies of sources that
    /// changed since a cycle left nothing to be done. Told once for each notice. `None`: ask as ever.
    ///
    /// Whoever has them all calls [`TenantState::settle_changes`], everybody else [`TenantState::unsettle`].
    pub fn changes(&mut self) -> Option<Changes> {
        if !std::mem::take(&mut self.is_called) {
            return None;
        }
        let before = self.settled.as_ref().and(self.settled_parts.as_deref())?;
        let (tag, now) = self.told.as_ref()?;
        let others = |parts: &Parts| {
            let Parts {
                sources: _,
                authz_config,
                ca_public_key,
                public_key,
            } = parts;
            (authz_config.clone(), ca_public_key.clone(), public_key.clone())
        };
        // A source that is deleted is not believed at once.
        let deleted = |(source, tag): (&SourceName, &Option<ETag>)| {
            tag.is_some() && now.sources.get(source).is_none_or(Option::is_none)
        };
        if others(before) != others(now) || before.sources.iter().any(deleted) {
            return None;
        }
        let changed = now
            .sources
            .iter()
            .filter(|(name, tag)| before.sources.get(*name) != Some(*tag));
        Some(Changes {
            tag: tag.clone(),
            sources: changed
                .filter_map(|(name, tag)| Some((name.clone(), tag.clone()?)))
                .collect(),
        })
    }

    /// Nothing is left to be done of these changes.
    pub fn settle_changes(&mut self, changes: &Changes) {
        self.settled_parts = self.parts(&changes.tag);
        self.settled = Some(changes.tag.clone());
        // Seen with one's own eyes, whatever the last heartbeat was answered with.
        self.latest = Some(changes.tag.clone());
    }

    /// The next cycle has to ask for everything.
    pub fn unsettle(&mut self) {
        self.settled = None;
    }

    /// Does a notice tell of something that the last cycles have not seen to?
    #[must_use]
    pub fn is_news(&self, notice: &Notice) -> bool {
        match notice {
            Notice::State(tag, _) => !self.is_settled(Some(tag)),
            Notice::Head(_) | Notice::Changed => true,
        }
    }

    /// Is a notice of something that the backend which was asked did not know of?
    #[must_use]
    pub fn is_ahead(&self, notice: &Notice) -> bool {
        matches!(notice, Notice::State(tag, _) if self.latest.as_ref() != Some(tag))
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
        assert!(state.is_told() && state.is_news(&Notice::State(old.clone(), None)));
        let Notice::State(_, Some(parts)) = told(&[("a", "1")], None) else {
            unreachable!("made below")
        };
        state.settle(&old, parts.clone(), &found(&[("a", "1")]));
        assert!(!state.is_news(&Notice::State(old.clone(), None)) && state.is_news(&Notice::State(new.clone(), None)));
        assert!(state.is_ahead(&Notice::State(new, None)) && !state.is_ahead(&Notice::State(old.clone(), None)));
        assert!(state.is_news(&Notice::Changed) && !state.is_ahead(&Notice::Changed));
        state.unsettle();
        assert!(state.is_news(&Notice::State(old.clone(), None)));
        for behind in [found(&[("a", "0")]), found(&[("a", "-")])] {
            state.settle(&old, parts.clone(), &behind);
            assert!(
                !state.is_settled(Some(&old)),
                "another backend answered, which was behind"
            );
        }
        assert!(!state.is_settled(None), "a backend that tells nothing settles nothing");
    }

    #[test]
    fn a_state_is_settled_by_all_that_there_is_in_it() {
        let Notice::State(tag, Some(mut parts)) = told(&[("a", "1"), ("b", "-"), ("c", "1")], None) else {
            unreachable!("made below")
        };
        let settles = |parts: &Parts, found: &Found| {
            let mut state = TenantState::default();
            state.settle(&tag, Box::new(parts.clone()), found);
            state.is_settled(Some(&tag))
        };
        // A source that is gone may still be served, and one that nobody reads here does not matter.
        assert!(settles(&parts, &found(&[("a", "1"), ("b", "7"), ("d", "-")])));
        assert!(!settles(&parts, &found(&[("a", "2")])) && !settles(&parts, &found(&[("a", "-")])));
        parts.authz_config = Some(ETag::strong("rules").unwrap());
        let mut all = found(&[("a", "1")]);
        assert!(!settles(&parts, &all));
        all.rules = Some(ETag::parse("W/\"rules\"").unwrap());
        assert!(settles(&parts, &all));
    }

    fn source(name: &str) -> SourceName {
        SourceName::new(name).unwrap()
    }

    fn tags<M: FromIterator<(SourceName, Option<ETag>)>>(sources: &[(&str, &str)]) -> M {
        let tag = |tag: &str| (tag != "-").then(|| ETag::strong(tag).unwrap());
        sources.iter().map(|(name, own)| (source(name), tag(own))).collect()
    }

    fn found(sources: &[(&str, &str)]) -> Found {
        Found {
            sources: tags(sources),
            rules: None,
        }
    }

    /// A state of these sources (`-` is a deleted one), and its tag.
    fn told(sources: &[(&str, &str)], ca: Option<&str>) -> Notice {
        let key = "age17vcec9dhw5cu4l58hx8a5pwxktryh9ej5ttqzl5gyqc2hnefkawq8pm37s";
        let parts = Parts {
            sources: tags(sources),
            authz_config: None,
            ca_public_key: ca.map(str::to_owned),
            public_key: dirless_wire::AgePublicKey::new(key).unwrap(),
        };
        let text: String = sources.iter().map(|(name, tag)| format!("{name}{tag}")).collect();
        let tag = ETag::strong(&format!("{text}{}", ca.unwrap_or_default())).unwrap();
        Notice::State(tag, Some(Box::new(parts)))
    }

    fn settled(notice: &Notice) -> TenantState {
        let mut state = TenantState::default();
        state.called(notice);
        assert_eq!(state.changes(), None, "nothing is settled yet");
        let Notice::State(tag, Some(parts)) = notice else {
            unreachable!("made above")
        };
        let all = Found {
            sources: parts.sources.clone(),
            rules: parts.authz_config.clone(),
        };
        state.settle(tag, parts.clone(), &all);
        state
    }

    #[test]
    fn a_notice_that_tells_all_names_the_bodies_that_changed_once() {
        let (a, b) = (SourceName::new("a").unwrap(), SourceName::new("b").unwrap());
        let mut state = settled(&told(&[("a", "1"), ("b", "1")], None));
        let next = told(&[("a", "2"), ("b", "1")], None);
        state.called(&next);
        let changes = state.changes().unwrap();
        assert!(changes.has(&a) && !changes.has(&b));
        assert!(changes.is_found(&a, Some(&tag("\"2\""))) && changes.is_found(&a, Some(&tag("W/\"2\""))));
        assert!(!changes.is_found(&a, Some(&tag("\"1\""))) && !changes.is_found(&a, None));
        assert_eq!(state.changes(), None);
        assert!(state.is_ahead(&next));
        state.settle_changes(&changes);
        assert!(!state.is_news(&next) && !state.is_ahead(&next));
        state.called(&told(&[("a", "2"), ("b", "2"), ("c", "1")], None));
        let changes = state.changes().unwrap();
        assert!(!changes.has(&a) && changes.has(&b) && changes.sources.len() == 2);
    }

    #[test]
    fn whatever_else_changed_is_asked_for_as_ever() {
        let first = told(&[("a", "1"), ("b", "-")], None);
        for next in [
            told(&[("a", "2"), ("b", "-")], Some("ca")),
            told(&[("a", "-"), ("b", "-")], None),
            told(&[("b", "-")], None),
            Notice::State(tag("\"x\""), None),
            Notice::Changed,
        ] {
            let mut state = settled(&first);
            state.called(&next);
            assert_eq!(state.changes(), None, "{next:?}");
        }
        let mut state = settled(&first);
        state.unsettle();
        state.called(&told(&[("a", "2"), ("b", "-")], None));
        assert_eq!(state.changes(), None, "something was left to be done");
        let mut state = settled(&first);
        state.called(&told(&[("a", "1"), ("b", "1")], None));
        assert!(
            state.changes().unwrap().has(&SourceName::new("b").unwrap()),
            "it is there again"
        );
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
