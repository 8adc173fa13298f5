//! `dirless join`: from a join code to a host that waits to be admitted.
//!
//! The code says what to believe. Keys are made here and stay here; the request is signed by them, proven with the code's
//! secret and sealed to the enrollers, so whoever carries it can neither read nor change it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dirless_client::{BuildError, Files};
use dirless_program::Clock;
use dirless_program::fs::{ensure_folder, publish};
use dirless_seal::trust::{JoinCode, JoinCodeError, JoinRequest, Policy, node_name};
use dirless_seal::{Digest, Identity, Label, SigningKey, seal_file};

use super::keeper::{Joined, Keeper, KeeperError};
use super::walk::{Alarm, follow_policies};
use crate::config::{self, From};
use crate::enroll::{EnrollError, Terminal, secret};
use crate::paths::Paths;

/// A request to a server without progress for this long fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the operator gave.
#[derive(Debug, clap::Args)]
pub struct JoinArguments {
    /// File with the join code, or - for standard input; asked for when left out
    #[arg(long, value_name = "FILE")]
    pub code_file: Option<PathBuf>,
    /// Take the tenant's files from this URL or folder instead of the one in the code
    #[arg(long, value_name = "URL|FOLDER")]
    pub from: Option<String>,
    /// Write the join request to this file, to be carried to the enroller
    #[arg(long, value_name = "FILE")]
    pub request: Option<PathBuf>,
    /// Certificate authority of the server, a PEM file
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Join anew: the keys and the memory of an earlier join are replaced
    #[arg(long)]
    pub again: bool,
}

/// Why a host did not join. Nothing was written then, unless the text says so.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The code could not be read.
    #[error(transparent)]
    Input(#[from] EnrollError),
    /// It is none.
    #[error(transparent)]
    Code(#[from] JoinCodeError),
    /// `--from` makes no sense.
    #[error("--from {0}")]
    From(String),
    /// The server cannot be asked.
    #[error(transparent)]
    Client(#[from] BuildError),
    /// This host joined before.
    #[error("this host has joined already, as {0}; to join anew, with new keys, add --again")]
    Joined(PathBuf),
    /// The configuration speaks the classic protocol.
    #[error("{0} is there and has no [trust]: move it away first; this host then leaves the classic protocol")]
    Configured(PathBuf),
    /// The policy was refused.
    #[error("the tenant's policy is not believed: {0}")]
    Policy(Alarm),
    /// Nobody admits hosts.
    #[error("policy {0} names no enroller, so that nobody can admit this host: add one (dirless enroller add)")]
    NoEnroller(u64),
    /// The system gave no random bytes, or the host's name cannot stand in a request.
    #[error("cannot make the join request: {0}")]
    Request(String),
    /// A file could not be written.
    #[error("{path}: {source}")]
    Disk {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The host's own files.
    #[error(transparent)]
    Keeper(#[from] KeeperError),
}

/// A host that asks to be admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joining {
    /// Its name in the node list.
    pub node: Label,
    /// The tenant's policy.
    pub policy: u64,
    /// Where the request lies.
    pub request: PathBuf,
}

impl fmt::Display for Joining {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "this host is {} of the tenant, under policy {}",
            self.node, self.policy
        )?;
        writeln!(formatter, "the join request is in {}", self.request.display())?;
        write!(
            formatter,
            "next: have the enroller admit it (dirless-syncer node admit), dirless install, then systemctl enable --now \
             dirless-agent"
        )
    }
}

/// Joins: believes the policy by the code, makes this host's keys, and writes request and configuration.
///
/// # Errors
/// See [`JoinError`].
pub async fn join(
    arguments: &JoinArguments,
    paths: &Paths,
    clock: &Clock,
    terminal: &mut dyn Terminal,
) -> Result<Joining, JoinError> {
    let text = secret("join code", "--code-file", arguments.code_file.as_deref(), terminal)?;
    let code = JoinCode::parse(text.expose())?;
    check_place(arguments, paths)?;
    let url = arguments.from.as_deref().unwrap_or(&code.url);
    let from = From::parse(url).map_err(JoinError::From)?;
    let files = match &from {
        From::Folder(folder) => Files::Folder(paths.rooted(folder)),
        From::Url(url) => Files::web(url, arguments.ca_file.as_deref(), PATIENCE)?,
    };
    let joined = Joined {
        tenant: code.tenant,
        roots: code.roots,
        policy: code.policy,
        compartments: code.compartments.iter().cloned().collect(),
    };
    let folder = paths.trust_folder();
    let disk = |path: &Path| {
        let path = path.to_owned();
        move |source| JoinError::Disk { path, source }
    };
    if arguments.again && folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(disk(&folder))?;
    }
    crate::daemon::prepare(paths).map_err(disk(&folder))?;
    let keeper = Keeper::new(folder, joined.clone());
    let policy = follow_policies(&files, &keeper, clock.now())
        .await
        .map_err(JoinError::Policy)?;
    let (signing, identity) = keys(&keeper)?;
    let note = JoinRequest::ask(
        &code,
        seconds(clock),
        &config::hostname(),
        &signing,
        &identity.recipient(),
    );
    let note = note.map_err(|error| JoinError::Request(error.to_string()))?;
    let sealed = sealed(&policy, note.to_string().as_bytes())?;
    let request = match (&arguments.request, &files) {
        (Some(file), _) => file.clone(),
        (None, Files::Folder(folder)) => folder.join(format!("join/{}/{}", code.code, Digest::of(&sealed))),
        (None, Files::Web(_) | Files::Backend(_)) => paths.trust_folder().join("join-request"),
    };
    if let Some(parent) = request.parent() {
        ensure_folder(parent, 0o755).map_err(disk(parent))?;
    }
    publish(&request, 0o644, &sealed).map_err(disk(&request))?;
    let place = paths.config();
    ensure_folder(&paths.config_folder(), 0o700).map_err(disk(&place))?;
    publish(
        &place,
        0o600,
        configuration(url, arguments.ca_file.as_deref(), &joined).as_bytes(),
    )
    .map_err(disk(&place))?;
    Ok(Joining {
        node: signing.verifying().name().clone(),
        policy: policy.version,
        request,
    })
}

