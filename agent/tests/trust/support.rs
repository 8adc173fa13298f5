//! A tenant's folder of signed files, made by hand, and a host that has joined it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use dirless_agent::trust::{Alarm, Joined, Keeper, KeptLog, SignedBody, Walked, walk};
use dirless_client::Files;
use dirless_seal::trust::log::{Chain, Change, Changes, LogFile, LogKey, Place, TILE, tile};
use dirless_seal::trust::{
    Compartment, Entry, Head, Lease, Manifest, Object, OnExpiry, Policy, Publisher, Right, Scope, Succession, Wrap,
    node_name, print,
};
use dirless_seal::{Digest, Identity, Label, Note, RecordKind, SigningKey, seal_file};
use jiff::{SignedDuration, Timestamp};

pub(crate) fn label(text: &str) -> Label {
    text.parse().unwrap()
}

pub(crate) fn at(minutes: i64) -> Timestamp {
    "2026-11-22T08:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_mins(minutes)
}

fn key(name: &str) -> SigningKey {
    SigningKey::generate(label(name)).unwrap()
}

/// A publisher at work on a folder.
pub(crate) struct Tenant {
    pub(crate) folder: PathBuf,
    pub(crate) id: Digest,
    pub(crate) roots: [SigningKey; 2],
    pub(crate) publisher: SigningKey,
    /// The key before it, which signs along.
    pub(crate) along: Option<SigningKey>,
    pub(crate) successions: Vec<Note>,
    pub(crate) policy: Policy,
    pub(crate) epoch: (u64, Identity),
    pub(crate) head: u64,
    pub(crate) manifests: Vec<Note>,
    /// Sealed records of the log beside each source's manifest.
    pub(crate) logs: BTreeMap<Label, Vec<Vec<u8>>>,
    pub(crate) nodes: Vec<(Label, dirless_seal::Recipient)>,
}

impl Tenant {
    /// With its first policy, and nothing published.
    pub(crate) fn new(folder: &Path) -> Self {
        let (roots, publisher) = ([key("root-1"), key("root-2")], key("syncer-1"));
        let id = Digest::of(b"tenant");
        let policy = Policy {
            tenant: id,
            version: 1,
            previous: None,
            issued: at(-60),
            expires: at(60 * 24 * 365),
            format: 1,
            lease: 86_400,
            threshold: 2,
            roots: roots.iter().map(|key| key.verifying().clone()).collect(),
            publishers: vec![Publisher {
                key: publisher.verifying().clone(),
                scope: Scope {
                    sources: BTreeSet::from([label("local"), label("staff"), label("tree")]),
                    ids: vec!["10000-19999".parse().unwrap()],
                    names: vec!["*".parse().unwrap()],
                    may: BTreeSet::from(Right::ALL),
                },
            }],
            enrollers: vec![],
            recovery: vec![],
            compartments: vec![Compartment {
                name: label("all"),
                on_expiry: OnExpiry::Serve,
            }],
        };
        let tenant = Self {
            folder: folder.to_owned(),
            id,
            roots,
            publisher,
            along: None,
            successions: Vec::new(),
            policy,
            epoch: (1, Identity::generate()),
            head: 0,
            manifests: Vec::new(),
            logs: BTreeMap::new(),
            nodes: Vec::new(),
        };
        tenant.sign_policy();
        tenant
    }

    pub(crate) fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub(crate) fn sign_policy(&self) -> Note {
        let note = signed(&self.policy, &[&self.roots[0], &self.roots[1]]);
        self.write(&format!("policy/{}", self.policy.version), note.to_string());
        note
    }

    /// The policy after the one that is there, changed.
    pub(crate) fn next_policy(&mut self, change: impl FnOnce(&mut Policy)) {
        let before = signed(&self.policy, &[]).digest();
        self.policy.previous = Some(before);
        self.policy.version += 1;
        change(&mut self.policy);
        self.sign_policy();
    }

    /// Publishes `plaintext` as the next snapshot of `source`, and a head that names it.
    pub(crate) fn publish(&mut self, source: &str, plaintext: &str, minute: i64) {
        self.stage(source, plaintext, minute);
        self.sign_head(minute);
    }

    /// Body and manifest alone.
    pub(crate) fn stage(&mut self, source: &str, plaintext: &str, minute: i64) -> Manifest {
        let mut sealed = Vec::new();
        seal_file(&[&self.epoch.1.recipient()], &mut sealed, |out| {
            out.write_all(plaintext.as_bytes())
        })
        .unwrap();
        let before = self
            .manifests
            .iter()
            .position(|note| manifest(note).source.as_str() == source);
        let before = before.map(|place| self.manifests.remove(place));
        self.logs.remove(&label(source));
        let manifest = Manifest {
            tenant: self.id,
            publisher: label("syncer-1"),
            source: label(source),
            compartment: label("all"),
            version: before.as_ref().map_or(1, |note| manifest(note).version + 1),
            previous: before.as_ref().map(Note::digest),
            issued: at(minute),
            epoch: self.epoch.0,
            recipient: self.epoch.1.recipient(),
            ciphertext: Digest::of(&sealed),
            ciphertext_size: sealed.len() as u64,
            plaintext_size: plaintext.len() as u64,
            content: Digest::of(b"not looked at by the walk"),
        };
        self.write(&format!("blob/{}", manifest.ciphertext), &sealed);
        self.put_manifest(&manifest);
        manifest
    }

