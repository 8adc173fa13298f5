use std::process::ExitCode;

use anyhow::Context as _;

use super::Setting;
use crate::keys;
use crate::local::{Context, Here, LocalCommand, Place, run};
use crate::signed::Wish;

/// Remembers the version of the local users that was written last from this machine.
const MEMORY: &str = "local-sequence";
/// Keeps two edits on this machine apart.
const LOCK: &str = "local.lock";

pub(super) async fn local(setting: &Setting<'_>, command: LocalCommand) -> anyhow::Result<ExitCode> {
    let config = &setting.config;
    let access = setting.access()?;
    let folder = &config.syncer.state_folder;
    dirless_program::fs::ensure_folder(folder, 0o700).with_context(|| format!("making {}", folder.display()))?;
    let place = match access.classic {
        true => Place::Backend {
            client: keys::client(config, &access.bearer, Some(&access.tenant))?,
            identity: access.identity,
        },
        false => Place::Here(Box::new(Here::new(setting.needed_signer()?, folder.join(LOCK)))),
    };
    let context = Context {
        place,
        config: config.local.clone(),
        names: config.names.clone(),
        clock: setting.clock.clone(),
        memory: Some(folder.join(MEMORY)),
    };
    // Said at once at the end: a closed pipe must not look like a failed edit.
    let mut said = Vec::new();
    let outcome = run(&command, &context, &mut said, &mut std::io::stdin()).await;
    let said = String::from_utf8_lossy(&said);
    if !said.is_empty() {
        Setting::print(said.trim_end())?;
    }
    outcome?;
    // A syncer that runs would do it within a minute.
    if matches!(&context.place, Place::Here(here) if here.has_changed()) {
        let settled = setting.settle(Wish::default()).await;
        let settled =
            settled.context("the change is kept, and published with the next head; publishing it at once failed")?;
        settled.iter().try_for_each(super::settle::tell)?;
    }
    Ok(ExitCode::SUCCESS)
}
