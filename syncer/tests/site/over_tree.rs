//! Cycles over the tree: what stands in it, what of it is published, and what happens when it is lost.

use dirless_directory::{AttributeName, Dn, Entry, Value};
use dirless_syncer::tree::{Actor, Expect, TreeStore};
use dirless_testkit::aws::Directory;
use serde_json::{Value as Json, json};

use crate::support::{Site, few};

const ALICE: &str = "uid=alice,ou=users,dc=dirless";

fn dn(text: &str) -> Dn {
    Dn::parse(text).unwrap()
}

fn name(text: &str) -> AttributeName {
    AttributeName::parse(text).unwrap()
}

fn entry(dn: &str, attributes: &[(&str, &str)]) -> Entry {
    let mut entry = Entry::new(self::dn(dn));
    for (attribute, value) in attributes {
        entry.add(name(attribute), Value::from(*value));
    }
    entry
}

fn value(tree: &TreeStore, dn: &str, attribute: &str) -> Option<String> {
    let entry = tree.get(&self::dn(dn)).unwrap()?.entry().unwrap();
    let value = entry.values(&name(attribute)).first()?;
    Some(value.as_str().unwrap().to_owned())
}

fn by_people(tree: &TreeStore, entry: &Entry) {
    tree.put(&Actor::operator("ann"), entry, Expect::Anything).unwrap();
}

/// The entry of that name in a snapshot of the tree.
fn in_snapshot<'a>(snapshot: &'a Json, dn: &str) -> Option<&'a Json> {
    let entries = snapshot["entries"].as_array().unwrap();
    entries.iter().find(|entry| entry["dn"] == dn)
}

#[test]
fn a_site_without_a_tree_gets_one_and_publishes_what_it_did() {
    let site = Site::new(few());
    assert!(site.good(&["once"]).contains("published snapshot 1"));
    let before = site.published();
    let path = site.path("state/tree.db");
    for part in ["tree.db", "tree.db-wal", "tree.db-shm"] {
        let _ = std::fs::remove_file(site.path("state").join(part));
    }
    assert!(site.ends(&["plan"], 0).contains("in the tree: entries +5"));
    assert!(!path.exists(), "a plan makes no tree");
    assert!(site.good(&["once"]).contains("nothing changed"));
    assert_eq!((site.published(), site.backend.puts()), (before, 1));
    let tree = site.tree();
    let uid = value(&tree, ALICE, "uidNumber").unwrap();
    assert_eq!(site.numbers()["alice"].to_string(), uid);
    assert_eq!(
        value(&tree, ALICE, "aitherSource").as_deref(),
        Some("aws-identity-center")
    );
    assert_eq!(value(&tree, ALICE, "aitherSourceId").as_deref(), Some("u-1"));
    let group = "cn=engineering-team,ou=groups,dc=dirless";
    assert_eq!(value(&tree, group, "member").as_deref(), Some(ALICE));
    let state = tree.refresh().unwrap();
    assert!(!site.ends(&["plan"], 0).contains("in the tree"));
    site.good(&["once"]);
    assert_eq!(tree.refresh().unwrap(), state, "nothing changed, nothing written");
    assert!(
        site.backend.with(|memory| memory.of_tree.is_empty()),
        "the tree stays here unless told"
    );
}

#[test]
fn a_rename_keeps_entry_number_and_what_people_added() {
    let site = Site::new(few());
    site.good(&["once"]);
    let tree = site.tree();
    let number = site.numbers()["alice"];
    let mut alice = tree.get(&dn(ALICE)).unwrap().unwrap().entry().unwrap();
    alice.set(name("telephoneNumber"), vec![Value::from("+1 555")]);
    by_people(&tree, &alice);
    let uuid = value(&tree, ALICE, "entryUUID");
    site.aws.edit(|directory| {
        directory.user("u-1", "alicia");
    });
    let plan = site.ends(&["plan"], 10);
    assert!(plan.contains("1 renamed"), "{plan}");
    assert!(tree.get(&dn(ALICE)).unwrap().is_some(), "a plan writes nothing");
    site.good(&["once"]);
    let alicia = "uid=alicia,ou=users,dc=dirless";
    assert!(tree.get(&dn(ALICE)).unwrap().is_none());
    assert_eq!(value(&tree, alicia, "entryUUID"), uuid);
    assert_eq!(value(&tree, alicia, "telephoneNumber").as_deref(), Some("+1 555"));
    assert_eq!(site.numbers()["alicia"], number);
}

