//! What the syncer does not sign.

use std::collections::BTreeSet;

use dirless_seal::trust::{Right, print};
use dirless_seal::{Digest, Note, SigningKey};
use dirless_syncer::signed::{Kind, Settled, Signer, Wish};

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
fn what_is_outside_the_scope_is_left_out_alone_and_named() {
    for percent in [0, 50] {
        let tenant = Tenant::new().logging(percent);
        let signer = tenant.signer();
        let good = snapshot(2000, &["alice"]);
        stock(&signer, "corp", &good);
        stock(&signer, "local", &good);
        settle(&signer);
        let mut host = tenant.join("web-1", &["all"]);
        let names = |host: &mut Host, source: &str| {
            let seen = host.look(&tenant.folder(), tenant.clock.now()).unwrap();
            let document: serde_json::Value = serde_json::from_str(&seen[source]).unwrap();
            let users = document["users"].as_array().unwrap().iter();
            users
                .map(|user| user["username"].as_str().unwrap().to_owned())
                .collect::<BTreeSet<_>>()
        };
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(names(&mut host, "corp"), set(&["alice"]));
        // Ids up to 2999 are this publisher's.
        stock(&signer, "corp", &snapshot(2998, &["alice", "bob", "carol"]));
        stock(&signer, "local", &snapshot(2000, &["alice", "carol"]));
        stock(&signer, "hr", &good);
        let settled = settle(&signer);
        let told = settled.problems.join("\n");
        assert!(
            told.contains(
                "source corp is published without what policy 1 does not let syncer-1 say: user carol: uid 3000"
            ),
            "{told}"
        );
        assert!(
            told.contains("source hr is not published") && told.contains("source hr itself"),
            "{told}"
        );
        assert_eq!(settled.held, [label("hr")]);
        assert_eq!(names(&mut host, "corp"), set(&["alice", "bob"]));
        assert_eq!(names(&mut host, "local"), set(&["alice", "carol"]));
        // It is told as long as it is so, and nothing is done again for it.
        let settled = settle(&signer);
        assert!(settled.problems.join("\n").contains("user carol") && settled.published.is_empty());
        // Who goes is gone, whatever stands beside.
        stock(&signer, "corp", &snapshot(2999, &["bob", "carol"]));
        assert_eq!(settle(&signer).published.len(), 1);
        assert_eq!(names(&mut host, "corp"), set(&["bob"]));
        // Sealed anew, it is the same; also when what was made for it is gone.
        let bodies = tenant.state().join("body");
        std::fs::remove_dir_all(&bodies).unwrap_or_else(|error| panic!("{}: {error}", bodies.display()));
        stock(&signer, "corp", &snapshot(2999, &["bob", "carol", "dave"]));
        stock(&signer, "local", &good);
        settle(&signer);
        assert_eq!(names(&mut host, "corp"), set(&["bob"]));
        // The roots widen the scope.
        tenant.next_policy(|policy| policy.publishers[0].scope.ids = vec!["2000-3999".parse().unwrap()]);
        let settled = settle(&signer);
        assert_eq!(settled.published.len(), 1, "{settled:?}");
        assert_eq!(names(&mut host, "corp"), set(&["bob", "carol", "dave"]));
    }
}

#[test]
fn what_is_held_back_goes_into_the_next_epoch_as_it_was_published() {
    for percent in [0, 50] {
        let tenant = Tenant::new().logging(percent);
        let signer = tenant.signer();
        let rules = |signer: &Signer, number: u32| {
            let text = format!(r#"{{"host_group_rules":[{number}]}}"#);
            let source = label("access-rules");
            let new = signer.stock(&source, Kind::AccessRules, &text, text.as_bytes());
            assert!(new.unwrap());
        };
        rules(&signer, 1);
        settle(&signer);
        let mut host = tenant.join("web-1", &["all"]);
        let mut stolen = tenant.join("web-2", &["all"]);
        rules(&signer, 2);
        settle(&signer);
        let shows = |host: &mut Host, number: u32| {
            let seen = host.look(&tenant.folder(), tenant.clock.now()).unwrap();
            assert_eq!(seen["access-rules"], format!(r#"{{"host_group_rules":[{number}]}}"#));
        };
        shows(&mut host, 2);
        shows(&mut stolen, 2);
        // Rules mean something as a whole.
        tenant.next_policy(|policy| {
            policy.publishers[0].scope.may.remove(&Right::Access);
        });
        rules(&signer, 3);
        let held = |settled: &Settled| {
            let told = settled.problems.join("\n");
            assert!(
                told.contains("source access-rules is not published anew, for it says what policy 2"),
                "{told}"
            );
            settled.held == [label("access-rules")]
        };
        assert!(held(&settle(&signer)));
        shows(&mut host, 2);

        signer.enroller().revoke(&["web-2".to_owned()]).unwrap();
        let settled = settle(&signer);
        assert!(settled.epochs.len() == 1 && held(&settled), "{settled:?}");
        shows(&mut host, 2);
        shows(&mut tenant.join("web-3", &["all"]), 2);
        assert!(stolen.look(&tenant.folder(), tenant.clock.now()).is_err());
        let wish = Wish {
            epochs: [label("all")].into(),
            ..Wish::default()
        };
        let settled = signer.settle(&wish).unwrap();
        assert!(settled.epochs.len() == 1 && held(&settled), "{settled:?}");
        shows(&mut tenant.join("web-4", &["all"]), 2);
        // Nothing is left to be done.
        assert_eq!(settle(&signer).published, []);

        tenant.next_policy(|policy| {
            policy.publishers[0].scope.may.insert(Right::Access);
        });
        assert_eq!(settle(&signer).published.len(), 1);
        shows(&mut host, 3);
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
