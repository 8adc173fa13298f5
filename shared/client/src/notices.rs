//! The request that is kept open, so that a cycle begins when something is new and not at the next interval.
//!
//! Nothing depends on it: the interval goes on, and what a notice says is asked for like everything else.

use std::time::Duration;

use dirless_wire::Notice;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::{Backoff, Client};

/// First bound of the wait before another stream, unless the splay is longer.
const SHORTEST_BOUND: Duration = Duration::from_secs(1);
/// Longest wait before another stream.
const CEILING: Duration = Duration::from_secs(300);
/// A stream that lasted so long is followed by another soon.
const LASTING: Duration = Duration::from_secs(60);
/// When a backend that knows no notices is asked again: it may have been replaced.
const ABSENT: Duration = Duration::from_secs(3600);

/// What was heard last.
#[derive(Debug, Default)]
struct Heard {
    notice: Option<Notice>,
    /// Who tells, while somebody does.
    backend: Option<String>,
}

/// Notices from a backend, as they come. Dropped, it closes the request.
#[derive(Debug)]
pub struct Notices {
    heard: watch::Receiver<Heard>,
    task: AbortHandle,
}

impl Notices {
    /// Opens the request, and another whenever it ends. Those of many hosts that ended together come back spread over
    /// `spread` at least. Has to be called within a runtime.
    #[must_use]
    pub fn start(client: Client, spread: Duration) -> Self {
        let (sender, heard) = watch::channel(Heard::default());
        let task = tokio::spawn(listen(client, spread.max(SHORTEST_BOUND), sender)).abort_handle();
        Self { heard, task }
    }

    /// The latest notice that was not given yet. Loses nothing when its future is dropped.
    pub async fn next(&mut self) -> Notice {
        loop {
            if self.heard.changed().await.is_err() {
                // The task ends with this value alone.
                std::future::pending::<()>().await;
            }
            if let Some(notice) = &self.heard.borrow_and_update().notice {
                return notice.clone();
            }
        }
    }

    /// Who tells now.
    #[must_use]
    pub fn backend(&self) -> Option<String> {
        self.heard.borrow().backend.clone()
    }
}

impl Drop for Notices {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(client: Client, spread: Duration, sender: watch::Sender<Heard>) {
    let fresh = || Backoff::new(spread, CEILING, rand::random());
    let mut backoff = fresh();
    // Told quietly: what is new, or who tells, is no news to whoever waits for the other.
    let tell_backend = |backend: Option<String>| {
        sender.send_if_modified(|heard| {
            heard.backend = backend;
            false
        });
    };
    loop {
        let opened = Instant::now();
        let wait = match client.watch().await {
            Ok(Some(mut stream)) => {
                tracing::debug!(backend = stream.backend(), "told of changes as they happen");
                tell_backend(Some(stream.backend().to_owned()));
                while let Some(notice) = stream.next().await {
                    sender.send_modify(|heard| heard.notice = Some(notice));
                }
                tell_backend(None);
                if opened.elapsed() >= LASTING {
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
        tokio::time::sleep(wait).await;
    }
}
