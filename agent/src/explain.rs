//! Telling operators how things stand and why: `dirless why`, `list-users`, `status`, `doctor`.
//!
//! Everything is read from files; `why` runs the very pipeline that publishes, so that it can never
//! tell another story. Each command takes the [`Paths`](crate::paths::Paths) and a writer, and returns
//! its exit code.

mod doctor;
mod list_users;
mod lookup;
mod status;
mod trust;
mod why;

pub use doctor::{Check, Level, doctor};
pub use list_users::list_users;
pub use lookup::{GroupInTable, KeyInTable, UserInTable};
pub use status::{Daemon, Live, Told, status};
pub use trust::Trust;
pub use why::{Caller, Verdict, Why, explain, why};

use std::io::{self, Write};

/// Prints `value` as indented JSON and a line end.
fn print_json(value: &impl serde::Serialize, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    out.write_all(b"\n")
}

/// Prints `text` under `label`, further lines indented below the first.
fn print_field(label: &str, lines: &[String], out: &mut dyn Write) -> io::Result<()> {
    for (number, line) in lines.iter().enumerate() {
        writeln!(out, "{:<12}{line}", if number == 0 { label } else { "" })?;
    }
    Ok(())
}

/// How long ago `then` was, in the largest unit that fits; "in the future" for a clock that is off.
fn ago(then: jiff::Timestamp, now: jiff::Timestamp) -> String {
    match now.as_second() - then.as_second() {
        ..0 => "in the future".to_owned(),
        seconds @ 0..120 => format!("{seconds} s ago"),
        seconds @ 120..7200 => format!("{} min ago", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h ago", seconds / 3600),
        seconds => format!("{} days ago", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_told_in_the_largest_unit_that_fits() {
        let at = |second| jiff::Timestamp::from_second(second).unwrap();
        for (seconds, text) in [
            (-5, "in the future"),
            (0, "0 s ago"),
            (119, "119 s ago"),
            (120, "2 min ago"),
            (7200, "2 h ago"),
            (200_000, "2 days ago"),
        ] {
            assert_eq!(ago(at(1_000_000), at(1_000_000 + seconds)), text);
        }
    }
}
