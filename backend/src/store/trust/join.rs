//! Join codes and the mailbox of join requests, which are sealed to the enroller.

use super::super::sql::{Connection, params};
use bytes::Bytes;
use dirless_wire::trust::{Digest, Label};
use jiff::Timestamp;
use serde_json::json;

use super::super::audit::{self, Actor};
use super::super::directory::parsed;
use super::super::types::{digest_column, millis, sha256, timestamp};
use super::super::{Origin, RealmState, Role, SecretHash, Store, StoreError};
use super::{PAGE_MAX, TrustHandle};

/// Most join codes of one tenant.
const CODES_MAX: i64 = 1000;

/// A registered join code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinCode {
    /// Its label.
    pub code: Label,
    /// When it ends.
    pub expires_at: Timestamp,
    /// How many more hosts may use it.
    pub uses_left: u32,
    /// When it was registered.
    pub created_at: Timestamp,
}

/// A join request that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinRequest {
    /// The code it came with.
    pub code: Label,
    /// Digest of its bytes.
    pub digest: [u8; 32],
    /// When it came.
    pub received_at: Timestamp,
}

/// What became of a join request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum JoinPost {
    /// It waits for the enroller.
    Taken,
    /// It waited before.
    Same,
    /// Unknown tenant or code, wrong bearer, expired or used up: 401, all alike.
    Refused,
}

impl TrustHandle {
    /// Registers a join code, in place of one with the same label; `false` when the tenant has too many.
    ///
    /// # Errors
    /// When writing fails.
    pub async fn put_join_code(
        &self,
        code: &Label,
        bearer: SecretHash,
        expires_at: Timestamp,
        uses: u32,
        origin: Origin,
    ) -> Result<bool, StoreError> {
        let (row, now, actor, tenant) = (self.row(), self.store.now(), self.actor(origin), self.tenant().clone());
        let code = code.clone();
        self.store
            .write(move |connection, _effects| {
                let others: i64 = connection
                    .prepare("SELECT count(*) FROM join_codes WHERE tenant_id = ?1 AND code <> ?2")?
                    .query_row(params![row, code.as_str()], |row| row.get(0))?;
                if others >= CODES_MAX {
                    return Ok(false);
                }
                connection
                    .prepare(
                        "INSERT INTO join_codes (tenant_id, code, bearer, expires_at, uses_left, created_at) \
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (tenant_id, code) DO UPDATE SET \
                         bearer = excluded.bearer, expires_at = excluded.expires_at, uses_left = excluded.uses_left, \
                         created_at = excluded.created_at",
                    )?
                    .execute(params![
                        row,
                        code.as_str(),
                        bearer.0,
                        millis(expires_at),
                        uses,
                        millis(now)
                    ])?;
                let details = json!({"code": code.as_str(), "uses": uses, "expires_at": expires_at.to_string()});
                audit::record(connection, now, &actor, Some(&tenant), "join_code.put", &details)?;
                Ok(true)
            })
            .await
    }

    /// Ends a join code, with the requests that wait under it; `false` when there is none.
    ///
    /// # Errors
    /// When writing fails.
    pub async fn delete_join_code(&self, code: &Label, origin: Origin) -> Result<bool, StoreError> {
        let (row, now, actor, tenant) = (self.row(), self.store.now(), self.actor(origin), self.tenant().clone());
        let code = code.clone();
        self.store
            .write(move |connection, _effects| {
                let deleted = connection
                    .prepare("DELETE FROM join_codes WHERE tenant_id = ?1 AND code = ?2")?
                    .execute(params![row, code.as_str()])?;
                if deleted > 0 {
                    let details = json!({"code": code.as_str()});
                    audit::record(connection, now, &actor, Some(&tenant), "join_code.delete", &details)?;
                }
                Ok(deleted > 0)
            })
            .await
    }

