//! Ends what people still have running on this host when the directory no longer has them here. Off unless the host's limits
//! say `end_sessions = true`.
//!
//! What always holds: only who was in the published table, and is not any more, is meant, for some minutes after that as
//! well; never a uid outside the host's limits, one of a local account, or one of no process; a table that cannot be read, or
//! one without anybody, ends nothing, for failure is not absence; and more people at once than the limits say are left alone,
//! for that looks like an accident.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use dirless_table::Table;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::leavers::{Leavers, leavers};
use crate::paths::Paths;
use crate::pipeline::{Accounts, HostLimits};

/// How long processes have to end by themselves after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);
/// How often SIGKILL is sent to whatever is left: processes may be born meanwhile.
const ROUNDS: usize = 20;
/// Pause between two looks at the processes.
const PAUSE: Duration = Duration::from_millis(50);
/// How long logind may take for one person.
const LOGIND: Duration = Duration::from_secs(30);

/// People by their uid.
pub(super) type People = BTreeMap<u32, String>;

/// Who is known to have been in a table, beside the one before.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// Who had something running at the last look.
    pub(super) present: People,
    /// Who left a short while ago.
    pub(super) left: Leavers,
}

/// For whom it is looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// For everybody, after a table was published.
    Whole,
    /// For those alone who had nothing running at the last look: the others are seen to, and told of, in the next cycle.
    New,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ended {
    /// Whose processes are gone.
    pub(super) people: Vec<String>,
    /// Who is in the table and has something running now: to be remembered over a restart.
    pub(super) present: People,
    /// What an operator should know.
    pub(super) problems: Vec<String>,
}

/// What this host's limits allow, and the table as it was.
#[derive(Debug)]
pub(super) struct Watch {
    limits: HostLimits,
    before: Option<Table>,
}

impl Watch {
    /// Looks at the table before it is replaced; none unless the limits, which must be `owner`'s, allow to end sessions.
    pub(super) fn begin(paths: &Paths, owner: u32) -> Option<Self> {
        // Limits that cannot be used are told of by the worker, and allow nothing.
        let limits = HostLimits::load(&paths.limits(), owner).ok()?;
        if !limits.end_sessions {
            return None;
        }
        let before = Table::open(&paths.table(), owner).ok();
        Some(Self { limits, before })
    }

    /// Who left a short while ago, `left` among them, by the table that is published now.
    pub(super) fn remember(&self, paths: &Paths, owner: u32, left: Leavers, now: i64) -> Leavers {
        match Table::open(&paths.table(), owner) {
            Ok(table) => leavers(&left, &self.limits, self.before.as_ref(), &table, now),
            // Told elsewhere; nobody is taken for removed.
            Err(_) => left,
        }
    }

    /// Ends the sessions of those who were in the table, or are `known`, and are not in the table that is published now.
    /// Blocks until they are gone, half a minute for each at most.
    pub(super) fn end(&self, paths: &Paths, owner: u32, known: &Known, look: Look) -> Ended {
        let mut ended = Ended {
            present: known.present.clone(),
            ..Ended::default()
        };
        let now = match Table::open(&paths.table(), owner) {
            Ok(now) => now,
            // Told elsewhere; nobody is taken for removed.
            Err(_) => return ended,
        };
        let running = match running(paths) {
            Ok(running) => running,
            Err(error) => {
                ended
                    .problems
                    .push(format!("who has processes on this host cannot be seen: {error}"));
                return ended;
            }
        };
        let Ok(accounts) = local(paths) else {
            ended
                .problems
                .push("the local accounts cannot be read, so no session is ended".to_owned());
            return ended;
        };
        let (mut gone, here) = self.sort(&now, &running, known, &accounts);
        ended.present = here;
        if gone.is_empty() {
            return ended;
        }
        if now.stats().users == 0 || gone.len() > self.limits.end_sessions_most {
            ended.problems.push(format!(
                "{} people with processes here are gone from the directory at once, which looks like an accident: none of \
                 their sessions is ended (end_sessions_most = {}); see to them by hand: {}",
                gone.len(),
                self.limits.end_sessions_most,
                gone.values().take(20).cloned().collect::<Vec<_>>().join(" ")
            ));
            // They stay remembered, so that raising the limit helps.
            ended.present.extend(gone);
            return ended;
        }
        if look == Look::New {
            let seen = gone.extract_if(.., |uid, _| known.present.contains_key(uid));
            ended.present.extend(seen);
        }
        for (uid, name) in gone {
            tracing::warn!(
                event = "session.ending",
                uid,
                user = name,
                "{name} was removed: ending what runs as uid {uid}"
            );
            match end_one(paths, uid) {
                Ok(0) => {
                    tracing::warn!(
                        event = "session.ended",
                        uid,
                        user = name,
                        "nothing runs as {name} any more"
                    );
                    ended.people.push(name);
                }
                Ok(left) => {
                    ended.problems.push(format!(
                        "{left} processes of {name}, who was removed, could not be ended"
                    ));
                    ended.present.insert(uid, name);
                }
                Err(error) => {
                    ended
                        .problems
                        .push(format!("ending the processes of {name}, who was removed: {error}"));
                    ended.present.insert(uid, name);
                }
            }
        }
        ended
    }

