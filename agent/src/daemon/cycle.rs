//! What each answer of a backend means for the host: pure decisions, one per source and one for the
//! access rules. The effects are in `fetch`.

use dirless_client::{Fetched, FetchedBody};
use dirless_wire::{AgePublicKey, ErrorCode};

use crate::pipeline::{SourceNote, SourceState};

/// Cycles in a row in which a source must be reported as deleted before the host empties it.
pub const DELETED_AFTER: u32 = 3;

/// What is known of a source before this cycle.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// What was noted when a definite answer came last.
    pub note: Option<&'a SourceNote>,
    /// Cycles in a row in which the backend called it deleted.
    pub deleted_streak: u32,
    /// The body named by the conditional request is one that this host refuses, and why.
    pub refused: Option<&'a str>,
    /// The host's own public key, when it has one.
    pub own_key: Option<&'a AgePublicKey>,
    /// The operator said that this source may be empty.
    pub accept_absent: bool,
}

/// What to do about a source.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Action {
    /// Nothing: what is there stays.
    Keep,
    /// Keep the fetched body.
    Store(FetchedBody),
    /// Throw the fetched body away, and remember its tag so that it is not fetched again.
    Refuse(FetchedBody),
    /// The backend never had this source, and neither had this host.
    MarkAbsent,
    /// The source is empty on purpose.
    MarkDeleted,
}

/// The decision about one source.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Decision {
    /// What to do.
    pub action: Action,
    /// The new streak.
    pub deleted_streak: u32,
    /// What an operator should know.
    pub problem: Option<String>,
    /// The next cycle comes later than usual.
    pub failed: bool,
}

impl Decision {
    fn quiet(action: Action) -> Self {
        Self {
            action,
            deleted_streak: 0,
            problem: None,
            failed: false,
        }
    }

    fn with_problem(action: Action, problem: String) -> Self {
        Self {
            problem: Some(problem),
            ..Self::quiet(action)
        }
    }
}

/// Decides about `source` from what a backend answered.
pub fn decide(source: &str, known: Known<'_>, answer: Result<&Fetched, &dirless_client::Error>) -> Decision {
    match answer {
        Ok(Fetched::NotModified) => match known.refused {
            Some(reason) => Decision {
                failed: true,
                ..Decision::with_problem(Action::Keep, reason.to_owned())
            },
            None => Decision::quiet(Action::Keep),
        },
        Ok(Fetched::Body(body)) => match refusal(source, body, known.own_key) {
            Some(reason) => Decision {
                failed: true,
                ..Decision::with_problem(Action::Refuse(body.clone()), reason)
            },
            None => Decision::quiet(Action::Store(body.clone())),
        },
        Ok(Fetched::Absent { code }) => absent(source, known, *code),
        Err(error) => Decision {
            action: Action::Keep,
            // No answer says nothing about deletion, either way.
            deleted_streak: known.deleted_streak,
            problem: Some(format!("fetching {source}: {error}")),
            failed: true,
        },
    }
}

/// Why a fetched body is not even tried.
#[must_use]
pub fn refusal(source: &str, body: &FetchedBody, own_key: Option<&AgePublicKey>) -> Option<String> {
    if !body.encrypted {
        return Some(format!(
            "the backend sent {source} without X-Dirless-Encrypted: age; a snapshot in clear is never accepted"
        ));
    }
    match (&body.registered_key, own_key) {
        (Some(registered), Some(own)) if registered != own => Some(format!(
            "{source} is sealed for {registered}, but this host's key is {own}; put the tenant's key into age.key \
             (dirless enroll --overwrite-existing), or register this one: dirless rotate-key"
        )),
        _ => None,
    }
}

fn absent(source: &str, known: Known<'_>, code: ErrorCode) -> Decision {
    match known.note.map(|note| note.state) {
        None => Decision::quiet(Action::MarkAbsent),
        Some(SourceState::Absent | SourceState::Deleted) => Decision::quiet(Action::Keep),
        Some(SourceState::Present) if known.accept_absent => Decision::quiet(Action::MarkDeleted),
        Some(SourceState::Present) if code == ErrorCode::SourceDeleted => {
            let streak = known.deleted_streak.saturating_add(1);
            if streak >= DELETED_AFTER {
                return Decision::with_problem(
                    Action::MarkDeleted,
                    format!(
                        "{source} was deleted at the backend ({streak} cycles in a row): its entries are gone from here"
                    ),
                );
            }
            Decision {
                deleted_streak: streak,
                ..Decision::with_problem(
                    Action::Keep,
                    format!(
                        "the backend says that {source} was deleted; its entries go after {} more such answers",
                        DELETED_AFTER - streak
                    ),
                )
            }
        }
        Some(SourceState::Present) => Decision::with_problem(
            Action::Keep,
            format!(
                "the backend has no {source}, but this host had one: the last good copy stays; if it is meant to be \
                 empty, run: dirless refresh --accept-absent {source}"
            ),
        ),
    }
}

/// What a backend said about the access rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RulesAnswer {
    /// These, as JSON text.
    Rules(Vec<u8>),
    /// It has none (404).
    Absent,
    /// No usable answer.
    Failed(String),
}

/// What to do about the access rules.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum RulesDecision {
    /// What is there stays.
    Keep(Option<String>),
    /// Keep this text.
    Store(Vec<u8>),
    /// Nothing is known yet: nothing may be published.
    Unknown(String),
}

/// "No rules", as a backend would say it.
pub const NO_RULES: &[u8] = br#"{"enforce_group_memberships":false,"host_group_rules":[]}"#;

/// Decides about the access rules. `stored`: the text of the last good answer.
pub fn decide_rules(stored: Option<&[u8]>, answer: RulesAnswer) -> RulesDecision {
    match (answer, stored) {
        (RulesAnswer::Rules(rules), Some(stored)) if rules == stored => RulesDecision::Keep(None),
        (RulesAnswer::Rules(rules), _) => RulesDecision::Store(rules),
        (RulesAnswer::Absent, None) => RulesDecision::Store(NO_RULES.to_vec()),
        (RulesAnswer::Absent, Some(stored)) if stored == NO_RULES => RulesDecision::Keep(None),
        (RulesAnswer::Absent, Some(_)) => RulesDecision::Keep(Some(
            "the backend has no access rules, but this host had some: the last good ones stay in force".to_owned(),
        )),
        (RulesAnswer::Failed(reason), Some(_)) => RulesDecision::Keep(Some(format!(
            "access rules: {reason}; the last good ones stay in force"
        ))),
        (RulesAnswer::Failed(reason), None) => RulesDecision::Unknown(format!(
            "access rules: {reason}; nothing is published until they are known, so that nobody is let in by mistake"
        )),
    }
}

#[cfg(test)]
mod tests;
