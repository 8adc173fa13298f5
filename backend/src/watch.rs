//! Requests that hosts keep open: who is told what, and when one has to end.
//!
//! Each tenant that somebody watches has a [`Topic`] with one task behind it, which reads once what is new and makes
//! one text of it for everybody. A watcher takes from the topic what it has not had, so one that reads slowly gets the
//! latest and never a queue. Nothing here is the truth: a notice may be lost with its connection, and hosts ask at
//! their interval all the same.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use dirless_wire::{Notice, Setting, TenantId};
use tokio::sync::{Notify, watch};

use crate::store::Change;

/// What hosts of one protocol watch of a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Watched {
    /// The tag of its state.
    State(TenantId),
    /// Its heads.
    Heads(TenantId),
}

/// What was told last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    /// Counts the changes of the list below; 0 until something was read.
    number: u64,
    /// For each name the text and the number since when it says that.
    notices: Vec<(Box<str>, u64, Bytes)>,
    /// The number since when there is something that cannot be told, 0 for never.
    changed: u64,
}

impl Told {
    /// Takes what is to be told now. Names that are missing stay as they are.
    fn tell(&mut self, notices: Vec<(Box<str>, Bytes)>) {
        self.number += 1;
        for (name, text) in notices {
            match self.notices.iter_mut().find(|(known, ..)| *known == name) {
                Some((_, _, before)) if *before == text => {}
                Some(entry) => *entry = (name, self.number, text),
                None => self.notices.push((name, self.number, text)),
            }
        }
    }

    /// Calls everybody who watches now to ask.
    fn call(&mut self) {
        self.number += 1;
        self.changed = self.number;
    }

    /// What is newer than `seen`, in one piece, for one who began to watch at `began`.
    fn since(&self, seen: u64, began: u64) -> Option<Bytes> {
        let called = self.changed > seen.max(began);
        let changed = called.then(|| Notice::Changed.to_bytes().into());
        let newer = self.notices.iter().filter(|(_, number, _)| *number > seen);
        let mut newer = newer.map(|(_, _, text)| text.clone()).chain(changed);
        let first = newer.next()?;
        let Some(second) = newer.next() else {
            return Some(first);
        };
        let mut all = [&first[..], &second[..]].concat();
        newer.for_each(|text| all.extend_from_slice(&text));
        Some(all.into())
    }
}

/// What one tenant's watchers share.
#[derive(Debug)]
pub(crate) struct Topic {
    /// Something changed that has to be read.
    stale: Notify,
    told: watch::Sender<Told>,
}

impl Topic {
    /// Waits until something is to be read, or nobody watches any more.
    pub(crate) async fn is_wanted(&self) -> bool {
        tokio::select! {
            biased;
            () = self.told.closed() => false,
            () = self.stale.notified() => true,
        }
    }

    /// What is to be told now.
    pub(crate) fn tell(&self, notices: Vec<(Box<str>, Bytes)>) {
        self.told.send_modify(|told| told.tell(notices));
    }
}

/// Why watchers look up.
#[derive(Clone, Copy, Debug, Default)]
struct Call {
    /// Counts changes after which credentials are looked at again.
    credentials: u64,
    /// The server stops.
    closing: bool,
}

/// All topics of a server.
#[derive(Debug)]
pub(crate) struct Watch {
    topics: Mutex<HashMap<Watched, Arc<Topic>>>,
    call: watch::Sender<Call>,
    open: Arc<AtomicUsize>,
    most: usize,
}

