//! What the published table says about a user.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use dirless_model::key::AuthorizedKey;
use dirless_table::{Corrupt, Table};

/// A user in the table.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct UserInTable {
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Comment.
    pub gecos: String,
    /// Home directory.
    pub home: String,
    /// Login shell.
    pub shell: String,
    /// Groups that list the user.
    pub groups: Vec<GroupInTable>,
    /// Keys for sshd.
    pub keys: Vec<KeyInTable>,
}

/// A group of a user.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct GroupInTable {
    /// Group id.
    pub gid: u32,
    /// Its name in the table.
    pub name: Option<String>,
}

/// A key by its marks; the key itself is nobody's business here.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct KeyInTable {
    /// Key type.
    pub kind: String,
    /// `SHA256:…`, as `ssh-keygen -l` prints it.
    pub fingerprint: String,
    /// Comment.
    pub comment: String,
    /// Names of its options.
    pub options: Vec<String>,
}

impl KeyInTable {
    /// Reads one line of authorized_keys; `None` when it is none.
    pub(super) fn of(line: &str) -> Option<Self> {
        let key = AuthorizedKey::parse(line).ok()?;
        let digest = ring::digest::digest(&ring::digest::SHA256, &key.blob());
        Some(Self {
            kind: key.kind().to_owned(),
            fingerprint: format!("SHA256:{}", STANDARD_NO_PAD.encode(digest)),
            comment: crate::pipeline::shown(key.comment()),
            options: key.option_names().map(str::to_owned).collect(),
        })
    }

    pub(super) fn line(&self) -> String {
        let mut line = format!("{} {}", self.kind, self.fingerprint);
        if !self.comment.is_empty() {
            line.push_str(&format!(" {}", self.comment));
        }
        if !self.options.is_empty() {
            line.push_str(&format!(" ({})", self.options.join(",")));
        }
        line
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Looks `name` up.
pub(super) fn user(table: &Table, name: &str) -> Result<Option<UserInTable>, Corrupt> {
    let Some(user) = table.user_by_name(name.as_bytes())? else {
        return Ok(None);
    };
    let mut groups = Vec::new();
    for gid in user.gids().iter() {
        let group = table.group_by_gid(gid)?;
        groups.push(GroupInTable {
            gid,
            name: group.map(|group| text(group.name())),
        });
    }
    let keys = text(table.keys(name.as_bytes())?.unwrap_or_default());
    Ok(Some(UserInTable {
        uid: user.uid,
        gid: user.gid,
        gecos: text(user.gecos()),
        home: text(user.home()),
        shell: text(user.shell()),
        groups,
        keys: keys.lines().filter_map(KeyInTable::of).collect(),
    }))
}
