//! One walk over a tenant's files: from the policies to the bodies, each step believed only after its check.

mod follow;
mod lineage;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::PathBuf;

use dirless_client::{Files, FilesError};
use dirless_seal::trust::log::{Chain, Place};
use dirless_seal::trust::{Entry, Freshness, Head, Manifest, Memory, Object, Policy, Refusal, Wrap, parse};
use dirless_seal::{Label, Note};
use jiff::Timestamp;

pub(super) use self::follow::Followed;
use super::SignedBody;
use super::install::install;
use super::keeper::{Keeper, KeeperError};

/// Most policies that one walk takes: whoever has more waiting goes on with the next walk.
const MOST_POLICIES: usize = 1000;
/// No wrap is longer.
const LONGEST_WRAP: usize = 16 * 1024;

/// Something that an operator must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// A stable word: a refusal's code, `no-head`, `missing`, `not-admitted`, `stale`, `expired`, `clock-behind`,
    /// `policy-expired`, `refused`, `too-long`, `too-slow`, `cut-short`, `bad-answer`, `unreachable` or `disk`.
    pub code: &'static str,
    /// Which file, or which publisher.
    pub what: String,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for Alarm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {} ({})", self.what, self.reason, self.code)
    }
}

/// A source that was put in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// The source.
    pub source: Label,
    /// Version of its manifest.
    pub version: u64,
    /// Whether it is another one than before the walk.
    pub changed: bool,
}

/// What came of a walk.
#[derive(Clone, Debug, Default)]
pub struct Walked {
    /// The policy that holds now.
    pub policy: Option<Policy>,
    /// The heads that were accepted, now or last, and how far each can be relied on.
    pub heads: Vec<(Head, Freshness)>,
    /// Publishers whose head was fetched and all of whose sources for this host are in place.
    pub complete: Vec<Label>,
    /// Publishers whose last head has run out and counts no more under the policy, while there is no other.
    pub lapsed: Vec<Label>,
    /// Sources whose bodies are in place.
    pub installed: Vec<Installed>,
    /// Sources that the policy or a head no longer has: there is nothing of them any more.
    pub withdrawn: Vec<Label>,
    /// What went wrong, in the order of the checks.
    pub alarms: Vec<Alarm>,
}

impl Walked {
    /// What is trusted, in one line.
    #[must_use]
    pub fn summary(&self) -> String {
        let Some(policy) = &self.policy else {
            return "no policy was accepted yet".to_owned();
        };
        let mut line = format!(
            "policy {} of {} roots, {} needed",
            policy.version,
            policy.roots.len(),
            policy.threshold
        );
        for (head, freshness) in &self.heads {
            let (publisher, ends) = (&head.publisher, head.expires_at());
            let state = match freshness {
                Freshness::Fresh => format!("fresh, lease ends {ends}"),
                Freshness::Stale => format!("STALE since {}, lease ends {ends}", head.stale_at()),
                Freshness::Expired => format!("EXPIRED, lease ended {ends}"),
                Freshness::ClockBehind => format!("signed {}, after this host's clock", head.issued),
            };
            line.push_str(&format!("; head of {publisher}: {state}"));
        }
        line
    }
}

/// Stops a step. The next source or publisher is still looked at.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stop {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error(transparent)]
    Keeper(#[from] KeeperError),
    #[error("{0}: {1}")]
    Disk(PathBuf, io::Error),
    #[error("{0} is not there, though what names it is: the server lost it, or holds it back")]
    Missing(String),
    #[error("no key of compartment {0} is there for this host: it is not admitted to it, or was revoked")]
    NotAdmitted(Label),
}

impl Stop {
    fn alarm(&self, what: impl Into<String>) -> Alarm {
        let code = match self {
            Self::Refused(refusal) => refusal.code(),
            // More bytes than anything of the kind may have is the doing of whoever serves it.
            Self::Files(FilesError::TooLong { .. }) => "too-long",
            Self::Files(FilesError::Refused(_)) => "refused",
            Self::Files(FilesError::Answer { .. }) => "bad-answer",
            Self::Files(FilesError::TooSlow { .. }) => "too-slow",
            Self::Files(FilesError::BrokeOff { .. }) => "cut-short",
            Self::Files(_) => "unreachable",
            Self::Keeper(_) | Self::Disk(..) => "disk",
            Self::Missing(_) => "missing",
            Self::NotAdmitted(_) => "not-admitted",
        };
        Alarm {
            code,
            what: what.into(),
            reason: self.to_string(),
        }
    }
}

