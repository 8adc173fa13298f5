//! People as a directory of an organisation has them: each with a key of their own, and in five teams.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use ring::digest::{SHA256, digest};

/// How many are in a team.
const TEAM: usize = 250;
/// How many teams one is in.
const TEAMS: usize = 5;

/// Everybody, how often some of them have changed, and who has left.
#[derive(Clone, Debug)]
pub(crate) struct People {
    count: usize,
    changed: BTreeMap<usize, u32>,
    gone: BTreeSet<usize>,
}

/// What one is called.
pub(crate) fn name(number: usize) -> String {
    format!("user{number:06}")
}

/// A key that differs from one to the other and does not compress, as real ones.
pub(crate) fn key(number: usize) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let hash = digest(&SHA256, &number.to_le_bytes());
    let more = digest(&SHA256, hash.as_ref());
    let bytes = hash.as_ref().iter().chain(more.as_ref()).take(43);
    let letter = |byte: &u8| {
        LETTERS
            .get(usize::from(byte & 63))
            .map_or('A', |letter| char::from(*letter))
    };
    let key: String = bytes.map(letter).collect();
    format!(
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{key} {}@example.com",
        name(number)
    )
}

impl People {
    /// So many, none of whom has changed or left yet.
    pub(crate) fn new(count: usize) -> Self {
        Self {
            count: count.max(1),
            changed: BTreeMap::new(),
            gone: BTreeSet::new(),
        }
    }

    /// How many.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// One of them changes: their number, and what their full name is now.
    pub(crate) fn change(&mut self, number: usize) -> String {
        let number = number % self.count;
        *self.changed.entry(number).or_default() += 1;
        self.full_name(number)
    }

    /// The last of those who are still there leaves, with their key and their places in teams: their number. Somebody has to stay.
    pub(crate) fn leave(&mut self) -> Option<usize> {
        let last = self.there().next_back().filter(|last| *last > 0)?;
        self.gone.insert(last);
        Some(last)
    }

    /// The numbers of those who have not left.
    pub(crate) fn there(&self) -> impl DoubleEndedIterator<Item = usize> {
        (0..self.count).filter(|number| !self.gone.contains(number))
    }

    fn full_name(&self, number: usize) -> String {
        match self.changed.get(&number) {
            None => format!("Person Number {number}"),
            Some(times) => format!("Person Number {number}, Office {times}"),
        }
    }

    fn teams(&self) -> usize {
        self.count.div_ceil(TEAM / TEAMS)
    }

    /// The record of one.
    pub(crate) fn user(&self, number: usize) -> String {
        let (name, uid) = (name(number), 1_910_000_000 + number);
        format!(
            r#"{{"username":"{name}","uid":{uid},"gid":{uid},"gecos":"{}","home":"/home/{name}","shell":"/bin/bash","id":"9067{number:06}-0000-4000-8000-000000000000"}}"#,
            self.full_name(number)
        )
    }

    /// The record of a team, without those whom `leaves_out` names, and with `joins`.
    pub(crate) fn team(&self, team: usize, leaves_out: Option<usize>, joins: Option<usize>) -> String {
        let teams = self.teams();
        let own = (0..TEAMS).flat_map(|step| {
            let first = (team + teams - step % teams) % teams;
            (first..self.count).step_by(teams)
        });
        let mut members: Vec<usize> = own
            .filter(|member| Some(*member) != leaves_out && !self.gone.contains(member))
            .chain(joins)
            .collect();
        members.sort_unstable();
        members.dedup();
        let members: Vec<String> = members
            .into_iter()
            .map(|member| format!("\"{}\"", name(member)))
            .collect();
        let gid = 1_900_000_000 + team;
        format!(
            r#"{{"name":"team-{team}","gid":{gid},"members":[{}]}}"#,
            members.join(",")
        )
    }

    /// The teams that one is in.
    pub(crate) fn teams_of(&self, number: usize) -> Vec<usize> {
        let teams = self.teams();
        let mut own: Vec<usize> = (0..TEAMS).map(|step| (number + step) % teams).collect();
        own.sort_unstable();
        own.dedup();
        own
    }

    /// All of it, as a snapshot.
    pub(crate) fn snapshot(&self) -> Vec<u8> {
        let mut json = Vec::with_capacity(self.count * 400);
        json.extend_from_slice(b"{\"sequence\":1,\"groups\":[");
        let mut list = |open: &[u8], records: &mut dyn Iterator<Item = String>| {
            json.extend_from_slice(open);
            for (place, record) in records.enumerate() {
                json.extend_from_slice(if place == 0 { b"" } else { b"," });
                // Writing to memory does not fail.
                let _ = json.write_all(record.as_bytes());
            }
        };
        list(b"", &mut (0..self.teams()).map(|team| self.team(team, None, None)));
        list(b"],\"users\":[", &mut self.there().map(|number| self.user(number)));
        let keys = &mut self
            .there()
            .map(|number| format!("\"{}\":\"{}\"", name(number), key(number)));
        list(b"],\"ssh_keys\":{", keys);
        json.extend_from_slice(b"}}");
        json
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_is_in_the_teams_that_say_so() {
        for count in [1, 7, 50, 1000] {
            let people = People::new(count);
            for number in [0, count / 2, count - 1] {
                for team in 0..people.teams() {
                    let is_in = people.team(team, None, None).contains(&format!("\"{}\"", name(number)));
                    assert_eq!(
                        is_in,
                        people.teams_of(number).contains(&team),
                        "{number} in {team} of {count}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_snapshot_is_json_and_a_change_is_one_record() {
        let mut people = People::new(120);
        let before: serde_json::Value = serde_json::from_slice(&people.snapshot()).unwrap();
        let told = people.change(120 + 7);
        let mut after: serde_json::Value = serde_json::from_slice(&people.snapshot()).unwrap();
        assert_eq!(after["users"][7]["gecos"], told);
        after["users"][7] = before["users"][7].clone();
        assert_eq!((before["users"].as_array().unwrap().len(), people.count()), (120, 120));
        assert_eq!(before, after);
    }

    #[test]
    fn who_leaves_is_nowhere() {
        let mut people = People::new(60);
        assert_eq!((people.leave(), people.leave()), (Some(59), Some(58)));
        let text = String::from_utf8(people.snapshot()).unwrap();
        assert!(text.contains(&name(57)) && !text.contains(&name(58)) && !text.contains(&name(59)));
        assert_eq!(people.there().count(), 58);
        assert_eq!(People::new(1).leave(), None);
    }
}
