use std::collections::BTreeMap;
use std::path::PathBuf;

use dirless_model::NameRule;

use super::follow::looks_elsewhere;
use super::server::{Protection, Server};

/// `[[source]] kind = "ldap"`
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LdapConfig {
    /// Name on the wire and in the ledger.
    #[serde(default = "default_name")]
    pub name: String,
    /// The name rule; without it `[names]`.
    pub names: Option<NameRule>,
    /// `ldaps://HOST[:PORT]`, or `ldap://` with StartTLS; or a list of them, asked in this order.
    pub url: Urls,
    /// StartTLS on an `ldap://` URL.
    #[serde(default)]
    pub starttls: bool,
    /// Permits an `ldap://` URL without StartTLS: password and directory cross the network in clear.
    #[serde(default)]
    pub permit_plain: bool,
    /// PEM file of the authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Who to bind as; without it nobody (anonymous).
    pub bind_dn: Option<String>,
    /// File with the password (mode 0600).
    pub password_file: Option<PathBuf>,
    /// Service credential (systemd.exec(5)) with the password.
    pub password_credential: Option<String>,
    /// Where to search.
    pub base: String,
    /// Where to search for users, when it is not `base`.
    pub user_base: Option<String>,
    /// Where to search for groups, when it is not `base`.
    pub group_base: Option<String>,
    /// What the attributes are called.
    #[serde(default)]
    pub preset: Preset,
    /// Filter of users instead of the preset's.
    pub user_filter: Option<String>,
    /// Filter of groups instead of the preset's.
    pub group_filter: Option<String>,
    /// Attribute names instead of the preset's.
    #[serde(default)]
    pub attributes: AttributeNames,
    /// How groups in groups are resolved, instead of the preset's way.
    pub nested: Option<Nested>,
    /// Take uidNumber and gidNumber; otherwise the ledger numbers everyone.
    #[serde(default)]
    pub numbers: bool,
    /// Group names and the role that members have by them, such as `"Domain Admins" = "owner"`.
    #[serde(default)]
    pub roles: BTreeMap<String, String>,
    /// What makes an account a disabled one, instead of the preset's.
    pub disabled: Option<Vec<LockedBy>>,
    /// Ask only for what changed since the last read, and how.
    #[serde(default)]
    pub incremental: Incremental,
    /// Seconds after which everything is read again all the same.
    #[serde(default = "default_full")]
    pub full_seconds: u64,
    /// Members of a group that are asked for at a time, where the server can do that (Active
    /// Directory); without it as many as it sends.
    pub members_page: Option<u32>,
    /// Entries a page.
    #[serde(default = "default_page")]
    pub page: u32,
    /// Seconds that a whole read may take.
    #[serde(default = "default_deadline")]
    pub deadline_seconds: u64,
}

fn default_name() -> String {
    "ldap".to_owned()
}

fn default_full() -> u64 {
    86_400
}

fn default_page() -> u32 {
    // Active Directory gives at most 1,000 entries a page.
    500
}

fn default_deadline() -> u64 {
    600
}

/// One server, or several of the same directory.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(untagged)]
pub enum Urls {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl Urls {
    /// All of them.
    #[must_use]
    pub fn all(&self) -> &[String] {
        match self {
            Self::One(url) => std::slice::from_ref(url),
            Self::Many(urls) => urls,
        }
    }
}

/// What makes an account a disabled one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LockedBy {
    /// The flag in `userAccountControl` (Active Directory).
    AccountControl,
    /// `accountExpires` in the past (Active Directory).
    AccountExpires,
    /// `shadowExpire` in the past (shadow(5)).
    ShadowExpire,
    /// `nsAccountLock` is true (389 Directory Server).
    AccountLock,
    /// `pwdAccountLockedTime` says for good (password policies of OpenLDAP and others).
    LockedTime,
}

/// How changes are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Incremental {
    /// The first of the others that the server lets us use.
    #[default]
    Auto,
    /// Not: everything is read each time.
    Off,
    /// Active Directory's DirSync.
    Dirsync,
    /// Content synchronisation (RFC 4533).
    Syncrepl,
    /// By a list of ids and times of change.
    Timestamps,
}

