//! The request that is kept open, so that a cycle begins when something is new and not at the next interval.
//!
//! Nothing depends on it: the interval goes on, and what a notice says is asked for like everything else.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dirless_wire::Notice;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::unread::Unread;
use crate::{Backoff, Client, Error, Rhythm, Watch};

/// First bound of the wait before another stream, unless the splay is longer.
const SHORTEST_BOUND: Duration = Duration::from_secs(1);
/// Longest wait before another stream.
const CEILING: Duration = Duration::from_secs(300);
/// A stream that lasted so long is followed by another soon.
const LASTING: Duration = Duration::from_secs(60);
/// When a backend that knows no notices is asked again: it may have been replaced.
const ABSENT: Duration = Duration::from_secs(3600);

/// What was heard, between the one who listens and the one who acts on it.
#[derive(Debug, Default)]
struct Heard {
    state: Mutex<State>,
    /// Something waits.
    waits: Notify,
}

#[derive(Debug, Default)]
struct State {
    unread: Unread,
    /// Who tells, while somebody does.
    backend: Option<String>,
}

impl Heard {
    fn hear(&self, notice: Notice) {
        self.state().unread.add(notice);
        self.waits.notify_one();
    }

    /// What is new, or who tells, is no news to whoever waits for the other.
    fn told_by(&self, backend: Option<String>) {
        self.state().backend = backend;
    }

