//! The table "what happens, effect" of the deployed protocol, row by row, with our own effect.

use dirless_client::{Attempt, Error};
use dirless_wire::ETag;

use super::*;

const OWN: &str = "age1sc4gd6wwdn3mfcc9r26lmeh0ze0l67artuy6gjp73ztafn3amensnq6mr6";
const OTHER: &str = "age17vcec9dhw5cu4l58hx8a5pwxktryh9ej5ttqzl5gyqc2hnefkawq8pm37s";

fn key(text: &str) -> AgePublicKey {
    AgePublicKey::new(text).unwrap()
}

fn body(encrypted: bool, registered: Option<&str>) -> FetchedBody {
    FetchedBody {
        etag: Some(ETag::strong("g1").unwrap()),
        length: 10,
        encrypted,
        registered_key: registered.map(key),
        recipient: None,
    }
}

fn note(state: SourceState) -> SourceNote {
    SourceNote {
        state,
        encrypted: true,
        etag: None,
        registered_key: None,
        snapshot_recipient: None,
        fetched_at: None,
    }
}

fn known(note: Option<&SourceNote>) -> Known<'_> {
    Known {
        note,
        deleted_streak: 0,
        refused: None,
        own_key: None,
        accept_absent: false,
    }
}

fn unavailable(reason: &str) -> Error {
    Error::Unavailable {
        tried: vec![Attempt {
            backend: "http://a".into(),
            reason: reason.into(),
        }],
    }
}

fn rejected(status: u16) -> Error {
    Error::Rejected {
        status,
        code: ErrorCode::Unknown,
        error: "x".into(),
        hint: None,
    }
}

#[test]
fn every_failing_answer_keeps_what_is_there() {
    let present = note(SourceState::Present);
    let failures = [
        Error::Unauthorized,
        Error::Suspended { error: "x".into() },
        Error::Forbidden { error: "x".into() },
        Error::KeyConflict { registered_key: None },
        Error::RateLimited { retry_after: None },
        rejected(302),
        rejected(204),
        rejected(418),
        unavailable("status 500"),
        unavailable("timeout"),
        unavailable("connection refused"),
        unavailable("connection closed half-way"),
        Error::BodyTooLarge {
            backend: "x".into(),
            limit: 1,
        },
        Error::Malformed {
            backend: "x".into(),
            reason: "y".into(),
        },
        Error::Sink(std::io::Error::other("No space left on device")),
    ];
    for error in &failures {
        let decision = decide(
            "local",
            Known {
                deleted_streak: 2,
                ..known(Some(&present))
            },
            Err(error),
        );
        assert_eq!(decision.action, Action::Keep, "{error}");
        assert!(
            decision.failed && decision.problem.unwrap().contains("local"),
            "{error}"
        );
        // No answer neither counts as "deleted" nor starts the count again.
        assert_eq!(decision.deleted_streak, 2, "{error}");
    }
}

#[test]
fn an_unchanged_body_costs_nothing() {
    let present = note(SourceState::Present);
    assert_eq!(
        decide("local", known(Some(&present)), Ok(&Fetched::NotModified)),
        Decision::quiet(Action::Keep)
    );
}

#[test]
fn a_sealed_body_is_kept_and_its_opening_is_the_workers_business() {
    let own = key(OWN);
    for registered in [None, Some(OWN)] {
        let fetched = body(true, registered);
        let known = Known {
            own_key: Some(&own),
            deleted_streak: 2,
            ..known(None)
        };
        let decision = decide("local", known, Ok(&Fetched::Body(fetched.clone())));
        assert_eq!(decision, Decision::quiet(Action::Store(fetched)));
    }
    // Without a key nothing can be compared; what was fetched waits for the key to be mended.
    let fetched = body(true, Some(OTHER));
    let decision = decide("local", known(None), Ok(&Fetched::Body(fetched.clone())));
    assert_eq!(decision.action, Action::Store(fetched));
}

#[test]
fn defect_03_a_body_in_clear_is_never_kept() {
    let fetched = body(false, None);
    let decision = decide("local", known(None), Ok(&Fetched::Body(fetched.clone())));
    assert_eq!(decision.action, Action::Refuse(fetched));
    assert!(decision.failed && decision.problem.unwrap().contains("never accepted"));
}

#[test]
fn a_body_for_another_key_is_refused_without_trying_and_names_both() {
    let own = key(OWN);
    let fetched = body(true, Some(OTHER));
    let known = Known {
        own_key: Some(&own),
        ..known(None)
    };
    let decision = decide("local", known, Ok(&Fetched::Body(fetched.clone())));
    assert_eq!(decision.action, Action::Refuse(fetched));
    let problem = decision.problem.unwrap();
    assert!(
        problem.contains(OWN) && problem.contains(OTHER) && problem.contains("rotate-key"),
        "{problem}"
    );
}

#[test]
fn a_refused_body_that_is_still_there_stays_refused() {
    let known = Known {
        refused: Some("in clear"),
        ..known(None)
    };
    let decision = decide("local", known, Ok(&Fetched::NotModified));
    assert_eq!((decision.action, decision.failed), (Action::Keep, true));
    assert_eq!(decision.problem.as_deref(), Some("in clear"));
}

