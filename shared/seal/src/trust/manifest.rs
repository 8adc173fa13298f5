//! The manifest: what one snapshot of one source is, signed by its publisher.

use jiff::Timestamp;

use super::text::{Fields, FormatError, Lines, Object, Time};
use crate::{Digest, Label, Recipient};

/// What one snapshot is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Whose it is.
    pub tenant: Digest,
    /// Name of the publisher's key.
    pub publisher: Label,
    /// The source.
    pub source: Label,
    /// The compartment that may read it.
    pub compartment: Label,
    /// Counts up with every change of this source in this compartment.
    pub version: u64,
    /// Digest of the manifest before; none for the first.
    pub previous: Option<Digest>,
    /// When it was made.
    pub issued: Timestamp,
    /// The epoch whose key opens it.
    pub epoch: u64,
    /// The public half of that key: a wrapped key that does not belong to it is refused.
    pub recipient: Recipient,
    /// Digest of the sealed body.
    pub ciphertext: Digest,
    /// Length of the sealed body in bytes.
    pub ciphertext_size: u64,
    /// Length of the plaintext in bytes, after decompression.
    pub plaintext_size: u64,
    /// [Content root](crate::Content::root) of its records.
    pub content: Digest,
}

impl Object for Manifest {
    const CONTEXT: &'static str = "dirless/manifest/v1";
    const MOST: usize = 4096;

    fn read(fields: &mut Fields<'_>) -> Result<Self, FormatError> {
        let tenant = fields.value("tenant")?;
        let publisher = fields.value("publisher")?;
        let source = fields.value("source")?;
        let compartment = fields.value("compartment")?;
        let version = fields.version("version")?;
        let previous = fields.optional("previous")?;
        let issued = fields.value::<Time>("issued")?.0;
        let epoch = fields.text("epoch")?;
        let [epoch, recipient] = fields.words("epoch", epoch)?;
        let epoch = fields.convert("epoch", epoch)?;
        let epoch = fields.check_version("epoch", epoch)?;
        let recipient = fields.convert("epoch", recipient)?;
        let ciphertext = fields.text("ciphertext")?;
        let [ciphertext, size] = fields.words("ciphertext", ciphertext)?;
        Ok(Self {
            tenant,
            publisher,
            source,
            compartment,
            version,
            previous,
            issued,
            epoch,
            recipient,
            ciphertext: fields.convert("ciphertext", ciphertext)?,
            ciphertext_size: fields.convert("ciphertext", size)?,
            plaintext_size: fields.value("plaintext")?,
            content: fields.value("content")?,
        })
    }

    fn write(&self, lines: &mut Lines) {
        lines.line("tenant", self.tenant);
        lines.line("publisher", &self.publisher);
        lines.line("source", &self.source);
        lines.line("compartment", &self.compartment);
        lines.line("version", self.version);
        lines.optional("previous", self.previous);
        lines.line("issued", Time(self.issued));
        lines.line("epoch", format_args!("{} {}", self.epoch, self.recipient));
        lines.line(
            "ciphertext",
            format_args!("{} {}", self.ciphertext, self.ciphertext_size),
        );
        lines.line("plaintext", self.plaintext_size);
        lines.line("content", self.content);
    }
}
