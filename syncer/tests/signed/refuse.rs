//! What the syncer does not sign.

use std::collections::BTreeSet;

use dirless_seal::trust::{Right, print};
use dirless_seal::{Digest, Note, SigningKey};
use dirless_syncer::signed::{Settled, Wish};

use crate::support::*;

fn error(tenant: &Tenant) -> String {
    tenant.signer().settle(&Wish::default()).unwrap_err().to_string()
}

#[test]
fn nothing_is_signed_without_a_policy_that_holds() {
    let tenant = Tenant::new();
    let path = tenant.folder().join("policy/1");
    let good = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(error(&tenant).contains("no policy/1"));
    // Signed by one root of two.
    let note = Note::sign(print(&tenant.policy()).unwrap(), &[&tenant.roots[0]]).unwrap();
    std::fs::write(&path, note.to_string()).unwrap();
    assert!(error(&tenant).contains("not signed by anybody"));
    // Of other roots than the configured ones.
    let mut policy = tenant.policy();
    policy.threshold = 1;
    tenant.put_policy(&policy);
    assert!(error(&tenant).contains("roots"));
    std::fs::write(&path, good).unwrap();
    assert_eq!(settle(&tenant.signer()).head, Some(1));
}

#[test]
fn a_policy_that_does_not_hold_leaves_the_one_before_in_force() {
    let tenant = Tenant::new();
    settle(&tenant.signer());
    tenant.next_policy(|policy| policy.previous = Some(Digest::of(b"another")));
    tenant.minutes(1);
    let settled = settle(&tenant.signer());
    assert!(
        settled.head.is_some() && settled.problems[0].contains("policy 1 holds on"),
        "{settled:?}"
    );
    assert_eq!(tenant.signer().book().unwrap().problems, settled.problems);
}

#[test]
fn a_publisher_that_was_withdrawn_signs_nothing_more() {
    let tenant = Tenant::new();
    let signer = tenant.signer();
    stock(&signer, "corp", &snapshot(2000, &["alice"]));
    settle(&signer);
    let before = head(&tenant);
    tenant.next_policy(|policy| {
        policy.publishers[0].key = SigningKey::generate(label("syncer-1")).unwrap().verifying().clone();
    });
    tenant.minutes(5);
    assert!(error(&tenant).contains("withdrawn"));
    assert_eq!(head(&tenant), before);
}

#[test]
fn a_compartment_that_the_policy_lacks_is_named() {
    let mut tenant = Tenant::new();
    tenant.compartments[0].name = label("web");
    assert!(error(&tenant).contains("no compartment web"));
}

#[test]
fn what_is_outside_the_scope_stays_unpublished_and_is_named() {
    let tenant = Tenant::new();
    let signer = tenant.signer();
    let good = snapshot(2000, &["alice"]);
    stock(&signer, "corp", &good);
    stock(&signer, "local", &good);
    settle(&signer);
    let mut host = tenant.join("web-1", &["all"]);
    stock(&signer, "corp", &snapshot(2999, &["alice", "bob"]));
    let two = snapshot(2000, &["alice", "carol"]);
    stock(&signer, "local", &two);
    stock(&signer, "hr", &good);
    let settled = settle(&signer);
    let told = settled.problems.join("\n");
    assert!(
        told.contains("user bob: uid 3000") && told.contains("source hr itself"),
        "{told}"
    );
    let seen = host.look(&tenant.folder(), tenant.clock.now()).unwrap();
    assert_eq!(seen["corp"].as_bytes(), good);
    assert_eq!(seen["local"].as_bytes(), two);
    // The roots widen the scope.
    tenant.next_policy(|policy| policy.publishers[0].scope.ids = vec!["2000-3999".parse().unwrap()]);
    let settled = settle(&signer);
    assert_eq!(settled.published.len(), 1, "{settled:?}");
}

