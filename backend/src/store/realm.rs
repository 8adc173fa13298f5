//! Realms: an operator's customers, each with a bearer secret known here by its SHA-256.

use std::time::Duration;

use super::sql::{Connection, params};
use jiff::Timestamp;
use serde_json::json;

use super::audit::{self, Actor};
use super::directory::{optional_time, parsed};
use super::types::{millis, timestamp, unsigned};
use super::writer::Effects;
use super::{Change, RealmName, RealmState, SecretHash, Store, StoreError};

/// A realm as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Realm {
    /// Its name.
    pub name: RealmName,
    /// Whether its credentials may be used.
    pub state: RealmState,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its secret was replaced last.
    pub rotated_at: Option<Timestamp>,
    /// Tenants it enrolled.
    pub tenants: u64,
    /// Secrets that are good now: one, or more during a rotation.
    pub secrets: u64,
}

/// What became of a new realm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum NewRealm {
    /// It is there.
    Created,
    /// There is one with this name.
    NameTaken,
    /// The secret belongs to another realm or token.
    SecretTaken,
}

/// What became of a change to a realm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum RealmChange {
    /// Done, or so already.
    Done,
    /// There is no such realm.
    Unknown,
    /// The secret belongs to another realm or token.
    SecretTaken,
}

impl Store {
    /// Makes a realm.
    ///
    /// # Errors
    /// When writing fails.
    pub async fn create_realm(&self, name: &RealmName, secret: SecretHash) -> Result<NewRealm, StoreError> {
        let (name, now) = (name.clone(), self.now());
        self.write(move |connection, effects| {
            if find(connection, &name)?.is_some() {
                return Ok(NewRealm::NameTaken);
            }
            if secret_is_taken(connection, &secret, None)? {
                return Ok(NewRealm::SecretTaken);
            }
            insert(connection, effects, &name, &secret, now)?;
            Ok(NewRealm::Created)
        })
        .await
    }

    /// Whether the realm of the classic shared secret is there. When it is not and no secret is
    /// configured, the program makes one up, shows it once and calls
    /// [`Store::ensure_default_realm`].
    ///
    /// # Errors
    /// When reading fails.
    pub async fn has_default_realm(&self) -> Result<bool, StoreError> {
        self.read(|connection| Ok(find(connection, &RealmName::default_realm())?.is_some()))
            .await
    }

    /// Makes sure that the realm `default` is there and that `secret`, the configured classic
    /// secret, is its lasting one. The configuration wins over an earlier `realm rotate default`.
    ///
    /// # Errors
    /// When writing fails.
    pub async fn ensure_default_realm(&self, secret: SecretHash) -> Result<RealmChange, StoreError> {
        let now = self.now();
        self.write(move |connection, effects| {
            let name = RealmName::default_realm();
            let realm = find(connection, &name)?;
            if secret_is_taken(connection, &secret, realm)? {
                return Ok(RealmChange::SecretTaken);
            }
            match realm {
                None => insert(connection, effects, &name, &secret, now)?,
                Some(row) if has_lasting(connection, row, &secret)? => {}
                Some(row) => replace_secret(connection, effects, row, &name, &secret, now, None)?,
            }
            Ok(RealmChange::Done)
        })
        .await
    }

    /// Gives a realm another secret. The one before ends now, or after `keep_old`.
    ///
    /// # Errors
    /// When writing fails.
    pub async fn rotate_realm(
        &self,
        name: &RealmName,
        secret: SecretHash,
        keep_old: Option<Duration>,
    ) -> Result<RealmChange, StoreError> {
        let (name, now) = (name.clone(), self.now());
        self.write(move |connection, effects| {
            let Some(row) = find(connection, &name)? else {
                return Ok(RealmChange::Unknown);
            };
            if secret_is_taken(connection, &secret, Some(row))? {
                return Ok(RealmChange::SecretTaken);
            }
            replace_secret(connection, effects, row, &name, &secret, now, keep_old)?;
            Ok(RealmChange::Done)
        })
        .await
    }

    /// Suspends a realm or takes it into use again.
    ///
    /// # Errors
    /// When writing fails.
    pub async fn set_realm_state(&self, name: &RealmName, state: RealmState) -> Result<RealmChange, StoreError> {
        let (name, now) = (name.clone(), self.now());
        self.write(move |connection, effects| {
            let changed = connection
                .prepare("UPDATE realms SET state = ?2 WHERE name = ?1 AND state <> ?2")?
                .execute(params![name.as_str(), state.as_str()])?;
            if changed == 0 {
                return Ok(match find(connection, &name)? {
                    Some(_) => RealmChange::Done,
                    None => RealmChange::Unknown,
                });
            }
            let action = match state {
                RealmState::Active => "realm.enable",
                RealmState::Suspended => "realm.disable",
            };
            audit::record(
                connection,
                now,
                &Actor::console(Some(name.clone())),
                None,
                action,
                &json!({}),
            )?;
            credentials_changed(effects);
            Ok(RealmChange::Done)
        })
        .await
    }

