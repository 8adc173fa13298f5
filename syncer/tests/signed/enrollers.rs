//! An enroller on a machine of its own, beside the publisher that has one too.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::io;
use std::sync::Arc;

use dirless_seal::trust::{NodeList, Policy, Revoked, print};
use dirless_seal::{Identity, Note, SigningKey};
use dirless_syncer::signed::{Admission, DiskFolder, Enroller, Folder, NewCode, Office, Wish};
use jiff::SignedDuration;

use crate::support::*;

/// The second enroller of a tenant.
struct Other {
    key: SigningKey,
    identity: Identity,
    state: tempfile::TempDir,
}

impl Other {
    fn new() -> Self {
        Self {
            key: SigningKey::generate(label("desk")).unwrap(),
            identity: Identity::generate(),
            state: tempfile::tempdir().unwrap(),
        }
    }

    fn role(&self) -> dirless_seal::trust::Enroller {
        dirless_seal::trust::Enroller {
            key: self.key.verifying().clone(),
            recipient: self.identity.recipient(),
        }
    }

    /// A tenant whose second policy has it.
    fn in_a_tenant(&self) -> Tenant {
        let tenant = Tenant::new();
        stock(&tenant.signer(), "corp", &snapshot(2000, &["alice"]));
        settle(&tenant.signer());
        tenant.next_policy(|policy| {
            policy.enrollers.push(self.role());
            policy
                .enrollers
                .sort_by(|left, right| left.key.name().cmp(right.key.name()));
        });
        tenant
    }

    fn open(&self, tenant: &Tenant) -> Enroller {
        let office = Office {
            tenant: tenant.id,
            roots: tenant.policy().fingerprint(),
            first: 1,
            state: Arc::new(DiskFolder::private(self.state.path())),
            folder: Arc::new(DiskFolder::public(&tenant.folder())),
            clock: tenant.clock.clone(),
        };
        let key = SigningKey::parse(&self.key.expose()).unwrap();
        let identity = Identity::parse(&self.identity.expose()).unwrap();
        Enroller::new(key, identity, office)
    }

    fn ask(&self, tenant: &Tenant, name: &str) -> Host {
        let new = NewCode {
            hosts: BTreeSet::new(),
            compartments: [label("all")].into(),
            uses: 1,
            expires: tenant.clock.now() + SignedDuration::from_hours(1),
            url: "https://dirless.example.com".to_owned(),
        };
        let code = self.open(tenant).create_code(&new).unwrap();
        let host = Host::new(tenant, "all");
        // As hosts do: to every enroller of the policy.
        let both = [tenant.keys().public().recipient, self.identity.recipient()];
        host.ask_sealed_to_all(tenant, &code, name, &both, tenant.clock.now());
        host
    }

    fn join(&self, tenant: &Tenant, name: &str) -> Host {
        let host = self.ask(tenant, name);
        let attended = self.open(tenant).attend(&Admission::Everybody).unwrap();
        assert_eq!(attended.admitted.len(), 1, "{attended:?}");
        settle(&tenant.signer());
        host
    }
}

fn epoch(tenant: &Tenant) -> u64 {
    tenant.signer().facts().unwrap().epochs[0].1
}

#[test]
fn its_requests_are_left_to_it_and_its_hosts_read() {
    let other = Other::new();
    let tenant = other.in_a_tenant();
    let mut host = other.ask(&tenant, "web-1");
    let settled = settle(&tenant.signer());
    assert_eq!((settled.admitted.len(), settled.refused.len()), (0, 0), "{settled:?}");
    assert!(
        !tenant.signer().is_due().unwrap(),
        "what was left to another is no news"
    );

    let waiting = other.open(&tenant).waiting().unwrap();
    assert_eq!(waiting[0].found.as_ref().unwrap().host.as_deref(), Some("web-1"));
    let nobody = Admission::Only(BTreeSet::from(["db-1".to_owned()]));
    assert!(other.open(&tenant).attend(&nobody).unwrap().admitted.is_empty());
    let named = Admission::Only(BTreeSet::from(["web-1".to_owned()]));
    assert_eq!(other.open(&tenant).attend(&named).unwrap().admitted.len(), 1);
    assert!(other.open(&tenant).waiting().unwrap().is_empty());

    assert!(tenant.signer().is_due().unwrap(), "the publisher notices the list");
    settle(&tenant.signer());
    let now = tenant.clock.now();
    assert!(host.look(&tenant.folder(), now).unwrap()["corp"].contains("alice"));
    assert_eq!(tenant.signer().enroller().nodes().unwrap()[0].enroller.as_str(), "desk");
    // Our own requests are still ours.
    assert!(tenant.join("web-2", &["all"]).look(&tenant.folder(), now).is_ok());
}

#[test]
fn whom_it_revokes_is_out_whoever_admitted_it() {
    let other = Other::new();
    let tenant = other.in_a_tenant();
    let mut ours = tenant.join("web-1", &["all"]);
    let mut theirs = other.join(&tenant, "web-2");
    let now = tenant.clock.now();
    ours.look(&tenant.folder(), now).unwrap();
    let before = epoch(&tenant);

    let gone = other.open(&tenant).revoke(&[ours.name().to_string()]).unwrap();
    assert_eq!(gone[0].enroller.as_str(), "syncer-1-enroller");
    other.open(&tenant).attend(&Admission::Nobody).unwrap();
    assert!(tenant.signer().is_due().unwrap());
    settle(&tenant.signer());
    assert_eq!(epoch(&tenant), before + 1);
    assert!(ours.look(&tenant.folder(), now).is_err());
    theirs.look(&tenant.folder(), now).unwrap();

    // And the other way round.
    tenant.signer().enroller().revoke(&[theirs.name().to_string()]).unwrap();
    settle(&tenant.signer());
    assert!(theirs.look(&tenant.folder(), now).is_err());
    assert!(tenant.signer().enroller().nodes().unwrap().is_empty());
}

