//! Name services that ask LDAP for a host's accounts.

use std::time::Duration;

use dirless_e2e::ldap_host::{BASE, LDAPI, LdapHost, people};
use dirless_e2e::site::private;
use dirless_testkit::{Program, Running, eventually, isolated};

/// sssd and nslcd answer a little after they start.
const START: Duration = Duration::from_secs(60);

/// Lets glibc ask `service` and no other for accounts that are not in files.
fn ask_only(service: &str) -> anyhow::Result<()> {
    let text = format!("passwd: files {service}\ngroup: files {service}\nshadow: files\ninitgroups: files {service}\n");
    std::fs::write("/etc/nsswitch.conf", text)?;
    Ok(())
}

fn output(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let outcome = Program::system(program).args(arguments).run()?;
    Ok(outcome.stdout.trim().to_owned())
}

/// What every name service must say, whichever asks.
fn accounts(service: &Running) -> anyhow::Result<()> {
    let alice = eventually(START, "alice by name", || {
        let entry = output("getent", &["passwd", "alice"]).ok()?;
        (!entry.is_empty()).then_some(entry)
    })
    .map_err(|error| anyhow::anyhow!("{error}\n{}", service.log()))?;
    let fields: Vec<&str> = alice.split(':').collect();
    assert_eq!(
        (
            fields.first(),
            fields.get(2),
            fields.get(3),
            fields.get(5),
            fields.get(6)
        ),
        (
            Some(&"alice"),
            Some(&"100001"),
            Some(&"100001"),
            Some(&"/home/alice"),
            Some(&"/bin/bash")
        ),
        "{alice}"
    );
    assert!(output("getent", &["passwd", "100002"])?.starts_with("bob:"));
    assert_eq!(output("getent", &["passwd", "nobody-here"])?, "");
    let crew = output("getent", &["group", "crew"])?;
    let (head, members) = crew.rsplit_once(':').unwrap_or_default();
    let mut members: Vec<&str> = members.split(',').collect();
    members.sort_unstable();
    assert!(head.starts_with("crew:") && head.ends_with(":110001"), "{crew}");
    assert_eq!(members, ["alice", "carol"]);
    let everyone = output("getent", &["group", "110002"])?;
    assert_eq!(everyone.split(',').count(), 32, "{everyone}");
    let mut groups: Vec<String> = output("id", &["-Gn", "alice"])?.split(' ').map(str::to_owned).collect();
    groups.sort();
    assert_eq!(groups, ["alice", "crew", "everyone"], "{}", service.log());
    assert_eq!(output("id", &["-u", "bob"])?, "100002");
    Ok(())
}

#[test]
fn sssd_with_id_provider_ldap() {
    isolated("accounts::sssd_with_id_provider_ldap", || {
        let host = LdapHost::start()?;
        let config = format!(
            "[sssd]\nservices = nss\ndomains = host\n[nss]\nfilter_users = root\n[domain/host]\n\
             id_provider = ldap\nauth_provider = none\naccess_provider = permit\nldap_uri = ldap://127.0.0.1\n\
             ldap_search_base = {BASE}\nldap_schema = rfc2307bis\nldap_id_use_start_tls = false\nmin_id = 1000\n\
             entry_cache_timeout = 1\nldap_deref_threshold = 1\ndebug_level = 7\n"
        );
        private("/etc/sssd/sssd.conf", &config)?;
        for folder in [
            "/var/lib/sss/db",
            "/var/lib/sss/mc",
            "/var/lib/sss/pipes/private",
            "/var/lib/sss/pubconf",
        ] {
            std::fs::create_dir_all(folder)?;
        }
        // Its databases want a file system of their own kind, not a layered one.
        for folder in ["/var/lib/sss/db", "/var/lib/sss/mc"] {
            Program::system("mount")
                .args(["-t", "tmpfs", "sss", folder])
                .succeed()?;
        }
        ask_only("sss")?;
        let sssd = Program::system("/usr/sbin/sssd")
            .args(["-i", "--logger=stderr"])
            .spawn()?;
        accounts(&sssd)?;
        // Members are looked up in one search by the dereference control, not one by one.
        eventually(START, "the dereference control in its log", || {
            sssd.log().contains("OpenLDAP deref").then_some(())
        })?;
        host.world.put("local", &people(&[("dave", 100_050)]))?;
        eventually(START, "dave", || {
            let entry = output("getent", &["passwd", "dave"]).ok()?;
            entry.starts_with("dave:").then_some(())
        })
    })
    .unwrap();
}

#[test]
fn nslcd() {
    isolated("accounts::nslcd", || {
        let _host = LdapHost::start()?;
        let config = format!("uid nslcd\ngid nslcd\nuri {LDAPI}\nbase {BASE}\nnss_initgroups_ignoreusers root\n");
        private("/etc/nslcd.conf", &config)?;
        Program::system("install")
            .args(["-d", "-o", "nslcd", "-g", "nslcd", "/run/nslcd"])
            .succeed()?;
        ask_only("ldap")?;
        let nslcd = Program::system("/usr/sbin/nslcd").arg("-d").spawn()?;
        accounts(&nslcd)?;
        let all = output("getent", &["passwd"])?;
        assert!(all.lines().any(|line| line.starts_with("person28:")), "{all}");
        Ok(())
    })
    .unwrap();
}
