//! A publisher's key names its successor, and what somebody who stole a key makes of that.

use dirless_seal::trust::{Memory, Policy, Refusal, Succession, parse, print};
use dirless_seal::{Digest, Note, SigningKey};

use crate::support::{Tenant, at, label, signed};

fn fresh() -> SigningKey {
    SigningKey::generate(label("syncer-1")).unwrap()
}

fn after(before: &Note, succession: &Succession, key: &SigningKey) -> Succession {
    Succession {
        version: succession.version + 1,
        previous: Some(before.digest()),
        key: key.verifying().clone(),
        ..succession.clone()
    }
}

/// A host that accepted one succession, to this key.
fn succeeded(tenant: &Tenant, key: &SigningKey) -> (Memory, Policy, Note) {
    let (mut memory, policy) = tenant.host();
    let note = signed(&tenant.succession(key), &[&tenant.publisher, key]);
    memory.succession(&policy, &note).unwrap();
    (memory, policy, note)
}

#[test]
fn the_new_key_speaks_and_the_old_one_no_more() {
    let (tenant, new) = (Tenant::new(), fresh());
    let (mut memory, policy, note) = succeeded(&tenant, &new);
    let publisher = policy.publisher(&label("syncer-1")).unwrap();
    assert_eq!(memory.key(publisher), new.verifying());
    let head = tenant.head(1, 0, &[]);
    // Whoever has the old one, after the overlap or during it.
    assert_eq!(
        memory.head(&policy, &signed(&head, &[&tenant.publisher]), at(0)),
        Err(Refusal::Forged("head"))
    );
    // Heads of the overlap bear both, and hosts that know either take them.
    let both = signed(&head, &[&tenant.publisher, &new]);
    assert!(memory.head(&policy, &both, at(0)).is_ok());
    let (mut unaware, _) = tenant.host();
    assert!(unaware.head(&policy, &both, at(0)).is_ok());
    let alone = signed(&tenant.head(2, 1, &[]), &[&new]);
    assert_eq!(unaware.head(&policy, &alone, at(1)), Err(Refusal::Forged("head")));
    unaware.succession(&policy, &note).unwrap();
    assert!(unaware.head(&policy, &alone, at(1)).is_ok());
    let manifest = tenant.manifest(1, None);
    let old = signed(&manifest, &[&tenant.publisher]);
    let (head, _) = unaware
        .head(&policy, &signed(&tenant.head(3, 1, &[&old]), &[&new]), at(1))
        .unwrap();
    assert_eq!(unaware.manifest(&policy, &head, &old), Err(Refusal::Forged("manifest")));
    assert!(unaware.manifest(&policy, &head, &signed(&manifest, &[&new])).is_ok());
}

#[test]
fn whoever_stole_a_key_names_no_second_successor() {
    let (tenant, new, thief) = (Tenant::new(), fresh(), fresh());
    let (mut memory, policy, note) = succeeded(&tenant, &new);
    let before = memory.clone();
    let fork = tenant.succession(&thief);
    assert_eq!(
        memory.succession(&policy, &signed(&fork, &[&tenant.publisher, &thief])),
        Err(Refusal::Fork {
            kind: "succession",
            version: 1
        })
    );
    // On top of the right one, but by the key that it replaced.
    let next = after(&note, &tenant.succession(&new), &thief);
    assert_eq!(
        memory.succession(&policy, &signed(&next, &[&tenant.publisher, &thief])),
        Err(Refusal::Forged("succession"))
    );
    assert_eq!(memory, before);
    // The same again is no news.
    memory.succession(&policy, &note).unwrap();
    assert_eq!(memory, before);
}

