//! OpenLDAP.

use std::fmt::Write;
use std::io::{Read, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dirless_syncer::sources::ldap::{Bounds, Verdict, Who};
use dirless_testkit::{Program, Running, isolated};

use crate::directory::{follow, following, id, members, open, probe, read, secret, source, users, verify, verify_who};

const PORT: u16 = 3899;
const TLS_PORT: u16 = 3898;

/// What a test wants of its server.
struct Wanted<'a> {
    people: usize,
    /// Lines of the database's section.
    database: &'a str,
    tls: bool,
}

impl Default for Wanted<'_> {
    fn default() -> Self {
        Self {
            people: 30,
            database: "",
            tls: false,
        }
    }
}

/// A server with people, of whom one is expired, and groups in a circle.
fn start(folder: &Path, wanted: &Wanted<'_>) -> Running {
    let path = configure(folder, wanted);
    let text = folder.join("data.ldif");
    std::fs::write(&text, people(wanted.people)).unwrap();
    let add = Program::system("slapadd")
        .arg("-q")
        .arg("-f")
        .arg(&path)
        .arg("-l")
        .arg(&text);
    add.succeed().unwrap();
    serve(&path)
}

fn serve(config: &Path) -> Running {
    let urls = format!("ldap://127.0.0.1:{PORT} ldaps://127.0.0.1:{TLS_PORT}");
    let serve = Program::system("slapd").args(["-d", "0", "-h", &urls]);
    serve.arg("-f").arg(config).serve_on(PORT).unwrap()
}

fn configure(folder: &Path, wanted: &Wanted<'_>) -> PathBuf {
    let database = folder.join("db");
    std::fs::create_dir_all(&database).unwrap();
    let includes = ["core", "cosine", "nis", "inetorgperson"];
    let mut config: String = includes
        .iter()
        .map(|name| format!("include /etc/ldap/schema/{name}.schema\n"))
        .collect();
    config.push_str(
        "modulepath /usr/lib/ldap\nmoduleload back_mdb\nmoduleload syncprov\nreferral ldap://elsewhere.example\n",
    );
    if wanted.tls {
        let tls = folder.join("tls");
        crate::directory::authority(&tls);
        for (key, file) in [
            ("TLSCACertificateFile", "ca.pem"),
            ("TLSCertificateFile", "cert.pem"),
            ("TLSCertificateKeyFile", "key.pem"),
        ] {
            let _ = writeln!(config, "{key} {}", tls.join(file).display());
        }
    }
    let _ = write!(
        config,
        "database mdb\nsuffix dc=corp\nrootdn cn=admin,dc=corp\nrootpw Adm1n\ndirectory {}\nmaxsize 104857600\n\
         dbnosync\nindex objectClass,entryUUID,entryCSN,uid eq\n{}\n\
         access to attrs=userPassword by anonymous auth by * none\naccess to * by * read\n",
        database.display(),
        wanted.database
    );
    let path = folder.join("slapd.conf");
    std::fs::write(&path, config).unwrap();
    path
}

