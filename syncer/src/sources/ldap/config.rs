use std::collections::BTreeMap;
use std::path::PathBuf;

use dirless_model::NameRule;

/// `[[source]] kind = "ldap"`
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LdapConfig {
    /// Name on the wire and in the ledger.
    #[serde(default = "default_name")]
    pub name: String,
    /// The name rule; without it `[names]`.
    pub names: Option<NameRule>,
    /// `ldaps://HOST[:PORT]`, or `ldap://` with StartTLS.
    pub url: String,
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
    /// Entries a page.
    #[serde(default = "default_page")]
    pub page: i32,
    /// Seconds that a whole read may take.
    #[serde(default = "default_deadline")]
    pub deadline_seconds: u64,
}

fn default_name() -> String {
    "ldap".to_owned()
}

fn default_page() -> i32 {
    // Active Directory gives at most 1,000 entries a page.
    500
}

fn default_deadline() -> u64 {
    600
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

/// The layout in force: the preset with what the configuration says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    pub(super) preset: Preset,
    pub(super) user_filter: String,
    pub(super) group_filter: String,
    pub(super) id: String,
    pub(super) user_name: String,
    pub(super) display_name: String,
    pub(super) email: String,
    pub(super) group_name: String,
    pub(super) member: String,
    pub(super) uid_number: String,
    pub(super) gid_number: String,
    pub(super) home: String,
    pub(super) shell: String,
    pub(super) keys: String,
    pub(super) nested: Nested,
    pub(super) numbers: bool,
}

impl Layout {
    /// The layout of a server that `config` describes.
    #[must_use]
    pub fn of(config: &LdapConfig) -> Self {
        let mut layout = Self::preset(config.preset);
        let own = &config.attributes;
        let set = |to: &mut String, from: &Option<String>| {
            if let Some(from) = from {
                to.clone_from(from);
            }
        };
        set(&mut layout.user_filter, &config.user_filter);
        set(&mut layout.group_filter, &config.group_filter);
        set(&mut layout.id, &own.id);
        set(&mut layout.user_name, &own.user_name);
        set(&mut layout.display_name, &own.display_name);
        set(&mut layout.email, &own.email);
        set(&mut layout.group_name, &own.group_name);
        set(&mut layout.member, &own.member);
        set(&mut layout.uid_number, &own.uid_number);
        set(&mut layout.gid_number, &own.gid_number);
        set(&mut layout.home, &own.home);
        set(&mut layout.shell, &own.shell);
        set(&mut layout.keys, &own.keys);
        layout.nested = config.nested.unwrap_or(layout.nested);
        layout.numbers = config.numbers;
        layout
    }

    /// A preset as it stands.
    #[must_use]
    pub fn preset(preset: Preset) -> Self {
        let text = |text: &str| text.to_owned();
        let mut layout = Self {
            preset,
            user_filter: text("(&(objectClass=posixAccount)(uid=*))"),
            group_filter: text("(&(objectClass=posixGroup)(cn=*))"),
            id: text("entryUUID"),
            user_name: text("uid"),
            display_name: text("cn"),
            email: text("mail"),
            group_name: text("cn"),
            member: text("memberUid"),
            uid_number: text("uidNumber"),
            gid_number: text("gidNumber"),
            home: text("homeDirectory"),
            shell: text("loginShell"),
            keys: text("sshPublicKey"),
            nested: Nested::None,
            numbers: false,
        };
        match preset {
            Preset::Rfc2307 => {}
            Preset::Rfc2307bis => {
                layout.member = text("member");
                layout.group_filter = text("(|(objectClass=posixGroup)(objectClass=groupOfNames))");
                layout.nested = Nested::Expand;
            }
            Preset::Ad => {
                layout.user_filter = text("(&(objectCategory=person)(objectClass=user)(sAMAccountName=*))");
                layout.group_filter = text("(&(objectCategory=group)(sAMAccountName=*))");
                layout.id = text("objectGUID");
                layout.user_name = text("sAMAccountName");
                layout.display_name = text("displayName");
                layout.group_name = text("sAMAccountName");
                layout.member = text("member");
                layout.home = text("unixHomeDirectory");
                layout.keys = text("altSecurityIdentities");
                layout.nested = Nested::InChain;
            }
        }
        layout
    }

    /// The attributes to ask for of a user.
    pub(super) fn user_attributes(&self) -> Vec<String> {
        let own = [
            &self.id,
            &self.user_name,
            &self.display_name,
            &self.email,
            &self.uid_number,
            &self.gid_number,
            &self.home,
            &self.shell,
            &self.keys,
        ];
        let extra: &[&str] = match self.preset {
            Preset::Ad => &["userAccountControl", "primaryGroupID", "objectSid", "sshPublicKey"],
            Preset::Rfc2307 | Preset::Rfc2307bis => &["shadowExpire", "pwdAccountLockedTime"],
        };
        own.into_iter()
            .cloned()
            .chain(extra.iter().map(|text| (*text).to_owned()))
            .collect()
    }

    /// The attributes to ask for of a group.
    pub(super) fn group_attributes(&self) -> Vec<String> {
        let mut all = vec![self.id.clone(), self.group_name.clone(), self.gid_number.clone()];
        if self.nested != Nested::InChain {
            all.push(self.member.clone());
        }
        if self.preset == Preset::Ad {
            all.push("objectSid".to_owned());
        }
        all
    }
}

impl LdapConfig {
    /// Looks at the table: the key that is wrong and why.
    pub(in crate::sources) fn check(&self) -> Result<(), (&'static str, String)> {
        let refuse = |key: &'static str, reason: &str| Err((key, reason.to_owned()));
        let plain = match self.url.split_once("://") {
            Some(("ldaps", host)) if !host.is_empty() => false,
            Some(("ldap", host)) if !host.is_empty() => !self.starttls,
            _ => return refuse("url", "must be ldaps://HOST, or ldap://HOST with starttls = true"),
        };
        if self.starttls && self.url.starts_with("ldaps") {
            return refuse("starttls", "an ldaps:// URL is TLS already; take one of the two");
        }
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
        for (key, filter) in [("user_filter", &self.user_filter), ("group_filter", &self.group_filter)] {
            if let Some(text) = filter
                && let Err(error) = dirless_directory::Filter::parse(text)
            {
                return Err((key, error.to_string()));
            }
        }
        Ok(())
    }
}
