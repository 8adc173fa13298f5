//! What is to be published, as it was read last: one plaintext for each source, not signed yet.

use std::collections::BTreeSet;
use std::io::{BufReader, Read, Write};

use dirless_model::snapshot::{self, Caps, Part};
use dirless_seal::{Content, Digest, Label, RecordKind};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};

use super::book::{Book, Current, LONGEST, load, save};
use super::index::{Before, Index, Since};
use super::{SignedError, Signer, paths};

/// Bytes of a plaintext that are read at once.
const BUFFER: usize = 256 << 10;

/// What a source's plaintext is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A snapshot.
    Snapshot,
    /// The JSON of access rules.
    AccessRules,
}

impl Kind {
    /// That of `source`: access rules have a name of their own.
    #[must_use]
    pub fn of(source: &Label) -> Self {
        match source.as_str() {
            super::ACCESS_RULES => Self::AccessRules,
            _ => Self::Snapshot,
        }
    }
}

/// What is to be published of a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stocked {
    /// What it is.
    pub kind: Kind,
    /// Names what it says, whatever its number and time are.
    pub says: String,
    /// Digest of the plaintext.
    pub plaintext: String,
    /// Length of the plaintext in bytes.
    pub size: u64,
    /// Content root of its records.
    pub content: String,
    /// What changed since what was to be published before, where that is little.
    #[serde(default)]
    pub(super) since: Option<Since>,
}

/// The content root of a plaintext.
///
/// # Errors
/// When it is no snapshot, though it should be one.
pub fn content_root(kind: Kind, plaintext: impl Read) -> Result<Digest, String> {
    let mut content = Content::default();
    records(kind, plaintext, &mut |part, bytes| {
        content.add(RecordKind::from(part).leaf(bytes))
    })?;
    Ok(content.root())
}

/// Hands the bytes of each record of a plaintext to `take`.
///
/// # Errors
/// When it is no snapshot, though it should be one.
pub fn records(kind: Kind, plaintext: impl Read, take: &mut dyn FnMut(Part, &[u8])) -> Result<(), String> {
    match kind {
        Kind::Snapshot => {
            snapshot::read_records(plaintext, Caps::default(), &mut (), take).map_err(|error| error.to_string())?;
        }
        Kind::AccessRules => {
            let mut bytes = Vec::new();
            let mut plaintext = plaintext.take(LONGEST);
            plaintext.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
            take(Part::Other, &bytes);
        }
    }
    Ok(())
}

/// What was read of a plaintext.
struct Taken {
    content: Digest,
    index: Option<Vec<u8>>,
    since: Option<Since>,
}

impl Signer {
    /// Notes what is to be published of `source`; [`Signer::settle`] publishes it. `says` names what it says: while
    /// that is the same, what was noted before stays, whatever number and time the plaintext has. True when it is new.
    ///
    /// # Errors
    /// When it is no snapshot, or cannot be written.
    pub fn stock(&self, source: &Label, kind: Kind, says: &str, plaintext: &[u8]) -> Result<bool, SignedError> {
        let _lock = self.state.lock()?;
        let before = self.stocked(source)?;
        if before.as_ref().is_some_and(|before| before.says == says) {
            return Ok(false);
        }
        // The body before what names it.
        let stocked = self.keep(source, kind, says.to_owned(), plaintext, before.as_ref())?;
        save(self.state.as_ref(), &paths::stock(source), &stocked)?;
        Ok(true)
    }

    /// Keeps a plaintext of `source`, until it is swept away as one that nothing names. It is read only where it says
    /// something else than `before`.
    ///
    /// # Errors
    /// When it is no snapshot, though it should be one, or cannot be written.
    pub(super) fn keep(
        &self,
        source: &Label,
        kind: Kind,
        says: String,
        plaintext: &[u8],
        before: Option<&Stocked>,
    ) -> Result<Stocked, SignedError> {
        let digest = Digest::of(plaintext).to_string();
        let (body, read) = std::thread::scope(|scope| {
            // Compressing takes as long as everything else together.
            let body = scope.spawn(|| compressed(plaintext, Compression::fast()));
            let read = self.read(kind, plaintext, before);
            let body = body.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            (body, read)
        });
        let read = read?.map_err(|reason| SignedError::Unreadable {
            source_name: source.clone(),
            reason,
        })?;
        let mut files = vec![(paths::body(&digest), body?)];
        files.extend(read.index.map(|index| (paths::index(&digest), index)));
        self.state.create(&files)?;
        Ok(Stocked {
            kind,
            says,
            plaintext: digest,
            size: plaintext.len() as u64,
            content: read.content.to_string(),
            since: read.since,
        })
    }

