//! Opening a sealed body: from bytes that anybody may have made to a reader of plaintext, and for signed ones on to the
//! content root.

use std::io::Read;

use dirless_model::snapshot::{self, Caps, Meta, Part, ReadError, Sink};
use dirless_seal::trust::{Policy, Scope, Wrap};
use dirless_seal::{Content, Digest, Identity, Limits, OpenError, Opened, RecordKind};

use super::input::{Body, Inputs, Opener, SourceInput, SourceNote};
use super::log;
use crate::trust::SignedBody;

/// No plaintext is larger than this: three million users with keys.
const MOST_PLAINTEXT: u64 = 1 << 30;
/// Plaintext of this size is always fine.
const SMALL_PLAINTEXT: u64 = 16 << 20;
/// Directories compress some ten to thirty times; the most that deflate can do is 1032 times.
const MOST_RATIO: u64 = 200;

/// Code of what a publisher said though it is not its to say.
pub const OUT_OF_SCOPE: &str = "out-of-scope";

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

/// A body that opens. What it holds may be used only after it was read to its end without an error.
pub(super) struct Opening<'a> {
    plaintext: Box<dyn Read + 'a>,
    signed: Option<Signed<'a>>,
}

/// What vouches for a body.
struct Signed<'a> {
    /// The content root of all of it; none of a part, whose records were vouched for before.
    content: Option<Digest>,
    scope: &'a Scope,
}

impl<'a> Opening<'a> {
    /// Of bytes in clear, as tests make them.
    #[cfg(test)]
    pub(super) fn of(plaintext: &'a [u8]) -> Self {
        Self {
            plaintext: Box::new(plaintext),
            signed: None,
        }
    }

    /// Of some records of a snapshot that was read before, whose publisher may say what is in `scope`.
    pub(super) fn of_part(plaintext: &'a [u8], scope: Option<&'a Scope>) -> Self {
        Self {
            plaintext: Box::new(plaintext),
            signed: scope.map(|scope| Signed { content: None, scope }),
        }
    }

    /// What the publisher may say; none when nobody vouches for the body.
    pub(super) fn scope(&self) -> Option<&'a Scope> {
        self.signed.as_ref().map(|signed| signed.scope)
    }

    /// Reads it as a snapshot, to its end. The records of a signed one have the signed content root.
    ///
    /// # Errors
    /// When it is none, or the records are not those that were signed.
    pub(super) fn read(self, caps: Caps, sink: &mut dyn Sink) -> Result<Meta, SnapshotError> {
        let Some(expected) = self.signed.and_then(|signed| signed.content) else {
            return Ok(snapshot::read(self.plaintext, caps, sink)?);
        };
        let mut content = Content::default();
        let meta = snapshot::read_records(self.plaintext, caps, sink, &mut |part, bytes| {
            content.add(RecordKind::from(part).leaf(bytes));
        })?;
        if content.root() == expected {
            Ok(meta)
        } else {
            Err(SnapshotError::Content)
        }
    }

    /// Reads it as a snapshot, to its end, for the bytes of its records alone, and returns their leaves as well. They
    /// have the signed content root.
    ///
    /// # Errors
    /// As [`Opening::read`].
    pub(super) fn records(mut self, record: &mut dyn FnMut(Part, &[u8])) -> Result<(Meta, Content), SnapshotError> {
        let expected = self.signed.take().and_then(|signed| signed.content);
        let mut content = Content::default();
        let meta = snapshot::read_records(self.plaintext, Caps::default(), &mut (), &mut |part, bytes| {
            content.add(RecordKind::from(part).leaf(bytes));
            record(part, bytes);
        })?;
        if expected.is_none_or(|expected| expected == content.root()) {
            Ok((meta, content))
        } else {
            Err(SnapshotError::Content)
        }
    }

    /// Reads it whole: of the access rules.
    ///
    /// # Errors
    /// When it cannot be read, or is not what was signed.
    fn bytes(mut self) -> Result<Vec<u8>, BodyError> {
        let mut bytes = Vec::new();
        self.plaintext
            .read_to_end(&mut bytes)
            .map_err(|error| unreadable(&error))?;
        let mut content = Content::default();
        content.add(RecordKind::Other.leaf(&bytes));
        match self.signed {
            Some(signed) if signed.content.is_some_and(|expected| expected != content.root()) => {
                Err(SnapshotError::Content.into())
            }
            _ => Ok(bytes),
        }
    }
}

/// A body that opened is no snapshot that can be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum SnapshotError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("its records do not have the content root that its publisher signed")]
    Content,
}

