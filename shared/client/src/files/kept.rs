//! Heads that were fetched, by their tags: the one kind of file that is asked for again and again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use dirless_wire::ETag;

/// Most heads: a policy names at most 32 publishers.
const MOST: usize = 64;

/// In memory only, so that the first walk of a process asks for everything.
#[derive(Clone, Debug, Default)]
pub(super) struct KeptHeads(Arc<Mutex<HashMap<String, (ETag, Bytes)>>>);

impl KeptHeads {
    /// The tag to ask with; none for what is no head.
    pub(super) fn tag(&self, path: &str) -> Option<ETag> {
        self.heads().get(path).map(|(tag, _)| tag.clone())
    }

    /// The bytes under that tag.
    pub(super) fn bytes(&self, path: &str) -> Option<Bytes> {
        self.heads().get(path).map(|(_, bytes)| bytes.clone())
    }

    /// Keeps `bytes`, if they are a head's and have a tag.
    pub(super) fn keep(&self, path: &str, tag: Option<ETag>, bytes: &Bytes) {
        let mut heads = self.heads();
        match tag {
            Some(tag) if path.starts_with("head/") => {
                if heads.len() >= MOST && !heads.contains_key(path) {
                    heads.clear();
                }
                heads.insert(path.to_owned(), (tag, bytes.clone()));
            }
            _ => {
                heads.remove(path);
            }
        }
    }

    fn heads(&self) -> MutexGuard<'_, HashMap<String, (ETag, Bytes)>> {
        // Nothing panics while holding it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_alone_are_kept_and_not_without_end() {
        let kept = KeptHeads::default();
        let tag = ETag::strong("1").unwrap();
        let bytes = Bytes::from_static(b"note");
        kept.keep("policy/1", Some(tag.clone()), &bytes);
        assert_eq!(kept.tag("policy/1"), None);
        for number in 0..1000 {
            kept.keep(&format!("head/p{number}"), Some(tag.clone()), &bytes);
        }
        assert!(kept.heads().len() <= MOST);
        assert_eq!(kept.bytes("head/p999"), Some(bytes.clone()));
        kept.keep("head/p999", None, &bytes);
        assert_eq!(kept.tag("head/p999"), None);
    }
}