/// Walks over `files` at `now`. Bodies are put at `place(source)`, each with its manifest. Nothing but what was
/// accepted is written, and what goes wrong is in the alarms.
pub async fn walk(
    files: &Files,
    keeper: &Keeper,
    place: &(dyn Fn(&Label) -> PathBuf + Sync),
    now: Timestamp,
) -> Walked {
    let mut walked = Walked::default();
    let mut memory = match keeper.memory() {
        Ok(memory) => memory,
        Err(error) => {
            walked.alarms.push(Stop::from(error).alarm("memory"));
            return walked;
        }
    };
    let mut walker = Walker {
        files,
        keeper,
        place,
        now,
        memory: &mut memory,
        walked: &mut walked,
    };
    match walker.policies().await {
        Ok(Some(policy)) => walker.publishers(policy).await,
        Ok(None) => {}
        Err(stop) => walked.alarms.push(stop.alarm("policy")),
    }
    walked
}

/// Follows the policies over `files` as far as they go: the newest one that holds, for a host that joins.
///
/// # Errors
/// What was refused or could not be had.
pub async fn follow_policies(files: &Files, keeper: &Keeper, now: Timestamp) -> Result<Policy, Alarm> {
    let mut walked = Walked::default();
    let failed = |error: Stop| error.alarm("policy");
    let mut memory = keeper.memory().map_err(|error| failed(error.into()))?;
    let place = |_: &Label| PathBuf::new();
    let mut walker = Walker {
        files,
        keeper,
        place: &place,
        now,
        memory: &mut memory,
        walked: &mut walked,
    };
    let found = walker.policies().await.map_err(failed)?;
    let missing = || failed(Stop::Missing(format!("policy/{}", keeper.joined().policy)));
    found.ok_or_else(|| walked.alarms.into_iter().next().unwrap_or_else(missing))
}

/// What `keeper` has of earlier walks, as far as it can be relied on at `now`. Asks nobody and changes nothing.
///
/// # Errors
/// When this host's own files cannot be used.
pub fn kept(keeper: &Keeper, now: Timestamp) -> Result<Walked, Alarm> {
    let mut walked = Walked::default();
    let failed = |error: KeeperError| Stop::from(error).alarm("memory");
    let mut memory = keeper.memory().map_err(failed)?;
    let Some(policy) = keeper.policy(&memory).map_err(failed)? else {
        return Ok(walked);
    };
    let nowhere = Files::Folder(PathBuf::new());
    let mut walker = Walker {
        files: &nowhere,
        keeper,
        place: &|_| PathBuf::new(),
        now,
        memory: &mut memory,
        walked: &mut walked,
    };
    for publisher in &policy.publishers {
        walker.last_head(&policy, publisher.key.name());
    }
    walked.policy = Some(policy);
    Ok(walked)
}

struct Walker<'a> {
    files: &'a Files,
    keeper: &'a Keeper,
    place: &'a (dyn Fn(&Label) -> PathBuf + Sync),
    now: Timestamp,
    memory: &'a mut Memory,
    walked: &'a mut Walked,
}

