use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::radius::PlanConfig;
use crate::sources::{SourceKind, SourceSetting, Unwatched};

const PEOPLE: &str = "people:\n  - {name: alice, id: a1}\n  - {name: bob}\n  - {name: carol, disabled: true}\n";
const GROUPS: &str = "[[groups]]\nname = \"eng\"\nmembers = [\"alice\", \"carol\"]\nroles = [\"owner\"]\n\
    [[groups]]\nname = \"all\"\ngroups = [\"eng\"]\nmembers = [\"bob\"]\n";

fn files(list: &[(&str, &str)]) -> Vec<File> {
    list.iter()
        .map(|(path, text)| File {
            path: path.into(),
            text: (*text).to_owned(),
        })
        .collect()
}

fn refused(list: &[(&str, &str)]) -> String {
    gather(&files(list)).unwrap_err().to_string()
}

#[test]
fn files_of_any_format_make_one_directory() {
    let gathered = gather(&files(&[
        ("people.yaml", PEOPLE),
        ("teams/groups.toml", GROUPS),
        ("README.md", "{"),
    ]))
    .unwrap();
    assert_eq!(gathered.users.len(), 3);
    let all: Vec<_> = gathered.members["all"].iter().map(String::as_str).collect();
    assert_eq!(all, ["a1", "bob", "carol"]);
}

#[test]
fn what_is_wrong_names_file_and_line() {
    let cases: &[(&[(&str, &str)], &str)] = &[
        (
            &[("p.yaml", PEOPLE), ("q.json", "{\"people\": [\n{\"name\": \"bob\"}]}")],
            "q.json:2: person \"bob\" is in p.yaml too",
        ),
        (
            &[("g.toml", GROUPS)],
            "g.toml:3: group eng: there is no person \"alice\"",
        ),
        (
            &[("g.yaml", "groups:\n- name: a\n  groups: [b]\n")],
            "g.yaml:3: group a: there is no group \"b\"",
        ),
        (
            &[("p.yaml", "people:\n- name: a\n  id: x\n- name: b\n  id: x\n")],
            "comes twice",
        ),
        (
            &[("p.yaml", "people:\n- name: a\n  keys: [nonsense]\n")],
            "p.yaml:3: person a: a key",
        ),
        (
            &[("a.yaml", "access: {enforce: true, rules: [{group: no, hosts: [h]}]}\n")],
            "a.yaml:1: access: there is no group",
        ),
        (
            &[
                ("a.yaml", "access: {enforce: false}\n"),
                ("b.yaml", "access: {enforce: true}\n"),
            ],
            "b.yaml:1: access rules stand in a.yaml",
        ),
        (&[("p.yaml", "people:\n- name: a\n  nmae: b\n")], "p.yaml:3"),
    ];
    for (list, says) in cases {
        let error = refused(list);
        assert!(error.contains(says), "{error}");
    }
}

fn setting(folder: &Path) -> SourceSetting {
    let kind = FilesConfig {
        hosts: KnownHosts::default(),
        name: "git".to_owned(),
        names: None,
        folder: folder.to_owned(),
        engines: vec![Engine::Configs],
        access: false,
        watch: true,
    };
    SourceSetting {
        name: "git".to_owned(),
        names: NameRule::default(),
        state_folder: folder.to_owned(),
        kind: SourceKind::Files(Box::new(kind)),
    }
}

fn source(folder: &Path) -> FileSource {
    let SourceKind::Files(config) = setting(folder).kind else {
        unreachable!()
    };
    FileSource::new("git", &config)
}

#[tokio::test]
async fn a_folder_is_read_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("teams")).unwrap();
    std::fs::create_dir(at(".git")).unwrap();
    std::fs::write(at("people.yaml"), PEOPLE).unwrap();
    std::fs::write(at("teams/g.toml"), GROUPS).unwrap();
    std::fs::write(at(".git/broken.yaml"), "{").unwrap();
    std::fs::write(at("e.yaml"), "entries: [{dn: 'cn=x', attributes: {cn: x}}]\n").unwrap();
    let source = source(folder.path());
    let directory = source.read(&Unwatched).await.unwrap();
    assert_eq!(
        directory.users().map(|user| user.name.as_str()).collect::<Vec<_>>(),
        ["alice", "bob"]
    );
    assert_eq!(
        directory.members("all").collect::<BTreeSet<_>>(),
        BTreeSet::from(["a1", "bob"])
    );
    assert_eq!(directory.roles("a1"), BTreeSet::from(["owner"]));
    assert_eq!(directory.entries().len(), 1);
    std::fs::write(at("teams/z.json"), "{").unwrap();
    let error = source.read(&Unwatched).await.unwrap_err().to_string();
    assert!(error.contains("z.json:1"), "{error}");
    std::fs::remove_dir_all(at("teams")).unwrap();
    std::fs::remove_file(at("people.yaml")).unwrap();
    assert_eq!(source.read(&Unwatched).await.unwrap().users().count(), 0);
    assert!(self::source(Path::new("/nonexistent")).read(&Unwatched).await.is_err());
}

