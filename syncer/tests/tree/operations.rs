//! Each operation, once right and in each way wrong.

use std::time::Duration;

use dirless_directory::{Dn, Entry, Value};
use dirless_syncer::tree::skeleton::{TENANT_UNITS, TENANTS, UNITS, tenant, unit};
use dirless_syncer::tree::{Actor, Expect, Modification, Put, Query, Scope, TreeError, TreeStore};

use crate::support::*;

#[test]
fn the_skeleton_is_there_from_the_start_and_made_once() {
    let (folder, store) = tree();
    let base = dn("dc=dirless");
    for name in UNITS {
        assert!(store.get(&unit(&base, name)).unwrap().is_some(), "{name}");
    }
    for name in TENANTS {
        for below in TENANT_UNITS {
            assert!(
                store.get(&unit(&tenant(&base, name), below)).unwrap().is_some(),
                "{name} {below}"
            );
        }
    }
    let stats = store.read(|reader| reader.stats()).unwrap();
    assert_eq!(stats.entries, 1 + 21 + 2 * 12);
    assert!(stats.subtrees.contains(&("ou=tenants".to_owned(), 24)));
    let state = store.read(|reader| reader.state()).unwrap();
    drop(store);
    let store = TreeStore::open(settings(folder.path()), clock()).unwrap();
    assert_eq!(
        store.read(|reader| reader.state()).unwrap(),
        state,
        "nothing is written twice"
    );
}

#[test]
fn a_tree_that_is_closed_leaves_no_log_behind() {
    let (folder, store) = tree();
    store.add(&actor(), &person("alice")).unwrap();
    store.read(|reader| reader.stats()).unwrap();
    let log = folder.path().join("tree.db-wal");
    assert!(log.exists());
    // Whoever opens it next would read that first, all of it.
    drop(store);
    assert!(!log.exists());
}

#[test]
fn a_lost_part_of_the_skeleton_comes_back() {
    let (folder, store) = tree();
    store
        .write(&actor(), |batch| batch.delete_subtree(&dn("ou=tenants,dc=dirless")))
        .unwrap();
    drop(store);
    let store = TreeStore::open(settings(folder.path()), clock()).unwrap();
    assert_eq!(store.read(|reader| reader.stats()).unwrap().entries, 46);
}

#[test]
fn a_new_tenant_gets_its_units() {
    let (_folder, store) = tree();
    store
        .add(
            &actor(),
            &entry("o=acme,ou=tenants,dc=dirless\nobjectClass: organization\nobjectClass: aitherTenant"),
        )
        .unwrap();
    let units = found(
        &store,
        "o=acme,ou=tenants,dc=dirless",
        Scope::OneLevel,
        "(objectClass=organizationalUnit)",
    );
    assert_eq!(units.unwrap().len(), 11);
}

#[test]
fn every_write_sets_what_the_server_keeps() {
    let (_folder, store) = tree();
    let alice = "uid=alice,ou=users,dc=dirless";
    store.add(&actor(), &person("alice")).unwrap();
    assert_eq!(value(&store, alice, "createTimestamp"), ["20260531000000Z"]);
    assert_eq!(value(&store, alice, "creatorsName"), ["cn=tester,cn=operators"]);
    assert_eq!(value(&store, alice, "structuralObjectClass"), ["inetOrgPerson"]);
    assert_eq!(value(&store, alice, "hasSubordinates"), ["FALSE"]);
    assert_eq!(value(&store, alice, "aitherOwnerUid"), ["system"]);
    let (uuid, csn) = (value(&store, alice, "entryUUID"), value(&store, alice, "entryCSN"));
    let bob = Actor::new(dn("uid=bob,ou=users,dc=dirless"));
    let step = Modification::Replace(name("mail"), vec![Value::from("new@example.com")]);
    assert!(store.modify(&bob, &dn(alice), &[step], Expect::Version(1)).unwrap());
    assert_eq!(value(&store, alice, "entryUUID"), uuid);
    assert!(value(&store, alice, "entryCSN") > csn);
    assert_eq!(value(&store, alice, "modifiersName"), ["uid=bob,ou=users,dc=dirless"]);
    assert_eq!(value(&store, alice, "creatorsName"), ["cn=tester,cn=operators"]);
    let newest = store.read(|reader| reader.context_csn()).unwrap();
    assert_eq!(newest.as_ref(), value(&store, alice, "entryCSN").first());
    store
        .add(&bob, &entry("cn=r,ou=roles,dc=dirless\nobjectClass: aitherRole"))
        .unwrap();
    assert_eq!(value(&store, "cn=r,ou=roles,dc=dirless", "aitherOwnerUid"), ["bob"]);
    assert_eq!(
        value(&store, "cn=r,ou=roles,dc=dirless", "cn"),
        ["r"],
        "named by it, so it has it"
    );
}

