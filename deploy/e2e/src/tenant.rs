//! A tenant whose files are signed, made by the real programs: an operator's keys, a syncer that writes plain files, and
//! nothing else.

use anyhow::Context;
use dirless_testkit::{Outcome, Program, Running};

use crate::site::{self, BACKEND, SECRET, private};

/// Where its files are.
pub const FOLDER: &str = "/srv/tenant";
/// Where the syncer keeps its keys.
pub const SYNCER_KEYS: &str = "/srv/syncer/keys";
/// Of the root keys.
pub const PASSPHRASE: &str = "correct horse battery staple";

/// A file with it.
pub const PASSPHRASE_FILE: &str = "/srv/passphrase";

/// An operator's token for the backend.
pub const TOKEN: &str = "/srv/operator-token";

const CONFIG: &str = "/srv/syncer/syncer.toml";

/// The tenant.
#[derive(Clone, Debug)]
pub struct Tenant {
    /// Its id.
    pub id: String,
    /// Fingerprint of its roots.
    pub roots: String,
}

/// One of our programs with these arguments: what it says, if it succeeds.
///
/// # Errors
/// When it does not.
pub fn ours(name: &str, arguments: &[&str]) -> anyhow::Result<String> {
    Program::ours(name)?.args(arguments).succeed()
}

/// `dirless …`
///
/// # Errors
/// When it does not succeed.
pub fn operator(arguments: &[&str]) -> anyhow::Result<String> {
    ours("dirless", arguments)
}

/// `dirless-syncer …` with this tenant's configuration.
///
/// # Errors
/// When it does not succeed.
pub fn syncer(arguments: &[&str]) -> anyhow::Result<String> {
    let all = [&["--config", CONFIG], arguments].concat();
    ours("dirless-syncer", &all)
}

/// The same, however it ends.
///
/// # Errors
/// When it cannot be run.
pub fn syncer_outcome(arguments: &[&str]) -> anyhow::Result<Outcome> {
    Program::ours("dirless-syncer")?
        .args(["--config", CONFIG])
        .args(arguments)
        .run()
}

/// Writes who the people are.
///
/// # Errors
/// What the file system reports.
pub fn people(names: &[&str]) -> anyhow::Result<()> {
    people_of("/srv/people", names)
}

/// Writes who the people of the source in `folder` are.
///
/// # Errors
/// What the file system reports.
pub fn people_of(folder: &str, names: &[&str]) -> anyhow::Result<()> {
    let lines: String = names.iter().map(|name| format!("  - {{name: {name}}}\n")).collect();
    private(format!("{folder}/people.yaml"), &format!("people:\n{lines}"))
}

/// Puts the signatures of two of the three roots under the draft of the policy in `folder`.
///
/// # Errors
/// When it cannot be signed.
pub fn sign_policy(folder: &str) -> anyhow::Result<()> {
    for root in ["root-1", "root-2"] {
        let key = format!("/srv/keys/{root}.age");
        let what = ["policy", "sign", folder, "--key", &key, "--yes"];
        operator(&[&what[..], &["--passphrase-file", PASSPHRASE_FILE]].concat())?;
    }
    Ok(())
}

impl Tenant {
    /// Root keys and policy 1, the syncer with its configuration and keys, and alice and bob as its people. The draft of
    /// policy 2 names the syncer; [`sign_policy`] puts it in force.
    ///
    /// # Errors
    /// When something cannot be made.
    pub fn drafted() -> anyhow::Result<Self> {
        Self::drafted_with(&["people"], "")
    }

    /// The same with these sources for the syncer to publish, and `more` at the end of its configuration.
    ///
    /// # Errors
    /// When something cannot be made.
    pub fn drafted_with(sources: &[&str], more: &str) -> anyhow::Result<Self> {
        private(PASSPHRASE_FILE, &format!("{PASSPHRASE}\n"))?;
        let init = ["tenant", "init", FOLDER, "--keys", "/srv/keys", "--work", "10"];
        operator(&[&init[..], &["--passphrase-file", PASSPHRASE_FILE]].concat())?;
        let policy = std::fs::read_to_string(format!("{FOLDER}/policy/1"))?;
        let id = policy.lines().find_map(|line| line.strip_prefix("tenant "));
        let shown: serde_json::Value = serde_json::from_str(&operator(&["policy", "show", FOLDER, "--json"])?)?;
        let tenant = Self {
            id: id.context("the tenant's id")?.to_owned(),
            roots: find(&shown, "fingerprint").context("the fingerprint of the roots")?,
        };
        people(&["alice", "bob"])?;
        tenant.configure(more)?;
        let lines = syncer(&["signing", "init", "syncer-1"])?;
        let word = |line: usize, word: usize| lines.lines().nth(line).and_then(|line| line.split(' ').nth(word));
        let (publisher, enroller) = (word(0, 1).context("publisher")?, word(1, 1).context("enroller")?);
        let recipient = word(1, 2).context("recipient")?;
        let sources: Vec<&str> = sources.iter().flat_map(|source| ["--source", source]).collect();
        let scope = ["--ids", "1000-2147483647", "--names", "*"];
        let may = ["--may", "users", "--may", "groups", "--may", "keys"];
        let add = ["publisher", "add", FOLDER, "--key", publisher];
        operator(&[&add[..], &sources, &scope, &may].concat())?;
        operator(&["enroller", "add", FOLDER, "--key", enroller, "--recipient", recipient])?;
        Ok(tenant)
    }

