//! `dirless join-code`: codes of an enroller's own.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Subcommand;
use dirless_publish::NewCode;
use dirless_seal::Label;
use jiff::tz::TimeZone;

use crate::office::With;
use crate::{Surroundings, files};

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a code and show it, once: on a terminal, or in a file that only its owner can read
    Create(Box<Create>),
    /// List all codes of this enroller, without their secrets
    List {
        #[command(flatten)]
        with: With,
    },
    /// End a code; hosts that it let in stay in
    Revoke {
        #[command(flatten)]
        with: With,
        /// Its name
        code: Label,
    },
}

/// Arguments of `dirless join-code create`.
#[derive(Debug, clap::Args)]
pub struct Create {
    #[command(flatten)]
    with: With,
    /// What its hosts will read; may be repeated
    #[arg(long = "compartment", value_name = "NAME", required = true)]
    compartments: Vec<Label>,
    /// What its hosts may call themselves, `*` for any text; may be repeated; without it anything
    #[arg(long = "host", value_name = "PATTERN")]
    hosts: Vec<String>,
    /// How many hosts it lets in
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    uses: u32,
    /// When it ends, such as 12h or 7d
    #[arg(long, value_name = "SPAN", default_value = "24h")]
    expires: jiff::Span,
    /// Where its hosts find the tenant: the base URL of the backend, or of the file host
    #[arg(long)]
    url: String,
    /// Write it to this new file instead of the terminal
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(crate) fn run(command: &Command, surroundings: &mut Surroundings<'_>) -> anyhow::Result<()> {
    match command {
        Command::Create(create) => create.run(surroundings),
        Command::List { with } => {
            let (enroller, _) = with.open(surroundings)?;
            for code in enroller.codes()? {
                let compartments: Vec<_> = code.compartments.into_iter().collect();
                writeln!(
                    surroundings.out,
                    "{}  {} of {} used, until {}, {}",
                    code.code,
                    code.used,
                    code.uses,
                    code.expires,
                    compartments.join(",")
                )?;
            }
            Ok(())
        }
        Command::Revoke { with, code } => {
            let (enroller, _) = with.open(surroundings)?;
            if !enroller.revoke_code(code)? {
                bail!("there is no join code {code} here; see: dirless join-code list");
            }
            writeln!(surroundings.out, "join code {code} is revoked")?;
            Ok(())
        }
    }
}

impl Create {
    fn run(&self, surroundings: &mut Surroundings<'_>) -> anyhow::Result<()> {
        let now = surroundings.clock.now();
        // Months and years have their length from the calendar.
        let end = now.to_zoned(TimeZone::UTC).checked_add(self.expires);
        let end = end.context("the code would end after the year 9999")?.timestamp();
        if end <= now {
            bail!("a code that ends at once is of no use: take a span such as 7d");
        }
        if self.out.is_none() && !surroundings.terminal.is_there() {
            bail!("there is no terminal, and a code in a log lets anybody in: name a new file with --out");
        }
        if let Some(path) = self.out.as_ref().filter(|path| path.exists()) {
            bail!(
                "{} is there already and is not overwritten; move it away first",
                path.display()
            );
        }
        let (enroller, _) = self.with.open(surroundings)?;
        let code = enroller.create_code(&NewCode {
            compartments: self.compartments.iter().cloned().collect(),
            hosts: self.hosts.iter().cloned().collect(),
            uses: self.uses,
            expires: end,
            url: self.url.clone(),
        })?;
        let text = code.expose().context("writing the code")?;
        match &self.out {
            Some(path) => {
                let line = zeroize::Zeroizing::new(format!("{}\n", text.as_str()));
                files::create(path, 0o600, line.as_bytes())?;
                writeln!(surroundings.out, "join code {} is in {}", code.code, path.display())?;
            }
            None => {
                writeln!(surroundings.out, "join code {}, shown only this once:", code.code)?;
                writeln!(surroundings.out, "{}", text.as_str())?;
            }
        }
        Ok(())
    }
}
