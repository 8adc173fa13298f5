use proptest::prelude::*;

use super::*;
use crate::sources::tests::{directory, group, user};

const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n# people\n\nalice:x:60002:60001:Alice:/home/alice:/bin/bash\n\
                      bob:x:1001:1001::/home/bob:/bin/bash\nzoe:x:1002:1002::/home/zoe:/bin/bash\n\
                      nobody:x:65534:65534::/:/usr/sbin/nologin\n+::::::\n";

fn source() -> SourceDirectory {
    let mut dave = user("u4", "dave");
    dave.enabled = false;
    directory(
        vec![user("u1", "Alice@corp"), user("u2", "bob"), user("u3", "carol"), dave],
        vec![(group("g1", "Engineering Team"), vec!["u1"])],
    )
}

fn planned(text: &str, ledger: &[Entry]) -> Plan {
    let records = parse(text, Format::Auto).unwrap();
    plan(
        &records,
        "s",
        &source(),
        &NameRule::default(),
        ledger,
        Timestamp::UNIX_EPOCH,
    )
}

fn numbers(entries: &[Entry]) -> Vec<(u32, &str)> {
    entries
        .iter()
        .map(|entry| (entry.number, entry.object.id.as_str()))
        .collect()
}

#[test]
fn a_passwd_file_gives_people_of_the_source_their_numbers_and_reserves_the_rest() {
    let plan = planned(PASSWD, &[]);
    assert_eq!(numbers(&plan.take), [(60_002, "u1"), (1001, "u2")]);
    assert_eq!(numbers(&plan.reserve), [(1002, "reserved:user:zoe")]);
    assert_eq!(plan.left_out.len(), 2, "root and nobody: {:?}", plan.left_out);
    assert_eq!((plan.other_primary, plan.cautions), (1, 1));
    assert!(plan.conflicts.is_empty());
}

#[test]
fn a_group_file_skips_private_groups_only_when_it_can_see_the_user() {
    let plan = planned("engineering-team:x:60001:alice\nstaff:x:50:\nzoe:x:1002:\n", &[]);
    assert_eq!(numbers(&plan.take), [(60_001, "g1")]);
    assert_eq!(numbers(&plan.reserve), [(1002, "reserved:group:zoe")]);
    assert_eq!(plan.left_out.len(), 1);
}

#[test]
fn a_deployed_snapshot_is_matched_by_mapped_names_disabled_people_too() {
    let snapshot = r#"{"groups":[{"name":"Engineering Team","gid":60001,"members":["Alice@corp"]}],"users":[
        {"username":"Alice@corp","uid":60002,"gid":60001,"gecos":"","home":"/home/a","shell":"/bin/sh"},
        {"username":"dave","uid":60003,"gid":60003,"gecos":"","home":"/home/d","shell":"/bin/sh"},
        {"username":"gone","uid":60004,"gid":60004,"gecos":"","home":"/home/g","shell":"/bin/sh"}]}"#;
    let plan = planned(snapshot, &[]);
    let mut taken = numbers(&plan.take);
    taken.sort_unstable();
    assert_eq!(taken, [(60_001, "g1"), (60_002, "u1"), (60_003, "u4")]);
    assert_eq!(numbers(&plan.reserve), [(60_004, "reserved:user:gone")]);
    let again = planned(snapshot, &[plan.take, plan.reserve].concat());
    assert_eq!((again.already, again.take.len(), again.reserve.len()), (4, 0, 0));
}

#[test]
fn our_own_snapshot_is_matched_by_object_id_and_brings_the_retired_along() {
    let snapshot = r#"{"users":[{"username":"renamed","uid":2001,"gid":2001,"gecos":"","home":"/h","shell":"/s","id":"u2"}],
        "ledger":{"retired":[{"kind":"group","id":"g9","number":2002,"name":"old"}]}}"#;
    let plan = planned(snapshot, &[]);
    assert_eq!(numbers(&plan.take), [(2001, "u2"), (2002, "g9")]);
    assert!(!plan.take[0].retired && plan.take[1].retired);
}

#[test]
fn contradictions_are_conflicts() {
    let twice = planned("alice:x:2001:1::/:/\nbob:x:2001:1::/:/\n", &[]);
    assert_eq!(twice.conflicts.len(), 1, "{twice:?}");
    let held = planned("alice:x:2001:1::/:/\n", &[]).take;
    let moved = planned("alice:x:2002:1::/:/\n", &held);
    assert!(moved.conflicts[0].contains("never move"), "{moved:?}");
    let passwd_and_group = planned("engineering-team:x:2001:\n", &held);
    assert!(
        passwd_and_group.conflicts[0].contains("belongs to user u1"),
        "{passwd_and_group:?}"
    );
    let mut doubled = source();
    doubled = {
        let users = vec![user("u1", "alice"), user("u9", "Alice@corp")];
        let _ = doubled;
        directory(users, vec![])
    };
    let records = parse("alice:x:2001:1::/:/\n", Format::Passwd).unwrap();
    let plan = plan(
        &records,
        "s",
        &doubled,
        &NameRule::default(),
        &[],
        Timestamp::UNIX_EPOCH,
    );
    assert!(plan.conflicts[0].contains("several objects"), "{plan:?}");
}

#[test]
fn what_is_no_record_names_its_line() {
    for (text, format, line) in [
        ("a:b:c\n", Format::Passwd, "line 1"),
        ("\na:x:y:z::/:/\n", Format::Passwd, "line 2"),
        ("a:x:1:2::/:/\nb:x:1\n", Format::Auto, "line 2"),
        ("g:x:many:\n", Format::Group, "line 1"),
    ] {
        let error = parse(text, format).unwrap_err().to_string();
        assert!(error.contains(line), "{error}");
    }
    assert!(matches!(parse("", Format::Auto), Err(ParseError::Unknown)));
    assert!(matches!(
        parse("{\"users\":7}", Format::Auto),
        Err(ParseError::Snapshot(_))
    ));
}

proptest! {
    /// The cheap twin of the fuzz target: no text makes the parser or the planner panic, and what
    /// is planned never claims a number or an object twice.
    #[test]
    fn any_text_is_records_or_an_error(text in "([a-zA-Z@ ]{0,6}:x:[0-9-]{0,11}:[0-9]{0,5}(:[a-z]{0,3}:/:/)?\n){0,8}|\\PC{0,200}") {
        for format in [Format::Auto, Format::Snapshot, Format::Passwd, Format::Group] {
            if let Ok(records) = parse(&text, format) {
                let plan = plan(&records, "s", &source(), &NameRule::default(), &[], Timestamp::UNIX_EPOCH);
                let all = [plan.take, plan.reserve].concat();
                let numbers: HashSet<u32> = all.iter().map(|entry| entry.number).collect();
                let objects: HashSet<&Object> = all.iter().map(|entry| &entry.object).collect();
                prop_assert_eq!(numbers.len(), all.len());
                prop_assert_eq!(objects.len(), all.len());
                prop_assert!(numbers.iter().all(|number| *number >= 1000));
            }
        }
    }
}
