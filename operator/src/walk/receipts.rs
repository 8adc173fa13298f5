//! Receipts of hosts, beside what this copy shows.

use std::path::{Path, PathBuf};

use anyhow::Context;
use dirless_seal::trust::{Object, Receipt, Refusal, Seen, SplitView, parse};
use dirless_seal::{Label, Note};
use dirless_wire::trust::ReceiptList;
use jiff::Timestamp;

use super::source::{Source, read};
use super::{Problem, Walk};
use crate::files;

/// Most bytes of one page of receipts: a thousand of the longest, in base64.
const PAGE: usize = 32 << 20;

/// A receipt, and where it was found.
pub(crate) struct Found {
    shown: String,
    bytes: Vec<u8>,
}

/// Those in the file `path`, or in the files of that folder.
pub(crate) fn in_files(path: &Path) -> anyhow::Result<Result<Vec<Found>, Problem>> {
    let one = |path: &PathBuf| {
        let shown = path.display().to_string();
        let bytes = files::read(path, Receipt::MOST)
            .map_err(|error| Problem::new("unreadable", &shown, format!("{error:#}")))?;
        let bytes = bytes.ok_or_else(|| Problem::missing(&shown))?;
        Ok(Found { shown, bytes })
    };
    Ok(files_at(path)?.iter().map(one).collect())
}

/// The last one of each host, as a backend has them.
pub(crate) fn at_backend(source: &mut dyn Source) -> Result<Vec<Found>, Problem> {
    let (mut all, mut path) = (Vec::new(), "receipts".to_owned());
    loop {
        let bytes = read(source, &path, PAGE)?.ok_or_else(|| Problem::missing(&path))?;
        let page: ReceiptList =
            serde_json::from_slice(&bytes).map_err(|error| Problem::new("unreadable", &path, error))?;
        for reply in &page.receipts {
            let shown = format!("the receipt of {}", reply.node);
            let bytes = reply
                .bytes()
                .ok_or_else(|| Problem::new("unreadable", &shown, "it is no base64"))?;
            all.push(Found { shown, bytes });
        }
        match page.next {
            Some(next) => path = format!("receipts?after={next}"),
            None => return Ok(all),
        }
    }
}

/// The files that `path` names: itself, or those in it.
fn files_at(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let listed = std::fs::read_dir(path).with_context(|| format!("reading {}", path.display()))?;
    let mut files = Vec::new();
    for entry in listed {
        let entry = entry.with_context(|| format!("reading {}", path.display()))?;
        if entry.path().is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

impl Walk<'_> {
    /// Checks receipts, and compares them with each other and with this copy.
    pub(crate) fn receipts(&self, found: &[Found]) -> Result<usize, Problem> {
        let mut receipts = found
            .iter()
            .map(|found| self.receipt(found))
            .collect::<Result<Vec<_>, _>>()?;
        let count = receipts.len();
        receipts.extend(self.own_view());
        let split: Vec<String> = SplitView::find(&receipts).iter().map(ToString::to_string).collect();
        if split.is_empty() {
            return Ok(count);
        }
        Err(Problem::new("split-view", "receipts", split.join("; ")))
    }

    fn receipt(&self, Found { shown, bytes }: &Found) -> Result<Receipt, Problem> {
        let refused = |refusal: Refusal| Problem::refused(shown, &refusal);
        let note = Note::parse(bytes, Receipt::MOST).map_err(|error| refused(Refusal::NoNote("receipt", error)))?;
        let claimed: Receipt = parse(&note).map_err(|error| refused(Refusal::Malformed("receipt", error)))?;
        let key = self.keys.get(&claimed.node).ok_or_else(|| {
            Problem::new(
                "unknown-node",
                shown,
                format!("no node list has the node {}", claimed.node),
            )
        })?;
        Receipt::accept(self.tenant(), key, &note).map_err(refused)
    }

    /// What a host would say that had applied this copy, under a name that no node has.
    fn own_view(&self) -> Vec<Receipt> {
        let Ok(node) = "this-copy".parse::<Label>() else {
            return Vec::new();
        };
        let of = |policy: &Seen| Receipt {
            tenant: self.tenant(),
            node: node.clone(),
            issued: Timestamp::UNIX_EPOCH,
            policy: *policy,
            heads: self.seen_heads(),
            generation: 0,
            users: 0,
            groups: 0,
            dropped: 0,
            alarms: Vec::new(),
        };
        self.policies.iter().map(of).collect()
    }
}
