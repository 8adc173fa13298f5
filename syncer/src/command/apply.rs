use std::io::{BufRead, IsTerminal, Write};
use std::process::ExitCode;

use super::once::{self, OnceArguments};
use super::plan::Planned;
use super::{EXIT_HELD, Setting};
use crate::state::State;

#[derive(Debug, clap::Args)]
pub(super) struct ApplyArguments {
    /// Let exactly this held change pass; `plan` names it.
    #[arg(long, value_name = "ID")]
    accept: Option<String>,
    /// Do not ask on a terminal. A held change needs --accept all the same.
    #[arg(long)]
    yes: bool,
}

/// Shows what would happen and to whom, asks when somebody is there to ask, and then does it.
pub(super) async fn apply(setting: &Setting<'_>, arguments: ApplyArguments) -> anyhow::Result<ExitCode> {
    let access = setting.access()?;
    let planned = Planned::of(setting, &access).await?;
    Setting::print(planned.as_text().trim_end())?;
    if planned.is_unchanged() {
        return Ok(ExitCode::SUCCESS);
    }
    let held: Vec<String> = planned.held().collect();
    let mut accept = arguments.accept;
    let asks = !arguments.yes && std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    match (&accept, held.as_slice()) {
        (Some(id), held) if !held.contains(id) && !is_held(setting, id)? => {
            anyhow::bail!("there is no held change {id}; what would change now is shown above, and nothing was written")
        }
        (None, [only]) if asks => {
            let answer = ask(&format!("type {only} to let this held change pass: "))?;
            accept = (answer == *only).then_some(answer);
        }
        (_, []) if asks => {
            let answer = ask("apply this? [y/N] ")?;
            if !matches!(answer.to_lowercase().as_str(), "y" | "yes") {
                eprintln!("nothing was written");
                return Ok(ExitCode::SUCCESS);
            }
        }
        _ => {}
    }
    if accept.is_none() && held.len() == planned.changes() {
        eprintln!("nothing was written: every change is held back");
        return Ok(ExitCode::from(EXIT_HELD));
    }
    once::once(setting, OnceArguments { accept }).await
}

/// Is it the change of an audience, which the last cycle held back?
fn is_held(setting: &Setting<'_>, id: &str) -> anyhow::Result<bool> {
    for folder in setting.state_folders() {
        if State::at(&folder).held()?.is_some_and(|held| held.id == id) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn ask(question: &str) -> anyhow::Result<String> {
    let mut errors = std::io::stderr().lock();
    write!(errors, "{question}")?;
    errors.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim().to_owned())
}
