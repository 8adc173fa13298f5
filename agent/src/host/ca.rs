//! The certificate authority that sshd trusts. What the backend names is a proposal only: it counts
//! when the host's own configuration names the key, or its operator accepted it. Whoever controls
//! the backend can therefore never log in by planting one, and a withdrawn one goes away.

use std::collections::BTreeSet;
use std::io;

use super::edit;
use super::ssh_key::SshPublicKey;
use super::sshd;
use super::sshd_program::{SshdError, SshdProgram};
use crate::paths::Paths;

/// Good answers without a key, one after the other, that it takes to withdraw one: one empty
/// answer may be a backend that has just been restored.
pub const WITHDRAWN_AFTER: u32 = 3;

/// What the backend said about the authority this time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proposal {
    /// A good answer: this text, or none.
    Answer(Option<String>),
    /// No answer, or one that cannot be read: says nothing.
    Unknown,
}

/// What is remembered between cycles.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct CaState {
    /// Good answers without a key since the last one with a key.
    pub empty_answers: u32,
    /// The fingerprint of a proposed key that nobody accepted.
    pub proposed: Option<String>,
    /// The proposed key itself, for `dirless ssh accept-ca`.
    pub proposed_key: Option<String>,
    /// sshd has yet to be told of a change.
    pub reload_due: bool,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Decision {
    /// Nothing.
    Keep,
    /// Trust this key.
    Trust(SshPublicKey),
    /// Trust none any more, and why.
    Withdraw(&'static str),
}

/// Decides from the proposal, what sshd trusts now (the text of the key file), and which keys this
/// host accepts. Also returns the state to remember and, when the proposal is unusable or not
/// accepted, what to tell the operator.
pub fn decide(
    proposal: &Proposal,
    state: &CaState,
    trusted: Option<&str>,
    accepted: &BTreeSet<String>,
) -> (Decision, CaState, Option<String>) {
    let mut next = state.clone();
    let is_accepted = |key: &SshPublicKey| accepted.iter().any(|name| key.is_named_by(name));
    let current = trusted.map(SshPublicKey::parse);
    let mut decision = match &current {
        // Also what a deployed agent planted: it never asked anyone.
        Some(Ok(key)) if !is_accepted(key) => Decision::Withdraw("this host does not accept that key"),
        Some(Err(_)) => Decision::Withdraw("the file does not hold exactly one key"),
        _ => Decision::Keep,
    };
    let mut notice = None;
    match proposal {
        Proposal::Unknown => {}
        Proposal::Answer(None) => {
            // Counted only while there is something to withdraw, so that a host without an
            // authority has nothing to remember.
            next.empty_answers = match current {
                Some(_) => next.empty_answers.saturating_add(1).min(WITHDRAWN_AFTER),
                None => 0,
            };
            (next.proposed, next.proposed_key) = (None, None);
            if next.empty_answers >= WITHDRAWN_AFTER && current.is_some() && decision == Decision::Keep {
                decision = Decision::Withdraw("the backend has withdrawn it");
            }
        }
        Proposal::Answer(Some(text)) => {
            next.empty_answers = 0;
            match SshPublicKey::parse(text) {
                Ok(key) if is_accepted(&key) => {
                    (next.proposed, next.proposed_key) = (None, None);
                    if !matches!(&current, Some(Ok(now)) if *now == key) {
                        decision = Decision::Trust(key);
                    }
                }
                Ok(key) => {
                    let fingerprint = key.fingerprint();
                    notice = Some(format!(
                        "the backend proposes the SSH certificate authority {fingerprint}, which this host does not \
                         accept; if it is yours, run: dirless ssh accept-ca {fingerprint}"
                    ));
                    next.proposed = Some(fingerprint);
                    next.proposed_key = Some(key.line());
                }
                Err(error) => {
                    notice = Some(format!(
                        "what the backend proposes as SSH certificate authority {error}"
                    ));
                    (next.proposed, next.proposed_key) = (None, None);
                }
            }
        }
    }
    (decision, next, notice)
}

/// Keys this host accepts: those of its configuration and those in `accepted-ca`.
///
/// # Errors
/// When the file is there but cannot be read; then nothing may be withdrawn on its account.
pub fn accepted(paths: &Paths, configured: &[String]) -> io::Result<BTreeSet<String>> {
    let file = edit::read(&paths.accepted_ca())?.unwrap_or_default();
    let lines = file
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(configured
        .iter()
        .map(|name| name.trim().to_owned())
        .chain(lines.map(str::to_owned))
        .collect())
}

/// Adds a fingerprint to `accepted-ca`.
///
/// # Errors
/// When the file cannot be read or written.
pub fn accept(paths: &Paths, fingerprint: &str) -> io::Result<()> {
    let mut text = edit::read(&paths.accepted_ca())?.unwrap_or_default();
    if text.lines().any(|line| line.trim() == fingerprint) {
        return Ok(());
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(fingerprint);
    text.push('\n');
    dirless_program::fs::ensure_folder(&paths.config_folder(), 0o700)?;
    dirless_program::fs::publish(&paths.accepted_ca(), 0o600, text.as_bytes())
}

/// Takes a fingerprint out of `accepted-ca`; false when it was not there.
///
/// # Errors
/// When the file cannot be read or written.
pub fn forget(paths: &Paths, fingerprint: &str) -> io::Result<bool> {
    let text = edit::read(&paths.accepted_ca())?.unwrap_or_default();
    let kept: String = text
        .split_inclusive('\n')
        .filter(|line| line.trim() != fingerprint)
        .collect();
    if kept.len() == text.len() {
        return Ok(false);
    }
    dirless_program::fs::publish(&paths.accepted_ca(), 0o600, kept.as_bytes())?;
    Ok(true)
}

/// Why a decision could not be carried out; what was there before still holds.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A file could not be read or written.
    #[error("writing sshd's files: {0}")]
    Files(#[from] io::Error),
    /// sshd refused the result.
    #[error(transparent)]
    Sshd(#[from] SshdError),
}

/// Carries a decision out: key file and drop-in, tested by sshd, put back when it refuses.
/// True when sshd has to read its configuration again.
///
/// # Errors
/// When files cannot be written or sshd refuses the result; then all is as before.
pub fn apply(decision: &Decision, paths: &Paths, sshd_program: &SshdProgram) -> Result<bool, ApplyError> {
    let key = match decision {
        Decision::Keep => return Ok(false),
        Decision::Trust(key) => Some(key),
        Decision::Withdraw(_) => None,
    };
    let before_key = edit::read(&paths.ca_key())?;
    let before_snippet = edit::read(&paths.sshd_snippet())?;
    let (with_keys, _) = sshd::drop_in_state(before_snippet.as_deref().unwrap_or_default());
    let write = || -> Result<(), ApplyError> {
        if let Some(key) = key {
            dirless_program::fs::publish(&paths.ca_key(), 0o644, format!("{}\n", key.line()).as_bytes())?;
        }
        if with_keys || key.is_some() {
            std::fs::create_dir_all(paths.sshd_snippets())?;
            edit::write(&paths.sshd_snippet(), &sshd::drop_in(with_keys, key.is_some()))?;
        } else {
            dirless_program::fs::remove(&paths.sshd_snippet())?;
        }
        if key.is_none() {
            dirless_program::fs::remove(&paths.ca_key())?;
        }
        Ok(sshd_program.test()?)
    };
    match write() {
        Ok(()) => Ok(true),
        Err(error) => {
            // Withdrawing trust never waits for somebody else's broken configuration: a running
            // sshd reads the key file at each login, so without it nobody gets in by certificate.
            if key.is_none() && matches!(error, ApplyError::Sshd(_)) {
                return Ok(true);
            }
            edit::put_back(&paths.sshd_snippet(), before_snippet.as_deref())?;
            edit::put_back(&paths.ca_key(), before_key.as_deref())?;
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests;
