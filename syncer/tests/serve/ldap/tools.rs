//! ldap-utils.

use super::*;

#[tokio::test]
async fn root_of_this_machine_adds_changes_renames_and_removes() {
    let tools = Tools::start("").await;
    let who = tools.expect(0, "ldapwhoami", As::Root, &[], "").await;
    assert!(who.contains("cn=manager,dc=dirless"), "{who}");
    let add = "dn: cn=ops,ou=groups,dc=dirless\nobjectClass: groupOfNames\nmember: uid=alice,ou=users,dc=dirless\n";
    tools.expect(0, "ldapadd", As::Root, &[], add).await;
    let modify = "dn: cn=ops,ou=groups,dc=dirless\nchangetype: modify\nadd: member\nmember: uid=bob,ou=users,dc=dirless\n-\nreplace: description\ndescription: they run it\n";
    tools.expect(0, "ldapmodify", As::Root, &[], modify).await;
    let found = tools
        .search(
            As::Root,
            &[
                "(&(objectClass=groupOfNames)(member=uid=bob,ou=users,dc=dirless))",
                "description",
                "modifiersName",
            ],
        )
        .await;
    assert!(
        found.contains("description: they run it") && found.contains("modifiersName: cn=manager,dc=dirless"),
        "{found}"
    );
    tools
        .expect(
            0,
            "ldapmodrdn",
            As::Root,
            &["-r", "cn=ops,ou=groups,dc=dirless", "cn=crew"],
            "",
        )
        .await;
    tools
        .expect(
            6,
            "ldapcompare",
            As::Root,
            &["cn=crew,ou=groups,dc=dirless", "cn:crew"],
            "",
        )
        .await;
    tools
        .expect(
            5,
            "ldapcompare",
            As::Root,
            &["cn=crew,ou=groups,dc=dirless", "cn:ops"],
            "",
        )
        .await;
    tools
        .expect(
            0,
            "ldapmodrdn",
            As::Root,
            &["-s", "ou=roles,dc=dirless", "cn=crew,ou=groups,dc=dirless", "cn=crew"],
            "",
        )
        .await;
    tools
        .expect(0, "ldapdelete", As::Root, &["cn=crew,ou=roles,dc=dirless"], "")
        .await;
    let log = tools.site.get("/v1/changelog?limit=1000").expect(200).await;
    let log = log["changes"].as_array().unwrap();
    let ours: Vec<_> = log
        .iter()
        .filter(|change| change["actor"] == "cn=manager,dc=dirless")
        .collect();
    let operations: Vec<_> = ours
        .iter()
        .map(|change| change["operation"].as_str().unwrap())
        .collect();
    assert_eq!(operations, ["add", "update", "rename", "rename", "delete"]);
    tools.site.stop().await;
}

#[tokio::test]
async fn what_cannot_be_has_the_right_result_code() {
    let tools = Tools::start("").await;
    let ldif = |dn: &str, lines: &str| format!("dn: {dn}\n{lines}\n");
    for (code, dn, lines) in [
        (68, ALICE, "objectClass: inetOrgPerson\ncn: a\nsn: a"),
        (65, "uid=x,ou=users,dc=dirless", "objectClass: inetOrgPerson\ncn: a"),
        (65, "uid=x,ou=users,dc=dirless", "objectClass: nothing"),
        (17, "uid=x,ou=users,dc=dirless", "objectClass: account\nnothing: x"),
        (19, "uid=x,ou=users,dc=dirless", "objectClass: account\nentryUUID: 0"),
        (32, "uid=x,ou=none,dc=dirless", "objectClass: account"),
        (53, "uid=x,dc=elsewhere", "objectClass: account"),
        (
            21,
            "cn=x,ou=groups,dc=dirless",
            "objectClass: groupOfNames\nobjectClass: posixGroup\ngidNumber: many",
        ),
    ] {
        tools.expect(code, "ldapadd", As::Root, &[], &ldif(dn, lines)).await;
    }
    for (code, lines) in [
        (16, "delete: mail\nmail: none@example.com"),
        (20, "add: mail\nmail: alice@example.com"),
        (67, "replace: uid\nuid: other"),
        (67, "delete: uid"),
        (65, "delete: sn"),
        (
            69,
            "replace: objectClass\nobjectClass: account\nobjectClass: aitherUser\n-\ndelete: cn\n-\ndelete: sn\n-\ndelete: mail\n-\ndelete: userPassword",
        ),
        (19, "replace: creatorsName\ncreatorsName: cn=me"),
    ] {
        let text = ldif(ALICE, &format!("changetype: modify\n{lines}"));
        tools.expect(code, "ldapmodify", As::Root, &[], &text).await;
    }
    tools
        .expect(66, "ldapdelete", As::Root, &["ou=users,dc=dirless"], "")
        .await;
    let missing = tools
        .expect(32, "ldapdelete", As::Root, &["uid=x,ou=y,ou=users,dc=dirless"], "")
        .await;
    assert!(
        missing.contains("matched DN: ou=users,dc=dirless") || missing.contains("Matched DN: ou=users,dc=dirless"),
        "{missing}"
    );
    tools.expect(68, "ldapmodrdn", As::Root, &[ALICE, "uid=bob"], "").await;
    tools
        .expect(
            53,
            "ldapmodrdn",
            As::Root,
            &["-s", ALICE, "ou=users,dc=dirless", "ou=users"],
            "",
        )
        .await;
    tools.site.stop().await;
}

