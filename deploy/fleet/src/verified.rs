//! Hosts of the verified protocol, and the tenant that they have joined.
//!
//! Such a host makes the agent's checks and requests: it signs what it asks, follows policies, head, manifest and log,
//! opens each record with the key that was wrapped to it, proves the content root after each, and signs receipts.
//! What an agent keeps on disk it keeps in memory. The records of a base, which all hosts have alike, are there once.

mod copy;
mod doorstep;
mod tenant;
mod walk;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use dirless_client::{BackendFiles, Client};
use dirless_program::Clock;
use dirless_seal::trust::{Head, Memory, Object as _, Policy, Receipt, Seen, Wrap, parse, print};
use dirless_seal::{Digest, Identity, Label, Note, SigningKey};
use dirless_wire::Notice;
use jiff::Timestamp;

use crate::event::{Desk, What};
use crate::host::Failed;

use self::copy::Bases;
pub(crate) use self::tenant::{Changed, Founding, Revoked, Tenant};
use self::walk::{Body, Stop};

/// What hosts have joined, in a form that another process can be told.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Joined {
    tenant: String,
    roots: String,
    publisher: String,
    /// The file with the keys of the hosts.
    nodes: PathBuf,
}

/// What all hosts of a tenant know alike.
#[derive(Debug)]
pub(crate) struct Common {
    tenant: Digest,
    roots: Digest,
    publisher: Label,
    bases: Bases,
}

/// A [`Joined`] with the keys of the hosts.
#[derive(Debug)]
pub(crate) struct Membership {
    pub(crate) tenant: Digest,
    common: Arc<Common>,
    /// A line for each host.
    nodes: dirless_program::Secret,
    /// Where each begins, and where the last ends.
    lines: Vec<usize>,
}

fn read<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> anyhow::Result<T> {
    text.parse().map_err(|error| anyhow!("{text:?}: {error}"))
}

impl Membership {
    /// Reads the keys.
    pub(crate) fn of(joined: &Joined) -> anyhow::Result<Self> {
        let nodes = dirless_program::Secret::new(
            std::fs::read_to_string(&joined.nodes).with_context(|| joined.nodes.display().to_string())?,
        );
        let ends = nodes.expose().match_indices('\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(ends).collect();
        let tenant = read(&joined.tenant)?;
        let common = Common {
            tenant,
            roots: read(&joined.roots)?,
            publisher: read(&joined.publisher)?,
            bases: Bases::default(),
        };
        Ok(Self {
            tenant,
            common: Arc::new(common),
            nodes,
            lines,
        })
    }

    /// The keys of a host.
    pub(crate) fn node(&self, number: usize) -> anyhow::Result<Node> {
        let lines = self.lines.get(number..).unwrap_or_default();
        let line = match lines {
            [from, to, ..] => self.nodes.expose().get(*from..*to),
            _ => None,
        };
        let text = line.with_context(|| format!("there are no keys for host {number}"))?;
        let (key, identity) = text.trim_end().split_once(' ').context("a line with two keys")?;
        Ok(Node {
            key: SigningKey::parse(key)?,
            identity: Identity::parse(identity)?,
        })
    }
}

/// The keys of a host.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) key: SigningKey,
    identity: Identity,
}

/// A host of the verified protocol, and what it knows.
#[derive(Debug)]
pub(crate) struct Verified {
    files: BackendFiles,
    node: Node,
    common: Arc<Common>,
    clock: Clock,
    memory: Memory,
    policy: Option<Policy>,
    head: Option<Head>,
    wrap: Option<Wrap>,
    body: Option<Body>,
    /// The head that all of it was made from.
    applied: Option<Seen>,
    generation: u64,
    /// A receipt was sent.
    told: bool,
    /// The head that calls for the next cycle.
    called: Option<(Head, String)>,
}

impl Verified {
    pub(crate) fn new(client: Client, node: Node, membership: &Membership) -> Self {
        let common = Arc::clone(&membership.common);
        Self {
            files: BackendFiles::new(client),
            node,
            clock: Clock::system(),
            memory: Memory::pinned(common.tenant, common.roots),
            common,
            policy: None,
            head: None,
            wrap: None,
            body: None,
            applied: None,
            generation: 0,
            told: false,
            called: None,
        }
    }

    pub(crate) fn client(&self) -> &Client {
        self.files.client()
    }

    /// Does a notice tell of more than that the publisher is alive?
    pub(crate) fn is_news(&self, notice: &Notice) -> bool {
        match notice {
            Notice::Head(note) => self.new_head(note).is_some(),
            Notice::State(..) | Notice::Changed => true,
        }
    }

    /// A notice calls for the cycle that follows.
    pub(crate) fn called(&mut self, notice: &Notice) {
        self.called = match notice {
            Notice::Head(note) => self.new_head(note),
            Notice::State(..) | Notice::Changed => None,
        };
    }

    fn new_head(&self, bytes: &[u8]) -> Option<(Head, String)> {
        let note = Note::parse(bytes, Head::MOST).ok()?;
        let told = parse::<Head>(&note).ok()?;
        told.says_more(self.head.as_ref()).then(|| (told, note.to_string()))
    }

    /// Begins a round. True when a notice brought all that a heartbeat would tell.
    fn begin(&mut self) -> anyhow::Result<bool> {
        if let Some((head, note)) = self.called.take() {
            return Ok(self
                .files
                .begin_told(&read(head.publisher.as_str())?, head.policy, note));
        }
        self.files.begin();
        Ok(false)
    }

    /// In the order of the agent: the heartbeat with the last receipt, whose answer may be all there is to know, unless a
    /// notice brought that; the files; and at once a receipt of what is new.
    pub(crate) async fn cycle(&mut self, desk: &Desk) -> Result<(), Failed> {
        let is_told = self.begin().unwrap_or_default();
        let mut heard = is_told || self.beat().await;
        let walked = self.walk().await;
        match &walked {
            Ok(Some(mark)) => {
                self.generation += 1;
                desk.say(What::Has(*mark));
            }
            Err(Stop::Refused(refusal)) => {
                let older = refusal.code() == "rollback";
                desk.say(What::Refused { older });
            }
            Ok(None) | Err(_) => {}
        }
        if matches!(walked, Ok(changed) if changed.is_some() || !self.told) {
            heard = self.beat().await;
        }
        let retry_after = self.files.retry_after();
        match (walked, heard) {
            (Ok(_), true) => Ok(()),
            _ => Err(Failed { retry_after }),
        }
    }

    /// Says that it is alive, and what it has.
    async fn beat(&mut self) -> bool {
        let receipt = self.receipt();
        let sent = receipt.is_some();
        let receipt = receipt.map(|note| note.to_string().into_bytes().into());
        let heard = self.files.heartbeat(receipt).await.is_ok();
        self.told |= heard && sent;
        heard
    }

    fn receipt(&self) -> Option<Note> {
        let body = self.body.as_ref()?;
        let receipt = Receipt {
            tenant: self.common.tenant,
            node: self.node.key.verifying().name().clone(),
            issued: whole_second(&self.clock),
            policy: self.memory.policy()?,
            heads: vec![(self.common.publisher.clone(), self.applied?)],
            generation: self.generation,
            users: body.users(),
            groups: 0,
            dropped: 0,
            alarms: Vec::new(),
        };
        Note::sign(print(&receipt).ok()?, &[&self.node.key]).ok()
    }
}

/// Signed times are whole seconds.
fn whole_second(clock: &Clock) -> Timestamp {
    let now = clock.now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}
