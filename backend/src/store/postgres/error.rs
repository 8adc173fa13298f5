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
        let text = || format!("{} (SQLSTATE {})", said.message(), said.code().code());
        match said.code().code() {
            // A standby that was a primary; a server that stops, starts or is taken out.
            "25006" | "57P01" | "57P02" | "57P03" | "57P05" | "53300" | "25P03" => Self::Unavailable { what: text() },
            code if code.starts_with("08") => Self::Unavailable { what: text() },
            // Another transaction was in the way: nothing of ours is stored, and it is tried again.
            "40001" | "40P01" | "55P03" | "57014" => Self::Busy,
            "53100" => Self::DiskFull,
            "XX001" | "XX002" => Self::corrupt(text()),
            _ => Self::Engine(Arc::new(Said {
                message: said.message().to_owned(),
                state: said.code().code().to_owned(),
            })),
        }
    }
}

/// Whether the connection is of no more use after this error.
pub(super) fn ends_connection(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        None => true,
        Some(code) => {
            let code: &SqlState = code;
            matches!(code.code(), "25006" | "25P03") || code.code().starts_with("08") || code.code().starts_with("57P")
        }
    }
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
