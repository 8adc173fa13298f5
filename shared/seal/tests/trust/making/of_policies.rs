//! Policies.

use super::{
    Digest, Maker, Policy, Publisher, at, digest_of, first_policy, key, label, print, publisher, resigned, root, signed,
};

pub(super) fn make(maker: &mut Maker) {
    let good = signed(&first_policy(), &[&root(1), &root(2)]);
    maker.add("policy", "good", "ok", good.clone());
    signatures(maker, &good);
    spellings(maker);
    contradictions(maker);
    after(maker, &good);
}

fn signatures(maker: &mut Maker, good: &str) {
    const KIND: &str = "policy";
    let policy = first_policy();
    maker.spoilt(KIND, good, &root(1));
    maker.add(
        KIND,
        "all-roots",
        "ok",
        signed(&policy, &[&root(3), &root(1), &root(2)]),
    );
    maker.add(
        KIND,
        "and-a-stranger",
        "ok",
        signed(&policy, &[&key("root-4", 9), &root(1), &root(2)]),
    );
    maker.add(KIND, "threshold-unmet", "forged", signed(&policy, &[&root(2)]));
    let one = signed(&policy, &[&root(1)]);
    let line = one.lines().last().unwrap();
    maker.add(KIND, "one-root-signs-twice", "forged", format!("{one}{line}\n"));
    maker.add(KIND, "wrong-key", "forged", signed(&policy, &[&root(1), &publisher()]));
    let spoof = signed(&policy, &[&root(1), &key("root-2", 9)]);
    maker.add(KIND, "name-spoof", "forged", spoof);
    let renamed = signed(&policy, &[&root(1), &root(1).renamed(label("root-2"))]);
    maker.add(KIND, "one-root-under-another-name", "forged", renamed);
    let other = Policy {
        tenant: Digest::of(b"other"),
        ..policy.clone()
    };
    maker.add(
        KIND,
        "other-tenant",
        "other-tenant",
        signed(&other, &[&root(1), &root(2)]),
    );
    let fewer = Policy {
        threshold: 1,
        ..policy.clone()
    };
    maker.add(KIND, "lower-threshold", "other-roots", signed(&fewer, &[&root(1)]));
    let own = [key("root-1", 8), key("root-2", 9)];
    let others = Policy {
        roots: own.iter().map(|key| key.verifying().clone()).collect(),
        ..policy.clone()
    };
    maker.add(KIND, "own-roots", "other-roots", signed(&others, &[&own[0], &own[1]]));
    let newer = Policy { format: 2, ..policy };
    maker.add(
        KIND,
        "format-2",
        "format-too-new",
        signed(&newer, &[&root(1), &root(2)]),
    );
}

