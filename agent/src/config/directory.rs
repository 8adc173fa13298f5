//! `[directory]`: the copy for LDAP on this host.

use std::path::Path;

use dirless_directory::{Dn, Schema};
use dirless_program::config::ConfigError;

/// The base of the tree that is made of users and groups.
const BASE: &str = "dc=dirless";

/// The table; its presence asks for a copy.
#[derive(Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawDirectory {
    base: Option<String>,
}

impl RawDirectory {
    /// The base below which the copy is published.
    pub(super) fn check(&self, path: &Path) -> Result<Dn, ConfigError> {
        let text = self.base.as_deref().unwrap_or(BASE);
        let base = Dn::parse(text).map_err(|error| error.to_string());
        let base = base.and_then(|base| match (base.is_root(), Schema::standard().dn_key(&base)) {
            (false, Some(_)) => Ok(base),
            _ => Err("is empty, or a value does not fit its attribute".to_owned()),
        });
        base.map_err(|reason| {
            let reason = format!("\"{text}\": {reason}; write something like dc=example,dc=com");
            super::value(path, "directory.base", &reason)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(base: Option<&str>) -> Result<Dn, String> {
        let raw = RawDirectory {
            base: base.map(str::to_owned),
        };
        raw.check(Path::new("/x")).map_err(|error| error.to_string())
    }

    #[test]
    fn a_base_is_a_name_that_entries_can_be_below() {
        assert_eq!(check(None).unwrap().to_string(), "dc=dirless");
        assert_eq!(check(Some("o=Example,c=de")).unwrap().to_string(), "o=Example,c=de");
        for wrong in ["", "dirless", ",dc=x"] {
            let error = check(Some(wrong)).unwrap_err();
            assert!(error.contains("directory.base"), "{wrong}: {error}");
        }
    }
}
