//! One cycle: read the source whole, give out numbers, compare, and publish what changed.

mod before;
mod numbers;
mod over_tree;
pub mod publication;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail};
use dirless_client::Client;
use dirless_model::ObjectId;
use dirless_model::snapshot::{Document, ObjectKind};
use dirless_program::Clock;
use dirless_wire::SourceName;
use jiff::Timestamp;

use before::Before;
pub(crate) use over_tree::open_tree;
use over_tree::{Tree, TreeWork};

use crate::config::Config;
use crate::document::{LedgerNumbers, LeftOut, Mapped, digest};
use crate::guard::{Difference, Verdict, judge};
use crate::keys::Access;
use crate::ledger::{Allocator, Entry, Ledger, Preview, Settled};
use crate::remote::Remote;
use crate::revoked::{Desk, Revocations, RevokedError};
use crate::shape::Shape;
use crate::signed::{Kind, Signer};
use crate::sources::{Progress, Source, SourceKind, SourceSetting};
use crate::state::{Held, Published, Report, ReportedLeftOut, State};
use crate::tree::TreeStore;
use crate::tree::reconcile::Refused;

/// Everything a cycle works with.
#[derive(Debug)]
pub struct Cycle<'a> {
    config: &'a Config,
    setting: &'a SourceSetting,
    source: &'a dyn Source,
    remote: Remote<'a>,
    state: State,
    clock: Clock,
    tree: Option<&'a TreeStore>,
    signer: Option<Signer>,
}

/// How a cycle ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A new snapshot is at the backend.
    Pushed {
        /// Its sequence number.
        sequence: u64,
        /// Counts of what changed.
        summary: String,
    },
    /// The backend has exactly what the source says.
    Unchanged,
    /// The change waits for a person.
    Held(Box<Held>),
}

/// What a cycle would do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What would change.
    pub difference: Difference,
    /// Why it would be held back, if it would.
    pub verdict: Verdict,
    /// Objects that are not published.
    pub left_out: Vec<LeftOut>,
    /// Users and groups to be published.
    pub counts: (usize, usize),
    /// What the ledger would do.
    pub settled: Settled,
    missing_at_backend: bool,
    document: Document,
    digest: String,
    before: Before,
    live: BTreeMap<(ObjectKind, ObjectId), String>,
    tree: Option<TreeWork>,
    /// Who was held out, and whom of them the source shows all the same.
    revoked: (Revocations, BTreeSet<String>),
}

impl Plan {
    /// Entries of the source that cannot stand in the tree.
    #[must_use]
    pub fn refused(&self) -> &[Refused] {
        self.tree.as_ref().map_or(&[], |work| &work.plan.refused)
    }

    /// One line on what would change in the tree; none when nothing would.
    #[must_use]
    pub fn tree_summary(&self) -> Option<String> {
        let work = self.tree.as_ref().filter(|work| !work.plan.is_empty())?;
        Some(work.plan.summary())
    }

    /// What would be published.
    #[must_use]
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// What is published now, as far as is known.
    #[must_use]
    pub fn before(&self) -> Option<&Shape> {
        self.before.shape.as_ref()
    }

    /// Does the backend lack, or hold otherwise, what this syncer published last?
    #[must_use]
    pub fn is_lost_at_backend(&self) -> bool {
        self.missing_at_backend && self.before.published.is_some()
    }

    /// Is there nothing to push?
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        let published = self.before.published.as_ref();
        !self.missing_at_backend && published.is_some_and(|published| published.digest == self.digest)
    }
}

impl<'a> Cycle<'a> {
    /// A cycle over `source`, as `access` allows.
    ///
    /// # Errors
    /// When the source's name cannot stand in a URL.
    pub fn new(
        config: &'a Config,
        access: &'a Access,
        client: Client,
        setting: &'a SourceSetting,
        source: &'a dyn Source,
        clock: Clock,
    ) -> anyhow::Result<Self> {
        let name = SourceName::new(source.name())?;
        Ok(Self {
            config,
            setting,
            source,
            remote: Remote::new(client, name, access),
            state: State::at(&setting.state_folder),
            clock,
            tree: None,
            signer: None,
        })
    }

    /// Works on a tree that is open already, instead of opening the configured one.
    #[must_use]
    pub fn over(mut self, tree: &'a TreeStore) -> Self {
        self.tree = Some(tree);
        self
    }

    /// Hands what passed the guard to `signer` as well.
    #[must_use]
    pub fn signed_by(mut self, signer: Option<Signer>) -> Self {
        self.signer = signer;
        self
    }

