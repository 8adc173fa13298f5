//! The wrap: an epoch's key, sealed to one host or to a recovery recipient.

use std::io::Read;

use zeroize::Zeroizing;

use super::text::{Fields, FormatError, Lines, Object, print, read};
use crate::{Digest, Identity, Label, Limits, OpenError, Recipient, open_file, seal_file};

/// Most plaintext bytes of a wrap.
const MOST: u64 = 4096;

/// The key of an epoch of a compartment. It is not signed: what it opens names its public half
/// ([`Manifest::recipient`](super::Manifest::recipient)), and that is signed.
pub struct Wrap {
    /// Whose it is.
    pub tenant: Digest,
    /// The compartment.
    pub compartment: Label,
    /// The epoch.
    pub epoch: u64,
    /// Its key.
    pub identity: Identity,
}

/// A wrap cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum WrapError {
    /// It is not sealed to the key at hand, or is damaged.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It could not be read to its end.
    #[error("it cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// What was in it is no wrap.
    #[error("what is in it is no wrapped key: {0}")]
    Format(#[from] FormatError),
}

impl Wrap {
    /// Seals it to `recipient`: a binary age file.
    ///
    /// # Errors
    /// When the random source or the output fails.
    pub fn seal(&self, recipient: &Recipient) -> std::io::Result<Vec<u8>> {
        let text = Zeroizing::new(print(self).map_err(std::io::Error::other)?);
        let mut sealed = Vec::new();
        seal_file(&[recipient], &mut sealed, |writer| writer.write_all(text.as_bytes()))?;
        Ok(sealed)
    }

    /// Opens `sealed` with `identity`.
    ///
    /// # Errors
    /// When it is not for this key, damaged, or no wrap.
    pub fn open(sealed: &[u8], identity: &Identity) -> Result<Self, WrapError> {
        let limits = Limits {
            header: 4096,
            stanzas: 8,
            plaintext: MOST,
        };
        let mut text = Zeroizing::new(String::with_capacity(512));
        open_file(identity, sealed, limits)?.read_to_string(&mut text)?;
        Ok(read(&text)?)
    }
}

impl std::fmt::Debug for Wrap {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "Wrap({} {} {:?})",
            self.compartment, self.epoch, self.identity
        )
    }
}

impl Object for Wrap {
    const CONTEXT: &'static str = "dirless/wrap/v1";
    const MOST: usize = 4096;

    fn read(fields: &mut Fields<'_>) -> Result<Self, FormatError> {
        Ok(Self {
            tenant: fields.value("tenant")?,
            compartment: fields.value("compartment")?,
            epoch: fields.version("epoch")?,
            identity: fields.value("identity")?,
        })
    }

    fn write(&self, lines: &mut Lines) {
        lines.line("tenant", self.tenant);
        lines.line("compartment", &self.compartment);
        lines.line("epoch", self.epoch);
        lines.line("identity", self.identity.expose().as_str());
    }
}
