//! What others wrote, read without a server, a file or a terminal: the very parsers of the commands, for whoever holds them
//! against bytes of strangers. Pure.

use dirless_publish::revocation::{RestoreReply, RevocationReply, RevocationsReply, RevokeReply, text};
use dirless_seal::trust::Policy;
use reqwest::StatusCode;

use crate::draft::Draft;
use crate::{revoke, syncer};

/// What a command says of an answer of a syncer's REST interface, whichever it was waiting for: the texts, or the errors'.
/// Empty when `status` is none.
#[must_use]
pub fn answers(status: u16, answer: &[u8]) -> Vec<Result<String, String>> {
    let Ok(status) = StatusCode::from_u16(status) else {
        return Vec::new();
    };
    fn one<T>(status: StatusCode, answer: &[u8]) -> Result<String, String>
    where
        T: serde::de::DeserializeOwned + serde::Serialize + std::fmt::Display,
    {
        let read = revoke::read::<T>("https://syncer", status, answer);
        read.map(|reply| text(&reply, false))
            .map_err(|error| format!("{error:#}"))
    }
    vec![
        one::<RevokeReply>(status, answer),
        one::<RevocationReply>(status, answer),
        one::<RevocationsReply>(status, answer),
        one::<RestoreReply>(status, answer),
    ]
}

/// The policy of a draft, and the draft as it is kept; none for other bytes.
#[must_use]
pub fn draft(bytes: &[u8]) -> Option<(Policy, String)> {
    let draft = Draft::read(bytes).ok()?;
    Some((draft.policy().clone(), draft.text()))
}

/// `policy` with the publishers and enrollers of the lines that `dirless-syncer signing init` prints; none when they are no
/// such lines.
#[must_use]
pub fn admitted(policy: &Policy, lines: &str) -> Option<Policy> {
    let mut policy = policy.clone();
    matches!(syncer::admit_lines(&mut policy, lines), Ok(true)).then_some(policy)
}
