//! Overlays: what changed since a table was written, in a small file beside it, so that a change costs
//! what it says and not the table.
//!
//! # The files
//!
//! An overlay holds every user and group that differs from the table, whole, and says which names and
//! numbers of the table are gone; a user's record holds the gids of all her groups, as in the table. A
//! lookup asks the overlay first and then the table ([`Table`](crate::Table) does, for everybody who opens
//! one). An overlay says all that changed since its table; the next one takes its place. It is
//! `TABLE.overlay.NUMBER`, the number in eight hexadecimal digits, and names its table by identity. Its
//! bytes are laid out in `overlay/format.rs`.
//!
//! # What is published when
//!
//! The word at 196 of the table's header is the number of its overlay, 0 for none. That word decides: a
//! state is the table and the overlay of exactly that number, and nothing else. [`publish`], under the lock
//! of the folder,
//!
//! 1. writes overlay N + 1 aside, syncs it, renames it to its name, syncs the folder;
//! 2. stores N + 1 in the header, with one store to the shared page; syncs the table;
//! 3. removes overlay N.
//!
//! A new table ([`publish`](crate::publish())) has no overlay: it is renamed over the old one, which was
//! marked as superseded just before, and then the old one's overlays are removed.
//!
//! # Why no reader sees a mixture
//!
//! A reader opens the table, reads the word, and opens the overlay of that number. The overlay's header has
//! its own number and the identity of its table, and its checksum is compared before it is used: whatever is
//! found under that name, another table's overlay too, is not taken for it. Both files are mapped and never
//! written again, but for the header's two words, which are no part of the answer. So all answers of one
//! opened table are of one state.
//!
//! If the overlay cannot be opened, the word is read again. When it, or the superseded word beside it, says
//! something new, a publisher was at step 3, and the reader begins again with the table's path. When nothing
//! is new, the overlay is lost or damaged, and the table is refused.
//!
//! Both words are one load, compared with what it said at opening; so a lookup learns of a new overlay or
//! table without a system call, and of both in the same way.
//!
//! # When the publisher or the machine stops
//!
//! - In step 1: the word still says N, and overlay N is there. A file N + 1 that nobody asks for stays, until
//!   the next publisher replaces or removes it.
//! - Between store and sync in step 2: running processes see N + 1. After a loss of power the header may say
//!   N or N + 1; the files of both are there, since step 1 was synced before and step 3 comes after.
//! - In step 3: the word says N + 1. Overlay N stays until the next publisher removes it.
//! - While a new table is published: before the rename the old table, its word and its overlay are there.
//!   After it the new table's word says 0, and what is left of the old one's overlays is not asked for.
//!
//! # When an overlay is lost or damaged
//!
//! The table is then refused, as a damaged table is: a process that has an older state keeps it, all others
//! get "unavailable". The table alone would be wrong where it matters, for it has the users whom the overlay
//! removed. Whoever publishes next writes a whole table.

mod draft;
mod format;
mod publish;
mod reader;
mod settle;
mod write;

pub use draft::Draft;
pub use publish::{Published, limit, publish};
pub use write::{Stats, repair};

pub(crate) use publish::remove_all;
pub(crate) use reader::Overlay;

/// The most bytes that an overlay may have: readers look through the whole file when they open it.
pub const MOST_BYTES: u64 = 16 << 20;
