//! The command line.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{CommandFactory, Parser, Subcommand};
use dirless_program::Lookup;
use dirless_program::command::{GenerateArguments, generate};
use dirless_program::log::LogFormat;

use crate::admin::{self, AdminCommand};
use crate::config::Config;
use crate::net::Tls;
use crate::{routes, service};

/// Keeps sealed snapshots and heartbeats of many tenants, and cannot read them.
#[derive(Clone, Debug, Parser)]
#[command(name = "dirless-backend", version, about, max_term_width = 100)]
pub struct Arguments {
    /// The configuration [default: $DIRLESS_CONFIG, or /etc/dirless/dirless.toml when it exists].
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
    /// Serve until SIGTERM or SIGINT. SIGHUP reads the TLS certificate again.
    Run,
    /// Check the configuration and the files it names, and start nothing.
    Check,
    #[command(flatten)]
    Admin(AdminCommand),
    /// Print the OpenAPI description of the HTTP interface.
    Openapi,
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
        match self.command {
            Command::Openapi => {
                print!("{}", routes::description());
                return Ok(());
            }
            Command::Generate(arguments) => return generate(Self::command(), &arguments),
            Command::Run | Command::Check | Command::Admin(_) => {}
        }
        let (mut config, path) = Config::load(self.config.as_deref(), environment)?;
        if let Some(format) = self.log_format {
            config.log.format = format;
        }
        match self.command {
            Command::Admin(command) => {
                dirless_program::log::start(&config.log, environment).context("cannot start logging")?;
                admin::run(command, &config.storage, environment)
            }
            Command::Run => service::run(config, environment),
            _ => {
                if let Some(files) = &config.tls {
                    Tls::load(files)?;
                }
                let location = config.storage.location(environment)?;
                let engine = if location.database.is_some() {
                    "PostgreSQL"
                } else {
                    "SQLite"
                };
                println!(
                    "{}: fine; it serves on {} and stores in {location} ({engine})",
                    path.display(),
                    config.listen_address()
                );
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

    #[test]
    fn no_argument_takes_a_secret() {
        let text = Arguments::command().render_long_help().to_string();
        assert!(!text.contains("--secret") && !text.contains("--token"), "{text}");
    }
}