    /// All realms, by name.
    ///
    /// # Errors
    /// When reading fails.
    pub async fn realms(&self) -> Result<Vec<Realm>, StoreError> {
        let now = millis(self.now());
        self.read(move |connection| {
            let mut select = connection.prepare(
                "SELECT r.name, r.state, r.created_at, r.rotated_at, \
                 (SELECT count(*) FROM tenants t WHERE t.realm_id = r.id), \
                 (SELECT count(*) FROM realm_secrets s WHERE s.realm_id = r.id \
                  AND (s.expires_at IS NULL OR s.expires_at > ?1)) \
                 FROM realms r ORDER BY r.name",
            )?;
            let mut rows = select.query(params![now])?;
            let mut realms = Vec::new();
            while let Some(row) = rows.next()? {
                realms.push(Realm {
                    name: parsed(row, 0)?,
                    state: RealmState::parse(&row.get::<String>(1)?)?,
                    created_at: timestamp(row.get(2)?)?,
                    rotated_at: optional_time(row.get(3)?)?,
                    tenants: unsigned(row.get(4)?)?,
                    secrets: unsigned(row.get(5)?)?,
                });
            }
            Ok(realms)
        })
        .await
    }
}

fn credentials_changed(effects: &mut Effects) {
    effects.reload_bearers = true;
    effects.changes.push(Change::Credentials);
}

pub(crate) fn find(connection: &Connection, name: &RealmName) -> Result<Option<i64>, StoreError> {
    let mut select = connection.prepare("SELECT id FROM realms WHERE name = ?1")?;
    select.query_optional(params![name.as_str()], |row| row.get(0))
}

/// Whether a token or a realm other than `own` has this secret: a bearer names one principal.
pub(crate) fn secret_is_taken(
    connection: &Connection,
    secret: &SecretHash,
    own: Option<i64>,
) -> Result<bool, StoreError> {
    let mut select = connection.prepare(
        "SELECT EXISTS (SELECT 1 FROM realm_secrets WHERE hash = ?1 AND realm_id IS DISTINCT FROM ?2) \
         OR EXISTS (SELECT 1 FROM tokens WHERE hash = ?1)",
    )?;
    select.query_row(params![secret.0, own], |row| row.get(0))
}

fn has_lasting(connection: &Connection, realm: i64, secret: &SecretHash) -> Result<bool, StoreError> {
    let mut select = connection.prepare(
        "SELECT EXISTS (SELECT 1 FROM realm_secrets WHERE realm_id = ?1 AND hash = ?2 AND expires_at IS NULL)",
    )?;
    select.query_row(params![realm, secret.0], |row| row.get(0))
}

fn insert(
    connection: &Connection,
    effects: &mut Effects,
    name: &RealmName,
    secret: &SecretHash,
    now: Timestamp,
) -> Result<(), StoreError> {
    let row: i64 = connection
        .prepare("INSERT INTO realms (name, state, created_at) VALUES (?1, 'active', ?2) RETURNING id")?
        .query_row(params![name.as_str(), millis(now)], |row| row.get(0))?;
    insert_secret(connection, row, secret, now)?;
    audit::record(
        connection,
        now,
        &Actor::console(Some(name.clone())),
        None,
        "realm.create",
        &json!({}),
    )?;
    credentials_changed(effects);
    Ok(())
}

fn insert_secret(connection: &Connection, realm: i64, secret: &SecretHash, now: Timestamp) -> Result<(), StoreError> {
    connection
        .prepare("INSERT INTO realm_secrets (realm_id, hash, created_at) VALUES (?1, ?2, ?3)")?
        .execute(params![realm, secret.0, millis(now)])?;
    Ok(())
}

fn replace_secret(
    connection: &Connection,
    effects: &mut Effects,
    realm: i64,
    name: &RealmName,
    secret: &SecretHash,
    now: Timestamp,
    keep_old: Option<Duration>,
) -> Result<(), StoreError> {
    let kept = keep_old.map_or(0, |kept| i64::try_from(kept.as_millis()).unwrap_or(i64::MAX));
    let end = millis(now).saturating_add(kept);
    // Gone: those that ended, and the new one in case it is an old one coming back.
    connection
        .prepare("DELETE FROM realm_secrets WHERE realm_id = ?1 AND (expires_at <= ?2 OR hash = ?3)")?
        .execute(params![realm, millis(now), secret.0])?;
    connection
        .prepare(
            "UPDATE realm_secrets SET expires_at = ?2 WHERE realm_id = ?1 AND (expires_at IS NULL OR expires_at > ?2)",
        )?
        .execute(params![realm, end])?;
    insert_secret(connection, realm, secret, now)?;
    connection
        .prepare("UPDATE realms SET rotated_at = ?2 WHERE id = ?1")?
        .execute(params![realm, millis(now)])?;
    let details = json!({"old_secret_kept_ms": kept});
    audit::record(
        connection,
        now,
        &Actor::console(Some(name.clone())),
        None,
        "realm.rotate",
        &details,
    )?;
    credentials_changed(effects);
    Ok(())
}
