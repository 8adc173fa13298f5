use std::process::ExitCode;

use anyhow::Context as _;

use super::Setting;
use crate::keys;
use crate::local::{Context, LocalCommand, run};

/// Remembers the version of the local users that was written last from this machine.
const MEMORY: &str = "local-sequence";

pub(super) async fn local(setting: &Setting<'_>, command: LocalCommand) -> anyhow::Result<ExitCode> {
    let config = &setting.config;
    if !config.is_classic() {
        anyhow::bail!(
            "local users are kept at the backend of the classic protocol, which [signed] classic = false switches off; \
             enter them into the tree or into files instead"
        );
    }
    let access = setting.access()?;
    let folder = &config.syncer.state_folder;
    dirless_program::fs::ensure_folder(folder, 0o700).with_context(|| format!("making {}", folder.display()))?;
    let context = Context {
        client: keys::client(config, &access.bearer, Some(&access.tenant))?,
        identity: access.identity,
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
    outcome.map(|()| ExitCode::SUCCESS)
}
