//! Makes a copy of a made-up directory, to serve or to measure.
//!
//! ```text
//! cargo run --release -p dirless-copy --example make_copy -- USERS FILE [measure|ldif]
//! ```
//!
//! Users are `user000000` and on, uid and gid from 100000; everyone is in `everyone` and in three of the
//! groups `team-0` and on, one group for fifty users, gid from 500000. With `measure` it then changes
//! the membership of one user and says what that took, first given everybody, then given the change; with `ldif` it writes the copy that is there as
//! LDIF (RFC 2849), without operational attributes, for another server to load. Everybody's password is
//! `correct horse`.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};
use dirless_copy::{Draft, Edit, Group, Layered, Overlay, Posix, Reader, Scope, Summary, User};
use dirless_directory::encoded::walk;
use dirless_directory::{Dn, DnKey, Filter, Schema};
use jiff::Timestamp;

/// Groups that each user is in, besides `everyone`.
const TEAMS: u32 = 3;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (users, path, measure) = match words.as_slice() {
        [users, path] => (users.parse()?, Path::new(*path), false),
        [users, path, "measure"] => (users.parse()?, Path::new(*path), true),
        [_, path, "ldif"] => return write_ldif(Path::new(*path)),
        _ => bail!("usage: make_copy USERS FILE [measure|ldif]"),
    };
    report("all", users, path, None)?;
    if measure {
        // The second generation copies the file; from the third on the two take turns.
        for moved in 1..=5 {
            report("one membership", users, path, Some(moved))?;
        }
        report("nothing", users, path, Some(5))?;
        edits(users, path)?;
    }
    Ok(())
}

fn report(what: &str, users: u32, path: &Path, moved: Option<u32>) -> anyhow::Result<()> {
    let (summary, elapsed, cpu) = publish(users, path, moved)?;
    println!(
        "{what}: {:.1} ms, CPU {:.1} ms; {summary:?}; {} KiB; peak {} KiB",
        elapsed * 1e3,
        cpu * 1e3,
        size(path)? / 1024,
        peak()
    );
    Ok(())
}

/// Changes one user's shell in each of a few generations of a copy of `path`, given that change alone.
#[expect(
    clippy::disallowed_methods,
    reason = "a program of its own, which tells the time itself"
)]
fn edits(users: u32, path: &Path) -> anyhow::Result<()> {
    let apart = path.with_extension("edited");
    for (flat, rest) in flat_files(path)? {
        std::fs::copy(flat, format!("{}{rest}", apart.display()))?;
    }
    std::fs::copy(path, &apart)?;
    let schema = Schema::standard();
    let mut posix = Posix::new(schema.clone(), Dn::parse("dc=dirless")?).context("the base")?;
    let mut taken = Vec::new();
    for number in 0..12_u32 {
        let name = format!("user{:06}", (number * 7919) % users);
        let user = User {
            name: &name,
            uid: 100_000 + (number * 7919) % users,
            gid: 100_000,
            gecos: "Somebody Else",
            home: "/home/else",
            shell: "/bin/zsh",
            keys: "",
        };
        let (start, cpu) = (Instant::now(), processor_time());
        let mut edit = Edit::begin(&apart, schema.clone(), Timestamp::now())?;
        posix.user(&mut edit, user, ["everyone"].into_iter())?;
        let summary = edit.finish("edited")?;
        anyhow::ensure!(summary.changed == 1 && summary.added == 0, "{summary:?}");
        taken.push((start.elapsed().as_secs_f64() * 1e3, (processor_time() - cpu) * 1e3));
    }
    // The first ones copy the file, until there are two that take turns.
    let mut steady: Vec<_> = taken.into_iter().skip(2).collect();
    steady.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (median, worst) = (steady.get(steady.len() / 2), steady.last());
    let cpu: f64 = steady.iter().map(|(_, cpu)| cpu).sum::<f64>() / steady.len() as f64;
    println!(
        "one change given: median {:.1} ms, worst {:.1} ms, CPU {cpu:.1} ms",
        median.map_or(0.0, |one| one.0),
        worst.map_or(0.0, |one| one.0),
    );
    Draft::remove_all(&apart)?;
    Ok(())
}

/// User and system time of this thread in seconds (proc(5): its first field is in nanoseconds).
fn processor_time() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let first = text.split_whitespace().next();
    first.and_then(|number| number.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}

