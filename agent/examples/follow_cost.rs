//! What one changed record costs a host with a large directory, the lookup table and the copy for LDAP together: makes a
//! host that has joined, with signed bodies, and has each change taken by a worker in a process of its own.
//!
//! ```text
//! cargo run --release -p dirless-agent --example follow_cost -- [USERS] [FOLDER]
//! ```
//!
//! Everybody is in five teams and has a key and an entry of the tree with their mail address. For each kind of change: CPU
//! time of the publish alone and of the whole process, elapsed time, bytes that went to the disk; medians of the rounds.

mod common;

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};
use dirless_agent::paths::Paths;
use dirless_agent::pipeline::{DirectoryOptions, Report, SourceState, publish_command};
use dirless_agent::trust::{Joined, Keeper, SignedBody};
use dirless_directory::Dn;
use dirless_model::snapshot::{self, Part};
use dirless_program::Clock;
use dirless_seal::trust::log::{Chain, LogKey, Place, diff};
use dirless_seal::trust::{
    Compartment, Manifest, Memory, OnExpiry, Policy, Publisher, Right, Scope, Wrap, node_name, print,
};
use dirless_seal::{Content, Digest, Identity, Label, Note, RecordKind, SigningKey, seal_file};
use jiff::{SignedDuration, Timestamp};

const BASE: &str = "dc=example,dc=com";
/// Changes of each kind, of which the median is told.
const ROUNDS: u32 = 9;

fn main() -> anyhow::Result<()> {
    common::run("follow_cost", measure, worker)
}

/// Records by kind and key.
type Records = BTreeMap<(RecordKind, Vec<u8>), Vec<u8>>;

fn measure(users: u32, root: &Path) -> anyhow::Result<()> {
    let site = Site::new(root)?;
    let mut people = site.publish("people", people(users))?;
    let mut tree = site.publish("tree", tree(users))?;
    println!("{users} users, as many entries; publish alone, whole process, elapsed, written to the disk");
    let told = |what: &str, cost: &Cost| {
        println!(
            "{what:<34} {:>9.2} ms {:>9.2} ms {:>9.1} ms {:>8} KiB  {}",
            cost.publish, cost.process, cost.elapsed, cost.written, cost.because
        );
    };
    told("first, everything", &site.work()?);
    site.change(&mut people, [user(0, users, "First")])?;
    told("first record after a body", &site.work()?);
    type Make = fn(u32, u32) -> Vec<Record>;
    let kinds: [(&str, Make); 6] = [
        ("one user changed", |round, users| vec![user(round, users, "Other")]),
        ("one joins a team of 10", |round, users| {
            vec![group("ten", 0..10 + round + 1, users)]
        }),
        ("one joins a team of 100", |round, users| {
            vec![group("hundred", 0..100 + round + 1, users)]
        }),
        ("one joins a team of 10,000", |round, users| {
            vec![group("ten-thousand", 0..10_001 + round, users)]
        }),
        ("one new user", |round, users| vec![user(users + round, users, "New")]),
        ("100 users changed at once", |round, users| {
            (0..100)
                .map(|at| user(1000 + round * 100 + at, users, "Many"))
                .collect()
        }),
    ];
    for (what, make) in kinds {
        let costs = (0..ROUNDS).map(|round| {
            site.change(&mut people, make(round, users))?;
            site.work()
        });
        told(what, &Cost::median(costs.collect::<Result<_, _>>()?));
    }
    let costs = (0..ROUNDS).map(|round| {
        site.change(&mut tree, [entry(round, "other")])?;
        site.work()
    });
    told(
        "one entry of the tree changed",
        &Cost::median(costs.collect::<Result<_, _>>()?),
    );
    fs::remove_file(site.paths.records())?;
    site.change(&mut people, [user(1, users, "Last")])?;
    told("one user changed, everything", &site.work()?);
    let length = |path: PathBuf| Ok::<_, std::io::Error>(fs::metadata(path)?.len() / 1024);
    println!(
        "table {} KiB, copy {} KiB, records {} KiB",
        length(site.paths.table())?,
        length(site.paths.directory_copy())?,
        length(site.paths.records())?
    );
    Ok(())
}

