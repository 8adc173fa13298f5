use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use dirless_model::snapshot::ObjectKind;
use serde_json::json;

use super::Setting;
use crate::import::{Foreign, Format, parse};
use crate::ledger::{Entry, Ledger, Object, Origin, kind_text};

#[derive(Debug, clap::Subcommand)]
pub(super) enum LedgerCommand {
    /// Show all numbers, or those of one name, object id or number.
    Show {
        /// The name, object id or number.
        name: Option<String>,
    },
    /// Write the ledger as JSON.
    Export {
        /// The file [default: standard output].
        file: Option<PathBuf>,
    },
    /// Restore a lost ledger from the snapshot at the backend.
    Rebuild,
}

pub(super) async fn ledger(setting: &Setting<'_>, command: LedgerCommand) -> anyhow::Result<ExitCode> {
    match command {
        LedgerCommand::Show { name } => show(setting, name.as_deref())?,
        LedgerCommand::Export { file } => export(setting, file)?,
        LedgerCommand::Rebuild => rebuild(setting).await?,
    }
    Ok(ExitCode::SUCCESS)
}

fn show(setting: &Setting<'_>, name: Option<&str>) -> anyhow::Result<()> {
    let entries = Ledger::open_to_read(&setting.config.ledger_path())?.entries()?;
    let wanted = |entry: &&Entry| {
        name.is_none_or(|name| {
            let names = [&entry.first_name, &entry.last_name];
            names.iter().any(|known| *known == name)
                || entry.object.id.as_str() == name
                || entry.number.to_string() == name
        })
    };
    let mut text = String::new();
    let mut shown = 0;
    for entry in entries.iter().filter(wanted) {
        shown += 1;
        let state = if entry.retired { "gone" } else { "live" };
        let _ = write!(
            text,
            "{:>10}  {:<5}  {state}  {:<32}  {}  {} {}",
            entry.number,
            kind_text(entry.object.kind),
            entry.last_name,
            entry.object.id,
            entry.origin.text(),
            entry.assigned_at
        );
        if entry.first_name != entry.last_name {
            let _ = write!(text, "  first seen as {}", entry.first_name);
        }
        text.push('\n');
    }
    if let (0, Some(name)) = (shown, name) {
        bail!("the ledger has no number of {name:?}");
    }
    Setting::print(text.trim_end())
}

fn export(setting: &Setting<'_>, file: Option<PathBuf>) -> anyhow::Result<()> {
    let entries = Ledger::open_to_read(&setting.config.ledger_path())?.entries()?;
    let lines = entries.iter().map(|entry| {
        json!({
            "number": entry.number,
            "source": entry.object.source,
            "kind": entry.object.kind,
            "id": entry.object.id,
            "first_name": entry.first_name,
            "name": entry.last_name,
            "assigned_at": entry.assigned_at.to_string(),
            "origin": entry.origin.text(),
            "subids": entry.subids,
            "retired": entry.retired,
        })
    });
    let text = serde_json::to_string_pretty(&lines.collect::<Vec<_>>())?;
    match file {
        Some(file) => dirless_program::fs::publish(&file, 0o600, text.as_bytes())
            .with_context(|| format!("writing {}", file.display())),
        None => Setting::print(&text),
    }
}

/// Everything that is needed is in the snapshot: the numbers of live objects beside their ids, and
/// those of gone ones in its ledger field.
async fn rebuild(setting: &Setting<'_>) -> anyhow::Result<()> {
    let access = setting.access()?;
    let mut ledger = Ledger::open(&setting.config.ledger_path())?;
    let mut all = 0;
    for own in setting.sources() {
        let source = own.name.as_str();
        let text = setting.published_text(&access, source).await?;
        let text = text.with_context(|| format!("nothing is published of source {source}"))?;
        let records = parse(&text, Format::Snapshot)?;
        if let Some(record) = records.iter().find(|record| record.id.is_none()) {
            bail!(
                "the snapshot that is published was not made by this syncer ({} has no object id): use `dirless-syncer \
                 import --from-backend` instead",
                record.name
            );
        }
        let now = setting.clock.now();
        let lines = records.into_iter().filter_map(|record| line(source, record, now));
        all += ledger.take_over(&lines.collect::<Vec<_>>(), now)?;
    }
    Setting::print(&format!("{all} numbers were put back into {}", ledger.path().display()))
}

fn line(source: &str, record: Foreign, now: jiff::Timestamp) -> Option<Entry> {
    let kind: ObjectKind = record.kind;
    Some(Entry {
        number: u32::try_from(record.number).ok()?,
        object: Object {
            source: source.to_owned(),
            kind,
            id: record.id?,
        },
        first_name: record.name.clone(),
        last_name: record.name,
        assigned_at: now,
        origin: Origin::Rebuilt,
        subids: None,
        retired: record.retired,
    })
}
