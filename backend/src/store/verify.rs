//! Checking a database through and through: the engine's own checks, then ours.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use dirless_wire::trust::Digest;
use ring::digest::{Context, SHA256};
use rusqlite::OpenFlags;

use super::postgres::{self, Home};
use super::sql::{Connection, params};
use super::{CHUNK_MAX, Location, PostgresPlace, StoreError, schema};

/// Most problems of one kind that are listed.
const LISTED_MAX: usize = 100;

/// What was found wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// The engine's `integrity_check` complains.
    Integrity(String),
    /// A row of this table points at nothing.
    ForeignKey(String),
    /// A body is not the one that was stored.
    Body {
        /// Row of its generation.
        generation_row: i64,
        /// What is wrong with it.
        what: String,
    },
    /// An object of the verified protocol is not the one that was stored.
    Object {
        /// Its tenant and its path.
        path: String,
        /// What is wrong with it.
        what: String,
    },
    /// A source's pointer is wrong.
    Pointer {
        /// Row of the source.
        source_row: i64,
        /// What is wrong with it.
        what: String,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integrity(what) => write!(formatter, "integrity: {what}"),
            Self::ForeignKey(table) => write!(formatter, "a row of {table} points at nothing"),
            Self::Body { generation_row, what } => write!(formatter, "body of generation row {generation_row}: {what}"),
            Self::Object { path, what } => write!(formatter, "object {path}: {what}"),
            Self::Pointer { source_row, what } => write!(formatter, "pointer of source row {source_row}: {what}"),
        }
    }
}

/// What a check saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verification {
    /// Schema number.
    pub schema: i64,
    /// Tenants enrolled.
    pub tenants: u64,
    /// Bodies and objects read and hashed, replaced bodies that are still kept included.
    pub bodies: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What is wrong; empty when nothing is.
    pub problems: Vec<Problem>,
}

