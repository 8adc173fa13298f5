//! What hosts and enrollers say and keep.

use super::{
    Digest, Engine, Identity, JoinCode, JoinRequest, Maker, Memory, Node, NodeList, Note, Object, Receipt,
    ReceiptAlarm, Revoked, Seen, URL_SAFE_NO_PAD, Wrap, at, digest_of, enroller, first_policy, identity, key, label,
    node_key, print, publisher, resigned, root, signed, tenant,
};

pub(super) fn make(maker: &mut Maker) {
    nodes(maker);
    nodes_after(maker);
    receipts(maker);
    join_codes(maker);
    join_requests(maker);
    wraps(maker);
    memories(maker);
}

fn node(seed: u8, number: usize, compartments: &[&str]) -> Node {
    Node {
        key: node_key(seed).verifying().clone(),
        recipient: identity(number).recipient(),
        compartments: compartments.iter().map(|name| label(name)).collect(),
        joined: at(-5),
    }
}

fn list() -> NodeList {
    let mut nodes = vec![node(6, 4, &["all", "web"]), node(7, 5, &[])];
    nodes.sort_by(|left, right| left.key.name().cmp(right.key.name()));
    NodeList {
        tenant: tenant(),
        enroller: label("enroller-1"),
        version: 2,
        previous: Some(Digest::of(b"before")),
        issued: at(0),
        nodes,
        revoked: vec![Revoked {
            name: label("n0123456789abcdef"),
            at: at(-1),
        }],
        renewals: vec![],
    }
}

fn nodes(maker: &mut Maker) {
    const KIND: &str = "nodes";
    let good = signed(&list(), &[&enroller()]);
    maker.add(KIND, "good", "ok", good.clone());
    maker.spoilt(KIND, &good, &enroller());
    maker.add(KIND, "wrong-key", "forged", signed(&list(), &[&publisher()]));
    maker.add(KIND, "signed-by-a-root", "forged", signed(&list(), &[&root(1)]));
    maker.add(KIND, "name-spoof", "forged", signed(&list(), &[&key("enroller-1", 8)]));
    let unknown = NodeList {
        enroller: label("enroller-2"),
        ..list()
    };
    maker.add(KIND, "unknown-enroller", "forged", signed(&unknown, &[&enroller()]));
    let other = NodeList {
        tenant: Digest::of(b"other"),
        ..list()
    };
    maker.add(KIND, "other-tenant", "other-tenant", signed(&other, &[&enroller()]));
    let empty = NodeList {
        version: 1,
        previous: None,
        nodes: vec![],
        revoked: vec![],
        renewals: vec![],
        ..list()
    };
    maker.add(KIND, "first-and-empty", "ok", signed(&empty, &[&enroller()]));

    let text = print(&list()).unwrap();
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with("node ")).collect();
    let (first, second) = (lines[0], lines[1]);
    let name = node_key(6).verifying().name().to_string();
    let own = node_key(6).verifying().to_string();
    let misnamed = key("n0000000000000000", 6).verifying().to_string();
    let mut change = |name: &str, result, from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        maker.add(KIND, name, result, resigned(&text.replacen(from, to, 1), &enroller()));
    };
    const WRONG: &str = "malformed/contradiction";
    change("version-0", "malformed/line-4", "version 2", "version 0");
    change(
        "version-2-53-and-1",
        "malformed/line-4",
        "version 2",
        "version 9007199254740993",
    );
    change(
        "version-2-63",
        "malformed/line-4",
        "version 2",
        "version 9223372036854775808",
    );
    change("first-with-previous", WRONG, "version 2", "version 1");
    change(
        "unsorted",
        WRONG,
        &format!("{first}\n{second}"),
        &format!("{second}\n{first}"),
    );
    change("node-twice", WRONG, first, &format!("{first}\n{first}"));
    change("misnamed", WRONG, &own, &misnamed);
    change(
        "listed-and-revoked",
        WRONG,
        "revoked n0123456789abcdef",
        &format!("revoked {name}"),
    );
    change("compartments-unsorted", "malformed/line-7", "all,web", "web,all");
    change(
        "compartments-empty",
        "malformed/line-8",
        "compartments=-",
        "compartments=",
    );
    change(
        "joined-with-fraction",
        "malformed/line-7",
        "joined=2026-11-22T07:55:00Z",
        "joined=2026-11-22T07:55:00.1Z",
    );
    change(
        "revoked-with-fraction",
        "malformed/line-9",
        "07:59:00Z\n",
        "07:59:00.1Z\n",
    );
    change(
        "revoked-before-nodes",
        "malformed/surplus-8",
        first,
        &format!("revoked n00 {}\n{first}", at(0)),
    );
    let last = lines_of(&text, "revoked ");
    let mut renew = |name: &str, result, rows: &str| change(name, result, &last, &format!("{last}\n{rows}"));
    renew("renewed", "ok", &format!("renew all {}\nrenew web {}", at(0), at(-1)));
    renew("renewed-twice", WRONG, &format!("renew all {0}\nrenew all {0}", at(0)));
    renew(
        "renewals-unsorted",
        WRONG,
        &format!("renew web {0}\nrenew all {0}", at(0)),
    );
    renew(
        "renewed-with-fraction",
        "malformed/line-10",
        "renew all 2026-11-22T07:55:00.1Z",
    );
    renew("renewed-without-time", "malformed/line-10", "renew all");
    change(
        "renewed-before-revoked",
        "malformed/surplus-10",
        &last,
        &format!("renew all {}\n{last}", at(0)),
    );
}