#[test]
fn a_held_change_leaves_the_tree_alone() {
    let site = Site::new(Directory::sized(40, 2));
    site.good(&["once"]);
    let tree = site.tree();
    let state = tree.refresh().unwrap();
    site.aws.edit(|directory| directory.users.clear());
    site.ends(&["once"], 11);
    assert_eq!(tree.refresh().unwrap(), state);
}

#[test]
fn a_damaged_tree_publishes_nothing_and_says_what_to_do() {
    let site = Site::new(few());
    site.good(&["once"]);
    site.aws.edit(|directory| {
        directory.user("u-9", "zoe");
    });
    for part in ["tree.db-wal", "tree.db-shm"] {
        let _ = std::fs::remove_file(site.path("state").join(part));
    }
    std::fs::write(site.path("state/tree.db"), "x".repeat(9000)).unwrap();
    for command in ["once", "plan"] {
        let text = site.ends(&[command], 1);
        assert!(
            text.contains("tree.db is damaged") && text.contains("tree rebuild"),
            "{text}"
        );
    }
    assert_eq!(site.backend.puts(), 1, "what was published keeps serving");
    std::fs::remove_file(site.path("state/tree.db")).unwrap();
    site.good(&["tree", "rebuild"]);
    assert!(site.good(&["once"]).contains("published snapshot 2"));
}

fn account(uid: &str, number: &str) -> Entry {
    entry(
        &format!("uid={uid},ou=users,dc=dirless"),
        &[
            ("objectClass", "inetOrgPerson"),
            ("objectClass", "posixAccount"),
            ("uid", uid),
            ("cn", "By Hand"),
            ("sn", "Hand"),
            ("uidNumber", number),
            ("gidNumber", number),
            ("homeDirectory", "/srv/hand"),
            ("loginShell", "/bin/sh"),
            ("userPassword", "{SSHA}secret"),
        ],
    )
}

/// People, one of them called as somebody of the source, and a group with people of both.
fn enter(tree: &TreeStore) {
    by_people(tree, &account("hand", "5001"));
    by_people(tree, &account("dave", "5002"));
    by_people(
        tree,
        &entry(
            "cn=admins,ou=groups,dc=dirless",
            &[
                ("objectClass", "groupOfNames"),
                ("objectClass", "posixGroup"),
                ("cn", "admins"),
                ("gidNumber", "5100"),
                ("member", ALICE),
                ("memberUid", "hand"),
            ],
        ),
    );
    by_people(
        tree,
        &entry(
            "cn=key,ou=secrets,dc=dirless",
            &[("objectClass", "aitherSecret"), ("aitherSecretReference", "vault:key")],
        ),
    );
    for at in 0..20 {
        by_people(
            tree,
            &entry(
                &format!("cn=s{at},ou=services,dc=dirless"),
                &[("objectClass", "aitherService")],
            ),
        );
    }
}

const TREE: &str = "[tree]\npublish = true\n[[audience]]\nname = \"db\"\nsubtrees = [\"ou=secrets,dc=dirless\"]\n\
    host_groups = [\"db\"]\nattributes = [\"aitherSecretReference\"]\n[host_groups.db]\nhosts = [\"db-*\"]\n";

#[test]
fn people_entered_by_hand_are_a_source_of_their_own() {
    let site = Site::new(few());
    site.good(&["once"]);
    let tree = site.tree();
    enter(&tree);
    let text = site.good(&["once"]);
    assert!(text.contains("directory: published snapshot 1: users +2"), "{text}");
    assert!(text.contains("aws-identity-center: nothing changed"), "{text}");
    let snapshot = site.published_of_tree("directory");
    let dave = json!({
        "username": "dave", "uid": 5002, "gid": 5002, "gecos": "By Hand", "home": "/srv/hand", "shell": "/bin/sh",
        "id": value(&tree, "uid=dave,ou=users,dc=dirless", "entryUUID"),
    });
    assert!(snapshot["users"].as_array().unwrap().contains(&dave), "{snapshot}");
    let members = snapshot["groups"][0]["members"].as_array().unwrap();
    assert!(
        members.contains(&json!("alice")) && members.contains(&json!("hand")),
        "{members:?}"
    );
    // The source gets somebody of the same name: both stay who they are.
    site.aws.edit(|directory| {
        directory.user("u-9", "dave");
    });
    let text = site.good(&["once"]);
    assert!(text.contains("aws-identity-center: published snapshot 2"), "{text}");
    assert!(text.contains("directory: nothing changed"), "{text}");
    assert_eq!(
        value(&tree, "uid=dave,ou=users,dc=dirless", "uidNumber").as_deref(),
        Some("5002")
    );
    let beside = "uid=dave+aitherSource=aws-identity-center,ou=users,dc=dirless";
    assert_eq!(
        value(&tree, beside, "uidNumber"),
        Some(site.numbers()["dave"].to_string())
    );
    // The last one goes: the guard asks, and then an empty source is published.
    for uid in ["hand", "dave"] {
        let gone = dn(&format!("uid={uid},ou=users,dc=dirless"));
        tree.delete(&Actor::operator("ann"), &gone, Expect::Anything).unwrap();
    }
    assert!(site.ends(&["once"], 11).contains("no user at all"));
}