    pub(crate) fn put_manifest(&mut self, manifest: &Manifest) {
        let note = self.signed(manifest);
        self.write(&manifest_path(manifest), note.to_string());
        self.manifests.push(note);
        self.manifests.sort_by_key(|note| self::manifest(note).source);
    }

    /// How far the log beside `note` goes.
    pub(crate) fn chain(&self, note: &Note) -> Chain {
        let records = self.logs.get(&manifest(note).source);
        let records = records.into_iter().flatten();
        records.fold(Chain::of(note.digest()), |chain, record| chain.then(record))
    }

    fn log_place(&self, source: &str) -> Place {
        let note = self
            .manifests
            .iter()
            .find(|note| manifest(note).source.as_str() == source);
        let note = note.unwrap();
        Place::of(&manifest(note), note.digest())
    }

    /// The file of a log.
    pub(crate) fn log_path(&self, source: &str, file: LogFile) -> PathBuf {
        self.folder.join(self.log_place(source).path(file))
    }

    /// Adds a record to the log of `source`, without a head that names it.
    pub(crate) fn add_record(&mut self, source: &str, changes: &Changes) {
        let place = self.log_place(source);
        let log = self.logs.entry(label(source)).or_default();
        let number = log.len() as u64;
        log.push(LogKey::new(&self.epoch.1, &place).seal(number, changes).unwrap());
        let log = log.clone();
        self.write(&place.path(LogFile::Record(number)), log.last().unwrap());
        if (number + 1).is_multiple_of(TILE) {
            let records = log[log.len() - 256..].iter().map(Vec::as_slice);
            self.write(&place.path(LogFile::Tile(number / TILE)), tile(records));
        }
    }

    /// Publishes that the user `name` is there, as a record of the log of `source`.
    pub(crate) fn add_user(&mut self, source: &str, name: &str, minute: i64) {
        self.add_record(source, &user(name));
        self.sign_head(minute);
    }

    pub(crate) fn next_head(&mut self, minute: i64) -> Head {
        self.head += 1;
        let entry = |note: &Note| {
            let manifest = manifest(note);
            Entry {
                source: manifest.source,
                compartment: manifest.compartment,
                version: manifest.version,
                chain: self.chain(note),
            }
        };
        Head {
            tenant: self.id,
            publisher: label("syncer-1"),
            version: self.head,
            issued: at(minute),
            lease: Lease {
                fresh: 900,
                expires: 86_400,
            },
            policy: self.policy.version,
            nodes: None,
            entries: self.manifests.iter().map(entry).collect(),
        }
    }

    pub(crate) fn sign_head(&mut self, minute: i64) {
        let head = self.next_head(minute);
        self.put_head(&head);
    }

    pub(crate) fn put_head(&self, head: &Head) {
        self.write("head/syncer-1", self.signed(head).to_string());
    }

    fn signed<T: Object>(&self, object: &T) -> Note {
        let keys: Vec<&SigningKey> = self.along.iter().chain([&self.publisher]).collect();
        signed(object, &keys)
    }

    /// The succession by which the publisher's key would name `new`.
    pub(crate) fn succession(&self, new: &SigningKey, minute: i64) -> Succession {
        let before = self.successions.last();
        Succession {
            tenant: self.id,
            publisher: label("syncer-1"),
            version: self.successions.len() as u64 + 1,
            previous: before.map(Note::digest),
            issued: at(minute),
            anchor: self.policy.publishers[0].key.clone(),
            key: new.verifying().clone(),
        }
    }

    pub(crate) fn put_succession(&self, number: u64, note: &Note) {
        let path = Succession::path(&self.policy.publishers[0].key, number);
        self.write(&path, note.to_string());
    }

    /// The publisher's key names a new one, which signs from now on; the old one signs along. Everything is to be published anew.
    pub(crate) fn succeed(&mut self, minute: i64) {
        let new = key("syncer-1");
        let note = signed(&self.succession(&new, minute), &[&self.publisher, &new]);
        self.put_succession(self.successions.len() as u64 + 1, &note);
        self.successions.push(note);
        self.along = Some(std::mem::replace(&mut self.publisher, new));
        self.rotate();
    }

    /// A new epoch, wrapped for the nodes that are left.
    pub(crate) fn rotate(&mut self) {
        self.epoch = (self.epoch.0 + 1, Identity::generate());
        for (node, recipient) in self.nodes.clone() {
            self.wrap(&node, &recipient);
        }
    }

