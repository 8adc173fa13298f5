//! `dirless install` and `dirless uninstall`: which files change how, shown first when asked, backed
//! up, tested by sshd, and taken back exactly.

use std::io;
use std::path::{Path, PathBuf};

use super::edit;
use super::nsswitch;
use super::pam;
use super::sshd;
use super::sshd_program::{SshdError, SshdProgram};
use crate::paths::Paths;

/// What the operator asks for. Nothing is installed that was not asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Lookups through glibc.
    pub nss: bool,
    /// SSH keys from the lookup table.
    pub ssh: bool,
    /// Home folders at the first login.
    pub mkhomedir: bool,
}

/// What was added, so that removal takes back that and nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Installed {
    nsswitch: Option<nsswitch::Added>,
    /// The `Include` line of `sshd_config` is ours.
    include: bool,
    /// The key lookup in the drop-in file is ours.
    keys: bool,
    /// The line in PAM's stack is ours; true inside when a line end had to be put before it.
    pam: Option<bool>,
}

/// One file to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    path: PathBuf,
    before: Option<String>,
    after: Option<String>,
}

impl Change {
    /// The change as `diff` shows it.
    #[must_use]
    pub fn difference(&self) -> String {
        edit::difference(
            &self.path,
            self.before.as_deref().unwrap_or_default(),
            self.after.as_deref().unwrap_or_default(),
        )
    }

    fn carry_out(&self) -> io::Result<()> {
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => {
                edit::back_up(&self.path, before)?;
                edit::write(&self.path, after)
            }
            (None, Some(after)) => {
                if let Some(folder) = self.path.parent() {
                    std::fs::create_dir_all(folder)?;
                }
                edit::write(&self.path, after)
            }
            (_, None) => dirless_program::fs::remove(&self.path),
        }
    }

    fn undo(&self) -> io::Result<()> {
        edit::put_back(&self.path, self.before.as_deref())
    }
}

/// Everything one command does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Files to change, in order.
    pub changes: Vec<Change>,
    /// What the operator should know.
    pub notices: Vec<String>,
    /// What is recorded afterwards.
    pub installed: Installed,
    /// Whether sshd is concerned: tested before and after, told at the end.
    pub concerns_sshd: bool,
}

/// Why nothing was installed or removed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// A file could not be read or written; everything was put back.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// sshd refused its configuration before anything was changed.
    #[error("sshd refuses its configuration as it is, before any change of ours; repair it first: {0}")]
    BrokenBefore(SshdError),
    /// sshd refused the result; everything was put back.
    #[error("sshd refuses the changed configuration, so everything was put back: {0}")]
    Refused(SshdError),
    /// There is no sshd to install for.
    #[error("{0} is not there: no OpenSSH server is installed on this host, so --ssh cannot be done")]
    NoSshd(PathBuf),
    /// The record of what was added cannot be read.
    #[error("{path} is damaged ({reason}); compare the *.before-dirless files by hand, then remove it")]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

fn file(path: &Path) -> impl FnOnce(io::Error) -> InstallError + use<> {
    let path = path.to_owned();
    move |source| InstallError::File { path, source }
}

fn read(path: &Path) -> Result<Option<String>, InstallError> {
    edit::read(path).map_err(file(path))
}

/// What is recorded of earlier runs.
///
/// # Errors
/// When the record is there but cannot be read.
pub fn recorded(paths: &Paths) -> Result<Installed, InstallError> {
    let path = paths.installed();
    let Some(text) = read(&path)? else {
        return Ok(Installed::default());
    };
    serde_json::from_str(&text).map_err(|error| InstallError::Record {
        path,
        reason: error.to_string(),
    })
}

/// Plans an installation from the files as they are.
///
/// # Errors
/// When a file cannot be read, or `--ssh` is asked for without an sshd.
pub fn plan_install(paths: &Paths, wanted: Wanted) -> Result<Plan, InstallError> {
    let mut plan = Plan {
        installed: recorded(paths)?,
        ..Plan::default()
    };
    if wanted.nss {
        plan_nss(paths, &mut plan)?;
    }
    if wanted.ssh {
        plan_ssh(paths, &mut plan)?;
    }
    if wanted.mkhomedir {
        let path = paths.pam_sshd();
        match read(&path)? {
            Some(before) => {
                if let Some(after) = pam::add(&before) {
                    plan.installed.pam = Some(!before.is_empty() && !before.ends_with('\n'));
                    plan.push(path, Some(before), Some(after));
                }
            }
            None => plan
                .notices
                .push(format!("{} is not there; home folders are not made", path.display())),
        }
    }
    Ok(plan)
}

fn plan_nss(paths: &Paths, plan: &mut Plan) -> Result<(), InstallError> {
    let path = paths.nsswitch();
    let before = read(&path)?;
    let (after, added) = nsswitch::add(before.as_deref().unwrap_or_default());
    if added.is_empty() {
        return Ok(());
    }
    if std::fs::read_link(&path).is_ok_and(|target| target.to_string_lossy().contains("authselect")) {
        plan.notices.push(
            "authselect manages nsswitch.conf and may undo this; make it permanent with a custom profile: \
             authselect create-profile"
                .to_owned(),
        );
    }
    let mut all = plan.installed.nsswitch.take().unwrap_or_default();
    all.edited.extend(added.edited);
    all.lines.extend(added.lines);
    all.words.extend(added.words);
    all.line_end |= added.line_end;
    plan.installed.nsswitch = Some(all);
    plan.push(path, before, Some(after));
    Ok(())
}

