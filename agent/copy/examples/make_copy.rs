//! Makes a copy of a made-up directory, to serve or to measure.
//!
//! ```text
//! cargo run --release -p dirless-copy --example make_copy -- USERS FILE [measure]
//! ```
//!
//! Users are `user000000` and on, uid and gid from 100000; everyone is in `everyone` and in three of the
//! groups `team-0` and on, one group for fifty users, gid from 500000. With `measure` it then changes
//! the membership of one user and says what that took.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, bail};
use dirless_copy::{Draft, Group, Posix, Summary, User};
use dirless_directory::{Dn, Schema};
use jiff::Timestamp;

/// Groups that each user is in, besides `everyone`.
const TEAMS: u32 = 3;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (users, path, measure) = match words.as_slice() {
        [users, path] => (users.parse()?, Path::new(*path), false),
        [users, path, "measure"] => (users.parse()?, Path::new(*path), true),
        _ => bail!("usage: make_copy USERS FILE [measure]"),
    };
    report("all", users, path, None)?;
    if measure {
        // The second generation copies the file; from the third on the two take turns.
        for moved in 1..=5 {
            report("one membership", users, path, Some(moved))?;
        }
        report("nothing", users, path, Some(5))?;
    }
    Ok(())
}

fn report(what: &str, users: u32, path: &Path, moved: Option<u32>) -> anyhow::Result<()> {
    let start = Instant::now();
    let summary = publish(users, path, moved)?;
    println!(
        "{what}: {:.1} ms; {summary:?}; {} KiB; peak {} KiB",
        start.elapsed().as_secs_f64() * 1e3,
        std::fs::metadata(path)?.len() / 1024,
        peak()
    );
    Ok(())
}

/// The most memory that this process ever had, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a program of its own, which tells the time itself"
)]
fn publish(users: u32, path: &Path, moved: Option<u32>) -> anyhow::Result<Summary> {
    let teams = (users / 50).max(1);
    // Whoever is named by `moved` is also in a team that they are not in by number.
    let is_in = |user: u32, team: u32| {
        (0..TEAMS).any(|step| (user * 7 + step * 13) % teams == team)
            || moved.is_some_and(|moved| user == moved && team == (moved + teams / 2) % teams)
    };
    let mut by_team = vec![Vec::new(); teams as usize];
    let mut by_user = vec![Vec::new(); users as usize];
    for user in 0..users {
        let likely = (0..TEAMS).map(|step| (user * 7 + step * 13) % teams);
        for team in likely.chain(moved.map(|moved| (moved + teams / 2) % teams)) {
            let (of_team, of_user) = (by_team.get_mut(team as usize), by_user.get_mut(user as usize));
            if let (true, Some(of_team), Some(of_user)) = (is_in(user, team), of_team, of_user)
                && of_team.last() != Some(&user)
                && !of_user.contains(&team)
            {
                of_team.push(user);
                of_user.push(team);
            }
        }
    }
    let user_names: Vec<String> = (0..users).map(|user| format!("user{user:06}")).collect();
    let team_names: Vec<String> = (0..teams).map(|team| format!("team-{team}")).collect();
    let named = |places: &[u32], names: &[String]| -> Vec<String> {
        let mut found: Vec<String> = places
            .iter()
            .filter_map(|at| names.get(*at as usize).cloned())
            .collect();
        found.sort();
        found
    };
    let schema = Schema::standard();
    let base = Dn::parse("dc=dirless")?;
    let mut posix = Posix::new(schema.clone(), base).context("the base")?;
    let mut draft = Draft::begin(path, schema, "made-up", Timestamp::now(), false)?;
    posix.begin(&mut draft)?;
    let everyone = user_names.iter().map(String::as_str);
    posix.group(
        &mut draft,
        Group {
            name: "everyone",
            gid: 499_999,
        },
        everyone,
    )?;
    let mut order: Vec<u32> = (0..teams).collect();
    order.sort_by_key(|team| team_names.get(*team as usize));
    for team in order {
        let at = team as usize;
        let members = by_team
            .get(at)
            .map(|members| named(members, &user_names))
            .unwrap_or_default();
        let name = team_names.get(at).map_or("", String::as_str);
        let group = Group {
            name,
            gid: 500_000 + team,
        };
        posix.group(&mut draft, group, members.iter().map(String::as_str))?;
    }
    posix.users(&mut draft)?;
    for (user, name) in (0..users).zip(&user_names) {
        let mut groups = by_user
            .get(user as usize)
            .map(|teams| named(teams, &team_names))
            .unwrap_or_default();
        groups.insert(0, "everyone".to_owned());
        let (gecos, home) = (format!("Person Number {user}"), format!("/home/{name}"));
        let user = User {
            name,
            uid: 100_000 + user,
            gid: 100_000 + user,
            gecos: &gecos,
            home: &home,
            shell: "/bin/bash",
            keys: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLEEX",
        };
        posix.user(&mut draft, user, groups.iter().map(String::as_str))?;
    }
    Ok(draft.finish("made-up")?)
}
