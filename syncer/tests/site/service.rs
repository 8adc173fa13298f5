//! What the service manager sees of `run`.

use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::time::{Duration, Instant};

use dirless_testkit::aws::Failure;

use crate::support::{Site, few};

/// Everything the program says to the service manager until `wanted` has come.
fn until(socket: &UnixDatagram, wanted: &str) -> String {
    let mut said = String::new();
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut buffer = [0; 4096];
    while !said.contains(wanted) {
        assert!(Instant::now() < deadline, "waited for {wanted} in vain: {said}");
        if let Ok(length) = socket.recv(&mut buffer) {
            said.push_str(&String::from_utf8_lossy(&buffer[..length]));
            said.push('\n');
        }
    }
    said
}

#[test]
fn readiness_watchdog_status_and_a_clean_end() {
    let site = Site::new(few());
    let path = site.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    // The source hangs: the cycle is under way and the watchdog must be fed meanwhile.
    site.aws
        .behave(|behaviour| behaviour.failures = vec![("ListUsers".to_owned(), 0, Failure::Hang)]);
    let mut command = site.command(&["run", "--log-format", "json"]);
    let mut child = command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "400000")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until(&socket, "READY=1");
    until(&socket, "WATCHDOG=1");
    until(&socket, "WATCHDOG=1");
    let pid = child.id().to_string();
    std::process::Command::new("kill")
        .args(["-TERM", &pid])
        .status()
        .unwrap();
    until(&socket, "STOPPING=1");
    let mut log = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut log).unwrap();
    assert!(child.wait().unwrap().success(), "{log}");
    assert!(
        log.lines()
            .all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()),
        "{log}"
    );
    assert!(log.contains("syncer.stopping") && !log.contains("sekret"), "{log}");
    assert_eq!(site.backend.puts(), 0);
}

#[test]
fn run_enrols_by_itself_and_goes_on_after_errors() {
    let site = Site::bare(few());
    site.aws
        .behave(|behaviour| behaviour.failures = vec![("ListGroups".to_owned(), 0, Failure::TruncatedJson)]);
    let mut child = site.command(&["run"]).stderr(Stdio::null()).spawn().unwrap();
    let limit = Duration::from_secs(40);
    dirless_testkit::eventually(limit, "a failed cycle to be reported", || {
        let report = std::fs::read_to_string(site.path("state/report.json")).ok()?;
        report.contains("ListGroups").then_some(())
    })
    .unwrap();
    assert_eq!(site.backend.puts(), 0);
    site.aws.behave(|behaviour| behaviour.failures.clear());
    dirless_testkit::eventually(limit, "the push", || (site.backend.puts() == 1).then_some(())).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn who_is_entered_while_it_serves_has_a_number_within_moments() {
    let mut site = Site::new(few());
    let socket = site.path("ldapi");
    site.extra = format!("[serve]\nlisten = \"127.0.0.1:0\"\n[serve.ldap]\nsocket = {socket:?}\n");
    let mut child = site.command(&["serve"]).stderr(Stdio::null()).spawn().unwrap();
    let limit = Duration::from_secs(60);
    dirless_testkit::eventually(limit, "the first cycle", || (site.backend.puts() == 1).then_some(())).unwrap();
    let url = format!("ldapi://{}", socket.display().to_string().replace('/', "%2F"));
    let account = "dn: uid=erin,ou=users,dc=dirless\nobjectClass: inetOrgPerson\nobjectClass: posixAccount\n\
                   cn: Erin\nsn: E\nhomeDirectory: /home/erin\n";
    let root = ["-Q", "-Y", "EXTERNAL", "-H", &url];
    let add = dirless_testkit::Program::system("ldapadd").args(root);
    add.input(account).succeed().unwrap();
    let numbers = || {
        let search = dirless_testkit::Program::system("ldapsearch").args(root);
        let found = search.args(["-LLL", "-b", "dc=dirless", "(uid=erin)", "uidNumber", "gidNumber"]);
        let found = found.succeed().unwrap();
        let mut lines = found.lines().filter_map(|line| line.split_once("Number: "));
        lines.next().map(|(_, number)| number.to_owned())
    };
    let number = dirless_testkit::eventually(limit, "a number", numbers).unwrap();
    let published = || {
        let is_there = site.backend.with(|memory| memory.of_tree.contains_key("directory"));
        is_there.then(|| site.published_of_tree("directory"))
    };
    let snapshot = dirless_testkit::eventually(limit, "the snapshot", published).unwrap();
    assert_eq!(snapshot["users"][0]["uid"].to_string(), number);
    assert_eq!(site.backend.puts(), 1);
    child.kill().unwrap();
    child.wait().unwrap();
}
