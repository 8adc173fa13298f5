//! Comparing servers: bare listeners at each in turn, and messages to all of them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::task::JoinSet;

use crate::board::Board;
use crate::event::{Desk, Notes as _};
use crate::peer::{Kind, Peer};
use crate::report::Played;

/// Connections that are made at a time.
const AT_ONCE: usize = 128;
/// How long all listeners may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is compared.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Compare {
    /// How many listen.
    #[arg(long, default_value_t = 1000)]
    pub(crate) hosts: usize,
    /// How often each server tells them.
    #[arg(long, default_value_t = 20)]
    pub(crate) changes: u32,
    /// Milliseconds of rest before each.
    #[arg(long, default_value_t = 500)]
    pub(crate) pause: u64,
    /// The servers, in turns; what is not installed is left out.
    #[arg(value_enum, default_values = ["dirless", "nginx", "redis", "nats"], value_name = "SERVER")]
    pub(crate) servers: Vec<Kind>,
}

impl Compare {
    /// Plays one server. `None` when it is not installed.
    pub(crate) async fn play(&self, kind: Kind) -> anyhow::Result<Option<Played>> {
        let name = format!("listen at {}", format!("{kind:?}").to_lowercase());
        let Some(mut peer) = Peer::start(kind, self.hosts).await? else {
            return Ok(None);
        };
        let board = Arc::new(Board::new(self.hosts, 1));
        let began = board.now();
        let mut played = Played {
            act: name.clone(),
            ..Played::default()
        };
        // Once without listeners, so that what the first message costs is not theirs.
        peer.publish(&board).await?;
        let empty = peer.usage()?;
        let connecting = board.now();
        let mut listeners = self.connect(&peer, &board).await.with_context(|| name.clone())?;
        let connecting = (board.now() - connecting).as_secs_f64();
        played.figure(
            "streams_opened_per_second",
            self.hosts as f64 / connecting.max(f64::EPSILON),
        );
        let opening = peer.usage()?.processor.saturating_sub(empty.processor);
        played.figure(
            "processor_us_per_stream_opened",
            opening.as_secs_f64() * 1e6 / self.hosts.max(1) as f64,
        );
        let (mut sent, mut acknowledged, mut processor) = (Vec::new(), Vec::new(), Duration::ZERO);
        for _ in 0..self.changes {
            tokio::time::sleep(Duration::from_millis(self.pause)).await;
            board.wipe(&board.told);
            let before = peer.usage()?;
            let from = board.now();
            peer.publish(&board).await?;
            let to = board.now();
            board
                .all(&board.told, &(0..self.hosts), PATIENCE, "were told")
                .await
                .with_context(|| name.clone())?;
            processor += peer.usage()?.processor.saturating_sub(before.processor);
            sent.extend(board.told.times().flatten().map(|time| time.saturating_sub(from)));
            acknowledged.extend(board.told.times().flatten().map(|time| time.saturating_sub(to)));
        }
        let usage = peer.usage()?;
        let hosts = self.hosts.max(1) as f64;
        played.figure("own_memory_mb", usage.own_memory as f64 / 1e6);
        let grown = usage.own_memory.saturating_sub(empty.own_memory);
        played.figure("bytes_per_host", grown as f64 / hosts);
        let each = processor.as_secs_f64() * 1e6 / hosts / f64::from(self.changes.max(1));
        played.figure("processor_us_per_host_and_message", each);
        played.times("notice_since_sent", sent);
        played.times("notice_since_acknowledged", acknowledged);
        played.seconds = (board.now() - began).as_secs_f64();
        listeners.abort_all();
        while listeners.join_next().await.is_some() {}
        Ok(Some(played))
    }

    async fn connect(&self, peer: &Peer, board: &Arc<Board>) -> anyhow::Result<JoinSet<()>> {
        let listening = peer.listening()?;
        let mut listeners = JoinSet::new();
        let mut opening = JoinSet::new();
        let mut next = 0;
        while next < self.hosts || !opening.is_empty() {
            while next < self.hosts && opening.len() < AT_ONCE {
                let (listening, address, number) = (listening.clone(), peer.address(next)?, next);
                opening.spawn(async move { (number, listening.open(address).await) });
                next += 1;
            }
            if let Some(opened) = opening.join_next().await {
                let (number, stream) = opened?;
                let stream = stream.with_context(|| format!("listener {number}"))?;
                let notes = Arc::<Board>::clone(board);
                listeners.spawn(listening.clone().listen(stream, Desk { host: number, notes }));
            }
        }
        Ok(listeners)
    }
}
