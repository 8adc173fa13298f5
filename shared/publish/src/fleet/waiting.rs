//! Waiting for hosts to apply something.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use dirless_seal::Label;
use dirless_seal::trust::{NodeList, Policy, Seen};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Fleet, Host, Roster, Standing};
use crate::{Enroller, Folder, Registry, SignedError, Signer};

/// Longest pause between two looks at the receipts.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What hosts are waited for to apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Awaited {
    /// The version of our own head, or any later one.
    pub version: u64,
    /// The version of the policy that it was signed under.
    pub policy: u64,
    /// When it was there at the latest: what went before it is believed until its lease has run out.
    pub signed_by: Timestamp,
}

/// A host that is heard of and has not applied it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Behind {
    /// The name of its key.
    pub node: String,
    /// When it was heard of last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub heard_at: Option<Timestamp>,
    /// What it says is wrong: a code, and what it is about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alarms: Vec<String>,
}

/// How far hosts are with it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Waited {
    /// Hosts that applied it, or are heard of.
    pub connected: usize,
    /// Hosts that applied it.
    pub applied: usize,
    /// Hosts that are heard of and have not applied it.
    pub behind: Vec<Behind>,
    /// Hosts that have not applied it and are not heard of, by the names of their keys.
    pub offline: Vec<String>,
    /// Seconds until the last of those that applied it was seen to have done so; absent when nobody was watching.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slowest_seconds: Option<f64>,
    /// When the leases of all hosts that have not applied it have run out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub leases_end: Option<Timestamp>,
    /// How many of those serve on when their lease has run out, as their compartment says.
    pub serve_on: usize,
    /// Receipts that are not believed.
    pub problems: Vec<String>,
    /// Different contents under one version.
    pub split_views: Vec<String>,
}

/// How quickly hosts apply something, over several looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    began: Option<Instant>,
    applied: usize,
    slowest: Option<Duration>,
}

impl Pace {
    /// Of something that began then. The default is of something of which nobody knows.
    #[must_use]
    pub fn since(began: Instant) -> Self {
        Self {
            began: Some(began),
            ..Self::default()
        }
    }

    /// With what another one saw who looked meanwhile.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        if other.applied > self.applied { other } else { self }
    }

    fn note(&mut self, applied: usize) {
        if applied > self.applied {
            self.applied = applied;
            self.slowest = self.began.map(|began| began.elapsed());
        }
    }
}

impl Waited {
    fn look(fleet: &Fleet, own: &Own<'_>, awaited: Awaited, now: Timestamp) -> Self {
        let mut waited = Self {
            problems: fleet.problems.clone(),
            split_views: fleet.splits().iter().map(ToString::to_string).collect(),
            ..Self::default()
        };
        waited.problems.extend(own.unknown_heads(fleet));
        for (name, host) in &fleet.hosts {
            match host.standing(own.publisher, awaited, own.newest, now) {
                Standing::Applied => {
                    waited.applied += 1;
                    continue;
                }
                Standing::Behind => waited.behind.push(Behind::of(name, host)),
                Standing::Offline => waited.offline.push(name.to_string()),
            }
            waited.leases_end = waited.leases_end.max(host.lease_ends(awaited, own.lease));
            waited.serve_on += usize::from(own.roster.serves_on(name));
        }
        waited.connected = waited.applied + waited.behind.len();
        waited
    }

    /// Who has not applied it, by name, for people.
    pub fn laggards(&self) -> impl Iterator<Item = String> {
        self.behind.iter().map(ToString::to_string)
    }
}

impl Behind {
    fn of(name: &Label, host: &Host) -> Self {
        Self {
            node: name.to_string(),
            heard_at: host.received,
            alarms: host.alarms(),
        }
    }
}

impl fmt::Display for Behind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.node)?;
        match self.alarms.is_empty() {
            true => Ok(()),
            false => write!(formatter, " ({})", self.alarms.join(", ")),
        }
    }
}

impl fmt::Display for Waited {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} of {} connected hosts", self.applied, self.connected)?;
        if let Some(slowest) = self.slowest_seconds {
            write!(formatter, ", slowest {slowest:.1} s")?;
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

impl fmt::Debug for Receipts<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Receipts")
            .field("roster", &self.roster)
            .finish_non_exhaustive()
    }
}

