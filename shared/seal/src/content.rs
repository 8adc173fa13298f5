//! The content root: one digest over all records of a snapshot, which can follow a change without reading the rest.
//!
//! A record is its bytes as they travel. Its leaf is SHA-256 of `0`, its kind and those bytes. Leaves are put into
//! 65,536 buckets by their first two bytes; a bucket's digest is SHA-256 of `1` and its leaves in ascending
//! order; above the buckets stands a binary tree whose nodes are SHA-256 of `2` and both children. The root does
//! not depend on the order of records, and a changed record touches two buckets and the sixteen nodes above each.

use std::collections::BTreeMap;

use dirless_model::snapshot::Part;

use crate::{Digest, Digester};

mod kept;

pub use kept::{ContentStore, KeptError, update};

/// Levels above the buckets.
const LEVELS: u8 = 16;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKind {
    /// A user.
    User,
    /// A group.
    Group,
    /// An entry of the tree.
    Entry,
    /// Anything else that stands once, by its bytes: access rules, names of hosts, the ledger.
    Other,
}

impl RecordKind {
    pub(crate) fn byte(self) -> u8 {
        match self {
            Self::User => b'u',
            Self::Group => b'g',
            Self::Entry => b'e',
            Self::Other => b'o',
        }
    }

    /// The leaf of a record of this kind with these bytes.
    #[must_use]
    pub fn leaf(self, bytes: &[u8]) -> Digest {
        let mut digester = Digester::default();
        digester.update(&[0, self.byte()]);
        digester.update(bytes);
        digester.finish()
    }
}

/// What a part of a snapshot is to the content root.
impl From<Part> for RecordKind {
    fn from(part: Part) -> Self {
        match part {
            Part::User => Self::User,
            Part::Group => Self::Group,
            Part::Entry => Self::Entry,
            Part::Other => Self::Other,
        }
    }
}

impl From<RecordKind> for Part {
    fn from(kind: RecordKind) -> Self {
        match kind {
            RecordKind::User => Self::User,
            RecordKind::Group => Self::Group,
            RecordKind::Entry => Self::Entry,
            RecordKind::Other => Self::Other,
        }
    }
}

/// The leaves of all records. The same record twice counts twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    buckets: BTreeMap<u16, Vec<Digest>>,
}

impl Content {
    /// That of records with these leaves.
    #[must_use]
    pub fn of(mut leaves: Vec<Digest>) -> Self {
        leaves.sort_unstable();
        let own = leaves.chunk_by(|left, right| bucket(*left) == bucket(*right));
        let buckets = own.filter_map(|own| Some((bucket(*own.first()?), own.to_vec())));
        Self {
            buckets: buckets.collect(),
        }
    }

    /// Adds a record.
    pub fn add(&mut self, leaf: Digest) {
        let bucket = self.buckets.entry(bucket(leaf)).or_default();
        let at = bucket.partition_point(|other| *other < leaf);
        bucket.insert(at, leaf);
    }

    /// Removes a record; `false` when there is none such.
    pub fn remove(&mut self, leaf: Digest) -> bool {
        let Some(leaves) = self.buckets.get_mut(&bucket(leaf)) else {
            return false;
        };
        let Ok(at) = leaves.binary_search(&leaf) else {
            return false;
        };
        leaves.remove(at);
        if leaves.is_empty() {
            self.buckets.remove(&bucket(leaf));
        }
        true
    }

    /// The content root.
    #[must_use]
    pub fn root(&self) -> Digest {
        let mut empty = bucket_digest(&[]);
        let mut level: BTreeMap<u32, Digest> = self
            .buckets
            .iter()
            .map(|(bucket, leaves)| (u32::from(*bucket), bucket_digest(leaves)))
            .collect();
        // Only what is not empty is computed: a small directory costs little.
        for _ in 0..LEVELS {
            let mut above = BTreeMap::new();
            for at in level.keys().map(|at| at / 2) {
                above.entry(at).or_insert_with(|| {
                    let left = level.get(&(at * 2)).unwrap_or(&empty);
                    let right = level.get(&(at * 2 + 1)).unwrap_or(&empty);
                    node(left, right)
                });
            }
            empty = node(&empty, &empty);
            level = above;
        }
        level.into_values().next().unwrap_or(empty)
    }
}

fn bucket(leaf: Digest) -> u16 {
    let [first, second, ..] = *leaf.as_bytes();
    u16::from_be_bytes([first, second])
}

fn bucket_digest(leaves: &[Digest]) -> Digest {
    let mut digester = Digester::default();
    digester.update(&[1]);
    for leaf in leaves {
        digester.update(leaf.as_bytes());
    }
    digester.finish()
}

fn node(left: &Digest, right: &Digest) -> Digest {
    let mut digester = Digester::default();
    digester.update(&[2]);
    digester.update(left.as_bytes());
    digester.update(right.as_bytes());
    digester.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition itself, all 65,536 buckets of it.
    fn plain_root(leaves: &[Digest]) -> Digest {
        let mut level: Vec<Digest> = (0..=u16::MAX)
            .map(|number| {
                let mut own: Vec<_> = leaves.iter().copied().filter(|leaf| bucket(*leaf) == number).collect();
                own.sort_unstable();
                bucket_digest(&own)
            })
            .collect();
        while level.len() > 1 {
            level = level.chunks(2).map(|pair| node(&pair[0], &pair[1])).collect();
        }
        level[0]
    }

    fn leaves(count: u32) -> Vec<Digest> {
        (0..count)
            .map(|number| RecordKind::User.leaf(&number.to_be_bytes()))
            .collect()
    }

    fn content(leaves: &[Digest]) -> Content {
        let mut content = Content::default();
        leaves.iter().for_each(|leaf| content.add(*leaf));
        content
    }

    #[test]
    fn it_is_the_root_of_the_whole_tree() {
        for count in [0, 40] {
            let leaves = leaves(count);
            assert_eq!(content(&leaves).root(), plain_root(&leaves), "{count}");
        }
    }

    #[test]
    fn kinds_are_kept_apart() {
        assert_ne!(RecordKind::User.leaf(b"x"), RecordKind::Group.leaf(b"x"));
    }

    #[test]
    fn the_published_roots_hold() {
        assert_eq!(content(&[]).root().to_string(), EMPTY);
        assert_eq!(content(&[RecordKind::User.leaf(b"{}")]).root().to_string(), ONE);
    }

    const EMPTY: &str = "1035a858d09bb40f583f65a01422ce15bdf25c8fd30f536d4790d7f42f9707b0";
    const ONE: &str = "466896d1233f685b1fd64a955e14d9e022997aabf0101fd3d2bb750fb3c2ac1a";

    proptest! {
        #[test]
        fn order_does_not_matter_and_a_change_is_undone_by_its_opposite(
            mut numbers in proptest::collection::vec(0u32..50, 0..40),
            change in 0u32..60,
        ) {
            let leaf = |number: &u32| RecordKind::Entry.leaf(&number.to_be_bytes());
            let before = content(&numbers.iter().map(leaf).collect::<Vec<_>>());
            numbers.reverse();
            let mut after = content(&numbers.iter().map(leaf).collect::<Vec<_>>());
            prop_assert_eq!(before.root(), after.root());
            prop_assert_eq!(&Content::of(numbers.iter().map(leaf).collect()), &before);
            after.add(leaf(&change));
            prop_assert_ne!(before.root(), after.root());
            prop_assert!(after.remove(leaf(&change)));
            prop_assert_eq!(&before, &after);
            prop_assert_eq!(after.remove(leaf(&change)), numbers.contains(&change));
        }
    }
}
