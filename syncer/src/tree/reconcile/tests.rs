use dirless_directory::schema::object_class;
use dirless_directory::{DnKey, Schema};

use super::*;
use crate::tree::{Operation, Settings, TreeStore};

fn dn(text: &str) -> Dn {
    Dn::parse(text).unwrap()
}

fn entry(name: &str, attributes: &[(&str, &str)]) -> Entry {
    let mut entry = Entry::new(dn(name));
    for (attribute, value) in attributes {
        entry.add(AttributeName::parse(attribute).unwrap(), Value::from(*value));
    }
    entry
}

/// An account of a source, as [`crate::tree::people`] makes them.
fn person(uid: &str, id: &str) -> Entry {
    entry(
        &format!("uid={uid},ou=users,dc=dirless"),
        &[
            ("objectClass", "inetOrgPerson"),
            ("objectClass", "posixAccount"),
            ("uid", uid),
            ("cn", uid),
            ("sn", uid),
            ("uidNumber", "2001"),
            ("gidNumber", "2001"),
            ("homeDirectory", "/home/x"),
            ("loginShell", "/bin/sh"),
            ("aitherSourceId", id),
        ],
    )
}

fn service(cn: &str, more: &[(&str, &str)]) -> Entry {
    let attributes = [&[("objectClass", "aitherService"), ("cn", cn)], more].concat();
    entry(&format!("cn={cn},ou=services,dc=dirless"), &attributes)
}

struct Tree {
    _folder: tempfile::TempDir,
    store: TreeStore,
}

impl Tree {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings {
            path: folder.path().join("tree.db"),
            base: dn("dc=dirless"),
            schema: Schema::standard(),
            indexed: Vec::new(),
        };
        let clock = dirless_program::Clock::manual(jiff::Timestamp::UNIX_EPOCH);
        let store = TreeStore::open(settings, clock).unwrap();
        Self { _folder: folder, store }
    }

    fn read(&self, source: &str, people: Vec<Entry>, further: Vec<Entry>) -> Plan {
        let wanted = SourceEntries {
            source: source.to_owned(),
            people,
            further,
        };
        let plan = self
            .store
            .write(&crate::tree::Actor::source(source), |batch| -> Result<_, TreeError> {
                let plan = plan(&batch.reader(), &wanted)?;
                apply(batch, &plan)?;
                Ok(plan)
            })
            .unwrap();
        let again = self.store.read(|reader| super::plan(&reader, &wanted)).unwrap();
        assert!(again.is_empty(), "a second look finds something: {again:?}");
        plan
    }

    fn entry(&self, name: &str) -> Option<Entry> {
        self.store.get(&dn(name)).unwrap().map(|record| record.entry().unwrap())
    }

    fn value(&self, name: &str, attribute: &'static str) -> Option<String> {
        let entry = self.entry(name).unwrap();
        let value = entry.values(&super::name(attribute)).first()?;
        Some(value.as_str().unwrap().to_owned())
    }

    fn by_people(&self, entry: &Entry) {
        self.store
            .put(&crate::tree::Actor::operator("ann"), entry, Expect::Anything)
            .unwrap();
    }

    fn state(&self) -> u64 {
        self.store.read(|reader| reader.state()).unwrap()
    }
}

const ALICE: &str = "uid=alice,ou=users,dc=dirless";
const BOB: &str = "uid=bob,ou=users,dc=dirless";

#[test]
fn a_rename_keeps_the_entry() {
    let tree = Tree::new();
    tree.read("idc", vec![person("alice", "u1"), person("bob", "u2")], vec![]);
    let uuid = tree.value(ALICE, "entryUUID");
    let state = tree.state();
    let plan = tree.read("idc", vec![person("anna", "u1"), person("bob", "u2")], vec![]);
    assert_eq!((plan.rename.len(), plan.appear.len(), plan.disappear.len()), (1, 0, 0));
    assert!(tree.entry(ALICE).is_none());
    assert_eq!(tree.value("uid=anna,ou=users,dc=dirless", "entryUUID"), uuid);
    let changes = tree.store.read(|reader| reader.changes(state, 10)).unwrap();
    assert_eq!(changes[0].operation, Operation::Rename);
    assert_eq!(changes[0].difference["to"], "uid=anna,ou=users,dc=dirless");
    assert_eq!(changes[0].actor, "cn=idc,cn=sources");
}

#[test]
fn names_that_go_round_in_a_circle_keep_their_entries() {
    let tree = Tree::new();
    tree.read(
        "idc",
        vec![person("alice", "u1"), person("bob", "u2"), person("eve", "u3")],
        vec![],
    );
    let (alice, bob) = (tree.value(ALICE, "entryUUID"), tree.value(BOB, "entryUUID"));
    let plan = tree.read(
        "idc",
        vec![person("bob", "u1"), person("alice", "u2"), person("eve", "u3")],
        vec![],
    );
    assert_eq!(plan.rename.len(), 2);
    assert_eq!(
        (tree.value(BOB, "entryUUID"), tree.value(ALICE, "entryUUID")),
        (alice, bob)
    );
    assert_eq!(
        tree.value(BOB, "description"),
        None,
        "stepping aside leaves nothing behind"
    );
    // One of them leaves and the other takes the name.
    let plan = tree.read("idc", vec![person("alice", "u1"), person("eve", "u3")], vec![]);
    assert_eq!((plan.rename.len(), plan.disappear.len()), (1, 1));
    assert_eq!(tree.value(ALICE, "aitherSourceId").as_deref(), Some("u1"));
}

