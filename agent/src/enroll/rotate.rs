//! `dirless rotate-key`: registers another age key for the tenant and puts it into `age.key`.

use std::path::PathBuf;

use dirless_program::Secret;
use dirless_seal::Identity;
use dirless_wire::{AgePublicKey, TenantId};

use super::{EnrollError, Terminal, client, files, identity, input, input_error, is_stdin, public_key, refusal};
use crate::config::Config;
use crate::paths::Paths;

/// What the operator gave.
#[derive(Debug, clap::Args)]
pub struct RotateArguments {
    /// File with the new age identity, or - for standard input. Without it, the identity in age.key
    /// is registered again
    #[arg(long, value_name = "FILE", alias = "age-key-file")]
    pub age_key: Option<PathBuf>,
    /// Make a new age identity on this host
    #[arg(long, conflicts_with = "age_key")]
    pub generate: bool,
    /// Do not ask
    #[arg(long)]
    pub force: bool,
    /// Base URL of the backend; from the configuration when left out
    #[arg(long)]
    pub server: Option<String>,
    /// File with the token, or - for standard input; from the configuration when left out
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// The tenant id; from the configuration when left out
    #[arg(long)]
    pub tenant_id: Option<String>,
    /// Not an option: a token on a command line can be read by everyone on the host
    #[arg(long, hide = true, num_args = 0..=1)]
    pub token: Option<Option<String>>,
}

/// Registers the key and, when it is a new one, writes it. Nothing is written before the backend
/// agreed. `config` is the host's configuration, when it has a usable one.
///
/// # Errors
/// See [`EnrollError`].
pub async fn rotate(
    arguments: &RotateArguments,
    paths: &Paths,
    config: Option<&Config>,
    terminal: &mut dyn Terminal,
) -> Result<AgePublicKey, EnrollError> {
    if arguments.token.is_some() {
        return Err(EnrollError::TokenOnCommandLine);
    }
    if is_stdin(arguments.age_key.as_deref()) && is_stdin(arguments.token_file.as_deref()) {
        return Err(input_error(
            "--token-file and --age-key",
            "only one of them can come from standard input",
        ));
    }
    let classic = config.and_then(Config::classic);
    let (server, ca_file) = match (&arguments.server, classic) {
        (Some(server), _) => (server.clone(), None),
        (None, Some(config)) => (config.urls.first().cloned().unwrap_or_default(), config.ca_file.clone()),
        (None, None) => return Err(input_error("--server", "is needed, since this host is not enrolled")),
    };
    let tenant = match (&arguments.tenant_id, classic) {
        (Some(given), _) => TenantId::new(given.trim()).map_err(|error| input_error("--tenant-id", error))?,
        (None, Some(config)) => config.tenant.clone(),
        (None, None) => return Err(input_error("--tenant-id", "is needed, since this host is not enrolled")),
    };
    let token = match (&arguments.token_file, classic) {
        (None, Some(config)) => config.secret.duplicate(),
        (file, _) => input::secret("token", "--token-file", file.as_deref(), terminal)?,
    };
    let key_path = config.map_or_else(|| paths.age_key(), |config| config.age_key_path.clone());
    let (identity, new) = new_identity(arguments, &key_path, terminal)?;
    let key = public_key(&identity)?;
    if new && !arguments.force {
        confirm(&key, terminal)?;
    }
    let failed = |after| move |(path, source)| EnrollError::Files { path, source, after };
    if new {
        files::prepare(paths).map_err(failed("; nothing was sent"))?;
        // The new identity is on disk before it counts: lost between the two, nobody could open
        // anything any more.
        let aside = aside(&key_path);
        dirless_program::fs::publish(&aside, 0o600, files::key_file(&identity).as_bytes())
            .map_err(|source| failed("; nothing was sent")((aside.clone(), source)))?;
    }
    let client = client(&server, token, &tenant, ca_file.as_deref())?;
    let answer = client.cycle().put_public_key(&key).await;
    if let Err(error) = answer {
        let unsure = error.is_transient();
        if new && !unsure {
            let _ = std::fs::remove_file(aside(&key_path));
        }
        return Err(refusal(error, &key));
    }
    if new {
        dirless_program::fs::publish(&key_path, 0o600, files::key_file(&identity).as_bytes()).map_err(|source| {
            EnrollError::Files {
                path: key_path.clone(),
                source,
                after: "; the backend has the new key, which lies beside the old one as age.key.new: move it there by hand",
            }
        })?;
        let _ = std::fs::remove_file(aside(&key_path));
    }
    Ok(key)
}

fn aside(key_path: &std::path::Path) -> PathBuf {
    let mut name = key_path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}

fn new_identity(
    arguments: &RotateArguments,
    key_path: &std::path::Path,
    terminal: &mut dyn Terminal,
) -> Result<(Identity, bool), EnrollError> {
    if arguments.generate {
        return Ok((Identity::generate(), true));
    }
    if let Some(file) = &arguments.age_key {
        let text = input::secret("age identity", "--age-key", Some(file), terminal)?;
        return Ok((identity(&text)?, true));
    }
    let text = Secret::from_file(key_path).map_err(|error| input_error("age.key", error))?;
    Ok((identity(&text)?, false))
}

fn confirm(key: &AgePublicKey, terminal: &mut dyn Terminal) -> Result<(), EnrollError> {
    if !terminal.is_there() {
        return Err(input_error("rotate-key", "there is no terminal to ask on; add --force"));
    }
    let question = format!(
        "Every host and syncer of the tenant needs the identity of {key} from now on; until the syncer has sealed \
         again, hosts keep their last good data. Go on?"
    );
    match terminal.confirm(&question) {
        Ok(true) => Ok(()),
        Ok(false) => Err(input_error("rotate-key", "not confirmed; nothing was changed")),
        Err(error) => Err(input_error("rotate-key", error)),
    }
}
