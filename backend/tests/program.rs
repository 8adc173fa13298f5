//! The program itself: starting, stopping, refusing.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

fn program(folder: &Path, config: &str) -> Command {
    let file = folder.join("dirless.toml");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_dirless-backend"));
    command.env_clear().env("DIRLESS_CONFIG", file);
    command
}

fn config(folder: &Path) -> String {
    format!(
        "[server]\nport = 0\n[storage]\npath = {:?}\n[log]\nformat = \"text\"\n",
        folder.join("store")
    )
}

/// Waits until it serves; gives what it wrote to standard error until then.
fn until_serving(child: &mut Child) -> String {
    let mut said = String::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        said.push_str(&line.unwrap());
        said.push('\n');
        if said.contains("serving on http") {
            break;
        }
    }
    assert!(said.contains("serving on http"), "{said}");
    said
}

fn terminate(child: &mut Child) {
    let process = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
}

#[test]
fn a_first_start_makes_a_secret_keeps_it_out_of_the_journal_and_stops_cleanly() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("store/hmac-secret");
    let mut secrets = Vec::new();
    for _ in 0..2 {
        let mut command = program(folder.path(), &config(folder.path()));
        let mut child = command
            .arg("run")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = until_serving(&mut child);
        terminate(&mut child);
        assert!(child.wait().unwrap().success());
        let mut output = String::new();
        child.stdout.take().unwrap().read_to_string(&mut output).unwrap();
        let secret = std::fs::read_to_string(&kept).unwrap();
        // Under a service manager both streams are the journal.
        assert!(
            !said.contains(secret.trim()) && !output.contains(secret.trim()),
            "{said}{output}"
        );
        assert_eq!(said.contains("made a secret"), secrets.is_empty(), "{said}");
        secrets.push(secret);
    }
    assert!(secrets.first() == secrets.last(), "the secret is made once");
    let mode = std::fs::metadata(kept).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_person_at_a_terminal_is_shown_the_secret_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut shown = Vec::new();
    for _ in 0..2 {
        let terminal = program(folder.path(), &config(folder.path()));
        let run = format!("exec {} run", terminal.get_program().to_string_lossy());
        let mut command = Command::new("script");
        command.env_clear().env("PATH", "/usr/bin:/bin");
        command.env("DIRLESS_CONFIG", folder.path().join("dirless.toml"));
        let mut child = command
            .args(["-qefc", &run, "/dev/null"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            said.push_str(&line.unwrap());
            if said.contains("serving on http") {
                break;
            }
        }
        terminate(&mut child);
        child.wait().unwrap();
        let secret = std::fs::read_to_string(folder.path().join("store/hmac-secret")).unwrap();
        shown.push(said.contains(secret.trim()));
    }
    assert_eq!(shown, [true, false]);
}

#[test]
fn the_service_manager_is_told_when_it_serves_and_when_it_stops() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut command = program(folder.path(), &config(folder.path()));
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "10000000");
    let mut child = command
        .arg("run")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let wait_for = |word: &str| {
        let mut bytes = [0; 4096];
        loop {
            let length = socket.recv(&mut bytes).unwrap();
            let text = String::from_utf8_lossy(bytes.get(..length).unwrap()).into_owned();
            if text.contains(word) {
                return text;
            }
        }
    };
    assert!(wait_for("READY=1").contains("serving on http://"));
    wait_for("WATCHDOG=1");
    terminate(&mut child);
    wait_for("STOPPING=1");
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_hangup_ends_nothing_with_tls_or_without() {
    let tls = |folder: &Path| {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        format!("[tls]\ncertificate = {certificate:?}\nkey = {key:?}\n")
    };
    for (with_tls, word) in [(false, "no TLS certificate"), (true, "was read again")] {
        let folder = tempfile::tempdir().unwrap();
        let mut text = config(folder.path());
        if with_tls {
            text.push_str(&tls(folder.path()));
        }
        let mut child = program(folder.path(), &text)
            .arg("run")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        assert!(said.any(|line| line.contains("serving on http")));
        let process = rustix::process::Pid::from_child(&child);
        // Twice: the first must not be the last that is waited for.
        for _ in 0..2 {
            rustix::process::kill_process(process, rustix::process::Signal::HUP).unwrap();
            assert!(said.any(|line| line.contains(word)), "it says nothing of the signal");
        }
        terminate(&mut child);
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn a_bad_configuration_has_its_own_exit_code_and_says_where() {
    let folder = tempfile::tempdir().unwrap();
    for command in ["run", "check"] {
        for (text, word) in [
            ("[server]\nprot = 1\n", "prot"),
            ("[server]\nidle_seconds = 0\n", "server.idle_seconds"),
        ] {
            let output = program(folder.path(), text).arg(command).output().unwrap();
            assert_eq!(output.status.code(), Some(78), "{command} {text}");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(said.contains(word) && said.contains("dirless.toml"), "{said}");
        }
    }
}

#[test]
fn check_accepts_a_good_file_and_starts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let output = program(folder.path(), &config(folder.path()))
        .arg("check")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!folder.path().join("store").exists());
}

#[test]
fn a_second_server_on_one_store_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = program(folder.path(), &config(folder.path()));
    let mut first = first
        .arg("run")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until_serving(&mut first);
    let second = program(folder.path(), &config(folder.path()))
        .arg("run")
        .output()
        .unwrap();
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("in use"), "{said}");
    terminate(&mut first);
    assert!(first.wait().unwrap().success());
}

#[test]
fn metrics_have_an_address_of_their_own_when_asked() {
    use std::io::Write;
    let folder = tempfile::tempdir().unwrap();
    // Free a moment ago; another program that takes it in between would fail this test, not mislead it.
    let address = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let text = format!("{}[metrics]\nlisten = \"{address}\"\n", config(folder.path()));
    let mut command = program(folder.path(), &text);
    let mut child = command
        .arg("run")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until_serving(&mut child);
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.1\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.contains("dirless_http_requests_total"),
        "{answer}"
    );
    terminate(&mut child);
    assert!(child.wait().unwrap().success());
    let taken = std::net::TcpListener::bind(address).unwrap();
    let output = program(folder.path(), &text).arg("run").output().unwrap();
    drop(taken);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("[metrics] listen"));
}

#[test]
fn man_pages_and_completions_are_written() {
    let folder = tempfile::tempdir().unwrap();
    for what in ["man", "completions"] {
        let mut command = program(folder.path(), "");
        let output = command
            .args(["generate", what, "--folder"])
            .arg(folder.path().join(what))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(std::fs::read_dir(folder.path().join(what)).unwrap().count() >= 3);
    }
}