impl From<SnapshotError> for BodyError {
    fn from(error: SnapshotError) -> Self {
        let (code, hint) = match &error {
            SnapshotError::Content => (
                "content-root",
                "the publisher signed one thing and sealed another: look at it",
            ),
            SnapshotError::Read(ReadError::Io(error)) if error.kind() == std::io::ErrorKind::FileTooLarge => (
                "bomb",
                "it unpacks to more than was signed, or than any directory has: look at who wrote it",
            ),
            SnapshotError::Read(error) if error.is_io() => (
                "unreadable",
                "it was cut or changed on its way, or is far larger than any directory; push it again",
            ),
            SnapshotError::Read(_) => (
                "unreadable",
                "find out which program wrote it; `dirless-syncer once` pushes a good one",
            ),
        };
        Self::new(code, error.to_string(), hint)
    }
}

pub(super) fn unreadable(error: &std::io::Error) -> BodyError {
    BodyError::new(
        "unreadable",
        format!("the fetched file cannot be read: {error}"),
        "look at the disk; `dirless refresh` fetches it again",
    )
}

/// Opens `body` of `source` as `inputs` allow.
///
/// # Errors
/// When it is no sealed body for this host. A body in clear is never taken, nor one that nobody vouches for where
/// bodies are signed.
pub(super) fn open<'a>(body: &'a Body, source: &SourceInput, inputs: &'a Inputs) -> Result<Opening<'a>, BodyError> {
    match &inputs.opener {
        Opener::Key(identity) => Ok(Opening {
            plaintext: Box::new(with_key(body, source.note.as_ref(), identity)?),
            signed: None,
        }),
        Opener::Signed { policy, keys } => signed(body, &source.name, policy, keys),
    }
}

/// The access rules in a signed body.
///
/// # Errors
/// As [`open`], and when its publisher may not make rules.
pub(crate) fn signed_rules(body: &Body, policy: &Policy, keys: &[Wrap]) -> Result<Vec<u8>, BodyError> {
    let opening = signed(body, crate::trust::ACCESS_RULES, policy, keys)?;
    let may = opening
        .scope()
        .is_some_and(|scope| scope.may(dirless_seal::trust::Right::Access));
    if may {
        opening.bytes()
    } else {
        Err(beyond("access rules"))
    }
}

fn signed<'a>(body: &'a Body, source: &str, policy: &'a Policy, keys: &[Wrap]) -> Result<Opening<'a>, BodyError> {
    let Body::File(path) = body else {
        return Err(BodyError::new(
            "unreadable",
            "a signed body lies in a file",
            "fetch it again",
        ));
    };
    let again = "`dirless refresh` fetches it again";
    let found = SignedBody::open(path).map_err(|error| BodyError::new("unreadable", error.to_string(), again))?;
    let found = found.ok_or_else(|| BodyError::new("unreadable", "the fetched body is gone", again))?;
    let manifest = &found.manifest;
    if manifest.source.as_str() != source {
        return Err(BodyError::new("mixed", "it is the body of another source", again));
    }
    let publisher = policy.publisher(&manifest.publisher);
    let scope = publisher
        .map(|publisher| &publisher.scope)
        .filter(|scope| scope.covers_source(&manifest.source));
    let scope = scope.ok_or_else(|| beyond(&format!("source {source}")))?;
    let key = keys.iter().find(|wrap| wrap.identity.recipient() == manifest.recipient);
    let key = key.ok_or_else(|| {
        BodyError::new(
            "no-key",
            format!(
                "this host has no key of epoch {} of {}",
                manifest.epoch, manifest.compartment
            ),
            "it was not admitted to it, or was revoked; `dirless status` tells",
        )
    })?;
    if manifest.plaintext_size > MOST_PLAINTEXT {
        return Err(BodyError::new(
            "too-large",
            format!(
                "{} bytes of plaintext are signed, {MOST_PLAINTEXT} are allowed",
                manifest.plaintext_size
            ),
            "split the directory",
        ));
    }
    let limits = Limits {
        plaintext: manifest.plaintext_size,
        ..Limits::default()
    };
    let changes = log::changes(path, &found, &key.identity)?;
    let content = manifest.content;
    let opened = dirless_seal::open_file(&key.identity, found.sealed, limits);
    let plaintext = opened.map_err(|error| explain(&error, None, &key.identity))?;
    let (plaintext, content): (Box<dyn Read>, _) = if changes.is_empty() {
        (Box::new(plaintext), content)
    } else {
        log::changed(source, plaintext, &changes)?
    };
    Ok(Opening {
        plaintext,
        signed: Some(Signed {
            content: Some(content),
            scope,
        }),
    })
}

/// What a publisher said is not its to say.
pub(super) fn beyond(what: &str) -> BodyError {
    BodyError::new(
        OUT_OF_SCOPE,
        format!("the policy does not let its publisher speak of {what}"),
        "widen the publisher's scope in the policy, or find out why it says so",
    )
}

fn with_key<'a>(body: &'a Body, note: Option<&SourceNote>, identity: &Identity) -> Result<Opened<'a>, BodyError> {
    let (reader, len) = body.open().map_err(|error| unreadable(&error))?;
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
