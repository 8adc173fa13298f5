//! What this host says that it applied.

use std::collections::BTreeMap;

use dirless_seal::trust::{Memory, Receipt, ReceiptAlarm, Seen, print};
use dirless_seal::{Label, Note, SigningKey};
use jiff::Timestamp;

use super::{Alarm, Joined};
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

/// What a receipt says of these alarms: the first of them, without words that only this host's operator should read.
#[must_use]
pub fn of_alarms(alarms: &[Alarm]) -> Vec<ReceiptAlarm> {
    let mut said: Vec<ReceiptAlarm> = Vec::new();
    for alarm in alarms {
        // Of a source in a compartment no word but the two names.
        let about = alarm.what.replace(" in ", "/");
        let own = ReceiptAlarm::new(alarm.code, &about).filter(|own| !said.contains(own));
        said.extend(own.filter(|_| said.len() < ReceiptAlarm::MOST));
    }
    said.sort();
    said
}

/// The receipt for what was `applied`, with the counts of the last `report` and what is wrong, signed at `now`. None when the
/// receipt would contradict itself.
#[must_use]
pub fn receipt(
    joined: &Joined,
    key: &SigningKey,
    applied: &Applied,
    report: Option<&Report>,
    alarms: &[ReceiptAlarm],
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
        alarms: alarms.to_vec(),
    };
    Note::sign(print(&receipt).ok()?, &[key]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_alarms_are_said_each_once_and_in_order() {
        let alarm = |code, what: &str| Alarm {
            code,
            what: what.to_owned(),
            reason: "for this host alone".to_owned(),
        };
        let mut alarms = vec![
            alarm("stale", "head/syncer-1"),
            alarm("missing", "blob/1"),
            alarm("missing", "blob/1"),
            alarm("missing", "no path"),
            alarm("mixed", "local in all"),
        ];
        let said = |alarms: &[Alarm]| of_alarms(alarms).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            said(&alarms),
            ["missing blob/1", "mixed local/all", "stale head/syncer-1"]
        );
        alarms.extend((0..30).map(|number| alarm("missing", &format!("blob/x{number}"))));
        assert_eq!(said(&alarms).len(), ReceiptAlarm::MOST);
        assert!(said(&alarms).contains(&"stale head/syncer-1".to_owned()));
    }
}
