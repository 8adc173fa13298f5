//! Plays many hosts in one process against real backends, and measures: how soon a change is known to each and applied,
//! what a connected host costs the backend, how hosts come back after an outage.
//!
//! A host here is the agent's own client, listener and rhythm (`dirless-client`) without the files: what it fetches is
//! hashed and compared with what was put. Beside it stand hosts that only listen on a bare connection ([`raw`]), for
//! comparisons with other servers and for readers that do not read.
//!
//! It is a tool for tests and figures and no part of any package. What always holds: a change counts as applied by the
//! hash of its bytes alone, and a host that was not reached makes the run fail.

#![forbid(unsafe_code)]

pub mod act;
mod backend;
mod board;
mod cable;
mod chart;
mod cluster;
pub mod command;
mod fleet;
mod host;
mod listen;
mod peer;
mod process;
pub mod raw;
pub mod report;
mod site;
mod trouble;
mod writers;
