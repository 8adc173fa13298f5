//! Access rules out of files: what a read would change of those that the backend has, and changing it.
//!
//! A source of kind `files` with `access = true` owns the tenant's rules; whatever else stands in the
//! backend's document is kept. A change of many rules at once, and switching enforcement, wait for a
//! person, for a mistake there locks people out of every host, or lets them into all.

use std::collections::BTreeSet;

use anyhow::Context;
use dirless_client::{Client, Error, Expected};
use serde_json::{Map, Value, json};

use crate::guard::Verdict;
use crate::sources::files::Access;

const ENFORCE: &str = "enforce_group_memberships";
const RULES: &str = "host_group_rules";

/// A group and a host that its members may be on.
pub type Pair = (String, String);

/// What a read would change of the access rules.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct RulesChange {
    /// The name of exactly this change.
    pub change: String,
    /// Is enforcement switched, and to what?
    pub enforce: Option<bool>,
    /// Rules that appear.
    pub added: Vec<Pair>,
    /// Rules that disappear.
    pub removed: Vec<Pair>,
    /// Why the change waits for a person, if it does.
    pub reasons: Vec<String>,
    #[serde(skip)]
    json: Map<String, Value>,
}

/// How access rules got on.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub enum RulesOutcome {
    /// The backend has exactly these.
    Unchanged,
    /// They were put.
    Put(RulesChange),
    /// The change waits for a person.
    Held(RulesChange),
}

impl RulesChange {
    /// What leads from `current`, the backend's document, to `access`; none when nothing does. Pure.
    ///
    /// # Errors
    /// When the document is malformed: nothing must be written over it.
    pub fn between(current: Option<&Map<String, Value>>, access: &Access, percent: u8) -> Result<Option<Self>, String> {
        let none = Map::new();
        let current = current.unwrap_or(&none);
        let (was, held) = read(current)?;
        let wanted: BTreeSet<Pair> = access
            .rules
            .iter()
            .flat_map(|rule| rule.hosts.iter().map(|host| (rule.group.clone(), host.clone())))
            .collect();
        let pairs: BTreeSet<Pair> = held.iter().map(|(pair, _)| pair.clone()).collect();
        let added: Vec<Pair> = wanted.difference(&pairs).cloned().collect();
        let removed: Vec<Pair> = pairs.difference(&wanted).cloned().collect();
        let enforce = (was != access.enforce).then_some(access.enforce);
        if added.is_empty() && removed.is_empty() && enforce.is_none() {
            return Ok(None);
        }
        let kept = held
            .into_iter()
            .filter(|(pair, _)| wanted.contains(pair))
            .map(|(_, rule)| rule);
        let new = added.iter().map(|(group, host)| json!({"group": group, "host": host}));
        let rules: Vec<Value> = kept.chain(new).collect();
        let mut json = current.clone();
        json.insert(ENFORCE.to_owned(), access.enforce.into());
        json.insert(RULES.to_owned(), rules.into());
        let mut change = Self {
            enforce,
            added,
            removed,
            json,
            ..Self::default()
        };
        change.reasons = change.judge(was || access.enforce, pairs.len(), percent);
        let text = json!([change.enforce, change.added, change.removed]).to_string();
        change.change = dirless_seal::sha256_hex(text.as_bytes()).chars().take(12).collect();
        Ok(Some(change))
    }

    fn judge(&self, in_force: bool, before: usize, percent: u8) -> Vec<String> {
        let mut reasons = Vec::new();
        match self.enforce {
            Some(true) => {
                reasons.push("access rules become enforced: whoever no rule admits loses every host".to_owned())
            }
            Some(false) => reasons.push("access rules are no longer enforced: everyone gains every host".to_owned()),
            None => {}
        }
        let allowed = before.max(10) * usize::from(percent) / 100;
        if in_force && self.removed.len() > allowed {
            reasons.push(format!(
                "{} of {before} access rules disappear, more than the {allowed} that [guard] percent = {percent} lets pass",
                self.removed.len()
            ));
        }
        reasons
    }

    /// The whole document that it leads to.
    #[must_use]
    pub fn json(&self) -> &Map<String, Value> {
        &self.json
    }

