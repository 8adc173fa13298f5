//! Clients that write without a pause and remember what was acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dirless_client::{Client, Error};
use dirless_wire::Setting;
use tokio::task::JoinSet;

use crate::board::Board;
use crate::event::Notes as _;

/// Rest after a refused write, and after each other one: what is measured is gaps, not the disk.
const REFUSED: Duration = Duration::from_millis(20);
const REST: Duration = Duration::from_millis(2);

/// What they share.
#[derive(Debug, Default)]
struct Book {
    acknowledged: Mutex<Vec<(String, Duration)>>,
    refused: Mutex<BTreeMap<String, u64>>,
    tried: AtomicU64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The writers.
#[derive(Debug)]
pub(crate) struct Writers {
    book: Arc<Book>,
    tasks: JoinSet<()>,
}

/// What an error means to a writer, in a word.
fn kind(error: &Error) -> String {
    match error {
        Error::Unavailable { .. } => "unavailable".to_owned(),
        Error::RateLimited { .. } => "asked_to_wait".to_owned(),
        Error::Rejected { status, .. } => format!("status_{status}"),
        _ => "other".to_owned(),
    }
}

impl Writers {
    /// Starts one for each client. Each sets one key after the other, none twice.
    pub(crate) fn start(clients: Vec<Client>, board: &Arc<Board>) -> Self {
        let book = Arc::<Book>::default();
        let mut tasks = JoinSet::new();
        for (writer, client) in clients.into_iter().enumerate() {
            let (book, board) = (Arc::clone(&book), Arc::clone(board));
            tasks.spawn(async move {
                for number in 0u64.. {
                    let key = format!("w{writer}-{number}");
                    let setting = Setting {
                        key: key.clone(),
                        value: number.to_string(),
                    };
                    book.tried.fetch_add(1, Ordering::Relaxed);
                    match client.cycle().post_setting(&setting).await {
                        Ok(()) => {
                            locked(&book.acknowledged).push((key, board.now()));
                            tokio::time::sleep(REST).await;
                        }
                        Err(error) => {
                            *locked(&book.refused).entry(kind(&error)).or_default() += 1;
                            tokio::time::sleep(REFUSED).await;
                        }
                    }
                }
            });
        }
        Self { book, tasks }
    }

    /// How many writes were acknowledged.
    pub(crate) fn count(&self) -> usize {
        locked(&self.book.acknowledged).len()
    }

    /// How many were refused so far, by what that meant.
    pub(crate) fn refused(&self) -> BTreeMap<String, u64> {
        locked(&self.book.refused).clone()
    }

    /// The longest time without an acknowledgement within these bounds.
    pub(crate) fn longest_gap(&self, from: Duration, to: Duration) -> Duration {
        let mut times: Vec<_> = {
            let acknowledged = locked(&self.book.acknowledged);
            acknowledged.iter().map(|(_, at)| *at).collect()
        };
        times.retain(|at| (from..to).contains(at));
        times.extend([from, to]);
        times.sort_unstable();
        let gaps = times.windows(2).map(|pair| match pair {
            [earlier, later] => later.saturating_sub(*earlier),
            _ => Duration::ZERO,
        });
        gaps.max().unwrap_or_default()
    }

    /// Ends them; gives what was acknowledged.
    pub(crate) async fn stop(mut self) -> BTreeSet<String> {
        self.tasks.shutdown().await;
        let acknowledged = std::mem::take(&mut *locked(&self.book.acknowledged));
        acknowledged.into_iter().map(|(key, _)| key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_longest_gap_counts_the_ends_and_nothing_outside() {
        let writers = Writers::start(Vec::new(), &Arc::new(Board::new(0, 0)));
        let at = Duration::from_millis;
        for (key, time) in [("a", 10), ("b", 500), ("c", 520), ("d", 900)] {
            locked(&writers.book.acknowledged).push((key.to_owned(), at(time)));
        }
        assert_eq!(writers.longest_gap(at(0), at(1000)), at(490));
        assert_eq!(writers.longest_gap(at(510), at(1000)), at(380));
        assert_eq!(writers.longest_gap(at(600), at(800)), at(200));
        assert_eq!(writers.count(), 4);
        assert_eq!(writers.stop().await.len(), 4);
    }
}