    fn read(
        &self,
        kind: Kind,
        plaintext: &[u8],
        before: Option<&Stocked>,
    ) -> Result<Result<Taken, String>, SignedError> {
        if kind != Kind::Snapshot {
            return Ok(content_root(kind, plaintext).map(|content| Taken {
                content,
                index: None,
                since: None,
            }));
        }
        let mut known = None;
        if let Some(before) = before.filter(|before| before.kind == kind)
            && let Some(index) = self.state.get(&paths::index(&before.plaintext), u64::MAX - 1)?
            && let Some(index) = Index::decode(&index)
            && let Some(body) = self.plaintext_of(&before.plaintext)?
        {
            known = Some((before.plaintext.clone(), index, body));
        }
        let (known, body) = known.map(|(digest, index, body)| ((digest, index), body)).unzip();
        let mut text = BufReader::with_capacity(BUFFER, self::plaintext(body.as_deref().unwrap_or_default()));
        let before = known.map(|(digest, index)| Before {
            digest,
            index,
            text: &mut text,
        });
        Ok(Index::read(plaintext, before).map(|(index, since)| Taken {
            content: index.content(),
            index: index.encode(),
            since,
        }))
    }

    /// What is to be published of `source`.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn stocked(&self, source: &Label) -> Result<Option<Stocked>, SignedError> {
        load(self.state.as_ref(), &paths::stock(source))
    }

    /// The plaintext that is to be published of `source`, when it is text.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn stocked_text(&self, source: &Label) -> Result<Option<String>, SignedError> {
        let Some(stocked) = self.stocked(source)? else {
            return Ok(None);
        };
        let mut text = String::new();
        plaintext(&self.body(&stocked)?).read_to_string(&mut text)?;
        Ok(Some(text))
    }

    /// Everything that is to be published.
    pub(super) fn all_stocked(&self) -> Result<Vec<(Label, Stocked)>, SignedError> {
        let mut all = Vec::new();
        for name in self.state.list(paths::STOCK)? {
            let source = name.strip_suffix(".json").and_then(|name| name.parse::<Label>().ok());
            let Some(source) = source else { continue };
            if let Some(stocked) = self.stocked(&source)? {
                all.push((source, stocked));
            }
        }
        Ok(all)
    }

    /// Publishes nothing of `source` any more, from the next head on: hosts drop what they have of it. False when
    /// there is no such source.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub fn withdraw(&self, source: &Label) -> Result<bool, SignedError> {
        let _lock = self.state.lock()?;
        let mut book = self.book()?;
        let pairs: Vec<_> = book.published().map(|(pair, _)| pair).collect();
        let own: Vec<_> = pairs.into_iter().filter(|(name, _)| name == source).collect();
        let known = !own.is_empty() || self.stocked(source)?.is_some();
        self.state.remove(&paths::stock(source))?;
        let now = self.now();
        for pair in &own {
            book.drop_pair(self.publisher(), pair, now);
        }
        // The next head must be another one at once.
        book.signed_at = None;
        book.save(self.state.as_ref(), self.publisher())?;
        Ok(known)
    }

    /// The compressed plaintext of `stocked`.
    pub(super) fn body(&self, stocked: &Stocked) -> Result<Vec<u8>, SignedError> {
        let body = self.plaintext_of(&stocked.plaintext)?;
        body.ok_or_else(|| SignedError::damaged(paths::body(&stocked.plaintext), "it is missing"))
    }

    /// The compressed plaintext with this digest, if it is still here.
    pub(super) fn plaintext_of(&self, digest: &str) -> Result<Option<Vec<u8>>, SignedError> {
        if digest.is_empty() {
            return Ok(None);
        }
        Ok(self.state.get(&paths::body(digest), u64::MAX - 1)?)
    }

    /// What is published of `source`, as if it were to be published again; none when it is not known here.
    pub(super) fn as_published(&self, source: &Label, current: &Current) -> Result<Option<Stocked>, SignedError> {
        let Some(body) = self.plaintext_of(&current.plaintext)? else {
            return Ok(None);
        };
        let kind = Kind::of(source);
        let content = content_root(kind, plaintext(&body)).map_err(|reason| SignedError::Unreadable {
            source_name: source.clone(),
            reason,
        })?;
        Ok(Some(Stocked {
            kind,
            says: String::new(),
            plaintext: current.plaintext.clone(),
            size: std::io::copy(&mut plaintext(&body), &mut std::io::sink())?,
            content: content.to_string(),
            since: None,
        }))
    }

    /// Removes plaintexts that nothing names any more: what is published is what the next change is compared with.
    pub(super) fn sweep_bodies(&self, stocked: &[(Label, Stocked)], book: &Book) -> Result<(), SignedError> {
        let published: BTreeSet<&str> = book
            .published()
            .map(|(_, current)| current.plaintext.as_str())
            .collect();
        for name in self.state.list(paths::BODIES)? {
            let digest = name.split('.').next().unwrap_or_default();
            if !published.contains(digest) && !stocked.iter().any(|(_, stocked)| stocked.plaintext == digest) {
                self.state.remove(&format!("{}/{name}", paths::BODIES))?;
            }
        }
        Ok(())
    }
}

