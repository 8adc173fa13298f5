//! What clients cannot do to the server.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use dirless_ldap::{Config, Limits};
use ldap3_proto::proto::{
    LdapBindCred, LdapBindRequest, LdapDerefAliases, LdapFilter, LdapMsg, LdapOp, LdapSearchRequest, LdapSearchScope,
};

use crate::support::{BASE, Client, Server, tree};

pub(crate) fn message(id: i32, op: LdapOp) -> LdapMsg {
    LdapMsg::new(id, op)
}

pub(crate) fn search(id: i32, filter: &str) -> LdapMsg {
    let request = LdapSearchRequest {
        base: BASE.to_owned(),
        scope: LdapSearchScope::Subtree,
        aliases: LdapDerefAliases::Never,
        sizelimit: 0,
        timelimit: 0,
        typesonly: false,
        filter: ldap3_proto::parse_ldap_filter_str(filter).unwrap(),
        attrs: Vec::new(),
    };
    message(id, LdapOp::SearchRequest(request))
}

/// A cancel request (RFC 3909).
pub(crate) fn cancel(id: u8, cancelled: u8) -> Vec<u8> {
    let mut bytes = vec![0x30, 0x17, 2, 1, id, 0x77, 0x12, 0x80, 9];
    bytes.extend_from_slice(b"1.3.6.1.1.8");
    bytes[1] = 3 + 2 + 2 + 11 + 2 + 5;
    bytes[6] = 2 + 11 + 2 + 5;
    bytes[8] = 11;
    bytes.extend_from_slice(&[0x81, 5, 0x30, 3, 2, 1, cancelled]);
    bytes
}

fn answers(client: &mut Client, id: i32) -> usize {
    client.until_done(id).len() - 1
}

#[test]
fn nonsense_ends_the_connection_with_a_notice() {
    let server = Server::start();
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"\x30\x84\xff\xff\xff\xff",
        b"\x30\x80\x02\x01\x01",
        b"\x30\x05\x02\x01\x01\x99\x00",
        b"\x30\x03\x02\x01\x01",
    ] {
        let mut client = server.client();
        client.stream.write_all(bytes).unwrap();
        let notice = client.receive().expect("a notice");
        assert_eq!(notice.msgid, 0, "{bytes:?}");
        assert!(matches!(notice.op, LdapOp::ExtendedResponse(_)));
        assert!(client.receive().is_none());
    }
}

#[test]
fn large_filters_are_served_and_larger_ones_are_not() {
    let server = Server::start();
    let ors: String = (0..3000).map(|number| format!("(cn=common-name-{number})")).collect();
    let mut client = server.client();
    client.send(search(1, &format!("(|{ors}(uid=user7))")));
    assert_eq!(answers(&mut client, 1), 1);
    // A filter of 2 MiB is refused by its length alone, before it has come.
    client.stream.write_all(b"\x30\x84\x00\x20\x00\x00").unwrap();
    assert_eq!(client.receive().expect("a notice").msgid, 0);
}

#[test]
fn deep_and_wide_filters_cost_nothing() {
    let config = Config {
        limits: Limits {
            filter_nodes: 100,
            ..Limits::default()
        },
        ..Config::default()
    };
    let server = Server::with(tree(3), config);
    let mut deep = LdapFilter::Present("cn".to_owned());
    for _ in 0..80 {
        deep = LdapFilter::Not(Box::new(deep));
    }
    let wide = LdapFilter::Or(vec![LdapFilter::Present("cn".to_owned()); 200]);
    for filter in [deep, wide] {
        let mut client = server.client();
        let LdapOp::SearchRequest(mut request) = search(1, "(cn=*)").op else {
            unreachable!()
        };
        request.filter = filter;
        client.send(message(1, LdapOp::SearchRequest(request)));
        assert_eq!(client.receive().expect("a notice").msgid, 0);
    }
}

#[test]
fn thousands_of_requests_in_flight_are_all_answered_in_order() {
    let server = Server::start();
    let mut client = server.client();
    let mut bytes = Vec::new();
    for id in 1..=5000 {
        bytes.extend(Client::bytes(search(id, "(uid=user5)")));
    }
    let mut writer = client.stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || writer.write_all(&bytes).unwrap());
    for id in 1..=5000 {
        let messages = client.until_done(id);
        assert_eq!(messages.len(), 2);
        assert!(messages.iter().all(|message| message.msgid == id));
    }
    sender.join().unwrap();
}