    /// Must it wait for a person?
    #[must_use]
    pub fn is_held(&self) -> bool {
        !self.reasons.is_empty()
    }

    /// What the guard says.
    pub fn verdict(&self) -> Verdict {
        if self.is_held() {
            Verdict::Hold(self.reasons.clone())
        } else {
            Verdict::Publish
        }
    }

    /// One line with all counts.
    #[must_use]
    pub fn summary(&self) -> String {
        let enforce = match self.enforce {
            Some(true) => ", enforced from now on",
            Some(false) => ", not enforced any more",
            None => "",
        };
        format!("access rules +{} -{}{enforce}", self.added.len(), self.removed.len())
    }
}

/// A rule of a group and a host, with whatever else stands in it.
type Held = (Pair, Value);

/// Is it enforced, and its rules.
fn read(document: &Map<String, Value>) -> Result<(bool, Vec<Held>), String> {
    let malformed = |what: &str| {
        format!("the backend's access rules are malformed ({what}); repair them with `dirless-syncer local access`")
    };
    let enforced = match document.get(ENFORCE) {
        None => false,
        Some(value) => value
            .as_bool()
            .ok_or_else(|| malformed("enforce_group_memberships is neither true nor false"))?,
    };
    let none = Vec::new();
    let rules = match document.get(RULES) {
        None => &none,
        Some(value) => value
            .as_array()
            .ok_or_else(|| malformed("host_group_rules is no list"))?,
    };
    let pair = |rule: &Value| {
        let text = |field: &str| {
            rule.get(field)
                .and_then(Value::as_str)
                .map(|text| text.trim().to_owned())
        };
        let pair = text("group").zip(text("host"));
        pair.map(|pair| (pair, rule.clone()))
            .ok_or_else(|| malformed("a rule has no group or host"))
    };
    Ok((enforced, rules.iter().map(pair).collect::<Result<_, _>>()?))
}

/// The rules that the backend has, and what `access` would change of them.
///
/// # Errors
/// When the backend cannot say, or its rules are malformed.
pub async fn compare(client: &Client, access: &Access, percent: u8) -> anyhow::Result<Option<RulesChange>> {
    let current = client
        .cycle()
        .get_access_rules()
        .await
        .context("fetching the access rules")?;
    let json = current.as_ref().map(|current| &current.json);
    RulesChange::between(json, access, percent).map_err(anyhow::Error::msg)
}

