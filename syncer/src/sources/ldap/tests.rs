use std::collections::BTreeMap;

use super::*;

const DAY_NOW: i64 = 20_000;

fn record(dn: &str, attributes: &[(&str, &str)]) -> Record {
    let mut record = Record::new(dn);
    for (name, value) in attributes {
        record.add(name, value.as_bytes().to_vec());
    }
    record
}

/// Everything of a directory in one go; `chains` has the users that a server found in each group.
fn map(
    layout: &Layout,
    roles: &BTreeMap<String, String>,
    users: &[Record],
    groups: &[Record],
    chains: &BTreeMap<String, Vec<String>>,
    day: i64,
) -> Result<Mapping, SourceError> {
    let bounds = Bounds::new(100, 100);
    let mut gather = Gather::new(layout, roles, &bounds, day * 86_400);
    users.iter().try_for_each(|record| gather.user(record))?;
    groups.iter().try_for_each(|record| gather.group(record))?;
    gather.chained(chains)?;
    gather.finish()
}

fn mapped(layout: &Layout, users: &[Record], groups: &[Record]) -> Mapping {
    let roles = BTreeMap::from([("Domain Admins".to_owned(), "owner".to_owned())]);
    map(layout, &roles, users, groups, &BTreeMap::new(), DAY_NOW).unwrap()
}

fn names<'a>(mapping: &'a Mapping, group: &str) -> Vec<&'a str> {
    let (_, ids) = mapping.groups.iter().find(|(own, _)| own.id == group).unwrap();
    let users = mapping.users.iter().filter(|user| ids.contains(&user.id));
    users.map(|user| user.name.as_str()).collect()
}

#[test]
fn rfc2307_members_are_login_names() {
    let mut layout = Layout::preset(Preset::Rfc2307);
    layout.numbers = true;
    let users = [
        record(
            "uid=alice,dc=d",
            &[
                ("entryUUID", "u1"),
                ("uid", "alice"),
                ("cn", "Alice"),
                ("uidNumber", "2001"),
                ("gidNumber", "3001"),
                ("homeDirectory", "/srv/alice"),
                ("sshPublicKey", "ssh-ed25519 AAAA a"),
            ],
        ),
        record(
            "uid=bob,dc=d",
            &[("entryUUID", "u2"), ("uid", "bob"), ("uidNumber", "x")],
        ),
    ];
    let groups = [record(
        "cn=ops,dc=d",
        &[
            ("entryUUID", "g1"),
            ("cn", "ops"),
            ("gidNumber", "3001"),
            ("memberUid", "bob"),
            ("memberUid", "gone"),
        ],
    )];
    let mapping = mapped(&layout, &users, &groups);
    assert_eq!(mapping.users[0].posix.uid, Some(2001));
    assert_eq!(mapping.users[0].posix.home.as_deref(), Some("/srv/alice"));
    assert_eq!(mapping.users[0].keys, ["ssh-ed25519 AAAA a"]);
    assert_eq!(mapping.users[1].posix.uid, None);
    assert_eq!(mapping.groups[0].0.gid, Some(3001));
    assert_eq!(names(&mapping, "g1"), ["bob"]);
    layout.numbers = false;
    assert_eq!(
        mapped(&layout, &users, &groups).users[0].posix,
        super::super::Posix::default()
    );
}

#[test]
fn rfc2307bis_members_are_names_of_entries_at_any_depth() {
    let layout = Layout::preset(Preset::Rfc2307bis);
    let users = [
        record("uid=Alice,ou=people,dc=d", &[("entryUUID", "u1"), ("uid", "alice")]),
        record("uid=bob,ou=people,dc=d", &[("entryUUID", "u2"), ("uid", "bob")]),
    ];
    let groups = [
        record(
            "cn=all,dc=d",
            &[
                ("entryUUID", "g1"),
                ("cn", "all"),
                ("member", "CN=ops, DC=d"),
                ("member", "cn=x,dc=d"),
            ],
        ),
        record(
            "cn=ops,dc=d",
            &[
                ("entryUUID", "g2"),
                ("cn", "ops"),
                ("member", "UID=alice, ou=People,dc=d"),
                ("member", "cn=all,dc=d"),
            ],
        ),
    ];
    let mapping = mapped(&layout, &users, &groups);
    assert_eq!(names(&mapping, "g1"), ["alice"]);
    assert_eq!(names(&mapping, "g2"), ["alice"]);
}

fn sid(rid: u32) -> Vec<u8> {
    let mut sid = vec![1, 5, 0, 0, 0, 0, 0, 5];
    for part in [21, 1, 2, 3, rid] {
        sid.extend(u32::to_le_bytes(part));
    }
    sid
}

