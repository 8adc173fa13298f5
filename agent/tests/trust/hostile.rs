//! A server that lies: each lie has its code, changes nothing, and the last good body stays.

use std::fs;
use std::path::Path;

use dirless_seal::trust::{Head, LARGEST_STEP, Lease, Manifest};
use dirless_seal::{Digest, Identity, Note, SigningKey, seal_file};

use crate::support::{Host, Tenant, codes, copy, label, manifest, manifest_path, signed};

/// A tenant with one good snapshot that a host has, and a second one. `lie` does what it likes with what is served; the
/// codes of the alarms that the host raises.
fn lied(lie: impl FnOnce(&mut Tenant, &Path)) -> Vec<&'static str> {
    let (folder, served) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut tenant = Tenant::new(folder.path());
    let host = Host::join(&mut tenant);
    tenant.publish("local", "first", 0);
    assert_eq!(host.walk(folder.path(), 0).alarms, []);
    let body = fs::read(host.body("local")).unwrap();
    tenant.publish("local", "second", 1);
    copy(folder.path(), served.path());
    let (head, manifests) = (tenant.head, tenant.manifests.clone());
    tenant.folder = served.path().to_owned();
    lie(&mut tenant, served.path());
    let walked = host.walk(served.path(), 2);
    assert!(walked.withdrawn.is_empty(), "{walked:?}");
    assert_eq!(
        fs::read(host.body("local")).unwrap(),
        body,
        "the last good body was replaced: {walked:?}"
    );

    // The truth heals it.
    (tenant.head, tenant.manifests) = (head, manifests);
    tenant.folder = folder.path().to_owned();
    let truth = host.walk(folder.path(), 3);
    assert_eq!(truth.alarms, [], "after {:?}", walked.alarms);
    assert_eq!(host.plaintext("local").unwrap(), "second");
    codes(&walked.alarms)
}

/// The path of the body that is being lied about.
fn blob(tenant: &Tenant) -> String {
    format!("blob/{}", manifest(&tenant.manifests[0]).ciphertext)
}

