use std::process::Command;

use anyhow::{Context, bail};

/// Lays out the machine; see the comments in it.
const SCRIPT: &str = include_str!("isolated.sh");

/// Set inside, so that a program knows it need not isolate itself again.
const MARK: &str = "DIRLESS_ISOLATED";

/// Whether this process already runs on a machine of its own.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "the mark is left in the environment by `command` below"
)]
pub fn inside() -> bool {
    std::env::var_os(MARK).is_some()
}

/// The command that runs this very program once more, with `arguments`, on a machine of its own:
/// private mounts, network with loopback only, process numbers and host name (`web-1`). Every folder
/// that programs write to starts as a copy of the real one and is gone afterwards, as is every process
/// that is left over.
///
/// # Errors
/// When the path of this program cannot be found.
pub fn command(arguments: &[&str]) -> anyhow::Result<Command> {
    let program = std::env::current_exe().context("finding this program")?;
    let mut command = Command::new("unshare");
    command
        .args([
            "--mount",
            "--net",
            "--pid",
            "--ipc",
            "--uts",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ])
        .args(["--propagation", "private", "sh", "-c", SCRIPT, "isolated"])
        .arg(program)
        .args(arguments)
        .env(MARK, "1");
    Ok(command)
}

/// Runs the body of the test called `name` (its whole path, as `cargo test` prints it) on a machine
/// of its own, by running this test program again with only that test in it. Fixed ports, real
/// system paths and the address of the AWS metadata service are free there, and tests that run at
/// the same time do not meet.
///
/// # Errors
/// What the body reports. Without root it fails and says so: a test that quietly did nothing
/// would prove nothing.
pub fn isolated(name: &str, body: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    if inside() {
        return body();
    }
    let output = command(&[name, "--exact", "--nocapture", "--include-ignored"])?
        .output()
        .context("running unshare (package util-linux)")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    println!("{said}");
    if output.status.success() && said.contains("1 passed") {
        return Ok(());
    }
    if said.contains("unshare failed") {
        bail!("{name} needs a machine of its own and so must run as root, with the right to make namespaces");
    }
    bail!(
        "{name} failed on its own machine ({}); its output is above",
        output.status
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn what_is_written_inside_stays_inside() {
        let trace = Path::new("/etc/dirless-isolation-proof");
        isolated("isolated::tests::what_is_written_inside_stays_inside", || {
            std::fs::write(trace, "x")?;
            std::fs::create_dir("/var/lib/dirless")?;
            assert_eq!(std::fs::read_to_string("/proc/sys/kernel/hostname")?.trim(), "web-1");
            assert!(std::fs::read_dir("/home")?.count() < 1000);
            std::net::TcpListener::bind("127.0.0.1:22").context("the ports are all ours")?;
            Ok(())
        })
        .unwrap();
        assert!(inside() || !trace.exists());
    }

    #[test]
    fn a_failure_inside_is_a_failure_outside() {
        let outcome = isolated("isolated::tests::a_failure_inside_is_a_failure_outside", || {
            bail!("on purpose")
        });
        if inside() {
            outcome.unwrap();
        } else {
            assert!(outcome.is_err());
        }
    }
}
