//! The publisher's key gets a successor, by its age or by hand: what hosts see of it, and what stands in its way.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use dirless_seal::trust::{Manifest, Object, Right, Succession, parse, print};
use dirless_seal::{Digest, Note, SigningKey, VerifyingKey};
use dirless_syncer::signed::{Folder, Kind, NextKey, Registry, Signer, Wish};

use crate::support::*;

const DAY: u64 = 24 * 60;

/// A tenant with something published, whose key lasts 90 days, and a host.
fn tenant() -> (Tenant, Host) {
    begun(Tenant::new())
}

fn begun(mut tenant: Tenant) -> (Tenant, Host) {
    tenant.rotate_days = 90;
    let signer = tenant.signer();
    for (source, first) in [("corp", 2000), ("local", 2100)] {
        stock(&signer, source, &snapshot(first, &["alice"]));
    }
    settle(&signer);
    let host = tenant.join("web-1", &["all"]);
    (tenant, host)
}

fn look(tenant: &Tenant, host: &mut Host) -> Result<Seen, String> {
    host.look(&tenant.folder(), tenant.clock.now())
}

fn by_hand() -> Wish {
    Wish {
        key: true,
        ..Wish::default()
    }
}

/// The key that `signer` has now, after it was given a successor by hand.
fn renewed(tenant: &Tenant) -> VerifyingKey {
    tenant.signer().settle(&by_hand()).unwrap().key.unwrap()
}

fn read(folder: &Path, path: &str) -> Note {
    Note::parse(&std::fs::read(folder.join(path)).unwrap(), 1 << 20).unwrap()
}

/// Which of `keys` signed the head, and all that it names.
fn signers(tenant: &Tenant, keys: &[&VerifyingKey]) -> Vec<bool> {
    let folder = tenant.folder();
    let mut notes = vec![read(&folder, "head/syncer-1")];
    for entry in head(tenant).entries {
        let (source, compartment, version) = (entry.source, entry.compartment, entry.version);
        notes.push(read(
            &folder,
            &format!("manifest/syncer-1/{source}/{compartment}/{version}"),
        ));
        assert!(parse::<Manifest>(notes.last().unwrap()).is_ok());
    }
    let of = |key: &&VerifyingKey| {
        let signed: Vec<bool> = notes.iter().map(|note| note.is_signed_by(key)).collect();
        assert!(signed.iter().all(|one| *one == signed[0]), "{signed:?}");
        signed[0]
    };
    keys.iter().map(of).collect()
}

/// The files of the successors' secret halves.
fn kept(tenant: &Tenant) -> Vec<std::fs::DirEntry> {
    let place = tenant.state().join("publisher-key");
    let place = std::fs::read_dir(place).unwrap().next().unwrap().unwrap().path();
    std::fs::read_dir(place).unwrap().map(Result::unwrap).collect()
}

fn refused(signer: &Signer, wish: &Wish) -> String {
    signer.settle(wish).unwrap_err().to_string()
}

