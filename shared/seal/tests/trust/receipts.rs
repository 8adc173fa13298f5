//! Receipts of several hosts, compared.

use dirless_seal::trust::{Receipt, Seen, SplitView};
use dirless_seal::{Digest, Label};

use crate::support::{at, label};

/// What a node says: its policy, and its heads as publisher, version and content.
fn receipt(node: &str, policy: (u64, &str), heads: &[(&str, u64, &str)]) -> Receipt {
    let seen = |version, content: &str| Seen {
        version,
        digest: Digest::of(content.as_bytes()),
    };
    Receipt {
        tenant: Digest::of(b"tenant"),
        node: label(node),
        issued: at(0),
        policy: seen(policy.0, policy.1),
        heads: heads
            .iter()
            .map(|(publisher, version, content)| (label(publisher), seen(*version, content)))
            .collect(),
        generation: 1,
        users: 0,
        groups: 0,
        dropped: 0,
        alarms: Vec::new(),
    }
}

#[test]
fn hosts_that_are_only_behind_see_the_same() {
    let receipts = [
        receipt("a", (1, "p1"), &[("hr", 5, "h5"), ("it", 9, "i9")]),
        receipt("b", (2, "p2"), &[("hr", 6, "h6")]),
        receipt("a", (2, "p2"), &[("hr", 6, "h6"), ("it", 5, "i5")]),
    ];
    assert_eq!(SplitView::find(&receipts), []);
}

#[test]
fn two_contents_of_one_version_name_everybody_who_saw_them() {
    let receipts = [
        receipt("a", (1, "p"), &[("hr", 5, "one")]),
        receipt("b", (1, "p"), &[("hr", 5, "two")]),
        receipt("c", (1, "other"), &[("hr", 5, "one"), ("it", 5, "two")]),
    ];
    let found = SplitView::find(&receipts);
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].publisher.clone(), found[0].version), (None, 1));
    assert_eq!((found[1].publisher.clone(), found[1].version), (Some(label("hr")), 5));
    let saw =
        |content: &[u8]| -> Vec<&str> { found[1].views[&Digest::of(content)].iter().map(Label::as_str).collect() };
    assert_eq!(saw(b"one"), ["a", "c"]);
    assert_eq!(saw(b"two"), ["b"]);
    let text = found[1].to_string();
    assert!(
        text.starts_with("head 5 of hr is shown as") && text.contains(" to a c"),
        "{text}"
    );
}

/// One host that is shown two things is proof as well.
#[test]
fn a_host_may_contradict_its_own_earlier_receipt() {
    let receipts = [
        receipt("a", (1, "p"), &[("hr", 5, "one")]),
        receipt("a", (1, "p"), &[("hr", 5, "two")]),
    ];
    assert_eq!(SplitView::find(&receipts).len(), 1);
}
