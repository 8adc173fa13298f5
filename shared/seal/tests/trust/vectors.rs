//! Every committed vector has the result that the index gives it, and every file stands in the index.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use dirless_seal::trust::log::{Chain, Changes, ChangesError, Follower, LogKey, Place, RecordError, split};
use dirless_seal::trust::{
    Entry, FormatError, Head, JoinCode, JoinCodeError, JoinRequest, Manifest, Memory, NodeList, Object, Policy,
    Receipt, Refusal, Seen, Succession, Wrap, parse, read,
};
use dirless_seal::{Note, NoteError, SigningKeyError, VerifyingKey};

use crate::making;
use crate::support::at;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

/// The files of the folder, but those about it.
fn files() -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for kind in std::fs::read_dir(folder()).unwrap().map(Result::unwrap) {
        if !kind.file_type().unwrap().is_dir() {
            continue;
        }
        for file in std::fs::read_dir(kind.path()).unwrap().map(Result::unwrap) {
            let name = format!(
                "{}/{}",
                kind.file_name().to_str().unwrap(),
                file.file_name().to_str().unwrap()
            );
            files.insert(name, std::fs::read(file.path()).unwrap());
        }
    }
    files
}

/// Path, kind and result of each line of the index.
fn index() -> Vec<(String, String, String)> {
    let text = std::fs::read_to_string(folder().join("index")).unwrap();
    let row = |line: &str| {
        let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
        let [path, kind, result] = <[String; 3]>::try_from(words).unwrap();
        (path, kind, result)
    };
    text.lines().map(row).collect()
}

fn note_word(error: NoteError) -> String {
    let word = match error {
        NoteError::TooLong(_) => "too-long",
        NoteError::Characters => "characters",
        NoteError::Unsigned => "unsigned",
        NoteError::Signature => "signature",
        NoteError::TooMany => "too-many",
    };
    format!("no-note/{word}")
}

fn format_word(error: &FormatError) -> String {
    let word = match error {
        FormatError::Context { .. } => "context".to_owned(),
        FormatError::Line { line, .. } => format!("line-{line}"),
        FormatError::TooLong(line) => format!("surplus-{line}"),
        FormatError::Spelling(line) => format!("spelling-{line}"),
        FormatError::Contradiction(_) => "contradiction".to_owned(),
    };
    format!("malformed/{word}")
}

fn refusal_word(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Malformed(_, error) => format_word(error),
        other => other.code().to_owned(),
    }
}

/// What a host knows before it reads a vector.
struct Host {
    files: BTreeMap<String, Vec<u8>>,
    memory: Memory,
    policy: Policy,
}

type Outcome = Result<(), String>;

impl Host {
    fn new() -> Self {
        let files = files();
        let first = Note::parse(&files["policy/good"], Policy::MOST).unwrap();
        let policy: Policy = parse(&first).unwrap();
        let mut memory = Memory::pinned(policy.tenant, policy.fingerprint());
        memory.policy_after(None, &first).unwrap();
        Self { files, memory, policy }
    }

    fn good<T: Object>(&self, path: &str) -> (Note, T) {
        let note = Note::parse(&self.files[path], T::MOST).unwrap();
        let object = parse(&note).unwrap();
        (note, object)
    }

    fn result(&self, kind: &str, bytes: &[u8]) -> String {
        let text = || std::str::from_utf8(bytes).map_err(|_| "no-text".to_owned());
        let outcome = match kind {
            "note" => Note::parse(bytes, 4096).map(drop).map_err(note_word),
            "key" => text().and_then(key),
            "policy" | "policy-after" | "policy-after-2" => self.policy(kind, bytes),
            "head" | "head-after" => self.head(kind, bytes),
            "manifest" | "manifest-named" | "manifest-after" => self.manifest(kind, bytes),
            "nodes" | "nodes-after" => self.nodes(kind, bytes),
            "succession" | "succession-after" => self.succession(kind, bytes),
            "receipt" => self.receipt(bytes),
            "join-code" => text().and_then(join_code),
            "join-request" => self.join_request(bytes),
            "wrap" => text().and_then(|text| read::<Wrap>(text).map(drop).map_err(|error| format_word(&error))),
            "memory" => text().and_then(|text| read::<Memory>(text).map(drop).map_err(|error| format_word(&error))),
            "changes" => changes(bytes),
            "record" => self.record(bytes),
            "tile" => self.tile(bytes),
            _ => Err(format!("nothing is read as {kind}")),
        };
        outcome.err().unwrap_or_else(|| "ok".to_owned())
    }

