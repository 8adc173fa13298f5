//! Configuration, certificates, and what the program says of itself.

use std::fs;

use dirless_testkit::Program;

use crate::support::{BASE, Host, count, tool};

fn check(host: &Host, text: &str) -> (i32, String) {
    let path = host.configure(text);
    let outcome = Program::ours("dirless-ldapd")
        .unwrap()
        .args(["check", "--config"])
        .arg(&path)
        .run()
        .unwrap();
    (outcome.code(), outcome.stdout + &outcome.stderr)
}

/// A certificate for the loopback and its key, as lines of a configuration.
pub(crate) fn certificate(host: &Host) -> String {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (host.folder.path().join("tls.pem"), host.folder.path().join("tls.key"));
    fs::write(&certificate, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    format!(
        "[tls]\ncertificate = \"{}\"\nkey = \"{}\"\n",
        certificate.display(),
        key.display()
    )
}

#[test]
fn what_is_wrong_is_told_with_its_own_exit_code() {
    let host = Host::new();
    assert_eq!(check(&host, "").0, 0);
    for (text, part) in [
        ("listen = [\"ldap://0.0.0.0:389\"]", "is not the loopback"),
        ("listen = []", "listen"),
        ("nonsense = 1", "nonsense"),
        (
            "[tls]\ncertificate = \"/nowhere.pem\"\nkey = \"/nowhere.key\"",
            "/nowhere.pem",
        ),
    ] {
        let (code, said) = check(&host, text);
        assert_eq!(code, 78, "{text}: {said}");
        assert!(said.contains(part), "{text}: {said}");
    }
    let tls = certificate(&host);
    assert_eq!(check(&host, &tls).0, 0);
    fs::write(host.folder.path().join("tls.key"), "no key").unwrap();
    let (code, said) = check(&host, &tls);
    assert!(code == 78 && said.contains("tls.key"), "{said}");
}

#[test]
fn a_port_that_is_taken_is_told_and_no_signal_is_missed() {
    let host = Host::new();
    host.publish(1, "/bin/bash");
    let server = host.serve("");
    let address = server.address.unwrap();
    let path = host.configure(&format!("listen = [\"ldap://{address}\"]"));
    let outcome = Program::ours("dirless-ldapd")
        .unwrap()
        .args(["run", "--config"])
        .arg(&path)
        .run()
        .unwrap();
    assert_ne!(outcome.code(), 0);
    assert!(outcome.stderr.contains("another LDAP server"), "{outcome:?}");
    let ended = server.running.stop().unwrap();
    assert!(ended.status.success(), "{ended:?}");
}

#[test]
fn start_tls_and_ldaps_with_a_certificate_of_the_host() {
    let host = Host::new();
    host.publish(2, "/bin/bash");
    let tls = certificate(&host);
    let server = host.serve(&format!(
        "listen = [\"ldap://127.0.0.1:0\", \"ldaps://127.0.0.1:0\"]\n{tls}"
    ));
    let trusted = host.folder.path().join("tls.pem").into_os_string();
    let ldaps = format!("ldaps://{}", server.tls_address.unwrap());
    for arguments in [vec!["-H", &ldaps], vec!["-ZZ", "-H", &server.url()]] {
        let run = |trusted: std::ffi::OsString| {
            Program::system("ldapsearch")
                .env("LDAPTLS_CACERT", trusted)
                .args(["-x", "-LLL", "-b", BASE])
                .args(&arguments)
                .arg("1.1")
                .run()
                .unwrap()
        };
        let found = run(trusted.clone());
        assert!(found.status.success(), "{arguments:?}: {found:?}");
        assert_eq!(count(&found.stdout), 7);
        assert!(
            !run("/etc/hostname".into()).status.success(),
            "an unknown certificate was taken"
        );
    }
    let plain = tool("ldapsearch", &["-x", "-ZZ", "-H", &host.serve("").url(), "-b", BASE])
        .run()
        .unwrap();
    assert!(!plain.status.success(), "TLS was started without a certificate");
}

#[test]
fn man_page_and_completions_are_made_by_the_program() {
    let host = Host::new();
    let folder = host.folder.path().join("man");
    Program::ours("dirless-ldapd")
        .unwrap()
        .args(["generate", "man", "--folder"])
        .arg(&folder)
        .succeed()
        .unwrap();
    let page = fs::read_to_string(folder.join("dirless-ldapd.1")).unwrap();
    assert!(page.contains("dirless\\-ldapd"), "{page}");
}