    /// Waits for something to be unread, and takes all of it.
    async fn next(&self) -> Vec<Notice> {
        loop {
            let unread = self.state().unread.take();
            if !unread.is_empty() {
                return unread;
            }
            self.waits.notified().await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while holding it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notices from a backend, as they come. Dropped, it closes the request.
#[derive(Debug)]
pub struct Notices {
    heard: Arc<Heard>,
    task: AbortHandle,
}

impl Notices {
    /// Opens the request, and another whenever it ends. Those of many hosts that ended together come back spread over half
    /// the rhythm's splay at least. Has to be called within a runtime.
    #[must_use]
    pub fn start(client: Client, rhythm: Rhythm) -> Self {
        let heard = Arc::new(Heard::default());
        let task = tokio::spawn(listen(client, rhythm, Arc::clone(&heard))).abort_handle();
        Self { heard, task }
    }

    /// The notices that were not given yet, one at least: the latest of each publisher, so that news of one is not lost behind
    /// another's head that was only signed again. Loses nothing when its future is dropped.
    pub async fn next(&mut self) -> Vec<Notice> {
        self.heard.next().await
    }

    /// Who tells now.
    #[must_use]
    pub fn backend(&self) -> Option<String> {
        self.heard.state().backend.clone()
    }
}

impl Drop for Notices {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Who opens streams, and tells the time.
trait Site {
    type Stream: Stream;
    /// `None` where there are no notices.
    async fn open(&self) -> Result<Option<Self::Stream>, Error>;
    fn now(&self) -> Instant;
    async fn pause(&self, wait: Duration);
}

/// Notices until it ends.
trait Stream {
    fn backend(&self) -> &str;
    async fn next(&mut self) -> Option<Notice>;
}

impl Site for Client {
    type Stream = Watch;

    async fn open(&self) -> Result<Option<Watch>, Error> {
        self.watch().await
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    async fn pause(&self, wait: Duration) {
        tokio::time::sleep(wait).await;
    }
}

impl Stream for Watch {
    fn backend(&self) -> &str {
        Self::backend(self)
    }

    async fn next(&mut self) -> Option<Notice> {
        Self::next(self).await
    }
}

async fn listen<S: Site>(site: S, rhythm: Rhythm, heard: Arc<Heard>) {
    let spread = rhythm.splay.max(SHORTEST_BOUND);
    let fresh = || Backoff::new(spread, CEILING, rand::random());
    let mut backoff = fresh();
    loop {
        let opened = site.now();
        let wait = match site.open().await {
            Ok(Some(mut stream)) => {
                tracing::debug!(backend = stream.backend(), "told of changes as they happen");
                heard.told_by(Some(stream.backend().to_owned()));
                while let Some(notice) = stream.next().await {
                    heard.hear(notice);
                }
                heard.told_by(None);
                if site.now().duration_since(opened) >= LASTING {
                    backoff = fresh();
                }
                backoff.wait()
            }
            Ok(None) => ABSENT,
            Err(error) => {
                tracing::debug!(%error, "no notices; changes are found at the interval");
                backoff.wait()
            }
        };
        site.pause(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::collections::VecDeque;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    /// What comes of one attempt.
    #[derive(Clone, Copy)]
    enum Attempt {
        /// A stream that lasts so many seconds.
        Lasts(u64),
        Fails,
        Absent,
    }

    /// A site on a clock of its own, which hangs when nothing more is to come.
    struct Played<'a> {
        now: Cell<Instant>,
        attempts: RefCell<VecDeque<Attempt>>,
        waits: &'a RefCell<Vec<Duration>>,
    }

    struct Ending<'a> {
        now: &'a Cell<Instant>,
        lasts: Duration,
    }

    impl<'a> Site for &'a Played<'_> {
        type Stream = Ending<'a>;

        async fn open(&self) -> Result<Option<Ending<'a>>, Error> {
            let attempt = self.attempts.borrow_mut().pop_front();
            match attempt {
                Some(Attempt::Lasts(seconds)) => Ok(Some(Ending {
                    now: &self.now,
                    lasts: Duration::from_secs(seconds),
                })),
                Some(Attempt::Fails) => Err(Error::Unauthorized),
                Some(Attempt::Absent) => Ok(None),
                None => std::future::pending().await,
            }
        }

        fn now(&self) -> Instant {
            self.now.get()
        }

        async fn pause(&self, wait: Duration) {
            self.now.set(self.now.get() + wait);
            self.waits.borrow_mut().push(wait);
        }
    }

    impl Stream for Ending<'_> {
        fn backend(&self) -> &str {
            "played"
        }

        async fn next(&mut self) -> Option<Notice> {
            self.now.set(self.now.get() + self.lasts);
            None
        }
    }

    /// The seconds that a host with this splay waits after each attempt.
    fn waits(splay: u64, attempts: &[Attempt]) -> Vec<f64> {
        let waits = RefCell::default();
        let site = Played {
            now: Cell::new(Instant::now()),
            attempts: RefCell::new(attempts.iter().copied().collect()),
            waits: &waits,
        };
        let rhythm = Rhythm {
            interval: Duration::from_secs(60),
            jitter: Duration::from_secs(6),
            splay: Duration::from_secs(splay),
        };
        let heard = Arc::default();
        let polled = pin!(listen(&site, rhythm, heard)).poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(polled, Poll::Pending, "it listens for good");
        waits.borrow().iter().map(Duration::as_secs_f64).collect()
    }

    /// Many hosts after the same: all within these seconds, and in each quarter of them some.
    fn are_spread(splay: u64, attempts: &[Attempt], (from, to): (f64, f64)) {
        let mut quarters = [0_u32; 4];
        for _ in 0..200 {
            let wait = *waits(splay, attempts).last().unwrap();
            assert!((from..=to).contains(&wait), "{wait} s after a splay of {splay} s");
            let quarter = (wait - from) / (to - from) * 4.0;
            quarters[(quarter as usize).min(3)] += 1;
        }
        assert!(quarters.iter().all(|hosts| *hosts >= 10), "{quarters:?}");
    }

    #[test]
    fn streams_that_ended_together_come_back_spread_over_the_splay() {
        use Attempt::{Fails, Lasts};
        are_spread(30, &[Lasts(3600)], (15.0, 30.0));
        are_spread(30, &[Fails], (15.0, 30.0));
        are_spread(600, &[Lasts(3600)], (150.0, 300.0));
        // Never all at once, whatever is configured.
        are_spread(0, &[Lasts(3600)], (0.5, 1.0));
        are_spread(0, &[Fails, Lasts(3600), Fails, Lasts(3600)], (0.5, 1.0));
        // The longer nobody answers, the wider.
        are_spread(30, &[Lasts(3600), Fails, Fails], (60.0, 120.0));
        are_spread(30, &[Lasts(1), Lasts(1), Lasts(1)], (60.0, 120.0));
    }

    #[test]
    fn a_backend_without_notices_is_asked_again_after_an_hour() {
        assert_eq!(waits(30, &[Attempt::Absent, Attempt::Absent]), [3600.0, 3600.0]);
    }
}
