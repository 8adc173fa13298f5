//! The tree in a cycle: what a read would do to it, and doing it.

use anyhow::{Context, bail};
use dirless_directory::{Dn, Schema};
use dirless_model::snapshot::Document;
use dirless_program::Clock;

use super::{Cycle, Plan};
use crate::config::Config;
use crate::sources::{SourceDirectory, SourceKind};
use crate::state::State;
use crate::tree::reconcile::{self, Nothing, SourceEntries};
use crate::tree::{Actor, TreeError, TreeStore, by_hand, people};

/// What a read would do to the tree.
#[derive(Clone, Debug)]
pub(super) struct TreeWork {
    wanted: SourceEntries,
    pub(super) plan: reconcile::Plan,
    /// The state of the tree that the plan was made on.
    state: u64,
}

/// The tree that a cycle works on.
#[derive(Debug)]
pub(super) enum Tree<'a> {
    /// Somebody else's who has it open.
    Shared(&'a TreeStore),
    /// Opened for this cycle.
    Own(Box<TreeStore>),
    /// There is none yet, and none is to be made.
    Nothing(Box<Nothing>, Dn),
}

impl Tree<'_> {
    fn store(&self) -> Option<&TreeStore> {
        match self {
            Self::Shared(store) => Some(store),
            Self::Own(store) => Some(store),
            Self::Nothing(..) => None,
        }
    }

    fn base(&self) -> &Dn {
        match self {
            Self::Shared(store) => store.base(),
            Self::Own(store) => store.base(),
            Self::Nothing(_, base) => base,
        }
    }

    fn schema(&self) -> &Schema {
        match self {
            Self::Shared(store) => store.schema(),
            Self::Own(store) => store.schema(),
            Self::Nothing(nothing, _) => reconcile::View::schema(nothing.as_ref()),
        }
    }

    /// What the read would do, and the state of the tree that this holds for.
    fn plan(&self, wanted: &SourceEntries) -> Result<(reconcile::Plan, u64), TreeError> {
        let on = |store: &TreeStore| store.read(|reader| Ok((reconcile::plan(&reader, wanted)?, reader.state()?)));
        match self {
            Self::Nothing(nothing, _) => Ok((reconcile::plan(nothing.as_ref(), wanted)?, 0)),
            Self::Shared(store) => on(store),
            Self::Own(store) => on(store),
        }
    }
}

/// Says of an error of the tree where the tree is, and what to do when it is damaged.
pub(crate) fn usable<T>(config: &Config, result: Result<T, TreeError>) -> anyhow::Result<T> {
    let path = config.tree.path(&config.syncer.state_folder);
    result.map_err(|error| {
        let told = if error.is_damage() {
            format!(
                "the directory tree {} is damaged; nothing was published, and what was published keeps serving. Put it \
                 back from a backup, or move it (with its -wal and -shm) away and run `dirless-syncer tree rebuild`",
                path.display()
            )
        } else {
            format!("nothing was published: the directory tree {}", path.display())
        };
        anyhow::Error::new(error).context(told)
    })
}

/// Opens the tree to write, and makes it when there never was one.
///
/// # Errors
/// When it is damaged, or was there and is gone: what people entered would silently vanish.
pub(crate) fn open_tree(config: &Config, clock: Clock) -> anyhow::Result<TreeStore> {
    refuse_lost(config)?;
    usable(config, config.tree.open(&config.syncer.state_folder, clock))
}

/// Was something published that only the tree knows, although there is no tree?
fn refuse_lost(config: &Config) -> anyhow::Result<()> {
    let folder = &config.syncer.state_folder;
    let path = config.tree.path(folder);
    if path.exists() {
        return Ok(());
    }
    for name in [by_hand::NAME, crate::audience::REST] {
        let state = State::at(&folder.join("sources").join(name));
        if let Some(published) = state.published()? {
            bail!(
                "the directory tree {} is missing, although what people entered into it was published as {name:?} on {}; \
                 nothing was published, and what was published keeps serving. Put it back from a backup, or run \
                 `dirless-syncer tree rebuild`",
                path.display(),
                published.at
            );
        }
    }
    Ok(())
}

