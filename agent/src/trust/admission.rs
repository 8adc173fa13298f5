//! How a host comes to be admitted by way of a backend: its request goes into the mailbox, and it waits. The same for one
//! that joins anew because its key is refused.

use dirless_client::{Error, Posted};
use dirless_program::Clock;
use dirless_seal::trust::{JoinCode, Policy};

use super::join::{JoinError, new_keys, sealed_request};
use super::keeper::{Keeper, KeeperError};
use super::pending::Pending;
use super::reach::{ReachError, at_backends, on_wire, to_join};
use crate::config::{SignedConfig, Timing};

/// How often in a row a code that was accepted once may be refused before the request is given up: a backend that was set back
/// to an old copy for a while must not cost it.
const REFUSED_BEFORE: u32 = 3;

/// How things stand with this host's request to be admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// None is on its way.
    None,
    /// It waits for an enroller.
    Waiting(Pending),
    /// It has not got through yet, for this reason.
    Unsent(String),
    /// The join code is not accepted, so that it never will.
    Refused,
}

/// Sends the request that `keeper` has, where that is due: the same bytes each time, so that it is in the mailbox once.
///
/// # Errors
/// When the configuration cannot be used, or the disk fails.
pub async fn admission(config: &SignedConfig, keeper: &Keeper, clock: &Clock) -> Result<Admission, ReachError> {
    let Some(pending) = keeper.pending()? else {
        return Ok(Admission::None);
    };
    let Some((bearer, sealed)) = keeper.request()?.filter(|_| pending.is_due(clock.now())) else {
        return Ok(Admission::Waiting(pending));
    };
    let client = to_join(
        config.urls(),
        config.ca_file.as_deref(),
        config.joined.tenant,
        bearer,
        clock,
    )?;
    let cycle = client.cycle();
    let posted = cycle.post_join_request(&on_wire(&pending.code), sealed.into()).await;
    let (was_sent, now) = (pending.sent_at.is_some(), Some(super::join::seconds(clock).to_string()));
    let pending = match posted {
        Ok(Posted::Taken) if was_sent => {
            tracing::warn!(
                name: "agent.join_asked_anew", code = %pending.code,
                "the join request was gone from the backend's mailbox; this host asked anew"
            );
            Pending {
                sent_at: now,
                asked_anew: pending.asked_anew.saturating_add(1),
                refused: 0,
                ..pending
            }
        }
        Ok(Posted::Taken | Posted::Waits) => {
            if !was_sent {
                tracing::info!(name: "agent.join_posted", code = %pending.code, "the join request is in the backend's mailbox");
            }
            Pending {
                sent_at: now,
                refused: 0,
                ..pending
            }
        }
        Err(Error::Unauthorized) if was_sent && pending.refused < REFUSED_BEFORE => Pending {
            sent_at: now,
            refused: pending.refused + 1,
            ..pending
        },
        Err(Error::Unauthorized) => {
            keeper.end_pending()?;
            return Ok(Admission::Refused);
        }
        // It is in the mailbox as far as anybody knows.
        Err(_) if was_sent => return Ok(Admission::Waiting(pending)),
        Err(error) => return Ok(Admission::Unsent(error.to_string())),
    };
    keeper.note_pending(&pending)?;
    Ok(Admission::Waiting(pending))
}

/// Whether the backend accepts the key that this host joins anew with.
///
/// # Errors
/// When the configuration or the key cannot be used.
pub async fn next_key_is_accepted(
    config: &SignedConfig,
    keeper: &Keeper,
    timing: &Timing,
    clock: &Clock,
) -> Result<bool, ReachError> {
    let files = at_backends(config, keeper.next_signing_key()?, timing, clock)?;
    Ok(files.heartbeat(None).await.is_ok())
}

/// Makes keys and a request with which this host joins its tenant anew; [`admission`] sends it. The old keys stay in use.
///
/// # Errors
/// When `code` is another tenant's, `policy` names no enroller, or the disk fails.
pub fn join_anew(keeper: &Keeper, policy: &Policy, code: &JoinCode, clock: &Clock) -> Result<(), JoinError> {
    if code.tenant != keeper.joined().tenant {
        return Err(JoinError::OtherTenant);
    }
    let (signing, identity) = new_keys()?;
    let sealed = sealed_request(code, policy, &signing, &identity, clock)?;
    keeper.keep_next_keys(&signing, &identity)?;
    keep(keeper, code, &sealed, clock, true)?;
    Ok(())
}

/// Keeps a request before it is sent.
pub(super) fn keep(
    keeper: &Keeper,
    code: &JoinCode,
    sealed: &[u8],
    clock: &Clock,
    anew: bool,
) -> Result<(), KeeperError> {
    let pending = Pending {
        code: code.code.clone(),
        asked_at: super::join::seconds(clock).to_string(),
        anew,
        sent_at: None,
        asked_anew: 0,
        refused: 0,
    };
    keeper.keep_pending(&pending, &code.secret.bearer(code.tenant, &code.code), sealed)
}
