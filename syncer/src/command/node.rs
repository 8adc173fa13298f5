use std::process::ExitCode;

use serde_json::json;

use super::Setting;
use super::signing::do_settle;
use crate::signed::{NodeFacts, Wish};

/// The hosts of the tenant.
#[derive(Debug, clap::Subcommand)]
pub(super) enum NodeCommand {
    /// List all hosts.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Let in whoever asks with a join code that holds. A syncer that runs does it by itself.
    Admit,
    /// Lock hosts out: they open nothing that is published from now on. What they have read stays read.
    Revoke {
        /// Names of nodes, or what the hosts call themselves.
        #[arg(required = true)]
        names: Vec<String>,
    },
}

pub(super) async fn node(setting: &Setting<'_>, command: NodeCommand) -> anyhow::Result<ExitCode> {
    match command {
        NodeCommand::List { json } => list(&setting.needed_signer()?.enroller().nodes()?, json)?,
        NodeCommand::Admit => do_settle(setting, Wish::default()).await?,
        NodeCommand::Revoke { names } => {
            for node in setting.needed_signer()?.enroller().revoke(&names)? {
                Setting::print(&format!("revoked {}", shown(&node)))?;
            }
            do_settle(setting, Wish::default()).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn shown(node: &NodeFacts) -> String {
    match &node.host {
        Some(host) => format!("{} ({host})", node.name),
        None => node.name.to_string(),
    }
}

fn list(nodes: &[NodeFacts], as_json: bool) -> anyhow::Result<()> {
    let compartments = |node: &NodeFacts| node.compartments.iter().map(ToString::to_string).collect::<Vec<_>>();
    if as_json {
        let all: Vec<_> = nodes
            .iter()
            .map(|node| {
                json!({"name": node.name.as_str(), "host": node.host, "compartments": compartments(node),
                       "joined": node.joined})
            })
            .collect();
        return Setting::print(&serde_json::to_string_pretty(&all)?);
    }
    for node in nodes {
        let host = node.host.as_deref().unwrap_or("-");
        let compartments = compartments(node).join(",");
        Setting::print(&format!("{}  {}  {compartments:16} {host}", node.name, node.joined))?;
    }
    Ok(())
}
