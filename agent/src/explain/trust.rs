//! What this host trusts: judged by now, from what it keeps itself, so that it holds also while no daemon runs.

use std::fs;

use dirless_seal::trust::Freshness;
use jiff::Timestamp;

use super::Level;
use crate::paths::Paths;
use crate::trust::{Keeper, kept};

/// What is trusted, and for how long.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Trust {
    /// The policy, and how far each publisher's head can be relied on.
    pub line: String,
    /// How good that is.
    #[serde(skip)]
    pub level: Level,
    /// How this host stood with whoever serves the files, when it asked last.
    pub standing: Option<String>,
    /// When that was.
    #[serde(rename = "as_of", serialize_with = "as_text")]
    pub asked: Option<Timestamp>,
}

#[expect(clippy::ref_option, reason = "serde hands it over so")]
fn as_text<S: serde::Serializer>(time: &Option<Timestamp>, to: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => to.collect_str(time),
        None => to.serialize_none(),
    }
}

impl Trust {
    /// Of the host whose files `keeper` has, at `now`.
    #[must_use]
    pub fn judge(keeper: &Keeper, paths: &Paths, now: Timestamp) -> Self {
        let told = Self::told(paths);
        let (line, level) = if paths.trust_closed().exists() {
            let line = "the lease has run out, and the policy lets nobody in until a newer head comes";
            (line.to_owned(), Level::Fail)
        } else {
            judged(keeper, now)
        };
        Self {
            line,
            level,
            standing: told.as_ref().and_then(|told| told.standing.clone()),
            asked: told.and_then(|told| told.asked),
        }
    }

    /// What the last cycle said, where nothing better is to be had; none when there was none.
    #[must_use]
    pub fn told(paths: &Paths) -> Option<Self> {
        let path = paths.trust_summary();
        let text = fs::read_to_string(&path).ok()?;
        let (line, standing) = match text.split_once('\n') {
            Some((line, standing)) => (line, Some(standing.to_owned())),
            None => (text.as_str(), None),
        };
        let asked = fs::metadata(&path).and_then(|metadata| metadata.modified());
        Some(Self {
            line: line.to_owned(),
            level: Level::Warning,
            standing,
            asked: asked
                .ok()
                .and_then(|time| Timestamp::try_from(time).ok())
                .map(whole_seconds),
        })
    }

    /// For people: what is trusted, and below it what was so when the host asked last.
    pub(super) fn lines(&self) -> Vec<String> {
        let asked = self.asked.map(|asked| format!("as of {asked}"));
        let below = match (asked, &self.standing) {
            (Some(asked), Some(standing)) => Some(format!("{asked}: {standing}")),
            (asked, standing) => asked.or_else(|| standing.clone()),
        };
        std::iter::once(self.line.clone()).chain(below).collect()
    }
}

fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

fn judged(keeper: &Keeper, now: Timestamp) -> (String, Level) {
    let known = match kept(keeper, now) {
        Ok(known) => known,
        Err(alarm) => return (alarm.to_string(), Level::Fail),
    };
    let heads = known.heads.iter().map(|(_, freshness)| match freshness {
        Freshness::Fresh => Level::Ok,
        Freshness::Stale | Freshness::ClockBehind => Level::Warning,
        Freshness::Expired => Level::Fail,
    });
    let policy = match &known.policy {
        Some(policy) if policy.expires < now => Level::Warning,
        Some(_) => Level::Ok,
        None => Level::Fail,
    };
    (known.summary(), heads.max().unwrap_or(Level::Ok).max(policy))
}
