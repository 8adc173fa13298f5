//! What of the access rules the hosts of a compartment are told: the rules of other compartments' hosts are none of theirs.

use std::collections::BTreeSet;

use dirless_model::pattern;
use dirless_seal::{Label, sha256_hex};
use serde_json::{Map, Value};

use super::stock::{Kind, Stocked, plaintext};
use super::{SignedError, Signer};

/// Hosts, and the compartments that they alone read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostsOf {
    /// Kernel host names; `*` stands for any text.
    pub hosts: BTreeSet<String>,
    /// Their compartments.
    pub compartments: BTreeSet<Label>,
}

/// The list of rules in a document of access rules.
const RULES: &str = "host_group_rules";

/// `document` as the hosts of `compartment` are told it: without the rules of hosts that all groups which have them say to
/// be of other compartments. `None` when that is all of it.
fn told(document: &Map<String, Value>, compartment: &Label, groups: &[HostsOf]) -> Option<Map<String, Value>> {
    let is_others = |rule: &Value| {
        let Some(host) = rule.get("host").and_then(Value::as_str).map(str::trim) else {
            return false;
        };
        let mut own = groups
            .iter()
            .filter(|group| group.hosts.iter().any(|one| pattern::fits(one, host)))
            .peekable();
        own.peek().is_some() && own.all(|group| !group.compartments.contains(compartment))
    };
    let mut document = document.clone();
    let rules = document.get_mut(RULES)?.as_array_mut()?;
    let before = rules.len();
    rules.retain(|rule| !is_others(rule));
    (rules.len() < before).then_some(document)
}

impl Signer {
    /// What of `stocked` the hosts of `compartment` are told, which is all of it but of access rules.
    ///
    /// # Errors
    /// When the access rules cannot be read, or the state cannot be written.
    pub(super) fn view(&self, source: &Label, stocked: &Stocked, compartment: &Label) -> Result<Stocked, SignedError> {
        if stocked.kind != Kind::AccessRules || self.config.hosts_of.is_empty() {
            return Ok(stocked.clone());
        }
        let unreadable = |reason: String| SignedError::Unreadable {
            source_name: source.clone(),
            reason,
        };
        let body = self.body(stocked)?;
        let document = serde_json::from_reader(plaintext(&body)).map_err(|error| unreadable(error.to_string()))?;
        let Some(told) = told(&document, compartment, &self.config.hosts_of) else {
            return Ok(stocked.clone());
        };
        let text = serde_json::to_vec(&told).map_err(|error| unreadable(error.to_string()))?;
        self.keep(source, stocked.kind, sha256_hex(&text), &text, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(text: &str) -> Label {
        text.parse().unwrap()
    }

    fn groups() -> Vec<HostsOf> {
        let group = |hosts: &[&str], compartments: &[&str]| HostsOf {
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            compartments: compartments.iter().map(|name| label(name)).collect(),
        };
        vec![
            group(&["web-*", "both"], &["web"]),
            group(&["db-1", "db-2", "both"], &["db"]),
        ]
    }

    fn hosts(compartment: &str, of: &[&str]) -> Vec<String> {
        let rules: Vec<Value> = of
            .iter()
            .map(|host| serde_json::json!({"group": "g", "host": host, "ticket": 7}))
            .collect();
        let document = serde_json::json!({"enforce_group_memberships": true, RULES: rules, "note": "kept"});
        let document = document.as_object().unwrap().clone();
        let told = told(&document, &label(compartment), &groups()).unwrap_or(document);
        assert_eq!(told["enforce_group_memberships"], true);
        assert_eq!(told["note"], "kept");
        let rules = told[RULES].as_array().unwrap().iter();
        rules.map(|rule| rule["host"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn each_compartment_is_told_of_its_own_hosts_and_of_nobodys() {
        let all = ["web-1", "db-1", " db-2 ", "both", "else-1"];
        assert_eq!(hosts("web", &all), ["web-1", "both", "else-1"]);
        assert_eq!(hosts("db", &all), ["db-1", " db-2 ", "both", "else-1"]);
        assert_eq!(hosts("other", &all), ["else-1"]);
    }

    #[test]
    fn what_is_malformed_is_left_to_hosts() {
        for text in [
            r#"{"host_group_rules": 7}"#,
            r#"{}"#,
            r#"{"host_group_rules": [{"group": "g"}, 3]}"#,
        ] {
            let document = serde_json::from_str(text).unwrap();
            assert_eq!(told(&document, &label("web"), &groups()), None, "{text}");
        }
    }

    #[test]
    fn rules_are_only_left_out_and_somebody_is_told_each() {
        let names = ["web-1", "db-1", "both", "x", "db-9", "web-"];
        for some in 0_u32..64 {
            let chosen = names.iter().enumerate().filter(|(at, _)| some >> at & 1 == 1);
            let all: Vec<&str> = chosen.map(|(_, name)| *name).collect();
            let (web, db) = (hosts("web", &all), hosts("db", &all));
            assert!(all.iter().all(|host| web.iter().chain(&db).any(|told| told == host)));
            for told in [web, db] {
                let mut rest = all.iter();
                assert!(
                    told.iter().all(|host| rest.any(|one| one == host)),
                    "{told:?} of {all:?}"
                );
            }
        }
    }
}
