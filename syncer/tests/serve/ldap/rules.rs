//! Who may do what.

use super::libraries::python;
use super::*;

#[tokio::test]
async fn without_a_rule_nobody_writes_and_nobody_sees_secrets() {
    let tools = Tools::start("").await;
    let alice = As::Entry(ALICE, "alice secret");
    tools.expect(0, "ldapwhoami", alice, &[], "").await;
    tools
        .expect(49, "ldapwhoami", As::Entry(ALICE, "bob secret"), &[], "")
        .await;
    tools
        .expect(49, "ldapwhoami", As::Entry("uid=none,dc=dirless", "x"), &[], "")
        .await;
    let seen = tools.search(alice, &["(uid=bob)", "*", "+"]).await;
    assert!(
        seen.contains("mail: bob@example.com") && !seen.contains("userPassword"),
        "{seen}"
    );
    assert_eq!(tools.search(alice, &["(userPassword=*)", "dn"]).await.trim(), "");
    let all = tools.search(As::Root, &["(uid=bob)", "*", "+", "userPassword"]).await;
    assert!(
        all.contains("entryUUID") && !all.contains("userPassword"),
        "not even the manager: {all}"
    );
    assert_eq!(tools.search(As::Root, &["(userPassword=*)", "dn"]).await.trim(), "");
    tools
        .expect(16, "ldapcompare", As::Root, &[BOB, "userPassword:bob secret"], "")
        .await;
    let nobody = tools.search(As::Nobody, &["(uid=bob)"]).await;
    assert!(!nobody.contains("bob@"), "{nobody}");
    let modify = format!("dn: {ALICE}\nchangetype: modify\nreplace: description\ndescription: x\n");
    tools.expect(50, "ldapmodify", alice, &[], &modify).await;
    tools.expect(8, "ldapmodify", As::Nobody, &[], &modify).await;
    tools.expect(50, "ldapdelete", alice, &[BOB], "").await;
    tools.site.stop().await;
}

#[tokio::test]
async fn rules_give_what_they_say_and_no_more() {
    let rules = r#"
read = "nobody"
[[ldap.access]]
who = "group:cn=admins,ou=groups,dc=dirless"
subtree = "ou=users,dc=dirless"
rights = ["read", "write"]
attributes = ["*", "userPassword"]
[[ldap.access]]
who = "self"
rights = ["read"]
[[ldap.access]]
who = "self"
rights = ["write"]
attributes = ["userPassword"]
[[ldap.access]]
who = "anonymous"
rights = ["read"]
attributes = ["uid", "objectClass"]
[[ldap.access]]
who = "anonymous"
rights = ["search"]
attributes = ["mail"]
[[ldap.access]]
who = "anonymous"
rights = ["compare"]
attributes = ["sn"]
"#;
    let tools = Tools::start(rules).await;
    let (alice, bob) = (As::Entry(ALICE, "alice secret"), As::Entry(BOB, "bob secret"));
    assert!(tools.search(alice, &["(uid=alice)"]).await.contains("alice@"));
    assert!(
        !tools.search(alice, &["(uid=bob)"]).await.contains("bob@"),
        "herself alone"
    );
    let found = tools.search(As::Nobody, &["(mail=bob@example.com)"]).await;
    assert!(
        found.contains("uid: bob") && !found.contains("mail:"),
        "found by what is not shown: {found}"
    );
    assert_eq!(
        tools.search(As::Nobody, &["(sn=Example)", "dn"]).await.trim(),
        "",
        "comparing is not searching"
    );
    tools
        .expect(6, "ldapcompare", As::Nobody, &[BOB, "sn:Example"], "")
        .await;
    // An assertion is a filter: it would find out letter by letter what may only be compared.
    let letters = ["-e", "!assert=(sn=E*)", BOB, "sn:Example"];
    tools.expect(122, "ldapcompare", As::Nobody, &letters, "").await;
    tools
        .expect(16, "ldapcompare", As::Nobody, &[BOB, "cn:bob Example"], "")
        .await;
    let password = |old: &str, new: &str| {
        format!(
            "dn: {ALICE}\nchangetype: modify\ndelete: userPassword\nuserPassword: {old}\n-\nadd: userPassword\nuserPassword: {new}\n"
        )
    };
    tools
        .expect(16, "ldapmodify", alice, &[], &password("wrong", "new secret"))
        .await;
    tools
        .expect(0, "ldapmodify", alice, &[], &password("alice secret", "new secret"))
        .await;
    tools.expect(49, "ldapwhoami", alice, &[], "").await;
    let alice = As::Entry(ALICE, "new secret");
    tools.expect(0, "ldapwhoami", alice, &[], "").await;
    let mail = format!("dn: {BOB}\nchangetype: modify\nreplace: mail\nmail: b@example.com\n");
    tools.expect(32, "ldapmodify", alice, &[], &mail).await;
    let group =
        "dn: cn=admins,ou=groups,dc=dirless\nobjectClass: groupOfNames\nmember: uid=alice,ou=users,dc=dirless\n";
    tools.expect(0, "ldapadd", As::Root, &[], group).await;
    tools.expect(0, "ldapmodify", alice, &[], &mail).await;
    let person =
        "dn: uid=carol,ou=users,dc=dirless\nobjectClass: inetOrgPerson\ncn: c\nsn: c\nuserPassword: carol secret\n";
    tools.expect(0, "ldapadd", alice, &[], person).await;
    tools
        .expect(
            0,
            "ldapwhoami",
            As::Entry("uid=carol,ou=users,dc=dirless", "carol secret"),
            &[],
            "",
        )
        .await;
    let outside = "dn: cn=x,ou=roles,dc=dirless\nobjectClass: aitherRole\n";
    tools.expect(50, "ldapadd", alice, &[], outside).await;
    tools
        .expect(
            50,
            "ldapmodrdn",
            alice,
            &["-s", "ou=agents,dc=dirless", BOB, "uid=bob"],
            "",
        )
        .await;
    tools.expect(32, "ldapdelete", bob, &[ALICE], "").await;
    tools.expect(0, "ldapdelete", alice, &[BOB], "").await;
    tools.expect(49, "ldapwhoami", bob, &[], "").await;
    assert!(
        !tools
            .search(alice, &["(uid=carol)", "userPassword"])
            .await
            .contains("userPassword"),
        "written, not shown"
    );
    let log = tools.site.get("/v1/changelog?limit=1000").send().await.text;
    assert!(
        log.contains("\"actor\":\"uid=alice,ou=users,dc=dirless\"") && !log.contains("secret\"]"),
        "{log}"
    );
    tools.site.stop().await;
}

