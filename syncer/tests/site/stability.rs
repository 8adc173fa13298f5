//! The uid-stability table of the wire reference, section 11, measured on ours: all zeros.

use std::collections::BTreeMap;

use dirless_testkit::aws::{Directory, group_id, user_id};

use crate::support::Site;

/// A change at the source.
type Edit<'a> = &'a dyn Fn(&mut Directory);

/// One line of the table: shares of users and groups renumbered, and of uids that pass to another.
fn line(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> (usize, usize, usize) {
    let moved = |group: bool| {
        let kind = before.iter().filter(|(name, _)| name.starts_with('@') == group);
        kind.filter(|(name, number)| after.get(*name).is_some_and(|now| now != *number))
            .count()
    };
    let owner: BTreeMap<u64, &String> = before.iter().map(|(name, number)| (*number, name)).collect();
    let passed = after
        .iter()
        .filter(|(name, number)| owner.get(number).is_some_and(|then| then != name))
        .count();
    (moved(false), moved(true), passed)
}

#[test]
fn nobody_is_ever_renumbered() {
    let site = Site::new(Directory::sized(1000, 50));
    site.good(&["once"]);
    let mut before = site.numbers();
    assert_eq!(before.len(), 1050);
    let first_user = site.aws.edit(|directory| directory.users[&user_id(0)].clone());
    let uid_of_first = before["user000000"];
    let changes: [(&str, Edit<'_>); 7] = [
        ("none", &|_| {}),
        ("one group added", &|directory| {
            directory.group("00000000-first-of-all", "Added", &[]);
        }),
        ("one user added", &|directory| {
            directory.user("00000000-first-of-all", "added");
        }),
        ("one user deleted", &|directory| directory.remove_user(&user_id(0))),
        ("that user added again (new id)", &|directory| {
            directory.user("99999999-again", "user000000@example.com");
        }),
        ("the account of old is back", &|directory| {
            directory.remove_user("99999999-again");
            directory.users.insert(user_id(0), first_user.clone());
        }),
        ("one group deleted", &|directory| {
            directory.groups.remove(&group_id(0));
        }),
    ];
    println!("| change | users renumbered | groups renumbered | uids now another user's |");
    for (change, apply) in changes {
        site.aws.edit(|directory| apply(directory));
        site.good(&["once"]);
        let after = site.numbers();
        let mut known = before.clone();
        if change.contains("new id") {
            // Another account of the same name is another person: a new number, not the old one's.
            assert_ne!(after["user000000"], uid_of_first);
            known.remove("user000000");
        }
        if change.contains("of old") {
            assert_eq!(after["user000000"], uid_of_first, "who returns gets the old uid");
            known.remove("user000000");
        }
        let (users, groups, passed) = line(&known, &after);
        println!("| {change} | {users} | {groups} | {passed} |");
        assert_eq!((users, groups, passed), (0, 0, 0), "{change}");
        before = after;
    }
}
