//! Options that several commands have.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use dirless_program::Secret;
use dirless_seal::WorkFactor;
use jiff::{SignedDuration, Timestamp};

use crate::Terminal;

/// Fewest characters of a passphrase that is chosen here.
const SHORTEST: usize = 12;

/// Where a passphrase comes from.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct PassphraseFrom {
    /// Read the passphrase from this file, or from standard input for -; asked for otherwise
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
}

/// How key files are made.
#[derive(Clone, Debug, clap::Args)]
pub struct Making {
    /// Where the passphrase comes from.
    #[command(flatten)]
    pub passphrase: PassphraseFrom,
    /// Work to try one passphrase, as a power of two: each step doubles time and memory
    #[arg(long, value_name = "10-22", default_value = "18", value_parser = work_factor)]
    pub work: WorkFactor,
}

fn work_factor(text: &str) -> Result<WorkFactor, String> {
    let exponent = text.parse().ok().and_then(WorkFactor::new);
    exponent.ok_or_else(|| "it is a number from 10 to 22".to_owned())
}

impl PassphraseFrom {
    /// The lines of the file or of standard input; none when a person is to be asked.
    fn lines(&self, terminal: &mut dyn Terminal) -> anyhow::Result<Option<Vec<Secret>>> {
        let Some(path) = &self.passphrase_file else {
            return Ok(None);
        };
        let whole = if path == Path::new("-") {
            terminal
                .standard_input()
                .context("reading the passphrase from standard input")?
        } else {
            Some(Secret::from_file(path)?)
        };
        let whole = whole.context("--passphrase-file holds no passphrase")?;
        let lines = whole.expose().lines().map(str::trim).filter(|line| !line.is_empty());
        Ok(Some(lines.map(|line| Secret::new(line.to_owned())).collect()))
    }

    /// The passphrase of a key that is there.
    pub(crate) fn existing(&self, what: &str, terminal: &mut dyn Terminal) -> anyhow::Result<Secret> {
        if let Some(lines) = self.lines(terminal)? {
            return match <[Secret; 1]>::try_from(lines) {
                Ok([line]) => Ok(line),
                Err(_) => bail!("--passphrase-file must hold one line, the passphrase of {what}"),
            };
        }
        if !terminal.is_there() {
            bail!(
                "there is no terminal to ask for the passphrase of {what}; give --passphrase-file FILE, or - for standard input"
            );
        }
        terminal
            .ask(&format!("Passphrase of {what}: "))
            .context("asking for the passphrase")
    }

    /// Passphrases for new keys: one line for all of them, or one for each.
    pub(crate) fn fresh(&self, names: &[String], terminal: &mut dyn Terminal) -> anyhow::Result<Vec<Secret>> {
        let passphrases = match self.lines(terminal)? {
            Some(lines) => match lines.as_slice() {
                [one] => names.iter().map(|_| one.duplicate()).collect(),
                _ if lines.len() == names.len() => lines,
                _ => bail!(
                    "--passphrase-file must hold one line, or one for each of the {} keys",
                    names.len()
                ),
            },
            None => names
                .iter()
                .map(|name| ask_twice(name, terminal))
                .collect::<anyhow::Result<_>>()?,
        };
        if passphrases
            .iter()
            .any(|passphrase| passphrase.expose().chars().count() < SHORTEST)
        {
            bail!("a passphrase has fewer than {SHORTEST} characters; take six words or more that nobody can guess");
        }
        Ok(passphrases)
    }
}

fn ask_twice(name: &str, terminal: &mut dyn Terminal) -> anyhow::Result<Secret> {
    if !terminal.is_there() {
        bail!(
            "there is no terminal to ask for a passphrase for {name}; give --passphrase-file FILE, or - for standard input"
        );
    }
    let first = terminal.ask(&format!("New passphrase for {name}: "))?;
    let again = terminal.ask("The same again: ")?;
    if first.expose() != again.expose() {
        bail!("the two passphrases differ; nothing was written");
    }
    Ok(first)
}

/// `at` without the part of a second that signed objects do not have.
pub(crate) fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// `days` after `at`.
pub(crate) fn days_after(at: Timestamp, days: u16) -> anyhow::Result<Timestamp> {
    at.checked_add(SignedDuration::from_hours(i64::from(days) * 24))
        .context("--valid-for ends beyond all calendars")
}