#[test]
fn a_new_epoch_is_begun_once_for_each_wish() {
    let other = Other::new();
    let tenant = other.in_a_tenant();
    settle(&tenant.signer());
    for expected in [2, 3] {
        other.open(&tenant).renew(&[label("all")].into()).unwrap();
        let settled = settle(&tenant.signer());
        assert_eq!(settled.epochs[0].why, "an enroller asked for it");
        assert_eq!(epoch(&tenant), expected);
        assert!(settle(&tenant.signer()).epochs.is_empty());
    }
    assert!(other.open(&tenant).renew(&[label("none")].into()).is_err());
}

#[test]
fn lists_that_do_not_hold_change_nothing_and_are_told() {
    let other = Other::new();
    let tenant = other.in_a_tenant();
    let mut host = other.join(&tenant, "web-1");
    let (now, folder) = (tenant.clock.now(), tenant.folder().join("nodes/desk"));
    let first = Note::parse(&std::fs::read(folder.join("1")).unwrap(), 1 << 20).unwrap();
    let list = |version, previous| NodeList {
        tenant: tenant.id,
        enroller: label("desk"),
        version,
        previous,
        issued: now,
        nodes: vec![],
        revoked: vec![Revoked {
            name: host.name(),
            at: now,
        }],
        renewals: vec![],
    };
    let thief = SigningKey::generate(label("desk")).unwrap();
    for (list, key, reason) in [
        (list(2, Some(first.digest())), &thief, "not signed"),
        (list(2, Some(dirless_seal::Digest::of(b"x"))), &other.key, "chain"),
        (list(1, None), &other.key, ""),
        (list(7, Some(first.digest())), &other.key, "list 7"),
    ] {
        let note = Note::sign(print(&list).unwrap(), &[key]).unwrap();
        std::fs::write(folder.join("2"), note.to_string()).unwrap();
        let settled = settle(&tenant.signer());
        let told = settled.problems.iter().any(|problem| problem.contains("nodes/desk/2"));
        assert!(told, "{reason}: {settled:?}");
        assert!(settled.epochs.is_empty());
    }
    std::fs::remove_file(folder.join("2")).unwrap();
    host.look(&tenant.folder(), tenant.clock.now()).unwrap();
}

#[test]
fn hosts_of_an_enroller_that_the_policy_drops_are_out() {
    let other = Other::new();
    let tenant = other.in_a_tenant();
    let mut host = other.join(&tenant, "web-1");
    host.look(&tenant.folder(), tenant.clock.now()).unwrap();
    let second = Note::parse(&std::fs::read(tenant.folder().join("policy/2")).unwrap(), 1 << 20).unwrap();
    tenant.put_policy(&Policy {
        version: 3,
        previous: Some(second.digest()),
        ..tenant.policy()
    });
    let settled = settle(&tenant.signer());
    assert_eq!(settled.epochs[0].why, "a host is no longer in the compartment");
    assert!(host.look(&tenant.folder(), tenant.clock.now()).is_err());
}

/// A folder whose server never says that there is no more of `what`.
#[derive(Debug)]
struct Endless {
    inner: Box<dyn Folder>,
    what: &'static str,
}

impl Folder for Endless {
    fn get(&self, path: &str, most: u64) -> io::Result<Option<Vec<u8>>> {
        match path.starts_with(self.what) {
            true => Ok(Some(b"no note at all".to_vec())),
            false => self.inner.get(path, most),
        }
    }

    fn has(&self, path: &str) -> io::Result<bool> {
        Ok(path.starts_with(self.what) || self.inner.has(path)?)
    }

    fn create(&self, files: &[(String, Vec<u8>)]) -> io::Result<()> {
        self.inner.create(files)
    }

    fn replace(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.inner.replace(path, bytes)
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        self.inner.list(path)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.inner.remove(path)
    }

    fn lock(&self) -> io::Result<Box<dyn Debug + Send>> {
        self.inner.lock()
    }
}

#[test]
fn whoever_serves_things_without_end_holds_up_nobody() {
    let other = Other::new();
    let tenant = other.in_a_tenant();
    let mut host = other.join(&tenant, "web-1");
    let over = |what| tenant.signer_over(move |inner| Box::new(Endless { inner, what }));
    let signer = over("nodes/desk/");
    stock(&signer, "corp", &snapshot(2000, &["alice", "zoe"]));
    let settled = signer.settle(&Wish::default()).unwrap();
    assert!(
        settled.problems.len() < 8
            && settled
                .problems
                .iter()
                .any(|problem| problem.contains("nobody looked further")),
        "{settled:?}"
    );
    let seen = host.look(&tenant.folder(), tenant.clock.now()).unwrap();
    assert!(seen["corp"].contains("zoe"), "{seen:?}");

    let signer = over("manifest/");
    stock(&signer, "local", &snapshot(2500, &["carl"]));
    let error = signer.settle(&Wish::default()).unwrap_err().to_string();
    assert!(error.contains("manifest/syncer-1/local"), "{error}");
    settle(&tenant.signer());
    let seen = host.look(&tenant.folder(), tenant.clock.now()).unwrap();
    assert!(seen["local"].contains("carl"), "{seen:?}");
}
