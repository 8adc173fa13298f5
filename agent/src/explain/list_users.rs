//! `dirless list-users`: who is on this host, who is kept off, what was left out.

use std::io::{self, Write};

use dirless_table::{Table, User};

use super::why::Caller;
use crate::paths::Paths;
use crate::pipeline::Report;

/// Prints the users of the table, and for root the excluded users and the dropped entries of the last
/// run. The exit code is 0 unless there is no table to read.
///
/// # Errors
/// When `out` cannot be written.
pub fn list_users(paths: &Paths, owner: u32, caller: Caller, json: bool, out: &mut dyn Write) -> io::Result<u8> {
    let table = match Table::open(&paths.table(), owner) {
        Ok(table) => table,
        Err(error) => {
            writeln!(out, "{}: {error}", paths.table().display())?;
            return Ok(1);
        }
    };
    let report = match caller {
        Caller::Root => Report::load(&paths.report()).ok().flatten(),
        Caller::Other => None,
    };
    if json {
        print_all_json(&table, report.as_ref(), out)?;
    } else {
        print_all(&table, report.as_ref(), out)?;
        if caller == Caller::Other {
            writeln!(out, "\nWho is kept off and what was left out, root alone may see.")?;
        }
    }
    Ok(0)
}

#[derive(serde::Serialize)]
struct Row {
    username: String,
    uid: u32,
    gid: u32,
    gecos: String,
    home: String,
    shell: String,
}

fn row(user: &User<'_>) -> Row {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Row {
        username: text(user.name()),
        uid: user.uid,
        gid: user.gid,
        gecos: text(user.gecos()),
        home: text(user.home()),
        shell: text(user.shell()),
    }
}

/// Row by row: a directory may be large.
fn print_all_json(table: &Table, report: Option<&Report>, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(b"{\"authorized\":[")?;
    for (number, user) in table.users().enumerate() {
        let user = user.map_err(io::Error::other)?;
        if number > 0 {
            out.write_all(b",")?;
        }
        serde_json::to_writer(&mut *out, &row(&user))?;
    }
    out.write_all(b"]")?;
    if let Some(report) = report {
        out.write_all(b",\"excluded\":")?;
        serde_json::to_writer(&mut *out, &report.excluded)?;
        write!(out, ",\"excluded_total\":{},\"dropped\":", report.excluded_total)?;
        serde_json::to_writer(&mut *out, &report.dropped)?;
    }
    out.write_all(b"}\n")
}

fn print_all(table: &Table, report: Option<&Report>, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "Authorized users ({})", table.stats().users)?;
    print_heading(out)?;
    for user in table.users() {
        let row = row(&user.map_err(io::Error::other)?);
        print_row(&row.username, row.uid, row.gid, &row.home, &row.shell, out)?;
    }
    let Some(report) = report else { return Ok(()) };
    writeln!(out, "\nExcluded by the access rules ({})", report.excluded_total)?;
    if !report.excluded.is_empty() {
        print_heading(out)?;
    }
    for user in &report.excluded {
        print_row(&user.name, user.uid, user.gid, &user.home, &user.shell, out)?;
    }
    print_more(report.excluded_total, report.excluded.len(), out)?;
    writeln!(out, "\nDropped ({})", report.dropped.total)?;
    for entry in &report.dropped.entries {
        writeln!(
            out,
            "  {} {} of {}: {}",
            entry.kind, entry.name, entry.source, entry.reason
        )?;
    }
    print_more(report.dropped.total, report.dropped.entries.len(), out)
}

fn print_heading(out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "  {:<32} {:>10} {:>10}  {:<28} SHELL",
        "USERNAME", "UID", "GID", "HOME"
    )
}

fn print_row(name: &str, uid: u32, gid: u32, home: &str, shell: &str, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "  {name:<32} {uid:>10} {gid:>10}  {home:<28} {shell}")
}

fn print_more(total: usize, listed: usize, out: &mut dyn Write) -> io::Result<()> {
    match total.saturating_sub(listed) {
        0 => Ok(()),
        more => writeln!(out, "  and {more} more"),
    }
}
