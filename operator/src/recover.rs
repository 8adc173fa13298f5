//! `dirless recover`: a new publisher goes on where the one that was lost stopped.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use dirless_publish::{Custody, DiskFolder, Folder, SignedConfig, Signer};
use serde_json::json;

use crate::at::At;
use crate::options::PassphraseFrom;
use crate::{Surroundings, files, keys};

/// Arguments of `dirless recover`.
#[derive(Debug, clap::Args)]
pub struct Recover {
    #[command(flatten)]
    at: At,
    /// The recovery key, as "dirless recovery create" made it
    #[arg(long, value_name = "FILE")]
    identity: PathBuf,
    #[command(flatten)]
    passphrase: PassphraseFrom,
    /// Folder of the new publisher's keys, as "dirless-syncer signing init" made them; the policy has them already
    #[arg(long, value_name = "FOLDER")]
    keys: PathBuf,
    /// Folder of the new publisher's state: "signed" in the state folder of the syncer
    #[arg(long, value_name = "FOLDER")]
    state: PathBuf,
    /// Write what was opened to this folder too, in clear, for one's own eyes
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

impl Recover {
    pub(crate) fn run(&self, surroundings: &mut Surroundings<'_>) -> anyhow::Result<()> {
        let folder = self.at.open(surroundings)?;
        let (policy, roots) = (folder.current()?.policy, folder.first_roots()?);
        let identity = keys::identity(&self.identity, &self.passphrase, surroundings.terminal)?;
        let keys = Custody::load(&self.keys, &|_| None)?;
        let compartments: Vec<_> = policy
            .compartments
            .iter()
            .map(|own| json!({"name": own.name.as_str()}))
            .collect();
        let config = json!({"folder": "/", "roots": roots.to_string(), "compartment": compartments});
        let config: SignedConfig = serde_json::from_value(config).context("describing the tenant")?;
        let place: Arc<dyn Folder> = match (self.at.folder(), folder.into_backend()) {
            (_, Some(backend)) => Arc::new(backend),
            (Some(path), None) => Arc::new(DiskFolder::public(path)),
            (None, None) => anyhow::bail!("the tenant is nowhere"),
        };
        let signer = Signer::over(
            config,
            policy.tenant,
            keys,
            Arc::new(DiskFolder::private(&self.state)),
            place,
            surroundings.clock.clone(),
        );
        let (adopted, opened) = signer.recover(&identity)?;
        let out = &mut surroundings.out;
        writeln!(
            out,
            "{} continues after head {} with {} hosts",
            signer.publisher(),
            adopted.head,
            adopted.nodes
        )?;
        for (source, size) in &opened {
            writeln!(out, "opened {source}, {size} bytes")?;
            if let Some(folder) = &self.out {
                let text = signer.stocked_text(source)?.unwrap_or_default();
                dirless_program::fs::ensure_folder(folder, 0o700)
                    .with_context(|| format!("making {}", folder.display()))?;
                files::create(&folder.join(format!("{source}.json")), 0o600, text.as_bytes())?;
            }
        }
        writeln!(
            out,
            "next: start dirless-syncer with this state; it seals everything to new keys, for every host"
        )?;
        Ok(())
    }
}
