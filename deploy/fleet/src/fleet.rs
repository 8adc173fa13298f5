//! The hosts and their backends, and what is played with them.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::act::Act;
use crate::board::{Board, Line};
use crate::child::Child;
use crate::crew::Crew;
use crate::event::Notes;
use crate::host::Reconnect;
use crate::means::Means;
use crate::process::{MostOpen, Usage};
use crate::raw;
use crate::report::{Played, per_second};
use crate::site::{Elsewhere, Plan, Site};
use crate::writers::Writers;

/// How long anything may take that all hosts do. Far beyond what a busy machine needs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// What is played, and how.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Play {
    /// How many hosts.
    #[arg(long, default_value_t = 1000)]
    pub(crate) hosts: usize,
    /// How many processes play them; each has open files of its own.
    #[arg(long, default_value_t = 1)]
    pub(crate) processes: usize,
    /// How many backends, each with a store and a tenant of its own; hosts belong to them in turn.
    #[arg(long, default_value_t = 1)]
    pub(crate) backends: usize,
    /// All backends share one PostgreSQL with a synchronous standby, and serve one tenant to all hosts.
    #[arg(long, conflicts_with = "urls")]
    pub(crate) database: bool,
    /// Each of those backends has a network of its own, which cut=SECONDS takes away; needs root.
    #[arg(long, requires = "database")]
    pub(crate) networks: bool,
    /// Where folders of backends are made, such as a small file system for full-disk=SECONDS.
    #[arg(long, value_name = "FOLDER", conflicts_with = "database")]
    pub(crate) storage: Option<PathBuf>,
    /// Hosts speak the verified protocol, in a tenant that is founded for them: a change is one person in the log.
    #[arg(long, conflicts_with = "urls")]
    pub(crate) verified: bool,
    /// People of that tenant.
    #[arg(long, default_value_t = 1000, requires = "verified")]
    pub(crate) users: usize,
    /// Length of a body.
    #[arg(long, default_value_t = 2048)]
    pub(crate) bytes: usize,
    /// Seconds between two cycles of a host, a tenth more or less.
    #[arg(long, default_value_t = 60)]
    pub(crate) interval: u64,
    /// Seconds over which hosts come back, as an agent's splay.
    #[arg(long, default_value_t = 15)]
    pub(crate) splay: u64,
    /// Seconds of rest before each change. From 7 on hosts have closed the connections of their last cycle, as between
    /// the rare changes of life.
    #[arg(long, default_value_t = 7)]
    pub(crate) pause: u64,
    #[command(flatten)]
    pub(crate) elsewhere: Elsewhere,
    /// A program that breaks and mends what --url leads to, for strike=NAME. It is called with "strike NAME", "mend NAME",
    /// and "audit", which prints the audit log.
    #[arg(long, value_name = "PROGRAM", requires = "urls")]
    pub(crate) means: Option<Means>,
    /// What is played: connect=SECONDS, steady=SECONDS, churn=CHANGES, revoke=PEOPLE, slow=READERS, outage=SECONDS,
    /// restart, reconnect=HOSTS, write=WRITERS; kill-backend, kill-primary, kill-both, cut=SECONDS, full-disk=SECONDS,
    /// slow-disk=MILLISECONDS, strike=NAME.
    #[arg(required = true, value_name = "ACT")]
    pub(crate) acts: Vec<Act>,
}

/// Everything that runs.
pub(crate) struct Fleet {
    pub(crate) play: Play,
    pub(crate) sites: Vec<Site>,
    pub(crate) board: Arc<Board>,
    orders: watch::Sender<Reconnect>,
    /// Those of this process.
    hosts: JoinSet<()>,
    /// Those of others.
    children: Vec<Child>,
    slow: Vec<TcpStream>,
    pub(crate) writers: Option<Writers>,
    /// What each backend used before the first host came.
    empty: Usage,
}

