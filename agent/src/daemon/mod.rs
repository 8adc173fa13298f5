//! The daemon: fetches sealed bodies to files, has a short-lived worker open and publish them, and
//! reports. It parses nothing that a stranger sealed, so a bomb costs one worker and no lookup.
//!
//! What always holds: whatever a backend says or fails to say, the last good copy stays; a body that
//! is not sealed is never kept; an endpoint that fails lets nobody in; a cycle in which nothing
//! changed writes nothing and starts no worker.

mod authority;
mod changed;
pub mod control;
pub mod cycle;
mod engine;
mod fetch;
mod heartbeat;
mod inputs;
mod leavers;
mod patience;
mod prepare;
mod run;
mod sessions;
mod signed;
mod standing;
pub mod state;
mod worker;

pub(crate) use engine::client;
pub use engine::{CycleOptions, Engine, EngineError, Outcome};
pub use prepare::prepare;
pub use run::{RunOptions, run};
pub use worker::{Spawn, WorkerCommand};
