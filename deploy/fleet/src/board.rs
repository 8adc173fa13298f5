//! Where hosts note what happened to them, and when.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use anyhow::bail;

/// SHA-256 of a body.
pub(crate) type Digest = [u8; 32];

/// How often the board is looked at while something is awaited.
const LOOK: Duration = Duration::from_millis(10);

/// One line of the board: for each host the time at which something happened to it first since the line was wiped.
#[derive(Debug)]
pub(crate) struct Line(Vec<AtomicU64>);

impl Line {
    fn new(hosts: usize) -> Self {
        Self((0..hosts).map(|_| AtomicU64::new(0)).collect())
    }

    fn note(&self, host: usize, at: u64) {
        if let Some(slot) = self.0.get(host) {
            // The first counts; 0 stands for not yet.
            let _ = slot.compare_exchange(0, at.max(1), Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Forgets what happened.
    pub(crate) fn wipe(&self) {
        self.0.iter().for_each(|slot| slot.store(0, Ordering::Relaxed));
    }

    /// How many of these hosts have something noted.
    pub(crate) fn count(&self, hosts: &Range<usize>) -> usize {
        let slots = self.0.get(hosts.clone()).unwrap_or_default();
        slots.iter().filter(|slot| slot.load(Ordering::Relaxed) != 0).count()
    }

    /// When it happened to each, as time since the board was hung up.
    pub(crate) fn times(&self) -> impl Iterator<Item = Option<Duration>> + '_ {
        self.0.iter().map(|slot| match slot.load(Ordering::Relaxed) {
            0 => None,
            micros => Some(Duration::from_micros(micros)),
        })
    }
}

/// What was published at a site: each body by its hash, with its place in the order.
#[derive(Debug, Default)]
struct Published {
    latest: Digest,
    all: HashMap<Digest, u64>,
}

/// The board.
#[derive(Debug)]
pub(crate) struct Board {
    begun: Instant,
    /// A notice came, whatever it said: the stream is open.
    pub(crate) heard: Line,
    /// A notice came that says something else than the one before.
    pub(crate) told: Line,
    /// The body that is wanted was fetched and hashed.
    pub(crate) applied: Line,
    /// What is published, for each site.
    published: Vec<RwLock<Published>>,
    /// The place of the last body of each host.
    had: Vec<AtomicU64>,
    /// Bodies that nobody published.
    wrong: AtomicUsize,
    /// Bodies that came after a newer one.
    older: AtomicUsize,
    /// Cycles in progress.
    busy: AtomicUsize,
    /// Cycles that failed.
    failed: AtomicUsize,
}

impl Board {
    pub(crate) fn new(hosts: usize, sites: usize) -> Self {
        Self {
            begun: Instant::now(),
            heard: Line::new(hosts),
            told: Line::new(hosts),
            applied: Line::new(hosts),
            published: (0..sites).map(|_| RwLock::default()).collect(),
            had: (0..hosts).map(|_| AtomicU64::new(0)).collect(),
            wrong: AtomicUsize::new(0),
            older: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            failed: AtomicUsize::new(0),
        }
    }

    /// Time since the board was hung up.
    pub(crate) fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.now().as_micros()).unwrap_or(u64::MAX)
    }

    pub(crate) fn note_notice(&self, host: usize, is_other: bool) {
        let now = self.micros();
        self.heard.note(host, now);
        if is_other {
            self.told.note(host, now);
        }
    }

    /// A host of this site fetched a body. Another than the latest does not count as applied; one that was never published is
    /// a wrong answer.
    pub(crate) fn note_body(&self, host: usize, site: usize, digest: &Digest) {
        let Some(published) = self.published.get(site) else {
            return;
        };
        let published = published.read().unwrap_or_else(PoisonError::into_inner);
        match published.all.get(digest) {
            None => drop(self.wrong.fetch_add(1, Ordering::Relaxed)),
            Some(place) => {
                let before = self.had.get(host).map(|had| had.swap(*place, Ordering::Relaxed));
                if before.is_some_and(|before| before > *place) {
                    self.older.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        if published.latest == *digest {
            self.applied.note(host, self.micros());
        }
    }

    /// From now on hosts of this site are to have this body.
    pub(crate) fn publish(&self, site: usize, digest: Digest) {
        if let Some(published) = self.published.get(site) {
            let mut published = published.write().unwrap_or_else(PoisonError::into_inner);
            let place = published.all.len() as u64 + 1;
            published.all.insert(digest, place);
            published.latest = digest;
        }
    }

    /// Bodies that hosts got and nobody published, and bodies that they got after a newer one.
    pub(crate) fn wrong_and_older(&self) -> (usize, usize) {
        (self.wrong.load(Ordering::Relaxed), self.older.load(Ordering::Relaxed))
    }

    pub(crate) fn begin_cycle(&self) {
        self.busy.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn end_cycle(&self, well: bool) {
        self.busy.fetch_sub(1, Ordering::Relaxed);
        if !well {
            self.failed.fetch_add(1, Ordering::Relaxed);
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
        let few = self.applied.0.len() / 100;
        while self.busy.load(Ordering::Relaxed) > few {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_time_counts_and_only_for_the_published_body() {
        let board = Board::new(3, 2);
        board.publish(1, [7; 32]);
        board.note_body(0, 1, &[6; 32]);
        board.note_body(1, 1, &[7; 32]);
        board.note_body(9, 1, &[7; 32]);
        let first: Vec<_> = board.applied.times().collect();
        assert!(first[0].is_none() && first[1].is_some() && first[2].is_none());
        board.note_body(1, 1, &[7; 32]);
        assert_eq!(board.applied.times().collect::<Vec<_>>(), first);
        assert_eq!((board.applied.count(&(0..3)), board.applied.count(&(1..2))), (1, 1));
        board.applied.wipe();
        assert_eq!(board.applied.count(&(0..3)), 0);
    }

    #[test]
    fn a_notice_that_says_the_same_is_heard_and_tells_nothing() {
        let board = Board::new(2, 1);
        board.note_notice(0, false);
        board.note_notice(1, true);
        assert_eq!((board.heard.count(&(0..2)), board.told.count(&(0..2))), (2, 1));
    }

    #[tokio::test]
    async fn waiting_ends_with_the_last_host_or_says_how_many_are_missing() {
        let board = Board::new(2, 1);
        board.note_notice(0, true);
        let limit = Duration::from_millis(30);
        let error = board.all(&board.told, &(0..2), limit, "were told").await.unwrap_err();
        assert!(error.to_string().contains("1 of 2 hosts were told"), "{error}");
        board.note_notice(1, true);
        board.all(&board.told, &(0..2), limit, "were told").await.unwrap();
        board.begin_cycle();
        assert!(board.quiet(limit).await.is_err());
        board.end_cycle(false);
        board.quiet(limit).await.unwrap();
        assert_eq!(board.failures(), 1);
    }
}
