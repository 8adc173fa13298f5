use dirless_directory::schema::object_class;
use dirless_directory::{DnKey, Schema};
use proptest::prelude::*;

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

fn entries(source: &str, people: &[Entry], further: &[Entry]) -> SourceEntries {
    SourceEntries::of(source, people.iter().map(Packed::of), further.iter())
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
        let wanted = entries(source, &people, &further);
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
        let taken_apart = self.store.read(|reader| walk::plan(&reader, &wanted, false)).unwrap();
        assert_eq!(again, taken_apart);
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

fn with_id(cn: &str, id: &str) -> Entry {
    service(cn, &[("aitherSourceId", id)])
}

#[test]
fn a_name_is_taken_over_with_what_comes_below_it() {
    let tree = Tree::new();
    tree.read("git", vec![], vec![with_id("mail", "p"), with_id("web", "q")]);
    let mail = tree.value("cn=mail,ou=services,dc=dirless", "entryUUID");
    let below = entry(
        "cn=x,cn=web,ou=services,dc=dirless",
        &[("objectClass", "aitherService"), ("cn", "x")],
    );
    // In whatever order they are told.
    let plan = tree.read("git", vec![], vec![below, with_id("web", "p")]);
    assert_eq!((plan.rename.len(), plan.disappear.len(), plan.appear.len()), (1, 1, 1));
    assert_eq!(tree.value("cn=web,ou=services,dc=dirless", "entryUUID"), mail);
    assert!(tree.entry("cn=x,cn=web,ou=services,dc=dirless").is_some());
}

#[test]
fn a_name_that_has_others_below_it_is_not_taken_over() {
    let tree = Tree::new();
    tree.read("git", vec![], vec![with_id("mail", "p"), with_id("web", "q")]);
    let own = entry(
        "cn=x,cn=web,ou=services,dc=dirless",
        &[("objectClass", "aitherService"), ("cn", "x")],
    );
    let ann = crate::tree::Actor::operator("ann");
    tree.store.put(&ann, &own, Expect::Anything).unwrap();
    let wanted = || vec![with_id("web", "p"), with_id("dns", "r")];
    let plan = tree.read("git", vec![], wanted());
    assert_eq!((plan.rename.len(), plan.appear.len()), (0, 1), "{plan:?}");
    let [refused] = plan.refused.as_slice() else {
        unreachable!("{:?}", plan.refused);
    };
    assert!(refused.reason.contains("has others below it"), "{refused:?}");
    assert!(tree.entry("cn=mail,ou=services,dc=dirless").is_some());
    tree.store.delete(&ann, own.dn(), Expect::Anything).unwrap();
    let plan = tree.read("git", vec![], wanted());
    assert_eq!((plan.rename.len(), plan.refused.len()), (1, 0), "{plan:?}");
    assert_eq!(
        tree.value("cn=web,ou=services,dc=dirless", "aitherSourceId").as_deref(),
        Some("p")
    );
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
    assert_eq!(
        (plan.kept.len(), plan.disappear.len(), plan.derived.document.users.len()),
        (1, 0, 0)
    );
    // It moves along with a rename.
    tree.read("git", vec![person("anna", "u1")], vec![]);
    assert!(tree.entry("cn=inbox,uid=anna,ou=users,dc=dirless").is_some());
}

#[test]
fn an_entry_below_one_that_gets_another_name_is_refused_alone() {
    let tree = Tree::new();
    tree.read("git", vec![], vec![service("web", &[("aitherSourceId", "p")])]);
    let below = |above: &str| {
        entry(
            &format!("cn=x,cn={above},ou=services,dc=dirless"),
            &[("objectClass", "aitherService")],
        )
    };
    let moved = || service("mail", &[("aitherSourceId", "p")]);
    let plan = tree.read("git", vec![], vec![moved(), below("web")]);
    assert_eq!((plan.rename.len(), plan.refused.len()), (1, 1));
    assert_eq!(plan.refused[0].reason, "there is no entry above it");
    let plan = tree.read(
        "git",
        vec![],
        vec![moved(), below("mail"), service("web", &[]), below("web")],
    );
    assert_eq!((plan.appear.len(), plan.refused.len()), (3, 0));
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
        let wanted = entries("git", &[], &further);
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
    let wanted = entries("idc", &[person("alice", "u1")], &[]);
    let first = tree.store.read(|reader| plan(&reader, &wanted)).unwrap();
    tree.by_people(&person("alice", "x"));
    let second = tree.store.read(|reader| plan(&reader, &wanted)).unwrap();
    assert_ne!(first, second);
    let key = |text| -> DnKey { tree.store.schema().dn_key(&dn(text)).unwrap() };
    assert_ne!(
        key(&first.appear[0].dn().to_string()),
        key(&second.appear[0].dn().to_string())
    );
}

/// What a step of a story does: a source's read, or something that people do.
#[derive(Clone, Debug)]
enum Step {
    Read(&'static str, Vec<Entry>, Vec<Entry>),
    People(usize, usize),
}

fn any_person() -> impl Strategy<Value = Entry> {
    let name = prop::sample::select(vec!["alice", "bob", "Bob", "eve"]);
    let id = prop::sample::select(vec!["u1", "u2", "u3"]);
    (name, id, 0..4_u8).prop_map(|(uid, id, more)| {
        let mut entry = person(uid, id);
        match more {
            1 => entry.set(
                name_of("mail"),
                vec![Value::from("a@example"), Value::from("b@example")],
            ),
            2 => entry.set(
                name_of("mail"),
                vec![Value::from("b@example"), Value::from("a@example")],
            ),
            3 => entry.set(name_of("description"), vec![Value::from("one")]),
            _ => {}
        }
        entry
    })
}

fn name_of(text: &'static str) -> AttributeName {
    name(text)
}

fn any_service() -> impl Strategy<Value = Entry> {
    let cn = prop::sample::select(vec!["web", "WEB", "mail", "x,cn=web"]);
    (cn, prop::option::of("[0-9]"), any::<bool>(), prop::option::of("[pq]")).prop_map(|(cn, port, alias, id)| {
        let dn = match cn.split_once(',') {
            Some((below, above)) => format!("cn={below},{above},ou=services,dc=dirless"),
            None => format!("cn={cn},ou=services,dc=dirless"),
        };
        let cn = cn.split(',').next().unwrap();
        let attribute = if alias { "commonName" } else { "cn" };
        let mut made = entry(&dn, &[("objectClass", "aitherService"), (attribute, cn)]);
        made.set(
            name("aitherPort"),
            port.as_deref().map(Value::from).into_iter().collect(),
        );
        made.set(
            name("aitherSourceId"),
            id.as_deref().map(Value::from).into_iter().collect(),
        );
        made
    })
}

fn any_step() -> impl Strategy<Value = Step> {
    let read = (
        prop::sample::select(vec!["idc", "git"]),
        prop::collection::vec(any_person(), 0..4),
        prop::collection::vec(any_service(), 0..4),
    );
    prop_oneof![
        3 => read.prop_map(|(source, people, further)| Step::Read(source, people, further)),
        2 => (0..8_usize, 0..5_usize).prop_map(|(which, what)| Step::People(which, what)),
    ]
}

/// People change, add to, or remove one of the entries that are there.
fn do_by_people(tree: &Tree, which: usize, what: usize) {
    let names = [
        ALICE,
        BOB,
        "uid=eve,ou=users,dc=dirless",
        "cn=web,ou=services,dc=dirless",
        "cn=mail,ou=services,dc=dirless",
        "cn=x,cn=web,ou=services,dc=dirless",
        "uid=alice+aitherSource=git,ou=users,dc=dirless",
        "uid=bob+aitherSource=idc,ou=users,dc=dirless",
    ];
    let actor = crate::tree::Actor::operator("ann");
    let Some(mut held) = tree.entry(names[which]) else {
        // What is refused is refused.
        let _ = tree.store.put(&actor, &person("alice", "x"), Expect::Anything);
        return;
    };
    match what {
        0 => held.set(name("description"), vec![Value::from("by people")]),
        1 => held.set(name("mail"), vec![Value::from("own@example")]),
        2 => held.set(name("uidNumber"), vec![Value::from("7")]),
        3 => held.set(name("aitherSourceId"), vec![Value::from("u1")]),
        _ => {
            let _ = tree.store.delete(&actor, held.dn(), Expect::Anything);
            return;
        }
    }
    let _ = tree.store.put(&actor, &held, Expect::Anything);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Passing by what stands as it is finds just what taking everything apart finds.
    #[test]
    fn the_walk_finds_what_taking_everything_apart_finds(steps in prop::collection::vec(any_step(), 1..7)) {
        let tree = Tree::new();
        for step in steps {
            let (source, people, further) = match step {
                Step::People(which, what) => {
                    do_by_people(&tree, which, what);
                    continue;
                }
                Step::Read(source, people, further) => (source, people, further),
            };
            let wanted = entries(source, &people, &further);
            let both = tree.store.read(|reader| {
                Ok::<_, TreeError>((walk::plan(&reader, &wanted, true)?, walk::plan(&reader, &wanted, false)?))
            });
            let (mut walked, mut apart) = both.unwrap();
            // Doubts are told in the order in which entries are looked at.
            for plan in [&mut walked, &mut apart] {
                plan.derived.unfit.sort_by_key(|unfit| unfit.dn.to_string());
            }
            prop_assert_eq!(&walked, &apart);
            tree.store.write(&crate::tree::Actor::source(source), |batch| apply(batch, &walked)).unwrap();
        }
    }
}
