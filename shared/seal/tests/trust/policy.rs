//! Policies: the pinned roots, thresholds of both sides, no way back.

use dirless_seal::trust::{Freshness, Head, LARGEST_STEP, Manifest, Memory, Policy, Refusal, parse, print};
use dirless_seal::{Digest, Note, SigningKey};

use crate::support::{Tenant, at, label, signed};

/// The policy after the tenant's first.
fn second(tenant: &Tenant) -> Policy {
    let first = tenant.sign_policy(&tenant.policy());
    Policy {
        version: 2,
        previous: Some(first.digest()),
        ..tenant.policy()
    }
}

#[test]
fn the_pinned_roots_begin_the_chain() {
    let tenant = Tenant::new();
    let note = tenant.sign_policy(&tenant.policy());
    let mut memory = Memory::pinned(tenant.id, tenant.policy().fingerprint());
    assert_eq!(memory.policy_after(None, &note).unwrap(), tenant.policy());

    let other = Tenant::new();
    let mut memory = Memory::pinned(tenant.id, tenant.policy().fingerprint());
    let forged = other.sign_policy(&other.policy());
    assert_eq!(memory.policy_after(None, &forged), Err(Refusal::OtherRoots));
    assert_eq!(memory.policy(), None);
}

#[test]
fn a_host_may_begin_at_any_policy_of_the_pinned_roots() {
    let tenant = Tenant::new();
    let mut memory = Memory::pinned(tenant.id, tenant.policy().fingerprint());
    let note = tenant.sign_policy(&second(&tenant));
    assert_eq!(memory.policy_after(None, &note).unwrap().version, 2);
}

#[test]
fn one_root_is_not_two() {
    let tenant = Tenant::new();
    let mut memory = Memory::pinned(tenant.id, tenant.policy().fingerprint());
    let stranger = SigningKey::generate(label("root-2")).unwrap();
    for keys in [vec![&tenant.roots[0]], vec![&tenant.roots[0], &stranger], vec![]] {
        let note = signed(&tenant.policy(), &keys);
        assert_eq!(memory.policy_after(None, &note), Err(Refusal::Forged("policy")));
    }
}

#[test]
fn new_roots_need_the_old_ones() {
    let tenant = Tenant::new();
    let (mut memory, first) = tenant.host();
    let new = SigningKey::generate(label("root-9")).unwrap();
    let mut policy = second(&tenant);
    policy.roots = [new.verifying().clone()].into();
    policy.threshold = 1;

    let alone = signed(&policy, &[&new]);
    assert_eq!(
        memory.policy_after(Some(&first), &alone),
        Err(Refusal::Forged("policy"))
    );
    let without_the_new = signed(&policy, &[&tenant.roots[0], &tenant.roots[1]]);
    assert_eq!(
        memory.policy_after(Some(&first), &without_the_new),
        Err(Refusal::Forged("policy"))
    );
    let all = signed(&policy, &[&new, &tenant.roots[0], &tenant.roots[2]]);
    assert_eq!(memory.policy_after(Some(&first), &all).unwrap(), policy);
}

#[test]
fn policies_neither_go_back_nor_skip_nor_fork() {
    let tenant = Tenant::new();
    let (mut memory, first) = tenant.host();
    let next = tenant.sign_policy(&second(&tenant));
    let current = memory.policy_after(Some(&first), &next).unwrap();

    let old = tenant.sign_policy(&tenant.policy());
    let rollback = Refusal::Rollback {
        kind: "policy",
        found: 1,
        seen: 2,
    };
    assert_eq!(memory.policy_after(Some(&current), &old), Err(rollback));

    let other = Policy {
        lease: 3600,
        ..second(&tenant)
    };
    let fork = Refusal::Fork {
        kind: "policy",
        version: 2,
    };
    assert_eq!(
        memory.policy_after(Some(&current), &tenant.sign_policy(&other)),
        Err(fork)
    );

    let skipping = Policy {
        version: 4,
        previous: Some(next.digest()),
        ..second(&tenant)
    };
    assert_eq!(
        memory.policy_after(Some(&current), &tenant.sign_policy(&skipping)),
        Err(Refusal::Chain("policy"))
    );
    let unlinked = Policy {
        version: 3,
        previous: Some(Digest::of(b"another")),
        ..second(&tenant)
    };
    assert_eq!(
        memory.policy_after(Some(&current), &tenant.sign_policy(&unlinked)),
        Err(Refusal::Chain("policy"))
    );

    // The one that is known may be served again and again.
    assert_eq!(memory.policy_after(Some(&current), &next).unwrap(), current);
}

#[test]
fn the_largest_number_cannot_use_the_numbers_up() {
    let tenant = Tenant::new();
    let (mut memory, first) = tenant.host();
    let found = (1 << 32) + 2;
    let far = Policy {
        version: found,
        ..second(&tenant)
    };
    let leap = Refusal::Leap {
        kind: "policy",
        found,
        seen: 1,
    };
    assert_eq!(memory.policy_after(Some(&first), &tenant.sign_policy(&far)), Err(leap));

    // Beyond the largest version nobody can even write one.
    let text = print(&far)
        .unwrap()
        .replace(&format!("version {found}"), "version 9223372036854775808");
    let note = Note::sign(text, &[&tenant.roots[0], &tenant.roots[1]]).unwrap();
    assert_eq!(
        memory.policy_after(Some(&first), &note).unwrap_err().code(),
        "malformed"
    );
}

