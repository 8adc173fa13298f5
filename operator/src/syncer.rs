//! A syncer that publishes and admits hosts: its public lines, which are lines of a policy, and the table of its configuration.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use dirless_seal::trust::Policy;

use crate::draft::Draft;
use crate::files;

/// Longest file of lines.
const MOST: usize = 64 * 1024;

/// Puts the publishers and enrollers of these files into `policy`, as `dirless-syncer signing init` printed them.
pub(crate) fn admit(policy: &mut Policy, lines: &[PathBuf]) -> anyhow::Result<()> {
    for path in lines {
        let bytes = files::read(path, MOST)?.with_context(|| format!("{} is not there", path.display()))?;
        let text = String::from_utf8_lossy(&bytes);
        if !admit_lines(policy, &text).with_context(|| format!("in {}", path.display()))? {
            bail!(
                "{} has no line of a publisher; it is what `dirless-syncer signing init NAME` prints",
                path.display()
            );
        }
    }
    Ok(())
}

/// Puts the publishers and enrollers of `text` into `policy`; false when there is no publisher.
pub(crate) fn admit_lines(policy: &mut Policy, text: &str) -> anyhow::Result<bool> {
    let of = |kind: &str| -> String {
        let own = text.lines().map(str::trim).filter(|line| line.starts_with(kind));
        own.map(|line| format!("{line}\n")).collect()
    };
    let (publishers, enrollers) = (of("publisher "), of("enroller "));
    if publishers.is_empty() {
        return Ok(false);
    }
    let new = read(policy, &publishers, &enrollers)?;
    policy.publishers.extend(new.publishers);
    policy.enrollers.extend(new.enrollers);
    Ok(true)
}

/// The policy that would have these lines and no others of their kind.
fn read(policy: &Policy, publishers: &str, enrollers: &str) -> anyhow::Result<Policy> {
    let bare = Policy {
        publishers: Vec::new(),
        enrollers: Vec::new(),
        ..policy.clone()
    };
    let text = Draft::new(&bare)?.text();
    // They stand right behind the roots.
    let roots = text.rfind("\nroot ").context("a policy has roots")? + 1;
    let behind = text.get(roots..).and_then(|rest| rest.find('\n'));
    let (before, after) = text.split_at(roots + behind.context("the line of a root ends")? + 1);
    let whole = format!("{before}{publishers}{enrollers}{after}");
    Ok(Draft::read(whole.as_bytes())?.policy().clone())
}

/// The table for the configuration of a syncer that publishes there: at a backend, or into the folder.
pub(crate) fn table(policy: &Policy, backend: Option<&str>, folder: &Path) -> anyhow::Result<String> {
    let place = match backend {
        Some(url) => format!("urls = [\"{url}\"]"),
        None => {
            let folder = folder
                .canonicalize()
                .with_context(|| format!("looking at {}", folder.display()))?;
            format!(
                "folder = {:?}\n#url = \"https://files.example.com/tenant\"   # where hosts find the folder",
                folder.display().to_string()
            )
        }
    };
    Ok(format!(
        "\n[signed]\n{place}\nroots = \"{}\"\ntenant = \"{}\"\n",
        policy.fingerprint(),
        policy.tenant
    ))
}
