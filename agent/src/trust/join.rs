//! `dirless join`: from a join code to a host that waits to be admitted.
//!
//! The code says what to believe. Keys are made here and stay here; the request is signed by them, proven with the code's
//! secret and sealed to the enrollers, so whoever carries it can neither read nor change it. Where the code names a backend,
//! the request goes into its mailbox, at once or by the agent later.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dirless_client::{BackendFiles, BuildError, Error, Files};
use dirless_program::fs::{ensure_folder, publish};
use dirless_program::{Clock, Secret};
use dirless_seal::trust::{JoinCode, JoinCodeError, JoinRequest, Policy, node_name};
use dirless_seal::{Digest, Identity, Label, SigningKey, seal_file};

use super::admission::{Admission, admission, keep};
use super::keeper::{Joined, Keeper, KeeperError};
use super::reach::{ReachError, on_wire, to_join, to_look};
use super::staging::Staging;
use super::walk::{Alarm, follow_policies};
use crate::config::{self, From, SignedConfig};
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
    /// Ask this backend, or take the tenant's files from this URL or folder, instead of the one in the code
    #[arg(long, value_name = "URL|FOLDER")]
    pub from: Option<String>,
    /// Write the join request to this file, to be carried to the enroller, and send it nowhere
    #[arg(long, value_name = "FILE")]
    pub request: Option<PathBuf>,
    /// Certificate authority of the server, a PEM file
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Have this host join anew by itself, with the code file, should the backend refuse its key
    #[arg(long, requires = "code_file")]
    pub rejoin: bool,
    /// Join anew: the keys and the memory of an earlier join are replaced
    #[arg(long)]
    pub again: bool,
}

/// Why a host did not join. What it had is as it was then, unless the configuration is what could not be written.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The code could not be read.
    #[error(transparent)]
    Input(#[from] EnrollError),
    /// It is none.
    #[error(transparent)]
    Code(#[from] JoinCodeError),
    /// The code is for another tenant than this host's.
    #[error("the join code is of another tenant than the one that this host is in")]
    OtherTenant,
    /// The backend does not take the code.
    #[error("the backend does not accept this join code: it is unknown there, used up or expired; ask for a new one")]
    Refused,
    /// Nobody could be asked.
    #[error("cannot ask {url}: {source}")]
    Ask {
        /// The URL.
        url: String,
        /// Why not.
        source: Box<Error>,
    },
    /// `--rejoin` needs a file that stays.
    #[error("--rejoin needs the join code in a file (--code-file with an absolute path), which it then reads again")]
    Rejoin,
    /// `--from` makes no sense.
    #[error("--from {0}")]
    From(String),
    /// The server cannot be asked.
    #[error(transparent)]
    Client(#[from] BuildError),
    /// This host joined before.
    #[error("this host has joined already, as {0}; to join anew, with new keys, add --again")]
    Joined(PathBuf),
    /// Somebody else is at it.
    #[error("another dirless join is running on this host: let it end first")]
    Running,
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
        source: io::Error,
    },
    /// The host's own files.
    #[error(transparent)]
    Keeper(#[from] KeeperError),
}

impl std::convert::From<ReachError> for JoinError {
    fn from(error: ReachError) -> Self {
        match error {
            ReachError::Client(error) => Self::Client(error),
            ReachError::Keeper(error) => Self::Keeper(error),
        }
    }
}

/// Where the join request is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carried {
    /// In this file, to be carried to the enroller.
    File(PathBuf),
    /// In the mailbox of the backend.
    Posted(String),
    /// With the agent, which goes on trying to send it.
    Unsent(String),
}

/// A host that asks to be admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joining {
    /// Its name in the node list.
    pub node: Label,
    /// The tenant's policy.
    pub policy: u64,
    /// Where the request is.
    pub request: Carried,
}

