//! What the hosts of a tenant say that they applied: their receipts, each checked with the key that an enroller's node list
//! has for the node. Whoever serves the receipts can hold them back, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use dirless_program::Clock;
use dirless_seal::trust::{Head, Node, NodeList, Object, OnExpiry, Policy, Receipt, SplitView};
use dirless_seal::{Label, Note};
use dirless_wire::trust::ReceiptReply;
use jiff::{SignedDuration, Timestamp};

use super::{Enroller, Folder, Registry, SignedError, Signer, paths};

/// How long after its last heartbeat a host counts as connected: three of the default interval.
pub const CONNECTED_FOR: Duration = Duration::from_secs(180);

/// Longest pause between two looks at the receipts.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Who may sign receipts: the nodes on the newest lists of the enrollers of a policy, without those that were revoked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    nodes: BTreeMap<Label, Node>,
    /// Compartments whose hosts serve on when their lease has run out.
    serve_on: BTreeSet<Label>,
}

impl Roster {
    /// The one that `folder` has for `policy`. A list that does not hold goes to `problems`.
    ///
    /// # Errors
    /// When the files cannot be read.
    pub fn read(folder: &dyn Folder, policy: &Policy, problems: &mut Vec<String>) -> Result<Self, SignedError> {
        let mut lists = Vec::new();
        for enroller in &policy.enrollers {
            let name = enroller.key.name();
            let versions = folder.list(&paths::node_lists(name))?;
            let Some(newest) = versions.iter().filter_map(|version| version.parse::<u64>().ok()).max() else {
                continue;
            };
            let path = paths::nodes(name, newest);
            let Some(bytes) = folder.get(&path, 2 * NodeList::MOST as u64)? else {
                continue;
            };
            let note = Note::parse(&bytes, 2 * NodeList::MOST).map_err(SignedError::no_note(&path, "node list"));
            let list = note.and_then(|note| NodeList::accept(policy, None, &note).map_err(SignedError::refused(&path)));
            match list {
                Ok(list) => lists.push(list),
                Err(error) => problems.push(error.to_string()),
            }
        }
        let serve_on = policy
            .compartments
            .iter()
            .filter(|own| own.on_expiry == OnExpiry::Serve);
        Ok(Self {
            serve_on: serve_on.map(|own| own.name.clone()).collect(),
            ..Self::of(&lists)
        })
    }

    fn of(lists: &[NodeList]) -> Self {
        let is_revoked = |name: &Label| lists.iter().any(|list| list.is_revoked(name));
        let nodes = lists.iter().flat_map(|list| &list.nodes);
        let nodes = nodes.filter(|node| !is_revoked(node.key.name()));
        Self {
            nodes: nodes.map(|node| (node.key.name().clone(), node.clone())).collect(),
            serve_on: BTreeSet::new(),
        }
    }

    /// Does this node go on serving everybody it knows when its lease has run out?
    fn serves_on(&self, node: &Label) -> bool {
        let node = self.nodes.get(node);
        node.is_some_and(|node| !node.compartments.is_disjoint(&self.serve_on))
    }
}

/// What is known of one host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// When its last receipt came.
    pub received: Option<Timestamp>,
    /// What it says.
    pub receipt: Option<Receipt>,
}

/// How a host stands to a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It has applied it, or a later one.
    Applied,
    /// It is heard of, and has not applied it.
    Behind,
    /// It is not heard of.
    Offline,
}

impl Host {
    /// The version of this publisher's head that it applied.
    #[must_use]
    pub fn head(&self, publisher: &Label) -> Option<u64> {
        let heads = &self.receipt.as_ref()?.heads;
        heads
            .iter()
            .find(|(name, _)| name == publisher)
            .map(|(_, seen)| seen.version)
    }

    /// Whether it was heard of lately.
    #[must_use]
    pub fn is_connected(&self, now: Timestamp) -> bool {
        let lately =
            |at: Timestamp| now.duration_since(at) < SignedDuration::try_from(CONNECTED_FOR).unwrap_or_default();
        self.received.is_some_and(lately)
    }