/// An account without numbers.
fn newcomer(uid: &str, more: &[(&str, &str)]) -> Entry {
    let own = [
        ("objectClass", "inetOrgPerson"),
        ("objectClass", "posixAccount"),
        ("cn", uid),
        ("sn", uid),
        ("homeDirectory", "/home/new"),
    ];
    entry(&format!("uid={uid},ou=users,dc=dirless"), &[&own, more].concat())
}

fn number(snapshot: &Json, list: &str, key: &str, name: &str, what: &str) -> Option<String> {
    let all = snapshot[list].as_array().unwrap();
    let one = all.iter().find(|one| one[key] == name)?;
    Some(one[what].to_string())
}

#[test]
fn who_is_entered_without_a_number_gets_one_of_the_ledger_for_good() {
    let site = Site::new(few());
    site.good(&["once"]);
    let tree = site.tree();
    let staff = "cn=staff,ou=groups,dc=dirless";
    let group = [
        ("objectClass", "groupOfNames"),
        ("objectClass", "posixGroup"),
        ("memberUid", "erin"),
    ];
    by_people(&tree, &entry(staff, &group));
    by_people(&tree, &newcomer("erin", &[]));
    by_people(
        &tree,
        &newcomer("frank", &[("objectClass", "aitherOwned"), ("aitherSourceId", "hr-17")]),
    );
    let (erin, frank) = ("uid=erin,ou=users,dc=dirless", "uid=frank,ou=users,dc=dirless");
    assert_eq!(value(&tree, erin, "uidNumber"), None);
    assert!(site.ends(&["plan"], 10).contains("erin"));
    assert_eq!(value(&tree, erin, "uidNumber"), None, "a plan writes nothing");
    // The backend is away: that is no reason to have no number.
    site.backend.with(|memory| memory.refuse_tree = true);
    site.ends(&["once"], 1);
    let first = value(&tree, erin, "uidNumber").unwrap();
    site.backend.with(|memory| memory.refuse_tree = false);
    site.good(&["once"]);
    let of = |dn, attribute| value(&tree, dn, attribute).unwrap();
    assert_eq!(
        (of(erin, "uidNumber"), of(erin, "gidNumber")),
        (first.clone(), first.clone())
    );
    let snapshot = site.published_of_tree("directory");
    assert_eq!(
        number(&snapshot, "users", "username", "erin", "uid"),
        Some(first.clone())
    );
    assert_eq!(
        number(&snapshot, "groups", "name", "staff", "gid"),
        Some(of(staff, "gidNumber"))
    );
    let ids = site.numbers().into_values().collect::<std::collections::BTreeSet<_>>();
    let own: std::collections::BTreeSet<u64> = [of(erin, "uidNumber"), of(frank, "uidNumber"), of(staff, "gidNumber")]
        .iter()
        .map(|text| text.parse().unwrap())
        .collect();
    assert!(own.len() == 3 && own.is_disjoint(&ids), "{own:?} {ids:?}");
    assert!(
        own.iter()
            .all(|number| dirless_model::IdRange::ASSIGNED.contains(u32::try_from(*number).unwrap())),
        "{own:?}"
    );
    let state = tree.refresh().unwrap();
    assert!(site.good(&["once"]).contains("directory: nothing changed"));
    assert_eq!(tree.refresh().unwrap(), state, "given once");
    // Put again without numbers, renamed, and with the group as its own.
    by_people(&tree, &newcomer("erin", &[("mail", "erin@example.com")]));
    assert_eq!(of(erin, "uidNumber"), first);
    let mut joined = newcomer("erin", &[]);
    joined.set(name("gidNumber"), vec![Value::from(of(staff, "gidNumber").as_str())]);
    by_people(&tree, &joined);
    site.good(&["once"]);
    let snapshot = site.published_of_tree("directory");
    assert_eq!(
        number(&snapshot, "users", "username", "erin", "uid"),
        Some(first.clone())
    );
    assert_eq!(
        number(&snapshot, "users", "username", "erin", "gid"),
        Some(of(staff, "gidNumber"))
    );
}