    /// Of those with processes: who was in the directory and is not any more, and who is.
    fn sort(&self, now: &Table, running: &BTreeSet<u32>, known: &Known, accounts: &Accounts) -> (People, People) {
        let (mut gone, mut here) = (People::new(), People::new());
        for uid in running {
            let allowed = self.limits.user_ids.iter().any(|range| range.contains(*uid));
            if *uid == 0 || !allowed || accounts.user_of(*uid).is_some() {
                continue;
            }
            let was = self
                .before
                .as_ref()
                .and_then(|table| name_of(table, *uid))
                .or_else(|| known.present.get(uid).cloned())
                .or_else(|| Some(known.left.get(uid)?.name.clone()));
            match (now.user_by_uid(*uid), was) {
                (Ok(Some(user)), _) => drop(here.insert(*uid, String::from_utf8_lossy(user.name()).into_owned())),
                (Ok(None), Some(name)) => drop(gone.insert(*uid, name)),
                // Nobody of ours, or nobody can tell.
                (Ok(None) | Err(_), _) => {}
            }
        }
        (gone, here)
    }
}

fn name_of(table: &Table, uid: u32) -> Option<String> {
    let user = table.user_by_uid(uid).ok()??;
    Some(String::from_utf8_lossy(user.name()).into_owned())
}

fn local(paths: &Paths) -> io::Result<Accounts> {
    let passwd = std::fs::read(paths.passwd())?;
    Ok(Accounts::parse(&String::from_utf8_lossy(&passwd), ""))
}

/// Uids with processes or sessions.
fn running(paths: &Paths) -> io::Result<BTreeSet<u32>> {
    let mut uids: BTreeSet<u32> = processes(&paths.at("proc"))?.into_iter().map(|(_, uid)| uid).collect();
    // Where logind is, it knows of people whose processes cannot be seen from here.
    if let Ok(users) = std::fs::read_dir(paths.at("run/systemd/users")) {
        let names = users.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        uids.extend(names);
    }
    Ok(uids)
}

/// Processes and their real uids. What ends meanwhile, or cannot be looked at, is not there.
fn processes(proc: &Path) -> io::Result<Vec<(i32, u32)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(proc)? {
        let Ok(entry) = entry else { continue };
        let pid = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
        if let Some(pid) = pid
            && let Some(uid) = uid_of(proc, pid)
        {
            found.push((pid, uid));
        }
    }
    Ok(found)
}

/// The real uid of a process (proc_pid_status(5)). A program of root's that acts for somebody is not theirs.
fn uid_of(proc: &Path, pid: i32) -> Option<u32> {
    let status = std::fs::read_to_string(proc.join(pid.to_string()).join("status")).ok()?;
    // A process that has ended and waits for its parent does nothing any more.
    let state = status
        .lines()
        .find_map(|line| line.strip_prefix("State:"))?
        .trim_start();
    if state.starts_with(['Z', 'X']) {
        return None;
    }
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Ends everything that runs as `uid`; gives how many processes are left.
fn end_one(paths: &Paths, uid: u32) -> io::Result<usize> {
    if paths.at("run/systemd/system").is_dir() {
        // What is not ended so, or not by somebody who may not, is seen to below.
        if let Err(error) = terminate(&paths.at("usr/bin/loginctl"), uid) {
            tracing::warn!(event = "session.logind", uid, %error, "loginctl terminate-user {uid}: {error}");
        }
    }
    let proc = paths.at("proc");
    let of = |uid: u32| -> io::Result<Vec<i32>> {
        let all = processes(&proc)?.into_iter().filter(|(_, own)| *own == uid);
        Ok(all.map(|(pid, _)| pid).collect())
    };
    let since = Instant::now();
    for pid in of(uid)? {
        signal(&proc, pid, uid, Signal::TERM);
    }
    while since.elapsed() < GRACE && !of(uid)?.is_empty() {
        std::thread::sleep(PAUSE);
    }
    for _ in 0..ROUNDS {
        let left = of(uid)?;
        if left.is_empty() {
            break;
        }
        for pid in left {
            signal(&proc, pid, uid, Signal::KILL);
        }
        std::thread::sleep(PAUSE);
    }
    Ok(of(uid)?.len())
}

/// Sends a signal to a process, if it is still that user's: its number may be another's by now.
fn signal(proc: &Path, pid: i32, uid: u32, signal: Signal) {
    let Some(number) = Pid::from_raw(pid) else { return };
    let Ok(handle) = pidfd_open(number, PidfdFlags::empty()) else {
        return;
    };
    // The handle stays with the process that it was opened for, so what is looked at afterwards is that one or nobody.
    if uid_of(proc, pid) == Some(uid) {
        // It has ended, or is not ours to end: then it is counted.
        let _ended = pidfd_send_signal(&handle, signal);
    }
}

/// Has logind end all sessions of a user, and the service manager of theirs. By number: nobody has the name any more.
fn terminate(program: &Path, uid: u32) -> io::Result<()> {
    let mut child = std::process::Command::new(program)
        .args(["terminate-user", &uid.to_string()])
        .env_clear()
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()?;
    let until = Instant::now() + LOGIND;
    loop {
        match child.try_wait()? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(io::Error::other(status.to_string())),
            None if Instant::now() >= until => {
                child.kill()?;
                child.wait()?;
                return Err(io::Error::other("it did not answer"));
            }
            None => std::thread::sleep(PAUSE),
        }
    }
}

