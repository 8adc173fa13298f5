//! Where it is noted what happened to hosts, and when.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use anyhow::bail;

use crate::event::{Event, Mark, Notes, What, monotonic};

/// How often the board is looked at while something is awaited.
const LOOK: Duration = Duration::from_millis(10);

/// One line of the board: for each host the time at which something happened to it first since the line was wiped.
#[derive(Debug)]
pub(crate) struct Line {
    slots: Vec<AtomicU64>,
    /// What is older is told too late to count.
    wiped: AtomicU64,
}

impl Line {
    fn new(hosts: usize) -> Self {
        Self {
            slots: (0..hosts).map(|_| AtomicU64::new(0)).collect(),
            wiped: AtomicU64::new(0),
        }
    }

    fn note(&self, host: usize, at: u64) {
        if let Some(slot) = self.slots.get(host)
            && at >= self.wiped.load(Ordering::Relaxed)
        {
            // The first counts; 0 stands for not yet.
            let _ = slot.compare_exchange(0, at.max(1), Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// How many of these hosts have something noted.
    pub(crate) fn count(&self, hosts: &Range<usize>) -> usize {
        let slots = self.slots.get(hosts.clone()).unwrap_or_default();
        slots.iter().filter(|slot| slot.load(Ordering::Relaxed) != 0).count()
    }

    /// When it happened to each, as time since the board was hung up.
    pub(crate) fn times(&self) -> impl Iterator<Item = Option<Duration>> + '_ {
        self.slots.iter().map(|slot| match slot.load(Ordering::Relaxed) {
            0 => None,
            micros => Some(Duration::from_micros(micros)),
        })
    }
}

/// What was published at a site: each body by its mark, with its place in the order.
#[derive(Debug, Default)]
struct Published {
    latest: Mark,
    all: HashMap<Mark, u64>,
}

/// The board.
#[derive(Debug)]
pub(crate) struct Board {
    /// By the clock that all processes share.
    begun: Duration,
    /// A notice came, whatever it said: the stream is open.
    pub(crate) heard: Line,
    /// A notice came that says something else than the one before.
    pub(crate) told: Line,
    /// What is wanted was fetched and checked.
    pub(crate) applied: Line,
    /// What is published, for each site.
    published: Vec<RwLock<Published>>,
    /// The place of the last body of each host.
    had: Vec<AtomicU64>,
    /// Bodies that nobody published, and files that a host refused.
    wrong: AtomicUsize,
    /// Bodies that hosts took after a newer one.
    older: AtomicUsize,
    /// Files that hosts refused since they had a newer one.
    refused: AtomicUsize,
    /// Cycles in progress.
    busy: AtomicUsize,
    /// Cycles that failed.
    failed: AtomicUsize,
    /// Processes of hosts that ended before their time.
    lost: AtomicUsize,
}

impl Board {
    pub(crate) fn new(hosts: usize, sites: usize) -> Self {
        Self {
            begun: monotonic(),
            heard: Line::new(hosts),
            told: Line::new(hosts),
            applied: Line::new(hosts),
            published: (0..sites).map(|_| RwLock::default()).collect(),
            had: (0..hosts).map(|_| AtomicU64::new(0)).collect(),
            wrong: AtomicUsize::new(0),
            older: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            failed: AtomicUsize::new(0),
            lost: AtomicUsize::new(0),
        }
    }

    /// When it was hung up, by the clock that all processes share.
    pub(crate) fn begun(&self) -> Duration {
        self.begun
    }

    /// Forgets what happened.
    pub(crate) fn wipe(&self, line: &Line) {
        line.wiped.store(micros(self.now()), Ordering::Relaxed);
        line.slots.iter().for_each(|slot| slot.store(0, Ordering::Relaxed));
    }

    /// Hosts belong to the sites in turn.
    fn published(&self, host: usize) -> Option<&RwLock<Published>> {
        self.published.get(host.checked_rem(self.published.len())?)
    }

    /// A host has this. Another than the latest does not count as applied; what was never published is a wrong answer.
    fn note_body(&self, host: usize, at: u64, mark: Mark) {
        let Some(published) = self.published(host) else { return };
        let published = published.read().unwrap_or_else(PoisonError::into_inner);
        match published.all.get(&mark) {
            None => drop(self.wrong.fetch_add(1, Ordering::Relaxed)),
            Some(place) => {
                let before = self.had.get(host).map(|had| had.swap(*place, Ordering::Relaxed));
                if before.is_some_and(|before| before > *place) {
                    self.older.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        if published.latest == mark {
            self.applied.note(host, at);
        }
    }

    /// From now on hosts of this site are to have this.
    pub(crate) fn publish(&self, site: usize, mark: Mark) {
        if let Some(published) = self.published.get(site) {
            let mut published = published.write().unwrap_or_else(PoisonError::into_inner);
            let place = published.all.len() as u64 + 1;
            published.all.insert(mark, place);
            published.latest = mark;
        }
    }

    /// Bodies that hosts got and nobody published, and bodies that they took after a newer one.
    pub(crate) fn wrong_and_older(&self) -> (usize, usize) {
        (self.wrong.load(Ordering::Relaxed), self.older.load(Ordering::Relaxed))
    }

    /// Files that hosts were served after a newer one, and refused.
    pub(crate) fn refused_as_older(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }

    /// A process of hosts ended: nobody waits for what they would have said.
    pub(crate) fn lose(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    fn look_at_processes(&self) -> anyhow::Result<()> {
        match self.lost.load(Ordering::Relaxed) {
            0 => Ok(()),
            lost => bail!("{lost} processes of hosts ended by themselves; what they said is above"),
        }
    }

    /// Cycles that failed so far.
    pub(crate) fn failures(&self) -> usize {
        self.failed.load(Ordering::Relaxed)
    }

    /// Waits until `line` has something of all these hosts.
    ///
    /// # Errors
    /// When the limit passes first.
    pub(crate) async fn all(
        &self,
        line: &Line,
        hosts: &Range<usize>,
        limit: Duration,
        what: &str,
    ) -> anyhow::Result<()> {
        let until = self.now() + limit;
        while line.count(hosts) < hosts.len() {
            self.look_at_processes()?;
            if self.now() > until {
                bail!("after {limit:?} {} of {} hosts {what}", line.count(hosts), hosts.len());
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Waits until hardly any host is in a cycle: those that are due at their interval always are.
    ///
    /// # Errors
    /// When the limit passes first.
    pub(crate) async fn quiet(&self, limit: Duration) -> anyhow::Result<()> {
        let until = self.now() + limit;
        let few = self.applied.slots.len() / 100;
        while self.busy.load(Ordering::Relaxed) > few {
            self.look_at_processes()?;
            if self.now() > until {
                bail!(
                    "after {limit:?} {} hosts are still in a cycle",
                    self.busy.load(Ordering::Relaxed)
                );
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Notes for Board {
    fn now(&self) -> Duration {
        monotonic().saturating_sub(self.begun)
    }

    fn note(&self, event: Event) {
        let Event { host, at, what } = event;
        match what {
            What::Heard => self.heard.note(host, at),
            What::Told => {
                self.heard.note(host, at);
                self.told.note(host, at);
            }
            What::Has(mark) => self.note_body(host, at, mark),
            What::Refused { older: true } => drop(self.refused.fetch_add(1, Ordering::Relaxed)),
            What::Refused { older: false } => drop(self.wrong.fetch_add(1, Ordering::Relaxed)),
            What::Begins => drop(self.busy.fetch_add(1, Ordering::Relaxed)),
            What::Ends { well } => {
                self.busy.fetch_sub(1, Ordering::Relaxed);
                self.failed.fetch_add(usize::from(!well), Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(board: &Board, host: usize, what: What) {
        let at = micros(board.now());
        board.note(Event { host, at, what });
    }

    #[test]
    fn the_first_time_counts_and_only_for_what_is_published() {
        let board = Board::new(4, 2);
        board.publish(1, 7);
        say(&board, 1, What::Has(6));
        say(&board, 3, What::Has(7));
        say(&board, 9, What::Has(7));
        let first: Vec<_> = board.applied.times().collect();
        assert!(first[1].is_none() && first[3].is_some() && first[0].is_none());
        say(&board, 3, What::Has(7));
        assert_eq!(board.applied.times().collect::<Vec<_>>(), first);
        assert_eq!((board.applied.count(&(0..4)), board.applied.count(&(1..3))), (1, 0));
        assert_eq!(board.wrong_and_older(), (1, 0));
        board.publish(1, 8);
        say(&board, 3, What::Has(8));
        say(&board, 3, What::Has(7));
        say(&board, 3, What::Refused { older: true });
        say(&board, 3, What::Refused { older: false });
        assert_eq!((board.wrong_and_older(), board.refused_as_older()), ((2, 1), 1));
    }

    #[test]
    fn what_is_told_too_late_is_not_of_the_next_round() {
        let board = Board::new(1, 1);
        let (host, what, at) = (0, What::Told, micros(board.now()));
        while micros(board.now()) == at {}
        board.wipe(&board.told);
        board.note(Event { host, at, what });
        assert_eq!((board.told.count(&(0..1)), board.heard.count(&(0..1))), (0, 1));
        say(&board, 0, What::Told);
        assert_eq!(board.told.count(&(0..1)), 1);
        board.wipe(&board.told);
        assert_eq!(board.told.count(&(0..1)), 0);
    }

    #[test]
    fn a_notice_that_says_the_same_is_heard_and_tells_nothing() {
        let board = Board::new(2, 1);
        say(&board, 0, What::Heard);
        say(&board, 1, What::Told);
        assert_eq!((board.heard.count(&(0..2)), board.told.count(&(0..2))), (2, 1));
    }

    #[tokio::test]
    async fn waiting_ends_with_the_last_host_or_says_how_many_are_missing() {
        let board = Board::new(2, 1);
        say(&board, 0, What::Told);
        let limit = Duration::from_millis(30);
        let error = board.all(&board.told, &(0..2), limit, "were told").await.unwrap_err();
        assert!(error.to_string().contains("1 of 2 hosts were told"), "{error}");
        say(&board, 1, What::Told);
        board.all(&board.told, &(0..2), limit, "were told").await.unwrap();
        say(&board, 0, What::Begins);
        assert!(board.quiet(limit).await.is_err());
        say(&board, 0, What::Ends { well: false });
        board.quiet(limit).await.unwrap();
        assert_eq!(board.failures(), 1);
        say(&board, 0, What::Begins);
        board.lose();
        let error = board.quiet(limit).await.unwrap_err().to_string();
        assert!(error.contains("1 processes of hosts ended"), "{error}");
    }
}
