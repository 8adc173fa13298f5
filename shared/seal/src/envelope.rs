//! The envelope `base64(age(gzip(JSON)))`, written one way and read in every form that deployed
//! agents take.

use std::io::{self, BufRead, BufReader, BufWriter, Cursor, Read, Write};

use age::Decryptor;
use base64::alphabet;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::read::DecoderReader;
use base64::write::EncoderWriter;
use flate2::Compression;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;

use crate::{Identity, Recipient};

/// First bytes of every age file.
const AGE_MAGIC: &[u8] = b"age-encryption.org/";
/// First bytes of gzip data (RFC 1952).
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];

/// Padded or not, and tolerant of the bits that a sloppy encoder leaves in the last character: the
/// bytes are authenticated by age, so base64 need not guard them.
static LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// How much work a sealed body may cause before anything in it is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest age header in bytes. One X25519 stanza takes about 100 bytes.
    pub header: usize,
    /// Most recipient stanzas in the header: each costs a trial decryption.
    pub stanzas: usize,
    /// Most plaintext bytes after decompression.
    pub plaintext: u64,
}

impl Default for Limits {
    /// 64 KiB of header, 256 stanzas, 1 GiB of plaintext (a directory of four million users).
    fn default() -> Self {
        Self {
            header: 64 * 1024,
            stanzas: 256,
            plaintext: 1 << 30,
        }
    }
}

/// Why a sealed body cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is no age file in base64.
    #[error("it is no sealed snapshot: expected base64 of an age file")]
    NotSealed,
    /// The header is over a limit of [`Limits`].
    #[error("its age header is over the limit of {limit} {unit}")]
    HeaderTooLarge {
        /// The limit.
        limit: usize,
        /// `bytes` or `recipients`.
        unit: &'static str,
    },
    /// The header is broken or was changed.
    #[error("its age header is broken: {0}")]
    Header(String),
    /// It was sealed to somebody else.
    #[error("it is sealed to another key than the one at hand")]
    WrongKey,
    /// The bytes could not be read.
    #[error("it cannot be read: {0}")]
    Read(io::Error),
}

/// Seals the JSON in `plaintext` to `recipient` and writes the envelope to `out`.
///
/// # Errors
/// What reading or writing reports.
pub fn seal(recipient: &Recipient, plaintext: &mut dyn Read, out: impl Write) -> io::Result<()> {
    // age writes its header in pieces that must each be taken whole; the encoder alone takes parts.
    let mut encoder = BufWriter::with_capacity(1 << 16, EncoderWriter::new(out, &STANDARD));
    let encryptor = age::Encryptor::with_recipients(std::iter::once(recipient.age())).map_err(io::Error::other)?;
    let sealed = encryptor.wrap_output(&mut encoder)?;
    let mut compressed = GzEncoder::new(sealed, Compression::default());
    io::copy(plaintext, &mut compressed)?;
    compressed.finish()?.finish()?;
    encoder
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?
        .finish()?
        .flush()
}

/// Seals to `recipients` what `fill` writes: a binary age file, without base64 and without compression.
///
/// # Errors
/// What `fill` or `out` reports, and when there is no recipient.
pub fn seal_file(
    recipients: &[&Recipient],
    out: impl Write,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let recipients = recipients.iter().map(|recipient| recipient.age());
    let encryptor = age::Encryptor::with_recipients(recipients).map_err(io::Error::other)?;
    let mut sealed = encryptor.wrap_output(out)?;
    fill(&mut sealed)?;
    sealed.finish()?.flush()
}

/// Opens a binary age file: returns a reader of its plaintext, decompressed if it is gzip data.
///
/// # Errors
/// When the header cannot be opened with `identity`. Damage further on shows as an error of the
/// returned reader.
pub fn open_file<'a>(identity: &Identity, sealed: impl Read + 'a, limits: Limits) -> Result<Opened<'a>, OpenError> {
    decrypt(identity, check_header(sealed, limits)?, limits)
}

/// Opens an envelope: returns a reader of the plaintext JSON.
///
/// Besides what [`seal`] writes it takes base64 with line breaks, without padding or in the URL-safe
/// alphabet, several recipients of which one is ours, and plaintext that is not compressed.
///
/// # Errors
/// When the header cannot be opened with `identity`. Damage further on shows as an error of the
/// returned reader.
pub fn open<'a>(identity: &Identity, sealed: impl Read + 'a, limits: Limits) -> Result<Opened<'a>, OpenError> {
    // The decoder asks for a kilobyte at a time.
    let sealed = BufReader::with_capacity(1 << 16, sealed);
    let decoded = Decoded(DecoderReader::new(Standardised(sealed), &LENIENT));
    decrypt(identity, check_header(decoded, limits)?, limits)
}

