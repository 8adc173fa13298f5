//! `dirless watch`: heads and receipts of a tenant at a backend, as they come.

mod keys;

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use dirless_publish::{Awaited, BackendFolder, Fleet, Folder as _, Host, Receipts, Standing};
use dirless_seal::trust::{Head, Object, Policy, Seen};
use dirless_seal::{Label, Note};
use dirless_wire::Notice;
use jiff::Timestamp;
use serde_json::{Value, json};

use self::keys::Keys;
use crate::Surroundings;
use crate::at::At;

/// Pause between two looks at the receipts while nothing is told.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How soon after a notice hosts may have applied it.
const SOON: Duration = Duration::from_millis(200);
/// How long receipts are looked at that often after a notice.
const BUSY: Duration = Duration::from_secs(10);

/// Arguments of `dirless watch`.
#[derive(Debug, clap::Args)]
pub struct Watch {
    #[command(flatten)]
    at: At,
    /// Show what holds now, and end
    #[arg(long)]
    once: bool,
    /// As JSON, a line for each change
    #[arg(long)]
    json: bool,
}

/// What was accepted of one publisher.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Current {
    head: Head,
    seen: Seen,
    /// The lowest version that is known to name the same contents, and when that was signed at the latest.
    since: Awaited,
}

/// What is known, for comparison with what comes.
#[derive(Default)]
struct View {
    heads: BTreeMap<Label, Current>,
    keys: Keys,
    /// What was told of each head and host.
    told: BTreeMap<(&'static str, Label), String>,
}

impl Watch {
    pub(crate) fn run(&self, surroundings: &mut Surroundings<'_>) -> anyhow::Result<()> {
        let folder = self.at.open(surroundings)?;
        let policy = folder.current()?.policy;
        let Some(backend) = folder.into_backend() else {
            bail!("hosts report to a backend alone: give the tenant's URL there, such as https://…/v2/TENANT");
        };
        let mut problems = Vec::new();
        let receipts = Receipts::at(&backend, policy.clone(), &mut problems)?;
        let receipts = receipts.context("the backend has no receipts")?;
        let mut view = View::default();
        let mut told = Told {
            json: self.json,
            lines: Vec::new(),
        };
        for problem in problems {
            told.problem("node lists", problem);
        }
        for publisher in &policy.publishers {
            let path = format!("head/{}", publisher.key.name());
            if let Some(bytes) = backend.get(&path, 2 * Head::MOST as u64)? {
                view.take(&policy, &bytes, &mut told);
            }
        }
        let fleet = receipts.fleet()?;
        view.look_at_keys(&backend, &fleet, surroundings.clock.now(), &mut told);
        view.hosts(&fleet, surroundings.clock.now(), &mut told);
        told.flush(surroundings.out)?;
        if self.once {
            return Ok(());
        }
        let notices = backend.notices()?;
        let mut busy_until = Instant::now();
        loop {
            let pause = if Instant::now() < busy_until { SOON } else { LOOK_EVERY };
            match notices.recv_timeout(pause) {
                Ok(Notice::Head(bytes)) => {
                    if view.take(&policy, &bytes, &mut told) {
                        busy_until = Instant::now() + BUSY;
                    }
                }
                Ok(Notice::Changed) => told.problem(
                    "policy",
                    "another policy may be in force: run this again to follow it".to_owned(),
                ),
                Ok(Notice::State(..)) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => bail!("the program is stopping"),
            }
            match receipts.fleet() {
                Ok(fleet) => {
                    view.look_at_keys(&backend, &fleet, surroundings.clock.now(), &mut told);
                    view.hosts(&fleet, surroundings.clock.now(), &mut told);
                }
                Err(error) => told.problem("receipts", error.to_string()),
            }
            told.flush(surroundings.out)?;
        }
    }
}

impl View {
    /// Takes a head, if it is one that a host would take; is there something new in it?
    fn take(&mut self, policy: &Policy, bytes: &[u8], told: &mut Told) -> bool {
        let head = match accepted(policy, bytes) {
            Ok(head) => head,
            Err(problem) => {
                told.problem("head", problem);
                return false;
            }
        };
        let (head, seen) = head;
        let name = head.publisher.clone();
        let before = self.heads.get(&name);
        if let Some(before) = before {
            if before.seen.version == seen.version && before.seen.digest != seen.digest {
                told.problem(
                    "split-view",
                    format!(
                        "head {} of {name} is shown as {} and as {}",
                        seen.version, before.seen.digest, seen.digest
                    ),
                );
                return false;
            }
            if seen.version <= before.seen.version {
                return false;
            }
        }
        let same = before
            .filter(|before| before.head.entries == head.entries)
            .map(|before| before.since);
        let here = Awaited {
            version: head.version,
            signed_by: head.issued,
        };
        let (since, is_new) = (same.unwrap_or(here), same.is_none());
        self.heads.insert(name.clone(), Current { head, seen, since });
        self.tell_head(&name, told);
        is_new
    }

