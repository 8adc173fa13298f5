use std::collections::BTreeMap;

use dirless_directory::AttributeName;
use dirless_model::snapshot::write;
use proptest::prelude::*;

use super::*;
use crate::config::{HostsConfig, PrimaryGroup};
use crate::document::Mapped;
use crate::sources::SourceDirectory;
use crate::sources::tests::{directory, group, user};
use crate::tree::reconcile::{Nothing, Plan};
use crate::tree::{Actor, Settings, TreeError, TreeStore, people, reconcile};

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAV3nZlsNIFqCoZVfn2rfjuh7O7DFa0MAXvm2FmnuKKs";

fn bytes(document: &Document) -> String {
    let mut json = Vec::new();
    write(document, &mut json).unwrap();
    String::from_utf8(json).unwrap()
}

fn store(folder: &std::path::Path) -> TreeStore {
    let settings = Settings {
        path: folder.join("tree.db"),
        base: Dn::parse("dc=dirless").unwrap(),
        schema: Schema::standard(),
        indexed: Vec::new(),
    };
    TreeStore::open(settings, dirless_program::Clock::manual(jiff::Timestamp::UNIX_EPOCH)).unwrap()
}

/// The snapshot without the tree, and the one out of the tree.
fn both(store: &TreeStore, name: &str, source: &SourceDirectory, primary: PrimaryGroup) -> (Document, Document) {
    let mapped = Mapped::new(source, &NameRule::default());
    let numbers = mapped.live().into_keys().zip(2001..).collect();
    let today = mapped
        .document(&numbers, &[], primary, &HostsConfig::default())
        .unwrap();
    let wanted = people::entries(name, store.base(), store.schema(), source, &today);
    let plan = store
        .write(&Actor::source(name), |batch| -> Result<Plan, TreeError> {
            let plan = reconcile::plan(&batch.reader(), &wanted)?;
            reconcile::apply(batch, &plan)?;
            Ok(plan)
        })
        .unwrap();
    assert!(plan.refused.is_empty(), "{:?}", plan.refused);
    let held = store.read(|reader| -> Result<_, TreeError> {
        let mut held = Vec::new();
        reconcile::View::each_held(&reader, name, &mut |row| {
            held.push((row.record)()?.entry()?);
            Ok(())
        })?;
        Ok(held)
    });
    let held: Vec<Entry> = held.unwrap();
    let (derived, unfit) = document(store.schema(), &held);
    assert!(unfit.is_empty(), "{unfit:?}");
    assert_eq!(plan.derived.document, derived, "a plan tells what the tree then says");
    let again = store.read(|reader| reconcile::plan(&reader, &wanted)).unwrap();
    assert!(again.is_empty(), "{again:?}");
    assert_eq!(again.derived, plan.derived);
    (today, derived)
}

