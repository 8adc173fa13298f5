//! Which receipts do not wait for the next flush. Several backends on one database see each other's receipts there alone, and
//! somebody may be waiting for all hosts to have applied a change.
//!
//! A host sends a receipt each minute, and heads are signed again each minute: most receipts say nothing but that. Told
//! apart they are by what the backend knows itself: whether their text says anything else than the host's last one beyond its
//! time and heads, and whether anything but heads was stored for the tenant since then.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash, Hasher as _};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// How long receipts with news are gathered before they are written: five flushes a second at most, however many hosts
/// have something to say.
pub(super) const GATHERED_FOR: Duration = Duration::from_millis(200);

/// How many receipts with other heads of one host are news after something was stored: one may come while the host is
/// still at it, and the next one says that it has it.
const TELLING: u8 = 2;

/// Most hosts that are remembered, some 40 bytes each. Beyond that all are forgotten, and say news once.
const HOSTS_MAX: usize = 1 << 20;

/// What a host said last, as hashes that nobody outside can aim at.
#[derive(Clone, Copy, Debug)]
struct Told {
    /// Versions and digests of its heads.
    heads: u64,
    /// All else but the time.
    rest: u64,
    /// How much had been stored for its tenant.
    stored: u64,
    /// How many receipts with other heads are still news.
    telling: u8,
}

/// What hosts said last, and whether anything waits that somebody may be waiting for.
#[derive(Debug, Default)]
pub(super) struct Haste {
    /// By the row of the key.
    told: Mutex<HashMap<i64, Told>>,
    hasher: RandomState,
    due: Notify,
}

impl Haste {
    /// Takes note of a receipt that waits for the disk. `stored` changes whenever something that hosts apply is stored for
    /// its tenant.
    pub(super) fn take(&self, key: i64, receipt: &[u8], stored: u64) {
        if self.is_news(key, receipt, stored) {
            self.due.notify_one();
        }
    }

    /// Ends when receipts are to be written, at most once in [`GATHERED_FOR`], which `pause` waits out.
    pub(super) async fn due(&self, pause: impl AsyncFnOnce(Duration)) {
        self.due.notified().await;
        pause(GATHERED_FOR).await;
    }

    fn is_news(&self, key: i64, receipt: &[u8], stored: u64) -> bool {
        let (heads, rest) = self.hashes(receipt);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(before) = told.get_mut(&key) else {
            if told.len() >= HOSTS_MAX {
                told.clear();
            }
            let now = Told {
                heads,
                rest,
                stored,
                telling: TELLING,
            };
            told.insert(key, now);
            return true;
        };
        if before.stored != stored {
            (before.stored, before.telling) = (stored, TELLING);
        }
        let (other_heads, other_rest) = (before.heads != heads, before.rest != rest);
        (before.heads, before.rest) = (heads, rest);
        let is_awaited = other_heads && before.telling > 0;
        before.telling -= u8::from(is_awaited);
        is_awaited || other_rest
    }

    /// Of heads, and of all else in the text but the time. Signatures come after the text.
    fn hashes(&self, receipt: &[u8]) -> (u64, u64) {
        let (mut heads, mut rest) = (self.hasher.build_hasher(), self.hasher.build_hasher());
        let lines = receipt.split(|byte| *byte == b'\n');
        for line in lines.take_while(|line| !line.is_empty()) {
            if line.starts_with(b"head ") {
                line.hash(&mut heads);
            } else if !line.starts_with(b"issued ") {
                line.hash(&mut rest);
            }
        }
        (heads.finish(), rest.finish())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn receipt(second: u32, head: u32, generation: u32, alarm: &str) -> String {
        format!(
            "dirless/receipt/v1\ntenant t\nnode n\nissued {second}\npolicy 1 p\nhead syncer {head} d{head}\n\
             generation {generation}\nusers 1\ngroups 1\ndropped 0\n{alarm}\n\u{2014} n signature-{second}\n"
        )
    }

    fn is_news(haste: &Haste, text: &str, stored: u64) -> bool {
        haste.is_news(1, text.as_bytes(), stored)
    }

    #[test]
    fn what_a_host_says_each_minute_is_no_news() {
        let haste = Haste::default();
        assert!(is_news(&haste, &receipt(0, 1, 1, ""), 5), "nothing is known of it");
        // Two may still tell of what was stored before it was known; then a new head each minute is only that.
        let told = (1..100).filter(|minute| is_news(&haste, &receipt(*minute, *minute + 1, 1, ""), 5));
        assert_eq!(told.count(), usize::from(TELLING));
        assert!(!is_news(&haste, &receipt(200, 100, 1, ""), 5), "the same once more");
    }

    #[test]
    fn what_changed_on_a_host_is_news_and_so_is_the_head_after_something_was_stored() {
        let haste = Haste::default();
        for minute in 0..5 {
            is_news(&haste, &receipt(minute, minute, 1, ""), 5);
        }
        assert!(is_news(&haste, &receipt(6, 6, 2, ""), 5), "another table");
        assert!(is_news(&haste, &receipt(7, 7, 2, "alarm stale head/syncer\n"), 5));
        assert!(is_news(&haste, &receipt(8, 8, 2, ""), 5), "it is well again");
        assert!(!is_news(&haste, &receipt(9, 9, 2, ""), 5));
        // Nothing in its table changes, and it is waited for all the same: also when it said something else meanwhile.
        assert!(!is_news(&haste, &receipt(10, 9, 2, ""), 6), "it has not applied it yet");
        assert!(is_news(&haste, &receipt(11, 10, 2, ""), 7), "the head before");
        assert!(is_news(&haste, &receipt(12, 11, 2, ""), 7), "the head that was stored");
        assert!(!is_news(&haste, &receipt(13, 12, 2, ""), 7));
        let other = haste.is_news(2, receipt(13, 12, 2, "").as_bytes(), 7);
        assert!(other, "each host for itself");
    }

    #[test]
    fn however_many_hosts_say_something_it_is_one_flush_for_each_pause() {
        let haste = Haste::default();
        let mut second = 0;
        // Ten seconds in steps of a millisecond, in each of which ten hosts say something new.
        let mut say = |steps: u32| {
            for _ in 0..steps {
                second += 1;
                for host in 0..10 {
                    haste.take(host, receipt(second, second, second, "").as_bytes(), second.into());
                }
            }
        };
        say(1);
        let mut flushes = 0;
        let mut left = 10_000_u32;
        while left > 0 {
            let due = haste.due(async |pause: Duration| {
                let steps = u32::try_from(pause.as_millis()).unwrap().min(left);
                left -= steps;
                say(steps);
            });
            due.now_or_never().unwrap();
            flushes += 1;
        }
        assert_eq!(flushes, 50);
        // What came in the last pause calls once more, and then nothing does.
        assert_eq!(haste.due(async |_| ()).now_or_never(), Some(()));
        assert_eq!(haste.due(async |_| ()).now_or_never(), None);
        haste.take(3, receipt(second + 1, second, second, "").as_bytes(), second.into());
        assert_eq!(haste.due(async |_| ()).now_or_never(), None, "only alive");
    }
}
