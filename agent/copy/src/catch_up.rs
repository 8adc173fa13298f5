//! Bringing the spare file to where the current one is, by what changed since.

use dirless_directory::Schema;
use rusqlite::{Connection, params};

use crate::CopyError;
use crate::layout::{self, meta};
use crate::record::Place;
use crate::records::{Records, Source};
use crate::row::{Existing, Lies, NewRow, Rows};

/// Brings the spare file to where the current one is. False when it is too far behind or belongs to
/// another series.
pub(crate) fn catch_up(
    current: &Connection,
    records: &Records,
    spare: &Connection,
    schema: &Schema,
) -> Result<bool, CopyError> {
    // In another flat file everything has another place.
    let same = layout::format(spare)? == layout::FORMAT
        && layout::blob(spare, meta::RECORDS_MARK)? == records.mark()
        && layout::text(current, meta::SCHEMA)? == layout::text(spare, meta::SCHEMA)?
        && layout::text(current, meta::LINEAGE)? == layout::text(spare, meta::LINEAGE)?;
    if !same {
        return Ok(false);
    }
    let from = layout::number(spare, meta::NUMBER)?;
    let (to, oldest) = (
        layout::number(current, meta::NUMBER)?,
        layout::number(current, meta::OLDEST)?,
    );
    if from > to || from < oldest {
        return Ok(false);
    }
    spare.execute_batch("BEGIN")?;
    for (table, value) in [("attributes", "name"), ("class_sets", "classes")] {
        let mut insert = spare.prepare(&format!("INSERT OR IGNORE INTO {table}(id, {value}) VALUES(?1, ?2)"))?;
        let mut select = current.prepare(&format!("SELECT id, {value} FROM {table}"))?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            insert.execute(params![row.get::<_, i64>(0)?, row.get::<_, String>(1)?])?;
        }
    }
    let mut writer = Rows::new(schema.clone());
    let mut gone = current.prepare("SELECT uuid, key, dn, number, added, created FROM gone WHERE number > ?1")?;
    let mut rows = gone.query([from])?;
    while let Some(row) = rows.next()? {
        let uuid: Vec<u8> = row.get(0)?;
        if let Some(old) = Existing::by_uuid(spare, records, &uuid)? {
            writer.remove(spare, &old)?;
        }
        spare
            .prepare_cached(
                "INSERT OR REPLACE INTO gone(uuid, key, dn, number, added, created) VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![
                uuid,
                row.get::<_, Vec<u8>>(1)?,
                row.get::<_, String>(2)?,
                row.get::<_, i64>(3)?,
                row.get::<_, i64>(4)?,
                row.get::<_, Vec<u8>>(5)?
            ])?;
    }
    // An entry that went and came back has another number here than there. It leaves first, so that no
    // number is taken when it is written.
    let mut moved = current.prepare("SELECT uuid, id FROM entries WHERE changed > ?1")?;
    let mut rows = moved.query([from])?;
    while let Some(row) = rows.next()? {
        let (uuid, id): (Vec<u8>, i64) = (row.get(0)?, row.get(1)?);
        if let Some(old) = Existing::by_uuid(spare, records, &uuid)?
            && old.id != id
        {
            writer.remove(spare, &old)?;
        }
    }
    let mut changed = current.prepare(
        "SELECT id, key, digest, uuid, added, changed, dn, canonical, place, classes FROM entries
             WHERE changed > ?1 ORDER BY changed",
    )?;
    let mut rows = changed.query([from])?;
    while let Some(row) = rows.next()? {
        let uuid: Vec<u8> = row.get(3)?;
        let lies = Lies {
            id: row.get(0)?,
            classes: row.get(9)?,
            place: Place::of_number(row.get(8)?),
        };
        let whole = records.entry(lies.place, lies.id)?;
        let old = Existing::by_uuid(spare, records, &uuid)?;
        let new = NewRow {
            id: Some(lies.id),
            key: row.get_ref(1)?.as_bytes().map_err(rusqlite::Error::from)?,
            digest: row.get_ref(2)?.as_bytes().map_err(rusqlite::Error::from)?,
            uuid: &uuid,
            added: row.get(4)?,
            changed: row.get(5)?,
            canonical: row.get(7)?,
            dn: row.get_ref(6)?.as_str().map_err(rusqlite::Error::from)?,
            secret: &whole.secret,
            attributes: &whole.attributes,
        };
        writer.refer(spare, &lies, &new, old.as_ref())?;
        spare
            .prepare_cached("DELETE FROM gone WHERE uuid = ?1")?
            .execute([&uuid])?;
    }
    spare.execute("DELETE FROM gone WHERE number <= ?1", [oldest])?;
    layout::set(spare, meta::OLDEST, oldest)?;
    layout::set(spare, meta::NUMBER, to)?;
    spare.execute_batch("COMMIT")?;
    Ok(true)
}
