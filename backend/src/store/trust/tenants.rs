//! How a tenant of the verified protocol comes to be.

use std::sync::Arc;

use super::super::sql::Connection;
use dirless_wire::TenantId;
use jiff::Timestamp;
use serde_json::json;

use super::super::audit::{self, Actor};
use super::super::directory::Binding;
use super::super::types::millis;
use super::super::writer::Effects;
use super::super::{Change, Operator, Origin, RealmName, Role, Store, StoreError, enroll, realm};

/// What became of a new tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum NewTenant {
    /// It is the operator's realm's from now on.
    Created,
    /// It was before.
    Known,
    /// It is another realm's: 401, as if the token were wrong.
    NotYours,
}

impl Store {
    /// Binds a tenant to the operator's realm (`default` for a token of all realms), for good, if no realm has it.
    ///
    /// # Errors
    /// When writing fails.
    pub async fn create_tenant(
        &self,
        operator: &Operator,
        tenant: &TenantId,
        origin: Origin,
    ) -> Result<NewTenant, StoreError> {
        let (tenant, now, operator) = (tenant.clone(), self.now(), operator.clone());
        self.write(move |connection, effects| {
            let name = operator.realm().cloned().unwrap_or_else(RealmName::default_realm);
            let Some(realm) = realm::find(connection, &name)? else {
                return Ok(NewTenant::NotYours);
            };
            if let Some(binding) = enroll::find(connection, &tenant)? {
                let reaches = operator.realm().is_none() || binding.realm_row == realm;
                return Ok(if reaches { NewTenant::Known } else { NewTenant::NotYours });
            }
            let actor = Actor {
                realm: Some(name),
                role: Role::Operator,
                token: Some(operator.id().clone()),
                key: None,
                origin,
            };
            create(connection, effects, &tenant, realm, &actor, now)?;
            Ok(NewTenant::Created)
        })
        .await
    }
}

fn create(
    connection: &Connection,
    effects: &mut Effects,
    tenant: &TenantId,
    realm: i64,
    actor: &Actor,
    now: Timestamp,
) -> Result<Arc<Binding>, StoreError> {
    let binding = Arc::new(enroll::insert(connection, tenant, realm, None, millis(now))?);
    audit::record(connection, now, actor, Some(tenant), "tenant.create", &json!({}))?;
    effects.binding = Some(Arc::clone(&binding));
    effects.changes.push(Change::Tenant { tenant: tenant.clone() });
    Ok(binding)
}
