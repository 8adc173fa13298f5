//! Beside nscd: a long-lived process with threads that loads the module and answers for others.

use crate::namespace::Namespace;
use crate::tables::{META, table};
use dirless_table::TableMeta;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

const START: &str = r#"
    mount -t tmpfs tmpfs /run && mkdir /run/nscd
    mount -t tmpfs tmpfs /var/cache && mkdir /var/cache/nscd
    for database in passwd group; do
        echo "enable-cache $database yes"
        echo "positive-time-to-live $database 600"
        echo "negative-time-to-live $database 600"
    done > nscd.conf
    nscd -f "$PWD/nscd.conf" --foreground > nscd.log 2>&1 &
    nscd=$!
    trap 'kill $nscd' EXIT
    tries=0
    until nscd -f "$PWD/nscd.conf" -g > /dev/null 2>&1; do
        tries=$((tries + 1)); [ $tries -lt 100 ] || { cat nscd.log >&2; exit 1; }
        sleep 0.1
    done
"#;

/// Runs two scripts with nscd up, publishing `second` between them.
fn before_and_after(host: &Namespace, first: &str, second: &[u8], then: &str) -> (String, String) {
    let script = format!("{START}\n{first}\necho published?\nread answer\n{then}");
    let mut command = host.command(&script);
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let mut shell = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(shell.stdout.take().unwrap()).lines().map(Result::unwrap);
    let before: Vec<String> = lines.by_ref().take_while(|line| line != "published?").collect();
    host.publish(second);
    shell.stdin.take().unwrap().write_all(b"yes\n").unwrap();
    let after: Vec<String> = lines.collect();
    assert!(
        shell.wait().unwrap().success(),
        "nscd is needed; these tests run as root"
    );
    (before.join("\n"), after.join("\n"))
}

#[test]
fn nscd_answers_from_the_table_and_after_invalidation_from_the_next() {
    let host = Namespace::new(&table(META, 1));
    // With the client's module gone, only nscd can know the users.
    let first = "
        getent passwd alice user0
        getent group eng
        getent passwd user2 || echo absent
        rm lib/libnss_dirless.so.2
        getent passwd alice";
    let then = "
        nscd -f \"$PWD/nscd.conf\" -i passwd
        getent passwd user2";
    let (before, after) = before_and_after(&host, first, &table(TableMeta { generation: 2, ..META }, 3), then);
    let names: Vec<&str> = before.lines().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(names, ["alice", "user0", "eng", "absent", "alice"]);
    assert!(after.starts_with("user2:x:100002:"), "{after}");
}
