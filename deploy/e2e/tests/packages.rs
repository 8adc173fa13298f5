//! The Debian packages: built, installed with dpkg, used, removed.

use std::path::Path;

use dirless_e2e::repository;
use dirless_testkit::{Program, built, isolated};

const NSSWITCH: &str = "/etc/nsswitch.conf";

/// Builds the packages from the programs at hand into `folder`.
fn build(folder: &str) -> anyhow::Result<()> {
    let program = built("dirless-agent")?;
    let target = program.ancestors().nth(2).unwrap_or(Path::new("/"));
    Program::system(&repository().join("deploy/package").to_string_lossy())
        .env("CARGO_TARGET_DIR", target)
        .args(["--debug", "--output", folder])
        .succeed()?;
    Ok(())
}

fn contents(folder: &str, package: &str) -> anyhow::Result<String> {
    Program::system("sh")
        .args(["-c", &format!("dpkg-deb --contents {folder}/{package}_*.deb")])
        .succeed()
}

#[test]
fn packages_install_and_leave_without_a_trace() {
    isolated("packages_install_and_leave_without_a_trace", || {
        let folder = "/run/work/packages";
        build(folder)?;
        let libraries = format!("./usr/lib/{}-linux-gnu/libnss_dirless.so.2", std::env::consts::ARCH);
        let expected: [(&str, &[&str]); 4] = [
            (
                "dirless-backend",
                &[
                    "./usr/bin/dirless-backend",
                    "./usr/lib/systemd/system/dirless-backend.service",
                    "./etc/dirless/dirless.toml",
                    "./usr/lib/sysusers.d/dirless-backend.conf",
                    "./usr/share/man/man1/dirless-backend.1.gz",
                ],
            ),
            (
                "dirless-syncer",
                &[
                    "./usr/bin/dirless-syncer",
                    "./usr/lib/systemd/system/dirless-syncer.service",
                ],
            ),
            (
                "dirless-agent",
                &[
                    "./usr/bin/dirless-agent",
                    "./usr/bin/dirless",
                    "./usr/libexec/dirless/dirless-authorized-keys",
                    &libraries,
                    "./usr/share/man/man1/dirless.1.gz",
                    "./usr/share/bash-completion/completions/dirless",
                    "./usr/lib/systemd/system/dirless-agent.service",
                ],
            ),
            (
                "dirless-ldapd",
                &[
                    "./usr/bin/dirless-ldapd",
                    "./usr/lib/systemd/system/dirless-ldapd.service",
                    "./usr/lib/sysusers.d/dirless-ldapd.conf",
                    "./usr/share/man/man1/dirless-ldapd.1.gz",
                    "./etc/dirless/ldapd.toml",
                ],
            ),
        ];
        for (package, files) in expected {
            let listing = contents(folder, package)?;
            for file in files {
                assert!(
                    listing.lines().any(|line| line.ends_with(&format!(" {file}"))),
                    "{package} lacks {file}\n{listing}"
                );
            }
            for line in listing.lines() {
                let (mode, owner) = (line.get(..10).unwrap_or(line), line.split_whitespace().nth(1));
                assert_eq!(owner, Some("root/root"), "{line}");
                assert!(
                    !mode.contains('s') && !mode.contains('t') && mode.get(8..9) != Some("w"),
                    "{line}"
                );
            }
        }

        let nsswitch = std::fs::read_to_string(NSSWITCH)?;
        Program::system("ssh-keygen").arg("-A").succeed()?;
        Program::system("sh")
            .args(["-c", &format!("dpkg -i {folder}/*.deb")])
            .succeed()?;
        assert_eq!(
            std::fs::read_to_string(NSSWITCH)?,
            nsswitch,
            "installing a package changed who may log in"
        );
        assert!(!Path::new("/etc/ssh/sshd_config.d/dirless.conf").exists());
        Program::system("getent")
            .args(["passwd", "dirless-backend"])
            .succeed()?;
        Program::system("dirless-backend").arg("check").succeed()?;
        // What the agent writes there is the LDAP server's to read, and nobody else's.
        let folder_of_copy = Program::system("stat")
            .args(["-c", "%a %U %G", "/var/lib/dirless/directory"])
            .succeed()?;
        assert_eq!(folder_of_copy.trim(), "2750 root dirless-ldapd");
        Program::system("dirless-ldapd").arg("check").succeed()?;

        Program::system("dirless").arg("install").succeed()?;
        assert!(std::fs::read_to_string(NSSWITCH)?.contains("dirless"));
        Program::system("dpkg").args(["-r", "dirless-agent"]).succeed()?;
        assert_eq!(
            std::fs::read_to_string(NSSWITCH)?,
            nsswitch,
            "removal left something behind"
        );
        assert!(!Path::new("/etc/ssh/sshd_config.d/dirless.conf").exists());
        Ok(())
    })
    .unwrap();
}