impl Verification {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Checks a store, also beside a running server. Blocks; reads every body. The pages of a database of PostgreSQL
/// are its own to check (`pg_amcheck`, data checksums); what they hold is checked here.
///
/// # Errors
/// [`StoreError::NewerSchema`], and when the store cannot be read at all. What is merely wrong in it
/// is listed in the answer.
pub fn verify(location: impl Into<Location>) -> Result<Verification, StoreError> {
    let location = location.into();
    match &location.database {
        None => verify_file(&location.folder.join(schema::DATABASE)),
        Some(place) => verify_database(place),
    }
}

fn verify_database(place: &PostgresPlace) -> Result<Verification, StoreError> {
    let home = Home::new(place.clone())?;
    let connection = Connection::Postgres(home.connect(None)?);
    connection.begin_reading()?;
    let mut seen = Verification {
        schema: postgres::checked_version(&connection, place)?,
        ..Verification::default()
    };
    if seen.schema > 0 {
        own_checks(&connection, &mut seen)?;
        check_objects(&connection, &mut seen)?;
    }
    Ok(seen)
}

/// Checks one database file.
pub(crate) fn verify_file(path: &Path) -> Result<Verification, StoreError> {
    // Asked first, since the engine only says "unable to open".
    std::fs::metadata(path).map_err(|error| StoreError::file(path, error))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = rusqlite::Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    schema::refuse_newer(&connection, path)?;
    connection.pragma_update(None, "query_only", true)?;
    // One snapshot for everything: a running server may write meanwhile.
    connection.execute_batch("BEGIN")?;
    let mut seen = Verification {
        schema: schema::version(&connection)?,
        ..Verification::default()
    };
    let connection = Connection::Sqlite(connection);
    engine_checks(&connection, &mut seen.problems)?;
    // A store that died while it was made: nothing was acknowledged, the next start makes it anew.
    if seen.schema == 0 {
        return Ok(seen);
    }
    // Damaged pages make the queries below fail; what was found says more than their error.
    let outcome = own_checks(&connection, &mut seen).and_then(|()| match seen.schema {
        1 => Ok(()),
        _ => check_objects(&connection, &mut seen),
    });
    match outcome {
        Err(error) if seen.problems.is_empty() => Err(error),
        _ => Ok(seen),
    }
}

fn engine_checks(connection: &Connection, problems: &mut Vec<Problem>) -> Result<(), StoreError> {
    let mut check = connection.prepare(&format!("PRAGMA integrity_check({LISTED_MAX})"))?;
    let mut rows = check.query(params![])?;
    while let Some(row) = rows.next()? {
        let line: String = row.get(0)?;
        if line != "ok" {
            problems.push(Problem::Integrity(line));
        }
    }
    let mut check = connection.prepare("PRAGMA foreign_key_check")?;
    let mut rows = check.query(params![])?;
    while let Some(row) = rows.next()? {
        problems.push(Problem::ForeignKey(row.get(0)?));
        if problems.len() >= LISTED_MAX {
            break;
        }
    }
    Ok(())
}

fn own_checks(connection: &Connection, seen: &mut Verification) -> Result<(), StoreError> {
    let mut count = connection.prepare("SELECT count(*) FROM tenants")?;
    seen.tenants = super::types::unsigned(count.query_row(params![], |row| row.get(0))?)?;
    let mut select = connection.prepare("SELECT id, sha256, length, chunks FROM generations ORDER BY id")?;
    let mut rows = select.query(params![])?;
    while let Some(row) = rows.next()? {
        let generation_row: i64 = row.get(0)?;
        let stored = Stored {
            digest: row.get(1)?,
            length: row.get(2)?,
            chunks: row.get(3)?,
        };
        let (bytes, wrong) = check_body(connection, CHUNKS, generation_row, &stored)?;
        seen.bodies += 1;
        seen.bytes += bytes;
        seen.problems
            .extend(wrong.into_iter().map(|what| Problem::Body { generation_row, what }));
    }
    let wrong = check_pointers(connection)?;
    seen.problems.extend(
        wrong
            .into_iter()
            .map(|(source_row, what)| Problem::Pointer { source_row, what }),
    );
    Ok(())
}

struct Stored {
    digest: Vec<u8>,
    length: i64,
    chunks: i64,
}

const CHUNKS: &str = "SELECT number, bytes FROM chunks WHERE generation_id = ?1 ORDER BY number";
const OBJECT_CHUNKS: &str = "SELECT number, bytes FROM object_chunks WHERE object_id = ?1 ORDER BY number";

/// Each object is what was stored, and a sealed body is named by its digest.
fn check_objects(connection: &Connection, seen: &mut Verification) -> Result<(), StoreError> {
    let mut select = connection.prepare(
        "SELECT o.id, o.sha256, o.length, o.chunks, o.path, t.tenant FROM objects o JOIN tenants t \
         ON t.id = o.tenant_id ORDER BY o.id",
    )?;
    let mut rows = select.query(params![])?;
    while let Some(row) = rows.next()? {
        let (object, path): (i64, String) = (row.get(0)?, row.get(4)?);
        let stored = Stored {
            digest: row.get(1)?,
            length: row.get(2)?,
            chunks: row.get(3)?,
        };
        let (bytes, mut wrong) = check_body(connection, OBJECT_CHUNKS, object, &stored)?;
        seen.bodies += 1;
        seen.bytes += bytes;
        let digest = <[u8; 32]>::try_from(stored.digest.as_slice()).ok();
        let digest = digest.map(|digest| Digest::from_bytes(digest).to_string());
        if let Some(name) = path.strip_prefix("blob/")
            && digest.as_deref() != Some(name)
        {
            wrong.push("its name is not its SHA-256".into());
        }
        let path = format!("{}/{path}", row.get::<String>(5)?);
        seen.problems.extend(wrong.into_iter().map(|what| Problem::Object {
            path: path.clone(),
            what,
        }));
    }
    Ok(())
}

fn check_body(
    connection: &Connection,
    chunks: &str,
    row: i64,
    stored: &Stored,
) -> Result<(u64, Vec<String>), StoreError> {
    let mut select = connection.prepare(chunks)?;
    let mut rows = select.query(params![row])?;
    let mut digest = Context::new(&SHA256);
    let (mut length, mut chunks, mut wrong) = (0u64, 0i64, Vec::new());
    while let Some(row) = rows.next()? {
        let bytes = row.bytes(1)?;
        if row.get::<i64>(0)? != chunks {
            wrong.push(format!("chunk {chunks} is missing"));
            break;
        }
        let last = chunks + 1 == stored.chunks;
        if bytes.is_empty() || bytes.len() > CHUNK_MAX || (!last && bytes.len() != CHUNK_MAX) {
            wrong.push(format!("chunk {chunks} has {} bytes", bytes.len()));
        }
        digest.update(bytes);
        length += bytes.len() as u64;
        chunks += 1;
    }
    if chunks != stored.chunks || super::types::signed(length) != stored.length {
        wrong.push(format!(
            "{chunks} chunks of {} and {length} bytes of {}",
            stored.chunks, stored.length
        ));
    }
    if wrong.is_empty() && digest.finish().as_ref() != stored.digest.as_slice() {
        wrong.push("its SHA-256 is another".into());
    }
    Ok((length, wrong))
}

/// Every source points at its own newest generation, which nothing has superseded, and every other
/// generation says when it was superseded.
fn check_pointers(connection: &Connection) -> Result<BTreeMap<i64, String>, StoreError> {
    let queries = [
        (
            "its current generation belongs to another source, is not its newest, or is marked superseded",
            "SELECT s.id FROM sources s JOIN generations g ON g.id = s.current \
             WHERE g.source_id <> s.id OR g.generation <> s.last OR g.superseded_at IS NOT NULL",
        ),
        (
            "it has a generation that is neither current nor superseded, or a number above its last",
            "SELECT g.source_id FROM generations g JOIN sources s ON s.id = g.source_id \
             WHERE (g.superseded_at IS NULL AND s.current IS DISTINCT FROM g.id) OR g.generation > s.last",
        ),
    ];
    let mut wrong = BTreeMap::new();
    for (what, sql) in queries {
        let mut select = connection.prepare(sql)?;
        let sources: Vec<i64> = select.query_all(params![], |row| row.get(0))?;
        wrong.extend(sources.into_iter().map(|source| (source, what.to_owned())));
    }
    Ok(wrong)
}
