//! Enrolment of a host, and changing its tenant's key: asks for what is missing without showing it,
//! calls the backend, and writes the files that deployed tools write, only after it agreed.

mod files;
mod imds;
mod input;
mod rotate;

use std::io;
use std::path::PathBuf;

use dirless_client::{Client, ClientBuilder, Error, RetryPolicy};
use dirless_program::{Lookup, Secret};
use dirless_seal::Identity;
use dirless_wire::{AgePublicKey, AwsAccountId, TenantId};

use crate::paths::Paths;

pub use files::write_config;
pub(crate) use input::secret;
pub use input::{SystemTerminal, Terminal};
pub use rotate::{RotateArguments, rotate};

/// What the operator gave.
#[derive(Debug, clap::Args)]
pub struct EnrollArguments {
    /// Base URL of the backend, as in `https://dirless.example.com`
    #[arg(long)]
    pub server: String,
    /// The tenant id, as the portal shows it. Without it and without --account, this EC2 host's own
    /// account is asked for.
    #[arg(long, conflicts_with = "account")]
    pub tenant_id: Option<String>,
    /// Derive the tenant id from this AWS account id (12 digits)
    #[arg(long)]
    pub account: Option<String>,
    /// File with the enrollment token, or - for standard input; asked for when left out
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// File with the tenant's age identity (AGE-SECRET-KEY-1...), or - for standard input; asked for
    /// when left out
    #[arg(long, value_name = "FILE", alias = "age-key-file")]
    pub age_key: Option<PathBuf>,
    /// The name under which this host reports; the host name when left out
    #[arg(long)]
    pub agent_id: Option<String>,
    /// Certificate authority of the backend, a PEM file
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Replace an enrolment that is there
    #[arg(long)]
    pub overwrite_existing: bool,
    /// Not an option: a token on a command line can be read by everyone on the host
    #[arg(long, hide = true, num_args = 0..=1)]
    pub token: Option<Option<String>>,
}

/// Why a host was not enrolled. Nothing was written then, unless the text says so.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// `--token` was given.
    #[error(
        "--token is not accepted: command lines are visible to everyone on the host; use --token-file FILE, \
         --token-file - (standard input), or leave it out to be asked"
    )]
    TokenOnCommandLine,
    /// There is an enrolment.
    #[error("this host is enrolled already ({0} is there); to replace that, add --overwrite-existing")]
    Enrolled(PathBuf),
    /// Something given cannot be used.
    #[error("{what}: {reason}")]
    Input {
        /// Which of the inputs.
        what: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The account of this host could not be learnt.
    #[error("this host's AWS account cannot be learnt ({0}); give --tenant-id ID or --account ID")]
    Metadata(String),
    /// 401.
    #[error("the backend does not accept this token; copy it again from the portal")]
    InvalidToken,
    /// 403.
    #[error("enrollment rejected - {0}")]
    Rejected(String),
    /// 409 with another key.
    #[error(
        "key mismatch: the backend has {registered} registered for this tenant, but the given key is {own}; give the \
         tenant's key with --age-key, or register this one for all hosts with: dirless rotate-key"
    )]
    KeyMismatch {
        /// The backend's.
        registered: String,
        /// Ours.
        own: String,
    },
    /// 409 with another account, and 422.
    #[error("invalid request - {0}")]
    Invalid(String),
    /// Anything else that came back, or nothing.
    #[error("unexpected response: {0}")]
    Unexpected(String),
    /// The backend agreed, but the files could not be written.
    #[error("{path}: {source}{after}")]
    Files {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
        /// What it means for the operator.
        after: &'static str,
    },
}

/// What came of it, for people.
#[derive(Debug, PartialEq, Eq)]
pub struct Enrolled {
    /// The tenant.
    pub tenant: TenantId,
    /// The key that snapshots are sealed to.
    pub key: AgePublicKey,
    /// The files written.
    pub files: Vec<PathBuf>,
}

