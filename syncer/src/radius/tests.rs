use proptest::prelude::*;

use super::*;
use crate::shape::{GroupShape, Shape, UserShape};
use dirless_model::NameRule;

/// `alice: eng ops` lines.
fn shape(lines: &str) -> Shape {
    let mut shape = Shape::default();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (name, groups) = line.split_once(':').unwrap();
        let user = UserShape {
            name: name.to_owned(),
            uid: 2000,
            gid: 2000,
            gecos: String::new(),
            home: String::new(),
            shell: String::new(),
        };
        shape.users.insert(format!("id-{name}"), user);
        for group in groups.split_whitespace() {
            let group = shape.groups.entry(group.to_owned()).or_insert_with(|| GroupShape {
                name: group.to_owned(),
                gid: 3000,
                members: BTreeSet::new(),
            });
            group.members.insert(format!("id-{name}"));
        }
    }
    shape
}

/// `eng web-1` lines; enforced unless there are none.
fn rules(lines: &str) -> Rules {
    let rules = lines.lines().map(str::trim).filter_map(|line| line.split_once(' '));
    Rules::new(!lines.is_empty(), rules, &NameRule::default())
}

fn view(people: &str, rules: &str) -> View {
    View::new([("git", &shape(people))], self::rules(rules))
}

fn hosts() -> Hosts {
    let known = (1..=200)
        .map(|n| format!("app-{n}"))
        .chain((1..=14).map(|n| format!("db-{n}")));
    Hosts {
        known: known.collect(),
        groups: BTreeMap::new(),
        sudo: BTreeMap::from([("dba".to_owned(), BTreeSet::from(["db-*".to_owned()]))]),
    }
}

#[test]
fn the_table_of_changes() {
    let four = "a: eng\nb: eng\nc: eng\nd: eng\ne: ops\n";
    let db: String = (1..=14).map(|n| format!("dba db-{n}\n")).collect();
    let web = "eng web-1\nops web-1\nops web-2\n";
    let cases: &[(&str, &str, &str, &str, &str)] = &[
        (four, "", four, "", "nobody gains or loses anything"),
        (
            four,
            "",
            "a: eng\ne: ops\n",
            "",
            "3 people lose every host, memberships +0 -3",
        ),
        (four, "", &format!("{four}f:\n"), "", "1 person gains every host"),
        (
            four,
            "",
            &four.replace("e: ops", "e: ops dba"),
            "",
            "1 person gains sudo on db-*, memberships +1 -0",
        ),
        (
            four,
            web,
            &four.replace("e: ops", "e: eng"),
            web,
            "1 person loses web-2, memberships +1 -1",
        ),
        (four, web, four, &web.replace("eng web-1\n", ""), "4 people lose web-1"),
        (four, "", four, web, "5 people lose hosts"),
        (four, web, four, "", "5 people gain hosts"),
        (
            "a: dba\n",
            &db,
            "a:\n",
            &db,
            "1 person loses 14 hosts (db-*), 1 loses sudo on 14 hosts (db-*), memberships +0 -1",
        ),
        (four, "", "", "", "5 people lose every host, memberships +0 -5"),
    ];
    for (people, before, after_people, after, says) in cases {
        let radius = radius(&view(people, before), &view(after_people, after), &hosts());
        assert_eq!(radius.summary(), *says, "{radius:#?}");
        assert_eq!(radius.is_empty(), *says == "nobody gains or loses anything");
    }
}

#[test]
fn everyone_is_named_and_json_has_all() {
    let all: String = (10..40).map(|n| format!("u{n}: g{n}\n")).collect();
    let radius = radius(&view("", ""), &view(&all, ""), &hosts());
    let text = radius.to_string();
    assert!(
        text.contains("+ hosts every host: u10, u11, u12, u13, u14 and 25 more"),
        "{text}"
    );
    assert!(
        text.contains("~ group g10 +u10") && text.contains("and 10 more; see --json"),
        "{text}"
    );
    let json = serde_json::to_value(&radius).unwrap();
    assert_eq!(json["gain"][0]["people"].as_array().unwrap().len(), 30);
    assert_eq!(json["gain"][0]["hosts"].as_array().unwrap().len(), 214);
    assert_eq!(json["gain"][0]["beyond"][0], "*");
    assert_eq!(json["groups"].as_array().unwrap().len(), 30);
}

