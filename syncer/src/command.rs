//! The command line: one file a command, one line each in `Command` and in [`Arguments::run`].

mod apply;
mod check;
mod enroll;
mod extras;
mod import;
mod join_code;
mod lacking;
mod ledger;
mod local;
mod node;
mod once;
mod permissions;
mod plan;
mod poke;
mod progress;
mod revoke;
mod run;
mod serve;
mod settle;
mod signing;
mod status;
mod token;
mod tree;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand};
use dirless_program::command::{GenerateArguments, generate};
use dirless_program::config::ConfigError;
use dirless_program::log::{LogConfig, LogFormat};
use dirless_program::{Clock, Lookup};
use dirless_wire::SourceName;

use crate::audience::{Audiences, Target};
use crate::config::Config;
use crate::cycle::publication::{Publication, Went};
use crate::cycle::{Cycle, open_tree};
use crate::keys::{self, Access};
use crate::local::LocalCommand;
use crate::remote::Remote;
use crate::signed::Connections;
use crate::sources::{self, Source, SourceSetting};
use crate::state::State;
use crate::tree::by_hand;

/// Exit code of `plan` when something would be published.
pub const EXIT_CHANGES: u8 = 10;
/// Exit code of `permissions check` when the answer is no.
pub const EXIT_DENIED: u8 = 12;
/// Exit code of `plan` and `once` when the change is, or would be, held back.
pub const EXIT_HELD: u8 = 11;

/// Reads people and groups from AWS IAM Identity Center, LDAP servers, Active Directory and
/// files, keeps their ids for good, and pushes sealed snapshots to the Dirless backend.
#[derive(Debug, Parser)]
#[command(name = "dirless-syncer", version, arg_required_else_help = true)]
pub struct Arguments {
    /// Configuration file [default: $DIRLESS_SYNCER_CONFIG or /etc/dirless/dirless-syncer.toml].
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How log lines are written, whatever the configuration says.
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read and publish, again and again, until told to stop.
    Run,
    /// As run, and serve the directory tree by REST besides.
    Serve,
    /// Read and publish once. Exits with 11 when a change is held back.
    Once(once::OnceArguments),
    /// Show who gains and loses what, ask if somebody is at the terminal, then read and publish
    /// once. Exits with 11 when a change is held back.
    Apply(apply::ApplyArguments),
    /// Show what would appear, change and disappear; push nothing. Exits with 0 when nothing
    /// would, 10 when something would, 11 when it would be held back.
    Plan(plan::PlanArguments),
    /// Register this tenant's key at the backend and write the key files.
    Enroll(enroll::EnrollArguments),
    /// Check the configuration file; with --online also the backend and the source.
    Check(check::CheckArguments),
    /// Show the last read, the last push, and a change that is held back.
    Status(status::StatusArguments),
    /// Take over the ids that hosts use today, from a snapshot or a passwd or group file.
    Import(import::ImportArguments),
    /// Look at the permanent id ledger, or restore a lost one.
    #[command(subcommand)]
    Ledger(ledger::LedgerCommand),
    /// Look after the directory tree.
    #[command(subcommand)]
    Tree(tree::TreeCommand),
    /// Edit local users, groups, keys and access rules, as a portal does.
    #[command(subcommand)]
    Local(LocalCommand),
    /// Ask the source whether a password is somebody's: read from the terminal, or as a line of
    /// standard input. Exits with 0 when it is, 1 when it is not (or there is nobody of that name).
    VerifyPassword(verify::VerifyArguments),
    /// Make, list and revoke tokens for the REST interface.
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Publishing that hosts believe without believing the backend.
    #[command(subcommand)]
    Signing(signing::SigningCommand),
    /// List hosts, let them in, lock them out.
    #[command(subcommand)]
    Node(node::NodeCommand),
    /// Take people away now, and keep them out until their sources agree.
    Revoke(dirless_publish::revocation::RevokeArguments),
    /// Make, list and revoke codes that let hosts in.
    #[command(subcommand)]
    JoinCode(join_code::JoinCodeCommand),
    /// Ask what somebody may do, and why.
    #[command(subcommand)]
    Permissions(permissions::PermissionsCommand),
    /// Print the description of the REST interface.
    #[command(hide = true, name = "openapi")]
    OpenApi,
    /// Write man pages or shell completions.
    #[command(hide = true)]
    Generate(GenerateArguments),
}

