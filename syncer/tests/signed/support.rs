//! A tenant with its roots, a syncer that publishes, and hosts that look at the tenant folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dirless_model::snapshot::{self, Caps, Joined, Part, record_key};
use dirless_program::Clock;
use dirless_seal::trust::log::{self, Chain, Changes, LogKey};
use dirless_seal::trust::{
    Compartment, Enroller, Freshness, Head, JoinCode, JoinRequest, Memory, NodeList, Object, OnExpiry, Policy,
    Publisher, Right, Scope, Succession, Wrap, node_name, parse, print,
};
use dirless_seal::{
    Content, Digest, Identity, Label, Limits, Note, Recipient, RecordKind, SigningKey, open_file, seal_file,
};
use dirless_syncer::signed::{
    CompartmentConfig, Custody, DiskFolder, Folder, Kind, NewCode, Registry, Settled, SignedConfig, Signer, Wish,
    asking_key,
};
use jiff::{SignedDuration, Timestamp};

pub(crate) fn label(text: &str) -> Label {
    text.parse().unwrap()
}

pub(crate) fn start() -> Timestamp {
    "2026-11-22T08:00:00Z".parse().unwrap()
}

/// Whether tenants are in a folder or at a backend.
pub(crate) use crate::at_backend::{Place, Site};

/// A folder in memory where there is such a place: these tests sync thousands of files.
pub(crate) fn temporary() -> tempfile::TempDir {
    let memory = tempfile::tempdir_in("/dev/shm");
    memory.unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&to).unwrap();
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn again(key: &SigningKey) -> SigningKey {
    SigningKey::parse(&key.expose()).unwrap()
}

/// A snapshot of one source with these users, numbered from `first`.
pub(crate) fn snapshot(first: u32, users: &[&str]) -> Vec<u8> {
    let users: Vec<_> = users
        .iter()
        .zip(first..)
        .map(|(name, uid)| {
            serde_json::json!({"username": name, "uid": uid, "gid": uid, "gecos": name, "home": "/home/x", "shell": "/bin/sh"})
        })
        .collect();
    serde_json::json!({"groups": [], "users": users})
        .to_string()
        .into_bytes()
}

/// A tenant.
pub(crate) struct Tenant {
    pub(crate) id: Digest,
    pub(crate) roots: Vec<SigningKey>,
    pub(crate) recovery: Identity,
    keys: [zeroize::Zeroizing<String>; 3],
    temporary: tempfile::TempDir,
    pub(crate) clock: Clock,
    /// How long a log may get; none by default, so that each change is a manifest.
    log_percent: u8,
    pub(crate) compartments: Vec<CompartmentConfig>,
    pub(crate) place: Place,
    /// Days until the publisher's key gets a successor.
    pub(crate) rotate_days: u16,
    /// Its key is a service credential.
    pub(crate) handed_over: bool,
}

impl Tenant {
    /// With the one compartment `all`.
    pub(crate) fn new() -> Self {
        Self::with(&[("all", None)])
    }

    /// With these compartments, each reading these sources, and a first policy.
    pub(crate) fn with(compartments: &[(&str, Option<&[&str]>)]) -> Self {
        let custody = Custody::generate(&label("syncer-1")).unwrap();
        let tenant = Self {
            id: Digest::of(b"tenant"),
            roots: ["root-1", "root-2"]
                .map(|name| SigningKey::generate(label(name)).unwrap())
                .into(),
            recovery: Identity::generate(),
            keys: [
                custody.publisher.expose(),
                custody.enroller.expose(),
                custody.identity.expose(),
            ],
            temporary: temporary(),
            clock: Clock::manual(start()),
            log_percent: 0,
            compartments: compartments
                .iter()
                .map(|(name, sources)| CompartmentConfig {
                    without: BTreeSet::new(),
                    name: label(name),
                    sources: sources.map(|sources| sources.iter().map(|name| label(name)).collect()),
                })
                .collect(),
            place: Place::Folder,
            rotate_days: 0,
            handed_over: false,
        };
        tenant.put_policy(&tenant.policy());
        tenant
    }

    /// With the one compartment `all`, at a backend.
    pub(crate) fn at_backend() -> Self {
        let mut tenant = Self::new();
        let site = Site::start(tenant.id, &tenant.keys().publisher, &tenant.clock);
        tenant.place = Place::Backend(Arc::new(site));
        tenant.put_policy(&tenant.policy());
        tenant
    }

    pub(crate) fn site(&self) -> &Site {
        let site = match &self.place {
            Place::Backend(site) => Some(site),
            Place::Folder => None,
        };
        site.unwrap()
    }