/// Well signed, and spelled in other ways.
fn spellings(maker: &mut Maker) {
    let text = print(&first_policy()).unwrap();
    let mut change = |name: &str, result, from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        maker.add("policy", name, result, resigned(&text.replacen(from, to, 1), &root(1)));
    };
    change("version-0", "malformed/line-3", "version 1", "version 0");
    change("version-with-zero", "malformed/spelling-3", "version 1", "version 01");
    change("version-with-plus", "malformed/spelling-3", "version 1", "version +1");
    change("version-negative", "malformed/line-3", "version 1", "version -1");
    change("version-hexadecimal", "malformed/line-3", "version 1", "version 0x1");
    change(
        "version-2-53-and-1",
        "malformed/line-3",
        "version 1",
        "version 9007199254740993",
    );
    change(
        "version-2-63",
        "malformed/line-3",
        "version 1",
        "version 9223372036854775808",
    );
    change(
        "version-2-64",
        "malformed/line-3",
        "version 1",
        "version 18446744073709551616",
    );
    change("two-spaces", "malformed/line-3", "version 1", "version  1");
    change("space-at-the-end", "malformed/line-3", "version 1", "version 1 ");
    change("no-break-space", "malformed/line-3", "version 1", "version\u{a0}1");
    change("field-in-upper-case", "malformed/line-3", "version 1", "Version 1");
    change("field-missing", "malformed/line-3", "version 1\n", "");
    change(
        "field-twice",
        "malformed/line-4",
        "version 1\n",
        "version 1\nversion 1\n",
    );
    let tenant = super::tenant().to_string();
    change(
        "digest-in-upper-case",
        "malformed/line-2",
        &tenant,
        &tenant.to_uppercase(),
    );
    change("time-with-fraction", "malformed/line-5", "07:00:00Z", "07:00:00.5Z");
    change(
        "time-with-zero-fraction",
        "malformed/spelling-5",
        "07:00:00Z",
        "07:00:00.0Z",
    );
    change(
        "time-with-offset",
        "malformed/spelling-5",
        "07:00:00Z",
        "08:00:00+01:00",
    );
    change("time-in-lower-case", "malformed/spelling-5", "T07:00:00Z", "t07:00:00z");
    change("time-with-space", "malformed/spelling-5", "T07:00:00Z", " 07:00:00Z");
    change("time-without-zone", "malformed/line-5", "07:00:00Z", "07:00:00");
    change(
        "time-with-leap-second",
        "malformed/spelling-5",
        "07:00:00Z",
        "06:59:60Z",
    );
    change("no-such-day", "malformed/line-5", "2026-11-22", "2026-02-30");
    change("surplus-field", "malformed/surplus-18", "close\n", "close\nmore yes\n");
    change("blank-line-in-the-text", "malformed/surplus-18", "close\n", "close\n\n");
    change("ids-with-0", "malformed/line-13", "ids=10000", "ids=0");
    change("ids-to-2-31", "malformed/line-13", "30000-30000", "30000-2147483648");
    change("ids-backwards", "malformed/line-13", "30000-30000", "30001-30000");
    change("ids-without-range", "malformed/line-13", "30000-30000", "30000");
    change(
        "ids-unsorted",
        "malformed/line-13",
        "10000-19999,30000-30000",
        "30000-30000,10000-19999",
    );
    change("ids-with-zeros", "malformed/spelling-13", "30000-30000", "030000-30000");
    change(
        "rights-unsorted",
        "malformed/line-13",
        "access,entries",
        "entries,access",
    );
    change("right-twice", "malformed/line-13", "access,", "access,access,");
    change("right-unknown", "malformed/line-13", "access,", "access,all,");
    change(
        "sources-empty",
        "malformed/line-13",
        "sources=aws-identity-center,local",
        "sources=",
    );
    change(
        "source-twice",
        "malformed/line-13",
        "=aws-identity-center,local",
        "=local,local",
    );
    change("names-with-upper-case", "malformed/line-13", "names=*", "names=A*");
    change("key-of-the-list-missing", "malformed/line-13", "names=", "");
    change("enroller-without-recipient", "malformed/line-14", " age1", "+age1");
    change(
        "recipient-damaged",
        "malformed/line-15",
        "recovery age1",
        "recovery age1q",
    );
    change(
        "recipient-in-upper-case",
        "malformed/line-15",
        "recovery age1",
        "recovery AGE1",
    );
    change("neither-serve-nor-close", "malformed/line-17", "web close", "web maybe");
    change("threshold-negative", "malformed/line-9", "threshold 2", "threshold -2");
}

