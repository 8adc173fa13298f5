//! Asking the loop of cycles for a cycle now, and hearing how it went.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::lacking::Lacking;
use crate::engines::{self, Engine};
use crate::serve::triggers::{self, Part, SyncReply, Trigger, TriggerError, Triggers};
use crate::sources::SourceKind;
use crate::tree::TreeStore;

/// Requests that wait at once.
const WAITING: usize = 64;

/// The part that stands for a cycle that could not begin.
pub(super) const NO_CYCLE: &str = "cycle";

/// How much a cycle does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Round {
    /// What is on this machine: engines, access rules, files, people entered by hand, and the tree. No
    /// directory somewhere else is asked, so that it is done in a moment.
    Local,
    /// Everything.
    All,
}

impl Round {
    /// What it takes to do what was asked for.
    fn of(what: Trigger) -> Self {
        let asked = what.as_str().parse::<engines::Trigger>();
        match asked.is_ok_and(|asked| !asked.reads_sources()) {
            true => Self::Local,
            false => Self::All,
        }
    }

    /// Is a source of that kind read?
    pub(super) fn reads(self, source: &SourceKind) -> bool {
        match source {
            SourceKind::Files(_) | SourceKind::Directory => true,
            SourceKind::IdentityCenter | SourceKind::Ldap(_) => self == Self::All,
        }
    }
}

/// Somebody who waits for a cycle.
#[derive(Debug)]
struct Poke {
    round: Round,
    told: oneshot::Sender<Vec<Part>>,
}

/// The loop's end: who waits for a cycle.
#[derive(Debug)]
pub(super) struct Pokes {
    requests: mpsc::Receiver<Poke>,
    waiting: Vec<Poke>,
    lacking: Lacking,
}

/// The end of those who ask.
fn channel() -> (mpsc::Sender<Poke>, Pokes) {
    let (sender, requests) = mpsc::channel(WAITING);
    let pokes = Pokes {
        requests,
        waiting: Vec::new(),
        lacking: Lacking::default(),
    };
    (sender, pokes)
}

impl Pokes {
    /// Nobody asks, ever.
    pub(super) fn none() -> Self {
        let (sender, requests) = mpsc::channel(1);
        drop(sender);
        Self {
            requests,
            waiting: Vec::new(),
            lacking: Lacking::default(),
        }
    }

    /// Whoever is entered into `tree` without numbers asks too.
    pub(super) fn over(self, tree: Arc<TreeStore>) -> Self {
        Self {
            lacking: Lacking::of(tree),
            ..self
        }
    }

    /// Waits until somebody asks.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            Some(poke) = self.requests.recv() => self.waiting.push(poke),
            () = self.lacking.come() => {}
        }
    }

    /// A cycle begins: those who asked so far wait for this one. Answers how much it has to do for them.
    pub(super) fn begin(&mut self) -> Round {
        while let Ok(poke) = self.requests.try_recv() {
            self.waiting.push(poke);
        }
        let rounds = self.waiting.iter().map(|poke| poke.round);
        rounds.max().unwrap_or(Round::Local)
    }

    /// Tells those who wait how it went.
    pub(super) fn end(&mut self, parts: &[Part]) {
        for poke in self.waiting.drain(..) {
            // Who went away meanwhile does not need to know.
            let _ = poke.told.send(parts.to_vec());
        }
    }
}

/// What REST asks with.
#[derive(Debug)]
pub(super) struct Poker(mpsc::Sender<Poke>);

impl Poker {
    /// Somebody who asks, and the loop's end.
    pub(super) fn new() -> (Self, Pokes) {
        let (sender, pokes) = channel();
        (Self(sender), pokes)
    }

    /// One cycle; the answer is about what was asked for, and about a cycle that could not begin.
    async fn cycle(&self, what: Trigger) -> Result<SyncReply, TriggerError> {
        let started = Instant::now();
        let (sender, told) = oneshot::channel();
        let poke = Poke {
            round: Round::of(what),
            told: sender,
        };
        self.0.send(poke).await.map_err(|_| TriggerError::Stopping)?;
        let mut parts = told.await.map_err(|_| TriggerError::Stopping)?;
        parts.retain(|part| part.name == NO_CYCLE || concerns(what, &part.name));
        if parts.is_empty() && !matches!(what, Trigger::Sources | Trigger::All) {
            return Err(TriggerError::NotConfigured(what));
        }
        let took: Duration = started.elapsed();
        Ok(SyncReply::new(what, parts, took))
    }
}

