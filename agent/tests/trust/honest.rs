//! A server that does what it should.

use std::fs;

use dirless_seal::trust::Freshness;

use crate::support::{Host, Tenant, at, codes, copy, label, manifest};

#[test]
fn a_host_takes_what_its_tenant_signed_and_then_asks_for_no_body_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut tenant = Tenant::new(folder.path());
    let host = Host::join(&mut tenant);
    tenant.publish("local", "{\"users\":[]}", 0);
    tenant.publish("staff", "{}", 0);
    let walked = host.walk(folder.path(), 0);
    assert_eq!(walked.alarms, []);
    assert_eq!(
        walked.installed.iter().map(|source| source.changed).collect::<Vec<_>>(),
        [true, true]
    );
    assert_eq!(walked.heads[0].1, Freshness::Fresh);
    assert_eq!(host.plaintext("local").unwrap(), "{\"users\":[]}");

    // Without bodies and manifests to be had, nothing is missed.
    fs::remove_dir_all(folder.path().join("blob")).unwrap();
    fs::remove_dir_all(folder.path().join("manifest")).unwrap();
    let before = host.everything();
    let walked = host.walk(folder.path(), 1);
    assert_eq!(walked.alarms, []);
    assert!(walked.installed.iter().all(|source| !source.changed));
    assert_eq!(
        host.everything(),
        before,
        "a walk in which nothing changed writes nothing"
    );
}

#[test]
fn changes_policies_and_epochs_are_followed() {
    let folder = tempfile::tempdir().unwrap();
    let mut tenant = Tenant::new(folder.path());
    let host = Host::join(&mut tenant);
    tenant.publish("local", "one", 0);
    assert_eq!(codes(&host.walk(folder.path(), 0).alarms), [""; 0]);
    tenant.next_policy(|policy| policy.lease = 3600 * 48);
    tenant.next_policy(|policy| policy.lease = 3600 * 24);
    tenant.rotate();
    tenant.publish("local", "two", 5);
    let walked = host.walk(folder.path(), 5);
    assert_eq!(walked.alarms, []);
    assert_eq!(walked.policy.unwrap().version, 3);
    assert_eq!(host.plaintext("local").unwrap(), "two");
}

#[test]
fn a_source_that_its_publisher_or_the_policy_takes_back_is_withdrawn() {
    let folder = tempfile::tempdir().unwrap();
    let mut tenant = Tenant::new(folder.path());
    let host = Host::join(&mut tenant);
    tenant.publish("local", "one", 0);
    tenant.publish("staff", "two", 0);
    assert_eq!(host.walk(folder.path(), 0).withdrawn, []);
    tenant
        .manifests
        .retain(|note| manifest(note).source.as_str() != "staff");
    tenant.sign_head(1);
    assert_eq!(host.walk(folder.path(), 1).withdrawn, [label("staff")]);

    // A head that is not served says nothing about anybody.
    fs::remove_file(folder.path().join("head/syncer-1")).unwrap();
    let walked = host.walk(folder.path(), 2);
    assert_eq!((walked.withdrawn, codes(&walked.alarms)), (vec![], vec!["no-head"]));

    tenant.sign_head(2);
    tenant.next_policy(|policy| {
        policy.publishers[0].scope.sources.remove(&label("local"));
    });
    let walked = host.walk(folder.path(), 3);
    assert!(walked.withdrawn.contains(&label("local")), "{walked:?}");
}

#[test]
fn a_stick_carries_it_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let stick = tempfile::tempdir().unwrap();
    let mut tenant = Tenant::new(folder.path());
    let host = Host::join(&mut tenant);
    tenant.publish("local", "one", 0);
    copy(folder.path(), stick.path());
    assert_eq!(host.walk(stick.path(), 0).alarms, []);
    assert_eq!(host.plaintext("local").unwrap(), "one");
}

#[test]
fn a_host_that_died_after_any_write_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let mut tenant = Tenant::new(folder.path());
    let host = Host::join(&mut tenant);
    tenant.publish("local", "one", 0);
    assert_eq!(host.walk(folder.path(), 0).alarms, []);
    let old = fs::read(host.folder.path().join("trust/memory")).unwrap();
    tenant.next_policy(|policy| policy.expires = at(60 * 24 * 700));
    tenant.publish("staff", "two", 1);
    assert_eq!(host.walk(folder.path(), 1).alarms, []);

    // The memory is written first: what it speaks of may not be there yet.
    for lost in ["trust/policy", "staff.sealed", "local.sealed"] {
        fs::remove_file(host.folder.path().join(lost)).unwrap();
        assert_eq!(host.walk(folder.path(), 2).alarms, [], "{lost}");
        assert!(host.folder.path().join(lost).exists(), "{lost}");
    }
    // A key that is gone is fetched again with the next body that it opens.
    fs::remove_file(host.folder.path().join("trust/wrap-all-1")).unwrap();
    tenant.publish("local", "three", 2);
    assert_eq!(host.walk(folder.path(), 2).alarms, []);
    assert_eq!(host.plaintext("local").unwrap(), "three");

    // An older memory that somebody restored makes the host look again, and nothing else.
    fs::write(host.folder.path().join("trust/memory"), old).unwrap();
    assert_eq!(host.walk(folder.path(), 3).alarms, []);
}

#[test]
fn a_damaged_memory_stops_everything_and_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let mut tenant = Tenant::new(folder.path());
    let host = Host::join(&mut tenant);
    tenant.publish("local", "one", 0);
    host.walk(folder.path(), 0);
    let memory = host.folder.path().join("trust/memory");
    for damaged in ["", "dirless/memory/v1\n", "garbage\n", "\u{0}"] {
        fs::write(&memory, damaged).unwrap();
        tenant.publish("local", "two", 1);
        let walked = host.walk(folder.path(), 1);
        assert_eq!(codes(&walked.alarms), ["disk"], "{damaged:?}");
        assert!(walked.alarms[0].reason.contains("restore it"), "{:?}", walked.alarms);
        assert_eq!(host.plaintext("local").unwrap(), "one");
    }
}