    /// The registered codes by label, and the oldest requests that wait, at most [`PAGE_MAX`].
    ///
    /// # Errors
    /// When reading fails.
    pub async fn mailbox(&self) -> Result<(Vec<JoinCode>, Vec<JoinRequest>), StoreError> {
        let row = self.row();
        self.store
            .read(move |connection| Ok((codes(connection, row)?, requests(connection, row)?)))
            .await
    }

    /// A request that waits.
    ///
    /// # Errors
    /// When reading fails.
    pub async fn join_request(&self, code: &Label, digest: &Digest) -> Result<Option<Bytes>, StoreError> {
        let (row, code, digest) = (self.row(), code.clone(), *digest.as_bytes());
        self.store
            .read(move |connection| {
                let bytes: Option<Vec<u8>> = connection
                    .prepare(
                        "SELECT r.bytes FROM join_requests r JOIN join_codes c ON c.id = r.code_id \
                         WHERE c.tenant_id = ?1 AND c.code = ?2 AND r.sha256 = ?3",
                    )?
                    .query_optional(params![row, code.as_str(), digest], |row| row.get(0))?;
                Ok(bytes.map(Bytes::from))
            })
            .await
    }

    /// Takes a request out of the mailbox; `false` when there is none.
    ///
    /// # Errors
    /// When writing fails.
    pub async fn delete_join_request(&self, code: &Label, digest: &Digest, origin: Origin) -> Result<bool, StoreError> {
        let (row, now, actor, tenant) = (self.row(), self.store.now(), self.actor(origin), self.tenant().clone());
        let (code, digest) = (code.clone(), *digest);
        self.store
            .write(move |connection, _effects| {
                let deleted = connection
                    .prepare(
                        "DELETE FROM join_requests WHERE sha256 = ?3 AND code_id = \
                         (SELECT id FROM join_codes WHERE tenant_id = ?1 AND code = ?2)",
                    )?
                    .execute(params![row, code.as_str(), digest.as_bytes()])?;
                if deleted > 0 {
                    let details = json!({"code": code.as_str(), "request": digest.to_string()});
                    audit::record(connection, now, &actor, Some(&tenant), "join_request.delete", &details)?;
                }
                Ok(deleted > 0)
            })
            .await
    }
}

impl Store {
    /// Whether a bearer is good for a join code of a tenant now. The same work whatever is wrong.
    ///
    /// # Errors
    /// When reading fails.
    pub async fn admits_join(&self, tenant: &str, code: &Label, bearer: SecretHash) -> Result<bool, StoreError> {
        let (row, code, now) = (self.row_of(tenant), code.clone(), self.now());
        self.read(move |connection| Ok(admitted(connection, row, &code, &bearer, now)?.is_some()))
            .await
    }

    /// Puts a join request into the mailbox, and counts a use of the code unless it was used for this request before.
    ///
    /// # Errors
    /// When writing fails.
    pub async fn post_join_request(
        &self,
        tenant: &str,
        code: &Label,
        bearer: SecretHash,
        request: Bytes,
        origin: Origin,
    ) -> Result<JoinPost, StoreError> {
        let Some((binding, realm)) = self.directory().binding_with_realm(tenant) else {
            return Ok(JoinPost::Refused);
        };
        if realm.state == RealmState::Suspended {
            return Ok(JoinPost::Refused);
        }
        let (code, now) = (code.clone(), self.now());
        self.write(move |connection, _effects| {
            let digest = sha256(&request);
            let Some((row, uses_left)) = admitted(connection, binding.row, &code, &bearer, now)? else {
                return Ok(JoinPost::Refused);
            };
            let known: bool = connection
                .prepare("SELECT EXISTS (SELECT 1 FROM join_uses WHERE code_id = ?1 AND sha256 = ?2)")?
                .query_row(params![row, digest], |row| row.get(0))?;
            if !known && uses_left == 0 {
                return Ok(JoinPost::Refused);
            }
            let added = connection
                .prepare(
                    "INSERT INTO join_requests (code_id, sha256, bytes, received_at) VALUES (?1, ?2, ?3, ?4) \
                     ON CONFLICT (code_id, sha256) DO NOTHING",
                )?
                .execute(params![row, digest, request.as_ref(), millis(now)])?;
            if added == 0 {
                return Ok(JoinPost::Same);
            }
            if !known {
                connection
                    .prepare("INSERT INTO join_uses (code_id, sha256) VALUES (?1, ?2)")?
                    .execute(params![row, digest])?;
                connection
                    .prepare("UPDATE join_codes SET uses_left = uses_left - 1 WHERE id = ?1")?
                    .execute(params![row])?;
            }
            let actor = Actor {
                realm: Some(realm.name.clone()),
                role: Role::Joining,
                token: None,
                key: None,
                origin,
            };
            let details = json!({"code": code.as_str(), "request": Digest::from_bytes(digest).to_string()});
            audit::record(
                connection,
                now,
                &actor,
                Some(&binding.tenant),
                "join_request.post",
                &details,
            )?;
            Ok(JoinPost::Taken)
        })
        .await
    }