fn any_directory() -> impl Strategy<Value = SourceDirectory> {
    let shown = proptest::option::of(".{0,20}");
    let mail = proptest::option::of("[ -~é]{0,9}");
    let users = proptest::collection::btree_map(
        "[a-f0-9]{1,2}",
        ("[A-Za-c][a-z @.]{0,3}", shown, mail, any::<bool>()),
        0..12,
    );
    let groups = proptest::collection::btree_map(
        "[a-f0-9]{1,2}",
        (
            "[A-Za-c][a-z ]{0,3}",
            proptest::collection::vec(any::<proptest::sample::Index>(), 0..6),
        ),
        0..5,
    );
    (users, groups).prop_map(|(users, groups)| {
        let ids: Vec<String> = users.keys().cloned().collect();
        let people = users.into_iter().map(|(id, (name, shown, mail, key))| {
            let mut person = user(&id, &name);
            person.display_name = shown;
            person.email = mail;
            person.keys.extend(key.then(|| KEY.to_owned()));
            person
        });
        let lists: BTreeMap<String, (String, Vec<String>)> = groups
            .into_iter()
            .map(|(id, (name, members))| {
                let members = members
                    .iter()
                    .filter(|_| !ids.is_empty())
                    .map(|at| at.get(&ids).clone());
                (id, (name, members.collect()))
            })
            .collect();
        let lists = lists
            .iter()
            .map(|(id, (name, members))| (group(id, name), members.iter().map(String::as_str).collect()));
        directory(people.collect(), lists.collect())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Whatever two sources say one after the other, with people and groups that come, go, swap names
    /// and are called as the other source's: each snapshot is what it would be without a tree.
    #[test]
    fn the_tree_gives_back_every_byte(
        reads in proptest::collection::vec((any_directory(), any::<bool>()), 1..4),
        first in any::<bool>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        let primary = if first { PrimaryGroup::FirstGroup } else { PrimaryGroup::Private };
        for (source, is_other) in &reads {
            let name = if *is_other { "git" } else { "idc" };
            let (today, derived) = both(&store, name, source, primary);
            prop_assert_eq!(bytes(&derived), bytes(&today));
        }
    }
}

#[test]
fn names_that_are_not_ascii_and_names_that_are_empty_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let mut people = vec![user("u1", "zoe"), user("u2", "bob"), user("u3", "Ann@corp")];
    people[0].display_name = Some("Zoë: ä\n".to_owned());
    people[1].display_name = Some(String::new());
    people[2].display_name = None;
    let source = directory(people, vec![(group("g1", "All of us"), vec!["u3", "u1", "u2"])]);
    let (today, derived) = both(&store, "idc", &source, PrimaryGroup::Private);
    assert_eq!(bytes(&derived), bytes(&today));
    assert!(bytes(&derived).contains("Zoë"));
}

#[test]
fn a_tree_that_is_not_there_yet_says_the_same() {
    let source = directory(
        vec![user("u1", "zoe")],
        vec![(group("g1", "ops"), vec!["u1"]), (group("g2", "none"), vec![])],
    );
    let mapped = Mapped::new(&source, &NameRule::default());
    let numbers = mapped.live().into_keys().zip(2001..).collect();
    let today = mapped
        .document(&numbers, &[], PrimaryGroup::Private, &HostsConfig::default())
        .unwrap();
    let (base, schema) = (Dn::parse("dc=dirless").unwrap(), Schema::standard());
    let wanted = people::entries("idc", &base, &schema, &source, &today);
    let plan = reconcile::plan(&Nothing::below(&base, schema.clone()), &wanted).unwrap();
    assert_eq!((plan.appear.len(), plan.refused.len()), (3, 0));
    assert_eq!(plan.derived.document, today);
}

#[test]
fn members_are_found_by_any_spelling_of_their_names() {
    let entry = |text: &str, attributes: &[(&str, &str)]| {
        let mut entry = Entry::new(Dn::parse(text).unwrap());
        for (attribute, value) in attributes {
            entry.add(AttributeName::parse(attribute).unwrap(), Value::from(*value));
        }
        entry
    };
    let alice = entry(
        "uid=alice,ou=users,dc=dirless",
        &[
            ("objectClass", "POSIXaccount"),
            ("uidNumber", "2001"),
            ("gidNumber", "2001"),
            ("homeDirectory", "/home/alice"),
            ("loginShell", "/bin/sh"),
            ("sshPublicKey", KEY),
            ("sshPublicKey", "not a key"),
        ],
    );
    let ops = entry(
        "cn=ops,ou=groups,dc=dirless",
        &[
            ("objectClass", "posixGroup"),
            ("gidNumber", "3001"),
            ("member", "UID=Alice, OU=Users,DC=dirless"),
            ("member", "uid=nobody,ou=users,dc=dirless"),
        ],
    );
    let (made, unfit) = document(&Schema::standard(), [&ops, &alice]);
    assert_eq!(made.groups[0].members, [made.users[0].name.clone()]);
    assert_eq!(made.ssh_keys[&made.users[0].name], KEY);
    assert_eq!(unfit.len(), 1, "{unfit:?}");
}

#[test]
fn what_is_unfit_is_named_and_harms_no_other() {
    let mut entry = Entry::new(Dn::parse("uid=root,ou=users,dc=dirless").unwrap());
    for (attribute, value) in [
        ("objectClass", "posixAccount"),
        ("uid", "root"),
        ("uidNumber", "0"),
        ("gidNumber", "1"),
    ] {
        entry.add(AttributeName::parse(attribute).unwrap(), Value::from(value));
    }
    let (made, unfit) = document(&Schema::standard(), [&entry]);
    assert!(made.users.is_empty());
    assert!(unfit[0].reason.contains("root"), "{unfit:?}");
}
