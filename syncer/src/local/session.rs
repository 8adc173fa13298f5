//! Fetch, open, change, seal, put; and again when somebody else was faster.

use std::io::Read;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use dirless_client::{Backoff, Client, Cycle, Error as ClientError, Expected, Fetched, Previous, SnapshotHeaders};
use dirless_seal::{Identity, Limits, Recipient, open, seal};
use dirless_wire::{AgePublicKey, ErrorCode, SourceName};

use super::blob::Blob;
use super::command::EditArguments;
use super::rules::Rules;
use super::{Context, Edited, Refusal, here};

/// How often an edit is done again before giving up.
const TRIES: u32 = 8;
/// First and longest wait between tries.
const WAITS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Why an edit could not be carried through.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalError {
    /// The tenant has no key.
    #[error("no key is registered for this tenant; run first: dirless-syncer enroll")]
    NotEnrolled,
    /// This machine has another key than hosts.
    #[error(
        "the registered key is {registered}, but age.key on this machine is of {own}: hosts could not open what is \
         sealed here; copy the tenant's age.key to this machine"
    )]
    OtherKey {
        /// The registered key.
        registered: String,
        /// The public half of the key at hand.
        own: String,
    },
    /// An older copy than was written from here.
    #[error(
        "the backend serves local users of version {served}, but version {written} was written from this machine: \
         it shows an old copy; find out why, or say --start-over to go on from what it serves"
    )]
    RolledBack {
        /// What it serves.
        served: u64,
        /// What was written.
        written: u64,
    },
    /// Nothing there although something was written.
    #[error(
        "the backend has no local users, but some were written from this machine, and nobody is known to have \
         deleted them; restore the backend, or say --start-over to begin with nothing"
    )]
    Vanished,
    /// Others keep writing.
    #[error("others kept changing the local users while this was tried {TRIES} times; try again")]
    Contended,
    /// The last write got no answer.
    #[error("it is not known whether the change was stored ({source}); run the same command again, it does no harm")]
    Unknown {
        /// What happened.
        source: ClientError,
    },
}

/// Edits at a backend.
pub(super) struct Session<'a> {
    context: &'a Context,
    client: &'a Client,
    identity: &'a Identity,
}

/// What is stored now.
struct Stored {
    blob: Blob,
    previous: Previous,
    /// Whether nothing is stored for sure: deleted, or never written.
    certain: bool,
}

impl<'a> Session<'a> {
    pub(super) fn new(context: &'a Context, client: &'a Client, identity: &'a Identity) -> Self {
        Self {
            context,
            client,
            identity,
        }
    }

    /// The local snapshot as it is stored now.
    pub(super) async fn read(&self) -> anyhow::Result<Blob> {
        Ok(self.fetch(&self.client.cycle()).await?.blob)
    }

    /// Carries `change` through, as often as it takes.
    pub(super) async fn edit(
        &self,
        arguments: EditArguments,
        change: impl Fn(&mut Blob) -> Result<Edited, Refusal>,
    ) -> anyhow::Result<Edited> {
        let mut waits = self.waits();
        let mut written: Option<Edited> = None;
        let mut last = None;
        for _ in 0..TRIES {
            let cycle = self.client.cycle();
            let recipient = self.recipient(&cycle).await?;
            // Before the fetch: another edit on this machine may finish in between.
            let remembered = self.remembered()?;
            let stored = self.fetch(&cycle).await?;
            if !arguments.start_over {
                check_memory(&stored, remembered)?;
            }
            let mut blob = stored.blob;
            let edited = change(&mut blob)?;
            if !edited.changed || arguments.plan {
                // Unchanged after a write that got no answer: it had arrived.
                return Ok(written.unwrap_or(edited));
            }
            let sequence = self.next_sequence(&blob, &stored.previous, remembered);
            blob.stamp(sequence, &here::stamp(self.context.clock.now()));
            match self.write(&cycle, &recipient, &blob, &stored.previous).await? {
                Ok(()) => {
                    self.remember(sequence)?;
                    return Ok(edited);
                }
                Err(error @ (ClientError::Changed | ClientError::Unavailable { .. })) => {
                    written = Some(edited);
                    last = Some(error);
                }
                Err(error) => return Err(error).context("storing the local users"),
            }
            tokio::time::sleep(waits.wait()).await;
        }
        match last {
            Some(source @ ClientError::Unavailable { .. }) => Err(LocalError::Unknown { source }.into()),
            _ => Err(LocalError::Contended.into()),
        }
    }

    /// The access rules as they are stored now.
    pub(super) async fn read_rules(&self) -> anyhow::Result<Rules> {
        let rules = self.client.cycle().get_access_rules().await;
        let rules = rules.context("fetching the access rules")?;
        Ok(rules.map_or_else(|| Ok(Rules::default()), |rules| Rules::new(rules.json))?)
    }