#[test]
fn another_person_of_the_same_name_is_another_entry() {
    let tree = Tree::new();
    tree.read("idc", vec![person("alice", "u1")], vec![]);
    let uuid = tree.value(ALICE, "entryUUID");
    let plan = tree.read("idc", vec![person("alice", "u9")], vec![]);
    assert_eq!((plan.appear.len(), plan.disappear.len()), (1, 1));
    assert_ne!(tree.value(ALICE, "entryUUID"), uuid);
}

#[test]
fn what_people_added_stays_and_what_the_source_gave_goes_with_it() {
    let tree = Tree::new();
    let with_mail = |mail: Option<&str>| {
        let mut entry = person("alice", "u1");
        entry.set(name("mail"), mail.map(Value::from).into_iter().collect());
        entry
    };
    tree.read("idc", vec![with_mail(Some("a@example"))], vec![]);
    let mut added = tree.entry(ALICE).unwrap();
    added.add(object_class(), Value::from("shadowAccount"));
    added.set(name("shadowMax"), vec![Value::from("90")]);
    added.set(name("telephoneNumber"), vec![Value::from("+1 555")]);
    added.set(name("uidNumber"), vec![Value::from("0")]);
    tree.by_people(&added);
    tree.read("idc", vec![with_mail(None)], vec![]);
    assert_eq!(tree.value(ALICE, "telephoneNumber").as_deref(), Some("+1 555"));
    assert_eq!(
        tree.value(ALICE, "shadowMax").as_deref(),
        Some("90"),
        "with the class that it needs"
    );
    assert_eq!(
        tree.value(ALICE, "uidNumber").as_deref(),
        Some("2001"),
        "the source's own"
    );
    assert_eq!(
        tree.value(ALICE, "mail"),
        None,
        "given by the source, and taken away by it"
    );
    let mut own = tree.entry(ALICE).unwrap();
    own.set(name("mail"), vec![Value::from("own@example")]);
    tree.by_people(&own);
    assert!(tree.read("idc", vec![with_mail(None)], vec![]).is_empty());
    assert_eq!(tree.value(ALICE, "mail").as_deref(), Some("own@example"));
}

#[test]
fn run_time_attributes_of_other_entries_stay_too() {
    let tree = Tree::new();
    tree.read(
        "git",
        vec![],
        vec![service("web", &[("aitherPort", "80"), ("aitherUrl", "http://web")])],
    );
    let mut registered = tree.entry("cn=web,ou=services,dc=dirless").unwrap();
    registered.set(name("aitherVersion"), vec![Value::from("7")]);
    tree.by_people(&registered);
    let plan = tree.read("git", vec![], vec![service("web", &[("aitherPort", "81")])]);
    assert_eq!((plan.further.changed.len(), plan.further_before), (1, 1));
    let web = tree.entry("cn=web,ou=services,dc=dirless").unwrap();
    let values = |attribute| web.values(&name(attribute)).len();
    assert_eq!(
        (values("aitherVersion"), values("aitherPort"), values("aitherUrl")),
        (1, 1, 0)
    );
}

#[test]
fn a_name_that_somebody_else_has_is_left_to_them() {
    let tree = Tree::new();
    tree.by_people(&person("alice", "x"));
    tree.by_people(&service("web", &[]));
    let plan = tree.read(
        "idc",
        vec![person("alice", "u1")],
        vec![service("web", &[("aitherPort", "80")])],
    );
    assert_eq!(plan.refused.len(), 1);
    assert!(plan.refused[0].reason.contains("people"), "{:?}", plan.refused);
    assert_eq!(tree.value("cn=web,ou=services,dc=dirless", "aitherPort"), None);
    assert_eq!(tree.value(ALICE, "aitherSource"), None);
    let beside = tree.entry("uid=alice+aitherSource=idc,ou=users,dc=dirless").unwrap();
    assert!(stands_beside(&beside) && source_of(&beside) == Some("idc"));
    // Another source has the same name too, and then the name becomes free.
    tree.read("git", vec![person("alice", "7")], vec![service("web", &[])]);
    tree.store
        .delete(&crate::tree::Actor::syncer(), &dn(ALICE), Expect::Anything)
        .unwrap();
    let uuid = tree.value("uid=alice+aitherSource=idc,ou=users,dc=dirless", "entryUUID");
    let plan = tree.read("idc", vec![person("alice", "u1")], vec![]);
    assert_eq!(plan.rename.len(), 1);
    assert_eq!(tree.value(ALICE, "entryUUID"), uuid);
    assert_eq!(tree.value(ALICE, "aitherSource").as_deref(), Some("idc"));
    assert!(tree.read("git", vec![person("alice", "7")], vec![]).is_empty());
}