fn contradictions(maker: &mut Maker) {
    const RESULT: &str = "malformed/contradiction";
    let text = print(&first_policy()).unwrap();
    let mut change = |name: &str, result, from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        maker.add("policy", name, result, resigned(&text.replacen(from, to, 1), &root(1)));
    };
    change("threshold-0", RESULT, "threshold 2", "threshold 0");
    change("threshold-over-roots", RESULT, "threshold 2", "threshold 4");
    let again = root(1).renamed(label("root-4")).verifying().to_string();
    let first = root(1).verifying().to_string();
    change(
        "one-key-two-names",
        RESULT,
        "publisher",
        &format!("root {again}\npublisher"),
    );
    change(
        "root-twice",
        "malformed/spelling-11",
        &format!("root {first}\n"),
        &format!("root {first}\nroot {first}\n"),
    );
    let second = root(2).verifying().to_string();
    change(
        "roots-unsorted",
        "malformed/spelling-10",
        &format!("root {first}\nroot {second}\n"),
        &format!("root {second}\nroot {first}\n"),
    );
    change(
        "first-with-previous",
        RESULT,
        "previous -",
        &format!("previous {}", Digest::of(b"x")),
    );
    change("second-without-previous", RESULT, "version 1", "version 2");
    change("expires-before-issued", RESULT, "issued 2026", "issued 2046");
    change("lease-59", RESULT, "lease 86400", "lease 59");
    let other = key("syncer-2", 8).verifying().to_string();
    let line = |key: &str, source: &str| format!("publisher {key} sources={source} ids=- names=- may=-\nenroller");
    change("doubled-source", RESULT, "enroller", &line(&other, "local"));
    let same = key("syncer-1", 8).verifying().to_string();
    change("publisher-name-twice", RESULT, "enroller", &line(&same, "hr"));
    let before = key("a", 8).verifying().to_string();
    change("publishers-unsorted", RESULT, "enroller", &line(&before, "hr"));
    change(
        "compartment-twice",
        RESULT,
        "compartment web close",
        "compartment all close",
    );
    change(
        "compartments-unsorted",
        RESULT,
        "compartment all serve\ncompartment web close",
        "compartment web close\ncompartment all serve",
    );
    let recovery = format!("recovery {}\n", super::identity(2).recipient());
    change("nine-recoveries", "malformed/line-23", &recovery, &recovery.repeat(9));
    let many: String = (0..33)
        .map(|at| {
            format!(
                "publisher {} sources=- ids=- names=- may=-\n",
                key(&format!("p{at:02}"), 8).verifying()
            )
        })
        .collect();
    change(
        "thirty-three-publishers",
        "malformed/line-45",
        "publisher",
        &format!("{many}publisher"),
    );
}

/// What may follow, and what may not.
fn after(maker: &mut Maker, good: &str) {
    const KIND: &str = "policy-after";
    let next = Policy {
        version: 2,
        previous: Some(digest_of(good)),
        issued: at(0),
        ..first_policy()
    };
    let second = signed(&next, &[&root(1), &root(3)]);
    maker.add(KIND, "good", "ok", second.clone());
    maker.add(KIND, "the-same-again", "ok", good);
    maker.add(KIND, "threshold-unmet", "forged", signed(&next, &[&root(3)]));
    let other = Policy {
        lease: 3600,
        ..first_policy()
    };
    maker.add(KIND, "another-first", "fork", signed(&other, &[&root(1), &root(2)]));
    let unlinked = Policy {
        previous: Some(Digest::of(b"x")),
        ..next.clone()
    };
    maker.add(KIND, "unlinked", "chain", signed(&unlinked, &[&root(1), &root(2)]));
    let gap = Policy {
        version: 3,
        ..next.clone()
    };
    maker.add(KIND, "gap", "chain", signed(&gap, &[&root(1), &root(2)]));
    let far = Policy {
        version: 1 << 53,
        ..next.clone()
    };
    maker.add(KIND, "version-2-53", "leap", signed(&far, &[&root(1), &root(2)]));

    let fresh = [key("root-a", 11), key("root-b", 12)];
    let replaced = Policy {
        roots: fresh.iter().map(|key| key.verifying().clone()).collect(),
        ..next.clone()
    };
    let all = [&fresh[0], &fresh[1], &root(1), &root(2)];
    maker.add(KIND, "new-roots-by-both", "ok", signed(&replaced, &all));
    maker.add(KIND, "new-roots-by-the-new", "forged", signed(&replaced, &all[..2]));
    maker.add(KIND, "new-roots-by-the-old", "forged", signed(&replaced, &all[2..]));
    maker.add(
        KIND,
        "new-roots-by-half-of-the-old",
        "forged",
        signed(&replaced, &all[..3]),
    );
    let lowered = Policy {
        threshold: 1,
        ..next.clone()
    };
    maker.add(
        KIND,
        "threshold-lowered-by-one",
        "forged",
        signed(&lowered, &[&root(1)]),
    );
    maker.add(
        KIND,
        "threshold-lowered-by-two",
        "ok",
        signed(&lowered, &[&root(1), &root(2)]),
    );
    let mut without = next.clone();
    without.publishers = Vec::<Publisher>::new();
    maker.add(KIND, "no-publishers", "ok", signed(&without, &[&root(2), &root(3)]));

    maker.add("policy-after-2", "older", "rollback", good);
    maker.add(
        "policy-after-2",
        "another-second",
        "fork",
        signed(&without, &[&root(2), &root(3)]),
    );
    maker.add("policy-after-2", "the-same-again", "ok", second);
}