#[cfg(test)]
mod tests {
    use dirless_table::{TableBuilder, TableMeta};

    use super::*;
    use crate::daemon::leavers::Left;

    /// A process as it stands in `/proc`.
    fn process(root: &Path, pid: i32, real: u32, effective: u32, state: &str) {
        let folder = root.join("proc").join(pid.to_string());
        std::fs::create_dir_all(&folder).unwrap();
        let text = format!("Name:\tsh\nState:\t{state}\nUid:\t{real}\t{effective}\t{effective}\t{effective}\n");
        std::fs::write(folder.join("status"), text).unwrap();
    }

    #[test]
    fn processes_are_whose_real_uid_it_is() {
        let root = tempfile::tempdir().unwrap();
        process(root.path(), 10, 2001, 0, "S (sleeping)");
        process(root.path(), 11, 0, 2002, "S (sleeping)");
        process(root.path(), 12, 2003, 2003, "Z (zombie)");
        std::fs::create_dir_all(root.path().join("proc/self")).unwrap();
        std::fs::create_dir_all(root.path().join("run/systemd/users/2009")).unwrap();
        let paths = Paths::under(root.path());
        assert_eq!(running(&paths).unwrap(), BTreeSet::from([0, 2001, 2009]));
        assert!(running(&Paths::under(&root.path().join("nowhere"))).is_err());
    }

    #[test]
    fn a_login_that_was_under_way_when_somebody_left_is_ended() {
        const ALICE: u32 = 100_001;
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        for folder in ["proc", "etc", "run/systemd/users/100001", "var/lib/dirless/nss"] {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        std::fs::write(paths.passwd(), "root:x:0:0::/root:/bin/sh\n").unwrap();
        let meta = TableMeta {
            generation: 1,
            created: 1,
            enumerate: true,
        };
        let mut table = TableBuilder::in_memory(meta).unwrap();
        let bob = dirless_table::UserRecord {
            name: "bob",
            uid: 100_002,
            gid: 100_002,
            gecos: "",
            home: "/",
            shell: "/bin/sh",
            keys: "",
        };
        table.add_user(&bob).unwrap();
        dirless_table::publish_bytes(&paths.table(), table.finish().unwrap().0.get_ref()).unwrap();
        let owner = rustix::process::geteuid().as_raw();
        let watch = || Watch {
            limits: HostLimits::default(),
            before: Table::open(&paths.table(), owner).ok(),
        };
        // The table has been without her since the last look, when she had nothing running.
        let unknown = Known::default();
        assert_eq!(watch().end(&paths, owner, &unknown, Look::Whole), Ended::default());
        let name = "alice".to_owned();
        let left = Left {
            name: name.clone(),
            at: 1000,
        };
        let known = Known {
            left: [(ALICE, left)].into(),
            ..Known::default()
        };
        for look in [Look::Whole, Look::New] {
            let ended = watch().end(&paths, owner, &known, look);
            assert_eq!((ended.people, ended.present), (vec![name.clone()], People::new()));
        }
        // Whoever could not be ended is left to the cycles.
        let stubborn = Known {
            present: [(ALICE, name.clone())].into(),
            ..known
        };
        let ended = watch().end(&paths, owner, &stubborn, Look::New);
        assert_eq!((ended.people, ended.present), (vec![], stubborn.present.clone()));
        assert_eq!(watch().end(&paths, owner, &stubborn, Look::Whole).people, [name]);
        let remembered = watch().remember(&paths, owner, stubborn.left.clone(), 1500);
        assert_eq!(remembered, stubborn.left);
    }

    #[test]
    fn logind_is_asked_by_number_and_not_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("loginctl");
        std::fs::write(
            &program,
            format!("#!/bin/sh\necho \"$@\" > {}/said\n", folder.path().display()),
        )
        .unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        terminate(&program, 2001).unwrap();
        assert_eq!(
            std::fs::read_to_string(folder.path().join("said")).unwrap(),
            "terminate-user 2001\n"
        );
        assert!(terminate(&folder.path().join("none"), 2001).is_err());
    }
}