fn change(served: &Path, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let path = served.join(path);
    let mut bytes = fs::read(&path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn stranger(name: &str) -> SigningKey {
    SigningKey::generate(label(name)).unwrap()
}

#[test]
fn a_forged_snapshot_is_refused() {
    // Sealed to the epoch's own recipient, which everybody may know, with a manifest and a head by the backend.
    let codes = lied(|tenant, _| {
        let rogue = stranger("syncer-1");
        tenant.publisher = rogue;
        tenant.publish("local", "root::0:0::/:/bin/sh", 1);
    });
    assert_eq!(codes, ["forged"]);
}

#[test]
fn a_body_sealed_again_is_refused() {
    let codes = lied(|tenant, served| {
        let mut sealed = Vec::new();
        let fill = |out: &mut dyn std::io::Write| out.write_all(b"second");
        seal_file(&[&tenant.epoch.1.recipient()], &mut sealed, fill).unwrap();
        fs::write(served.join(blob(tenant)), sealed).unwrap();
    });
    // age pads its header at random, so the length may give it away first.
    assert!(codes == ["body-changed"] || codes == ["body-size"], "{codes:?}");
}

#[test]
fn truncated_extended_and_changed_bodies_are_refused() {
    for (how, code) in [
        ("cut", "body-size"),
        ("longer", "body-size"),
        ("flipped", "body-changed"),
        ("empty", "body-size"),
    ] {
        let codes = lied(|tenant, served| {
            change(served, &blob(tenant), |bytes| match how {
                "cut" => bytes.truncate(bytes.len() - 1),
                "longer" => bytes.push(0),
                "empty" => bytes.clear(),
                _ => {
                    let middle = bytes.len() / 2;
                    bytes[middle] ^= 1;
                }
            });
        });
        assert_eq!(codes, [code], "{how}");
    }
}

#[test]
fn an_older_head_is_refused() {
    let codes = lied(|tenant, served| {
        // The backend kept the manifest and head of before, and of before that.
        tenant.head = 0;
        tenant.manifests.clear();
        let head = Head {
            version: 1,
            ..tenant.next_head(-10)
        };
        tenant.put_head(&head);
        assert!(served.join("head/syncer-1").exists());
    });
    assert_eq!(codes, ["fork"]);
}

#[test]
fn a_replayed_head_is_refused() {
    let (folder, served) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut tenant = Tenant::new(folder.path());
    let host = Host::join(&mut tenant);
    tenant.publish("local", "first", 0);
    copy(folder.path(), served.path());
    tenant.publish("local", "second", 1);
    assert_eq!(host.walk(folder.path(), 1).alarms, []);
    let before = host.everything();
    let walked = host.walk(served.path(), 2);
    assert_eq!(codes(&walked.alarms), ["rollback"]);
    assert_eq!(host.everything(), before);
    assert_eq!(host.plaintext("local").unwrap(), "second");
}

#[test]
fn a_frozen_head_is_noticed_and_later_runs_out() {
    let folder = tempfile::tempdir().unwrap();
    let mut tenant = Tenant::new(folder.path());
    let host = Host::join(&mut tenant);
    tenant.publish("local", "first", 0);
    for (minute, expected) in [
        (0, None),
        (15, None),
        (16, Some("stale")),
        (60 * 24 + 1, Some("expired")),
    ] {
        let walked = host.walk(folder.path(), minute);
        assert_eq!(
            codes(&walked.alarms),
            expected.into_iter().collect::<Vec<_>>(),
            "{minute}"
        );
        assert_eq!(host.plaintext("local").unwrap(), "first");
    }
}

#[test]
fn a_policy_that_takes_a_key_back_stops_no_lease() {
    let folder = tempfile::tempdir().unwrap();
    let mut tenant = Tenant::new(folder.path());
    let host = Host::join(&mut tenant);
    tenant.publish("local", "first", 0);
    assert_eq!(host.walk(folder.path(), 0).alarms, []);
    // The backend shows the policy, and not the head of the new key.
    tenant.publisher = stranger("syncer-1");
    let next = tenant.publisher.verifying().clone();
    tenant.next_policy(|policy| policy.publishers[0].key = next);
    fs::remove_file(folder.path().join("head/syncer-1")).unwrap();
    for (minute, expected, lapsed) in [(60, &["no-head"][..], 0), (60 * 24 + 1, &["no-head", "expired"], 1)] {
        let walked = host.walk(folder.path(), minute);
        assert_eq!(codes(&walked.alarms), expected);
        assert_eq!((walked.lapsed.len(), walked.heads.len()), (lapsed, 0));
    }
    tenant.sign_head(60 * 24 + 1);
    assert_eq!(host.walk(folder.path(), 60 * 24 + 1).lapsed, []);
}

#[test]
fn what_a_thief_signed_ends_with_the_policy_that_takes_the_key_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut tenant = Tenant::new(folder.path());
    let host = Host::join(&mut tenant);
    tenant.publish("local", "first", 0);
    assert_eq!(host.walk(folder.path(), 0).alarms, []);
    // Numbers, the epoch and the time as far ahead as they are believed.
    let (numbers, epoch) = (tenant.head, tenant.epoch.0);
    tenant.head += LARGEST_STEP - 1;
    tenant.epoch.0 = 1 << 53;
    for (node, recipient) in tenant.nodes.clone() {
        tenant.wrap(&node, &recipient);
    }
    tenant.stage("local", "lie", 0);
    let head = Head {
        issued: "9999-01-01T00:00:00Z".parse().unwrap(),
        ..tenant.next_head(0)
    };
    tenant.put_head(&head);
    assert_eq!(codes(&host.walk(folder.path(), 1).alarms), ["clock-behind"]);
    assert_eq!(host.plaintext("local").unwrap(), "lie");

    tenant.publisher = stranger("syncer-1");
    let next = tenant.publisher.verifying().clone();
    tenant.next_policy(|policy| policy.publishers[0].key = next);
    (tenant.head, tenant.epoch.0) = (numbers, epoch);
    tenant.manifests.clear();
    tenant.rotate();
    tenant.publish("local", "truth", 2);
    assert_eq!(host.walk(folder.path(), 2).alarms, []);
    assert_eq!(host.plaintext("local").unwrap(), "truth");
    let late = host.walk(folder.path(), 2 + 60 * 24 + 1);
    assert_eq!(codes(&late.alarms), ["expired"], "its lease runs by the clock");
}

#[test]
fn clocks_ten_years_off_lose_nothing() {
    const TEN_YEARS: i64 = 60 * 24 * 3653;
    let folder = tempfile::tempdir().unwrap();
    let mut tenant = Tenant::new(folder.path());
    let host = Host::join(&mut tenant);
    tenant.publish("local", "first", 0);
    assert_eq!(
        codes(&host.walk(folder.path(), TEN_YEARS).alarms),
        ["policy-expired", "expired"]
    );
    tenant.publish("local", "second", 1);
    let behind = host.walk(folder.path(), -TEN_YEARS).alarms;
    assert_eq!(codes(&behind), ["clock-behind"]);
    assert_eq!(
        host.walk(folder.path(), 1 - TEN_YEARS).alarms,
        behind,
        "each cycle tells it anew"
    );
    assert_eq!(host.plaintext("local").unwrap(), "second");
    assert_eq!(host.walk(folder.path(), 1).alarms, []);
}

#[test]
fn version_two_to_the_63_is_refused() {
    let codes = lied(|_, served| {
        change(served, "head/syncer-1", |bytes| {
            let text = String::from_utf8(bytes.clone()).unwrap();
            *bytes = text
                .replacen("version 2", "version 9223372036854775808", 1)
                .into_bytes();
        });
    });
    assert_eq!(codes, ["malformed"]);
    // Signed even by the publisher, a leap is one.
    let codes = lied(|tenant, _| {
        tenant.head = 1 << 40;
        tenant.sign_head(1);
    });
    assert_eq!(codes, ["leap"]);
}

#[test]
fn a_signature_that_is_stripped_or_swapped_is_missed() {
    for path in ["head/syncer-1", "manifest/syncer-1/local/all/2"] {
        let codes = lied(|_, served| {
            change(served, path, |bytes| {
                let text = String::from_utf8(bytes.clone()).unwrap();
                *bytes = text.split_inclusive("\n\n").next().unwrap().as_bytes().to_vec();
            });
        });
        assert_eq!(codes, ["no-note"], "{path}");
        let codes = lied(|_, served| {
            change(served, path, |bytes| {
                let text = String::from_utf8(bytes.clone()).unwrap();
                let text = text.split("\n\n").next().unwrap().to_owned() + "\n";
                *bytes = Note::sign(text, &[&stranger("syncer-1")])
                    .unwrap()
                    .to_string()
                    .into_bytes();
            });
        });
        assert_eq!(codes, ["forged"], "{path}");
    }
}

#[test]
fn another_tenants_data_is_refused() {
    let other = tempfile::tempdir().unwrap();
    let mut stranger = Tenant::new(other.path());
    stranger.publish("local", "theirs", 1);
    let codes = lied(|_, served| {
        fs::remove_dir_all(served).unwrap();
        copy(other.path(), served);
    });
    assert_eq!(codes, ["forged"]);
    // Even when both have the same publisher.
    let codes = lied(|tenant, _| {
        let head = Head {
            tenant: Digest::of(b"other"),
            ..tenant.next_head(2)
        };
        tenant.put_head(&head);
    });
    assert_eq!(codes, ["other-tenant"]);
}

#[test]
fn one_sources_snapshot_does_not_pass_for_anothers() {
    let codes = lied(|tenant, served| {
        let mut mixed = manifest(&tenant.manifests[0]);
        let path = manifest_path(&mixed);
        mixed.source = label("staff");
        fs::write(served.join(path), signed(&mixed, &[&tenant.publisher]).to_string()).unwrap();
    });
    assert_eq!(codes, ["mixed"]);
}

#[test]
fn a_publisher_keeps_to_its_sources() {
    let codes = lied(|tenant, _| {
        tenant.stage("payroll", "x", 1);
        tenant.sign_head(1);
    });
    assert_eq!(codes, ["out-of-scope"]);
}

#[test]
fn an_older_policy_does_not_come_back_with_newer_users() {
    let (folder, served) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut tenant = Tenant::new(folder.path());
    let host = Host::join(&mut tenant);
    tenant.publish("local", "first", 0);
    assert_eq!(host.walk(folder.path(), 0).alarms, []);
    copy(folder.path(), served.path());
    // The roots take the publisher away; the backend keeps the old policy, the stolen key signs on.
    tenant.next_policy(|policy| policy.publishers.clear());
    assert!(host.walk(folder.path(), 1).withdrawn.contains(&label("local")));
    tenant.folder = served.path().to_owned();
    tenant.policy.version = 1;
    tenant.publish("local", "evil", 1);
    let walked = host.walk(served.path(), 2);
    assert_eq!(walked.policy.unwrap().version, 2, "the policy that is known stays");
    assert!(walked.installed.is_empty());
    assert_eq!(host.plaintext("local").unwrap(), "first");
}

#[test]
fn a_new_host_does_not_begin_with_a_withheld_policy() {
    let folder = tempfile::tempdir().unwrap();
    let mut tenant = Tenant::new(folder.path());
    let host = Host::join(&mut tenant);
    tenant.next_policy(|policy| policy.lease = 3600 * 20);
    let lease = Lease {
        fresh: 900,
        expires: 3600,
    };
    tenant.stage("local", "first", 0);
    let head = Head {
        lease,
        ..tenant.next_head(0)
    };
    tenant.put_head(&head);
    fs::remove_file(folder.path().join("policy/2")).unwrap();
    assert_eq!(codes(&host.walk(folder.path(), 0).alarms), ["policy-withheld"]);
    assert_eq!(host.plaintext("local"), None);
    fs::remove_file(folder.path().join("policy/1")).unwrap();
    let other = tempfile::tempdir().unwrap();
    let second = Host::join(&mut Tenant::new(other.path()));
    fs::remove_file(other.path().join("policy/1")).unwrap();
    assert_eq!(codes(&second.walk(other.path(), 0).alarms), ["missing"]);
}

#[test]
fn a_policy_of_other_roots_is_refused() {
    let codes = lied(|tenant, _| {
        let other = tempfile::tempdir().unwrap();
        let rogue = Tenant::new(other.path());
        tenant.roots = rogue.roots;
        tenant.next_policy(|policy| policy.publishers[0].key = stranger("syncer-1").verifying().clone());
        tenant.publisher = stranger("syncer-1");
        tenant.sign_head(1);
    });
    assert_eq!(codes, ["forged", "forged"]);
}

#[test]
fn a_revoked_host_reads_nothing_of_the_next_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let mut tenant = Tenant::new(folder.path());
    let (revoked, stays) = (Host::join(&mut tenant), Host::join(&mut tenant));
    tenant.publish("local", "first", 0);
    assert_eq!(revoked.walk(folder.path(), 0).alarms, []);
    tenant.nodes.retain(|(name, _)| *name != revoked.name);
    tenant.rotate();
    tenant.publish("local", "second", 1);
    assert_eq!(codes(&revoked.walk(folder.path(), 1).alarms), ["not-admitted"]);
    assert_eq!(revoked.plaintext("local").unwrap(), "first");
    assert_eq!(stays.walk(folder.path(), 1).alarms, []);
    assert_eq!(stays.plaintext("local").unwrap(), "second");
    // The other's wrap is of no use to it.
    let others = fs::read(folder.path().join(format!("wrap/all/2/{}", stays.name))).unwrap();
    tenant.write(&format!("wrap/all/2/{}", revoked.name), others);
    assert_eq!(codes(&revoked.walk(folder.path(), 1).alarms), ["epoch-key"]);
}