/// The lines of `text` that begin so.
fn lines_of(text: &str, begin: &str) -> String {
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with(begin)).collect();
    lines.join("\n")
}

fn nodes_after(maker: &mut Maker) {
    const KIND: &str = "nodes-after";
    let good = signed(&list(), &[&enroller()]);
    let next = NodeList {
        version: 3,
        previous: Some(digest_of(&good)),
        nodes: vec![],
        ..list()
    };
    let mut add = |name: &str, result, list: &NodeList| maker.add(KIND, name, result, signed(list, &[&enroller()]));
    add("next", "ok", &next);
    add("the-same-again", "ok", &list());
    let gap = NodeList {
        version: 9,
        ..next.clone()
    };
    add("after-a-gap", "ok", &gap);
    let other = NodeList {
        issued: at(9),
        ..list()
    };
    add("another-of-the-same-version", "fork", &other);
    let first = NodeList {
        version: 1,
        previous: None,
        ..list()
    };
    add("older", "rollback", &first);
    let unlinked = NodeList {
        previous: Some(Digest::of(b"x")),
        ..next.clone()
    };
    add("unlinked", "chain", &unlinked);
    let far = NodeList {
        version: 1 << 53,
        ..next
    };
    add("version-2-53", "leap", &far);
}

fn receipts(maker: &mut Maker) {
    const KIND: &str = "receipt";
    let seen = |version, content: &[u8]| Seen {
        version,
        digest: Digest::of(content),
    };
    let keys = [node_key(6), node_key(7)];
    let first = list().nodes[0].key.clone();
    let (own, other) = if *keys[0].verifying() == first {
        (&keys[0], &keys[1])
    } else {
        (&keys[1], &keys[0])
    };
    let receipt = Receipt {
        tenant: tenant(),
        node: own.verifying().name().clone(),
        issued: at(1),
        policy: seen(1, b"policy"),
        heads: vec![(label("hr"), seen(3, b"hr")), (label("syncer-1"), seen(5, b"head"))],
        generation: 12,
        users: 3,
        groups: 2,
        dropped: 0,
        alarms: Vec::new(),
    };
    let good = signed(&receipt, &[own]);
    maker.add(KIND, "good", "ok", good.clone());
    maker.spoilt(KIND, &good, own);
    maker.add(KIND, "of-another-node", "forged", signed(&receipt, &[other]));
    let spoof = key(own.verifying().name().as_str(), 8);
    maker.add(KIND, "name-spoof", "forged", signed(&receipt, &[&spoof]));
    let theirs = Receipt {
        node: other.verifying().name().clone(),
        ..receipt.clone()
    };
    maker.add(KIND, "for-another-node", "forged", signed(&theirs, &[own]));
    let foreign = Receipt {
        tenant: Digest::of(b"other"),
        ..receipt.clone()
    };
    maker.add(KIND, "other-tenant", "other-tenant", signed(&foreign, &[own]));
    let text = print(&receipt).unwrap();
    let mut change = |name: &str, result, from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        maker.add(KIND, name, result, resigned(&text.replacen(from, to, 1), own));
    };
    change("policy-version-0", "malformed/line-5", "policy 1", "policy 0");
    change(
        "head-version-2-63",
        "malformed/line-7",
        "syncer-1 5",
        "syncer-1 9223372036854775808",
    );
    change("heads-unsorted", "malformed/contradiction", "head hr", "head z");
    change("head-twice", "malformed/contradiction", "head hr", "head syncer-1");
    change("count-with-zero", "malformed/spelling-9", "users 3", "users 03");
    change("count-negative", "malformed/line-10", "groups 2", "groups -2");
    change(
        "surplus-field",
        "malformed/surplus-12",
        "dropped 0",
        "dropped 0\nmore 1",
    );
    let troubled = Receipt {
        alarms: [
            ("missing", "blob/0123"),
            ("no-head", "head/hr"),
            ("no-head", "head/syncer-1"),
        ]
        .into_iter()
        .filter_map(|(code, about)| ReceiptAlarm::new(code, about))
        .collect(),
        ..receipt
    };
    let text = print(&troubled).unwrap();
    maker.add(KIND, "alarms", "ok", signed(&troubled, &[own]));
    let mut change = |name: &str, result, from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        maker.add(KIND, name, result, resigned(&text.replacen(from, to, 1), own));
    };
    change(
        "alarms-unsorted",
        "malformed/contradiction",
        "alarm missing",
        "alarm stale",
    );
    change("alarm-twice", "malformed/contradiction", "head/syncer-1\n", "head/hr\n");
    change("alarm-of-three-words", "malformed/line-12", "blob/0123", "blob/0123 x");
    change("alarm-about-nothing", "malformed/line-12", " blob/0123", " ");
    change("alarm-about-no-path", "malformed/line-12", "blob/0123", "blob/\u{fc}");
    let many: String = (10..27).map(|number| format!("alarm stale head/p{number}\n")).collect();
    let more = text.replace(
        "alarm missing blob/0123\nalarm no-head head/hr\nalarm no-head head/syncer-1\n",
        &many,
    );
    maker.add(KIND, "seventeen-alarms", "malformed/line-28", resigned(&more, own));
}

