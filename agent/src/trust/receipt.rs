//! What this host says that it applied.

use std::collections::BTreeMap;

use dirless_seal::trust::{Memory, Receipt, ReceiptAlarm, Seen, print};
use dirless_seal::{Label, Note, SigningKey};
use jiff::Timestamp;

use super::{ACCESS_RULES, Alarm, Joined, Walked};
use crate::pipeline::Report;

/// What the published table was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    policy: Seen,
    heads: BTreeMap<Label, Seen>,
}

impl Applied {
    /// After a walk and a publication that went well: the publishers in `served` have their heads of `memory` in the table;
    /// of the others stays what was `before`.
    #[must_use]
    pub fn after(before: Option<&Self>, memory: &Memory, served: &[Label]) -> Option<Self> {
        let policy = memory.policy()?;
        let mut heads = before.map(|before| before.heads.clone()).unwrap_or_default();
        let current = memory.heads().filter(|(publisher, _)| served.contains(publisher));
        heads.extend(current.map(|(publisher, seen)| (publisher.clone(), seen)));
        Some(Self { policy, heads })
    }
}

/// What of the accepted files this host does not serve as they say, so that no receipt may claim it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unserved {
    /// These sources, the access rules among them: something older stands in for each. Of most runs there are none.
    Sources(Vec<String>),
    /// All of them, for the table or the copy for LDAP, whose name this is, stayed as it was.
    All(&'static str),
}

impl Unserved {
    /// What `report`, of the last run, says of it. `has_copy`: there are to be copies for LDAP, and one is in place.
    #[must_use]
    pub fn of(report: Option<&Report>, has_copy: bool) -> Self {
        let Some(report) = report.filter(|report| report.problem.is_none()) else {
            return Self::All("table");
        };
        let told = report.published.as_ref().and_then(|published| published.copy.as_ref());
        if report.lacks_copy() || (has_copy && told.is_none()) {
            return Self::All("copy");
        }
        let sources = report.sources.iter().filter(|source| source.problem.is_some());
        let rules = report.access.problem.as_ref().map(|_| ACCESS_RULES.to_owned());
        Self::Sources(sources.map(|source| source.name.clone()).chain(rules).collect())
    }

    /// The publishers of `walked` all of whose sources for this host are in place and served.
    #[must_use]
    pub fn served(&self, walked: &Walked) -> Vec<Label> {
        let named = |publisher: &Label, source: &String| {
            let mut heads = walked.heads.iter().filter(|(head, _)| head.publisher == *publisher);
            heads.any(|(head, _)| head.entries.iter().any(|entry| entry.source.as_str() == source))
        };
        let complete = walked.complete.iter();
        match self {
            Self::All(_) => Vec::new(),
            Self::Sources(sources) => complete
                .filter(|publisher| !sources.iter().any(|source| named(publisher, source)))
                .cloned()
                .collect(),
        }
    }

    /// What a receipt says of it. Why stays on this host: it may name people.
    #[must_use]
    pub fn alarms(&self) -> Vec<ReceiptAlarm> {
        let said = |about: &str| ReceiptAlarm::new("not-published", about);
        match self {
            Self::All(what) => said(what).into_iter().collect(),
            Self::Sources(sources) => sources.iter().filter_map(|source| said(source)).collect(),
        }
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
    use dirless_seal::Digest;
    use dirless_seal::trust::log::Chain;
    use dirless_seal::trust::{Entry, Freshness, Head, Lease};

    use super::*;
    use crate::pipeline::{Problem, SourceReport, Taken};

    /// The head of `publisher`, which names `sources`.
    fn head(publisher: &str, sources: &[&str]) -> Head {
        let digest = Digest::of(publisher.as_bytes());
        let entry = |source: &&str| Entry {
            source: source.parse().unwrap(),
            compartment: "all".parse().unwrap(),
            version: 1,
            chain: Chain::of(digest),
        };
        Head {
            tenant: digest,
            publisher: publisher.parse().unwrap(),
            version: 1,
            issued: Timestamp::UNIX_EPOCH,
            lease: Lease { fresh: 1, expires: 2 },
            policy: 1,
            nodes: None,
            entries: sources.iter().map(entry).collect(),
        }
    }

    fn source(name: &str, code: Option<&str>) -> SourceReport {
        let problem = code.map(|code| Problem {
            code: code.to_owned(),
            reason: "for this host alone".to_owned(),
            hint: String::new(),
        });
        SourceReport {
            name: name.to_owned(),
            taken: problem.as_ref().map_or(Taken::Fetched, |_| Taken::LastGood),
            problem,
            users: 0,
            groups: 0,
            keys: 0,
            sequence: None,
            generated_at: None,
            fetched_at: None,
            etag: None,
        }
    }

    #[test]
    fn what_is_not_served_is_claimed_of_no_publisher_that_it_is_of() {
        let heads = [head("a", &["access-rules", "local"]), head("b", &["people"])];
        let walked = Walked {
            complete: heads.iter().map(|head| head.publisher.clone()).collect(),
            heads: heads.into_iter().map(|head| (head, Freshness::Fresh)).collect(),
            ..Walked::default()
        };
        let judged = |report: Option<&Report>, has_copy| {
            let unserved = Unserved::of(report, has_copy);
            let served = unserved.served(&walked);
            let served: Vec<String> = served.iter().map(ToString::to_string).collect();
            let said: Vec<String> = unserved.alarms().iter().map(ToString::to_string).collect();
            (served.join(" "), said.join(", "))
        };
        let said = |served: &str, alarms: &str| (served.to_owned(), alarms.to_owned());
        assert_eq!(judged(None, false), said("", "not-published table"));
        let mut report = Report::begin();
        report.sources = vec![
            source("local", None),
            source("people", None),
            source("old", Some("no-key")),
        ];
        // Nobody's, by what the heads say.
        assert_eq!(judged(Some(&report), false), said("a b", "not-published old"));
        report.sources.pop();
        assert_eq!(judged(Some(&report), false), said("a b", ""));
        assert_eq!(judged(Some(&report), true), said("", "not-published copy"));
        report.sources[1] = source("people", Some("content-root"));
        assert_eq!(judged(Some(&report), false), said("a", "not-published people"));
        report.access.problem = Some("the last well-formed ones stay in force".to_owned());
        let both = said("", "not-published people, not-published access-rules");
        assert_eq!(judged(Some(&report), false), both);
        report.problem = source("", Some("too-many")).problem;
        assert_eq!(judged(Some(&report), false), said("", "not-published table"));
    }

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
