//! Overlays for the benchmark. `overlay USERS FOLDER CHANGED` changes that many of the users that `generate`
//! wrote, in one overlay, and tells how long it takes to change one more, time and again: another name and
//! another team. That is processor time if FOLDER is in memory. With CHANGED = 0 an overlay is left that says
//! nothing.

use dirless_table::overlay::{self, Draft, Published, Stats};
use dirless_table::{TableMeta, UserRecord, WriteError};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Instant;

const FIRST_UID: u32 = 1_000_000;
const USERS_PER_TEAM: u32 = 10;
const ROUNDS: u32 = 51;

type Failed = Box<dyn std::error::Error>;

fn main() -> Result<(), Failed> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [users, folder, changed] = arguments.as_slice() else {
        return Err("usage: overlay USERS FOLDER CHANGED".into());
    };
    let path = PathBuf::from(folder).join("table");
    let table = Table {
        owner: std::fs::metadata(&path)?.uid(),
        path,
        users: users.parse()?,
    };
    let changed: u32 = changed.parse()?;
    let spread = table.users / changed.max(1);
    table.publish(1, |draft| {
        (0..changed).try_for_each(|n| table.change(draft, n * spread, 1))
    })?;
    let (mut costs, mut last) = (Vec::new(), None);
    for round in 0..ROUNDS {
        let before = Instant::now();
        let stats = table.publish(2 + u64::from(round), |draft| table.change(draft, 1, round + 2))?;
        costs.push(before.elapsed());
        last = stats.or(last);
    }
    table.publish(u64::from(ROUNDS) + 2, |draft| table.change(draft, 1, 0))?;
    costs.sort_unstable();
    let median = costs.get(costs.len() / 2).ok_or("no rounds")?;
    let bytes = last.map_or(0, |stats| stats.bytes);
    println!(
        "one user more over {changed}: {} us to publish an overlay of {bytes} bytes",
        median.as_micros()
    );
    Ok(())
}

struct Table {
    path: PathBuf,
    owner: u32,
    users: u32,
}

impl Table {
    fn publish(
        &self,
        generation: u64,
        fill: impl FnOnce(&mut Draft<'_>) -> Result<(), WriteError>,
    ) -> Result<Option<Stats>, WriteError> {
        let meta = TableMeta {
            generation,
            created: 0,
            enumerate: true,
        };
        match overlay::publish(&self.path, self.owner, meta, overlay::MOST_BYTES, fill)? {
            Published::Unchanged => Ok(None),
            Published::Overlay(stats) => Ok(Some(stats)),
        }
    }

    /// The user as she was for a state of 0; else of another name, and in or out of a team from state to state.
    fn change(&self, draft: &mut Draft<'_>, user: u32, state: u32) -> Result<(), WriteError> {
        let (name, uid) = (format!("user{user:07}"), FIRST_UID + user);
        let gecos = match state {
            0 => format!("Person Number {user}"),
            _ => format!("Person Number {user}, {state}"),
        };
        let record = UserRecord {
            name: &name,
            uid,
            gid: uid,
            gecos: &gecos,
            home: &format!("/home/{name}"),
            shell: "/bin/bash",
            keys: "",
        };
        draft.put_user(&record)?;
        let teams = (self.users / USERS_PER_TEAM).max(1);
        // Half the teams away, where she is not a member.
        let team = format!("team{:06}", (user / USERS_PER_TEAM + teams / 2) % teams);
        let (joins, leaves) = if state % 2 == 1 {
            (Some(name.as_str()), None)
        } else {
            (None, Some(name.as_str()))
        };
        draft.change_members(&team, joins, leaves)
    }
}
