//! What is known of heads and hosts, and what of it is news.

use std::collections::BTreeMap;

use dirless_publish::{
    Awaited, BackendFolder, Fleet, Folder, Host, Roster, SignedError, Standing, enroller_of, follow_successions,
};
use dirless_seal::trust::{Head, Memory, Object, Policy, Seen};
use dirless_seal::{Label, Note};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Told;
use super::keys::Keys;

/// What was accepted of one publisher.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Current {
    head: Head,
    seen: Seen,
    /// The lowest version that is known to name the same contents, and when that was signed at the latest.
    since: Awaited,
}

/// What is known, for comparison with what comes.
pub(super) struct View {
    policy: Policy,
    /// The successors of publishers' keys.
    memory: Memory,
    heads: BTreeMap<Label, Current>,
    keys: Keys,
    /// What was told of each head and host.
    told: BTreeMap<(&'static str, Label), String>,
}

impl View {
    /// Under `policy`, with nothing seen yet.
    pub(super) fn of(policy: Policy) -> Self {
        Self {
            memory: Memory::pinned(policy.tenant, policy.fingerprint()),
            policy,
            heads: BTreeMap::new(),
            keys: Keys::default(),
            told: BTreeMap::new(),
        }
    }

    /// Takes a head of the tenant in `folder`, if it is one that a host would take; is there something new in it?
    pub(super) fn take(&mut self, folder: &dyn Folder, bytes: &[u8], told: &mut Told) -> bool {
        let (head, seen) = match self.accepted(folder, bytes, told) {
            Ok(head) => head,
            Err(problem) => {
                told.problem("head", problem);
                return false;
            }
        };
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
            policy: head.policy,
            signed_by: head.issued,
        };
        let (since, is_new) = (same.unwrap_or(here), same.is_none());
        self.heads.insert(name.clone(), Current { head, seen, since });
        self.tell_head(&name, told);
        is_new
    }

    /// A head by the rules of a host that knows nothing but the policy.
    fn accepted(&mut self, folder: &dyn Folder, bytes: &[u8], told: &mut Told) -> Result<(Head, Seen), String> {
        let note = Note::parse(bytes, 2 * Head::MOST).map_err(|error| error.to_string())?;
        let head: Head = dirless_seal::trust::parse(&note).map_err(|error| error.to_string())?;
        let publisher = self.policy.publisher(&head.publisher).cloned();
        let publisher = publisher.ok_or_else(|| format!("the policy has no publisher {}", head.publisher))?;
        if note.names_another(self.memory.keys(&publisher)) {
            match follow_successions(folder, &self.policy, &publisher, &mut self.memory) {
                Ok(()) => {}
                Err(SignedError::Refused { path, refusal }) => {
                    self.once("succession", &format!("{path} counts for nothing: {refusal}"), told);
                }
                Err(error) => told.problem("succession", error.to_string()),
            }
        }
        if head.tenant != self.policy.tenant || !note.is_signed_by(self.memory.key(&publisher)) {
            return Err(format!("the head of {} is not signed by its key", head.publisher));
        }
        let seen = Seen {
            version: head.version,
            digest: note.digest(),
        };
        Ok((head, seen))
    }

    fn tell_head(&self, name: &Label, told: &mut Told) {
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

    /// The node lists that heads name and `roster` lacks, for people.
    pub(super) fn withheld(&self, roster: &Roster) -> Vec<String> {
        let held_back = |(publisher, current): (&Label, &Current)| {
            let signed = current.head.nodes?;
            let enroller = enroller_of(publisher).ok()?;
            let is_there = self.policy.enrollers.iter().any(|own| *own.key.name() == enroller);
            let shown = roster.version(&enroller);
            (is_there && shown < signed).then(|| {
                format!(
                    "node list {signed} of {enroller} is held back, the newest that is shown is {shown}: hosts may be missing \
                     here; see who keeps the backend from showing it"
                )
            })
        };
        self.heads.iter().filter_map(held_back).collect()
    }

    /// Learns why hosts that are not heard of may be refused, if there are any.
    pub(super) fn look_at_keys(&mut self, backend: &BackendFolder, fleet: &Fleet, now: Timestamp, told: &mut Told) {
        let is_silent = fleet.hosts.values().any(|host| !host.is_connected(now));
        if is_silent && let Err(error) = self.keys.look(backend, now) {
            self.once("keys", &error.to_string(), told);
        }
    }

    /// Tells what is new of hosts.
    pub(super) fn hosts(&mut self, fleet: &Fleet, now: Timestamp, told: &mut Told) {
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
        for publisher in &self.policy.publishers {
            let publisher = publisher.key.name();
            let Some(current) = self.heads.get(publisher) else {
                about.unknown.push(publisher.to_string());
                continue;
            };
            // What is shown here may be older than what a host has.
            let of = host.standing(publisher, current.since, None, now);
            standing = standing.max(of);
            if of != Standing::Applied {
                let has = host
                    .head(publisher)
                    .map_or_else(|| "none".to_owned(), |head| head.version.to_string());
                about
                    .behind
                    .push(format!("{publisher} at {has} of {}", current.since.version));
                let ends = host.lease_ends(current.since, current.head.lease.expires);
                about.lease_ends = about.lease_ends.max(ends);
            }
        }
        about.refused = (!host.is_connected(now)).then(|| self.keys.refused(name)).flatten();
        // A host is as far as is current only when it is known of everybody what is.
        let is_known = about.unknown.is_empty() && !self.policy.publishers.is_empty();
        about.word = match (standing, host.is_connected(now)) {
            _ if about.refused.is_some() => "refused",
            (Standing::Applied, true) if is_known => "applied",
            (Standing::Applied, false) if is_known => "applied, offline",
            (Standing::Applied, true) => "unknown",
            (Standing::Applied, false) => "unknown, offline",
            (Standing::Behind, _) => "behind",
            (Standing::Offline, _) => "offline",
        };
        about
    }

    /// Tells of a problem once.
    pub(super) fn once(&mut self, kind: &'static str, problem: &str, told: &mut Told) {
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
    /// Of which publishers there is no head to compare with.
    unknown: Vec<String>,
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
        parts.extend((!self.unknown.is_empty()).then(|| format!("no head of {}", self.unknown.join(", "))));
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
            "behind": self.behind, "unknown": self.unknown, "alarms": host.alarms(), "refused": self.refused, "lease_ends_at": self.lease_ends,
        })
    }
}

fn shown(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests;