impl fmt::Display for Joining {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "this host is {} of the tenant, under policy {}",
            self.node, self.policy
        )?;
        match &self.request {
            Carried::File(path) => writeln!(formatter, "the join request is in {}", path.display())?,
            Carried::Posted(url) => writeln!(formatter, "the join request is in the mailbox of {url}")?,
            Carried::Unsent(reason) => writeln!(
                formatter,
                "the join request could not be sent yet ({reason}); the agent goes on trying"
            )?,
        }
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
    let code_file = rejoin_file(arguments, paths)?;
    let url = arguments.from.as_deref().unwrap_or(&code.url);
    let (from, files) = find(url, arguments, &code, paths, clock).await?;
    let signed = SignedConfig {
        from,
        ca_file: arguments.ca_file.clone(),
        code_file,
        joined: Joined {
            tenant: code.tenant,
            roots: code.roots,
            policy: code.policy,
            compartments: code.compartments.iter().cloned().collect(),
        },
    };
    let folder = paths.trust_folder();
    crate::daemon::prepare(paths).map_err(disk(&folder))?;
    // What the host has stays in use until the request is on its way; what a join that failed has left is no memory to go
    // on with.
    let staging = Staging::begin(paths).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => JoinError::Running,
        _ => disk(&folder)(error),
    })?;
    let keeper = Keeper::new(staging.folder().to_owned(), signed.joined.clone());
    let policy = follow_policies(&files, &keeper, clock.now()).await;
    let policy = policy.map_err(|alarm| match alarm.code {
        "refused" => JoinError::Refused,
        _ => JoinError::Policy(alarm),
    })?;
    let (signing, identity) = new_keys()?;
    let sealed = sealed_request(&code, &policy, &signing, &identity, clock)?;
    keeper.keep_keys(&signing, &identity)?;
    if matches!(signed.from, From::Backends(_)) {
        keep(&keeper, &code, &sealed, clock, false)?;
    }
    let request = match place_of_request(arguments, &files, &code, &sealed, paths) {
        Some(path) => {
            // What is to lie among what the host keeps comes there with it.
            let written = path.strip_prefix(&folder).map(|below| staging.folder().join(below));
            write_request(written.as_deref().unwrap_or(&path), &sealed)?;
            keeper.carried()?;
            Carried::File(path)
        }
        None => match admission(&signed, &keeper, clock).await? {
            Admission::Refused => return Err(JoinError::Refused),
            Admission::Unsent(reason) => Carried::Unsent(reason),
            Admission::Waiting(_) | Admission::None => Carried::Posted(url.to_owned()),
        },
    };
    staging.put_in_place().map_err(disk(&folder))?;
    let place = paths.config();
    ensure_folder(&paths.config_folder(), 0o700).map_err(disk(&place))?;
    publish(&place, 0o600, configuration(url, &signed).as_bytes()).map_err(disk(&place))?;
    Ok(Joining {
        node: signing.verifying().name().clone(),
        policy: policy.version,
        request,
    })
}

fn write_request(path: &Path, sealed: &[u8]) -> Result<(), JoinError> {
    // One that is there keeps its mode.
    let missing = path.parent().filter(|folder| !folder.is_dir());
    let folder = missing.map_or(Ok(()), |folder| ensure_folder(folder, 0o755));
    let written = folder.and_then(|()| publish(path, 0o644, sealed));
    written.map_err(disk(path))
}

/// A failure of the disk at `path`.
fn disk(path: &Path) -> impl FnOnce(io::Error) -> JoinError {
    let path = path.to_owned();
    move |source| JoinError::Disk { path, source }
}

/// What is at `url`: a folder, a backend, or a web server. Only what says that it is a backend is shown the bearer.
async fn find(
    url: &str,
    arguments: &JoinArguments,
    code: &JoinCode,
    paths: &Paths,
    clock: &Clock,
) -> Result<(From, Files), JoinError> {
    let from = From::parse(url).map_err(JoinError::From)?;
    let From::Url(url) = &from else {
        let files = match &from {
            From::Folder(folder) => Files::Folder(paths.rooted(folder)),
            From::Url(_) | From::Backends(_) => return Err(JoinError::From("is no folder".to_owned())),
        };
        return Ok((from, files));
    };
    let ca_file = arguments.ca_file.as_deref();
    let look = to_look(url, ca_file, code.tenant, clock)?;
    let is_backend = look.is_verified_backend().await.map_err(|source| JoinError::Ask {
        url: url.clone(),
        source: Box::new(source),
    })?;
    if !is_backend {
        let files = Files::web(url, ca_file, PATIENCE)?;
        return Ok((from, files));
    }
    let urls = vec![url.clone()];
    let bearer = code.secret.bearer(code.tenant, &code.code);
    let bearer = Secret::new(bearer.as_str().to_owned());
    let client = to_join(&urls, ca_file, code.tenant, bearer, clock)?;
    let files = BackendFiles::to_join(client, on_wire(&code.code));
    Ok((From::Backends(urls), Files::Backend(files)))
}

