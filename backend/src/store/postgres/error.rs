//! What an error of PostgreSQL is to the store.

use std::sync::Arc;

use tokio_postgres::error::SqlState;

use super::super::StoreError;

/// What the server said, without the details and hints in which values of rows may stand.
#[derive(Debug, thiserror::Error)]
#[error("{message} (SQLSTATE {state})")]
struct Said {
    message: String,
    state: String,
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(said) = error.as_db_error() else {
            // Nothing said: the connection is gone, or never was. The text holds no values of rows.
            let text = chain(&error);
            return Self::Unavailable { what: text };
        };
        meaning(said.code().code(), said.message())
    }
}

/// What an error of this SQLSTATE is to the store.
fn meaning(state: &str, message: &str) -> StoreError {
    let said = Said {
        message: message.to_owned(),
        state: state.to_owned(),
    };
    match state {
        // A standby that was a primary; a server that stops, starts, is taken out or takes nobody more; a transaction that rested
        // for too long.
        "25006" | "57P01" | "57P02" | "57P03" | "57P05" | "53300" | "25P03" => {
            StoreError::Unavailable { what: said.to_string() }
        }
        _ if state.starts_with("08") => StoreError::Unavailable { what: said.to_string() },
        // Another transaction was in the way: nothing of ours is stored, and it is tried again.
        "40001" | "40P01" | "55P03" | "57014" => StoreError::Busy,
        "53100" => StoreError::DiskFull,
        "XX001" | "XX002" => StoreError::corrupt(said.to_string()),
        _ => StoreError::Engine(Arc::new(said)),
    }
}

/// Whether the connection is of no more use after this error.
pub(super) fn ends_connection(error: &tokio_postgres::Error) -> bool {
    error.code().map(SqlState::code).is_none_or(is_last)
}

/// Whether the server hangs up with this SQLSTATE, or writes no more.
fn is_last(state: &str) -> bool {
    matches!(state, "25006" | "25P03") || state.starts_with("08") || state.starts_with("57P")
}

/// An error with its causes, which alone say why a connection failed.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_tried_again_is_what_may_pass_and_nothing_else() {
        let unavailable = [
            "08000", "08003", "08006", "08P01", "25006", "25P03", "53300", "57P01", "57P02", "57P03", "57P05",
        ];
        for state in unavailable {
            let meaning = meaning(state, "gone");
            assert!(
                matches!(&meaning, StoreError::Unavailable { what } if *what == format!("gone (SQLSTATE {state})")),
                "{state}: {meaning:?}"
            );
            assert!(meaning.may_pass(), "{state}");
        }
        for state in ["40001", "40P01", "55P03", "57014"] {
            let meaning = meaning(state, "in the way");
            assert!(matches!(meaning, StoreError::Busy) && meaning.may_pass(), "{state}");
        }
        assert!(matches!(meaning("53100", "no space"), StoreError::DiskFull));
        for state in ["XX001", "XX002"] {
            assert!(
                matches!(meaning(state, "bad page"), StoreError::Corrupt { .. }),
                "{state}"
            );
        }
        // A defect of ours, a role without rights, a database that was dropped, memory that ran out.
        for state in ["42601", "42501", "57P04", "53200", "23505"] {
            assert!(matches!(meaning(state, "no"), StoreError::Engine(_)), "{state}");
        }
        for state in ["53100", "XX001", "42601", "57P04"] {
            assert!(!meaning(state, "no").may_pass(), "{state}");
        }
    }

    #[test]
    fn a_connection_outlives_what_only_fails_a_statement() {
        for state in ["08006", "25006", "25P03", "57P01", "57P04", "57P05"] {
            assert!(is_last(state), "{state}");
        }
        for state in ["40001", "40P01", "55P03", "57014", "53100", "23505"] {
            assert!(!is_last(state), "{state}");
        }
    }
}
