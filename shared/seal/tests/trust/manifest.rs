//! Manifests: the one that the head names, by the publisher of the head, after the one before.

use dirless_seal::trust::{Head, Manifest, Memory, Policy, Refusal};
use dirless_seal::{Digest, Note, SigningKey};

use crate::support::{Tenant, at, label, signed};

/// Serves `note` under a head of this version that names it.
fn serve(
    tenant: &Tenant,
    memory: &mut Memory,
    policy: &Policy,
    version: u64,
    note: &Note,
) -> Result<Manifest, Refusal> {
    let head = tenant.sign_head(&tenant.head(version, 0, &[note]));
    let (head, _) = memory.head(policy, &head, at(0))?;
    memory.manifest(policy, &head, note)
}

#[test]
fn the_named_one_is_taken_and_no_other() {
    let tenant = Tenant::new();
    let (mut memory, policy) = tenant.host();
    let first = signed(&tenant.manifest(1, None), &[&tenant.publisher]);
    let second = signed(&tenant.manifest(2, Some(first.digest())), &[&tenant.publisher]);
    assert_eq!(serve(&tenant, &mut memory, &policy, 1, &first).unwrap().version, 1);
    assert_eq!(serve(&tenant, &mut memory, &policy, 2, &second).unwrap().version, 2);

    // An old one under a new head, and one of another source's name: mixed and matched.
    let (head, _) = memory
        .head(&policy, &tenant.sign_head(&tenant.head(3, 0, &[&second])), at(0))
        .unwrap();
    assert_eq!(memory.manifest(&policy, &head, &first), Err(Refusal::Mixed("manifest")));
    let elsewhere = Manifest {
        source: label("aws-identity-center"),
        ..tenant.manifest(2, Some(first.digest()))
    };
    let elsewhere = signed(&elsewhere, &[&tenant.publisher]);
    assert_eq!(
        memory.manifest(&policy, &head, &elsewhere),
        Err(Refusal::Mixed("manifest"))
    );
}

#[test]
fn a_signature_cannot_be_left_out_or_replaced() {
    let tenant = Tenant::new();
    let (mut memory, policy) = tenant.host();
    let stranger = SigningKey::generate(label("syncer-1")).unwrap();
    for keys in [vec![], vec![&stranger], vec![&tenant.roots[0]]] {
        let note = signed(&tenant.manifest(1, None), &keys);
        assert_eq!(
            serve(&tenant, &mut memory, &policy, 1, &note),
            Err(Refusal::Forged("manifest"))
        );
        let (again, _) = tenant.host();
        memory = again;
    }
}

#[test]
fn the_chain_is_followed() {
    let tenant = Tenant::new();
    let (mut memory, policy) = tenant.host();
    let first = signed(&tenant.manifest(1, None), &[&tenant.publisher]);
    assert!(serve(&tenant, &mut memory, &policy, 1, &first).is_ok());
    let unlinked = signed(&tenant.manifest(2, Some(Digest::of(b"x"))), &[&tenant.publisher]);
    assert_eq!(
        serve(&tenant, &mut memory, &policy, 2, &unlinked),
        Err(Refusal::Chain("manifest"))
    );
    // A host that slept through one cannot follow the link, and need not.
    let third = signed(&tenant.manifest(3, Some(unlinked.digest())), &[&tenant.publisher]);
    assert!(serve(&tenant, &mut memory, &policy, 3, &third).is_ok());

    let back = signed(&tenant.manifest(2, Some(first.digest())), &[&tenant.publisher]);
    assert_eq!(
        serve(&tenant, &mut memory, &policy, 4, &back),
        Err(Refusal::Rollback {
            kind: "manifest",
            found: 2,
            seen: 3
        })
    );
    let other = Manifest {
        issued: at(9),
        ..tenant.manifest(3, Some(unlinked.digest()))
    };
    let other = signed(&other, &[&tenant.publisher]);
    assert_eq!(
        serve(&tenant, &mut memory, &policy, 5, &other),
        Err(Refusal::Fork {
            kind: "manifest",
            version: 3
        })
    );
}

#[test]
fn an_epoch_that_was_left_does_not_come_back() {
    let tenant = Tenant::new();
    let (mut memory, policy) = tenant.host();
    let first = signed(
        &Manifest {
            epoch: 4,
            ..tenant.manifest(1, None)
        },
        &[&tenant.publisher],
    );
    assert!(serve(&tenant, &mut memory, &policy, 1, &first).is_ok());
    let back = Manifest {
        epoch: 3,
        ..tenant.manifest(2, Some(first.digest()))
    };
    let back = signed(&back, &[&tenant.publisher]);
    assert_eq!(
        serve(&tenant, &mut memory, &policy, 2, &back),
        Err(Refusal::Rollback {
            kind: "epoch",
            found: 3,
            seen: 4
        })
    );
}

/// Epochs are each publisher's own, also in one compartment.
#[test]
fn another_publishers_epochs_are_not_ones_own() {
    let tenant = Tenant::new();
    let (mut memory, mut policy) = tenant.host();
    let other = SigningKey::generate(label("syncer-2")).unwrap();
    policy.publishers.push(dirless_seal::trust::Publisher {
        key: other.verifying().clone(),
        scope: policy.publishers[0].scope.clone(),
    });
    let first = signed(&tenant.manifest(1, None), &[&tenant.publisher]);
    assert!(serve(&tenant, &mut memory, &policy, 1, &first).is_ok());
    let leaping = Manifest {
        publisher: label("syncer-2"),
        epoch: 1 << 53,
        ..tenant.manifest(1, None)
    };
    let leaping = signed(&leaping, &[&other]);
    let head = Head {
        publisher: label("syncer-2"),
        ..tenant.head(1, 0, &[&leaping])
    };
    let (head, _) = memory.head(&policy, &signed(&head, &[&other]), at(0)).unwrap();
    assert!(memory.manifest(&policy, &head, &leaping).is_ok());
    let second = signed(&tenant.manifest(2, Some(first.digest())), &[&tenant.publisher]);
    assert!(serve(&tenant, &mut memory, &policy, 2, &second).is_ok());
}

#[test]
fn another_publishers_manifest_does_not_pass_under_ones_own_head() {
    let tenant = Tenant::new();
    let (mut memory, policy) = tenant.host();
    let foreign = Manifest {
        publisher: label("syncer-2"),
        ..tenant.manifest(1, None)
    };
    let note = signed(&foreign, &[&tenant.publisher]);
    assert_eq!(
        serve(&tenant, &mut memory, &policy, 1, &note),
        Err(Refusal::Forged("manifest"))
    );
    let other_tenant = Manifest {
        tenant: Digest::of(b"other"),
        ..tenant.manifest(1, None)
    };
    let note = signed(&other_tenant, &[&tenant.publisher]);
    assert_eq!(
        serve(&tenant, &mut memory, &policy, 2, &note),
        Err(Refusal::OtherTenant("manifest"))
    );
    // A source that a new policy took away.
    let note = signed(&tenant.manifest(1, None), &[&tenant.publisher]);
    let head: Head = tenant.head(3, 0, &[&note]);
    let mut narrower = policy.clone();
    narrower.publishers[0].scope.sources.remove(&label("local"));
    assert_eq!(
        memory.manifest(&narrower, &head, &note).unwrap_err().code(),
        "out-of-scope"
    );
}
