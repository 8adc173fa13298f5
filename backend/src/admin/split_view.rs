//! `split-view list|forget`.

use anyhow::{Context as _, bail};
use dirless_wire::TenantId;
use serde_json::json;

use super::{Console, say, shown};
use crate::store::{SplitView, Store};

/// What to do with split views: different contents under one version, shown to different hosts.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum SplitViewCommand {
    /// List those that were noticed within thirty days, with the hosts that tell of them.
    List {
        /// As JSON, one line each.
        #[arg(long)]
        json: bool,
    },
    /// Take those of a tenant as seen to: they are no alarm any more. The audit log keeps them.
    Forget {
        /// The tenant's id.
        tenant: TenantId,
    },
}

pub(super) async fn run(command: SplitViewCommand, store: &Store, console: &mut Console<'_>) -> anyhow::Result<()> {
    let everything = store.all_tenants_bypassing_realm_scope();
    match command {
        SplitViewCommand::List { json } => {
            let found = everything.split_views().await?;
            for view in &found {
                let text = if json { line(view).to_string() } else { words(view) };
                writeln!(console.output, "{text}").context("cannot write to standard output")?;
            }
            match found.is_empty() {
                true => say(console, "no split views"),
                false => say(
                    console,
                    "compare with what the owners of the keys say: dirless verify https://…/v2/TENANT",
                ),
            }
        }
        SplitViewCommand::Forget { tenant } => match everything.forget_split_views(&tenant).await? {
            0 => bail!("{tenant} has no split view; see: split-view list"),
            versions => say(console, &format!("forgot {versions} split versions of {tenant}")),
        },
    }
}

fn words(view: &SplitView) -> String {
    let contents = view.views.iter().map(|content| {
        let nodes: Vec<_> = content.nodes.iter().map(String::as_str).collect();
        format!("\n  {} to {}", content.digest, nodes.join(" "))
    });
    format!(
        "{} {} {} ({} versions since {}) is shown as{}",
        view.tenant,
        view.about,
        view.version,
        view.versions,
        shown(Some(view.since)),
        contents.collect::<String>()
    )
}

fn line(view: &SplitView) -> serde_json::Value {
    let contents: Vec<_> = view
        .views
        .iter()
        .map(|content| json!({ "digest": content.digest.to_string(), "nodes": content.nodes }))
        .collect();
    json!({
        "tenant": view.tenant.as_str(),
        "about": view.about,
        "version": view.version,
        "versions": view.versions,
        "since": view.since,
        "contents": contents,
    })
}
