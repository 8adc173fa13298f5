//! A group whose members are sent from the file: whole, in order with what is around it, over every transport.

use std::collections::BTreeSet;
use std::io::Read;
use std::os::unix::net::UnixStream;

use dirless_testkit::Program;
use ldap3_proto::proto::{LdapMsg, LdapOp};

use crate::configuration::certificate;
use crate::support::{BASE, Client, Host, bytes, search};

/// Their names are 130 KB, their numbers of letters 20 KB: both are more than is read for an answer.
const MEMBERS: u32 = 3000;

/// The values of an attribute of the only entry among these.
fn values(messages: &[LdapMsg], name: &str) -> Vec<String> {
    let mut entries = messages.iter().filter_map(|message| match &message.op {
        LdapOp::SearchResultEntry(entry) => Some(entry),
        _ => None,
    });
    let entry = entries.next().unwrap();
    assert!(entries.next().is_none());
    let held = entry.attributes.iter().filter(|one| one.atype == name);
    let values = held.flat_map(|one| &one.vals);
    values.map(|value| String::from_utf8(value.clone()).unwrap()).collect()
}

fn names(of: impl Fn(u32) -> String) -> BTreeSet<String> {
    (0..MEMBERS).map(of).collect()
}

fn member(number: u32) -> String {
    format!("uid=user{number},ou=users,{BASE}")
}

#[test]
fn a_large_group_is_whole_and_what_is_asked_for() {
    let host = Host::new();
    host.publish(MEMBERS, "/bin/sh");
    let server = host.serve("");
    let mut client = server.client();
    let mut ask = |id, attributes: &[&str]| {
        let mut message = search(id, "(cn=everyone)");
        if let LdapOp::SearchRequest(request) = &mut message.op {
            request.attrs = attributes.iter().map(|name| (*name).to_owned()).collect();
        }
        client.send(message);
        client.until_done(id)
    };
    let all = ask(1, &[]);
    let set = |values: Vec<String>| {
        let count = values.len();
        let set: BTreeSet<String> = values.into_iter().collect();
        assert_eq!(set.len(), count, "each once");
        set
    };
    assert_eq!(set(values(&all, "member")), names(member));
    assert_eq!(set(values(&all, "memberUid")), names(|number| format!("user{number}")));
    assert_eq!(values(&all, "gidNumber"), ["3000"]);
    let one = ask(2, &["memberUid", "cn"]);
    assert_eq!(set(values(&one, "memberUid")), names(|number| format!("user{number}")));
    assert!(values(&one, "member").is_empty() && values(&one, "cn") == ["everyone"]);
    let none = ask(3, &["gidNumber"]);
    assert!(values(&none, "member").is_empty() && values(&none, "gidNumber") == ["3000"]);
    let with_stamps = ask(4, &["*", "+"]);
    assert_eq!(values(&with_stamps, "member").len(), MEMBERS as usize);
    assert_eq!(values(&with_stamps, "entryUUID").len(), 1);
    // A filter that no index answers is held against the whole entry.
    client.send(search(5, "(&(cn=everyone)(!(cn=nobody)))"));
    let held = client.until_done(5);
    assert_eq!(values(&held, "member").len(), MEMBERS as usize);
}

#[test]
fn many_at_once_come_in_order_and_whoever_reads_slowly_gets_all() {
    let host = Host::new();
    host.publish(MEMBERS, "/bin/sh");
    let server = host.serve("");
    let mut client = server.client();
    for id in 1..=60 {
        client.send(search(id, if id % 2 == 0 { "(cn=everyone)" } else { "(uid=user1)" }));
    }
    // The answers are more than the sockets hold; between two of them another client is served.
    assert_eq!(server.client().count(1, "(cn=everyone)"), 1);
    for id in 1..=60 {
        let messages = client.until_done(id);
        assert!(messages.iter().all(|message| message.msgid == id));
        let expected = if id % 2 == 0 { MEMBERS as usize } else { 0 };
        assert_eq!(values(&messages, "member").len(), expected, "{id}");
    }
    // One that goes away in the middle of an answer takes nobody with it.
    let mut gone = server.client();
    gone.send(search(1, "(cn=everyone)"));
    let mut some = [0; 1000];
    gone.stream.read_exact(&mut some).unwrap();
    drop(gone);
    assert_eq!(client.count(61, "(cn=everyone)"), 1);
}

#[test]
fn it_is_the_same_over_the_local_socket_and_under_tls() {
    let host = Host::new();
    host.publish(MEMBERS, "/bin/sh");
    let tls = certificate(&host);
    let socket = host.folder.path().join("ldapi");
    let server = host.serve(&format!(
        "listen = [\"ldap://127.0.0.1:0\", \"ldaps://127.0.0.1:0\", \"ldapi://{}\"]\n{tls}",
        socket.display()
    ));
    let trusted = host.folder.path().join("tls.pem").into_os_string();
    let ldaps = format!("ldaps://{}", server.tls_address.unwrap());
    for arguments in [
        vec!["-H", &server.url()],
        vec!["-H", &ldaps],
        vec!["-ZZ", "-H", &server.url()],
    ] {
        let found = Program::system("ldapsearch")
            .env("LDAPTLS_CACERT", &trusted)
            .args(["-x", "-LLL", "-o", "ldif-wrap=no", "-b", BASE])
            .args(&arguments)
            .args(["(cn=everyone)", "member", "gidNumber"])
            .run()
            .unwrap();
        assert!(found.status.success(), "{arguments:?}: {found:?}");
        let told: BTreeSet<String> = found
            .stdout
            .lines()
            .filter_map(|line| line.strip_prefix("member: ").map(str::to_owned))
            .collect();
        assert_eq!(told, names(member), "{arguments:?}");
    }
    // The same bytes on either kind of socket.
    let read = |mut stream: Box<dyn Read>, length: usize| {
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer).unwrap();
        answer
    };
    let request = bytes(search(1, "(cn=everyone)"));
    let mut plain: Client = server.client();
    plain.send(search(1, "(cn=everyone)"));
    let length: usize = bytes_of(&plain.until_done(1));
    let mut tcp = std::net::TcpStream::connect(server.address.unwrap()).unwrap();
    let mut local = UnixStream::connect(&socket).unwrap();
    std::io::Write::write_all(&mut tcp, &request).unwrap();
    std::io::Write::write_all(&mut local, &request).unwrap();
    assert_eq!(read(Box::new(tcp), length), read(Box::new(local), length));
}

/// At least how many bytes these messages were.
fn bytes_of(messages: &[LdapMsg]) -> usize {
    let of = |name| {
        values(messages, name)
            .iter()
            .map(|value| value.len() + 2)
            .sum::<usize>()
    };
    of("member") + of("memberUid")
}
