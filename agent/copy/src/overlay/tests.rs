use std::ops::ControlFlow;

use dirless_directory::Filter;
use jiff::Timestamp;

use super::*;
use crate::{Draft, Group, Posix, Reader, Scope, Summary, User};

const BASE: &str = "dc=example,dc=com";

type Values<'a> = &'a [(&'a str, &'a [&'a str])];

fn overlay(entries: &[(&str, Values<'_>)]) -> Overlay {
    let mut overlay = Overlay::default();
    for (dn, attributes) in entries {
        add(&mut overlay, dn, attributes).unwrap();
    }
    overlay.sort();
    overlay
}

fn add(overlay: &mut Overlay, dn: &str, attributes: Values<'_>) -> Result<(), Unfit> {
    let schema = Schema::standard();
    let base = schema.dn_key(&Dn::parse(BASE).unwrap()).unwrap();
    let owned: Vec<(&str, Vec<Vec<u8>>)> = attributes
        .iter()
        .map(|(name, values)| (*name, values.iter().map(|value| value.as_bytes().to_vec()).collect()))
        .collect();
    let attributes = owned.iter().map(|(name, values)| (*name, values.as_slice()));
    overlay.add(&schema, &base, dn, attributes)
}

struct Copy(tempfile::TempDir);

impl Copy {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Alice, who is in staff, and what the overlay says.
    fn publish(&self, overlay: &Overlay) -> (Summary, usize) {
        let schema = Schema::standard();
        let path = self.0.path().join("copy.db");
        let mut draft = Draft::begin(&path, schema.clone(), "x", Timestamp::UNIX_EPOCH, false).unwrap();
        let mut posix = Posix::new(schema.clone(), Dn::parse(BASE).unwrap()).unwrap();
        let mut layered = Layered::new(&mut draft, overlay, &schema);
        posix.begin(&mut layered).unwrap();
        let staff = Group {
            name: "staff",
            gid: 3000,
        };
        posix.group(&mut layered, staff, ["alice"].into_iter()).unwrap();
        posix.users(&mut layered).unwrap();
        let alice = User {
            name: "alice",
            uid: 2000,
            gid: 2000,
            gecos: "Alice Able",
            home: "/home/alice",
            shell: "/bin/bash",
            keys: "",
        };
        posix.user(&mut layered, alice, ["staff"].into_iter()).unwrap();
        let left_out = layered.finish().unwrap();
        (draft.finish("x").unwrap(), left_out)
    }

    fn find(&self, filter: &str) -> Vec<String> {
        let reader = Reader::open(&self.0.path().join("copy.db"), Schema::standard()).unwrap();
        let mut found = Vec::new();
        let filter = Filter::parse(filter).unwrap();
        let root = DnKey::from(Vec::new());
        let matcher = dirless_directory::encoded::Matcher::new(reader.schema(), &filter);
        let schema = reader.schema().clone();
        reader
            .candidates(&root, Scope::Subtree, &filter, None, &mut |row| {
                let subject = dirless_directory::encoded::Subject {
                    dn: row.dn,
                    key: row.key,
                    attributes: row.attributes,
                };
                if matcher.matches(&schema, subject) == dirless_directory::filter::Truth::True {
                    found.push(row.dn.to_owned());
                }
                ControlFlow::Continue(())
            })
            .unwrap();
        found
    }

    fn values(&self, dn: &str, name: &str) -> Vec<String> {
        let schema = Schema::standard();
        let reader = Reader::open(&self.0.path().join("copy.db"), schema.clone()).unwrap();
        let key = schema.dn_key(&Dn::parse(dn).unwrap()).unwrap();
        let mut values = Vec::new();
        reader
            .lookup(key.as_bytes(), &mut |row| {
                let held = row.attributes.attribute(name).into_iter().flat_map(|one| one.values);
                values.extend(held.map(|value| String::from_utf8_lossy(value).into_owned()));
            })
            .unwrap();
        values
    }
}

const ALICE: &str = "uid=alice,ou=users,dc=example,dc=com";
const STAFF: &str = "cn=staff,ou=groups,dc=example,dc=com";

#[test]
fn entries_of_the_tree_stand_beside_accounts_under_parents_that_are_there() {
    let copy = Copy::new();
    let (summary, left_out) = copy.publish(&overlay(&[
        (
            "cn=web,ou=services,dc=example,dc=com",
            &[
                ("objectClass", &["top", "aitherService"]),
                ("cn", &["web"]),
                ("entryUUID", &["0b7b5c2e-58b3-4f1a-9d0e-3f2a6f0c1d2e"]),
            ],
        ),
        (
            "cn=x,ou=deep,ou=deeper,ou=tenants,dc=example,dc=com",
            &[("objectClass", &["aitherEntity"]), ("cn", &["x"])],
        ),
        (
            "dc=example,dc=com",
            &[
                ("objectClass", &["top", "domain"]),
                ("dc", &["example"]),
                ("description", &["all of it"]),
            ],
        ),
    ]));
    // The base, two units, alice, staff; a service with its unit; an entity with three.
    assert_eq!((summary.entries, left_out), (11, 0));
    assert_eq!(copy.values(BASE, "description"), ["all of it"]);
    assert_eq!(
        copy.values("ou=deeper,ou=tenants,dc=example,dc=com", "objectClass"),
        ["top", "organizationalUnit"]
    );
    assert_eq!(
        copy.find("(objectClass=aitherEntity)"),
        ["cn=x,ou=deep,ou=deeper,ou=tenants,dc=example,dc=com"]
    );
    assert_eq!(
        copy.values("cn=web,ou=services,dc=example,dc=com", "entryUUID"),
        ["0b7b5c2e-58b3-4f1a-9d0e-3f2a6f0c1d2e"]
    );
    assert_eq!(
        copy.values("ou=services,dc=example,dc=com", "hasSubordinates"),
        ["TRUE"]
    );
    // The same again changes nothing, and what is gone goes.
    let again = overlay(&[(
        BASE,
        &[
            ("objectClass", &["top", "domain"]),
            ("dc", &["example"]),
            ("description", &["all of it"]),
        ],
    )]);
    let (summary, _) = copy.publish(&again);
    assert_eq!((summary.added, summary.changed, summary.deleted), (0, 0, 6));
}

#[test]
fn people_get_further_attributes_and_no_other_account() {
    let copy = Copy::new();
    copy.publish(&overlay(&[
        (
            "UID=Alice,OU=Users,DC=example,DC=com",
            &[
                ("objectClass", &["aitherUser", "shadowAccount", "inetOrgPerson"]),
                ("mail", &["alice@example.com"]),
                ("cn", &["Alice Agnes Able"]),
                ("aitherRoles", &["admin", "auditor"]),
                ("uidNumber", &["0"]),
                ("uidNumber;x-root", &["0"]),
                ("1.3.6.1.1.1.1.1", &["0"]),
                ("homeDirectory", &["/root"]),
                ("loginShell", &["/bin/evil"]),
                ("sshPublicKey", &["ssh-ed25519 AAAA mallory"]),
                ("memberOf", &["cn=admins,ou=groups,dc=example,dc=com"]),
                ("shadowExpire", &["1"]),
                ("modifyTimestamp", &["19700101000000Z"]),
            ],
        ),
        (
            STAFF,
            &[
                ("objectClass", &["aitherGroup", "posixAccount"]),
                ("description", &["Everyone"]),
                ("member", &["uid=mallory,ou=users,dc=example,dc=com"]),
                ("memberUid", &["mallory"]),
                ("gidNumber", &["0"]),
                ("uid", &["root"]),
                ("uidNumber", &["0"]),
            ],
        ),
    ]));
    assert_eq!(copy.values(ALICE, "mail"), ["alice@example.com"]);
    assert_eq!(copy.values(ALICE, "cn"), ["Alice Agnes Able"]);
    assert_eq!(copy.values(ALICE, "aitherRoles"), ["admin", "auditor"]);
    assert_eq!(copy.values(ALICE, "uidNumber"), ["2000"]);
    assert_eq!(copy.values(ALICE, "homeDirectory"), ["/home/alice"]);
    assert_eq!(copy.values(ALICE, "loginShell"), ["/bin/bash"]);
    assert_eq!(copy.values(ALICE, "memberOf"), [STAFF]);
    assert_eq!(copy.values(STAFF, "gidNumber"), ["3000"]);
    assert_eq!(copy.values(STAFF, "memberUid"), ["alice"]);
    assert_eq!(copy.values(STAFF, "member"), [ALICE]);
    assert_eq!(copy.values(STAFF, "description"), ["Everyone"]);
    for absent in ["uidNumber;x-root", "1.3.6.1.1.1.1.1", "sshPublicKey", "shadowExpire"] {
        assert!(copy.values(ALICE, absent).is_empty(), "{absent}");
    }
    assert_eq!(copy.find("(objectClass=aitherUser)"), [ALICE]);
    for filter in [
        "(uidNumber=0)",
        "(gidNumber=0)",
        "(memberUid=mallory)",
        "(uid=root)",
        "(&(objectClass=posixAccount)(cn=staff))",
    ] {
        assert!(copy.find(filter).is_empty(), "{filter}");
    }
    assert_eq!(copy.find("(mail=ALICE@example.com)"), [ALICE]);
}

#[test]
fn an_account_that_no_record_is_stays_out_whatever_it_calls_itself() {
    let copy = Copy::new();
    let (_, left_out) = copy.publish(&overlay(&[
        (
            "uid=mallory,ou=users,dc=example,dc=com",
            &[("objectClass", &["posixAccount"]), ("uid", &["mallory"])],
        ),
        (
            "cn=evil,ou=services,dc=example,dc=com",
            &[("objectClass", &["1.3.6.1.1.1.2.0"]), ("cn", &["evil"])],
        ),
        (
            "cn=more,ou=services,dc=example,dc=com",
            &[("objectClass", &["device"]), ("gidNumber;x", &["0"])],
        ),
        (
            "cn=group,ou=services,dc=example,dc=com",
            &[("objectClass", &["POSIXGROUP"]), ("cn", &["group"])],
        ),
        (
            "cn=fine,ou=services,dc=example,dc=com",
            &[("objectClass", &["device"]), ("cn", &["fine"])],
        ),
    ]));
    assert_eq!(left_out, 4);
    assert_eq!(
        copy.find("(objectClass=device)"),
        ["cn=fine,ou=services,dc=example,dc=com"]
    );
    assert_eq!(copy.find("(objectClass=posixAccount)"), [ALICE]);
}

#[test]
fn what_cannot_be_laid_over_says_why_and_of_equal_names_the_first_stays() {
    let mut overlay = Overlay::default();
    let one: Values<'_> = &[("cn", &["x"])];
    let deep = "ou=x,".repeat(40) + BASE;
    for (dn, attributes, wanted) in [
        ("nonsense", one, Unfit::Name),
        ("", one, Unfit::Elsewhere),
        ("cn=x,dc=example,dc=org", one, Unfit::Elsewhere),
        (deep.as_str(), one, Unfit::Deep),
        ("cn=x,dc=example,dc=com", &[("not a name!", &["x"])], Unfit::Empty),
        (
            "cn=x,dc=example,dc=com",
            &[("entryUUID", &["0b7b5c2e-58b3-4f1a-9d0e-3f2a6f0c1d2e"])],
            Unfit::Empty,
        ),
    ] {
        assert_eq!(add(&mut overlay, dn, attributes), Err(wanted), "{dn}");
    }
    let large = "x".repeat(5 << 20);
    assert_eq!(
        add(&mut overlay, "cn=x,dc=example,dc=com", &[("cn", &[&large])]),
        Err(Unfit::Large)
    );
    assert!(overlay.is_empty() && overlay.size() == 0);
    let uuid = ("entryUUID", &["0b7b5c2e-58b3-4f1a-9d0e-3f2a6f0c1d2e"][..]);
    add(
        &mut overlay,
        "cn=x,dc=example,dc=com",
        &[("objectClass", &["device"]), ("l", &["first"]), uuid],
    )
    .unwrap();
    add(
        &mut overlay,
        "CN=X,dc=example,dc=com",
        &[("objectClass", &["device"]), ("l", &["second"])],
    )
    .unwrap();
    add(
        &mut overlay,
        "cn=y,dc=example,dc=com",
        &[("objectClass", &["device"]), uuid],
    )
    .unwrap();
    assert_eq!(overlay.sort(), 1);
    assert_eq!(overlay.len(), 2);
    let copy = Copy::new();
    copy.publish(&overlay);
    assert_eq!(copy.values("cn=x,dc=example,dc=com", "l"), ["first"]);
    assert_ne!(
        copy.values("cn=y,dc=example,dc=com", "entryUUID"),
        copy.values("cn=x,dc=example,dc=com", "entryUUID"),
        "two entries must not be one"
    );
}

#[test]
fn the_digest_is_of_the_content() {
    let one: (&str, Values<'_>) = ("cn=x,dc=example,dc=com", &[("l", &["here"])]);
    let two: (&str, Values<'_>) = ("cn=y,dc=example,dc=com", &[("l", &["here"])]);
    assert_eq!(overlay(&[one, two]).digest(), overlay(&[two, one]).digest());
    assert_ne!(overlay(&[one, two]).digest(), overlay(&[one]).digest());
    let other: (&str, Values<'_>) = ("cn=x,dc=example,dc=com", &[("l", &["there"])]);
    assert_ne!(overlay(&[one]).digest(), overlay(&[other]).digest());
}

#[test]
fn passwords_are_kept_where_no_query_finds_them() {
    let copy = Copy::new();
    copy.publish(&overlay(&[(
        ALICE,
        &[
            ("userPassword", &["{SSHA}x"]),
            ("2.5.4.35;x-old", &["{SSHA}y"]),
            ("aitherSecretReference", &["vault:x"]),
            ("mail", &["a@example.com"]),
        ],
    )]));
    for name in ["userPassword", "2.5.4.35;x-old", "aitherSecretReference"] {
        assert!(copy.values(ALICE, name).is_empty(), "{name}");
    }
    for filter in [
        "(userPassword=*)",
        "(&(uid=alice)(userPassword={SSHA}x))",
        "(aitherSecretReference=vault:x)",
    ] {
        assert!(copy.find(filter).is_empty(), "{filter}");
    }
    assert_eq!(copy.values(ALICE, "mail"), ["a@example.com"]);
    let schema = Schema::standard();
    let path = copy.0.path().join("copy.db");
    let secrets = || {
        let reader = Reader::open(&path, schema.clone()).unwrap();
        let key = schema.dn_key(&Dn::parse(ALICE).unwrap()).unwrap();
        let mut held = Vec::new();
        let mut see = |secrets: Attributes<'_>| held.extend(secrets.iter().map(|one| one.name.to_owned()));
        assert!(reader.secrets(key.as_bytes(), &mut see).unwrap());
        held
    };
    assert_eq!(secrets().len(), 3);
    // The spare file catches up with it, and what is taken away goes.
    copy.publish(&Overlay::default());
    assert!(secrets().is_empty());
    copy.publish(&overlay(&[(ALICE, &[("userPassword", &["{SSHA}z"])])]));
    copy.publish(&overlay(&[(
        ALICE,
        &[("userPassword", &["{SSHA}z"]), ("mail", &["b@example.com"])],
    )]));
    assert_eq!(secrets(), ["userPassword"]);
}
