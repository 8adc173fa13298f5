//! The `local` commands: what is typed, and which edit it is.

use std::io::{Read, Write};
use std::path::PathBuf;

use anyhow::Context as _;

use super::session::Session;
use super::{Context, Edited, Refusal, UserFields, Which, groups, keys, show, users};

/// Longest text of keys that is read, in bytes.
const MAX_KEYS_TEXT: u64 = 1024 * 1024;

/// Edit local users, groups, keys and access rules.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum LocalCommand {
    /// Users.
    #[command(subcommand)]
    User(UserCommand),
    /// Groups and their members.
    #[command(subcommand)]
    Group(GroupCommand),
    /// SSH keys.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Which groups may use which hosts.
    #[command(subcommand)]
    Access(AccessCommand),
    /// Show everything.
    Show {
        /// The opened snapshot as JSON, as hosts read it.
        #[arg(long)]
        json: bool,
    },
}

/// Arguments of every command that writes.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct EditArguments {
    /// Show what would change and write nothing.
    #[arg(long)]
    plan: bool,
    /// Begin with nothing although local users were written from this machine before and the
    /// backend has none of them: everything there was is given up.
    #[arg(long)]
    start_over: bool,
}

/// Fields of a user.
#[derive(Clone, Debug, clap::Args)]
pub struct UserArguments {
    /// Comment, usually the display name.
    #[arg(long)]
    gecos: Option<String>,
    /// Home directory.
    #[arg(long)]
    home: Option<String>,
    /// Login shell.
    #[arg(long)]
    shell: Option<String>,
    /// User id; a free one that nobody ever had when left out.
    #[arg(long)]
    uid: Option<u32>,
    /// Primary group: the name of a local group, or a gid.
    #[arg(long)]
    group: Option<String>,
}

/// `local user`
#[derive(Clone, Debug, clap::Subcommand)]
pub enum UserCommand {
    /// Add a user.
    Add {
        /// Login name.
        name: String,
        #[command(flatten)]
        fields: UserArguments,
        #[command(flatten)]
        edit: EditArguments,
    },
    /// Change fields of a user.
    Set {
        /// Login name.
        name: String,
        #[command(flatten)]
        fields: UserArguments,
        #[command(flatten)]
        edit: EditArguments,
    },
    /// Give a user another name; number, groups and keys stay.
    Rename {
        /// Login name now.
        old: String,
        /// Login name from now on.
        new: String,
        #[command(flatten)]
        edit: EditArguments,
    },
    /// Remove a user with memberships and keys.
    Remove {
        /// Login name.
        name: String,
        #[command(flatten)]
        edit: EditArguments,
    },
    /// List the users.
    List,
}

/// `local group`
#[derive(Clone, Debug, clap::Subcommand)]
pub enum GroupCommand {
    /// Add a group.
    Add {
        /// Group name.
        name: String,
        /// Group id; a free one that no group ever had when left out.
        #[arg(long)]
        gid: Option<u32>,
        #[command(flatten)]
        edit: EditArguments,
    },
    /// Remove a group.
    Remove {
        /// Group name.
        name: String,
        #[command(flatten)]
        edit: EditArguments,
    },
    /// List the groups.
    List,
    /// Members of a group.
    #[command(subcommand)]
    Member(MemberCommand),
}

/// `local group member`
#[derive(Clone, Debug, clap::Subcommand)]
pub enum MemberCommand {
    /// Make users members of a local group; synced users may be.
    Add {
        /// Group name.
        group: String,
        /// Login names.
        #[arg(required = true)]
        users: Vec<String>,
        #[command(flatten)]
        edit: EditArguments,
    },
    /// Take users out of a local group.
    Remove {
        /// Group name.
        group: String,
        /// Login names.
        #[arg(required = true)]
        users: Vec<String>,
        #[command(flatten)]
        edit: EditArguments,
    },
}