#[test]
fn what_is_held_back_goes_into_the_next_epoch_as_it_was_published() {
    for percent in [0, 50] {
        let tenant = Tenant::new().logging(percent);
        let signer = tenant.signer();
        stock(&signer, "corp", &snapshot(2000, &["alice"]));
        settle(&signer);
        let mut host = tenant.join("web-1", &["all"]);
        let mut stolen = tenant.join("web-2", &["all"]);
        let good = snapshot(2000, &["alice", "bob"]);
        stock(&signer, "corp", &good);
        settle(&signer);
        stock(&signer, "corp", &snapshot(2999, &["alice", "carol"]));
        settle(&signer);
        let shows_good = |host: &mut Host| {
            let seen = host.look(&tenant.folder(), tenant.clock.now()).unwrap();
            // A log leaves the records in another order.
            let users = |text: &[u8]| {
                let document: serde_json::Value = serde_json::from_slice(text).unwrap();
                let users = document["users"].as_array().unwrap().iter();
                users.map(ToString::to_string).collect::<BTreeSet<_>>()
            };
            assert_eq!(users(seen["corp"].as_bytes()), users(&good));
        };
        shows_good(&mut host);
        shows_good(&mut stolen);
        let held = |settled: &Settled| {
            settled
                .problems
                .join("\n")
                .contains("source corp is not published anew")
        };

        signer.enroller().revoke(&["web-2".to_owned()]).unwrap();
        let settled = settle(&signer);
        assert!(settled.epochs.len() == 1 && held(&settled), "{settled:?}");
        shows_good(&mut host);
        shows_good(&mut tenant.join("web-3", &["all"]));
        assert!(stolen.look(&tenant.folder(), tenant.clock.now()).is_err());

        // Also when by now not even that could be said anew: hosts leave out of it what the policy does not let it say.
        tenant.next_policy(|policy| policy.publishers[0].scope.names = vec!["a*".parse().unwrap()]);
        let wish = Wish {
            epochs: [label("all")].into(),
            ..Wish::default()
        };
        let settled = signer.settle(&wish).unwrap();
        assert!(settled.epochs.len() == 1 && held(&settled), "{settled:?}");
        shows_good(&mut host);
        shows_good(&mut tenant.join("web-4", &["all"]));
        // Nothing is left to be done.
        assert_eq!(settle(&signer).published, []);

        stock(&signer, "corp", &snapshot(2000, &["anna"]));
        assert_eq!(settle(&signer).published.len(), 1);
        host.look(&tenant.folder(), tenant.clock.now()).unwrap();
    }
}

#[test]
fn a_source_that_the_policy_takes_away_leaves_the_head() {
    let tenant = Tenant::new();
    let signer = tenant.signer();
    stock(&signer, "corp", &snapshot(2000, &["alice"]));
    stock(&signer, "local", &snapshot(2100, &["bob"]));
    settle(&signer);
    tenant.next_policy(|policy| {
        policy.publishers[0].scope.sources.remove(&label("local"));
        policy.publishers[0].scope.may.remove(&Right::Access);
    });
    let settled = settle(&signer);
    assert!(settled.problems[0].contains("source local itself"));
    assert_eq!(head(&tenant).entries.len(), 1);
    tenant
        .join("web-1", &["all"])
        .look(&tenant.folder(), tenant.clock.now())
        .unwrap();
}

#[test]
fn another_copy_of_the_syncer_is_noticed_and_a_lost_state_is_taken_over() {
    let tenant = Tenant::new();
    let signer = tenant.signer();
    let text = snapshot(2000, &["alice"]);
    stock(&signer, "corp", &text);
    settle(&signer);
    let mut host = tenant.join("web-1", &["all"]);
    host.look(&tenant.folder(), tenant.clock.now()).unwrap();
    let before = head(&tenant);

    std::fs::remove_dir_all(tenant.state()).unwrap();
    let message = error(&tenant);
    assert!(
        message.contains("another copy") && message.contains("signing adopt"),
        "{message}"
    );
    assert_eq!(head(&tenant), before);

    let adopted = tenant.signer().adopt().unwrap();
    assert_eq!((adopted.head, adopted.snapshots, adopted.nodes), (before.version, 1, 1));
    let settled = settle(&tenant.signer());
    assert_eq!(settled.epochs[0].number, 2);
    host.look(&tenant.folder(), tenant.clock.now()).unwrap();
    stock(&tenant.signer(), "corp", &text);
    settle(&tenant.signer());
    let seen = host.look(&tenant.folder(), tenant.clock.now()).unwrap();
    assert_eq!(seen["corp"].as_bytes(), text);
    let entry = head(&tenant).entries[0].clone();
    assert_eq!(entry.version, 2);
}

#[test]
fn a_state_from_a_backup_is_behind_and_refused() {
    let tenant = Tenant::new();
    settle(&tenant.signer());
    let book = tenant.state().join("book/syncer-1.json");
    let old = std::fs::read(&book).unwrap();
    tenant.minutes(1);
    settle(&tenant.signer());
    std::fs::write(&book, old).unwrap();
    assert!(error(&tenant).contains("has head 2"));
    tenant.signer().adopt().unwrap();
    assert_eq!(settle(&tenant.signer()).head, Some(3));
}

#[test]
fn a_head_that_somebody_else_wrote_is_told_and_replaced() {
    let tenant = Tenant::new();
    settle(&tenant.signer());
    std::fs::write(tenant.folder().join("head/syncer-1"), "nonsense").unwrap();
    tenant.minutes(1);
    let settled = settle(&tenant.signer());
    assert!(settled.problems[0].contains("somebody else"), "{settled:?}");
    assert_eq!(head(&tenant).version, 2);
}

#[test]
fn a_damaged_state_says_which_file() {
    let tenant = Tenant::new();
    settle(&tenant.signer());
    std::fs::write(tenant.state().join("epoch/all.json"), "{").unwrap();
    assert!(error(&tenant).contains("epoch/all.json"));
}
