//! Heads and manifests.

use super::{
    Chain, Digest, Entry, Head, Label, Lease, Maker, Manifest, at, enroller, identity, key, label, print, publisher,
    resigned, root, signed, tenant,
};

pub(super) fn make(maker: &mut Maker) {
    heads(maker);
    heads_after(maker);
    manifests(maker);
    manifests_after(maker);
}

fn entry(source: &str, compartment: &str, version: u64) -> Entry {
    Entry {
        source: label(source),
        compartment: label(compartment),
        version,
        chain: Chain::of(Digest::of(source.as_bytes())),
    }
}

fn head(version: u64) -> Head {
    Head {
        tenant: tenant(),
        publisher: label("syncer-1"),
        version,
        issued: at(0),
        lease: Lease {
            fresh: 900,
            expires: 86_400,
        },
        policy: 1,
        nodes: Some(2),
        entries: vec![
            entry("aws-identity-center", "web", 7),
            entry("local", "all", 3),
            entry("local", "web", 1),
        ],
    }
}

fn heads(maker: &mut Maker) {
    const KIND: &str = "head";
    let good = signed(&head(5), &[&publisher()]);
    maker.add(KIND, "good", "ok", good.clone());
    maker.spoilt(KIND, &good, &publisher());
    let mut object = |name: &str, result, change: &dyn Fn(&mut Head)| {
        let mut head = head(5);
        change(&mut head);
        maker.add(KIND, name, result, signed(&head, &[&publisher()]));
    };
    object("without-nodes", "ok", &|head| head.nodes = None);
    object("without-snapshots", "ok", &|head| head.entries.clear());
    object("version-2-32", "ok", &|head| head.version = 1 << 32);
    object("version-2-32-and-1", "leap", &|head| head.version = (1 << 32) + 1);
    object("version-2-53", "leap", &|head| head.version = 1 << 53);
    object("other-tenant", "other-tenant", &|head| {
        head.tenant = Digest::of(b"other")
    });
    object("unknown-publisher", "forged", &|head| {
        head.publisher = label("syncer-2")
    });
    object("policy-withheld", "policy-withheld", &|head| head.policy = 2);
    object("lease-too-long", "lease-too-long", &|head| head.lease.expires = 86_401);
    object("out-of-scope", "out-of-scope", &|head| {
        head.entries.push(entry("payroll", "all", 1))
    });
    object("with-a-log", "ok", &|head| {
        head.entries = vec![super::of_logs::entry()];
    });
    object("log-of-2-24", "ok", &|head| head.entries[1].chain.length = 1 << 24);
    maker.add(KIND, "wrong-key", "forged", signed(&head(5), &[&enroller()]));
    maker.add(KIND, "signed-by-a-root", "forged", signed(&head(5), &[&root(1)]));
    maker.add(KIND, "name-spoof", "forged", signed(&head(5), &[&key("syncer-1", 8)]));
    let renamed = publisher().renamed(label("syncer-2"));
    maker.add(KIND, "right-key-wrong-name", "forged", signed(&head(5), &[&renamed]));

    let text = print(&head(5)).unwrap();
    let mut change = |name: &str, result, from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        maker.add(KIND, name, result, resigned(&text.replacen(from, to, 1), &publisher()));
    };
    change("version-0", "malformed/line-4", "version 5", "version 0");
    change(
        "version-2-53-and-1",
        "malformed/line-4",
        "version 5",
        "version 9007199254740993",
    );
    change(
        "version-2-63",
        "malformed/line-4",
        "version 5",
        "version 9223372036854775808",
    );
    change("version-with-zero", "malformed/spelling-4", "version 5", "version 05");
    change("time-with-fraction", "malformed/line-5", "00Z", "00.25Z");
    change("lease-of-0", "malformed/contradiction", "lease 900", "lease 0");
    change(
        "lease-backwards",
        "malformed/contradiction",
        "lease 900 86400",
        "lease 900 899",
    );
    change("lease-negative", "malformed/line-6", "lease 900", "lease -900");
    change("lease-of-one-word", "malformed/line-6", "lease 900 86400", "lease 900");
    change("policy-0", "malformed/line-7", "policy 1", "policy 0");
    change("nodes-0", "malformed/line-8", "nodes 2", "nodes 0");
    change("nodes-empty", "malformed/line-8", "nodes 2", "nodes ");
    change(
        "snapshot-twice",
        "malformed/contradiction",
        "local web 1",
        "local all 1",
    );
    change(
        "snapshots-unsorted",
        "malformed/contradiction",
        "aws-identity-center",
        "zzz",
    );
    change("snapshot-version-0", "malformed/line-10", "local all 3", "local all 0");
    change(
        "snapshot-with-upper-case",
        "malformed/line-10",
        "local all 3",
        "Local all 3",
    );
    let digest = Digest::of(b"local");
    let mut log = |name: &str, result, length: &str| {
        change(name, result, &format!("3 {digest}"), &format!("3 {digest} {length}"));
    };
    log("log-of-2-24-and-1", "malformed/contradiction", "16777217");
    log("log-of-0", "malformed/spelling-10", "0");
    log("log-with-zero", "malformed/spelling-10", "01");
    log("log-of-nothing", "malformed/line-10", "");
    log("log-negative", "malformed/line-10", "-1");
    log("log-of-two-words", "malformed/line-10", "1 2");
    change("surplus-field", "malformed/surplus-9", "snapshot aws", "more aws");
    change(
        "two-tenants",
        "malformed/line-3",
        "publisher",
        &format!("tenant {}\npublisher", tenant()),
    );
}

