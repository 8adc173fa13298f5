//! Many clients, busy ones, and one that does not read.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::{Client, Host, bytes, search};

const IDLE: usize = 1000;
const BUSY: usize = 64;
const ROUNDS: i32 = 20;

#[test]
fn a_thousand_idle_and_sixty_four_busy_connections() {
    let host = Host::new();
    host.publish(500, "/bin/bash");
    let server = host.serve("");
    let mut idle: Vec<Client> = (0..IDLE).map(|_| server.client()).collect();
    // Each has been served once, and stays.
    for client in &mut idle {
        client.send(search(1, "(uid=user1)"));
    }
    for client in &mut idle {
        assert_eq!(client.until_done(1).len(), 2);
    }
    let address = server.address.unwrap();
    let busy: Vec<_> = (0..BUSY)
        .map(|number| {
            std::thread::spawn(move || {
                let mut client = Client::over(TcpStream::connect(address).unwrap());
                for round in 1..=ROUNDS {
                    let user = (number * 7 + usize::try_from(round).unwrap()) % 500;
                    assert_eq!(client.count(round, &format!("(uid=user{user})")), 1);
                }
            })
        })
        .collect();
    for thread in busy {
        thread.join().unwrap();
    }
    for client in &mut idle {
        assert_eq!(client.count(2, "(uidNumber=100499)"), 1);
    }
    let memory = std::fs::read_to_string(format!("/proc/{}/status", server.running.id())).unwrap();
    let anonymous = memory.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    let kib: u64 = anonymous.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 64 * 1024, "{kib} KiB for {IDLE} idle connections");
}

#[test]
fn a_slow_reader_costs_only_itself() {
    let host = Host::new();
    host.publish(2000, "/bin/bash");
    let server = host.serve("");
    // Some 40 dumps of a megabyte each, far more than the sockets' buffers take, and nobody reads.
    let dumps = 40;
    let mut slow = TcpStream::connect(server.address.unwrap()).unwrap();
    for id in 1..=dumps {
        slow.write_all(&bytes(search(id, "(objectClass=*)"))).unwrap();
    }
    let mut client = server.client();
    for id in 1..=200 {
        assert_eq!(client.count(id, "(uid=user1999)"), 1);
    }
    let memory = std::fs::read_to_string(format!("/proc/{}/status", server.running.id())).unwrap();
    let anonymous = memory.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    let kib: u64 = anonymous.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 64 * 1024, "{kib} KiB are kept for one who does not read");
    // When it reads at last, all of it is there.
    let mut late = Client::over(slow);
    late.drain(dumps, 2005);
}

#[test]
fn thousands_of_requests_in_one_breath_are_answered_in_order() {
    let host = Host::new();
    host.publish(100, "/bin/bash");
    let server = host.serve("");
    let mut client = server.client();
    let requests: Vec<u8> = (1..=5000)
        .flat_map(|id| bytes(search(id, &format!("(uid=user{})", id % 100))))
        .collect();
    let mut writer = client.stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || writer.write_all(&requests).unwrap());
    for id in 1..=5000 {
        let messages = client.until_done(id);
        assert!(messages.len() == 2 && messages.iter().all(|message| message.msgid == id));
    }
    sender.join().unwrap();
}

#[test]
fn more_connections_than_allowed_are_turned_away_and_leave_the_others_alone() {
    let host = Host::new();
    host.publish(3, "/bin/bash");
    let server = host.serve("[limits]\nconnections = 3");
    let mut kept: Vec<Client> = (0..3).map(|_| server.client()).collect();
    for client in &mut kept {
        assert_eq!(client.count(1, "(uid=user1)"), 1);
    }
    let mut refused = server.client();
    let notice = refused.receive().expect("a notice");
    assert_eq!(notice.msgid, 0);
    assert!(matches!(refused.stream.read(&mut [0; 16]), Ok(0)));
    for client in &mut kept {
        assert_eq!(client.count(2, "(uid=user2)"), 1);
    }
}
