//! Every file the agent reads or writes, under one root, so that tests bring their own.

use std::path::{Path, PathBuf};

/// The places of a host. [`Paths::system`] is the real one; [`Paths::under`] moves all of them
/// below a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    root: PathBuf,
    config: Option<PathBuf>,
    age_key: Option<PathBuf>,
}

impl Paths {
    /// The paths of this host.
    #[must_use]
    pub fn system() -> Self {
        Self::under(Path::new("/"))
    }

    /// The same layout below `root`.
    #[must_use]
    pub fn under(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            config: None,
            age_key: None,
        }
    }

    /// Takes another configuration file than the usual one (`DIRLESS_AGENT_CONFIG`, `--config`).
    #[must_use]
    pub fn with_config(mut self, config: PathBuf) -> Self {
        self.config = Some(config);
        self
    }

    /// Takes the key file that the configuration names in `local.age_key_path`.
    #[must_use]
    pub fn with_age_key(mut self, age_key: PathBuf) -> Self {
        self.age_key = Some(age_key);
        self
    }

    /// The folder that everything lies below; `/` on a real host.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// Folder of the configuration, 0700.
    #[must_use]
    pub fn config_folder(&self) -> PathBuf {
        self.at("etc/dirless")
    }

    /// The agent's configuration, as deployed Dirless writes it.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.config
            .clone()
            .unwrap_or_else(|| self.at("etc/dirless/dirless-agent.toml"))
    }

    /// The tenant's age identity, 0600.
    #[must_use]
    pub fn age_key(&self) -> PathBuf {
        self.age_key.clone().unwrap_or_else(|| self.at("etc/dirless/age.key"))
    }

    /// The shared secret, 0600.
    #[must_use]
    pub fn hmac_key(&self) -> PathBuf {
        self.at("etc/dirless/hmac.key")
    }

    /// The host limits; absent means the built-in ones.
    #[must_use]
    pub fn limits(&self) -> PathBuf {
        self.at("etc/dirless/limits.toml")
    }

    /// Folder of all state, 0755.
    #[must_use]
    pub fn state_folder(&self) -> PathBuf {
        self.at("var/lib/dirless")
    }

    /// Folder of the agent's own state, 0700.
    #[must_use]
    pub fn agent_folder(&self) -> PathBuf {
        self.at("var/lib/dirless/agent")
    }

    /// Folder of what this host keeps of its tenant: its memory, the policy and keys; 0700.
    #[must_use]
    pub fn trust_folder(&self) -> PathBuf {
        self.at("var/lib/dirless/agent/trust")
    }

    /// The policy that was accepted last, 0600.
    #[must_use]
    pub fn trust_policy(&self) -> PathBuf {
        self.trust_folder().join("policy")
    }

    /// What was trusted, and how this host stood with whoever serves the files, in a line each; 0600. It was last modified when
    /// the host asked last.
    #[must_use]
    pub fn trust_summary(&self) -> PathBuf {
        self.trust_folder().join("summary")
    }

    /// There while the lease has run out and the policy says that nobody may come in then; 0600.
    #[must_use]
    pub fn trust_closed(&self) -> PathBuf {
        self.trust_folder().join("closed")
    }

    /// Folder of what was fetched for each source, 0700.
    #[must_use]
    pub fn sources_folder(&self) -> PathBuf {
        self.at("var/lib/dirless/agent/sources")
    }

    /// The sealed body of `source` as last fetched (the daemon writes it, whole), 0600.
    #[must_use]
    pub fn sealed(&self, source: &str) -> PathBuf {
        self.sources_folder().join(format!("{source}.sealed"))
    }

    /// What the backend said beside the body: see `pipeline::SourceNote`. 0600.
    #[must_use]
    pub fn source_note(&self, source: &str) -> PathBuf {
        self.sources_folder().join(format!("{source}.json"))
    }

    /// The last sealed body of `source` that was opened and read to its end (the worker links it).
    #[must_use]
    pub fn last_good(&self, source: &str) -> PathBuf {
        self.sources_folder().join(format!("{source}.good"))
    }

    /// The access rules as last fetched, whatever they hold (the daemon writes them), 0600.
    #[must_use]
    pub fn access_rules(&self) -> PathBuf {
        self.at("var/lib/dirless/agent/access-rules.json")
    }

    /// The last access rules that were well-formed (the worker writes them), 0600.
    #[must_use]
    pub fn good_access_rules(&self) -> PathBuf {
        self.at("var/lib/dirless/agent/access-rules.good.json")
    }

    /// The last signed access rules that were well-formed (the worker writes them), 0600. Apart from the others, so that what
    /// nobody signed never stands in for them.
    #[must_use]
    pub fn good_signed_rules(&self) -> PathBuf {
        self.at("var/lib/dirless/agent/access-rules.signed.json")
    }

    /// Highest sequence number accepted for each source, 0600.
    #[must_use]
    pub fn ratchet(&self) -> PathBuf {
        self.at("var/lib/dirless/agent/ratchet.json")
    }

    /// The records that the table was made from, where logs are followed, 0600.
    #[must_use]
    pub fn records(&self) -> PathBuf {
        self.at("var/lib/dirless/agent/records.db")
    }

    /// What the last publish did, 0600.
    #[must_use]
    pub fn report(&self) -> PathBuf {
        self.at("var/lib/dirless/agent/report.json")
    }

    /// Held by a publishing worker, so that two never write at once.
    #[must_use]
    pub fn publish_lock(&self) -> PathBuf {
        self.at("var/lib/dirless/agent/publish.lock")
    }

    /// Folder of the lookup table, 0755.
    #[must_use]
    pub fn table_folder(&self) -> PathBuf {
        self.at("var/lib/dirless/nss")
    }

    /// The lookup table, 0644.
    #[must_use]
    pub fn table(&self) -> PathBuf {
        self.at("var/lib/dirless/nss/table")
    }

    /// The directory copy for LDAP, 0640; its folder is the LDAP server's group's.
    #[must_use]
    pub fn directory_copy(&self) -> PathBuf {
        self.at("var/lib/dirless/directory/copy.db")
    }

    /// passwd(5) of the host.
    #[must_use]
    pub fn passwd(&self) -> PathBuf {
        self.at("etc/passwd")
    }

    /// group(5) of the host.
    #[must_use]
    pub fn group(&self) -> PathBuf {
        self.at("etc/group")
    }

    /// shells(5) of the host.
    #[must_use]
    pub fn shells(&self) -> PathBuf {
        self.at("etc/shells")
    }

    /// nsswitch.conf(5) of the host.
    #[must_use]
    pub fn nsswitch(&self) -> PathBuf {
        self.at("etc/nsswitch.conf")
    }

    /// Folder of sshd's configuration snippets.
    #[must_use]
    pub fn sshd_snippets(&self) -> PathBuf {
        self.at("etc/ssh/sshd_config.d")
    }

    /// Our snippet of sshd's configuration.
    #[must_use]
    pub fn sshd_snippet(&self) -> PathBuf {
        self.at("etc/ssh/sshd_config.d/dirless.conf")
    }

    /// The database of deployed agents, kept but made private.
    #[must_use]
    pub fn old_database(&self) -> PathBuf {
        self.at("var/lib/dirless/local.db")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_layout_is_the_deployed_one() {
        let paths = Paths::system();
        assert_eq!(paths.config(), Path::new("/etc/dirless/dirless-agent.toml"));
        assert_eq!(paths.age_key(), Path::new("/etc/dirless/age.key"));
        assert_eq!(paths.table(), Path::new("/var/lib/dirless/nss/table"));
        assert_eq!(
            paths.sealed("local"),
            Path::new("/var/lib/dirless/agent/sources/local.sealed")
        );
    }

    #[test]
    fn everything_moves_below_a_root_but_named_files_stay() {
        let paths = Paths::under(Path::new("/tmp/x"))
            .with_config("/srv/a.toml".into())
            .with_age_key("/srv/k".into());
        assert_eq!(paths.report(), Path::new("/tmp/x/var/lib/dirless/agent/report.json"));
        assert_eq!(paths.config(), Path::new("/srv/a.toml"));
        assert_eq!(paths.age_key(), Path::new("/srv/k"));
    }
}
