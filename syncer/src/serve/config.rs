//! `[serve]` of the configuration.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use dirless_directory::{AttributeName, Dn};
use dirless_program::tls::TlsFiles;
use serde::Deserialize;

use crate::tree::secrets;

/// `[serve]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServeConfig {
    /// Where the REST interface listens.
    pub listen: SocketAddr,
    /// Wrong tokens of one address in a minute before it is told to wait.
    pub failures_per_minute: u32,
    /// Connections at once.
    pub connections: usize,
    /// Live streams at once.
    pub streams: usize,
    /// Own TLS, for REST and LDAP.
    pub tls: Option<TlsFiles>,
    /// The LDAP server; none without this table.
    pub ldap: Option<LdapConfig>,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8214),
            failures_per_minute: 10,
            connections: 512,
            streams: 64,
            tls: None,
            ldap: None,
        }
    }
}

/// `[serve.ldap]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LdapConfig {
    /// Addresses for `ldap://`; with `[serve.tls]` clients may start TLS.
    pub listen: Vec<SocketAddr>,
    /// Addresses for `ldaps://`.
    pub listen_tls: Vec<SocketAddr>,
    /// The socket for `ldapi://`.
    pub socket: Option<PathBuf>,
    /// The one who may do everything: root of this machine over the socket, and who binds as the entry
    /// of that name. `cn=manager` and the base when absent, and then root alone.
    pub manager: Option<String>,
    /// Names of LDAP sources that are asked when somebody binds as an entry that came from them.
    pub pass_through: Vec<String>,
    /// Wrong passwords for one name in a minute, after which none is taken for the rest of it; 0 for any
    /// number.
    pub failures_per_minute: u32,
    /// Who may read what no rule mentions.
    pub read: Readers,
    /// What others may do besides.
    pub access: Vec<AccessRule>,
}

impl Default for LdapConfig {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            listen_tls: Vec::new(),
            socket: None,
            manager: None,
            pass_through: Vec::new(),
            failures_per_minute: 10,
            read: Readers::default(),
            access: Vec::new(),
        }
    }
}

/// Who may read all but secrets, without a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Readers {
    /// Nobody: only rules give anything.
    Nobody,
    /// Whoever has bound as an entry.
    #[default]
    Users,
    /// Everybody, also without a bind.
    Everyone,
}

/// `[[serve.ldap.access]]`: rights that add up; nothing takes one away.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessRule {
    /// The entry on whose subtree the rights are; the base of the tree when absent.
    pub subtree: Option<String>,
    /// Who has them.
    pub who: Who,
    /// The rights.
    pub rights: Vec<Right>,
    /// The attributes that they are about: all but secrets when absent, and `*` stands for these.
    /// Passwords can be written by those who are given them, and are shown to nobody.
    pub attributes: Option<Vec<String>>,
}

/// Who a rule is for: `everyone`, `anonymous` (whoever is no entry), `users` (who has bound as an entry),
/// `self` (the entry that has bound, on itself), `dn:NAME`, `group:NAME` (whom its `member` or
/// `uniqueMember` names).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Who {
    /// Everybody.
    Everyone,
    /// Who has not bound as an entry.
    Anonymous,
    /// Who has bound as an entry.
    Users,
    /// An entry, on itself.
    Oneself,
    /// The entry of that name.
    Entry(Dn),
    /// The members of that group.
    Group(Dn),
}

impl TryFrom<String> for Who {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let dn = |text: &str| Dn::parse(text.trim()).map_err(|error| error.to_string());
        match text.as_str() {
            "everyone" => Ok(Self::Everyone),
            "anonymous" => Ok(Self::Anonymous),
            "users" => Ok(Self::Users),
            "self" => Ok(Self::Oneself),
            other => match other.split_once(':') {
                Some(("dn", name)) => dn(name).map(Self::Entry),
                Some(("group", name)) => dn(name).map(Self::Group),
                _ => Err(format!(
                    "{other:?} is nobody: write everyone, anonymous, users, self, dn:NAME or group:NAME"
                )),
            },
        }
    }
}

/// What a rule allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Right {
    /// See values; searching and comparing come with it.
    Read,
    /// Find entries by values in filters; comparing comes with it.
    Search,
    /// Ask whether a value is there.
    Compare,
    /// Change values; entries, when all attributes are meant.
    Write,
}

impl ServeConfig {
    /// Checks what the types cannot say. The error is the key and what is wrong with it.
    ///
    /// # Errors
    /// When a value makes no sense.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        if self.tls.is_none() && !self.listen.ip().is_loopback() {
            return Err((
                "serve.listen",
                format!(
                    "{} can be reached from other machines, and tokens would travel in clear: set [serve.tls], or listen on 127.0.0.1",
                    self.listen
                ),
            ));
        }
        for (key, number) in [("serve.connections", self.connections), ("serve.streams", self.streams)] {
            if number == 0 {
                return Err((key, "must be at least 1".to_owned()));
            }
        }
        match &self.ldap {
            Some(ldap) => ldap.check(self.tls.is_some()),
            None => Ok(()),
        }
    }
}