    /// The row of a tenant; one that none has when there is no such tenant, so that what follows is the same.
    fn row_of(&self, tenant: &str) -> i64 {
        self.directory().binding(tenant).map_or(-1, |binding| binding.row)
    }
}

/// The row of a code whose bearer this is and that has not ended, and how many more hosts may use it.
fn admitted(
    connection: &Connection,
    tenant: i64,
    code: &Label,
    bearer: &SecretHash,
    now: Timestamp,
) -> Result<Option<(i64, u32)>, StoreError> {
    let mut select = connection
        .prepare("SELECT id, bearer, expires_at, uses_left FROM join_codes WHERE tenant_id = ?1 AND code = ?2")?;
    let mut rows = select.query(params![tenant, code.as_str()])?;
    // Compared in any case, so that an unknown code takes the time of a wrong bearer.
    let (row, known, expires_at, uses_left) = match rows.next()? {
        Some(row) => {
            let bearer = digest_column(row.bytes(1)?)?;
            (row.get(0)?, SecretHash(bearer), row.get::<i64>(2)?, row.get::<u32>(3)?)
        }
        None => (-1, SecretHash([0; 32]), 0, 0),
    };
    let good = known == *bearer && millis(now) < expires_at;
    Ok(good.then_some((row, uses_left)))
}

fn codes(connection: &Connection, tenant: i64) -> Result<Vec<JoinCode>, StoreError> {
    let mut select = connection
        .prepare("SELECT code, expires_at, uses_left, created_at FROM join_codes WHERE tenant_id = ?1 ORDER BY code")?;
    let mut rows = select.query(params![tenant])?;
    let mut codes = Vec::new();
    while let Some(row) = rows.next()? {
        codes.push(JoinCode {
            code: parsed(row, 0)?,
            expires_at: timestamp(row.get(1)?)?,
            uses_left: row.get(2)?,
            created_at: timestamp(row.get(3)?)?,
        });
    }
    Ok(codes)
}

fn requests(connection: &Connection, tenant: i64) -> Result<Vec<JoinRequest>, StoreError> {
    let mut select = connection.prepare(
        "SELECT c.code, r.sha256, r.received_at FROM join_requests r JOIN join_codes c ON c.id = r.code_id \
         WHERE c.tenant_id = ?1 ORDER BY r.received_at, r.id LIMIT ?2",
    )?;
    let mut rows = select.query(params![tenant, PAGE_MAX as i64])?;
    let mut requests = Vec::new();
    while let Some(row) = rows.next()? {
        requests.push(JoinRequest {
            code: parsed(row, 0)?,
            digest: digest_column(row.bytes(1)?)?,
            received_at: timestamp(row.get(2)?)?,
        });
    }
    Ok(requests)
}
