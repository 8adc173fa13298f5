use std::fmt::Write;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};

use super::{Setting, progress};
use crate::config::PrimaryGroup;
use crate::import::{Format, Plan, parse, plan};
use crate::ledger::{Ledger, kind_text};
use crate::remote::open_text;

#[derive(Debug, clap::Args)]
pub(super) struct ImportArguments {
    /// The file: a snapshot (JSON or sealed), or passwd or group records.
    #[arg(required_unless_present = "from_backend", conflicts_with = "from_backend")]
    file: Option<PathBuf>,
    /// Import what the backend holds now, as a deployed syncer left it.
    #[arg(long)]
    from_backend: bool,
    /// What kind of file it is.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The source whose objects the records are, when there are several [default: the first].
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Write without asking.
    #[arg(long)]
    yes: bool,
}

pub(super) async fn import(setting: &Setting<'_>, arguments: ImportArguments) -> anyhow::Result<ExitCode> {
    let own = setting.source_named(arguments.source.as_deref())?;
    let source = setting.open(&own).await?;
    let text = text(setting, &arguments, source.name()).await?;
    let what = arguments
        .file
        .as_ref()
        .map_or("the backend's snapshot".to_owned(), |file| file.display().to_string());
    let records = parse(&text, arguments.format).with_context(|| format!("reading {what}"))?;
    let watch = progress::watch();
    let directory = source.read(watch.as_ref()).await?;
    drop(watch);
    let mut ledger = Ledger::open(&setting.config.ledger_path())?;
    let now = setting.clock.now();
    let plan = plan(&records, source.name(), &directory, &own.names, &ledger.entries()?, now);
    Setting::print(show(&plan, setting.config.ids.primary).trim_end())?;
    if !plan.conflicts.is_empty() {
        bail!(
            "{} records are in conflict, see above; nothing was imported",
            plan.conflicts.len()
        );
    }
    let lines = [plan.take, plan.reserve].concat();
    if lines.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    if !arguments.yes && !confirmed()? {
        bail!("nothing was imported; say --yes to import");
    }
    let count = ledger.take_over(&lines, now)?;
    Setting::print(&format!("{count} numbers are in the ledger now, for good"))?;
    Ok(ExitCode::SUCCESS)
}

async fn text(setting: &Setting<'_>, arguments: &ImportArguments, source: &str) -> anyhow::Result<String> {
    let Some(file) = &arguments.file else {
        let access = setting.access()?;
        let text = setting.published_text(&access, source).await?;
        return text.with_context(|| format!("nothing is published of source {source}"));
    };
    let bytes = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    let text = String::from_utf8(bytes).with_context(|| format!("{} is no text", file.display()))?;
    let is_sealed = matches!(arguments.format, Format::Auto | Format::Snapshot)
        && !text.contains(':')
        && !text.trim_start().starts_with('{');
    if is_sealed {
        let access = setting.access().context("opening a sealed snapshot needs age.key")?;
        return open_text(&access, text.as_bytes()).with_context(|| format!("opening {}", file.display()));
    }
    Ok(text)
}

fn show(plan: &Plan, primary: PrimaryGroup) -> String {
    let mut text = String::new();
    for entry in &plan.take {
        let kind = kind_text(entry.object.kind);
        let _ = writeln!(
            text,
            "+ {kind} {} {} ({})",
            entry.number, entry.first_name, entry.object.id
        );
    }
    for entry in &plan.reserve {
        let kind = kind_text(entry.object.kind);
        let _ = writeln!(
            text,
            "# {kind} {} {}: reserved, nobody at the source has that name",
            entry.number, entry.first_name
        );
    }
    for reason in &plan.left_out {
        let _ = writeln!(text, "  left out: {reason}");
    }
    for conflict in &plan.conflicts {
        let _ = writeln!(text, "! conflict: {conflict}");
    }
    let _ = writeln!(
        text,
        "{} to take over, {} to reserve, {} known already, {} left out, {} in conflict",
        plan.take.len(),
        plan.reserve.len(),
        plan.already,
        plan.left_out.len(),
        plan.conflicts.len()
    );
    if plan.cautions > 0 {
        let _ = writeln!(
            text,
            "note: {} of the numbers lie in ranges that systems use themselves (60001-60513, 61184-65519, ...)",
            plan.cautions
        );
    }
    if plan.other_primary > 0 && primary == PrimaryGroup::Private {
        let _ = writeln!(
            text,
            "note: {} users have another primary group there; to keep it, set [ids] primary = \"first-group\"",
            plan.other_primary
        );
    }
    text
}

fn confirmed() -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    eprint!("Write these numbers into the ledger for good? [y/N] ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("reading the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