#[test]
fn the_skeleton_is_given_away_and_comes_back() {
    let tree = Tree::new();
    let platform = "o=platform,ou=tenants,dc=dirless";
    let tenant = entry(
        platform,
        &[
            ("objectClass", "organization"),
            ("objectClass", "aitherTenant"),
            ("aitherPlanTier", "gold"),
        ],
    );
    tree.read("git", vec![], vec![tenant]);
    assert_eq!(tree.value(platform, "aitherPlanTier").as_deref(), Some("gold"));
    assert_eq!(tree.value(platform, "aitherSlug").as_deref(), Some("platform"));
    tree.read("git", vec![], vec![]);
    assert_eq!(tree.value(platform, "aitherPlanTier"), None);
    assert!(tree.entry("ou=users,o=platform,ou=tenants,dc=dirless").is_some());
}

#[test]
fn an_entry_with_others_below_it_stays() {
    let tree = Tree::new();
    tree.read("git", vec![person("alice", "u1")], vec![]);
    tree.by_people(&entry(
        "cn=inbox,uid=alice,ou=users,dc=dirless",
        &[("objectClass", "aitherMailbox"), ("aitherMailAddress", "a@example")],
    ));
    let plan = tree.read("git", vec![], vec![]);
    assert_eq!((plan.kept.len(), plan.disappear.len(), plan.people.len()), (1, 0, 0));
    // It moves along with a rename.
    tree.read("git", vec![person("anna", "u1")], vec![]);
    assert!(tree.entry("cn=inbox,uid=anna,ou=users,dc=dirless").is_some());
}

#[test]
fn what_makes_no_sense_is_refused_and_harms_no_other() {
    let tree = Tree::new();
    let plan = tree.read(
        "git",
        vec![],
        vec![
            service("good", &[]),
            service("good", &[]),
            service("port", &[("aitherPort", "eighty")]),
            entry("cn=a,ou=nowhere,dc=dirless", &[("objectClass", "aitherRole")]),
            entry("dc=elsewhere", &[("objectClass", "domain")]),
            person("sneaky", "1"),
            entry(
                "cn=below,cn=good,ou=services,dc=dirless",
                &[("objectClass", "aitherRole")],
            ),
        ],
    );
    let mut reasons: Vec<&str> = plan.refused.iter().map(|refused| refused.reason.as_str()).collect();
    reasons.sort_unstable();
    assert_eq!(reasons.len(), 5, "{reasons:?}");
    assert!(tree.entry("cn=below,cn=good,ou=services,dc=dirless").is_some());
    assert!(tree.entry("uid=sneaky,ou=users,dc=dirless").is_none());
    // A source that goes takes what stands below along.
    let plan = tree.read("git", vec![], vec![]);
    assert_eq!(plan.disappear.len(), 2);
    assert_eq!(tree.store.read(|reader| reader.stats()).unwrap().entries, 46);
}

#[test]
fn many_that_vanish_or_change_are_judged() {
    let many = |count: usize, port: &'static str| -> Vec<Entry> {
        (0..count)
            .map(|at| service(&format!("s{at}"), &[("aitherPort", port)]))
            .collect()
    };
    let tree = Tree::new();
    assert!(
        tree.read("git", vec![], many(50, "80")).reasons(20).is_empty(),
        "what appears is no accident"
    );
    let look = |further: Vec<Entry>| {
        let wanted = SourceEntries {
            source: "git".to_owned(),
            people: Vec::new(),
            further,
        };
        tree.store.read(|reader| plan(&reader, &wanted)).unwrap()
    };
    for (further, reasons) in [
        (many(40, "80"), 0),
        (many(39, "80"), 1),
        (many(50, "81"), 1),
        (many(39, "81"), 2),
        (Vec::new(), 2),
    ] {
        let plan = look(further);
        assert_eq!(plan.reasons(20).len(), reasons, "{}", plan.summary());
        assert_eq!(plan.judge(20) == Verdict::Publish, reasons == 0);
    }
    assert_eq!(look(many(49, "80")).entries, 49);
}

#[test]
fn a_second_write_between_plan_and_apply_is_seen() {
    let tree = Tree::new();
    let wanted = SourceEntries {
        source: "idc".to_owned(),
        people: vec![person("alice", "u1")],
        further: Vec::new(),
    };
    let first = tree.store.read(|reader| plan(&reader, &wanted)).unwrap();
    tree.by_people(&person("alice", "x"));
    let second = tree.store.read(|reader| plan(&reader, &wanted)).unwrap();
    assert_ne!(first, second);
    let key = |text| -> DnKey { tree.store.schema().dn_key(&dn(text)).unwrap() };
    assert_ne!(
        key(&first.people[0].dn().to_string()),
        key(&second.people[0].dn().to_string())
    );
}
