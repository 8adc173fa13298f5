//! A Samba domain controller, standing for Active Directory.

use std::path::{Path, PathBuf};

use dirless_syncer::sources::ldap::{Verdict, Who};
use dirless_testkit::{Program, Running, isolated};

use crate::directory::{follow, following, id, members, probe, read, secret, source, users, verify, verify_who};

const ADMIN: &str = "Adm1n-Passw0rd";

struct Domain {
    folder: PathBuf,
    _server: Running,
}

fn tool(arguments: &[&str]) -> String {
    Program::system("samba-tool").args(arguments).succeed().unwrap()
}

impl Domain {
    fn start(folder: &Path) -> Self {
        let folder = folder.join("ad");
        let target = format!("--targetdir={}", folder.display());
        tool(&[
            "domain",
            "provision",
            "--realm=CORP.EXAMPLE.TEST",
            "--domain=CORP",
            "--server-role=dc",
            "--dns-backend=NONE",
            &format!("--adminpass={ADMIN}"),
            "--host-name=dc1",
            "--host-ip=127.0.0.1",
            &target,
            "--use-rfc2307",
            "--option=interfaces=lo",
            "--option=bind interfaces only=yes",
        ]);
        let path = folder.join("etc/smb.conf");
        let ours = [
            "pid directory",
            "ncalrpc dir",
            "log file",
            "server services",
            "ldap server require",
            "tls ",
        ];
        let text = std::fs::read_to_string(&path).unwrap();
        let mut lines: Vec<String> = text
            .lines()
            .filter(|line| !ours.iter().any(|key| line.trim().starts_with(key)))
            .map(ToOwned::to_owned)
            .collect();
        let global = lines.iter().position(|line| line.trim() == "[global]").unwrap();
        crate::directory::authority(&folder.join("tls"));
        for (key, value) in [
            ("tls cafile", "tls/ca.pem"),
            ("tls certfile", "tls/cert.pem"),
            ("tls keyfile", "tls/key.pem"),
            ("pid directory", "run"),
            ("ncalrpc dir", "ncalrpc"),
            ("log file", "log/log.%m"),
        ] {
            lines.insert(global + 1, format!("{key} = {}", folder.join(value).display()));
        }
        lines.insert(global + 1, "server services = ldap, cldap, kdc, rpc".to_owned());
        lines.insert(global + 1, "ldap server require strong auth = no".to_owned());
        std::fs::write(&path, lines.join("\n")).unwrap();
        for name in ["run", "ncalrpc", "log"] {
            std::fs::create_dir_all(folder.join(name)).unwrap();
        }
        let domain = |arguments: &[&str]| administer(&folder, arguments);
        for (user, number) in [("alice", "10001"), ("bob", "10002"), ("carol", "10003")] {
            let password = format!("{user}-Passw0rd-1");
            let number = format!("--uid-number={number}");
            domain(&[
                "user",
                "create",
                user,
                &password,
                &number,
                "--gid-number=10000",
                "--login-shell=/bin/zsh",
            ]);
        }
        domain(&["user", "create", "reader", "Read3r-Passw0rd"]);
        domain(&["user", "disable", "carol"]);
        for group in ["Engineering", "Platform", "Wide"] {
            domain(&["group", "add", group]);
        }
        domain(&["group", "addmembers", "Platform", "bob,carol"]);
        domain(&["group", "addmembers", "Engineering", "alice,Platform"]);
        domain(&["group", "addmembers", "Domain Admins", "Engineering"]);
        domain(&["group", "addmembers", "Wide", "alice,bob,carol,reader,Platform"]);
        let serve = Program::system("samba").args(["-i", "-M", "single", "-s"]).arg(&path);
        let server = serve.serve_on(389).unwrap();
        Self {
            folder,
            _server: server,
        }
    }

    fn administer(&self, arguments: &[&str]) {
        administer(&self.folder, arguments);
    }

    fn table(&self, url: &str, extra: &str) -> String {
        self.table_as("Administrator", ADMIN, url, extra)
    }

    fn table_as(&self, user: &str, text: &str, url: &str, extra: &str) -> String {
        let password = self.folder.join(format!("password-{user}"));
        secret(&password, text);
        format!(
            "url = {url:?}\nbase = \"DC=corp,DC=example,DC=test\"\npreset = \"ad\"\nbind_dn = \"CORP\\\\{user}\"\n\
             password_file = {password:?}\nnumbers = true\npage = 3\n{extra}\n[roles]\n\"Domain Admins\" = \"owner\"\n"
        )
    }
}

/// Edits the domain, the server running or not.
fn administer(folder: &Path, arguments: &[&str]) {
    let config = format!("-s{}", folder.join("etc/smb.conf").display());
    let database = format!("-H{}", folder.join("private/sam.ldb").display());
    tool(&[arguments, &[&config, &database]].concat());
}

const PLAIN: &str = "ldap://127.0.0.1";

#[test]
fn a_domain_is_read_and_followed_as_it_is() {
    isolated("samba::a_domain_is_read_and_followed_as_it_is", || {
        let folder = tempfile::tempdir()?;
        let domain = Domain::start(folder.path());
        reads(&domain);
        protected(&domain);
        follows(&domain, &folder.path().join("dirsync"), "dirsync", None);
        follows(&domain, &folder.path().join("timestamps"), "timestamps", Some("bob2"));
        Ok(())
    })
    .unwrap();
}

