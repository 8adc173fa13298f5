//! Typed HTTPS client for the backend, used by agents, syncers and host commands.
//!
//! It speaks the classic wire protocol (snapshots with entity tags, enrolment, keys, access rules,
//! heartbeats, notices) and the verified one (objects, join requests, receipts, by signed requests). It keeps nothing on disk;
//! sealed bodies and signed notes are opaque bytes to it.
//!
//! What always holds:
//! - A [`Client`] may have many addresses; a [`Cycle`] talks to one of them and leaves it only when
//!   it fails, so that the answers of one cycle come from one backend.
//! - Redirects are not followed, proxies are not read from the environment, and the bearer goes to
//!   the configured URLs alone, marked as sensitive.
//! - Every body has a limit and every wait a deadline.
//! - A call is repeated only when repeating it cannot lose anything: never a conditional write that
//!   may have arrived.
//! - What listens for notices, and what a host makes of them ([`Notices`], [`TenantState`], [`Rhythm`]), is the same for the
//!   agent and for whoever plays many of them.
//! - An [`Error`] has one variant for each thing a caller does differently, and says what to do.
#![forbid(unsafe_code)]

mod backends;
mod backoff;
mod base_url;
mod builder;
mod calls;
mod cycle;
mod error;
mod files;
mod key;
mod news;
mod notices;
mod objects;
mod refusal;
mod reply;
mod resolve;
mod rhythm;
mod snapshot;
mod tenant;
mod transport;
mod unread;
mod watch;

pub use backends::BackendState;
pub use backoff::{Backoff, RetryPolicy};
pub use base_url::{BaseUrl, BaseUrlError};
pub use builder::{BuildError, ClientBuilder, Timeouts};
pub use calls::{AccessRules, Expected, Written};
pub use cycle::{Client, Cycle, ProbeResult};
pub use error::{Attempt, Error};
pub use files::{BackendFiles, Files, FilesError, Standing, WebFiles};
pub use key::RequestKey;
pub use news::{Calls, Changes, Found, Looks, TenantState};
pub use notices::Notices;
pub use objects::Posted;
pub use resolve::{Resolve, Resolving, SystemResolver};
pub use rhythm::Rhythm;
pub use snapshot::{Fetched, FetchedBody, Previous, SnapshotHeaders, SnapshotSink};
pub use unread::Callers;
pub use watch::Watch;

/// Largest JSON answer that is read, in bytes; more is [`Error::BodyTooLarge`].
pub const MAX_JSON_BYTES: u64 = 1024 * 1024;
