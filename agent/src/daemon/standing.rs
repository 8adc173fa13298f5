//! How this host stands with a backend: waiting to be admitted, accepted, refused, and joining anew by itself.

use dirless_client::{BackendFiles, Files, Standing};
use dirless_program::Secret;
use dirless_seal::Digest;
use dirless_seal::trust::JoinCode;

use super::engine::{Engine, Outcome, Receipts, Source};
use crate::config::{From, SignedConfig};
use crate::trust::{Admission, Keeper, Pending, ReachError, admission, at_backends, join_anew, next_key_is_accepted};

/// Cycles in a row in which the key must be refused before the host joins anew: a backend that was set back to an old
/// copy for a minute must not cost a join code.
const REFUSED_BEFORE: u32 = 3;

/// What the daemon remembers of it over restarts.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Refusals {
    /// Cycles in a row in which the key was refused.
    pub in_a_row: u32,
    /// Digest of the join code that this host last joined anew with: each is tried once.
    pub tried_code: Option<String>,
}

impl Engine {
    /// Sends what is to be sent of a request to be admitted, and takes new keys into use once they are accepted: the
    /// files to go on with.
    pub(super) async fn admission(
        &mut self,
        backend: &BackendFiles,
        signed: &SignedConfig,
        keeper: &Keeper,
        outcome: &mut Outcome,
    ) -> (BackendFiles, Admission) {
        // First: once those keys are accepted, the request needs no more care.
        let anew = match keeper.pending() {
            Ok(Some(pending)) if pending.anew && pending.sent_at.is_some() => self.with_next_keys(signed, keeper).await,
            Ok(_) => Ok(None),
            Err(error) => Err(error.into()),
        };
        let found = match anew {
            Ok(Some(backend)) => return (backend, Admission::None),
            Ok(None) => admission(signed, keeper, &self.clock).await,
            Err(error) => Err(error),
        };
        let found = found.unwrap_or_else(|error| {
            outcome.failed = true;
            outcome.problems.push(error.to_string());
            Admission::None
        });
        (backend.clone(), found)
    }

    /// The files under the keys that this host joined anew with; none while those are not accepted.
    async fn with_next_keys(
        &mut self,
        signed: &SignedConfig,
        keeper: &Keeper,
    ) -> Result<Option<BackendFiles>, ReachError> {
        if !next_key_is_accepted(signed, keeper, &self.config.timing, &self.clock).await? {
            return Ok(None);
        }
        keeper.take_next_keys()?;
        let backend = at_backends(signed, keeper.signing_key()?, &self.config.timing, &self.clock)?;
        tracing::info!(name: "agent.joined_anew", "this host was admitted anew, with new keys");
        self.upstream = Source::Signed(Files::Backend(backend.clone()));
        self.receipts = Receipts {
            keys: self.receipts.keys + 1,
            ..Receipts::default()
        };
        Ok(Some(backend))
    }

    /// What the backend's answers mean for this host's place in the tenant.
    pub(super) fn after_walk(
        &mut self,
        backend: &BackendFiles,
        signed: &SignedConfig,
        keeper: &Keeper,
        admission: &Admission,
        outcome: &mut Outcome,
    ) {
        match backend.standing() {
            Standing::Accepted => {
                self.state.refusals.in_a_row = 0;
                // One that came to have its old key accepted again has new ones in wait no more.
                if *admission != Admission::None
                    && let Err(error) = keeper.end_pending()
                {
                    outcome.problems.push(error.to_string());
                }
            }
            Standing::Refused => {
                let problem = self.refused(signed, keeper, admission);
                outcome.failed = true;
                // In the words that help; the walk's own would say it once more.
                outcome.problems.retain(|problem| !problem.ends_with("(refused)"));
                outcome.problems.insert(0, problem);
            }
            Standing::Unknown | Standing::Barred(_) | Standing::Down(_) => {}
        }
    }

