//! What can be made to happen now rather than at its next time.

use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a sync is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Trigger {
    /// Identity files, cards, addresses and registrations of agents.
    Agents,
    /// The registry of services.
    Services,
    /// The tenants and their data.
    Tenants,
    /// Certificate bindings of services.
    Certificates,
    /// Mail settings and distribution lists.
    Smtp,
    /// All identity sources, to the published snapshots.
    Sources,
    /// Everything.
    All,
}

impl Trigger {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Agents,
        Self::Services,
        Self::Tenants,
        Self::Certificates,
        Self::Smtp,
        Self::Sources,
        Self::All,
    ];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agents => "agents",
            Self::Services => "services",
            Self::Tenants => "tenants",
            Self::Certificates => "certificates",
            Self::Smtp => "smtp",
            Self::Sources => "sources",
            Self::All => "all",
        }
    }

    /// The one of that word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|trigger| trigger.as_str() == text)
    }
}

/// How one part of a sync went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Something changed, and is published or in the tree.
    Changed,
    /// Nothing changed.
    Unchanged,
    /// The change waits for a person.
    Held,
    /// It did not work; what was there before stays.
    Failed,
}

/// One part of a sync.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Part {
    /// The source or engine.
    pub name: String,
    /// How it went.
    pub outcome: Outcome,
    /// What changed, or why it did not work.
    pub detail: String,
}

/// The name of an engine's part.
#[must_use]
pub fn engine_part(engine: &str) -> String {
    format!("engine {engine}")
}

/// What came of a sync.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct SyncReply {
    /// What was asked for.
    pub what: Trigger,
    /// What came of each part.
    pub parts: Vec<Part>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

impl SyncReply {
    /// A reply.
    #[must_use]
    pub fn new(what: Trigger, parts: Vec<Part>, took: Duration) -> Self {
        Self {
            what,
            parts,
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// Why a sync did not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TriggerError {
    /// The configuration has nothing to sync there.
    #[error("nothing is configured for {}", .0.as_str())]
    NotConfigured(Trigger),
    /// The program is stopping.
    #[error("the syncer is stopping")]
    Stopping,
}

/// Makes things happen. A sync that is under way is not joined: it may have read before the change
/// that somebody wants to see; theirs follows it.
pub trait Triggers: Send + Sync {
    /// Runs it to its end.
    fn run(&self, what: Trigger) -> BoxFuture<'_, Result<SyncReply, TriggerError>>;
}