#[test]
fn a_number_comes_back_to_the_same_identity_and_to_no_other() {
    let site = Site::new(few());
    let tree = {
        site.good(&["once"]);
        site.tree()
    };
    // Enough others, so that the guard lets one go.
    for at in 0..10 {
        by_people(&tree, &newcomer(&format!("other{at}"), &[]));
    }
    let hr = [("objectClass", "aitherOwned"), ("aitherSourceId", "hr-17")];
    by_people(&tree, &newcomer("frank", &hr));
    by_people(&tree, &newcomer("grace", &[]));
    site.good(&["once"]);
    let (frank, grace) = ("uid=frank,ou=users,dc=dirless", "uid=grace,ou=users,dc=dirless");
    let before = [value(&tree, frank, "uidNumber"), value(&tree, grace, "uidNumber")];
    for gone in [frank, grace] {
        tree.delete(&Actor::operator("ann"), &dn(gone), Expect::Anything)
            .unwrap();
    }
    site.good(&["once"]);
    let text = site.good(&["ledger", "show"]);
    assert!(text.contains("hr-17"), "{text}");
    // Somebody else of the same name is somebody else; the same person under another name is not.
    by_people(&tree, &newcomer("grace", &[]));
    by_people(&tree, &newcomer("franklin", &hr));
    site.good(&["once"]);
    let franklin = value(&tree, "uid=franklin,ou=users,dc=dirless", "uidNumber");
    assert!(franklin.is_some() && franklin == before[0], "{franklin:?} {before:?}");
    let grace = value(&tree, grace, "uidNumber");
    assert!(grace.is_some() && !before.contains(&grace), "{grace:?} {before:?}");
}

#[test]
fn the_tree_reaches_each_audience_and_secrets_reach_none_but_the_named() {
    let mut site = Site::new(few());
    TREE.clone_into(&mut site.extra);
    site.good(&["once"]);
    let tree = site.tree();
    enter(&tree);
    let text = site.good(&["once"]);
    assert!(
        text.contains("tree: published snapshot 2") && text.contains("tree-db: published"),
        "{text}"
    );
    let snapshot = site.published_of_tree("tree");
    assert_eq!(
        (&snapshot["source"], &snapshot["sequence"]),
        (&json!("tree"), &json!(2))
    );
    assert!(snapshot.get("host_groups").is_none() && snapshot.get("schema").is_none());
    let alice = in_snapshot(&snapshot, ALICE).unwrap();
    assert_eq!(alice["attributes"]["uid"], json!(["alice"]));
    for hidden in ["uidNumber", "homeDirectory", "gecos"] {
        assert!(alice["attributes"].get(hidden).is_none(), "{alice}");
    }
    assert!(in_snapshot(&snapshot, "uid=hand,ou=users,dc=dirless").is_some());
    assert!(in_snapshot(&snapshot, "ou=secrets,dc=dirless").is_none());
    let text = snapshot.to_string();
    assert!(!text.contains("SSHA") && !text.contains("vault:key") && !text.contains("posixAccount"));
    let secret = site.published_of_tree("tree-db");
    assert_eq!(secret["host_groups"], json!(["db-*"]));
    let key = in_snapshot(&secret, "cn=key,ou=secrets,dc=dirless").unwrap();
    assert_eq!(key["attributes"]["aitherSecretReference"], json!(["vault:key"]));
    // Nothing changed; then one thing, for one audience.
    let puts = site.backend.with(|memory| memory.puts_of_tree);
    site.good(&["once"]);
    assert_eq!(site.backend.with(|memory| memory.puts_of_tree), puts);
    by_people(
        &tree,
        &entry("cn=r,ou=roles,dc=dirless", &[("objectClass", "aitherRole")]),
    );
    let text = site.good(&["once"]);
    assert!(
        text.contains("tree: published snapshot 3") && text.contains("tree-db: nothing changed"),
        "{text}"
    );
    let status = site.good(&["status"]);
    assert!(
        status.contains("tree: snapshot 3 of ") && status.contains("tree-db: snapshot "),
        "{status}"
    );
    assert!(site.good(&["status", "--json"]).contains("\"tree-db\""));
    // A schema that changes goes to all, although no entry does.
    let schema = site.path("schema");
    std::fs::create_dir(&schema).unwrap();
    let own = "attributetype ( 1.3.6.1.4.1.99999.1 # of the door\n NAME 'corpBadge' SUP name )";
    std::fs::write(schema.join("site.schema"), own).unwrap();
    let folder = format!("[tree]\nschema_folder = \"{}\"\n", schema.display());
    site.extra = TREE.replacen("[tree]\n", &folder, 1);
    drop(tree);
    let text = site.good(&["once"]);
    assert!(
        text.contains("tree: published snapshot 4") && text.contains("tree-db: published"),
        "{text}"
    );
    for name in ["tree", "tree-db"] {
        let told = &site.published_of_tree(name)["schema"];
        assert_eq!(
            *told,
            json!(["attributetype ( 1.3.6.1.4.1.99999.1 NAME 'corpBadge' SUP name )"])
        );
    }
    // The backend lost one.
    site.backend.with(|memory| memory.of_tree.remove("tree-db"));
    assert!(site.good(&["once"]).contains("tree-db: published snapshot"));
}

