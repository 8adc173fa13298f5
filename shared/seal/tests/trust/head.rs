//! Heads: whose, how old, how long.

use dirless_seal::trust::{Freshness, Head, Lease, Refusal};
use dirless_seal::{Digest, SigningKey};
use proptest::prelude::*;

use crate::support::{Tenant, at, label, signed};

#[test]
fn only_the_publisher_of_the_policy_is_believed() {
    let tenant = Tenant::new();
    let (mut memory, policy) = tenant.host();
    let before = memory.clone();
    let stranger = SigningKey::generate(label("syncer-1")).unwrap();
    let head = tenant.head(1, 0, &[]);
    for note in [
        signed(&head, &[&stranger]),
        signed(&head, &[]),
        signed(&head, &[&tenant.roots[0]]),
    ] {
        assert_eq!(memory.head(&policy, &note, at(0)), Err(Refusal::Forged("head")));
    }
    let other = Head {
        publisher: label("syncer-2"),
        ..head.clone()
    };
    assert_eq!(
        memory.head(&policy, &signed(&other, &[&stranger]), at(0)),
        Err(Refusal::Forged("head"))
    );
    assert_eq!(memory, before);
    assert_eq!(
        memory.head(&policy, &tenant.sign_head(&head), at(0)).unwrap(),
        (head, Freshness::Fresh)
    );
}

#[test]
fn heads_neither_go_back_nor_fork_nor_leap() {
    let tenant = Tenant::new();
    let (mut memory, policy) = tenant.host();
    let fifth = tenant.sign_head(&tenant.head(5, 0, &[]));
    let _ = memory.head(&policy, &fifth, at(0)).unwrap();
    let _ = memory.head(&policy, &fifth, at(1)).unwrap();

    let old = tenant.sign_head(&tenant.head(4, 1, &[]));
    assert_eq!(
        memory.head(&policy, &old, at(1)),
        Err(Refusal::Rollback {
            kind: "head",
            found: 4,
            seen: 5
        })
    );
    let other = tenant.sign_head(&tenant.head(5, 1, &[]));
    assert_eq!(
        memory.head(&policy, &other, at(1)),
        Err(Refusal::Fork {
            kind: "head",
            version: 5
        })
    );
    let found = 6 + (1 << 32);
    let far = tenant.sign_head(&tenant.head(found, 1, &[]));
    assert_eq!(
        memory.head(&policy, &far, at(1)),
        Err(Refusal::Leap {
            kind: "head",
            found,
            seen: 5
        })
    );
}

#[test]
fn a_head_that_is_only_signed_again_says_no_more() {
    let tenant = Tenant::new();
    let kept = tenant.head(5, 0, &[]);
    assert!(kept.says_more(None) && !kept.says_more(Some(&kept)));
    let again = tenant.head(6, 1, &[]);
    assert!(!again.says_more(Some(&kept)));
    let under_another = Head {
        policy: again.policy + 1,
        ..again
    };
    assert!(under_another.says_more(Some(&kept)));
    let older = Head {
        version: 4,
        ..under_another
    };
    assert!(!older.says_more(Some(&kept)), "what was accepted is newer");
}

#[test]
fn a_frozen_head_becomes_stale_and_runs_out() {
    let tenant = Tenant::new();
    let (mut memory, policy) = tenant.host();
    let note = tenant.sign_head(&tenant.head(1, 0, &[]));
    for (minute, freshness) in [
        (0, Freshness::Fresh),
        (15, Freshness::Fresh),
        (16, Freshness::Stale),
        (24 * 60, Freshness::Stale),
        (24 * 60 + 1, Freshness::Expired),
        // Ten years ahead, and back again.
        (5_256_000, Freshness::Expired),
        (3, Freshness::Fresh),
    ] {
        assert_eq!(
            memory.head(&policy, &note, at(minute)).unwrap().1,
            freshness,
            "{minute}"
        );
    }
}

