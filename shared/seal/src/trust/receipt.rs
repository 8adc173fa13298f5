//! The receipt: what a host says that it applied, signed with its own key.

use jiff::Timestamp;

use super::memory::Seen;
use super::text::{Fields, FormatError, Lines, Object, ascending};
use crate::{Digest, Label};

/// What a host applied. Receipts of all hosts together show whether the backend tells them different things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Whose it is.
    pub tenant: Digest,
    /// The host's name in the node list.
    pub node: Label,
    /// When it was signed, by the host's clock.
    pub issued: Timestamp,
    /// Version and digest of the policy it follows.
    pub policy: Seen,
    /// The head that it applied, for each publisher, in the order of their names.
    pub heads: Vec<(Label, Seen)>,
    /// Number of the generation that it published.
    pub generation: u64,
    /// Users in it.
    pub users: u64,
    /// Groups in it.
    pub groups: u64,
    /// Records that were dropped by scope, access rules or host limits.
    pub dropped: u64,
}

impl Object for Receipt {
    const CONTEXT: &'static str = "dirless/receipt/v1";
    const MOST: usize = 16 * 1024;

    fn read(fields: &mut Fields<'_>) -> Result<Self, FormatError> {
        let tenant = fields.value("tenant")?;
        let node = fields.value("node")?;
        let issued = fields.value("issued")?;
        let policy = fields.text("policy")?;
        let policy = Seen::read(fields, "policy", fields.words("policy", policy)?)?;
        let rows = fields.rows("head", 32)?;
        let read = |[publisher, version, digest]: [&str; 3]| {
            let seen = Seen::read(fields, "head", [version, digest])?;
            Ok((fields.convert("head", publisher)?, seen))
        };
        let heads: Vec<(Label, Seen)> = rows.into_iter().map(read).collect::<Result<_, FormatError>>()?;
        ascending("heads", &heads, |(publisher, _)| publisher)?;
        Ok(Self {
            tenant,
            node,
            issued,
            policy,
            heads,
            generation: fields.value("generation")?,
            users: fields.value("users")?,
            groups: fields.value("groups")?,
            dropped: fields.value("dropped")?,
        })
    }

    fn write(&self, lines: &mut Lines) {
        lines.line("tenant", self.tenant);
        lines.line("node", &self.node);
        lines.line("issued", self.issued);
        lines.line("policy", self.policy);
        for (publisher, seen) in &self.heads {
            lines.line("head", format_args!("{publisher} {seen}"));
        }
        lines.line("generation", self.generation);
        lines.line("users", self.users);
        lines.line("groups", self.groups);
        lines.line("dropped", self.dropped);
    }
}
