//! Sockets and TLS.

use std::io::{Read, Write};

use ldap3_proto::proto::{LdapExtendedRequest, LdapOp};

use crate::limits::{message, search};
use crate::support::{BASE, Client, Server, count};

fn start_tls() -> Vec<u8> {
    let request = LdapExtendedRequest {
        name: "1.3.6.1.4.1.1466.20037".to_owned(),
        value: None,
    };
    Client::bytes(message(1, LdapOp::ExtendedRequest(request)))
}

#[test]
fn tls_is_started_or_there_from_the_start() {
    let server = Server::start();
    // By address: the tools put the machine's own name in the place of "localhost" when they check.
    let url = server.url();
    let (status, output, errors) = server.tool("ldapsearch", &["-x", "-LLL", "-ZZ", "-H", &url, "-b", BASE, "1.1"]);
    assert_eq!((status, count(&output)), (0, 15), "{errors}");
    let secure = format!("ldaps://{}", server.tls_address);
    let dn = format!("uid=user1,ou=users,{BASE}");
    let (status, output, errors) = server.tool("ldapwhoami", &["-x", "-D", &dn, "-w", "secret", "-H", &secure]);
    assert_eq!((status, output.trim()), (0, format!("dn:{dn}").as_str()), "{errors}");
}

#[test]
fn what_came_before_tls_is_not_carried_into_it() {
    let server = Server::start();
    let mut client = server.client();
    let mut bytes = start_tls();
    bytes.extend(Client::bytes(search(2, "(uid=user1)")));
    client.stream.write_all(&bytes).unwrap();
    assert_eq!(client.receive().expect("the answer to StartTLS").msgid, 1);
    let mut rest = Vec::new();
    client.stream.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty(), "the injected request was answered");
}

#[test]
fn requests_come_in_any_pieces() {
    let server = Server::start();
    let mut client = server.client();
    for byte in Client::bytes(search(1, "(uid=user1)")) {
        client.stream.write_all(&[byte]).unwrap();
    }
    assert_eq!(client.until_done(1).len(), 2);
}
