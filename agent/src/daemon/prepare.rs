//! The state folders as they must be. Deployed agents leave `/var/lib/dirless` open to everyone, so
//! whatever lies in it may have been put there by anyone.

use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::paths::Paths;

/// Makes or repairs the state folders: the outer ones 0755, the agent's own 0700, all of the
/// caller's own. What somebody else owns, and every symbolic link, is moved out of the way. Old
/// database files become private. What is left of a join that broke off is removed.
///
/// # Errors
/// When a folder cannot be made or repaired.
pub fn prepare(paths: &Paths) -> io::Result<()> {
    // The outer folder first: once it is closed nobody can put anything into it any more.
    folder(&paths.state_folder(), 0o755)?;
    folder(&paths.table_folder(), 0o755)?;
    folder(&paths.agent_folder(), 0o700)?;
    folder(&paths.sources_folder(), 0o700)?;
    crate::trust::clear_joins(paths)?;
    folder(&paths.trust_folder(), 0o700)?;
    for suffix in ["", "-wal", "-shm"] {
        let mut name = paths.old_database().into_os_string();
        name.push(suffix);
        close(Path::new(&name))?;
    }
    Ok(())
}

fn folder(path: &Path, mode: u32) -> io::Result<()> {
    let own = rustix::process::geteuid().as_raw();
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() && found.uid() == own => {
            if found.mode() & 0o7777 != mode {
                std::fs::set_permissions(path, Permissions::from_mode(mode))?;
            }
            return Ok(());
        }
        Ok(found) => {
            let aside = aside(path);
            std::fs::rename(path, &aside)?;
            tracing::warn!(
                path = %path.display(), owner = found.uid(), moved_to = %aside.display(),
                "not a folder of this user: somebody else may have put it there; moved away"
            );
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
        }
        Err(error) => return Err(error),
    }
    DirBuilder::new().mode(mode).create(path)?;
    // The umask may have taken bits away.
    std::fs::set_permissions(path, Permissions::from_mode(mode))
}

/// The first free name beside `path`.
fn aside(path: &Path) -> std::path::PathBuf {
    let candidate = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".untrusted-{number}"));
        std::path::PathBuf::from(name)
    };
    (1..)
        .map(candidate)
        .find(|path| std::fs::symlink_metadata(path).is_err())
        .unwrap_or_else(|| candidate(0))
}

/// Makes an old database private, through an open file, never through a link.
fn close(path: &Path) -> io::Result<()> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => {
            let found = file.metadata()?;
            // A second name may lead to somebody's file elsewhere.
            if found.is_file() && found.nlink() == 1 && found.mode() & 0o077 != 0 {
                file.set_permissions(Permissions::from_mode(0o600))?;
            }
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // A link (ELOOP) is left as it is: nothing of ours follows it.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn folders_are_made_with_their_modes() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        prepare(&paths).unwrap();
        prepare(&paths).unwrap();
        assert_eq!(mode(&paths.state_folder()), 0o755);
        assert_eq!(mode(&paths.table_folder()), 0o755);
        assert_eq!(mode(&paths.agent_folder()), 0o700);
        assert_eq!(mode(&paths.sources_folder()), 0o700);
    }

    #[test]
    fn defect_02_what_deployed_agents_left_open_is_closed() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        std::fs::create_dir_all(paths.state_folder()).unwrap();
        std::fs::set_permissions(paths.state_folder(), Permissions::from_mode(0o1777)).unwrap();
        for suffix in ["", "-wal", "-shm"] {
            let path = paths.state_folder().join(format!("local.db{suffix}"));
            std::fs::write(&path, "TPANDADB").unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        }
        prepare(&paths).unwrap();
        assert_eq!(mode(&paths.state_folder()), 0o755);
        for suffix in ["", "-wal", "-shm"] {
            assert_eq!(mode(&paths.state_folder().join(format!("local.db{suffix}"))), 0o600);
        }
    }

    #[test]
    fn defect_02_what_somebody_put_there_is_moved_away_and_never_followed() {
        let root = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let victim = elsewhere.path().join("victim");
        std::fs::write(&victim, "x").unwrap();
        std::fs::set_permissions(&victim, Permissions::from_mode(0o644)).unwrap();
        let paths = Paths::under(root.path());
        std::fs::create_dir_all(paths.state_folder()).unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), paths.agent_folder()).unwrap();
        std::os::unix::fs::symlink(&victim, paths.old_database()).unwrap();
        std::fs::write(paths.table_folder(), "a file").unwrap();
        prepare(&paths).unwrap();
        assert!(!paths.agent_folder().is_symlink() && paths.agent_folder().is_dir());
        assert!(paths.table_folder().is_dir());
        assert!(paths.state_folder().join("agent.untrusted-1").is_symlink());
        assert_eq!(mode(&victim), 0o644);
    }
}
