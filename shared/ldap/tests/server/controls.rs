//! Controls and extended operations.

use ldap3_proto::proto::LdapOp;

use crate::support::{BASE, Client, Server, count};

#[test]
fn pages_hold_everything_once() {
    let server = Server::start();
    for size in ["1", "4", "15", "100"] {
        for critical in ["", "!"] {
            let paging = format!("{critical}pr={size}/noprompt");
            let output = server.search(&["-E", &paging, "-b", BASE, "1.1"]);
            let mut names: Vec<&str> = output.lines().filter(|line| line.starts_with("dn:")).collect();
            assert_eq!(names.len(), 15, "{size}");
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), 15, "{size}");
        }
    }
}

#[test]
fn results_come_in_the_order_that_was_asked_for() {
    let server = Server::start();
    let numbers = |sort: &str, more: &[&str]| -> Vec<String> {
        let mut arguments = vec!["-E", sort, "-b", BASE, "(objectClass=posixAccount)", "uidNumber"];
        arguments.splice(0..0, more.iter().copied());
        let output = server.search(&arguments);
        output
            .lines()
            .filter_map(|line| line.strip_prefix("uidNumber: "))
            .map(str::to_owned)
            .collect()
    };
    let up: Vec<String> = (2000..2010).map(|number: i32| number.to_string()).collect();
    let down: Vec<String> = up.iter().rev().cloned().collect();
    assert_eq!(numbers("!sss=uidNumber", &[]), up);
    assert_eq!(numbers("!sss=-uidNumber", &[]), down);
    assert_eq!(numbers("sss=cn:caseIgnoreOrderingMatch", &[]), down);
    assert_eq!(numbers("!sss=description/-uidNumber", &[]), down);
    // In pages too.
    assert_eq!(numbers("!sss=-uidNumber", &["-E", "pr=3/noprompt"]), down);
    let url = server.url();
    let wrong = ["-x", "-H", &url, "-E", "!sss=nothing", "-b", BASE];
    assert_eq!(server.tool("ldapsearch", &wrong).0, 12);
}

#[test]
fn an_unknown_critical_control_stops_the_operation_and_others_do_not() {
    let server = Server::start();
    let url = server.url();
    let ask = |control: &str| {
        server
            .tool("ldapsearch", &["-x", "-H", &url, "-b", BASE, "-e", control, "1.1"])
            .0
    };
    assert_eq!(ask("!1.2.3.4.5"), 12);
    assert_eq!(ask("1.2.3.4.5"), 0);
    assert_eq!(ask("!manageDSAit"), 0);
    assert_eq!(ask("!postread"), 12, "nothing is read after a search");
    assert_eq!(ask("!assert=(dc=example)"), 0);
    assert_eq!(ask("!assert=(dc=other)"), 122);
    assert_eq!(ask("!authzid=dn:cn=somebody"), 12);
}

#[test]
fn only_matching_values_come_when_asked() {
    let server = Server::start();
    let filter = format!("mv=((member=uid=user1,ou=users,{BASE}))");
    let output = server.search(&["-E", &filter, "-b", BASE, "(cn=inner)", "member"]);
    assert!(output.contains("user1") && !output.contains("user0"), "{output}");
}

#[test]
fn names_are_followed() {
    let server = Server::start();
    let output = server.search(&["-E", "!deref=member:uid,uidNumber", "-b", BASE, "(cn=outer)", "cn"]);
    let plain = output.replace("\n ", "");
    assert!(
        plain.contains("# member: <uid=user2>;<uidNumber=2002>;uid=user2,"),
        "{plain}"
    );
    assert!(plain.contains("# member: cn=inner,"), "{plain}");
}

#[test]
fn size_and_time_limits_are_told() {
    let server = Server::start();
    let url = server.url();
    let (status, output, _) = server.tool("ldapsearch", &["-x", "-LLL", "-z", "3", "-H", &url, "-b", BASE, "1.1"]);
    assert_eq!((status, count(&output)), (4, 3));
    let (status, output, _) = server.tool("ldapsearch", &["-x", "-LLL", "-z", "15", "-H", &url, "-b", BASE, "1.1"]);
    assert_eq!((status, count(&output)), (0, 15));
    let config = dirless_ldap::Config {
        limits: dirless_ldap::Limits {
            entries: 5,
            time: std::time::Duration::ZERO,
            ..Default::default()
        },
        ..Default::default()
    };
    let slow = Server::with(crate::support::tree(10), config);
    assert_eq!(slow.tool("ldapsearch", &["-x", "-H", &slow.url(), "-b", BASE]).0, 3);
    let config = dirless_ldap::Config {
        limits: dirless_ldap::Limits {
            entries: 5,
            ..Default::default()
        },
        ..Default::default()
    };
    let small = Server::with(crate::support::tree(10), config);
    assert_eq!(small.tool("ldapsearch", &["-x", "-H", &small.url(), "-b", BASE]).0, 11);
    assert_eq!(count(&small.search(&["-E", "pr=5/noprompt", "-b", BASE, "1.1"])), 15);
}

#[test]
fn what_is_under_way_is_abandoned_or_cancelled() {
    let server = Server::with(crate::support::tree(6000), dirless_ldap::Config::default());
    let mut client = server.client();
    // One write, so that the search is still under way when the others are read.
    let mut bytes = Client::bytes(crate::limits::search(1, "(objectClass=*)"));
    bytes.extend(Client::bytes(crate::limits::search(2, "(objectClass=*)")));
    bytes.extend(Client::bytes(crate::limits::message(3, LdapOp::AbandonRequest(1))));
    bytes.extend(crate::limits::cancel(4, 2));
    bytes.extend(crate::limits::cancel(5, 77));
    std::io::Write::write_all(&mut client.stream, &bytes).unwrap();
    let messages = client.until_done(5);
    let done = |id: i32| {
        messages.iter().find_map(|message| match &message.op {
            LdapOp::SearchResultDone(result) if message.msgid == id => Some(result.code.clone() as i32),
            LdapOp::ExtendedResponse(response) if message.msgid == id => Some(response.res.code.clone() as i32),
            _ => None,
        })
    };
    assert_eq!(done(1), None, "abandoned: no answer");
    assert_eq!(done(2), Some(118));
    assert_eq!(done(4), Some(0));
    assert_eq!(done(5), Some(119));
    assert!(messages.len() < 9000, "neither search came to its end");
}