fn code() -> JoinCode {
    JoinCode {
        url: "https://dirless.example:8443".to_owned(),
        tenant: tenant(),
        roots: first_policy().fingerprint(),
        policy: 1,
        compartments: [label("all"), label("web")].into(),
        code: label("web-7f3a"),
        secret: URL_SAFE_NO_PAD.encode([3; 32]).parse().unwrap(),
    }
}

fn join_codes(maker: &mut Maker) {
    const KIND: &str = "join-code";
    let good = code().expose().unwrap().to_string();
    let checked = |text: &str| {
        let mut bytes = text.as_bytes().to_vec();
        bytes.extend(&Digest::of(text.as_bytes()).as_bytes()[..4]);
        format!("dirless-join-1-{}", URL_SAFE_NO_PAD.encode(bytes))
    };
    maker.add(KIND, "good", "ok", good.clone());
    maker.add(KIND, "blanks-around", "ok", format!("  {good} \n"));
    maker.add(
        KIND,
        "blank-inside",
        "damaged",
        format!("{} {}", &good[..40], &good[40..]),
    );
    let mistyped = format!(
        "{}{}{}",
        &good[..40],
        if &good[40..41] == "A" { "B" } else { "A" },
        &good[41..]
    );
    maker.add(KIND, "mistyped", "damaged", mistyped);
    maker.add(KIND, "cut-in-the-middle", "damaged", &good[..good.len() / 2]);
    maker.add(KIND, "cut-at-the-end", "damaged", &good[..good.len() - 1]);
    maker.add(KIND, "padded", "damaged", format!("{good}="));
    maker.add(KIND, "newer-format", "prefix", good.replacen("join-1", "join-2", 1));
    maker.add(KIND, "empty", "prefix", "");
    maker.add(KIND, "prefix-alone", "damaged", "dirless-join-1-");
    let text = print(&code()).unwrap();
    let mut change = |name: &str, result, from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        maker.add(KIND, name, result, checked(&text.replacen(from, to, 1)));
    };
    change("url-with-blank", "malformed/line-2", "https:", "https: ");
    change("policy-0", "malformed/line-5", "policy 1", "policy 0");
    change(
        "policy-2-63",
        "malformed/line-5",
        "policy 1",
        "policy 9223372036854775808",
    );
    change("compartments-unsorted", "malformed/line-6", "all,web", "web,all");
    change("compartment-twice", "malformed/line-6", "all,web", "web,web");
    change("label-with-upper-case", "malformed/line-7", "code web", "code Web");
    change("short-secret", "malformed/line-8", "AwMD", "");
    change("other-context", "malformed/context", "join-code/v1", "policy/v1");
    change("no-newline-at-the-end", "malformed/spelling-9", "wM\n", "wM");
    change("surplus-field", "malformed/surplus-9", "wM\n", "wM\nmore 1\n");
    // The longest there is, and one byte more.
    let room = JoinCode::MOST - text.len();
    for (name, result, more) in [
        ("longest", "ok", room),
        ("too-long", "malformed/contradiction", room + 1),
    ] {
        change(name, result, "https://", &format!("https://{}", "a".repeat(more)));
    }
}