fn ad_user(number: u8, name: &str, control: &str) -> Record {
    let mut user = record(
        &format!("CN={name},DC=d"),
        &[
            ("sAMAccountName", name),
            ("userAccountControl", control),
            ("primaryGroupID", "513"),
        ],
    );
    user.add("objectGUID", vec![number; 16]);
    user
}

fn expiring(number: u8, name: &str, at: &str) -> Record {
    let mut user = ad_user(number, name, "512");
    user.add("accountExpires", at.as_bytes().to_vec());
    user
}

#[test]
fn active_directory_has_flags_primary_groups_and_keys_of_its_own() {
    let layout = Layout::preset(Preset::Ad);
    let mut alice = ad_user(1, "alice", "512");
    alice.add("altSecurityIdentities", b"SSHKey:ssh-ed25519 AAAA a".to_vec());
    alice.add("altSecurityIdentities", b"Kerberos:alice@X".to_vec());
    let users = [
        alice,
        ad_user(2, "bob", "514"),
        ad_user(3, "carol", "66048"),
        ad_user(4, "dave", "nonsense"),
        ad_user(5, "erin", "-2147483136"),
        expiring(6, "frank", "9223372036854775807"),
        // Noon of the day before and of the day after, in steps of 100 ns since 1601.
        expiring(7, "grace", "133723872000000000"),
        expiring(8, "heidi", "133725600000000000"),
    ];
    let mut everyone = record("CN=Domain Users,DC=d", &[("sAMAccountName", "Domain Users")]);
    everyone.add("objectGUID", vec![9; 16]);
    everyone.add("objectSid", sid(513));
    let mut admins = record("CN=Domain Admins,DC=d", &[("sAMAccountName", "Domain Admins")]);
    admins.add("objectGUID", vec![8; 16]);
    admins.add("objectSid", sid(512));
    let groups = [everyone, admins];
    let (everyone, admins) = (guid(&[9; 16]).unwrap(), guid(&[8; 16]).unwrap());
    let chains = BTreeMap::from([(admins.clone(), vec![guid(&[1; 16]).unwrap()])]);
    let roles = BTreeMap::from([("Domain Admins".to_owned(), "owner".to_owned())]);
    let mapping = map(&layout, &roles, &users, &groups, &chains, DAY_NOW).unwrap();
    let enabled: Vec<_> = mapping.users.iter().map(|user| user.enabled).collect();
    assert_eq!(enabled, [true, false, true, false, true, true, false, true]);
    assert_eq!(mapping.users[0].keys, ["ssh-ed25519 AAAA a"]);
    assert_eq!(names(&mapping, &everyone).len(), 8);
    assert_eq!(names(&mapping, &admins), ["alice"]);
    assert_eq!(mapping.groups[1].0.roles, ["owner"]);
    assert!(mapping.groups[0].0.roles.is_empty());
}

#[test]
fn expired_and_locked_people_are_disabled() {
    let layout = Layout::preset(Preset::Rfc2307);
    let user = |id: &str, extra: &[(&str, &str)]| {
        let mut user = record("uid=a,dc=d", extra);
        user.add("entryUUID", id.as_bytes().to_vec());
        user
    };
    let users = [
        user("1", &[("shadowExpire", "19999")]),
        user("2", &[("shadowExpire", "20001")]),
        user("3", &[("shadowExpire", "-1")]),
        user("4", &[("pwdAccountLockedTime", "000001010000Z")]),
        user("5", &[("pwdAccountLockedTime", "20261122054159Z")]),
        user("6", &[("nsAccountLock", "TRUE")]),
        user("7", &[("nsAccountLock", "false")]),
    ];
    let enabled: Vec<_> = mapped(&layout, &users, &[])
        .users
        .iter()
        .map(|user| user.enabled)
        .collect();
    assert_eq!(enabled, [false, true, true, false, true, false, true]);
}

#[test]
fn an_entry_without_id_and_a_cut_list_are_errors() {
    let layout = Layout::preset(Preset::Rfc2307bis);
    let nobody = record("uid=a,dc=d", &[("uid", "a")]);
    let error = map(&layout, &BTreeMap::new(), &[nobody], &[], &BTreeMap::new(), 0).unwrap_err();
    assert!(error.to_string().contains("entryUUID"), "{error}");
    let cut = record(
        "cn=g,dc=d",
        &[("entryUUID", "g"), ("cn", "g"), ("member;range=0-1499", "uid=a")],
    );
    let error = map(&layout, &BTreeMap::new(), &[], &[cut], &BTreeMap::new(), 0).unwrap_err();
    assert!(error.to_string().contains("cut"), "{error}");
}