impl<'a> Receipts<'a> {
    /// Those at the backend of `folder`; none where there is no backend, for nobody reports to a folder. Node lists that are
    /// older than what is `known`, or do not hold, go to `problems`.
    ///
    /// # Errors
    /// When the node lists cannot be read.
    pub fn at(
        folder: &'a dyn Folder,
        policy: Policy,
        known: Vec<NodeList>,
        problems: &mut Vec<String>,
    ) -> Result<Option<Self>, SignedError> {
        let Some(registry) = folder.registry() else {
            return Ok(None);
        };
        let roster = Roster::read(folder, &policy, known, problems)?;
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

    /// Who may sign them.
    #[must_use]
    pub fn roster(&self) -> &Roster {
        &self.roster
    }
}

/// Whose heads are waited for, and what is known of them.
struct Own<'a> {
    publisher: &'a Label,
    /// The last one, as of after the receipts were read.
    newest: Option<Seen>,
    /// Seconds of a lease, as this publisher signs them: what is served as its head is anybody's.
    lease: u32,
    roster: &'a Roster,
}

impl Own<'_> {
    /// Hosts that say to have applied what was never signed here, for people.
    fn unknown_heads(&self, fleet: &Fleet) -> Option<String> {
        let newest = self.newest?;
        let head = |host: &Host| host.head(self.publisher).map(|head| head.version);
        let mut ahead = fleet
            .hosts
            .iter()
            .filter_map(|(name, host)| Some((name, head(host).filter(|head| *head > newest.version)?)));
        let (name, head) = ahead.next()?;
        let others = match ahead.count() {
            0 => String::new(),
            more => format!(", as {more} others do"),
        };
        Some(format!(
            "{name} says that it applied head {head} of {}{others}; the last one that was signed here is {}. That counts for \
             nothing, and these hosts as behind, until they report a head of today's key",
            self.publisher, newest.version
        ))
    }
}

impl Enroller {
    /// Where hosts' receipts are read; none where there is no backend.
    ///
    /// # Errors
    /// When policy or node lists cannot be read.
    pub fn receipts(&self, problems: &mut Vec<String>) -> Result<Option<Receipts<'_>>, SignedError> {
        let policy = self.policy(problems)?;
        let known = self.known_lists(&policy)?;
        Receipts::at(self.folder(), policy, known, problems)
    }
}

impl Signer {
    /// How far hosts are with each; none where there is no backend. What does not hold goes to `problems`.
    ///
    /// # Errors
    /// When the backend cannot be asked.
    pub fn standings(
        &self,
        awaited: impl IntoIterator<Item = Awaited>,
        problems: &mut Vec<String>,
    ) -> Result<Option<BTreeMap<Awaited, Waited>>, SignedError> {
        let Some(receipts) = self.enroller().receipts(problems)? else {
            return Ok(None);
        };
        let (fleet, now) = (receipts.fleet()?, self.clock.now());
        let own = self.own(&receipts)?;
        let looked = awaited
            .into_iter()
            .map(|awaited| (awaited, Waited::look(&fleet, &own, awaited, now)));
        Ok(Some(looked.collect()))
    }

    /// Waits until every host that is heard of has applied it, or it is `until`; none where there is no backend. A failing
    /// backend is asked again until then. What does not hold goes to `problems`.
    ///
    /// # Errors
    /// When the backend cannot be asked at the end.
    pub fn wait(
        &self,
        awaited: Awaited,
        pace: &mut Pace,
        until: Instant,
        problems: &mut Vec<String>,
    ) -> Result<Option<Waited>, SignedError> {
        let Some(receipts) = self.enroller().receipts(problems)? else {
            return Ok(None);
        };
        loop {
            let asked = Instant::now();
            let looked = receipts.fleet().and_then(|fleet| {
                let own = self.own(&receipts)?;
                Ok(Waited::look(&fleet, &own, awaited, self.clock.now()))
            });
            let is_over = Instant::now() >= until;
            match looked {
                Ok(mut waited) => {
                    pace.note(waited.applied);
                    if waited.behind.is_empty() || is_over {
                        waited.slowest_seconds = pace.slowest.map(|slowest| slowest.as_secs_f64());
                        return Ok(Some(waited));
                    }
                }
                Err(error) if is_over => return Err(error),
                // The backend may be back in a moment; what is missing at the end is an error.
                Err(_again) => {}
            }
            // As long as the question took: many thousands of receipts are not asked for all the time.
            let pause = asked.elapsed().clamp(Duration::from_millis(50), LONGEST_PAUSE);
            let left = until.saturating_duration_since(Instant::now());
            std::thread::sleep(pause.min(left).max(Duration::from_millis(10)));
        }
    }

