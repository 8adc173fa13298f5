//! What a client learns about the people of a host.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use dirless_testkit::{Program, eventually};

use crate::support::{BASE, Host, count, tool};

#[test]
fn people_and_groups_are_found_by_what_they_are_known_by() {
    let host = Host::new();
    host.publish(50, "/bin/bash");
    let server = host.serve("");
    let by = |filter: &str| server.search(&["-b", BASE, filter, "1.1"]);
    for (filter, dn) in [
        ("(uid=user7)", "uid=user7,ou=users,"),
        ("(&(objectClass=posixAccount)(uidNumber=100007))", "uid=user7,ou=users,"),
        ("(&(objectClass=posixGroup)(gidNumber=3001))", "cn=even,ou=groups,"),
        ("(&(objectClass=posixGroup)(cn=EVERYONE))", "cn=everyone,ou=groups,"),
    ] {
        assert_eq!(by(filter).trim(), format!("dn: {dn}{BASE}"), "{filter}");
    }
    let user = format!("uid=user8,ou=users,{BASE}");
    for filter in [
        format!("(&(objectClass=posixGroup)(member={user}))"),
        "(&(objectClass=posixGroup)(memberUid=user8))".to_owned(),
        format!("(|(member={user})(memberUid=user8))"),
    ] {
        assert_eq!(count(&by(&filter)), 2, "{filter}");
    }
    assert_eq!(count(&by(&format!("(memberOf=cn=even,ou=groups,{BASE})"))), 25);
    assert_eq!(count(&by("(uidNumber>=100048)")), 2);
    assert_eq!(count(&by("(uid=user4*)")), 11);
    assert_eq!(count(&by("(!(objectClass=posixAccount))")), 5);
    let group = server.search(&["-b", BASE, "(cn=everyone)"]);
    assert_eq!(group.lines().filter(|line| line.starts_with("member: ")).count(), 50);
    assert_eq!(group.lines().filter(|line| line.starts_with("memberUid: ")).count(), 50);
    let one = server.search(&["-b", &user, "-s", "base", "*", "+"]);
    for line in [
        "uid: user8",
        "gecos: Person Number 8",
        "sn: 8",
        "loginShell: /bin/bash",
        "homeDirectory: /home/user8",
        "objectClass: inetOrgPerson",
        "hasSubordinates: FALSE",
        "modifiersName: cn=dirless",
        &format!("entryDN: {user}"),
    ] {
        assert!(one.lines().any(|held| held == line), "{line} is not in\n{one}");
    }
    assert_eq!(one.matches("memberOf: ").count(), 2);
    assert!(one.contains("sshPublicKey: ssh-ed25519 AAAA") && one.contains("entryUUID: "));
    let root = server.search(&["-b", "", "-s", "base", "+"]);
    assert!(root.contains(&format!("namingContexts: {BASE}\n")), "{root}");
}

#[test]
fn a_dump_has_everyone_once_paged_and_not() {
    let host = Host::new();
    host.publish(3000, "/bin/bash");
    let server = host.serve("");
    let mut whole: Vec<String> = dns(&server.search(&["-b", BASE, "1.1"]));
    let mut paged = dns(&server.search(&["-E", "pr=500/noprompt", "-b", BASE, "1.1"]));
    let mut people = dns(&server.search(&["-b", BASE, "(objectClass=posixAccount)", "1.1"]));
    for list in [&mut whole, &mut paged, &mut people] {
        list.sort();
        let found = list.len();
        list.dedup();
        assert_eq!(found, list.len(), "an entry came twice");
    }
    assert_eq!(whole.len(), 3005);
    assert_eq!(whole, paged);
    assert_eq!(people.len(), 3000);
    let level = server.search(&["-b", &format!("ou=users,{BASE}"), "-s", "one", "1.1"]);
    assert_eq!(count(&level), 3000);
    assert_eq!(count(&server.search(&["-b", BASE, "-s", "one", "1.1"])), 2);
}

