//! What is played, one act after the other.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// One act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// All hosts start, spread over this time; ends when each listens and has what is published.
    Connect(Duration),
    /// Nothing changes for this long.
    Steady(Duration),
    /// So many changes, one by one.
    Churn(u32),
    /// So many people leave, one by one, and receipts are waited for as `dirless revoke --wait` does.
    Revoke(u32),
    /// So many readers come and never read; they stay.
    Slow(usize),
    /// Each backend is killed, and started again after this long.
    Outage(Duration),
    /// One backend after the other is stopped and started.
    Restart,
    /// So many hosts close their streams at once and open others without waiting.
    Reconnect(usize),
    /// So many writers begin to write without a pause; they stay, and at the end what was acknowledged is looked for.
    Write(usize),
    /// Something breaks, and is mended when every host has a change that was made after it.
    Trouble(Trouble),
}

/// What breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// A backend is killed outright.
    KillBackend,
    /// The primary of the database is killed outright, and its standby takes over.
    KillPrimary,
    /// Both at once.
    KillBoth,
    /// A backend's network carries nothing, for this long at least.
    Cut(Duration),
    /// The disk of a backend's store is full for this long.
    FullDisk(Duration),
    /// Whatever a backend brings to its disk takes this much longer.
    SlowDisk(Duration),
    /// What the program given for it knows by this name.
    Strike(String),
}

/// A text that is no act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoAct(String);

impl fmt::Display for NoAct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is no act; there are connect=SECONDS, steady=SECONDS, churn=CHANGES, revoke=PEOPLE, slow=READERS, \
             outage=SECONDS, restart, reconnect=HOSTS, write=WRITERS, kill-backend, kill-primary, kill-both, cut=SECONDS, full-disk=SECONDS, \
             slow-disk=MILLISECONDS, strike=NAME",
            self.0
        )
    }
}

impl std::error::Error for NoAct {}

impl FromStr for Act {
    type Err = NoAct;

    fn from_str(text: &str) -> Result<Self, NoAct> {
        let wrong = || NoAct(text.to_owned());
        if let Some(name) = text.strip_prefix("strike=") {
            let good = name.starts_with(|c: char| c.is_ascii_lowercase());
            let strike = || Self::Trouble(Trouble::Strike(name.to_owned()));
            return good.then(strike).ok_or_else(wrong);
        }
        let (name, number) = match text.split_once('=') {
            Some((name, number)) => (name, Some(number.parse::<u32>().map_err(|_no_number| wrong())?)),
            None => (text, None),
        };
        let seconds = |number| Duration::from_secs(u64::from(number));
        match (name, number) {
            ("connect", Some(number)) => Ok(Self::Connect(seconds(number))),
            ("steady", Some(number)) => Ok(Self::Steady(seconds(number))),
            ("churn", Some(number)) => Ok(Self::Churn(number)),
            ("revoke", Some(number)) => Ok(Self::Revoke(number)),
            ("slow", Some(number)) => Ok(Self::Slow(number as usize)),
            ("outage", Some(number)) => Ok(Self::Outage(seconds(number))),
            ("restart", None) => Ok(Self::Restart),
            ("reconnect", Some(number)) => Ok(Self::Reconnect(number as usize)),
            ("write", Some(number)) => Ok(Self::Write(number as usize)),
            ("kill-backend", None) => Ok(Self::Trouble(Trouble::KillBackend)),
            ("kill-primary", None) => Ok(Self::Trouble(Trouble::KillPrimary)),
            ("kill-both", None) => Ok(Self::Trouble(Trouble::KillBoth)),
            ("cut", Some(number)) => Ok(Self::Trouble(Trouble::Cut(seconds(number)))),
            ("full-disk", Some(number)) => Ok(Self::Trouble(Trouble::FullDisk(seconds(number)))),
            ("slow-disk", Some(number)) => {
                let each = Duration::from_millis(u64::from(number));
                Ok(Self::Trouble(Trouble::SlowDisk(each)))
            }
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(time) => write!(f, "connect={}", time.as_secs()),
            Self::Steady(time) => write!(f, "steady={}", time.as_secs()),
            Self::Churn(changes) => write!(f, "churn={changes}"),
            Self::Revoke(people) => write!(f, "revoke={people}"),
            Self::Slow(readers) => write!(f, "slow={readers}"),
            Self::Outage(time) => write!(f, "outage={}", time.as_secs()),
            Self::Restart => write!(f, "restart"),
            Self::Reconnect(hosts) => write!(f, "reconnect={hosts}"),
            Self::Write(writers) => write!(f, "write={writers}"),
            Self::Trouble(Trouble::KillBackend) => write!(f, "kill-backend"),
            Self::Trouble(Trouble::KillPrimary) => write!(f, "kill-primary"),
            Self::Trouble(Trouble::KillBoth) => write!(f, "kill-both"),
            Self::Trouble(Trouble::Cut(time)) => write!(f, "cut={}", time.as_secs()),
            Self::Trouble(Trouble::FullDisk(time)) => write!(f, "full-disk={}", time.as_secs()),
            Self::Trouble(Trouble::SlowDisk(each)) => write!(f, "slow-disk={}", each.as_millis()),
            Self::Trouble(Trouble::Strike(name)) => write!(f, "strike={name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acts_are_read_as_they_are_written() {
        for text in [
            "connect=1",
            "steady=60",
            "churn=20",
            "revoke=3",
            "slow=100",
            "outage=5",
            "restart",
            "reconnect=10000",
            "write=4",
            "kill-backend",
            "kill-primary",
            "kill-both",
            "cut=5",
            "full-disk=2",
            "slow-disk=100",
            "strike=etcd-all",
        ] {
            assert_eq!(text.parse::<Act>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "churn",
            "churn=",
            "churn=-1",
            "restart=1",
            "dance=3",
            "steady=1.5",
            "kill-primary=1",
            "cut",
            "strike",
            "strike=",
            "strike=--help",
        ] {
            let error = text.parse::<Act>().unwrap_err().to_string();
            assert!(error.contains("there are connect="), "{error}");
        }
    }
}