#[tokio::test]
async fn conditions_and_closed_accounts_hold() {
    let tools = Tools::start("").await;
    let modify = format!("dn: {ALICE}\nchangetype: modify\nreplace: description\ndescription: x\n");
    tools
        .expect(
            122,
            "ldapmodify",
            As::Root,
            &["-e", "!assert=(mail=other@example.com)"],
            &modify,
        )
        .await;
    tools
        .expect(
            0,
            "ldapmodify",
            As::Root,
            &["-e", "!assert=(mail=alice@example.com)"],
            &modify,
        )
        .await;
    let closed =
        format!("dn: {ALICE}\nchangetype: modify\nreplace: aitherAccountStatus\naitherAccountStatus: locked\n");
    tools.expect(0, "ldapmodify", As::Root, &[], &closed).await;
    tools
        .expect(49, "ldapwhoami", As::Entry(ALICE, "alice secret"), &[], "")
        .await;
    tools.site.stop().await;
}

#[tokio::test]
async fn subtrees_move_and_entries_are_read_with_the_change() {
    let tools = Tools::start("").await;
    let team = "dn: ou=team,ou=users,dc=dirless\nobjectClass: organizationalUnit\n\n\
        dn: uid=x,ou=team,ou=users,dc=dirless\nobjectClass: account\n\n\
        dn: cn=y,uid=x,ou=team,ou=users,dc=dirless\nobjectClass: device\n";
    tools.expect(0, "ldapadd", As::Root, &[], team).await;
    let (team, agents) = ("ou=team,ou=users,dc=dirless", "ou=agents,dc=dirless");
    let renamed = [
        "-e",
        "preread=ou",
        "-e",
        "postread=ou,modifiersName",
        "-r",
        "-s",
        agents,
        team,
        "ou=crew",
    ];
    let said = tools.expect(0, "ldapmodrdn", As::Root, &renamed, "").await;
    assert!(said.contains("dn: ou=team,ou=users,dc=dirless\nou: team"), "{said}");
    assert!(said.contains("dn: ou=crew,ou=agents,dc=dirless\nou: crew"), "{said}");
    assert!(said.contains("modifiersName: cn=manager,dc=dirless"), "{said}");
    let found = tools
        .search(
            As::Root,
            &["-b", "ou=crew,ou=agents,dc=dirless", "(objectClass=*)", "1.1"],
        )
        .await;
    assert!(found.contains("dn: cn=y,uid=x,ou=crew,ou=agents,dc=dirless"), "{found}");
    assert_eq!(found.matches("dn: ").count(), 3, "{found}");
    // Without -r the old name stays as a value.
    tools
        .expect(
            0,
            "ldapmodrdn",
            As::Root,
            &["uid=x,ou=crew,ou=agents,dc=dirless", "uid=z"],
            "",
        )
        .await;
    let uids = tools.search(As::Root, &["(uid=z)", "uid"]).await;
    assert!(uids.contains("uid: x\n") && uids.contains("uid: z\n"), "{uids}");
    let password = modify(ALICE, "replace: userPassword\nuserPassword: other\n");
    let said = tools
        .expect(0, "ldapmodify", As::Root, &["-e", "postread=*"], &password)
        .await;
    assert!(
        said.contains("mail: alice@example.com") && !said.contains("userPassword"),
        "{said}"
    );
    tools.site.stop().await;
}

#[tokio::test]
async fn passwords_are_set_by_the_operation_for_it() {
    let rules = "[[ldap.access]]\nwho = \"self\"\nrights = [\"write\"]\nattributes = [\"userPassword\"]\n";
    let tools = Tools::start(rules).await;
    let (alice, bob) = (As::Entry(ALICE, "alice secret"), As::Entry(BOB, "bob secret"));
    tools
        .expect(0, "ldappasswd", alice, &["-s", "{SSHA}a plain one"], "")
        .await;
    tools.expect(49, "ldapwhoami", alice, &[], "").await;
    let alice = As::Entry(ALICE, "{SSHA}a plain one");
    tools.expect(0, "ldapwhoami", alice, &[], "").await;
    let wrong = tools
        .expect(49, "ldappasswd", alice, &["-a", "wrong", "-s", "x"], "")
        .await;
    assert!(wrong.contains("old password is wrong"), "{wrong}");
    tools.expect(50, "ldappasswd", bob, &["-s", "x", ALICE], "").await;
    tools.expect(8, "ldappasswd", As::Nobody, &["-s", "x", ALICE], "").await;
    let none = tools
        .expect(
            32,
            "ldappasswd",
            As::Root,
            &["-s", "x", "uid=none,ou=users,dc=dirless"],
            "",
        )
        .await;
    assert!(none.contains("ou=users,dc=dirless"), "{none}");
    // Without a new one the server makes it up and tells it.
    let made = tools.expect(0, "ldappasswd", As::Root, &[BOB], "").await;
    let made = made.trim().strip_prefix("New password: ").unwrap().to_owned();
    assert_eq!(made.len(), 20, "{made}");
    tools.expect(49, "ldapwhoami", bob, &[], "").await;
    let who = tools
        .expect(
            0,
            "ldapwhoami",
            As::Entry(BOB, Box::leak(made.into_boxed_str())),
            &[],
            "",
        )
        .await;
    assert!(who.contains(BOB), "{who}");
    let root = tools
        .search(As::Root, &["-b", "", "-s", "base", "supportedExtension"])
        .await;
    assert!(root.contains("1.3.6.1.4.1.4203.1.11.1"), "{root}");
    let held = tools
        .site
        .tree
        .get(&dirless_directory::Dn::parse(ALICE).unwrap())
        .unwrap()
        .unwrap();
    let held = format!("{:?}", held.entry().unwrap());
    assert!(
        held.contains("{PBKDF2-SHA512}") && !held.contains("a plain one"),
        "{held}"
    );
    tools.site.stop().await;
}
