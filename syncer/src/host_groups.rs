//! Groups of hosts: `[host_groups.NAME]` of the configuration. Defined once, and named by access rules
//! in files, by audiences of the tree, by join codes and by `plan`.
//!
//! What a host is called says whether it is in a group; under the verified protocol what the group's
//! hosts read are its compartments.

use std::collections::{BTreeMap, BTreeSet};

use dirless_model::pattern;
use dirless_seal::Label;

use crate::signed::HostsOf;

/// Longest kernel host name (HOST_NAME_MAX), and longest pattern for one.
const LONGEST_HOST: usize = 64;

/// `[host_groups.NAME]`
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostGroup {
    /// Kernel host names; `*` stands for any text.
    pub hosts: BTreeSet<String>,
    /// The compartments that its hosts read, and no others; without it any.
    #[serde(default)]
    pub compartments: BTreeSet<String>,
}

/// All groups of hosts, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(transparent)]
pub struct HostGroups(BTreeMap<String, HostGroup>);

/// Groups and hosts that are named together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Names and patterns of all hosts.
    pub hosts: Vec<String>,
    /// The compartments that they read; none when some of them may read any.
    pub compartments: Option<BTreeSet<Label>>,
}

impl HostGroups {
    /// Looks at the groups; `compartments` are those that are configured, if any are. The key that is
    /// wrong and why.
    ///
    /// # Errors
    /// When one makes no sense.
    pub fn check(&self, compartments: Option<&BTreeSet<Label>>) -> Result<(), (String, String)> {
        for (name, group) in &self.0 {
            let refuse = |own: &str, reason: String| Err((format!("host_groups.{name}{own}"), reason));
            if let Err(error) = name.parse::<Label>() {
                return refuse("", error.to_string());
            }
            if group.hosts.is_empty() {
                return refuse(".hosts", "names no host".to_owned());
            }
            for host in &group.hosts {
                if let Err(reason) = check_pattern(host) {
                    return refuse(".hosts", format!("{host:?} {reason}"));
                }
            }
            for text in &group.compartments {
                let label = text.parse::<Label>();
                let known = |label: &Label| compartments.is_none_or(|known| known.contains(label));
                match label {
                    Err(error) => return refuse(".compartments", error.to_string()),
                    Ok(label) if !known(&label) => {
                        let reason = format!("{text:?} is no [[signed.compartment]]; define it, or take it out here");
                        return refuse(".compartments", reason);
                    }
                    Ok(_) => {}
                }
            }
        }
        Ok(())
    }

    /// The groups with these names and the hosts with those, together. The name that is none, with what to
    /// write instead.
    ///
    /// # Errors
    /// When there is no such group.
    pub fn named(&self, groups: &[String], hosts: &[String]) -> Result<Named, String> {
        let mut all: BTreeSet<String> = hosts.iter().cloned().collect();
        let mut compartments = Some(BTreeSet::new()).filter(|_| hosts.is_empty());
        for name in groups {
            let group = self.0.get(name).ok_or_else(|| {
                let of = name.trim_matches(|letter: char| !letter.is_ascii_alphanumeric());
                format!(
                    "{name:?} is no host group; name hosts with hosts = [{name:?}], or define a group: [host_groups.{}] \
                     hosts = [{name:?}]",
                    if of.is_empty() { "NAME" } else { of }
                )
            })?;
            all.extend(group.hosts.iter().cloned());
            let own = group.compartments.iter().filter_map(|text| text.parse().ok());
            compartments = compartments
                .filter(|_| !group.compartments.is_empty())
                .map(|held: BTreeSet<Label>| held.into_iter().chain(own).collect());
        }
        Ok(Named {
            hosts: all.into_iter().collect(),
            compartments,
        })
    }

    /// The hosts of each group: of those that are `known` the ones that a pattern fits, and those that are
    /// named.
    #[must_use]
    pub fn resolve(&self, known: &BTreeSet<String>) -> BTreeMap<String, BTreeSet<String>> {
        let of = |group: &HostGroup| {
            let fits = |host: &&String| group.hosts.iter().any(|one| pattern::fits(one, host));
            let named = group.hosts.iter().filter(|one| !one.contains('*'));
            known.iter().filter(fits).chain(named).cloned().collect()
        };
        self.0.iter().map(|(name, group)| (name.clone(), of(group))).collect()
    }

