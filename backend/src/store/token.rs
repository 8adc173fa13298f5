//! Operator tokens: scoped, expiring, shown once, known here by their SHA-256.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::sql::params;
use jiff::Timestamp;
use ring::rand::SecureRandom;
use serde_json::json;

use super::audit::{self, Actor};
use super::directory::{optional_time, parse_scopes, parsed_or_null};
use super::types::{millis, timestamp};
use super::{Change, RealmName, Scope, SecretHash, Store, StoreError, TokenId, realm};

/// A token to be made.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// Its public id, from [`TokenId::generate`].
    pub id: TokenId,
    /// What it is for, in the operator's words.
    pub label: String,
    /// What it allows.
    pub scopes: Vec<Scope>,
    /// The only realm it reaches; `None` is all of them.
    pub realm: Option<RealmName>,
    /// When it ends; `None` is never.
    pub expires_at: Option<Timestamp>,
    /// Hash of its secret.
    pub secret: SecretHash,
}

/// A token as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its public id.
    pub id: TokenId,
    /// What it is for.
    pub label: String,
    /// What it allows.
    pub scopes: Vec<Scope>,
    /// The only realm it reaches; `None` is all of them.
    pub realm: Option<RealmName>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// When it was used last, to within a flush of the heartbeats.
    pub last_used_at: Option<Timestamp>,
}

/// What became of a new token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum TokenCreation {
    /// It is good from now on.
    Created,
    /// There is no such realm.
    UnknownRealm,
    /// The secret belongs to another realm or token.
    SecretTaken,
}

impl TokenId {
    /// Makes an id up.
    ///
    /// # Errors
    /// When the system's random source fails.
    pub fn generate(random: &dyn SecureRandom) -> Result<Self, StoreError> {
        let mut bytes = [0; 8];
        random
            .fill(&mut bytes)
            .map_err(|_unspecified| StoreError::NoRandomness)?;
        Ok(Self(format!("{:016x}", u64::from_be_bytes(bytes)).into()))
    }
}

/// Uses since the last flush, in memory.
#[derive(Debug, Default)]
pub(crate) struct TokenUses(Mutex<BTreeMap<TokenId, i64>>);

impl Store {
    /// Makes a token.
    ///
    /// # Errors
    /// When writing fails.
    pub async fn create_token(&self, new: NewToken) -> Result<TokenCreation, StoreError> {
        let now = self.now();
        self.write(move |connection, effects| {
            let realm = match &new.realm {
                None => None,
                Some(name) => match realm::find(connection, name)? {
                    None => return Ok(TokenCreation::UnknownRealm),
                    found => found,
                },
            };
            if realm::secret_is_taken(connection, &new.secret, None)? {
                return Ok(TokenCreation::SecretTaken);
            }
            let scopes: Vec<_> = new.scopes.iter().map(|scope| scope.as_str()).collect();
            connection
                .prepare(
                    "INSERT INTO tokens (id, realm_id, label, scopes, hash, created_at, expires_at) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                )?
                .execute(params![
                    new.id.as_str(),
                    realm,
                    new.label,
                    scopes.join(" "),
                    new.secret.0,
                    millis(now),
                    new.expires_at.map(millis),
                ])?;
            let details = json!({"id": new.id.as_str(), "label": new.label, "scopes": scopes});
            audit::record(
                connection,
                now,
                &Actor::console(new.realm.clone()),
                None,
                "token.create",
                &details,
            )?;
            effects.reload_bearers = true;
            effects.changes.push(Change::Credentials);
            Ok(TokenCreation::Created)
        })
        .await
    }

    /// Ends a token; `false` when there is none with this id, or it was revoked before.
    ///
    /// # Errors
    /// When writing fails.
    pub async fn revoke_token(&self, id: &str) -> Result<bool, StoreError> {
        let (id, now) = (id.to_owned(), self.now());
        self.write(move |connection, effects| {
            let revoked = connection
                .prepare("UPDATE tokens SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL")?
                .execute(params![id, millis(now)])?;
            if revoked == 0 {
                return Ok(false);
            }
            audit::record(
                connection,
                now,
                &Actor::console(None),
                None,
                "token.revoke",
                &json!({"id": id}),
            )?;
            effects.reload_bearers = true;
            effects.changes.push(Change::Credentials);
            Ok(true)
        })
        .await
    }

    /// All tokens, newest last, revoked and expired ones too.
    ///
    /// # Errors
    /// When reading fails.
    pub async fn tokens(&self) -> Result<Vec<Token>, StoreError> {
        self.read(|connection| {
            let mut select = connection.prepare(
                "SELECT t.id, t.label, t.scopes, r.name, t.created_at, t.expires_at, t.revoked_at, t.last_used_at \
                 FROM tokens t LEFT JOIN realms r ON r.id = t.realm_id ORDER BY t.created_at, t.id",
            )?;
            let mut rows = select.query(params![])?;
            let mut tokens = Vec::new();
            while let Some(row) = rows.next()? {
                tokens.push(Token {
                    id: TokenId(row.get::<String>(0)?.into()),
                    label: row.get(1)?,
                    scopes: parse_scopes(&row.get::<String>(2)?)?,
                    realm: parsed_or_null(row, 3)?,
                    created_at: timestamp(row.get(4)?)?,
                    expires_at: optional_time(row.get(5)?)?,
                    revoked_at: optional_time(row.get(6)?)?,
                    last_used_at: optional_time(row.get(7)?)?,
                });
            }
            Ok(tokens)
        })
        .await
    }

    /// Remembers that a token was used now. Memory only; [`Store::flush_token_uses`] writes it.
    pub fn note_token_use(&self, id: &TokenId) {
        let now = millis(self.now());
        let mut uses = self.token_uses().0.lock().unwrap_or_else(PoisonError::into_inner);
        uses.insert(id.clone(), now);
    }

    /// Writes the remembered uses, in one write; [`super::HeartbeatSink::run`] calls it.
    ///
    /// # Errors
    /// When writing fails; the uses of this flush are forgotten then, which only makes "last used"
    /// older than it is.
    pub async fn flush_token_uses(&self) -> Result<(), StoreError> {
        let uses = std::mem::take(&mut *self.token_uses().0.lock().unwrap_or_else(PoisonError::into_inner));
        if uses.is_empty() {
            return Ok(());
        }
        self.write(move |connection, _effects| {
            let mut update = connection.prepare("UPDATE tokens SET last_used_at = ?2 WHERE id = ?1")?;
            for (id, at) in &uses {
                update.send(params![id.as_str(), at])?;
            }
            Ok(())
        })
        .await
    }
}
