//! The records of a host and their content root. What all hosts have alike is there once, what changed since in each.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use dirless_model::snapshot::record_key;
use dirless_publish::{Kind, records};
use dirless_seal::trust::Manifest;
use dirless_seal::trust::log::{Changes, Records};
use dirless_seal::{Content, ContentStore, Digest, Identity, Limits, RecordKind, open_file, update_content};

/// Records, or what follows from them, are not what was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Odd {
    /// The content root is another one.
    Content,
    /// A record of the log or of the base cannot be taken.
    Record,
}

type Key = (RecordKind, Vec<u8>);

/// A snapshot with its content root.
#[derive(Debug, Default)]
pub(super) struct Base {
    records: BTreeMap<Key, Vec<u8>>,
    users: u64,
    leaves: BTreeMap<u16, Vec<Digest>>,
    nodes: BTreeMap<(u8, u16), Digest>,
    root: Option<Digest>,
}

impl ContentStore for Base {
    type Error = Infallible;

    fn leaves(&mut self, bucket: u16) -> Result<Vec<Digest>, Infallible> {
        Ok(self.leaves.get(&bucket).cloned().unwrap_or_default())
    }

    fn keep_leaves(&mut self, bucket: u16, leaves: &[Digest]) -> Result<(), Infallible> {
        self.leaves.insert(bucket, leaves.to_vec());
        Ok(())
    }

    fn node(&mut self, level: u8, at: u16) -> Result<Option<Digest>, Infallible> {
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

impl Base {
    /// Opens a body and proves what is in it.
    fn open(manifest: &Manifest, sealed: &[u8], identity: &Identity) -> Result<Self, Odd> {
        let plaintext = open_file(identity, sealed, Limits::default()).map_err(|_| Odd::Record)?;
        let (mut base, mut content, mut whole) = (Self::default(), Content::default(), true);
        let read = records(Kind::of(&manifest.source), plaintext, &mut |part, bytes| {
            let kind = RecordKind::from(part);
            content.add(kind.leaf(bytes));
            base.users += u64::from(kind == RecordKind::User);
            match record_key(part, bytes) {
                Some(key) => drop(base.records.insert((kind, key.into_owned()), bytes.to_vec())),
                None => whole = false,
            }
        });
        if read.is_err() || !whole {
            return Err(Odd::Record);
        }
        let Ok(root) = content.keep(&mut base);
        base.root = Some(root);
        if root == manifest.content {
            Ok(base)
        } else {
            Err(Odd::Content)
        }
    }
}

/// The bases that hosts of this process have. Whoever has fetched the same bytes and has the same key is given the same
/// one: opening them once more would give it again.
#[derive(Debug, Default)]
pub(super) struct Bases(Mutex<BTreeMap<String, Arc<Base>>>);

impl Bases {
    /// What is in `sealed`, whose digest is the one of `manifest`.
    pub(super) fn open(&self, manifest: &Manifest, sealed: &[u8], identity: &Identity) -> Result<Arc<Base>, Odd> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name = format!("{} {} {}", manifest.ciphertext, manifest.content, identity.recipient());
        if let Some(base) = known.get(&name) {
            return Ok(Arc::clone(base));
        }
        let base = Arc::new(Base::open(manifest, sealed, identity)?);
        known.retain(|_, base| Arc::strong_count(base) > 1);
        known.insert(name, Arc::clone(&base));
        Ok(base)
    }
}

/// A base, and what changed since.
#[derive(Debug)]
pub(super) struct Copy {
    base: Arc<Base>,
    root: Digest,
    records: BTreeMap<Key, Option<Vec<u8>>>,
    leaves: BTreeMap<u16, Vec<Digest>>,
    nodes: BTreeMap<(u8, u16), Option<Digest>>,
}

impl Records for Copy {
    type Error = Infallible;

    fn get(&mut self, kind: RecordKind, key: &[u8]) -> Result<Option<Vec<u8>>, Infallible> {
        let key = (kind, key.to_vec());
        let changed = self.records.get(&key).cloned();
        Ok(changed.unwrap_or_else(|| self.base.records.get(&key).cloned()))
    }

    fn put(&mut self, kind: RecordKind, key: &[u8], bytes: Vec<u8>) -> Result<(), Infallible> {
        self.records.insert((kind, key.to_vec()), Some(bytes));
        Ok(())
    }

    fn remove(&mut self, kind: RecordKind, key: &[u8]) -> Result<bool, Infallible> {
        let there = Records::get(self, kind, key)?.is_some();
        self.records.insert((kind, key.to_vec()), None);
        Ok(there)
    }
}

impl ContentStore for Copy {
    type Error = Infallible;

