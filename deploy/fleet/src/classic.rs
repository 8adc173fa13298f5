//! A host of the classic protocol: what it fetches is hashed and compared with what was put.

use std::collections::BTreeMap;
use std::io;

use dirless_client::{Client, Cycle, Error, Fetched, Found, SnapshotSink, TenantState};
use dirless_wire::{AppliedSource, ETag, Heartbeat, HostReport, Notice, SourceName};
use ring::digest::{Context, SHA256};

use crate::event::{Desk, Mark, What, mark_of};
use crate::host::Failed;

/// Longest body that a host takes.
const LIMIT: u64 = 64 * 1024 * 1024;

/// The source that hosts read: none that agents are configured for.
pub(crate) fn source() -> SourceName {
    SourceName::new("fleet").expect("a lower-case word is a source name")
}

/// The mark of a body in memory.
pub(crate) fn mark_of_body(body: &[u8]) -> Mark {
    let mut hash = Context::new(&SHA256);
    hash.update(body);
    finish(hash)
}

fn finish(hash: Context) -> Mark {
    let mut digest = [0; 32];
    digest.copy_from_slice(hash.finish().as_ref());
    mark_of(&digest)
}

/// Hashes what it is given and keeps nothing.
struct Hashing(Context);

impl SnapshotSink for Hashing {
    async fn begin(&mut self) -> io::Result<()> {
        self.0 = Context::new(&SHA256);
        Ok(())
    }

    async fn append(&mut self, piece: &[u8]) -> io::Result<()> {
        self.0.update(piece);
        Ok(())
    }

    async fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What such a host knows.
#[derive(Debug)]
pub(crate) struct Classic {
    client: Client,
    tenant: TenantState,
    etag: Option<ETag>,
    generation: u64,
}

impl Classic {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            tenant: TenantState::default(),
            etag: None,
            generation: 0,
        }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn is_news(&self, notice: &Notice) -> bool {
        self.tenant.is_news(notice)
    }

    pub(crate) fn called(&mut self, notice: &Notice) {
        self.tenant.called(notice);
    }

    pub(crate) fn is_ahead(&self, notice: &Notice) -> bool {
        self.tenant.is_ahead(notice)
    }

    pub(crate) async fn cycle(&mut self, desk: &Desk) -> Result<(), Failed> {
        self.ask(desk).await.map_err(|error| match error {
            Error::RateLimited { retry_after } => Failed { retry_after },
            _ => Failed::default(),
        })
    }

    /// Asks in the order of the agent: what a notice told to have changed, and then the heartbeat; otherwise the heartbeat first where it tells the tenant's state, which may be all;
    /// otherwise the source, the access rules, the heartbeat that says what is served now, the CA key.
    async fn ask(&mut self, desk: &Desk) -> Result<(), Error> {
        let cycle = self.client.cycle();
        let source = source();
        if let Some(changes) = self.tenant.changes() {
            self.tenant.unsettle();
            if changes.has(&source) {
                self.fetch(&cycle, desk).await?;
                self.beat(&cycle, desk).await?;
            }
            if !changes.has(&source) || changes.is_found(&source, self.etag.as_ref()) {
                self.tenant.settle_changes(&changes);
            }
            return Ok(());
        }
        let before = if self.tenant.is_told() {
            self.beat(&cycle, desk).await?
        } else {
            None
        };
        if self.tenant.is_settled(before.as_ref()) {
            return Ok(());
        }
        self.tenant.unsettle();
        self.fetch(&cycle, desk).await?;
        let rules = cycle.get_access_rules().await?;
        self.beat(&cycle, desk).await?;
        cycle.get_ca_public_key().await?;
        if let Some(tag) = before {
            let found = Found {
                sources: [(source, self.etag.clone())].into(),
                rules: rules.and_then(|rules| rules.etag),
            };
            let parts = match self.tenant.parts(&tag) {
                Some(parts) => Some(parts),
                None => cycle.get_state(&tag).await?,
            };
            if let Some(parts) = parts {
                self.tenant.settle(&tag, parts, &found);
            }
        }
        Ok(())
    }

    async fn beat(&mut self, cycle: &Cycle, desk: &Desk) -> Result<Option<ETag>, Error> {
        let applied = AppliedSource {
            etag: self.etag.clone(),
            ..AppliedSource::default()
        };
        let report = HostReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            generation: self.generation,
            sources: BTreeMap::from([(source(), applied)]),
            ..HostReport::default()
        };
        let answer = cycle
            .post_heartbeat(&Heartbeat {
                agent_id: format!("fleet-{}", desk.host),
                hostname: format!("host-{}", desk.host),
                report: Some(report),
            })
            .await;
        self.tenant.heard(answer.as_ref().ok().cloned().flatten());
        answer
    }

    async fn fetch(&mut self, cycle: &Cycle, desk: &Desk) -> Result<(), Error> {
        let mut sink = Hashing(Context::new(&SHA256));
        let fetched = cycle
            .get_snapshot(&source(), self.etag.as_ref(), LIMIT, &mut sink)
            .await?;
        if let Fetched::Body(body) = fetched {
            self.etag = body.etag;
            self.generation += 1;
            desk.say(What::Has(finish(sink.0)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_that_begins_again_has_the_hash_of_the_last() {
        let mut sink = Hashing(Context::new(&SHA256));
        for body in [&b"broken of"[..], b"whole"] {
            sink.begin().await.unwrap();
            for piece in body.chunks(3) {
                sink.append(piece).await.unwrap();
            }
        }
        assert_eq!(finish(sink.0), mark_of_body(b"whole"));
        assert_ne!(mark_of_body(b"whole"), mark_of_body(b"broken of"));
    }
}