    /// One that publishes changes as logs of so many percent.
    pub(crate) fn logging(mut self, percent: u8) -> Self {
        self.log_percent = percent;
        self
    }

    /// The same in a folder of its own.
    pub(crate) fn fork(&self) -> Self {
        let temporary = temporary();
        copy(self.temporary.path(), temporary.path());
        Self {
            id: self.id,
            roots: self.roots.iter().map(again).collect(),
            recovery: Identity::parse(&self.recovery.expose()).unwrap(),
            keys: self.keys.clone(),
            temporary,
            clock: Clock::manual(self.clock.now()),
            log_percent: self.log_percent,
            compartments: self.compartments.clone(),
            place: self.place.clone(),
            rotate_days: self.rotate_days,
            handed_over: self.handed_over,
        }
    }

    pub(crate) fn keys(&self) -> Custody {
        Custody {
            publisher: SigningKey::parse(&self.keys[0]).unwrap(),
            enroller: SigningKey::parse(&self.keys[1]).unwrap(),
            identity: Identity::parse(&self.keys[2]).unwrap(),
            handed_over: self.handed_over,
        }
    }

    /// The tenant as a folder.
    pub(crate) fn folder(&self) -> PathBuf {
        let folder = self.temporary.path().join("tenant");
        if let Place::Backend(site) = &self.place {
            site.export(&folder);
        }
        folder
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.temporary.path().join("state")
    }

    pub(crate) fn policy(&self) -> Policy {
        let public = self.keys().public();
        let issued = start() - SignedDuration::from_hours(1);
        Policy {
            tenant: self.id,
            version: 1,
            previous: None,
            issued,
            expires: issued + SignedDuration::from_hours(24 * 365),
            format: 1,
            lease: 86_400,
            threshold: 2,
            roots: self.roots.iter().map(|key| key.verifying().clone()).collect(),
            publishers: vec![Publisher {
                key: public.publisher,
                scope: Scope {
                    sources: ["access-rules", "corp", "local"].map(label).into(),
                    ids: vec!["2000-2999".parse().unwrap()],
                    names: vec!["*".parse().unwrap()],
                    may: BTreeSet::from(Right::ALL),
                },
            }],
            enrollers: vec![Enroller {
                key: public.enroller,
                recipient: public.recipient,
            }],
            recovery: vec![self.recovery.recipient()],
            compartments: self
                .compartments
                .iter()
                .map(|own| Compartment {
                    name: own.name.clone(),
                    on_expiry: OnExpiry::Serve,
                })
                .collect(),
        }
    }

    /// Signs `policy` with all roots and puts it into the folder.
    pub(crate) fn put_policy(&self, policy: &Policy) -> Note {
        let roots: Vec<_> = self.roots.iter().collect();
        let note = Note::sign(print(policy).unwrap(), &roots).unwrap();
        if let Place::Backend(site) = &self.place {
            let file = (format!("policy/{}", policy.version), note.to_string().into_bytes());
            site.operator().create(&[file]).unwrap();
            return note;
        }
        let path = self.folder().join("policy");
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join(policy.version.to_string()), note.to_string()).unwrap();
        note
    }

    /// The policy after the newest one, changed by `change`.
    pub(crate) fn next_policy(&self, change: impl FnOnce(&mut Policy)) {
        let place: Box<dyn Folder> = match &self.place {
            Place::Folder => Box::new(DiskFolder::public(&self.folder())),
            Place::Backend(site) => Box::new(site.operator()),
        };
        let note = |version: u64| place.get(&format!("policy/{version}"), 1 << 20).unwrap();
        let newest = (1..).map_while(note).last().unwrap();
        let newest: Policy = parse(&Note::parse(&newest, 1 << 20).unwrap()).unwrap();
        let mut policy = Policy {
            version: newest.version + 1,
            previous: Some(Digest::of(print(&newest).unwrap().as_bytes())),
            ..newest
        };
        change(&mut policy);
        self.put_policy(&policy);
    }

    pub(crate) fn config(&self) -> SignedConfig {
        let text = format!(
            "folder = {:?}\nroots = \"{}\"\nlog_percent = {}\nrotate_days = {}",
            self.temporary.path().join("tenant"),
            self.policy().fingerprint(),
            self.log_percent,
            self.rotate_days
        );
        let mut config: SignedConfig = toml::from_str(&text).unwrap();
        config.compartment.clone_from(&self.compartments);
        config
    }

    pub(crate) fn signer(&self) -> Signer {
        self.signer_over(|folder| folder)
    }

    /// One whose folders are wrapped.
    pub(crate) fn signer_over(&self, wrap: impl Fn(Box<dyn Folder>) -> Box<dyn Folder>) -> Signer {
        let keys = self.keys();
        let place: Box<dyn Folder> = match &self.place {
            Place::Folder => Box::new(DiskFolder::public(&self.folder())),
            Place::Backend(site) => {
                let asking = asking_key(&keys.publisher, &DiskFolder::private(&self.state())).unwrap();
                Box::new(site.of(&asking, &[&site.url()], &self.clock))
            }
        };
        Signer::over(
            self.config(),
            self.id,
            keys,
            wrap(Box::new(DiskFolder::private(&self.state()))).into(),
            wrap(place).into(),
            self.clock.clone(),
        )
    }

    pub(crate) fn minutes(&self, count: u64) {
        self.clock.advance(Duration::from_secs(60 * count));
    }

    /// Lets a host in.
    pub(crate) fn join(&self, host: &str, compartments: &[&str]) -> Host {
        let code = self.code(compartments, 1);
        let new = Host::new(self, compartments[0]);
        new.ask(self, &code, host);
        let settled = self.signer().settle(&Wish::default()).unwrap();
        assert_eq!(settled.admitted.len(), 1, "{settled:?}");
        new
    }

    pub(crate) fn code(&self, compartments: &[&str], uses: u32) -> JoinCode {
        let new = NewCode {
            hosts: BTreeSet::new(),
            compartments: compartments.iter().map(|name| label(name)).collect(),
            uses,
            expires: self.clock.now() + SignedDuration::from_hours(24),
            url: "https://dirless.example.com".to_owned(),
        };
        self.signer().enroller().create_code(&new).unwrap()
    }
}