    fn tell_head(&mut self, name: &Label, told: &mut Told) {
        let Some(current) = self.heads.get(name) else { return };
        let head = &current.head;
        let sources: Vec<_> = head
            .entries
            .iter()
            .map(|entry| {
                format!(
                    "{}/{} {}.{}",
                    entry.source, entry.compartment, entry.version, entry.chain.length
                )
            })
            .collect();
        let text = format!(
            "{name}  head {}  signed {}  stale {}  lease ends {}  policy {}  {}",
            head.version,
            shown(head.issued),
            shown(head.stale_at()),
            shown(head.expires_at()),
            head.policy,
            sources.join(" ")
        );
        told.line(
            text,
            &json!({
                "event": "head", "publisher": name.as_str(), "version": head.version, "digest": current.seen.digest.to_string(),
                "issued": head.issued, "stale_at": head.stale_at(), "expires_at": head.expires_at(), "policy": head.policy,
                "content_since": current.since.version, "sources": sources,
            }),
        );
    }

    /// Learns why hosts that are not heard of may be refused, if there are any.
    fn look_at_keys(&mut self, backend: &BackendFolder, fleet: &Fleet, now: Timestamp, told: &mut Told) {
        let is_silent = fleet.hosts.values().any(|host| !host.is_connected(now));
        if is_silent && let Err(error) = self.keys.look(backend, now) {
            self.once("keys", &error.to_string(), told);
        }
    }

    /// Tells what is new of hosts.
    fn hosts(&mut self, fleet: &Fleet, now: Timestamp, told: &mut Told) {
        for (name, host) in &fleet.hosts {
            let about = self.about(name, host, now);
            let summary = about.summary(host);
            let key = ("host", name.clone());
            if self.told.get(&key) == Some(&summary) {
                continue;
            }
            let received = host.received.map_or_else(|| "never".to_owned(), shown);
            // Both move while nothing happens: they are no news.
            let lease = about.lease_ends.map(|end| format!("  lease ends {}", shown(end)));
            told.line(
                format!("{name}  {summary}{}  heard {received}", lease.unwrap_or_default()),
                &about.to_json(name, host),
            );
            self.told.insert(key, summary);
        }
        for problem in &fleet.problems {
            self.once("receipt", problem, told);
        }
        for split in fleet.splits() {
            self.once("split-view", &split.to_string(), told);
        }
    }

    fn about(&self, name: &Label, host: &Host, now: Timestamp) -> About {
        let mut standing = Standing::Applied;
        let mut about = About::default();
        for (publisher, current) in &self.heads {
            let of = host.standing(publisher, current.since.version, now);
            standing = standing.max(of);
            if of != Standing::Applied {
                let has = host
                    .head(publisher)
                    .map_or_else(|| "none".to_owned(), |head| head.to_string());
                about
                    .behind
                    .push(format!("{publisher} at {has} of {}", current.since.version));
                let ends = host.lease_ends(current.since, current.head.lease.expires);
                about.lease_ends = about.lease_ends.max(ends);
            }
        }
        about.refused = (!host.is_connected(now)).then(|| self.keys.refused(name)).flatten();
        about.word = match standing {
            _ if about.refused.is_some() => "refused",
            Standing::Applied if !host.is_connected(now) => "applied, offline",
            Standing::Applied => "applied",
            Standing::Behind => "behind",
            Standing::Offline => "offline",
        };
        about
    }

