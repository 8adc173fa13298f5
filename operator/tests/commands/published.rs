//! A tenant that has published: two policies, two publishers, two compartments, two node lists, keys for all.

use std::path::Path;

use dirless_publish::{Kind, content_root};
use dirless_seal::trust::log::{self, Chain, Changes, LogFile, LogKey, tile};
use dirless_seal::trust::{
    Compartment, Enroller, Entry, Head, Lease, Manifest, Node, NodeList, Object, OnExpiry, Policy, Publisher, Receipt,
    Right, Scope, Seen, Wrap, node_name, print,
};
use dirless_seal::{Digest, Identity, Label, Note, Recipient, SigningKey, seal_file};
use jiff::Timestamp;

use crate::support::{Place, key};

fn label(text: &str) -> Label {
    text.parse().unwrap()
}

pub(crate) fn now() -> Timestamp {
    "2026-11-22T08:00:00Z".parse().unwrap()
}

pub(crate) struct Published {
    pub(crate) place: Place,
    roots: Vec<SigningKey>,
    publishers: Vec<SigningKey>,
    enroller: SigningKey,
    pub(crate) recovery: Identity,
    /// In the order of their names.
    pub(crate) nodes: Vec<(SigningKey, Identity)>,
    epochs: Vec<Identity>,
    /// Manifests name another content root than that of the body.
    pub(crate) lies: bool,
    policy: Option<Policy>,
    previous: Option<Digest>,
}

const COMPARTMENTS: [&str; 2] = ["all", "web"];

impl Published {
    pub(crate) fn new() -> Self {
        let node = || {
            let nameless = key("n");
            (
                nameless.renamed(node_name(nameless.verifying().as_bytes())),
                Identity::generate(),
            )
        };
        let mut nodes = vec![node(), node()];
        nodes.sort_by(|left, right| left.0.verifying().name().cmp(right.0.verifying().name()));
        let mut this = Self {
            place: Place::new(),
            roots: vec![key("root-1"), key("root-2")],
            publishers: vec![key("hr"), key("it")],
            enroller: key("enroller-1"),
            recovery: Identity::generate(),
            nodes,
            epochs: vec![Identity::generate(), Identity::generate()],
            lies: false,
            policy: None,
            previous: None,
        };
        this.policies();
        this.node_lists();
        this.wraps();
        this.snapshots(1, now());
        std::fs::write(this.place.path("recovery"), this.recovery.expose().as_bytes()).unwrap();
        use std::os::unix::fs::PermissionsExt;
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(this.place.path("recovery"), private).unwrap();
        this
    }

