//! What is played, one act after the other.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// One act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// All hosts start, spread over this time; ends when each listens and has what is published.
    Connect(Duration),
    /// Nothing changes for this long.
    Steady(Duration),
    /// So many changes, one by one.
    Churn(u32),
    /// So many readers come and never read; they stay.
    Slow(usize),
    /// Each backend is killed, and started again after this long.
    Outage(Duration),
    /// One backend after the other is stopped and started.
    Restart,
    /// So many hosts close their streams at once and open others without waiting.
    Reconnect(usize),
}

/// A text that is no act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoAct(String);

impl fmt::Display for NoAct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is no act; there are connect=SECONDS, steady=SECONDS, churn=CHANGES, slow=READERS, outage=SECONDS, restart, \
             reconnect=HOSTS",
            self.0
        )
    }
}

impl std::error::Error for NoAct {}

impl FromStr for Act {
    type Err = NoAct;

    fn from_str(text: &str) -> Result<Self, NoAct> {
        let wrong = || NoAct(text.to_owned());
        let (name, number) = match text.split_once('=') {
            Some((name, number)) => (name, Some(number.parse::<u32>().map_err(|_no_number| wrong())?)),
            None => (text, None),
        };
        let seconds = |number| Duration::from_secs(u64::from(number));
        match (name, number) {
            ("connect", Some(number)) => Ok(Self::Connect(seconds(number))),
            ("steady", Some(number)) => Ok(Self::Steady(seconds(number))),
            ("churn", Some(number)) => Ok(Self::Churn(number)),
            ("slow", Some(number)) => Ok(Self::Slow(number as usize)),
            ("outage", Some(number)) => Ok(Self::Outage(seconds(number))),
            ("restart", None) => Ok(Self::Restart),
            ("reconnect", Some(number)) => Ok(Self::Reconnect(number as usize)),
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
            Self::Slow(readers) => write!(f, "slow={readers}"),
            Self::Outage(time) => write!(f, "outage={}", time.as_secs()),
            Self::Restart => write!(f, "restart"),
            Self::Reconnect(hosts) => write!(f, "reconnect={hosts}"),
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
            "slow=100",
            "outage=5",
            "restart",
            "reconnect=10000",
        ] {
            assert_eq!(text.parse::<Act>().unwrap().to_string(), text);
        }
        for text in ["", "churn", "churn=", "churn=-1", "restart=1", "dance=3", "steady=1.5"] {
            let error = text.parse::<Act>().unwrap_err().to_string();
            assert!(error.contains("there are connect="), "{error}");
        }
    }
}