#[test]
fn a_clock_that_is_behind_is_noticed_and_stops_nothing() {
    let tenant = Tenant::new();
    let (mut memory, policy) = tenant.host();
    let first = tenant.sign_head(&tenant.head(1, 0, &[]));
    assert_eq!(
        memory.head(&policy, &first, at(-5_256_000)).unwrap().1,
        Freshness::ClockBehind
    );
    let second = tenant.sign_head(&tenant.head(2, 5, &[]));
    assert_eq!(
        memory.head(&policy, &second, at(-5_256_000)).unwrap().1,
        Freshness::ClockBehind
    );
    assert_eq!(memory.head(&policy, &second, at(0)).unwrap().1, Freshness::Fresh);
}

/// One publisher's stolen key, or clock, ends no lease of another.
#[test]
fn signed_times_of_others_say_nothing() {
    let tenant = Tenant::new();
    let (mut memory, mut policy) = tenant.host();
    let other = SigningKey::generate(label("syncer-2")).unwrap();
    policy.publishers.push(dirless_seal::trust::Publisher {
        key: other.verifying().clone(),
        scope: dirless_seal::trust::Scope {
            sources: [].into(),
            ..policy.publishers[0].scope.clone()
        },
    });
    let frozen = tenant.sign_head(&tenant.head(1, 0, &[]));
    let _ = memory.head(&policy, &frozen, at(0)).unwrap();
    let late = Head {
        publisher: label("syncer-2"),
        issued: "9999-01-01T00:00:00Z".parse().unwrap(),
        ..tenant.head(1, 0, &[])
    };
    let _ = memory.head(&policy, &signed(&late, &[&other]), at(0)).unwrap();
    assert_eq!(memory.head(&policy, &frozen, at(0)).unwrap().1, Freshness::Fresh);
    let soon = Head {
        version: 2,
        ..late.clone()
    };
    let soon = Head { issued: at(1), ..soon };
    // Its own leases it has ended, until the policy names another key.
    let (_, ended) = memory.head(&policy, &signed(&soon, &[&other]), at(1)).unwrap();
    assert_eq!(ended, Freshness::Expired);
}

#[test]
fn what_the_policy_does_not_allow_is_refused() {
    let tenant = Tenant::new();
    let (mut memory, policy) = tenant.host();
    let lease = Lease {
        fresh: 900,
        expires: 86_401,
    };
    let long = Head {
        lease,
        ..tenant.head(1, 0, &[])
    };
    assert_eq!(
        memory.head(&policy, &tenant.sign_head(&long), at(0)),
        Err(Refusal::Lease {
            found: 86_401,
            allowed: 86_400
        })
    );
    let newer = Head {
        policy: 2,
        ..tenant.head(1, 0, &[])
    };
    assert_eq!(
        memory.head(&policy, &tenant.sign_head(&newer), at(0)),
        Err(Refusal::Withheld { wanted: 2, known: 1 })
    );
    let foreign = Head {
        tenant: Digest::of(b"other"),
        ..tenant.head(1, 0, &[])
    };
    assert_eq!(
        memory.head(&policy, &tenant.sign_head(&foreign), at(0)),
        Err(Refusal::OtherTenant("head"))
    );

    let mut manifest = tenant.manifest(1, None);
    manifest.source = label("payroll");
    let note = signed(&manifest, &[&tenant.publisher]);
    let beyond = tenant.head(1, 0, &[&note]);
    assert_eq!(
        memory
            .head(&policy, &tenant.sign_head(&beyond), at(0))
            .unwrap_err()
            .code(),
        "out-of-scope"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    /// Whatever order a backend serves true heads in, the version accepted never goes down.
    #[test]
    fn the_accepted_version_only_rises(order in proptest::collection::vec(1u64..20, 1..40)) {
        let tenant = Tenant::new();
        let (mut memory, policy) = tenant.host();
        let mut highest = 0;
        for version in order {
            let note = tenant.sign_head(&tenant.head(version, 0, &[]));
            let accepted = memory.head(&policy, &note, at(0)).is_ok();
            prop_assert_eq!(accepted, version >= highest);
            highest = highest.max(version);
            prop_assert_eq!(memory.heads().next().unwrap().1.version, highest);
        }
    }
}