/// Writes every entry with its user attributes, and its password.
fn write_ldif(path: &Path) -> anyhow::Result<()> {
    let schema = Schema::standard();
    let reader = Reader::open(path, schema)?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut failed = None;
    let all = Filter::And(Vec::new());
    reader.candidates(&DnKey::from(Vec::new()), Scope::Subtree, &all, None, &mut |row| {
        let mut write = || {
            writeln!(out, "dn: {}", row.dn)?;
            let mut secret = Vec::new();
            reader.secrets(row.key, &mut |secrets| secret.extend_from_slice(secrets.user()))?;
            for one in walk(row.attributes.user()).chain(walk(&secret)) {
                for value in one.values {
                    // Everything in this directory is plain text that needs no escape.
                    writeln!(out, "{}: {}", one.name, String::from_utf8_lossy(value))?;
                }
            }
            Ok::<_, anyhow::Error>(writeln!(out)?)
        };
        match write() {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    out.flush()?;
    failed.map_or(Ok(()), Err)
}

/// `{SSHA}` of everybody's password (RFC 2307 section 5.3), salted with a user's number.
fn password(user: u32) -> String {
    let salt = user.to_be_bytes();
    let text = [b"correct horse".as_slice(), &salt].concat();
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, &text);
    format!("{{SSHA}}{}", base64(&[digest.as_ref(), &salt].concat()))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let chunks = bytes.chunks(3).flat_map(|chunk| {
        let group = chunk.iter().fold(0_u32, |group, byte| group << 8 | u32::from(*byte));
        let group = group << (8 * (3 - chunk.len()));
        (0..4).map(move |at| {
            let digit = DIGITS
                .get((group >> (18 - 6 * at)) as usize & 63)
                .copied()
                .unwrap_or(b'=');
            char::from(if at <= chunk.len() { digit } else { b'=' })
        })
    });
    chunks.collect()
}

/// Bytes of a copy: of the database that is in place, and of the flat file.
fn size(path: &Path) -> anyhow::Result<u64> {
    let flat = flat_files(path)?.into_iter().map(|(path, _)| path);
    let sizes = flat.chain([path.to_owned()]).map(std::fs::metadata);
    Ok(sizes.collect::<Result<Vec<_>, _>>()?.iter().map(|one| one.len()).sum())
}

/// The flat files of a copy, and what follows the copy's name in theirs.
fn flat_files(path: &Path) -> anyhow::Result<Vec<(PathBuf, String)>> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let name = path.file_name().context("a file")?.to_string_lossy().into_owned();
    let mut found = Vec::new();
    for file in std::fs::read_dir(folder.unwrap_or(Path::new(".")))? {
        let file = file?;
        let beside = file.file_name().to_string_lossy().into_owned();
        if let Some(rest) = beside.strip_prefix(&name).filter(|rest| rest.starts_with(".entries-")) {
            found.push((file.path(), rest.to_owned()));
        }
    }
    Ok(found)
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
fn publish(users: u32, path: &Path, moved: Option<u32>) -> anyhow::Result<(Summary, f64, f64)> {
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
    let passwords: Vec<Vec<u8>> = (0..users).map(|user| password(user).into_bytes()).collect();
    // From here on it is the copy's work: so far people were made up.
    let (start, cpu) = (Instant::now(), processor_time());
    let schema = Schema::standard();
    let base = Dn::parse("dc=dirless")?;
    let base_key = schema.dn_key(&base).context("the base")?;
    let mut overlay = Overlay::default();
    for (hash, name) in passwords.into_iter().zip(&user_names) {
        let hash = [hash];
        let dn = format!("uid={name},ou=users,dc=dirless");
        overlay.add(&schema, &base_key, &dn, [("userPassword", hash.as_slice())].into_iter())?;
    }
    overlay.sort();
    let mut posix = Posix::new(schema.clone(), base).context("the base")?;
    let mut draft = Draft::begin(path, schema.clone(), "made-up", Timestamp::now(), false)?;
    let mut layered = Layered::new(&mut draft, &overlay, &schema);
    posix.begin(&mut layered)?;
    let everyone = user_names.iter().map(String::as_str);
    posix.group(
        &mut layered,
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
        posix.group(&mut layered, group, members.iter().map(String::as_str))?;
    }
    posix.users(&mut layered)?;
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
        posix.user(&mut layered, user, groups.iter().map(String::as_str))?;
    }
    layered.finish()?;
    let summary = draft.finish("made-up")?;
    Ok((summary, start.elapsed().as_secs_f64(), processor_time() - cpu))
}
