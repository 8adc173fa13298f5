//! Edits of the access rules: pure functions on their JSON, unknown keys kept.

use dirless_model::{NameKind, NameRule};
use serde_json::{Map, Value, json};

use super::{Edited, Refusal};

const ENFORCE: &str = "enforce_group_memberships";
const RULES: &str = "host_group_rules";

/// Longest kernel host name (HOST_NAME_MAX).
const LONGEST_HOST: usize = 64;

/// The access rules, as the backend keeps them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Rules {
    json: Map<String, Value>,
}

impl Rules {
    /// Takes the JSON of access rules.
    ///
    /// # Errors
    /// When the known parts have other types: then nothing must be written over them.
    pub(super) fn new(json: Map<String, Value>) -> Result<Self, Refusal> {
        let malformed = |reason: &str| Refusal::Malformed {
            reason: format!("access rules: {reason}"),
        };
        if json.get(ENFORCE).is_some_and(|value| !value.is_boolean()) {
            return Err(malformed("enforce_group_memberships is neither true nor false"));
        }
        if json.get(RULES).is_some_and(|value| !value.is_array()) {
            return Err(malformed("host_group_rules is no array"));
        }
        Ok(Self { json })
    }

    /// The JSON to put.
    #[must_use]
    pub(super) fn json(&self) -> &Map<String, Value> {
        &self.json
    }

    /// Whether they are enforced.
    #[must_use]
    pub(super) fn enforced(&self) -> bool {
        self.json.get(ENFORCE).and_then(Value::as_bool).unwrap_or(false)
    }

    /// Group and host of each rule that has both.
    pub(super) fn rules(&self) -> impl Iterator<Item = (&str, &str)> {
        let rules = self.json.get(RULES).and_then(Value::as_array).into_iter().flatten();
        rules.filter_map(|rule| Some((rule.get("group")?.as_str()?, rule.get("host")?.as_str()?)))
    }

    /// Turns enforcement on or off.
    ///
    /// # Errors
    /// When turning it on would leave nobody on any host, unless `lock_out` says that this is meant.
    pub(super) fn enforce(&mut self, on: bool, lock_out: bool) -> Result<Edited, Refusal> {
        let word = if on { "on" } else { "off" };
        if self.enforced() == on {
            return Ok(Edited::unchanged(format!("enforcement is {word}")));
        }
        if on && !lock_out && self.rules().next().is_none() {
            return Err(Refusal::LockOut);
        }
        self.json.insert(ENFORCE.to_owned(), on.into());
        self.tidy();
        Ok(Edited::changed(format!("enforcement is now {word}")))
    }

    /// Admits the members of `group` to `host`.
    ///
    /// # Errors
    /// When either text cannot stand in a rule.
    pub(super) fn allow(&mut self, group: &str, host: &str, names: &NameRule) -> Result<Edited, Refusal> {
        let (group, host) = (check_group(group, names)?, check_host(host)?);
        if self.rules().any(|rule| same(rule, (group, host), names)) {
            return Ok(Edited::unchanged(format!("{group} may use {host} already")));
        }
        self.list().push(json!({"group": group, "host": host}));
        self.tidy();
        let edited = Edited::changed(format!("{group} may use {host}"));
        let edited = if self.enforced() {
            edited
        } else {
            edited.note("rules are not enforced, so everyone may use every host; see: access enforce on".to_owned())
        };
        let odd = host.contains(['*', '?']) || host.bytes().any(|byte| byte.is_ascii_uppercase());
        Ok(if odd {
            edited.note(
                "hosts compare their kernel host name (uname -n) byte for byte; there are no wildcards".to_owned(),
            )
        } else {
            edited
        })
    }

    /// Takes the rules for `group` on `host` out.
    ///
    /// # Errors
    /// When that would leave nobody on any host, unless `lock_out` says that this is meant.
    pub(super) fn deny(
        &mut self,
        group: &str,
        host: &str,
        names: &NameRule,
        lock_out: bool,
    ) -> Result<Edited, Refusal> {
        let wanted = (group.trim(), host.trim());
        if !self.rules().any(|rule| same(rule, wanted, names)) {
            return Ok(Edited::unchanged(format!("no rule lets {group} use {host}")));
        }
        let others = self.rules().any(|rule| !same(rule, wanted, names));
        if self.enforced() && !others && !lock_out {
            return Err(Refusal::LockOut);
        }
        self.list().retain(|rule| {
            let text = |field: &str| rule.get(field).and_then(Value::as_str);
            match (text("group"), text("host")) {
                (Some(group), Some(host)) => !same((group, host), wanted, names),
                _ => true,
            }
        });
        self.tidy();
        Ok(Edited::changed(format!("{group} may no longer use {host}")))
    }

    /// Puts both known keys in place, cuts white space around texts and drops repeated rules.
    fn tidy(&mut self) {
        self.json.entry(ENFORCE).or_insert(Value::Bool(false));
        let rules = self.list();
        for rule in rules.iter_mut().filter_map(Value::as_object_mut) {
            for field in ["group", "host"] {
                if let Some(Value::String(text)) = rule.get_mut(field) {
                    *text = text.trim().to_owned();
                }
            }
        }
        let mut kept: Vec<Value> = Vec::with_capacity(rules.len());
        for rule in rules.drain(..) {
            if !kept.contains(&rule) {
                kept.push(rule);
            }
        }
        *rules = kept;
    }

    fn list(&mut self) -> &mut Vec<Value> {
        let list = self.json.entry(RULES).or_insert_with(|| json!([]));
        list.as_array_mut().expect("new refuses anything but an array here")
    }
}

/// Whether two rules say the same: hosts byte for byte, groups as hosts map their names.
fn same(left: (&str, &str), right: (&str, &str), names: &NameRule) -> bool {
    let mapped = |group: &str| names.apply(NameKind::Group, group.trim());
    left.1.trim() == right.1.trim()
        && (left.0.trim() == right.0.trim()
            || matches!((mapped(left.0), mapped(right.0)), (Ok(left), Ok(right)) if left == right))
}

fn check_group<'a>(group: &'a str, names: &NameRule) -> Result<&'a str, Refusal> {
    let group = group.trim();
    match names.apply(NameKind::Group, group) {
        Ok(_) => Ok(group),
        Err(reason) => Err(Refusal::Name {
            what: "the group name",
            name: group.to_owned(),
            reason,
        }),
    }
}

fn check_host(host: &str) -> Result<&str, Refusal> {
    let host = host.trim();
    let reason = if host.is_empty() {
        "it is empty"
    } else if host.len() > LONGEST_HOST {
        "it is longer than any host name (64 bytes)"
    } else if host.chars().any(|letter| letter.is_whitespace() || letter.is_control()) {
        "it holds white space"
    } else {
        return Ok(host);
    };
    Err(Refusal::Rule {
        what: "the host",
        text: host.to_owned(),
        reason,
    })
}
