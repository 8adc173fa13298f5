use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::{Context, bail};
use dirless_seal::Label;
use dirless_seal::trust::Right;
use serde_json::json;

use super::{Setting, settle};
use crate::audience::REST;
use crate::config::Config;
use crate::local::LOCAL;
use crate::signed::{self, ACCESS_RULES, Custody, KeyFacts, NextKey, Wish};
use crate::sources::SourceSetting;
use crate::tree::by_hand;

/// Below are the system's own (systemd's users and groups, Debian's policy).
const FIRST_ID: u32 = 1000;

/// Publishing that hosts believe without believing the backend.
#[derive(Debug, clap::Subcommand)]
pub(super) enum SigningCommand {
    /// Make the keys of publisher and enroller, unless they are there, and print their public lines
    /// for the policy.
    Init {
        /// The publisher's name; the enroller's is this and `-enroller`.
        name: Label,
    },
    /// Publish whatever is due and sign a new head.
    Settle,
    /// Begin a new epoch: seal everything to a new key.
    Rotate {
        /// The compartment; without it all of them.
        #[arg(long = "compartment", value_name = "NAME")]
        compartments: Vec<Label>,
    },
    /// Name a successor of the publisher's key now: it signs from now on, and the one before along with it for some days.
    RotateKey,
    /// Show what is signed.
    Status {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Continue from what the tenant folder holds, after the state folder was lost or put back from a
    /// backup. No other syncer with the same keys may run.
    Adopt,
    /// Publish nothing of a source any more: hosts drop what they have of it.
    Withdraw {
        /// The source.
        source: Label,
    },
}

pub(super) async fn signing(setting: &Setting<'_>, command: SigningCommand) -> anyhow::Result<ExitCode> {
    match command {
        SigningCommand::Init { name } => init(setting, &name)?,
        SigningCommand::Settle => {
            let wish = Wish {
                head: true,
                ..Wish::default()
            };
            do_settle(setting, wish).await?;
        }
        SigningCommand::Rotate { compartments } => rotate(setting, compartments).await?,
        SigningCommand::RotateKey => {
            let wish = Wish {
                key: true,
                ..Wish::default()
            };
            do_settle(setting, wish).await?;
        }
        SigningCommand::Status { json } => status(setting, json)?,
        SigningCommand::Adopt => {
            let adopted = setting.needed_signer()?.adopt()?;
            Setting::print(&format!(
                "continuing after head {} with {} snapshots and {} hosts; new epochs begin now, and `dirless-syncer \
                 once` publishes every source anew",
                adopted.head, adopted.snapshots, adopted.nodes
            ))?;
            do_settle(setting, Wish::default()).await?;
        }
        SigningCommand::Withdraw { source } => {
            if !setting.needed_signer()?.withdraw(&source)? {
                bail!("nothing is published of source {source}; see: dirless-syncer signing status");
            }
            do_settle(setting, Wish::default()).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn init(setting: &Setting<'_>, name: &Label) -> anyhow::Result<()> {
    let config = &setting.config;
    let folder = config.signed.as_ref().map(|own| signed::key_folder(own, config));
    let folder = folder.unwrap_or(&config.syncer.key_folder);
    let lines = Custody::init(folder, name)?;
    eprintln!(
        "the keys are in {}; the policy needs these lines (dirless tenant init --syncer FILE, dirless policy edit --syncer \
         FILE):",
        folder.display()
    );
    Setting::print(&format!(
        "publisher {} {}\nenroller {} {}",
        lines.publisher,
        scope(config),
        lines.enroller,
        lines.recipient
    ))
}

/// What this syncer says by its configuration, as a policy writes it.
fn scope(config: &Config) -> String {
    let mut sources: BTreeSet<String> = SourceSetting::all(config).into_iter().map(|own| own.name).collect();
    sources.extend([LOCAL, ACCESS_RULES, by_hand::NAME].map(str::to_owned));
    sources.insert(REST.to_owned());
    sources.extend(config.audience.iter().map(|rule| format!("{REST}-{}", rule.name)));
    let sources: Vec<String> = sources.into_iter().collect();
    let may = Right::ALL.map(|right| right.to_string());
    // What hosts take at all; whoever has several publishers keeps their numbers apart.
    format!(
        "sources={} ids={FIRST_ID}-{} names=* may={}",
        sources.join(","),
        dirless_model::IdRange::ASSIGNED.last(),
        may.join(",")
    )
}

pub(super) async fn do_settle(setting: &Setting<'_>, wish: Wish) -> anyhow::Result<()> {
    setting.needed_signer()?;
    let settled = setting.settle(wish).await?.context("nothing to sign")?;
    settle::tell(&settled)
}

async fn rotate(setting: &Setting<'_>, compartments: Vec<Label>) -> anyhow::Result<()> {
    let all = setting.config.signed.as_ref().map(|own| own.compartments());
    let all: Vec<Label> = all.unwrap_or_default().into_iter().map(|own| own.name).collect();
    if let Some(unknown) = compartments.iter().find(|name| !all.contains(name)) {
        bail!("[signed] has no compartment {unknown}");
    }
    let chosen = if compartments.is_empty() { all } else { compartments };
    let wish = Wish {
        epochs: chosen.into_iter().collect(),
        ..Wish::default()
    };
    do_settle(setting, wish).await
}

fn status(setting: &Setting<'_>, as_json: bool) -> anyhow::Result<()> {
    let signer = setting.needed_signer()?;
    let (book, facts, nodes) = (signer.book()?, signer.facts()?, signer.enroller().nodes()?);
    let key = signer.key_facts()?;
    if as_json {
        let snapshots: Vec<_> = book
            .published()
            .map(|((source, compartment), current)| {
                json!({"source": source.as_str(), "compartment": compartment.as_str(), "version": current.version,
                       "epoch": current.epoch})
            })
            .collect();
        let epochs: Vec<_> = facts
            .epochs
            .iter()
            .map(|(compartment, epoch, since, holders)| {
                json!({"compartment": compartment, "epoch": epoch, "since": since, "holders": holders})
            })
            .collect();
        let value = json!({
            "publisher": signer.publisher().as_str(), "policy": facts.policy, "head": book.head,
            "signed_at": book.signed_at, "nodes": nodes.len(), "snapshots": snapshots, "epochs": epochs,
            "problems": book.problems, "key": key_json(&key),
        });
        return Setting::print(&serde_json::to_string_pretty(&value)?);
    }
    let signed = book.signed_at.map_or_else(|| "never".to_owned(), |at| at.to_string());
    Setting::print(&format!(
        "publisher {}, head {} of {signed}, policy {}, {} hosts",
        signer.publisher(),
        book.head,
        facts.policy,
        nodes.len()
    ))?;
    for line in key_lines(&key) {
        Setting::print(&line)?;
    }
    for ((source, compartment), current) in book.published() {
        let (version, epoch) = (current.version, current.epoch);
        Setting::print(&format!("{source} for {compartment}: version {version}, epoch {epoch}"))?;
    }
    for (compartment, epoch, since, holders) in &facts.epochs {
        Setting::print(&format!(
            "{compartment}: epoch {epoch} since {since}, {holders} hold its key"
        ))?;
    }
    for problem in &book.problems {
        Setting::print(&format!("problem: {problem}"))?;
    }
    Ok(())
}

fn key_json(facts: &KeyFacts) -> serde_json::Value {
    let next = match facts.next {
        NextKey::At(at) => at.to_string(),
        NextKey::Never => "never".to_owned(),
        NextKey::ByHand => "by hand".to_owned(),
    };
    json!({
        "key": facts.key.to_string(), "since": facts.since, "anchor": facts.anchor.as_ref().map(ToString::to_string),
        "successors": facts.successors, "overlap_until": facts.overlap, "next": next,
    })
}

fn key_lines(facts: &KeyFacts) -> Vec<String> {
    let since = facts.since.map(|since| format!(", since {since}")).unwrap_or_default();
    let mut lines = vec![format!("key {}{since}", facts.key)];
    if let Some(anchor) = &facts.anchor {
        let (name, hash, number) = (anchor.name(), anchor.hash(), facts.successors);
        lines.push(format!("it is successor {number} of the policy's {name}+{hash}"));
    }
    lines.extend(
        facts
            .overlap
            .map(|end| format!("the key before signs along until {end}")),
    );
    lines.push(match facts.next {
        NextKey::At(at) => format!("its successor comes {at}"),
        NextKey::Never => "no successor comes by itself: [signed] rotate_days is 0".to_owned(),
        NextKey::ByHand => {
            "no successor comes by itself: it is a service credential; see docs/publishing-signed.md".to_owned()
        }
    });
    lines
}