    /// Works out what [`Cycle::once`] would do. Neither the ledger nor the tree nor the backend nor
    /// the state is written.
    ///
    /// # Errors
    /// Whatever would keep a cycle from publishing.
    pub async fn plan(&self, progress: &dyn Progress) -> anyhow::Result<Plan> {
        let path = self.config.ledger_path();
        let entries = if path.exists() {
            Ledger::open_to_read(&path)?.entries()?
        } else {
            Vec::new()
        };
        let tree = self.tree_to_read()?;
        self.work_out(entries, tree.as_ref(), progress).await
    }

    /// Runs the cycle; the change named `accept` may pass the guard.
    ///
    /// # Errors
    /// Whatever kept it from publishing. What was published before keeps serving.
    pub async fn once(&self, accept: Option<&str>, progress: &dyn Progress) -> anyhow::Result<Outcome> {
        if let Some(id) = accept {
            self.state.set_accepted(Some(id))?;
        }
        let outcome = self.run(progress).await;
        if let Err(error) = &outcome {
            let mut report = self.state.report().unwrap_or_default();
            report.error = Some(format!("{error:#}"));
            // On a full disk this fails too; the error itself is what matters.
            let _ = self.state.set_report(&report);
        }
        outcome
    }

    async fn run(&self, progress: &dyn Progress) -> anyhow::Result<Outcome> {
        let mut ledger = Ledger::open(&self.config.ledger_path())?;
        self.give_numbers(&mut ledger)?;
        let tree = self.tree_to_write()?;
        let plan = self.work_out(ledger.entries()?, tree.as_ref(), progress).await?;
        for left_out in &plan.left_out {
            tracing::warn!(event = "object.left_out", id = %left_out.id, "not published: {left_out}");
        }
        for refused in plan.refused() {
            tracing::warn!(event = "entry.refused", "not taken into the tree: {refused}");
        }
        self.note_revoked(&plan)?;
        if plan.is_unchanged() && plan.tree_summary().is_none() {
            let _desk = self.desk_since(&plan)?;
            self.stock_unchanged(&plan)?;
            plan.before.push.check()?;
            self.note_unchanged(&plan)?;
            return Ok(Outcome::Unchanged);
        }
        if let Verdict::Hold(reasons) = &plan.verdict {
            let id = plan.difference.id();
            if self.state.accepted()?.as_deref() != Some(id.as_str()) {
                return Ok(Outcome::Held(Box::new(self.hold(&plan, id, reasons.clone())?)));
            }
            tracing::warn!(event = "change.accepted", change = id, "the held change was accepted");
        }
        if plan.is_unchanged() {
            let _desk = self.desk_since(&plan)?;
            self.write_tree(tree.as_ref(), &plan)?;
            self.stock_unchanged(&plan)?;
            plan.before.push.check()?;
            self.note_unchanged(&plan)?;
            return Ok(Outcome::Unchanged);
        }
        self.publish(&mut ledger, tree.as_ref(), plan).await
    }