impl LdapConfig {
    fn check(&self, has_tls: bool) -> Result<(), (&'static str, String)> {
        if self.listen.is_empty() && self.listen_tls.is_empty() && self.socket.is_none() {
            return Err((
                "serve.ldap",
                "listens nowhere: set listen, listen_tls or socket, or leave the table out".to_owned(),
            ));
        }
        if !has_tls {
            if let Some(address) = self.listen.iter().find(|address| !address.ip().is_loopback()) {
                return Err((
                    "serve.ldap.listen",
                    format!(
                        "{address} can be reached from other machines: set [serve.tls], so that clients can start TLS"
                    ),
                ));
            }
            if !self.listen_tls.is_empty() {
                return Err(("serve.ldap.listen_tls", "needs [serve.tls]".to_owned()));
            }
        }
        if let Some(manager) = &self.manager
            && let Err(error) = Dn::parse(manager)
        {
            return Err(("serve.ldap.manager", error.to_string()));
        }
        self.access.iter().try_for_each(AccessRule::check)
    }
}

impl AccessRule {
    fn check(&self) -> Result<(), (&'static str, String)> {
        let refuse = |reason: String| Err(("serve.ldap.access", reason));
        if let Some(subtree) = &self.subtree
            && let Err(error) = Dn::parse(subtree)
        {
            return refuse(format!("subtree {subtree:?}: {error}"));
        }
        if self.rights.is_empty() {
            return refuse("a rule without rights does nothing: name read, search, compare or write".to_owned());
        }
        if self.rights.contains(&Right::Write) && matches!(self.who, Who::Everyone | Who::Anonymous) {
            return refuse("nobody writes without a bind: give write to users, self, dn:NAME or group:NAME".to_owned());
        }
        for name in self.attributes.iter().flatten().filter(|name| *name != "*") {
            if let Err(error) = AttributeName::parse(name) {
                return refuse(error.to_string());
            }
        }
        let is_password = |name: &String| AttributeName::parse(name).is_ok_and(|name| secrets::is_password(&name));
        let names = self.attributes.as_deref().unwrap_or_default();
        if !names.is_empty() && names.iter().all(is_password) && !self.rights.contains(&Right::Write) {
            return refuse("passwords are shown to nobody: give write, or name other attributes".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ServeConfig, String> {
        let config: ServeConfig = toml::from_str(text).map_err(|error| error.to_string())?;
        config.check().map_err(|(key, reason)| format!("{key}: {reason}"))?;
        Ok(config)
    }

    #[test]
    fn nothing_is_needed_and_nothing_leaves_this_machine() {
        let config = parse("").unwrap();
        assert!(config.listen.ip().is_loopback() && config.ldap.is_none());
        assert_eq!(parse("listen = \"[::1]:80\"").unwrap().listen.port(), 80);
    }

    #[test]
    fn other_machines_need_tls() {
        let tls = "[tls]\ncertificate = \"c\"\nkey = \"k\"\n";
        assert!(parse("listen = \"0.0.0.0:80\"").unwrap_err().contains("serve.tls"));
        parse(&format!("listen = \"0.0.0.0:80\"\n{tls}")).unwrap();
        assert!(
            parse("[ldap]\nlisten = [\"0.0.0.0:389\"]")
                .unwrap_err()
                .contains("serve.tls")
        );
        assert!(
            parse("[ldap]\nlisten_tls = [\"127.0.0.1:636\"]")
                .unwrap_err()
                .contains("serve.tls")
        );
        parse(&format!("{tls}[ldap]\nlisten = [\"0.0.0.0:389\"]")).unwrap();
    }

    #[test]
    fn rules_are_read_and_what_makes_no_sense_is_refused() {
        let config = parse(
            "[ldap]\nsocket = \"/run/x\"\nread = \"nobody\"\n[[ldap.access]]\nsubtree = \"ou=users,dc=dirless\"\n\
             who = \"group:cn=admins,ou=groups,dc=dirless\"\nrights = [\"read\", \"write\"]\n\
             attributes = [\"*\", \"userPassword\"]\n[[ldap.access]]\nwho = \"self\"\nrights = [\"write\"]\n\
             attributes = [\"userPassword\"]",
        )
        .unwrap();
        let ldap = config.ldap.unwrap();
        assert_eq!((ldap.access.len(), ldap.read), (2, Readers::Nobody));
        assert!(matches!(ldap.access[0].who, Who::Group(_)));
        for (rule, wanted) in [
            ("who = \"me\"\nrights = [\"read\"]", "everyone"),
            ("who = \"dn:x\"\nrights = [\"read\"]", "distinguished name"),
            ("who = \"users\"\nrights = []", "without rights"),
            ("who = \"everyone\"\nrights = [\"write\"]", "without a bind"),
            (
                "who = \"users\"\nrights = [\"read\"]\nattributes = [\"a b\"]",
                "attribute name",
            ),
            ("who = \"users\"\nrights = [\"read\"]\nsubtree = \"x\"", "subtree"),
            ("who = \"users\"\nrights = [\"own\"]", "own"),
            (
                "who = \"users\"\nrights = [\"read\"]\nattributes = [\"userPassword\"]",
                "shown to nobody",
            ),
        ] {
            let error = parse(&format!("[ldap]\nsocket = \"/run/x\"\n[[ldap.access]]\n{rule}")).unwrap_err();
            assert!(error.contains(wanted), "{rule}: {error}");
        }
        assert!(parse("[ldap]").unwrap_err().contains("listens nowhere"));
        assert!(
            parse("[ldap]\nsocket = \"/run/x\"\nmanager = \"x\"")
                .unwrap_err()
                .contains("manager")
        );
    }
}