fn join_requests(maker: &mut Maker) {
    const KIND: &str = "join-request";
    let key = node_key(6);
    let ask = |code: &JoinCode, key| {
        let recipient = identity(4).recipient();
        JoinRequest::ask(code, at(0), "web-1.example", key, &recipient).unwrap()
    };
    let good = ask(&code(), &key);
    maker.add(KIND, "good", "ok", good.to_string());
    maker.spoilt(KIND, &good.to_string(), &key);
    let other = JoinCode {
        secret: URL_SAFE_NO_PAD.encode([4; 32]).parse().unwrap(),
        ..code()
    };
    maker.add(KIND, "wrong-secret", "forged", ask(&other, &key).to_string());
    let foreign = JoinCode {
        tenant: Digest::of(b"other"),
        ..code()
    };
    maker.add(KIND, "other-tenant", "other-tenant", ask(&foreign, &key).to_string());
    let chosen = super::key("n0000000000000000", 6);
    maker.add(KIND, "name-of-choice", "forged", ask(&code(), &chosen).to_string());
    maker.add(KIND, "wrong-key", "forged", resigned(good.text(), &node_key(7)));
    let replaced = good
        .text()
        .replace(&key.verifying().to_string(), &node_key(7).verifying().to_string());
    maker.add(KIND, "another-key-put-in", "forged", resigned(&replaced, &node_key(7)));
    let (own, theirs) = (identity(4).recipient(), identity(5).recipient());
    let rewrapped = good.text().replace(own.as_str(), theirs.as_str());
    maker.add(KIND, "another-recipient-put-in", "forged", resigned(&rewrapped, &key));
    let blank = good.text().replace("web-1.example", "web 1");
    maker.add(KIND, "host-with-blank", "malformed/line-5", resigned(&blank, &key));
    let nameless = good.text().replace("web-1.example", "");
    maker.add(
        KIND,
        "host-without-name",
        "malformed/contradiction",
        resigned(&nameless, &key),
    );
}

