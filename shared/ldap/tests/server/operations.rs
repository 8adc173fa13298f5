//! What RFC 4511 asks for, through OpenLDAP's tools.

use crate::support::{BASE, Server, count};

#[test]
fn root_dse_and_schema_are_published() {
    let server = Server::start();
    let plain = server.search(&["-b", "", "-s", "base"]);
    assert!(plain.contains("objectClass: top") && !plain.contains("namingContexts"));
    let all = server.search(&["-b", "", "-s", "base", "*", "+"]);
    for line in [
        "namingContexts: dc=example,dc=com",
        "supportedLDAPVersion: 3",
        "supportedControl: 1.2.840.113556.1.4.319",
        "supportedExtension: 1.3.6.1.4.1.1466.20037",
        "supportedFeatures: 1.3.6.1.4.1.4203.1.5.1",
        "subschemaSubentry: cn=Subschema",
        "vendorName: Dirless",
    ] {
        assert!(all.contains(line), "{line} is not in {all}");
    }
    let named = server.search(&["-b", "", "-s", "base", "namingContexts"]);
    assert!(named.contains("namingContexts") && !named.contains("supportedControl"));
    let schema = server.search(&["-b", "cn=subschema", "-s", "base", "(objectClass=subschema)", "+"]);
    for name in [
        "attributeTypes: ( 2.5.4.3 NAME",
        "objectClasses: ( 2.5.6.6 NAME 'person'",
        "matchingRules: ( 2.5.13.2 ",
        "matchingRuleUse: ( 2.5.13.2 ",
        "ldapSyntaxes: ( 1.3.6.1.4.1.1466.115.121.1.12 DESC 'DN' )",
        "dITContentRules:",
        "dITStructureRules:",
        "nameForms:",
    ] {
        assert!(schema.contains(name), "{name}");
    }
    let (status, _, _) = server.tool(
        "ldapsearch",
        &["-x", "-H", &server.ldapi(), "-b", "", "-s", "base", "+"],
    );
    assert_eq!(status, 0);
}

#[test]
fn every_scope_and_filter_finds_what_it_should() {
    let server = Server::start();
    let users = format!("ou=users,{BASE}");
    let groups = format!("ou=groups,{BASE}");
    let user0 = format!("uid=user0,ou=users,{BASE}");
    let in_chain = format!("(member:1.2.840.113556.1.4.1941:={user0})");
    let member_of = format!("(memberOf:1.2.840.113556.1.4.1941:=cn=outer,ou=groups,{BASE})");
    let cases: Vec<(&str, &str, &str, usize)> = vec![
        (BASE, "sub", "(objectClass=*)", 15),
        (BASE, "one", "(objectClass=*)", 2),
        (BASE, "base", "(objectClass=*)", 1),
        ("", "one", "(objectClass=*)", 1),
        ("", "sub", "(objectClass=*)", 15),
        (&users, "sub", "(objectClass=*)", 11),
        (&users, "children", "(objectClass=*)", 10),
        (BASE, "sub", "(uid=USER3)", 1),
        (
            BASE,
            "sub",
            "(&(uid=user3)(objectclass=posixAccount)(uid=*)(&(uidNumber=*)(!(uidNumber=0))))",
            1,
        ),
        (BASE, "sub", "(uidNumber>=2008)", 2),
        (BASE, "sub", "(uidNumber<=2001)", 2),
        (BASE, "sub", "(cn=user 8999*)", 9),
        (BASE, "sub", "(uid=*4)", 1),
        (BASE, "sub", "(cn~=user 90000)", 1),
        (BASE, "sub", "(|(uid=user1)(uid=user2)(uid=nobody))", 2),
        (BASE, "sub", "(!(objectClass=posixAccount))", 5),
        (BASE, "sub", "(ou:dn:=users)", 11),
        (BASE, "sub", "(uid:caseExactMatch:=User3)", 0),
        (BASE, "sub", "(uid:2.5.13.2:=User3)", 1),
        (BASE, "sub", "(2.5.4.3=inner)", 1),
        (BASE, "sub", "(entryDN=uid=user3,ou=users,dc=example,dc=com)", 1),
        (BASE, "sub", "(nothing=1)", 0),
        (BASE, "sub", "(jpegPhoto=\\ff\\fe)", 0),
        (BASE, "sub", "(userPassword=*)", 0),
        (BASE, "sub", &in_chain, 2),
        (&groups, "one", &in_chain, 2),
        (BASE, "sub", &member_of, 4),
        (&users, "sub", &member_of, 3),
    ];
    for (base, scope, filter, expected) in cases {
        let output = server.search(&["-b", base, "-s", scope, filter, "1.1"]);
        assert_eq!(count(&output), expected, "{base} {scope} {filter}\n{output}");
        assert!(!output.contains("hidden") && !output.contains("ghost"));
    }
}

