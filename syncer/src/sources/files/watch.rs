//! Notices that a folder changed. It looks, three times a second, at times and sizes: a few thousand
//! files cost a millisecond, and that works on network file systems, bind mounts and the swapped
//! symbolic links of mounted configuration, where change notices of the kernel stay silent.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use crate::sources::{SourceKind, SourceSetting};

/// How often the folders are looked at.
const EVERY: Duration = Duration::from_millis(300);

/// The watched folders of some sources.
#[derive(Debug)]
pub struct Watch {
    folders: Vec<PathBuf>,
    seen: Vec<u64>,
}

impl Watch {
    /// Watches the folders of those of `sources` that want it, from what is there now.
    #[must_use]
    pub fn new(sources: &[SourceSetting]) -> Self {
        let folders = sources.iter().filter_map(|source| match &source.kind {
            SourceKind::Files(files) if files.watch => Some(files.folder.clone()),
            _ => None,
        });
        let folders: Vec<PathBuf> = folders.collect();
        let seen = look(&folders);
        Self { folders, seen }
    }

    /// Waits until `until`; true, at once, when a folder has changed since the last time and has
    /// then been quiet for a moment (a checkout writes many files).
    pub async fn changed_before(&mut self, until: Instant) -> bool {
        if self.folders.is_empty() {
            tokio::time::sleep_until(until).await;
            return false;
        }
        let mut last = look(&self.folders);
        while Instant::now() < until {
            tokio::time::sleep_until(until.min(Instant::now() + EVERY)).await;
            let now = look(&self.folders);
            if now != self.seen && now == last {
                self.seen = now;
                return true;
            }
            last = now;
        }
        false
    }
}

fn look(folders: &[PathBuf]) -> Vec<u64> {
    folders.iter().map(|folder| fingerprint(folder)).collect()
}

/// Another number when a file came, went or was written. A folder that cannot be read has one too.
fn fingerprint(folder: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    match super::paths(folder) {
        Ok(paths) => {
            for path in paths {
                path.hash(&mut hasher);
                if let Ok(data) = std::fs::metadata(&path) {
                    (
                        data.ino(),
                        data.size(),
                        data.mtime(),
                        data.mtime_nsec(),
                        data.ctime_nsec(),
                    )
                        .hash(&mut hasher);
                }
            }
        }
        Err((path, error)) => (path, error.kind()).hash(&mut hasher),
    }
    hasher.finish()
}
