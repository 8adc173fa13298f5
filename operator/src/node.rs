//! `dirless node`: hosts, by an enroller's own key.

use clap::Subcommand;
use dirless_publish::{Admission, Attended, NodeFacts};
use serde_json::json;

use crate::Surroundings;
use crate::office::With;

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List all hosts, of every enroller, and who waits with a code of this one
    List {
        #[command(flatten)]
        with: With,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Let in hosts that wait and whose code holds
    Approve {
        #[command(flatten)]
        with: With,
        /// Names of nodes, or what the hosts call themselves; without any all that wait
        names: Vec<String>,
    },
    /// Lock hosts out, whoever let them in
    ///
    /// The backend refuses them at once, and whoever publishes begins new epochs within seconds. What they have read stays
    /// read.
    Revoke {
        #[command(flatten)]
        with: With,
        /// Names of nodes, or what the hosts call themselves
        #[arg(required = true)]
        names: Vec<String>,
    },
}

pub(crate) fn run(command: &Command, surroundings: &mut Surroundings<'_>) -> anyhow::Result<()> {
    match command {
        Command::List { with, json } => list(with, *json, surroundings),
        Command::Approve { with, names } => {
            let (enroller, _) = with.open(surroundings)?;
            let admission = match names.is_empty() {
                true => Admission::Everybody,
                false => Admission::Only(names.iter().cloned().collect()),
            };
            let attended = enroller.attend(&admission)?;
            for node in &attended.admitted {
                writeln!(surroundings.out, "admitted {}", shown(node))?;
            }
            for reason in &attended.refused {
                writeln!(surroundings.out, "not admitted: {reason}")?;
            }
            if let Admission::Only(names) = &admission {
                let in_now = |name: &&String| attended.admitted.iter().any(|node| is_called(node, name));
                if let Some(name) = names.iter().find(|name| !in_now(name)) {
                    anyhow::bail!("nobody called {name:?} waits with a code that holds; see: dirless node list");
                }
            }
            tell(&attended, surroundings)
        }
        Command::Revoke { with, names } => {
            let (enroller, _) = with.open(surroundings)?;
            for node in enroller.revoke(names)? {
                writeln!(surroundings.out, "revoked {}", shown(&node))?;
            }
            let attended = enroller.attend(&Admission::Nobody)?;
            tell(&attended, surroundings)
        }
    }
}

fn list(with: &With, as_json: bool, surroundings: &mut Surroundings<'_>) -> anyhow::Result<()> {
    let (enroller, _) = with.open(surroundings)?;
    let waiting = enroller.waiting()?;
    let nodes = enroller.nodes()?;
    let out = &mut surroundings.out;
    if as_json {
        let nodes: Vec<_> = nodes.iter().map(facts).collect();
        let waiting: Vec<_> = waiting
            .iter()
            .map(|one| {
                json!({"code": one.code.as_str(), "request": one.request.to_string(),
                       "host": one.found.as_ref().ok().map(facts), "refused": one.found.as_ref().err()})
            })
            .collect();
        writeln!(out, "{:#}", json!({ "nodes": nodes, "waiting": waiting }))?;
        return Ok(());
    }
    for node in &nodes {
        let compartments = words(node);
        let host = node.host.as_deref().unwrap_or("-");
        writeln!(
            out,
            "{}  {}  {compartments:16} {host}  by {}",
            node.name, node.joined, node.enroller
        )?;
    }
    for one in &waiting {
        match &one.found {
            Ok(node) => writeln!(
                out,
                "waits: {} with code {}, for {}",
                shown(node),
                one.code,
                words(node)
            )?,
            Err(reason) => writeln!(out, "waits in vain: {} with code {}: {reason}", one.request, one.code)?,
        }
    }
    Ok(())
}

fn facts(node: &NodeFacts) -> serde_json::Value {
    let compartments: Vec<_> = node.compartments.iter().map(ToString::to_string).collect();
    json!({"name": node.name.as_str(), "host": node.host, "compartments": compartments, "joined": node.joined,
           "enroller": node.enroller.as_str()})
}

fn words(node: &NodeFacts) -> String {
    let compartments: Vec<_> = node.compartments.iter().map(ToString::to_string).collect();
    compartments.join(",")
}

fn is_called(node: &NodeFacts, name: &str) -> bool {
    node.name.as_str() == name || node.host.as_deref() == Some(name)
}

fn shown(node: &NodeFacts) -> String {
    match &node.host {
        Some(host) => format!("{} ({host})", node.name),
        None => node.name.to_string(),
    }
}

/// What is wrong is an error, after everything that was done.
fn tell(attended: &Attended, surroundings: &mut Surroundings<'_>) -> anyhow::Result<()> {
    for problem in &attended.problems {
        writeln!(surroundings.out, "problem: {problem}")?;
    }
    match attended.problems.len() {
        0 => Ok(()),
        _ => anyhow::bail!("not everything could be done; see above, and run the command again"),
    }
}
