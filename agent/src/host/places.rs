use std::path::{Path, PathBuf};

use crate::paths::Paths;

/// Places of the host and of the daemon, beside those that the pipeline uses.
impl Paths {
    /// `path` below the root, absolute or not.
    #[must_use]
    pub fn rooted(&self, path: &Path) -> PathBuf {
        self.root().join(path.strip_prefix("/").unwrap_or(path))
    }

    /// sshd's main configuration.
    #[must_use]
    pub fn sshd_config(&self) -> PathBuf {
        self.at("etc/ssh/sshd_config")
    }

    /// The certificate authority that sshd trusts, where deployed agents put it.
    #[must_use]
    pub fn ca_key(&self) -> PathBuf {
        self.at("etc/ssh/dirless_ca.pub")
    }

    /// PAM's stack for sshd.
    #[must_use]
    pub fn pam_sshd(&self) -> PathBuf {
        self.at("etc/pam.d/sshd")
    }

    /// Fingerprints that the operator accepted, one a line, 0600.
    #[must_use]
    pub fn accepted_ca(&self) -> PathBuf {
        self.at("etc/dirless/accepted-ca")
    }

    /// What `dirless install` added, so that `uninstall` takes back exactly that. 0600.
    #[must_use]
    pub fn installed(&self) -> PathBuf {
        self.at("var/lib/dirless/agent/installed.json")
    }

    /// What the daemon remembers between cycles. 0600.
    #[must_use]
    pub fn daemon_state(&self) -> PathBuf {
        self.at("var/lib/dirless/agent/daemon.json")
    }

    /// Held by whoever runs a cycle, so that there is one at a time.
    #[must_use]
    pub fn cycle_lock(&self) -> PathBuf {
        self.at("var/lib/dirless/agent/cycle.lock")
    }

    /// Held by whoever joins, so that there is one at a time.
    #[must_use]
    pub fn join_lock(&self) -> PathBuf {
        self.at("var/lib/dirless/agent/join.lock")
    }

    /// Folder of the daemon's socket, 0700.
    #[must_use]
    pub fn run_folder(&self) -> PathBuf {
        self.at("run/dirless-agent")
    }

    /// The daemon's socket for root: refresh and status. 0600.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.at("run/dirless-agent/control.sock")
    }
}