/// Stocks a snapshot; its digest names what it says.
pub(crate) fn stock(signer: &Signer, source: &str, plaintext: &[u8]) {
    let says = Digest::of(plaintext).to_string();
    signer.stock(&label(source), Kind::Snapshot, &says, plaintext).unwrap();
}

pub(crate) fn settle(signer: &Signer) -> Settled {
    signer.settle(&Wish::default()).unwrap()
}

/// A host.
pub(crate) struct Host {
    pub(crate) key: SigningKey,
    pub(crate) identity: Identity,
    pub(crate) memory: Memory,
    compartment: Label,
}

/// What a host reads: plaintexts by source.
pub(crate) type Seen = BTreeMap<String, String>;

impl Host {
    pub(crate) fn new(tenant: &Tenant, compartment: &str) -> Self {
        let key = SigningKey::generate(label("new")).unwrap();
        let name = node_name(key.verifying().as_bytes());
        Self {
            key: key.renamed(name),
            identity: Identity::generate(),
            memory: Memory::pinned(tenant.id, tenant.policy().fingerprint()),
            compartment: label(compartment),
        }
    }

    /// The same host as it is now.
    pub(crate) fn fork(&self) -> Self {
        Self {
            key: again(&self.key),
            identity: Identity::parse(&self.identity.expose()).unwrap(),
            memory: self.memory.clone(),
            compartment: self.compartment.clone(),
        }
    }

    pub(crate) fn name(&self) -> Label {
        self.key.verifying().name().clone()
    }

    /// Puts a request into the mailbox.
    pub(crate) fn ask(&self, tenant: &Tenant, code: &JoinCode, host: &str) {
        let to = tenant.keys().public().recipient;
        self.ask_sealed(tenant, code, host, &to, tenant.clock.now());
    }

    pub(crate) fn ask_sealed(&self, tenant: &Tenant, code: &JoinCode, host: &str, to: &Recipient, now: Timestamp) {
        self.ask_sealed_to_all(tenant, code, host, std::slice::from_ref(to), now);
    }

