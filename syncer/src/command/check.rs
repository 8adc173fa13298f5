use std::process::ExitCode;

use anyhow::Context;

use super::Setting;
use crate::keys::KeyFolder;
use crate::ledger::Allocator;
use crate::sources::SourceKind;
use crate::sources::files::FileSource;

#[derive(Debug, clap::Args)]
pub(super) struct CheckArguments {
    /// Also ask the backend and the source, as far as that changes nothing.
    #[arg(long)]
    online: bool,
}

pub(super) async fn check(setting: &Setting<'_>, arguments: CheckArguments) -> anyhow::Result<ExitCode> {
    let config = &setting.config;
    Setting::print(&format!("{} is good", setting.path.display()))?;
    let url = config.backend.url.as_deref().filter(|_| config.is_classic());
    if url.is_some_and(|url| url.starts_with("http://")) {
        Setting::print("note: the backend is reached without TLS; the token crosses the network in clear")?;
    }
    if let Some(note) = config.classic_note() {
        Setting::print(&format!("note: {note}"))?;
    }
    if !config.is_set_up() {
        Setting::print(&format!("note: {}", super::NOT_SET_UP))?;
    }
    let allocator = Allocator::new(config.ids.range)?;
    Setting::print(&format!("ids: {} numbers in {}", allocator.size(), config.ids.range))?;
    signed(setting)?;
    if config.is_classic() && !KeyFolder::of(config).is_enrolled() {
        Setting::print("not enrolled with the classic protocol yet: run `dirless-syncer enroll`")?;
    }
    for own in setting.sources() {
        if let SourceKind::Files(files) = &own.kind {
            let all = FileSource::new(&own.name, files).gather().await?;
            let (people, groups, entries) = (all.users.len(), all.groups.len(), all.entries.len());
            Setting::print(&format!(
                "source {}: {people} people, {groups} groups and {entries} further entries in {}",
                own.name,
                files.folder.display()
            ))?;
        }
    }
    if arguments.online {
        for own in setting.sources() {
            let source = setting.open(&own).await?;
            Setting::print(&format!("source {}: found", source.name()))?;
            for line in source.probe().await? {
                Setting::print(&format!("source {}: {line}", source.name()))?;
            }
            match source.account().await {
                Ok(Some(account)) => Setting::print(&format!("AWS account {account}"))?,
                Ok(None) => {}
                Err(error) => Setting::print(&format!("note: {error}"))?,
            }
        }
        if !config.is_classic() {
            return Ok(ExitCode::SUCCESS);
        }
        let access = setting.access()?;
        let client = crate::keys::client(config, &access.bearer, Some(&access.tenant))?;
        let key = client
            .cycle()
            .get_public_key()
            .await
            .context("asking the backend for the registered key")?;
        match key {
            Some(key) if key.as_str() == access.recipient.as_str() => {
                Setting::print("backend: reachable, the key registered there is the one here")?;
            }
            Some(key) => anyhow::bail!(
                "the backend has {key} registered, but age_public.key is {}: hosts could not open what is published",
                access.recipient.as_str()
            ),
            None => anyhow::bail!("the backend has no key for this tenant: run `dirless-syncer enroll`"),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Looks at what signs, without signing.
fn signed(setting: &Setting<'_>) -> anyhow::Result<()> {
    let config = &setting.config;
    let Some(own) = &config.signed else {
        return Ok(());
    };
    let names: Vec<_> = own.compartments().into_iter().map(|own| own.name.to_string()).collect();
    Setting::print(&format!(
        "signed: into {} for compartments {}{}",
        own.place(),
        names.join(", "),
        if config.is_classic() {
            "; beside it the classic protocol"
        } else {
            ""
        }
    ))?;
    for source in setting.sources() {
        if let Err(error) = source.name.parse::<dirless_seal::Label>() {
            anyhow::bail!("source {} cannot be published signed: {error}", source.name);
        }
    }
    match setting.signer() {
        Ok(Some(signer)) => Setting::print(&format!("signed: publisher {}", signer.publisher())),
        Ok(None) => Ok(()),
        Err(error) => Setting::print(&format!("note: {error:#}")),
    }
}