#[test]
fn both_keys_sign_and_numbers_count_up_by_one() {
    let (tenant, new, third) = (Tenant::new(), fresh(), fresh());
    let (fresh_host, policy) = tenant.host();
    let one = tenant.succession(&new);
    for keys in [vec![&tenant.publisher], vec![&new], vec![&third, &new], vec![]] {
        let mut memory = fresh_host.clone();
        assert_eq!(
            memory.succession(&policy, &signed(&one, &keys)),
            Err(Refusal::Forged("succession"))
        );
    }
    let (mut memory, _, note) = succeeded(&tenant, &new);
    let two = after(&note, &one, &third);
    let second = signed(&two, &[&new, &third]);
    assert_eq!(
        fresh_host.clone().succession(&policy, &second),
        Err(Refusal::Chain("succession"))
    );
    let gap = Succession {
        version: 3,
        ..two.clone()
    };
    let unlinked = Succession {
        previous: Some(Digest::of(b"other")),
        ..two
    };
    for wrong in [gap, unlinked] {
        assert_eq!(
            memory.succession(&policy, &signed(&wrong, &[&new, &third])),
            Err(Refusal::Chain("succession"))
        );
    }
    memory.succession(&policy, &second).unwrap();
    assert_eq!(
        memory.key(policy.publisher(&label("syncer-1")).unwrap()),
        third.verifying()
    );
    assert_eq!(
        memory.succession(&policy, &note),
        Err(Refusal::Rollback {
            kind: "succession",
            found: 1,
            seen: 2
        })
    );
}

#[test]
fn a_policy_that_names_another_key_ends_the_chain() {
    let (tenant, new, named) = (Tenant::new(), fresh(), fresh());
    let (mut memory, policy, note) = succeeded(&tenant, &new);
    let mut next = Policy {
        version: 2,
        previous: Some(memory.policy().unwrap().digest),
        ..policy.clone()
    };
    // One that leaves the key as it is leaves the successor too.
    let kept = tenant.sign_policy(&next);
    let mut other = memory.clone();
    let kept = other.policy_after(Some(&policy), &kept).unwrap();
    assert_eq!(other.key(kept.publisher(&label("syncer-1")).unwrap()), new.verifying());

    for publisher in &mut next.publishers {
        if publisher.key.name().as_str() == "syncer-1" {
            publisher.key = named.verifying().clone();
        }
    }
    let next = memory.policy_after(Some(&policy), &tenant.sign_policy(&next)).unwrap();
    let head = tenant.head(1, 0, &[]);
    for key in [&new, &tenant.publisher] {
        assert_eq!(
            memory.head(&next, &signed(&head, &[key]), at(0)),
            Err(Refusal::Forged("head"))
        );
    }
    assert_eq!(memory.succession(&next, &note), Err(Refusal::Forged("succession")));
    assert!(memory.head(&next, &signed(&head, &[&named]), at(0)).is_ok());
    // Its own successors count from one again.
    let again = Succession {
        anchor: named.verifying().clone(),
        ..tenant.succession(&new)
    };
    memory.succession(&next, &signed(&again, &[&named, &new])).unwrap();
}

#[test]
fn a_succession_is_of_its_own_tenant_and_publisher() {
    let (tenant, new) = (Tenant::new(), fresh());
    let (mut memory, policy) = tenant.host();
    let other = Succession {
        tenant: Digest::of(b"other"),
        ..tenant.succession(&new)
    };
    assert_eq!(
        memory.succession(&policy, &signed(&other, &[&tenant.publisher, &new])),
        Err(Refusal::OtherTenant("succession"))
    );
    let stranger = Succession {
        anchor: fresh().verifying().clone(),
        ..tenant.succession(&new)
    };
    assert_eq!(
        memory.succession(&policy, &signed(&stranger, &[&tenant.publisher, &new])),
        Err(Refusal::Forged("succession"))
    );
    let renamed = SigningKey::generate(label("syncer-9")).unwrap();
    let misnamed = Succession {
        key: renamed.verifying().clone(),
        ..tenant.succession(&new)
    };
    assert!(print(&misnamed).is_err());
    let itself = Succession {
        key: tenant.publisher.verifying().clone(),
        ..tenant.succession(&new)
    };
    assert!(print(&itself).is_err());
}

#[test]
fn a_memory_keeps_successors() {
    let (tenant, new) = (Tenant::new(), fresh());
    let (memory, ..) = succeeded(&tenant, &new);
    let text = print(&memory).unwrap();
    assert!(text.contains("\nsuccessor syncer-1+"), "{text}");
    let read: Memory = parse(&Note::sign(text, &[]).unwrap()).unwrap();
    assert_eq!(read, memory);
}
