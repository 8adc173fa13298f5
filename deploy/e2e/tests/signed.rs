//! The verified protocol with real programs and nobody to trust: an operator's keys, a syncer that writes plain files, a
//! host that reads them from wherever they lie, `getent` through glibc.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, ensure};
use dirless_e2e::ldap_host::{self, BASE, traces};
use dirless_e2e::machine::{self, Person, getent};
use dirless_e2e::site::private;
use dirless_e2e::tenant::{FOLDER, Tenant, join_code, operator, people, syncer};
use dirless_e2e::world::ARRIVAL;
use dirless_testkit::{Program, eventually, isolated};

/// The host's own copy of what is carried to it.
const CARRIED: &str = "/srv/carried";

/// One cycle of the agent: what it says is wrong.
fn cycle() -> anyhow::Result<Vec<String>> {
    let outcome = Program::ours("dirless-agent")?.args(["run", "--once"]).run()?;
    Ok(outcome.stderr.lines().map(str::to_owned).collect())
}

fn begin() -> anyhow::Result<Tenant> {
    machine::install(&["dirless-agent", "dirless-syncer"])?;
    Tenant::new()
}

/// Joins and is admitted.
fn join() -> anyhow::Result<()> {
    join_code("/srv/code", 1)?;
    operator(&["join", "--code-file", "/srv/code"])?;
    let path = "/etc/dirless/dirless-agent.toml";
    let text = std::fs::read_to_string(path)?;
    private(path, &format!("{text}[agent]\nsources = [\"people\"]\n"))?;
    operator(&["install", "--nss"])?;
    syncer(&["once"]).map(drop)
}

/// Joins anew with a code, from the folder that was carried there.
fn joins_from_a_stick() -> anyhow::Result<()> {
    join_code("/srv/stick.code", 1)?;
    operator(&["join", "--again", "--code-file", "/srv/stick.code", "--from", CARRIED])?;
    let path = "/etc/dirless/dirless-agent.toml";
    let text = std::fs::read_to_string(path)?;
    ensure!(text.contains(&format!("from = \"{CARRIED}\"")), "{text}");
    private(path, &format!("{text}[agent]\nsources = [\"people\"]\n"))
}

#[test]
fn from_an_operators_keys_to_a_login_name() {
    isolated("from_an_operators_keys_to_a_login_name", || {
        let tenant = begin()?;
        join()?;
        ensure!(cycle()?.is_empty(), "{:?}", cycle()?);
        let alice = getent("passwd", "alice")?.context("alice")?;
        tenant.verify(FOLDER)?;

        // A removed person is gone after the next cycles; who stays keeps the number.
        people(&["alice", "carol"])?;
        syncer(&["once"])?;
        ensure!(cycle()?.is_empty(), "after a change");
        ensure!(getent("passwd", "bob")?.is_none() && getent("passwd", "carol")?.is_some());
        ensure!(getent("passwd", "alice")?.as_ref() == Some(&alice));

        // Carried by hand: from a web server onto a stick, from the stick into a folder of the host's.
        let (port, _) = counting_server()?;
        let url = format!("http://127.0.0.1:{port}");
        let carry = || -> anyhow::Result<()> {
            operator(&["mirror", &url, "/srv/stick", "--roots", &tenant.roots])?;
            operator(&["mirror", "/srv/stick", CARRIED, "--roots", &tenant.roots])?;
            tenant.verify(CARRIED)
        };
        carry()?;
        // A code goes in, a request comes out.
        joins_from_a_stick()?;
        ensure!(!cycle()?.is_empty(), "admitted before its request was carried");
        Program::system("cp")
            .args(["-r", &format!("{CARRIED}/join"), FOLDER])
            .succeed()?;
        people(&["alice", "dora"])?;
        syncer(&["once"])?;
        ensure!(getent("passwd", "dora")?.is_none(), "what was not carried yet");
        carry()?;
        ensure!(cycle()?.is_empty(), "after the second delivery: {:?}", cycle()?);
        ensure!(getent("passwd", "carol")?.is_none() && getent("passwd", "dora")?.is_some());
        ensure!(getent("passwd", "alice")?.as_ref() == Some(&alice));

        // Whoever has the stick changes a byte of everything in turn: nobody is lost, and nobody comes in.
        for folder in ["head", "policy", "manifest", "log", "blob"] {
            spoil(&Path::new(CARRIED).join(folder))?;
        }
        people(&["mallory"])?;
        ensure!(!cycle()?.is_empty(), "a spoilt stick was taken for a good one");
        ensure!(getent("passwd", "alice")?.as_ref() == Some(&alice) && getent("passwd", "mallory")?.is_none());

        // With everything gone, the host answers.
        std::fs::remove_dir_all(CARRIED)?;
        std::fs::remove_dir_all(FOLDER)?;
        ensure!(!cycle()?.is_empty() && getent("passwd", "alice")?.as_ref() == Some(&alice));
        Ok(())
    })
    .unwrap();
}

/// Serves the tenant's folder as any web server would, and counts the bytes of bodies.
fn counting_server() -> anyhow::Result<(u16, Arc<AtomicUsize>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = sent.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let counter = counter.clone();
            std::thread::spawn(move || answer(&stream, &counter));
        }
    });
    Ok((port, sent))
}

/// Answers the requests of one connection.
fn answer(stream: &TcpStream, counter: &AtomicUsize) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    while let Some(request) = lines.next() {
        let request = request?;
        let path = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
        for line in lines.by_ref() {
            if line?.is_empty() {
                break;
            }
        }
        let (status, body) = match std::fs::read(Path::new(FOLDER).join(path)) {
            Ok(body) => ("200 OK", body),
            Err(_) => ("404 Not Found", Vec::new()),
        };
        counter.fetch_add(body.len(), Ordering::SeqCst);
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
        let mut stream = stream;
        stream.write_all(head.as_bytes())?;
        stream.write_all(&body)?;
    }
    Ok(())
}