fn wraps(maker: &mut Maker) {
    const KIND: &str = "wrap";
    let epoch: Identity = identity(3);
    let good = print(&Wrap {
        tenant: tenant(),
        compartment: label("all"),
        epoch: 2,
        identity: epoch,
    })
    .unwrap();
    maker.add(KIND, "good", "ok", good.clone());
    let mut change = |name: &str, result, from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        maker.add(KIND, name, result, good.replacen(from, to, 1));
    };
    change("epoch-0", "malformed/line-4", "epoch 2", "epoch 0");
    change(
        "epoch-2-53-and-1",
        "malformed/line-4",
        "epoch 2",
        "epoch 9007199254740993",
    );
    change("epoch-with-zero", "malformed/spelling-4", "epoch 2", "epoch 02");
    change("crlf", "malformed/context", "\n", "\r\n");
    change("nul", "malformed/line-3", "all", "a\0l");
    change("damaged-identity", "malformed/line-5", "1QVPS", "1QVPP");
    change(
        "identity-in-lower-case",
        "malformed/spelling-5",
        "AGE-SECRET-KEY-1QVPSXQCRQVPSXQCRQVPSXQCRQVPSXQCRQVPSXQCRQVPSXQCRQVPS2PGGME",
        "age-secret-key-1qvpsxqcrqvpsxqcrqvpsxqcrqvpsxqcrqvpsxqcrqvpsxqcrqvps2pggme",
    );
    change(
        "fields-swapped",
        "malformed/line-3",
        "compartment all\nepoch 2",
        "epoch 2\ncompartment all",
    );
    change("surplus-field", "malformed/surplus-6", "ME\n", "ME\nmore 1\n");
    change("trailing-blank-line", "malformed/surplus-6", "ME\n", "ME\n\n");
    change("cut", "malformed/line-5", "2PGGME\n", "2PG");
    change("other-context", "malformed/context", "wrap/v1", "memory/v1");
}

fn memories(maker: &mut Maker) {
    const KIND: &str = "memory";
    let digest = Digest::of(b"x");
    let roots = first_policy().fingerprint();
    let start = print(&Memory::pinned(tenant(), roots)).unwrap();
    maker.add(KIND, "just-joined", "ok", start.clone());
    let start = format!("dirless/memory/v2\ntenant {}\nroots {roots}\n", tenant());
    let hr = key("hr", 8).verifying().to_string();
    let syncer = key("syncer-1", 4).verifying().to_string();
    let time = at(0);
    let good = format!(
        "{start}policy 1 {digest}\npublisher {syncer}\nhead {hr} 2 {digest} {time}\nhead {syncer} 5 {digest} {time}\n\
         manifest {syncer} local all 3 {digest}\nepoch {syncer} all 2\n"
    );
    assert!(Note::sign(good.clone(), &[]).is_ok());
    maker.add(KIND, "good", "ok", good.clone());
    let mut change = |name: &str, result, from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        maker.add(KIND, name, result, good.replacen(from, to, 1));
    };
    change("policy-version-0", "malformed/line-4", "policy 1", "policy 0");
    change(
        "policy-without-digest",
        "malformed/line-4",
        &format!("policy 1 {digest}"),
        "policy 1",
    );
    change("time-with-fraction", "malformed/line-6", "00Z", "00.5Z");
    change("head-twice", "malformed/spelling-6", &hr, &syncer);
    change("head-of-a-label", "malformed/line-6", &hr, "hr");
    change("head-without-time", "malformed/line-6", &format!(" {time}"), "");
    change(
        "manifest-version-2-63",
        "malformed/line-8",
        "all 3",
        "all 9223372036854775808",
    );
    let log = |more: &str| format!("all 3 {digest}{more}");
    change("with-a-log", "ok", &log(""), &log(&format!(" 2 {digest}")));
    change(
        "log-of-0",
        "malformed/spelling-8",
        &log(""),
        &log(&format!(" 0 {digest}")),
    );
    change("log-without-hash", "malformed/line-8", &log(""), &log(" 2"));
    change(
        "epoch-before-manifests",
        "malformed/surplus-9",
        "manifest",
        &format!("epoch {syncer} web 1\nmanifest"),
    );
    change("crlf", "malformed/context", "\n", "\r\n");
    change("former-format", "malformed/context", "memory/v2", "memory/v1");
    change("nul", "malformed/line-6", "head hr", "head h\0r");
    change("trailing-blank-line", "malformed/surplus-10", "all 2\n", "all 2\n\n");
    change("cut", "malformed/spelling-10", "all 2\n", "all 2");
    change(
        "cut-in-the-middle",
        "malformed/line-8",
        &good[good.find("manifest syncer-1").unwrap() + 90..],
        "",
    );
}
