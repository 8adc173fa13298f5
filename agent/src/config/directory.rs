//! `[directory]`: the copy for LDAP on this host.

use std::path::Path;

use dirless_directory::{Dn, Schema};
use dirless_program::config::ConfigError;
use dirless_wire::SourceName;

/// The base of the tree that is made of users and groups.
const BASE: &str = "dc=dirless";

/// The copy of the directory that this host publishes for LDAP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryConfig {
    /// Where it begins.
    pub base: Dn,
    /// Sources whose snapshots hold entries of the tree, in the order of precedence. They bring no
    /// accounts.
    pub sources: Vec<SourceName>,
}

/// The table; its presence asks for a copy.
#[derive(Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawDirectory {
    base: Option<String>,
    sources: Vec<String>,
}

impl RawDirectory {
    /// The copy that is asked for; `accounts` are the sources of users and groups.
    pub(super) fn check(self, accounts: &[SourceName], path: &Path) -> Result<DirectoryConfig, ConfigError> {
        let text = self.base.as_deref().unwrap_or(BASE);
        let base = Dn::parse(text).map_err(|error| error.to_string());
        let base = base.and_then(|base| match (base.is_root(), Schema::standard().dn_key(&base)) {
            (false, Some(_)) => Ok(base),
            _ => Err("is empty, or a value does not fit its attribute".to_owned()),
        });
        let base = base.map_err(|reason| {
            let reason = format!("\"{text}\": {reason}; write something like dc=example,dc=com");
            super::value(path, "directory.base", &reason)
        })?;
        let mut sources = Vec::new();
        for name in self.sources {
            let wrong = |reason: &str| super::value(path, "directory.sources", &format!("\"{name}\": {reason}"));
            let source = SourceName::new(&name).map_err(|error| wrong(&error.to_string()))?;
            if accounts.contains(&source) {
                return Err(wrong(
                    "brings users and groups (agent.sources); name the tree's sources here",
                ));
            }
            if sources.contains(&source) {
                return Err(wrong("is named twice"));
            }
            sources.push(source);
        }
        Ok(DirectoryConfig { base, sources })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(base: Option<&str>, sources: &[&str]) -> Result<DirectoryConfig, String> {
        let raw = RawDirectory {
            base: base.map(str::to_owned),
            sources: sources.iter().map(|name| (*name).to_owned()).collect(),
        };
        raw.check(&[SourceName::local()], Path::new("/x"))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_base_is_a_name_that_entries_can_be_below() {
        assert_eq!(check(None, &[]).unwrap().base.to_string(), "dc=dirless");
        let base = check(Some("o=Example,c=de"), &[]).unwrap().base;
        assert_eq!(base.to_string(), "o=Example,c=de");
        for wrong in ["", "dirless", ",dc=x"] {
            let error = check(Some(wrong), &[]).unwrap_err();
            assert!(error.contains("directory.base"), "{wrong}: {error}");
        }
    }

    #[test]
    fn sources_of_the_tree_bring_no_accounts() {
        let sources = check(None, &["tree-web", "tree"]).unwrap().sources;
        let names: Vec<&str> = sources.iter().map(SourceName::as_str).collect();
        assert_eq!(names, ["tree-web", "tree"]);
        for wrong in [&["local"][..], &["tree", "tree"], &["a/b"], &["public-key"]] {
            let error = check(None, wrong).unwrap_err();
            assert!(error.contains("directory.sources"), "{wrong:?}: {error}");
        }
    }
}