#[test]
fn a_changed_person_costs_a_head_and_a_record() {
    isolated("a_changed_person_costs_a_head_and_a_record", || {
        let tenant = begin()?;
        let lines = |shell: &str| -> String {
            let person = |number: u32| {
                let shell = if number == 250 { shell } else { "/bin/bash" };
                format!("  - {{name: person{number}, shell: {shell}}}\n")
            };
            (0..500).map(person).collect()
        };
        let publish = |shell: &str| private("/srv/people/people.yaml", &format!("people:\n{}", lines(shell)));
        publish("/bin/bash")?;
        join()?;
        let (port, sent) = counting_server()?;
        let path = "/etc/dirless/dirless-agent.toml";
        let text = std::fs::read_to_string(path)?;
        private(
            path,
            &text.replace(&format!("file://{FOLDER}"), &format!("http://127.0.0.1:{port}")),
        )?;
        ensure!(cycle()?.is_empty(), "over HTTP");
        let whole = sent.swap(0, Ordering::SeqCst);

        // Nothing new: the head alone.
        ensure!(cycle()?.is_empty(), "nothing new");
        let idle = sent.swap(0, Ordering::SeqCst);
        ensure!(idle <= 400, "{idle} bytes for nothing new");

        for shell in ["/bin/dash", "/bin/sh"] {
            publish(shell)?;
            syncer(&["once"])?;
            ensure!(cycle()?.is_empty(), "after a change");
            let bytes = sent.swap(0, Ordering::SeqCst);
            ensure!(bytes <= 600 && bytes > idle, "{bytes} bytes for one changed person");
            let person = getent("passwd", "person250")?.context("person250")?;
            ensure!(person.ends_with(shell), "{person}");
            println!("whole {whole}, idle {idle}, one changed person {bytes} bytes");
        }
        tenant.verify(FOLDER)?;
        // A host that comes by a mirror sees the same.
        operator(&["mirror", FOLDER, "/srv/stick", "--roots", &tenant.roots])?;
        tenant.verify("/srv/stick")
    })
    .unwrap();
}

/// Flips a bit in the middle of every file.
fn spoil(folder: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            spoil(&path)?;
            continue;
        }
        let mut bytes = std::fs::read(&path)?;
        let middle = bytes.len() / 2;
        if let Some(byte) = bytes.get_mut(middle) {
            *byte ^= 1;
        }
        std::fs::write(path, bytes)?;
    }
    Ok(())
}

#[test]
fn a_revoked_host_hears_nothing_more() {
    isolated("a_revoked_host_hears_nothing_more", || {
        let tenant = begin()?;
        join()?;
        ensure!(cycle()?.is_empty(), "admitted");
        let node = std::fs::read_dir(format!("{FOLDER}/wrap/all/1"))?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .find(|name| name.starts_with('n'))
            .context("the host's name")?;
        syncer(&["node", "revoke", &node])?;
        people(&["alice", "bob", "dora"])?;
        syncer(&["once"])?;
        let said = cycle()?;
        ensure!(said.iter().any(|line| line.contains("(not-admitted)")), "{said:?}");
        ensure!(getent("passwd", "dora")?.is_none() && getent("passwd", "alice")?.is_some());
        tenant.verify(FOLDER)
    })
    .unwrap();
}

#[test]
fn a_revoked_person_leaves_nothing_on_a_host() {
    isolated("a_revoked_person_leaves_nothing_on_a_host", || {
        let tenant = begin()?;
        let key = std::fs::read_to_string(Person::new("alice")?.public_key())?;
        let text = format!(
            "people:\n  - {{name: alice, keys: [\"{}\"]}}\n  - {{name: bob}}\ngroups:\n  - {{name: eng, members: [alice, bob]}}\n",
            key.trim()
        );
        private("/srv/people/people.yaml", &text)?;
        join()?;
        let path = "/etc/dirless/dirless-agent.toml";
        let config = std::fs::read_to_string(path)?;
        private(path, &format!("{config}\n[directory]\nbase = \"{BASE}\"\n"))?;
        ldap_host::install()?;
        ensure!(cycle()?.is_empty(), "{:?}", cycle()?);
        let _server = ldap_host::serve()?;
        eventually(ARRIVAL, "alice, whole", || (traces("alice").ok()?.len() == 5).then_some(()))?;

        let said = Program::ours("dirless")?.args(["revoke", "alice"]).env("PATH", "/nowhere").run()?;
        ensure!(said.stderr.contains("run this where it runs"), "{}", said.stderr);
        let said = operator(&["revoke", "alice", "--reason", "left", "--config", "/srv/syncer/syncer.toml"])?;
        ensure!(said.contains("revoked alice"), "{said}");
        ensure!(cycle()?.is_empty(), "after the revocation");
        eventually(ARRIVAL, "nothing of alice", || traces("alice").ok()?.is_empty().then_some(()))?;
        ensure!(getent("passwd", "bob")?.is_some() && getent("group", "eng")?.is_some_and(|group| group.ends_with("bob")));
        // Her source still has her.
        syncer(&["once"])?;
        ensure!(cycle()?.is_empty() && traces("alice")?.is_empty(), "{:?}", traces("alice")?);
        tenant.verify(FOLDER)?;
        syncer(&["revoke", "--undo", "alice"])?;
        syncer(&["once"])?;
        ensure!(cycle()?.is_empty(), "after it was undone");
        eventually(ARRIVAL, "alice again", || (traces("alice").ok()?.len() == 5).then_some(()))
    })
    .unwrap();
}