/// Where the request is written; nowhere when it goes to a backend.
fn place_of_request(
    arguments: &JoinArguments,
    files: &Files,
    code: &JoinCode,
    sealed: &[u8],
    paths: &Paths,
) -> Option<PathBuf> {
    match (&arguments.request, files) {
        (Some(file), _) => Some(file.clone()),
        (None, Files::Folder(folder)) => Some(folder.join(format!("join/{}/{}", code.code, Digest::of(sealed)))),
        (None, Files::Web(_)) => Some(paths.trust_folder().join("join-request")),
        (None, Files::Backend(_)) => None,
    }
}

/// The code file as the configuration names it: below the root that this host has.
fn rejoin_file(arguments: &JoinArguments, paths: &Paths) -> Result<Option<PathBuf>, JoinError> {
    match &arguments.code_file {
        Some(file) if arguments.rejoin && file.is_absolute() => {
            let below = file.strip_prefix(paths.root()).unwrap_or(file);
            Ok(Some(Path::new("/").join(below)))
        }
        _ if arguments.rejoin => Err(JoinError::Rejoin),
        _ => Ok(None),
    }
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
pub(super) fn seconds(clock: &Clock) -> jiff::Timestamp {
    let now = clock.now();
    jiff::Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// New keys, under the name that a node has.
pub(super) fn new_keys() -> Result<(SigningKey, Identity), JoinError> {
    let random = |_| JoinError::Request("the system gives no random bytes".to_owned());
    let nameless = SigningKey::generate(
        "n".parse::<Label>()
            .map_err(|error| JoinError::Request(error.to_string()))?,
    );
    let nameless = nameless.map_err(random)?;
    let signing = nameless.renamed(node_name(nameless.verifying().as_bytes()));
    Ok((signing, Identity::generate()))
}

/// What this host asks the enrollers of `policy` with `code`, readable for them alone.
pub(super) fn sealed_request(
    code: &JoinCode,
    policy: &Policy,
    signing: &SigningKey,
    identity: &Identity,
    clock: &Clock,
) -> Result<Vec<u8>, JoinError> {
    let host = config::hostname();
    let note = JoinRequest::ask(code, seconds(clock), &host, signing, &identity.recipient());
    let note = note.map_err(|error| JoinError::Request(error.to_string()))?;
    let recipients: Vec<_> = policy.enrollers.iter().map(|enroller| &enroller.recipient).collect();
    if recipients.is_empty() {
        return Err(JoinError::NoEnroller(policy.version));
    }
    let mut sealed = Vec::new();
    seal_file(&recipients, &mut sealed, |out| {
        out.write_all(note.to_string().as_bytes())
    })
    .map_err(|error| JoinError::Request(error.to_string()))?;
    Ok(sealed)
}

fn configuration(url: &str, signed: &SignedConfig) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let file = |key: &str, file: &Option<PathBuf>| {
        let line = |file: &PathBuf| format!("{key} = {}\n", quoted(&file.to_string_lossy()));
        file.as_ref().map_or_else(String::new, line)
    };
    let (url, authority) = (quoted(url), file("ca_file", &signed.ca_file));
    let place = match &signed.from {
        From::Backends(_) => format!("[backend]\nurl = {url}\n{authority}\n[trust]\n"),
        From::Folder(_) | From::Url(_) => format!("[trust]\nfrom = {url}\n{authority}"),
    };
    let joined = &signed.joined;
    let compartments: Vec<String> = joined.compartments.iter().map(|name| quoted(name.as_str())).collect();
    format!(
        "# Written by \"dirless join\". See dirless-agent(1).\n{place}{}tenant = \"{}\"\nroots = \"{}\"\npolicy = {}\n\
         compartments = [{}]\n",
        file("code_file", &signed.code_file),
        joined.tenant,
        joined.roots,
        joined.policy,
        compartments.join(", "),
    )
}