/// Puts `access` in force; a change that looks like an accident only when it is the one called `accept`.
///
/// # Errors
/// When the backend fails, its rules are malformed, or somebody else changed them meanwhile.
pub async fn put(client: &Client, access: &Access, percent: u8, accept: Option<&str>) -> anyhow::Result<RulesOutcome> {
    let cycle = client.cycle();
    let current = cycle.get_access_rules().await.context("fetching the access rules")?;
    let json = current.as_ref().map(|current| &current.json);
    let Some(change) = RulesChange::between(json, access, percent).map_err(anyhow::Error::msg)? else {
        return Ok(RulesOutcome::Unchanged);
    };
    if change.is_held() && accept != Some(change.change.as_str()) {
        return Ok(RulesOutcome::Held(change));
    }
    let expected = match current.map(|current| current.etag) {
        None => Expected::Absent,
        Some(Some(tag)) => Expected::Tag(tag),
        Some(None) => Expected::Anything,
    };
    match cycle.put_access_rules(&change.json, &expected).await {
        Ok(_) => Ok(RulesOutcome::Put(change)),
        Err(error @ Error::Changed) => {
            Err(error).context("somebody else changed the access rules meanwhile; the next cycle tries again")
        }
        Err(error) => Err(error).context("storing the access rules"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sources::files::AccessRule;

    fn access(enforce: bool, pairs: &[(&str, &str)]) -> Access {
        let rule = |(group, host): &(&str, &str)| AccessRule {
            group: (*group).to_owned(),
            hosts: vec![(*host).to_owned()],
            host_groups: Vec::new(),
        };
        Access {
            enforce,
            rules: pairs.iter().map(rule).collect(),
        }
    }

    fn document(text: &str) -> Map<String, Value> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn what_files_do_not_know_is_kept() {
        let current = document(
            r#"{"note": 1, "enforce_group_memberships": true, "host_group_rules":
            [{"group": " eng ", "host": "web-1", "ticket": "x"}, {"group": "ops", "host": "db-1"}]}"#,
        );
        let change = RulesChange::between(Some(&current), &access(true, &[("eng", "web-1"), ("eng", "web-2")]), 20);
        let change = change.unwrap().unwrap();
        assert_eq!(change.summary(), "access rules +1 -1");
        assert!(!change.is_held());
        assert_eq!(change.json["note"], 1);
        assert_eq!(change.json[RULES][0]["ticket"], "x");
        let again = RulesChange::between(
            Some(&change.json),
            &access(true, &[("eng", "web-2"), ("eng", "web-1")]),
            20,
        );
        assert_eq!(again.unwrap(), None);
    }

    #[test]
    fn switching_enforcement_and_losing_many_rules_wait_for_a_person() {
        let on = document(r#"{"enforce_group_memberships": true, "host_group_rules": [{"group": "a", "host": "h"}]}"#);
        let held = |current: Option<&Map<String, Value>>, access: &Access| {
            RulesChange::between(current, access, 20)
                .unwrap()
                .unwrap()
                .reasons
                .join("; ")
        };
        assert!(held(Some(&on), &access(false, &[("a", "h")])).contains("everyone gains every host"));
        assert!(held(None, &access(true, &[("a", "h")])).contains("loses every host"));
        assert_eq!(held(None, &access(false, &[("a", "h")])), "");
        let hosts: Vec<String> = (0..30).map(|n| format!("h{n}")).collect();
        let pairs: Vec<(&str, &str)> = hosts.iter().map(|host| ("a", host.as_str())).collect();
        let all = RulesChange::between(Some(&on), &access(true, &pairs), 20)
            .unwrap()
            .unwrap()
            .json;
        assert!(held(Some(&all), &access(true, &pairs[..20])).contains("10 of 30 access rules disappear"));
        assert_eq!(held(Some(&all), &access(true, &pairs[..25])), "");
    }

    #[test]
    fn a_malformed_document_is_not_written_over() {
        for text in [
            r#"{"enforce_group_memberships": "yes"}"#,
            r#"{"host_group_rules": {}}"#,
            r#"{"host_group_rules": [{"group": "a"}]}"#,
        ] {
            let error = RulesChange::between(Some(&document(text)), &access(false, &[]), 20).unwrap_err();
            assert!(error.contains("malformed"), "{error}");
        }
    }

    proptest! {
        /// Once put, there is nothing left to do, and another change has another name.
        #[test]
        fn a_change_leads_where_it_says(
            before in proptest::collection::btree_set(("[ab]", "[hk]"), 0..4),
            after in proptest::collection::btree_set(("[ab]", "[hk]"), 0..4),
            was in any::<bool>(),
            is in any::<bool>(),
        ) {
            let pairs = |set: &BTreeSet<(String, String)>| -> Vec<(String, String)> { set.iter().cloned().collect() };
            let of = |enforce, set: &[(String, String)]| {
                access(enforce, &set.iter().map(|(group, host)| (group.as_str(), host.as_str())).collect::<Vec<_>>())
            };
            let (before, after) = (of(was, &pairs(&before)), of(is, &pairs(&after)));
            let first = RulesChange::between(None, &before, 20).unwrap().map(|change| change.json);
            let second = RulesChange::between(first.as_ref(), &after, 20).unwrap();
            prop_assert_eq!(second.is_none(), before.enforce == after.enforce && {
                let set = |access: &Access| access.rules.iter().cloned().collect::<BTreeSet<_>>();
                set(&before) == set(&after)
            });
            if let Some(change) = second {
                prop_assert_eq!(RulesChange::between(Some(&change.json), &after, 20).unwrap(), None);
                if let Some(back) = RulesChange::between(Some(&change.json), &before, 20).unwrap() {
                    prop_assert_ne!(back.change, change.change);
                }
            }
        }
    }
}
