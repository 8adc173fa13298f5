//! The schema at every write: the classes that a platform needs, a site's own files, and searches over
//! what follows them.

use std::path::Path;

use dirless_directory::Schema;
use dirless_syncer::tree::{Expect, Put, Scope, TreeConfig, TreeError, TreeStore};

use crate::support::*;

/// Attributes with one value each.
type Attributes = &'static [(&'static str, &'static str)];

/// A class, the unit it stands in, and attributes that it must have.
const CLASSES: &[(&str, &str, Attributes)] = &[
    ("aitherRole", "roles", &[]),
    ("aitherService", "services", &[]),
    ("aitherDevice", "devices", &[("aitherDeviceType", "accelerator")]),
    ("aitherConfig", "configs", &[("aitherConfigData", "{}")]),
    ("aitherEntity", "entities", &[("aitherEntityType", "mesh_node")]),
    ("aitherWidget", "configs", &[]),
    ("aitherAgent", "agents", &[]),
    ("aitherCalendar", "calendars", &[]),
    ("aitherContact", "contacts", &[]),
    ("aitherEmail", "emails", &[("aitherMailAddress", "a@example")]),
    ("aitherTask", "tasks", &[]),
    ("aitherReminder", "tasks", &[("aitherDue", "20260531000000Z")]),
    (
        "aitherCertificate",
        "certificates",
        &[("aitherCertificateSerial", "01")],
    ),
    ("aitherSecret", "secrets", &[("aitherSecretReference", "vault:a")]),
    ("aitherPolicy", "policies", &[]),
    ("aitherMailbox", "mailboxes", &[("aitherMailAddress", "a@example")]),
    ("aitherLockbox", "lockboxes", &[]),
    ("aitherRoutePolicy", "routepolicies", &[]),
    ("aitherSession", "sessions", &[("aitherSessionId", "s1")]),
];
/// Classes that other objects are as well: with a class of those, and attributes that it must have.
const AUXILIARY: &[(&str, &str, Attributes)] = &[
    (
        "aitherUser",
        "inetOrgPerson",
        &[("uid", "a"), ("aitherUserType", "agent")],
    ),
    ("aitherGroup", "groupOfNames", &[]),
    ("aitherDistributionList", "groupOfNames", &[]),
    ("aitherTenant", "organization", &[("o", "a")]),
];

fn text(dn: &str, classes: &[&str], attributes: &[(&str, &str)]) -> String {
    let classes: String = classes.iter().map(|class| format!("\nobjectClass: {class}")).collect();
    let attributes: String = attributes
        .iter()
        .map(|(name, value)| format!("\n{name}: {value}"))
        .collect();
    format!("{dn}{classes}{attributes}")
}

/// Adds the entry whole, then without each attribute that it must have.
fn try_all(store: &TreeStore, dn: &str, classes: &[&str], must: &[(&str, &str)]) {
    for missing in must.iter().filter(|(name, _)| !dn.starts_with(&format!("{name}="))) {
        let rest: Vec<_> = must.iter().copied().filter(|other| other != missing).collect();
        let error = store.add(&actor(), &entry(&text(dn, classes, &rest))).unwrap_err();
        assert!(
            matches!(&error, TreeError::Schema { .. }) && error.to_string().contains(missing.0),
            "{classes:?} without {}: {error}",
            missing.0
        );
    }
    let put = store.put(&actor(), &entry(&text(dn, classes, must)), Expect::Absent);
    assert_eq!(put.unwrap(), Put::Added, "{classes:?}");
    let odd = [must, &[("telexNumber", "1")]].concat();
    let error = store.put(&actor(), &entry(&text(dn, &classes[..1], &odd)), Expect::Anything);
    if !classes.contains(&"inetOrgPerson") && !classes.contains(&"organization") {
        assert!(matches!(error, Err(TreeError::Schema { .. })), "{classes:?}");
    }
}

