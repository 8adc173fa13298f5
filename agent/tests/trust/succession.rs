//! A publisher's key names its successor: hosts follow it, also those that slept, and nobody who stole a key.

use std::fs;
use std::path::Path;

use dirless_agent::trust::kept;
use dirless_seal::trust::{Freshness, Succession};
use dirless_seal::{Digest, SigningKey};

use crate::support::{Host, Tenant, at, codes, copy, label, signed};

fn stranger(name: &str) -> SigningKey {
    SigningKey::generate(label(name)).unwrap()
}

fn same(key: &SigningKey) -> SigningKey {
    SigningKey::parse(&key.expose()).unwrap()
}

/// A tenant whose first snapshot a host has.
fn begun(folder: &Path) -> (Tenant, Host) {
    let mut tenant = Tenant::new(folder);
    let host = Host::join(&mut tenant);
    tenant.publish("local", "first", 0);
    assert_eq!(host.walk(folder, 0).alarms, []);
    (tenant, host)
}

/// The key names a successor, and everything is published anew.
fn renewed(tenant: &mut Tenant, text: &str, minute: i64) {
    tenant.succeed(minute);
    tenant.publish("local", text, minute);
}

#[test]
fn a_host_follows_during_the_overlap_and_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let (mut tenant, host) = begun(folder.path());
    renewed(&mut tenant, "second", 1);
    assert_eq!(host.walk(folder.path(), 1).alarms, []);
    assert_eq!(host.plaintext("local").unwrap(), "second");
    // With the signature of both under the same head there is nothing to look for any more.
    let before = host.everything();
    assert_eq!(host.walk(folder.path(), 1).alarms, []);
    assert_eq!(host.everything(), before);
    tenant.along = None;
    tenant.publish("local", "third", 2);
    assert_eq!(host.walk(folder.path(), 2).alarms, []);
    assert_eq!(host.plaintext("local").unwrap(), "third");
}

#[test]
fn without_the_succession_the_overlap_is_bridged_and_no_more() {
    let (folder, served) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut tenant, host) = begun(folder.path());
    renewed(&mut tenant, "second", 1);
    copy(folder.path(), served.path());
    fs::remove_dir_all(served.path().join("succession")).unwrap();
    assert_eq!(host.walk(served.path(), 1).alarms, []);
    assert_eq!(host.plaintext("local").unwrap(), "second");
    tenant.along = None;
    tenant.publish("local", "third", 2);
    copy(folder.path(), served.path());
    fs::remove_dir_all(served.path().join("succession")).unwrap();
    assert_eq!(codes(&host.walk(served.path(), 2).alarms), ["forged"]);
    assert_eq!(host.plaintext("local").unwrap(), "second");
    // With it all is well again.
    assert_eq!(host.walk(folder.path(), 3).alarms, []);
    assert_eq!(host.plaintext("local").unwrap(), "third");
}

#[test]
fn hosts_that_slept_over_two_rotations_and_new_ones_catch_up() {
    let folder = tempfile::tempdir().unwrap();
    let (mut tenant, asleep) = begun(folder.path());
    for (text, minute) in [("second", 1), ("third", 2), ("fourth", 3)] {
        renewed(&mut tenant, text, minute);
    }
    tenant.along = None;
    tenant.publish("local", "fifth", 4);
    let new = Host::join(&mut tenant);
    for host in [&asleep, &new] {
        assert_eq!(host.walk(folder.path(), 5).alarms, []);
        assert_eq!(host.plaintext("local").unwrap(), "fifth");
        // What they know of it survives a restart, and is asked for once.
        fs::rename(folder.path().join("succession"), folder.path().join("away")).unwrap();
        assert_eq!(host.walk(folder.path(), 6).alarms, []);
        fs::rename(folder.path().join("away"), folder.path().join("succession")).unwrap();
    }
}

#[test]
fn a_stolen_old_key_says_nothing_after_it_was_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let (mut tenant, host) = begun(folder.path());
    let stolen = same(&tenant.publisher);
    renewed(&mut tenant, "second", 1);
    assert_eq!(host.walk(folder.path(), 1).alarms, []);
    let body = fs::read(host.body("local")).unwrap();
    let thieves = stranger("syncer-1");
    let lies: [(&str, Vec<&str>); 3] = [
        ("alone", vec!["forged"]),
        ("rival", vec!["fork"]),
        ("next", vec!["forged", "forged"]),
    ];
    for (lie, expected) in lies {
        let served = tempfile::tempdir().unwrap();
        copy(folder.path(), served.path());
        let mut thief = Tenant::new(&served.path().join("aside"));
        (thief.id, thief.policy) = (tenant.id, tenant.policy.clone());
        (thief.head, thief.folder) = (tenant.head, served.path().to_owned());
        thief.manifests.clone_from(&tenant.manifests);
        thief.publisher = same(&stolen);
        if lie == "rival" {
            // Another successor in the place of the true one, and heads by that.
            let note = signed(&thief.succession(&thieves, 1), &[&stolen, &thieves]);
            thief.put_succession(1, &note);
            thief.publisher = same(&thieves);
        } else if lie == "next" {
            // One on top of the true one, by a key that may not say so any more.
            thief.successions.clone_from(&tenant.successions);
            let note = signed(&thief.succession(&thieves, 1), &[&stolen, &thieves]);
            thief.put_succession(2, &note);
            thief.publisher = same(&thieves);
        }
        thief.publish("local", "root::0:0::/:/bin/sh", 2);
        let walked = host.walk(served.path(), 2);
        assert_eq!(codes(&walked.alarms), expected, "{lie}: {:?}", walked.alarms);
        assert_eq!(fs::read(host.body("local")).unwrap(), body, "{lie}");
    }
    tenant.publish("local", "third", 3);
    assert_eq!(host.walk(folder.path(), 3).alarms, []);
}