#[test]
fn defect_07_an_absent_source_empties_nothing_that_had_data() {
    let present = note(SourceState::Present);
    for code in [ErrorCode::SourceAbsent, ErrorCode::NotFound, ErrorCode::Unknown] {
        let mut streak = 0;
        for _ in 0..10 {
            let known = Known {
                deleted_streak: streak,
                ..known(Some(&present))
            };
            let decision = decide("local", known, Ok(&Fetched::Absent { code }));
            assert_eq!(decision.action, Action::Keep, "{code:?}");
            assert!(decision.problem.unwrap().contains("--accept-absent local"));
            streak = decision.deleted_streak;
        }
    }
}

#[test]
fn defect_07_a_deletion_counts_after_three_answers_in_a_row() {
    let present = note(SourceState::Present);
    let deleted = Fetched::Absent {
        code: ErrorCode::SourceDeleted,
    };
    let mut streak = 0;
    for round in 1..=3 {
        let decision = decide(
            "local",
            Known {
                deleted_streak: streak,
                ..known(Some(&present))
            },
            Ok(&deleted),
        );
        let expected = if round == 3 { Action::MarkDeleted } else { Action::Keep };
        assert_eq!(decision.action, expected, "round {round}");
        assert!(decision.problem.is_some());
        streak = decision.deleted_streak;
    }
    // Any other answer starts the count again.
    for answer in [
        Fetched::NotModified,
        Fetched::Absent {
            code: ErrorCode::SourceAbsent,
        },
    ] {
        let decision = decide(
            "local",
            Known {
                deleted_streak: 2,
                ..known(Some(&present))
            },
            Ok(&answer),
        );
        assert_eq!((decision.action, decision.deleted_streak), (Action::Keep, 0));
    }
}

#[test]
fn an_operator_may_say_that_a_source_is_empty() {
    let present = note(SourceState::Present);
    let absent = Fetched::Absent {
        code: ErrorCode::SourceAbsent,
    };
    let known = Known {
        accept_absent: true,
        ..known(Some(&present))
    };
    assert_eq!(
        decide("local", known, Ok(&absent)),
        Decision::quiet(Action::MarkDeleted)
    );
    // But not of a source that has data.
    let fetched = body(true, None);
    assert_eq!(
        decide("local", known, Ok(&Fetched::Body(fetched.clone()))).action,
        Action::Store(fetched)
    );
}

#[test]
fn a_source_that_never_was_is_empty_and_noted_once() {
    let absent = Fetched::Absent {
        code: ErrorCode::SourceAbsent,
    };
    assert_eq!(
        decide("local", known(None), Ok(&absent)),
        Decision::quiet(Action::MarkAbsent)
    );
    for state in [SourceState::Absent, SourceState::Deleted] {
        let note = note(state);
        assert_eq!(
            decide("local", known(Some(&note)), Ok(&absent)),
            Decision::quiet(Action::Keep)
        );
    }
}

const RULES: &[u8] = br#"{"enforce_group_memberships":true,"host_group_rules":[]}"#;

#[test]
fn defect_06_failing_rules_never_let_anyone_in() {
    let failed = || RulesAnswer::Failed("status 500".into());
    assert!(matches!(decide_rules(None, failed()), RulesDecision::Unknown(_)));
    assert!(matches!(
        decide_rules(Some(RULES), failed()),
        RulesDecision::Keep(Some(_))
    ));
    assert!(matches!(
        decide_rules(Some(RULES), RulesAnswer::Absent),
        RulesDecision::Keep(Some(_))
    ));
}

#[test]
fn good_rules_are_kept_once_and_none_means_none_only_where_there_never_were_any() {
    assert_eq!(
        decide_rules(None, RulesAnswer::Rules(RULES.to_vec())),
        RulesDecision::Store(RULES.to_vec())
    );
    assert_eq!(
        decide_rules(Some(RULES), RulesAnswer::Rules(RULES.to_vec())),
        RulesDecision::Keep(None)
    );
    assert_eq!(
        decide_rules(Some(NO_RULES), RulesAnswer::Rules(RULES.to_vec())),
        RulesDecision::Store(RULES.to_vec())
    );
    assert_eq!(
        decide_rules(None, RulesAnswer::Absent),
        RulesDecision::Store(NO_RULES.to_vec())
    );
    assert_eq!(
        decide_rules(Some(NO_RULES), RulesAnswer::Absent),
        RulesDecision::Keep(None)
    );
    let read: dirless_wire::AuthzConfig = serde_json::from_slice(NO_RULES).unwrap();
    assert!(!read.enforce_group_memberships && read.host_group_rules.is_empty());
}

proptest::proptest! {
    #[test]
    fn no_sequence_without_three_deletions_in_a_row_empties_a_source(answers in proptest::collection::vec(0u8..5, 0..40)) {
        let present = note(SourceState::Present);
        let (mut streak, mut in_a_row) = (0, 0);
        for answer in answers {
            let fetched = match answer {
                0 => Ok(Fetched::NotModified),
                1 => Ok(Fetched::Absent { code: ErrorCode::SourceAbsent }),
                2 => Ok(Fetched::Body(body(true, None))),
                3 => Err(unavailable("timeout")),
                _ => Ok(Fetched::Absent { code: ErrorCode::SourceDeleted }),
            };
            in_a_row = match answer {
                4 => in_a_row + 1,
                3 => in_a_row,
                _ => 0,
            };
            let decision = decide("local", Known { deleted_streak: streak, ..known(Some(&present)) }, fetched.as_ref());
            proptest::prop_assert_eq!(decision.action == Action::MarkDeleted, in_a_row >= DELETED_AFTER);
            streak = decision.deleted_streak;
            if in_a_row >= DELETED_AFTER {
                return Ok(());
            }
        }
    }
}
