//! Data for the benchmark. `generate USERS FOLDER` writes a lookup table, and the same people as passwd
//! and group for the peers, with the indexes libnss-cache wants beside them. `generate USERS FOLDER
//! SECONDS [PAUSE]` publishes the table again and again for that long, with a pause of PAUSE milliseconds
//! after each, and tells what a table cost: the people's texts are made up before.

use dirless_table::{Draft, GroupRecord, TableBuilder, TableMeta, UserRecord, WriteError, publish};
use std::fmt::Write as _;
use std::io::Error;
use std::path::Path;
use std::time::{Duration, Instant};

const FIRST_UID: u32 = 1_000_000;
const FIRST_GID: u32 = 3_000_000;
/// A team for every ten users, eight members each, so that a user is in 0.8 teams and the project `all`.
const USERS_PER_TEAM: u32 = 10;
const TEAM_SIZE: u32 = 8;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [users, folder, rest @ ..] = arguments.as_slice() else {
        return Err("usage: generate USERS FOLDER [SECONDS]".into());
    };
    let (users, folder) = (users.parse()?, Path::new(folder));
    match rest {
        [] => {
            write_table(&People::new(users), folder, 1)?;
            write_texts(users, folder)?;
        }
        [seconds, rest @ ..] => {
            let pause = rest.first().map_or(Ok(0), |pause| pause.parse())?;
            publish_for(
                &People::new(users),
                folder,
                seconds.parse()?,
                Duration::from_millis(pause),
            )?;
        }
    }
    Ok(())
}

fn name(user: u32) -> String {
    format!("user{user:07}")
}

fn home(user: u32) -> String {
    format!("/home/{}", name(user))
}

fn gecos(user: u32) -> String {
    format!("Person Number {user}")
}

/// The members of a team: spread out, so that no cache line holds two.
fn members(team: u32, users: u32) -> impl Iterator<Item = u32> {
    (0..TEAM_SIZE.min(users)).map(move |n| (team * USERS_PER_TEAM + n * (users / TEAM_SIZE + 1)) % users)
}

/// Texts and members, made up once.
struct People {
    names: Vec<String>,
    gecos: Vec<String>,
    homes: Vec<String>,
    teams: Vec<(String, Vec<u32>)>,
}

impl People {
    fn new(users: u32) -> Self {
        Self {
            names: (0..users).map(name).collect(),
            gecos: (0..users).map(gecos).collect(),
            homes: (0..users).map(home).collect(),
            teams: (0..users / USERS_PER_TEAM)
                .map(|team| (format!("team{team:06}"), members(team, users).collect()))
                .collect(),
        }
    }
}

fn publish_for(
    people: &People,
    folder: &Path,
    seconds: u64,
    pause: Duration,
) -> Result<(), Box<dyn std::error::Error>> {
    let end = Instant::now() + Duration::from_secs(seconds);
    let before = cpu_ms()?;
    let mut generation = 1;
    while Instant::now() < end {
        generation += 1;
        write_table(people, folder, generation)?;
        std::thread::sleep(pause);
    }
    let tables = generation - 1;
    let each = (cpu_ms()? - before) / tables;
    println!("published {tables} tables, {each} ms of CPU each");
    Ok(())
}

/// User and system time of this process (proc_pid_stat(5): fields 14 and 15, in ticks of 10 ms).
fn cpu_ms() -> Result<u64, Box<dyn std::error::Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, after_name) = stat.rsplit_once(')').ok_or("no name in /proc/self/stat")?;
    let ticks = after_name.split_whitespace().skip(11).take(2);
    Ok(ticks.map(str::parse::<u64>).sum::<Result<u64, _>>()? * 10)
}

fn write_table(people: &People, folder: &Path, generation: u64) -> Result<(), WriteError> {
    let meta = TableMeta {
        generation,
        created: 0,
        enumerate: true,
    };
    let fill = |builder: &mut TableBuilder<Draft>| -> Result<(), WriteError> {
        builder.name_members(people.names.iter().map(String::as_str))?;
        for (gid, (name, members)) in (FIRST_GID..).zip(&people.teams) {
            builder.add_group_of(&GroupRecord { name, gid }, members)?;
        }
        for (gid, name) in (FIRST_UID..).zip(&people.names) {
            builder.add_group_of(&GroupRecord { name, gid }, &[])?;
        }
        let texts = people.names.iter().zip(&people.gecos).zip(&people.homes);
        for (uid, ((name, gecos), home)) in (FIRST_UID..).zip(texts) {
            builder.add_user(&UserRecord {
                name,
                uid,
                gid: uid,
                gecos,
                home,
                shell: "/bin/bash",
                keys: "",
            })?;
        }
        Ok(())
    };
    publish(&folder.join("table"), meta, fill).map(|_| ())
}

fn write_texts(users: u32, folder: &Path) -> Result<(), Error> {
    let mut passwd = Indexed::default();
    for user in 0..users {
        let (name, uid) = (name(user), FIRST_UID + user);
        let line = format!("{name}:x:{uid}:{uid}:{}:{}:/bin/bash\n", gecos(user), home(user));
        passwd.push(&name, uid, &line);
    }
    passwd.write(folder, "passwd", "uid")?;
    let mut group = Indexed::default();
    for team in 0..users / USERS_PER_TEAM {
        let names: Vec<String> = members(team, users).map(name).collect();
        let (name, gid) = (format!("team{team:06}"), FIRST_GID + team);
        group.push(&name, gid, &format!("{name}:x:{gid}:{}\n", names.join(",")));
    }
    for user in 0..users {
        let (name, gid) = (name(user), FIRST_UID + user);
        group.push(&name, gid, &format!("{name}:x:{gid}:\n"));
    }
    group.write(folder, "group", "gid")
}

/// A text file and where its entries are.
#[derive(Default)]
struct Indexed {
    text: String,
    names: Vec<(String, usize)>,
    ids: Vec<(String, usize)>,
}

impl Indexed {
    fn push(&mut self, name: &str, id: u32, line: &str) {
        self.names.push((name.to_owned(), self.text.len()));
        self.ids.push((id.to_string(), self.text.len()));
        self.text.push_str(line);
    }

    fn write(mut self, folder: &Path, file: &str, id: &str) -> Result<(), Error> {
        for text in [file.to_owned(), format!("{file}.cache")] {
            std::fs::write(folder.join(text), &self.text)?;
        }
        std::fs::write(folder.join(format!("{file}.cache.ixname")), index(&mut self.names))?;
        std::fs::write(folder.join(format!("{file}.cache.ix{id}")), index(&mut self.ids))
    }
}

/// Sorted lines of one length: key, NUL, offset, NUL, padding.
fn index(entries: &mut [(String, usize)]) -> String {
    entries.sort();
    let width = entries
        .iter()
        .map(|(key, at)| key.len() + at.to_string().len())
        .max()
        .unwrap_or_default();
    entries.iter().fold(String::new(), |mut text, (key, at)| {
        let at = at.to_string();
        let padding = "\0".repeat(width - key.len() - at.len());
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{key}\0{at}\0{padding}");
        text
    })
}
