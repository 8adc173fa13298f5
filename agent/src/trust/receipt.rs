//! What this host says that it applied.

use std::collections::BTreeMap;

use dirless_seal::trust::{Memory, Receipt, Seen, print};
use dirless_seal::{Label, Note, SigningKey};
use jiff::Timestamp;

use super::Joined;
use crate::pipeline::Report;

/// What the published table was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    policy: Seen,
    heads: BTreeMap<Label, Seen>,
}

impl Applied {
    /// After a walk and a publication that went well: `complete` publishers have their heads of `memory` in the table;
    /// of the others stays what was `before`.
    #[must_use]
    pub fn after(before: Option<&Self>, memory: &Memory, complete: &[Label]) -> Option<Self> {
        let policy = memory.policy()?;
        let mut heads = before.map(|before| before.heads.clone()).unwrap_or_default();
        let current = memory.heads().filter(|(publisher, _)| complete.contains(publisher));
        heads.extend(current.map(|(publisher, seen)| (publisher.clone(), seen)));
        Some(Self { policy, heads })
    }
}

/// The receipt for what was `applied`, with the counts of the last `report`, signed at `now`. None when the receipt would
/// contradict itself.
#[must_use]
pub fn receipt(
    joined: &Joined,
    key: &SigningKey,
    applied: &Applied,
    report: Option<&Report>,
    now: Timestamp,
) -> Option<Note> {
    let published = report.and_then(|report| report.published.as_ref());
    let count = |number: Option<usize>| number.unwrap_or_default() as u64;
    let receipt = Receipt {
        tenant: joined.tenant,
        node: key.verifying().name().clone(),
        issued: Timestamp::from_second(now.as_second()).unwrap_or(now),
        policy: applied.policy,
        heads: applied.heads.clone().into_iter().collect(),
        generation: published.map(|published| published.generation).unwrap_or_default(),
        users: count(published.map(|published| published.users)),
        groups: count(published.map(|published| published.groups)),
        dropped: count(report.map(|report| report.dropped.total + report.excluded_total)),
    };
    Note::sign(print(&receipt).ok()?, &[key]).ok()
}
