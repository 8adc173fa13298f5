//! Keys that are service credentials: what the page and the unit say about them, done as a service manager does it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::program::Site;
use crate::support::Host;

/// A file of the repository.
fn page(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
}

/// Credentials that `text` hands over, and their files.
fn handed_over(text: &str) -> BTreeMap<String, String> {
    let found = text.split("LoadCredential=").skip(1);
    found
        .filter_map(|rest| rest.split_whitespace().next()?.split_once(':'))
        .map(|(name, file)| (name.to_owned(), file.to_owned()))
        .collect()
}

/// The commands of the page, each in a line.
fn commands(page: &str) -> Vec<String> {
    let whole = page.replace("\\\n", " ");
    let lines = whole.lines().filter_map(|line| line.strip_prefix("# "));
    lines
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

/// Moves the keys as the page says: the folder that a service is given.
fn move_keys(site: &Site, commands: &[String]) -> PathBuf {
    let given = site.path("given");
    std::fs::create_dir(&given).unwrap();
    for command in commands {
        let words: Vec<_> = command.split(' ').collect();
        if let ["mv", from, to] = words[..] {
            let name = |path: &str| Path::new(path).file_name().unwrap().to_owned();
            std::fs::rename(site.path("keys").join(name(from)), given.join(name(to))).unwrap();
        }
    }
    assert_eq!(
        std::fs::read_dir(site.path("keys")).unwrap().count(),
        0,
        "a key stayed behind"
    );
    given
}

#[test]
fn page_and_unit_hand_over_the_same_three_keys() {
    let (page, unit) = (
        page("docs/publishing-signed.md"),
        page("deploy/systemd/dirless-syncer.service"),
    );
    let commands = commands(&page);
    let example = commands
        .iter()
        .find(|command| command.starts_with("systemd-run "))
        .unwrap();
    let asked = handed_over(example);
    assert_eq!(asked.len(), 3, "{example}");
    assert_eq!(handed_over(&unit), asked);
    for file in asked.values() {
        let moved = commands
            .iter()
            .any(|command| command.starts_with("mv ") && command.ends_with(file.as_str()));
        assert!(moved, "nothing puts a key at {file}");
    }
    assert!(example.contains(" dirless-syncer revoke "), "{example}");
}

#[test]
fn commands_of_a_shell_are_given_the_keys_or_say_how() {
    let site = Site::new("");
    site.good(&["once"]);
    let mut hosts = [(); 2].map(|()| Host::new(&site.tenant, "all"));
    for (host, name) in hosts.iter().zip(["web-1", "web-2"]) {
        site.ask(host, &site.code(name), name);
    }
    site.good(&["node", "admit"]);
    let commands = commands(&page("docs/publishing-signed.md"));
    let given = move_keys(&site, &commands);
    let out = site.path("more.code");
    let all: [&[&str]; 4] = [
        &["join-code", "create", "--out", out.to_str().unwrap()],
        &["signing", "rotate"],
        &["node", "revoke", "web-2"],
        &["revoke", "ann"],
    ];
    for arguments in all {
        let (ok, said) = site.ends(arguments);
        assert!(!ok, "{arguments:?} signed without a key: {said}");
        let run = said.split_once("systemd-run -P ").map(|(_, rest)| rest);
        let run = run.unwrap_or_else(|| panic!("{arguments:?} does not say how: {said}"));
        assert_eq!(handed_over(run).len(), 3, "{said}");
        assert!(said.contains("signing init") && said.contains("--syncer URL"), "{said}");
    }
    assert!(!out.exists());
    assert!(site.look(&mut hosts[1]).unwrap()["people"].contains("\"ann\""));

    // As `systemd-run -P -p LoadCredential=…` hands them over: a folder with a file for each, read-only.
    let folder = site.path("credentials");
    std::fs::create_dir(&folder).unwrap();
    let example = commands
        .iter()
        .find(|command| command.starts_with("systemd-run "))
        .unwrap();
    for (name, file) in handed_over(example) {
        let from = given.join(Path::new(&file).file_name().unwrap());
        std::fs::copy(from, folder.join(name)).unwrap();
    }
    let run = |arguments: &[&str]| {
        let output = site
            .command(arguments)
            .env("CREDENTIALS_DIRECTORY", &folder)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{arguments:?}: {said}");
    };
    for arguments in all {
        run(arguments);
    }
    assert!(out.exists());
    assert!(site.look(&mut hosts[1]).is_err(), "web-2 was locked out");
    let seen = site.look(&mut hosts[0]).unwrap();
    assert!(!seen["people"].contains("\"username\":\"ann\""), "{seen:?}");
    run(&["check"]);
    run(&["once"]);
}

#[test]
fn who_is_revoked_without_the_keys_is_left_out_by_the_service() {
    let site = Site::new("");
    site.good(&["once"]);
    let mut host = Host::new(&site.tenant, "all");
    site.ask(&host, &site.code("one"), "web-1");
    site.good(&["node", "admit"]);
    let given = move_keys(&site, &commands(&page("docs/publishing-signed.md")));
    assert!(!site.ends(&["revoke", "ann"]).0);
    // The service has them, and reads its sources again.
    let output = site
        .command(&["once"])
        .env("CREDENTIALS_DIRECTORY", &given)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let seen = site.look(&mut host).unwrap();
    assert!(
        !seen["people"].contains("\"username\":\"ann\"") && seen["people"].contains("bob"),
        "{seen:?}"
    );
}