const ADMINS: &str = "[[ldap.access]]\nwho = \"dn:uid=alice,ou=users,dc=dirless\"\nrights = [\"write\"]\n";

/// Whoever may write all attributes still writes neither passwords nor what stands for one.
#[tokio::test]
async fn what_lets_somebody_bind_is_written_by_rules_that_name_it() {
    let tools = Tools::start(ADMINS).await;
    let alice = As::Entry(ALICE, "alice secret");
    tools
        .expect(
            0,
            "ldapmodify",
            alice,
            &[],
            &modify(BOB, "replace: mail\nmail: b@example.com"),
        )
        .await;
    for lines in [
        "replace: userPassword\nuserPassword: mine",
        "replace: 2.5.4.35\n2.5.4.35: mine",
        "add: aitherPasswordHash\naitherPasswordHash: $2b$12$x",
        "add: aitherSource\naitherSource: corp",
        "add: aitherSourceId\naitherSourceId: 1",
    ] {
        tools.expect(50, "ldapmodify", alice, &[], &modify(BOB, lines)).await;
    }
    tools.expect(50, "ldappasswd", alice, &["-s", "mine", BOB], "").await;
    let person = "dn: uid=x,ou=users,dc=dirless\nobjectClass: inetOrgPerson\ncn: x\nsn: x\n";
    tools
        .expect(50, "ldapadd", alice, &[], &format!("{person}userPassword: mine\n"))
        .await;
    tools.expect(0, "ldapadd", alice, &[], person).await;
    // As many passwords as one pleases would be as much work as one pleases.
    let many: String = (0..5).map(|number| format!("userPassword: {number}\n")).collect();
    tools
        .expect(
            11,
            "ldapmodify",
            As::Root,
            &[],
            &modify(BOB, &format!("replace: userPassword\n{many}")),
        )
        .await;
    tools
        .expect(
            19,
            "ldapmodify",
            As::Root,
            &[],
            &modify(
                BOB,
                &format!("replace: userPassword\nuserPassword: {}", "x".repeat(2000)),
            ),
        )
        .await;
    tools.site.stop().await;
}