fn plan_ssh(paths: &Paths, plan: &mut Plan) -> Result<(), InstallError> {
    let path = paths.sshd_config();
    let Some(config) = read(&path)? else {
        return Err(InstallError::NoSshd(path));
    };
    for sshd::Rival { setting, ours_wins } in sshd::rivals(&config) {
        let outcome = if ours_wins {
            "which sshd does not ask any more, since ours comes first: people whose keys only that command knows cannot \
             log in with them (dirless uninstall gives it back)"
        } else {
            "which comes before ours and wins; remove it to have keys looked up in Dirless"
        };
        plan.notices
            .push(format!("{} has \"{setting}\", {outcome}", path.display()));
    }
    let snippet = paths.sshd_snippet();
    let before = read(&snippet)?;
    let (with_keys, with_ca) = sshd::drop_in_state(before.as_deref().unwrap_or_default());
    if !with_keys {
        plan.installed.keys = true;
        plan.push(snippet, before, Some(sshd::drop_in(true, with_ca)));
        plan.concerns_sshd = true;
    }
    if let Some(after) = sshd::add_include(&config) {
        plan.installed.include = true;
        plan.push(path, Some(config), Some(after));
        plan.concerns_sshd = true;
    }
    Ok(())
}

/// Plans the removal of everything that was recorded, and of the certificate authority.
///
/// # Errors
/// When a file or the record cannot be read.
pub fn plan_uninstall(paths: &Paths) -> Result<Plan, InstallError> {
    let installed = recorded(paths)?;
    let mut plan = Plan::default();
    if let Some(added) = &installed.nsswitch
        && let Some(before) = read(&paths.nsswitch())?
    {
        let after = nsswitch::remove(&before, added);
        plan.push_or_remove(paths.nsswitch(), before, after);
    }
    let nsswitch = read(&paths.nsswitch())?.unwrap_or_default();
    if installed.nsswitch.is_none() && nsswitch::has_service(&nsswitch, "passwd") {
        plan.notices.push(format!(
            "{0} names dirless, which \"dirless install\" did not add; remove the word by hand (what deployed tools \
             replaced lies in {0}.dirless-backup)",
            paths.nsswitch().display()
        ));
    }
    // The drop-in is ours as a whole: key lookup, authority, and what a deployed agent left there.
    for path in [paths.sshd_snippet(), paths.ca_key()] {
        if let Some(before) = read(&path)? {
            plan.concerns_sshd = true;
            plan.push(path, Some(before), None);
        }
    }
    if installed.include
        && let Some(before) = read(&paths.sshd_config())?
    {
        let after = sshd::remove_include(&before);
        plan.concerns_sshd |= after != before;
        plan.push_or_remove(paths.sshd_config(), before, after);
    }
    if let Some(line_end) = installed.pam
        && let Some(before) = read(&paths.pam_sshd())?
    {
        let after = pam::remove(&before, line_end);
        plan.push_or_remove(paths.pam_sshd(), before, after);
    }
    Ok(plan)
}

impl Plan {
    fn push(&mut self, path: PathBuf, before: Option<String>, after: Option<String>) {
        self.changes.push(Change { path, before, after });
    }

    /// A file that is empty without what we added, and of which there is no backup, was ours.
    fn push_or_remove(&mut self, path: PathBuf, before: String, after: String) {
        if before == after {
            return;
        }
        let ours = after.is_empty() && !edit::backup_of(&path).exists();
        self.push(path, Some(before), (!ours).then_some(after));
    }
}

/// Carries a plan out and records it. sshd is asked before and after; when it refuses, or anything
/// fails, every file is put back. Returns what could not be finished but does no harm.
///
/// # Errors
/// When nothing was done, and why.
pub fn carry_out(plan: &Plan, paths: &Paths, program: &SshdProgram) -> Result<Vec<String>, InstallError> {
    if plan.concerns_sshd {
        program.test().map_err(InstallError::BrokenBefore)?;
    }
    for (done, change) in plan.changes.iter().enumerate() {
        if let Err(source) = change.carry_out() {
            undo(plan.changes.get(..=done).unwrap_or(&plan.changes));
            return Err(InstallError::File {
                path: change.path.clone(),
                source,
            });
        }
    }
    if plan.concerns_sshd
        && let Err(error) = program.test()
    {
        undo(&plan.changes);
        return Err(InstallError::Refused(error));
    }
    if let Err(error) = record(paths, &plan.installed) {
        undo(&plan.changes);
        return Err(error);
    }
    let mut notices = plan.notices.clone();
    if plan.concerns_sshd
        && let Err(error) = program.reload()
    {
        notices.push(error.to_string());
    }
    Ok(notices)
}

fn undo(changes: &[Change]) {
    for change in changes.iter().rev() {
        if let Err(error) = change.undo() {
            tracing::error!(path = %change.path.display(), %error, "could not put the file back");
        }
    }
}

fn record(paths: &Paths, installed: &Installed) -> Result<(), InstallError> {
    let path = paths.installed();
    if *installed == Installed::default() {
        for edited in [
            paths.nsswitch(),
            paths.sshd_config(),
            paths.pam_sshd(),
            paths.sshd_snippet(),
        ] {
            let backup = edit::backup_of(&edited);
            dirless_program::fs::remove(&backup).map_err(file(&backup))?;
        }
        return dirless_program::fs::remove(&path).map_err(file(&path));
    }
    let text = serde_json::to_vec_pretty(installed).map_err(|error| InstallError::Record {
        path: path.clone(),
        reason: error.to_string(),
    })?;
    dirless_program::fs::ensure_folder(&paths.agent_folder(), 0o700).map_err(file(&path))?;
    dirless_program::fs::publish(&path, 0o600, &text).map_err(file(&path))
}

#[cfg(test)]
mod tests;
