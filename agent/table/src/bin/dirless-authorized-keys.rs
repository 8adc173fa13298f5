//! `dirless-authorized-keys [--table PATH] USER`: prints the user's authorized_keys text from the lookup
//! table, for sshd's `AuthorizedKeysCommand`. Only a flag names another table, never the environment,
//! and the table must be root's.

use dirless_table::{TABLE_PATH, Table};
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "usage: dirless-authorized-keys [--table PATH] USER\n\
    Prints the SSH keys of a user of the lookup table, one a line. For sshd_config(5):\n  \
    AuthorizedKeysCommand /usr/libexec/dirless/dirless-authorized-keys %u\n  \
    AuthorizedKeysCommandUser nobody";

fn main() -> ExitCode {
    match run(std::env::args_os().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            let _ = writeln!(std::io::stderr(), "dirless-authorized-keys: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Exits well with no output for a user who is not in the table or has no keys: sshd then goes on to
/// its other methods, as it must for local users.
fn run(mut arguments: impl Iterator<Item = OsString>) -> Result<(), String> {
    let mut path = PathBuf::from(TABLE_PATH);
    let mut first = arguments.next().ok_or(USAGE)?;
    if first == "--help" {
        return print(USAGE.as_bytes());
    }
    if first == "--table" {
        path = arguments.next().map(PathBuf::from).ok_or(USAGE)?;
        first = arguments.next().ok_or(USAGE)?;
    }
    if arguments.next().is_some() || first.as_bytes().starts_with(b"--") {
        return Err(USAGE.to_owned());
    }
    let unavailable = |error: &dyn std::fmt::Display| {
        format!(
            "{}: {error}; see `dirless doctor`, and publish again with `dirless refresh`",
            path.display()
        )
    };
    let table = Table::open(&path, 0).map_err(|error| unavailable(&error))?;
    match table.keys(first.as_bytes()).map_err(|error| unavailable(&error))? {
        Some(keys) => print(keys),
        None => Ok(()),
    }
}

fn print(text: &[u8]) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    let newline: &[u8] = if text.is_empty() || text.ends_with(b"\n") {
        b""
    } else {
        b"\n"
    };
    let written = out
        .write_all(text)
        .and_then(|()| out.write_all(newline))
        .and_then(|()| out.flush());
    written.map_err(|error| format!("writing the keys: {error}"))
}