    async fn work_out(
        &self,
        ledger: Vec<Entry>,
        tree: Option<&Tree<'_>>,
        progress: &dyn Progress,
    ) -> anyhow::Result<Plan> {
        let mut directory = self.source.read(progress).await?;
        let revocations = Revocations::load(&self.config.syncer.state_folder)?;
        let revoked = revocations.apply(self.source.name(), &self.setting.names, &mut directory);
        let shown: BTreeSet<String> = revoked.iter().map(|(_, by)| by.name.clone()).collect();
        let by_hand = matches!(self.setting.kind, SourceKind::Directory);
        let taken = LedgerNumbers::of(self.config.ids.range, &ledger, by_hand);
        let mut mapped = Mapped::with_ledger(&directory, &self.setting.names, Some(&taken));
        mapped.left_out.extend(revoked.into_iter().map(|(user, by)| LeftOut {
            kind: ObjectKind::User,
            reason: format!(
                "revoked by hand at {}; to undo it: dirless-syncer revoke --undo {}",
                by.since.strftime("%Y-%m-%d %H:%M:%SZ"),
                by.name
            ),
            id: user.id,
            name: user.name,
        }));
        self.check_limits(&mapped)?;
        let before = self.before(&ledger).await?;
        let allocator = Allocator::new(self.config.ids.range)?;
        let live = mapped.live();
        let preview = Preview::of(ledger, self.source.name(), &live, &allocator, self.clock.now())?;
        let lines: Vec<&Entry> = preview.lines().collect();
        let ids = self.config.ids.primary;
        let mut document = mapped.document(&preview.settled.numbers, &lines, ids, &self.config.hosts)?;
        let work = match tree {
            Some(tree) => Some(self.compare(tree, &directory, &mut document)?),
            None => None,
        };
        drop(directory);
        self.add_members_elsewhere(&mut document)?;
        for group in &mut document.groups {
            group.members.retain(|member| !revocations.has_name(member.as_str()));
        }
        document.meta.source = Some(self.source.name().to_owned());
        let after = Shape::of(&document);
        let nothing = Shape::default();
        let mut difference = Difference::between(before.shape.as_ref().unwrap_or(&nothing), &after);
        let percent = self.config.guard.percent;
        let verdict = judge(before.shape.as_ref(), &after, &difference, percent);
        let mut more: Vec<String> = before.unreadable.iter().cloned().collect();
        if let Some(work) = &work {
            difference.entries = work.plan.further.clone();
            more.extend(work.plan.reasons(percent));
        }
        let verdict = match verdict {
            // Whoever went was revoked, and is gone from what is published already.
            Verdict::Hold(_) if difference.is_empty() && !revocations.is_empty() => Verdict::Publish,
            other => other,
        };
        let verdict = match verdict {
            Verdict::Publish if more.is_empty() => Verdict::Publish,
            Verdict::Publish => Verdict::Hold(more),
            Verdict::Hold(reasons) => Verdict::Hold([reasons, more].concat()),
        };
        Ok(Plan {
            difference,
            verdict,
            counts: mapped.counts(),
            left_out: mapped.left_out,
            settled: preview.settled,
            missing_at_backend: before.missing_at_backend,
            digest: digest(&document)?,
            document,
            before,
            live,
            tree: work,
            revoked: (revocations, shown),
        })
    }

    fn check_limits(&self, mapped: &Mapped) -> anyhow::Result<()> {
        let (users, groups) = mapped.counts();
        let limits = self.config.limits;
        if users > limits.users || groups > limits.groups {
            bail!(
                "the source shows {users} users and {groups} groups, over [limits] users = {} and groups = {}; \
                 nothing was published",
                limits.users,
                limits.groups
            );
        }
        Ok(())
    }

    fn hold(&self, plan: &Plan, id: String, reasons: Vec<String>) -> anyhow::Result<Held> {
        let now = self.clock.now();
        let earlier = self.state.held()?.filter(|held| held.id == id);
        let held = Held {
            since: earlier.map_or_else(|| now.to_string(), |held| held.since),
            id,
            reasons,
            difference: plan.difference.clone(),
        };
        self.state.set_held(Some(&held))?;
        // Whatever was accepted, it was not this; an acceptance must not lie in wait for its change.
        self.state.set_accepted(None)?;
        let mut report = self.state.report()?;
        self.note_read(&mut report, plan, now);
        self.state.set_report(&report)?;
        Ok(held)
    }

    fn note_read(&self, report: &mut Report, plan: &Plan, now: Timestamp) {
        report.last_read = Some(now.to_string());
        report.error = None;
        report.left_out = plan.left_out.iter().map(Into::into).collect();
        report
            .left_out
            .extend(plan.refused().iter().map(|refused| ReportedLeftOut {
                object: format!("entry {}", refused.dn),
                reason: refused.reason.clone(),
            }));
    }

    fn note_unchanged(&self, plan: &Plan) -> anyhow::Result<()> {
        if let (Some(published), Some(etag)) = (&plan.before.published, &plan.before.etag)
            && published.etag.as_ref() != Some(etag)
        {
            let etag = Some(etag.clone());
            self.state.set_published(&Published {
                etag,
                ..published.clone()
            })?;
        }
        self.state.set_held(None)?;
        self.state.set_accepted(None)?;
        let now = self.clock.now();
        let mut report = self.state.report()?;
        self.note_read(&mut report, plan, now);
        report.last_verified = Some(now.to_string());
        (report.users, report.groups) = plan.counts;
        Ok(self.state.set_report(&report)?)
    }

    /// Keeps the list of revocations as it was when the source was read, until what was read is published.
    fn desk_since(&self, plan: &Plan) -> Result<Desk, RevokedError> {
        Desk::open_since(&self.config.syncer.state_folder, &plan.revoked.0)
    }

