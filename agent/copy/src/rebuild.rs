//! A generation under another schema: the same entries, with keys, classes and indexes as it asks for.

use std::path::Path;

use dirless_directory::encoded::{Attributes, encode};
use dirless_directory::{AttributeName, Dn, Schema, Value};
use rusqlite::{Connection, params};

use crate::CopyError;
use crate::appender::Appender;
use crate::layout::{self, meta};
use crate::record::Place;
use crate::records::{Records, Source};
use crate::row::{Existing, NewRow, Rows};

/// Makes in the empty file `next` what `before` holds, under the schema of `rows`. Entries keep their
/// identities, stamps and digests: what is put later is held against those. An entry whose name makes no
/// sense any more, or is another one's now, is gone. Returns the new state number, and how many are gone: they are counted
/// among the entries still.
pub(crate) fn rebuild(
    (before, records): (&Connection, &Records),
    (next, appender): (&Connection, &mut Appender),
    rows: &mut Rows,
    draft: &Path,
    schema: &Schema,
) -> Result<(i64, u64), CopyError> {
    rows.sort_terms(draft)?;
    // Readers of the state before must not take the two for one.
    let number = layout::number(before, meta::NUMBER)? + 1;
    let mut select = before
        .prepare("SELECT key, digest, uuid, added, changed, canonical, dn, place, id FROM entries ORDER BY key")?;
    let mut held = select.query([])?;
    let mut lost = Vec::new();
    while let Some(row) = held.next()? {
        let blob = |at| row.get_ref(at)?.as_blob().map_err(rusqlite::Error::from);
        let dn = row.get_ref(6)?.as_str().map_err(rusqlite::Error::from)?;
        let Some((key, name)) = Dn::parse(dn).ok().and_then(|name| Some((schema.dn_key(&name)?, name))) else {
            lost.push(blob(2)?.to_vec());
            continue;
        };
        let held = records.entry(Place::of_number(row.get(7)?), row.get(8)?)?;
        let mut entry = Attributes::new(&held.attributes)?.entry(name)?;
        if !held.secret.is_empty() {
            for one in Attributes::new(&held.secret)?.iter() {
                let values = one.values.map(|value| Value::from(value.to_vec())).collect();
                // What `entry` took was parsed the same way.
                entry.set(AttributeName::parse(one.name).map_err(|_| records.damaged(0))?, values);
            }
        }
        let whole = encode(schema, &entry);
        let given = Attributes::new(&whole)?;
        let parted = rows.part(given);
        let (attributes, secret) = match &parted {
            Some((shown, secret)) => (shown.as_slice(), secret.as_slice()),
            None => (whole.as_slice(), &[][..]),
        };
        let new = NewRow {
            id: None,
            key: key.as_bytes(),
            digest: blob(1)?,
            uuid: blob(2)?,
            added: row.get(3)?,
            changed: row.get(4)?,
            canonical: row.get(5)?,
            dn,
            secret,
            attributes,
        };
        rows.write(next, appender, &new, None)?;
    }
    rows.insert_sorted(next)?;
    next.execute_batch(layout::INDEXES)?;
    let others = doubles(next)?;
    copy_gone(before, next)?;
    for uuid in &others {
        if let Some(double) = Existing::by_uuid(next, appender, uuid)? {
            rows.remove(next, &double)?;
            appender.forget(double.size);
        }
    }
    for uuid in lost.iter().chain(&others) {
        if let Some(old) = Existing::by_uuid(before, records, uuid)? {
            old.bury(next, number)?;
        }
    }
    layout::set(next, meta::OLDEST, layout::number(before, meta::OLDEST)?)?;
    layout::set(next, meta::ENTRIES, layout::number(before, meta::ENTRIES)?)?;
    Ok((number, (lost.len() + others.len()) as u64))
}

/// The identities of entries that have the name of another one, which stays.
fn doubles(next: &Connection) -> Result<Vec<Vec<u8>>, CopyError> {
    let mut select = next.prepare(
        "SELECT uuid FROM entries AS one WHERE EXISTS (SELECT 1 FROM entries WHERE key = one.key AND id < one.id)",
    )?;
    let uuids = select.query_map([], |row| row.get(0))?;
    Ok(uuids.collect::<Result<_, _>>()?)
}

fn copy_gone(before: &Connection, next: &Connection) -> Result<(), CopyError> {
    let mut insert =
        next.prepare("INSERT INTO gone(uuid, key, dn, number, added, created) VALUES(?1, ?2, ?3, ?4, ?5, ?6)")?;
    let mut select = before.prepare("SELECT uuid, key, dn, number, added, created FROM gone")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        insert.execute(params![
            row.get::<_, Vec<u8>>(0)?,
            row.get::<_, Vec<u8>>(1)?,
            row.get::<_, String>(2)?,
            row.get::<_, i64>(3)?,
            row.get::<_, i64>(4)?,
            row.get::<_, Vec<u8>>(5)?
        ])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
