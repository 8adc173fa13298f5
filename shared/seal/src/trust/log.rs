//! The log: what changed since a manifest's body, at a cost that follows the change.
//!
//! A body is a **base**. Beside it stands a log of **records**, one for each time that the source was published since;
//! each is sealed by itself ([`LogKey`]) and never changes. The head signs how many there are and their running hash
//! ([`Chain`]). A record holds [`Changes`]: operations on the records of the snapshot, and the content root after them.
//!
//! What always holds: nothing of a log is believed before the signed hash was reached over all of it ([`Follower`]); a
//! record opens only as what it was sealed as, in its place under its number; its changes have one spelling.

mod chain;
mod changes;
mod codec;
mod diff;
mod hunks;
mod sealed;
mod tile;

pub use chain::{Chain, Follower};
pub use changes::{ApplyError, Change, Changes, Hunk, Records};
pub use codec::ChangesError;
pub use diff::{After, Before, DiffError, Resolution, diff};
pub use sealed::{LogKey, Place, RecordError};
pub use tile::{LogFile, TileError, split, tile};

/// The longest sealed record in bytes. What changes more is worth a new base.
pub const LONGEST_RECORD: usize = 4 << 20;
/// The most bytes that all records of a log have together.
pub const LONGEST_LOG: u64 = 64 << 20;
/// The most records of a log.
pub const MOST_RECORDS: u64 = 1 << 24;
/// How many records a tile holds.
pub const TILE: u64 = 256;
/// The longest tile in bytes: in front of each record stands its length.
pub const LONGEST_TILE: usize = (64 << 20) + 256 * 4;
