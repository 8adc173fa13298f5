//! The `local` commands as they are typed.

use std::path::PathBuf;

use super::UserFields;

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
    pub(super) plan: bool,
    /// Begin with nothing although local users were written from this machine before and the
    /// backend has none of them: everything there was is given up.
    #[arg(long)]
    pub(super) start_over: bool,
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
    pub(super) plan: bool,
    /// Go on even when nobody could use any host afterwards.
    #[arg(long)]
    pub(super) lock_everyone_out: bool,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Switch {
    /// Enforced.
    On,
    /// Not enforced.
    Off,
}

impl UserArguments {
    pub(super) fn to_fields(&self) -> UserFields {
        UserFields {
            gecos: self.gecos.clone(),
            home: self.home.clone(),
            shell: self.shell.clone(),
            uid: self.uid,
            group: self.group.clone(),
        }
    }
}
