//! The way to a tenant's files: which backends or servers, and with which key.

use std::path::Path;

use dirless_client::{BackendFiles, BuildError, Client, ClientBuilder, Files, RequestKey, RetryPolicy, Timeouts};
use dirless_program::{Clock, Secret};
use dirless_seal::{Digest, Label, SigningKey};
use dirless_wire::TenantId;
use dirless_wire::trust as wire;

use super::keeper::{Keeper, KeeperError};
use crate::config::{From, SignedConfig, Timing};

/// There is no way to the files.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// The configuration cannot work.
    #[error(transparent)]
    Client(#[from] BuildError),
    /// This host's key cannot be used.
    #[error(transparent)]
    Keeper(#[from] KeeperError),
}

/// The files that `config` names. Requests to backends are signed with the key that `keeper` has.
///
/// # Errors
/// When the configuration or the key cannot be used.
pub fn files(config: &SignedConfig, keeper: &Keeper, timing: &Timing, clock: &Clock) -> Result<Files, ReachError> {
    match &config.from {
        From::Folder(folder) => Ok(Files::Folder(folder.clone())),
        From::Url(url) => Ok(Files::web(url, config.ca_file.as_deref(), timing.fetch_timeout)?),
        From::Backends(_) => Ok(Files::Backend(at_backends(
            config,
            keeper.signing_key()?,
            timing,
            clock,
        )?)),
    }
}

/// The files at the backends that `config` names, asked for by the owner of `key`.
///
/// # Errors
/// When the configuration cannot be used.
pub fn at_backends(
    config: &SignedConfig,
    key: SigningKey,
    timing: &Timing,
    clock: &Clock,
) -> Result<BackendFiles, BuildError> {
    let builder = builder(config.urls(), config.ca_file.as_deref(), config.joined.tenant, clock)?;
    let builder = builder.timeouts(timeouts(timing)).readmit_after(timing.readmit_after);
    Ok(BackendFiles::new(builder.key(request_key(key)).build()?))
}

/// A client for a host that has nothing but a join code yet.
///
/// # Errors
/// When the configuration cannot be used.
pub(super) fn to_join(
    urls: &[String],
    ca_file: Option<&Path>,
    tenant: Digest,
    bearer: Secret,
    clock: &Clock,
) -> Result<Client, BuildError> {
    builder(urls, ca_file, tenant, clock)?.bearer(bearer).build()
}

/// A client that says nothing about who asks, to find out who answers.
///
/// # Errors
/// When the configuration cannot be used.
pub(super) fn to_look(url: &str, ca_file: Option<&Path>, tenant: Digest, clock: &Clock) -> Result<Client, BuildError> {
    builder(&[url.to_owned()], ca_file, tenant, clock)?.build()
}

/// What signs requests with `key`.
#[must_use]
pub fn request_key(key: SigningKey) -> RequestKey {
    let public = key.verifying().to_string();
    RequestKey::of(&public, move |text| key.sign(text)).expect("both grammars of public keys are the same")
}

/// A label as the wire has it.
pub(crate) fn on_wire(label: &Label) -> wire::Label {
    wire::Label::new(label.as_str()).expect("both grammars of labels are the same")
}

fn builder(
    urls: &[String],
    ca_file: Option<&Path>,
    tenant: Digest,
    clock: &Clock,
) -> Result<ClientBuilder, BuildError> {
    let tenant = TenantId::new(&tenant.to_string()).expect("64 hexadecimal digits are a tenant's id");
    let builder = ClientBuilder::new()
        .urls(urls.iter().map(String::as_str))?
        .tenant(tenant)
        // The loop has its own pace.
        .retry(RetryPolicy::none())
        .user_agent(concat!("dirless-agent/", env!("CARGO_PKG_VERSION")))
        .clock(clock.clone());
    Ok(match ca_file {
        Some(file) => builder.ca_file(file),
        None => builder,
    })
}

/// The limits of requests that `timing` sets.
#[must_use]
pub fn timeouts(timing: &Timing) -> Timeouts {
    Timeouts::of_host(timing.fetch_timeout, timing.probe_timeout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_name_on_the_wire_and_in_notes() {
        for _ in 0..20 {
            let key = SigningKey::generate("n1.a-b_c".parse().unwrap()).unwrap();
            let (name, hash) = (key.verifying().name().clone(), key.verifying().hash());
            assert_eq!(request_key(key).id().to_string(), format!("{name}+{hash}"));
        }
    }
}