#[test]
fn classes_above_those_that_are_named_come_with_them() {
    let (_folder, store) = tree();
    store.add(&actor(), &person("alice")).unwrap();
    let found = found(&store, "dc=dirless", Scope::Subtree, "(objectClass=person)").unwrap();
    assert_eq!(found, ["uid=alice,ou=users,dc=dirless"]);
    let classes = value(&store, "uid=alice,ou=users,dc=dirless", "objectClass");
    assert_eq!(classes[0], "inetOrgPerson");
    assert!(
        ["organizationalPerson", "person", "top"]
            .iter()
            .all(|class| classes.iter().any(|held| held == class))
    );
    assert_eq!(
        store.put(&actor(), &person("alice"), Expect::Anything).unwrap(),
        Put::Unchanged
    );
}

#[test]
fn what_stands_below_is_counted() {
    let (_folder, store) = tree();
    let groups = "ou=groups,dc=dirless";
    assert_eq!(value(&store, groups, "hasSubordinates"), ["FALSE"]);
    store
        .add(&actor(), &entry("cn=a,ou=groups,dc=dirless\nobjectClass: groupOfNames"))
        .unwrap();
    store
        .add(&actor(), &entry("cn=b,ou=groups,dc=dirless\nobjectClass: groupOfNames"))
        .unwrap();
    assert_eq!(value(&store, groups, "hasSubordinates"), ["TRUE"]);
    assert_eq!(store.get(&dn(groups)).unwrap().unwrap().children(), 2);
    store
        .delete(&actor(), &dn("cn=a,ou=groups,dc=dirless"), Expect::Anything)
        .unwrap();
    assert_eq!(value(&store, groups, "hasSubordinates"), ["TRUE"]);
    store
        .delete(&actor(), &dn("cn=b,ou=groups,dc=dirless"), Expect::Anything)
        .unwrap();
    assert_eq!(value(&store, groups, "hasSubordinates"), ["FALSE"]);
}

#[test]
fn putting_says_what_it_did_and_keeps_what_it_must() {
    let (_folder, store) = tree();
    let put = |entry: &Entry, expect| store.put(&actor(), entry, expect);
    assert_eq!(put(&person("alice"), Expect::Absent).unwrap(), Put::Added);
    assert!(matches!(
        put(&person("alice"), Expect::Absent),
        Err(TreeError::Exists(_))
    ));
    let held = store.get(&dn("uid=alice,ou=users,dc=dirless")).unwrap().unwrap();
    assert_eq!(put(&held.entry().unwrap(), Expect::Version(1)).unwrap(), Put::Unchanged);
    let mut other = held.entry().unwrap();
    other.set(
        name("entryUUID"),
        vec![Value::from("00000000-0000-4000-8000-000000000000")],
    );
    other.set(name("surname"), vec![Value::from("Other")]);
    other.set(name("sn"), Vec::new());
    other.set(name("surname"), vec![Value::from("Other")]);
    assert_eq!(put(&other, Expect::Version(1)).unwrap(), Put::Updated);
    let now = store.get(held.dn()).unwrap().unwrap();
    assert_eq!(now.version(), 2);
    assert_eq!(now.entry().unwrap().values(&name("sn")), [Value::from("Other")]);
    assert_eq!(
        now.entry().unwrap().values(&name("entryUUID")),
        held.entry().unwrap().values(&name("entryUUID"))
    );
    let stale = put(&person("alice"), Expect::Version(1));
    assert!(
        matches!(
            stale,
            Err(TreeError::Version {
                held: 2,
                expected: 1,
                ..
            })
        ),
        "{stale:?}"
    );
}

