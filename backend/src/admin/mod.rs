//! The operator's commands: realms, tokens, backup, restore, verify, copying. They work on the store
//! itself, beside a running server (which notices within a second), `restore` and `migrate-store` excepted.
//!
//! A secret that is made up is printed once, alone on standard output, so that it can be piped;
//! everything said about it goes to standard error. A secret is never an argument.

mod audit;
mod duration;
mod realm;
mod split_view;
mod token;
mod transfer;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use dirless_program::{Clock, Lookup};
use ring::rand::{SecureRandom, SystemRandom};

use crate::config::StorageConfig;
use crate::store::{self, Location, Purpose, Store, StoreOptions, Verification};

pub use audit::AuditArguments;
pub use duration::Span;
pub use realm::RealmCommand;
pub use split_view::SplitViewCommand;
pub use token::TokenCommand;
pub use transfer::TransferArguments;

/// The operator's commands; flatten it into the program's own.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum AdminCommand {
    /// Make, list, rotate and suspend realms.
    #[command(subcommand)]
    Realm(RealmCommand),
    /// Make, list and revoke operator tokens.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Print the audit log as JSON, one line an entry, oldest first.
    Audit(AuditArguments),
    /// List and forget split views: different contents under one version, as hosts' receipts tell.
    #[command(subcommand)]
    SplitView(SplitViewCommand),
    /// Copy the store to FILE, also while the server runs.
    Backup {
        /// The file to write (mode 0600); it is replaced whole, or left alone on any error.
        file: PathBuf,
    },
    /// Put the backup in FILE in the place of the store; the server must be stopped.
    Restore {
        /// The backup.
        file: PathBuf,
        /// Restore although the store has later writes than the backup.
        #[arg(long)]
        discard_newer: bool,
    },
    /// Check the store through and through, also while the server runs.
    Verify,
    /// Copy the store to another engine or place, whole or not at all; every server must be stopped.
    MigrateStore(TransferArguments),
}

/// What the commands touch of the world.
pub struct Console<'a> {
    /// Standard input.
    pub input: &'a mut dyn Read,
    /// Standard output: secrets and tables.
    pub output: &'a mut dyn Write,
    /// Standard error: what is said beside.
    pub notes: &'a mut dyn Write,
    /// Where times come from.
    pub clock: Clock,
    /// Where secrets come from.
    pub random: &'a dyn SecureRandom,
}

impl std::fmt::Debug for Console<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Console").finish_non_exhaustive()
    }
}

/// Runs a command on the configured store with the process's own console.
///
/// # Errors
/// What the operator has to know, with what to do next.
pub fn run(command: AdminCommand, storage: &StorageConfig, environment: Lookup<'_>) -> anyhow::Result<()> {
    let mut console = Console {
        input: &mut std::io::stdin().lock(),
        output: &mut std::io::stdout().lock(),
        // Not locked: other threads log there.
        notes: &mut std::io::stderr(),
        clock: Clock::system(),
        random: &SystemRandom::new(),
    };
    if let AdminCommand::MigrateStore(arguments) = command {
        let from = storage.other(&arguments.from, environment).context("--from")?;
        let to = storage.other(&arguments.to, environment).context("--to")?;
        return transfer::run(&from, &to, &mut console);
    }
    run_on(command, storage.location(environment)?, &mut console)
}

/// [`run`] with another console.
///
/// # Errors
/// What the operator has to know, with what to do next.
pub fn run_on(command: AdminCommand, location: impl Into<Location>, console: &mut Console<'_>) -> anyhow::Result<()> {
    let location = &location.into();
    match command {
        AdminCommand::Backup { file } => {
            let folder = embedded(location)?;
            let seen = store::backup(folder, &file).with_context(|| format!("no backup of {}", folder.display()))?;
            say(console, &format!("wrote {}: {}", file.display(), sums(&seen)))
        }
        AdminCommand::Restore { file, discard_newer } => restore(embedded(location)?, &file, discard_newer, console),
        AdminCommand::Verify => verify(location, console),
        AdminCommand::MigrateStore(arguments) => {
            let storage = StorageConfig::default();
            let (from, to) = (
                storage.other(&arguments.from, &|_| None)?,
                storage.other(&arguments.to, &|_| None)?,
            );
            transfer::run(&from, &to, console)
        }
        AdminCommand::Realm(command) => with_store(location, console, async |store, console| {
            realm::run(command, store, console).await
        }),
        AdminCommand::Audit(arguments) => with_store(location, console, async |store, console| {
            audit::run(arguments, store, console).await
        }),
        AdminCommand::SplitView(command) => with_store(location, console, async |store, console| {
            split_view::run(command, store, console).await
        }),
        AdminCommand::Token(command) => with_store(location, console, async |store, console| {
            token::run(command, store, console).await
        }),
    }
}

