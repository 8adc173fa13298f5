//! Sources against the real servers that they read.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod directory;
mod hostile;
mod samba;
mod slapd;