    pub(crate) fn ask_sealed_to_all(
        &self,
        tenant: &Tenant,
        code: &JoinCode,
        host: &str,
        to: &[Recipient],
        now: Timestamp,
    ) {
        let request = JoinRequest::ask(code, now, host, &self.key, &self.identity.recipient()).unwrap();
        let mut sealed = Vec::new();
        let to: Vec<&Recipient> = to.iter().collect();
        seal_file(&to, &mut sealed, |out| out.write_all(request.to_string().as_bytes())).unwrap();
        if let Place::Backend(site) = &tenant.place {
            return site.post(code, &sealed).unwrap();
        }
        let folder = tenant.folder().join("join").join(code.code.as_str());
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(Digest::of(&sealed).to_string()), sealed).unwrap();
    }

    /// Follows the whole chain in the tenant folder, and opens what is for this host.
    pub(crate) fn look(&mut self, folder: &Path, now: Timestamp) -> Result<Seen, String> {
        let mut memory = self.memory.clone();
        let policy = policy(&mut memory, folder)?;
        let mut seen = Seen::new();
        for publisher in &policy.publishers {
            let note = note(folder, &format!("head/{}", publisher.key.name()), Head::MOST)?;
            if note.names_another(memory.keys(publisher)) {
                successors(&mut memory, &policy, publisher, folder)?;
            }
            let (head, freshness) = memory.head(&policy, &note, now).map_err(|error| error.to_string())?;
            if freshness != Freshness::Fresh {
                return Err(format!("{freshness:?}"));
            }
            for entry in head
                .entries
                .iter()
                .filter(|entry| entry.compartment == self.compartment)
            {
                let text = self.entry(folder, &policy, &head, entry, &mut memory)?;
                seen.insert(entry.source.to_string(), text);
            }
        }
        self.memory = memory;
        Ok(seen)
    }

    fn entry(
        &self,
        folder: &Path,
        policy: &Policy,
        head: &Head,
        entry: &dirless_seal::trust::Entry,
        memory: &mut Memory,
    ) -> Result<String, String> {
        let (source, compartment, version) = (&entry.source, &entry.compartment, entry.version);
        let path = format!("manifest/{}/{source}/{compartment}/{version}", head.publisher);
        let manifest = note(folder, &path, 4096)?;
        let digest = manifest.digest();
        let reached = (0..entry.chain.length).try_fold(Chain::of(digest), |chain, number| {
            let path = format!("log/{}/{source}/{compartment}/{version}/{number}", head.publisher);
            read(folder, &path).map(|record| chain.then(&record))
        })?;
        let manifest = memory
            .manifest_and_log(policy, head, &manifest, reached)
            .map_err(|error| error.to_string())?;
        let body = read(folder, &format!("blob/{}", manifest.ciphertext))?;
        if body.len() as u64 != manifest.ciphertext_size || Digest::of(&body) != manifest.ciphertext {
            return Err("body".to_owned());
        }
        let path = format!("wrap/{compartment}/{}/{}", manifest.epoch, self.name());
        let wrap = Wrap::open(&read(folder, &path)?, &self.identity).map_err(|error| error.to_string())?;
        if wrap.identity.recipient() != manifest.recipient || wrap.epoch != manifest.epoch {
            return Err("epoch key".to_owned());
        }
        let mut text = String::new();
        let mut opened =
            open_file(&wrap.identity, body.as_slice(), Limits::default()).map_err(|error| error.to_string())?;
        opened.read_to_string(&mut text).map_err(|error| error.to_string())?;
        if text.len() as u64 != manifest.plaintext_size || root(source, &text) != manifest.content {
            return Err("content root".to_owned());
        }
        let key = LogKey::new(&wrap.identity, &log::Place::of(&manifest, digest));
        for number in 0..entry.chain.length {
            let path = format!("log/{}/{source}/{compartment}/{version}/{number}", head.publisher);
            let changes = key.open(number, &read(folder, &path)?);
            let changes = changes.map_err(|error| error.to_string())?;
            text = applied(source, &text, &changes)?;
            if root(source, &text) != changes.content {
                return Err("content root after the log".to_owned());
            }
        }
        Ok(text)
    }
}

/// `text` after `changes`.
fn applied(source: &Label, text: &str, changes: &Changes) -> Result<String, String> {
    let rules = source.as_str() == "access-rules";
    let mut records = BTreeMap::new();
    let mut keep = |part: Part, bytes: &[u8]| {
        let key = if rules {
            Vec::new()
        } else {
            record_key(part, bytes).unwrap().into_owned()
        };
        records.insert((RecordKind::from(part), key), bytes.to_vec());
    };
    if rules {
        keep(Part::Other, text.as_bytes());
    } else {
        snapshot::read_records(text.as_bytes(), Caps::default(), &mut (), &mut keep).unwrap();
    }
    changes.apply(&mut records).map_err(|error| error.to_string())?;
    let mut joined = Joined::default();
    for ((own, _), bytes) in &records {
        if rules {
            return Ok(String::from_utf8(bytes.clone()).unwrap());
        }
        joined.add(Part::from(*own), bytes);
    }
    Ok(String::from_utf8(joined.finish()).unwrap())
}

