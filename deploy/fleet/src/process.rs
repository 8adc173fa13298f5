//! What the kernel says of a process (proc(5)).

use std::time::Duration;

use anyhow::Context;

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

/// Fields 14 and 15 (utime, stime), counted behind the name, which may hold anything.
fn processor_time(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut ticks = fields.split_whitespace().skip(11).map(str::parse::<u64>);
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
        assert_eq!(processor_time("7 (a) S 1"), None);
        assert_eq!(own_memory("Name:\tx\nRssAnon:\t    2048 kB\n"), Some(2 * 1024 * 1024));
        assert_eq!(own_memory("Name:\tx\n"), None);
    }

    #[test]
    fn this_process_uses_something() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.own_memory > 0);
    }
}
