//! Enrolment: a tenant comes to belong to the realm whose credential enrolled it first.

use std::sync::Arc;

use super::sql::{Connection, params};
use dirless_wire::{AgePublicKey, TenantId};
use serde_json::json;

use super::audit::{self, Actor};
use super::directory::{Binding, Credential, read_binding};
use super::policy::{KeyCall, KeyDecision, ReplaceBy, decide_key};
use super::types::millis;
use super::{Change, Origin, Store, StoreError, tenant};

/// What became of an enrolment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Enrolment {
    /// The tenant is new and belongs to the credential's realm now.
    Enrolled,
    /// It was enrolled with this key already.
    Unchanged,
    /// It was enrolled, and this key took the place of another.
    KeyReplaced {
        /// The one before.
        previous: AgePublicKey,
    },
    /// It was enrolled with another key, which stays: 409.
    KeyConflict {
        /// The registered key.
        registered: AgePublicKey,
    },
    /// Another realm enrolled it: answered like a wrong bearer.
    NotYours,
}

impl Store {
    /// Enrols a tenant, or enrols it again. Suspended realms are the caller's to refuse.
    ///
    /// # Errors
    /// When writing fails.
    pub async fn enroll(
        &self,
        credential: &Credential,
        tenant: &TenantId,
        key: &AgePublicKey,
        replace_by: ReplaceBy,
        origin: Origin,
    ) -> Result<Enrolment, StoreError> {
        let (tenant, key, now) = (tenant.clone(), key.clone(), self.now());
        let (realm, actor) = (credential.realm_row, Actor::of(credential, origin));
        self.write(move |connection, effects| {
            let Some(binding) = find(connection, &tenant)? else {
                let binding = insert(connection, &tenant, realm, Some(&key), millis(now))?;
                let details = json!({"public_key": key.as_str()});
                audit::record(connection, now, &actor, Some(&tenant), "tenant.enroll", &details)?;
                effects.binding = Some(Arc::new(binding));
                effects.changes.push(Change::Tenant { tenant: tenant.clone() });
                return Ok(Enrolment::Enrolled);
            };
            if binding.realm_row != realm {
                return Ok(Enrolment::NotYours);
            }
            match decide_key(binding.public_key.as_ref(), &key, KeyCall::Enroll, replace_by) {
                KeyDecision::Refuse(registered) => Ok(Enrolment::KeyConflict { registered }),
                KeyDecision::Same => Ok(Enrolment::Unchanged),
                // It came by the verified protocol, which needs no such key.
                KeyDecision::First => {
                    tenant::replace_key(connection, effects, &binding, &key, now)?;
                    let details = json!({"public_key": key.as_str()});
                    audit::record(connection, now, &actor, Some(&tenant), "tenant.enroll", &details)?;
                    Ok(Enrolment::Enrolled)
                }
                KeyDecision::Replace(previous) => {
                    tenant::replace_key(connection, effects, &binding, &key, now)?;
                    let details = json!({"public_key": key.as_str(), "previous": previous.as_str()});
                    audit::record(connection, now, &actor, Some(&tenant), "key.replace", &details)?;
                    Ok(Enrolment::KeyReplaced { previous })
                }
            }
        })
        .await
    }
}

pub(crate) fn find(connection: &Connection, tenant: &TenantId) -> Result<Option<Binding>, StoreError> {
    let mut select = connection.prepare("SELECT id, tenant, realm_id, public_key FROM tenants WHERE tenant = ?1")?;
    let mut rows = select.query(params![tenant.as_str()])?;
    rows.next()?.map(read_binding).transpose()
}

/// A tenant, with or without a key of the classic protocol.
pub(crate) fn insert(
    connection: &Connection,
    tenant: &TenantId,
    realm: i64,
    key: Option<&AgePublicKey>,
    now: i64,
) -> Result<Binding, StoreError> {
    let row = connection
        .prepare(
            "INSERT INTO tenants (tenant, realm_id, public_key, enrolled_at, key_changed_at) \
             VALUES (?1, ?2, ?3, ?4, ?4) RETURNING id",
        )?
        .query_row(
            params![tenant.as_str(), realm, key.map_or("", AgePublicKey::as_str), now],
            |row| row.get(0),
        )?;
    Ok(Binding {
        row,
        tenant: tenant.clone(),
        realm_row: realm,
        public_key: key.cloned(),
    })
}
