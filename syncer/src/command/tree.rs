use std::process::ExitCode;

use anyhow::Context;

use super::Setting;
use crate::audience::Audiences;
use crate::tree::restore::{Found, restore};
use crate::tree::{Actor, TreeError, by_hand};

#[derive(Debug, clap::Subcommand)]
pub(super) enum TreeCommand {
    /// Bring back a lost tree from what is published of it. Entries that are there stay as they are.
    Rebuild,
}

pub(super) async fn tree(setting: &Setting<'_>, command: TreeCommand) -> anyhow::Result<ExitCode> {
    match command {
        TreeCommand::Rebuild => rebuild(setting).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn rebuild(setting: &Setting<'_>) -> anyhow::Result<()> {
    let config = &setting.config;
    let access = setting.access()?;
    let schema = config.tree.schema()?;
    let audiences = Audiences::of(config, &schema).map_err(|(key, reason)| anyhow::anyhow!("{key}: {reason}"))?;
    let names = audiences.targets.iter().map(|target| target.name.as_str());
    let mut found = Found::default();
    let mut read = Vec::new();
    for name in names.chain([by_hand::NAME]) {
        if let Some(text) = setting.published_text(&access, name).await? {
            found
                .read(text.as_bytes())
                .with_context(|| format!("reading the snapshot of {name}"))?;
            read.push(name);
        }
    }
    let store = config.tree.open(&config.syncer.state_folder, setting.clock.clone())?;
    let restored = store.write(&Actor::syncer(), |batch| -> Result<_, TreeError> {
        restore(batch, found)
    })?;
    for left_out in &restored.left_out {
        Setting::print(&format!("not brought back: {left_out}"))?;
    }
    let from = if read.is_empty() {
        "nothing of it is published".to_owned()
    } else {
        format!("read the snapshots of {}", read.join(", "))
    };
    Setting::print(&format!(
        "{}: {} entries added; {from}. The next cycle adds what the sources say. Password hashes and secret references \
         are never published: enter those again",
        store.path().display(),
        restored.entries
    ))
}
