//! An enroller's key, and the tenant it works on.

use std::path::PathBuf;
use std::sync::Arc;

use dirless_publish::{DiskFolder, Enroller, Office};
use dirless_seal::trust::Policy;

use crate::Surroundings;
use crate::at::At;
use crate::keys;
use crate::options::PassphraseFrom;

/// Whose key signs, and for which tenant.
#[derive(Clone, Debug, clap::Args)]
pub struct With {
    #[command(flatten)]
    at: At,
    /// File of the enroller's key, as "dirless enroller create" made it
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    #[command(flatten)]
    passphrase: PassphraseFrom,
}

impl With {
    /// The enroller, and the newest policy.
    pub(crate) fn open(&self, surroundings: &mut Surroundings<'_>) -> anyhow::Result<(Enroller, Policy)> {
        let folder = self.at.open(surroundings)?;
        let (policy, roots) = (folder.current()?.policy, folder.first_roots()?);
        let (key, identity) = keys::enroller(&self.key, &self.passphrase, surroundings.terminal)?;
        let desk = self.at.desk(policy.tenant, surroundings.environment)?;
        // What hosts call themselves and the codes' secrets are for one's own eyes.
        let state = DiskFolder::private(&desk.join("enroller").join(key.verifying().name().as_str()));
        let place: Arc<dyn dirless_publish::Folder> = match (self.at.folder(), folder.into_backend()) {
            (_, Some(backend)) => Arc::new(backend),
            (path, None) => Arc::new(DiskFolder::public(path.unwrap_or(&desk))),
        };
        let office = Office {
            tenant: policy.tenant,
            roots,
            first: 1,
            state: Arc::new(state),
            folder: place,
            clock: surroundings.clock.clone(),
        };
        Ok((Enroller::new(key, identity, office), policy))
    }
}
