use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use dirless_client::Error;
use dirless_program::Secret;

use super::Setting;
use crate::keys::{self, KeyFolder};
use crate::sources;

#[derive(Debug, clap::Args)]
pub(super) struct EnrollArguments {
    /// Read the token from this file (mode 0600).
    #[arg(long, value_name = "FILE", conflicts_with = "token_stdin")]
    token_file: Option<PathBuf>,
    /// Read the token from standard input.
    #[arg(long)]
    token_stdin: bool,
}

pub(super) async fn enroll(setting: &Setting<'_>, arguments: EnrollArguments) -> anyhow::Result<ExitCode> {
    if setting.config.backend.url.is_none() {
        bail!(
            "{} has no [backend] url: enrolling is for hosts of the classic protocol. With [signed] there is no enrolment: the \
             policy admits this syncer's key, see docs/publishing-signed.md",
            setting.path.display()
        );
    }
    let token = token(setting, &arguments)?;
    let tenant = register(setting, &token).await?;
    Setting::print(&format!("enrolled tenant {tenant}; keys are in {}", folder(setting)))?;
    Ok(ExitCode::SUCCESS)
}

/// Enrols with `token` and writes the key files, after the backend agreed.
pub(super) async fn register(setting: &Setting<'_>, token: &Secret) -> anyhow::Result<dirless_wire::TenantId> {
    let config = &setting.config;
    let tenant = match &config.backend.tenant_id {
        Some(tenant) => tenant.clone(),
        None => {
            let account = sources::account(config).await.context("deriving the tenant id")?;
            keys::tenant(config, token, &account)?
        }
    };
    let files = KeyFolder::of(config);
    let identity = files.identity_to_enroll()?;
    let key = keys::on_wire(&identity.recipient(), &config.syncer.key_folder)?;
    let client = keys::client(config, token, None)?;
    match client.cycle().enroll(&tenant, &key).await {
        Ok(()) => {}
        Err(Error::KeyConflict { registered_key, .. }) => {
            let registered = registered_key.map_or_else(|| "another key".to_owned(), |key| key.to_string());
            bail!(
                "the backend has {registered} registered for tenant {tenant}, and the key here is {key}. Put the age.key \
                 that hosts use into {} and run this again, or, if {key} is to replace it, run `dirless rotate-key` on \
                 an enrolled host; nothing was written",
                folder(setting)
            );
        }
        Err(error) => return Err(error).context("enrolling; no key file was written"),
    }
    files.enrolled(&identity, &tenant, token)?;
    Ok(tenant)
}

fn folder(setting: &Setting<'_>) -> String {
    setting.config.syncer.key_folder.display().to_string()
}

fn token(setting: &Setting<'_>, arguments: &EnrollArguments) -> anyhow::Result<Secret> {
    if let Some(file) = &arguments.token_file {
        return Ok(Secret::from_file(file)?);
    }
    if arguments.token_stdin {
        let token = Secret::from_reader(std::io::stdin().lock()).context("reading standard input")?;
        return token.context("standard input holds no token");
    }
    if let Some(token) = keys::token_outside(&setting.config, setting.environment)? {
        return Ok(token);
    }
    if setting.config.syncer.key_folder.join("hmac.key").exists() {
        return Ok(keys::bearer(&setting.config, setting.environment)?);
    }
    let text = rpassword::prompt_password("Enrollment token: ")
        .context("asking for the token (without a terminal use --token-stdin or --token-file)")?;
    match text.trim() {
        "" => bail!("no token was given"),
        token => Ok(Secret::new(token.to_owned())),
    }
}
