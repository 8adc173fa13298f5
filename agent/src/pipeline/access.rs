//! Applying the access rules: the last well-formed ones, never "everyone" because something failed.

use dirless_model::NameRule;
use dirless_model::access::{AccessRules, Decision};
use dirless_model::merge::Directory;
use dirless_model::texts::Texts;

use super::explain::Watch;
use super::input::AccessInput;

/// The rules that a run applies.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    /// The rules.
    pub rules: AccessRules,
    /// Why the fetched ones are not used, when they are not.
    pub problem: Option<String>,
}

/// What the rules say about a watched user.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
pub enum AccessVerdict {
    /// No rules are enforced.
    NotEnforced,
    /// This rule admits the user.
    Admitted {
        /// Its place in the list, from 1.
        rule: usize,
        /// Its group, as the rules spell it.
        group: String,
        /// Its host.
        host: String,
    },
    /// No rule for this host names a group of the user.
    Excluded {
        /// Groups that the rules for this host name, as they spell them.
        wanted: Vec<String>,
    },
}

impl AccessVerdict {
    /// Does the user stay?
    #[must_use]
    pub fn stays(&self) -> bool {
        !matches!(self, Self::Excluded { .. })
    }
}

/// Picks the rules: those fetched when they are well-formed, else the last that were.
///
/// # Errors
/// When there are none, with the reason: then nothing may be published.
pub(super) fn choose(input: &AccessInput) -> Result<Rules, String> {
    let fetched = input.fetched.as_deref().map(AccessRules::parse);
    let problem = match fetched {
        Some(Ok(rules)) => return Ok(Rules { rules, problem: None }),
        Some(Err(error)) => error.to_string(),
        None => "the access rules were never fetched".to_owned(),
    };
    match input.last_good.as_deref().map(AccessRules::parse) {
        Some(Ok(rules)) => Ok(Rules {
            rules,
            problem: Some(format!("{problem}; the last well-formed ones stay in force")),
        }),
        Some(Err(error)) => Err(format!("{problem}; and the last good ones are damaged: {error}")),
        None => Err(problem),
    }
}

/// Takes the users whom `rules` do not admit on `host` out of `directory`, and hands each to
/// `excluded`.
pub(super) fn apply(
    rules: &AccessRules,
    rule: &NameRule,
    host: &str,
    texts: &Texts,
    directory: &mut Directory,
    watch: Option<&mut Watch>,
    mut excluded: impl FnMut(&dirless_model::merge::MergedUser),
) {
    let decisions = rules.decide(texts, directory, rule, host);
    if let Some(watch) = watch
        && let Some(place) = directory.user(texts, &watch.name)
    {
        watch.access = decisions.get(place).map(|decision| verdict(rules, host, *decision));
    }
    if !rules.enforced() {
        return;
    }
    directory.retain_users(|place, user| {
        let stays = decisions
            .get(place)
            .is_some_and(|decision| *decision != Decision::Excluded);
        if !stays {
            excluded(user);
        }
        stays
    });
}

fn verdict(rules: &AccessRules, host: &str, decision: Decision) -> AccessVerdict {
    match decision {
        Decision::NotEnforced => AccessVerdict::NotEnforced,
        Decision::Admitted { rule } => {
            let entry = rules.rules().get(rule);
            AccessVerdict::Admitted {
                rule: rule + 1,
                group: entry.map(|entry| entry.group.clone()).unwrap_or_default(),
                host: host.to_owned(),
            }
        }
        Decision::Excluded => {
            let here = rules.rules().iter().filter(|entry| entry.host == host);
            AccessVerdict::Excluded {
                wanted: here.map(|entry| entry.group.clone()).collect(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: &[u8] = br#"{"enforce_group_memberships":false,"host_group_rules":[]}"#;
    const CLOSED: &[u8] = br#"{"enforce_group_memberships":true,"host_group_rules":[]}"#;

    fn input(fetched: Option<&[u8]>, last_good: Option<&[u8]>) -> AccessInput {
        AccessInput {
            fetched: fetched.map(<[u8]>::to_vec),
            last_good: last_good.map(<[u8]>::to_vec),
            ..AccessInput::default()
        }
    }

    #[test]
    fn defect_06_no_failure_of_the_rules_opens_the_host() {
        let broken = [
            None,
            Some(&b""[..]),
            Some(b"<html>500</html>"),
            Some(b"{\"enforce_group_memberships\":\"true\"}"),
        ];
        for fetched in broken {
            assert!(choose(&input(fetched, None)).is_err(), "{fetched:?}");
            let kept = choose(&input(fetched, Some(CLOSED))).unwrap();
            assert!(kept.rules.enforced() && kept.problem.is_some());
            assert!(choose(&input(fetched, Some(b"{"))).is_err());
        }
        let fresh = choose(&input(Some(OPEN), Some(CLOSED))).unwrap();
        assert!(!fresh.rules.enforced() && fresh.problem.is_none());
    }
}
