//! What a hostile backend makes up, with no keys but its own and those that were stolen.

use std::io::Write;

use anyhow::Context;
use dirless_seal::trust::log::{Chain, Change, Changes, LogFile, LogKey, Place, TILE, tile};
use dirless_seal::trust::{Entry, Head, Manifest, Object, parse, print};
use dirless_seal::{Content, Digest, Identity, Label, Note, Recipient, RecordKind, SigningKey, seal_file};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::liar::Liar;

/// Reads a note's object.
///
/// # Errors
/// When it is none.
pub fn object<T: Object>(bytes: &[u8]) -> anyhow::Result<T> {
    Ok(parse(&Note::parse(bytes, T::MOST)?)?)
}

/// The note of `object`, signed by `key`.
///
/// # Errors
/// When it cannot be written.
pub fn signed<T: Object>(object: &T, key: &SigningKey) -> anyhow::Result<Vec<u8>> {
    Ok(Note::sign(print(object)?, &[key])?.to_string().into_bytes())
}

/// The same text under another signature.
///
/// # Errors
/// When it is no note.
pub fn signed_again(note: &[u8], key: &SigningKey) -> anyhow::Result<Vec<u8>> {
    let text = Note::parse(note, 1 << 20)?.text().to_owned();
    Ok(Note::sign(text, &[key])?.to_string().into_bytes())
}

/// A key of nobody, under somebody's name.
///
/// # Errors
/// When the system gives no random bytes.
pub fn stranger(name: &str) -> anyhow::Result<SigningKey> {
    SigningKey::generate(label(name)?)
        .ok()
        .context("the system gives no random bytes")
}

/// A label.
///
/// # Errors
/// When it is none.
pub fn label(text: &str) -> anyhow::Result<Label> {
    Ok(text.parse()?)
}

/// A snapshot, with the content root that belongs to it.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// As it is sealed.
    pub plaintext: Vec<u8>,
    /// Of its records.
    pub content: Digest,
}

