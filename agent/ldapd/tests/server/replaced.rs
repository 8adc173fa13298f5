//! A newer copy comes while clients are served.

use std::time::Duration;

use dirless_testkit::eventually;
use ldap3_proto::control::LdapControl;
use ldap3_proto::proto::{LdapOp, SyncRequestMode, SyncStateValue};

use crate::support::{BASE, Client, Host, bytes, count, search, with_control};

const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until the server answers from the newest copy: `shell` is everybody's shell.
fn served(client: &mut Client, shell: &str) {
    let mut id = 1_000_000;
    eventually(PATIENCE, "the newer copy to be served", || {
        id += 1;
        (client.count(id, &format!("(&(uid=user1)(loginShell={shell}))")) == 1).then_some(())
    })
    .unwrap();
}

#[test]
fn connections_stay_and_running_searches_finish_when_the_copy_is_replaced() {
    let host = Host::new();
    host.publish(2000, "/bin/one");
    let server = host.serve("");
    let mut client = server.client();
    assert_eq!(client.count(1, "(uid=user7)"), 1);
    // Dumps that are under way, for their answers are not read yet.
    let mut slow = server.client();
    for id in 1..=20 {
        slow.send(search(id, "(objectClass=posixAccount)"));
    }
    for (round, shell) in ["/bin/two", "/bin/three", "/bin/four"].into_iter().enumerate() {
        let summary = host.publish(2000, shell);
        assert_eq!(
            (summary.added, summary.changed, summary.deleted),
            (0, 2000, 0),
            "{round}"
        );
        served(&mut client, shell);
    }
    slow.drain(20, 2000);
    assert_eq!(client.count(2, "(uid=user1999)"), 1);
    let log = server.running.log();
    assert!(!log.contains("ERROR") && !log.contains("WARN"), "{log}");
}

#[test]
fn a_copy_that_goes_away_or_breaks_leaves_the_last_one_served() {
    let host = Host::new();
    host.publish(10, "/bin/one");
    let server = host.serve("");
    let mut client = server.client();
    assert_eq!(client.count(1, "(uid=user7)"), 1);
    std::fs::remove_file(host.copy()).unwrap();
    eventually(PATIENCE, "its absence to be noticed", || {
        server.running.log().contains("cannot be opened").then_some(())
    })
    .unwrap();
    assert_eq!(client.count(2, "(uid=user7)"), 1);
    assert_eq!(server.client().count(1, "(objectClass=posixAccount)"), 10);
    std::fs::write(host.copy(), "no database").unwrap();
    assert_eq!(client.count(3, "(uid=user7)"), 1);
    host.publish(11, "/bin/two");
    served(&mut client, "/bin/two");
    assert_eq!(client.count(4, "(objectClass=posixAccount)"), 11);
}

fn sync(id: i32, mode: SyncRequestMode, cookie: Option<&str>) -> ldap3_proto::LdapMsg {
    let control = LdapControl::SyncRequest {
        criticality: true,
        mode,
        cookie: cookie.map(|cookie| cookie.as_bytes().to_vec()),
        reload_hint: false,
    };
    with_control(search(id, "(objectClass=posixAccount)"), control)
}

/// Names and states of the entries that came.
fn states(messages: &[ldap3_proto::LdapMsg]) -> Vec<(String, &'static str)> {
    let state = |control: &LdapControl| match control {
        LdapControl::SyncState { state, .. } => Some(match state {
            SyncStateValue::Present => "present",
            SyncStateValue::Add => "add",
            SyncStateValue::Modify => "modify",
            SyncStateValue::Delete => "delete",
        }),
        _ => None,
    };
    let entry = |message: &ldap3_proto::LdapMsg| match &message.op {
        LdapOp::SearchResultEntry(entry) => Some((entry.dn.clone(), message.ctrl.iter().find_map(state)?)),
        _ => None,
    };
    messages.iter().filter_map(entry).collect()
}

#[test]
fn a_consumer_that_stays_is_told_of_every_newer_copy_and_one_that_comes_back_of_what_it_missed() {
    let host = Host::new();
    host.publish(20, "/bin/one");
    let server = host.serve("");
    let mut once = server.client();
    once.send(sync(1, SyncRequestMode::RefreshOnly, None));
    let first = once.until_done(1);
    assert_eq!(states(&first).len(), 20);
    let Some(LdapControl::SyncDone { cookie, .. }) = first.last().unwrap().ctrl.first() else {
        panic!("no cookie");
    };
    let cookie = String::from_utf8(cookie.clone().unwrap()).unwrap();
    let mut stays = server.client();
    stays.send(sync(1, SyncRequestMode::RefreshAndPersist, Some(&cookie)));
    // The refresh phase ends with an intermediate message: nothing has changed yet.
    assert!(matches!(stays.receive().unwrap().op, LdapOp::IntermediateResponse(_)));
    // Groups change too, but are not of the content: whatever is told of them, they are not there.
    let mut next_of_user = || loop {
        let told = states(&[stays.receive().unwrap()]);
        match told.first() {
            Some((dn, _)) if dn.starts_with("uid=") => return told,
            Some((dn, state)) => assert_eq!(*state, "delete", "{dn}"),
            None => panic!("neither an entry nor its end"),
        }
    };
    host.publish(21, "/bin/one");
    assert_eq!(next_of_user(), [(format!("uid=user20,ou=users,{BASE}"), "add")]);
    host.publish(20, "/bin/one");
    assert_eq!(next_of_user(), [(format!("uid=user20,ou=users,{BASE}"), "delete")]);
    // The one who comes back hears what is different from what it has.
    host.publish(20, "/bin/two");
    let mut other = server.client();
    served(&mut other, "/bin/two");
    once.stream.set_nonblocking(false).unwrap();
    once.send(sync(2, SyncRequestMode::RefreshOnly, Some(&cookie)));
    let again = once.until_done(2);
    let changed = states(&again);
    assert_eq!(changed.len(), 20, "{changed:?}");
    assert!(changed.iter().all(|(_, state)| *state == "modify"), "{changed:?}");
    // A cookie of another series gets everything.
    once.send(sync(3, SyncRequestMode::RefreshOnly, Some("elsewhere#1")));
    assert_eq!(states(&once.until_done(3)).len(), 20);
}

#[test]
fn ldapsearch_replicates() {
    let host = Host::new();
    host.publish(7, "/bin/one");
    let server = host.serve("");
    let found = server.search(&["-E", "!sync=ro", "-b", BASE, "(objectClass=posixAccount)", "1.1"]);
    assert_eq!(count(&found), 7);
    // What is sent in one write is there for whoever reads it bytewise.
    let mut client = server.client();
    client.stream.set_nodelay(true).unwrap();
    for byte in bytes(search(1, "(uid=user3)")) {
        std::io::Write::write_all(&mut client.stream, &[byte]).unwrap();
    }
    assert_eq!(client.until_done(1).len(), 2);
}
