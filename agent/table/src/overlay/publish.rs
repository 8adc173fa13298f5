//! Putting an overlay in place; the order of the steps is explained in `overlay`.

use super::MOST_BYTES;
use super::draft::Draft;
use super::format::{number_in, suffix};
use super::settle::TOO_MANY;
use super::write::{Stats, write};
use crate::draft::create;
use crate::error::WriteError;
use crate::format::{FLAG_ENUMERATE, HEADER_LEN, Header};
use crate::map::{O_NOFOLLOW, store_overlay};
use crate::publish::Place;
use crate::reader::Table;
use crate::writer::TableMeta;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// The least bytes that a name that differs takes in an overlay.
const LEAST_OF_A_NAME: u64 = 32;

/// A table of so many bytes is written before its overlays cost anything to speak of.
const SMALL_TABLE: u64 = 1 << 20;

/// What came of publishing an overlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Published {
    /// The table and its overlay said so already; nothing was written.
    Unchanged,
    /// The overlay is in place.
    Overlay(Stats),
}

/// The most bytes that an overlay of a table of `bytes` bytes is worth: an eighth of it, from 64 KiB to
/// 1 MiB. Beyond it readers spend more on the overlay than a new table costs.
pub fn limit(bytes: u64) -> u64 {
    (bytes / 8).clamp(64 << 10, 1 << 20)
}

/// Lets `fill` change what the table at `path` and its overlay say, and puts the new overlay in place, with
/// mode 0644 and the generation and time of `meta`. Publishers exclude each other by a lock on the folder.
/// On any error the old state stays.
///
/// # Errors
/// What `fill` returns; [`WriteError::WholeTable`] when the change needs a new table: there is none in place
/// that `owner`'s readers take, it is damaged or marked as superseded, `meta` has another `enumerate`, the
/// overlay would have more than `most` bytes, or the table's overlays have come to cost what a table costs; [`WriteError::DuplicateId`] when two users or groups would have
/// one number; and why the file could not be written and put in place.
pub fn publish<E: From<WriteError>>(
    path: &Path,
    owner: u32,
    meta: TableMeta,
    most: u64,
    fill: impl FnOnce(&mut Draft<'_>) -> Result<(), E>,
) -> Result<Published, E> {
    let whole = |why| WriteError::WholeTable { why };
    let place = Place::new(path)?;
    let table = Table::open(path, owner).map_err(|_| whole("it is not there or can not be used"))?;
    if table.marked() {
        return Err(whole("it is marked as superseded").into());
    }
    if meta.enumerate != (table.base.header.flags & FLAG_ENUMERATE != 0) {
        return Err(whole("it is to be listed otherwise").into());
    }
    let number = table.overlay.as_ref().map_or(0, |overlay| overlay.header().number);
    let number = number.checked_add(1).ok_or(whole("it has had 2^32 overlays"))?;
    let mut draft = Draft::of(&table).map_err(WriteError::from)?;
    fill(&mut draft)?;
    let most = most.min(MOST_BYTES);
    let settled = draft.settle((most / LEAST_OF_A_NAME) as usize)?;
    if settled.is_empty() && table.overlay.is_none() {
        return Ok(Published::Unchanged);
    }
    let bytes = write(&settled, table.base.identity, number, &meta)?;
    let stats = Stats {
        bytes: bytes.len() as u64,
        number,
        names: settled.names.len(),
        groups: settled.groups.len(),
    };
    if table.overlay.as_ref().map(|overlay| overlay.body().0) == bytes.get(HEADER_LEN..) {
        return Ok(Published::Unchanged);
    }
    if stats.bytes > most {
        return Err(whole(TOO_MANY).into());
    }
    // Each overlay repeats those before: 4 us per user in it, 1 us per user in a table (docs/benchmarks.md).
    // Overlays grow, so that all of them together had half of what the last one has times their number. A
    // table now and then keeps what a change costs on average at its least.
    if stats.bytes.saturating_mul(number.into()) > table.base.header.file_len.max(SMALL_TABLE) {
        return Err(whole("its overlays have cost as much as another one").into());
    }
    put(place, &table, number, &bytes)?;
    Ok(Published::Overlay(stats))
}

/// Steps 1 to 3.
fn put(mut place: Place<'_>, table: &Table, number: u32, bytes: &[u8]) -> Result<(), WriteError> {
    let base = open_to_write(&place, table)?;
    let mut file = create(&place.aside).map_err(WriteError::io("creating the new overlay"))?;
    file.write_all(bytes).map_err(WriteError::io("writing the overlay"))?;
    let mut name = place.path.as_os_str().to_os_string();
    name.push(std::ffi::OsStr::from_bytes(&suffix(number)));
    place.rename(&file, Path::new(&name))?;
    store_overlay(&base, number).map_err(WriteError::io("telling of the new overlay"))?;
    base.sync_data().map_err(WriteError::io("syncing the table"))?;
    remove_others(place.path, Some(number));
    Ok(())
}

/// The table in place, to write to its header. Nobody else replaces it meanwhile, unless by hand.
fn open_to_write(place: &Place<'_>, table: &Table) -> Result<File, WriteError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(O_NOFOLLOW);
    let file = options.open(place.path).map_err(WriteError::io("opening the table"))?;
    let mut header = [0; HEADER_LEN];
    file.read_exact_at(&mut header, 0)
        .map_err(WriteError::io("reading the table"))?;
    if Header::identity(&header) == table.base.identity {
        Ok(file)
    } else {
        Err(WriteError::WholeTable {
            why: "it was replaced by hand",
        })
    }
}

/// Removes all overlays of the table at `path`: of one that is no longer there.
pub(crate) fn remove_all(path: &Path) {
    remove_others(path, None);
}

/// Removes all overlays but the one of that number. What can not be removed is in nobody's way; the next
/// publisher tries again.
fn remove_others(path: &Path, number: Option<u32>) {
    let (Some(parent), Some(table)) = (path.parent(), path.file_name()) else {
        return;
    };
    let Ok(entries) = parent.read_dir() else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let of_table = name.as_bytes().strip_prefix(table.as_bytes()).and_then(number_in);
        if of_table.is_some_and(|found| Some(found) != number) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