/// Enrols this host.
///
/// # Errors
/// See [`EnrollError`].
pub async fn enroll(
    arguments: &EnrollArguments,
    paths: &Paths,
    environment: Lookup<'_>,
    terminal: &mut dyn Terminal,
) -> Result<Enrolled, EnrollError> {
    if arguments.token.is_some() {
        return Err(EnrollError::TokenOnCommandLine);
    }
    if !arguments.overwrite_existing {
        let found = [paths.config(), paths.age_key()].into_iter().find(|path| path.exists());
        if let Some(path) = found {
            return Err(EnrollError::Enrolled(path));
        }
    }
    crate::config::check_url(&arguments.server).map_err(|reason| input_error("--server", reason))?;
    if [&arguments.token_file, &arguments.age_key]
        .iter()
        .all(|file| is_stdin(file.as_deref()))
    {
        return Err(input_error(
            "--token-file and --age-key",
            "only one of them can come from standard input",
        ));
    }
    let token = secret(
        "enrollment token",
        "--token-file",
        arguments.token_file.as_deref(),
        terminal,
    )?;
    let key_text = secret(
        "age identity (AGE-SECRET-KEY-1...)",
        "--age-key",
        arguments.age_key.as_deref(),
        terminal,
    )?;
    let identity = identity(&key_text)?;
    let key = public_key(&identity)?;
    let (tenant, derived) = tenant(arguments, &token, environment).await?;
    // A folder that cannot be written is better found before the backend knows of this host.
    files::prepare(paths).map_err(|(path, source)| EnrollError::Files {
        path,
        source,
        after: "; nothing was sent",
    })?;
    let client = client(
        &arguments.server,
        token.duplicate(),
        &tenant,
        arguments.ca_file.as_deref(),
    )?;
    client
        .cycle()
        .enroll(&tenant, &key)
        .await
        .map_err(|error| refusal(error, &key))?;
    let agent_id = arguments
        .agent_id
        .clone()
        .unwrap_or_else(crate::pipeline::local_hostname);
    let settings = files::Settings {
        server: &arguments.server,
        ca_file: arguments.ca_file.as_deref(),
        agent_id: &agent_id,
        token: &token,
        tenant: &tenant,
        derived,
        identity: &identity,
    };
    let files = files::write(paths, &settings).map_err(|(path, source)| EnrollError::Files {
        path,
        source,
        after: "; the backend knows this host, so after making room run the same command with --overwrite-existing",
    })?;
    Ok(Enrolled { tenant, key, files })
}

/// The tenant id, and whether it was derived from an account.
async fn tenant(
    arguments: &EnrollArguments,
    token: &Secret,
    environment: Lookup<'_>,
) -> Result<(TenantId, bool), EnrollError> {
    if let Some(given) = &arguments.tenant_id {
        let tenant = TenantId::new(given.trim()).map_err(|error| input_error("--tenant-id", error))?;
        return Ok((tenant, false));
    }
    let account = match &arguments.account {
        Some(given) => AwsAccountId::new(given.trim()).map_err(|error| input_error("--account", error))?,
        None => imds::account(environment).await.map_err(EnrollError::Metadata)?,
    };
    let derived = dirless_seal::tenant_id(token.expose(), account.as_str());
    let tenant = TenantId::new(&derived).map_err(|error| input_error("the derived tenant id", error))?;
    Ok((tenant, true))
}

pub(crate) fn identity(text: &Secret) -> Result<Identity, EnrollError> {
    Identity::parse(text.expose()).map_err(|error| input_error("--age-key", error))
}

pub(crate) fn public_key(identity: &Identity) -> Result<AgePublicKey, EnrollError> {
    AgePublicKey::new(identity.recipient().as_str()).map_err(|error| input_error("--age-key", error))
}

pub(crate) fn client(
    server: &str,
    token: Secret,
    tenant: &TenantId,
    ca_file: Option<&std::path::Path>,
) -> Result<Client, EnrollError> {
    let mut builder = ClientBuilder::new()
        .url(server)
        .map_err(|error| input_error("--server", error))?
        .bearer(token)
        .tenant(tenant.clone())
        .retry(RetryPolicy::none())
        .user_agent(concat!("dirless/", env!("CARGO_PKG_VERSION")));
    if let Some(file) = ca_file {
        builder = builder.ca_file(file);
    }
    builder.build().map_err(|error| input_error("the connection", error))
}

/// The operator's words for what the backend answered, as deployed tools have them.
pub(crate) fn refusal(error: Error, own: &AgePublicKey) -> EnrollError {
    match error {
        Error::Unauthorized => EnrollError::InvalidToken,
        Error::Suspended { error } | Error::Forbidden { error } | Error::Rejected { status: 403, error, .. } => {
            EnrollError::Rejected(error)
        }
        Error::KeyConflict { registered_key } => EnrollError::KeyMismatch {
            registered: registered_key.map_or_else(|| "another key".to_owned(), |key| key.to_string()),
            own: own.to_string(),
        },
        Error::AccountConflict { error }
        | Error::Rejected {
            status: 400 | 422,
            error,
            ..
        } => EnrollError::Invalid(error),
        other => EnrollError::Unexpected(other.to_string()),
    }
}

pub(crate) fn input_error(what: &str, reason: impl std::fmt::Display) -> EnrollError {
    EnrollError::Input {
        what: what.to_owned(),
        reason: reason.to_string(),
    }
}

pub(crate) fn is_stdin(file: Option<&std::path::Path>) -> bool {
    file.is_some_and(|file| file.as_os_str() == "-")
}

#[cfg(test)]
mod tests;