/// The folder of the embedded engine, which alone has backups that are files.
fn embedded(location: &Location) -> anyhow::Result<&Path> {
    if location.database.is_some() {
        bail!(
            "the store is a database of PostgreSQL: back it up with its own tools (pg_basebackup, pg_dump), or copy it \
             to a folder with `dirless-backend migrate-store` while every server is stopped"
        );
    }
    Ok(&location.folder)
}

fn with_store(
    location: &Location,
    console: &mut Console<'_>,
    work: impl AsyncFnOnce(&Store, &mut Console<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let options = StoreOptions {
        readers: 1,
        clock: console.clock.clone(),
        ..StoreOptions::new(location.clone())
    };
    let store =
        Store::open(options, Purpose::Console).with_context(|| format!("cannot open the store in {location}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .context("cannot start")?;
    runtime.block_on(async {
        let outcome = work(&store, console).await;
        store.close().await;
        outcome
    })
}

fn restore(folder: &Path, file: &Path, discard_newer: bool, console: &mut Console<'_>) -> anyhow::Result<()> {
    let now = console.clock.now();
    let restored = store::restore(folder, file, discard_newer, now).context("nothing was restored")?;
    say(
        console,
        &format!("restored {}: {}", file.display(), sums(&restored.verification)),
    )?;
    match restored.kept_aside {
        Some(kept) => say(
            console,
            &format!(
                "the store that was there is kept as {}; remove it when you are content",
                kept.display()
            ),
        ),
        None => Ok(()),
    }
}

fn verify(location: &Location, console: &mut Console<'_>) -> anyhow::Result<()> {
    let seen = store::verify(location.clone()).with_context(|| format!("cannot check {location}"))?;
    for problem in &seen.problems {
        writeln!(console.output, "{problem}").context("cannot write to standard output")?;
    }
    if !seen.is_clean() {
        bail!(
            "{} problems in {location}: stop dirless-backend and restore a backup",
            seen.problems.len()
        );
    }
    writeln!(console.output, "clean: {}", sums(&seen)).context("cannot write to standard output")
}

fn sums(seen: &Verification) -> String {
    format!(
        "schema {}, {} tenants, {} bodies of {} bytes together",
        seen.schema, seen.tenants, seen.bodies, seen.bytes
    )
}

fn say(console: &mut Console<'_>, text: &str) -> anyhow::Result<()> {
    writeln!(console.notes, "{text}").context("cannot write to standard error")
}

/// Writes rows as columns, two blanks between.
fn table(console: &mut Console<'_>, head: &[&str], rows: &[Vec<String>]) -> anyhow::Result<()> {
    let width = |column: usize| {
        let cells = rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count());
        let title = head.get(column).map_or(0, |title| title.len());
        cells.chain([title]).max().unwrap_or_default()
    };
    let head: Vec<String> = head.iter().map(|&title| title.to_owned()).collect();
    for row in [&head].into_iter().chain(rows) {
        let cells = row
            .iter()
            .enumerate()
            .map(|(column, cell)| format!("{cell:<0$}", width(column)));
        let line = cells.collect::<Vec<_>>().join("  ");
        writeln!(console.output, "{}", line.trim_end()).context("cannot write to standard output")?;
    }
    Ok(())
}

/// A time for a table: to the second, UTC; `-` for none.
fn shown(time: Option<jiff::Timestamp>) -> String {
    time.map_or_else(
        || "-".to_owned(),
        |time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    )
}
