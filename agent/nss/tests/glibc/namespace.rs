//! The released module, installed in a mount namespace of its own: nothing on this machine changes.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The shared object as it is shipped, built once.
pub(crate) fn released() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        // A target folder of its own: the outer cargo may hold the lock of the usual one.
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("released");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args([
            "build",
            "--quiet",
            "--release",
            "--locked",
            "--offline",
            "--package",
            "dirless-nss",
            "--lib",
        ]);
        cargo
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env_remove("RUSTFLAGS")
            .arg("--target-dir")
            .arg(&target);
        assert!(cargo.status().unwrap().success(), "building the module for release");
        target.join("release/libnss_dirless.so")
    })
}

/// A folder with the module, a table, an nsswitch.conf and the probe.
pub(crate) struct Namespace {
    pub(crate) folder: tempfile::TempDir,
}

const SET_UP: &str = r#"
    mount -t tmpfs -o mode=0755 tmpfs /var/lib
    mkdir -p /var/lib/dirless/nss /var/lib/dirless/lib /var/lib/dirless/empty
    mount --bind "$D/nss" /var/lib/dirless/nss
    cp "$D"/libnss_dirless.so.2 /var/lib/dirless/lib
    cp "$D"/probe /var/lib/dirless/probe
    printf '/var/lib/dirless/lib\ninclude /etc/ld.so.conf\n' > /var/lib/ld.conf
    /sbin/ldconfig -X -f /var/lib/ld.conf -C /var/lib/ld.cache
    mount --bind /var/lib/ld.cache /etc/ld.so.cache
    mount --bind "$D/nsswitch.conf" /etc/nsswitch.conf
    cd /var/lib/dirless
"#;

impl Namespace {
    /// With the usual order of services: local files first.
    pub(crate) fn new(table: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        std::fs::create_dir(path.join("nss")).unwrap();
        std::fs::copy(released(), path.join("libnss_dirless.so.2")).unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/glibc/probe.c");
        let mut compiler = Command::new("cc");
        compiler
            .args(["-O1", "-Wall", "-Werror", "-rdynamic", "-pthread", "-o"])
            .arg(path.join("probe"))
            .arg(source);
        assert!(compiler.arg("-ldl").status().expect("a C compiler is needed").success());
        let namespace = Self { folder };
        namespace.publish(table);
        namespace.services("passwd: files dirless\ngroup: files dirless\nshadow: files dirless\n");
        namespace
    }

    pub(crate) fn publish(&self, table: &[u8]) {
        dirless_table::publish_bytes(&self.table(), table).unwrap();
    }

    pub(crate) fn table(&self) -> PathBuf {
        self.folder.path().join("nss/table")
    }

    pub(crate) fn services(&self, text: &str) {
        std::fs::write(self.folder.path().join("nsswitch.conf"), text).unwrap();
    }

    /// A shell with `script` inside.
    pub(crate) fn command(&self, script: &str) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "timeout", "60", "sh", "-ec"]);
        command.arg(format!("{SET_UP}\n{script}")).env("D", self.folder.path());
        command
    }

    pub(crate) fn run(&self, script: &str) -> Output {
        self.command(script).output().unwrap()
    }

    /// Standard output of a script that must succeed.
    pub(crate) fn output(&self, script: &str) -> String {
        let output = self.run(script);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{script}: {:?} {error} (these tests run as root)",
            output.status
        );
        String::from_utf8(output.stdout).unwrap()
    }
}