#[test]
fn a_policy_ends_the_chain() {
    let folder = tempfile::tempdir().unwrap();
    let (mut tenant, host) = begun(folder.path());
    renewed(&mut tenant, "second", 1);
    assert_eq!(host.walk(folder.path(), 1).alarms, []);
    // Somebody has the successor; the roots name another key, and the chain of before counts for nothing.
    let (lost, named) = (same(&tenant.publisher), stranger("syncer-1"));
    tenant.next_policy(|policy| policy.publishers[0].key = named.verifying().clone());
    tenant.along = None;
    tenant.publish("local", "of the thief", 2);
    assert_eq!(codes(&host.walk(folder.path(), 2).alarms), ["forged"]);
    assert_eq!(host.plaintext("local").unwrap(), "second");
    // The new key counts its successors from one again.
    tenant.successions.clear();
    tenant.publisher = named;
    tenant.publish("local", "third", 3);
    assert_eq!(host.walk(folder.path(), 3).alarms, []);
    renewed(&mut tenant, "fourth", 4);
    tenant.along = None;
    tenant.publish("local", "fifth", 5);
    assert_eq!(host.walk(folder.path(), 5).alarms, []);
    // A policy that names the newest key ends the chain and changes nothing for hosts.
    let newest = tenant.publisher.verifying().clone();
    tenant.next_policy(|policy| policy.publishers[0].key = newest);
    tenant.sign_head(6);
    assert_eq!(host.walk(folder.path(), 6).alarms, []);
    tenant.publisher = lost;
    tenant.publish("local", "of the thief", 7);
    assert_eq!(codes(&host.walk(folder.path(), 7).alarms), ["forged"]);
    assert_eq!(host.plaintext("local").unwrap(), "fifth");
}

#[test]
fn what_is_served_in_place_of_a_succession_has_its_code_and_changes_nothing() {
    type Lie = fn(&Tenant, &SigningKey, &SigningKey) -> Vec<u8>;
    let lies: [(&str, Lie); 8] = [
        ("no-note", |_, _, _| b"<html>".to_vec()),
        ("too-long", |_, _, _| vec![b'a'; 5000]),
        ("malformed", |_, old, new| {
            let text = "dirless/succession/v1\ntenant x\n".to_owned();
            dirless_seal::Note::sign(text, &[old, new])
                .unwrap()
                .to_string()
                .into_bytes()
        }),
        ("forged", |tenant, _, new| {
            signed(&tenant.succession(new, 1), &[new]).to_string().into_bytes()
        }),
        ("forged", |tenant, old, new| {
            signed(&tenant.succession(new, 1), &[old]).to_string().into_bytes()
        }),
        ("other-tenant", |tenant, old, new| {
            let other = Succession {
                tenant: Digest::of(b"other"),
                ..tenant.succession(new, 1)
            };
            signed(&other, &[old, new]).to_string().into_bytes()
        }),
        ("forged", |tenant, old, new| {
            let other = Succession {
                anchor: stranger("syncer-1").verifying().clone(),
                ..tenant.succession(new, 1)
            };
            signed(&other, &[old, new]).to_string().into_bytes()
        }),
        ("chain", |tenant, old, new| {
            let gap = Succession {
                version: 2,
                previous: Some(Digest::of(b"before")),
                ..tenant.succession(new, 1)
            };
            signed(&gap, &[old, new]).to_string().into_bytes()
        }),
    ];
    for (code, lie) in lies {
        let folder = tempfile::tempdir().unwrap();
        let (mut tenant, host) = begun(folder.path());
        let old = same(&tenant.publisher);
        let path = Succession::path(&tenant.policy.publishers[0].key, 1);
        let (fresh, before) = (stranger("syncer-1"), host.everything());
        let lied = lie(&tenant, &old, &fresh);
        // Heads that are signed by the new key alone: nobody but the succession says whose it is.
        tenant.publisher = fresh;
        tenant.write(&path, lied);
        tenant.publish("local", "second", 1);
        assert_eq!(codes(&host.walk(folder.path(), 2).alarms), [code, "forged"], "{code}");
        assert_eq!(host.everything(), before, "{code}");
        // During the overlap the key that is known holds on.
        tenant.along = Some(old);
        tenant.publish("local", "third", 3);
        assert_eq!(codes(&host.walk(folder.path(), 3).alarms), [code], "{code}");
        assert_eq!(host.plaintext("local").unwrap(), "third");
    }
}

#[test]
fn one_that_is_served_twice_is_no_second_one() {
    let folder = tempfile::tempdir().unwrap();
    let (mut tenant, host) = begun(folder.path());
    renewed(&mut tenant, "second", 1);
    tenant.put_succession(2, &tenant.successions[0]);
    assert_eq!(codes(&host.walk(folder.path(), 1).alarms), ["mixed"]);
    assert_eq!(host.plaintext("local").unwrap(), "second");
}

#[test]
fn the_last_head_counts_on_when_its_key_has_a_successor() {
    let folder = tempfile::tempdir().unwrap();
    let (mut tenant, host) = begun(folder.path());
    renewed(&mut tenant, "second", 1);
    tenant.along = None;
    // An old version under the new key: the succession is accepted, the head is not.
    tenant.head = 0;
    tenant.sign_head(1);
    let walked = host.walk(folder.path(), 1);
    assert_eq!(codes(&walked.alarms), ["fork"]);
    assert_eq!(walked.heads[0].1, Freshness::Fresh);
    let walked = kept(&host.keeper, at(25 * 60)).unwrap();
    assert_eq!((codes(&walked.alarms), walked.lapsed.len()), (vec!["expired"], 0));
}
