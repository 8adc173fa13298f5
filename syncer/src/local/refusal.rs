use dirless_model::{GecosError, HostPathError, IdError, NameError};

/// Why an edit is not made. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// What the backend holds is no snapshot that could be edited safely.
    #[error(
        "the stored local users are no snapshot ({reason}); nothing was changed, look at them with: dirless-syncer local show --json"
    )]
    Malformed {
        /// What is wrong.
        reason: String,
    },
    /// A name is outside the grammar.
    #[error("{what} {name:?} {reason}")]
    Name {
        /// `the user name` or `the group name`.
        what: &'static str,
        /// The name.
        name: String,
        /// Why.
        reason: NameError,
    },
    /// A number can name nobody.
    #[error("the {what} {number} cannot be used: {reason}")]
    Number {
        /// `uid` or `gid`.
        what: &'static str,
        /// The number.
        number: u32,
        /// Why.
        reason: IdError,
    },
    /// A number of the distribution's own.
    #[error("the {what} {number} belongs to the distribution's system users; choose 1000 or more, or leave it out")]
    System {
        /// `uid` or `gid`.
        what: &'static str,
        /// The number.
        number: u32,
    },
    /// The comment cannot stand in passwd(5).
    #[error("the comment {0}")]
    Gecos(GecosError),
    /// A path cannot stand in passwd(5).
    #[error("the {what} {path:?} {reason}")]
    Path {
        /// `home` or `shell`.
        what: &'static str,
        /// The path.
        path: String,
        /// Why.
        reason: HostPathError,
    },
    /// The name is taken by a record that differs from what is wanted.
    #[error(
        "{what} {name} exists already with another {differs}; change it with: dirless-syncer local {what} set {name}"
    )]
    Exists {
        /// `user` or `group`.
        what: &'static str,
        /// The name.
        name: String,
        /// The field that differs.
        differs: &'static str,
    },
    /// The new name is in use.
    #[error("there is a {what} {name} already; choose another name")]
    NameTaken {
        /// `user` or `group`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// There is no such record.
    #[error("there is no local {what} {name}; see: dirless-syncer local {what} list")]
    Missing {
        /// `user` or `group`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// The number belongs to somebody.
    #[error("the {what} {number} belongs to {owner}; leave it out to get a free one")]
    Taken {
        /// `uid` or `gid`.
        what: &'static str,
        /// The number.
        number: u32,
        /// Who has it.
        owner: String,
    },
    /// The number belonged to somebody whose files may still be around.
    #[error(
        "the {what} {number} belonged to {owner}, and numbers are never given to anybody else; leave it out to get a free one"
    )]
    Retired {
        /// `uid` or `gid`.
        what: &'static str,
        /// The number.
        number: u32,
        /// Who had it.
        owner: String,
    },
    /// Every number of the range was given out.
    #[error("every {what} of the range {range} is or was in use; set a larger [local] range")]
    Exhausted {
        /// `uid` or `gid`.
        what: &'static str,
        /// The range.
        range: String,
    },
    /// The group is somebody's primary group.
    #[error(
        "the group {group} is the primary group of {users}; give them another with: dirless-syncer local user set NAME --group GROUP"
    )]
    Primary {
        /// The group.
        group: String,
        /// Whose.
        users: String,
    },
    /// A line is no key.
    #[error("line {line} of the keys {reason}; nothing was changed")]
    Key {
        /// Line number from 1.
        line: usize,
        /// Why.
        reason: String,
    },
    /// Somebody offers a private key.
    #[error(
        "this is a private key; give the public one, usually in the file ending in .pub (and make a new pair if it has travelled)"
    )]
    PrivateKey,
    /// There is no line in it.
    #[error("there is no key in it; give lines such as: ssh-ed25519 AAAA... name")]
    NoKey,
    /// The key is there with other options.
    #[error(
        "{user} has the key {fingerprint} already, with other options; to change them, remove it first: dirless-syncer \
         local key remove {user} {fingerprint}"
    )]
    OtherOptions {
        /// The user.
        user: String,
        /// The key's fingerprint.
        fingerprint: String,
    },
    /// Too many keys.
    #[error("{user} would have {count} keys, hosts take at most {most}; remove some first")]
    TooManyKeys {
        /// The user.
        user: String,
        /// How many there would be.
        count: usize,
        /// How many hosts take.
        most: usize,
    },
    /// No key matches.
    #[error(
        "more than one key of {user} matches {wanted:?}; name one by its fingerprint, see: dirless-syncer local key list {user}"
    )]
    Ambiguous {
        /// The user.
        user: String,
        /// What was asked for.
        wanted: String,
    },
    /// Enforcing no rule would leave nobody on any host.
    #[error(
        "no rule would be left while rules are enforced, so nobody could use any host; allow a group first, or say --lock-everyone-out"
    )]
    LockOut,
    /// A rule text is empty or broken.
    #[error("{what} {text:?} cannot stand in a rule: {reason}")]
    Rule {
        /// `the group` or `the host`.
        what: &'static str,
        /// The text.
        text: String,
        /// Why.
        reason: &'static str,
    },
}
