//! Operator tokens: who may use the REST interface, and for what.
//!
//! A token is `dsy_ID_SECRET`. The id finds the row, the secret is kept as its SHA-256 and compared in
//! constant time. They have a file of their own, so that a tree that is restored from a backup brings
//! no revoked token back.

mod database;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dirless_program::{Clock, Secret};
use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::Serialize;
use subtle::ConstantTimeEq as _;

use crate::database::OpenError;

/// What a token's text starts with, so that scanners for leaked secrets know it.
const PREFIX: &str = "dsy_";
/// How exact the time of the last use is.
const USE_STEP: Duration = Duration::from_secs(60);
/// Longest name.
const LONGEST_NAME: usize = 64;

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Look at everything but secrets.
    Read,
    /// Change entries.
    Write,
    /// Read sources and publish now.
    Sync,
    /// Take people away.
    Revoke,
    /// Let people come back who were taken away.
    Restore,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Read, Self::Write, Self::Sync, Self::Revoke, Self::Restore];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Sync => "sync",
            Self::Revoke => "revoke",
            Self::Restore => "restore",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text)
    }
}

/// The name of a token: what the changelog says who wrote.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct TokenName(String);

impl TokenName {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TokenName {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'@');
        if text.is_empty() || text.len() > LONGEST_NAME || !text.bytes().all(good) {
            return Err(TokenError::Name(text.chars().take(LONGEST_NAME).collect()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for TokenName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A token without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Token {
    /// Its public id.
    pub id: String,
    /// Its name.
    pub name: TokenName,
    /// What it allows.
    pub scopes: Vec<Scope>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends; never when absent.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// When it was used last, to the minute.
    pub last_used_at: Option<Timestamp>,
}

impl Token {
    /// Does it allow that?
    #[must_use]
    pub fn allows(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }

    /// Is it good at that time?
    #[must_use]
    pub fn is_good(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| now < end)
    }
}

/// Why something about tokens did not work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// No name for a token.
    #[error("{0:?} is no name for a token: 1 to 64 letters, digits and . _ - @")]
    Name(String),
    /// There is a token of that name.
    #[error("there is a token named {0} already; revoke it first, or take another name")]
    Taken(TokenName),
    /// A token that allows nothing.
    #[error("a token needs at least one scope: read, write, sync, revoke, restore")]
    NoScope,
    /// The file cannot be used.
    #[error("{path}: {cause}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The file was made by a newer program.
    #[error("{path} cannot be used by this program: {reason}; install the newer one again")]
    Newer {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The database failed.
    #[error("the tokens' database failed: {0}")]
    Database(#[from] rusqlite::Error),
}

impl From<OpenError> for TokenError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::File { path, cause } => Self::File { path, cause },
            OpenError::Database(error) => Self::Database(error),
            OpenError::Newer { path, reason } => Self::Newer { path, reason },
        }
    }
}

/// All tokens. Every method takes as long as SQLite does: microseconds to look up, a disk's write to
/// change.
#[derive(Debug)]
pub struct TokenStore {
    connection: Mutex<Connection>,
    clock: Clock,
}

impl TokenStore {
    /// Where the tokens are.
    #[must_use]
    pub fn path(state_folder: &Path) -> PathBuf {
        state_folder.join("tokens.db")
    }

