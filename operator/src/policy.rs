//! `dirless policy`: shows, changes and signs the policy.

use std::path::{Path, PathBuf};
use std::process;

use anyhow::{Context, bail};
use clap::Subcommand;
use dirless_seal::trust::Policy;

use crate::at::{Access, At, Remote};
use crate::change::{begin, keep};
use crate::draft::Draft;
use crate::folder::{Current, Folder};
use crate::options::{PassphraseFrom, days_after, whole_seconds};
use crate::{Surroundings, files, keys, show, syncer};

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the policy in force and the draft of the next, with who signed it and who has to
    Show {
        #[command(flatten)]
        at: At,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Change the draft of the next policy: by options, or without any in $VISUAL or $EDITOR
    Edit(Edit),
    /// Add one root's signature to the draft; when enough have signed, it becomes the policy
    Sign(Sign),
    /// Bring policies that were signed elsewhere to a backend, and register their publishers there
    ///
    /// Makes the tenant in the realm of the token, if it is not there yet.
    Push(Push),
    /// Drop the draft
    Drop {
        #[command(flatten)]
        at: At,
    },
}

/// Arguments of `dirless policy edit`.
#[derive(Debug, clap::Args)]
pub struct Edit {
    #[command(flatten)]
    at: At,
    /// How many roots must sign
    #[arg(long, value_name = "1-16")]
    threshold: Option<usize>,
    /// Longest lease of a head, in seconds
    #[arg(long, value_name = "SECONDS")]
    lease: Option<u32>,
    /// Days from now until hosts warn that nobody renewed the policy
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u16).range(1..=3650))]
    valid_for: Option<u16>,
    /// Let a syncer publish and admit hosts: the lines that "dirless-syncer signing init" printed; may be repeated
    #[arg(long, value_name = "FILE")]
    syncer: Vec<PathBuf>,
}

/// Arguments of `dirless policy sign`.
#[derive(Debug, clap::Args)]
pub struct Sign {
    #[command(flatten)]
    at: At,
    /// File of the root key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Sign without asking; what is signed is shown all the same
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    passphrase: PassphraseFrom,
}

/// Arguments of `dirless policy push`.
#[derive(Debug, clap::Args)]
pub struct Push {
    /// The folder of the tenant
    folder: PathBuf,
    /// The tenant at the backend: https://dirless.example.com/v2/TENANT
    url: String,
    #[command(flatten)]
    access: Access,
}

impl Push {
    fn run(&self, surroundings: &mut Surroundings<'_>) -> anyhow::Result<()> {
        let remote = Remote::parse(&self.url)?;
        let backend = self.access.backend(&remote, surroundings)?;
        let folder = Folder::of(&self.folder, &self.url, Some(backend));
        if folder.current()?.policy.tenant != remote.tenant {
            bail!("{} holds another tenant than {} names", self.folder.display(), self.url);
        }
        folder.push(surroundings.out)
    }
}

pub(crate) fn run(command: &Command, surroundings: &mut Surroundings<'_>) -> anyhow::Result<()> {
    match command {
        Command::Show { at, json } => show_both(&at.open(surroundings)?, *json, surroundings),
        Command::Edit(edit) => edit.run(surroundings),
        Command::Sign(sign) => sign.run(surroundings),
        Command::Push(push) => push.run(surroundings),
        Command::Drop { at } => {
            let folder = at.open(surroundings)?;
            if folder.draft()?.is_none() {
                bail!("{} has no draft", folder.name());
            }
            Ok(folder.drop_draft()?)
        }
    }
}

fn show_both(folder: &Folder, json: bool, surroundings: &mut Surroundings<'_>) -> anyhow::Result<()> {
    let (current, draft) = (folder.current()?, folder.draft()?);
    let out = &mut *surroundings.out;
    if json {
        writeln!(out, "{:#}", show::as_json(Some(&current), draft.as_ref()))?;
        return Ok(());
    }
    show::policy(&current.policy, out)?;
    if let Some(draft) = draft {
        writeln!(out, "\ndraft of version {}:", draft.policy().version)?;
        write!(out, "{}", show::difference(&current.text(), draft.note().text()))?;
        show::standing(&draft.standing(Some(&current.policy)), out)?;
        if !draft.continues(&current) {
            writeln!(
                out,
                "it does not continue the policy in force; begin again: dirless policy drop"
            )?;
        }
    }
    Ok(())
}

