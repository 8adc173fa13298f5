//! What one changed person costs a host: bytes, processor time and time, by the log of the verified protocol, and as deployed
//! Dirless sends it, with everybody in one snapshot. Real programs: a backend, and a host in a folder with daemon and workers.

mod host;
mod lengths;
mod wire;

use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use dirless_client::{Client, Expected, SnapshotHeaders, Timeouts};
use dirless_program::Secret;
use dirless_seal::Identity;
use dirless_wire::{AgePublicKey, TenantId};

use self::host::{Host, Taken};
use self::wire::{Asked, Count, Wire};
use crate::backend::{Backend, Setup};
use crate::classic::source;
use crate::fleet::address_of;
use crate::people::{People, name};
use crate::reach::towards;
use crate::report::Times;
use crate::verified::{Changed, Founding, Tenant};

/// A way on which nothing passes for so long is at rest.
const REST: Duration = Duration::from_millis(400);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// People whose records are looked at.
const SOME: usize = 500;
/// A large snapshot takes a while to be put.
const SLOW: Timeouts = Timeouts {
    connect: Duration::from_secs(5),
    call: Duration::from_secs(30),
    fetch: Duration::from_secs(600),
    probe: Duration::from_secs(5),
    silence: Duration::from_secs(30),
};

/// What is measured.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Cost {
    /// How many people there are, one size after the other.
    #[arg(default_values_t = [1_000, 10_000, 100_000, 1_000_000])]
    users: Vec<usize>,
    /// Changes by the log at each size.
    #[arg(long, default_value_t = 20)]
    changes: u32,
    /// Changes by the whole snapshot at each size.
    #[arg(long, default_value_t = 5)]
    snapshots: u32,
    /// Seconds of rest before each change. From 4 on a host has closed the connection of its last cycle.
    #[arg(long, default_value_t = 4)]
    pause: u64,
}

/// What changes took, each by itself.
#[derive(Debug, Default)]
struct Taking {
    /// From the new snapshot in the publisher's hands to the acknowledgement.
    published: Vec<Duration>,
    /// From the acknowledgement to the first look-up that finds it.
    elapsed: Vec<Duration>,
    passed: Vec<Count>,
    taken: Taken,
}

impl Taking {
    /// The median of the bytes that passed for what was asked, both ways.
    fn bytes(&self, asked: Asked) -> u64 {
        median(self.passed.iter().map(|count| count.of(asked).bytes()))
    }

    /// The median of all requests that are not kept open.
    fn requests(&self) -> u64 {
        let each = |count: &Count| {
            [Asked::Record, Asked::Heartbeat, Asked::Snapshot, Asked::Other]
                .map(|asked| count.of(asked).requests)
                .iter()
                .sum()
        };
        median(self.passed.iter().map(each))
    }

    fn all_bytes(&self) -> u64 {
        median(self.passed.iter().map(all_bytes))
    }

    /// Milliseconds of processor time for each: of the workers, and of the daemon.
    fn processor(&self) -> (f64, f64) {
        let each = |time: Duration| time.as_secs_f64() * 1000.0 / self.elapsed.len().max(1) as f64;
        (each(self.taken.workers), each(self.taken.daemon))
    }
}

/// Milliseconds: half took no longer, and the longest.
fn times(of: &[Duration]) -> (f64, f64) {
    let times = Times::of(of.to_vec());
    times.map_or((0.0, 0.0), |times| (times.p50_ms, times.max_ms))
}