/// Why nothing is published as long as the file says nowhere to.
const NOT_SET_UP: &str = "nothing says where to publish: run `dirless-syncer signing init NAME`, have the root keys admit it \
                          (`dirless tenant init --syncer`), and add the [signed] table that this prints, see \
                          docs/publishing-signed.md; [backend] url is for hosts of the classic protocol alone";

/// What every command but `generate` starts from.
struct Setting<'a> {
    path: PathBuf,
    config: Arc<Config>,
    environment: Lookup<'a>,
    clock: Clock,
    connections: Arc<Connections>,
}

impl Arguments {
    /// Runs the command.
    ///
    /// # Errors
    /// What kept it from doing what it is for; a `ConfigError` in the chain is exit code 78.
    pub fn run(self, environment: Lookup<'_>) -> anyhow::Result<ExitCode> {
        if let Command::Generate(arguments) = &self.command {
            generate(Self::command(), arguments)?;
            return Ok(ExitCode::SUCCESS);
        }
        if matches!(self.command, Command::OpenApi) {
            Setting::print(crate::serve::description().trim_end())?;
            return Ok(ExitCode::SUCCESS);
        }
        let path = Config::path(self.config, environment);
        let mut config = Config::load(&path)?;
        if let Some(format) = self.log_format {
            config.log.format = format;
        }
        // A command says what it did in its own words.
        if config.log.level == LogConfig::default().level && !matches!(self.command, Command::Run | Command::Serve) {
            config.log.level = "warn".to_owned();
        }
        // The SDK logs each missing answer of the metadata service in full; our own errors say it in a line.
        if !config.log.level.contains('=') {
            config.log.level.push_str(",aws_config=error");
        }
        dirless_program::log::start(&config.log, environment).context("starting the log")?;
        let setting = Setting {
            path,
            config: Arc::new(config),
            environment,
            clock: Clock::system(),
            connections: Arc::default(),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("starting the runtime")?;
        runtime.block_on(Box::pin(setting.dispatch(self.command)))
    }
}

impl Setting<'_> {
    async fn dispatch(&self, command: Command) -> anyhow::Result<ExitCode> {
        match command {
            Command::Run => run::run(self).await,
            Command::Serve => Box::pin(serve::serve(self)).await,
            Command::Once(arguments) => once::once(self, arguments).await,
            Command::Apply(arguments) => apply::apply(self, arguments).await,
            Command::Plan(arguments) => plan::plan(self, arguments).await,
            Command::Enroll(arguments) => enroll::enroll(self, arguments).await,
            Command::Check(arguments) => check::check(self, arguments).await,
            Command::Status(arguments) => status::status(self, arguments),
            Command::Import(arguments) => import::import(self, arguments).await,
            Command::Ledger(command) => ledger::ledger(self, command).await,
            Command::Tree(command) => tree::tree(self, command).await,
            Command::Local(command) => local::local(self, command).await,
            Command::VerifyPassword(arguments) => verify::verify(self, arguments).await,
            Command::Token(command) => token::token(self, command),
            Command::Signing(command) => signing::signing(self, command).await,
            Command::Node(command) => node::node(self, command).await,
            Command::Revoke(arguments) => revoke::revoke(self, arguments).await,
            Command::JoinCode(command) => join_code::join_code(self, command),
            Command::Permissions(command) => permissions::permissions(self, command),
            Command::OpenApi | Command::Generate(_) => Ok(ExitCode::SUCCESS),
        }
    }

    fn access(&self) -> anyhow::Result<Access> {
        if !self.config.is_set_up() {
            return Err(ConfigError::Value {
                path: self.path.clone(),
                key: "signed".to_owned(),
                reason: format!("is missing; {NOT_SET_UP}"),
            }
            .into());
        }
        Ok(keys::load(&self.config, self.environment)?)
    }

    /// The sources in the order of precedence, and after them what people entered into the tree, when
    /// there is any or once was.
    fn sources(&self) -> Vec<SourceSetting> {
        let mut all = SourceSetting::all(&self.config);
        all.extend(self.by_hand());
        all
    }

