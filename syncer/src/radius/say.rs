//! A radius in words.

use std::fmt::{Display, Formatter, Result, Write};

use super::{GroupChange, Radius, Stroke};

/// Lines of each kind that are shown; JSON has all.
const MOST_LINES: usize = 20;
/// Names that stand in a line.
const MOST_NAMES: usize = 5;

impl Radius {
    /// One line, such as `4 people lose 214 hosts, 1 gains sudo on db-*`.
    #[must_use]
    pub fn summary(&self) -> String {
        let kinds = [
            (&self.lose, "lose", "loses", ""),
            (&self.gain, "gain", "gains", ""),
            (&self.lose_sudo, "lose", "loses", "sudo on "),
            (&self.gain_sudo, "gain", "gains", "sudo on "),
        ];
        let mut parts = Vec::new();
        for (strokes, many, one, what) in kinds {
            let people: usize = strokes.iter().map(|stroke| stroke.people.len()).sum();
            let verb = if people == 1 { one } else { many };
            let counted = match (people, parts.is_empty()) {
                (1, true) => "1 person".to_owned(),
                (people, true) => format!("{people} people"),
                (people, false) => people.to_string(),
            };
            match strokes.as_slice() {
                [] => {}
                [only] => parts.push(format!("{counted} {verb} {what}{}", only.said)),
                _ => {
                    let hosts: std::collections::BTreeSet<&String> =
                        strokes.iter().flat_map(|stroke| &stroke.hosts.hosts).collect();
                    let beyond = strokes.iter().any(|stroke| !stroke.hosts.beyond.is_empty());
                    let hosts = if beyond {
                        "hosts".to_owned()
                    } else {
                        format!("{} hosts in all", hosts.len())
                    };
                    parts.push(format!("{counted} {verb} {what}{hosts}"));
                }
            }
        }
        let joined: usize = self.groups.iter().map(|change| change.gained.len()).sum();
        let left: usize = self.groups.iter().map(|change| change.lost.len()).sum();
        if joined + left > 0 {
            parts.push(format!("memberships +{joined} -{left}"));
        }
        if parts.is_empty() {
            return "nobody gains or loses anything".to_owned();
        }
        parts.join(", ")
    }
}

/// The summary, and then who it is, line by line.
impl Display for Radius {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> Result {
        writeln!(formatter, "{}", self.summary())?;
        for (strokes, sign, what) in [
            (&self.lose, '-', "hosts"),
            (&self.gain, '+', "hosts"),
            (&self.lose_sudo, '-', "sudo"),
            (&self.gain_sudo, '+', "sudo"),
        ] {
            for Stroke { people, said, .. } in strokes.iter().take(MOST_LINES) {
                writeln!(formatter, "  {sign} {what} {said}: {}", names(people))?;
            }
            more(formatter, strokes.len())?;
        }
        for GroupChange {
            group,
            gained,
            lost,
            sudo,
        } in self.groups.iter().take(MOST_LINES)
        {
            let mut line = format!("  ~ group {group}{}", if *sudo { " (sudo)" } else { "" });
            if !gained.is_empty() {
                write!(line, " +{}", names(gained))?;
            }
            if !lost.is_empty() {
                write!(line, " -{}", names(lost))?;
            }
            writeln!(formatter, "{line}")?;
        }
        more(formatter, self.groups.len())
    }
}

fn more(formatter: &mut Formatter<'_>, lines: usize) -> Result {
    match lines.saturating_sub(MOST_LINES) {
        0 => Ok(()),
        more => writeln!(formatter, "    and {more} more; see --json"),
    }
}

fn names(all: &[String]) -> String {
    let shown: Vec<&str> = all.iter().take(MOST_NAMES).map(String::as_str).collect();
    match all.len().saturating_sub(MOST_NAMES) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
