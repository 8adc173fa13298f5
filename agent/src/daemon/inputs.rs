//! Whether anything the table is made from has changed since it was made: a digest over the names,
//! sizes and times of those files. Reading them all each minute would cost what it saves.

use std::fmt::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use dirless_wire::SourceName;

use crate::paths::Paths;
use crate::trust::{ACCESS_RULES, KeptLog};

/// A digest of everything a worker's run depends on, this program's version included. `None` when
/// there is no table: then the worker has to run in any case. `copy` says whether there is to be a
/// directory copy.
pub(crate) fn digest(
    paths: &Paths,
    sources: &[SourceName],
    enumerate: bool,
    copy: bool,
    hostname: &str,
) -> Option<String> {
    let mut files: Vec<PathBuf> = vec![
        paths.access_rules(),
        paths.age_key(),
        paths.limits(),
        paths.config(),
        paths.passwd(),
        paths.group(),
        paths.shells(),
        paths.ratchet(),
        paths.trust_policy(),
        paths.trust_closed(),
        paths.sealed(ACCESS_RULES),
        KeptLog::note_beside(&paths.sealed(ACCESS_RULES)),
    ];
    for source in sources {
        files.push(paths.sealed(source.as_str()));
        files.push(KeptLog::note_beside(&paths.sealed(source.as_str())));
        files.push(paths.source_note(source.as_str()));
    }
    if copy {
        files.push(paths.directory_copy());
    }
    let mut text = format!("{} {hostname} {enumerate} {sources:?}\n", env!("CARGO_PKG_VERSION"));
    for file in files {
        line(&mut text, &file);
    }
    // The table itself: gone, or replaced by another hand, it is made anew.
    std::fs::metadata(paths.table()).ok()?;
    line(&mut text, &paths.table());
    Some(dirless_seal::sha256_hex(text.as_bytes()))
}

fn line(text: &mut String, file: &Path) {
    // Writing to a string does not fail.
    let _ = match std::fs::metadata(file) {
        Ok(data) => writeln!(
            text,
            "{} {} {} {}.{}",
            file.display(),
            data.ino(),
            data.size(),
            data.mtime(),
            data.mtime_nsec()
        ),
        Err(error) => writeln!(text, "{} {}", file.display(), error.kind()),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_that_counts_changes_the_digest_and_nothing_else_does() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::under(folder.path());
        let sources = [SourceName::local()];
        let now = |host: &str| digest(&paths, &sources, true, false, host);
        assert_eq!(now("web-1"), None);
        for path in [paths.table(), paths.sealed("local"), paths.passwd(), paths.report()] {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        }
        std::fs::write(paths.table(), "t").unwrap();
        let mut last = now("web-1");
        assert!(last.is_some());
        assert_ne!(now("web-2"), last);
        std::fs::create_dir_all(paths.config_folder()).unwrap();
        for path in [
            paths.sealed("local"),
            KeptLog::note_beside(&paths.sealed("local")),
            KeptLog::note_beside(&paths.sealed("access-rules")),
            paths.source_note("local"),
            paths.access_rules(),
            paths.age_key(),
            paths.limits(),
            paths.config(),
            paths.passwd(),
            paths.group(),
            paths.ratchet(),
        ] {
            std::fs::write(&path, "x").unwrap();
            let next = now("web-1");
            assert_ne!(next, last, "{}", path.display());
            last = next;
        }
        std::fs::write(paths.report(), "x").unwrap();
        std::fs::write(paths.sealed("corp"), "x").unwrap();
        assert_eq!(now("web-1"), last);
        let with_copy = || digest(&paths, &sources, true, true, "web-1");
        let absent = with_copy();
        assert_ne!(absent, last);
        std::fs::create_dir_all(paths.directory_copy().parent().unwrap()).unwrap();
        std::fs::write(paths.directory_copy(), "x").unwrap();
        assert_ne!(with_copy(), absent);
        assert_eq!(now("web-1"), last);
    }
}