#[test]
fn every_class_stands_in_the_tree_with_what_it_must_have_and_not_without() {
    let (_folder, store) = tree();
    for (class, unit, must) in CLASSES {
        try_all(&store, &format!("cn={class},ou={unit},dc=dirless"), &[class], must);
    }
    for (class, structural, must) in AUXILIARY {
        let own = match *structural {
            "inetOrgPerson" => &[("cn", "a"), ("sn", "a")][..],
            _ => &[],
        };
        let must = [must, own].concat();
        let dn = match *structural {
            "organization" => "o=a,ou=tenants,dc=dirless".to_owned(),
            _ => format!("cn={class},ou=groups,dc=dirless"),
        };
        try_all(&store, &dn, &[structural, class], &must);
    }
}

#[test]
fn the_attributes_of_the_seed_system_have_their_places() {
    let (_folder, store) = tree();
    let all = [
        text(
            "cn=local_saga_a1b2,ou=entities,dc=dirless",
            &["aitherEntity"],
            &[
                ("aitherEntityType", "local_agent"),
                ("aitherEntityName", "Saga"),
                ("aitherEntityStatus", "approved"),
                ("aitherTrustLevel", "3"),
                ("aitherCodeHash", "a1b2c3"),
                ("aitherAgentPort", "8770"),
                ("aitherAllowedServices", "*"),
                ("aitherRbacRoles", "local_agent"),
            ],
        ),
        text(
            "uid=saga,ou=users,dc=dirless",
            &["inetOrgPerson", "aitherUser"],
            &[
                ("cn", "Saga"),
                ("sn", "Saga"),
                ("aitherUserType", "agent"),
                ("aitherRoles", "writer"),
                ("aitherGroups", "agents"),
                ("aitherEffortBudget", "10"),
                ("aitherA2ACapabilities", "chat"),
                ("aitherA2ACard", "{\"name\":\"saga\"}"),
            ],
        ),
        text(
            "cn=relay,ou=services,dc=dirless",
            &["aitherService"],
            &[
                ("aitherStorageRole", "primary"),
                ("aitherDependencies", "redis"),
                ("aitherFeatures", "chat"),
                ("aitherCertificateAuthority", "ca-1"),
                ("aitherCertificateSerial", "01"),
                ("aitherCertificateNotAfter", "20270101000000Z"),
                ("aitherCertificateFingerprint", "ab:cd"),
            ],
        ),
        text(
            "cn=writer,ou=roles,dc=dirless",
            &["aitherRole"],
            &[("aitherPermission", "config:read:tenant"), ("aitherInherits", "reader")],
        ),
        text(
            "o=acme,ou=tenants,dc=dirless",
            &["organization", "aitherTenant"],
            &[
                ("aitherPlanTier", "gold"),
                ("aitherQuota", "agents=5"),
                ("aitherSlug", "acme"),
            ],
        ),
        text(
            "cn=gpu-1,ou=devices,dc=dirless",
            &["aitherDevice"],
            &[
                ("aitherDeviceType", "gpu"),
                ("aitherMeshId", "m1"),
                ("aitherGpuClass", "a100"),
            ],
        ),
    ];
    for text in all {
        store
            .add(&actor(), &entry(&text))
            .unwrap_or_else(|error| unreachable!("{text}: {error}"));
    }
}

const APPROVED: &str =
    "(&(objectClass=aitherEntity)(aitherEntityType=mesh_node)(aitherEntityStatus=approved)(aitherTrustLevel=4))";

