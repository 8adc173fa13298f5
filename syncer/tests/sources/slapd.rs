//! OpenLDAP.

use std::fmt::Write;
use std::path::Path;

use dirless_syncer::sources::ldap::Verdict;
use dirless_testkit::{Program, Running, isolated};

use crate::directory::{members, read, secret, source, users, verify};

const PORT: u16 = 3899;

/// A server with 30 people, of whom two are locked or expired, and groups in a circle.
fn start(folder: &Path, limits: &str) -> Running {
    let database = folder.join("db");
    std::fs::create_dir_all(&database).unwrap();
    let includes = ["core", "cosine", "nis", "inetorgperson"];
    let includes: String = includes
        .iter()
        .map(|name| format!("include /etc/ldap/schema/{name}.schema\n"))
        .collect();
    let config = format!(
        "{includes}modulepath /usr/lib/ldap\nmoduleload back_mdb\nallow bind_v2\nreferral ldap://elsewhere.example\n\
         database mdb\nsuffix dc=corp\nrootdn cn=admin,dc=corp\nrootpw Adm1n\ndirectory {}\nmaxsize 104857600\n{limits}\n\
         access to attrs=userPassword by anonymous auth by * none\naccess to * by * read\n",
        database.display()
    );
    let path = folder.join("slapd.conf");
    std::fs::write(&path, config).unwrap();
    let mut ldif = "dn: dc=corp\nobjectClass: dcObject\nobjectClass: organization\no: corp\ndc: corp\n\n".to_owned();
    for number in 1..=30 {
        let expired = if number == 30 { "shadowExpire: 1\n" } else { "" };
        let _ = write!(
            ldif,
            "dn: uid=u{number},dc=corp\nobjectClass: inetOrgPerson\nobjectClass: posixAccount\nobjectClass: \
             shadowAccount\nuid: u{number}\ncn: User {number}\nsn: {number}\nuidNumber: {}\ngidNumber: 3001\n\
             homeDirectory: /srv/u{number}\nuserPassword: Pa55-{number}\n{expired}\n",
            2000 + number
        );
    }
    for (group, list) in [
        ("all", "member: cn=eng,dc=corp\nmember: uid=u9,dc=corp\n"),
        (
            "eng",
            "member: uid=u1,dc=corp\nmember: UID=U2, DC=Corp\nmember: cn=all,dc=corp\nmember: uid=u30,dc=corp\n",
        ),
    ] {
        let _ = write!(
            ldif,
            "dn: cn={group},dc=corp\nobjectClass: groupOfNames\ncn: {group}\n{list}\n"
        );
    }
    let text = folder.join("data.ldif");
    std::fs::write(&text, ldif).unwrap();
    let add = Program::system("slapadd").arg("-f").arg(&path).arg("-l").arg(&text);
    add.succeed().unwrap();
    let serve = Program::system("slapd").args(["-d", "0", "-h", &format!("ldap://127.0.0.1:{PORT}")]);
    serve.arg("-f").arg(&path).serve_on(PORT).unwrap()
}

fn table(extra: &str) -> String {
    format!(
        "url = \"ldap://127.0.0.1:{PORT}\"\npermit_plain = true\nbase = \"dc=corp\"\npreset = \"rfc2307bis\"\n{extra}\n"
    )
}

#[test]
fn a_read_is_whole_nested_groups_resolved_and_passwords_checked() {
    isolated(
        "slapd::a_read_is_whole_nested_groups_resolved_and_passwords_checked",
        || {
            let folder = tempfile::tempdir()?;
            let server = start(folder.path(), "");
            let password = folder.path().join("password");
            secret(&password, "Adm1n\n");
            let bound =
                format!("page = 7\nnumbers = true\nbind_dn = \"cn=admin,dc=corp\"\npassword_file = {password:?}");
            let source = source(&table(&bound));
            let directory = read(&source)?;
            assert_eq!(users(&directory).len(), 29);
            assert_eq!(directory.disabled().count(), 1);
            let groups = members(&directory);
            assert_eq!(groups["all"], ["u1", "u2", "u9"]);
            assert_eq!(groups["all"], groups["eng"]);
            let first = directory.users().find(|user| user.name == "u1").unwrap();
            assert_eq!((first.posix.uid, first.posix.gid), (Some(2001), Some(3001)));
            assert_eq!(first.id.len(), 36, "an entryUUID: {}", first.id);
            assert_eq!(verify(&source, "u1", "Pa55-1"), Verdict::Right);
            for (user, password) in [
                ("u1", "Pa55-2"),
                ("u1", ""),
                ("", "x"),
                ("nobody", "x"),
                ("u30", "Pa55-30"),
                ("*", "Pa55-1"),
            ] {
                assert_eq!(verify(&source, user, password), Verdict::Wrong, "{user} {password}");
            }
            drop(server);
            assert!(read(&source).is_err(), "a server that is gone is no empty directory");
            Ok(())
        },
    )
    .unwrap();
}

#[test]
fn a_limit_a_referral_and_a_wrong_password_are_errors_and_no_empty_directories() {
    isolated(
        "slapd::a_limit_a_referral_and_a_wrong_password_are_errors_and_no_empty_directories",
        || {
            let folder = tempfile::tempdir()?;
            let _server = start(folder.path(), "sizelimit size.soft=10 size.hard=10 size.prtotal=10");
            let cases = [
                (table("page = 7"), "size limit"),
                (table("").replace("dc=corp", "dc=other"), "elsewhere"),
                (
                    table("").replace("base = \"dc=corp\"", "base = \"ou=none,dc=corp\""),
                    "no such base",
                ),
            ];
            for (table, says) in cases {
                let error = read(&source(&table)).unwrap_err().to_string();
                assert!(error.contains(says), "{error}");
            }
            let password = folder.path().join("password");
            secret(&password, "wrong\n");
            let bound = table(&format!("bind_dn = \"cn=admin,dc=corp\"\npassword_file = {password:?}"));
            let error = read(&source(&bound)).unwrap_err().to_string();
            assert!(error.contains("refused") && !error.contains("wrong"), "{error}");
            Ok(())
        },
    )
    .unwrap();
}