impl Fleet {
    /// Starts the backends and publishes something. No host lives yet.
    pub(crate) async fn start(play: Play) -> anyhow::Result<Self> {
        let mut sites = Vec::new();
        let mut plan = Plan {
            hosts: play.hosts,
            own: play.hosts,
            users: play.verified.then_some(play.users),
            storage: play.storage.clone(),
        };
        if play.database {
            sites.push(Site::cluster(play.backends, plan, play.networks).await?);
        } else if play.elsewhere.urls.is_empty() {
            let backends = play.backends.max(1);
            plan.own = play.hosts.div_ceil(backends);
            for number in 0..backends {
                sites.push(Site::start(number, plan.clone()).await?);
            }
        } else {
            sites.push(Site::elsewhere(&play.elsewhere).await?);
        }
        let board = Arc::new(Board::new(play.hosts, sites.len()));
        // A backend that has not heard of the first change yet serves what was there before.
        for (number, site) in sites.iter().enumerate() {
            site.first().into_iter().for_each(|mark| board.publish(number, mark));
        }
        let mut fleet = Self {
            play,
            sites,
            board,
            orders: watch::Sender::default(),
            hosts: JoinSet::new(),
            children: Vec::new(),
            slow: Vec::new(),
            writers: None,
            empty: Usage::default(),
        };
        fleet.publish().await?;
        fleet.empty = fleet.usage()?;
        Ok(fleet)
    }

    /// Plays one act.
    pub(crate) async fn play(&mut self, act: Act) -> anyhow::Result<Played> {
        let begun = self.board.now();
        let mut played = Played {
            act: act.to_string(),
            ..Played::default()
        };
        let failures = self.board.failures();
        let open = MostOpen::of(self.sites.iter().flat_map(Site::processes).collect());
        match act.clone() {
            Act::Connect(time) => self.connect(time, &mut played).await,
            Act::Steady(time) => self.steady(time, &mut played).await,
            Act::Churn(changes) => self.churn(changes, &mut played).await,
            Act::Revoke(people) => self.revoke(people, &mut played).await,
            Act::Slow(readers) => self.slow(readers, &mut played).await,
            Act::Outage(time) => self.outage(Some(time), &mut played).await,
            Act::Restart => self.outage(None, &mut played).await,
            Act::Reconnect(hosts) => self.reconnect(hosts, &mut played).await,
            Act::Write(writers) => self.write(writers).await,
            Act::Trouble(trouble) => self.trouble(&trouble, &mut played).await,
        }
        .with_context(|| format!("playing {act}"))?;
        let (wrong, older) = self.board.wrong_and_older();
        if wrong > 0 {
            bail!("playing {act}: hosts got {wrong} bodies that nobody published, or files that they refused");
        }
        if self.play.verified && older > 0 {
            bail!("playing {act}: hosts that remember what they accepted took {older} older bodies");
        }
        played.figure("older_bodies_so_far", older as f64);
        played.figure("older_files_refused_so_far", self.board.refused_as_older() as f64);
        played.figure("backend_most_open_files", open.most() as f64);
        played.seconds = (self.board.now() - begun).as_secs_f64();
        played.figure("failed_cycles", (self.board.failures() - failures) as f64);
        Ok(played)
    }

    pub(crate) fn everybody(&self) -> Range<usize> {
        0..self.play.hosts
    }

    async fn connect(&mut self, time: Duration, played: &mut Played) -> anyhow::Result<()> {
        if !self.hosts.is_empty() || !self.children.is_empty() {
            bail!("the hosts are connected already");
        }
        let crew = Crew {
            hosts: self.play.hosts,
            first: 0,
            step: 1,
            connect: time,
            interval: Duration::from_secs(self.play.interval),
            splay: Duration::from_secs(self.play.splay),
            sites: self.sites.iter().map(Site::reach).collect(),
        };
        if self.play.processes > 1 {
            for first in 0..self.play.processes {
                let crew = Crew {
                    first,
                    step: self.play.processes,
                    ..crew.clone()
                };
                self.children.push(Child::start(crew, &self.board).await?);
            }
        } else {
            let notes: Arc<dyn Notes> = Arc::<Board>::clone(&self.board);
            self.hosts = crew.start(&notes, &self.orders).await?;
        }
        let (board, everybody) = (&self.board, self.everybody());
        board
            .all(&board.applied, &everybody, time + PATIENCE, "have what is published")
            .await?;
        board.all(&board.heard, &everybody, PATIENCE, "listen").await?;
        board.quiet(PATIENCE).await?;
        self.note_memory(played)
    }

    /// What a connected host costs the backend in memory.
    fn note_memory(&self, played: &mut Played) -> anyhow::Result<()> {
        let usage = self.usage()?;
        played.figure("backend_own_memory_mb", usage.own_memory as f64 / 1e6);
        let grown = usage.own_memory.saturating_sub(self.empty.own_memory);
        played.figure("backend_bytes_per_host", grown as f64 / self.play.hosts.max(1) as f64);
        Ok(())
    }

