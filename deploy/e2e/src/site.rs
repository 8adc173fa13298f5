//! What a customer runs apart from hosts: AWS, a backend, a syncer.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use dirless_testkit::aws::Imds;
use dirless_testkit::{Program, Running};

use crate::http::{self, Reply};
use crate::moto::Moto;

/// The shared secret and the AWS account of the published test vector, so that recorded requests of
/// deployed programs fit this site byte for byte.
pub const SECRET: &str = "sekret-token-1";
/// See [`SECRET`].
pub const ACCOUNT: &str = "123456789012";
/// HMAC-SHA256 of the two.
pub const TENANT: &str = "615d1286d91a88073425f44e10dca43f4d0ec96a8c2581c7b582ad240178afac";
/// Where the backend listens.
pub const BACKEND: &str = "127.0.0.1:4000";

/// The syncer's configuration.
const SYNCER: &str = "/srv/syncer/dirless-syncer.toml";

/// A customer's site; its processes end with it.
#[derive(Debug)]
pub struct Site {
    /// AWS.
    pub moto: Moto,
    imds: Imds,
    backend: Option<Running>,
}

impl Site {
    /// Starts AWS and lays out the configuration of the backend and the syncer. The syncer stands for
    /// a machine of its own: its keys are not in `/etc/dirless`.
    ///
    /// # Errors
    /// When something cannot be started or written.
    pub fn new() -> anyhow::Result<Self> {
        private("/srv/syncer/token", SECRET)?;
        Self::with(&format!(
            "[backend]\nurl = \"http://{BACKEND}\"\ntoken_file = \"/srv/syncer/token\"\n"
        ))
    }

    /// The same with a syncer that knows no classic protocol: who its tenant is comes later, by [`Site::append`].
    ///
    /// # Errors
    /// When something cannot be started or written.
    pub fn signed() -> anyhow::Result<Self> {
        Self::with("")
    }

    fn with(backend: &str) -> anyhow::Result<Self> {
        private("/etc/dirless/backend-secret", SECRET)?;
        private(
            "/etc/dirless/dirless.toml",
            "[hmac]\nsecret_file = \"/etc/dirless/backend-secret\"\n",
        )?;
        private(
            SYNCER,
            &format!(
                "{backend}[syncer]\nkey_folder = \"/srv/syncer/keys\"\nstate_folder = \"/srv/syncer/state\"\n\
                 [tree]\npath = \"/srv/syncer/state/tree.db\"\n"
            ),
        )?;
        Ok(Self {
            moto: Moto::start()?,
            imds: Imds::start(ACCOUNT, "eu-west-1").context("starting the metadata service")?,
            backend: None,
        })
    }

    /// Has the syncer publish its tree to hosts; deployed backends take no such source.
    ///
    /// # Errors
    /// When the configuration cannot be written.
    pub fn publish_tree(&self) -> anyhow::Result<()> {
        // The table of the tree is its last.
        self.append("publish = true\n")
    }

    /// Adds to the syncer's configuration.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn append(&self, more: &str) -> anyhow::Result<()> {
        let text = std::fs::read_to_string(SYNCER)?;
        private(SYNCER, &format!("{text}{more}"))
    }

    /// Roots and id of the tenant, as the syncer's `[signed]` has them.
    ///
    /// # Errors
    /// When it has none.
    pub fn tenant(&self) -> anyhow::Result<(String, String)> {
        let text = std::fs::read_to_string(SYNCER)?;
        let value = |key: &str| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
            let value = line.with_context(|| format!("no {key} in {SYNCER}"))?;
            Ok::<_, anyhow::Error>(value.trim_matches('"').to_owned())
        };
        Ok((value("roots")?, value("tenant")?))
    }

    /// Where the metadata service of this site answers, in place of 169.254.169.254.
    #[must_use]
    pub fn metadata_url(&self) -> String {
        self.imds.url()
    }

    /// Starts the backend on what it stored before, if anything.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_backend(&mut self) -> anyhow::Result<&Running> {
        Ok(self.backend.insert(start_backend()?))
    }

    /// Kills the backend outright.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill_backend(&mut self) -> anyhow::Result<()> {
        self.backend.take().map_or(Ok(()), Running::kill)
    }

    /// The syncer's command line, with the environment of an EC2 instance.
    ///
    /// # Errors
    /// When it is not built.
    pub fn syncer(&self) -> anyhow::Result<Program> {
        Ok(Program::ours("dirless-syncer")?
            .env("DIRLESS_SYNCER_CONFIG", SYNCER)
            .env("AWS_ENDPOINT_URL", self.moto.url())
            .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", self.imds.url()))
    }

    /// The age identity that the syncer made at its enrolment.
    #[must_use]
    pub fn age_key() -> PathBuf {
        "/srv/syncer/keys/age.key".into()
    }
}

/// Starts a backend with the configuration in `/etc/dirless`.
///
/// # Errors
/// When it does not come up.
pub fn start_backend() -> anyhow::Result<Running> {
    Program::ours("dirless-backend")?.arg("run").serve()
}

/// A request of this site's tenant to the backend, with the headers of deployed clients.
///
/// # Errors
/// When the backend does not answer.
pub fn call(method: &str, path: &str, extra: &[(&str, &str)], body: &[u8]) -> anyhow::Result<Reply> {
    let bearer = format!("Bearer {SECRET}");
    let mut headers = vec![("Authorization", bearer.as_str()), ("X-Tenant-ID", TENANT)];
    headers.extend(extra);
    http::exchange(BACKEND, &http::request(method, path, BACKEND, &headers, body))
}

/// Writes a file that only its owner may read, and the folders above it.
///
/// # Errors
/// What the file system reports.
pub fn private(path: impl AsRef<Path>, text: &str) -> anyhow::Result<()> {
    let path = path.as_ref();
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(())
}
