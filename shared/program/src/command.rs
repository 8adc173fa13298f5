//! Command-line conventions: exit codes, the first lines of every `main`, man pages and shell
//! completions generated from the same definition that parses the arguments.

use std::path::Path;
use std::process::ExitCode;

use clap_complete::Shell;

use crate::config::ConfigError;

/// Exit code for a failure while running.
pub const EXIT_FAILURE: u8 = 1;
/// Exit code for wrong arguments (as clap uses it).
pub const EXIT_USAGE: u8 = 2;
/// Exit code for a configuration that cannot be used (`EX_CONFIG`, sysexits(3)); units do not
/// restart on it.
pub const EXIT_CONFIG: u8 = 78;

/// What `generate` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::Subcommand)]
pub enum Generate {
    /// Man pages, one a subcommand, into a folder.
    Man,
    /// Completions for bash, zsh and fish, into a folder.
    Completions,
}

/// Arguments of the `generate` subcommand that every program has for its packages.
#[derive(Clone, Debug, clap::Args)]
pub struct GenerateArguments {
    /// What to write.
    #[command(subcommand)]
    pub what: Generate,
    /// The folder to write into; it is made when missing.
    #[arg(long, global = true, default_value = ".")]
    pub folder: std::path::PathBuf,
}

/// Writes man pages or completions of `command` as `arguments` ask.
///
/// # Errors
/// When the folder cannot be written.
pub fn generate(mut command: clap::Command, arguments: &GenerateArguments) -> anyhow::Result<()> {
    std::fs::create_dir_all(&arguments.folder)?;
    match arguments.what {
        Generate::Man => write_man_pages(command, &arguments.folder),
        Generate::Completions => {
            let name = command.get_name().to_owned();
            for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
                clap_complete::generate_to(shell, &mut command, &name, &arguments.folder)?;
            }
            Ok(())
        }
    }
}

fn write_man_pages(command: clap::Command, folder: &Path) -> anyhow::Result<()> {
    Ok(clap_mangen::generate_to(command.disable_help_subcommand(true), folder)?)
}

/// First thing in every `main`: keeps the process's memory off the disk, and picks the TLS provider.
pub fn start() {
    no_core();
    // Fails only when a provider is already installed, which is just as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Sees that a crash writes nothing: what these programs have in memory are keys. It also keeps other processes of the same
/// user from looking into this one.
fn no_core() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    // Neither is ever refused to a process for itself; if one were, the other holds.
    let _ = setrlimit(Resource::Core, none);
    // Also where cores are piped to a program, which ignores the limit.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// Turns a program's outcome into its exit code, and prints an error with its chain of causes.
#[must_use]
pub fn finish(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", causes_once(&error));
            let bad_config = error.chain().any(|cause| cause.is::<ConfigError>());
            ExitCode::from(if bad_config { EXIT_CONFIG } else { EXIT_FAILURE })
        }
    }
}

/// The error and its causes in one line. A cause that the text before names already is left out: many
/// of our errors name theirs in a sentence.
fn causes_once(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_told_once() {
        let missing = crate::config::load::<toml::Table>(Path::new("/nonexistent/x.toml")).unwrap_err();
        let text = causes_once(&anyhow::Error::from(missing).context("starting"));
        assert!(
            text.starts_with("starting: cannot read the configuration /nonexistent/x.toml"),
            "{text}"
        );
        assert_eq!(text.matches("os error 2").count(), 1, "{text}");
        let plain = anyhow::anyhow!("inner").context("outer");
        assert_eq!(causes_once(&plain), "outer: inner");
    }

    #[test]
    fn man_pages_and_completions_come_from_the_definition() {
        let folder = tempfile::tempdir().unwrap();
        let command = || {
            clap::Command::new("dirless-x")
                .about("Says x")
                .subcommand(clap::Command::new("run"))
        };
        for what in [Generate::Man, Generate::Completions] {
            generate(
                command(),
                &GenerateArguments {
                    what,
                    folder: folder.path().to_owned(),
                },
            )
            .unwrap();
        }
        for file in [
            "dirless-x.1",
            "dirless-x-run.1",
            "dirless-x.bash",
            "_dirless-x",
            "dirless-x.fish",
        ] {
            assert!(folder.path().join(file).exists(), "{file} is missing");
        }
    }

    #[test]
    fn a_bad_configuration_has_its_own_exit_code() {
        let error = ConfigError::Value {
            path: "/x".into(),
            key: "a.b".into(),
            reason: "too big".into(),
        };
        assert_eq!(
            finish(Err(anyhow::Error::new(error).context("starting"))),
            ExitCode::from(EXIT_CONFIG)
        );
        assert_eq!(finish(Err(anyhow::anyhow!("boom"))), ExitCode::from(EXIT_FAILURE));
        assert_eq!(finish(Ok(())), ExitCode::SUCCESS);
    }
}