impl Triggers for Poker {
    fn run(&self, what: Trigger) -> BoxFuture<'_, Result<SyncReply, TriggerError>> {
        self.cycle(what).boxed()
    }
}

/// Is the part one that was asked for?
fn concerns(what: Trigger, part: &str) -> bool {
    let Ok(asked) = what.as_str().parse::<engines::Trigger>() else {
        return true;
    };
    let is = |engine: &Engine| triggers::engine_part(engine.name()) == part;
    asked.engines().iter().any(is) || (asked.reads_sources() && !Engine::ALL.iter().any(is))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::triggers::Outcome;

    fn part() -> Part {
        Part {
            name: "aws-identity-center".to_owned(),
            outcome: Outcome::Unchanged,
            detail: "nothing changed".to_owned(),
        }
    }

    #[tokio::test]
    async fn who_asks_before_a_cycle_hears_of_it_and_who_asks_during_one_of_the_next() {
        let (poker, mut pokes) = Poker::new();
        let asked = async { poker.run(Trigger::Sources).await.unwrap() };
        let cycled = async {
            pokes.next().await;
            assert_eq!(pokes.begin(), Round::All);
            let late = poker.run(Trigger::All);
            tokio::pin!(late);
            assert!(futures_util::poll!(&mut late).is_pending());
            pokes.end(&[part()]);
            assert!(
                futures_util::poll!(&mut late).is_pending(),
                "this cycle had begun before"
            );
            pokes.begin();
            pokes.end(&[]);
            late.await.unwrap()
        };
        let (first, late) = tokio::join!(asked, cycled);
        assert_eq!((first.what, first.parts), (Trigger::Sources, vec![part()]));
        assert_eq!(late.parts, []);
    }

    #[tokio::test]
    async fn nobody_else_is_asked_for_what_is_on_this_machine() {
        let (poker, mut pokes) = Poker::new();
        assert_eq!(pokes.begin(), Round::Local);
        let mut agents = poker.run(Trigger::Agents);
        assert!(futures_util::poll!(&mut agents).is_pending());
        assert_eq!(pokes.begin(), Round::Local);
        let mut all = poker.run(Trigger::All);
        assert!(futures_util::poll!(&mut all).is_pending());
        assert_eq!(pokes.begin(), Round::All, "who waits for more gets more");
        pokes.end(&[]);
        assert!(futures_util::poll!(&mut all).is_ready());
        assert!(Round::Local.reads(&SourceKind::Directory) && !Round::Local.reads(&SourceKind::IdentityCenter));
        assert!(Round::All.reads(&SourceKind::IdentityCenter));
    }

    #[tokio::test]
    async fn what_is_not_configured_and_a_loop_that_ended_are_told() {
        let (poker, mut pokes) = Poker::new();
        let engine = Part {
            name: "engine agents".to_owned(),
            ..part()
        };
        let cycled = async |pokes: &mut Pokes| {
            pokes.next().await;
            pokes.end(&[engine.clone(), part()]);
        };
        let (refused, ()) = tokio::join!(poker.run(Trigger::Smtp), cycled(&mut pokes));
        assert_eq!(refused.unwrap_err(), TriggerError::NotConfigured(Trigger::Smtp));
        for (what, parts) in [
            (Trigger::Agents, vec![engine.clone()]),
            (Trigger::Sources, vec![part()]),
            (Trigger::All, vec![engine.clone(), part()]),
        ] {
            let (reply, ()) = tokio::join!(poker.run(what), cycled(&mut pokes));
            assert_eq!(reply.unwrap().parts, parts, "{what:?}");
        }
        drop(pokes);
        assert_eq!(poker.run(Trigger::All).await.unwrap_err(), TriggerError::Stopping);
    }
}
