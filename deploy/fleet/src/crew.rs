//! The hosts of one process.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use dirless_client::Rhythm;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::event::{Desk, Notes};
use crate::host::{Host, Reconnect};
use crate::reach::{Reach, Way};

/// Which hosts, and how they live.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Crew {
    /// How many there are in all processes.
    pub(crate) hosts: usize,
    /// These are the ones with this number, and each that comes so many after it.
    pub(crate) first: usize,
    pub(crate) step: usize,
    /// They begin from now on, those of all processes spread over this time.
    pub(crate) connect: Duration,
    /// Time between two cycles.
    pub(crate) interval: Duration,
    /// Time over which they come back.
    pub(crate) splay: Duration,
    /// Where they belong, in turn.
    pub(crate) sites: Vec<Reach>,
}

impl Crew {
    /// How many they are.
    pub(crate) fn count(&self) -> usize {
        self.numbers().count()
    }

    fn numbers(&self) -> impl Iterator<Item = usize> + use<> {
        (self.first..self.hosts).step_by(self.step.max(1))
    }

    /// Starts them.
    pub(crate) async fn start(
        self,
        notes: &Arc<dyn Notes>,
        orders: &watch::Sender<Reconnect>,
    ) -> anyhow::Result<JoinSet<()>> {
        let began = notes.now();
        let numbers = self.numbers();
        let sites: Vec<Way> = self.sites.into_iter().map(Reach::open).collect::<Result<_, _>>()?;
        let mut hosts = JoinSet::new();
        for host in numbers {
            let site = sites.get(host % sites.len().max(1)).context("hosts without a site")?;
            let living = Host {
                speaks: site.host(host, host / sites.len().max(1))?,
                rhythm: Rhythm {
                    interval: self.interval,
                    jitter: self.interval / 10,
                    splay: self.splay,
                },
                desk: Desk {
                    host,
                    notes: Arc::clone(notes),
                },
            };
            // Making them all takes a while too.
            let due = began + self.connect.mul_f64(host as f64 / self.hosts as f64);
            let wait = due.saturating_sub(notes.now());
            hosts.spawn(living.live(wait, orders.subscribe()));
            if hosts.len().is_multiple_of(100) {
                tokio::task::yield_now().await;
            }
        }
        Ok(hosts)
    }
}
