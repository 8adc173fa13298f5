//! What a host accepted of one publisher, under one key of the policy.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::log::Chain;
use super::succession::Lineage;
use super::text::{Fields, FormatError, Lines, Time};
use super::{Refusal, Seen};
use crate::{Label, VerifyingKey};

/// Of each key that a policy ever named, what was accepted while it did.
pub(super) type Anchors = BTreeMap<VerifyingKey, Known>;

/// What was accepted under one key of the policy and its successors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// Does the policy name it still?
    pub(super) is_named: bool,
    /// The last head, and the latest time that any of them bore.
    pub(super) head: Option<(Seen, Timestamp)>,
    /// By source and compartment.
    pub(super) manifests: BTreeMap<(Label, Label), Followed>,
    /// By compartment.
    pub(super) epochs: BTreeMap<Label, u64>,
    /// The key, and those that came after it.
    pub(super) lineage: Lineage,
}

impl Known {
    /// Nothing yet.
    pub(super) fn of(anchor: VerifyingKey) -> Self {
        Self {
            is_named: true,
            head: None,
            manifests: BTreeMap::new(),
            epochs: BTreeMap::new(),
            lineage: Lineage::of(anchor),
        }
    }

    /// Nothing of a key that the policy names no more.
    pub(super) fn former(anchor: VerifyingKey) -> Self {
        Self {
            is_named: false,
            ..Self::of(anchor)
        }
    }

    /// The same under `anchor`, which the policy names in place of a key that it came from.
    pub(super) fn renamed(&self, anchor: VerifyingKey) -> Self {
        Self {
            lineage: Lineage::of(anchor),
            ..self.clone()
        }
    }
}

/// A manifest that was accepted, and how far its log was followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Followed {
    pub(super) manifest: Seen,
    pub(super) chain: Chain,
}

impl Followed {
    /// May a head name `version` and `chain` after this?
    pub(super) fn check(&self, version: u64, chain: Chain) -> Result<(), Refusal> {
        if version != self.manifest.version {
            let digest = chain.hash;
            return Seen::check(Some(self.manifest), "manifest", Seen { version, digest });
        }
        if chain.length < self.chain.length {
            return Err(Refusal::Rollback {
                kind: "log",
                found: chain.length,
                seen: self.chain.length,
            });
        }
        if chain.length == self.chain.length && chain.hash != self.chain.hash {
            return Err(Refusal::Fork {
                kind: if chain.length == 0 { "manifest" } else { "log" },
                version: if chain.length == 0 { version } else { chain.length },
            });
        }
        Ok(())
    }
}

/// Reads the lines of a memory that are about publishers.
pub(super) fn read(fields: &mut Fields<'_>) -> Result<Anchors, FormatError> {
    let named = fields.rows("publisher", 1024, |fields, [anchor]| {
        fields.convert::<VerifyingKey>("publisher", anchor)
    })?;
    let mut all: Anchors = named
        .into_iter()
        .map(|anchor| (anchor.clone(), Known::of(anchor)))
        .collect();
    let heads = fields.rows("head", 4096, |fields, [anchor, version, digest, latest]| {
        let seen = Seen::read(fields, "head", [version, digest])?;
        let latest: Time = fields.convert("head", latest)?;
        Ok((fields.convert("head", anchor)?, (seen, latest.0)))
    })?;
    for (anchor, head) in heads {
        of(&mut all, anchor).head = Some(head);
    }
    let manifests = fields.longer_rows(
        "manifest",
        4096,
        |fields, [anchor, source, compartment, version, digest], log| {
            let place = (
                fields.convert("manifest", source)?,
                fields.convert("manifest", compartment)?,
            );
            let manifest = Seen::read(fields, "manifest", [version, digest])?;
            let chain = match log {
                None => Chain::of(manifest.digest),
                Some([length, hash]) => Chain {
                    length: fields.convert("manifest", length)?,
                    hash: fields.convert("manifest", hash)?,
                },
            };
            Ok((fields.convert("manifest", anchor)?, place, Followed { manifest, chain }))
        },
    )?;
    for (anchor, place, followed) in manifests {
        of(&mut all, anchor).manifests.insert(place, followed);
    }
    let epochs = fields.rows("epoch", 4096, |fields, [anchor, compartment, epoch]| {
        let epoch: u64 = fields.convert("epoch", epoch)?;
        Ok((
            fields.convert("epoch", anchor)?,
            fields.convert("epoch", compartment)?,
            epoch,
        ))
    })?;
    for (anchor, compartment, epoch) in epochs {
        of(&mut all, anchor).epochs.insert(compartment, epoch);
    }
    for lineage in Lineage::read(fields)? {
        let known = of(&mut all, lineage.anchor().clone());
        known.lineage = lineage;
    }
    Ok(all)
}

fn of(all: &mut Anchors, anchor: VerifyingKey) -> &mut Known {
    all.entry(anchor.clone()).or_insert_with(|| Known::former(anchor))
}

/// Writes what [`read`] reads.
pub(super) fn write(all: &Anchors, lines: &mut Lines) {
    for (anchor, _) in all.iter().filter(|(_, known)| known.is_named) {
        lines.line("publisher", anchor);
    }
    for (anchor, known) in all {
        if let Some((seen, latest)) = known.head {
            lines.line("head", format_args!("{anchor} {seen} {}", Time(latest)));
        }
    }
    for (anchor, known) in all {
        for ((source, compartment), Followed { manifest, chain }) in &known.manifests {
            let plain = format_args!("{anchor} {source} {compartment} {manifest}");
            match chain.length {
                0 => lines.line("manifest", plain),
                length => lines.line("manifest", format_args!("{plain} {length} {}", chain.hash)),
            }
        }
    }
    for (anchor, known) in all {
        for (compartment, epoch) in &known.epochs {
            lines.line("epoch", format_args!("{anchor} {compartment} {epoch}"));
        }
    }
    for known in all.values() {
        known.lineage.write(lines);
    }
}
