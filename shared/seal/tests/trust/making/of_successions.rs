//! Keys of publishers that name their successors.

use super::{
    Digest, Maker, Succession, at, digest_of, enroller, key, label, print, publisher, resigned, root, signed, tenant,
};

fn succession() -> Succession {
    Succession {
        tenant: tenant(),
        publisher: label("syncer-1"),
        version: 1,
        previous: None,
        issued: at(0),
        anchor: publisher().verifying().clone(),
        key: key("syncer-1", 21).verifying().clone(),
    }
}

pub(super) fn make(maker: &mut Maker) {
    const KIND: &str = "succession";
    let (old, new) = (publisher(), key("syncer-1", 21));
    let good = signed(&succession(), &[&old, &new]);
    maker.add(KIND, "good", "ok", good.clone());
    maker.spoilt(KIND, &good, &old);
    for (name, keys) in [
        ("by-the-old-key-alone", vec![&old]),
        ("by-the-new-key-alone", vec![&new]),
    ] {
        maker.add(KIND, name, "forged", signed(&succession(), &keys));
    }
    maker.add(KIND, "by-a-root", "forged", signed(&succession(), &[&root(1), &new]));
    maker.add(
        KIND,
        "by-an-enroller",
        "forged",
        signed(&succession(), &[&enroller(), &new]),
    );
    let other = Succession {
        tenant: Digest::of(b"other"),
        ..succession()
    };
    maker.add(KIND, "other-tenant", "other-tenant", signed(&other, &[&old, &new]));
    let anchor = Succession {
        anchor: key("syncer-1", 22).verifying().clone(),
        ..succession()
    };
    maker.add(KIND, "other-anchor", "forged", signed(&anchor, &[&old, &new]));
    let second = Succession {
        version: 2,
        previous: Some(Digest::of(b"before")),
        ..succession()
    };
    maker.add(
        KIND,
        "second-without-the-first",
        "chain",
        signed(&second, &[&old, &new]),
    );

    let text = print(&succession()).unwrap();
    let (printed, named) = (old.verifying().to_string(), new.verifying().to_string());
    let mut change = |name: &str, result, from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        maker.add(KIND, name, result, resigned(&text.replacen(from, to, 1), &old));
    };
    const WRONG: &str = "malformed/contradiction";
    change("version-0", "malformed/line-4", "version 1", "version 0");
    change(
        "version-2-63",
        "malformed/line-4",
        "version 1",
        "version 9223372036854775808",
    );
    let previous = format!("previous {}", Digest::of(b"before"));
    change(
        "version-257",
        WRONG,
        "version 1\nprevious -",
        &format!("version 257\n{previous}"),
    );
    change("second-without-previous", WRONG, "version 1", "version 2");
    change("time-with-fraction", "malformed/line-6", "00Z", "00.5Z");
    change(
        "its-own-successor",
        WRONG,
        &format!("key {named}"),
        &format!("key {printed}"),
    );
    let renamed = key("syncer-2", 21).verifying().to_string();
    change(
        "key-of-another-name",
        WRONG,
        &format!("key {named}"),
        &format!("key {renamed}"),
    );
    change("without-a-key", "malformed/line-8", &format!("key {named}"), "key -");

    let first = digest_of(&good);
    let third = key("syncer-1", 23);
    let next = Succession {
        version: 2,
        previous: Some(first),
        key: third.verifying().clone(),
        ..succession()
    };
    const AFTER: &str = "succession-after";
    maker.add(AFTER, "next", "ok", signed(&next, &[&new, &third]));
    maker.add(AFTER, "the-same-again", "ok", good);
    maker.add(
        AFTER,
        "by-the-key-before-the-last",
        "forged",
        signed(&next, &[&old, &third]),
    );
    let fork = Succession {
        key: third.verifying().clone(),
        ..succession()
    };
    let fourth = Succession {
        key: new.verifying().clone(),
        ..next.clone()
    };
    maker.add(AFTER, "a-key-of-before", "chain", signed(&fourth, &[&new]));
    maker.add(AFTER, "a-second-successor", "fork", signed(&fork, &[&old, &third]));
    let unlinked = Succession {
        previous: Some(Digest::of(b"other")),
        ..next.clone()
    };
    maker.add(AFTER, "unlinked", "chain", signed(&unlinked, &[&new, &third]));
    let gap = Succession { version: 3, ..next };
    maker.add(AFTER, "after-a-gap", "chain", signed(&gap, &[&new, &third]));
}