    pub(crate) fn fingerprint(&self) -> Digest {
        self.policy.as_ref().unwrap().fingerprint()
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.place.path(&format!("t/{path}"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn sign<T: Object>(&self, path: &str, object: &T, keys: &[&SigningKey]) -> Digest {
        let note = Note::sign(print(object).unwrap(), keys).unwrap();
        self.write(path, note.to_string().as_bytes());
        note.digest()
    }

    fn policies(&mut self) {
        let publisher = |key: &SigningKey| Publisher {
            key: key.verifying().clone(),
            scope: Scope {
                sources: [key.verifying().name().clone()].into(),
                ids: vec![],
                names: vec!["*".parse().unwrap()],
                may: Right::ALL.into(),
            },
        };
        let compartment = |name: &&str| Compartment {
            name: label(name),
            on_expiry: OnExpiry::Serve,
        };
        let first = Policy {
            tenant: Digest::of(b"tenant"),
            version: 1,
            previous: None,
            issued: now(),
            expires: "2027-11-22T08:00:00Z".parse().unwrap(),
            format: 1,
            lease: 86_400,
            threshold: 2,
            roots: self.roots.iter().map(|root| root.verifying().clone()).collect(),
            publishers: self.publishers.iter().map(publisher).collect(),
            enrollers: vec![Enroller {
                key: self.enroller.verifying().clone(),
                recipient: Identity::generate().recipient(),
            }],
            recovery: vec![self.recovery.recipient()],
            compartments: COMPARTMENTS.iter().map(compartment).collect(),
        };
        let roots: Vec<_> = self.roots.iter().collect();
        let previous = self.sign("policy/1", &first, &roots);
        let second = Policy {
            version: 2,
            previous: Some(previous),
            lease: 90_000,
            ..first
        };
        self.previous = Some(self.sign("policy/2", &second, &roots));
        self.policy = Some(second);
    }

    fn node_lists(&self) {
        let node = |(key, identity): &(SigningKey, Identity)| Node {
            key: key.verifying().clone(),
            recipient: identity.recipient(),
            compartments: COMPARTMENTS.iter().map(|name| label(name)).collect(),
            joined: now(),
        };
        let mut previous = None;
        for version in 1..=2 {
            let list = NodeList {
                tenant: Digest::of(b"tenant"),
                enroller: label("enroller-1"),
                version,
                previous,
                issued: now(),
                nodes: self.nodes[..version as usize].iter().map(node).collect(),
                revoked: vec![],
                renewals: vec![],
            };
            previous = Some(self.sign(&format!("nodes/enroller-1/{version}"), &list, &[&self.enroller]));
        }
    }

    fn wraps(&self) {
        for (name, epoch) in COMPARTMENTS.iter().zip(&self.epochs) {
            let seal = |recipient: &Recipient| {
                let wrap = Wrap {
                    tenant: Digest::of(b"tenant"),
                    compartment: label(name),
                    epoch: 4,
                    identity: Identity::parse(&epoch.expose()).unwrap(),
                };
                wrap.seal(recipient).unwrap()
            };
            for (key, identity) in &self.nodes {
                let path = format!("wrap/{name}/4/{}", key.verifying().name());
                self.write(&path, &seal(&identity.recipient()));
            }
            self.write(&format!("wrap/{name}/4/recovery-1"), &seal(&self.recovery.recipient()));
        }
    }

    /// The signed content root of a body; another one when it is to lie.
    fn root(&self, plaintext: &str) -> Digest {
        match self.lies {
            true => Digest::of(b"content"),
            false => content_root(Kind::Snapshot, plaintext.as_bytes()).unwrap(),
        }
    }

    /// Everybody publishes this version: of the first publisher both compartments, of the second one of them.
    pub(crate) fn snapshots(&self, version: u64, issued: Timestamp) {
        self.snapshots_and_log(version, issued, 1);
    }

    /// The same; the first of them with so many records of a log.
    pub(crate) fn snapshots_and_log(&self, version: u64, issued: Timestamp, records: u64) {
        for (at, publisher) in self.publishers.iter().enumerate() {
            let name = publisher.verifying().name();
            let mut entries = Vec::new();
            for (compartment, epoch) in COMPARTMENTS.iter().zip(&self.epochs).take(2 - at) {
                let mut sealed = Vec::new();
                let plaintext = format!(r#"{{"version":"{version} {name} {compartment}","users":[]}}"#);
                seal_file(&[&epoch.recipient()], &mut sealed, |out| {
                    out.write_all(plaintext.as_bytes())
                })
                .unwrap();
                let ciphertext = Digest::of(&sealed);
                self.write(&format!("blob/{ciphertext}"), &sealed);
                let manifest = Manifest {
                    tenant: Digest::of(b"tenant"),
                    publisher: name.clone(),
                    source: name.clone(),
                    compartment: label(compartment),
                    version,
                    previous: (version > 1).then(|| Digest::of(b"before")),
                    issued: now(),
                    epoch: 4,
                    recipient: epoch.recipient(),
                    ciphertext,
                    ciphertext_size: sealed.len() as u64,
                    plaintext_size: plaintext.len() as u64,
                    content: self.root(&plaintext),
                };
                let path = format!("manifest/{name}/{name}/{compartment}/{version}");
                let digest = self.sign(&path, &manifest, &[publisher]);
                let is_first = at == 0 && entries.is_empty();
                let place = log::Place::of(&manifest, digest);
                entries.push(Entry {
                    source: name.clone(),
                    compartment: label(compartment),
                    version,
                    chain: self.log(&place, epoch, if is_first { records } else { 0 }),
                });
            }
            let head = Head {
                tenant: Digest::of(b"tenant"),
                publisher: name.clone(),
                version,
                issued,
                lease: Lease {
                    fresh: 900,
                    expires: 86_400,
                },
                policy: 2,
                nodes: Some(2),
                entries,
            };
            self.sign(&format!("head/{name}"), &head, &[publisher]);
        }
    }

    fn log(&self, place: &log::Place, epoch: &Identity, records: u64) -> Chain {
        let key = LogKey::new(epoch, place);
        let (mut chain, mut sealed) = (Chain::of(place.manifest), Vec::new());
        for number in 0..records {
            let changes = Changes {
                content: Digest::of(b"content"),
                changes: [].into(),
            };
            sealed.push(key.seal(number, &changes).unwrap());
            let last = sealed.last().unwrap();
            chain = chain.then(last);
            self.write(&place.path(LogFile::Record(number)), last);
        }
        for (number, records) in (0..).zip(sealed.chunks_exact(256)) {
            let records = records.iter().map(Vec::as_slice);
            self.write(&place.path(LogFile::Tile(number)), &tile(records));
        }
        chain
    }

    /// The receipt of a node for what is published, or for another head of `it`.
    pub(crate) fn receipt(&self, node: usize, other_head: Option<&str>) -> Note {
        let head = |name: &str| {
            let path = self.place.path(&format!("t/head/{name}"));
            Note::parse(&std::fs::read(path).unwrap(), Head::MOST).unwrap().digest()
        };
        let seen = |digest| Seen { version: 1, digest };
        let it = other_head.map_or_else(|| head("it"), |text| Digest::of(text.as_bytes()));
        let receipt = Receipt {
            tenant: Digest::of(b"tenant"),
            node: self.nodes[node].0.verifying().name().clone(),
            issued: now(),
            policy: Seen {
                version: 2,
                digest: self.previous.unwrap(),
            },
            heads: vec![(label("hr"), seen(head("hr"))), (label("it"), seen(it))],
            generation: 7,
            users: 1,
            groups: 1,
            dropped: 0,
            alarms: Vec::new(),
        };
        Note::sign(print(&receipt).unwrap(), &[&self.nodes[node].0]).unwrap()
    }
}

/// All files of `folder` by their paths within it.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let name = |path: &Path| path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
    crate::support::tree(folder)
        .iter()
        .map(|(path, _)| name(path))
        .collect()
}
