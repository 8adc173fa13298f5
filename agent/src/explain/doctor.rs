//! `dirless doctor`: looks at everything that has to be right on this host, one line each.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use dirless_program::{Clock, Secret};
use dirless_seal::Identity;
use dirless_table::Table;

use super::{ago, print_json};
use crate::config::{self, Config, SignedConfig};
use crate::host::{nsswitch, sshd};
use crate::paths::Paths;
use crate::pipeline::{HostLimits, Ratchet, Report, Taken};
use crate::trust::Keeper;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Note,
    /// Works, but something should be done.
    Warning,
    /// Does not work.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Check {
    /// How it ended.
    pub level: Level,
    /// What was looked at.
    pub what: String,
    /// What was found.
    pub found: String,
    /// What to do; empty when nothing.
    pub fix: String,
}

impl Check {
    /// A check that ended at `level`.
    #[must_use]
    pub fn new(level: Level, what: &str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            level,
            what: what.to_owned(),
            found: found.into(),
            fix: fix.into(),
        }
    }
}

/// Looks at everything and prints it. `owner` is who must own the host's own files (0 on a real host);
/// `backend` asks the backend and is called once with the configuration when that can be read. The
/// exit code is 0 unless a check failed.
///
/// # Errors
/// When `out` cannot be written.
pub fn doctor(
    paths: &Paths,
    owner: u32,
    hostname: &str,
    clock: &Clock,
    backend: impl FnOnce(&Config) -> Vec<Check>,
    json: bool,
    out: &mut dyn Write,
) -> io::Result<u8> {
    let mut checks = Vec::new();
    let config = configuration(paths, hostname, &mut checks);
    match config.as_ref().map(|config| (config.signed(), &config.age_key_path)) {
        Some((Some(signed), _)) => checks.push(node_keys(paths, signed)),
        Some((None, key)) => keys(paths, key, &mut checks),
        None => keys(paths, &paths.age_key(), &mut checks),
    }
    checks.push(limits(paths, owner));
    checks.push(ratchet(paths));
    checks.push(clock_check(clock));
    match &config {
        Some(config) => checks.extend(backend(config)),
        None => checks.push(Check::new(
            Level::Fail,
            "backend",
            "not asked: there is no configuration",
            "see above",
        )),
    }
    checks.push(table(paths, owner, clock));
    report(paths, &mut checks);
    name_service(paths, &mut checks);
    ssh(paths, &mut checks);
    checks.push(old_database(paths));
    let worst = checks.iter().map(|check| check.level).max().unwrap_or(Level::Ok);
    if json {
        print_json(&checks, out)?;
    } else {
        for check in &checks {
            print(check, out)?;
        }
    }
    Ok(u8::from(worst == Level::Fail))
}

fn print(check: &Check, out: &mut dyn Write) -> io::Result<()> {
    let mark = match check.level {
        Level::Ok => "ok",
        Level::Note => "note",
        Level::Warning => "WARN",
        Level::Fail => "FAIL",
    };
    writeln!(out, "{mark:<5} {:<16} {}", check.what, check.found)?;
    if check.fix.is_empty() {
        return Ok(());
    }
    writeln!(out, "{:22} fix: {}", "", check.fix)
}

fn configuration(paths: &Paths, hostname: &str, checks: &mut Vec<Check>) -> Option<Config> {
    let path = paths.config();
    match config::load(&path, paths, hostname) {
        Ok(config) => {
            let (level, fix) = if config.unknown_keys.is_empty() {
                (Level::Ok, String::new())
            } else {
                (
                    Level::Note,
                    format!(
                        "nothing reads {}; remove them if they are misspelt",
                        config.unknown_keys.join(", ")
                    ),
                )
            };
            checks.push(Check::new(
                level,
                "configuration",
                format!("{} can be used", path.display()),
                fix,
            ));
            Some(config)
        }
        Err(error) => {
            let fix = "correct it, or run `dirless enroll`, which writes it";
            checks.push(Check::new(Level::Fail, "configuration", error.to_string(), fix));
            None
        }
    }
}

/// The keys of a host that joined; it has no others.
fn node_keys(paths: &Paths, signed: &SignedConfig) -> Check {
    let keeper = Keeper::new(paths.trust_folder(), signed.joined.clone());
    let found = keeper.signing_key().and_then(|key| keeper.identity().map(|_| key));
    match found {
        Ok(key) => Check::new(
            Level::Ok,
            "node keys",
            format!("this host is {}", key.verifying().name()),
            "",
        ),
        Err(error) => Check::new(
            Level::Fail,
            "node keys",
            error.to_string(),
            "dirless join --again makes new ones",
        ),
    }
}