fn config(text: &str) -> Result<LdapConfig, String> {
    let config: LdapConfig = toml::from_str(&format!("base = \"dc=d\"\n{text}")).map_err(|error| error.to_string())?;
    config.check().map_err(|(key, reason)| format!("{key}: {reason}"))?;
    Ok(config)
}

#[test]
fn tables_that_make_no_sense_name_their_key() {
    let cases = [
        ("url = \"ldap://d\"", "clear"),
        ("url = \"ldaps://d\"\nstarttls = true", "starttls"),
        ("url = \"http://d\"", "url"),
        ("url = \"ldaps://d\"\nbind_dn = \"cn=a\"", "bind_dn"),
        ("url = \"ldaps://d\"\npassword_file = \"/p\"", "bind_dn"),
        ("url = \"ldaps://d\"\npage = 0", "page"),
        ("url = []", "url"),
        (
            "url = \"ldaps://d\"\nincremental = \"dirsync\"\nuser_filter = \"(memberOf=cn=a)\"",
            "timestamps",
        ),
        ("url = [\"ldaps://d\", \"ldap://e\"]", "clear"),
        ("url = \"ldaps://d\"\nmembers_page = 0", "members_page"),
        ("url = \"ldaps://d\"\n[attributes]\nkeys = \"ssh key\"", "attributes"),
        ("url = \"ldaps://d\"\nuser_filter = \"(uid=*\"", "user_filter"),
        ("url = \"ldaps://d\"\nbind_pw = \"hunter2\"", "bind_pw"),
        ("url = \"ldaps://d\"\npreset = \"nds\"", "nds"),
    ];
    for (text, says) in cases {
        let error = config(text).unwrap_err();
        assert!(error.contains(says), "{text}: {error}");
    }
    let good =
        config("url = \"ldap://d\"\nstarttls = true\npreset = \"ad\"\n[attributes]\nkeys = \"sshPublicKey\"").unwrap();
    let layout = Layout::of(&good);
    assert_eq!(
        (layout.keys.as_str(), layout.id.as_str()),
        ("sshPublicKey", "objectGUID")
    );
}

fn open(text: &str) -> Result<LdapSource, SourceError> {
    LdapSource::open("corp", &config(text).unwrap(), Bounds::new(10, 10), None, &|_| None)
}

#[tokio::test]
async fn an_empty_password_is_refused_before_anything_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    dirless_program::fs::publish(&path, 0o600, b"\n").unwrap();
    let text = format!("url = \"ldaps://127.0.0.1:1\"\nbind_dn = \"cn=a\"\npassword_file = {path:?}");
    assert!(open(&text).is_err());
    let source = open("url = \"ldaps://127.0.0.1:1\"").unwrap();
    let nothing = Secret::new(String::new());
    let verdict = source.verify_password(&Who::Name("alice".to_owned()), &nothing).await;
    assert_eq!(verdict.unwrap(), Verdict::Wrong);
    let something = Secret::new("a\0b".to_owned());
    let verdict = source.verify_password(&Who::Id("x".to_owned()), &something).await;
    assert_eq!(verdict.unwrap(), Verdict::Wrong);
    let unknown = source
        .verify_password(&Who::Name("alice".to_owned()), &Secret::new("x".to_owned()))
        .await;
    assert!(
        matches!(unknown, Err(SourceError::Unavailable { .. })),
        "no server is not wrong"
    );
}

#[test]
fn more_members_than_there_may_be_are_refused() {
    let layout = Layout::preset(Preset::Rfc2307bis);
    let roles = BTreeMap::new();
    let bounds = Bounds {
        members: 2,
        ..Bounds::new(10, 10)
    };
    let mut gather = Gather::new(&layout, &roles, &bounds, 0);
    let mut team = record(
        "cn=g",
        &[("entryUUID", "g"), ("cn", "g"), ("member", "cn=1"), ("member", "cn=2")],
    );
    gather.group(&team).unwrap();
    team.add("member", b"cn=3".to_vec());
    assert!(
        gather
            .group(&team)
            .unwrap_err()
            .to_string()
            .contains("more than 2 members")
    );
}

#[test]
fn several_servers_and_what_a_table_may_say_otherwise() {
    let text = "url = [\"ldaps://a\", \"ldaps://b:1636\"]\ndisabled = [\"shadow-expire\"]\nincremental = \"syncrepl\"\nmembers_page = 10";
    let config = config(text).unwrap();
    assert_eq!(config.servers().unwrap().len(), 2);
    let layout = Layout::of(&config);
    assert_eq!(layout.disabled, [LockedBy::ShadowExpire]);
    assert!(!layout.user_attributes().contains(&"nsAccountLock".to_owned()));
    assert!(
        layout
            .group_attributes(config.members_page)
            .contains(&"memberUid;range=0-9".to_owned())
    );
}
