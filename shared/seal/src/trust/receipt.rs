//! The receipt: what a host says that it applied, signed with its own key.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

use super::memory::Seen;
use super::text::{Fields, FormatError, Lines, Object, Time, ascending, parse};
use super::{Refusal, node_name};
use crate::{Digest, Label, Note, VerifyingKey};

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
    /// What is wrong, in order: why it follows no further, or soon will not.
    pub alarms: Vec<ReceiptAlarm>,
}

/// Something that is wrong on a host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReceiptAlarm {
    /// A stable word: the code of a refusal, or of another trouble of the host.
    pub code: Label,
    /// The file that it is about.
    pub about: About,
}

impl ReceiptAlarm {
    /// Most of them in a receipt.
    pub const MOST: usize = 16;

    /// One with that code, about that; none when either cannot stand in a receipt.
    #[must_use]
    pub fn new(code: &str, about: &str) -> Option<Self> {
        Some(Self {
            code: code.parse().ok()?,
            about: about.parse().ok()?,
        })
    }
}

impl fmt::Display for ReceiptAlarm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.code, self.about)
    }
}

/// What an alarm is about: 1 to 255 visible ASCII characters without blanks, such as the path of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct About(Box<str>);

impl FromStr for About {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(Self(text.into())),
            false => Err("an alarm is about 1 to 255 visible ASCII characters"),
        }
    }
}

impl fmt::Display for About {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Receipt {
    /// Accepts `note` as what the owner of `node` says that it applied.
    ///
    /// # Errors
    /// When it is of another tenant, or of anybody but this node.
    pub fn accept(tenant: Digest, node: &VerifyingKey, note: &Note) -> Result<Self, Refusal> {
        const KIND: &str = "receipt";
        let receipt: Self = parse(note).map_err(|error| Refusal::Malformed(KIND, error))?;
        if receipt.tenant != tenant {
            return Err(Refusal::OtherTenant(KIND));
        }
        let own = receipt.node == node_name(node.as_bytes()) && *node.name() == receipt.node;
        if own && note.is_signed_by(node) {
            Ok(receipt)
        } else {
            Err(Refusal::Forged(KIND))
        }
    }
}

/// The nodes that applied each content.
type Views = BTreeMap<Digest, BTreeSet<Label>>;

/// Different contents under one version: proof that hosts are shown different things, whatever the excuse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitView {
    /// The publisher whose head it is; none when it is the policy.
    pub publisher: Option<Label>,
    /// The version.
    pub version: u64,
    /// Each content, and the nodes that applied it.
    pub views: Views,
}

impl SplitView {
    /// Compares what `receipts` of one tenant, each accepted before, say. A node's older receipts count as well.
    #[must_use]
    pub fn find<'r>(receipts: impl IntoIterator<Item = &'r Receipt>) -> Vec<Self> {
        let mut seen: BTreeMap<(Option<&Label>, u64), Views> = BTreeMap::new();
        for receipt in receipts {
            let policy = (None, receipt.policy);
            let heads = receipt.heads.iter().map(|(publisher, seen)| (Some(publisher), *seen));
            for (publisher, Seen { version, digest }) in heads.chain([policy]) {
                let views = seen.entry((publisher, version)).or_default();
                views.entry(digest).or_default().insert(receipt.node.clone());
            }
        }
        seen.into_iter()
            .filter(|(_, views)| views.len() > 1)
            .map(|((publisher, version), views)| Self {
                publisher: publisher.cloned(),
                version,
                views,
            })
            .collect()
    }
}

impl fmt::Display for SplitView {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.publisher {
            Some(publisher) => write!(formatter, "head {} of {publisher} is shown as", self.version)?,
            None => write!(formatter, "policy {} is shown as", self.version)?,
        }
        for (at, (digest, nodes)) in self.views.iter().enumerate() {
            let nodes: Vec<&str> = nodes.iter().map(Label::as_str).collect();
            let and = if at == 0 { "" } else { ", and as" };
            write!(formatter, "{and} {digest} to {}", nodes.join(" "))?;
        }
        Ok(())
    }
}

impl Object for Receipt {
    const CONTEXT: &'static str = "dirless/receipt/v1";
    const MOST: usize = 16 * 1024;

    fn read(fields: &mut Fields<'_>) -> Result<Self, FormatError> {
        let tenant = fields.value("tenant")?;
        let node = fields.value("node")?;
        let issued = fields.value::<Time>("issued")?.0;
        let policy = fields.text("policy")?;
        let policy = Seen::read(fields, "policy", fields.words("policy", policy)?)?;
        let heads: Vec<(Label, Seen)> = fields.rows("head", 32, |fields, [publisher, version, digest]| {
            let seen = Seen::read(fields, "head", [version, digest])?;
            Ok((fields.convert("head", publisher)?, seen))
        })?;
        ascending("heads", &heads, |(publisher, _)| publisher)?;
        let receipt = Self {
            tenant,
            node,
            issued,
            policy,
            heads,
            generation: fields.value("generation")?,
            users: fields.value("users")?,
            groups: fields.value("groups")?,
            dropped: fields.value("dropped")?,
            alarms: fields.rows("alarm", ReceiptAlarm::MOST, |fields, [code, about]| {
                Ok(ReceiptAlarm {
                    code: fields.convert("alarm", code)?,
                    about: fields.convert("alarm", about)?,
                })
            })?,
        };
        ascending("alarms", &receipt.alarms, |alarm| alarm)?;
        Ok(receipt)
    }

    fn write(&self, lines: &mut Lines) {
        lines.line("tenant", self.tenant);
        lines.line("node", &self.node);
        lines.line("issued", Time(self.issued));
        lines.line("policy", self.policy);
        for (publisher, seen) in &self.heads {
            lines.line("head", format_args!("{publisher} {seen}"));
        }
        lines.line("generation", self.generation);
        lines.line("users", self.users);
        lines.line("groups", self.groups);
        lines.line("dropped", self.dropped);
        for alarm in &self.alarms {
            lines.line("alarm", alarm);
        }
    }
}
