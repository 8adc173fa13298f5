//! Walks a whole tenant from any copy of it, and believes nothing that a host would not.

pub(crate) mod bodies;
pub(crate) mod http;
mod policies;
pub(crate) mod receipts;
pub(crate) mod source;
mod successions;
mod wraps;

use std::collections::BTreeMap;
use std::fmt;

use dirless_seal::trust::{Freshness, Head, Manifest, Memory, NodeList, Object, Policy, Refusal, Seen};
use dirless_seal::{Digest, Identity, Label, Note, VerifyingKey};
use jiff::Timestamp;

use source::Source;

/// The first thing that is wrong, with the code that hosts give it.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {message} [{code}]")]
pub struct Problem {
    /// A short stable word.
    pub code: &'static str,
    /// The file.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

impl Problem {
    pub(crate) fn new(code: &'static str, path: &str, message: impl fmt::Display) -> Self {
        Self {
            code,
            path: path.to_owned(),
            message: message.to_string(),
        }
    }

    pub(crate) fn missing(path: &str) -> Self {
        Self::new("missing", path, "it is not there, or is held back")
    }

    fn refused(path: &str, refusal: &Refusal) -> Self {
        Self::new(refusal.code(), path, refusal)
    }
}

/// Told of everything that was found right, in the order in which it may be written: heads last.
pub(crate) trait Visitor {
    /// A note or a wrap.
    fn object(&mut self, path: &str, bytes: &[u8]) -> Result<(), Problem>;
    /// Whether the sealed body is at hand already and need not be fetched.
    fn has_body(&mut self, path: &str, manifest: &Manifest) -> Result<bool, Problem>;
    /// Where the bytes of a sealed body go while they are checked.
    fn begin_body(&mut self, path: &str) -> Result<Box<dyn std::io::Write + '_>, Problem>;
    /// The body was right.
    fn end_body(&mut self, path: &str) -> Result<(), Problem>;
    /// A head, after everything that it names.
    fn head(&mut self, path: &str, head: &Head, note: &Note, bytes: &[u8]) -> Result<(), Problem>;
    /// Something that a person wants to know.
    fn tell(&mut self, path: &str, fact: String);
}

/// What is taken for granted.
#[derive(Debug, Default)]
pub(crate) struct Pinned<'a> {
    pub(crate) roots: Option<Digest>,
    pub(crate) tenant: Option<Digest>,
    /// The first policy that is believed; 1 unless older ones are gone.
    pub(crate) first: u64,
    pub(crate) identity: Option<&'a Identity>,
    pub(crate) must_be_fresh: bool,
}

/// A tenant, as far as it was walked.
pub(crate) struct Walk<'a> {
    source: &'a mut dyn Source,
    visitor: &'a mut dyn Visitor,
    pinned: Pinned<'a>,
    now: Timestamp,
    memory: Memory,
    pub(crate) policies: Vec<Seen>,
    policy: Policy,
    /// All of them, the newest last.
    history: Vec<Policy>,
    heads: Vec<Current>,
    manifests: Vec<Manifest>,
    /// The newest list of each enroller.
    lists: Vec<NodeList>,
    /// Keys of all nodes that ever were.
    pub(crate) keys: BTreeMap<Label, VerifyingKey>,
}

struct Current {
    path: String,
    bytes: Vec<u8>,
    note: Note,
    head: Head,
}

impl<'a> Walk<'a> {
    /// Walks everything, up to the first problem.
    pub(crate) fn whole(
        source: &'a mut dyn Source,
        visitor: &'a mut dyn Visitor,
        pinned: Pinned<'a>,
        now: Timestamp,
    ) -> Result<Self, Problem> {
        let mut walk = Self::begin(source, visitor, pinned, now)?;
        walk.heads()?;
        walk.node_lists()?;
        walk.manifests()?;
        walk.wraps()?;
        let heads = std::mem::take(&mut walk.heads);
        for Current {
            path,
            bytes,
            note,
            head,
        } in &heads
        {
            walk.visitor.head(path, head, note, bytes)?;
        }
        Ok(walk)
    }

    /// Tenant and heads, as a host that accepted all of this would say it.
    pub(crate) fn tenant(&self) -> Digest {
        self.policy.tenant
    }

    pub(crate) fn seen_heads(&self) -> Vec<(Label, Seen)> {
        self.memory
            .heads()
            .map(|(publisher, seen)| (publisher.clone(), seen))
            .collect()
    }

    /// The bytes and note at `path`, which must be there.
    fn note<T: Object>(&mut self, kind: &'static str, path: &str) -> Result<(Vec<u8>, Note), Problem> {
        self.note_if_there::<T>(kind, path)?
            .ok_or_else(|| Problem::missing(path))
    }