impl Edit {
    fn run(&self, surroundings: &mut Surroundings<'_>) -> anyhow::Result<()> {
        let folder = self.at.open(surroundings)?;
        let now = whole_seconds(surroundings.clock.now());
        let (current, mut policy) = begin(&folder, now)?;
        let options = self.threshold.is_some() || self.lease.is_some() || self.valid_for.is_some();
        if !options && self.syncer.is_empty() {
            policy = self.in_editor(&policy, surroundings)?;
        }
        if let Some(threshold) = self.threshold {
            policy.threshold = threshold;
        }
        if let Some(lease) = self.lease {
            policy.lease = lease;
        }
        if let Some(days) = self.valid_for {
            policy.expires = days_after(now, days)?;
        }
        syncer::admit(&mut policy, &self.syncer)?;
        keep(&folder, &current, &policy, surroundings)
    }

    fn in_editor(&self, policy: &Policy, surroundings: &Surroundings<'_>) -> anyhow::Result<Policy> {
        let environment = surroundings.environment;
        let editor = environment("VISUAL").or_else(|| environment("EDITOR"));
        let editor = editor.context("neither $VISUAL nor $EDITOR names an editor; set one, or use the options")?;
        let aside = tempfile::Builder::new()
            .prefix("dirless-policy-")
            .suffix(".txt")
            .tempfile()?;
        std::fs::write(aside.path(), Draft::new(policy)?.text())?;
        run_editor(&editor, aside.path())?;
        let bytes = files::read(aside.path(), 128 * 1024)?.context("the editor left no file")?;
        match Draft::read(&bytes) {
            Ok(draft) => Ok(draft.policy().clone()),
            Err(error) => {
                let (_, kept) = aside.keep()?;
                Err(anyhow::Error::new(error).context(format!(
                    "the draft is as it was; what you wrote is kept in {}",
                    kept.display()
                )))
            }
        }
    }
}

/// As other programs do: the variable may hold options, and is the operator's own.
fn run_editor(editor: &str, path: &Path) -> anyhow::Result<()> {
    let mut words = editor.split_whitespace();
    let program = words.next().context("the editor's name is empty")?;
    let status = process::Command::new(program)
        .args(words)
        .arg(path)
        .status()
        .with_context(|| format!("starting the editor {program}"))?;
    if !status.success() {
        bail!("the editor {program} ended with {status}; the draft is as it was");
    }
    Ok(())
}

impl Sign {
    fn run(&self, surroundings: &mut Surroundings<'_>) -> anyhow::Result<()> {
        let folder = self.at.open(surroundings)?;
        let current = folder.current()?;
        let mut draft = folder.draft()?.with_context(|| {
            format!(
                "{} has no draft; begin one with: dirless policy edit {0}, or publisher, enroller, compartment, recovery, root",
                folder.name()
            )
        })?;
        check(&draft, &current)?;
        writeln!(surroundings.out, "policy {} would change:", draft.policy().version)?;
        write!(
            surroundings.out,
            "{}",
            show::difference(&current.text(), draft.note().text())
        )?;
        surroundings.out.flush()?;
        let key = keys::signing(&self.key, &self.passphrase, surroundings.terminal)?;
        let verifying = key.verifying();
        if !draft.policy().roots.contains(verifying) && !current.policy.roots.contains(verifying) {
            bail!(
                "{verifying} is no root of the draft, nor of the policy in force; its signature would count for nothing"
            );
        }
        self.confirm(surroundings)?;
        draft.sign(&key);
        let standing = draft.standing(Some(&current.policy));
        show::standing(&standing, surroundings.out)?;
        if standing.is_complete() {
            let path = folder.publish(&draft)?;
            writeln!(surroundings.out, "wrote {}", path.display())?;
            folder.push(surroundings.out)?;
        } else {
            folder.keep(&draft)?;
            writeln!(
                surroundings.out,
                "next: another root signs {}",
                folder.draft_path().display()
            )?;
        }
        Ok(())
    }

    fn confirm(&self, surroundings: &mut Surroundings<'_>) -> anyhow::Result<()> {
        if self.yes {
            return Ok(());
        }
        if !surroundings.terminal.is_there() {
            bail!("there is no terminal to ask on; look at the changes above, and sign them with --yes");
        }
        if surroundings.terminal.confirm("Sign this?")? {
            Ok(())
        } else {
            bail!("nothing was signed")
        }
    }
}

/// A draft that was made for another policy cannot come into force.
fn check(draft: &Draft, current: &Current) -> anyhow::Result<()> {
    if draft.continues(current) {
        return Ok(());
    }
    bail!(
        "the draft of version {} does not continue policy {}, which is in force; drop it (dirless policy drop) and make the \
         change again",
        draft.policy().version,
        current.policy.version
    )
}
