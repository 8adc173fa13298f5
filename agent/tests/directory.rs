//! Entries of the directory tree on their way to the copy.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::ops::ControlFlow;

use common::{Host, KEY, user, users};
use dirless_agent::pipeline::{DirectoryOptions, Kind, Taken};
use dirless_copy::{Reader, Scope};
use dirless_directory::{Dn, DnKey, Filter, Schema};

const WEB: &str = r#"{"dn":"cn=web,ou=services,dc=example,dc=com","attributes":{"objectClass":["top","aitherService"],"cn":["web"]}}"#;
const ALICE: &str = r#"{"dn":"uid=alice,ou=users,dc=example,dc=com","attributes":{"objectClass":["aitherUser"],"mail":["a@example.com"],"uidNumber":["0"]}}"#;

fn host(sources: &[&str]) -> Host {
    let mut host = Host::new();
    host.options.directory = Some(DirectoryOptions {
        base: Dn::parse("dc=example,dc=com").unwrap(),
        sources: sources.iter().map(|name| (*name).to_owned()).collect(),
    });
    host.put("local", &users(&[("alice", 100_001)]));
    host
}

/// The names of the entries that a filter matches by an index alone.
fn find(host: &Host, filter: &str) -> Vec<String> {
    let reader = Reader::open(&host.paths.directory_copy(), Schema::standard()).unwrap();
    let mut found = Vec::new();
    let filter = Filter::parse(filter).unwrap();
    reader
        .candidates(&DnKey::from(Vec::new()), Scope::Subtree, &filter, None, &mut |row| {
            if row.exact {
                found.push(row.dn.to_owned());
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    found
}

fn entries(head: &str, list: &[&str]) -> String {
    format!("{{{head}\"entries\":[{}]}}", list.join(","))
}

#[test]
fn entries_reach_the_copy_and_no_account_does_that_way() {
    let host = host(&["tree"]);
    let root = r#"{"dn":"uid=toor,ou=users,dc=example,dc=com","attributes":{"objectClass":["posixAccount"],"uid":["toor"],"uidNumber":["0"],"gidNumber":["0"],"homeDirectory":["/root"]}}"#;
    let broken = r#"{"dn":"nonsense","attributes":{"cn":["x"]}}"#;
    let elsewhere = r#"{"dn":"cn=x,dc=example,dc=org","attributes":{"cn":["x"]}}"#;
    let mut text = entries("", &[WEB, ALICE, root, broken, elsewhere, "7"]);
    // People and keys that come this way are not looked at.
    let accounts = user("mallory", 100_002);
    text.insert_str(1, &format!(r#""users":[{accounts}],"ssh_keys":{{"alice":"{KEY}"}},"#));
    host.put("tree", &text);
    assert_eq!(host.publish().unwrap().0, 0);
    assert_eq!(host.users(), ["alice"]);
    assert_eq!(find(&host, "(cn=web)"), ["cn=web,ou=services,dc=example,dc=com"]);
    assert_eq!(
        find(&host, "(mail=a@example.com)"),
        ["uid=alice,ou=users,dc=example,dc=com"]
    );
    for filter in ["(uidNumber=0)", "(uid=toor)", "(uid=mallory)"] {
        assert!(find(&host, filter).is_empty(), "{filter}");
    }
    assert!(host.table().keys(b"alice").unwrap().is_none_or(<[u8]>::is_empty));
    let report = host.report();
    let source = report.sources.iter().find(|source| source.name == "tree").unwrap();
    assert_eq!(source.taken, Taken::Fetched);
    let dropped: Vec<_> = report
        .dropped
        .entries
        .iter()
        .filter(|one| one.kind == Kind::Entry)
        .collect();
    assert_eq!(dropped.len(), 3, "{dropped:?}");
    // The entries alone change, and the copy follows while the table stays.
    host.put("tree", &entries("", &[ALICE]));
    assert!(host.publish().unwrap().1.contains("unchanged"));
    assert!(find(&host, "(cn=web)").is_empty());
}

#[test]
fn what_cannot_be_used_leaves_the_copy_and_logins_alone() {
    let host = host(&["tree"]);
    // Never fetched: the table does not wait, the copy does.
    assert_eq!(host.publish().unwrap().0, 0);
    assert_eq!(host.users(), ["alice"]);
    assert!(!host.paths.directory_copy().exists());
    host.absent("tree");
    host.publish().unwrap();
    assert_eq!(find(&host, "(uid=alice)").len(), 1);
    host.put("tree", &entries(r#""sequence":5,"#, &[WEB]));
    host.publish().unwrap();
    assert_eq!(find(&host, "(cn=web)").len(), 1);
    for bad in [
        entries(r#""sequence":4,"#, &[]),
        entries(r#""source":"tree-b","#, &[]),
        "{".to_owned(),
    ] {
        host.put("tree", &bad);
        host.put("local", &users(&[("alice", 100_001), ("bob", 100_002)]));
        assert_eq!(host.publish().unwrap().0, 0, "{bad}");
        assert_eq!(host.users(), ["alice", "bob"]);
        assert_eq!(find(&host, "(cn=web)").len(), 1, "{bad}");
    }
}

#[test]
fn an_audience_of_other_hosts_is_not_for_this_one_and_the_first_source_wins() {
    let host = host(&["tree-web", "tree"]);
    let secret = r#"{"dn":"cn=secret,ou=configs,dc=example,dc=com","attributes":{"cn":["secret"]}}"#;
    host.put("tree-web", &entries(r#""host_groups":["db-*"],"#, &[secret]));
    host.put("tree", &entries("", &[WEB]));
    host.publish().unwrap();
    assert!(find(&host, "(cn=secret)").is_empty());
    assert_eq!(find(&host, "(cn=web)").len(), 1);
    let other = WEB.replace(r#""cn":["web"]"#, r#""cn":["web","first"]"#);
    host.put(
        "tree-web",
        &entries(r#""host_groups":["db-*","web-*"],"#, &[secret, &other]),
    );
    host.publish().unwrap();
    assert_eq!(find(&host, "(cn=secret)").len(), 1);
    assert_eq!(find(&host, "(cn=first)").len(), 1);
    assert!(host.report().cautions.iter().any(|note| note.code == "entry-twice"));
}

/// The standard schema, and what a site has beyond it.
const FLOOR: &str = "attributetype ( 1.3.6.1.4.1.99999.1 NAME 'corpFloor' EQUALITY integerMatch ORDERING \
    integerOrderingMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.27 )";
const BADGE: &str = "attributetype ( 1.3.6.1.4.1.99999.2 NAME 'corpBadge' EQUALITY caseExactMatch \
    SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )";
const ROOM: &str = r#"{"dn":"corpBadge=R1,ou=services,dc=example,dc=com","attributes":{"objectClass":["top","corpRoom"],"corpBadge":["R1"],"corpFloor":["7"]}}"#;

fn with_schema(definitions: &[&str], list: &[&str]) -> String {
    let schema = serde_json::to_string(definitions).unwrap();
    entries(&format!("\"schema\":{schema},"), list)
}

fn definitions(host: &Host) -> usize {
    let reader = Reader::open(&host.paths.directory_copy(), Schema::standard()).unwrap();
    reader.schema().extension().count()
}

#[test]
fn the_copy_follows_a_schema_that_changes_alone() {
    let host = host(&["tree"]);
    host.put("tree", &entries("", &[ROOM]));
    host.publish().unwrap();
    // Nobody knows that it is a number, and that case matters.
    assert!(find(&host, "(corpFloor=007)").is_empty());
    assert_eq!(find(&host, "(corpBadge=r1)").len(), 1);
    let class = "objectclass ( 1.3.6.1.4.1.99999.3 NAME 'corpRoom' MAY ( corpFloor $ corpBadge ) )";
    host.put("tree", &with_schema(&[FLOOR, BADGE, class], &[ROOM]));
    assert!(host.publish().unwrap().1.contains("unchanged"));
    let room = ["corpBadge=R1,ou=services,dc=example,dc=com"];
    assert_eq!(definitions(&host), 3);
    assert_eq!(find(&host, "(corpFloor=007)"), room);
    assert_eq!(find(&host, "(1.3.6.1.4.1.99999.1=7)"), room);
    assert_eq!(find(&host, "(objectClass=1.3.6.1.4.1.99999.3)"), room);
    assert!(find(&host, "(corpBadge=r1)").is_empty());
    assert_eq!(find(&host, "(corpBadge=R1)"), room);
    host.put("tree", &entries("", &[ROOM]));
    host.publish().unwrap();
    assert_eq!(definitions(&host), 0);
    assert!(find(&host, "(corpFloor=007)").is_empty());
}

#[test]
fn a_schema_that_cannot_be_read_leaves_the_last_good_one() {
    let host = host(&["tree"]);
    host.put("tree", &with_schema(&[FLOOR], &[ROOM]));
    host.publish().unwrap();
    for bad in [r#"["attributetype ( 1.2.3"]"#, "[7]", "{}"] {
        host.put("tree", &entries(&format!("\"schema\":{bad},"), &[WEB]));
        host.publish().unwrap();
        let report = host.report();
        let source = report.sources.iter().find(|source| source.name == "tree").unwrap();
        assert_eq!(source.taken, Taken::LastGood, "{bad}");
        assert_eq!(source.problem.as_ref().unwrap().code, "bad-schema");
        assert_eq!(
            (definitions(&host), find(&host, "(corpFloor=07)").len()),
            (1, 1),
            "{bad}"
        );
    }
}

#[test]
fn what_several_sources_define_is_one_schema_for_all_of_them() {
    let host = host(&["tree-web", "tree"]);
    // The first one's entry follows what the second one says, and that comes after its entries.
    host.put("tree-web", &with_schema(&[FLOOR], &[ROOM]));
    let late = WEB.replace(r#""cn":["web"]"#, r#""cn":["web"],"corpBadge":["A","a"]"#);
    let other = FLOOR.replace("NAME 'corpFloor'", "NAME 'corpLevel'");
    let schema = serde_json::to_string(&[BADGE, FLOOR, &other]).unwrap();
    host.put("tree", &format!("{{\"entries\":[{late}],\"schema\":{schema}}}"));
    host.publish().unwrap();
    assert_eq!(definitions(&host), 2);
    assert!(find(&host, "(corpBadge=r1)").is_empty());
    for filter in ["(corpBadge=R1)", "(corpFloor=07)"] {
        assert_eq!(find(&host, filter).len(), 1, "{filter}");
    }
    assert_eq!(find(&host, "(corpBadge=a)").len(), 1);
    let report = host.report();
    let refused: Vec<_> = report.dropped.entries.iter().collect();
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(
        (refused[0].kind, refused[0].source.as_str()),
        (Kind::Definition, "tree")
    );
    assert_eq!(refused[0].name, "corpLevel");
    // One that is for other hosts brings nothing.
    let head = format!("\"host_groups\":[\"db-1\"],\"schema\":{schema},");
    host.put("tree", &entries(&head, &[]));
    host.publish().unwrap();
    assert_eq!(definitions(&host), 1);
}