    pub(crate) fn wrap(&self, node: &Label, recipient: &dirless_seal::Recipient) {
        let wrap = Wrap {
            tenant: self.id,
            compartment: label("all"),
            epoch: self.epoch.0,
            identity: self.epoch.1.expose().parse().unwrap(),
        };
        self.write(
            &format!("wrap/all/{}/{node}", self.epoch.0),
            wrap.seal(recipient).unwrap(),
        );
    }
}

/// A change that adds a user; the walk looks at no content.
pub(crate) fn user(name: &str) -> Changes {
    let key = (RecordKind::User, name.as_bytes().to_vec());
    Changes {
        content: Digest::of(b"not looked at by the walk"),
        changes: [(key, Change::Put(name.as_bytes().to_vec()))].into(),
    }
}

pub(crate) fn manifest(note: &Note) -> Manifest {
    dirless_seal::trust::parse(note).unwrap()
}

pub(crate) fn manifest_path(manifest: &Manifest) -> String {
    let Manifest {
        publisher,
        source,
        compartment,
        version,
        ..
    } = manifest;
    format!("manifest/{publisher}/{source}/{compartment}/{version}")
}

pub(crate) fn signed<T: Object>(object: &T, keys: &[&SigningKey]) -> Note {
    Note::sign(print(object).unwrap(), keys).unwrap()
}

/// A host that joined.
pub(crate) struct Host {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) keeper: Keeper,
    pub(crate) name: Label,
}

impl Host {
    /// Admitted to `tenant`.
    pub(crate) fn join(tenant: &mut Tenant) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let joined = Joined {
            tenant: tenant.id,
            roots: tenant.policy.fingerprint(),
            policy: tenant.policy.version,
            compartments: vec![label("all")],
        };
        let keeper = Keeper::new(folder.path().join("trust"), joined);
        fs::create_dir(folder.path().join("trust")).unwrap();
        let nameless = key("n");
        let signing = nameless.renamed(node_name(nameless.verifying().as_bytes()));
        let identity = Identity::generate();
        keeper.keep_keys(&signing, &identity).unwrap();
        let name = signing.verifying().name().clone();
        tenant.nodes.push((name.clone(), identity.recipient()));
        tenant.wrap(&name, &identity.recipient());
        Self { folder, keeper, name }
    }

    pub(crate) fn body(&self, source: &str) -> PathBuf {
        self.folder.path().join(format!("{source}.sealed"))
    }

    /// Walks over `folder`, as served at this minute.
    pub(crate) fn walk(&self, folder: &Path, minute: i64) -> Walked {
        self.walk_files(&Files::Folder(folder.to_owned()), minute)
    }

    pub(crate) fn walk_files(&self, files: &Files, minute: i64) -> Walked {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let place = |source: &Label| self.body(source.as_str());
        runtime.block_on(walk(files, &self.keeper, &place, at(minute)))
    }

    /// What the host could publish of `source` now.
    pub(crate) fn plaintext(&self, source: &str) -> Option<String> {
        use std::io::Read;
        let body = SignedBody::open(&self.body(source)).unwrap()?;
        let manifest = &body.manifest;
        let wrap = self
            .keeper
            .epoch_key(&manifest.compartment, manifest.epoch)
            .unwrap()
            .unwrap();
        let mut text = String::new();
        dirless_seal::open_file(&wrap.identity, body.sealed, dirless_seal::Limits::default())
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        Some(text)
    }

    /// The names that the log beside the body of `source` adds.
    pub(crate) fn added(&self, source: &str) -> Vec<String> {
        let body = SignedBody::open(&self.body(source)).unwrap().unwrap();
        let (compartment, epoch) = (&body.manifest.compartment, body.manifest.epoch);
        let wrap = self.keeper.epoch_key(compartment, epoch).unwrap().unwrap();
        let key = LogKey::new(&wrap.identity, &Place::of(&body.manifest, body.digest));
        let log = KeptLog::beside(&self.body(source), body.digest).unwrap();
        let records = log.records(0).unwrap();
        let opened = (0..)
            .zip(&records)
            .map(|(number, sealed)| key.open(number, sealed).unwrap());
        let names = opened.flat_map(|changes| changes.changes.into_keys());
        names.map(|(_, name)| String::from_utf8(name).unwrap()).collect()
    }

    /// Everything that the host keeps, to see that a refusal changed nothing of it.
    pub(crate) fn everything(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        for folder in [self.folder.path().to_owned(), self.folder.path().join("trust")] {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_file() {
                    files.push((path.clone(), fs::read(path).unwrap()));
                }
            }
        }
        files.sort();
        files
    }
}

pub(crate) fn codes(alarms: &[Alarm]) -> Vec<&'static str> {
    alarms.iter().map(|alarm| alarm.code).collect()
}

/// A copy of `from`, for a server to do with what it likes.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