    /// How it stands to `version` of the publisher's heads.
    #[must_use]
    pub fn standing(&self, publisher: &Label, version: u64, now: Timestamp) -> Standing {
        if self.head(publisher).is_some_and(|applied| applied >= version) {
            Standing::Applied
        } else if self.is_connected(now) {
            Standing::Behind
        } else {
            Standing::Offline
        }
    }
}

/// All hosts of a tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fleet {
    /// By the name of the node; every host of the roster is there.
    pub hosts: BTreeMap<Label, Host>,
    /// Receipts that are not believed, and why.
    pub problems: Vec<String>,
}

impl Fleet {
    /// What `receipts` say of the hosts of `roster`.
    #[must_use]
    pub fn of(policy: &Policy, roster: &Roster, receipts: &[ReceiptReply]) -> Self {
        let mut fleet = Self::default();
        for name in roster.nodes.keys() {
            fleet.hosts.insert(name.clone(), Host::default());
        }
        for reply in receipts {
            if let Err(problem) = fleet.take(policy, roster, reply) {
                fleet.problems.push(format!("the receipt of {}: {problem}", reply.node));
            }
        }
        fleet
    }

    fn take(&mut self, policy: &Policy, roster: &Roster, reply: &ReceiptReply) -> Result<(), String> {
        let name: Label = reply
            .node
            .name()
            .as_str()
            .parse()
            .map_err(|_| "no node has this name")?;
        let Some(node) = roster.nodes.get(&name) else {
            return Err("no node list has this node".to_owned());
        };
        let bytes = reply.bytes().ok_or("it is no base64")?;
        let note = Note::parse(&bytes, Receipt::MOST).map_err(|error| error.to_string())?;
        let receipt = Receipt::accept(policy.tenant, &node.key, &note).map_err(|error| error.to_string())?;
        let seconds = i64::try_from(reply.received_at.unix_seconds()).unwrap_or(i64::MAX);
        let host = Host {
            received: Timestamp::from_second(seconds).ok(),
            receipt: Some(receipt),
        };
        self.hosts.insert(name, host);
        Ok(())
    }

    /// Different contents under one version, as the receipts tell.
    #[must_use]
    pub fn splits(&self) -> Vec<SplitView> {
        SplitView::find(self.hosts.values().filter_map(|host| host.receipt.as_ref()))
    }
}

/// What hosts are waited for to apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Awaited {
    /// Whose head.
    pub publisher: Label,
    /// Its version, or any later one.
    pub version: u64,
    /// When it was signed: what went before it is believed until its lease has run out.
    pub issued: Timestamp,
    /// Seconds of a lease.
    pub lease: u32,
}

impl Awaited {
    /// The head `version` of the publisher of `head`, which is that one or a later one.
    #[must_use]
    pub fn of(head: &Head, version: u64) -> Self {
        Self {
            publisher: head.publisher.clone(),
            version,
            issued: head.issued,
            lease: head.lease.expires,
        }
    }
}

/// What came of waiting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waited {
    /// Hosts that applied it.
    pub applied: usize,
    /// Hosts that are heard of and have not applied it.
    pub behind: Vec<Label>,
    /// Hosts that are not heard of.
    pub offline: Vec<Label>,
    /// How long after the beginning the last of those that were waited for had applied it.
    pub slowest: Option<Duration>,
    /// When the leases of all hosts that have not applied it have run out.
    pub leases_end: Option<Timestamp>,
    /// How many of those serve on when their lease has run out.
    pub serve_on: usize,
    /// Receipts that are not believed.
    pub problems: Vec<String>,
    /// Different contents under one version.
    pub splits: Vec<String>,
}

