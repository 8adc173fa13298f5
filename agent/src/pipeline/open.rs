//! Opening a sealed body: from bytes that anybody may have made to a reader of plaintext.

use dirless_seal::{Identity, Limits, OpenError, Opened};

use super::input::{Body, SourceNote};

/// No plaintext is larger than this: three million users with keys.
const MOST_PLAINTEXT: u64 = 1 << 30;
/// Plaintext of this size is always fine.
const SMALL_PLAINTEXT: u64 = 16 << 20;
/// Directories compress some ten to thirty times; the most that deflate can do is 1032 times.
const MOST_RATIO: u64 = 200;

/// Why a source's body cannot be used, with what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct BodyError {
    /// A short stable word for the reason.
    pub code: &'static str,
    /// What is wrong.
    pub reason: String,
    /// What to do.
    pub hint: String,
}

impl BodyError {
    pub(super) fn new(code: &'static str, reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.into(),
            hint: hint.into(),
        }
    }
}

/// Opens `body` with `identity`. What the reader gives may be used only after its end was reached
/// without an error.
///
/// # Errors
/// When it is no sealed body for this key. A body in clear is never taken.
pub(super) fn open<'a>(
    body: &'a Body,
    note: Option<&SourceNote>,
    identity: &Identity,
) -> Result<Opened<'a>, BodyError> {
    let unreadable = |error: std::io::Error| {
        BodyError::new(
            "unreadable",
            format!("the fetched file cannot be read: {error}"),
            "look at the disk; `dirless refresh` fetches it again",
        )
    };
    let (reader, len) = body.open().map_err(unreadable)?;
    let plaintext = len.saturating_mul(MOST_RATIO).clamp(SMALL_PLAINTEXT, MOST_PLAINTEXT);
    let limits = Limits {
        plaintext,
        ..Limits::default()
    };
    dirless_seal::open(identity, reader, limits).map_err(|error| explain(&error, note, identity))
}

fn explain(error: &OpenError, note: Option<&SourceNote>, identity: &Identity) -> BodyError {
    match error {
        OpenError::NotSealed => {
            let header = match note {
                Some(note) if !note.encrypted => " and came without X-Dirless-Encrypted: age",
                _ => "",
            };
            BodyError::new(
                "not-sealed",
                format!("the body is not sealed{header}; snapshots in clear are never taken"),
                "find out who answers for the backend; only a syncer or the portal may write snapshots",
            )
        }
        OpenError::WrongKey => wrong_key(note, identity),
        OpenError::HeaderTooLarge { .. } => BodyError::new(
            "header-too-large",
            format!("the body is refused: {error}"),
            "snapshots are sealed to one key, the tenant's; find out who wrote this one",
        ),
        OpenError::Header(_) | OpenError::Read(_) => BodyError::new(
            "damaged",
            format!("the body cannot be opened: {error}"),
            "syncer packages 0.6.0 and 0.6.1 write bodies that nobody can open: use 0.5.3 or ours; otherwise push again",
        ),
    }
}

/// Names the keys by their fingerprints, as deployed agents log them.
fn wrong_key(note: Option<&SourceNote>, identity: &Identity) -> BodyError {
    let local = identity.recipient().fingerprint();
    let print = |text: &Option<String>| {
        let text = text.as_deref()?;
        Some(match dirless_seal::Recipient::parse(text) {
            Ok(recipient) => recipient.fingerprint(),
            Err(_) => format!("{} (no age key)", super::drops::shown(text)),
        })
    };
    let registered = note.and_then(|note| print(&note.registered_key));
    let sealed_to = note.and_then(|note| print(&note.snapshot_recipient));
    let mut reason = format!("the body is sealed to another key than this host's {local}");
    if let Some(registered) = &registered {
        reason.push_str(&format!("; registered with the backend is {registered}"));
    }
    if let Some(sealed_to) = &sealed_to {
        reason.push_str(&format!("; the body was pushed for {sealed_to}"));
    }
    let hint = match registered {
        Some(registered) if registered != local => {
            "put the tenant's age.key on this host, or make this host's key the registered one with `dirless rotate-key`"
        }
        _ => "push again, so that the snapshot is sealed to the registered key",
    };
    BodyError::new("wrong-key", reason, hint)
}