    fn by_hand(&self) -> Option<SourceSetting> {
        let folder = &self.config.syncer.state_folder;
        let own = SourceSetting::by_hand(&self.config);
        if !self.config.tree.path(folder).exists() {
            return None;
        }
        let was_there = || {
            State::at(&own.state_folder)
                .published()
                .is_ok_and(|published| published.is_some())
        };
        let is_there = || {
            let store = self.config.tree.open_to_read(folder, self.clock.clone())?;
            store.read(by_hand::is_there)
        };
        // What keeps the tree from being read is told by who works with it.
        (was_there() || is_there().unwrap_or(false)).then_some(own)
    }

    /// Publishes the tree to its audiences, when the configuration says so.
    async fn publish_tree(&self, access: &Access, accept: Option<&str>) -> anyhow::Result<Vec<Went>> {
        if !self.config.tree.publish {
            return Ok(Vec::new());
        }
        let tree = open_tree(&self.config, self.clock.clone())?;
        let client = keys::client(&self.config, &access.bearer, Some(&access.tenant))?;
        let publication = Publication::new(&self.config, access, &tree, self.clock.clone())?;
        let publication = publication.signed_by(self.signer()?);
        publication.once(&client, accept).await
    }

    /// The audiences that the tree is published to.
    fn audiences(&self) -> Vec<Target> {
        let schema = self.config.tree.schema().ok().filter(|_| self.config.tree.publish);
        let audiences = schema.and_then(|schema| Audiences::of(&self.config, &schema).ok());
        audiences.map(|audiences| audiences.targets).unwrap_or_default()
    }

    /// Where changes may be held back: the state folders of all sources and audiences.
    fn state_folders(&self) -> Vec<PathBuf> {
        let folder = &self.config.syncer.state_folder;
        let sources = self.sources().into_iter().map(|source| source.state_folder);
        let audiences = self.audiences();
        let audiences = audiences.iter().map(|target| target.state_folder(folder));
        sources.chain(audiences).collect()
    }

    /// The snapshot of `source` that is published, if there is one: at the backend of the classic protocol, or as it is kept
    /// here for those who publish signed alone.
    async fn published_text(&self, access: &Access, source: &str) -> anyhow::Result<Option<String>> {
        if !access.classic {
            let source = source.parse().context("naming the source")?;
            return Ok(self.needed_signer()?.stocked_text(&source)?);
        }
        let client = keys::client(&self.config, &access.bearer, Some(&access.tenant))?;
        Remote::new(client, SourceName::new(source)?, access)
            .text_if_any()
            .await
    }

    /// The source called `name`, or the first.
    fn source_named(&self, name: Option<&str>) -> anyhow::Result<SourceSetting> {
        let mut all = self.sources();
        let at = match name {
            None => Some(0),
            Some(name) => all.iter().position(|source| source.name == name),
        };
        match at {
            Some(at) if at < all.len() => Ok(all.swap_remove(at)),
            _ => {
                let names: Vec<_> = all.iter().map(|source| source.name.as_str()).collect();
                anyhow::bail!("there is no such source; the configuration has {}", names.join(", "))
            }
        }
    }

    async fn open(&self, source: &SourceSetting) -> anyhow::Result<Box<dyn Source>> {
        let opened = sources::open(&self.config, source, self.environment).await;
        opened.with_context(|| format!("opening source {}", source.name))
    }

    fn cycle<'s>(
        &'s self,
        access: &'s Access,
        setting: &'s SourceSetting,
        source: &'s dyn Source,
    ) -> anyhow::Result<Cycle<'s>> {
        let client = keys::client(&self.config, &access.bearer, Some(&access.tenant))?;
        let cycle = Cycle::new(&self.config, access, client, setting, source, self.clock.clone())?;
        Ok(cycle.signed_by(self.signer()?))
    }

    /// Prints `text` on standard output; a closed pipe is no error.
    fn print(text: &str) -> anyhow::Result<()> {
        use std::io::Write;
        match writeln!(std::io::stdout().lock(), "{text}") {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            other => other.context("writing to standard output"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound_and_names_every_command() {
        Arguments::command().debug_assert();
        for command in [
            "run",
            "serve",
            "once",
            "apply",
            "plan",
            "enroll",
            "check",
            "status",
            "import",
            "ledger",
            "local",
            "token",
            "permissions",
            "signing",
            "node",
            "join-code",
            "revoke",
            "generate",
        ] {
            assert!(Arguments::command().find_subcommand(command).is_some(), "{command}");
        }
    }
}