/// A known layout of a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// RFC 2307: members are login names in memberUid.
    #[default]
    Rfc2307,
    /// RFC 2307bis: members are names of entries in member.
    Rfc2307bis,
    /// Active Directory.
    Ad,
}

/// How groups in groups are resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Nested {
    /// Only direct members count.
    None,
    /// By following members that are groups.
    Expand,
    /// By Active Directory's matching rule in chain, one search a group.
    InChain,
}

/// Names of attributes; what is absent is the preset's.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AttributeNames {
    /// Object id.
    pub id: Option<String>,
    /// Login name.
    pub user_name: Option<String>,
    /// Name shown to people.
    pub display_name: Option<String>,
    /// Address.
    pub email: Option<String>,
    /// Group name.
    pub group_name: Option<String>,
    /// Members.
    pub member: Option<String>,
    /// User id.
    pub uid_number: Option<String>,
    /// Group id, of users and of groups.
    pub gid_number: Option<String>,
    /// Home directory.
    pub home: Option<String>,
    /// Login shell.
    pub shell: Option<String>,
    /// SSH keys.
    pub keys: Option<String>,
}

impl AttributeNames {
    fn all(&self) -> impl Iterator<Item = &String> {
        let all = [
            &self.id,
            &self.user_name,
            &self.display_name,
            &self.email,
            &self.group_name,
            &self.member,
            &self.uid_number,
            &self.gid_number,
            &self.home,
            &self.shell,
            &self.keys,
        ];
        all.into_iter().flatten()
    }
}

impl LdapConfig {
    /// The servers in the order in which they are asked.
    pub(super) fn servers(&self) -> Result<Vec<Server>, String> {
        self.url
            .all()
            .iter()
            .map(|url| Server::parse(url, self.starttls))
            .collect()
    }

    /// Looks at the table: the key that is wrong and why.
    pub(in crate::sources) fn check(&self) -> Result<(), (&'static str, String)> {
        let refuse = |key: &'static str, reason: &str| Err((key, reason.to_owned()));
        let servers = self.servers().map_err(|reason| ("url", reason))?;
        if servers.is_empty() {
            return refuse("url", "names no server");
        }
        let plain = servers.iter().any(|server| server.protection == Protection::Plain);
        if plain && !self.permit_plain {
            return refuse(
                "url",
                "without TLS the password and the directory cross the network in clear; use ldaps://, or starttls = \
                 true, or say permit_plain = true on a trusted path",
            );
        }
        if self.password_file.is_some() && self.password_credential.is_some() {
            return refuse("password_file", "name a file or a credential, not both");
        }
        let password = self.password_file.is_some() || self.password_credential.is_some();
        if self.bind_dn.is_some() != password {
            return refuse(
                "bind_dn",
                "needs password_file or password_credential, and they need it",
            );
        }
        if self.bind_dn.as_deref() == Some("") {
            return refuse("bind_dn", "is empty; leave it out to bind as nobody");
        }
        if !(1..=1000).contains(&self.page) {
            return refuse("page", "must be 1 to 1000");
        }
        if self.deadline_seconds == 0 {
            return refuse("deadline_seconds", "must be at least 1");
        }
        if self.members_page == Some(0) {
            return refuse("members_page", "must be at least 1");
        }
        if let Err(error) = dirless_directory::Dn::parse(&self.base) {
            return Err(("base", format!("{:?}: {error}", self.base)));
        }
        for name in self.attributes.all() {
            if let Err(error) = dirless_directory::AttributeName::parse(name) {
                return Err(("attributes", format!("{name:?}: {error}")));
            }
        }
        for (key, text) in [("user_filter", &self.user_filter), ("group_filter", &self.group_filter)] {
            let Some(text) = text else { continue };
            let filter = dirless_directory::Filter::parse(text).map_err(|error| (key, error.to_string()))?;
            if matches!(self.incremental, Incremental::Dirsync | Incremental::Syncrepl) && looks_elsewhere(&filter) {
                return refuse(
                    "incremental",
                    "the filter depends on groups, whose changes a user's entry does not show; take \"auto\" or \"timestamps\"",
                );
            }
        }
        Ok(())
    }
}
