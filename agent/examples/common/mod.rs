//! What the programs share that measure a worker: a host in a folder, and the worker on it as a process of its own.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::bail;
use dirless_agent::paths::Paths;
use dirless_agent::pipeline::{Options, SourceNote, SourceState};

/// Reads the command line of a program called `name`: `[USERS] [FOLDER]` calls `measure`, 100,000 users in a temporary folder
/// unless said otherwise; what [`worker`] starts calls `work`.
pub(crate) fn run(
    name: &str,
    measure: impl Fn(u32, &Path) -> anyhow::Result<()>,
    work: impl Fn(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (users, folder): (u32, Option<PathBuf>) = match words.as_slice() {
        ["worker", folder] => return work(Path::new(folder)),
        [] => (100_000, None),
        [users] => (users.parse()?, None),
        [users, folder] => (users.parse()?, Some(folder.into())),
        _ => bail!("usage: {name} [USERS] [FOLDER]"),
    };
    let temporary = tempfile::tempdir()?;
    measure(users, folder.as_deref().unwrap_or(temporary.path()))
}

/// A host with nobody of its own but root, and without access rules.
pub(crate) fn host(root: &Path) -> anyhow::Result<Paths> {
    let paths = Paths::under(root);
    for folder in [
        paths.config_folder(),
        paths.sources_folder(),
        paths.table_folder(),
        paths.trust_folder(),
    ] {
        fs::create_dir_all(folder)?;
    }
    fs::write(paths.passwd(), "root:x:0:0:root:/root:/bin/bash\n")?;
    fs::write(paths.group(), "root:x:0:\n")?;
    fs::write(paths.access_rules(), "{}")?;
    Ok(paths)
}

/// Notes what the backend said of a source.
pub(crate) fn note(paths: &Paths, source: &str, state: SourceState) -> anyhow::Result<()> {
    let note = SourceNote {
        state,
        encrypted: true,
        etag: None,
        registered_key: None,
        snapshot_recipient: None,
        fetched_at: None,
    };
    Ok(fs::write(paths.source_note(source), serde_json::to_vec(&note)?)?)
}

/// This program once more, as the worker of the host in `root`.
pub(crate) fn worker(root: &Path) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("worker").arg(root);
    Ok(command)
}

/// What a worker of the host in `root` is told.
pub(crate) fn options(root: &Path) -> anyhow::Result<Options> {
    let mut options = Options::new("web-1".to_owned());
    options.owner = fs::metadata(root)?.uid();
    Ok(options)
}

/// CPU time of this process so far, in milliseconds.
pub(crate) fn processor() -> anyhow::Result<f64> {
    // proc_pid_schedstat: nanoseconds on a processor come first. A worker has one thread.
    let text = fs::read_to_string("/proc/self/schedstat")?;
    match text.split_whitespace().next() {
        Some(first) => Ok(first.parse::<f64>()? / 1e6),
        None => bail!("an empty schedstat"),
    }
}
