//! A body on its way in: hashed as it comes, small ones kept in memory, longer ones in a file
//! without a name in the storage folder (mode 0600, gone with the process).

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
use ring::digest::{Context, SHA256};

use super::StoreError;
use super::types::{DIGEST, etag_of_digest};

/// Most bytes of one body kept in memory while it comes in; also the size of the writes to a file.
pub const MEMORY_MAX: usize = 256 * 1024;

/// Most bytes in one chunk row.
pub const CHUNK_MAX: usize = 1024 * 1024;

/// Takes a body piece by piece. Made by [`super::Store::body_writer`].
pub struct BodyWriter {
    folder: PathBuf,
    limit: u64,
    length: u64,
    digest: Context,
    buffer: BytesMut,
    file: Option<File>,
}

/// A whole body, its length and digest known. Nothing is stored until it is given to
/// [`super::TenantHandle::put_snapshot`]; dropping it discards it.
pub struct SpooledBody {
    pub(crate) length: u64,
    pub(crate) digest: [u8; DIGEST],
    kept: Kept,
}

enum Kept {
    Memory(Bytes),
    File(File),
}

impl std::fmt::Debug for BodyWriter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("BodyWriter")
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for SpooledBody {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("SpooledBody")
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

impl BodyWriter {
    pub(crate) fn new(folder: PathBuf, limit: u64) -> Self {
        Self {
            folder,
            limit,
            length: 0,
            digest: Context::new(&SHA256),
            buffer: BytesMut::new(),
            file: None,
        }
    }

    /// Bytes taken so far.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Takes the next piece.
    ///
    /// # Errors
    /// [`StoreError::BodyTooLarge`] before a byte over the limit is kept, [`StoreError::DiskFull`]
    /// and [`StoreError::File`] when the temporary file fails. After an error the writer is only
    /// good for dropping.
    pub async fn write(&mut self, piece: &[u8]) -> Result<(), StoreError> {
        let length = self.length.saturating_add(piece.len() as u64);
        if length > self.limit {
            return Err(StoreError::BodyTooLarge { limit: self.limit });
        }
        self.length = length;
        self.digest.update(piece);
        self.buffer.extend_from_slice(piece);
        if self.buffer.len() > MEMORY_MAX {
            self.spill().await?;
        }
        Ok(())
    }

    /// Ends the body.
    ///
    /// # Errors
    /// As [`BodyWriter::write`].
    pub async fn finish(mut self) -> Result<SpooledBody, StoreError> {
        if self.file.is_some() && !self.buffer.is_empty() {
            self.spill().await?;
        }
        let mut digest = [0; DIGEST];
        digest.copy_from_slice(self.digest.finish().as_ref());
        Ok(SpooledBody {
            length: self.length,
            digest,
            kept: match self.file {
                Some(file) => Kept::File(file),
                None => Kept::Memory(self.buffer.freeze()),
            },
        })
    }

    /// Moves the buffer to the file, on a blocking thread.
    async fn spill(&mut self) -> Result<(), StoreError> {
        let folder = self.folder.clone();
        let file = self.file.take();
        let mut buffer = std::mem::take(&mut self.buffer);
        let written = tokio::task::spawn_blocking(move || {
            let at_folder = |error| StoreError::file(&folder, error);
            let mut file = match file {
                Some(file) => file,
                None => tempfile::tempfile_in(&folder).map_err(at_folder)?,
            };
            file.write_all(&buffer).map_err(at_folder)?;
            buffer.clear();
            Ok::<_, StoreError>((file, buffer))
        });
        let (file, buffer) = written.await.map_err(|_panicked| StoreError::Closed)??;
        self.file = Some(file);
        self.buffer = buffer;
        Ok(())
    }
}

impl SpooledBody {
    /// A body at hand.
    #[must_use]
    pub fn from_bytes(bytes: Bytes) -> Self {
        Self {
            length: bytes.len() as u64,
            digest: super::types::sha256(&bytes),
            kept: Kept::Memory(bytes),
        }
    }

    /// Its length in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The tag it will have.
    #[must_use]
    pub fn etag(&self) -> dirless_wire::ETag {
        etag_of_digest(&self.digest)
    }

    /// The whole body, when it was short enough to stay in memory (at most [`MEMORY_MAX`] bytes).
    #[must_use]
    pub fn in_memory(&self) -> Option<&Bytes> {
        match &self.kept {
            Kept::Memory(bytes) => Some(bytes),
            Kept::File(_) => None,
        }
    }

    /// Calls `take` with the number and bytes of each chunk, in order; at most [`CHUNK_MAX`] bytes
    /// are in memory at a time. May be called again.
    pub(crate) fn each_chunk(
        &self,
        mut take: impl FnMut(u32, &[u8]) -> Result<(), StoreError>,
    ) -> Result<u32, StoreError> {
        let mut number = 0;
        match &self.kept {
            Kept::Memory(bytes) => {
                for chunk in bytes.chunks(CHUNK_MAX) {
                    take(number, chunk)?;
                    number += 1;
                }
            }
            Kept::File(file) => {
                let mut buffer = vec![0; CHUNK_MAX];
                let mut offset = 0;
                while offset < self.length {
                    let left = usize::try_from(self.length - offset).unwrap_or(CHUNK_MAX);
                    let part = buffer
                        .get_mut(..left.min(CHUNK_MAX))
                        .ok_or_else(|| StoreError::corrupt("a chunk longer than its buffer"))?;
                    file.read_exact_at(part, offset)
                        .map_err(|error| StoreError::file("the temporary file of a body".as_ref(), error))?;
                    take(number, part)?;
                    number += 1;
                    offset += part.len() as u64;
                }
            }
        }
        Ok(number)
    }
}