fn decrypt<'a>(identity: &Identity, whole: impl BufRead + 'a, limits: Limits) -> Result<Opened<'a>, OpenError> {
    let decryptor = Decryptor::new_buffered(whole).map_err(from_age)?;
    let plaintext = decryptor.decrypt(std::iter::once(identity.age())).map_err(from_age)?;

    let mut plaintext: Box<dyn BufRead + 'a> = Box::new(BufReader::with_capacity(1 << 16, plaintext));
    if starts_with(&mut plaintext, GZIP_MAGIC)? {
        plaintext = Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(plaintext)));
    }
    Ok(Opened {
        plaintext,
        left: limits.plaintext,
    })
}

/// The plaintext of a sealed body. Reading it to its end without an error proves that the body is
/// whole; nothing read from it may be used before.
pub struct Opened<'a> {
    plaintext: Box<dyn BufRead + 'a>,
    left: u64,
}

impl Read for Opened<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.plaintext.read(buffer)?;
        self.left = self
            .left
            .checked_sub(count as u64)
            .ok_or_else(|| io::Error::new(io::ErrorKind::FileTooLarge, "it holds more plaintext than the limit"))?;
        Ok(count)
    }
}

impl std::fmt::Debug for Opened<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Opened({} bytes left to the limit)", self.left)
    }
}

fn from_age(error: age::DecryptError) -> OpenError {
    match error {
        age::DecryptError::NoMatchingKeys => OpenError::WrongKey,
        age::DecryptError::Io(error) => OpenError::Read(error),
        other => OpenError::Header(other.to_string()),
    }
}

/// Reads the age header, refuses it when it is over a limit, and puts it back in front.
fn check_header<'a>(mut decoded: impl Read + 'a, limits: Limits) -> Result<impl BufRead + 'a, OpenError> {
    let mut header = Vec::with_capacity(4096);
    let mut chunk = [0; 4096];
    loop {
        let count = decoded.read(&mut chunk).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => OpenError::NotSealed,
            _ => OpenError::Read(error),
        })?;
        let seen = header.len();
        header.extend_from_slice(chunk.get(..count).unwrap_or_default());
        let magic = AGE_MAGIC.len().min(header.len());
        if header.get(..magic) != AGE_MAGIC.get(..magic) || header.is_empty() {
            return Err(OpenError::NotSealed);
        }
        // The MAC line ends the header; it may start in the chunk before this one.
        if let Some(end) = find(&header, seen.saturating_sub(5), b"\n--- ") {
            let stanzas = header
                .get(..end)
                .unwrap_or_default()
                .windows(4)
                .filter(|at| at == b"\n-> ")
                .count();
            return if stanzas > limits.stanzas {
                Err(OpenError::HeaderTooLarge {
                    limit: limits.stanzas,
                    unit: "recipients",
                })
            } else if end > limits.header {
                Err(OpenError::HeaderTooLarge {
                    limit: limits.header,
                    unit: "bytes",
                })
            } else {
                Ok(BufReader::with_capacity(1 << 16, Cursor::new(header).chain(decoded)))
            };
        }
        if header.len() > limits.header {
            return Err(OpenError::HeaderTooLarge {
                limit: limits.header,
                unit: "bytes",
            });
        }
        if count == 0 {
            return Err(OpenError::Header("it ends within the header".to_owned()));
        }
    }
}

fn find(haystack: &[u8], from: usize, needle: &[u8]) -> Option<usize> {
    haystack
        .get(from..)?
        .windows(needle.len())
        .position(|at| at == needle)
        .map(|at| at + from)
}

fn starts_with(reader: &mut dyn BufRead, magic: &[u8]) -> Result<bool, OpenError> {
    reader
        .fill_buf()
        .map(|buffer| buffer.starts_with(magic))
        .map_err(OpenError::Read)
}

/// Base64 text without white space and in the standard alphabet, whatever it came in.
struct Standardised<R>(R);

impl<R: Read> Read for Standardised<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.0.read(buffer)?;
            let read = buffer.get(..count).unwrap_or_default();
            // What we write needs no change; without an early end many bytes are looked at at once.
            if read.iter().fold(true, |standard, byte| standard & !is_other(*byte)) {
                return Ok(count);
            }
            let mut kept = 0;
            for at in 0..count {
                let byte = match buffer.get(at) {
                    Some(b'-') => b'+',
                    Some(b'_') => b'/',
                    Some(byte) if !is_other(*byte) => *byte,
                    _ => continue,
                };
                if let Some(place) = buffer.get_mut(kept) {
                    *place = byte;
                    kept += 1;
                }
            }
            // Zero means the end to a reader, so a chunk of nothing but white space is read over.
            if kept > 0 || count == 0 {
                return Ok(kept);
            }
        }
    }
}

/// Is `byte` white space, or of the URL-safe alphabet alone?
fn is_other(byte: u8) -> bool {
    matches!(byte, b'-' | b'_' | b' ' | b'\t' | b'\r' | b'\n')
}

/// The decoder's errors as [`io::ErrorKind::InvalidData`], whatever kind it picks.
struct Decoded<R>(R);

impl<R: Read> Read for Decoded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| match error.get_ref() {
            Some(inner) if inner.is::<base64::DecodeError>() => {
                io::Error::new(io::ErrorKind::InvalidData, "it is no base64")
            }
            _ => error,
        })
    }
}

#[cfg(test)]
mod tests;