    async fn steady(&mut self, time: Duration, played: &mut Played) -> anyhow::Result<()> {
        let before = self.usage()?;
        tokio::time::sleep(time).await;
        let used = self.usage()?.processor.saturating_sub(before.processor);
        let hours = time.as_secs_f64() / 3600.0 * self.play.hosts.max(1) as f64;
        played.figure(
            "backend_processor_ms_per_host_and_hour",
            used.as_secs_f64() * 1000.0 / hours.max(f64::EPSILON),
        );
        played.figure(
            "backend_processor_share_of_a_core",
            used.as_secs_f64() / time.as_secs_f64().max(f64::EPSILON),
        );
        self.note_memory(played)
    }

    /// Changes what every site has, and says when each had acknowledged it: from then on it is late.
    pub(crate) async fn publish(&self) -> anyhow::Result<Vec<Duration>> {
        let mut acknowledged = Vec::new();
        for (number, site) in self.sites.iter().enumerate() {
            site.change(self.play.bytes, |mark| self.board.publish(number, mark))
                .await?;
            acknowledged.push(self.board.now());
        }
        Ok(acknowledged)
    }

    /// How long after the acknowledgement of its site it happened to each host.
    fn since(&self, line: &Line, acknowledged: &[Duration]) -> Vec<Duration> {
        let sites = self.sites.len();
        let all = line.times().enumerate().filter_map(|(host, time)| {
            // A notice may overtake the answer to the writer.
            Some(time?.saturating_sub(*acknowledged.get(host % sites)?))
        });
        all.collect()
    }

    async fn churn(&mut self, changes: u32, played: &mut Played) -> anyhow::Result<()> {
        let (mut notice, mut applied, mut slowest) = (Vec::new(), Vec::new(), Duration::ZERO);
        let (mut processor, mut load) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..changes {
            tokio::time::sleep(Duration::from_secs(self.play.pause)).await;
            let (before, own) = (self.usage()?, self.load()?);
            let change = self.change().await?;
            self.board.quiet(PATIENCE).await?;
            processor += self.usage()?.processor.saturating_sub(before.processor);
            load += self.load()?.saturating_sub(own);
            slowest = slowest.max(change.1.iter().copied().max().unwrap_or_default());
            notice.extend(change.0);
            applied.extend(change.1);
        }
        let each = f64::from(changes.max(1)) * self.play.hosts.max(1) as f64;
        played.figure(
            "backend_processor_us_per_host_and_change",
            processor.as_secs_f64() * 1e6 / each,
        );
        played.figure("load_processor_us_per_host_and_change", load.as_secs_f64() * 1e6 / each);
        played.times("notice", notice);
        played.times("applied", applied);
        self.note_memory(played)
    }

    /// People leave one by one, until the receipts of all hosts are seen to say so.
    async fn revoke(&mut self, people: u32, played: &mut Played) -> anyhow::Result<()> {
        let (mut published, mut slowest) = (Vec::new(), Vec::new());
        let before = self.usage()?;
        for _ in 0..people {
            tokio::time::sleep(Duration::from_secs(self.play.pause)).await;
            for (number, site) in self.sites.iter().enumerate() {
                let revoked = site.revoke(|mark| self.board.publish(number, mark)).await?;
                let hosts = self.everybody().skip(number).step_by(self.sites.len()).count();
                if revoked.hosts.applied != hosts {
                    let behind: Vec<_> = revoked.hosts.laggards().take(3).collect();
                    bail!("of {hosts}: {}; behind: {}", revoked.hosts, behind.join(", "));
                }
                published.push(revoked.published);
                slowest.extend(revoked.hosts.slowest_seconds.map(Duration::from_secs_f64));
            }
            self.board.quiet(PATIENCE).await?;
        }
        let used = self.usage()?.processor.saturating_sub(before.processor);
        let each = f64::from(people.max(1)) * self.play.hosts.max(1) as f64;
        played.figure(
            "backend_processor_us_per_host_and_person",
            used.as_secs_f64() * 1e6 / each,
        );
        played.times("published", published);
        played.times("all_receipts_seen", slowest);
        Ok(())
    }

    /// One change; how long it took to each host's ear and hands.
    pub(crate) async fn change(&self) -> anyhow::Result<(Vec<Duration>, Vec<Duration>)> {
        let board = &self.board;
        board.wipe(&board.told);
        board.wipe(&board.applied);
        let acknowledged = self.publish().await?;
        board
            .all(&board.applied, &self.everybody(), PATIENCE, "applied the change")
            .await?;
        // Whoever came to it by itself may be told of it later than it had it.
        board
            .all(&board.told, &self.everybody(), PATIENCE, "were told of the change")
            .await?;
        Ok((
            self.since(&board.told, &acknowledged),
            self.since(&board.applied, &acknowledged),
        ))
    }