impl Walker<'_> {
    /// Follows the policies as far as they go; the newest one that holds.
    async fn policies(&mut self) -> Result<Option<Policy>, Stop> {
        let mut current = self.keeper.policy(self.memory)?;
        let first = self
            .memory
            .policy()
            .map_or(self.keeper.joined().policy, |seen| seen.version);
        let mut next = current.as_ref().map_or(first, |policy| policy.version + 1);
        for _ in 0..MOST_POLICIES {
            let path = format!("policy/{next}");
            let step = self.policy(&path, current.as_ref()).await;
            match step {
                Ok(Some(policy)) => {
                    next = policy.version + 1;
                    current = Some(policy);
                }
                Ok(None) => break,
                // Whatever is served in place of the next one, the one that is known holds.
                Err(stop) => {
                    self.walked.alarms.push(stop.alarm(path));
                    break;
                }
            }
        }
        if current.is_none() && self.walked.alarms.is_empty() {
            return Err(Stop::Missing(format!("policy/{next}")));
        }
        let expired = current.as_ref().filter(|policy| policy.expires < self.now);
        if let Some(policy) = expired {
            self.walked.alarms.push(Alarm {
                code: "policy-expired",
                what: format!("policy/{}", policy.version),
                reason: format!("it expired at {}: have the roots sign a new one", policy.expires),
            });
        }
        self.walked.policy.clone_from(&current);
        Ok(current)
    }

    async fn policy(&mut self, path: &str, current: Option<&Policy>) -> Result<Option<Policy>, Stop> {
        let Some(note) = self.note(path, "policy", Policy::MOST).await? else {
            return Ok(None);
        };
        let mut memory = self.memory.clone();
        let policy = memory.policy_after(current, &note)?;
        // The memory first: a policy file that it does not know is fetched again, one that it knows must not be lost.
        self.keeper.remember(&memory)?;
        self.keeper.keep_policy(&note)?;
        *self.memory = memory;
        Ok(Some(policy))
    }

    async fn publishers(&mut self, policy: Policy) {
        let mut named = BTreeSet::new();
        let mut heads_whole = true;
        for publisher in &policy.publishers {
            let name = publisher.key.name();
            match self.head(&policy, name).await {
                Ok(Some(head)) => {
                    let alarms = self.walked.alarms.len();
                    for entry in self.own(&head) {
                        named.insert(entry.source.clone());
                        match self.entry(&policy, &head, &entry).await {
                            Ok(installed) => self.walked.installed.push(installed),
                            Err(stop) => {
                                let at = format!("{} in {}", entry.source, entry.compartment);
                                self.walked.alarms.push(stop.alarm(at));
                            }
                        }
                    }
                    if self.walked.alarms.len() == alarms {
                        self.walked.complete.push(name.clone());
                    }
                }
                Ok(None) => {
                    heads_whole = false;
                    self.last_head(&policy, name);
                }
                Err(stop) => {
                    heads_whole = false;
                    self.walked.alarms.push(stop.alarm(format!("head/{name}")));
                    self.last_head(&policy, name);
                }
            }
        }
        self.withdraw(&policy, &named, heads_whole);
    }

    /// The entries of `head` that are for this host: one for each source.
    fn own(&self, head: &Head) -> Vec<Entry> {
        let sources: BTreeSet<&Label> = head.entries.iter().map(|entry| &entry.source).collect();
        let compartments = &self.keeper.joined().compartments;
        let first = |source| {
            compartments
                .iter()
                .find_map(|compartment| head.entry(source, compartment))
        };
        sources.into_iter().filter_map(first).cloned().collect()
    }

    /// Notes the sources that nobody of the policy has any more, when every head says so.
    fn withdraw(&mut self, policy: &Policy, named: &BTreeSet<Label>, heads_whole: bool) {
        for source in self.memory.sources() {
            let owner = policy
                .publishers
                .iter()
                .find(|publisher| publisher.scope.covers_source(&source));
            let gone = match owner {
                None => true,
                Some(_) => heads_whole && !named.contains(&source),
            };
            if gone && !self.walked.withdrawn.contains(&source) {
                self.walked.withdrawn.push(source);
            }
        }
    }

    async fn head(&mut self, policy: &Policy, publisher: &Label) -> Result<Option<Head>, Stop> {
        let path = format!("head/{publisher}");
        let Some(note) = self.note(&path, "head", Head::MOST).await? else {
            self.walked.alarms.push(Alarm {
                code: "no-head",
                what: path,
                reason: format!(
                    "publisher {publisher} of the policy has no head: it never published, or it is held back"
                ),
            });
            return Ok(None);
        };
        self.successors(policy, publisher, &note).await?;
        let mut memory = self.memory.clone();
        let (head, freshness) = memory.head(policy, &note, self.now)?;
        if head.publisher != *publisher {
            return Err(Refusal::Mixed("head").into());
        }
        if memory != *self.memory {
            self.keeper.remember(&memory)?;
        }
        // Also one that was remembered already: the power may have gone in between.
        let kept = self.keeper.head(publisher).ok().flatten();
        if kept.is_none_or(|kept| kept.digest() != note.digest()) {
            self.keeper.keep_head(publisher, &note)?;
        }
        *self.memory = memory;
        self.judge(path, head.clone(), freshness);
        Ok(Some(head))
    }

    /// Nobody served a head of `publisher` that can be accepted: how far the last one can be relied on. Whoever holds
    /// heads back, or cuts a host off, does not keep a lease from running out.
    fn last_head(&mut self, policy: &Policy, publisher: &Label) {
        let kept = self.keeper.head(publisher).ok().flatten();
        let Some(note) = kept.filter(|note| self.memory.was_head(publisher, note.digest())) else {
            return;
        };
        let path = format!("head/{publisher}");
        match self.memory.clone().head(policy, &note, self.now) {
            Ok((head, freshness)) => self.judge(path, head, freshness),
            // The policy says other things of its publisher since, so nothing of it counts any more. Its lease runs all the
            // same: otherwise a policy that takes a key back, served without the next head, would keep every door open.
            Err(_) => {
                let head = parse::<Head>(&note).ok();
                let ended = |head: &Head| self.memory.freshness(head, self.now) == Freshness::Expired;
                if let Some(head) = head.filter(ended) {
                    self.walked.alarms.push(expired(path, &head));
                    self.walked.lapsed.push(publisher.clone());
                }
            }
        }
    }

    fn judge(&mut self, path: String, head: Head, freshness: Freshness) {
        let (code, reason) = match freshness {
            Freshness::Fresh => ("", String::new()),
            Freshness::Stale => ("stale", format!("nothing newer than {} is being served", head.issued)),
            Freshness::Expired => {
                self.walked.alarms.push(expired(path.clone(), &head));
                ("", String::new())
            }
            // Without the times, which are others in each cycle: it is one alarm.
            Freshness::ClockBehind => (
                "clock-behind",
                "this host's clock is more than ten minutes behind what was signed already: set the clock".to_owned(),
            ),
        };
        if !code.is_empty() {
            self.walked.alarms.push(Alarm {
                code,
                what: path,
                reason,
            });
        }
        self.walked.heads.push((head, freshness));
    }

    /// Brings one source up to date.
    async fn entry(&mut self, policy: &Policy, head: &Head, entry: &Entry) -> Result<Installed, Stop> {
        self.memory.check_entry(head, entry)?;
        let Entry {
            source,
            compartment,
            version,
            chain,
        } = entry;
        let target = (self.place)(source);
        let installed = |changed| Installed {
            source: source.clone(),
            version: *version,
            changed,
        };
        // A damaged file is fetched again.
        let there = SignedBody::open(&target).ok().flatten().filter(|there| {
            let own = (&there.manifest.publisher, &there.manifest.compartment) == (&head.publisher, compartment);
            own && there.manifest.version == *version && self.is_known(head, entry, there)
        });
        if let Some(there) = there {
            // A host that joined anew twice has it wrapped to a key that is gone.
            self.key(&there.manifest).await?;
            return Ok(installed(self.grow(head, entry, &target, &there).await?));
        }
        let path = format!("manifest/{}/{source}/{compartment}/{version}", head.publisher);
        let note = self
            .note(&path, "manifest", Manifest::MOST)
            .await?
            .ok_or(Stop::Missing(path))?;
        let manifest = self.memory.look_at_manifest(policy, head, &note)?;
        if (&manifest.source, &manifest.compartment) != (source, compartment) {
            return Err(Refusal::Mixed("manifest").into());
        }
        // Without the key nothing else of it is of use, and most hosts lack those of other compartments.
        self.key(&manifest).await?;
        let (place, base) = (Place::of(&manifest, note.digest()), Chain::of(note.digest()));
        let known = self.memory.chain(&head.publisher, entry).unwrap_or(base);
        let log = self.follow(&place, base, 0, known, *chain).await?;
        let mut memory = self.memory.clone();
        memory.manifest_and_log(policy, head, &note, log.reached)?;
        self.keeper.remember(&memory)?;
        *self.memory = memory;
        install(self.files, &target, &note, &manifest, &log).await?;
        Ok(installed(true))
    }

    /// Is `there` the manifest that was accepted under this version, or, without a log, the one that the head names?
    fn is_known(&self, head: &Head, entry: &Entry, there: &SignedBody) -> bool {
        let accepted = self.memory.manifest_digest(&head.publisher, entry);
        accepted == Some(there.digest) || entry.chain == Chain::of(there.digest)
    }

    /// Sees that the key which opens what `manifest` describes is kept.
    async fn key(&self, manifest: &Manifest) -> Result<(), Stop> {
        let (compartment, epoch) = (&manifest.compartment, manifest.epoch);
        let fits = |wrap: &Wrap| {
            let own = wrap.tenant == manifest.tenant && wrap.compartment == *compartment && wrap.epoch == epoch;
            own && wrap.identity.recipient() == manifest.recipient
        };
        if self.keeper.epoch_key(compartment, epoch)?.as_ref().is_some_and(fits) {
            return Ok(());
        }
        let node = self.keeper.signing_key()?;
        let path = format!("wrap/{compartment}/{epoch}/{}", node.verifying().name());
        let Some(sealed) = self.files.get(&path, LONGEST_WRAP).await? else {
            return Err(Stop::NotAdmitted(compartment.clone()));
        };
        let wrap = self.keeper.open_wrap(&sealed)?.filter(fits);
        wrap.ok_or(Refusal::Epoch(epoch))?;
        self.keeper.keep_wrap(compartment, epoch, &sealed)?;
        Ok(())
    }

    async fn note(&self, path: &str, kind: &'static str, most: usize) -> Result<Option<Note>, Stop> {
        let Some(bytes) = self.files.get(path, most).await? else {
            return Ok(None);
        };
        let note = Note::parse(&bytes, most).map_err(|error| Refusal::NoNote(kind, error))?;
        Ok(Some(note))
    }
}

/// The alarm for a head whose lease has run out.
fn expired(path: String, head: &Head) -> Alarm {
    Alarm {
        code: "expired",
        what: path,
        reason: format!("its lease ran out at {}", head.expires_at()),
    }
}
