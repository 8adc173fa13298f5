use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use proptest::prelude::*;

use super::super::sshd_program::tests::{fake, reloads};
use super::*;

const ALL: Wanted = Wanted {
    nss: true,
    ssh: true,
    mkhomedir: true,
};
const NSSWITCH: &str =
    "passwd:         files systemd\ngroup:          files systemd\nshadow:         files\nhosts: files dns\n";
const SSHD: &str = "Port 22\nUsePAM yes\n";
const PAM: &str = "@include common-auth\n";

struct Host {
    folder: tempfile::TempDir,
    paths: Paths,
}

impl Host {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        std::fs::create_dir_all(folder.path().join("etc")).unwrap();
        let paths = Paths::under(folder.path());
        Self { folder, paths }
    }

    fn usual() -> Self {
        Self::new(&[
            ("etc/nsswitch.conf", NSSWITCH),
            ("etc/ssh/sshd_config", SSHD),
            ("etc/pam.d/sshd", PAM),
        ])
    }

    fn install(&self, wanted: Wanted) -> Vec<String> {
        let plan = plan_install(&self.paths, wanted).unwrap();
        carry_out(&plan, &self.paths, &SshdProgram::none()).unwrap()
    }

    fn uninstall(&self) {
        let plan = plan_uninstall(&self.paths).unwrap();
        carry_out(&plan, &self.paths, &SshdProgram::none()).unwrap();
    }

    /// Every file under `etc` with its text.
    fn etc(&self) -> BTreeMap<PathBuf, String> {
        fn walk(folder: &Path, into: &mut BTreeMap<PathBuf, String>) {
            for entry in std::fs::read_dir(folder).unwrap().flatten() {
                if entry.file_type().unwrap().is_dir() {
                    walk(&entry.path(), into);
                } else {
                    into.insert(entry.path(), std::fs::read_to_string(entry.path()).unwrap());
                }
            }
        }
        let mut files = BTreeMap::new();
        walk(&self.folder.path().join("etc"), &mut files);
        files
    }
}

#[test]
fn install_then_uninstall_leaves_etc_byte_for_byte() {
    let host = Host::usual();
    let before = host.etc();
    host.install(ALL);
    let text = std::fs::read_to_string(host.paths.nsswitch()).unwrap();
    assert!(text.contains("passwd:         files dirless systemd\n"), "{text}");
    assert!(sshd::includes_drop_ins(
        &std::fs::read_to_string(host.paths.sshd_config()).unwrap()
    ));
    assert!(
        std::fs::read_to_string(host.paths.pam_sshd())
            .unwrap()
            .contains("pam_mkhomedir")
    );
    assert_eq!(
        std::fs::read_to_string(edit::backup_of(&host.paths.nsswitch())).unwrap(),
        NSSWITCH
    );
    host.uninstall();
    assert_eq!(host.etc(), before);
    assert!(!host.paths.installed().exists());
}

#[test]
fn installing_twice_and_in_parts_changes_nothing_more() {
    let host = Host::usual();
    let before = host.etc();
    host.install(Wanted {
        nss: true,
        ..Wanted::default()
    });
    host.install(Wanted {
        ssh: true,
        ..Wanted::default()
    });
    host.install(ALL);
    let installed = host.etc();
    assert!(plan_install(&host.paths, ALL).unwrap().changes.is_empty());
    host.install(ALL);
    assert_eq!(host.etc(), installed);
    host.uninstall();
    assert_eq!(host.etc(), before);
}

#[test]
fn only_what_was_asked_for_is_touched() {
    let host = Host::usual();
    host.install(Wanted {
        nss: true,
        ..Wanted::default()
    });
    assert!(!host.paths.sshd_snippet().exists());
    assert_eq!(std::fs::read_to_string(host.paths.sshd_config()).unwrap(), SSHD);
    assert_eq!(std::fs::read_to_string(host.paths.pam_sshd()).unwrap(), PAM);
}

#[test]
fn what_people_changed_in_between_stays() {
    let host = Host::usual();
    host.install(ALL);
    let edit_file = |path: &Path, from: &str, to: &str| {
        let text = std::fs::read_to_string(path).unwrap().replace(from, to);
        std::fs::write(path, text).unwrap();
    };
    edit_file(&host.paths.nsswitch(), "hosts: files dns", "hosts: files resolve");
    edit_file(&host.paths.sshd_config(), "Port 22", "Port 2222");
    host.uninstall();
    assert_eq!(
        std::fs::read_to_string(host.paths.nsswitch()).unwrap(),
        NSSWITCH.replace("dns", "resolve")
    );
    assert_eq!(
        std::fs::read_to_string(host.paths.sshd_config()).unwrap(),
        SSHD.replace("22", "2222")
    );
}

