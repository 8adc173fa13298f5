//! The command line.

use std::path::PathBuf;

use clap::{CommandFactory, Parser, Subcommand};
use dirless_program::Lookup;
use dirless_program::command::{GenerateArguments, generate};
use dirless_program::log::LogFormat;

use crate::config::Config;
use crate::service;

/// Answers LDAP queries on this host from its own copy of the directory.
#[derive(Clone, Debug, Parser)]
#[command(name = "dirless-ldapd", version, about, max_term_width = 100)]
pub struct Arguments {
    /// The configuration [default: /etc/dirless/ldapd.toml when it exists].
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How log lines are written; overrides the configuration.
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT.
    Run,
    /// Check the configuration and the files it names, and start nothing.
    Check,
    /// Write man pages or shell completions.
    #[command(hide = true)]
    Generate(GenerateArguments),
}

impl Arguments {
    /// Does what the arguments say.
    ///
    /// # Errors
    /// What the operator has to know, with what to do next.
    pub fn run(self, environment: Lookup<'_>) -> anyhow::Result<()> {
        if let Command::Generate(arguments) = &self.command {
            return generate(Self::command(), arguments);
        }
        let (mut config, path) = Config::load(self.config.as_deref(), environment)?;
        if let Some(format) = self.log_format {
            config.log.format = format;
        }
        match self.command {
            Command::Run => service::run(&config, environment),
            _ => {
                service::tls(&config)?;
                println!("{}: fine; it serves {}", path.display(), config.addresses());
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
