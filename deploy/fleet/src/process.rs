//! What the kernel says of a process (proc(5)).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use tokio::task::JoinSet;

/// How often open files are counted.
const LOOK: Duration = Duration::from_millis(20);

/// Ticks of processor time in a second: the kernel's USER_HZ, the same on every architecture we run on.
const TICKS: u64 = 100;

/// What a process has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Processor time, user and system, to 10 ms.
    pub(crate) processor: Duration,
    /// Resident memory that belongs to no file, bytes.
    pub(crate) own_memory: u64,
}

impl Usage {
    /// What this process has used until now.
    pub(crate) fn of(process: u32) -> anyhow::Result<Self> {
        let read = |name: &str| {
            let path = format!("/proc/{process}/{name}");
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
        };
        let processor = processor_time(&read("stat")?).context("/proc/PID/stat is not as proc(5) has it")?;
        let own_memory = own_memory(&read("status")?).context("/proc/PID/status is not as proc(5) has it")?;
        Ok(Self { processor, own_memory })
    }

    /// Processor time of the processes that it started, has seen the end of, and those under them.
    pub(crate) fn of_ended_children(process: u32) -> anyhow::Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
        ticks(&stat, 13).context("/proc/PID/stat is not as proc(5) has it")
    }

    /// What this process and those that it started have used until now.
    pub(crate) fn of_family(process: u32) -> anyhow::Result<Self> {
        let mut all = Self::of(process)?;
        let children = std::fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
            let usage = Self::of(child)?;
            all.processor += usage.processor;
            all.own_memory += usage.own_memory;
        }
        Ok(all)
    }
}

/// How many files a process has open. 0 where the kernel does not say (before Linux 6.2).
pub(crate) fn open_files(process: u32) -> u64 {
    std::fs::metadata(format!("/proc/{process}/fd")).map_or(0, |folder| folder.len())
}

/// The most files that any of some processes has open while this lasts.
#[derive(Debug)]
pub(crate) struct MostOpen {
    most: Arc<AtomicU64>,
    /// Ends with this.
    _looking: JoinSet<()>,
}

impl MostOpen {
    /// Looks from now on. Has to be called within a runtime.
    pub(crate) fn of(processes: Vec<u32>) -> Self {
        let (most, mut looking) = (Arc::<AtomicU64>::default(), JoinSet::new());
        let seen = Arc::clone(&most);
        looking.spawn(async move {
            loop {
                for process in &processes {
                    seen.fetch_max(open_files(*process), Ordering::Relaxed);
                }
                tokio::time::sleep(LOOK).await;
            }
        });
        Self {
            most,
            _looking: looking,
        }
    }

    /// How many until now.
    pub(crate) fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }
}

/// Fields 14 and 15 (utime, stime).
fn processor_time(stat: &str) -> Option<Duration> {
    ticks(stat, 11)
}

/// The sum of two fields with ticks, counted behind the name, which may hold anything.
fn ticks(stat: &str, skip: usize) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut ticks = fields.split_whitespace().skip(skip).map(str::parse::<u64>);
    let all = ticks.next()?.ok()? + ticks.next()?.ok()?;
    Some(Duration::from_millis(all * 1000 / TICKS))
}

fn own_memory(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kibibytes = line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_blanks_and_brackets_do_not_move_the_fields() {
        let stat = "7 (a ) b (c)) S 1 7 7 0 -1 4194560 10 20 30 40 150 25 0 0 20 0 3 0 100 200 300";
        assert_eq!(processor_time(stat), Some(Duration::from_millis(1750)));
        // Fields 16 and 17.
        assert_eq!(ticks(stat, 13), Some(Duration::ZERO));
        assert_eq!(processor_time("7 (a) S 1"), None);
        assert_eq!(own_memory("Name:\tx\nRssAnon:\t    2048 kB\n"), Some(2 * 1024 * 1024));
        assert_eq!(own_memory("Name:\tx\n"), None);
    }

    #[test]
    fn this_process_uses_something() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.own_memory > 0);
        assert_eq!(open_files(0), 0);
    }
}
