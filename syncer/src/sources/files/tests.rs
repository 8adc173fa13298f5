use std::collections::BTreeSet;

use super::*;
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
        name: "git".to_owned(),
        names: None,
        folder: folder.to_owned(),
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

#[tokio::test]
async fn a_change_is_noticed_within_a_second_and_silence_is_not() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.yaml"), PEOPLE).unwrap();
    let mut watch = Watch::new(&[setting(folder.path())]);
    let soon = || tokio::time::Instant::now() + std::time::Duration::from_millis(700);
    assert!(!watch.changed_before(soon()).await);
    std::fs::write(folder.path().join("a.yaml"), "people: []\n").unwrap();
    let began = tokio::time::Instant::now();
    let until = began + std::time::Duration::from_secs(20);
    assert!(watch.changed_before(until).await);
    assert!(
        began.elapsed() < std::time::Duration::from_millis(1500),
        "{:?}",
        began.elapsed()
    );
    assert!(!watch.changed_before(soon()).await);
}