    /// Carries a change of the access rules through, as often as it takes.
    pub(super) async fn edit_rules(
        &self,
        plan: bool,
        change: impl Fn(&mut Rules) -> Result<Edited, Refusal>,
    ) -> anyhow::Result<Edited> {
        let mut waits = self.waits();
        let mut written: Option<Edited> = None;
        let mut last = None;
        for _ in 0..TRIES {
            let cycle = self.client.cycle();
            let stored = cycle.get_access_rules().await.context("fetching the access rules")?;
            let (json, etag) = stored.map(|stored| (stored.json, stored.etag)).unwrap_or_default();
            let mut rules = Rules::new(json.clone())?;
            let edited = change(&mut rules)?;
            if !edited.changed || plan {
                return Ok(written.unwrap_or(edited));
            }
            let expected = match etag {
                Some(etag) => Expected::Tag(etag),
                None => {
                    // Without entity tags only reading once more narrows the window.
                    let again = cycle.get_access_rules().await.context("fetching the access rules")?;
                    if again.map(|again| again.json).unwrap_or_default() != json {
                        tokio::time::sleep(waits.wait()).await;
                        continue;
                    }
                    Expected::Anything
                }
            };
            match cycle.put_access_rules(rules.json(), &expected).await {
                Ok(_) => return Ok(edited),
                Err(error @ (ClientError::Changed | ClientError::Unavailable { .. })) => {
                    written = Some(edited);
                    last = Some(error);
                }
                Err(error) => return Err(error).context("storing the access rules"),
            }
            tokio::time::sleep(waits.wait()).await;
        }
        match last {
            Some(source @ ClientError::Unavailable { .. }) => Err(LocalError::Unknown { source }.into()),
            _ => Err(LocalError::Contended.into()),
        }
    }

    /// The registered key, which must be that of the identity at hand.
    async fn recipient(&self, cycle: &Cycle) -> anyhow::Result<Recipient> {
        let registered = cycle.get_public_key().await.context("asking for the registered key")?;
        let registered = registered.ok_or(LocalError::NotEnrolled)?;
        let own = self.identity.recipient();
        if own.as_str() == registered.as_str() {
            return Ok(own);
        }
        Err(LocalError::OtherKey {
            registered: registered.to_string(),
            own: own.to_string(),
        }
        .into())
    }

    async fn fetch(&self, cycle: &Cycle) -> anyhow::Result<Stored> {
        let mut sealed = Vec::new();
        let limit = self.context.config.max_bytes;
        let fetched = cycle.get_snapshot(&SourceName::local(), None, limit, &mut sealed).await;
        let body = match fetched.context("fetching the local users")? {
            Fetched::Body(body) => body,
            Fetched::Absent { code } => {
                return Ok(Stored {
                    blob: Blob::default(),
                    previous: Previous::Absent,
                    certain: code == ErrorCode::SourceDeleted,
                });
            }
            Fetched::NotModified => anyhow::bail!("the backend says \"not modified\" without having been asked"),
        };
        let mut json = Vec::new();
        open(self.identity, sealed.as_slice(), Limits::default())
            .and_then(|mut opened| opened.read_to_end(&mut json).map_err(dirless_seal::OpenError::Read))
            .context("opening the local users with age.key; is it the tenant's key?")?;
        Ok(Stored {
            blob: Blob::parse(&json)?,
            previous: Previous::Body {
                etag: body.etag,
                body: Bytes::from(sealed),
            },
            certain: true,
        })
    }

    /// Seals and puts; the inner result is the backend's verdict.
    async fn write(
        &self,
        cycle: &Cycle,
        recipient: &Recipient,
        blob: &Blob,
        previous: &Previous,
    ) -> anyhow::Result<Result<(), ClientError>> {
        let mut sealed = Vec::new();
        seal(recipient, &mut blob.to_json().as_slice(), &mut sealed).context("sealing the local users")?;
        let headers = SnapshotHeaders {
            users: Some(blob.users().len() as u64),
            groups: Some(blob.groups().len() as u64),
            ..SnapshotHeaders::for_recipient(AgePublicKey::new(recipient.as_str())?)
        };
        let source = SourceName::local();
        let put = cycle.replace_snapshot(&source, &headers, previous, Bytes::from(sealed));
        Ok(put.await.map(drop))
    }

    /// The number of the next version. A snapshot that a portal wrote has none, and portals drop
    /// what they do not know, while hosts refuse a snapshot that lost its number: so none is begun
    /// there.
    fn next_sequence(&self, blob: &Blob, previous: &Previous, remembered: Option<u64>) -> Option<u64> {
        let last = blob.sequence().max(remembered);
        if last.is_none() && *previous != Previous::Absent {
            return None;
        }
        Some(here::sequence_after(last, self.context.clock.now()))
    }

    fn remembered(&self) -> anyhow::Result<Option<u64>> {
        let Some(path) = &self.context.memory else {
            return Ok(None);
        };
        let reading = || {
            format!(
                "reading {}; it holds one number, remove it if it is damaged",
                path.display()
            )
        };
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Some(text.trim().parse().with_context(reading)?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(reading),
        }
    }

    fn remember(&self, sequence: Option<u64>) -> anyhow::Result<()> {
        let (Some(path), Some(sequence)) = (&self.context.memory, sequence) else {
            return Ok(());
        };
        dirless_program::fs::publish(path, 0o600, format!("{sequence}\n").as_bytes()).with_context(|| {
            format!(
                "the change is stored, but its version cannot be kept in {}",
                path.display()
            )
        })
    }

    fn waits(&self) -> Backoff {
        // Editors differ in when they begin; that is random enough to part them.
        let seed = self.context.clock.now().as_nanosecond().unsigned_abs();
        #[expect(clippy::cast_possible_truncation, reason = "any 64 bits of the time make a seed")]
        let seed = seed as u64 ^ u64::from(std::process::id());
        Backoff::new(WAITS.0, WAITS.1, seed)
    }
}

/// Compares what is served with what was written from here.
fn check_memory(stored: &Stored, remembered: Option<u64>) -> Result<(), LocalError> {
    let Some(written) = remembered else {
        return Ok(());
    };
    match stored.blob.sequence() {
        Some(served) if served < written => Err(LocalError::RolledBack { served, written }),
        None if stored.previous == Previous::Absent && !stored.certain => Err(LocalError::Vanished),
        _ => Ok(()),
    }
}
