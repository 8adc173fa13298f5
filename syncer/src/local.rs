//! Local users, groups, keys and access rules: what people enter by hand, as a portal does.
//!
//! An edit is fetch, open, change, seal, put. The change is a pure function on the open snapshot
//! that leaves alone whatever it is not about; the put happens only when nobody else wrote in
//! between, else all of it is done again. What always holds: no update of another editor is lost, no
//! number is ever given to a second person, and an edit that is done already changes nothing.

mod blob;
mod command;
mod dispatch;
mod editor;
mod groups;
mod here;
mod keys;
mod refusal;
mod rules;
mod session;
mod show;
mod users;

#[cfg(test)]
mod tests;

use std::io::{Read, Write};
use std::path::PathBuf;

use dirless_client::Client;
use dirless_model::{HostPath, IdRange, Name, NameRule};
use dirless_program::Clock;
use dirless_seal::Identity;

pub use command::LocalCommand;
pub use here::Here;
use keys::Which;
pub use refusal::Refusal;
pub use session::LocalError;
use users::UserFields;

/// `[local]`: how records that people enter are numbered and filled in.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LocalConfig {
    /// The uids and gids to give out; portals count from 100001.
    pub range: IdRange,
    /// Name of the group that holds every local user.
    pub group: String,
    /// Its gid, and the primary gid of local users unless told otherwise.
    pub group_gid: u32,
    /// Folder of the home directories.
    pub home_folder: String,
    /// Login shell.
    pub shell: String,
    /// Largest sealed snapshot that is fetched, in bytes.
    pub max_bytes: u64,
}

impl Default for LocalConfig {
    fn default() -> Self {
        Self {
            // Up to where systemd's container range begins.
            range: IdRange::new(100_001, 524_287).expect("100001 is not above 524287, which is below 2^31"),
            group: "dirless-local".to_owned(),
            group_gid: 100_000,
            home_folder: "/home".to_owned(),
            shell: "/bin/bash".to_owned(),
            // What backends take by default.
            max_bytes: 52_428_800,
        }
    }
}

impl LocalConfig {
    /// Checks what the types do not: gives the key that is wrong and why.
    ///
    /// # Errors
    /// When the group's name or gid, the home folder or the shell cannot be used.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        Name::parse(&self.group).map_err(|reason| ("local.group", reason.to_string()))?;
        dirless_model::Gid::parse(self.group_gid).map_err(|reason| ("local.group_gid", reason.to_string()))?;
        HostPath::parse(&self.home_folder).map_err(|reason| ("local.home_folder", reason.to_string()))?;
        HostPath::parse(&self.shell).map_err(|reason| ("local.shell", reason.to_string()))?;
        Ok(())
    }
}

/// The source under which they travel.
pub const LOCAL: &str = "local";

/// Where people's entries are kept.
#[derive(Debug)]
pub enum Place {
    /// At a backend of the classic protocol, which portals write to as well.
    Backend {
        /// The way there, with bearer and tenant.
        client: Client,
        /// Opens what is stored.
        identity: Identity,
    },
    /// On this machine, from where they are published signed.
    Here(Box<Here>),
}

/// What the commands work with.
#[derive(Debug)]
pub struct Context {
    /// Where they are kept.
    pub place: Place,
    /// `[local]`.
    pub config: LocalConfig,
    /// How group names of access rules are compared.
    pub names: NameRule,
    /// The time.
    pub clock: Clock,
    /// File that remembers the last sequence number written from this machine, against a backend
    /// that serves an older copy. Without it that is not noticed.
    pub memory: Option<PathBuf>,
}

/// Runs one `local` command. What it says goes to `out`; keys come from `input` unless a file is
/// named.
///
/// # Errors
/// When the backend cannot be reached or refuses, when what is stored cannot be opened, or when the
/// edit is not allowed; nothing was changed then, unless the text says that it may have been.
pub async fn run(
    command: &LocalCommand,
    context: &Context,
    out: &mut (dyn Write + Send),
    input: &mut (dyn Read + Send),
) -> anyhow::Result<()> {
    command.run(context, out, input).await
}

/// What an edit did.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Edited {
    /// Whether there is anything to write.
    changed: bool,
    /// What to tell, first what was done.
    lines: Vec<String>,
}

impl Edited {
    fn changed(line: String) -> Self {
        Self {
            changed: true,
            lines: vec![line],
        }
    }

    fn unchanged(line: String) -> Self {
        Self {
            changed: false,
            lines: vec![format!("{line}; nothing to do")],
        }
    }

    fn note(mut self, line: String) -> Self {
        self.lines.push(format!("note: {line}"));
        self
    }
}
