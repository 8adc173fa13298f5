//! Editing files that belong to the administrator: through symbolic links, with their own mode and
//! owner, whole, and with a backup of the first state.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// What a file held before; `None` when it was not there.
pub(crate) fn read(path: &Path) -> io::Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Puts `text` in place of what `path` holds. A symbolic link stays one: what it points to is
/// written (authselect and others link `/etc/nsswitch.conf`). Mode and owner stay.
pub(crate) fn write(path: &Path, text: &str) -> io::Result<()> {
    let target = match std::fs::canonicalize(path) {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        Err(error) => return Err(error),
    };
    let before = std::fs::metadata(&target).ok();
    let mode = before
        .as_ref()
        .map_or(0o644, |before| before.permissions().mode() & 0o7777);
    dirless_program::fs::publish_with(&target, mode, |file| {
        use std::io::Write;
        if let Some(before) = &before
            && (before.uid(), before.gid()) != (file.metadata()?.uid(), file.metadata()?.gid())
        {
            std::os::unix::fs::fchown(&*file, Some(before.uid()), Some(before.gid()))?;
        }
        file.write_all(text.as_bytes())
    })
}

/// Puts a file back to what it was: its text, or gone.
pub(crate) fn put_back(path: &Path, before: Option<&str>) -> io::Result<()> {
    match before {
        Some(text) => write(path, text),
        None => dirless_program::fs::remove(path),
    }
}

/// Where the backup of `path` lies. Deployed tools leave a `.dirless-backup`, which is not ours.
pub(crate) fn backup_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".before-dirless");
    PathBuf::from(name)
}

/// Keeps the first state of `path` beside it. An older backup stays: it is the one from before us.
pub(crate) fn back_up(path: &Path, text: &str) -> io::Result<()> {
    let backup = backup_of(path);
    if backup.exists() {
        return Ok(());
    }
    let metadata = std::fs::metadata(path)?;
    dirless_program::fs::publish(&backup, metadata.permissions().mode() & 0o777, text.as_bytes())?;
    let _ = chown(&backup, Some(metadata.uid()), Some(metadata.gid()));
    Ok(())
}

/// The lines that differ, as `diff -u` marks them, without context: enough to decide on.
pub(crate) fn difference(path: &Path, before: &str, after: &str) -> String {
    let old: Vec<&str> = before.lines().collect();
    let new: Vec<&str> = after.lines().collect();
    let head = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let rest = (old.len() - head).min(new.len() - head);
    let tail = old
        .iter()
        .rev()
        .zip(new.iter().rev())
        .take(rest)
        .take_while(|(old, new)| old == new)
        .count();
    let mut text = format!("--- {0}\n+++ {0}\n", path.display());
    // Edits of ours are single lines; between the first and the last one, equal lines pair up.
    let old = old.get(head..old.len() - tail).unwrap_or(&[]);
    let new = new.get(head..new.len() - tail).unwrap_or(&[]);
    for line in old.iter().filter(|line| !new.contains(line)) {
        text.push_str(&format!("-{line}\n"));
    }
    for line in new.iter().filter(|line| !old.contains(line)) {
        text.push_str(&format!("+{line}\n"));
    }
    text
}