type Record = (RecordKind, Vec<u8>);

/// What a worker took.
#[derive(Debug, Default)]
struct Cost {
    /// CPU, in milliseconds.
    publish: f64,
    process: f64,
    elapsed: f64,
    /// KiB.
    written: u64,
    /// Why it was a run over everything.
    because: String,
}

impl Cost {
    fn median(costs: Vec<Self>) -> Self {
        let median = |of: &dyn Fn(&Self) -> f64| {
            let mut values: Vec<f64> = costs.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or_default()
        };
        let whole = costs.iter().filter(|cost| !cost.because.is_empty()).count();
        Self {
            publish: median(&|cost| cost.publish),
            process: median(&|cost| cost.process),
            elapsed: median(&|cost| cost.elapsed),
            written: median(&|cost| cost.written as f64) as u64,
            because: if whole > 0 {
                format!("({whole} runs over everything)")
            } else {
                String::new()
            },
        }
    }
}

fn label(text: &str) -> anyhow::Result<Label> {
    text.parse().map_err(|error| anyhow::anyhow!("{error}"))
}

fn signing_key(name: &str) -> anyhow::Result<SigningKey> {
    SigningKey::generate(label(name)?).map_err(|_| anyhow::anyhow!("the system has no randomness"))
}

fn numbered(round: u32) -> String {
    format!("user{round:06}")
}

fn user(number: u32, users: u32, gecos: &str) -> Record {
    let name = numbered(number % (users * 2));
    let uid = 1_910_000_000 + number;
    let text = format!(
        r#"{{"username":"{name}","uid":{uid},"gid":{uid},"gecos":"{gecos} Person {number}","home":"/home/{name}","shell":"/bin/bash"}}"#
    );
    (RecordKind::User, text.into_bytes())
}