#[test]
fn one_who_does_not_read_holds_up_nobody() {
    let server = Server::with(tree(2000), Config::default());
    // Some 16 MB of answers for each: more than the sockets' buffers take.
    const REQUESTS: i32 = 20;
    let mut greedy: Vec<TcpStream> = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(server.address).unwrap();
        for id in 1..=REQUESTS {
            stream.write_all(&Client::bytes(search(id, "(objectClass=*)"))).unwrap();
        }
        greedy.push(stream);
    }
    let mut client = server.client();
    let start = Instant::now();
    for id in 1..=20 {
        client.send(search(id, "(uid=user5)"));
        assert_eq!(answers(&mut client, id), 1);
    }
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    // And those who do read in the end get everything.
    let mut late = Client::over(greedy.pop().unwrap());
    let entries: usize = (1..=REQUESTS)
        .map(|_| {
            let mut count = 0;
            while let Some(message) = late.receive() {
                match message.op {
                    LdapOp::SearchResultEntry(_) => count += 1,
                    _ => break,
                }
            }
            count
        })
        .sum();
    assert_eq!(entries, REQUESTS as usize * 2005);
}

#[test]
fn a_thousand_idle_and_sixty_four_busy_connections_are_served() {
    let server = Server::start();
    let idle: Vec<TcpStream> = (0..1000).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    let mut busy: Vec<Client> = (0..64).map(|_| server.client()).collect();
    for id in 1..=10 {
        for client in &mut busy {
            client.send(search(id, "(uid=user5)"));
        }
        for client in &mut busy {
            assert_eq!(answers(client, id), 1);
        }
    }
    drop(idle);
}

#[test]
fn connections_are_counted_for_each_peer() {
    let config = Config {
        limits: Limits {
            connections_per_peer: 3,
            ..Limits::default()
        },
        ..Config::default()
    };
    let server = Server::with(tree(1), config);
    let mut clients: Vec<Client> = (0..3).map(|_| server.client()).collect();
    for client in &mut clients {
        client.send(search(1, "(uid=user0)"));
        assert_eq!(answers(client, 1), 1);
    }
    let mut fourth = server.client();
    assert_eq!(fourth.receive().expect("a notice").msgid, 0);
    assert!(fourth.receive().is_none());
    // A place that is given up is free again.
    clients.pop();
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let mut again = server.client();
        again.send(search(1, "(uid=user0)"));
        if again.receive().is_some_and(|message| message.msgid == 1) {
            break;
        }
        assert!(Instant::now() < deadline, "the place stayed taken");
    }
}

#[test]
fn passwords_are_not_taken_in_the_open_nor_anonymous_reads_when_refused() {
    let config = Config {
        refuse_anonymous: true,
        ..Config::default()
    };
    let server = Server::with(tree(3), config);
    let url = server.url();
    assert_eq!(server.tool("ldapsearch", &["-x", "-H", &url, "-b", BASE]).0, 8);
    assert_eq!(
        server.tool("ldapsearch", &["-x", "-H", &url, "-b", "", "-s", "base"]).0,
        0
    );
    let dn = format!("uid=user1,ou=users,{BASE}");
    let bound = ["-x", "-D", &dn, "-w", "secret", "-H", &url, "-b", BASE];
    assert_eq!(server.tool("ldapsearch", &bound).0, 0);
}

#[test]
fn a_bind_of_another_version_is_refused_and_a_failed_bind_forgets_who_one_was() {
    let server = Server::start();
    let mut client = server.client();
    let bind = |id, password: &str| {
        message(
            id,
            LdapOp::BindRequest(LdapBindRequest {
                version: 3,
                dn: format!("uid=user1,ou=users,{BASE}"),
                cred: LdapBindCred::Simple(password.to_owned()),
            }),
        )
    };
    let mut two = Client::bytes(bind(1, "secret"));
    let version = two.windows(3).rposition(|part| part == [2, 1, 3]).unwrap();
    two[version + 2] = 2;
    client.stream.write_all(&two).unwrap();
    let code = |message: Option<LdapMsg>| match message.expect("an answer").op {
        LdapOp::BindResponse(response) => response.res.code as i32,
        other => panic!("{other:?}"),
    };
    assert_eq!(code(client.receive()), 2);
    client.send(bind(2, "secret"));
    assert_eq!(code(client.receive()), 0);
    client.send(bind(3, "wrong"));
    assert_eq!(code(client.receive()), 49);
    client.send(message(
        4,
        LdapOp::ExtendedRequest(ldap3_proto::proto::LdapWhoamiRequest {}.into()),
    ));
    let LdapOp::ExtendedResponse(response) = client.receive().expect("an answer").op else {
        panic!("no answer")
    };
    assert_eq!(response.value.unwrap_or_default(), b"");
}

#[test]
fn the_end_is_announced() {
    let mut server = Server::start();
    let mut client = server.client();
    client.send(search(1, "(uid=user0)"));
    assert_eq!(answers(&mut client, 1), 1);
    server.stop();
    assert_eq!(client.receive().expect("a notice").msgid, 0);
    let mut rest = Vec::new();
    assert_eq!(client.stream.read_to_end(&mut rest).unwrap_or(0), 0);
}