fn reads(domain: &Domain) {
    let source = source(&domain.table(PLAIN, "permit_plain = true\nmembers_page = 2"));
    let directory = read(&source).unwrap();
    let names = users(&directory);
    assert!(
        names.contains(&"alice".to_owned()) && !names.contains(&"carol".to_owned()),
        "{names:?}"
    );
    let groups = members(&directory);
    assert_eq!(groups["Engineering"], ["alice", "bob"]);
    assert_eq!(groups["Domain Admins"], ["Administrator", "alice", "bob"]);
    assert_eq!(groups["Wide"], ["alice", "bob", "reader"], "two members at a time");
    assert!(
        groups["Domain Users"].contains(&"alice".to_owned()),
        "by primaryGroupID: {groups:?}"
    );
    let alice = directory.users().find(|user| user.name == "alice").unwrap();
    assert_eq!((alice.posix.uid, alice.posix.gid), (Some(10001), Some(10000)));
    assert_eq!(alice.posix.shell.as_deref(), Some("/bin/zsh"));
    assert!(directory.roles(&alice.id).contains("owner"));
    let expanded = crate::directory::source(&domain.table(PLAIN, "permit_plain = true\nnested = \"expand\""));
    assert_eq!(
        members(&read(&expanded).unwrap()),
        groups,
        "the server and we resolve groups alike"
    );
    assert_eq!(verify(&source, "alice", "alice-Passw0rd-1"), Verdict::Right);
    assert_eq!(
        verify(&source, "alice@corp.example.test", "alice-Passw0rd-1"),
        Verdict::Right
    );
    assert_eq!(
        verify_who(&source, &Who::Id(alice.id.clone()), "alice-Passw0rd-1"),
        Verdict::Right
    );
    let dn = Who::Dn("cn=ALICE,CN=Users,DC=corp,DC=example,DC=test".to_owned());
    assert_eq!(verify_who(&source, &dn, "alice-Passw0rd-1"), Verdict::Right);
    assert_eq!(verify_who(&source, &dn, "wrong"), Verdict::Wrong);
    for (user, password) in [
        ("alice", "wrong"),
        ("alice", ""),
        ("carol", "carol-Passw0rd-1"),
        ("nobody", "x"),
        ("*", "x"),
    ] {
        assert_eq!(verify(&source, user, password), Verdict::Wrong, "{user}");
    }
    let wrong = crate::directory::source(&domain.table_as("reader", "wrong", PLAIN, "permit_plain = true"));
    let error = read(&wrong).unwrap_err().to_string();
    assert!(
        error.contains("refused the bind") && error.contains("bind_dn"),
        "{error}"
    );
}

fn protected(domain: &Domain) {
    let ca = format!("ca_file = {:?}", domain.folder.join("tls/ca.pem"));
    let starttls = source(&domain.table(PLAIN, &format!("starttls = true\n{ca}")));
    assert!(users(&read(&starttls).unwrap()).contains(&"alice".to_owned()));
    assert_eq!(verify(&starttls, "alice", "alice-Passw0rd-1"), Verdict::Right);
    let ldaps = source(&domain.table("ldaps://127.0.0.1", &ca));
    assert!(users(&read(&ldaps).unwrap()).contains(&"alice".to_owned()));
    // Without its authority the server could be anybody.
    for (url, extra) in [("ldap://127.0.0.1", "starttls = true"), ("ldaps://127.0.0.1", "")] {
        let error = read(&source(&domain.table(url, extra))).unwrap_err().to_string();
        assert!(error.contains("connect") && error.contains("certificate"), "{error}");
    }
}

/// Changes the domain and sees each change without reading everything. `renamed` is what bob was
/// called before, when an earlier round has renamed him.
fn follows(domain: &Domain, state: &Path, way: &str, renamed: Option<&str>) {
    let bob = renamed.unwrap_or("bob");
    // Only the administrator may ask for DirSync; a plain user finds changes by their numbers.
    let table = match way {
        "dirsync" => domain.table(PLAIN, "permit_plain = true"),
        _ => domain.table_as(
            "reader",
            "Read3r-Passw0rd",
            PLAIN,
            "permit_plain = true\nincremental = \"timestamps\"",
        ),
    };
    let source = following(&table, state);
    assert!(probe(&source).unwrap().ends_with(way), "{}", probe(&source).unwrap());
    let (before, whole) = follow(&source);
    assert!(whole);
    let (same, whole) = follow(&source);
    assert!(!whole);
    assert_eq!(same, before);
    let next = format!("{bob}2");
    domain.administer(&["user", "rename", bob, &format!("--samaccountname={next}")]);
    domain.administer(&["user", "create", "dora", "D0ra-Passw0rd"]);
    domain.administer(&["group", "addmembers", "Platform", "dora"]);
    let (after, whole) = follow(&source);
    assert!(!whole);
    assert_eq!(id(&after, &next), id(&before, bob), "a rename keeps the id");
    assert_eq!(
        members(&after)["Engineering"],
        ["alice", &next, "dora"],
        "also through the inner group"
    );
    domain.administer(&["user", "delete", "dora"]);
    domain.administer(&["user", "disable", "alice"]);
    let (last, whole) = follow(&source);
    assert!(!whole);
    assert_eq!(members(&last)["Engineering"], [next.as_str()]);
    assert!(!users(&last).contains(&"dora".to_owned()) && !users(&last).contains(&"alice".to_owned()));
    domain.administer(&["user", "enable", "alice"]);
    let (last, _) = follow(&source);
    assert_eq!(
        last,
        read(&crate::directory::source(&table)).unwrap(),
        "as a whole read has it"
    );
}