impl Watch {
    /// At most `most` watchers at a time.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            topics: Mutex::default(),
            call: watch::Sender::default(),
            open: Arc::default(),
            most,
        }
    }

    /// Begins to watch. With the first watcher of a topic, `read` is handed the topic to keep it told; it has to call
    /// [`Watch::is_over`] when nobody wants it any more. `None` when there are too many watchers.
    pub(crate) fn subscribe(&self, watched: Watched, read: impl FnOnce(Arc<Topic>)) -> Option<Watcher> {
        let place = Place::take(&self.open, self.most)?;
        let call = self.call.subscribe();
        let mut topics = self.topics();
        let mut first = None;
        let topic = topics.entry(watched).or_insert_with(|| {
            let topic = Arc::new(Topic {
                stale: Notify::new(),
                told: watch::Sender::default(),
            });
            topic.stale.notify_one();
            Arc::clone(first.insert(topic))
        });
        let told = topic.told.subscribe();
        drop(topics);
        if let Some(topic) = first {
            read(topic);
        }
        let began = told.borrow().number;
        Some(Watcher {
            told,
            call,
            began,
            seen: 0,
            _place: place,
        })
    }

    /// Takes a topic that nobody watches off the list; `false` when somebody does again.
    pub(crate) fn is_over(&self, watched: &Watched) -> bool {
        let mut topics = self.topics();
        let over = topics.get(watched).is_none_or(|topic| topic.told.receiver_count() == 0);
        if over {
            topics.remove(watched);
        }
        over
    }

    /// Applies a change of the store. Returns at once.
    pub(crate) fn apply(&self, change: &Change) {
        match change {
            Change::Snapshot { tenant, .. }
            | Change::SourceDeleted { tenant, .. }
            | Change::AccessRules { tenant }
            | Change::Tenant { tenant } => self.mark(&Watched::State(tenant.clone())),
            Change::Setting { tenant, key } if key == Setting::CA_PUBLIC_KEY => {
                self.mark(&Watched::State(tenant.clone()));
            }
            Change::Object { tenant, path } if path.starts_with("head/") => {
                self.mark(&Watched::Heads(tenant.clone()));
            }
            // A policy says who may speak at all, and no head of a publisher that was taken out follows it.
            Change::Object { tenant, path } if path.starts_with("policy/") => {
                let topic = self.topics().get(&Watched::Heads(tenant.clone())).cloned();
                if let Some(topic) = topic {
                    topic.told.send_modify(Told::call);
                }
            }
            Change::Object { .. } | Change::Setting { .. } => {}
            Change::Credentials => self.call.send_modify(|call| call.credentials += 1),
            Change::Everything => {
                self.topics().values().for_each(|topic| topic.stale.notify_one());
                self.call.send_modify(|call| call.credentials += 1);
            }
        }
    }

    /// How many watch.
    pub(crate) fn count(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Ends all streams.
    pub(crate) fn close(&self) {
        self.call.send_modify(|call| call.closing = true);
    }

    fn mark(&self, watched: &Watched) {
        if let Some(topic) = self.topics().get(watched) {
            topic.stale.notify_one();
        }
    }

    fn topics(&self) -> MutexGuard<'_, HashMap<Watched, Arc<Topic>>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One open request.
#[derive(Debug)]
pub(crate) struct Watcher {
    told: watch::Receiver<Told>,
    call: watch::Receiver<Call>,
    /// What was told when it began.
    began: u64,
    seen: u64,
    _place: Place,
}

/// Why a watcher looked up.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// Something to be sent.
    Notices(Bytes),
    /// Realms, tokens or keys changed: is this one still good?
    Credentials,
    /// The server stops.
    Closing,
}

impl Watcher {
    /// Waits for what is new.
    pub(crate) async fn next(&mut self) -> News {
        loop {
            if self.call.borrow().closing {
                return News::Closing;
            }
            {
                let told = self.told.borrow_and_update();
                let notices = told.since(self.seen, self.began);
                self.seen = told.number;
                if let Some(notices) = notices {
                    return News::Notices(notices);
                }
            }
            tokio::select! {
                changed = self.told.changed() => if changed.is_err() {
                    return News::Closing;
                },
                changed = self.call.changed() => match changed {
                    Ok(()) if !self.call.borrow_and_update().closing => return News::Credentials,
                    _ => return News::Closing,
                },
            }
        }
    }
}

