//! Whether a run would say again what the last one said. A run is a pure function of its inputs, so
//! the same inputs need no second run.

use std::os::unix::fs::MetadataExt;
use std::{fs, io};

use ring::digest::{Context, SHA256};

use crate::trust::KeptLog;

use super::{Body, Inputs, Opener, Options, Ratchet, Report, SourceInput, Taken};

/// A digest of all that a run of `inputs` with `options` depends on but for the bodies of the sources, what the backend
/// said of them and the keys of their epochs: what they say is the same in any.
pub(super) fn surroundings(options: &Options, inputs: &Inputs) -> String {
    let mut hasher = Hasher(Context::new(&SHA256));
    hasher.surroundings(options, inputs);
    for source in all(inputs) {
        hasher.text(&format!(
            "{:?} {:?}",
            source.name,
            source.note.as_ref().map(|note| note.state)
        ));
    }
    hasher.finish()
}

/// A digest of all that a run of `inputs` with `options` depends on, as long as it takes what was
/// fetched; `ratchet` is the one that it starts from. Sealed files count by what the daemon changes when
/// it replaces one: to read them costs a tenth of a run.
///
/// # Errors
/// When a sealed file cannot be looked at.
pub(super) fn digest(options: &Options, inputs: &Inputs, ratchet: &Ratchet) -> io::Result<String> {
    let mut hasher = Hasher(Context::new(&SHA256));
    hasher.surroundings(options, inputs);
    if let Opener::Signed { keys, .. } = &inputs.opener {
        hasher.text(&format!("{keys:?}"));
    }
    hasher.text(&format!("{ratchet:?}"));
    for source in all(inputs) {
        hasher.text(&format!("{:?} {:?}", source.name, source.note));
        if let Some(body) = &source.fetched {
            hasher.body(body)?;
        }
    }
    Ok(hasher.finish())
}

/// The sources of accounts, then those of the tree: how many there are of each stands in the options.
fn all(inputs: &Inputs) -> impl Iterator<Item = &SourceInput> {
    let tree = inputs.directory.iter().flat_map(|directory| &directory.sources);
    inputs.sources.iter().chain(tree)
}

/// Whose bodies are believed.
fn opened_by(opener: &Opener) -> String {
    match opener {
        Opener::Key(identity) => identity.recipient().to_string(),
        Opener::Signed { policy, keys: _ } => format!("{policy:?}"),
    }
}

/// Did the run that `report` tells of take nothing but what was fetched? Otherwise its outcome depends
/// on more than [`digest`] looks at.
pub(super) fn depends_on_fetched_alone(report: &Report) -> bool {
    let fetched = |taken| matches!(taken, Taken::Fetched | Taken::Empty);
    report.problem.is_none()
        && report.access.problem.is_none()
        && report.sources.iter().all(|source| fetched(source.taken))
}

/// SHA-256 of pieces that are told apart by their lengths.
struct Hasher(Context);

impl Hasher {
    fn finish(self) -> String {
        let digest = self.0.finish();
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Everything but the sources, the keys of epochs and the ratchet.
    fn surroundings(&mut self, options: &Options, inputs: &Inputs) {
        // Taken apart, so that a new input cannot be forgotten here.
        let Inputs {
            sources: _,
            // Its base is among the options, and its sources are looked at with the others.
            directory: _,
            opener,
            access,
            name_rule,
            hostname,
            limits,
            host,
            ratchet: _,
        } = inputs;
        self.text(&format!(
            "{} {options:?} {} {name_rule:?} {hostname:?} {limits:?}",
            env!("CARGO_PKG_VERSION"),
            opened_by(opener),
        ));
        self.bytes(access.fetched.as_deref().unwrap_or_default());
        self.text(&host.passwd);
        self.text(&host.group);
        self.text(&format!("{:?}", host.shells));
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn body(&mut self, body: &Body) -> io::Result<()> {
        match body {
            Body::Bytes(bytes) => self.bytes(bytes),
            Body::File(path) => {
                let about = fs::metadata(path)?;
                let changed = (about.mtime(), about.mtime_nsec());
                self.text(&format!("{:?}", (about.dev(), about.ino(), about.size(), changed)));
                self.text(&KeptLog::told_beside(path));
            }
        }
        Ok(())
    }
}
