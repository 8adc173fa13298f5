//! Consumers (RFC 4533).

use ldap3_proto::control::LdapControl;
use ldap3_proto::proto::{LdapIntermediateResponse, LdapMsg, LdapOp, SyncRequestMode, SyncStateValue};

use crate::limits::search;
use crate::support::{BASE, Client, Server, entry, user};

fn request(id: i32, mode: SyncRequestMode, cookie: Option<&str>) -> LdapMsg {
    let mut message = search(id, "(objectClass=posixAccount)");
    message.ctrl.push(LdapControl::SyncRequest {
        criticality: true,
        mode,
        cookie: cookie.map(|cookie| cookie.as_bytes().to_vec()),
        reload_hint: false,
    });
    message
}

fn states(messages: &[LdapMsg]) -> Vec<(String, u8)> {
    messages
        .iter()
        .filter_map(|message| match (&message.op, message.ctrl.first()) {
            (LdapOp::SearchResultEntry(entry), Some(LdapControl::SyncState { state, .. })) => {
                let state = match state {
                    SyncStateValue::Present => 0,
                    SyncStateValue::Add => 1,
                    SyncStateValue::Modify => 2,
                    SyncStateValue::Delete => 3,
                };
                Some((entry.dn.clone(), state))
            }
            _ => None,
        })
        .collect()
}

fn done(messages: &[LdapMsg]) -> (String, bool) {
    match messages.last().unwrap().ctrl.first() {
        Some(LdapControl::SyncDone {
            cookie,
            refresh_deletes,
        }) => (
            String::from_utf8(cookie.clone().unwrap_or_default()).unwrap(),
            *refresh_deletes,
        ),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_refresh_brings_all_and_the_next_one_what_changed() {
    let server = Server::start();
    let mut client = server.client();
    client.send(request(1, SyncRequestMode::RefreshOnly, None));
    let first = client.until_done(1);
    assert_eq!(states(&first).len(), 10);
    let (cookie, deletes) = done(&first);
    assert!(!deletes);

    let dn = |number| user(number).dn().clone();
    server.memory.put(&user(50));
    server.memory.put(&user(3));
    server.memory.remove(&dn(4));
    // This one is still there, but not of the content any more.
    server.memory.put(&entry(
        &dn(5).to_string(),
        &[
            ("objectClass", "account"),
            ("uid", "user5"),
            ("entryUUID", "00000000-0000-4000-8000-000000000005"),
        ],
    ));
    client.send(request(2, SyncRequestMode::RefreshOnly, Some(&cookie)));
    let second = client.until_done(2);
    assert_eq!(states(&second), [(dn(50).to_string(), 1), (dn(3).to_string(), 2)]);
    let deleted: Vec<String> = second
        .iter()
        .filter_map(|message| match &message.op {
            LdapOp::IntermediateResponse(LdapIntermediateResponse::SyncInfoIdSet {
                refresh_deletes: true,
                syncuuids,
                ..
            }) => Some(syncuuids.iter().map(ToString::to_string)),
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(
        deleted,
        [
            "00000000-0000-4000-8000-000000000004",
            "00000000-0000-4000-8000-000000000005"
        ]
    );
    let (newer, deletes) = done(&second);
    assert!(deletes && newer != cookie);

    // Nothing happened; then a cookie of another directory, which brings everything again.
    client.send(request(3, SyncRequestMode::RefreshOnly, Some(&newer)));
    assert!(states(&client.until_done(3)).is_empty());
    for foreign in ["other#3", "memory#999999", "nonsense", ""] {
        client.send(request(4, SyncRequestMode::RefreshOnly, Some(foreign)));
        let all = client.until_done(4);
        assert_eq!(states(&all).len(), 9 + 1 - 1, "{foreign}");
        assert!(!done(&all).1);
    }
}

#[test]
fn a_consumer_that_stays_is_told_at_once() {
    let server = Server::start();
    let mut client = server.client();
    client.send(request(1, SyncRequestMode::RefreshAndPersist, None));
    let mut refreshed = 0;
    loop {
        match client.receive().expect("an answer").op {
            LdapOp::SearchResultEntry(_) => refreshed += 1,
            LdapOp::IntermediateResponse(LdapIntermediateResponse::SyncInfoRefreshPresent { done, .. }) => {
                // The library drops the cookie when refreshDone is left out, which is its default.
                assert!(done);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(refreshed, 10);
    let next = |client: &mut Client| states(&[client.receive().expect("a change")]);
    server.memory.put(&user(60));
    assert_eq!(next(&mut client), [(user(60).dn().to_string(), 1)]);
    server.memory.put(&user(1));
    assert_eq!(next(&mut client), [(user(1).dn().to_string(), 2)]);
    server.memory.remove(user(2).dn());
    assert_eq!(next(&mut client), [(user(2).dn().to_string(), 3)]);
    // What is hidden is not named when it goes.
    let hidden = entry(
        &format!("uid=other,ou=hidden,{BASE}"),
        &[("objectClass", "account"), ("uid", "other")],
    );
    server.memory.put(&hidden);
    assert_eq!(next(&mut client), [(String::new(), 3)]);
    // Other requests are answered meanwhile, and the consumer goes when it wants to.
    client.send(search(2, "(uid=user7)"));
    assert_eq!(client.until_done(2).len(), 2);
    std::io::Write::write_all(&mut client.stream, &crate::limits::cancel(3, 1)).unwrap();
    let last = client.until_done(3);
    assert!(matches!(&last[0].op, LdapOp::SearchResultDone(result) if result.code.clone() as i32 == 118));
}

#[test]
fn openldap_s_own_consumer_understands_it() {
    let server = Server::start();
    let output = server.search(&["-E", "!sync=ro", "-b", BASE, "(objectClass=posixAccount)", "uid"]);
    assert_eq!(crate::support::count(&output), 10, "{output}");
}