fn keys(paths: &Paths, key: &Path, checks: &mut Vec<Check>) {
    let opened = Secret::from_file(key).map_err(|error| error.to_string());
    let identity = opened.and_then(|secret| {
        Identity::parse(secret.expose()).map_err(|error| format!("{} cannot be used: {error}", key.display()))
    });
    checks.push(match identity {
        Ok(identity) => Check::new(
            Level::Ok,
            "age key",
            format!("{} holds {}", key.display(), identity.recipient().fingerprint()),
            "",
        ),
        Err(error) => Check::new(
            Level::Fail,
            "age key",
            error,
            "put the tenant's age key there, for root alone: chmod 600",
        ),
    });
    for path in [paths.config(), paths.hmac_key()] {
        if let Some(mode) = mode(&path).filter(|mode| mode & 0o077 != 0) {
            checks.push(Check::new(
                Level::Fail,
                "secrets",
                format!("{} can be read by others than root (mode {mode:04o})", path.display()),
                format!(
                    "chmod 600 {}; then rotate the secret, others may have read it",
                    path.display()
                ),
            ));
        }
    }
}

fn mode(path: &Path) -> Option<u32> {
    fs::metadata(path).ok().map(|meta| meta.mode() & 0o7777)
}

fn limits(paths: &Paths, owner: u32) -> Check {
    let path = paths.limits();
    match HostLimits::load(&path, owner) {
        Ok(_) if path.exists() => Check::new(Level::Ok, "host limits", format!("{} is in force", path.display()), ""),
        Ok(_) => Check::new(Level::Ok, "host limits", "the built-in ones are in force", ""),
        Err(error) => Check::new(
            Level::Fail,
            "host limits",
            error.to_string(),
            "nothing is published until this is corrected",
        ),
    }
}

fn ratchet(paths: &Paths) -> Check {
    match Ratchet::load(&paths.ratchet()) {
        Ok(_) => Check::new(Level::Ok, "ratchet", "replayed snapshots are refused", ""),
        Err(error) => Check::new(
            Level::Fail,
            "ratchet",
            error.to_string(),
            "nothing is published until then",
        ),
    }
}

/// 2026-01-01: no host that runs this was built earlier.
const EARLIEST: i64 = 1_767_225_600;

fn clock_check(clock: &Clock) -> Check {
    let now = clock.now();
    if now.as_second() < EARLIEST {
        return Check::new(
            Level::Fail,
            "clock",
            format!("says {now}"),
            "set it (timedatectl set-ntp true): TLS and ages depend on it",
        );
    }
    Check::new(Level::Ok, "clock", format!("says {now}"), "")
}

fn table(paths: &Paths, owner: u32, clock: &Clock) -> Check {
    let path = paths.table();
    let table = match Table::open(&path, owner) {
        Ok(table) => table,
        Err(error) => {
            let fix = "sudo dirless refresh publishes one; `dirless status` tells what stands in the way";
            return Check::new(Level::Fail, "lookup table", format!("{}: {error}", path.display()), fix);
        }
    };
    if let Err(error) = table.verify() {
        return Check::new(
            Level::Fail,
            "lookup table",
            error.to_string(),
            "sudo dirless refresh publishes a new one",
        );
    }
    let stats = table.stats();
    let written = jiff::Timestamp::from_second(i64::try_from(stats.created).unwrap_or(0)).unwrap_or_default();
    let found = format!(
        "generation {} of {}: {} users, {} groups",
        stats.generation,
        ago(written, clock.now()),
        stats.users,
        stats.groups
    );
    let readable = mode(&path).is_none_or(|mode| mode & 0o444 == 0o444)
        && mode(&paths.table_folder()).is_none_or(|mode| mode & 0o555 == 0o555);
    if readable {
        return Check::new(Level::Ok, "lookup table", found, "");
    }
    Check::new(
        Level::Fail,
        "lookup table",
        "programs of ordinary users cannot read it",
        format!(
            "chmod 755 {}; chmod 644 {}",
            paths.table_folder().display(),
            path.display()
        ),
    )
}