#[test]
fn links_modes_and_missing_files_are_respected() {
    let host = Host::new(&[("etc/real/nsswitch", NSSWITCH), ("etc/ssh/sshd_config", SSHD)]);
    std::os::unix::fs::symlink("real/nsswitch", host.paths.nsswitch()).unwrap();
    std::fs::set_permissions(host.paths.sshd_config(), std::fs::Permissions::from_mode(0o600)).unwrap();
    let notices = host.install(ALL);
    assert!(
        notices.iter().any(|notice| notice.contains("pam.d/sshd")),
        "{notices:?}"
    );
    assert!(host.paths.nsswitch().is_symlink());
    assert!(
        std::fs::read_to_string(host.folder.path().join("etc/real/nsswitch"))
            .unwrap()
            .contains("dirless")
    );
    assert_eq!(
        std::fs::metadata(host.paths.sshd_config()).unwrap().mode() & 0o777,
        0o600
    );
    host.uninstall();
    assert!(host.paths.nsswitch().is_symlink());
    assert_eq!(std::fs::read_to_string(host.paths.nsswitch()).unwrap(), NSSWITCH);

    let bare = Host::new(&[]);
    bare.install(Wanted {
        nss: true,
        ..Wanted::default()
    });
    bare.uninstall();
    assert!(!bare.paths.nsswitch().exists());
    assert!(matches!(plan_install(&bare.paths, ALL), Err(InstallError::NoSshd(_))));
}

#[test]
fn sshd_is_asked_before_and_after_and_a_refusal_puts_all_back() {
    let host = Host::usual();
    let before = host.etc();
    let snippet = host.paths.sshd_snippet();
    let plan = plan_install(&host.paths, ALL).unwrap();

    let refuses_ours = fake(host.folder.path(), &format!("[ -e {} ]", snippet.display()));
    let error = carry_out(&plan, &host.paths, &refuses_ours).unwrap_err();
    assert!(matches!(error, InstallError::Refused(_)), "{error}");
    let mut after = host.etc();
    after.retain(|path, _| !path.to_string_lossy().ends_with(".before-dirless"));
    assert_eq!(after, before);

    let broken = fake(host.folder.path(), "true");
    let error = carry_out(&plan, &host.paths, &broken).unwrap_err();
    assert!(matches!(error, InstallError::BrokenBefore(_)), "{error}");
    assert_eq!(reloads(host.folder.path()), 0);

    let fine = fake(host.folder.path(), "false");
    carry_out(&plan, &host.paths, &fine).unwrap();
    assert_eq!(reloads(host.folder.path()), 1);
}

#[test]
fn a_plan_shows_what_it_would_do_and_does_nothing() {
    let host = Host::usual();
    let before = host.etc();
    let plan = plan_install(&host.paths, ALL).unwrap();
    let shown: String = plan.changes.iter().map(Change::difference).collect();
    assert!(
        shown.contains("-passwd:         files systemd\n+group:")
            || shown.contains("+passwd:         files dirless systemd\n"),
        "{shown}"
    );
    assert!(!shown.contains("hosts:"), "{shown}");
    assert_eq!(host.etc(), before);
}

#[test]
fn the_drop_in_of_a_deployed_agent_is_taken_over_and_removed() {
    let host = Host::usual();
    std::fs::create_dir_all(host.paths.sshd_snippets()).unwrap();
    std::fs::write(host.paths.sshd_snippet(), "TrustedUserCAKeys /etc/ssh/dirless_ca.pub\n").unwrap();
    host.install(ALL);
    let text = std::fs::read_to_string(host.paths.sshd_snippet()).unwrap();
    assert_eq!(sshd::drop_in_state(&text), (true, true));
    host.uninstall();
    assert!(!host.paths.sshd_snippet().exists());
}

#[test]
fn what_deployed_tools_did_to_nsswitch_is_told_and_their_backup_stays() {
    let host = Host::new(&[
        (
            "etc/nsswitch.conf",
            "passwd: files dirless systemd\ngroup: files dirless systemd\nshadow: files dirless\n",
        ),
        ("etc/nsswitch.conf.dirless-backup", NSSWITCH),
    ]);
    let before = host.etc();
    assert!(
        plan_install(
            &host.paths,
            Wanted {
                nss: true,
                ..Wanted::default()
            }
        )
        .unwrap()
        .changes
        .is_empty()
    );
    let plan = plan_uninstall(&host.paths).unwrap();
    assert!(
        plan.notices.iter().any(|notice| notice.contains("dirless-backup")),
        "{:?}",
        plan.notices
    );
    carry_out(&plan, &host.paths, &SshdProgram::none()).unwrap();
    assert_eq!(host.etc(), before);
}

#[test]
fn a_damaged_record_stops_before_anything_is_touched() {
    let host = Host::usual();
    host.install(ALL);
    std::fs::write(host.paths.installed(), "{").unwrap();
    assert!(matches!(plan_uninstall(&host.paths), Err(InstallError::Record { .. })));
    assert!(matches!(
        plan_install(&host.paths, ALL),
        Err(InstallError::Record { .. })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn uninstall_after_install_is_the_identity_for_any_texts(
        nsswitch in "((passwd|group|shadow|hosts):( files| sss| \\[SUCCESS=merge\\]){0,3}|\\PC{0,20})?(\n\\PC{0,20}){0,3}\n?",
        sshd in "(Port 22|Match all|\\PC{0,20})?(\n\\PC{0,20}){0,3}\n?",
        pam in "\\PC{0,20}(\n\\PC{0,20}){0,3}\n?",
    ) {
        let host = Host::new(&[("etc/nsswitch.conf", &nsswitch), ("etc/ssh/sshd_config", &sshd), ("etc/pam.d/sshd", &pam)]);
        let before = host.etc();
        host.install(ALL);
        host.uninstall();
        prop_assert_eq!(host.etc(), before);
    }
}