impl Cycle<'_> {
    /// The tree to be written by this cycle; none for what is in the tree already.
    pub(super) fn tree_to_write(&self) -> anyhow::Result<Option<Tree<'_>>> {
        Ok(match self.tree {
            _ if matches!(self.setting.kind, SourceKind::Directory) => None,
            Some(store) => Some(Tree::Shared(store)),
            None => Some(Tree::Own(Box::new(open_tree(self.config, self.clock.clone())?))),
        })
    }

    /// The tree as it is; nothing is made.
    pub(super) fn tree_to_read(&self) -> anyhow::Result<Option<Tree<'_>>> {
        let config = &self.config.tree;
        let folder = &self.config.syncer.state_folder;
        Ok(match self.tree {
            _ if matches!(self.setting.kind, SourceKind::Directory) => None,
            Some(store) => Some(Tree::Shared(store)),
            None if config.path(folder).exists() => {
                let opened = config.open_to_read(folder, self.clock.clone());
                Some(Tree::Own(Box::new(usable(self.config, opened)?)))
            }
            None => {
                refuse_lost(self.config)?;
                let base = usable(self.config, config.base())?;
                let nothing = Nothing::below(&base, usable(self.config, config.schema())?);
                Some(Tree::Nothing(Box::new(nothing), base))
            }
        })
    }

    /// Compares what was read with the tree, and makes the snapshot's users, groups and keys out of
    /// what the tree will say.
    pub(super) fn compare(
        &self,
        tree: &Tree<'_>,
        directory: &SourceDirectory,
        document: &mut Document,
    ) -> anyhow::Result<TreeWork> {
        let wanted = people::entries(self.source.name(), tree.base(), tree.schema(), directory, document);
        let (mut plan, state) = usable(self.config, tree.plan(&wanted))?;
        if plan.refused.iter().any(|refused| refused.is_person) {
            // Nobody loses a login because the tree cannot hold what the source says of them.
            tracing::warn!(
                event = "tree.bypassed",
                "published as the source has it, for the tree lacks some of it"
            );
            return Ok(TreeWork { wanted, plan, state });
        }
        // They have told what they are for.
        let derived = std::mem::take(&mut plan.derived);
        for unfit in derived.unfit {
            tracing::warn!(event = "entry.unfit", dn = %unfit.dn, "{}", unfit.reason);
        }
        document.users = derived.document.users;
        document.groups = derived.document.groups;
        document.ssh_keys = derived.document.ssh_keys;
        Ok(TreeWork { wanted, plan, state })
    }

    /// Does what was planned, unless the tree has changed since.
    pub(super) fn write_tree(&self, tree: Option<&Tree<'_>>, plan: &Plan) -> anyhow::Result<()> {
        let (Some(store), Some(work)) = (tree.and_then(Tree::store), &plan.tree) else {
            return Ok(());
        };
        if work.plan.is_empty() {
            return Ok(());
        }
        let done = store.write(&Actor::source(self.source.name()), |batch| -> Result<bool, TreeError> {
            // Only where somebody wrote meanwhile does it have to be made again, to be held against.
            if batch.reader().state()? != work.state {
                let mut now = reconcile::plan(&batch.reader(), &work.wanted)?;
                now.derived.clone_from(&work.plan.derived);
                if now != work.plan {
                    return Ok(false);
                }
            }
            reconcile::apply(batch, &work.plan)?;
            Ok(true)
        });
        if !usable(self.config, done)? {
            bail!(
                "the tree changed while the source was compared with it; nothing was published, the next cycle tries again"
            );
        }
        tracing::info!(
            event = "tree.changed",
            source = self.source.name(),
            "{}",
            work.plan.summary()
        );
        Ok(())
    }

    /// Adds to groups that people entered the members whom other sources have.
    pub(super) fn add_members_elsewhere(&self, document: &mut Document) -> anyhow::Result<()> {
        let elsewhere = self
            .source
            .members_elsewhere()
            .context("reading the members of groups")?;
        for group in &mut document.groups {
            let id = group.id.as_ref().map(ToString::to_string).unwrap_or_default();
            for member in elsewhere.get(&id).into_iter().flatten() {
                if !group.members.contains(member) {
                    group.members.push(member.clone());
                }
            }
        }
        Ok(())
    }
}
