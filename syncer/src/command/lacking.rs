//! Waits for accounts and groups that people enter without numbers.

use std::sync::Arc;
use std::time::Duration;

use crate::tree::{TreeStore, numbers};

/// How long an entry without numbers waits for others that come with it.
const MORE: Duration = Duration::from_millis(500);

/// Finds accounts and groups that lack numbers; none without a tree.
#[derive(Debug, Default)]
pub(super) struct Lacking {
    tree: Option<Arc<TreeStore>>,
    /// The state of the tree that was looked at last.
    seen: u64,
}

impl Lacking {
    /// Those that come into `tree`.
    pub(super) fn of(tree: Arc<TreeStore>) -> Self {
        Self {
            tree: Some(tree),
            seen: 0,
        }
    }

    /// Waits until there are some that were not told before, and a moment for more. It may be dropped at
    /// any await.
    pub(super) async fn come(&mut self) {
        let Some(tree) = self.tree.clone() else {
            return std::future::pending().await;
        };
        let mut states = tree.watch();
        loop {
            let state = *states.borrow_and_update();
            let (own, since) = (Arc::clone(&tree), self.seen);
            let looked = tokio::task::spawn_blocking(move || own.read(|reader| numbers::have_come(reader, since)));
            let have_come = matches!(looked.await, Ok(Ok(true)));
            if have_come {
                tokio::time::sleep(MORE).await;
            }
            self.seen = state;
            if have_come {
                return;
            }
            if states.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}