#[test]
fn a_tree_that_shrinks_waits_for_exactly_that_change() {
    let mut site = Site::new(few());
    "[tree]\npublish = true\n".clone_into(&mut site.extra);
    site.good(&["once"]);
    let tree = site.tree();
    enter(&tree);
    site.good(&["once"]);
    let before = site.published_of_tree("tree");
    let services: Vec<Dn> = (0..20)
        .map(|at| dn(&format!("cn=s{at},ou=services,dc=dirless")))
        .collect();
    for service in &services {
        tree.delete(&Actor::operator("ann"), service, Expect::Anything).unwrap();
    }
    let text = site.ends(&["once"], 11);
    assert!(text.contains("20 fewer"), "{text}");
    assert_eq!(site.published_of_tree("tree"), before, "the last one keeps serving");
    site.ends(&["once", "--accept", "000000000000"], 11);
    let status = site.good(&["status"]);
    let id = status
        .split("--accept ")
        .nth(1)
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap();
    assert!(
        site.good(&["once", "--accept", id])
            .contains("tree: published snapshot 3")
    );
    assert!(in_snapshot(&site.published_of_tree("tree"), "cn=s1,ou=services,dc=dirless").is_none());
}

#[test]
fn a_lost_tree_is_noticed_held_back_and_brought_back() {
    let mut site = Site::new(few());
    TREE.clone_into(&mut site.extra);
    site.good(&["once"]);
    let tree = site.tree();
    enter(&tree);
    site.good(&["once"]);
    let uuid = value(&tree, "uid=hand,ou=users,dc=dirless", "entryUUID");
    let alice = value(&tree, ALICE, "entryUUID");
    drop(tree);
    let lose = || {
        for part in ["tree.db", "tree.db-wal", "tree.db-shm"] {
            let _ = std::fs::remove_file(site.path("state").join(part));
        }
    };
    lose();
    let text = site.ends(&["once"], 1);
    assert!(text.contains("is missing") && text.contains("tree rebuild"), "{text}");
    assert!(!site.path("state/tree.db").exists());
    // Somebody makes an empty one: what it lacks is held back.
    drop(site.tree());
    let text = site.ends(&["once"], 11);
    assert!(
        text.contains("tree: held back") && text.contains("directory: held back"),
        "{text}"
    );
    lose();
    let text = site.good(&["tree", "rebuild"]);
    assert!(text.contains("entries added") && text.contains("directory"), "{text}");
    let tree = site.tree();
    assert_eq!(value(&tree, "uid=hand,ou=users,dc=dirless", "entryUUID"), uuid);
    assert_eq!(
        value(&tree, "uid=hand,ou=users,dc=dirless", "uidNumber").as_deref(),
        Some("5001")
    );
    assert_eq!(value(&tree, "uid=hand,ou=users,dc=dirless", "userPassword"), None);
    let text = site.good(&["once"]);
    assert!(text.contains("directory: nothing changed"), "{text}");
    assert_eq!(
        value(&tree, ALICE, "entryUUID"),
        alice,
        "the source's people find their entries again"
    );
    assert_eq!(
        value(&tree, ALICE, "uidNumber"),
        Some(site.numbers()["alice"].to_string())
    );
}
