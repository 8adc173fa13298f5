//! Numbers for the accounts and groups that people entered without.

use std::collections::BTreeSet;

use super::Cycle;
use super::over_tree::{open_tree, usable};
use crate::document::{LedgerNumbers, Mapped};
use crate::ledger::{Allocator, Ledger};
use crate::sources::SourceKind;
use crate::tree::{Actor, TreeStore, by_hand, numbers};

impl Cycle<'_> {
    /// Gives those who lack numbers the ledger's, and writes them onto the entries. This waits for neither
    /// backend nor guard: an account in the tree has its numbers, whatever becomes of the snapshot.
    pub(super) fn give_numbers(&self, ledger: &mut Ledger) -> anyhow::Result<()> {
        if !matches!(self.setting.kind, SourceKind::Directory) {
            return Ok(());
        }
        let own: TreeStore;
        let store = match self.tree {
            Some(store) => store,
            None => {
                own = open_tree(self.config, self.clock.clone())?;
                &own
            }
        };
        if usable(self.config, store.read(numbers::without))?.is_empty() {
            return Ok(());
        }
        let lines = ledger.entries()?;
        if let Some(published) = self.state.published()? {
            // A ledger that was lost must not give out what others have.
            self.check_ledger(&published.shape, &lines)?;
        }
        let directory = by_hand::directory(store, &by_hand::given(&lines))?;
        let taken = LedgerNumbers::of(self.config.ids.range, &lines, true);
        let mapped = Mapped::with_ledger(&directory, &self.setting.names, Some(&taken));
        self.check_limits(&mapped)?;
        let mut live = mapped.live();
        // Who is gone is for the cycle to find, and for the guard to see.
        let names: BTreeSet<_> = live.keys().cloned().collect();
        let others = lines.into_iter().filter(|line| line.object.source == by_hand::NAME);
        for line in others.filter(|line| !line.retired) {
            let key = (line.object.kind, line.object.id);
            if !names.contains(&key) {
                live.insert(key, line.last_name);
            }
        }
        let allocator = Allocator::new(self.config.ids.range)?;
        let settled = ledger.settle(by_hand::NAME, &live, &allocator, self.clock.now())?;
        let ids = self.config.ids.primary;
        let document = mapped.document(&settled.numbers, &[], ids, &self.config.hosts)?;
        let filled = store.write(&Actor::syncer(), |batch| numbers::fill(batch, &document));
        let filled = usable(self.config, filled)?;
        tracing::info!(
            event = "numbers.given",
            filled,
            "{filled} entries made by hand got their numbers"
        );
        Ok(())
    }
}