    /// Notes whom of the revoked the source still shows; who is done with is told.
    fn note_revoked(&self, plan: &Plan) -> anyhow::Result<()> {
        if plan.revoked.0.is_empty() {
            return Ok(());
        }
        let mut desk = Desk::open(&self.config.syncer.state_folder)?;
        for name in desk.note_read(self.source.name(), &plan.revoked.1, self.clock.now())? {
            tracing::warn!(
                event = "revocation.ended",
                user = name,
                "all sources have agreed for a day that {name} is gone: the revocation is done with"
            );
        }
        Ok(())
    }

    /// What was published before there was a signer, or while it failed.
    fn stock_unchanged(&self, plan: &Plan) -> anyhow::Result<()> {
        let Some(published) = plan.before.published.as_ref().filter(|_| self.signer.is_some()) else {
            return Ok(());
        };
        if let Some(signer) = &self.signer
            && let stocked = signer.stocked(&self.source.name().parse().context("publishing signed")?)?
            && stocked.is_some_and(|stocked| stocked.says == plan.digest)
        {
            return Ok(());
        }
        let mut document = plan.document.clone();
        document.meta.sequence = Some(published.sequence);
        document.meta.generated_at = Some(published.at.clone());
        stock(self.signer.as_ref(), self.source.name(), &plan.digest, &document)
    }

    async fn publish(&self, ledger: &mut Ledger, tree: Option<&Tree<'_>>, plan: Plan) -> anyhow::Result<Outcome> {
        let now = self.clock.now();
        let allocator = Allocator::new(self.config.ids.range)?;
        let settled = ledger.settle(self.source.name(), &plan.live, &allocator, now)?;
        if settled.numbers != plan.settled.numbers {
            bail!("the id ledger changed while the source was read; nothing was published, the next cycle tries again");
        }
        let desk = self.desk_since(&plan)?;
        self.write_tree(tree, &plan)?;
        let sequence = after(plan.before.sequence)?;
        // On disk before the push: a number that hosts have seen must never be used again for
        // something else, whatever happens to this process.
        self.state.set_sequence(sequence)?;
        let mut document = plan.document.clone();
        document.meta.sequence = Some(sequence);
        document.meta.generated_at = Some(now.to_string());
        // Before the push: what hosts believe by its signature needs no backend that takes it.
        stock(self.signer.as_ref(), self.source.name(), &plan.digest, &document)?;
        plan.before.push.check()?;
        let account = match self.source.account().await {
            Ok(account) => account,
            Err(error) => {
                tracing::warn!(event = "account.unknown", "pushing without the AWS account id: {error}");
                None
            }
        };
        let (written, body) = self.remote.push(&document, account, &plan.before.expected).await?;
        let published = Published {
            sequence,
            digest: plan.digest.clone(),
            body,
            etag: written.etag.map(|etag| etag.header().to_owned()),
            at: now.to_string(),
            shape: Shape::of(&document),
            ..Published::default()
        };
        self.state.set_published(&published)?;
        drop(desk);
        self.state.set_held(None)?;
        self.state.set_accepted(None)?;
        let mut report = self.state.report()?;
        self.note_read(&mut report, &plan, now);
        report.last_push = Some(now.to_string());
        report.last_verified = Some(now.to_string());
        (report.users, report.groups) = plan.counts;
        self.state.set_report(&report)?;
        Ok(Outcome::Pushed {
            sequence,
            summary: plan.difference.summary(),
        })
    }
}

/// Notes what is to be published signed.
pub(crate) fn stock(signer: Option<&Signer>, source: &str, says: &str, document: &Document) -> anyhow::Result<()> {
    stock_text(signer, source, says, || {
        let mut text = Vec::new();
        dirless_model::snapshot::write(document, &mut text).context("writing the snapshot")?;
        Ok(text)
    })
}

/// The same of what is written already, or is when it is needed.
pub(crate) fn stock_text(
    signer: Option<&Signer>,
    source: &str,
    says: &str,
    text: impl FnOnce() -> anyhow::Result<Vec<u8>>,
) -> anyhow::Result<()> {
    let Some(signer) = signer else {
        return Ok(());
    };
    let source = source.parse().context("publishing signed")?;
    if signer.stocked(&source)?.is_none_or(|stocked| stocked.says != says) {
        signer.stock(&source, Kind::Snapshot, says, &text()?)?;
    }
    Ok(())
}

/// The number of the next snapshot.
pub(crate) fn after(sequence: u64) -> anyhow::Result<u64> {
    sequence.checked_add(1).context(
        "the backend holds a snapshot with the largest possible number, which this syncer never wrote: somebody forged \
         it. Delete the source at the backend, then run this again; hosts do not follow such a number",
    )
}
