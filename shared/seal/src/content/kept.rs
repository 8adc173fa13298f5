//! A content root that follows a change at the cost of the change, over whatever keeps its leaves and nodes.

use std::collections::{BTreeMap, BTreeSet};

use super::{Content, LEVELS, bucket, bucket_digest, node};
use crate::Digest;

/// Keeps leaves and nodes. Level 0 are the buckets' digests, 65,536 of them, level 16 is the root alone; a node that nothing
/// lies below is not kept.
pub trait ContentStore {
    /// Why it fails.
    type Error;

    /// The leaves of a bucket, ascending.
    ///
    /// # Errors
    /// When they cannot be read.
    fn leaves(&mut self, bucket: u16) -> Result<Vec<Digest>, Self::Error>;

    /// Keeps the leaves of a bucket in place of those before.
    ///
    /// # Errors
    /// When they cannot be kept.
    fn keep_leaves(&mut self, bucket: u16, leaves: &[Digest]) -> Result<(), Self::Error>;

    /// The node of this level and place.
    ///
    /// # Errors
    /// When it cannot be read.
    fn node(&mut self, level: u8, at: u16) -> Result<Option<Digest>, Self::Error>;

    /// Keeps a node, or nothing in its place.
    ///
    /// # Errors
    /// When it cannot be kept.
    fn keep_node(&mut self, level: u8, at: u16, node: Option<Digest>) -> Result<(), Self::Error>;
}

/// A content root cannot follow a change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeptError<E> {
    /// A leaf that is to go is not there.
    #[error("a record that is to go is not there")]
    Absent,
    /// The leaves or nodes cannot be read or kept.
    #[error(transparent)]
    Store(#[from] E),
}

impl Content {
    /// Keeps all of it in `store`, which is empty: from then on [`update`] follows. The content root.
    ///
    /// # Errors
    /// What `store` reports.
    pub fn keep<S: ContentStore>(&self, store: &mut S) -> Result<Digest, S::Error> {
        for (bucket, leaves) in &self.buckets {
            store.keep_leaves(*bucket, leaves)?;
            store.keep_node(0, *bucket, Some(bucket_digest(leaves)))?;
        }
        raise(store, self.buckets.keys().copied().collect())
    }
}

/// Takes the leaves `gone` out of what `store` keeps and adds those that `come`. The content root after that.
///
/// # Errors
/// When one of `gone` is not there, or what `store` reports; some of it may have been changed then.
pub fn update<S: ContentStore>(store: &mut S, gone: &[Digest], come: &[Digest]) -> Result<Digest, KeptError<S::Error>> {
    let mut touched: BTreeMap<u16, (Vec<Digest>, Vec<Digest>)> = BTreeMap::new();
    for leaf in gone {
        touched.entry(bucket(*leaf)).or_default().0.push(*leaf);
    }
    for leaf in come {
        touched.entry(bucket(*leaf)).or_default().1.push(*leaf);
    }
    for (bucket, (gone, come)) in &touched {
        let mut leaves = store.leaves(*bucket)?;
        for leaf in gone {
            let at = leaves.binary_search(leaf).map_err(|_| KeptError::Absent)?;
            leaves.remove(at);
        }
        for leaf in come {
            let at = leaves.partition_point(|other| other < leaf);
            leaves.insert(at, *leaf);
        }
        store.keep_leaves(*bucket, &leaves)?;
        let digest = (!leaves.is_empty()).then(|| bucket_digest(&leaves));
        store.keep_node(0, *bucket, digest)?;
    }
    Ok(raise(store, touched.into_keys().collect())?)
}

/// Computes the nodes above the `touched` buckets anew, up to the root.
fn raise<S: ContentStore>(store: &mut S, mut touched: BTreeSet<u16>) -> Result<Digest, S::Error> {
    let mut empty = bucket_digest(&[]);
    for level in 0..LEVELS {
        touched = touched.iter().map(|at| at / 2).collect();
        for at in &touched {
            let (left, right) = (store.node(level, at * 2)?, store.node(level, at * 2 + 1)?);
            let above =
                (left.is_some() || right.is_some()).then(|| node(&left.unwrap_or(empty), &right.unwrap_or(empty)));
            store.keep_node(level + 1, *at, above)?;
        }
        empty = node(&empty, &empty);
    }
    Ok(store.node(LEVELS, 0)?.unwrap_or(empty))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;
    use crate::RecordKind;

    #[derive(Debug, Default, PartialEq)]
    struct InMemory {
        leaves: BTreeMap<u16, Vec<Digest>>,
        nodes: BTreeMap<(u8, u16), Digest>,
        /// How often a node was asked for.
        asked: usize,
    }

    impl ContentStore for InMemory {
        type Error = Infallible;

        fn leaves(&mut self, bucket: u16) -> Result<Vec<Digest>, Infallible> {
            Ok(self.leaves.get(&bucket).cloned().unwrap_or_default())
        }

        fn keep_leaves(&mut self, bucket: u16, leaves: &[Digest]) -> Result<(), Infallible> {
            if leaves.is_empty() {
                self.leaves.remove(&bucket);
            } else {
                self.leaves.insert(bucket, leaves.to_vec());
            }
            Ok(())
        }

        fn node(&mut self, level: u8, at: u16) -> Result<Option<Digest>, Infallible> {
            self.asked += 1;
            Ok(self.nodes.get(&(level, at)).copied())
        }

        fn keep_node(&mut self, level: u8, at: u16, node: Option<Digest>) -> Result<(), Infallible> {
            match node {
                Some(node) => self.nodes.insert((level, at), node),
                None => self.nodes.remove(&(level, at)),
            };
            Ok(())
        }
    }

    fn leaf(number: u32) -> Digest {
        RecordKind::User.leaf(&number.to_be_bytes())
    }

    fn content(numbers: &[u32]) -> Content {
        let mut content = Content::default();
        numbers.iter().for_each(|number| content.add(leaf(*number)));
        content
    }

    #[test]
    fn one_change_touches_the_nodes_above_two_buckets() {
        let mut store = InMemory::default();
        let all: Vec<u32> = (0..3000).collect();
        assert_eq!(content(&all).keep(&mut store), Ok(content(&all).root()));
        store.asked = 0;
        let root = update(&mut store, &[leaf(7)], &[leaf(5000)]).unwrap();
        assert!(store.asked <= 2 * 2 * 16 + 1, "{}", store.asked);
        let after: Vec<u32> = (0..3000).filter(|number| *number != 7).chain([5000]).collect();
        assert_eq!(root, content(&after).root());
        assert_eq!(update(&mut store, &[leaf(7)], &[]), Err(KeptError::Absent));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn it_is_the_root_of_what_is_left(
            before in proptest::collection::vec(0u32..40, 0..30),
            changes in proptest::collection::vec((any::<proptest::sample::Index>(), 0u32..40), 0..20),
        ) {
            let mut store = InMemory::default();
            content(&before).keep(&mut store).unwrap();
            let mut after = before;
            for (gone, come) in changes {
                let gone = (!after.is_empty() && come % 3 > 0).then(|| after.swap_remove(gone.index(after.len())));
                let come = (come % 3 < 2).then_some(come);
                after.extend(come);
                let (gone, come): (Vec<_>, Vec<_>) = (gone.map(leaf).into_iter().collect(), come.map(leaf).into_iter().collect());
                prop_assert_eq!(update(&mut store, &gone, &come), Ok(content(&after).root()));
            }
            let mut fresh = InMemory::default();
            content(&after).keep(&mut fresh).unwrap();
            prop_assert_eq!((fresh.leaves, fresh.nodes), (store.leaves, store.nodes));
        }
    }
}