fn median(values: impl Iterator<Item = u64>) -> u64 {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn all_bytes(count: &Count) -> u64 {
    let all = [
        Asked::Notices,
        Asked::Record,
        Asked::Heartbeat,
        Asked::Snapshot,
        Asked::Other,
    ];
    all.map(|asked| count.of(asked).bytes()).iter().sum()
}

/// What has passed when nothing passes any more.
async fn at_rest(wire: &Wire) -> Count {
    let (mut last, mut since) = (wire.count(), Instant::now());
    while since.elapsed() < REST {
        tokio::time::sleep(LOOK).await;
        let now = wire.count();
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    last
}

impl Cost {
    /// Measures, and prints tables in markdown.
    pub(crate) async fn run(&self) -> anyhow::Result<()> {
        for users in &self.users {
            let bearer = Secret::new(format!("cost-secret-{:016x}", rand::random::<u64>()));
            let setup = Setup {
                hosts: 2,
                operator: true,
                ..Setup::default()
            };
            let backend = Backend::start(setup, &bearer).await?;
            self.by_log(*users, &backend)
                .await
                .with_context(|| format!("{users} people, by the log"))?;
            let snapshot = self.by_snapshot(*users, &backend, &bearer).await;
            snapshot.with_context(|| format!("{users} people, by the snapshot"))?;
        }
        let people = People::new(self.users.iter().copied().min().unwrap_or(1_000).max(1_000));
        println!("\nSealed records of the log, for each of {SOME} people: how many have which length in bytes\n");
        println!("| what happens | length: how many |\n|---|---|");
        for (what, counts) in lengths::lengths(&people, SOME)? {
            let counts: Vec<_> = counts
                .iter()
                .map(|(length, count)| format!("{length}: {count}"))
                .collect();
            println!("| {what} | {} |", counts.join(", "));
        }
        Ok(())
    }

    /// Has `count` changes made one by one, each when the host is at rest, and measures what each takes.
    async fn measure(
        &self,
        host: &mut Host,
        count: u32,
        mut change: impl AsyncFnMut() -> anyhow::Result<(Changed, Duration)>,
    ) -> anyhow::Result<Taking> {
        let (mut taking, begun) = (Taking::default(), host.taken()?);
        for _ in 0..count {
            tokio::time::sleep(Duration::from_secs(self.pause)).await;
            let before = at_rest(&host.wire).await;
            let (changed, published) = change().await?;
            let acknowledged = Instant::now();
            let had = host.has(&changed).await?;
            taking.published.push(published);
            taking.elapsed.push(had.saturating_duration_since(acknowledged));
            // The receipt follows.
            while host.wire.count().since(&before).of(Asked::Heartbeat).requests == 0 {
                tokio::time::sleep(LOOK).await;
            }
            taking.passed.push(at_rest(&host.wire).await.since(&before));
        }
        let ended = host.taken()?;
        taking.taken = Taken {
            daemon: ended.daemon.saturating_sub(begun.daemon),
            workers: ended.workers.saturating_sub(begun.workers),
        };
        Ok(taking)
    }

    async fn by_log(&self, users: usize, backend: &Backend) -> anyhow::Result<()> {
        let (urls, folder) = (backend.urls(), tempfile::tempdir()?);
        let founding = Founding {
            urls: &urls,
            token: backend.operator()?,
            folder: folder.path(),
            hosts: 0,
            users,
            minutes: false,
        };
        let tenant = Box::pin(Tenant::found(founding)).await?;
        let mut host = new_host(&urls).await?;
        host.join(&tenant.code(&host.wire.url()).await?).await?;
        while tenant.settle(false).await? == 0 {}
        host.start()?;
        // The base, and the first record after it: over everything.
        for _ in 0..2 {
            let (changed, _) = tenant.change(|_| {}).await?;
            host.has(&changed).await?;
        }
        let taking = self
            .measure(&mut host, self.changes, async || tenant.change(|_| {}).await)
            .await?;
        let before = at_rest(&host.wire).await;
        host.refresh().await?;
        let idle = at_rest(&host.wire).await;
        tenant.settle(true).await?;
        let again = at_rest(&host.wire).await.since(&idle);
        let idle = all_bytes(&idle.since(&before));
        let (workers, daemon) = taking.processor();
        let ((publish, most), (half, longest)) = (times(&taking.published), times(&taking.elapsed));
        println!(
            "\n| {users} people, by the log | bytes: head in the notice | record | receipt | other | all | requests | worker CPU | daemon CPU | published in: p50, max | applied after: p50, max | a cycle without news | a head that was only signed again |"
        );
        println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|");
        println!(
            "| | {} | {} | {} | {} | **{}** | {} | **{workers:.1} ms** | {daemon:.1} ms | {publish:.0}, {most:.0} ms | {half:.0}, {longest:.0} ms | {idle} | {} |",
            taking.bytes(Asked::Notices),
            taking.bytes(Asked::Record),
            taking.bytes(Asked::Heartbeat),
            taking.bytes(Asked::Other),
            taking.all_bytes(),
            taking.requests(),
            all_bytes(&again),
        );
        Ok(())
    }

    async fn by_snapshot(&self, users: usize, backend: &Backend, bearer: &Secret) -> anyhow::Result<()> {
        let urls = backend.urls();
        let classic = Classic::enrol(&urls, bearer, users).await?;
        let mut people = People::new(users);
        let (changed, _, sealed) = classic.change(&mut people, 0).await?;
        let mut host = new_host(&urls).await?;
        host.enrol(classic.tenant.as_str(), bearer, classic.identity.expose().as_str())?;
        host.start()?;
        host.has(&changed).await?;
        let mut next = 0;
        let taking = self.measure(&mut host, self.snapshots, async || {
            next += 1;
            let (changed, published, _) = classic.change(&mut people, next).await?;
            Ok((changed, published))
        });
        let taking = taking.await?;
        let (workers, daemon) = taking.processor();
        let ((publish, most), (half, longest)) = (times(&taking.published), times(&taking.elapsed));
        println!(
            "\n| {users} people, by the snapshot | sealed | bytes: snapshot fetched | all | requests | worker CPU | daemon CPU | published in: p50, max | applied after: p50, max | table |"
        );
        println!("|---|---|---|---|---|---|---|---|---|---|");
        println!(
            "| | {sealed} | {} | **{}** | {} | **{workers:.1} ms** | {daemon:.1} ms | {publish:.0}, {most:.0} ms | {half:.0}, {longest:.0} ms | {} |",
            taking.bytes(Asked::Snapshot),
            taking.all_bytes(),
            taking.requests(),
            host.size("var/lib/dirless/nss/table")?,
        );
        Ok(())
    }
}

async fn new_host(urls: &[String]) -> anyhow::Result<Host> {
    let address = address_of(urls.first().context("a backend without an address")?)?;
    Host::new(Wire::to(address).await?)
}

/// A tenant of the classic protocol, and whoever puts its snapshots.
struct Classic {
    tenant: TenantId,
    identity: Identity,
    client: Client,
}

impl Classic {
    async fn enrol(urls: &[String], bearer: &Secret, users: usize) -> anyhow::Result<Self> {
        let tenant = TenantId::new(&format!("cost-{users}"))?;
        let client = towards(urls.iter().map(String::as_str), tenant.as_str())?;
        let client = client.bearer(bearer.duplicate()).timeouts(SLOW).build()?;
        let identity = Identity::generate();
        client
            .cycle()
            .enroll(&tenant, &AgePublicKey::new(identity.recipient().as_str())?)
            .await?;
        Ok(Self {
            tenant,
            identity,
            client,
        })
    }

    /// Puts everybody after one changed: who, what sealing and putting took, and how long the sealed body is.
    async fn change(&self, people: &mut People, number: usize) -> anyhow::Result<(Changed, Duration, usize)> {
        let changed = Changed {
            full_name: people.change(number),
            name: name(number % people.count()),
        };
        let (plaintext, mut sealed) = (people.snapshot(), Vec::new());
        let (began, recipient) = (Instant::now(), self.identity.recipient());
        dirless_seal::seal(&recipient, &mut plaintext.as_slice(), &mut sealed)?;
        let (headers, length) = (
            SnapshotHeaders::for_recipient(AgePublicKey::new(recipient.as_str())?),
            sealed.len(),
        );
        let (cycle, source) = (self.client.cycle(), source());
        let put = cycle.put_snapshot(&source, &headers, Bytes::from(sealed), &Expected::Anything);
        put.await?;
        Ok((changed, began.elapsed(), length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_of_what_was_seen() {
        assert_eq!(median([5, 1, 3].into_iter()), 3);
        assert_eq!(median(std::iter::empty()), 0);
        let taking = Taking {
            published: Vec::new(),
            elapsed: vec![Duration::from_millis(10), Duration::from_millis(30)],
            passed: Vec::new(),
            taken: Taken {
                daemon: Duration::from_millis(4),
                workers: Duration::from_millis(40),
            },
        };
        assert_eq!(
            (taking.processor(), times(&taking.elapsed)),
            ((20.0, 2.0), (10.0, 30.0))
        );
    }
}
