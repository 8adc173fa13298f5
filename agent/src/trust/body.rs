//! A body and the manifest that vouches for it, in one file: they are replaced and kept together or not at all.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, Write};
use std::path::Path;

use dirless_seal::trust::{Manifest, Object, parse};
use dirless_seal::{Digest, Note};

/// Ends the manifest. No signed note holds it.
const END: u8 = 0;

/// A body whose manifest was accepted.
#[derive(Debug)]
pub struct SignedBody {
    /// What it is.
    pub manifest: Manifest,
    /// Digest of the manifest.
    pub digest: Digest,
    /// At the first byte of the sealed body.
    pub sealed: BufReader<File>,
}

/// The file is not what this host wrote.
#[derive(Debug, thiserror::Error)]
pub enum SignedBodyError {
    /// It could not be read.
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
    /// It does not begin with a manifest.
    #[error("it does not begin with a manifest: {0}")]
    Manifest(String),
}

impl SignedBody {
    /// Opens the file at `path`; `None` when there is none.
    ///
    /// # Errors
    /// When it was written by another hand or cannot be read.
    pub fn open(path: &Path) -> Result<Option<Self>, SignedBodyError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut sealed = BufReader::with_capacity(1 << 16, file);
        let mut note = Vec::new();
        let most = Manifest::MOST as u64 + 1;
        sealed.by_ref().take(most).read_until(END, &mut note)?;
        if note.pop() != Some(END) {
            return Err(SignedBodyError::Manifest("its end is missing".to_owned()));
        }
        let wrong = |error: String| SignedBodyError::Manifest(error);
        let note = Note::parse(&note, Manifest::MOST).map_err(|error| wrong(error.to_string()))?;
        let manifest = parse(&note).map_err(|error| wrong(error.to_string()))?;
        Ok(Some(Self {
            manifest,
            digest: note.digest(),
            sealed,
        }))
    }

    /// Begins a file with `note`: the sealed body follows.
    ///
    /// # Errors
    /// What writing reports.
    pub fn begin(mut file: impl Write, note: &Note) -> io::Result<()> {
        file.write_all(note.to_string().as_bytes())?;
        file.write_all(&[END])
    }

    /// How many bytes the sealed body has.
    ///
    /// # Errors
    /// When the file cannot be looked at.
    pub fn length(&mut self) -> io::Result<u64> {
        let at = self.sealed.stream_position()?;
        Ok(self.sealed.get_ref().metadata()?.len().saturating_sub(at))
    }
}
