//! What the commands print: plain columns for people, JSON for programs.

use std::io::{self, Write};

use serde_json::{Map, Value};

use super::blob::{Blob, members, number, text};
use super::keys::{fingerprint, good};
use super::rules::Rules;

pub(super) fn json(document: &Map<String, Value>, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, document)?;
    writeln!(out)
}

pub(super) fn users(blob: &Blob, out: &mut dyn Write) -> io::Result<()> {
    let mut rows = vec![row(["USER", "UID", "GID", "NAME", "HOME", "SHELL", "GROUPS"])];
    for record in blob.users() {
        let record = record.as_object();
        let field = |name| text(record, name).unwrap_or("?").to_owned();
        let id = |name| number(record, name).map_or_else(|| "?".to_owned(), |id| id.to_string());
        let groups = text(record, "username").map(|name| blob.groups_of(name).join(","));
        rows.push(vec![
            field("username"),
            id("uid"),
            id("gid"),
            field("gecos"),
            field("home"),
            field("shell"),
            groups.unwrap_or_default(),
        ]);
    }
    table(&rows, out)
}

pub(super) fn groups(blob: &Blob, out: &mut dyn Write) -> io::Result<()> {
    let mut rows = vec![row(["GROUP", "GID", "MEMBERS"])];
    for record in blob.groups() {
        let record = record.as_object();
        rows.push(vec![
            text(record, "name").unwrap_or("?").to_owned(),
            number(record, "gid").map_or_else(|| "?".to_owned(), |gid| gid.to_string()),
            members(record).collect::<Vec<_>>().join(","),
        ]);
    }
    table(&rows, out)
}

pub(super) fn keys(blob: &Blob, user: Option<&str>, out: &mut dyn Write) -> io::Result<()> {
    let mut rows = vec![row(["USER", "TYPE", "FINGERPRINT", "OPTIONS", "COMMENT"])];
    for (name, lines) in blob
        .all_keys()
        .filter(|(name, _)| user.is_none_or(|user| user == *name))
    {
        for key in good(lines) {
            rows.push(vec![
                name.to_owned(),
                key.kind().to_owned(),
                fingerprint(&key),
                key.option_names().collect::<Vec<_>>().join(","),
                key.comment().to_owned(),
            ]);
        }
    }
    table(&rows, out)
}

pub(super) fn rules(rules: &Rules, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "{}",
        if rules.enforced() {
            "enforced: only members of these groups may use these hosts"
        } else {
            "not enforced: everyone may use every host"
        }
    )?;
    let mut rows = vec![row(["GROUP", "HOST"])];
    rows.extend(rules.rules().map(|(group, host)| row([group, host])));
    table(&rows, out)
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

/// Columns two blanks apart. Cells come from strangers: control characters become blanks.
fn table(rows: &[Vec<String>], out: &mut dyn Write) -> io::Result<()> {
    let clean = |cell: &String| cell.replace(char::is_control, " ");
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(clean).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in &rows {
        let line: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, &width)| format!("{cell:width$}"))
            .collect();
        writeln!(out, "{}", line.join("  ").trim_end())?;
    }
    Ok(())
}