/// Long enough for any machine; a change is noticed at once.
fn late() -> tokio::time::Instant {
    tokio::time::Instant::now() + std::time::Duration::from_secs(60)
}

fn soon() -> tokio::time::Instant {
    tokio::time::Instant::now() + std::time::Duration::from_millis(400)
}

#[tokio::test]
async fn every_kind_of_change_is_noticed_once() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("people")).unwrap();
    std::fs::write(at("people/a.yaml"), PEOPLE).unwrap();
    let mut watch = Watch::new(&[setting(&at("people"))]);
    assert!(!watch.changed_before(soon()).await);
    std::fs::write(at("aside"), "people: []\n").unwrap();
    let steps: [(&str, &dyn Fn()); 7] = [
        ("written", &|| {
            std::fs::write(at("people/a.yaml"), "people: []\n").unwrap()
        }),
        ("replaced", &|| {
            std::fs::rename(at("aside"), at("people/a.yaml")).unwrap()
        }),
        ("a folder deeper", &|| {
            std::fs::create_dir(at("people/teams")).unwrap();
            std::fs::write(at("people/teams/g.toml"), "").unwrap();
        }),
        ("in that folder", &|| {
            std::fs::write(at("people/teams/h.toml"), "").unwrap()
        }),
        ("the folder swapped", &|| {
            std::fs::create_dir(at("new")).unwrap();
            std::fs::write(at("new/a.yaml"), PEOPLE).unwrap();
            std::fs::rename(at("people"), at("old")).unwrap();
            std::fs::rename(at("new"), at("people")).unwrap();
        }),
        ("in the swapped one", &|| {
            std::fs::write(at("people/b.yaml"), "people: []\n").unwrap()
        }),
        ("gone", &|| std::fs::remove_dir_all(at("people")).unwrap()),
    ];
    for (what, step) in steps {
        step();
        assert!(watch.changed_before(late()).await, "{what}");
        assert!(!watch.changed_before(soon()).await, "{what}, twice");
    }
}

#[tokio::test]
async fn what_is_not_read_and_what_git_does_is_passed_over_until_it_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at(".git")).unwrap();
    std::fs::create_dir(at("configs")).unwrap();
    std::fs::write(at("a.yaml"), PEOPLE).unwrap();
    let mut watch = Watch::new(&[setting(folder.path())]);
    std::fs::write(at("README.md"), "x").unwrap();
    std::fs::write(at("configs/a.yaml"), "x: 1").unwrap();
    std::fs::write(at(".git/HEAD"), "x").unwrap();
    assert!(!watch.changed_before(soon()).await);
    std::fs::write(at(".git/index.lock"), "").unwrap();
    let source = source(folder.path());
    std::fs::write(at("a.yaml"), "people:\n").unwrap();
    let reading = tokio::spawn(async move { source.read(&Unwatched).await.map(|all| all.users().count()) });
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    std::fs::write(at("a.yaml"), PEOPLE).unwrap();
    std::fs::remove_file(at(".git/index.lock")).unwrap();
    assert_eq!(reading.await.unwrap().unwrap(), 2);
    assert!(watch.changed_before(late()).await);
}

#[test]
fn groups_of_the_configuration_are_named_by_rules() {
    let people = ("p.yaml", "people: [{name: a}]\ngroups: [{name: dba, members: [a]}]\n");
    let rules = "access:\n  enforce: true\n  rules:\n    - {group: dba, host_groups: [db]}\n";
    let folder = tempfile::tempdir().unwrap();
    let inventory = folder.path().join("hosts");
    let mut known = KnownHosts {
        groups: toml::from_str("[db]\nhosts = [\"db-*\", \"old\"]\n[web]\nhosts = [\"web-1\"]").unwrap(),
        plan: PlanConfig::default(),
    };
    let gathered = |known: &KnownHosts, rules: &str| {
        gather_with(&files(&[("a.yaml", rules), people]), &known.resolve()).map_err(|error| error.to_string())
    };
    let hosts = |gathered: Gathered| -> Vec<String> {
        let rules = gathered.access.into_iter().flat_map(|access| access.rules);
        rules.flat_map(|rule| rule.hosts).collect()
    };
    // Nobody knows which hosts the pattern means: neither without a list nor with one that is not there.
    let error = gathered(&known, rules).unwrap_err();
    assert!(
        error.contains("a.yaml:4") && error.contains("[plan] inventory"),
        "{error}"
    );
    assert_eq!(
        hosts(gathered(&known, &rules.replace("[db]", "[web]")).unwrap()),
        ["web-1"]
    );
    known.plan.inventory = Some(inventory.clone());
    assert!(gathered(&known, rules).is_err());
    std::fs::write(&inventory, "db-1\nweb-1\ndb-2\n").unwrap();
    assert_eq!(hosts(gathered(&known, rules).unwrap()), ["db-1", "db-2", "old"]);
    let error = gathered(&known, &format!("{rules}host_groups: {{db: [x]}}\n")).unwrap_err();
    assert!(error.contains("[host_groups.db]"), "{error}");
    let error = gathered(&known, &rules.replace("[db]", "[mail]")).unwrap_err();
    assert!(error.contains("[host_groups.mail]"), "{error}");
}

