use dirless_model::snapshot::{Caps, ObjectKind, RawGroup, RawUser, Retired, Sink};
use dirless_model::{NameRule, ObjectId};

/// A record of the file that is imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// User or group.
    pub kind: ObjectKind,
    /// The name in the file.
    pub name: String,
    /// Its number.
    pub number: i64,
    /// The source's object id, in snapshots of ours.
    pub id: Option<ObjectId>,
    /// A user's primary group, when it is not the user's own number.
    pub primary: Option<i64>,
    /// Is the record in the ledger part of a snapshot, its object gone?
    pub retired: bool,
}

/// What kind of file is imported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Whichever it looks like.
    #[default]
    Auto,
    /// A snapshot: JSON, or sealed with the identity in the key folder.
    Snapshot,
    /// passwd(5) records, also as `getent passwd` prints them.
    Passwd,
    /// group(5) records, also as `getent group` prints them.
    Group,
}

/// Why a file cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// It looks like none of the formats.
    #[error("it is no snapshot, passwd file or group file; say which with --format")]
    Unknown,
    /// A line is not of the format.
    #[error("line {line} is no {format} record: {reason}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// `passwd` or `group`.
        format: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
    /// The JSON is no snapshot.
    #[error(transparent)]
    Snapshot(#[from] dirless_model::snapshot::ReadError),
}

/// Reads the records of `text` (a snapshot as JSON, already opened).
///
/// # Errors
/// When it is not of the format.
pub fn parse(text: &str, format: Format) -> Result<Vec<Foreign>, ParseError> {
    match format {
        Format::Auto => parse(text, guess(text).ok_or(ParseError::Unknown)?),
        Format::Snapshot => snapshot(text),
        Format::Passwd => lines(text, "passwd", passwd_line),
        Format::Group => lines(text, "group", group_line),
    }
}

fn guess(text: &str) -> Option<Format> {
    if text.trim_start().starts_with('{') {
        return Some(Format::Snapshot);
    }
    let first = text.lines().find(|line| !is_blank(line))?;
    match first.split(':').count() {
        7 => Some(Format::Passwd),
        4 => Some(Format::Group),
        _ => None,
    }
}

fn is_blank(line: &str) -> bool {
    line.trim().is_empty() || line.starts_with('#')
}

fn lines(
    text: &str,
    format: &'static str,
    read: fn(&[&str]) -> Result<Foreign, &'static str>,
) -> Result<Vec<Foreign>, ParseError> {
    let mut records = Vec::new();
    for (index, line) in text.lines().enumerate() {
        // "+" lines are compat entries of nsswitch: no records.
        if is_blank(line) || line.starts_with(['+', '-']) {
            continue;
        }
        let fields: Vec<&str> = line.split(':').collect();
        let record = read(&fields).map_err(|reason| ParseError::Line {
            line: index + 1,
            format,
            reason,
        })?;
        records.push(record);
    }
    Ok(records)
}

fn passwd_line(fields: &[&str]) -> Result<Foreign, &'static str> {
    let [name, _, uid, gid, _, _, _] = fields else {
        return Err("it does not have seven fields");
    };
    let number = uid.parse().map_err(|_| "its uid is no number")?;
    let primary: i64 = gid.parse().map_err(|_| "its gid is no number")?;
    Ok(Foreign {
        kind: ObjectKind::User,
        name: (*name).to_owned(),
        number,
        id: None,
        primary: (primary != number).then_some(primary),
        retired: false,
    })
}

fn group_line(fields: &[&str]) -> Result<Foreign, &'static str> {
    let [name, _, gid, _] = fields else {
        return Err("it does not have four fields");
    };
    Ok(Foreign {
        kind: ObjectKind::Group,
        name: (*name).to_owned(),
        number: gid.parse().map_err(|_| "its gid is no number")?,
        id: None,
        primary: None,
        retired: false,
    })
}

fn snapshot(text: &str) -> Result<Vec<Foreign>, ParseError> {
    let mut collect = Collect(Vec::new());
    dirless_model::snapshot::read(text.as_bytes(), Caps::default(), &mut collect)?;
    Ok(collect.0)
}

struct Collect(Vec<Foreign>);

impl Sink for Collect {
    fn user(&mut self, user: RawUser<'_>) {
        let id = user.check(&NameRule::default()).ok().and_then(|user| user.id);
        if let (Some(name), Some(number)) = (user.username.value(), user.uid.value()) {
            self.0.push(Foreign {
                kind: ObjectKind::User,
                name: name.to_string(),
                number: *number,
                id,
                primary: user.gid.value().copied().filter(|gid| gid != number),
                retired: false,
            });
        }
    }

    fn group(&mut self, group: RawGroup<'_>) {
        let id = group.check(&NameRule::default()).ok().and_then(|(group, _)| group.id);
        if let (Some(name), Some(number)) = (group.name.value(), group.gid.value()) {
            self.0.push(Foreign {
                kind: ObjectKind::Group,
                name: name.to_string(),
                number: *number,
                id,
                primary: None,
                retired: false,
            });
        }
    }

    fn keys(&mut self, _: &str, _: &str) {}

    fn retired(&mut self, retired: Retired) {
        self.0.push(Foreign {
            kind: retired.kind,
            name: retired.name.unwrap_or_else(|| retired.id.to_string()),
            number: i64::from(retired.number),
            id: Some(retired.id),
            primary: None,
            retired: true,
        });
    }
}