#[test]
fn names_are_compared_where_there_are_no_ids_and_a_rename_takes_nothing_away() {
    let deployed = shape("alice: eng\n").keyed_by_name();
    let now = shape("alice: eng\n");
    let (before, after) = views(&[("git", Some(&deployed), &now)], rules(""), rules(""));
    assert!(radius(&before, &after, &hosts()).is_empty());
    let mut renamed = now.clone();
    renamed.users.get_mut("id-alice").unwrap().name = "alicia".to_owned();
    let (before, after) = views(&[("git", Some(&now), &renamed)], rules(""), rules(""));
    assert!(radius(&before, &after, &hosts()).is_empty());
    let (before, after) = views(&[("git", None, &now)], rules(""), rules(""));
    assert_eq!(radius(&before, &after, &hosts()).gain[0].people, ["alice"]);
}

#[test]
fn of_two_sources_the_first_has_the_name() {
    let (first, second) = (shape("alice: eng\n"), shape("alice: ops\nbob: eng\n"));
    let both = View::new([("one", &first), ("two", &second)], rules(""));
    let members: Vec<&String> = both.members().keys().copied().collect();
    assert_eq!(members, ["eng", "ops"]);
    // The first source's group wins whole, as on hosts.
    assert_eq!(
        both.members()[&"eng".to_owned()].values().collect::<Vec<_>>(),
        [&"alice"]
    );
}

fn any_view() -> impl Strategy<Value = View> {
    let groups = proptest::sample::subsequence(vec!["eng", "ops", "dba"], 0..=3);
    let people = proptest::collection::btree_map("[a-e]", groups, 0..5);
    let hosts = proptest::sample::subsequence(vec!["web-1", "web-2", "db-1", "db-2"], 0..=4);
    let rules = proptest::collection::btree_map(proptest::sample::select(vec!["eng", "ops", "dba"]), hosts, 0..3);
    (people, rules, any::<bool>()).prop_map(|(people, rules, enforced)| {
        let people: String = people
            .iter()
            .map(|(name, groups)| format!("{name}: {}\n", groups.join(" ")))
            .collect();
        let rules = rules
            .iter()
            .flat_map(|(group, hosts)| hosts.iter().map(move |host| (*group, *host)));
        View::new(
            [("git", &shape(&people))],
            Rules::new(enforced, rules, &NameRule::default()),
        )
    })
}

proptest! {
    /// Nothing changes, no radius.
    #[test]
    fn the_empty_change_has_no_radius(view in any_view()) {
        prop_assert!(radius(&view, &view, &hosts()).is_empty());
    }

    /// There and back are mirror images.
    #[test]
    fn back_is_the_mirror_of_there(one in any_view(), other in any_view()) {
        prop_assert_eq!(radius(&one, &other, &hosts()).mirrored(), radius(&other, &one, &hosts()));
    }

    /// Nobody gains and loses one host in one change, and whoever is named is somebody.
    #[test]
    fn gains_and_losses_are_apart(one in any_view(), other in any_view()) {
        let radius = radius(&one, &other, &hosts());
        for lose in &radius.lose {
            for gain in &radius.gain {
                if lose.people.iter().any(|name| gain.people.contains(name)) {
                    prop_assert!(lose.hosts.hosts.is_disjoint(&gain.hosts.hosts));
                }
            }
        }
        let known: BTreeSet<&String> = one.people.values().chain(other.people.values()).map(|person| &person.name).collect();
        for stroke in radius.lose.iter().chain(&radius.gain).chain(&radius.gain_sudo).chain(&radius.lose_sudo) {
            prop_assert!(stroke.people.iter().all(|name| known.contains(name)));
            prop_assert!(!stroke.hosts.is_empty() && !stroke.said.is_empty());
        }
    }
}
