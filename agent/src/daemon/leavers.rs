//! Who left the published table a short while ago. Somebody whose login had passed the checks of the account when they were
//! taken out has nothing running yet that could be ended: for some minutes it is looked again.

use std::collections::BTreeMap;
use std::time::Duration;

use dirless_table::Table;

use super::engine::{Engine, OWNER, Outcome};
use super::patience::patiently;
use super::sessions::{Known, Look, Watch};
use super::state;
use crate::pipeline::HostLimits;

/// How long somebody is remembered: longer than any login takes.
const REMEMBERED: Duration = Duration::from_mins(10);
/// How often it is looked for them, whatever the interval of cycles is.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(15);
/// Most of them: more is no staff that changes.
const MOST: usize = 4096;

/// People who left, by uid.
pub(super) type Leavers = BTreeMap<u32, Left>;

/// Somebody who was in the table.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Left {
    /// Their name.
    pub name: String,
    /// When the table without them was seen, seconds since 1970.
    pub at: i64,
}

impl Left {
    /// A clock that was put back does not make it last.
    fn is_recent(&self, now: i64) -> bool {
        now.abs_diff(self.at) < REMEMBERED.as_secs()
    }
}

/// Those of `left` who are still to be remembered, and who was in the table `before` and is not in `table`, as far as `limits`
/// lets them be ended at all.
pub(super) fn leavers(left: &Leavers, limits: &HostLimits, before: Option<&Table>, table: &Table, now: i64) -> Leavers {
    let is_gone = |uid: u32| matches!(table.user_by_uid(uid), Ok(None));
    let mut kept: Leavers = left
        .iter()
        .filter(|(uid, left)| left.is_recent(now) && is_gone(**uid))
        .map(|(uid, left)| (*uid, left.clone()))
        .collect();
    let Some(before) = before.filter(|before| !before.same_as(table)) else {
        return kept;
    };
    // One that cannot be read is told of elsewhere.
    for user in before.users().flatten() {
        if kept.len() >= MOST {
            break;
        }
        if limits.user_ids.iter().any(|range| range.contains(user.uid)) && is_gone(user.uid) {
            let name = String::from_utf8_lossy(user.name()).into_owned();
            kept.insert(user.uid, Left { name, at: now });
        }
    }
    kept
}

impl Engine {
    /// Ends the sessions of those who are gone with the table that was just published. Who left is on disk before any process
    /// is looked at, so that a daemon that dies meanwhile goes on where it was.
    pub(super) async fn end_sessions(&mut self, watch: Watch, outcome: &mut Outcome, alive: &mut dyn FnMut()) {
        let problems = self.look_for_people(watch, Look::Whole, alive).await;
        outcome.problems.extend(problems);
    }

    /// Nobody's sessions are to be ended.
    pub(super) fn forget_people(&mut self) {
        self.state.present.clear();
        self.state.left.clear();
    }

    /// Is anybody to be looked for between cycles?
    pub(super) fn has_leavers(&self) -> bool {
        !self.state.left.is_empty()
    }

    /// Looks once more for those who left.
    pub(super) async fn look_again(&mut self, alive: &mut dyn FnMut()) {
        match Watch::begin(&self.paths, OWNER) {
            // Whoever it does not succeed with is told of by the next cycle.
            Some(watch) => drop(self.look_for_people(watch, Look::New, alive).await),
            None => self.forget_people(),
        }
        self.save_people();
    }

    async fn look_for_people(&mut self, watch: Watch, look: Look, alive: &mut dyn FnMut()) -> Vec<String> {
        let (paths, left) = (self.paths.clone(), self.state.left.clone());
        let now = self.clock.now().as_second();
        let found = tokio::task::spawn_blocking(move || {
            let left = watch.remember(&paths, OWNER, left, now);
            (watch, left)
        });
        let (watch, left) = match found.await {
            Ok(found) => found,
            Err(error) => return vec![format!("who left cannot be told: {error}")],
        };
        self.state.left = left;
        self.save_people();
        let known = Known {
            present: self.state.present.clone(),
            left: self.state.left.clone(),
        };
        let paths = self.paths.clone();
        let ending = tokio::task::spawn_blocking(move || watch.end(&paths, OWNER, &known, look));
        match patiently(ending, alive).await {
            Ok(ended) => {
                self.state.sessions_ended += ended.people.len() as u64;
                self.state.present = ended.present;
                ended.problems
            }
            Err(error) => vec![format!("ending sessions broke off: {error}")],
        }
    }

    fn save_people(&mut self) {
        // The end of a cycle saves as well, and tells of a disk that takes nothing.
        if let Err(error) = state::save(&self.paths.daemon_state(), &self.state, &mut self.saved) {
            tracing::debug!(%error, "who left is not on disk");
        }
    }
}

#[cfg(test)]
mod tests {
    use dirless_table::{TableBuilder, TableMeta, UserRecord};

    use super::*;

    fn table(generation: u64, people: &[(&str, u32)]) -> Table {
        let meta = TableMeta {
            generation,
            created: 1,
            enumerate: true,
        };
        let mut builder = TableBuilder::in_memory(meta).unwrap();
        for (name, uid) in people {
            let user = UserRecord {
                name,
                uid: *uid,
                gid: *uid,
                gecos: "",
                home: "/",
                shell: "/bin/sh",
                keys: "",
            };
            builder.add_user(&user).unwrap();
        }
        let (bytes, _) = builder.finish().unwrap();
        Table::from_bytes(bytes.into_inner()).unwrap()
    }

    fn names(left: &Leavers) -> Vec<&str> {
        left.values().map(|left| left.name.as_str()).collect()
    }

    #[test]
    fn who_left_is_remembered_for_ten_minutes_or_until_they_are_back() {
        let limits = HostLimits::default();
        let all = table(1, &[("alice", 100_001), ("bob", 100_002), ("carol", 100_003)]);
        let rest = table(2, &[("bob", 100_002)]);
        let left = leavers(&Leavers::new(), &limits, Some(&all), &rest, 1000);
        assert_eq!(names(&left), ["alice", "carol"]);
        // The daemon looks again, or was started again: nobody has to leave a second time.
        for before in [Some(&rest), None] {
            assert_eq!(leavers(&left, &limits, before, &rest, 1599), left);
        }
        let back = table(3, &[("bob", 100_002), ("caroline", 100_003)]);
        assert_eq!(names(&leavers(&left, &limits, Some(&rest), &back, 1100)), ["alice"]);
        assert_eq!(names(&leavers(&left, &limits, Some(&rest), &rest, 1600)), [""; 0]);
        assert_eq!(
            names(&leavers(&left, &limits, None, &rest, 0)),
            [""; 0],
            "a clock put back"
        );
    }

    #[test]
    fn who_cannot_be_ended_is_not_remembered_and_crowds_have_a_bound() {
        let mut limits = HostLimits::default();
        let crowd: Vec<(String, u32)> = (0..5000)
            .map(|number| (format!("u{number}"), 100_000 + number))
            .collect();
        let people: Vec<(&str, u32)> = crowd.iter().map(|(name, uid)| (name.as_str(), *uid)).collect();
        let (all, nobody) = (table(1, &people), table(2, &[]));
        let left = leavers(&Leavers::new(), &limits, Some(&all), &nobody, 1000);
        assert_eq!(left.len(), MOST);
        limits.user_ids = vec![];
        assert_eq!(
            leavers(&Leavers::new(), &limits, Some(&all), &nobody, 1000),
            Leavers::new()
        );
    }
}