/// A snapshot of these users.
#[must_use]
pub fn users(of: &[(&str, u32)]) -> Snapshot {
    let records: Vec<String> = of.iter().map(|(name, uid)| user(name, *uid)).collect();
    Snapshot {
        plaintext: format!(r#"{{"users":[{}]}}"#, records.join(",")).into_bytes(),
        content: root(&records, &[]),
    }
}

/// The same, that says to be of this source.
#[must_use]
pub fn users_of(source: &str, of: &[(&str, u32)]) -> Snapshot {
    let records: Vec<String> = of.iter().map(|(name, uid)| user(name, *uid)).collect();
    let member = format!(r#""source":"{source}""#);
    Snapshot {
        plaintext: format!(r#"{{{member},"users":[{}]}}"#, records.join(",")).into_bytes(),
        content: root(&records, &[member]),
    }
}

fn user(name: &str, uid: u32) -> String {
    format!(r#"{{"username":"{name}","uid":{uid},"gid":{uid},"gecos":"","home":"/home/{name}","shell":"/bin/sh"}}"#)
}

fn root(users: &[String], others: &[String]) -> Digest {
    let mut content = Content::default();
    for (kind, records) in [(RecordKind::User, users), (RecordKind::Other, others)] {
        for record in records {
            content.add(kind.leaf(record.as_bytes()));
        }
    }
    content.root()
}

/// What a record of a log says that does this to the user `name`, and leads to `content`.
#[must_use]
pub fn changed(name: &str, change: Change, content: Digest) -> Changes {
    let place = (RecordKind::User, name.as_bytes().to_vec());
    Changes {
        content,
        changes: [(place, change)].into(),
    }
}

/// That this user is there now.
#[must_use]
pub fn put(name: &str, uid: u32) -> Change {
    Change::Put(user(name, uid).into_bytes())
}

/// Seals it as a syncer does, but to whom it likes.
///
/// # Errors
/// When it cannot be sealed.
pub fn sealed(plaintext: &[u8], to: &Recipient) -> anyhow::Result<Vec<u8>> {
    let mut sealed = Vec::new();
    seal_file(&[to], &mut sealed, |out| out.write_all(plaintext))?;
    Ok(sealed)
}

/// A true age file of exactly this many bytes.
///
/// # Errors
/// When none comes out.
pub fn sealed_to_size(size: usize, to: &Recipient) -> anyhow::Result<Vec<u8>> {
    let mut plaintext = size.saturating_sub(400);
    for _ in 0..10_000 {
        // The header has a random part.
        let file = sealed(&vec![b' '; plaintext], to)?;
        if file.len() == size {
            return Ok(file);
        }
        plaintext = (plaintext + size).saturating_sub(file.len());
    }
    anyhow::bail!("no file of {size} bytes came out")
}

/// A gigabyte of blanks in a few kilobytes: gzip members follow each other.
///
/// # Errors
/// When it cannot be compressed.
pub fn bomb() -> anyhow::Result<Vec<u8>> {
    let mut member = GzEncoder::new(Vec::new(), Compression::best());
    member.write_all(&vec![b' '; 4 << 20])?;
    Ok(member.finish()?.repeat(256))
}

/// An age file with this many recipients in its header. None of them is anybody.
#[must_use]
pub fn crowded(recipients: usize) -> Vec<u8> {
    let key = "U3dpbmcgbG93LCBzd2VldCBjaGFyaW90LCBjb21pbicg";
    let stanza = format!(
        "-> X25519 {}\n{}\n",
        key.get(..43).unwrap_or(key),
        key.get(..43).unwrap_or(key)
    );
    let mut file = String::from("age-encryption.org/v1\n");
    file.push_str(&stanza.repeat(recipients));
    file.push_str("--- ");
    file.push_str(key.get(..43).unwrap_or(key));
    file.push('\n');
    let mut bytes = file.into_bytes();
    bytes.extend([7; 64]);
    bytes
}

/// The next thing a publisher might say.
#[derive(Clone, Debug)]
pub struct Forgery {
    /// What is said about the body.
    pub manifest: Manifest,
    /// The sealed body.
    pub body: Vec<u8>,
    /// What is current then.
    pub head: Head,
}

impl Forgery {
    /// What follows on these notes: this snapshot, truly sealed.
    ///
    /// # Errors
    /// When they are none, or it cannot be sealed.
    pub fn after(manifest: &[u8], head: &[u8], snapshot: &Snapshot) -> anyhow::Result<Self> {
        let before: Manifest = object(manifest)?;
        let previous = Note::parse(manifest, Manifest::MOST)?.digest();
        let head: Head = object(head)?;
        let body = sealed(&snapshot.plaintext, &before.recipient)?;
        Ok(Self {
            manifest: Manifest {
                version: before.version + 1,
                previous: Some(previous),
                ciphertext: Digest::of(&body),
                ciphertext_size: body.len() as u64,
                plaintext_size: snapshot.plaintext.len() as u64,
                content: snapshot.content,
                ..before
            },
            body,
            head: Head {
                version: head.version + 1,
                ..head
            },
        })
    }

    /// With this for a body, under the digest that it has.
    #[must_use]
    pub fn with_body(mut self, body: Vec<u8>) -> Self {
        self.manifest.ciphertext = Digest::of(&body);
        self.manifest.ciphertext_size = body.len() as u64;
        self.body = body;
        self
    }

    /// All of it as files, signed by `key`: path and bytes, the head last.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn files(&self, key: &SigningKey) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
        let manifest = &self.manifest;
        let note = Note::sign(print(manifest)?, &[key])?;
        let mut head = self.head.clone();
        name(&mut head, &Place::of(manifest, note.digest()), Chain::of(note.digest()));
        let path = format!(
            "manifest/{}/{}/{}/{}",
            manifest.publisher, manifest.source, manifest.compartment, manifest.version
        );
        Ok(vec![
            (format!("blob/{}", manifest.ciphertext), self.body.clone()),
            (path, note.to_string().into_bytes()),
            (format!("head/{}", head.publisher), signed(&head, key)?),
        ])
    }

    /// Serves it, signed by `key`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn tell(&self, liar: &Liar, key: &SigningKey) -> anyhow::Result<()> {
        for (path, bytes) in self.files(key)? {
            liar.put(&path, bytes);
        }
        Ok(())
    }
}

/// Has `head` name this base with its log as far as `chain`, in place of what it named of that source.
fn name(head: &mut Head, base: &Place, chain: Chain) {
    head.entries
        .retain(|entry| (&entry.source, &entry.compartment) != (&base.source, &base.compartment));
    head.entries.push(Entry {
        source: base.source.clone(),
        compartment: base.compartment.clone(),
        version: base.version,
        chain,
    });
    head.entries
        .sort_by(|left, right| (&left.source, &left.compartment).cmp(&(&right.source, &right.compartment)));
}

/// The log beside a manifest, read and written on by whoever has the key of its epoch.
#[derive(Debug)]
pub struct Log {
    place: Place,
    key: LogKey,
    /// Its sealed records.
    pub records: Vec<Vec<u8>>,
}

impl Log {
    /// That of the manifest in this note, with no record yet.
    ///
    /// # Errors
    /// When it is no manifest.
    pub fn beside(manifest: &[u8], epoch: &Identity) -> anyhow::Result<Self> {
        let note = Note::parse(manifest, Manifest::MOST)?;
        let place = Place::of(&parse(&note)?, note.digest());
        Ok(Self {
            key: LogKey::new(epoch, &place),
            place,
            records: Vec::new(),
        })
    }

    /// Path of one of its files.
    #[must_use]
    pub fn path(&self, file: LogFile) -> String {
        self.place.path(file)
    }

    /// What its last record says.
    ///
    /// # Errors
    /// When there is none, or it does not open.
    pub fn last(&self) -> anyhow::Result<Changes> {
        let (number, sealed) = (0..).zip(&self.records).last().context("the log is empty")?;
        Ok(self.key.open(number, sealed)?)
    }

    /// Adds a record.
    ///
    /// # Errors
    /// When it cannot be sealed.
    pub fn add(&mut self, changes: &Changes) -> anyhow::Result<()> {
        let sealed = self.key.seal(self.records.len() as u64, changes)?;
        self.records.push(sealed);
        Ok(())
    }

    /// Serves all of it, and the head after `head`, which names it so far; signed by `key`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn tell(&self, liar: &Liar, head: &[u8], key: &SigningKey) -> anyhow::Result<()> {
        let mut chain = Chain::of(self.place.manifest);
        for (number, record) in (0..).zip(&self.records) {
            chain = chain.then(record);
            liar.put(&self.path(LogFile::Record(number)), record.clone());
        }
        for (number, records) in (0..).zip(self.records.chunks_exact(usize::try_from(TILE)?)) {
            liar.put(
                &self.path(LogFile::Tile(number)),
                tile(records.iter().map(Vec::as_slice)),
            );
        }
        let mut head: Head = object(head)?;
        head.version += 1;
        name(&mut head, &self.place, chain);
        liar.put(&format!("head/{}", head.publisher), signed(&head, key)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use dirless_seal::{Limits, open_file};

    use super::*;

    #[test]
    fn what_is_made_is_what_it_pretends_to_be() {
        let identity = Identity::generate();
        let file = sealed_to_size(1000, &identity.recipient()).unwrap();
        assert_eq!(file.len(), 1000);
        let open = |file: &[u8]| open_file(&identity, file, Limits::default()).map(drop);
        open(&file).unwrap();
        assert!(open(&crowded(100)).unwrap_err().to_string().contains("another key"));
        assert!(open(&crowded(1000)).unwrap_err().to_string().contains("limit"));
        assert!(bomb().unwrap().len() < 2 << 20);
    }
}
