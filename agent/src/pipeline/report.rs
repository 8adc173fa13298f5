//! What a run did, for `status`, `why`, the heartbeat and the next run.

use std::io;
use std::path::Path;

use super::drops::Drops;
use super::input::SourceInput;
use super::open::BodyError;

/// Most excluded users that are listed in full.
pub(super) const LISTED_EXCLUDED: usize = 5000;

/// Most duplicates that are listed.
pub(super) const LISTED_DUPLICATES: usize = 10_000;

/// Code of the caution that the directory copy could not be written.
pub(super) const NO_COPY: &str = "directory-copy";

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// A new table is in place.
    Published,
    /// The table in place already says the same.
    Unchanged,
    /// A source or the access rules were never fetched: nothing to publish yet.
    NotReady,
    /// Nothing may be published from what there is; the table in place stays.
    Refused,
    /// The table could not be written; the one in place stays.
    Failed,
}

impl std::fmt::Display for Ending {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Published => "published",
            Self::Unchanged => "unchanged",
            Self::NotReady => "not ready",
            Self::Refused => "refused",
            Self::Failed => "failed",
        })
    }
}

/// Something that is wrong, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Problem {
    /// A short stable word.
    pub code: String,
    /// What is wrong.
    pub reason: String,
    /// What to do.
    pub hint: String,
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        Self {
            code: error.code.to_owned(),
            reason: error.reason,
            hint: error.hint,
        }
    }
}

/// Where a source's data came from in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Taken {
    /// From the body as last fetched.
    Fetched,
    /// From the last good body, because the fetched one cannot be used.
    LastGood,
    /// The backend has none: the source is empty.
    Empty,
    /// From nowhere: nothing could be used.
    Nothing,
}

/// A source in a run.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SourceReport {
    /// Its name.
    pub name: String,
    /// Where its data came from.
    pub taken: Taken,
    /// What is wrong with the fetched body.
    pub problem: Option<Problem>,
    /// User records that could be used.
    pub users: usize,
    /// Group records that could be used.
    pub groups: usize,
    /// Entries of `ssh_keys`.
    pub keys: usize,
    /// `sequence` of the snapshot.
    pub sequence: Option<u64>,
    /// `generated_at` of the snapshot.
    pub generated_at: Option<String>,
    /// When the body was fetched.
    pub fetched_at: Option<String>,
    /// `ETag` of the body that was applied.
    pub etag: Option<String>,
}

impl SourceReport {
    /// What is known before anything of `source` is opened.
    pub(super) fn before(source: &SourceInput) -> Self {
        let note = source.note.as_ref();
        Self {
            name: source.name.clone(),
            taken: Taken::Nothing,
            problem: None,
            users: 0,
            groups: 0,
            keys: 0,
            sequence: None,
            generated_at: None,
            fetched_at: note.and_then(|note| note.fetched_at.clone()),
            etag: note.and_then(|note| note.etag.clone()),
        }
    }
}

/// The access rules in a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AccessReport {
    /// Are rules enforced?
    pub enforced: bool,
    /// How many rules there are.
    pub rules: usize,
    /// How many of them name this host.
    pub rules_here: usize,
    /// The host name they are compared with.
    pub hostname: String,
    /// Why older rules are in force.
    pub problem: Option<String>,
}

/// A user whom the access rules keep off this host.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ExcludedUser {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Comment.
    pub gecos: String,
    /// Home directory.
    pub home: String,
    /// Login shell.
    pub shell: String,
}

/// What deserves a look though nothing was dropped for it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CautionNote {
    /// A short stable word.
    pub code: String,
    /// How often.
    pub count: usize,
    /// In a sentence.
    pub text: String,
}

/// The table in place.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Published {
    /// Its number; it grows with each table.
    pub generation: u64,
    /// SHA-256 over the inputs that the last run made it from, in hex; absent when that run took more
    /// than what was fetched. The same inputs need no second run.
    #[serde(default)]
    pub made_from: Option<String>,
    /// What the directory copy that belongs to it says of itself; absent where there is none that can be relied on.
    #[serde(default)]
    pub copy: Option<String>,
    /// When it was written (RFC 3339).
    pub at: String,
    /// Users in it.
    pub users: usize,
    /// Groups in it, private ones included.
    pub groups: usize,
    /// Users with keys in it.
    pub users_with_keys: usize,
}

/// How long the stages took, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Durations {
    /// Opening and reading all sources.
    pub read: u64,
    /// Merge, access rules and host limits.
    pub decide: u64,
    /// Digest and table.
    pub publish: u64,
}