/// `local key`
#[derive(Clone, Debug, clap::Subcommand)]
pub enum KeyCommand {
    /// Add public keys, authorized_keys lines, from a file or standard input.
    Add {
        /// Login name.
        user: String,
        /// File with the keys; standard input when left out.
        #[arg(long)]
        file: Option<PathBuf>,
        #[command(flatten)]
        edit: EditArguments,
    },
    /// Remove keys.
    Remove {
        /// Login name.
        user: String,
        /// Fingerprint (SHA256:...) or comment of the key.
        #[arg(required_unless_present_any = ["file", "all"], conflicts_with_all = ["file", "all"])]
        key: Option<String>,
        /// File with the keys to remove.
        #[arg(long, conflicts_with = "all")]
        file: Option<PathBuf>,
        /// Every key of the user.
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        edit: EditArguments,
    },
    /// List keys by type, fingerprint and comment.
    List {
        /// Login name; everybody when left out.
        user: Option<String>,
    },
}

/// `local access`
#[derive(Clone, Debug, clap::Subcommand)]
pub enum AccessCommand {
    /// Show the rules.
    Show {
        /// As JSON, as hosts read them.
        #[arg(long)]
        json: bool,
    },
    /// Turn enforcement on or off; off, everyone may use every host.
    Enforce {
        /// On or off.
        state: Switch,
        #[command(flatten)]
        edit: AccessArguments,
    },
    /// Let the members of a group use a host.
    Allow {
        /// Group name.
        group: String,
        /// The host's kernel name (uname -n).
        host: String,
        #[command(flatten)]
        edit: AccessArguments,
    },
    /// Take back what `allow` gave.
    Deny {
        /// Group name.
        group: String,
        /// The host's kernel name (uname -n).
        host: String,
        #[command(flatten)]
        edit: AccessArguments,
    },
}

/// Arguments of the commands that write access rules.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct AccessArguments {
    /// Show what would change and write nothing.
    #[arg(long)]
    plan: bool,
    /// Go on even when nobody could use any host afterwards.
    #[arg(long)]
    lock_everyone_out: bool,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Switch {
    /// Enforced.
    On,
    /// Not enforced.
    Off,
}

impl LocalCommand {
    pub(super) async fn run(
        &self,
        context: &Context,
        out: &mut (dyn Write + Send),
        input: &mut (dyn Read + Send),
    ) -> anyhow::Result<()> {
        let session = Session::new(context);
        match self {
            Self::User(command) => command.run(&session, out).await,
            Self::Group(command) => command.run(&session, out).await,
            Self::Key(command) => command.run(&session, out, input).await,
            Self::Access(command) => command.run(&session, out).await,
            Self::Show { json: true } => Ok(show::json(session.read().await?.root(), out)?),
            Self::Show { json: false } => {
                let blob = session.read().await?;
                show::users(&blob, out)?;
                writeln!(out)?;
                show::groups(&blob, out)?;
                writeln!(out)?;
                show::keys(&blob, None, out)?;
                writeln!(out)?;
                show::rules(&session.read_rules().await?, out)?;
                Ok(())
            }
        }
    }
}

impl UserCommand {
    async fn run(&self, session: &Session<'_>, out: &mut (dyn Write + Send)) -> anyhow::Result<()> {
        let config = session.config();
        let (edit, edited) = match self {
            Self::List => return Ok(show::users(&session.read().await?, out)?),
            Self::Add { name, fields, edit } => {
                let fields = fields.to_fields();
                let change = |blob: &mut _| users::add(blob, name, &fields, config);
                (edit, session.edit(*edit, change).await?)
            }
            Self::Set { name, fields, edit } => {
                let fields = fields.to_fields();
                (edit, session.edit(*edit, |blob| users::set(blob, name, &fields)).await?)
            }
            Self::Rename { old, new, edit } => (edit, session.edit(*edit, |blob| users::rename(blob, old, new)).await?),
            Self::Remove { name, edit } => (edit, session.edit(*edit, |blob| Ok(users::remove(blob, name))).await?),
        };
        tell(&edited, edit.plan, out)
    }
}