/// One of the places for watchers.
#[derive(Debug)]
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(open: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let place = Self(Arc::clone(open));
        // Counted before it is looked at, and uncounted by its drop.
        (open.fetch_add(1, Ordering::Relaxed) < most).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn tenant() -> TenantId {
        TenantId::new("acme").unwrap()
    }

    fn text(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    fn subscribe(watch: &Watch) -> (Watcher, Option<Arc<Topic>>) {
        let mut topic = None;
        let watcher = watch.subscribe(Watched::Heads(tenant()), |made| topic = Some(made));
        (watcher.unwrap(), topic)
    }

    fn stored(path: &str) -> Change {
        Change::Object {
            tenant: tenant(),
            path: path.to_owned(),
        }
    }

    #[test]
    fn each_watcher_gets_what_it_has_not_had_and_the_latest_of_it() {
        let watch = Watch::new(10);
        let (mut early, topic) = subscribe(&watch);
        let topic = topic.unwrap();
        assert_eq!(topic.is_wanted().now_or_never(), Some(true), "the first read");
        assert_eq!(topic.is_wanted().now_or_never(), None);
        assert_eq!(early.next().now_or_never(), None);
        topic.tell(vec![("a".into(), text("a1")), ("b".into(), text("b1"))]);
        assert_eq!(early.next().now_or_never(), Some(News::Notices(text("a1b1"))));
        let (mut late, none) = subscribe(&watch);
        assert!(none.is_none(), "one task for all");
        assert_eq!(late.next().now_or_never(), Some(News::Notices(text("a1b1"))));
        watch.apply(&stored("blob/x"));
        assert_eq!(topic.is_wanted().now_or_never(), None);
        watch.apply(&stored("head/a"));
        watch.apply(&stored("head/a"));
        assert_eq!(topic.is_wanted().now_or_never(), Some(true));
        assert_eq!(topic.is_wanted().now_or_never(), None, "two changes are one read");
        topic.tell(vec![("a".into(), text("a2"))]);
        topic.tell(vec![("a".into(), text("a3")), ("b".into(), text("b1"))]);
        for watcher in [&mut early, &mut late] {
            assert_eq!(watcher.next().now_or_never(), Some(News::Notices(text("a3"))));
            assert_eq!(watcher.next().now_or_never(), None);
        }
    }

    #[test]
    fn a_new_policy_is_told_each_time_and_to_those_who_are_there() {
        let watch = Watch::new(10);
        let (mut watcher, topic) = subscribe(&watch);
        for version in 1..3 {
            watch.apply(&stored(&format!("policy/{version}")));
            let told = watcher.next().now_or_never();
            assert_eq!(told, Some(News::Notices(text("event: changed\ndata: -\n\n"))));
        }
        assert_eq!(watcher.next().now_or_never(), None);
        topic.unwrap().tell(vec![("a".into(), text("a1"))]);
        let (mut later, _) = subscribe(&watch);
        assert_eq!(later.next().now_or_never(), Some(News::Notices(text("a1"))));
    }

    #[test]
    fn credentials_are_looked_at_again_and_stopping_ends_all() {
        let watch = Watch::new(10);
        let (mut watcher, _topic) = subscribe(&watch);
        watch.apply(&Change::Credentials);
        assert_eq!(watcher.next().now_or_never(), Some(News::Credentials));
        assert_eq!(watcher.next().now_or_never(), None);
        watch.close();
        assert_eq!(watcher.next().now_or_never(), Some(News::Closing));
        assert_eq!(subscribe(&watch).0.next().now_or_never(), Some(News::Closing));
    }

    #[test]
    fn places_are_bounded_and_a_topic_ends_with_its_last_watcher() {
        let watch = Watch::new(2);
        let (one, topic) = subscribe(&watch);
        let (two, _) = subscribe(&watch);
        let topic = topic.unwrap();
        assert_eq!(topic.is_wanted().now_or_never(), Some(true));
        assert!(watch.subscribe(Watched::State(tenant()), |_| ()).is_none());
        assert_eq!(watch.count(), 2);
        drop(one);
        assert_eq!(topic.is_wanted().now_or_never(), None);
        assert!(!watch.is_over(&Watched::Heads(tenant())));
        drop(two);
        assert_eq!(topic.is_wanted().now_or_never(), Some(false));
        assert_eq!(watch.count(), 0);
        assert!(watch.is_over(&Watched::Heads(tenant())));
        let (_again, topic) = subscribe(&watch);
        assert!(topic.is_some());
    }
}