fn heads_after(maker: &mut Maker) {
    const KIND: &str = "head-after";
    let mut add = |name: &str, result, head: &Head| maker.add(KIND, name, result, signed(head, &[&publisher()]));
    add("next", "ok", &head(6));
    add("later", "ok", &head(5 + (1 << 32)));
    add("the-same-again", "ok", &head(5));
    add("older", "rollback", &head(4));
    let other = Head {
        issued: at(1),
        ..head(5)
    };
    add("another-of-the-same-version", "fork", &other);
    add("leap", "leap", &head(6 + (1 << 32)));
}

pub(super) fn manifest() -> Manifest {
    Manifest {
        tenant: tenant(),
        publisher: label("syncer-1"),
        source: label("local"),
        compartment: label("all"),
        version: 3,
        previous: Some(Digest::of(b"before")),
        issued: at(0),
        epoch: 2,
        recipient: identity(3).recipient(),
        ciphertext: Digest::of(b"sealed"),
        ciphertext_size: 6,
        plaintext_size: 2,
        content: Digest::of(b"root"),
    }
}

fn manifests(maker: &mut Maker) {
    const KIND: &str = "manifest";
    let good = signed(&manifest(), &[&publisher()]);
    maker.add(KIND, "good", "ok", good.clone());
    maker.spoilt(KIND, &good, &publisher());
    // No head names what was changed, and that is seen before the signature is.
    let renamed = |label: Label| publisher().renamed(label);
    maker.add(KIND, "wrong-key", "forged", signed(&manifest(), &[&enroller()]));
    maker.add(
        KIND,
        "name-spoof",
        "forged",
        signed(&manifest(), &[&key("syncer-1", 8)]),
    );
    maker.add(
        KIND,
        "right-key-wrong-name",
        "forged",
        signed(&manifest(), &[&renamed(label("syncer-2"))]),
    );
    let mut object = |name: &str, result, change: &dyn Fn(&mut Manifest)| {
        let mut manifest = manifest();
        change(&mut manifest);
        maker.add(KIND, name, result, signed(&manifest, &[&publisher()]));
    };
    object("other-tenant", "other-tenant", &|manifest| {
        manifest.tenant = Digest::of(b"other")
    });
    object("of-another-publisher", "forged", &|manifest| {
        manifest.publisher = label("syncer-2")
    });
    object("out-of-scope", "out-of-scope", &|manifest| {
        manifest.source = label("payroll")
    });
    object("version-2-53", "leap", &|manifest| manifest.version = 1 << 53);
    object("first", "ok", &|manifest| {
        manifest.version = 1;
        manifest.previous = None;
    });

    let text = print(&manifest()).unwrap();
    let mut change = |name: &str, result, from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        maker.add(KIND, name, result, resigned(&text.replacen(from, to, 1), &publisher()));
    };
    change("version-0", "malformed/line-6", "version 3", "version 0");
    change(
        "version-2-53-and-1",
        "malformed/line-6",
        "version 3",
        "version 9007199254740993",
    );
    change(
        "version-2-63",
        "malformed/line-6",
        "version 3",
        "version 9223372036854775808",
    );
    change("epoch-0", "malformed/line-9", "epoch 2", "epoch 0");
    change(
        "epoch-without-recipient",
        "malformed/line-9",
        "epoch 2 age1",
        "epoch 2+age1",
    );
    change("recipient-damaged", "malformed/line-9", "age1", "age1q");
    change("size-with-zero", "malformed/spelling-11", "plaintext 2", "plaintext 02");
    change("size-negative", "malformed/line-11", "plaintext 2", "plaintext -2");
    change(
        "size-of-2-64",
        "malformed/line-11",
        "plaintext 2",
        "plaintext 18446744073709551616",
    );
    change("size-missing", "malformed/line-10", " 6\n", "\n");
    change("content-missing", "malformed/line-12", "content ", "contents ");
    change(
        "surplus-field",
        "malformed/surplus-13",
        "content ",
        &format!("content {}\nmore ", Digest::of(b"x")),
    );
    change(
        "source-with-slash",
        "malformed/line-4",
        "source local",
        "source ../local",
    );
}