fn dns(ldif: &str) -> Vec<String> {
    ldif.lines()
        .filter(|line| line.starts_with("dn: "))
        .map(str::to_owned)
        .collect()
}

#[test]
fn nobody_writes_here_and_what_is_not_there_is_told_as_such() {
    let host = Host::new();
    host.publish(3, "/bin/bash");
    let server = host.serve("");
    let url = server.url();
    let outcome = tool("ldapdelete", &["-x", "-H", &url, &format!("uid=user1,ou=users,{BASE}")])
        .run()
        .unwrap();
    assert_eq!(outcome.code(), 53, "unwillingToPerform: {outcome:?}");
    let missing = server.try_search(&["-b", &format!("uid=nobody,ou=users,{BASE}"), "-s", "base"]);
    assert_eq!(missing.code(), 32);
    assert!(
        missing.stderr.contains(&format!("Matched DN: ou=users,{BASE}")),
        "{missing:?}"
    );
    let compared = tool("ldapcompare", &["-x", "-H", &url])
        .args([
            &format!("cn=everyone,ou=groups,{BASE}"),
            &format!("member:uid=user1,ou=users,{BASE}"),
        ])
        .run()
        .unwrap();
    assert_eq!(compared.code(), 6, "compareTrue: {compared:?}");
}

#[test]
fn a_process_of_this_host_is_known_by_the_kernel() {
    let host = Host::new();
    host.publish(3, "/bin/bash");
    let server = host.serve("");
    let mode = fs::metadata(&server.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o666, "everyone on the host may ask");
    let who = tool("ldapwhoami", &["-Q", "-Y", "EXTERNAL", "-H", &server.ldapi()])
        .succeed()
        .unwrap();
    assert_eq!(who.trim(), "dn:gidNumber=0+uidNumber=0,cn=peercred,cn=external,cn=auth");
    // A user of the directory is their entry.
    let program = format!(
        "import os,sys; os.chown({socket:?}, 100001, 100001); os.setuid(100001); \
         os.execvp('ldapwhoami', ['ldapwhoami','-Q','-Y','EXTERNAL','-H',{url:?}])",
        socket = server.socket,
        url = server.ldapi()
    );
    let folder = host.folder.path();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    let who = Program::system("/usr/bin/python3")
        .args(["-c", &program])
        .succeed()
        .unwrap();
    assert_eq!(who.trim(), format!("dn:uid=user1,ou=users,{BASE}"));
    let closed = host.serve("refuse_anonymous = true");
    assert_eq!(closed.try_search(&["-b", BASE]).code(), 8, "strongerAuthRequired");
    let found = tool(
        "ldapsearch",
        &["-Q", "-LLL", "-Y", "EXTERNAL", "-H", &closed.ldapi(), "-b", BASE],
    )
    .succeed()
    .unwrap();
    assert_eq!(count(&found), 8);
}

#[test]
fn without_a_copy_it_says_so_and_takes_it_up_when_there_is_one() {
    let host = Host::new();
    let server = host.serve("");
    // It describes itself, and is otherwise unavailable: that is no empty directory.
    assert!(
        server
            .search(&["-b", "", "-s", "base", "+"])
            .contains("supportedLDAPVersion: 3")
    );
    assert_eq!(server.try_search(&["-b", BASE]).code(), 52);
    host.publish(5, "/bin/bash");
    let limit = std::time::Duration::from_secs(60);
    eventually(limit, "the copy to be served", || {
        (server.try_search(&["-b", BASE, "1.1"]).code() == 0).then_some(())
    })
    .unwrap();
    assert_eq!(count(&server.search(&["-b", BASE, "1.1"])), 10);
    let log = server.running.log();
    assert_eq!(log.matches("cannot be opened").count(), 1, "told once: {log}");
    let outcome = server.running.stop().unwrap();
    assert!(outcome.status.success(), "{outcome:?}");
}