/// What a run did.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Report {
    /// Form of this file; 1.
    pub version: u32,
    /// When the run ended (RFC 3339).
    pub finished_at: String,
    /// How it ended.
    pub ending: Ending,
    /// Why it did not publish.
    pub problem: Option<Problem>,
    /// The sources in the order of precedence.
    pub sources: Vec<SourceReport>,
    /// The access rules.
    pub access: AccessReport,
    /// Entries that were left out.
    pub dropped: Drops,
    /// How many users the access rules keep off.
    pub excluded_total: usize,
    /// The first of them.
    pub excluded: Vec<ExcludedUser>,
    /// Usernames that more than one source has.
    pub duplicates: Vec<String>,
    /// What deserves a look.
    pub cautions: Vec<CautionNote>,
    /// Why the run was over everything although there was a log to follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole_because: Option<String>,
    /// How long it took.
    pub durations: Durations,
    /// The table in place after the run.
    pub published: Option<Published>,
}

impl Report {
    /// An empty report of a run that has not done anything yet.
    #[must_use]
    pub fn begin() -> Self {
        Self {
            version: 1,
            finished_at: String::new(),
            ending: Ending::NotReady,
            problem: None,
            sources: Vec::new(),
            access: AccessReport::default(),
            dropped: Drops::default(),
            excluded_total: 0,
            excluded: Vec::new(),
            duplicates: Vec::new(),
            cautions: Vec::new(),
            whole_because: None,
            durations: Durations::default(),
            published: None,
        }
    }

    /// Does something stand in for what should be there?
    #[must_use]
    pub fn degraded(&self) -> bool {
        self.problem.is_some()
            || self.access.problem.is_some()
            || self.sources.iter().any(|source| source.problem.is_some())
    }

    pub(super) fn caution(&mut self, code: &str, count: usize, text: impl FnOnce(usize) -> String) {
        if count > 0 {
            self.cautions.push(CautionNote {
                code: code.to_owned(),
                count,
                text: text(count),
            });
        }
    }

    /// Is the directory copy not what it should be, because it could not be written?
    #[must_use]
    pub fn lacks_copy(&self) -> bool {
        self.cautions.iter().any(|note| note.code == NO_COPY)
    }

    /// Reads the report of the last run.
    ///
    /// # Errors
    /// When it is there but cannot be read; an absent one is `None`.
    pub fn load(path: &Path) -> io::Result<Option<Self>> {
        match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes the report durably, for root alone: it names people.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        dirless_program::fs::publish_with(path, 0o600, |file| {
            let mut writer = io::BufWriter::new(file);
            serde_json::to_writer(&mut writer, self)?;
            io::Write::flush(&mut writer)
        })
    }

    /// Writes the shortest form over the old file, for a disk that has no room for a second one. A
    /// crash in between costs the report and nothing else: the table knows its own generation.
    ///
    /// # Errors
    /// What the file system reports.
    pub(super) fn save_in_place(&self, path: &Path) -> io::Result<()> {
        let mut short = self.clone();
        short.dropped.entries.clear();
        short.excluded.clear();
        short.duplicates.clear();
        let bytes = serde_json::to_vec(&short).map_err(io::Error::other)?;
        let mut file = std::fs::OpenOptions::new().write(true).truncate(true).open(path)?;
        io::Write::write_all(&mut file, &bytes)?;
        file.sync_all()
    }

    /// The one line that a worker prints.
    #[must_use]
    pub fn line(&self) -> Line<'_> {
        Line {
            ending: self.ending,
            degraded: self.degraded(),
            generation: self.published.as_ref().map(|published| published.generation),
            users: self.published.as_ref().map_or(0, |published| published.users),
            groups: self.published.as_ref().map_or(0, |published| published.groups),
            dropped: self.dropped.total,
            excluded: self.excluded_total,
            duplicates: self.duplicates.len(),
            problem: self.problem.as_ref(),
            sources: self.sources.iter().map(SourceLine::of).collect(),
        }
    }
}

/// One line of JSON about a run. The whole story is in the report file.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Line<'a> {
    ending: Ending,
    degraded: bool,
    generation: Option<u64>,
    users: usize,
    groups: usize,
    dropped: usize,
    excluded: usize,
    duplicates: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'a Problem>,
    sources: Vec<SourceLine<'a>>,
}

#[derive(Clone, Debug, serde::Serialize)]
struct SourceLine<'a> {
    name: &'a str,
    taken: Taken,
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'a Problem>,
}

impl<'a> SourceLine<'a> {
    fn of(source: &'a SourceReport) -> Self {
        Self {
            name: &source.name,
            taken: source.taken,
            etag: source.etag.as_deref(),
            problem: source.problem.as_ref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_report_is_written_for_root_alone_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        assert!(Report::load(&path).unwrap().is_none());
        let mut report = Report::begin();
        report.caution("x", 0, |_| unreachable!());
        report.caution("y", 2, |count| format!("{count} times"));
        report.save(&path).unwrap();
        assert_eq!(Report::load(&path).unwrap().unwrap(), report);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "x").unwrap();
        assert!(Report::load(&path).is_err());
    }

    #[test]
    fn the_line_of_a_worker_is_one_line() {
        let text = serde_json::to_string(&Report::begin().line()).unwrap();
        assert!(text.starts_with(r#"{"ending":"not_ready","degraded":false,"#), "{text}");
        assert!(!text.contains('\n'));
    }
}
