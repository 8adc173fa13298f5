//! `/etc/dirless/limits.toml`.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use dirless_model::{HostPath, IdRange, Name};
use dirless_program::config::{self, ConfigError};

/// What a host takes from a directory. Every key is optional; the defaults are those of
/// `docs/host-limits.md`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HostLimits {
    /// Uids that users may have.
    pub user_ids: Vec<IdRange>,
    /// Gids that groups may have, and users as their primary group.
    pub group_ids: Vec<IdRange>,
    /// Names that no user may have, besides the built-in ones.
    pub reserved_users: Vec<String>,
    /// Names that no group may have, besides the built-in ones.
    pub reserved_groups: Vec<String>,
    /// Folders below which home directories may lie.
    pub home_prefixes: Vec<HostPath>,
    /// Login shells that users may have; absent means those of shells(5) and the usual ways to say
    /// "no login".
    pub shells: Option<Vec<HostPath>>,
    /// Names of the host's own groups that a directory group of the same name may add members to.
    pub map_groups: Vec<Name>,
    /// Most users; more are a mistake, and nothing is published.
    pub max_users: usize,
    /// Most groups; more are a mistake, and nothing is published.
    pub max_groups: usize,
    /// Whether what people have running here is ended when the directory has them here no more.
    pub end_sessions: bool,
    /// Most people whose sessions are ended at once; more are a mistake, and all are left alone.
    pub end_sessions_most: usize,
}

impl Default for HostLimits {
    fn default() -> Self {
        let ids = || IdRange::new(1000, 0x7fff_ffff).into_iter().collect();
        Self {
            user_ids: ids(),
            group_ids: ids(),
            reserved_users: Vec::new(),
            reserved_groups: Vec::new(),
            home_prefixes: HostPath::parse("/home").into_iter().collect(),
            shells: None,
            map_groups: Vec::new(),
            max_users: 1_000_000,
            max_groups: 500_000,
            end_sessions: false,
            end_sessions_most: 16,
        }
    }
}

/// Why the limits cannot be used. Nothing is published then: limits that fail open are none.
#[derive(Debug, thiserror::Error)]
pub enum LimitsError {
    /// The file cannot be read or has a wrong key or value.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Somebody else than root owns it.
    #[error("{path} belongs to uid {owner}; the host limits must be root's own: chown root {path}")]
    Owner {
        /// The file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// Others may write it.
    #[error("{path} can be written by others than its owner (mode {mode:04o}): chmod 644 {path}")]
    Writable {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

impl HostLimits {
    /// Reads the file; an absent one means the defaults. It must belong to `owner` (root on a real
    /// host) and be writable by nobody else.
    ///
    /// # Errors
    /// When the file is there and cannot be trusted or used.
    pub fn load(path: &Path, owner: u32) -> Result<Self, LimitsError> {
        let path = path.to_owned();
        match std::fs::metadata(&path) {
            Ok(meta) if meta.uid() != owner => {
                return Err(LimitsError::Owner {
                    path,
                    owner: meta.uid(),
                });
            }
            Ok(meta) if meta.mode() & 0o022 != 0 => {
                let mode = meta.mode() & 0o7777;
                return Err(LimitsError::Writable { path, mode });
            }
            Ok(_) | Err(_) => {}
        }
        let limits: Self = config::load_or_default(&path)?;
        limits.checked(&path)
    }

    /// Parses the text of the file.
    ///
    /// # Errors
    /// When a key or value is wrong.
    pub fn parse(text: &str, path: &Path) -> Result<Self, LimitsError> {
        config::parse::<Self>(text, path)?.checked(path)
    }

    fn checked(self, path: &Path) -> Result<Self, LimitsError> {
        let value = |key: &str, reason: &str| ConfigError::Value {
            path: path.to_owned(),
            key: key.to_owned(),
            reason: reason.to_owned(),
        };
        if self.map_groups.iter().any(|name| name.as_str() == "root") {
            return Err(value(
                "map_groups",
                "root cannot be mapped: name the group that grants what is needed",
            )
            .into());
        }
        if self.home_prefixes.iter().any(|prefix| prefix.as_str() == "/") {
            return Err(value(
                "home_prefixes",
                "/ would allow /etc as a home; name the folders, for instance /home",
            )
            .into());
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn parse(text: &str) -> Result<HostLimits, String> {
        HostLimits::parse(text, Path::new("/etc/dirless/limits.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn every_key_can_be_set_and_none_must_be() {
        assert_eq!(parse("").unwrap(), HostLimits::default());
        let limits = parse(
            r#"
            user_ids = ["5000-5999", "70000"]
            group_ids = ["5000-5999"]
            reserved_users = ["deploy"]
            reserved_groups = ["builders"]
            home_prefixes = ["/home", "/srv/home"]
            shells = ["/bin/bash"]
            map_groups = ["sudo"]
            max_users = 10
            max_groups = 5
            end_sessions = true
            end_sessions_most = 3
            "#,
        )
        .unwrap();
        assert!(limits.end_sessions && !HostLimits::default().end_sessions);
        assert!(limits.user_ids.iter().any(|range| range.contains(70_000)));
        assert_eq!(limits.map_groups[0].as_str(), "sudo");
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_key() {
        for (text, word) in [
            ("user_id = []", "user_id"),
            ("user_ids = [\"0-5\"]", "line 1"),
            ("map_groups = [\"root\"]", "map_groups"),
            ("home_prefixes = [\"/\"]", "home_prefixes"),
            ("home_prefixes = [\"/home/../\"]", "line 1"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn a_file_that_others_own_or_write_is_not_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("limits.toml");
        let owner = fs::metadata(folder.path()).unwrap().uid();
        assert_eq!(HostLimits::load(&path, owner).unwrap(), HostLimits::default());
        fs::write(&path, "max_users = 7\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o664)).unwrap();
        let error = HostLimits::load(&path, owner).unwrap_err().to_string();
        assert!(error.contains("chmod 644"), "{error}");
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(HostLimits::load(&path, owner).unwrap().max_users, 7);
        let error = HostLimits::load(&path, owner + 1).unwrap_err();
        assert!(matches!(error, LimitsError::Owner { .. }));
    }
}
