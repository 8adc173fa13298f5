//! What hosts read of a tenant, by its tags.

use std::collections::BTreeMap;

use super::sql::params;
use dirless_wire::{Setting, TenantState};

use super::body::key_and_account;
use super::directory::parsed;
use super::settings::{stored_setting, stored_tag};
use super::types::{digest_column, etag_of_digest};
use super::{StoreError, TenantHandle};

impl TenantHandle {
    /// The tags of everything hosts read, as of one moment.
    ///
    /// # Errors
    /// When reading fails.
    pub async fn state(&self) -> Result<TenantState, StoreError> {
        let tenant = self.row();
        self.store()
            .read(move |connection| {
                let mut sources = BTreeMap::new();
                let mut select = connection.prepare(
                    "SELECT source, sha256 FROM sources LEFT JOIN generations ON generations.id = current \
                     WHERE tenant_id = ?1",
                )?;
                let mut rows = select.query(params![tenant])?;
                while let Some(row) = rows.next()? {
                    let digest: Option<Vec<u8>> = row.get(1)?;
                    let tag = digest.map(|digest| Ok::<_, StoreError>(etag_of_digest(&digest_column(&digest)?)));
                    sources.insert(parsed(row, 0)?, tag.transpose()?);
                }
                let key = stored_setting(connection, tenant, Setting::CA_PUBLIC_KEY)?;
                Ok(TenantState {
                    sources,
                    authz_config: stored_tag(connection, tenant)?,
                    ca_public_key: key.filter(|key| !key.is_empty()),
                    public_key: key_and_account(connection, tenant)?.0,
                })
            })
            .await
    }
}