#[test]
fn what_cannot_be_is_refused_and_leaves_nothing() {
    let (_folder, store) = tree();
    store.add(&actor(), &person("alice")).unwrap();
    let before = store.read(|reader| reader.state()).unwrap();
    let refused = [
        (store.add(&actor(), &person("ALICE")), "exists"),
        (
            store.add(&actor(), &entry("cn=x,ou=nowhere,dc=dirless\nobjectClass: aitherRole")),
            "no entry",
        ),
        (
            store.add(&actor(), &entry("cn=x,dc=elsewhere\nobjectClass: aitherRole")),
            "not under",
        ),
        (
            store.add(
                &actor(),
                &entry("cn=x,ou=roles,dc=dirless\nobjectClass: aitherRole\nentryUUID: 1"),
            ),
            "kept by the server",
        ),
        (
            store.add(&actor(), &entry("cn=x,ou=roles,dc=dirless\nobjectClass: nonsense")),
            "not defined",
        ),
        (
            store.add(
                &actor(),
                &entry("uidNumber=x,ou=roles,dc=dirless\nobjectClass: account"),
            ),
            "does not fit",
        ),
        (
            store.delete(&actor(), &dn("ou=users,dc=dirless"), Expect::Anything),
            "below it",
        ),
        (
            store.delete(&actor(), &dn("cn=x,dc=dirless"), Expect::Anything),
            "no entry",
        ),
        (
            store
                .modify(
                    &actor(),
                    &dn("uid=alice,ou=users,dc=dirless"),
                    &[
                        Modification::Replace(
                            name("objectClass"),
                            vec![Value::from("account"), Value::from("aitherOwned")],
                        ),
                        Modification::Delete(name("cn"), vec![]),
                        Modification::Delete(name("sn"), vec![]),
                        Modification::Delete(name("mail"), vec![]),
                    ],
                    Expect::Anything,
                )
                .map(|_| ()),
            "cannot change from inetOrgPerson to account",
        ),
        (
            store
                .modify(
                    &actor(),
                    &dn("uid=alice,ou=users,dc=dirless"),
                    &[Modification::Delete(name("uid"), vec![])],
                    Expect::Anything,
                )
                .map(|_| ()),
            "named by uid",
        ),
    ];
    for (outcome, reason) in refused {
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains(reason), "{reason}: {error}");
    }
    assert_eq!(store.read(|reader| reader.state()).unwrap(), before);
    let absent = store.read(|reader| reader.require(&dn("cn=a,cn=b,ou=users,dc=dirless")));
    assert!(matches!(absent, Err(TreeError::Absent { matched, .. }) if matched == dn("ou=users,dc=dirless")));
}

#[test]
fn a_subtree_moves_with_its_top() {
    let (_folder, store) = tree();
    let above = dn("ou=services,o=platform,ou=tenants,dc=dirless");
    let rdn = |text: &str| dn(text).rdn().unwrap().clone();
    let rename = |from: &str, to: &str, delete, above: Option<&Dn>| {
        store.rename(&actor(), &dn(from), rdn(to), delete, above, Expect::Anything)
    };
    store
        .write(&actor(), |batch| {
            batch.add(&entry(
                "ou=mesh,ou=entities,dc=dirless\nobjectClass: organizationalUnit",
            ))?;
            batch.add(&entry(
                "cn=n1,ou=mesh,ou=entities,dc=dirless\nobjectClass: aitherEntity\naitherEntityType: mesh_node",
            ))
        })
        .unwrap();
    rename("ou=mesh,ou=entities,dc=dirless", "ou=Mesh 2", true, Some(&above)).unwrap();
    let moved = "cn=n1,ou=Mesh 2,ou=services,o=platform,ou=tenants,dc=dirless";
    assert_eq!(found(&store, "dc=dirless", Scope::Subtree, "(cn=n1)").unwrap(), [moved]);
    assert_eq!(
        found(
            &store,
            "ou=MESH 2,ou=services,o=platform,ou=tenants,dc=dirless",
            Scope::OneLevel,
            "(objectClass=*)"
        )
        .unwrap(),
        [moved]
    );
    let top = "ou=Mesh 2,ou=services,o=platform,ou=tenants,dc=dirless";
    assert_eq!(value(&store, top, "ou"), ["Mesh 2"]);
    assert_eq!(value(&store, "ou=entities,dc=dirless", "hasSubordinates"), ["FALSE"]);
    assert_eq!(
        value(
            &store,
            "ou=services,o=platform,ou=tenants,dc=dirless",
            "hasSubordinates"
        ),
        ["TRUE"]
    );
    rename(top, "ou=mesh", false, None).unwrap();
    let kept = value(&store, "ou=mesh,ou=services,o=platform,ou=tenants,dc=dirless", "ou");
    assert_eq!(kept, ["Mesh 2", "mesh"]);
    let below_itself = rename(
        "ou=services,o=platform,ou=tenants,dc=dirless",
        "ou=services",
        true,
        Some(&dn("ou=mesh,ou=services,o=platform,ou=tenants,dc=dirless")),
    );
    assert!(matches!(below_itself, Err(TreeError::Move(_))));
    assert!(matches!(
        rename("dc=dirless", "dc=x", true, None),
        Err(TreeError::Move(_))
    ));
    assert!(matches!(
        rename("ou=users,dc=dirless", "ou=groups", true, None),
        Err(TreeError::Exists(_))
    ));
}