#[test]
fn the_attributes_that_were_asked_for_come_and_no_others() {
    let server = Server::start();
    let ask = |attributes: &[&str]| {
        let mut arguments = vec!["-b", BASE, "(uid=user1)"];
        arguments.extend_from_slice(attributes);
        server.search(&arguments)
    };
    let names = |ldif: &str| {
        let mut names: Vec<String> = ldif
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, _)| name.to_owned())
            .collect();
        names.dedup();
        names
    };
    let user = ask(&[]);
    assert!(
        user.contains("homeDirectory: /home/user1") && !user.contains("entryUUID") && !user.contains("userPassword")
    );
    assert_eq!(names(&ask(&["1.1"])), ["dn"]);
    assert_eq!(
        names(&ask(&["CommonName", "uidnumber", "userPassword"])),
        ["dn", "cn", "uidNumber"]
    );
    assert_eq!(
        names(&ask(&["+"])),
        [
            "dn",
            "entryUUID",
            "modifyTimestamp",
            "entryDN",
            "subschemaSubentry",
            "hasSubordinates"
        ]
    );
    assert!(ask(&["*", "modifyTimestamp"]).contains("modifyTimestamp: 20260531000000Z"));
    assert_eq!(names(&ask(&["name"])), ["dn", "cn", "sn"]);
    assert_eq!(
        names(&ask(&["@posixAccount"])),
        [
            "dn",
            "cn",
            "gidNumber",
            "homeDirectory",
            "objectClass",
            "uid",
            "uidNumber"
        ]
    );
    let types = server.search(&["-A", "-b", BASE, "(uid=user1)", "cn", "uid"]);
    assert!(
        types.lines().any(|line| line.trim() == "cn:") && !types.contains("user1\n"),
        "{types}"
    );
    let below = server.search(&["-b", &format!("ou=users,{BASE}"), "-s", "base", "hasSubordinates"]);
    assert!(below.contains("hasSubordinates: TRUE"));
}

#[test]
fn what_is_not_there_says_how_far_the_name_leads() {
    let server = Server::start();
    let url = server.url();
    for (base, matched) in [
        (format!("uid=nobody,ou=users,{BASE}"), format!("ou=users,{BASE}")),
        (format!("a=b,c=d,{BASE}"), BASE.to_owned()),
        (format!("uid=ghost,ou=hidden,{BASE}"), BASE.to_owned()),
        ("dc=org".to_owned(), String::new()),
    ] {
        for scope in ["base", "one", "sub"] {
            let (status, output, _) = server.tool("ldapsearch", &["-x", "-H", &url, "-b", &base, "-s", scope]);
            assert_eq!(status, 32, "{base} {scope} {output}");
            let expected = format!("matchedDN: {matched}");
            assert_eq!(output.contains(&expected), !matched.is_empty(), "{base}: {output}");
        }
    }
    let (status, _, _) = server.tool("ldapsearch", &["-x", "-H", &url, "-b", "no name"]);
    assert_eq!(status, 34);
}