/// The body of a plaintext.
fn compressed(plaintext: &[u8], level: Compression) -> std::io::Result<Vec<u8>> {
    let mut compressed = GzEncoder::new(Vec::new(), level);
    compressed.write_all(plaintext)?;
    compressed.finish()
}

/// The body again as hosts get it, which is worth more time than what is kept here.
pub(super) fn packed(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    std::io::copy(&mut plaintext(body), &mut packed)?;
    packed.finish()
}

/// The plaintext in `body`.
pub(super) fn plaintext(body: &[u8]) -> impl Read + '_ {
    GzDecoder::new(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The one of docs/protocol.md.
    const SNAPSHOT: &str = r#"{"sequence":7,"groups":[{"name":"eng","gid":2002,"members":["alice"]}],"users":[{"username":"alice","uid":2001,"gid":2002,"gecos":"Alice","home":"/home/alice","shell":"/bin/sh"}],"ssh_keys":{"alice":"ssh-ed25519 AAAA"},"ledger":{"retired":[{"kind":"user","id":"u-0","number":2000}]}}"#;
    const ROOT: &str = "64b63a8f44ae5e231e55edd6e3a187283950425ed26efb6dc773de78431ace60";

    #[test]
    fn the_published_root_of_a_snapshot_holds() {
        let root = content_root(Kind::Snapshot, SNAPSHOT.as_bytes()).unwrap();
        assert_eq!(root.to_string(), ROOT);
    }

    #[test]
    fn the_root_is_of_records_and_not_of_their_order() {
        let root = |text: &str| content_root(Kind::Snapshot, text.as_bytes()).unwrap();
        let plain = root(r#"{"users":[{"a":1},{"b":2}],"groups":[]}"#);
        assert_eq!(plain, root(r#"{ "groups":[ ], "users": [{"b":2} , {"a":1}]}"#));
        assert_ne!(plain, root(r#"{"users":[{"a":1}],"groups":[{"b":2}]}"#));
        assert_ne!(plain, root(r#"{"users":[{"a":1},{"b": 2}],"groups":[]}"#));
        assert!(content_root(Kind::Snapshot, b"[]".as_slice()).is_err());
    }

    #[test]
    fn access_rules_are_one_record() {
        let root = content_root(Kind::AccessRules, b"{\"x\": 1}".as_slice()).unwrap();
        let mut content = Content::default();
        content.add(RecordKind::Other.leaf(b"{\"x\": 1}"));
        assert_eq!(root, content.root());
    }
}