    fn leaves(&mut self, bucket: u16) -> Result<Vec<Digest>, Infallible> {
        let changed = self.leaves.get(&bucket).or_else(|| self.base.leaves.get(&bucket));
        Ok(changed.cloned().unwrap_or_default())
    }

    fn keep_leaves(&mut self, bucket: u16, leaves: &[Digest]) -> Result<(), Infallible> {
        self.leaves.insert(bucket, leaves.to_vec());
        Ok(())
    }

    fn node(&mut self, level: u8, at: u16) -> Result<Option<Digest>, Infallible> {
        let changed = self.nodes.get(&(level, at)).copied();
        Ok(changed.unwrap_or_else(|| self.base.nodes.get(&(level, at)).copied()))
    }

    fn keep_node(&mut self, level: u8, at: u16, node: Option<Digest>) -> Result<(), Infallible> {
        self.nodes.insert((level, at), node);
        Ok(())
    }
}

impl Copy {
    pub(super) fn of(base: Arc<Base>) -> Self {
        Self {
            root: base.root.unwrap_or_else(|| Content::default().root()),
            base,
            records: BTreeMap::new(),
            leaves: BTreeMap::new(),
            nodes: BTreeMap::new(),
        }
    }

    /// The content root.
    pub(super) fn root(&self) -> Digest {
        self.root
    }

    /// Users that were in the base.
    pub(super) fn users(&self) -> u64 {
        self.base.users
    }

    /// Applies `changes`, and proves that they lead to what they say.
    pub(super) fn follow(&mut self, changes: &Changes) -> Result<(), Odd> {
        let all: Vec<&Key> = changes.changes.keys().collect();
        let gone = self.leaves_of(&all);
        changes.apply(self).map_err(|_| Odd::Record)?;
        let come = self.leaves_of(&all);
        let root = update_content(self, &gone, &come).map_err(|_| Odd::Content)?;
        if root != changes.content {
            return Err(Odd::Content);
        }
        self.root = root;
        Ok(())
    }

    fn leaves_of(&mut self, keys: &[&Key]) -> Vec<Digest> {
        let mut leaves = Vec::with_capacity(keys.len());
        for (kind, key) in keys {
            let Ok(bytes) = Records::get(self, *kind, key);
            leaves.extend(bytes.map(|bytes| kind.leaf(&bytes)));
        }
        leaves
    }
}

#[cfg(test)]
mod tests {
    use dirless_seal::trust::log::diff;

    use super::*;

    fn user(name: &str, gecos: &str) -> (Key, Vec<u8>) {
        let bytes = format!(r#"{{"username":"{name}","uid":10001,"gid":10001,"gecos":"{gecos}"}}"#).into_bytes();
        ((RecordKind::User, name.as_bytes().to_vec()), bytes)
    }

    fn content(records: &BTreeMap<Key, Vec<u8>>) -> Content {
        let mut content = Content::default();
        for ((kind, _), bytes) in records {
            content.add(kind.leaf(bytes));
        }
        content
    }

    fn base(records: BTreeMap<Key, Vec<u8>>) -> Arc<Base> {
        let mut base = Base {
            users: records.len() as u64,
            ..Base::default()
        };
        let Ok(root) = content(&records).keep(&mut base);
        (base.records, base.root) = (records, Some(root));
        Arc::new(base)
    }

    #[test]
    fn what_changes_is_proved_and_leaves_the_base_to_the_others() {
        let first: BTreeMap<_, _> = [user("alice", "A"), user("bob", "B")].into();
        let second: BTreeMap<_, _> = [user("alice", "Another"), user("carol", "C")].into();
        let base = base(first.clone());
        let (mut one, two) = (Copy::of(Arc::clone(&base)), Copy::of(base));
        let changes = diff(&first, &second, content(&second).root()).unwrap();
        one.follow(&changes).unwrap();
        assert_eq!(one.root(), content(&second).root());
        assert_eq!((two.root(), two.users()), (content(&first).root(), 2));
        let back = diff(&second, &first, content(&first).root()).unwrap();
        one.follow(&back).unwrap();
        assert_eq!(one.root(), content(&first).root());
    }

    #[test]
    fn what_leads_elsewhere_is_refused() {
        let first: BTreeMap<_, _> = [user("alice", "A")].into();
        let second: BTreeMap<_, _> = [user("alice", "B")].into();
        let mut changes = diff(&first, &second, content(&second).root()).unwrap();
        changes.content = Digest::of(b"another");
        assert_eq!(Copy::of(base(first)).follow(&changes), Err(Odd::Content));
        let other: BTreeMap<_, _> = [user("bob", "B")].into();
        assert_eq!(Copy::of(base(other)).follow(&changes), Err(Odd::Record));
    }
}
