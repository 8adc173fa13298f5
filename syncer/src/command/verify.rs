use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::Context;
use dirless_program::Secret;

use super::Setting;
use crate::sources::ldap::{Verdict, Who};

#[derive(Debug, clap::Args)]
pub(super) struct VerifyArguments {
    /// Whose: the login name, or with --by the object id or the name of the entry.
    user: String,
    /// What USER is.
    #[arg(long, value_enum, default_value_t)]
    by: By,
    /// The source to ask, when there are several [default: the first that can tell].
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum By {
    /// The login name.
    #[default]
    Name,
    /// The object id (objectGUID, entryUUID).
    Id,
    /// The name of the entry (DN).
    Dn,
}

pub(super) async fn verify(setting: &Setting<'_>, arguments: VerifyArguments) -> anyhow::Result<ExitCode> {
    let sources = match &arguments.source {
        Some(name) => vec![setting.source_named(Some(name))?],
        None => setting
            .sources()
            .into_iter()
            .filter(|source| source.can_verify())
            .collect(),
    };
    let own = sources
        .first()
        .context("no source can verify passwords: only kind = \"ldap\" can")?;
    let source = setting.open(own).await?;
    let passwords = source.passwords();
    let passwords = passwords.with_context(|| format!("source {} cannot verify passwords", own.name))?;
    let password = password(&arguments.user)?;
    let who = match arguments.by {
        By::Name => Who::Name(arguments.user),
        By::Id => Who::Id(arguments.user),
        By::Dn => Who::Dn(arguments.user),
    };
    let verdict = passwords.verify_password(&who, &password).await;
    match verdict.with_context(|| format!("asking source {}", own.name))? {
        Verdict::Right => {
            Setting::print("right")?;
            Ok(ExitCode::SUCCESS)
        }
        Verdict::Wrong => {
            Setting::print("wrong, or there is no such enabled user")?;
            Ok(ExitCode::FAILURE)
        }
    }
}

fn password(user: &str) -> anyhow::Result<Secret> {
    if std::io::stdin().is_terminal() {
        let prompt = format!("Password of {user}: ");
        return Ok(Secret::new(
            rpassword::prompt_password(prompt).context("reading the password")?,
        ));
    }
    let line = zeroize::Zeroizing::new(std::io::read_to_string(std::io::stdin()).context("reading the password")?);
    Ok(Secret::new(line.lines().next().unwrap_or_default().to_owned()))
}