#[test]
fn approved_mesh_nodes_of_the_highest_trust_are_found() {
    let (_folder, store) = tree();
    store
        .write(&actor(), |batch| -> Result<(), TreeError> {
            for n in 0..300_usize {
                let node = text(
                    &format!("cn=n{n},ou=entities,dc=dirless"),
                    &["aitherEntity"],
                    &[
                        ("aitherEntityType", ["mesh_node", "mcp_client", "local_agent"][n % 3]),
                        ("aitherEntityStatus", ["approved", "pending"][n % 2]),
                        ("aitherTrustLevel", ["0", "1", "2", "3", "4"][n % 5]),
                    ],
                );
                batch.add(&entry(&node))?;
            }
            Ok(())
        })
        .unwrap();
    let mut wanted: Vec<String> = (0..300)
        .filter(|n| n % 3 == 0 && n % 2 == 0 && n % 5 == 4)
        .map(|n| format!("cn=n{n},ou=entities,dc=dirless"))
        .collect();
    wanted.sort();
    assert_eq!(wanted.len(), 10);
    for base in ["dc=dirless", "ou=entities,dc=dirless"] {
        let mut nodes = found(&store, base, Scope::Subtree, APPROVED).unwrap();
        nodes.sort();
        assert_eq!(nodes, wanted, "{base}");
    }
    let shouting = APPROVED.to_uppercase();
    assert_eq!(
        found(&store, "dc=dirless", Scope::Subtree, &shouting).unwrap().len(),
        10
    );
}

fn site(folder: &Path, files: &[(&str, &str)]) -> TreeConfig {
    let schema = folder.join("schema");
    std::fs::create_dir_all(&schema).unwrap();
    for (name, text) in files {
        std::fs::write(schema.join(name), text).unwrap();
    }
    TreeConfig {
        schema_folder: Some(schema),
        indexed: vec!["corpBadge".to_owned()],
        ..TreeConfig::default()
    }
}

const BADGE: &str = "# Our badges\nattributetype ( 1.3.6.1.4.1.99999.1.1 NAME 'corpBadge' EQUALITY caseIgnoreMatch\n  \
    SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )\n";
const VISITOR: &str = "objectclass ( 1.3.6.1.4.1.99999.2.1 NAME 'corpVisitor' SUP top STRUCTURAL\n  MUST ( cn $ corpBadge ) MAY \
    mail )\n";

#[test]
fn a_site_adds_classes_of_its_own_by_files() {
    let folder = tempfile::tempdir().unwrap();
    let config = site(
        folder.path(),
        &[
            ("20-visitor.schema", VISITOR),
            ("10-badge.schema", BADGE),
            ("notes.txt", "("),
        ],
    );
    // Standing there already, and then the files come.
    drop(TreeStore::open(settings(folder.path()), clock()).unwrap());
    let store = config.open(folder.path(), clock()).unwrap();
    let visitor = |cn: &str, more: &str| {
        entry(&format!(
            "cn={cn},ou=contacts,dc=dirless\nobjectClass: corpVisitor{more}"
        ))
    };
    let error = store.add(&actor(), &visitor("a", "")).unwrap_err();
    assert!(error.to_string().contains("corpBadge"), "{error}");
    let twice = store
        .add(&actor(), &visitor("a", "\ncorpBadge: 1\ncorpBadge: 2"))
        .unwrap_err();
    assert!(matches!(twice, TreeError::Schema { .. }), "{twice}");
    store.add(&actor(), &visitor("a", "\ncorpBadge: B 7")).unwrap();
    assert_eq!(
        found(&store, "dc=dirless", Scope::Subtree, "(corpbadge=b  7)")
            .unwrap()
            .len(),
        1
    );
    assert!(Schema::standard().class("corpVisitor").is_none());
}

#[test]
fn a_file_that_makes_no_sense_is_named_with_its_line() {
    for (files, says) in [
        (&[("a.schema", VISITOR)][..], "corpBadge"),
        (&[("a.schema", "attributetype ( nonsense")], "line 1"),
        (&[("a.schema", BADGE), ("b.schema", BADGE)], "defined already"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let config = site(folder.path(), files);
        let error = config.open(folder.path(), clock()).unwrap_err().to_string();
        assert!(error.contains(".schema") && error.contains(says), "{error}");
    }
    let absent = TreeConfig {
        schema_folder: Some("/nonexistent".into()),
        ..TreeConfig::default()
    };
    assert!(absent.schema().unwrap_err().to_string().contains("/nonexistent"));
}