/// What is hidden and what is not there look alike.
#[tokio::test]
async fn nobody_finds_out_what_is_hidden() {
    let rules = format!(
        "read = \"nobody\"\n[[ldap.access]]\nwho = \"users\"\nrights = [\"read\"]\nsubtree = \"ou=groups,dc=dirless\"\n{}",
        ADMINS.replace("alice", "nobody")
    );
    let tools = Tools::start(&rules).await;
    let alice = As::Entry(ALICE, "alice secret");
    let changed = |dn: &str| modify(dn, "replace: mail\nmail: b@example.com");
    for (tool, there, none) in [
        ("ldapmodify", changed(BOB), changed("uid=none,ou=users,dc=dirless")),
        (
            "ldapdelete",
            format!("{BOB}\n"),
            "uid=none,ou=users,dc=dirless\n".to_owned(),
        ),
    ] {
        let there = tools.expect(32, tool, alice, &[], &there).await;
        let none = tools.expect(32, tool, alice, &[], &none).await;
        assert_eq!(there.replace("uid=bob", "uid=none"), none);
        assert!(!there.contains("matched DN"), "{there}");
    }
    let there = tools.expect(32, "ldapsearch", alice, &["-b", BOB], "").await;
    let none = tools
        .expect(32, "ldapsearch", alice, &["-b", "uid=none,ou=users,dc=dirless"], "")
        .await;
    assert_eq!(there.replace("uid=bob", "uid=none"), none);
    tools.expect(32, "ldapcompare", alice, &[BOB, "sn:Example"], "").await;
    tools.site.stop().await;
}

/// A connection has no more rights than its entry has now.
#[tokio::test]
async fn who_is_closed_or_gone_has_no_rights_left() {
    let tools = Tools::start(ADMINS).await;
    let script = format!(
        "import ldap, sys\nl = ldap.initialize(sys.argv[1])\nl.simple_bind_s({ALICE:?}, 'alice secret')\n\
         assert l.search_s('dc=dirless', ldap.SCOPE_SUBTREE, '(uid=bob)')\n\
         l.modify_s({BOB:?}, [(ldap.MOD_REPLACE, 'description', [b'x'])])\n\
         m = ldap.initialize(sys.argv[2])\nm.sasl_external_bind_s()\n\
         m.modify_s({ALICE:?}, [(ldap.MOD_REPLACE, 'aitherAccountStatus', [b'Locked'])])\n\
         try:\n    l.modify_s({BOB:?}, [(ldap.MOD_REPLACE, 'description', [b'y'])]); raise SystemExit('written')\n\
         except ldap.STRONG_AUTH_REQUIRED: pass\n\
         try:\n    assert not l.search_s('dc=dirless', ldap.SCOPE_SUBTREE, '(uid=bob)')\n\
         except ldap.NO_SUCH_OBJECT: pass\nprint('done')\n"
    );
    let said = python(&tools, &script).await;
    assert_eq!(said.trim(), "done");
    tools.site.stop().await;
}

#[tokio::test]
async fn wrong_passwords_of_one_name_end_with_a_wait() {
    let tools = Tools::start("failures_per_minute = 3\n").await;
    for name in [ALICE, "uid=none,ou=users,dc=dirless"] {
        for _ in 0..3 {
            tools.expect(49, "ldapwhoami", As::Entry(name, "wrong"), &[], "").await;
        }
        let busy = tools.expect(51, "ldapwhoami", As::Entry(name, "wrong"), &[], "").await;
        assert!(busy.contains("wait a minute"), "{busy}");
    }
    tools
        .expect(51, "ldapwhoami", As::Entry(ALICE, "alice secret"), &[], "")
        .await;
    tools
        .expect(0, "ldapwhoami", As::Entry(BOB, "bob secret"), &[], "")
        .await;
    tools.site.clock.advance(std::time::Duration::from_secs(61));
    tools
        .expect(0, "ldapwhoami", As::Entry(ALICE, "alice secret"), &[], "")
        .await;
    // A name without a password is not a bind (RFC 4513 section 5.1.2).
    tools.expect(53, "ldapwhoami", As::Entry(BOB, ""), &[], "").await;
    tools.site.stop().await;
}

/// The manager's name is nobody's to bind with, unless the configuration names an entry.
#[tokio::test]
async fn the_manager_binds_only_where_the_configuration_names_one() {
    let manager = "dn: cn=manager,dc=dirless\nobjectClass: person\nsn: x\nuserPassword: boss secret\n";
    let who = As::Entry("cn=manager,dc=dirless", "boss secret");
    let tools = Tools::start("").await;
    tools.expect(0, "ldapadd", As::Root, &[], manager).await;
    tools.expect(49, "ldapwhoami", who, &[], "").await;
    tools.site.stop().await;
    let tools = Tools::start("manager = \"uid=alice,ou=users,dc=dirless\"\n").await;
    tools
        .expect(0, "ldapadd", As::Entry(ALICE, "alice secret"), &[], manager)
        .await;
    tools.site.stop().await;
}
