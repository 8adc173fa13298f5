//! A sealed body, from wherever it lies to its place.

use std::io::{self, Seek, SeekFrom};
use std::path::Path;

use dirless_client::{Files, FilesError, SnapshotSink};
use dirless_seal::trust::{Manifest, Refusal};
use dirless_seal::{Digester, Note};
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

use super::SignedBody;
use super::log::KeptLog;
use super::walk::{Followed, Stop};

/// No sealed body is longer than this, whatever its publisher signed.
const LONGEST_BODY: u64 = 1 << 30;

/// Fetches the body aside, checks it, and puts it in place with its manifest and its log.
pub(super) async fn install(
    files: &Files,
    target: &Path,
    note: &Note,
    manifest: &Manifest,
    log: &Followed,
) -> Result<(), Stop> {
    let signed = manifest.ciphertext_size;
    if signed > LONGEST_BODY {
        return Err(Refusal::Size {
            found: signed,
            signed: LONGEST_BODY,
        }
        .into());
    }
    let disk = |error| Stop::Disk(target.to_owned(), error);
    let folder = target.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".fetch-")
        .tempfile_in(folder)
        .map_err(disk)?;
    SignedBody::begin(file.as_file_mut(), note).map_err(disk)?;
    let mut sink = Hashing {
        from: file.as_file_mut().stream_position().map_err(disk)?,
        file: tokio::fs::File::from_std(file.as_file().try_clone().map_err(disk)?),
        digester: Digester::default(),
    };
    let path = format!("blob/{}", manifest.ciphertext);
    let length = match files.copy(&path, signed, &mut sink).await {
        Err(FilesError::TooLong { .. }) => {
            return Err(Refusal::Size {
                found: signed + 1,
                signed,
            }
            .into());
        }
        length => length?.ok_or(Stop::Missing(path))?,
    };
    if length != signed {
        return Err(Refusal::Size { found: length, signed }.into());
    }
    if sink.digester.finish() != manifest.ciphertext {
        return Err(Refusal::Body.into());
    }
    file.as_file().sync_all().map_err(disk)?;
    keep_log(target, note, log).map_err(disk)?;
    file.persist(target).map_err(|error| disk(error.error))?;
    std::fs::File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(disk)
}

/// Puts the log in place before its body. Where either has one there is no body meanwhile: one without its log is older than
/// what was accepted.
fn keep_log(target: &Path, note: &Note, log: &Followed) -> io::Result<()> {
    if log.reached.length == 0 && !KeptLog::note_beside(target).exists() {
        return Ok(());
    }
    let kept = KeptLog::beside(target, note.digest())?;
    dirless_program::fs::remove(target)?;
    if log.reached.length > 0 {
        kept.replace(&log.frames)?;
    }
    kept.note(log.reached)
}

/// A file whose digest is taken while it is written, from some byte on.
struct Hashing {
    file: tokio::fs::File,
    from: u64,
    digester: Digester,
}

impl SnapshotSink for Hashing {
    async fn begin(&mut self) -> io::Result<()> {
        // Behind the manifest.
        self.file.flush().await?;
        self.file.set_len(self.from).await?;
        self.file.seek(SeekFrom::Start(self.from)).await?;
        self.digester = Digester::default();
        Ok(())
    }

    async fn append(&mut self, piece: &[u8]) -> io::Result<()> {
        self.digester.update(piece);
        self.file.write_all(piece).await
    }

    async fn finish(&mut self) -> io::Result<()> {
        self.file.flush().await
    }
}