    /// The groups whose hosts read certain compartments alone.
    #[must_use]
    pub fn of_compartments(&self) -> Vec<HostsOf> {
        let groups = self.0.values().filter(|group| !group.compartments.is_empty());
        let of = |group: &HostGroup| HostsOf {
            hosts: group.hosts.clone(),
            compartments: group.compartments.iter().filter_map(|text| text.parse().ok()).collect(),
        };
        groups.map(of).collect()
    }

    /// Names of groups with a pattern: which hosts are in them is known only where all hosts are.
    pub fn open(&self) -> impl Iterator<Item = &str> {
        let is_open = |group: &HostGroup| group.hosts.iter().any(|one| one.contains('*'));
        self.0
            .iter()
            .filter(move |(_, group)| is_open(group))
            .map(|(name, _)| name.as_str())
    }
}

/// May it stand for kernel host names?
///
/// # Errors
/// Why not, in words that follow it.
pub(crate) fn check_pattern(host: &str) -> Result<(), &'static str> {
    if host.is_empty() || host.len() > LONGEST_HOST {
        Err("is no host name: it is empty or longer than 64 bytes")
    } else if host.contains(|letter: char| letter.is_whitespace() || letter.is_control()) {
        Err("is no host name: it holds white space")
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(text: &str) -> HostGroups {
        #[derive(serde::Deserialize)]
        struct All {
            host_groups: HostGroups,
        }
        toml::from_str::<All>(text).unwrap().host_groups
    }

    const GROUPS: &str = "[host_groups.db]\nhosts = [\"db-*\", \"old\"]\ncompartments = [\"db\"]\n\
        [host_groups.web]\nhosts = [\"web-1\"]\ncompartments = [\"web\", \"all\"]\n[host_groups.any]\nhosts = [\"x*\"]";

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn set(all: &[&str]) -> BTreeSet<String> {
        texts(all).into_iter().collect()
    }

    #[test]
    fn what_is_named_together_is_all_of_it() {
        let groups = groups(GROUPS);
        let named = |names: &[&str], hosts: &[&str]| groups.named(&texts(names), &texts(hosts)).unwrap();
        let labels = |all: &[&str]| {
            Some(
                all.iter()
                    .map(|text| text.parse().unwrap())
                    .collect::<BTreeSet<Label>>(),
            )
        };
        let both = named(&["db", "web"], &[]);
        assert_eq!(both.hosts, ["db-*", "old", "web-1"]);
        assert_eq!(both.compartments, labels(&["all", "db", "web"]));
        // A host that is not of a group may read anything, and so may one of a group that does not say.
        assert_eq!(named(&["db"], &["y"]).compartments, None);
        assert_eq!(named(&["any", "db"], &[]).compartments, None);
        let error = groups.named(&texts(&["mail-*"]), &[]).unwrap_err();
        assert!(
            error.contains("hosts = [\"mail-*\"]") && error.contains("[host_groups.mail]"),
            "{error}"
        );
    }

    #[test]
    fn known_hosts_fall_into_groups() {
        let groups = groups(GROUPS);
        let resolved = groups.resolve(&set(&["db-1", "db-2", "web-1", "web-10"]));
        assert_eq!(resolved["db"], set(&["db-1", "db-2", "old"]));
        assert_eq!(resolved["web"], set(&["web-1"]));
        assert!(resolved["any"].is_empty());
        assert_eq!(groups.open().collect::<Vec<_>>(), ["any", "db"]);
    }

    #[test]
    fn groups_that_make_no_sense_name_their_key() {
        let known = ["db", "web", "all"].iter().map(|text| text.parse().unwrap()).collect();
        assert!(groups(GROUPS).check(None).is_ok() && groups(GROUPS).check(Some(&known)).is_ok());
        for (text, key) in [
            ("[host_groups.Db]\nhosts = [\"a\"]", "host_groups.Db"),
            ("[host_groups.db]\nhosts = []", "host_groups.db.hosts"),
            ("[host_groups.db]\nhosts = [\"a b\"]", "host_groups.db.hosts"),
            (
                "[host_groups.db]\nhosts = [\"a\"]\ncompartments = [\"B\"]",
                "host_groups.db.compartments",
            ),
            (
                "[host_groups.db]\nhosts = [\"a\"]\ncompartments = [\"other\"]",
                "host_groups.db.compartments",
            ),
        ] {
            assert_eq!(groups(text).check(Some(&known)).unwrap_err().0, key, "{text}");
        }
    }
}
