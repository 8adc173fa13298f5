//! The wrapped keys of the current epochs: one for every node, and with a recovery key what they open.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use dirless_publish::{Kind, content_root};
use dirless_seal::trust::{Manifest, Refusal, Wrap};
use dirless_seal::{Identity, Label, Limits, open_file};

use super::source::read;
use super::{Problem, Walk};

/// Most bytes of a wrap.
const MOST: usize = 16 * 1024;

impl Walk<'_> {
    pub(super) fn wraps(&mut self) -> Result<(), Problem> {
        let manifests = std::mem::take(&mut self.manifests);
        let epochs: BTreeSet<_> = manifests
            .iter()
            .map(|manifest| (manifest.compartment.clone(), manifest.epoch))
            .collect();
        for (compartment, epoch) in &epochs {
            let nodes = self.readers(compartment);
            for node in &nodes {
                let path = format!("wrap/{compartment}/{epoch}/{node}");
                let bytes = read(self.source, &path, MOST)?.ok_or_else(|| {
                    Problem::new(
                        "wrap-missing",
                        &path,
                        "this node is listed and cannot open the current epoch",
                    )
                })?;
                self.visitor.object(&path, &bytes)?;
            }
            let recovery = self.recovery(compartment, *epoch)?;
            let fact = format!("{} nodes, {} recovery recipients", nodes.len(), recovery.len());
            self.visitor.tell(&format!("wrap/{compartment}/{epoch}"), fact);
            if let Some(identity) = self.pinned.identity {
                let keys = recovered(&recovery, identity)?;
                let of_epoch = |manifest: &&Manifest| manifest.compartment == *compartment && manifest.epoch == *epoch;
                for manifest in manifests.iter().filter(of_epoch) {
                    self.opened(manifest, &keys.0, &keys.1)?;
                }
            }
        }
        Ok(())
    }

    /// The nodes that may read `compartment`, of all enrollers.
    fn readers(&self, compartment: &Label) -> BTreeSet<Label> {
        let nodes = self.lists.iter().flat_map(|list| &list.nodes);
        let readers = nodes.filter(|node| node.compartments.contains(compartment));
        readers
            .map(|node| node.key.name().clone())
            .filter(|name| !self.lists.iter().any(|list| list.is_revoked(name)))
            .collect()
    }

    /// The wraps for recovery that are there. A recipient that came after the epoch began has none yet.
    fn recovery(&mut self, compartment: &Label, epoch: u64) -> Result<BTreeMap<String, Vec<u8>>, Problem> {
        let mut found = BTreeMap::new();
        for number in 1..=self.policy.recovery.len() {
            let path = format!("wrap/{compartment}/{epoch}/recovery-{number}");
            match read(self.source, &path, MOST)? {
                Some(bytes) => {
                    self.visitor.object(&path, &bytes)?;
                    found.insert(path, bytes);
                }
                None => self
                    .visitor
                    .tell(&path, "there is none before the next epoch".to_owned()),
            }
        }
        Ok(found)
    }

    /// Opens the body of `manifest` with the key of its epoch, to the last byte.
    fn opened(&mut self, manifest: &Manifest, path: &str, wrap: &Wrap) -> Result<(), Problem> {
        let own =
            (wrap.tenant, &wrap.compartment, wrap.epoch) == (manifest.tenant, &manifest.compartment, manifest.epoch);
        if !own || wrap.identity.recipient() != manifest.recipient {
            return Err(Problem::refused(path, &Refusal::Epoch(manifest.epoch)));
        }
        let path = format!("blob/{}", manifest.ciphertext);
        let reader = self.source.open(&path)?.ok_or_else(|| Problem::missing(&path))?;
        let limits = Limits {
            plaintext: manifest.plaintext_size,
            ..Limits::default()
        };
        let broken = |error: &dyn std::fmt::Display| Problem::new("body-unreadable", &path, error);
        let body = open_file(&wrap.identity, reader, limits).map_err(|error| broken(&error))?;
        let mut body = Counted { body, size: 0 };
        let root = content_root(Kind::of(&manifest.source), &mut body);
        let root = root.map_err(|error| broken(&error))?;
        // What follows on the records: to the last byte, so that it is known to be whole.
        io::copy(&mut body, &mut io::sink()).map_err(|error| broken(&error))?;
        if body.size != manifest.plaintext_size {
            let wrong = format!("it holds {} bytes, {} are signed", body.size, manifest.plaintext_size);
            return Err(broken(&wrong));
        }
        if root != manifest.content {
            return Err(Problem::refused(&path, &Refusal::Content));
        }
        let fact = format!("opens, {} bytes, with the signed records", body.size);
        self.visitor.tell(&path, fact);
        Ok(())
    }
}

/// Counts what is read.
struct Counted<R> {
    body: R,
    size: u64,
}

impl<R: io::Read> io::Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.body.read(buffer)?;
        self.size += count as u64;
        Ok(count)
    }
}

/// The wrap that `identity` opens.
pub(crate) fn recovered(wraps: &BTreeMap<String, Vec<u8>>, identity: &Identity) -> Result<(String, Wrap), Problem> {
    let mut reasons = Vec::new();
    for (path, bytes) in wraps {
        match Wrap::open(bytes, identity) {
            Ok(wrap) => return Ok((path.clone(), wrap)),
            Err(error) => reasons.push(format!("{path}: {error}")),
        }
    }
    let reasons = if reasons.is_empty() {
        "there is none".to_owned()
    } else {
        reasons.join("; ")
    };
    Err(Problem::new(
        "recovery",
        "wrap",
        format!("the recovery key opens no wrap: {reasons}"),
    ))
}
