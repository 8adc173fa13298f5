//! The syncer as publisher and enroller, with hosts that believe what their memory lets them.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod at_backend;
mod backend;
mod breaking;
mod enrollers;
mod fresh;
mod handed_over;
mod join;
mod logs;
mod operator;
mod program;
mod publish;
mod receipts;
mod refuse;
mod renewal;
mod revoke;
mod sequences;
mod support;
mod watching;
