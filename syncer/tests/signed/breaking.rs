//! Whatever breaks off, wherever: hosts see all of the old state or all of the new one, and the next run finishes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dirless_syncer::signed::{Kind, SignedError, Signer, Wish};

use crate::support::*;

/// A change of what is published.
type Change = fn(&Signer) -> Result<(), SignedError>;

fn restock(signer: &Signer) -> Result<(), SignedError> {
    for (source, first) in [("corp", 2000), ("local", 2100)] {
        let text = snapshot(first, &["alice", "new"]);
        signer.stock(&label(source), Kind::Snapshot, "second", &text)?;
    }
    signer.settle(&Wish::default()).map(drop)
}

fn rotate(signer: &Signer) -> Result<(), SignedError> {
    let epochs = [label("all")].into();
    signer
        .settle(&Wish {
            epochs,
            ..Wish::default()
        })
        .map(drop)
}

fn renew_key(signer: &Signer) -> Result<(), SignedError> {
    let wish = Wish {
        key: true,
        ..Wish::default()
    };
    match signer.settle(&wish) {
        // Once it was shown it is not made twice.
        Err(SignedError::Nothing(_)) => signer.settle(&Wish::default()).map(drop),
        other => other.map(drop),
    }
}

fn revoke(signer: &Signer) -> Result<(), SignedError> {
    signer.enroller().revoke(&["web-2".to_owned()])?;
    signer.settle(&Wish::default()).map(drop)
}

fn admit(signer: &Signer) -> Result<(), SignedError> {
    signer.settle(&Wish::default()).map(drop)
}

fn withdraw(signer: &Signer) -> Result<(), SignedError> {
    signer.withdraw(&label("local"))?;
    signer.settle(&Wish::default()).map(drop)
}

struct Setting {
    tenant: Tenant,
    stays: Host,
    other: Host,
    newcomer: Host,
}

impl Setting {
    fn new(tenant: Tenant) -> Self {
        let signer = tenant.signer();
        for (source, first) in [("corp", 2000), ("local", 2100)] {
            signer
                .stock(&label(source), Kind::Snapshot, "first", &snapshot(first, &["alice"]))
                .unwrap();
        }
        settle(&signer);
        let (stays, other) = (tenant.join("web-1", &["all"]), tenant.join("web-2", &["all"]));
        let newcomer = Host::new(&tenant, "all");
        newcomer.ask(&tenant, &tenant.code(&["all"], 1000), "web-3");
        Self {
            tenant,
            stays,
            other,
            newcomer,
        }
    }

    fn fork(&self) -> Self {
        Self {
            tenant: self.tenant.fork(),
            stays: self.stays.fork(),
            other: self.other.fork(),
            newcomer: self.newcomer.fork(),
        }
    }

    fn look(&mut self) -> Seen {
        self.stays.look(&self.tenant.folder(), self.tenant.clock.now()).unwrap()
    }
}

/// Breaks `change` off at each of its writes. What a host may see besides the old state is what it sees at the end.
/// Returns how many writes there were.
fn break_everywhere(change: Change, more: impl Fn(&mut Setting)) -> usize {
    break_at(Setting::new(Tenant::new()), &[false, true], change, &more)
}

/// The same at a backend, where each write arrives and its answer does not.
fn break_at_backend(change: Change, more: impl Fn(&mut Setting)) -> usize {
    break_at(Setting::new(Tenant::at_backend()), &[true], change, &more)
}

fn break_at(mut first: Setting, when: &[bool], change: Change, more: &dyn Fn(&mut Setting)) -> usize {
    let old = first.look();
    let dump = match &first.tenant.place {
        Place::Folder => None,
        Place::Backend(site) => Some(site.dump()),
    };
    for count in 1.. {
        let mut writes = 0;
        for after in when.iter().copied() {
            let mut setting = first.fork();
            if let Some(dump) = &dump {
                setting.tenant.site().restore(dump, &setting.tenant.keys().publisher);
            }
            let left = Arc::new(AtomicUsize::new(count));
            let signer = setting
                .tenant
                .signer_over(|folder| Box::new(Breaking::new(folder, &left, after)));
            let outcome = change(&signer);
            let broken = left.load(Ordering::SeqCst) == 0;
            assert_eq!(outcome.is_err(), broken, "{count} {after} {outcome:?}");
            let between = setting.look();
            // The program starts again at once, with nothing but the state folder.
            let signer = setting.tenant.signer();
            if broken {
                let again = change(&signer);
                let done = matches!(&again, Ok(()) | Err(SignedError::Nothing(_)));
                assert!(done, "{count} {after} {again:?}");
            }
            settle(&signer);
            let new = setting.look();
            assert!(between == old || between == new, "{count} {after}: a mixture");
            more(&mut setting);
            writes += usize::from(broken);
        }
        if writes == 0 {
            return count;
        }
    }
    unreachable!("a change has an end")
}

fn is_published(setting: &mut Setting) {
    let seen = setting.look();
    assert!(seen["corp"].contains("new") && seen["local"].contains("new"));
}

#[test]
fn publishing() {
    let writes = break_everywhere(restock, is_published);
    assert!(writes > 8, "{writes}");
}