/// The content root, from the protocol's text.
fn root(source: &Label, text: &str) -> Digest {
    let mut content = Content::default();
    if source.as_str() == "access-rules" {
        content.add(RecordKind::Other.leaf(text.as_bytes()));
        return content.root();
    }
    let mut add = |part: Part, bytes: &[u8]| content.add(RecordKind::from(part).leaf(bytes));
    snapshot::read_records(text.as_bytes(), Caps::default(), &mut (), &mut add).unwrap();
    content.root()
}

fn policy(memory: &mut Memory, folder: &Path) -> Result<Policy, String> {
    let first = memory.policy().map_or(1, |seen| seen.version);
    let read = |version: u64| note(folder, &format!("policy/{version}"), Policy::MOST);
    let mut policy = memory
        .policy_after(None, &read(first)?)
        .map_err(|error| error.to_string())?;
    while let Ok(next) = read(policy.version + 1) {
        policy = memory
            .policy_after(Some(&policy), &next)
            .map_err(|error| error.to_string())?;
    }
    Ok(policy)
}

/// Follows the successions of the key of `publisher`, as far as they go.
fn successors(memory: &mut Memory, policy: &Policy, publisher: &Publisher, folder: &Path) -> Result<(), String> {
    loop {
        let next = memory.succession_of(publisher).map_or(1, |seen| seen.version + 1);
        let Ok(note) = note(folder, &Succession::path(&publisher.key, next), Succession::MOST) else {
            return Ok(());
        };
        memory.succession(policy, &note).map_err(|error| error.to_string())?;
    }
}

fn read(folder: &Path, path: &str) -> Result<Vec<u8>, String> {
    std::fs::read(folder.join(path)).map_err(|error| format!("{path}: {error}"))
}

fn note(folder: &Path, path: &str, most: usize) -> Result<Note, String> {
    Note::parse(&read(folder, path)?, most * 2).map_err(|error| format!("{path}: {error}"))
}

/// The head of the one publisher.
pub(crate) fn head(tenant: &Tenant) -> Head {
    parse(&note(&tenant.folder(), "head/syncer-1", Head::MOST).unwrap()).unwrap()
}

/// The newest node list.
pub(crate) fn node_list(tenant: &Tenant, version: u64) -> NodeList {
    let note = note(
        &tenant.folder(),
        &format!("nodes/syncer-1-enroller/{version}"),
        NodeList::MOST,
    )
    .unwrap();
    assert!(note.is_signed_by(tenant.keys().enroller.verifying()));
    parse(&note).unwrap()
}

/// A folder that breaks off after so many writes, before or after the one in question.
#[derive(Debug)]
pub(crate) struct Breaking {
    inner: Box<dyn Folder>,
    left: Arc<AtomicUsize>,
    after: bool,
}

impl Breaking {
    pub(crate) fn new(inner: Box<dyn Folder>, left: &Arc<AtomicUsize>, after: bool) -> Self {
        Self {
            inner,
            left: left.clone(),
            after,
        }
    }

    fn write(&self, write: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let left = self.left.fetch_sub(1, Ordering::SeqCst);
        let broken = || Err(io::Error::other("broken off"));
        match left {
            // Once broken it stays so: the program is gone.
            0 => {
                self.left.store(0, Ordering::SeqCst);
                broken()
            }
            1 if self.after => {
                write()?;
                self.left.store(0, Ordering::SeqCst);
                broken()
            }
            1 => broken(),
            _ => write(),
        }
    }
}

impl Folder for Breaking {
    fn get(&self, path: &str, most: u64) -> io::Result<Option<Vec<u8>>> {
        self.inner.get(path, most)
    }

    fn has(&self, path: &str) -> io::Result<bool> {
        self.inner.has(path)
    }

    fn create(&self, files: &[(String, Vec<u8>)]) -> io::Result<()> {
        files
            .iter()
            .try_for_each(|file| self.write(|| self.inner.create(std::slice::from_ref(file))))
    }

    fn replace(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.write(|| self.inner.replace(path, bytes))
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        self.inner.list(path)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.write(|| self.inner.remove(path))
    }

    fn lock(&self) -> io::Result<Box<dyn Debug + Send>> {
        self.inner.lock()
    }

    fn has_any(&self, path: &str) -> io::Result<bool> {
        self.inner.has_any(path)
    }

    fn mailbox(&self, most: usize) -> io::Result<Vec<(Label, Digest)>> {
        self.inner.mailbox(most)
    }

    fn registry(&self) -> Option<&dyn Registry> {
        self.inner.registry()
    }
}
