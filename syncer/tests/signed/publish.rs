//! What is stocked reaches hosts, and heads follow each other.

use dirless_seal::trust::Wrap;
use dirless_syncer::signed::{Kind, Wish};

use crate::support::*;

#[test]
fn hosts_read_what_was_stocked_and_nothing_else_moves() {
    let tenant = Tenant::new();
    let signer = tenant.signer();
    let one = snapshot(2000, &["alice"]);
    stock(&signer, "corp", &one);
    let settled = settle(&signer);
    assert_eq!(settled.head, Some(1));
    assert_eq!(settled.published.len(), 1);
    assert_eq!(settled.epochs.len(), 1);
    assert_eq!(settled.problems, Vec::<String>::new());

    let mut host = tenant.join("web-1", &["all"]);
    let seen = host.look(&tenant.folder(), tenant.clock.now()).unwrap();
    assert_eq!(seen["corp"].as_bytes(), one);

    // The same again is nothing new, and a young head stays.
    let before = head(&tenant);
    stock(&signer, "corp", &one);
    let settled = settle(&signer);
    assert_eq!((settled.head, settled.published.len()), (None, 0));
    assert_eq!(head(&tenant), before);
    assert!(!signer.is_due().unwrap());
    tenant.minutes(1);
    assert!(signer.is_due().unwrap());
    assert_eq!(settle(&signer).head, Some(before.version + 1));
    assert_eq!(head(&tenant).entries, before.entries);
    host.look(&tenant.folder(), tenant.clock.now()).unwrap();

    let two = snapshot(2000, &["alice", "bob"]);
    stock(&signer, "corp", &two);
    stock(&signer, "local", &one);
    settle(&signer);
    let seen = host.look(&tenant.folder(), tenant.clock.now()).unwrap();
    assert_eq!(
        (seen["corp"].as_bytes(), seen["local"].as_bytes()),
        (two.as_slice(), one.as_slice())
    );
}

#[test]
fn compartments_have_their_own_sources_and_keys() {
    let tenant = Tenant::with(&[("db", Some(&["corp", "local"])), ("web", Some(&["corp"]))]);
    let signer = tenant.signer();
    stock(&signer, "corp", &snapshot(2000, &["alice"]));
    stock(&signer, "local", &snapshot(2100, &["dba"]));
    settle(&signer);
    let (mut web, mut db) = (tenant.join("web-1", &["web"]), tenant.join("db-1", &["db"]));
    let now = tenant.clock.now();
    let sources = |seen: Seen| seen.into_keys().collect::<Vec<_>>();
    assert_eq!(sources(web.look(&tenant.folder(), now).unwrap()), ["corp"]);
    assert_eq!(sources(db.look(&tenant.folder(), now).unwrap()), ["corp", "local"]);
    assert!(!tenant.folder().join(format!("wrap/db/1/{}", web.name())).exists());
}

#[test]
fn epochs_end_when_their_time_is_over_or_somebody_asks() {
    let tenant = Tenant::new();
    let signer = tenant.signer();
    stock(&signer, "corp", &snapshot(2000, &["alice"]));
    settle(&signer);
    let mut host = tenant.join("web-1", &["all"]);
    let epochs = |wish: &Wish| {
        signer
            .settle(wish)
            .unwrap()
            .epochs
            .into_iter()
            .map(|begun| begun.number)
            .collect::<Vec<_>>()
    };
    tenant.minutes(29 * 24 * 60);
    assert_eq!(epochs(&Wish::default()), Vec::<u64>::new());
    tenant.minutes(25 * 60);
    assert_eq!(epochs(&Wish::default()), [2]);
    let wish = Wish {
        epochs: [label("all")].into(),
        ..Wish::default()
    };
    assert_eq!(epochs(&wish), [3]);
    assert_eq!(host.look(&tenant.folder(), tenant.clock.now()).unwrap().len(), 1);
    // Keys of earlier epochs are forgotten here; the recovery recipient still has theirs.
    let keys: Vec<_> = std::fs::read_dir(tenant.state().join("epoch-key/all"))
        .unwrap()
        .collect();
    assert_eq!(keys.len(), 1);
    for epoch in 1..=3 {
        let wrap = std::fs::read(tenant.folder().join(format!("wrap/all/{epoch}/recovery-1"))).unwrap();
        assert_eq!(Wrap::open(&wrap, &tenant.recovery).unwrap().epoch, epoch);
    }
}

#[test]
fn other_recovery_recipients_begin_an_epoch() {
    let tenant = Tenant::new();
    let signer = tenant.signer();
    stock(&signer, "corp", &snapshot(2000, &["alice"]));
    settle(&signer);
    let other = dirless_seal::Identity::generate();
    tenant.next_policy(|policy| policy.recovery = vec![other.recipient()]);
    let settled = settle(&signer);
    assert_eq!(settled.epochs[0].number, 2);
    let wrap = std::fs::read(tenant.folder().join("wrap/all/2/recovery-1")).unwrap();
    assert!(Wrap::open(&wrap, &tenant.recovery).is_err() && Wrap::open(&wrap, &other).is_ok());
    assert_eq!(head(&tenant).policy, 2);
}

#[test]
fn bodies_linger_for_a_day_and_plaintexts_do_not() {
    let tenant = Tenant::new();
    let signer = tenant.signer();
    let count = |folder: std::path::PathBuf| std::fs::read_dir(folder).unwrap().count();
    for number in 2000..2003 {
        stock(&signer, "corp", &snapshot(number, &["alice"]));
        settle(&signer);
    }
    assert_eq!(count(tenant.folder().join("blob")), 3);
    // And which records it has.
    assert_eq!(count(tenant.state().join("body")), 2);
    tenant.minutes(25 * 60);
    settle(&signer);
    assert_eq!(count(tenant.folder().join("blob")), 1);
}

#[test]
fn a_source_that_is_withdrawn_leaves_the_head() {
    let tenant = Tenant::new();
    let signer = tenant.signer();
    stock(&signer, "corp", &snapshot(2000, &["alice"]));
    stock(&signer, "local", &snapshot(2100, &["bob"]));
    settle(&signer);
    assert!(signer.withdraw(&label("local")).unwrap());
    settle(&signer);
    assert_eq!(head(&tenant).entries.len(), 1);
    assert!(!signer.withdraw(&label("none")).unwrap());
    // Coming back it counts on.
    stock(&signer, "local", &snapshot(2100, &["bob"]));
    settle(&signer);
    let head = head(&tenant);
    assert_eq!(head.entry(&label("local"), &label("all")).unwrap().version, 2);
}

#[test]
fn access_rules_travel_whole() {
    let tenant = Tenant::new();
    let signer = tenant.signer();
    let rules = br#"{"enforce_group_memberships":true,"host_group_rules":[]}"#;
    signer
        .stock(&label("access-rules"), Kind::AccessRules, "x", rules)
        .unwrap();
    settle(&signer);
    let mut host = tenant.join("web-1", &["all"]);
    let seen = host.look(&tenant.folder(), tenant.clock.now()).unwrap();
    assert_eq!(seen["access-rules"].as_bytes(), rules);
}

#[test]
fn what_is_no_snapshot_is_not_stocked() {
    let tenant = Tenant::new();
    let signer = tenant.signer();
    let error = signer.stock(&label("corp"), Kind::Snapshot, "x", b"[]").unwrap_err();
    assert!(error.to_string().contains("source corp"), "{error}");
    assert!(signer.stocked(&label("corp")).unwrap().is_none());
}