#[test]
fn publishing_at_a_backend() {
    let writes = break_at_backend(restock, is_published);
    assert!(writes > 8, "{writes}");
}

#[test]
fn growing_a_log() {
    let setting = Setting::new(Tenant::new().logging(25));
    let writes = break_at(setting, &[false, true], restock, &|setting| {
        is_published(setting);
        let entries = head(&setting.tenant).entries;
        assert!(
            entries
                .iter()
                .all(|entry| entry.version == 1 && entry.chain.length == 1)
        );
    });
    assert!(writes > 8, "{writes}");
}

/// After it broke off there is something else to say: what was begun is left, and never said under the same number.
#[test]
fn growing_a_log_with_something_else() {
    fn other(signer: &Signer) -> Result<(), SignedError> {
        for (source, first) in [("corp", 2000), ("local", 2100)] {
            let text = snapshot(first, &["alice", "other"]);
            signer.stock(&label(source), Kind::Snapshot, "third", &text)?;
        }
        signer.settle(&Wish::default()).map(drop)
    }
    let mut first = Setting::new(Tenant::new().logging(25));
    first.look();
    let mut bases = 0;
    for count in 1.. {
        let mut setting = first.fork();
        let left = Arc::new(AtomicUsize::new(count));
        let signer = setting
            .tenant
            .signer_over(|folder| Box::new(Breaking::new(folder, &left, true)));
        let broken = restock(&signer).is_err();
        setting.tenant.minutes(1);
        other(&setting.tenant.signer()).unwrap();
        let seen = setting.look();
        assert!(
            seen["corp"].contains("other") && !seen["corp"].contains("new"),
            "{count}"
        );
        let base = setting.tenant.folder().join("manifest/syncer-1/corp/all/2");
        bases += usize::from(base.exists());
        if !broken {
            break;
        }
    }
    assert!(bases > 0, "a number was used twice");
}

#[test]
fn beginning_an_epoch() {
    let writes = break_everywhere(rotate, |setting| {
        let now = setting.tenant.clock.now();
        setting.other.look(&setting.tenant.folder(), now).unwrap();
    });
    assert!(writes > 8, "{writes}");
}

/// Hosts that heard of it and a host that did not see the same, under the new key alone too, and there is one successor.
fn is_renewed(setting: &mut Setting) {
    let mut asleep = setting.other.fork();
    let seen = setting.look();
    let now = setting.tenant.clock.now();
    assert_eq!(setting.other.look(&setting.tenant.folder(), now).unwrap(), seen);
    let folder = setting.tenant.folder().join("succession/syncer-1");
    let anchors: Vec<_> = std::fs::read_dir(folder).unwrap().map(Result::unwrap).collect();
    assert_eq!(anchors.len(), 1);
    assert_eq!(std::fs::read_dir(anchors[0].path()).unwrap().count(), 1);
    setting.tenant.minutes(8 * 24 * 60);
    let settled = settle(&setting.tenant.signer());
    assert_eq!(settled.problems, Vec::<String>::new());
    let now = setting.tenant.clock.now();
    assert_eq!(asleep.look(&setting.tenant.folder(), now).unwrap(), seen);
    assert_eq!(setting.look(), seen);
}

#[test]
fn renewing_the_key() {
    let writes = break_everywhere(renew_key, is_renewed);
    assert!(writes > 12, "{writes}");
}

#[test]
fn renewing_the_key_at_a_backend() {
    // What ends the overlap there is another test: a key that was ended cannot be restored.
    let writes = break_at_backend(renew_key, |setting| {
        let seen = setting.look();
        let now = setting.tenant.clock.now();
        assert_eq!(setting.other.look(&setting.tenant.folder(), now).unwrap(), seen);
        assert_eq!(setting.tenant.site().operator().publishers().unwrap().len(), 2);
    });
    assert!(writes > 12, "{writes}");
}

fn is_revoked(setting: &mut Setting) {
    let now = setting.tenant.clock.now();
    assert!(setting.other.look(&setting.tenant.folder(), now).is_err());
}

#[test]
fn revoking() {
    let writes = break_everywhere(revoke, is_revoked);
    assert!(writes > 8, "{writes}");
}

#[test]
fn revoking_at_a_backend() {
    let writes = break_at_backend(revoke, is_revoked);
    assert!(writes > 8, "{writes}");
}

fn is_admitted(setting: &mut Setting) {
    let now = setting.tenant.clock.now();
    let seen = setting.newcomer.look(&setting.tenant.folder(), now).unwrap();
    assert_eq!(seen, setting.look());
    let codes = setting.tenant.signer().enroller().codes().unwrap();
    assert_eq!(codes.iter().map(|code| code.used).max(), Some(1));
}

#[test]
fn admitting() {
    let writes = break_everywhere(admit, is_admitted);
    assert!(writes > 5, "{writes}");
}

#[test]
fn admitting_at_a_backend() {
    let writes = break_at_backend(admit, is_admitted);
    assert!(writes > 5, "{writes}");
}

#[test]
fn withdrawing() {
    break_everywhere(withdraw, |setting| assert_eq!(setting.look().len(), 1));
}
