use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::Hosts;
use crate::host_groups::HostGroups;

/// `[plan]`: what `plan` and `apply` know of hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlanConfig {
    /// A list of all hosts, one name a line; without it those that send heartbeats, when the backend
    /// shows them.
    pub inventory: Option<PathBuf>,
    /// Where groups of hosts once stood; `[host_groups]` has them now.
    pub host_groups: BTreeMap<String, BTreeSet<String>>,
    /// Directory groups that hosts' limits map to a privileged group, with the patterns of those hosts.
    pub sudo: BTreeMap<String, BTreeSet<String>>,
}

impl PlanConfig {
    /// The hosts that the inventory has; none when there is no inventory.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn inventory(&self) -> Option<Result<BTreeSet<String>, String>> {
        let path = self.inventory.as_deref()?;
        Some(read(path).map_err(|error| format!("[plan] inventory {}: {error}", path.display())))
    }

    /// Looks at the values: the key that is wrong and why.
    ///
    /// # Errors
    /// When one makes no sense.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        match self.host_groups.iter().next() {
            None => Ok(()),
            Some((name, hosts)) => Err((
                "plan.host_groups",
                format!(
                    "groups of hosts are defined for everything at once now: [host_groups.{name}] hosts = {hosts:?}"
                ),
            )),
        }
    }

    /// What is known of hosts, given their names, the groups of the configuration and those that files list.
    #[must_use]
    pub fn hosts(
        &self,
        known: BTreeSet<String>,
        configured: &HostGroups,
        listed: &BTreeMap<String, BTreeSet<String>>,
    ) -> Hosts {
        let mut groups = listed.clone();
        groups.extend(configured.resolve(&known));
        Hosts {
            known,
            groups,
            sudo: self.sudo.clone(),
        }
    }
}

fn read(path: &Path) -> std::io::Result<BTreeSet<String>> {
    let text = std::fs::read_to_string(path)?;
    let lines = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim());
    Ok(lines.filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inventory_has_comments_and_groups_are_made_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts");
        std::fs::write(&path, "# all\ndb-1\n\ndb-2 # new\nweb-1\n").unwrap();
        let config = PlanConfig {
            inventory: Some(path),
            ..PlanConfig::default()
        };
        let groups: HostGroups = toml::from_str("[db]\nhosts = [\"db-*\", \"old\"]").unwrap();
        let known = config.inventory().unwrap().unwrap();
        assert_eq!(known.len(), 3);
        let hosts = config.hosts(known, &groups, &BTreeMap::new());
        assert_eq!(hosts.groups["db"].iter().collect::<Vec<_>>(), ["db-1", "db-2", "old"]);
        let missing = PlanConfig {
            inventory: Some("/nonexistent".into()),
            ..PlanConfig::default()
        };
        assert!(
            missing
                .inventory()
                .unwrap()
                .unwrap_err()
                .contains("[plan] inventory /nonexistent")
        );
        assert!(PlanConfig::default().inventory().is_none());
    }
}
