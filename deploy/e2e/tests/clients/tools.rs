//! OpenLDAP's tools, and Apache.

use dirless_e2e::ldap_host::{BASE, LDAPI, LdapHost, PASSWORD, search};
use dirless_testkit::{Outcome, Program, isolated};

fn tool(name: &str, arguments: &[&str]) -> anyhow::Result<Outcome> {
    Program::system(name)
        .env("LDAPNOINIT", "1")
        .args(["-H", LDAPI])
        .args(arguments)
        .run()
}

#[test]
fn ldap_utils() {
    isolated("tools::ldap_utils", || {
        let _host = LdapHost::start()?;
        let alice = format!("uid=alice,ou=users,{BASE}");
        let found = search(&["(uid=alice)", "*", "+"])?;
        for line in [
            "uidNumber: 100001",
            "homeDirectory: /home/alice",
            "mail: alice@example.com",
            "objectClass: aitherUser",
            &format!("memberOf: cn=crew,ou=groups,{BASE}"),
            "modifiersName: cn=dirless",
        ] {
            assert!(found.lines().any(|held| held == line), "{line} is not in\n{found}");
        }
        assert!(!found.contains("userPassword"), "{found}");
        assert!(search(&["(objectClass=aitherService)"])?.contains("cn: web"));
        // Sorted, in pages, and both.
        let sorted = search(&["-E", "sss=-uidNumber", "(objectClass=posixAccount)", "uidNumber"])?;
        let numbers: Vec<&str> = sorted.lines().filter(|line| line.starts_with("uidNumber")).collect();
        assert!(
            numbers.len() == 32 && numbers.is_sorted_by(|one, other| one >= other),
            "{sorted}"
        );
        let paged = search(&["-E", "pr=5/noprompt", "(objectClass=posixAccount)", "1.1"])?;
        assert_eq!(paged.matches("dn: uid=").count(), 32);
        let synced = search(&["-E", "!sync=ro", "(objectClass=posixAccount)", "1.1"])?;
        assert_eq!(synced.matches("dn: uid=").count(), 32);
        // Who asks, and what is right.
        let who = tool("ldapwhoami", &["-x", "-D", &alice, "-w", PASSWORD])?;
        assert_eq!(who.stdout.trim(), format!("dn:{alice}"), "{who:?}");
        assert_eq!(tool("ldapwhoami", &["-x", "-D", &alice, "-w", "wrong"])?.code(), 49);
        let who = Program::system("setpriv")
            .args(["--reuid=100002", "--regid=100002", "--clear-groups", "--"])
            .args(["ldapwhoami", "-Q", "-Y", "EXTERNAL", "-H", LDAPI])
            .succeed()?;
        assert_eq!(who.trim(), format!("dn:uid=bob,ou=users,{BASE}"));
        let crew = format!("cn=crew,ou=groups,{BASE}");
        for (assertion, code) in [("memberUid:alice", 6), ("memberUid:bob", 5), ("mail:x", 16)] {
            assert_eq!(
                tool("ldapcompare", &["-x", &crew, assertion])?.code(),
                code,
                "{assertion}"
            );
        }
        let written = tool("ldapmodify", &["-x", "-D", &alice, "-w", PASSWORD, "-f", "/dev/null"])?;
        assert!(written.status.success());
        assert_eq!(tool("ldapdelete", &["-x", &crew])?.code(), 53, "unwillingToPerform");
        Ok(())
    })
    .unwrap();
}

const HTTPD: &str = r#"
ServerRoot /srv/httpd
ServerName localhost
PidFile /srv/httpd/pid
ErrorLog /dev/stderr
Listen 127.0.0.1:8080
User www-data
Group www-data
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authn_core_module /usr/lib/apache2/modules/mod_authn_core.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule authz_user_module /usr/lib/apache2/modules/mod_authz_user.so
LoadModule auth_basic_module /usr/lib/apache2/modules/mod_auth_basic.so
LoadModule ldap_module /usr/lib/apache2/modules/mod_ldap.so
LoadModule authnz_ldap_module /usr/lib/apache2/modules/mod_authnz_ldap.so
DocumentRoot /srv/httpd/www
<Location "/">
    AuthType Basic
    AuthName "crew"
    AuthBasicProvider ldap
    AuthLDAPURL "ldap://127.0.0.1/ou=users,dc=example,dc=com?uid?sub?(objectClass=posixAccount)"
    AuthLDAPGroupAttribute member
    AuthLDAPGroupAttributeIsDN on
    Require ldap-group cn=crew,ou=groups,dc=example,dc=com
</Location>
<Location "/mail">
    AuthMerging Off
    AuthType Basic
    AuthName "mail"
    AuthBasicProvider ldap
    AuthLDAPURL "ldap://127.0.0.1/dc=example,dc=com?mail?sub?(objectClass=aitherUser)"
    Require ldap-attribute uidNumber=100002
</Location>
"#;

#[test]
fn apache_mod_authnz_ldap() {
    isolated("tools::apache_mod_authnz_ldap", || {
        let _host = LdapHost::start()?;
        std::fs::create_dir_all("/srv/httpd/www")?;
        std::fs::write("/srv/httpd/www/index.html", "for crew\n")?;
        std::fs::write("/srv/httpd/www/mail", "for bob\n")?;
        std::fs::write("/srv/httpd/conf", HTTPD)?;
        let apache = Program::system("apache2")
            .args(["-f", "/srv/httpd/conf", "-DFOREGROUND"])
            .serve_on(8080)?;
        let get = |path: &str, who: &str| -> anyhow::Result<String> {
            Program::system("curl")
                .args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "-u", who])
                .arg(format!("http://127.0.0.1:8080{path}"))
                .succeed()
        };
        for (path, who, status) in [
            ("/index.html", "alice:correct horse", "200"),
            // Once more: from its cache, and by a search and a bind on one connection.
            ("/index.html", "alice:correct horse", "200"),
            ("/index.html", "alice:wrong", "401"),
            ("/index.html", "bob:correct horse", "401"),
            ("/index.html", "nobody:correct horse", "401"),
            ("/index.html", "*:correct horse", "401"),
            ("/mail", "bob@example.com:correct horse", "200"),
            ("/mail", "alice@example.com:correct horse", "401"),
        ] {
            assert_eq!(get(path, who)?, status, "{path} as {who}: {}", apache.log());
        }
        Ok(())
    })
    .unwrap();
}