    fn policy(&self, kind: &str, bytes: &[u8]) -> Outcome {
        let note = Note::parse(bytes, Policy::MOST).map_err(note_word)?;
        let (mut memory, mut current) = (self.memory.clone(), Some(self.policy.clone()));
        match kind {
            "policy" => {
                memory = Memory::pinned(self.policy.tenant, self.policy.fingerprint());
                current = None;
            }
            "policy-after-2" => {
                let (second, _) = self.good::<Policy>("policy-after/good");
                current = Some(memory.policy_after(current.as_ref(), &second).unwrap());
            }
            _ => {}
        }
        let accepted = memory.policy_after(current.as_ref(), &note);
        accepted.map(drop).map_err(|refusal| refusal_word(&refusal))
    }

    fn head(&self, kind: &str, bytes: &[u8]) -> Outcome {
        let note = Note::parse(bytes, Head::MOST).map_err(note_word)?;
        let mut memory = self.memory.clone();
        if kind == "head-after" {
            let (before, _) = self.good::<Head>("head/good");
            let _ = memory.head(&self.policy, &before, at(0)).unwrap();
        }
        let accepted = memory.head(&self.policy, &note, at(0));
        accepted.map(drop).map_err(|refusal| refusal_word(&refusal))
    }

    fn manifest(&self, kind: &str, bytes: &[u8]) -> Outcome {
        let note = Note::parse(bytes, Manifest::MOST).map_err(note_word)?;
        let (_, mut head) = self.good::<Head>("head/good");
        let mut memory = self.memory.clone();
        let (good, first) = self.good::<Manifest>("manifest/good");
        if kind != "manifest" {
            head.entries = vec![entry(&good, &first)];
        }
        if kind == "manifest-after" {
            memory.manifest(&self.policy, &head, &good).unwrap();
        }
        if kind != "manifest-named" {
            // What is no manifest cannot be named, and is refused for that.
            head.entries = parse(&note).iter().map(|manifest| entry(&note, manifest)).collect();
        }
        let accepted = memory.manifest(&self.policy, &head, &note);
        accepted.map(drop).map_err(|refusal| refusal_word(&refusal))
    }

    /// As record 1 of the log beside `manifest/good`.
    fn record(&self, bytes: &[u8]) -> Outcome {
        let (note, manifest) = self.good::<Manifest>("manifest/good");
        let wrap: Wrap = read(std::str::from_utf8(&self.files["wrap/good"]).unwrap()).unwrap();
        assert_eq!(wrap.identity.recipient(), manifest.recipient);
        let key = LogKey::new(&wrap.identity, &Place::of(&manifest, note.digest()));
        key.open(1, bytes).map(drop).map_err(|error| match error {
            RecordError::Sealed(1) => "sealed".to_owned(),
            RecordError::Changes { number: 1, error } => changes_word(error),
            other => other.to_string(),
        })
    }

    /// As the whole log that `head/with-a-log` names beside `manifest/good`.
    fn tile(&self, bytes: &[u8]) -> Outcome {
        let (note, manifest) = self.good::<Manifest>("manifest/good");
        let (_, head) = self.good::<Head>("head/with-a-log");
        let wanted = head.entry(&manifest.source, &manifest.compartment).unwrap().chain;
        let base = Chain::of(note.digest());
        let mut follower = Follower::new(base, 0, base, wanted);
        for record in split(bytes).map_err(|_| "no-tile".to_owned())? {
            follower.take(record).map_err(|refusal| refusal_word(&refusal))?;
        }
        follower.finish().map(drop).map_err(|refusal| refusal_word(&refusal))
    }

    fn nodes(&self, kind: &str, bytes: &[u8]) -> Outcome {
        let note = Note::parse(bytes, NodeList::MOST).map_err(note_word)?;
        let (good, list) = self.good::<NodeList>("nodes/good");
        let before = (kind == "nodes-after").then(|| Seen {
            version: list.version,
            digest: good.digest(),
        });
        let accepted = NodeList::accept(&self.policy, before, &note);
        accepted.map(drop).map_err(|refusal| refusal_word(&refusal))
    }

    fn succession(&self, kind: &str, bytes: &[u8]) -> Outcome {
        let note = Note::parse(bytes, Succession::MOST).map_err(note_word)?;
        let mut memory = self.memory.clone();
        if kind == "succession-after" {
            let (good, _) = self.good::<Succession>("succession/good");
            memory.succession(&self.policy, &good).unwrap();
        }
        let accepted = memory.succession(&self.policy, &note);
        accepted.map(drop).map_err(|refusal| refusal_word(&refusal))
    }

