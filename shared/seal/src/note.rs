//! Signed notes (<https://c2sp.org/signed-note>): a text and the signatures under it, readable by people and
//! by any other program for that format.

use std::collections::BTreeSet;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::signing::KeyHash;
use crate::{Digest, SigningKey, VerifyingKey};

/// What each signature line begins with: an em dash and a space.
const DASH: &str = "\u{2014} ";
/// Most signatures that are looked at.
const MOST_SIGNATURES: usize = 64;

/// Why bytes are no signed note.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// It is longer than the reader allows.
    #[error("it is longer than the {0} bytes allowed")]
    TooLong(usize),
    /// It is no UTF-8, or has control characters other than newline.
    #[error("it holds bytes that no signed note may hold")]
    Characters,
    /// There is no blank line with signatures after the text.
    #[error("it has no signatures: text, blank line and signature lines are expected")]
    Unsigned,
    /// A line after the text is no signature.
    #[error("a line under the text is no signature")]
    Signature,
    /// There are more signatures than anybody needs.
    #[error("it has more than {MOST_SIGNATURES} signatures")]
    TooMany,
}

#[derive(Clone, PartialEq, Eq)]
struct Signature {
    name: String,
    hash: KeyHash,
    bytes: Vec<u8>,
}

/// A text with signatures. Parsing says nothing about whether any of them holds: [`Note::signers`] does.
#[derive(Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<Signature>,
}

impl Note {
    /// Signs `text`, whose last byte must be a newline.
    ///
    /// # Errors
    /// When the text is none that a note may hold.
    pub fn sign(text: String, keys: &[&SigningKey]) -> Result<Self, NoteError> {
        check_text(&text)?;
        let mut note = Self {
            text,
            signatures: Vec::new(),
        };
        for key in keys {
            note.add(key);
        }
        Ok(note)
    }

    /// Adds the signature of `key`, in place of one that it already has.
    pub fn add(&mut self, key: &SigningKey) {
        let verifying = key.verifying();
        let (name, hash) = (verifying.name().as_str(), verifying.hash());
        self.signatures.retain(|other| other.name != name || other.hash != hash);
        self.signatures.push(Signature {
            name: name.to_owned(),
            hash,
            bytes: key.sign(self.text.as_bytes()),
        });
    }

    /// Reads a note of at most `most` bytes.
    ///
    /// # Errors
    /// When the bytes are none.
    pub fn parse(bytes: &[u8], most: usize) -> Result<Self, NoteError> {
        if bytes.len() > most {
            return Err(NoteError::TooLong(most));
        }
        let whole = std::str::from_utf8(bytes).map_err(|_| NoteError::Characters)?;
        // The text may hold blank lines; the last one ends it.
        let end = whole.rfind("\n\n").ok_or(NoteError::Unsigned)?;
        let (text, below) = whole.split_at(end + 1);
        check_text(text)?;
        let lines = below
            .strip_prefix('\n')
            .and_then(|lines| lines.strip_suffix('\n'))
            .ok_or(NoteError::Unsigned)?;
        let mut signatures = Vec::new();
        for line in lines.split('\n') {
            if signatures.len() == MOST_SIGNATURES {
                return Err(NoteError::TooMany);
            }
            signatures.push(signature(line).ok_or(NoteError::Signature)?);
        }
        Ok(Self {
            text: text.to_owned(),
            signatures,
        })
    }

    /// The text, with its last newline.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The digest of the text alone: what other objects name this one by, whoever else signs it later.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self.text.as_bytes())
    }

    /// Which of `keys` signed the text. Each counts once, however often it signed; signatures of others and
    /// broken ones are passed over.
    #[must_use]
    pub fn signers<'k>(&self, keys: impl IntoIterator<Item = &'k VerifyingKey>) -> BTreeSet<&'k VerifyingKey> {
        keys.into_iter()
            .filter(|key| {
                let hash = key.hash();
                self.signatures.iter().any(|signature| {
                    signature.hash == hash
                        && signature.name == key.name().as_str()
                        && key.verifies(self.text.as_bytes(), &signature.bytes)
                })
            })
            .collect()
    }

    /// Is there a line in the name of `known` that none of these keys can have signed? It says nothing but that somebody may
    /// have another key of that name: anybody can add such a line.
    #[must_use]
    pub fn names_another<'k>(&self, known: impl IntoIterator<Item = &'k VerifyingKey>) -> bool {
        let known: BTreeSet<(&str, KeyHash)> = known.into_iter().map(|key| (key.name().as_str(), key.hash())).collect();
        let names: BTreeSet<&str> = known.iter().map(|(name, _)| *name).collect();
        self.signatures.iter().any(|signature| {
            let name = signature.name.as_str();
            names.contains(name) && !known.contains(&(name, signature.hash))
        })
    }

    /// Did `key` sign the text?
    #[must_use]
    pub fn is_signed_by(&self, key: &VerifyingKey) -> bool {
        !self.signers([key]).is_empty()
    }
}

fn check_text(text: &str) -> Result<(), NoteError> {
    if !text.ends_with('\n') || text.len() < 2 {
        return Err(NoteError::Unsigned);
    }
    if text
        .chars()
        .any(|character| character.is_control() && character != '\n')
    {
        return Err(NoteError::Characters);
    }
    Ok(())
}