impl GroupCommand {
    async fn run(&self, session: &Session<'_>, out: &mut (dyn Write + Send)) -> anyhow::Result<()> {
        let config = session.config();
        let (edit, edited) = match self {
            Self::List => return Ok(show::groups(&session.read().await?, out)?),
            Self::Add { name, gid, edit } => {
                let change = |blob: &mut _| groups::add(blob, name, *gid, config);
                (edit, session.edit(*edit, change).await?)
            }
            Self::Remove { name, edit } => (edit, session.edit(*edit, |blob| groups::remove(blob, name)).await?),
            Self::Member(MemberCommand::Add { group, users, edit }) => {
                let change = |blob: &mut _| groups::add_members(blob, group, users);
                (edit, session.edit(*edit, change).await?)
            }
            Self::Member(MemberCommand::Remove { group, users, edit }) => {
                let change = |blob: &mut _| groups::remove_members(blob, group, users);
                (edit, session.edit(*edit, change).await?)
            }
        };
        tell(&edited, edit.plan, out)
    }
}

impl KeyCommand {
    async fn run(
        &self,
        session: &Session<'_>,
        out: &mut (dyn Write + Send),
        input: &mut (dyn Read + Send),
    ) -> anyhow::Result<()> {
        let (edit, edited) = match self {
            Self::List { user } => return Ok(show::keys(&session.read().await?, user.as_deref(), out)?),
            Self::Add { user, file, edit } => {
                let text = match file {
                    Some(path) => read_file(path)?,
                    None => read_keys(input).context("reading the keys from standard input")?,
                };
                (edit, session.edit(*edit, |blob| keys::add(blob, user, &text)).await?)
            }
            Self::Remove {
                user, key, file, edit, ..
            } => {
                let which = match (key, file) {
                    (Some(key), _) => Which::Named(key.clone()),
                    (None, Some(path)) => Which::Listed(read_file(path)?),
                    (None, None) => Which::All,
                };
                (
                    edit,
                    session.edit(*edit, |blob| keys::remove(blob, user, &which)).await?,
                )
            }
        };
        tell(&edited, edit.plan, out)
    }
}

impl AccessCommand {
    async fn run(&self, session: &Session<'_>, out: &mut (dyn Write + Send)) -> anyhow::Result<()> {
        let names = session.names();
        let (edit, edited) = match self {
            Self::Show { json } => {
                let rules = session.read_rules().await?;
                if *json {
                    show::json(rules.json(), out)?;
                } else {
                    show::rules(&rules, out)?;
                }
                return Ok(());
            }
            Self::Enforce { state, edit } => {
                let on = *state == Switch::On;
                let change = |rules: &mut super::rules::Rules| rules.enforce(on, edit.lock_everyone_out);
                (edit, session.edit_rules(edit.plan, change).await?)
            }
            Self::Allow { group, host, edit } => {
                let change = |rules: &mut super::rules::Rules| rules.allow(group, host, names);
                (edit, session.edit_rules(edit.plan, change).await?)
            }
            Self::Deny { group, host, edit } => {
                let change = |rules: &mut super::rules::Rules| rules.deny(group, host, names, edit.lock_everyone_out);
                (edit, session.edit_rules(edit.plan, change).await?)
            }
        };
        tell(&edited, edit.plan, out)
    }
}

impl UserArguments {
    fn to_fields(&self) -> UserFields {
        UserFields {
            gecos: self.gecos.clone(),
            home: self.home.clone(),
            shell: self.shell.clone(),
            uid: self.uid,
            group: self.group.clone(),
        }
    }
}

impl EditArguments {
    pub(super) fn plan(self) -> bool {
        self.plan
    }

    pub(super) fn start_over(self) -> bool {
        self.start_over
    }
}

fn tell(edited: &Edited, plan: bool, out: &mut (dyn Write + Send)) -> anyhow::Result<()> {
    if plan && edited.changed {
        writeln!(out, "plan, nothing is written:")?;
    }
    for line in &edited.lines {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

fn read_file(path: &PathBuf) -> anyhow::Result<String> {
    let file = std::fs::File::open(path).with_context(|| format!("opening {}", path.display()))?;
    read_keys(file).with_context(|| format!("reading {}", path.display()))
}

fn read_keys(reader: impl Read) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    reader.take(MAX_KEYS_TEXT).read_to_end(&mut bytes)?;
    // Keys are ASCII; a comment in another encoding must not stop them.
    let text = String::from_utf8_lossy(&bytes).into_owned();
    if text.trim().is_empty() {
        return Err(Refusal::NoKey.into());
    }
    Ok(text)
}