    fn refused(&mut self, signed: &SignedConfig, keeper: &Keeper, admission: &Admission) -> String {
        let node = node(keeper);
        match admission {
            Admission::Waiting(pending) if !pending.anew => format!(
                "this host ({node}) has waited to be admitted since {}{}: have the enroller look at its mailbox \
                 (dirless-syncer node admit) (waiting)",
                pending.asked_at,
                since_then(pending)
            ),
            Admission::Waiting(pending) => format!(
                "the backend refuses this host's key ({node}); it asked to join anew at {} and waits{}; the last good state \
                 serves on (refused)",
                pending.asked_at,
                since_then(pending)
            ),
            Admission::Unsent(reason) => format!("the join request could not be sent: {reason} (unsent)"),
            Admission::Refused => format!(
                "the backend takes neither this host's key ({node}) nor its join code, which is unknown, used up or \
                 expired: get a new one; the last good state serves on (refused)"
            ),
            Admission::None => {
                self.state.refusals.in_a_row = self.state.refusals.in_a_row.saturating_add(1);
                let next = self.rejoin(signed, keeper);
                format!("the backend refuses this host's key ({node}): {next}; the last good state serves on (refused)")
            }
        }
    }

    /// Joins anew if that may help: what was done, or what to do.
    fn rejoin(&mut self, signed: &SignedConfig, keeper: &Keeper) -> String {
        const WHY: &str = "it was revoked, or has ended";
        let Some(file) = &signed.code_file else {
            return format!("{WHY}; to join anew: dirless join --again");
        };
        let shown = file.display();
        let unable = |error: String| format!("{WHY}, and this host cannot join anew with the code in {shown}: {error}");
        let read = Secret::from_file(file).map_err(|error| error.to_string());
        let read = read.and_then(|text| {
            let code = JoinCode::parse(text.expose()).map_err(|error| error.to_string())?;
            Ok((code, Digest::of(text.expose().as_bytes()).to_string()))
        });
        let (code, digest) = match read {
            Ok(read) => read,
            Err(error) => return unable(error),
        };
        let refusals = &mut self.state.refusals;
        if refusals.tried_code.as_ref() == Some(&digest) {
            return format!("{WHY}; it joined anew with the code in {shown} already: put a new code there");
        }
        if refusals.in_a_row < REFUSED_BEFORE {
            return format!("{WHY}; if it stays so, this host joins anew with the code in {shown}");
        }
        let policy = keeper.memory().and_then(|memory| keeper.policy(&memory));
        let policy = policy.map_err(|error| error.to_string());
        let joined = policy.and_then(|policy| {
            let policy = policy.ok_or_else(|| "no policy is known".to_owned())?;
            join_anew(keeper, &policy, &code, &self.clock).map_err(|error| error.to_string())
        });
        match joined {
            Ok(()) => {
                *refusals = Refusals {
                    in_a_row: 0,
                    tried_code: Some(digest),
                };
                tracing::warn!(name: "agent.joining_anew", "the backend refuses this host's key; joining anew");
                format!("{WHY}; joining anew with the code in {shown}")
            }
            Err(error) => unable(error),
        }
    }
}

/// What became of a request that waits.
fn since_then(pending: &Pending) -> String {
    let sent = pending.sent_at.as_deref().unwrap_or_default();
    if pending.refused > 0 {
        return format!("; at {sent} the backend did not accept its join code any more, so a new one may be needed");
    }
    match pending.asked_anew {
        0 => String::new(),
        times => format!(
            "; its request was taken out of the mailbox without that ({times} times), and it asked anew, last at {sent}"
        ),
    }
}

fn node(keeper: &Keeper) -> String {
    let key = keeper.signing_key();
    key.map_or_else(|_| "no key".to_owned(), |key| key.verifying().name().to_string())
}

/// Where the files come from and how this host stands there, for one line.
pub(super) fn standing_line(signed: &SignedConfig, files: &Files, keeper: &Keeper, admission: &Admission) -> String {
    let Files::Backend(backend) = files else {
        return match &signed.from {
            From::Folder(folder) => format!("files from {}", folder.display()),
            From::Url(url) => format!("files from {url}"),
            From::Backends(urls) => format!("files from {}", urls.join(", ")),
        };
    };
    let node = node(keeper);
    match (backend.standing(), admission) {
        (Standing::Accepted, _) => format!("the backend accepts this host ({node})"),
        (Standing::Refused, Admission::Waiting(pending)) => {
            format!("this host ({node}) waits to be admitted since {}", pending.asked_at)
        }
        (Standing::Refused, _) => format!("the backend REFUSES this host ({node})"),
        (Standing::Barred(reason), _) => reason,
        (Standing::Down(_) | Standing::Unknown, _) => "no backend answers".to_owned(),
    }
}
