//! What an operator does for a tenant, away from the backend: root keys and policy, checks of a whole tenant, copies of it.
//!
//! A library of commands that a program flattens into its own ([`Command`]). They work on a **tenant folder**: the same
//! files under the same names that a backend serves (`docs/protocol.md`), so that most need no network; or on a tenant at a backend.
//!
//! What always holds: nothing signed is ever overwritten; a policy is written only when the thresholds of it
//! and of the one before have signed; what is copied was checked first; no secret stands in an argument, an error or a log.

#![forbid(unsafe_code)]

mod at;
mod change;
mod draft;
mod epoch;
mod files;
mod folder;
pub mod foreign;
mod http;
mod join_code;
mod keys;
mod mirror;
mod node;
mod office;
mod options;
mod policy;
mod recover;
mod revoke;
mod sheet;
mod show;
mod syncer;
mod tenant;
mod terminal;
mod verify;
mod walk;
mod watch;

use std::io::Write;

use clap::Subcommand;
use dirless_program::{Clock, Lookup};

pub use dirless_publish::revocation::RevokeArguments;
pub use revoke::Revoke;
pub use terminal::{SystemTerminal, Terminal};
pub use walk::Problem;

/// What the commands need of their surroundings.
pub struct Surroundings<'a> {
    /// Where answers go.
    pub out: &'a mut dyn Write,
    /// Whoever can be asked.
    pub terminal: &'a mut dyn Terminal,
    /// The time.
    pub clock: Clock,
    /// The environment, for the editor's name.
    pub environment: Lookup<'a>,
}

impl std::fmt::Debug for Surroundings<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Surroundings")
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Begin a tenant of one's own
    Tenant {
        /// What to do.
        #[command(subcommand)]
        command: tenant::Command,
    },
    /// Who may say what in a tenant: show it, change it, sign it
    Policy {
        /// What to do.
        #[command(subcommand)]
        command: policy::Command,
    },
    /// Root keys, which sign the policy
    Root {
        /// What to do.
        #[command(subcommand)]
        command: change::root::Command,
    },
    /// Who may publish, and what
    Publisher {
        /// What to do.
        #[command(subcommand)]
        command: change::publisher::Command,
    },
    /// Who may admit hosts
    Enroller {
        /// What to do.
        #[command(subcommand)]
        command: change::enroller::Command,
    },
    /// Parts of the data with keys of their own
    Compartment {
        /// What to do.
        #[command(subcommand)]
        command: change::compartment::Command,
    },
    /// Who can open everything when all else is lost
    Recovery {
        /// What to do.
        #[command(subcommand)]
        command: change::recovery::Command,
    },
    /// Codes that let hosts in
    JoinCode {
        /// What to do.
        #[command(subcommand)]
        command: join_code::Command,
    },
    /// Hosts: who is in, who waits, and who is to be locked out
    Node {
        /// What to do.
        #[command(subcommand)]
        command: node::Command,
    },
    /// Keys of the data
    Epoch {
        /// What to do.
        #[command(subcommand)]
        command: epoch::Command,
    },
    /// Open everything with a recovery key, and let a new publisher go on from there
    Recover(Box<recover::Recover>),
    /// Check a whole tenant, as a host would and more, from any copy of it
    ///
    /// Exits with an error at the first thing that is wrong, and names the file and the code that hosts
    /// give it.
    Verify(Box<verify::Verify>),
    /// Show heads and hosts' receipts as they come, of a tenant at a backend
    Watch(Box<watch::Watch>),
    /// Copy a tenant as plain files, for a web server or a stick
    ///
    /// Each file is checked before it is written, and heads come last. Run again, it goes on where it stopped.
    Mirror(Box<mirror::Mirror>),
}

impl Command {
    /// Carries it out.
    ///
    /// # Errors
    /// What was wrong, where, and what to do next.
    pub fn run(&self, surroundings: &mut Surroundings<'_>) -> anyhow::Result<()> {
        match self {
            Self::Tenant { command } => tenant::run(command, surroundings),
            Self::Policy { command } => policy::run(command, surroundings),
            Self::Root { command } => change::root::run(command, surroundings),
            Self::Publisher { command } => change::publisher::run(command, surroundings),
            Self::Enroller { command } => change::enroller::run(command, surroundings),
            Self::Compartment { command } => change::compartment::run(command, surroundings),
            Self::Recovery { command } => change::recovery::run(command, surroundings),
            Self::JoinCode { command } => join_code::run(command, surroundings),
            Self::Node { command } => node::run(command, surroundings),
            Self::Epoch { command } => epoch::run(command, surroundings),
            Self::Recover(recover) => recover.run(surroundings),
            Self::Verify(verify) => verify.run(surroundings),
            Self::Watch(watch) => watch.run(surroundings),
            Self::Mirror(mirror) => mirror.run(surroundings),
        }
    }
}