fn manifests_after(maker: &mut Maker) {
    let good = signed(&manifest(), &[&publisher()]);
    maker.add("manifest-named", "the-named", "ok", good.clone());
    let other = Manifest {
        content: Digest::of(b"other"),
        ..manifest()
    };
    let other = signed(&other, &[&publisher()]);
    maker.add("manifest-named", "another-of-the-same-version", "mixed", other.clone());
    let older = Manifest {
        version: 2,
        ..manifest()
    };
    let older = signed(&older, &[&publisher()]);
    maker.add("manifest-named", "older", "mixed", older.clone());
    let elsewhere = Manifest {
        compartment: label("web"),
        ..manifest()
    };
    maker.add(
        "manifest-named",
        "of-another-compartment",
        "mixed",
        signed(&elsewhere, &[&publisher()]),
    );

    const KIND: &str = "manifest-after";
    let next = Manifest {
        version: 4,
        previous: Some(super::digest_of(&good)),
        ..manifest()
    };
    let mut add = |name: &str, result, manifest: &Manifest| {
        maker.add(KIND, name, result, signed(manifest, &[&publisher()]));
    };
    add("next", "ok", &next);
    add(
        "next-epoch",
        "ok",
        &Manifest {
            epoch: 3,
            ..next.clone()
        },
    );
    add(
        "unlinked",
        "chain",
        &Manifest {
            previous: Some(Digest::of(b"x")),
            ..next.clone()
        },
    );
    add(
        "without-previous",
        "chain",
        &Manifest {
            previous: None,
            ..next.clone()
        },
    );
    add(
        "after-a-gap",
        "ok",
        &Manifest {
            version: 9,
            previous: None,
            ..next.clone()
        },
    );
    add("older-epoch", "rollback", &Manifest { epoch: 1, ..next });
    maker.add(KIND, "the-same-again", "ok", good);
    maker.add(KIND, "older", "rollback", older);
    maker.add(KIND, "another-of-the-same-version", "fork", other);
}
