//! The files of an enrolment, as deployed tools write them: each whole, private, and in an order that
//! leaves no half enrolment behind: the configuration comes last.

use std::io;
use std::path::{Path, PathBuf};

use dirless_program::Secret;
use dirless_program::fs::{ensure_folder, publish};
use dirless_seal::Identity;
use dirless_wire::TenantId;
use zeroize::Zeroizing;

use crate::paths::Paths;

/// What is written.
pub(crate) struct Settings<'a> {
    pub(crate) server: &'a str,
    pub(crate) ca_file: Option<&'a Path>,
    pub(crate) agent_id: &'a str,
    pub(crate) token: &'a Secret,
    pub(crate) tenant: &'a TenantId,
    /// The tenant id was derived from an account with the token.
    pub(crate) derived: bool,
    pub(crate) identity: &'a Identity,
}

/// Makes the folder and proves that files can be made in it.
pub(crate) fn prepare(paths: &Paths) -> Result<(), (PathBuf, io::Error)> {
    let folder = paths.config_folder();
    let at = |error| (folder.clone(), error);
    ensure_folder(&folder, 0o700).map_err(at)?;
    let probe = tempfile::Builder::new()
        .prefix(".publish-")
        .tempfile_in(&folder)
        .map_err(at)?;
    // A full disk shows on the first block, not on the name.
    io::Write::write_all(&mut probe.as_file(), &[b'#'; 4096]).map_err(at)
}

/// Writes all of it and names what was written.
pub(crate) fn write(paths: &Paths, settings: &Settings<'_>) -> Result<Vec<PathBuf>, (PathBuf, io::Error)> {
    let mut written = Vec::new();
    let mut put = |path: PathBuf, text: &str| match publish(&path, 0o600, text.as_bytes()) {
        Ok(()) => {
            written.push(path);
            Ok(())
        }
        Err(error) => Err((path, error)),
    };
    put(paths.age_key(), &key_file(settings.identity))?;
    if settings.derived {
        let line = Zeroizing::new(format!("{}\n", settings.token.expose()));
        put(paths.hmac_key(), &line)?;
    }
    put(
        paths.config(),
        &write_config(
            settings.server,
            settings.ca_file,
            settings.agent_id,
            settings.token,
            settings.tenant,
        ),
    )?;
    Ok(written)
}

/// The identity file: the bare identity and nothing before it, as deployed tools need it.
pub(crate) fn key_file(identity: &Identity) -> Zeroizing<String> {
    let mut text = identity.expose();
    text.push('\n');
    text
}

/// The text of `dirless-agent.toml` with every key that deployed agents need.
#[must_use]
pub fn write_config(
    server: &str,
    ca_file: Option<&Path>,
    agent_id: &str,
    token: &Secret,
    tenant: &TenantId,
) -> Zeroizing<String> {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let authority = ca_file.map_or_else(String::new, |file| {
        format!("ca_file = {}\n", quoted(&file.to_string_lossy()))
    });
    let secret = Zeroizing::new(quoted(token.expose()));
    Zeroizing::new(format!(
        "# Written by \"dirless enroll\". See dirless-agent(1).\n\
         [backend]\nurl = {}\n{authority}\n\
         [agent]\nid = {}\ninterval_seconds = 60\nprobe_interval_seconds = 60\nreadmit_after_seconds = 300\n\
         probe_timeout_seconds = 5\nfetch_timeout_seconds = 30\n\n\
         [auth]\nhmac_secret = {}\ntenant_id = {}\n\n\
         [local]\ndb_path = \"/var/lib/dirless/local.db\"\nage_key_path = \"/etc/dirless/age.key\"\n",
        quoted(server),
        quoted(agent_id),
        *secret,
        quoted(tenant.as_str()),
    ))
}
