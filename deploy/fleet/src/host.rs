//! One host: cycles at its rhythm and when a notice is news, as the agent has them.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use dirless_client::{Client, Cycle, Error, Fetched, Looks, Notices, Rhythm, SnapshotSink, TenantState};
use dirless_wire::{AppliedSource, ETag, Heartbeat, HostReport, Notice, SourceName};
use rand::Rng;
use ring::digest::{Context, SHA256};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::board::{Board, Digest};

/// Longest body that a host takes.
const LIMIT: u64 = 64 * 1024 * 1024;

/// SHA-256 of a body in memory.
pub(crate) fn digest_of(body: &[u8]) -> Digest {
    let mut hash = Context::new(&SHA256);
    hash.update(body);
    finish(hash)
}

fn finish(hash: Context) -> Digest {
    let mut digest = Digest::default();
    digest.copy_from_slice(hash.finish().as_ref());
    digest
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

/// An order to the hosts with a lower number: close the stream and open another at once. It counts up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reconnect {
    pub(crate) order: u64,
    pub(crate) hosts: usize,
}

/// A host.
#[derive(Debug)]
pub(crate) struct Host {
    /// Its place on the board.
    pub(crate) number: usize,
    /// Where it belongs.
    pub(crate) site: usize,
    /// Its way to the backends.
    pub(crate) client: Client,
    /// What it fetches.
    pub(crate) source: SourceName,
    /// How often it looks without being told.
    pub(crate) rhythm: Rhythm,
    /// Where it notes what happens.
    pub(crate) board: Arc<Board>,
}

/// What a host knows while it lives.
struct Living {
    host: Host,
    tenant: TenantState,
    looks: Looks,
    etag: Option<ETag>,
    generation: u64,
    failures: u32,
}

impl Host {
    /// Lives until nobody gives orders any more; the first cycle after `wait`.
    pub(crate) async fn live(self, wait: Duration, mut orders: watch::Receiver<Reconnect>) {
        tokio::time::sleep(wait).await;
        let (number, client, splay) = (self.number, self.client.clone(), self.rhythm.splay);
        let mut living = Living {
            host: self,
            tenant: TenantState::default(),
            looks: Looks::default(),
            etag: None,
            generation: 0,
            failures: 0,
        };
        let mut next = living.cycle().await;
        let mut notices = Notices::start(client.clone(), splay);
        let mut last: Option<Notice> = None;
        loop {
            tokio::select! {
                biased;
                order = orders.changed() => {
                    if order.is_err() {
                        return;
                    }
                    if number < orders.borrow_and_update().hosts {
                        notices = Notices::start(client.clone(), splay);
                    }
                }
                notice = notices.next() => {
                    living.host.board.note_notice(number, last.as_ref() != Some(&notice));
                    last = Some(notice.clone());
                    if living.tenant.is_news(&notice) {
                        living.tenant.called(&notice);
                        living.looks.begin(notice);
                        next = living.cycle().await;
                    }
                }
                () = tokio::time::sleep_until(next) => next = living.cycle().await,
            }
        }
    }
}

impl Living {
    /// One cycle; says when the next is due.
    async fn cycle(&mut self) -> Instant {
        self.host.board.begin_cycle();
        let outcome = self.ask().await;
        self.host.board.end_cycle(outcome.is_ok());
        self.failures = if outcome.is_ok() {
            0
        } else {
            self.failures.saturating_add(1)
        };
        let asked = match outcome {
            Err(Error::RateLimited { retry_after }) => retry_after,
            _ => None,
        };
        let wait = self.host.rhythm.next(self.failures, asked, rand::rng().random());
        let pause = self.looks.pause(|notice| self.tenant.is_ahead(notice));
        Instant::now() + pause.map_or(wait, |pause| pause.min(wait))
    }

    /// Asks in the order of the agent: what a notice told to have changed, and then the heartbeat; otherwise the heartbeat first where it tells the tenant's state, which may be all;
    /// otherwise the source, the access rules, the heartbeat that says what is served now, the CA key.
    async fn ask(&mut self) -> Result<(), Error> {
        let cycle = self.host.client.cycle();
        if let Some(changes) = self.tenant.changes() {
            self.tenant.unsettle();
            let source = self.host.source.clone();
            if changes.has(&source) {
                self.fetch(&cycle).await?;
                self.beat(&cycle).await?;
            }
            if !changes.has(&source) || changes.is_found(&source, self.etag.as_ref()) {
                self.tenant.settle_changes(&changes);
            }
            return Ok(());
        }
        let before = if self.tenant.is_told() {
            self.beat(&cycle).await?
        } else {
            None
        };
        if self.tenant.is_settled(before.as_ref()) {
            return Ok(());
        }
        self.tenant.unsettle();
        self.fetch(&cycle).await?;
        cycle.get_access_rules().await?;
        self.beat(&cycle).await?;
        cycle.get_ca_public_key().await?;
        self.tenant.settle(before.as_ref());
        Ok(())
    }

    async fn beat(&mut self, cycle: &Cycle) -> Result<Option<ETag>, Error> {
        let applied = AppliedSource {
            etag: self.etag.clone(),
            ..AppliedSource::default()
        };
        let report = HostReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            generation: self.generation,
            sources: BTreeMap::from([(self.host.source.clone(), applied)]),
            ..HostReport::default()
        };
        let answer = cycle
            .post_heartbeat(&Heartbeat {
                agent_id: format!("fleet-{}", self.host.number),
                hostname: format!("host-{}", self.host.number),
                report: Some(report),
            })
            .await;
        self.tenant.heard(answer.as_ref().ok().cloned().flatten());
        answer
    }

    async fn fetch(&mut self, cycle: &Cycle) -> Result<(), Error> {
        let mut sink = Hashing(Context::new(&SHA256));
        let fetched = cycle
            .get_snapshot(&self.host.source, self.etag.as_ref(), LIMIT, &mut sink)
            .await?;
        if let Fetched::Body(body) = fetched {
            self.etag = body.etag;
            self.generation += 1;
            let digest = finish(sink.0);
            self.host.board.note_body(self.host.number, self.host.site, &digest);
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
        assert_eq!(finish(sink.0), digest_of(b"whole"));
        assert_ne!(digest_of(b"whole"), digest_of(b"broken of"));
    }
}