#[test]
fn a_key_of_ninety_days_gets_a_successor_and_signs_along_for_seven() {
    let (tenant, mut host) = tenant();
    let mut asleep = host.fork();
    let first = tenant.keys().public().publisher;
    let facts = tenant.signer().key_facts().unwrap();
    assert_eq!((&facts.key, facts.successors, &facts.anchor), (&first, 0, &None));
    let NextKey::At(next) = facts.next else {
        unreachable!("{facts:?}")
    };

    tenant.minutes(89 * DAY);
    assert_eq!(settle(&tenant.signer()).key, None);
    let before = look(&tenant, &mut host).unwrap();
    tenant.minutes(DAY);
    assert!(next <= tenant.clock.now());
    let settled = settle(&tenant.signer());
    let second = settled.key.clone().unwrap();
    assert_eq!((settled.published.len(), settled.problems.len()), (2, 0), "{settled:?}");
    assert_eq!(signers(&tenant, &[&first, &second]), [true, true]);
    assert_eq!(look(&tenant, &mut host).unwrap(), before);
    let facts = tenant.signer().key_facts().unwrap();
    assert_eq!(
        (&facts.key, facts.successors, &facts.anchor),
        (&second, 1, &Some(first.clone()))
    );
    assert!(facts.overlap.is_some() && facts.since == Some(tenant.clock.now()));

    tenant.minutes(7 * DAY);
    let settled = settle(&tenant.signer());
    assert_eq!((settled.key, settled.published.len()), (None, 0));
    let note = read(&tenant.folder(), "head/syncer-1");
    assert!(note.is_signed_by(&second) && !note.is_signed_by(&first));
    assert_eq!(tenant.signer().key_facts().unwrap().overlap, None);

    // And so on: who slept over both has what everybody has.
    tenant.minutes(83 * DAY);
    let third = settle(&tenant.signer()).key.unwrap();
    tenant.minutes(7 * DAY);
    settle(&tenant.signer());
    assert!(!read(&tenant.folder(), "head/syncer-1").is_signed_by(&second));
    for host in [&mut host, &mut asleep, &mut tenant.join("web-2", &["all"])] {
        assert_eq!(look(&tenant, host).unwrap(), before);
    }
    assert_eq!(tenant.signer().key_facts().unwrap().key, third);
    // Of the keys that sign no more nothing is kept, and the others are private.
    let kept = kept(&tenant);
    assert_eq!(
        kept.iter().map(std::fs::DirEntry::file_name).collect::<Vec<_>>(),
        ["2.key"]
    );
    assert_eq!(kept[0].metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn zero_days_mean_never_and_a_credential_by_hand() {
    let (mut tenant, _) = tenant();
    tenant.minutes(300 * DAY);
    tenant.rotate_days = 0;
    assert_eq!(settle(&tenant.signer()).key, None);
    assert_eq!(tenant.signer().key_facts().unwrap().next, NextKey::Never);
    tenant.rotate_days = 90;
    tenant.handed_over = true;
    let settled = settle(&tenant.signer());
    assert_eq!((settled.key, settled.problems.len()), (None, 0));
    assert_eq!(tenant.signer().key_facts().unwrap().next, NextKey::ByHand);
    let error = refused(&tenant.signer(), &by_hand());
    assert!(
        error.contains("service credential") && error.contains("publisher rotate"),
        "{error}"
    );
    assert!(!tenant.folder().join("succession").exists());
}

#[test]
fn by_hand_it_is_done_at_once_and_once() {
    let (tenant, mut host) = tenant();
    let second = renewed(&tenant);
    let error = refused(&tenant.signer(), &by_hand());
    assert!(error.contains("signs along until"), "{error}");
    look(&tenant, &mut host).unwrap();
    tenant.minutes(7 * DAY);
    let third = renewed(&tenant);
    assert_ne!(second, third);
    assert_eq!(signers(&tenant, &[&second, &third]), [true, true]);
    look(&tenant, &mut host).unwrap();
}

#[test]
fn what_a_source_said_before_it_was_held_back_is_signed_with_the_new_key() {
    let (tenant, mut host) = tenant();
    let rules = |says: &str| {
        let signer = tenant.signer();
        let new = signer.stock(&label("access-rules"), Kind::AccessRules, says, says.as_bytes());
        assert!(new.unwrap());
        settle(&signer)
    };
    rules("{}");
    let before = look(&tenant, &mut host).unwrap();
    tenant.next_policy(|policy| {
        policy.publishers[0].scope.may.remove(&Right::Access);
    });
    assert_eq!(rules(r#"{"host_group_rules":[]}"#).held, [label("access-rules")]);
    let old = tenant.keys().publisher.verifying().clone();
    let new = renewed(&tenant);
    assert_eq!(signers(&tenant, &[&old, &new]), [true, true]);
    assert_eq!(look(&tenant, &mut host).unwrap(), before);
    assert_eq!(look(&tenant, &mut tenant.join("web-2", &["all"])).unwrap(), before);
}

#[test]
fn what_is_published_and_not_known_here_keeps_the_key() {
    let (mut tenant, mut host) = tenant();
    // Younger than an epoch.
    tenant.rotate_days = 20;
    std::fs::remove_file(tenant.state().join("stock/local.json")).unwrap();
    let bodies = tenant.state().join("body");
    let plaintext = Digest::of(&snapshot(2100, &["alice"]));
    std::fs::remove_file(bodies.join(format!("{plaintext}.gz"))).unwrap();
    tenant.minutes(21 * DAY);
    let settled = settle(&tenant.signer());
    assert_eq!(settled.key, None);
    assert!(
        settled
            .problems
            .iter()
            .any(|one| one.contains("before source local can be")),
        "{settled:?}"
    );
    let error = refused(&tenant.signer(), &by_hand());
    assert!(error.contains("source local"), "{error}");
    look(&tenant, &mut host).unwrap();
    stock(&tenant.signer(), "local", &snapshot(2100, &["alice"]));
    assert!(settle(&tenant.signer()).key.is_some());
    look(&tenant, &mut host).unwrap();
}

#[test]
fn a_policy_that_names_the_newest_key_begins_the_numbers_anew() {
    let (tenant, mut host) = tenant();
    let second = renewed(&tenant);
    look(&tenant, &mut host).unwrap();
    tenant.next_policy(|policy| policy.publishers[0].key = second.clone());
    tenant.minutes(1);
    let settled = settle(&tenant.signer());
    assert_eq!((settled.epochs.len(), settled.problems.len()), (0, 0), "{settled:?}");
    let facts = tenant.signer().key_facts().unwrap();
    assert_eq!((&facts.key, facts.successors), (&second, 0));
    look(&tenant, &mut host).unwrap();
    let third = renewed(&tenant);
    let path = Succession::path(&second, 1);
    let succession: Succession = parse(&read(&tenant.folder(), &path)).unwrap();
    assert_eq!((succession.anchor, succession.key), (second, third));
    look(&tenant, &mut host).unwrap();
    look(&tenant, &mut tenant.join("web-2", &["all"])).unwrap();
    // Both sign, and the first one is in the key folder.
    assert_eq!(kept(&tenant).len(), 2);
    tenant.minutes(8 * DAY);
    settle(&tenant.signer());
    assert_eq!(kept(&tenant).len(), 1);
    look(&tenant, &mut host).unwrap();
}

#[test]
fn a_policy_without_the_publisher_or_with_another_key_ends_the_chain() {
    for other in [true, false] {
        let (tenant, mut host) = tenant();
        renewed(&tenant);
        look(&tenant, &mut host).unwrap();
        tenant.next_policy(|policy| {
            if other {
                policy.publishers[0].key = SigningKey::generate(label("syncer-1")).unwrap().verifying().clone();
            } else {
                policy.publishers.clear();
            }
        });
        tenant.minutes(1);
        for wish in [Wish::default(), by_hand()] {
            assert!(refused(&tenant.signer(), &wish).contains("withdrawn"));
        }
        let seen = look(&tenant, &mut host);
        assert!(seen.clone().map_or(true, |seen| seen.is_empty()), "{seen:?}");
    }
}

#[test]
fn a_state_that_knows_less_than_the_folder_signs_nothing() {
    // The state is lost, or was put back from before.
    for lost in [true, false] {
        let (tenant, mut host) = tenant();
        let before = tenant.fork();
        renewed(&tenant);
        look(&tenant, &mut host).unwrap();
        std::fs::remove_dir_all(tenant.state()).unwrap();
        if !lost {
            std::process::Command::new("cp")
                .arg("-a")
                .args([before.state(), tenant.state()])
                .status()
                .unwrap();
        }
        let kept = head(&tenant);
        for error in [
            refused(&tenant.signer(), &Wish::default()),
            tenant.signer().adopt().unwrap_err().to_string(),
        ] {
            assert!(
                error.contains("has a successor that is not here") || error.contains("another copy of it runs"),
                "{error}"
            );
        }
        assert_eq!(head(&tenant), kept);
    }
}

#[test]
fn a_successor_that_somebody_else_named_is_told_at_once() {
    let (tenant, _) = tenant();
    let (stolen, thief) = (
        tenant.keys().publisher,
        SigningKey::generate(label("syncer-1")).unwrap(),
    );
    let succession = Succession {
        tenant: tenant.id,
        publisher: label("syncer-1"),
        version: 1,
        previous: None,
        issued: start(),
        anchor: stolen.verifying().clone(),
        key: thief.verifying().clone(),
    };
    let note = Note::sign(print(&succession).unwrap(), &[&stolen, &thief]).unwrap();
    let path = tenant.folder().join(Succession::path(stolen.verifying(), 1));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, note.to_string()).unwrap();
    tenant.minutes(1);
    let error = refused(&tenant.signer(), &Wish::default());
    assert!(
        error.contains("somebody stole the key") && error.contains("publisher rotate syncer-1"),
        "{error}"
    );
    assert!(note.to_string().len() < Succession::MOST);
}

#[test]
fn at_a_backend_the_old_key_is_ended_with_the_overlap() {
    let (tenant, mut host) = begun(Tenant::at_backend());
    let (site, first) = (tenant.site(), tenant.keys().publisher);
    let second = renewed(&tenant);
    let reads = |key: &SigningKey| site.of(key, &[&site.url()], &tenant.clock).has("policy/1").is_ok();
    assert!(reads(&first));
    assert_eq!(site.operator().publishers().unwrap().len(), 2);
    look(&tenant, &mut host).unwrap();
    tenant.minutes(7 * DAY);
    let settled = settle(&tenant.signer());
    assert_eq!(settled.problems, Vec::<String>::new());
    assert!(!reads(&first), "the old key is refused");
    let known = site.operator().publishers().unwrap();
    assert_eq!(known, [format!("{}+{}", second.name(), second.hash())]);
    look(&tenant, &mut host).unwrap();
    // It goes on with the new one.
    stock(&tenant.signer(), "corp", &snapshot(2000, &["alice", "bob"]));
    settle(&tenant.signer());
    assert!(look(&tenant, &mut host).unwrap()["corp"].contains("bob"));
}

#[test]
fn a_backend_that_takes_no_other_key_is_asked_with_the_old_one() {
    let (tenant, mut host) = begun(Tenant::at_backend());
    let site = tenant.site();
    // Somebody has taken the place of the successor.
    let rival = SigningKey::generate(label("syncer-1")).unwrap();
    site.operator().register_publisher(rival.verifying()).unwrap();
    let settled = tenant.signer().settle(&by_hand()).unwrap();
    assert!(settled.key.is_some());
    assert!(
        settled.problems.iter().any(|one| one.contains("policy push")),
        "{settled:?}"
    );
    look(&tenant, &mut host).unwrap();
    tenant.minutes(8 * DAY);
    assert!(settle(&tenant.signer()).head.is_some());
    look(&tenant, &mut host).unwrap();
    let id = format!("{}+{}", rival.verifying().name(), rival.verifying().hash());
    site.operator().end_key(&id).unwrap();
    tenant.minutes(1);
    settle(&tenant.signer());
    tenant.minutes(1);
    assert_eq!(settle(&tenant.signer()).problems, Vec::<String>::new());
    assert_eq!(site.operator().publishers().unwrap().len(), 1);
    look(&tenant, &mut host).unwrap();
}