    /// Tells of a problem once.
    fn once(&mut self, kind: &'static str, problem: &str, told: &mut Told) {
        let digest = dirless_seal::Digest::of(problem.as_bytes()).to_string();
        let short: String = digest.chars().take(32).collect();
        let Ok(key) = format!("p{short}").parse::<Label>() else {
            return;
        };
        if self.told.insert((kind, key), String::new()).is_none() {
            told.problem(kind, problem.to_owned());
        }
    }
}

/// What there is to say about a host, beside what it says itself.
#[derive(Default)]
struct About {
    word: &'static str,
    /// Of which publishers it has not applied what is current.
    behind: Vec<String>,
    /// Why the backend refuses it.
    refused: Option<String>,
    /// When it stops believing what it has.
    lease_ends: Option<Timestamp>,
}

impl About {
    fn summary(&self, host: &Host) -> String {
        let facts = host.receipt.as_ref().map(|receipt| {
            format!(
                "generation {}  {} users  {} groups  {} dropped",
                receipt.generation, receipt.users, receipt.groups, receipt.dropped
            )
        });
        let mut parts = vec![self.word.to_owned()];
        parts.push(facts.unwrap_or_else(|| "never reported".to_owned()));
        parts.extend((!self.behind.is_empty()).then(|| self.behind.join(", ")));
        let alarms = host.alarms();
        parts.extend((!alarms.is_empty()).then(|| format!("because {}", alarms.join(", "))));
        parts.extend(self.refused.clone());
        parts.join("  ")
    }

    fn to_json(&self, name: &Label, host: &Host) -> Value {
        let receipt = host.receipt.as_ref();
        json!({
            "event": "host", "node": name.as_str(), "standing": self.word, "received_at": host.received,
            "heads": receipt.map(|receipt| receipt.heads.iter()
                .map(|(publisher, seen)| (publisher.to_string(), json!(seen.version)))
                .collect::<serde_json::Map<_, _>>()),
            "generation": receipt.map(|receipt| receipt.generation), "users": receipt.map(|receipt| receipt.users),
            "groups": receipt.map(|receipt| receipt.groups), "dropped": receipt.map(|receipt| receipt.dropped),
            "behind": self.behind, "alarms": host.alarms(), "refused": self.refused, "lease_ends_at": self.lease_ends,
        })
    }
}

/// A head by the rules of a host that knows nothing but the policy.
fn accepted(policy: &Policy, bytes: &[u8]) -> Result<(Head, Seen), String> {
    let note = Note::parse(bytes, 2 * Head::MOST).map_err(|error| error.to_string())?;
    let head: Head = dirless_seal::trust::parse(&note).map_err(|error| error.to_string())?;
    let publisher = policy.publisher(&head.publisher);
    let publisher = publisher.ok_or_else(|| format!("the policy has no publisher {}", head.publisher))?;
    if head.tenant != policy.tenant || !note.is_signed_by(&publisher.key) {
        return Err(format!("the head of {} is not signed by its key", head.publisher));
    }
    let seen = Seen {
        version: head.version,
        digest: note.digest(),
    };
    Ok((head, seen))
}

fn shown(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// Lines to be written.
struct Told {
    json: bool,
    lines: Vec<String>,
}

impl Told {
    fn line(&mut self, text: String, value: &Value) {
        self.lines.push(if self.json { value.to_string() } else { text });
    }

    fn problem(&mut self, about: &str, text: String) {
        let value = json!({ "event": "problem", "about": about, "message": text });
        self.line(format!("problem: {about}: {text}"), &value);
    }

    fn flush(&mut self, out: &mut dyn Write) -> anyhow::Result<()> {
        for line in self.lines.drain(..) {
            writeln!(out, "{line}")?;
        }
        Ok(out.flush()?)
    }
}
