//! A Samba domain controller, standing for Active Directory.

use std::path::{Path, PathBuf};

use dirless_syncer::sources::ldap::Verdict;
use dirless_testkit::{Program, Running, isolated};

use crate::directory::{members, read, secret, source, users, verify};

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
        ];
        let text = std::fs::read_to_string(&path).unwrap();
        let mut lines: Vec<String> = text
            .lines()
            .filter(|line| !ours.iter().any(|key| line.trim().starts_with(key)))
            .map(ToOwned::to_owned)
            .collect();
        let global = lines.iter().position(|line| line.trim() == "[global]").unwrap();
        for (key, value) in [
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
        let domain = |arguments: &[&str]| {
            let config = format!("-s{}", path.display());
            let database = format!("-H{}", folder.join("private/sam.ldb").display());
            tool(&[arguments, &[&config, &database]].concat());
        };
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
        domain(&["user", "disable", "carol"]);
        for group in ["Engineering", "Platform"] {
            domain(&["group", "add", group]);
        }
        domain(&["group", "addmembers", "Platform", "bob,carol"]);
        domain(&["group", "addmembers", "Engineering", "alice,Platform"]);
        domain(&["group", "addmembers", "Domain Admins", "Engineering"]);
        let serve = Program::system("samba").args(["-i", "-M", "single", "-s"]).arg(&path);
        let server = serve.serve_on(389).unwrap();
        Self {
            folder,
            _server: server,
        }
    }

    fn table(&self, url: &str, extra: &str) -> String {
        let password = self.folder.join("password");
        secret(&password, ADMIN);
        format!(
            "url = {url:?}\nbase = \"DC=corp,DC=example,DC=test\"\npreset = \"ad\"\nbind_dn = \"CORP\\\\Administrator\"\n\
             password_file = {password:?}\nnumbers = true\npage = 3\n{extra}\n[roles]\n\"Domain Admins\" = \"owner\"\n"
        )
    }
}

#[test]
fn a_domain_is_read_as_it_is() {
    isolated("samba::a_domain_is_read_as_it_is", || {
        let folder = tempfile::tempdir()?;
        let domain = Domain::start(folder.path());
        let source = source(&domain.table("ldap://127.0.0.1", "permit_plain = true"));
        let directory = read(&source)?;
        let names = users(&directory);
        assert!(
            names.contains(&"alice".to_owned()) && !names.contains(&"carol".to_owned()),
            "{names:?}"
        );
        let groups = members(&directory);
        assert_eq!(groups["Engineering"], ["alice", "bob"]);
        assert_eq!(groups["Domain Admins"], ["Administrator", "alice", "bob"]);
        assert!(
            groups["Domain Users"].contains(&"alice".to_owned()),
            "by primaryGroupID: {groups:?}"
        );
        let alice = directory.users().find(|user| user.name == "alice").unwrap();
        assert_eq!((alice.posix.uid, alice.posix.gid), (Some(10001), Some(10000)));
        assert_eq!(alice.posix.shell.as_deref(), Some("/bin/zsh"));
        assert!(directory.roles(&alice.id).contains("owner"));
        assert_eq!(verify(&source, "alice", "alice-Passw0rd-1"), Verdict::Right);
        assert_eq!(verify(&source, "alice", "wrong"), Verdict::Wrong);
        assert_eq!(verify(&source, "carol", "carol-Passw0rd-1"), Verdict::Wrong);
        // Its certificate is its own: TLS to it must fail unless an authority is named.
        let strict = crate::directory::source(&domain.table("ldap://127.0.0.1", "starttls = true"));
        let error = read(&strict).unwrap_err().to_string();
        assert!(error.contains("connect"), "{error}");
        Ok(())
    })
    .unwrap();
}
