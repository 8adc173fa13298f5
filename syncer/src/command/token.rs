use std::fs::OpenOptions;
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use dirless_program::Secret;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Setting;
use crate::serve::tokens::{Scope, Token, TokenName, TokenStore};

/// Operator tokens for the REST interface.
#[derive(Debug, clap::Subcommand)]
pub(super) enum TokenCommand {
    /// Make a token and show it, once: on a terminal, or in a file that only its owner can read.
    Create {
        /// Its name: what the changelog says who wrote.
        name: TokenName,
        /// What it allows; several with commas between.
        #[arg(long = "scope", required = true, value_delimiter = ',')]
        scopes: Vec<Scope>,
        /// When it ends, such as 90d, 12h or 1y.
        #[arg(long, value_name = "SPAN", default_value = "90d", conflicts_with = "never_expires")]
        expires: jiff::Span,
        /// Make a token without an end.
        #[arg(long)]
        never_expires: bool,
        /// Write it to this new file instead.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// List all tokens, without their secrets.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// End a token now, also for a syncer that runs.
    Revoke {
        /// Its name or id.
        name: String,
    },
}

pub(super) fn token(setting: &Setting<'_>, command: TokenCommand) -> anyhow::Result<ExitCode> {
    let path = TokenStore::path(&setting.config.syncer.state_folder);
    let store = TokenStore::open(&path, setting.clock.clone())?;
    match command {
        TokenCommand::Create {
            name,
            scopes,
            expires,
            never_expires,
            file,
        } => {
            let end = if never_expires {
                None
            } else {
                Some(end(setting.clock.now(), expires)?)
            };
            if file.is_none() && !std::io::stdout().is_terminal() {
                bail!("standard output is no terminal, and a token in a log is no secret: name a new file with --file");
            }
            let out = file.as_deref().map(private_file).transpose()?;
            let (token, text) = store.create(&name, &scopes, end)?;
            show(&token, &text, out.zip(file.as_deref()))?;
        }
        TokenCommand::List { json } => list(&store.list()?, json, setting.clock.now())?,
        TokenCommand::Revoke { name } => {
            if !store.revoke(&name)? {
                bail!("there is no token {name:?} that could be revoked; see: dirless-syncer token list");
            }
            Setting::print(&format!("token {name} is revoked"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn end(now: Timestamp, span: jiff::Span) -> anyhow::Result<Timestamp> {
    // Months and years have their length from the calendar.
    let end = now.to_zoned(TimeZone::UTC).checked_add(span);
    let end = end
        .context("the token would end after the year 9999: take --never-expires")?
        .timestamp();
    if end <= now {
        bail!("a token that ends at once is of no use: take a span such as 90d");
    }
    Ok(end)
}

pub(super) fn private_file(path: &Path) -> anyhow::Result<std::fs::File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options
        .open(path)
        .with_context(|| format!("making {}: the file must be new", path.display()))
}

fn show(token: &Token, text: &Secret, out: Option<(std::fs::File, &Path)>) -> anyhow::Result<()> {
    let until = token
        .expires_at
        .map_or_else(|| "revoked".to_owned(), |end| end.to_string());
    match out {
        Some((mut file, path)) => {
            let written = writeln!(file, "{}", text.expose()).and_then(|()| file.sync_all());
            written.with_context(|| format!("writing {}", path.display()))?;
            Setting::print(&format!(
                "token {} is in {}, good until {until}",
                token.name,
                path.display()
            ))
        }
        None => {
            Setting::print(&format!(
                "token {}, good until {until}; shown only this once:",
                token.name
            ))?;
            Setting::print(text.expose())
        }
    }
}

fn list(tokens: &[Token], json: bool, now: Timestamp) -> anyhow::Result<()> {
    if json {
        return Setting::print(&serde_json::to_string_pretty(tokens)?);
    }
    let shown = |time: Option<Timestamp>| time.map_or_else(|| "-".to_owned(), |time| time.to_string());
    for token in tokens {
        let state = match token.revoked_at {
            Some(_) => "revoked",
            None if !token.is_good(now) => "expired",
            None => "good",
        };
        let scopes: Vec<_> = token.scopes.iter().map(|scope| scope.as_str()).collect();
        Setting::print(&format!(
            "{}  {:8} {:16} {:24} until {}, used {}",
            token.id,
            state,
            scopes.join(","),
            token.name.as_str(),
            shown(token.expires_at),
            shown(token.last_used_at)
        ))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_lead_to_an_end_that_lies_ahead() {
        let now: Timestamp = "2026-01-31T00:00:00Z".parse().unwrap();
        let ends = |text: &str| end(now, text.parse().unwrap());
        assert_eq!(ends("90d").unwrap().to_string(), "2026-05-01T00:00:00Z");
        assert_eq!(ends("1mo").unwrap().to_string(), "2026-02-28T00:00:00Z");
        assert_eq!(ends("12h").unwrap().to_string(), "2026-01-31T12:00:00Z");
        assert!(ends("0s").is_err() && ends("-1d").is_err());
        assert!(ends("9000y").unwrap_err().to_string().contains("never-expires"));
    }
}