fn people(count: usize) -> String {
    let mut ldif = "dn: dc=corp\nobjectClass: dcObject\nobjectClass: organization\no: corp\ndc: corp\n\n\
        dn: ou=away,dc=corp\nobjectClass: organizationalUnit\nou: away\n\n"
        .to_owned();
    for number in 1..=count {
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
    ldif
}

/// Changes the directory.
fn edit(ldif: &str) {
    let url = format!("ldap://127.0.0.1:{PORT}");
    let modify = Program::system("ldapmodify").args(["-x", "-H", &url, "-D", "cn=admin,dc=corp", "-w", "Adm1n"]);
    modify.input(ldif).succeed().unwrap();
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
            let server = start(folder.path(), &Wanted::default());
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
            let who = Who::Id(first.id.clone());
            assert_eq!(verify_who(&source, &who, "Pa55-1"), Verdict::Right);
            let inside = Who::Dn("UID=u1, dc=CORP".to_owned());
            assert_eq!(verify_who(&source, &inside, "Pa55-1"), Verdict::Right);
            let admin = Who::Dn("cn=admin,dc=corp".to_owned());
            assert_eq!(verify_who(&source, &admin, "Adm1n"), Verdict::Wrong, "no user");
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
            let wanted = Wanted {
                database: "sizelimit size.soft=10 size.hard=10 size.prtotal=10",
                ..Wanted::default()
            };
            let _server = start(folder.path(), &wanted);
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

#[test]
fn more_than_a_thousand_people_come_whole_and_more_than_there_may_be_are_refused() {
    isolated(
        "slapd::more_than_a_thousand_people_come_whole_and_more_than_there_may_be_are_refused",
        || {
            let folder = tempfile::tempdir()?;
            let wanted = Wanted {
                people: 2_345,
                // What a reader of a large directory needs anywhere: 500 is the default.
                database: "sizelimit unlimited",
                ..Wanted::default()
            };
            let _server = start(folder.path(), &wanted);
            let directory = read(&source(&table("page = 500")))?;
            assert_eq!(directory.users().count() + directory.disabled().count(), 2_345);
            let narrow = open(&table("page = 500"), Bounds::new(2_344, 10), None);
            let error = read(&narrow).unwrap_err().to_string();
            assert!(
                error.contains("more than 2344") && error.contains("[limits]"),
                "{error}"
            );
            Ok(())
        },
    )
    .unwrap();
}

#[test]
fn tls_is_checked_and_the_next_server_is_asked() {
    isolated("slapd::tls_is_checked_and_the_next_server_is_asked", || {
        let folder = tempfile::tempdir()?;
        let wanted = Wanted {
            tls: true,
            ..Wanted::default()
        };
        let _server = start(folder.path(), &wanted);
        let with = |url: &str, extra: &str| {
            source(&format!(
                "url = {url}\nbase = \"dc=corp\"\npreset = \"rfc2307bis\"\n{extra}\n"
            ))
        };
        let ca = format!("ca_file = {:?}", folder.path().join("tls/ca.pem"));
        let (ldaps, ldap) = (
            format!("\"ldaps://127.0.0.1:{TLS_PORT}\""),
            format!("\"ldap://127.0.0.1:{PORT}\""),
        );
        for source in [
            with(&ldaps, &ca),
            with(&ldap, &format!("starttls = true\n{ca}")),
            with(&format!("[\"ldaps://127.0.0.1:1\", {ldaps}]"), &ca),
        ] {
            assert_eq!(read(&source)?.users().count(), 29);
            assert_eq!(verify(&source, "u1", "Pa55-1"), Verdict::Right);
        }
        let other = folder.path().join("other");
        crate::directory::authority(&other);
        let foreign = format!("ca_file = {:?}", other.join("ca.pem"));
        for (source, says) in [
            (with(&ldaps, ""), "certificate"),
            (with(&ldaps, &foreign), "certificate"),
            (with(&ldap, &format!("starttls = true\n{foreign}")), "certificate"),
            // The certificate is for 127.0.0.1.
            (with(&ldaps.replace("127.0.0.1", "localhost"), &ca), "certificate"),
            // TLS where the server speaks none.
            (with(&ldap.replace("ldap:", "ldaps:"), &ca), "connect"),
            (
                with("[\"ldaps://127.0.0.1:1\", \"ldaps://127.0.0.1:2\"]", &ca),
                "127.0.0.1:2",
            ),
        ] {
            let error = read(&source).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn changes_are_followed_by_content_synchronisation() {
    isolated("slapd::changes_are_followed_by_content_synchronisation", || {
        follows("syncrepl", "overlay syncprov")
    })
    .unwrap();
}

#[test]
fn changes_are_followed_by_a_session_log() {
    let log = "overlay syncprov\nsyncprov-sessionlog 100";
    isolated("slapd::changes_are_followed_by_a_session_log", || {
        follows("syncrepl", log)
    })
    .unwrap();
}

#[test]
fn changes_are_followed_by_times_where_there_is_nothing_better() {
    isolated(
        "slapd::changes_are_followed_by_times_where_there_is_nothing_better",
        || follows("timestamps", ""),
    )
    .unwrap();
}

fn follows(way: &str, database: &str) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let wanted = Wanted {
        database,
        ..Wanted::default()
    };
    let _server = start(folder.path(), &wanted);
    let source = following(&table("full_seconds = 100000"), &folder.path().join("state"));
    assert!(probe(&source)?.ends_with(way), "{}", probe(&source)?);
    let (before, whole) = follow(&source);
    assert!(whole);
    let (same, whole) = follow(&source);
    assert!(!whole, "nothing changed");
    assert_eq!(same, before);
    edit(
        "dn: uid=u3,dc=corp\nchangetype: modify\nreplace: mail\nmail: three@corp.example\n\n\
         dn: uid=u4,dc=corp\nchangetype: modrdn\nnewrdn: uid=four\ndeleteoldrdn: 1\n\n\
         dn: uid=u5,dc=corp\nchangetype: delete\n\n\
         dn: uid=new,dc=corp\nchangetype: add\nobjectClass: inetOrgPerson\nobjectClass: posixAccount\nuid: new\ncn: New\n\
         sn: N\nuidNumber: 9\ngidNumber: 9\nhomeDirectory: /n\n\n\
         dn: cn=eng,dc=corp\nchangetype: modify\nadd: member\nmember: uid=new,dc=corp\n-\ndelete: member\nmember: uid=u1,dc=corp\n",
    );
    let (after, whole) = follow(&source);
    assert!(!whole);
    assert_eq!(id(&after, "four"), id(&before, "u4"), "a rename keeps the id");
    let third = after.users().find(|user| user.name == "u3").unwrap();
    assert_eq!(third.email.as_deref(), Some("three@corp.example"));
    assert_eq!(members(&after)["all"], ["new", "u2", "u9"]);
    assert!(!users(&after).contains(&"u5".to_owned()), "deleted is gone");
    assert_eq!(
        after,
        read(&crate::directory::source(&table("")))?,
        "as a whole read has it"
    );
    // Out of sight without being deleted, and back.
    edit(
        "dn: uid=u6,dc=corp\nchangetype: modify\ndelete: objectClass\nobjectClass: posixAccount\n-\ndelete: uidNumber\n-\n\
          delete: gidNumber\n-\ndelete: homeDirectory\n",
    );
    let (after, whole) = follow(&source);
    assert!(!whole && !users(&after).contains(&"u6".to_owned()));
    // The name of a unit is part of the names of all in it.
    edit(
        "dn: uid=u7,dc=corp\nchangetype: modrdn\nnewrdn: uid=u7\ndeleteoldrdn: 0\nnewsuperior: ou=away,dc=corp\n\n\
          dn: ou=away,dc=corp\nchangetype: modrdn\nnewrdn: ou=gone\ndeleteoldrdn: 1\n",
    );
    let (after, _) = follow(&source);
    assert_eq!(after, read(&crate::directory::source(&table("")))?);
    assert_eq!(id(&after, "u7"), id(&before, "u7"));
    Ok(())
}

/// A way to the server that ends after so many bytes of its answers.
fn cut_after(bytes: usize) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let left = Arc::new(AtomicUsize::new(bytes));
    let budget = Arc::clone(&left);
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = TcpStream::connect(("127.0.0.1", PORT)) else {
                continue;
            };
            let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Write);
            });
            answers(server, client, &budget);
        }
    });
    (port, left)
}