fn report(paths: &Paths, checks: &mut Vec<Check>) {
    let report = match Report::load(&paths.report()) {
        Ok(Some(report)) => report,
        Ok(None) => {
            let fix = "systemctl start dirless-agent, or sudo dirless refresh";
            checks.push(Check::new(Level::Warning, "last run", "there was none yet", fix));
            return;
        }
        Err(error) => {
            let found = format!("{}: {error}", paths.report().display());
            checks.push(Check::new(
                Level::Warning,
                "last run",
                found,
                "sudo dirless refresh writes it again",
            ));
            return;
        }
    };
    match &report.problem {
        Some(problem) => checks.push(Check::new(
            Level::Fail,
            "last run",
            problem.reason.clone(),
            problem.hint.clone(),
        )),
        None => checks.push(Check::new(Level::Ok, "last run", report.ending.to_string(), "")),
    }
    for source in &report.sources {
        if let Some(problem) = &source.problem {
            let level = if source.taken == Taken::LastGood {
                Level::Warning
            } else {
                Level::Fail
            };
            let found = format!("{}: {}", source.name, problem.reason);
            checks.push(Check::new(level, "source", found, problem.hint.clone()));
        }
    }
    if let Some(problem) = &report.access.problem {
        let fix = "see what the backend answers on /v1/snapshot/authz-config";
        checks.push(Check::new(Level::Warning, "access rules", problem.clone(), fix));
    }
    if report.dropped.total > 0 {
        let codes: Vec<_> = report
            .dropped
            .by_code
            .iter()
            .map(|(code, count)| format!("{code} {count}"))
            .collect();
        let found = format!("{} entries were left out: {}", report.dropped.total, codes.join(", "));
        checks.push(Check::new(
            Level::Warning,
            "dropped",
            found,
            "dirless list-users lists them; dirless why NAME explains",
        ));
    }
    if !report.duplicates.is_empty() {
        let found = format!("{} usernames are in more than one source", report.duplicates.len());
        checks.push(Check::new(
            Level::Note,
            "duplicates",
            found,
            "the earlier source wins; remove the other entry",
        ));
    }
}

fn name_service(paths: &Paths, checks: &mut Vec<Check>) {
    let text = fs::read_to_string(paths.nsswitch()).unwrap_or_default();
    let missing: Vec<_> = ["passwd", "group"]
        .into_iter()
        .filter(|database| !nsswitch::has_service(&text, database))
        .collect();
    checks.push(if missing.is_empty() {
        Check::new(Level::Ok, "nsswitch", "passwd and group ask dirless", "")
    } else {
        Check::new(
            Level::Fail,
            "nsswitch",
            format!(
                "{} does not ask dirless for {}",
                paths.nsswitch().display(),
                missing.join(" and ")
            ),
            "sudo dirless install adds it",
        )
    });
    checks.push(match library(paths) {
        Some(path) => Check::new(Level::Ok, "NSS library", path, ""),
        None => Check::new(
            Level::Fail,
            "NSS library",
            "libnss_dirless.so.2 is not where the C library looks",
            "install the package dirless-agent, which brings it",
        ),
    });
}

fn library(paths: &Paths) -> Option<String> {
    let mut folders: Vec<_> = ["lib64", "usr/lib64", "lib", "usr/lib", "usr/local/lib"]
        .map(|folder| paths.root().join(folder))
        .to_vec();
    for folder in ["lib", "usr/lib"] {
        let entries = fs::read_dir(paths.root().join(folder)).into_iter().flatten().flatten();
        let triplets = entries.filter(|entry| entry.file_name().to_string_lossy().ends_with("-linux-gnu"));
        folders.extend(triplets.map(|entry| entry.path()));
    }
    let files = folders.into_iter().map(|folder| folder.join("libnss_dirless.so.2"));
    files
        .into_iter()
        .find(|file| file.exists())
        .map(|file| file.display().to_string())
}

fn ssh(paths: &Paths, checks: &mut Vec<Check>) {
    let Ok(text) = fs::read_to_string(paths.sshd_snippet()) else {
        let fix = "sudo dirless install --ssh, if people shall log in with keys from the directory";
        checks.push(Check::new(
            Level::Note,
            "sshd",
            "does not ask for keys of the directory",
            fix,
        ));
        return;
    };
    let (with_keys, with_ca) = sshd::drop_in_state(&text);
    let found = match (with_keys, with_ca) {
        (true, true) => "asks for keys of the directory and trusts a certificate authority",
        (true, false) => "asks for keys of the directory",
        (false, true) => "trusts a certificate authority",
        (false, false) => "our snippet is there and says nothing",
    };
    checks.push(Check::new(Level::Ok, "sshd", found, ""));
}

fn old_database(paths: &Paths) -> Check {
    let path = paths.old_database();
    match mode(&path) {
        Some(mode) if mode & 0o077 != 0 => Check::new(
            Level::Warning,
            "old database",
            format!(
                "{} of an earlier agent is open to everyone (mode {mode:04o})",
                path.display()
            ),
            format!(
                "chmod 600 {0}*, or remove {0}*; nothing of ours reads it",
                path.display()
            ),
        ),
        Some(_) => Check::new(
            Level::Note,
            "old database",
            format!("{} is private", path.display()),
            "remove it when no earlier agent is needed",
        ),
        None => Check::new(Level::Ok, "old database", "none", ""),
    }
}