#[test]
fn a_key_that_the_backend_made_up_is_refused() {
    let (folder, served) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut tenant = Tenant::new(folder.path());
    let host = Host::join(&mut tenant);
    tenant.publish("local", "first", 0);
    copy(folder.path(), served.path());
    tenant.folder = served.path().to_owned();
    let true_epoch = std::mem::replace(&mut tenant.epoch, (1, Identity::generate()));
    let (name, recipient) = tenant.nodes[0].clone();
    tenant.wrap(&name, &recipient);
    assert_eq!(codes(&host.walk(served.path(), 0).alarms), ["epoch-key"]);
    tenant.epoch = true_epoch;
    assert_eq!(host.walk(folder.path(), 0).alarms, []);
}

#[test]
fn a_manifest_that_promises_a_bomb_is_refused_before_it_is_fetched() {
    let folder = tempfile::tempdir().unwrap();
    let mut tenant = Tenant::new(folder.path());
    let host = Host::join(&mut tenant);
    tenant.publish("local", "first", 0);
    assert_eq!(host.walk(folder.path(), 0).alarms, []);
    let last = tenant.manifests.remove(0);
    tenant.put_manifest(&Manifest {
        version: 2,
        previous: Some(last.digest()),
        ciphertext_size: u64::MAX,
        ..manifest(&last)
    });
    tenant.sign_head(1);
    assert_eq!(codes(&host.walk(folder.path(), 1).alarms), ["body-size"]);
    assert_eq!(host.plaintext("local").unwrap(), "first");
    tenant.publish("local", "third", 2);
    assert_eq!(host.walk(folder.path(), 2).alarms, []);
    assert_eq!(host.plaintext("local").unwrap(), "third");
}