#[test]
fn pages_follow_each_other_without_gap_or_repeat() {
    let (_folder, store) = tree();
    store
        .write(&actor(), |batch| {
            (0..57).try_for_each(|n| batch.add(&person(&format!("u{n:02}"))))
        })
        .unwrap();
    for text in ["(objectClass=inetOrgPerson)", "(!(uid=u1*))", "(|(uid=u1*)(uid=u2*))"] {
        for scope in [Scope::OneLevel, Scope::Subtree] {
            let whole = found(&store, "ou=users,dc=dirless", scope, text).unwrap();
            let (base, filter) = (dn("ou=users,dc=dirless"), filter(text));
            let (mut after, mut pages) = (None, Vec::new());
            loop {
                let query = Query {
                    base: &base,
                    scope,
                    filter: &filter,
                    after: after.as_ref(),
                };
                let page = store.search(&query, 10).unwrap();
                assert!(page.records.len() <= 10);
                pages.extend(page.records.iter().map(|record| record.dn().to_string()));
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(pages, whole, "{text}");
        }
    }
}

#[test]
fn whoever_waits_is_woken_by_this_process_and_told_of_others() {
    let (folder, store) = tree();
    let mut watch = store.watch();
    watch.mark_unchanged();
    store.add(&actor(), &person("alice")).unwrap();
    assert!(watch.has_changed().unwrap());
    watch.mark_unchanged();
    let other = TreeStore::open(settings(folder.path()), clock()).unwrap();
    other.add(&actor(), &person("bob")).unwrap();
    assert!(!watch.has_changed().unwrap());
    let state = store.refresh().unwrap();
    assert!(watch.has_changed().unwrap() && *watch.borrow_and_update() == state);
    let changes = store.read(|reader| reader.changes(state - 1, 10)).unwrap();
    assert_eq!(changes[0].dn, "uid=bob,ou=users,dc=dirless");
}

#[test]
fn a_long_write_does_not_keep_readers_waiting() {
    let (_folder, store) = tree();
    store.add(&actor(), &person("alice")).unwrap();
    let writing = std::sync::Barrier::new(2);
    let done = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            store.write(&actor(), |batch| -> Result<(), TreeError> {
                for n in 0..200 {
                    batch.add(&person(&format!("u{n}")))?;
                }
                writing.wait();
                done.wait();
                Ok(())
            })
        });
        writing.wait();
        let started = std::time::Instant::now();
        for _ in 0..100 {
            assert!(store.get(&dn("uid=alice,ou=users,dc=dirless")).unwrap().is_some());
            assert!(
                store.get(&dn("uid=u1,ou=users,dc=dirless")).unwrap().is_none(),
                "not committed yet"
            );
        }
        assert!(started.elapsed() < Duration::from_secs(60));
        done.wait();
        writer.join().unwrap().unwrap();
    });
    assert!(store.get(&dn("uid=u1,ou=users,dc=dirless")).unwrap().is_some());
}
