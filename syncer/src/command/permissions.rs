use std::process::ExitCode;

use super::{EXIT_DENIED, Setting};
use crate::permissions::tree::{Question, ask};
use crate::permissions::{Permission, StepKind};

#[derive(Debug, clap::Subcommand)]
pub(super) enum PermissionsCommand {
    /// May somebody do something? Exits with 0 when they may, 12 when not.
    Check {
        /// `uid` of a user or agent, or a distinguished name.
        user: String,
        /// `resource:action:scope`.
        permission: String,
        /// The tenant that it is about [default: the platform itself].
        #[arg(long)]
        tenant: Option<String>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn permissions(setting: &Setting<'_>, command: PermissionsCommand) -> anyhow::Result<ExitCode> {
    let PermissionsCommand::Check {
        user,
        permission,
        tenant,
        json,
    } = command;
    let config = &setting.config;
    let tree = config.tree.open(&config.syncer.state_folder, setting.clock.clone())?;
    let question = Question {
        user,
        permission: Permission::parse(&permission)?,
        tenant,
    };
    let answer = tree.read(|reader| ask(reader, &question))?;
    if json {
        Setting::print(&serde_json::to_string_pretty(&answer)?)?;
    } else {
        Setting::print(if answer.allowed { "yes" } else { "no" })?;
        for step in &answer.chain {
            let kind = match step.kind {
                StepKind::User => "user",
                StepKind::Group => "member of",
                StepKind::Role => "has the role",
                StepKind::Permission => "which allows",
            };
            Setting::print(&format!("  {kind} {}", step.name))?;
        }
        for note in &answer.notes {
            Setting::print(&format!("  note: {note}"))?;
        }
    }
    Ok(if answer.allowed {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_DENIED)
    })
}