/// `— NAME BASE64`: four bytes of key hash and the signature.
fn signature(line: &str) -> Option<Signature> {
    let (name, encoded) = line.strip_prefix(DASH)?.split_once(' ')?;
    if name.is_empty()
        || name.contains(|character: char| character == '+' || character.is_whitespace() || character.is_control())
    {
        return None;
    }
    let decoded = STANDARD.decode(encoded).ok()?;
    let (hash, bytes) = decoded.split_first_chunk::<4>()?;
    (!bytes.is_empty()).then(|| Signature {
        name: name.to_owned(),
        hash: KeyHash(*hash),
        bytes: bytes.to_vec(),
    })
}

impl fmt::Display for Note {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}", self.text)?;
        for signature in &self.signatures {
            let mut bytes = signature.hash.0.to_vec();
            bytes.extend(&signature.bytes);
            writeln!(formatter, "{DASH}{} {}", signature.name, STANDARD.encode(bytes))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Note {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.text.lines().next().unwrap_or_default();
        write!(formatter, "Note({first}, {} signatures)", self.signatures.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(name: &str) -> SigningKey {
        SigningKey::generate(name.parse().unwrap()).unwrap()
    }

    #[test]
    fn a_note_survives_its_text_and_names_its_signers() {
        let (first, second, other) = (key("root-1"), key("root-2"), key("root-1"));
        let note = Note::sign("one\n\ntwo\n".to_owned(), &[&first, &second]).unwrap();
        let read = Note::parse(note.to_string().as_bytes(), 1000).unwrap();
        assert_eq!(read, note);
        assert_eq!(read.text(), "one\n\ntwo\n");
        let keys = [
            first.verifying().clone(),
            second.verifying().clone(),
            other.verifying().clone(),
        ];
        let signers = read.signers(&keys);
        assert_eq!(signers.len(), 2);
        assert!(!signers.contains(other.verifying()), "a name is no key");
    }

    #[test]
    fn one_key_counts_once_however_often_it_signs() {
        let (first, second) = (key("a"), key("b"));
        let mut note = Note::sign("x\n".to_owned(), &[&first]).unwrap();
        note.add(&first);
        let line = note.to_string().lines().last().unwrap().to_owned();
        let twice = format!("{note}{line}\n");
        let note = Note::parse(twice.as_bytes(), 1000).unwrap();
        assert_eq!(
            note.signers([first.verifying(), first.verifying(), second.verifying()])
                .len(),
            1
        );
    }

    #[test]
    fn changed_texts_have_no_signers() {
        let key = key("a");
        let note = Note::sign("uid 1000\n".to_owned(), &[&key]).unwrap();
        let changed = note.to_string().replace("1000", "0000");
        let read = Note::parse(changed.as_bytes(), 1000).unwrap();
        assert!(!read.is_signed_by(key.verifying()));
        assert!(note.is_signed_by(key.verifying()));
    }

    #[test]
    fn the_digest_is_of_the_text_alone() {
        let mut note = Note::sign("x\n".to_owned(), &[&key("a")]).unwrap();
        let digest = note.digest();
        note.add(&key("b"));
        assert_eq!(note.digest(), digest);
        assert_eq!(digest, Digest::of(b"x\n"));
    }

    #[test]
    fn what_is_no_note_says_why() {
        let good = Note::sign("x\n".to_owned(), &[&key("a")]).unwrap().to_string();
        let cases: [(&[u8], NoteError); 8] = [
            (b"", NoteError::Unsigned),
            (b"x\n", NoteError::Unsigned),
            (b"x\n\n", NoteError::Unsigned),
            (b"x\n\nnothing\n", NoteError::Signature),
            (b"x\n\n\xe2\x80\x94 a AAAA\n", NoteError::Signature),
            (b"x\r\n\n\xe2\x80\x94 a AAAAAAAA\n", NoteError::Characters),
            (b"\xff\n\n", NoteError::Characters),
            (&good.as_bytes()[..good.len() - 1], NoteError::Unsigned),
        ];
        for (bytes, error) in cases {
            assert_eq!(
                Note::parse(bytes, 1000).unwrap_err(),
                error,
                "{:?}",
                String::from_utf8_lossy(bytes)
            );
        }
        assert_eq!(Note::parse(good.as_bytes(), 10).unwrap_err(), NoteError::TooLong(10));
        let line = good.lines().last().unwrap().to_owned() + "\n";
        let many = format!("{good}{}", line.repeat(MOST_SIGNATURES));
        assert_eq!(Note::parse(many.as_bytes(), 1 << 20).unwrap_err(), NoteError::TooMany);
        assert_eq!(
            Note::sign("no newline".to_owned(), &[]).unwrap_err(),
            NoteError::Unsigned
        );
    }

    proptest! {
        #[test]
        fn whatever_is_read_prints_to_what_reads_the_same(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(note) = Note::parse(&bytes, 1000) {
                prop_assert_eq!(Note::parse(note.to_string().as_bytes(), 4000).unwrap(), note);
            }
        }

        #[test]
        fn any_text_can_be_signed(lines in proptest::collection::vec("[ -~]{1,20}", 1..5)) {
            let key = key("a");
            let note = Note::sign(lines.join("\n") + "\n", &[&key]).unwrap();
            let read = Note::parse(note.to_string().as_bytes(), 1000).unwrap();
            prop_assert!(read.is_signed_by(key.verifying()));
        }
    }
}
