//! Edits what is kept at a backend, or here.

use dirless_model::NameRule;

use super::blob::Blob;
use super::command::EditArguments;
use super::rules::Rules;
use super::session::Session;
use super::{Context, Edited, Here, LocalConfig, Place, Refusal};

pub(super) struct Editor<'a> {
    context: &'a Context,
    kept: Kept<'a>,
}

enum Kept<'a> {
    There(Session<'a>),
    Here(&'a Here),
}

impl<'a> Editor<'a> {
    pub(super) fn new(context: &'a Context) -> Self {
        let kept = match &context.place {
            Place::Backend { client, identity } => Kept::There(Session::new(context, client, identity)),
            Place::Here(here) => Kept::Here(here),
        };
        Self { context, kept }
    }

    pub(super) fn config(&self) -> &'a LocalConfig {
        &self.context.config
    }

    pub(super) fn names(&self) -> &'a NameRule {
        &self.context.names
    }

    /// The local snapshot as it is now.
    pub(super) async fn read(&self) -> anyhow::Result<Blob> {
        match &self.kept {
            Kept::There(session) => session.read().await,
            Kept::Here(here) => here.read(),
        }
    }

    /// Carries `change` through.
    pub(super) async fn edit(
        &self,
        arguments: EditArguments,
        change: impl Fn(&mut Blob) -> Result<Edited, Refusal>,
    ) -> anyhow::Result<Edited> {
        match &self.kept {
            Kept::There(session) => session.edit(arguments, change).await,
            Kept::Here(here) => here.edit(arguments.plan, self.context.clock.now(), change),
        }
    }

    /// The access rules as they are now.
    pub(super) async fn read_rules(&self) -> anyhow::Result<Rules> {
        match &self.kept {
            Kept::There(session) => session.read_rules().await,
            Kept::Here(here) => here.read_rules(),
        }
    }

    /// Carries a change of the access rules through.
    pub(super) async fn edit_rules(
        &self,
        plan: bool,
        change: impl Fn(&mut Rules) -> Result<Edited, Refusal>,
    ) -> anyhow::Result<Edited> {
        match &self.kept {
            Kept::There(session) => session.edit_rules(plan, change).await,
            Kept::Here(here) => here.edit_rules(plan, change),
        }
    }
}