fn check_place(arguments: &JoinArguments, paths: &Paths) -> Result<(), JoinError> {
    let place = paths.config();
    match std::fs::read_to_string(&place) {
        Ok(text) if !text.lines().any(|line| line.trim() == "[trust]") => Err(JoinError::Configured(place)),
        Ok(_) if !arguments.again => Err(JoinError::Joined(place)),
        _ => Ok(()),
    }
}

/// Signed times are whole seconds.
fn seconds(clock: &Clock) -> jiff::Timestamp {
    let now = clock.now();
    jiff::Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// New keys, on disk before anybody hears of them.
fn keys(keeper: &Keeper) -> Result<(SigningKey, Identity), JoinError> {
    let random = |_| JoinError::Request("the system gives no random bytes".to_owned());
    let nameless = SigningKey::generate(
        "n".parse::<Label>()
            .map_err(|error| JoinError::Request(error.to_string()))?,
    );
    let nameless = nameless.map_err(random)?;
    let signing = nameless.renamed(node_name(nameless.verifying().as_bytes()));
    let identity = Identity::generate();
    keeper.keep_keys(&signing, &identity)?;
    Ok((signing, identity))
}

fn sealed(policy: &Policy, note: &[u8]) -> Result<Vec<u8>, JoinError> {
    let recipients: Vec<_> = policy.enrollers.iter().map(|enroller| &enroller.recipient).collect();
    if recipients.is_empty() {
        return Err(JoinError::NoEnroller(policy.version));
    }
    let mut sealed = Vec::new();
    seal_file(&recipients, &mut sealed, |out| out.write_all(note))
        .map_err(|error| JoinError::Request(error.to_string()))?;
    Ok(sealed)
}

fn configuration(from: &str, ca_file: Option<&Path>, joined: &Joined) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let authority = ca_file.map_or_else(String::new, |file| {
        format!("ca_file = {}\n", quoted(&file.to_string_lossy()))
    });
    let compartments: Vec<String> = joined.compartments.iter().map(|name| quoted(name.as_str())).collect();
    format!(
        "# Written by \"dirless join\". See dirless-agent(1).\n[trust]\nfrom = {}\n{authority}tenant = \"{}\"\nroots = \"{}\"\n\
         policy = {}\ncompartments = [{}]\n",
        quoted(from),
        joined.tenant,
        joined.roots,
        joined.policy,
        compartments.join(", "),
    )
}