fn group(name: &str, members: impl Iterator<Item = u32>, users: u32) -> Record {
    let gid = 1_900_000_000 + name.bytes().fold(0, |sum, byte| sum * 31 % 1_000_003 + u32::from(byte));
    let members: Vec<String> = members
        .filter(|member| *member < users)
        .map(|member| format!("\"{}\"", numbered(member)))
        .collect();
    let text = format!(r#"{{"name":"{name}","gid":{gid},"members":[{}]}}"#, members.join(","));
    (RecordKind::Group, text.into_bytes())
}

fn entry(number: u32, mail: &str) -> Record {
    let name = numbered(number);
    let text = format!(
        r#"{{"dn":"uid={name},ou=users,{BASE}","attributes":{{"objectClass":["inetOrgPerson"],"mail":["{name}@{mail}.example"],"title":["Engineer"]}}}}"#
    );
    (RecordKind::Entry, text.into_bytes())
}

fn people(users: u32) -> Vec<Record> {
    let teams = (users / 50).max(1);
    let mut by_team = vec![Vec::new(); teams as usize];
    for user in 0..users {
        for step in 0..5 {
            if let Some(team) = by_team.get_mut(((user * 7 + step * 13) % teams) as usize) {
                team.push(user);
            }
        }
    }
    let mut records = Vec::new();
    for (team, members) in by_team.into_iter().enumerate() {
        records.push(group(&format!("team-{team}"), members.into_iter(), users));
    }
    for (name, size) in [("ten", 10), ("hundred", 100), ("ten-thousand", 10_000)] {
        records.push(group(name, 0..size, users));
    }
    for number in 0..users {
        records.push(user(number, users, "Some"));
        let digest = dirless_seal::sha256_hex(&number.to_le_bytes());
        let key = digest.get(..43).unwrap_or_default();
        let name = numbered(number);
        let text = format!(r#""ssh_keys":"{name}":"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{key} {name}""#);
        records.push((RecordKind::Other, text.into_bytes()));
    }
    records
}

fn tree(users: u32) -> Vec<Record> {
    (0..users).map(|number| entry(number, "corp")).collect()
}

/// A source as its publisher has it.
struct Source {
    records: Records,
    content: Content,
    place: Place,
    chain: Chain,
    log: PathBuf,
    manifest: Digest,
}

/// A host that has joined a tenant, with one publisher.
struct Site {
    paths: Paths,
    publisher: SigningKey,
    epoch: Identity,
    tenant: Digest,
    now: Timestamp,
}

impl Site {
    fn new(root: &Path) -> anyhow::Result<Self> {
        let paths = common::host(root)?;
        let now = Timestamp::from_second(1_800_000_000)?;
        let (key, publisher) = (signing_key("root-1")?, signing_key("syncer-1")?);
        let tenant = Digest::of(b"tenant");
        let policy = Policy {
            tenant,
            version: 1,
            previous: None,
            issued: now,
            expires: now + SignedDuration::from_hours(10_000),
            format: 1,
            lease: 86_400,
            threshold: 1,
            roots: [key.verifying().clone()].into(),
            publishers: vec![Publisher {
                key: publisher.verifying().clone(),
                scope: Scope {
                    sources: [label("people")?, label("tree")?].into(),
                    ids: vec!["1000-2147483647".parse().map_err(|error| anyhow::anyhow!("{error}"))?],
                    names: vec!["*".parse().map_err(|error| anyhow::anyhow!("{error}"))?],
                    may: Right::ALL.into(),
                },
            }],
            enrollers: vec![],
            recovery: vec![],
            compartments: vec![Compartment {
                name: label("all")?,
                on_expiry: OnExpiry::Serve,
            }],
        };
        let note = Note::sign(print(&policy)?, &[&key])?;
        let joined = joined(tenant, policy.fingerprint())?;
        fs::write(paths.trust_folder().join("roots"), policy.fingerprint().to_string())?;
        let keeper = Keeper::new(paths.trust_folder(), joined);
        let mut memory = Memory::pinned(tenant, policy.fingerprint());
        memory.policy_after(None, &note)?;
        keeper.keep_policy(&note)?;
        keeper.remember(&memory)?;
        let (nameless, own, epoch) = (signing_key("n")?, Identity::generate(), Identity::generate());
        keeper.keep_keys(&nameless.renamed(node_name(nameless.verifying().as_bytes())), &own)?;
        let wrap = Wrap {
            tenant,
            compartment: label("all")?,
            epoch: 1,
            identity: Identity::parse(epoch.expose().as_str())?,
        };
        keeper.keep_wrap(&label("all")?, 1, &wrap.seal(&own.recipient())?)?;
        Ok(Self {
            paths,
            publisher,
            epoch,
            tenant,
            now,
        })
    }

    /// Puts a source's body in place.
    fn publish(&self, name: &str, list: Vec<Record>) -> anyhow::Result<Source> {
        let (mut records, mut content, mut joined) = (Records::new(), Content::default(), snapshot::Joined::default());
        for (kind, bytes) in list {
            content.add(kind.leaf(&bytes));
            joined.add(Part::from(kind), &bytes);
            let key = snapshot::record_key(Part::from(kind), &bytes)
                .context("a record without a key")?
                .into_owned();
            records.insert((kind, key), bytes);
        }
        let document = joined.finish();
        let mut sealed = Vec::new();
        seal_file(&[&self.epoch.recipient()], &mut sealed, |out| out.write_all(&document))?;
        let manifest = Manifest {
            tenant: self.tenant,
            publisher: label("syncer-1")?,
            source: label(name)?,
            compartment: label("all")?,
            version: 1,
            previous: None,
            issued: self.now,
            epoch: 1,
            recipient: self.epoch.recipient(),
            ciphertext: Digest::of(&sealed),
            ciphertext_size: sealed.len() as u64,
            plaintext_size: document.len() as u64,
            content: content.root(),
        };
        let note = Note::sign(print(&manifest)?, &[&self.publisher])?;
        let mut file = File::create(self.paths.sealed(name))?;
        SignedBody::begin(&mut file, &note)?;
        file.write_all(&sealed)?;
        common::note(&self.paths, name, SourceState::Present)?;
        let digest = note.digest();
        let log = self.paths.sealed(name).with_extension("log");
        fs::write(&log, digest.as_bytes())?;
        Ok(Source {
            records,
            content,
            place: Place::of(&manifest, digest),
            chain: Chain::of(digest),
            log,
            manifest: digest,
        })
    }

    /// Adds a record to the log beside a source, as the daemon keeps it.
    fn change(&self, source: &mut Source, list: impl IntoIterator<Item = Record>) -> anyhow::Result<()> {
        let (mut before, mut after) = (Records::new(), Records::new());
        for (kind, bytes) in list {
            let key = snapshot::record_key(Part::from(kind), &bytes)
                .context("a record without a key")?
                .into_owned();
            source.content.add(kind.leaf(&bytes));
            if let Some(old) = source.records.insert((kind, key.clone()), bytes.clone()) {
                source.content.remove(kind.leaf(&old));
                before.insert((kind, key.clone()), old);
            }
            after.insert((kind, key), bytes);
        }
        let changes = diff(&before, &after, source.content.root())?;
        let sealed = LogKey::new(&self.epoch, &source.place).seal(source.chain.length, &changes)?;
        source.chain = source.chain.then(&sealed);
        let mut file = File::options().append(true).open(&source.log)?;
        file.write_all(&u32::try_from(sealed.len())?.to_be_bytes())?;
        file.write_all(&sealed)?;
        file.write_all(source.chain.hash.as_bytes())?;
        let told = format!("{} {} {}\n", source.manifest, source.chain.length, source.chain.hash);
        // Replaced, as the daemon does: the last good one keeps what it says.
        let (at, aside) = (source.log.with_extension("at"), source.log.with_extension("at-new"));
        fs::write(&aside, told)?;
        Ok(fs::rename(aside, at)?)
    }

    /// Has a worker take what there is.
    fn work(&self) -> anyhow::Result<Cost> {
        let start = Instant::now();
        let output = common::worker(self.paths.root())?.output()?;
        let elapsed = start.elapsed().as_secs_f64() * 1000.0;
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().last().unwrap_or_default();
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        let [publish, process, written, because] = words.as_slice() else {
            bail!(
                "the worker ended with {}: {text}{}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            );
        };
        Ok(Cost {
            publish: publish.parse()?,
            process: process.parse()?,
            elapsed,
            written: written.parse()?,
            because: (*because).to_owned(),
        })
    }
}

fn joined(tenant: Digest, roots: Digest) -> anyhow::Result<Joined> {
    Ok(Joined {
        tenant,
        roots,
        policy: 1,
        compartments: vec![label("all")?],
    })
}

fn worker(root: &Path) -> anyhow::Result<()> {
    let paths = Paths::under(root);
    let roots = fs::read_to_string(paths.trust_folder().join("roots"))?;
    let roots = roots.parse().map_err(|error| anyhow::anyhow!("{error}"))?;
    let mut options = common::options(root)?;
    options.sources = vec!["people".to_owned()];
    options.joined = Some(joined(Digest::of(b"tenant"), roots)?);
    options.directory = Some(DirectoryOptions {
        base: Dn::parse(BASE)?,
        sources: vec!["tree".to_owned()],
    });
    let before = common::processor()?;
    publish_command(&paths, &options, &Clock::system(), &mut std::io::sink())?;
    let after = common::processor()?;
    let report = Report::load(&paths.report())?.context("no report")?;
    anyhow::ensure!(report.problem.is_none() && report.cautions.is_empty(), "{report:?}");
    fs::set_permissions(paths.report(), Permissions::from_mode(0o600))?;
    let io = fs::read_to_string("/proc/self/io")?;
    let written = io
        .lines()
        .find_map(|line| line.strip_prefix("write_bytes: "))
        .context("no write_bytes")?;
    let written: u64 = written.parse()?;
    let because = report.whole_because.unwrap_or_default();
    println!(
        "{} {} {} {because}",
        after - before,
        common::processor()?,
        written / 1024
    );
    Ok(())
}
