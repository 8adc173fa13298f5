//! Plays many hosts in one process against real backends, and measures: how soon a change is known to each and applied,
//! what a connected host costs the backend, how hosts come back after an outage.
//!
//! A host here is the agent's own client, listener and rhythm (`dirless-client`) without the files. One of the classic
//! protocol (`classic`) hashes what it fetches and compares that with what was put; one of the verified protocol
//! (`verified`) makes the agent's checks (`dirless_seal::trust`) with a memory that is in memory. Beside them stand hosts that only
//! listen on a bare connection ([`raw`]), for comparisons with other servers and for readers that do not read.
//!
//! It is a tool for tests and figures and no part of any package. What always holds: a change counts as applied by a
//! hash of its bytes or records alone, and a host that was not reached makes the run fail.

#![forbid(unsafe_code)]

pub mod act;
mod backend;
mod board;
mod cable;
mod chart;
mod child;
mod classic;
mod cluster;
pub mod command;
mod cost;
mod crew;
mod event;
mod fleet;
mod host;
mod listen;
mod means;
mod peer;
mod people;
mod process;
pub mod raw;
mod reach;
pub mod report;
mod site;
mod trouble;
mod verified;
mod writers;
