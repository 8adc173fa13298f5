//! Access rules: which users a host takes, decided by the groups they are members of.
//!
//! The text is that of the deployed `authz-config`:
//! `{"enforce_group_memberships": true, "host_group_rules": [{"group": "eng", "host": "web-1"}]}`.
//! Well-formed rules mean exactly what they mean to deployed agents. Malformed ones are an error and
//! never "let everyone in", which is what those agents make of them.

use serde::Deserialize;

use crate::merge::Directory;
use crate::texts::Texts;
use crate::{NameKind, NameRule};

/// Rules that a host applies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessRules {
    enforced: bool,
    rules: Vec<Rule>,
}

/// One rule: members of `group` may be on `host`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Rule {
    /// The group as the rules spell it; the name rule maps it.
    pub group: String,
    /// The kernel's host name, compared byte for byte.
    pub host: String,
}

/// The text is not that of access rules.
#[derive(Debug, thiserror::Error)]
#[error("the access rules are malformed: {0}")]
pub struct AccessError(String);

/// What the rules say about a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Decision {
    /// No rule is enforced: everyone stays.
    NotEnforced,
    /// The rule at this place (from 0) admits the user.
    Admitted {
        /// Its place among [`AccessRules::rules`].
        rule: usize,
    },
    /// No rule admits the user.
    Excluded,
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    enforce_group_memberships: bool,
    host_group_rules: Option<Vec<Rule>>,
}