    async fn slow(&mut self, readers: usize, played: &mut Played) -> anyhow::Result<()> {
        let site = self.sites.first().context("there is no site")?;
        let request = site.listening()?;
        for number in 0..readers {
            let address = address_of(site.url(number))?;
            self.slow.push(raw::never_read(address, &request).await?);
        }
        played.figure("readers_that_never_read", self.slow.len() as f64);
        self.note_memory(played)
    }

    /// Ends each backend and starts it again: all killed together and started after a while, or one after the other.
    async fn outage(&mut self, down: Option<Duration>, played: &mut Played) -> anyhow::Result<()> {
        let began = self.board.now();
        self.board.wipe(&self.board.heard);
        let mut up = Vec::new();
        if let Some(down) = down {
            for site in &mut self.sites {
                for backend in 0..site.backends().max(1) {
                    site.backend(backend)?.end(false).await?;
                }
            }
            tokio::time::sleep(down).await;
        }
        for number in 0..self.sites.len() {
            let site = self.sites.get_mut(number).context("there is no such site")?;
            for backend in 0..site.backends().max(1) {
                let backend = site.backend(backend)?;
                if down.is_none() {
                    backend.end(true).await?;
                }
                backend.run().await?;
            }
            up.push(self.board.now());
        }
        let board = &self.board;
        board
            .all(&board.heard, &self.everybody(), PATIENCE * 3, "listen again")
            .await?;
        let back: Vec<_> = board
            .heard
            .times()
            .flatten()
            .map(|time| time.saturating_sub(began))
            .collect();
        played.times("back_after_it_serves_again", self.since(&board.heard, &up));
        played.per_second.insert("reconnects".to_owned(), per_second(back));
        board.quiet(PATIENCE).await?;
        self.everybody_hears_of_the_next(played).await
    }

    async fn reconnect(&mut self, hosts: usize, played: &mut Played) -> anyhow::Result<()> {
        let hosts = hosts.min(self.play.hosts);
        let began = self.board.now();
        self.board.wipe(&self.board.heard);
        let order = Reconnect {
            order: self.orders.borrow().order + 1,
            hosts,
        };
        self.orders.send_replace(order);
        for child in &mut self.children {
            child.order(order).await?;
        }
        let board = &self.board;
        board.all(&board.heard, &(0..hosts), PATIENCE, "listen again").await?;
        let back: Vec<_> = board
            .heard
            .times()
            .take(hosts)
            .flatten()
            .map(|time| time.saturating_sub(began))
            .collect();
        played.times("back", back.clone());
        played.per_second.insert("reconnects".to_owned(), per_second(back));
        board.quiet(PATIENCE).await?;
        self.everybody_hears_of_the_next(played).await
    }

    /// A change after trouble: nobody was forgotten.
    pub(crate) async fn everybody_hears_of_the_next(&self, played: &mut Played) -> anyhow::Result<()> {
        let (notice, applied) = self.change().await?;
        played.times("next_change_notice", notice);
        played.times("next_change_applied", applied);
        self.board.quiet(PATIENCE).await
    }

    /// The processor time of what plays the hosts.
    fn load(&self) -> anyhow::Result<Duration> {
        let children = self.children.iter().filter_map(Child::id);
        let all = std::iter::once(std::process::id()).chain(children);
        all.map(|process| Ok(Usage::of(process)?.processor)).sum()
    }

    /// What all backends have used.
    fn usage(&self) -> anyhow::Result<Usage> {
        let mut all = Usage::default();
        for site in &self.sites {
            let usage = site.usage()?.unwrap_or_default();
            all.processor += usage.processor;
            all.own_memory += usage.own_memory;
        }
        Ok(all)
    }
}

/// The address in a URL that was made of one.
pub(crate) fn address_of(url: &str) -> anyhow::Result<SocketAddr> {
    let address = url
        .strip_prefix("http://")
        .and_then(|rest| rest.trim_end_matches('/').parse().ok());
    address.with_context(|| format!("{url}: bare connections need http://ADDRESS:PORT"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_connections_go_to_addresses_alone() {
        assert_eq!(
            address_of("http://127.0.0.3:80/").unwrap(),
            "127.0.0.3:80".parse().unwrap()
        );
        for url in ["https://127.0.0.1:443", "http://example.com", "x"] {
            assert!(address_of(url).is_err(), "{url}");
        }
    }
}