#[test]
fn endless_notes_are_not_read() {
    for path in ["head/syncer-1", "manifest/syncer-1/local/all/2"] {
        let codes = lied(|tenant, _| tenant.write(path, vec![b'x'; 1 << 20]));
        assert!(codes.contains(&"too-long"), "{path}: {codes:?}");
    }
}

#[test]
fn a_file_that_is_held_back_is_missed() {
    let lost = lied(|tenant, served| fs::remove_file(served.join(blob(tenant))).unwrap());
    assert_eq!(lost, ["missing"]);
    let lost = lied(|_, served| fs::remove_file(served.join("manifest/syncer-1/local/all/2")).unwrap());
    assert_eq!(lost, ["missing"]);
    let lost = lied(|_, served| fs::remove_file(served.join("head/syncer-1")).unwrap());
    assert_eq!(lost, ["no-head"]);
}

#[test]
fn garbage_in_any_file_is_refused() {
    for path in ["head/syncer-1", "manifest/syncer-1/local/all/2"] {
        for garbage in [&b""[..], b"\0", b"<html>404</html>", b"\xff\xfe", b"\n\n\n", b"{}"] {
            let codes = lied(|tenant, _| tenant.write(path, garbage));
            assert_eq!(codes, ["no-note"], "{path} {garbage:?}");
        }
    }
}

#[test]
fn what_pretends_to_be_the_next_policy_changes_nothing_and_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut tenant = Tenant::new(folder.path());
    let host = Host::join(&mut tenant);
    let long = vec![b'x'; 1 << 20];
    for (number, (bytes, code)) in [(&b"<html>"[..], "no-note"), (b"", "no-note"), (&long[..], "too-long")]
        .into_iter()
        .enumerate()
    {
        tenant.write("policy/2", bytes);
        tenant.publish("local", &format!("text {number}"), 0);
        let walked = host.walk(folder.path(), 0);
        assert_eq!(codes(&walked.alarms), [code]);
        assert_eq!(walked.policy.unwrap().version, 1);
        assert_eq!(host.plaintext("local").unwrap(), format!("text {number}"));
    }
}