    /// The same with policy 2 in force.
    ///
    /// # Errors
    /// When something cannot be made.
    pub fn new() -> anyhow::Result<Self> {
        let tenant = Self::drafted()?;
        sign_policy(FOLDER)?;
        Ok(tenant)
    }

    fn configure(&self, more: &str) -> anyhow::Result<()> {
        let Self { id, roots } = self;
        private(
            CONFIG,
            &format!(
                "[backend]\nurl = \"http://127.0.0.1:1\"\n[syncer]\nkey_folder = \"{SYNCER_KEYS}\"\n\
                 state_folder = \"/srv/syncer/state\"\n[tree]\npath = \"/srv/syncer/state/tree.db\"\n\
                 [[source]]\nkind = \"files\"\nname = \"people\"\nfolder = \"/srv/people\"\n\
                 [signed]\nfolder = \"{FOLDER}\"\nroots = \"{roots}\"\ntenant = \"{id}\"\nurl = \"file://{FOLDER}\"\n\
                 classic = false\n{more}"
            ),
        )
    }

    /// Whether the whole chain at `place` holds.
    ///
    /// # Errors
    /// When it does not.
    pub fn verify(&self, place: &str) -> anyhow::Result<()> {
        operator(&["verify", place, "--roots", &self.roots]).map(drop)
    }
}

/// A tenant at a backend of this machine, which ends with what is returned: alice and bob are its people, and its syncer's
/// configuration ends with `more`.
///
/// # Errors
/// When something cannot be made.
pub fn at_backend(more: &str) -> anyhow::Result<Running> {
    private("/etc/dirless/backend-secret", SECRET)?;
    private(
        "/etc/dirless/dirless.toml",
        "[hmac]\nsecret_file = \"/etc/dirless/backend-secret\"\n[storage]\npath = \"/srv/backend\"\n",
    )?;
    let backend = site::start_backend()?;
    make_at_backend(more, &[])?;
    Ok(backend)
}

/// The same at the backend that runs already, with these further arguments of `tenant init`.
///
/// # Errors
/// When something cannot be made.
pub fn make_at_backend(more: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let token = ["token", "create", "--label", "operator", "--scope", "tenants"];
    private(TOKEN, &ours("dirless-backend", &token)?)?;
    people(&["alice", "bob"])?;
    let config = format!(
        "[syncer]\ninterval_seconds = 10\nkey_folder = \"{SYNCER_KEYS}\"\nstate_folder = \"/srv/syncer/state\"\n\
         [tree]\npath = \"/srv/syncer/state/tree.db\"\n\
         [[source]]\nkind = \"files\"\nname = \"people\"\nfolder = \"/srv/people\"\n"
    );
    private(CONFIG, &config)?;
    private("/srv/syncer-lines", &syncer(&["signing", "init", "syncer-1"])?)?;
    private(PASSPHRASE_FILE, &format!("{PASSPHRASE}\n"))?;
    let url = format!("http://{BACKEND}");
    let init = ["tenant", "init", FOLDER, "--keys", "/srv/keys", "--work", "10"];
    let of = [
        "--syncer",
        "/srv/syncer-lines",
        "--backend",
        &url,
        "--token-file",
        TOKEN,
    ];
    let to = ["--signed", "/srv/signed.toml", "--passphrase-file", PASSPHRASE_FILE];
    operator(&[&init[..], &of, &to, arguments].concat())?;
    let signed = std::fs::read_to_string("/srv/signed.toml")?;
    private(CONFIG, &format!("{config}{signed}{more}"))
}

/// Makes a join code in the file `code` that lets this many hosts in.
///
/// # Errors
/// When the syncer does not.
pub fn join_code(code: &str, uses: usize) -> anyhow::Result<()> {
    join_code_of("all", code, uses)
}

/// The same for hosts of this compartment.
///
/// # Errors
/// When the syncer does not.
pub fn join_code_of(compartment: &str, code: &str, uses: usize) -> anyhow::Result<()> {
    let uses = uses.to_string();
    let create = ["join-code", "create", "--compartment", compartment];
    syncer(&[&create[..], &["--uses", &uses, "--out", code]].concat()).map(drop)
}

/// The first text under this name, wherever it stands.
fn find(value: &serde_json::Value, name: &str) -> Option<String> {
    match value {
        serde_json::Value::Object(members) => members.iter().find_map(|(key, value)| {
            value
                .as_str()
                .filter(|_| key == name)
                .map(str::to_owned)
                .or_else(|| find(value, name))
        }),
        serde_json::Value::Array(values) => values.iter().find_map(|value| find(value, name)),
        _ => None,
    }
}