    fn own<'a>(&'a self, receipts: &'a Receipts<'_>) -> Result<Own<'a>, SignedError> {
        Ok(Own {
            publisher: self.publisher(),
            newest: self.book()?.newest()?,
            lease: self.config.lease(receipts.policy.lease).expires,
            roster: &receipts.roster,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{host, label, time};
    use super::*;

    fn look(fleet: &Fleet) -> Waited {
        let (publisher, roster) = (label("syncer"), Roster::default());
        let own = Own {
            publisher: &publisher,
            newest: None,
            lease: 3600,
            roster: &roster,
        };
        let awaited = Awaited {
            version: 7,
            policy: 1,
            signed_by: time(10_000),
        };
        Waited::look(fleet, &own, awaited, time(10_010))
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
        let waited = look(&fleet);
        assert_eq!((waited.applied, waited.connected), (2, 3));
        assert_eq!(
            (waited.behind[0].node.as_str(), waited.behind[0].heard_at),
            ("n3", Some(time(9_990)))
        );
        assert_eq!(waited.offline, ["n4", "n5"]);
        // Who never said anything may have the head just before.
        assert_eq!(waited.leases_end, Some(time(13_600)));
        assert_eq!(
            Waited {
                slowest_seconds: Some(0.66),
                ..waited
            }
            .to_string(),
            "2 of 3 connected hosts, slowest 0.7 s; 2 offline, leases end at 1970-01-01 03:46:40Z"
        );
        fleet.hosts.retain(|name, _| ["n1", "n4"].contains(&name.as_str()));
        assert_eq!(
            look(&fleet).leases_end,
            Some(time(8_600)),
            "no later than when it was heard of"
        );
        assert_eq!(fleet.splits(), []);
        fleet.hosts.insert(label("n6"), host(7, 9, 1));
        assert_eq!(fleet.splits().len(), 1);
    }

    #[test]
    fn a_number_alone_is_no_head() {
        let publisher = label("syncer");
        let applied = |of: &Host, awaited, newest: Option<&Host>| {
            let newest = newest.and_then(|host| host.head(&publisher));
            of.standing(&publisher, awaited, newest, time(10_000)) == Standing::Applied
        };
        let awaited = Awaited {
            version: 7,
            policy: 1,
            signed_by: time(10_000),
        };
        let (seven, nine) = (host(7, 1, 9_990), host(9, 1, 9_990));
        assert!(applied(&seven, awaited, None) && applied(&seven, awaited, Some(&nine)));
        assert!(applied(&nine, awaited, None) && applied(&nine, awaited, Some(&nine)));
        // Signed by the key before, or by whoever stole it.
        assert!(!applied(&nine, awaited, Some(&seven)));
        assert!(!applied(&nine, awaited, Some(&host(9, 2, 9_990))));
        // It does not know the policy that names the key.
        assert!(!applied(&nine, Awaited { policy: 2, ..awaited }, Some(&nine)));

        let mut fleet = Fleet::default();
        fleet.hosts.insert(label("n1"), nine.clone());
        let own = Own {
            publisher: &publisher,
            newest: seven.head(&publisher),
            lease: 3600,
            roster: &Roster::default(),
        };
        let waited = Waited::look(&fleet, &own, awaited, time(10_010));
        assert_eq!((waited.applied, waited.behind.len(), waited.problems.len()), (0, 1, 1));
        assert!(
            waited.problems[0].contains("n1 says that it applied head 9"),
            "{:?}",
            waited.problems
        );
    }

    #[test]
    fn times_far_ahead_say_nothing() {
        let at = |received| host(7, 1, received).is_connected(time(10_000));
        assert!(at(9_990) && at(10_010), "clocks differ");
        assert!(!at(9_000) && !at(20_000));
    }

    #[test]
    fn the_slowest_is_who_came_last_while_somebody_looked() {
        let mut pace = Pace::since(Instant::now());
        pace.note(0);
        assert_eq!(pace.slowest, None);
        pace.note(2);
        let first = pace;
        assert!(first.slowest.is_some());
        pace.note(2);
        assert_eq!(pace, first, "nobody came");
        pace.note(3);
        assert!(pace.slowest >= first.slowest);
        assert_eq!((pace.or(first), first.or(pace)), (pace, pace));
        let mut unknown = Pace::default();
        unknown.note(3);
        assert_eq!(unknown.slowest, None);
    }
}