impl Waited {
    /// Hosts that are heard of.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.applied + self.behind.len()
    }

    fn look(fleet: &Fleet, roster: &Roster, awaited: &Awaited, now: Timestamp) -> Self {
        let mut waited = Self {
            problems: fleet.problems.clone(),
            splits: fleet.splits().iter().map(ToString::to_string).collect(),
            ..Self::default()
        };
        let bound = |from: Timestamp| from.checked_add(SignedDuration::from_secs(awaited.lease.into())).ok();
        for (name, host) in &fleet.hosts {
            match host.standing(&awaited.publisher, awaited.version, now) {
                Standing::Applied => {
                    waited.applied += 1;
                    continue;
                }
                Standing::Behind => waited.behind.push(name.clone()),
                Standing::Offline => waited.offline.push(name.clone()),
            }
            // Its last head is from before the awaited one, and no later than when it was heard of.
            let latest = host
                .received
                .map_or(awaited.issued, |received| received.min(awaited.issued));
            waited.leases_end = waited.leases_end.max(bound(latest));
            waited.serve_on += usize::from(roster.serves_on(name));
        }
        waited
    }
}

impl std::fmt::Display for Waited {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} of {} connected hosts", self.applied, self.connected())?;
        if let Some(slowest) = self.slowest {
            write!(formatter, ", slowest {:.1} s", slowest.as_secs_f64())?;
        }
        if !self.offline.is_empty() {
            write!(formatter, "; {} offline", self.offline.len())?;
        }
        if let Some(end) = self.leases_end {
            write!(formatter, ", leases end at {}", end.strftime("%Y-%m-%d %H:%M:%SZ"))?;
        }
        if self.serve_on > 0 {
            write!(
                formatter,
                " ({} of them serve on after that, as their compartment says)",
                self.serve_on
            )?;
        }
        Ok(())
    }
}

/// Where receipts are read, with what they are checked with.
pub struct Receipts<'a> {
    registry: &'a dyn Registry,
    policy: Policy,
    roster: Roster,
}

impl std::fmt::Debug for Receipts<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Receipts")
            .field("roster", &self.roster)
            .finish_non_exhaustive()
    }
}

impl<'a> Receipts<'a> {
    /// Those at the backend of `folder`; none where there is no backend, for nobody reports to a folder. Node lists that do
    /// not hold go to `problems`.
    ///
    /// # Errors
    /// When the node lists cannot be read.
    pub fn at(folder: &'a dyn Folder, policy: Policy, problems: &mut Vec<String>) -> Result<Option<Self>, SignedError> {
        let Some(registry) = folder.registry() else {
            return Ok(None);
        };
        let roster = Roster::read(folder, &policy, problems)?;
        Ok(Some(Self {
            registry,
            policy,
            roster,
        }))
    }

    /// What the hosts say now.
    ///
    /// # Errors
    /// When the backend cannot be asked.
    pub fn fleet(&self) -> Result<Fleet, SignedError> {
        Ok(Fleet::of(&self.policy, &self.roster, &self.registry.receipts()?))
    }

    /// Waits until every host that is heard of has applied what is `awaited`, or `timeout` is over. Times count from
    /// `began`. A failing backend is asked again until then.
    ///
    /// # Errors
    /// When the backend cannot be asked at the end.
    pub fn wait(
        &self,
        awaited: &Awaited,
        began: Instant,
        timeout: Duration,
        clock: &Clock,
    ) -> Result<Waited, SignedError> {
        let mut applied_before = None;
        let mut slowest = None;
        loop {
            let asked = Instant::now();
            let looked = self
                .fleet()
                .map(|fleet| Waited::look(&fleet, &self.roster, awaited, clock.now()));
            let is_over = began.elapsed() >= timeout;
            match looked {
                Ok(mut waited) => {
                    if applied_before != Some(waited.applied) && waited.applied > 0 {
                        slowest = Some(began.elapsed());
                    }
                    applied_before = Some(waited.applied);
                    if waited.behind.is_empty() || is_over {
                        waited.slowest = slowest;
                        return Ok(waited);
                    }
                }
                Err(error) if is_over => return Err(error),
                // The backend may be back in a moment; what is missing at the end is an error.
                Err(_again) => {}
            }
            // As long as the question took: many thousands of receipts are not asked for all the time.
            let pause = asked.elapsed().clamp(Duration::from_millis(50), LONGEST_PAUSE);
            std::thread::sleep(
                pause
                    .min(timeout.saturating_sub(began.elapsed()))
                    .max(Duration::from_millis(10)),
            );
        }
    }
}

