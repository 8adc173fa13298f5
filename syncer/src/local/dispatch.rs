//! What each `local` command does: which edit, on what, and what it tells.

use std::io::{Read, Write};
use std::path::Path;

use anyhow::Context as _;

use super::command::{AccessCommand, GroupCommand, KeyCommand, MemberCommand, Switch, UserCommand};
use super::editor::Editor;
use super::rules::Rules;
use super::{Context, Edited, LocalCommand, Refusal, Which, groups, keys, show, users};

/// Longest text of keys that is read, in bytes.
const MAX_KEYS_TEXT: u64 = 1024 * 1024;

impl LocalCommand {
    pub(super) async fn run(
        &self,
        context: &Context,
        out: &mut (dyn Write + Send),
        input: &mut (dyn Read + Send),
    ) -> anyhow::Result<()> {
        let session = Editor::new(context);
        match self {
            Self::User(command) => command.run(&session, out).await,
            Self::Group(command) => command.run(&session, out).await,
            Self::Key(command) => command.run(&session, out, input).await,
            Self::Access(command) => command.run(&session, out).await,
            Self::Show { json: true } => Ok(show::json(session.read().await?.root(), out)?),
            Self::Show { json: false } => {
                let blob = session.read().await?;
                show::users(&blob, out)?;
                writeln!(out)?;
                show::groups(&blob, out)?;
                writeln!(out)?;
                show::keys(&blob, None, out)?;
                writeln!(out)?;
                show::rules(&session.read_rules().await?, out)?;
                Ok(())
            }
        }
    }
}

impl UserCommand {
    async fn run(&self, session: &Editor<'_>, out: &mut (dyn Write + Send)) -> anyhow::Result<()> {
        let config = session.config();
        let (edit, edited) = match self {
            Self::List => return Ok(show::users(&session.read().await?, out)?),
            Self::Add { name, fields, edit } => {
                let fields = fields.to_fields();
                let change = |blob: &mut _| users::add(blob, name, &fields, config);
                (edit, session.edit(*edit, change).await?)
            }
            Self::Set { name, fields, edit } => {
                let fields = fields.to_fields();
                (edit, session.edit(*edit, |blob| users::set(blob, name, &fields)).await?)
            }
            Self::Rename { old, new, edit } => (edit, session.edit(*edit, |blob| users::rename(blob, old, new)).await?),
            Self::Remove { name, edit } => (edit, session.edit(*edit, |blob| Ok(users::remove(blob, name))).await?),
        };
        tell(&edited, edit.plan, out)
    }
}

impl GroupCommand {
    async fn run(&self, session: &Editor<'_>, out: &mut (dyn Write + Send)) -> anyhow::Result<()> {
        let config = session.config();
        let (edit, edited) = match self {
            Self::List => return Ok(show::groups(&session.read().await?, out)?),
            Self::Add { name, gid, edit } => {
                let change = |blob: &mut _| groups::add(blob, name, *gid, config);
                (edit, session.edit(*edit, change).await?)
            }
            Self::Remove { name, edit } => (edit, session.edit(*edit, |blob| groups::remove(blob, name)).await?),
            Self::Member(MemberCommand::Add { group, users, edit }) => {
                let change = |blob: &mut _| groups::add_members(blob, group, users);
                (edit, session.edit(*edit, change).await?)
            }
            Self::Member(MemberCommand::Remove { group, users, edit }) => {
                let change = |blob: &mut _| groups::remove_members(blob, group, users);
                (edit, session.edit(*edit, change).await?)
            }
        };
        tell(&edited, edit.plan, out)
    }
}

impl KeyCommand {
    async fn run(
        &self,
        session: &Editor<'_>,
        out: &mut (dyn Write + Send),
        input: &mut (dyn Read + Send),
    ) -> anyhow::Result<()> {
        let (edit, edited) = match self {
            Self::List { user } => return Ok(show::keys(&session.read().await?, user.as_deref(), out)?),
            Self::Add { user, file, edit } => {
                let text = match file {
                    Some(path) => read_file(path)?,
                    None => read_keys(input).context("reading the keys from standard input")?,
                };
                (edit, session.edit(*edit, |blob| keys::add(blob, user, &text)).await?)
            }
            Self::Remove {
                user, key, file, edit, ..
            } => {
                let which = match (key, file) {
                    (Some(key), _) => Which::Named(key.clone()),
                    (None, Some(path)) => Which::Listed(read_file(path)?),
                    (None, None) => Which::All,
                };
                (
                    edit,
                    session.edit(*edit, |blob| keys::remove(blob, user, &which)).await?,
                )
            }
        };
        tell(&edited, edit.plan, out)
    }
}

impl AccessCommand {
    async fn run(&self, session: &Editor<'_>, out: &mut (dyn Write + Send)) -> anyhow::Result<()> {
        let names = session.names();
        let (edit, edited) = match self {
            Self::Show { json } => {
                let rules = session.read_rules().await?;
                if *json {
                    show::json(rules.json(), out)?;
                } else {
                    show::rules(&rules, out)?;
                }
                return Ok(());
            }
            Self::Enforce { state, edit } => {
                let on = *state == Switch::On;
                let change = |rules: &mut Rules| rules.enforce(on, edit.lock_everyone_out);
                (edit, session.edit_rules(edit.plan, change).await?)
            }
            Self::Allow { group, host, edit } => {
                let change = |rules: &mut Rules| rules.allow(group, host, names);
                (edit, session.edit_rules(edit.plan, change).await?)
            }
            Self::Deny { group, host, edit } => {
                let change = |rules: &mut Rules| rules.deny(group, host, names, edit.lock_everyone_out);
                (edit, session.edit_rules(edit.plan, change).await?)
            }
        };
        tell(&edited, edit.plan, out)
    }
}

fn tell(edited: &Edited, plan: bool, out: &mut (dyn Write + Send)) -> anyhow::Result<()> {
    if plan && edited.changed {
        writeln!(out, "plan, nothing is written:")?;
    }
    for line in &edited.lines {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

fn read_file(path: &Path) -> anyhow::Result<String> {
    let file = std::fs::File::open(path).with_context(|| format!("opening {}", path.display()))?;
    read_keys(file).with_context(|| format!("reading {}", path.display()))
}

fn read_keys(reader: impl Read) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    reader.take(MAX_KEYS_TEXT).read_to_end(&mut bytes)?;
    // Keys are ASCII; a comment in another encoding must not stop them.
    let text = String::from_utf8_lossy(&bytes).into_owned();
    if text.trim().is_empty() {
        return Err(Refusal::NoKey.into());
    }
    Ok(text)
}