impl AccessRules {
    /// Parses the rules.
    ///
    /// A missing `enforce_group_memberships` means "not enforced", as deployed agents have it.
    ///
    /// # Errors
    /// When the text is no JSON object, when `enforce_group_memberships` is neither true nor false,
    /// when a rule lacks its group or host or they are no strings, or when rules are enforced and
    /// the list is absent.
    pub fn parse(text: &[u8]) -> Result<Self, AccessError> {
        if text.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
            return Err(AccessError("they are no JSON object".to_owned()));
        }
        let raw: Raw = serde_json::from_slice(text).map_err(|error| AccessError(error.to_string()))?;
        match raw.host_group_rules {
            None if raw.enforce_group_memberships => Err(AccessError(
                "enforce_group_memberships is true, but host_group_rules is missing".to_owned(),
            )),
            rules => Ok(Self {
                enforced: raw.enforce_group_memberships,
                rules: rules.unwrap_or_default(),
            }),
        }
    }

    /// Are the rules enforced?
    #[must_use]
    pub fn enforced(&self) -> bool {
        self.enforced
    }

    /// The rules in their order.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// For each user of `directory` what the rules say on `host`. Only the lists of members count; a
    /// primary group alone admits nobody. `rule` maps the groups of the rules as it maps groups of a
    /// source.
    pub fn decide(&self, texts: &Texts, directory: &Directory, rule: &NameRule, host: &str) -> Vec<Decision> {
        if !self.enforced {
            return vec![Decision::NotEnforced; directory.users.len()];
        }
        let mut decisions = vec![Decision::Excluded; directory.users.len()];
        for (place, entry) in self.rules.iter().enumerate().filter(|(_, entry)| entry.host == host) {
            let Ok(name) = rule.apply(NameKind::Group, &entry.group) else {
                continue;
            };
            let group = directory
                .group(texts, name.as_str())
                .and_then(|at| directory.groups.get(at));
            for member in group.map(|group| directory.members(group)).unwrap_or_default() {
                if let Some(decision) = decisions.get_mut(*member as usize)
                    && *decision == Decision::Excluded
                {
                    *decision = Decision::Admitted { rule: place };
                }
            }
        }
        decisions
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::merge::{GroupEntry, Part, UserEntry, merge};
    use crate::texts::Span;
    use crate::{Gid, Uid};

    /// alice and bob; group `engineering-team` holds alice, `ops` holds bob. Everyone's primary
    /// group is `ops`.
    fn directory() -> (Texts, Directory) {
        let mut texts = Texts::new();
        let mut part = Part::default();
        let shell = texts.intern("/bin/sh").unwrap();
        let home = texts.add("/home/x").unwrap();
        for (name, uid) in [("alice", 2001), ("bob", 2002)] {
            let name = texts.intern(name).unwrap();
            part.users.push(UserEntry {
                name,
                raw: name,
                uid: Uid::parse(uid).unwrap(),
                gid: Gid::parse(3002).unwrap(),
                shell,
                gecos: Span::default(),
                home,
            });
        }
        for (name, gid, member) in [("engineering-team", 3001, "alice"), ("ops", 3002, "bob")] {
            let name = texts.intern(name).unwrap();
            let start = u32::try_from(part.members.len()).unwrap();
            part.members.push(texts.find(member).unwrap());
            part.groups.push(GroupEntry {
                name,
                raw: name,
                gid: Gid::parse(gid).unwrap(),
                start,
                end: start + 1,
            });
        }
        let directory = merge(&texts, vec![part]).directory;
        (texts, directory)
    }

    fn decide(text: &str, host: &str) -> Vec<Decision> {
        let (texts, directory) = directory();
        let rules = AccessRules::parse(text.as_bytes()).unwrap();
        rules.decide(&texts, &directory, &NameRule::default(), host)
    }

    #[test]
    fn well_formed_rules_mean_what_they_mean_to_deployed_agents() {
        use Decision::{Admitted, Excluded, NotEnforced};
        let open = [NotEnforced, NotEnforced];
        assert_eq!(decide("{}", "web-1"), open);
        assert_eq!(
            decide(r#"{"enforce_group_memberships":false,"host_group_rules":[]}"#, "web-1"),
            open
        );
        let enforced = |rules: &str| format!(r#"{{"enforce_group_memberships":true,"host_group_rules":{rules}}}"#);
        assert_eq!(decide(&enforced("[]"), "web-1"), [Excluded, Excluded]);
        let rules = enforced(r#"[{"group":"ops","host":"db-1"},{"group":"Engineering Team","host":"web-1"}]"#);
        assert_eq!(decide(&rules, "web-1"), [Admitted { rule: 1 }, Excluded]);
        assert_eq!(decide(&rules, "db-1"), [Excluded, Admitted { rule: 0 }]);
        assert_eq!(decide(&rules, "WEB-1"), [Excluded, Excluded]);
        let unknown = enforced(r#"[{"group":"nobody","host":"web-1"},{"group":"a:b","host":"web-1"}]"#);
        assert_eq!(decide(&unknown, "web-1"), [Excluded, Excluded]);
    }

    #[test]
    fn malformed_rules_are_an_error_and_never_an_open_door() {
        let bad = [
            "",
            "null",
            "[]",
            "<html>",
            r#"{"enforce_group_memberships":"true","host_group_rules":[]}"#,
            r#"{"enforce_group_memberships":null,"host_group_rules":[]}"#,
            r#"{"enforce_group_memberships":1,"host_group_rules":[]}"#,
            r#"{"enforce_group_memberships":true}"#,
            r#"{"enforce_group_memberships":true,"host_group_rules":null}"#,
            r#"{"enforce_group_memberships":true,"host_group_rules":{}}"#,
            r#"{"enforce_group_memberships":true,"host_group_rules":[{"group":"eng"}]}"#,
            r#"{"enforce_group_memberships":true,"host_group_rules":[{"group":1,"host":"a"}]}"#,
            r#"{"enforce_group_memberships":false,"host_group_rules":[7]}"#,
            r#"{"enforce_group_memberships":true,"enforce_group_memberships":false,"host_group_rules":[]}"#,
            r#"{"enforce_group_memberships":false} trailing"#,
            "[false,[]]",
        ];
        for text in bad {
            assert!(AccessRules::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_parses_or_not_and_only_a_plain_false_or_nothing_opens(text in ".{0,80}") {
            if let Ok(rules) = AccessRules::parse(text.as_bytes()) {
                let value: serde_json::Value = serde_json::from_str(&text).unwrap();
                let said = value.get("enforce_group_memberships");
                prop_assert_eq!(rules.enforced(), said == Some(&serde_json::Value::Bool(true)));
            }
        }
    }
}