    /// Opens the file, and makes it when it is missing.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn open(path: &Path, clock: Clock) -> Result<Self, TokenError> {
        Ok(Self {
            connection: Mutex::new(database::open(path)?),
            clock,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a token; the text is known to nobody else and never again.
    ///
    /// # Errors
    /// [`TokenError::Taken`], [`TokenError::NoScope`], and when the database fails.
    pub fn create(
        &self,
        name: &TokenName,
        scopes: &[Scope],
        expires_at: Option<Timestamp>,
    ) -> Result<(Token, Secret), TokenError> {
        let mut scopes = scopes.to_vec();
        scopes.sort_unstable();
        scopes.dedup();
        if scopes.is_empty() {
            return Err(TokenError::NoScope);
        }
        let id = hex(&rand::random::<[u8; 8]>());
        let secret = Secret::new(hex(&rand::random::<[u8; 32]>()));
        let hash = hash(secret.expose());
        let words: Vec<_> = scopes.iter().map(|scope| scope.as_str()).collect();
        let created_at = self.clock.now();
        let inserted = self.lock().execute(
            "INSERT INTO tokens (id, name, scopes, hash, created_at, expires_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                id,
                name.as_str(),
                words.join(" "),
                hash.as_ref(),
                created_at.as_millisecond(),
                expires_at.map(Timestamp::as_millisecond)
            ],
        );
        match inserted {
            Err(rusqlite::Error::SqliteFailure(error, _)) if error.code == rusqlite::ErrorCode::ConstraintViolation => {
                return Err(TokenError::Taken(name.clone()));
            }
            other => other?,
        };
        let text = Secret::new(format!("{PREFIX}{id}_{}", secret.expose()));
        let token = Token {
            id,
            name: name.clone(),
            scopes,
            created_at,
            expires_at,
            revoked_at: None,
            last_used_at: None,
        };
        Ok((token, text))
    }

    /// The token of that text, when it is good now. Unknown, wrong, revoked and expired are the same.
    ///
    /// # Errors
    /// When the database fails.
    pub fn authenticate(&self, text: &str) -> Result<Option<Token>, TokenError> {
        let now = self.clock.now();
        let (id, secret) = text
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split_once('_'))
            .unwrap_or_default();
        let given = hash(secret);
        let connection = self.lock();
        let found = connection
            .prepare_cached(&format!("SELECT {COLUMNS}, hash FROM tokens WHERE id = ?1"))?
            .query_row([id], |row| Ok((token(row)?, row.get::<_, Vec<u8>>(7)?)))
            .optional()?;
        let (token, held) = match found {
            Some((token, held)) => (Some(token), held),
            // Compared all the same: the time tells nobody which ids there are.
            None => (None, vec![0; SHA256.output_len()]),
        };
        let right = bool::from(held.ct_eq(given.as_ref()));
        let Some(mut token) = token.filter(|token| right && token.is_good(now)) else {
            return Ok(None);
        };
        let step = i64::try_from(USE_STEP.as_millis()).unwrap_or(i64::MAX);
        let is_noted = |used: Timestamp| used.as_millisecond().saturating_add(step) > now.as_millisecond();
        if !token.last_used_at.is_some_and(is_noted) {
            let update = connection.execute(
                "UPDATE tokens SET last_used_at = ?2 WHERE id = ?1",
                params![token.id, now.as_millisecond()],
            );
            // On a full disk operators must still get in.
            match update {
                Ok(_) => token.last_used_at = Some(now),
                Err(error) => tracing::warn!(event = "token.use.unnoted", %error, "the use of a token was not noted"),
            }
        }
        Ok(Some(token))
    }

    /// All tokens, oldest first, revoked and expired ones too.
    ///
    /// # Errors
    /// When the database fails.
    pub fn list(&self) -> Result<Vec<Token>, TokenError> {
        let connection = self.lock();
        let mut select = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM tokens ORDER BY created_at, id"))?;
        let tokens = select.query_map([], token)?;
        Ok(tokens.collect::<Result<_, _>>()?)
    }

    /// Ends the token of that name or id, for programs that run too. False when there is none, or it
    /// ended before.
    ///
    /// # Errors
    /// When the database fails.
    pub fn revoke(&self, name_or_id: &str) -> Result<bool, TokenError> {
        let revoked = self.lock().execute(
            "UPDATE tokens SET revoked_at = ?2 WHERE (name = ?1 OR id = ?1) AND revoked_at IS NULL",
            params![name_or_id, self.clock.now().as_millisecond()],
        )?;
        Ok(revoked > 0)
    }
}

/// The columns that [`token`] takes, in their order.
const COLUMNS: &str = "id, name, scopes, created_at, expires_at, revoked_at, last_used_at";

fn token(row: &Row<'_>) -> rusqlite::Result<Token> {
    let time = |millis: i64| Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MIN);
    let optional = |at| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(at)?.map(time));
    let scopes: String = row.get(2)?;
    Ok(Token {
        id: row.get(0)?,
        name: TokenName(row.get(1)?),
        // A scope of a newer program allows nothing here.
        scopes: scopes.split(' ').filter_map(Scope::parse).collect(),
        created_at: time(row.get(3)?),
        expires_at: optional(4)?,
        revoked_at: optional(5)?,
        last_used_at: optional(6)?,
    })
}

fn hash(secret: &str) -> ring::digest::Digest {
    digest(&SHA256, secret.as_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