#[test]
fn groups_of_hosts_are_resolved_and_rules_checked() {
    let people = ("p.yaml", "people: [{name: a}]\ngroups: [{name: dba, members: [a]}]\n");
    let hosts = ("h.toml", "[host_groups]\ndb = [\"db-1\", \"db-2\"]\n");
    let rules = "access:\n  enforce: true\n  rules:\n    - {group: dba, host_groups: [db], hosts: [web-1, db-1]}\n";
    let gathered = gather(&files(&[("a.yaml", rules), hosts, people])).unwrap();
    let resolved: Vec<&str> = gathered
        .access
        .iter()
        .flat_map(|access| &access.rules)
        .flat_map(|rule| &rule.hosts)
        .map(String::as_str)
        .collect();
    assert_eq!(resolved, ["db-1", "db-2", "web-1"]);
    let cases = [
        (
            rules.replace("[db]", "[bd]"),
            "a.yaml:4: access: there is no group of hosts \"bd\"",
        ),
        (
            rules.replace("web-1", "web-*"),
            "a.yaml:4: access: host \"web-*\" has a wildcard",
        ),
        ("access: {enforce: true}\n".to_owned(), "nobody would be on any host"),
        ("host_groups: {db: [x]}\n".to_owned(), "comes twice"),
        ("host_groups: {x: ['a b']}\n".to_owned(), "white space"),
    ];
    for (text, says) in &cases {
        let error = refused(&[("a.yaml", text), hosts, people]);
        assert!(error.contains(says), "{error}");
    }
}

/// People and groups as YAML, one file each or all in one.
fn spread(people: &BTreeSet<String>, groups: &BTreeMap<String, BTreeSet<String>>, names: &[String]) -> Vec<File> {
    let mut texts: Vec<String> = people
        .iter()
        .map(|name| format!("people: [{{name: {name}}}]\n"))
        .collect();
    texts.extend(groups.iter().map(|(name, members)| {
        let members: Vec<&str> = members.iter().map(String::as_str).collect();
        format!("groups: [{{name: {name}, members: [{}]}}]\n", members.join(", "))
    }));
    let file = |(text, name): (String, &String)| File {
        path: format!("{name}.yaml").into(),
        text,
    };
    let mut files: Vec<File> = texts.into_iter().zip(names).map(file).collect();
    files.sort_by(|one, other| one.path.cmp(&other.path));
    files
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// How facts are spread over files, and what those are called, makes no difference.
    #[test]
    fn order_is_nobodys_business(
        people in proptest::collection::btree_set("p[a-z]{1,4}", 1..8),
        groups in proptest::collection::btree_map("g[a-z]{1,4}", proptest::collection::vec(any::<proptest::sample::Index>(), 0..4), 0..5),
        names in Just((0..12).map(|n| format!("f{n:02}")).collect::<Vec<_>>()).prop_shuffle(),
        others in Just((0..12).map(|n| format!("f{n:02}")).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let all: Vec<String> = people.iter().cloned().collect();
        let groups: BTreeMap<String, BTreeSet<String>> = groups
            .into_iter()
            .map(|(name, members)| (name, members.iter().map(|at| at.get(&all).clone()).collect()))
            .collect();
        let one = gather(&spread(&people, &groups, &names)).unwrap();
        prop_assert_eq!(&one, &gather(&spread(&people, &groups, &others)).unwrap());
        prop_assert_eq!(one.users.len(), people.len());
        prop_assert_eq!(&one.members, &groups);
    }

    /// Whatever stands in files, it is a directory or an error that names one of them.
    #[test]
    fn any_files_are_a_directory_or_an_error(
        files in proptest::collection::vec((
            proptest::sample::select(vec!["a.yaml", "b.json", "c.toml", "d.ldif", "e.yml"]),
            prop_oneof![
                "[ -~\n]{0,60}",
                "(people|groups|access|entries|host_groups):( \\[\\{name: [a-c], (id|gid|members|keys): [a-c0-9\\[\\]]{0,6}\\}\\])?\n",
                "dn: (uid|cn)=[ab](,dc=d)?\n(objectClass: (posixAccount|groupOfNames)\n)?(uid|cn|member): [a-b=]{1,4}\n",
            ],
        ), 0..4),
    ) {
        let files: Vec<File> = files.into_iter().map(|(path, text)| File { path: path.into(), text }).collect();
        match gather(&files) {
            Ok(gathered) => {
                let ids: BTreeSet<&String> = gathered.users.iter().map(|user| &user.id).collect();
                prop_assert_eq!(ids.len(), gathered.users.len());
                prop_assert!(gathered.members.values().flatten().all(|member| ids.contains(member)));
            }
            Err(error) => prop_assert!(files.iter().any(|file| file.path == error.path)),
        }
    }
}