impl Enroller {
    /// Where hosts' receipts are read; none where there is no backend.
    ///
    /// # Errors
    /// When policy or node lists cannot be read.
    pub fn receipts(&self, problems: &mut Vec<String>) -> Result<Option<Receipts<'_>>, SignedError> {
        let policy = self.policy(problems)?;
        Receipts::at(self.folder(), policy, problems)
    }
}

impl Signer {
    /// Waits until every host that is heard of has applied what is published now; none where there is no backend. What does
    /// not hold goes to `problems`.
    ///
    /// # Errors
    /// When nothing is published, or the backend cannot be asked.
    pub fn wait(
        &self,
        version: u64,
        began: Instant,
        timeout: Duration,
        problems: &mut Vec<String>,
    ) -> Result<Option<Waited>, SignedError> {
        let Some(receipts) = self.enroller().receipts(problems)? else {
            return Ok(None);
        };
        let path = paths::head(self.publisher());
        let missing = || SignedError::Nothing("nothing is published yet".to_owned());
        let bytes = self
            .tenant_folder
            .get(&path, 2 * Head::MOST as u64)?
            .ok_or_else(missing)?;
        let note = Note::parse(&bytes, 2 * Head::MOST).map_err(SignedError::no_note(&path, "head"))?;
        let head: Head = dirless_seal::trust::parse(&note).map_err(|error| SignedError::damaged(path, error))?;
        let awaited = Awaited::of(&head, version);
        receipts.wait(&awaited, began, timeout, &self.clock).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use dirless_seal::Digest;
    use dirless_seal::trust::Seen;

    use super::*;

    fn label(text: &str) -> Label {
        text.parse().unwrap()
    }

    fn time(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn host(head: u64, content: u8, received: i64) -> Host {
        let seen = |version| Seen {
            version,
            digest: Digest::of(&[content]),
        };
        Host {
            received: Some(time(received)),
            receipt: Some(Receipt {
                tenant: Digest::of(b"t"),
                node: label(&format!("n{head}{content}")),
                issued: time(received),
                policy: Seen {
                    version: 1,
                    digest: Digest::of(b"p"),
                },
                heads: vec![(label("syncer"), seen(head))],
                generation: 1,
                users: 1,
                groups: 1,
                dropped: 0,
            }),
        }
    }

    fn awaited() -> Awaited {
        Awaited {
            publisher: label("syncer"),
            version: 7,
            issued: time(10_000),
            lease: 3600,
        }
    }

    #[test]
    fn hosts_count_as_what_they_say() {
        let mut fleet = Fleet::default();
        for (name, of) in [
            ("n1", host(7, 1, 9_990)),
            ("n2", host(9, 2, 100)),
            ("n3", host(6, 3, 9_990)),
            ("n4", host(6, 3, 5_000)),
            ("n5", Host::default()),
        ] {
            fleet.hosts.insert(label(name), of);
        }
        let waited = Waited::look(&fleet, &Roster::default(), &awaited(), time(10_010));
        assert_eq!((waited.applied, waited.connected()), (2, 3));
        assert_eq!(
            (waited.behind.clone(), waited.offline.clone()),
            (vec![label("n3")], vec![label("n4"), label("n5")])
        );
        // Who never said anything may have the head just before.
        assert_eq!(waited.leases_end, Some(time(13_600)));
        assert_eq!(
            Waited {
                slowest: Some(Duration::from_millis(660)),
                ..waited
            }
            .to_string(),
            "2 of 3 connected hosts, slowest 0.7 s; 2 offline, leases end at 1970-01-01 03:46:40Z"
        );
        fleet.hosts.retain(|name, _| ["n1", "n4"].contains(&name.as_str()));
        let waited = Waited::look(&fleet, &Roster::default(), &awaited(), time(10_010));
        assert_eq!(
            waited.leases_end,
            Some(time(8_600)),
            "no later than when it was heard of"
        );
        assert_eq!(fleet.splits(), []);
        fleet.hosts.insert(label("n6"), host(7, 9, 1));
        assert_eq!(fleet.splits().len(), 1);
    }
}
