//! Notices that a folder changed.
//!
//! The kernel's notices (inotify(7)) wake at once; they stay silent on network file systems and bind
//! mounts of some kinds, so the folders are looked at as well, as often as that costs next to nothing.
//! What counts is the look: a notice without another fingerprint is no change.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

use super::{Folder, Wanted, wanted};
use crate::sources::{SourceKind, SourceSetting};

/// How often the folders are looked at, at most.
const EVERY: Duration = Duration::from_millis(300);
/// From a notice to the look.
const SHORTEST: Duration = Duration::from_millis(20);
/// A look may cost this share of the time.
const SHARE: u32 = 50;
/// A checkout writes many files: the folder has to rest this long,
const REST: Duration = Duration::from_millis(120);
/// but it is not waited for longer than this.
const LONGEST: Duration = Duration::from_secs(5);

/// Folders that are watched.
#[derive(Debug)]
pub struct Watch {
    watched: Vec<Watched>,
    notices: Option<Notices>,
    every: Duration,
    /// From a notice to the look: longer while notices are about nothing of interest.
    delay: Duration,
}

/// A folder and what of it is of interest.
struct Watched {
    folder: Folder,
    wanted: Wanted,
    seen: u64,
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.folder.fmt(formatter)
    }
}

impl Watch {
    /// Watches the folders of those of `sources` that want it, from what is there now.
    #[must_use]
    pub fn new(sources: &[SourceSetting]) -> Self {
        let own = sources.iter().filter_map(|source| match &source.kind {
            SourceKind::Files(files) if files.watch => Some((files.folder.clone(), wanted(&files.engines))),
            _ => None,
        });
        Self::of(own.collect())
    }

    /// Watches `folders` (or single files), from what is there now.
    #[must_use]
    pub fn of(folders: Vec<(PathBuf, Wanted)>) -> Self {
        let watched = folders.into_iter().map(|(path, wanted)| {
            let folder = Folder::new(&path);
            let seen = folder.fingerprint(&*wanted);
            Watched { folder, wanted, seen }
        });
        let mut watch = Self {
            watched: watched.collect(),
            notices: None,
            every: EVERY,
            delay: SHORTEST,
        };
        watch.renew();
        watch
    }

    /// Watches those of `other` too.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.watched.extend(other.watched);
        self.renew();
        self
    }

    /// Waits until `until`; true, at once, when a folder has changed since the last time and has
    /// then been quiet for a moment.
    pub async fn changed_before(&mut self, until: Instant) -> bool {
        if self.watched.is_empty() {
            tokio::time::sleep_until(until).await;
            return false;
        }
        loop {
            let now = self.look();
            if now != self.seen() {
                self.delay = SHORTEST;
                self.rest(now).await;
                return true;
            }
            if Instant::now() >= until {
                return false;
            }
            let next = until.min(Instant::now() + self.every);
            let noticed = match &self.notices {
                Some(notices) => tokio::time::timeout_at(next, notices.next()).await.is_ok(),
                None => {
                    tokio::time::sleep_until(next).await;
                    false
                }
            };
            if noticed {
                tokio::time::sleep(self.delay).await;
                // Should this be about nothing, the next one waits, so that looks keep to their share.
                self.delay = self.every.saturating_sub(EVERY) + SHORTEST;
                // New folders are to be watched as well, before they are looked at.
                self.renew();
            } else {
                self.delay = SHORTEST;
            }
        }
    }

    /// Waits until the folders stay as they are for a moment, and takes that as seen.
    async fn rest(&mut self, mut last: Vec<u64>) {
        let end = Instant::now() + LONGEST;
        loop {
            tokio::time::sleep(REST).await;
            let now = self.look();
            let at_rest = now == last && !self.watched.iter().any(|watched| watched.folder.is_busy());
            if at_rest || Instant::now() >= end {
                for (watched, now) in self.watched.iter_mut().zip(now) {
                    watched.seen = now;
                }
                self.renew();
                return;
            }
            last = now;
        }
    }

    fn seen(&self) -> Vec<u64> {
        self.watched.iter().map(|watched| watched.seen).collect()
    }

    fn look(&mut self) -> Vec<u64> {
        let started = Instant::now();
        let all = self.watched.iter();
        let all = all
            .map(|watched| watched.folder.fingerprint(&*watched.wanted))
            .collect();
        self.every = EVERY + started.elapsed() * SHARE;
        all
    }

    fn renew(&mut self) {
        let mut all: BTreeMap<PathBuf, Interest> = BTreeMap::new();
        for watched in &self.watched {
            for folder in watched.folder.folders() {
                all.insert(folder, Interest::Everything);
            }
        }
        for path in self.watched.iter().map(|watched| watched.folder.path()) {
            // A folder that is replaced as a whole, by rename or link, is noticed above it.
            if let (Some(above), Some(name)) = (path.parent(), path.file_name()) {
                let of = all
                    .entry(above.to_owned())
                    .or_insert_with(|| Interest::In(BTreeSet::new()));
                if let Interest::In(names) = of {
                    names.insert(name.to_owned());
                }
            }
        }
        self.notices = Notices::of(&all);
    }
}

/// What is of interest in a folder: it may be a busy place for other reasons.
#[derive(Debug)]
enum Interest {
    Everything,
    /// What has one of these names.
    In(BTreeSet<OsString>),
}

/// Notices of the kernel.
#[derive(Debug)]
struct Notices {
    queue: AsyncFd<OwnedFd>,
    /// By the watch's number, for folders in which not everything is of interest.
    names: BTreeMap<i32, BTreeSet<OsString>>,
}

impl Notices {
    /// Notices on `folders`; `None` when the kernel has none left to give, or outside of a runtime.
    fn of(folders: &BTreeMap<PathBuf, Interest>) -> Option<Self> {
        tokio::runtime::Handle::try_current().ok()?;
        let queue = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok()?;
        let of_interest = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVE
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF;
        let mut names = BTreeMap::new();
        for (folder, interest) in folders {
            // One that is gone is noticed in the folder above; past the limit of watches looks remain.
            let added = inotify::add_watch(&queue, folder, of_interest | WatchFlags::ONLYDIR);
            if let (Ok(watch), Interest::In(own)) = (added, interest) {
                names.insert(watch, own.clone());
            }
        }
        #[expect(
            deprecated,
            reason = "its successor is unsafe for the sake of types that lie about their descriptor, which OwnedFd cannot"
        )]
        let queue = AsyncFd::new(queue).ok()?;
        Some(Self { queue, names })
    }

    /// Waits for the next notice of interest, and takes all that are there.
    async fn next(&self) {
        loop {
            let Ok(mut ready) = self.queue.readable().await else {
                // The runtime is going down; the caller's own deadline ends the wait.
                return std::future::pending().await;
            };
            let mut buffer = [MaybeUninit::uninit(); 4096];
            let mut reader = Reader::new(self.queue.get_ref(), &mut buffer);
            let mut is_due = false;
            while let Ok(event) = reader.next() {
                is_due |= match (self.names.get(&event.wd()), event.file_name()) {
                    (Some(names), Some(name)) => names.contains(OsStr::from_bytes(name.to_bytes())),
                    // Something of the folder itself, an overflow, or a folder that is all of interest.
                    _ => true,
                };
            }
            ready.clear_ready();
            if is_due {
                return;
            }
        }
    }
}