#[test]
fn binds_prove_who_one_is() {
    let server = Server::start();
    let url = server.url();
    let who = |arguments: &[&str]| {
        let all: Vec<&str> = ["-H", &url].iter().chain(arguments).copied().collect();
        server.tool("ldapwhoami", &all)
    };
    let user1 = format!("uid=user1,ou=users,{BASE}");
    assert_eq!(who(&["-x"]).1.trim(), "anonymous");
    let (status, output, _) = who(&["-x", "-D", "UID=User1, ou=users,dc=example,dc=com", "-w", "secret"]);
    assert_eq!((status, output.trim()), (0, "dn:UID=User1,ou=users,dc=example,dc=com"));
    assert_eq!(who(&["-x", "-D", &user1, "-w", "secret", "-e", "ppolicy"]).0, 0);
    assert_eq!(who(&["-x", "-D", &user1, "-w", "wrong"]).0, 49);
    assert_eq!(who(&["-x", "-D", &format!("uid=nobody,{BASE}"), "-w", "secret"]).0, 49);
    assert_eq!(who(&["-x", "-D", &format!("ou=users,{BASE}"), "-w", "secret"]).0, 49);
    assert_eq!(who(&["-x", "-D", &user1, "-w", ""]).0, 53);
    assert_eq!(who(&["-x", "-D", "nonsense", "-w", "secret"]).0, 34);
    assert_ne!(who(&["-Y", "EXTERNAL", "-Q"]).0, 0, "over TCP nobody says who is there");
    let (status, output, errors) = server.tool("ldapwhoami", &["-Y", "EXTERNAL", "-Q", "-H", &server.ldapi()]);
    assert_eq!(status, 0, "{errors}");
    assert!(output.starts_with("dn:gidNumber=") && output.contains(",cn=peercred,cn=external,cn=auth"));
    // Only the local user is shown password hashes by the tree's rule.
    let hashes = [
        "-Y",
        "EXTERNAL",
        "-Q",
        "-LLL",
        "-H",
        &server.ldapi(),
        "-b",
        BASE,
        "(userPassword=*)",
        "1.1",
    ];
    assert_eq!(count(&server.tool("ldapsearch", &hashes).1), 10);
}

#[test]
fn compare_tells_true_false_and_why_not() {
    let server = Server::start();
    let url = server.url();
    let inner = format!("cn=inner,ou=groups,{BASE}");
    let compare = |dn: &str, assertion: &str| server.tool("ldapcompare", &["-x", "-H", &url, dn, assertion]).0;
    assert_eq!(compare(&inner, &format!("member:UID=user0, ou=users,{BASE}")), 6);
    assert_eq!(compare(&inner, &format!("member:uid=user2,ou=users,{BASE}")), 5);
    assert_eq!(compare(&inner, "description:x"), 16);
    assert_eq!(compare(&inner, "member:no name"), 21);
    assert_eq!(compare(&format!("cn=none,ou=groups,{BASE}"), "cn:none"), 32);
    assert_eq!(compare(&format!("uid=user1,ou=users,{BASE}"), "userPassword:x"), 16);
    assert_eq!(compare(&format!("uid=ghost,ou=hidden,{BASE}"), "uid:ghost"), 32);
}

#[test]
fn changes_go_through_the_writer_and_a_copy_refuses_them() {
    let server = Server::start();
    let url = server.url();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("changes.ldif");
    let change = |program: &str, ldif: &str, more: &[&str]| {
        std::fs::write(&file, ldif).unwrap();
        let path = file.to_string_lossy().into_owned();
        let all: Vec<&str> = ["-x", "-H", &url, "-f", &path].iter().chain(more).copied().collect();
        server.tool(program, &all)
    };
    let dn = format!("cn=new,ou=groups,{BASE}");
    let add = format!("dn: {dn}\nobjectClass: groupOfNames\ncn: new\nmember: uid=user1,ou=users,{BASE}\n");
    assert_eq!(change("ldapadd", &add, &[]).0, 0);
    assert_eq!(change("ldapadd", &add, &[]).0, 68);
    let modify = format!("dn: {dn}\nchangetype: modify\nadd: description\ndescription: one\n");
    let (status, output, errors) = change(
        "ldapmodify",
        &modify,
        &["-e", "preread=description", "-e", "postread=description"],
    );
    assert_eq!(status, 0, "{errors}");
    assert!(output.contains("description: one"), "{output}");
    assert_eq!(change("ldapmodify", &modify, &["-e", "!assert=(cn=other)"]).0, 122);
    let (status, _, errors) = server.tool("ldapmodrdn", &["-x", "-H", &url, "-r", &dn, "cn=newer"]);
    assert_eq!(status, 0, "{errors}");
    let newer = format!("cn=newer,ou=groups,{BASE}");
    assert!(
        server
            .search(&["-b", &newer, "-s", "base"])
            .contains("description: one")
    );
    assert_eq!(server.tool("ldapdelete", &["-x", "-H", &url, &newer]).0, 0);
    assert_eq!(server.tool("ldapdelete", &["-x", "-H", &url, &newer]).0, 32);

    let copy = dirless_ldap::memory::Memory::new(dirless_directory::Schema::standard(), Vec::new());
    let copy = Server::with(copy, dirless_ldap::Config::default());
    let (status, _, errors) = copy.tool("ldapdelete", &["-x", "-H", &copy.url(), &newer]);
    assert_eq!(status, 53, "{errors}");
}