#[test]
fn another_tenants_policy_is_refused() {
    let tenant = Tenant::new();
    let (mut memory, first) = tenant.host();
    let other = Policy {
        tenant: Digest::of(b"other"),
        ..second(&tenant)
    };
    assert_eq!(
        memory.policy_after(Some(&first), &tenant.sign_policy(&other)),
        Err(Refusal::OtherTenant("policy"))
    );
}

#[test]
fn a_newer_format_keeps_what_is_there() {
    let tenant = Tenant::new();
    let (mut memory, first) = tenant.host();
    let before = memory.clone();
    let newer = Policy {
        format: 2,
        ..second(&tenant)
    };
    assert_eq!(
        memory.policy_after(Some(&first), &tenant.sign_policy(&newer)),
        Err(Refusal::FormatTooNew { wanted: 2 })
    );
    assert_eq!(memory, before);
}

#[test]
fn contradictions_cannot_even_be_printed() {
    let tenant = Tenant::new();
    let good = tenant.policy();
    let doubled = |change: fn(&mut Policy)| {
        let mut policy = good.clone();
        change(&mut policy);
        print(&policy).unwrap_err().to_string()
    };
    assert!(doubled(|policy| policy.threshold = 4).contains("threshold"));
    assert!(doubled(|policy| policy.threshold = 0).contains("threshold"));
    assert!(doubled(|policy| policy.version = 2).contains("previous"));
    assert!(doubled(|policy| policy.expires = policy.issued).contains("expires"));
    assert!(doubled(|policy| policy.lease = 59).contains("lease"));
    assert!(doubled(|policy| policy.publishers.push(policy.publishers[0].clone())).contains("two publishers"));
    assert!(doubled(|policy| policy.enrollers.push(policy.enrollers[0].clone())).contains("enrollers"));
}

#[test]
fn one_key_under_two_names_does_not_count_twice() {
    let tenant = Tenant::new();
    let twin = tenant.roots[0].renamed(label("root-1-again"));
    let mut policy = tenant.policy();
    policy.roots = [tenant.roots[0].verifying().clone(), twin.verifying().clone()].into();
    assert!(print(&policy).unwrap_err().to_string().contains("two names"));
}

/// Names `key` as the tenant's publisher in the policy after `before`.
fn names(tenant: &Tenant, memory: &mut Memory, before: &Policy, key: &SigningKey) -> Policy {
    let mut policy = Policy {
        version: before.version + 1,
        previous: Some(tenant.sign_policy(before).digest()),
        ..before.clone()
    };
    policy.publishers[0].key = key.verifying().clone();
    let note = tenant.sign_policy(&policy);
    memory.policy_after(Some(before), &note).unwrap()
}

#[test]
fn under_another_key_a_publisher_begins_anew_whatever_a_thief_signed() {
    let mut tenant = Tenant::new();
    let (mut memory, first) = tenant.host();
    let new = SigningKey::generate(label("syncer-1")).unwrap();
    let stolen = SigningKey::parse(&tenant.publisher.expose()).unwrap();
    let lie = Manifest {
        epoch: 1 << 53,
        ..tenant.manifest(LARGEST_STEP, None)
    };
    let lie = signed(&lie, &[&stolen]);
    let leap = Head {
        issued: "9999-01-01T00:00:00Z".parse().unwrap(),
        ..tenant.head(LARGEST_STEP, 0, &[&lie])
    };
    let leap = signed(&leap, &[&stolen]);
    let (head, _) = memory.head(&first, &leap, at(0)).unwrap();
    assert!(memory.manifest(&first, &head, &lie).is_ok());

    let second = names(&tenant, &mut memory, &first, &new);
    assert!(memory.heads().next().is_none() && memory.was_head(&label("syncer-1"), leap.digest()));
    assert_eq!(memory.head(&second, &leap, at(0)), Err(Refusal::Forged("head")));
    tenant.publisher = new;
    let good = signed(&tenant.manifest(1, None), &[&tenant.publisher]);
    let (head, freshness) = memory
        .head(&second, &tenant.sign_head(&tenant.head(7, 0, &[&good])), at(0))
        .unwrap();
    assert_eq!(freshness, Freshness::Fresh);
    assert!(memory.manifest(&second, &head, &good).is_ok());
    let read: Memory = parse(&Note::sign(print(&memory).unwrap(), &[]).unwrap()).unwrap();
    assert_eq!(read, memory);

    // Should the first key be named once more, nothing of its past can be served again.
    let third = names(&tenant, &mut memory, &second, &stolen);
    let old = signed(&tenant.head(5, 0, &[]), &[&stolen]);
    assert_eq!(memory.head(&third, &old, at(0)).unwrap_err().code(), "rollback");
}

#[test]
fn a_key_that_came_from_the_one_before_goes_on_where_that_was() {
    let tenant = Tenant::new();
    let (mut memory, first) = tenant.host();
    let new = SigningKey::generate(label("syncer-1")).unwrap();
    let succession = tenant.succession(&new);
    memory
        .succession(&first, &signed(&succession, &[&tenant.publisher, &new]))
        .unwrap();
    let _ = memory
        .head(&first, &signed(&tenant.head(5, 0, &[]), &[&new]), at(0))
        .unwrap();
    let second = names(&tenant, &mut memory, &first, &new);
    assert_eq!(memory.heads().next().unwrap().1.version, 5);
    let old = signed(&tenant.head(4, 0, &[]), &[&new]);
    assert_eq!(memory.head(&second, &old, at(0)).unwrap_err().code(), "rollback");
    assert!(
        memory
            .head(&second, &signed(&tenant.head(6, 0, &[]), &[&new]), at(0))
            .is_ok()
    );
}