    fn note_if_there<T: Object>(&mut self, kind: &'static str, path: &str) -> Result<Option<(Vec<u8>, Note)>, Problem> {
        let Some(bytes) = source::read(self.source, path, T::MOST)? else {
            return Ok(None);
        };
        let note =
            Note::parse(&bytes, T::MOST).map_err(|error| Problem::refused(path, &Refusal::NoNote(kind, error)))?;
        Ok(Some((bytes, note)))
    }

    fn heads(&mut self) -> Result<(), Problem> {
        for publisher in self.policy.publishers.clone() {
            let path = format!("head/{}", publisher.key.name());
            self.successions(&publisher)?;
            let (bytes, note) = self.note::<Head>("head", &path)?;
            let (head, freshness) = self
                .memory
                .head(&self.policy, &note, self.now)
                .map_err(|refusal| Problem::refused(&path, &refusal))?;
            if head.publisher != *publisher.key.name() {
                return Err(Problem::new(
                    "mixed",
                    &path,
                    format!("it is the head of {}", head.publisher),
                ));
            }
            self.tell_freshness(&path, &head, freshness)?;
            self.heads.push(Current {
                path,
                bytes,
                note,
                head,
            });
        }
        Ok(())
    }

    fn tell_freshness(&mut self, path: &str, head: &Head, freshness: Freshness) -> Result<(), Problem> {
        let (code, fact) = match freshness {
            Freshness::Fresh => ("fresh", format!("fresh until {}", head.stale_at())),
            Freshness::Stale => (
                "stale",
                format!("stale since {}, runs out at {}", head.stale_at(), head.expires_at()),
            ),
            Freshness::Expired => ("expired", format!("its lease ran out at {}", head.expires_at())),
            Freshness::ClockBehind => (
                "clock-behind",
                format!("signed at {}, which this clock has still to reach", head.issued),
            ),
        };
        if self.pinned.must_be_fresh && freshness != Freshness::Fresh {
            return Err(Problem::new(code, path, fact));
        }
        self.visitor.tell(path, format!("version {}, {fact}", head.version));
        Ok(())
    }

    fn node_lists(&mut self) -> Result<(), Problem> {
        let named = self.heads.iter().filter_map(|current| current.head.nodes).max();
        for enroller in self.policy.enrollers.clone() {
            let name = enroller.key.name();
            let mut version = self.first_list(name, named)?;
            let mut before = None;
            let mut newest = None;
            while let Some((path, bytes, note)) = self.list(name, version)? {
                let list = self
                    .list_of_its_time(before, &note)
                    .map_err(|refusal| Problem::refused(&path, &refusal))?;
                if list.version != version || list.enroller != *name {
                    let found = format!("it is list {} of {}", list.version, list.enroller);
                    return Err(Problem::new("mixed", &path, found));
                }
                before = Some(Seen {
                    version,
                    digest: note.digest(),
                });
                self.keys.extend(
                    list.nodes
                        .iter()
                        .map(|node| (node.key.name().clone(), node.key.clone())),
                );
                self.visitor.object(&path, &bytes)?;
                let counts = format!("{} nodes, {} revoked", list.nodes.len(), list.revoked.len());
                self.visitor.tell(&path, counts);
                // Under a key that the policy no longer has, a list says nothing any more.
                newest = NodeList::accept(&self.policy, None, &note).ok();
                version += 1;
            }
            self.lists.extend(newest);
        }
        match named {
            Some(named) if self.lists.iter().all(|list| list.version < named) => Err(Problem::new(
                "nodes-withheld",
                &format!("nodes/…/{named}"),
                "a head names this node list, but only older ones are served",
            )),
            _ => Ok(()),
        }
    }

    /// A list, by the newest policy that accepts it: an enroller may have had other keys before.
    fn list_of_its_time(&self, before: Option<Seen>, note: &Note) -> Result<NodeList, Refusal> {
        let mut refused = None;
        for policy in self.history.iter().rev() {
            match NodeList::accept(policy, before, note) {
                Err(Refusal::Forged(kind)) => refused = refused.or(Some(Refusal::Forged(kind))),
                other => return other,
            }
        }
        Err(refused.unwrap_or(Refusal::Forged("node list")))
    }

    /// The oldest list from which there is no gap to the newest.
    fn first_list(&mut self, enroller: &Label, named: Option<u64>) -> Result<u64, Problem> {
        let Some(mut version) = named else { return Ok(1) };
        if self.list(enroller, 1)?.is_some() {
            return Ok(1);
        }
        while version > 1 && self.list(enroller, version - 1)?.is_some() {
            version -= 1;
        }
        Ok(version)
    }

    fn list(&mut self, enroller: &Label, version: u64) -> Result<Option<(String, Vec<u8>, Note)>, Problem> {
        let path = format!("nodes/{enroller}/{version}");
        let found = self.note_if_there::<NodeList>("node list", &path)?;
        Ok(found.map(|(bytes, note)| (path, bytes, note)))
    }
}
