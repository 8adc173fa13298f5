//! Which tenant a command is about, and how it is reached.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use dirless_client::{BaseUrl, ClientBuilder};
use dirless_program::{Lookup, Secret};
use dirless_publish::BackendFolder;
use dirless_seal::Digest;
use dirless_wire::TenantId;

use crate::Surroundings;
use crate::folder::Folder;

/// A folder or a backend.
#[derive(Clone, Debug, clap::Args)]
pub struct At {
    /// The folder of the tenant, or the tenant at a backend: https://dirless.example.com/v2/TENANT
    tenant: String,
    #[command(flatten)]
    access: Access,
    /// Folder of what is kept here of a tenant: of one at a backend its policies and the draft of the next, of any the join
    /// codes and node lists of an enroller [default: ~/.local/share/dirless/TENANT]
    #[arg(long, value_name = "FOLDER")]
    desk: Option<PathBuf>,
    /// The fingerprint of the first policy's roots, from the recovery sheet
    #[arg(long, value_name = "FINGERPRINT")]
    roots: Option<Digest>,
}

/// How a backend is asked.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Access {
    /// File with an operator's token; asked for otherwise
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// File with certificate authorities beside the system's
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

/// A tenant at a backend.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    /// Base URL of the backend.
    pub(crate) base: String,
    pub(crate) tenant: Digest,
}

/// Is this the URL of something, rather than a folder?
pub(crate) fn is_url(text: &str) -> bool {
    text.starts_with("https://") || text.starts_with("http://")
}

impl Remote {
    pub(crate) fn parse(url: &str) -> anyhow::Result<Self> {
        let parts = url.trim_end_matches('/').rsplit_once("/v2/");
        let parsed = parts.and_then(|(base, tenant)| Some((base, tenant.parse().ok()?)));
        let (base, tenant) = parsed.with_context(|| {
            format!("{url} names no tenant at a backend, as in https://dirless.example.com/v2/TENANT")
        })?;
        Ok(Self {
            base: base.to_owned(),
            tenant,
        })
    }

    /// Its whole URL.
    pub(crate) fn url(&self) -> String {
        format!("{}/v2/{}", self.base, self.tenant)
    }
}

impl Access {
    /// Was any of it given?
    pub(crate) fn is_given(&self) -> bool {
        self.token_file.is_some() || self.ca_file.is_some()
    }

    /// The certificate authorities' file.
    pub(crate) fn ca_file(&self) -> Option<&Path> {
        self.ca_file.as_deref()
    }

    /// The operator's token: from the file, or from whoever sits there.
    pub(crate) fn token(&self, surroundings: &mut Surroundings<'_>) -> anyhow::Result<Secret> {
        if let Some(file) = &self.token_file {
            return Ok(Secret::from_file(file)?);
        }
        if !surroundings.terminal.is_there() {
            bail!("there is no terminal to ask for the operator's token; give --token-file FILE");
        }
        let token = surroundings.terminal.ask("Operator's token: ");
        token.context("asking for the operator's token")
    }

    /// The token, when there is a file with one.
    pub(crate) fn token_of_file(&self) -> anyhow::Result<Option<Secret>> {
        Ok(self.token_file.as_deref().map(Secret::from_file).transpose()?)
    }

    pub(crate) fn backend(
        &self,
        remote: &Remote,
        surroundings: &mut Surroundings<'_>,
    ) -> anyhow::Result<BackendFolder> {
        if BaseUrl::new(&remote.base)?.exposes_bearer() {
            bail!("a token is not sent without TLS; use an https:// URL");
        }
        let token = self.token(surroundings)?;
        let mut builder = ClientBuilder::new()
            .url(&remote.base)?
            .tenant(TenantId::new(&remote.tenant.to_string())?)
            .bearer(token);
        if let Some(file) = &self.ca_file {
            builder = builder.ca_file(file);
        }
        Ok(BackendFolder::new(builder.build()?)?)
    }
}

impl At {
    /// The tenant's folder, with the policies that a backend has.
    pub(crate) fn open(&self, surroundings: &mut Surroundings<'_>) -> anyhow::Result<Folder> {
        if !is_url(&self.tenant) {
            return Ok(Folder::new(Path::new(&self.tenant)));
        }
        let remote = Remote::parse(&self.tenant)?;
        let backend = self.access.backend(&remote, surroundings)?;
        let desk = self.desk(remote.tenant, surroundings.environment)?;
        let folder = Folder::of(&desk, &self.tenant, Some(backend));
        folder.pull()?;
        let current = folder.current()?;
        if current.policy.tenant != remote.tenant {
            bail!("{} serves the policies of another tenant", self.tenant);
        }
        let first = folder.first_roots()?;
        match self.roots {
            Some(roots) if roots != first => bail!(
                "the first policy at {} has the roots {first}, and not those of --roots: it is not this tenant's",
                self.tenant
            ),
            _ => Ok(folder),
        }
    }

    /// The folder of what is kept here of `tenant`.
    pub(crate) fn desk(&self, tenant: Digest, environment: Lookup<'_>) -> anyhow::Result<PathBuf> {
        if let Some(desk) = &self.desk {
            return Ok(desk.clone());
        }
        let data = environment("XDG_DATA_HOME").filter(|data| data.starts_with('/'));
        let home = || environment("HOME").map(|home| format!("{home}/.local/share"));
        let data = data
            .or_else(home)
            .context("$HOME is not set; say with --desk where to keep things")?;
        Ok(Path::new(&data).join("dirless").join(tenant.to_string()))
    }

    /// The folder, when the tenant is in one.
    pub(crate) fn folder(&self) -> Option<&Path> {
        (!is_url(&self.tenant)).then(|| Path::new(&self.tenant))
    }
}