    fn receipt(&self, bytes: &[u8]) -> Outcome {
        let note = Note::parse(bytes, Receipt::MOST).map_err(note_word)?;
        let (_, list) = self.good::<NodeList>("nodes/good");
        let accepted = Receipt::accept(self.policy.tenant, &list.nodes[0].key, &note);
        accepted.map(drop).map_err(|refusal| refusal_word(&refusal))
    }

    fn join_request(&self, bytes: &[u8]) -> Outcome {
        let note = Note::parse(bytes, JoinRequest::MOST).map_err(note_word)?;
        let code = JoinCode::parse(std::str::from_utf8(&self.files["join-code/good"]).unwrap()).unwrap();
        let checked = JoinRequest::read(&note).and_then(|request| request.check(&note, code.tenant, &code.secret));
        checked.map_err(|refusal| refusal_word(&refusal))
    }
}

fn entry(note: &Note, manifest: &Manifest) -> Entry {
    Entry {
        source: manifest.source.clone(),
        compartment: manifest.compartment.clone(),
        version: manifest.version,
        chain: Chain::of(note.digest()),
    }
}

fn key(text: &str) -> Outcome {
    let word = |error| match error {
        SigningKeyError::Form(_) => "form",
        SigningKeyError::Name(_) => "name",
        SigningKeyError::Hash => "hash",
        SigningKeyError::Algorithm(_) => "algorithm",
    };
    let key: VerifyingKey = text.parse().map_err(|error| word(error).to_owned())?;
    assert_eq!(key.to_string(), text);
    Ok(())
}

fn changes(bytes: &[u8]) -> Outcome {
    let changes = Changes::decode(bytes).map_err(changes_word)?;
    assert_eq!(changes.encode().unwrap(), bytes);
    Ok(())
}

fn changes_word(error: ChangesError) -> String {
    let word = match error {
        ChangesError::Short => "short".to_owned(),
        ChangesError::Meaningless(at) => format!("meaningless-{at}"),
        ChangesError::Spelling(at) => format!("spelling-{at}"),
        ChangesError::TooLong => "too-long".to_owned(),
    };
    format!("malformed/{word}")
}

fn join_code(text: &str) -> Outcome {
    let code = JoinCode::parse(text).map_err(|error| match error {
        JoinCodeError::Prefix => "prefix".to_owned(),
        JoinCodeError::Damaged => "damaged".to_owned(),
        JoinCodeError::Format(error) => format_word(&error),
    })?;
    assert_eq!(code.expose().unwrap().as_str(), text.trim());
    Ok(())
}

#[test]
fn every_vector_has_its_result() {
    let host = Host::new();
    let mut wrong = Vec::new();
    for (path, kind, result) in index() {
        let found = host.result(&kind, &host.files[&path]);
        if found != result {
            wrong.push(format!("{path}: {found}, should be {result}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_stands_in_the_index_once() {
    let named: Vec<_> = index().into_iter().map(|(path, ..)| path).collect();
    let distinct: BTreeSet<_> = named.iter().cloned().collect();
    assert_eq!(distinct.len(), named.len(), "a path stands there twice");
    assert_eq!(distinct, files().into_keys().collect());
}

/// What is read is printed as it was: a good vector of any kind has no other spelling.
#[test]
fn vectors_are_made_as_they_were() {
    let (files, mut index_text) = (files(), String::new());
    let mut new = Vec::new();
    for made in making::all() {
        index_text.push_str(&format!("{} {} {}\n", made.path, made.kind, made.result));
        match files.get(&made.path) {
            Some(bytes) => assert_eq!(bytes, &made.bytes, "{} is made differently now", made.path),
            None => {
                let path = folder().join(&made.path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(&path, &made.bytes).unwrap();
                new.push(made.path);
            }
        }
    }
    let kept: BTreeSet<_> = index().into_iter().map(|row| format!("{row:?}")).collect();
    let row = |line: &str| {
        let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
        format!("{:?}", (words[0].clone(), words[1].clone(), words[2].clone()))
    };
    let made: BTreeSet<_> = index_text.lines().map(row).collect();
    let gone: Vec<_> = kept.difference(&made).collect();
    assert!(gone.is_empty(), "kept for good, but no longer made: {gone:?}");
    if !new.is_empty() || made != kept {
        std::fs::write(folder().join("index"), index_text).unwrap();
        panic!("new vectors were written beside the others; look at them, and commit them: {new:?}");
    }
}