fn answers(mut server: TcpStream, mut client: TcpStream, left: &AtomicUsize) {
    let mut buffer = [0; 512];
    while let Ok(count @ 1..) = server.read(&mut buffer) {
        let may = left.load(Ordering::SeqCst).min(count);
        left.fetch_sub(may, Ordering::SeqCst);
        if client.write_all(&buffer[..may]).is_err() || may < count {
            break;
        }
    }
    let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
}

#[test]
fn a_connection_that_breaks_anywhere_leaves_the_last_good_read() {
    isolated(
        "slapd::a_connection_that_breaks_anywhere_leaves_the_last_good_read",
        || {
            let folder = tempfile::tempdir()?;
            let wanted = Wanted {
                database: "overlay syncprov",
                ..Wanted::default()
            };
            let server = start(folder.path(), &wanted);
            let state = folder.path().join("state");
            let (port, left) = cut_after(usize::MAX);
            let way = table("page = 7").replace(&PORT.to_string(), &port.to_string());
            let source = following(&way, &state);
            let (before, _) = follow(&source);
            edit("dn: uid=u5,dc=corp\nchangetype: delete\n");
            // This one reads everything; whichever byte is the last one, it is no shorter directory.
            let fresh = crate::directory::source(&way);
            left.store(usize::MAX, Ordering::SeqCst);
            read(&fresh)?;
            let used = usize::MAX - left.load(Ordering::SeqCst);
            for cut in (0..used).step_by(used / 25) {
                left.store(cut, Ordering::SeqCst);
                assert!(read(&fresh).is_err(), "cut after {cut} of {used} bytes");
            }
            // The same with one that only asks for changes.
            for cut in (0..400).step_by(50) {
                left.store(cut, Ordering::SeqCst);
                assert!(read(&source).is_err(), "cut after {cut} bytes");
            }
            left.store(usize::MAX, Ordering::SeqCst);
            let (after, whole) = follow(&source);
            assert!(!whole, "what was read last still counts");
            assert_eq!(after.users().count() + 1, before.users().count());
            server.kill()?;
            assert!(read(&source).is_err(), "a server that is gone is no empty directory");
            let path = folder.path().join("slapd.conf");
            let _server = serve(&path);
            assert_eq!(follow(&source).0, after);
            Ok(())
        },
    )
    .unwrap();
}
