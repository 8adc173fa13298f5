//! Key files: one secret each, under a passphrase.

use std::path::Path;

use anyhow::{Context, bail};
use dirless_program::Secret;
use dirless_seal::{Identity, Label, SigningKey, WorkFactor, lock, unlock};
use zeroize::Zeroizing;

use crate::options::PassphraseFrom;
use crate::{Terminal, files};

/// Most bytes of a key file.
const MOST: usize = 64 * 1024;

/// Makes a signing key.
pub(crate) fn generate(name: Label) -> anyhow::Result<SigningKey> {
    SigningKey::generate(name)
        .ok()
        .context("the system gives no random bytes")
}

/// Writes a secret under its passphrase, for its owner alone, over nothing.
pub(crate) fn write(path: &Path, secret: &str, passphrase: &Secret, work: WorkFactor) -> anyhow::Result<()> {
    let locked = lock(secret, passphrase.expose(), work).context("locking a key")?;
    files::create(path, 0o600, &locked)
}

/// Opens a root key.
pub(crate) fn signing(
    path: &Path,
    passphrase: &PassphraseFrom,
    terminal: &mut dyn Terminal,
) -> anyhow::Result<SigningKey> {
    let secret = open(path, passphrase, terminal)?;
    SigningKey::parse(&secret).with_context(|| format!("{} holds no signing key", path.display()))
}

/// The text of an enroller's key file: what signs, and what opens join requests.
pub(crate) fn enroller_text(key: &SigningKey, identity: &Identity) -> Zeroizing<String> {
    Zeroizing::new(format!("{}\n{}\n", key.expose().as_str(), identity.expose().as_str()))
}

/// Opens the key of an enroller.
pub(crate) fn enroller(
    path: &Path,
    passphrase: &PassphraseFrom,
    terminal: &mut dyn Terminal,
) -> anyhow::Result<(SigningKey, Identity)> {
    let secret = open(path, passphrase, terminal)?;
    let (key, identity) = secret
        .trim()
        .split_once('\n')
        .with_context(|| format!("{} holds no enroller's key, which is two lines", path.display()))?;
    let wrong = || format!("{} holds no enroller's key", path.display());
    Ok((
        SigningKey::parse(key.trim()).with_context(wrong)?,
        Identity::parse(identity.trim()).with_context(wrong)?,
    ))
}

/// Opens an age identity.
pub(crate) fn identity(
    path: &Path,
    passphrase: &PassphraseFrom,
    terminal: &mut dyn Terminal,
) -> anyhow::Result<Identity> {
    let secret = open(path, passphrase, terminal)?;
    Identity::parse(&secret).with_context(|| format!("{} holds no recovery key", path.display()))
}

/// The secret in a key file. One in clear, as a hardware store may hand out, is read when others cannot read it.
fn open(path: &Path, passphrase: &PassphraseFrom, terminal: &mut dyn Terminal) -> anyhow::Result<Zeroizing<String>> {
    let Some(bytes) = files::read(path, MOST)?.map(Zeroizing::new) else {
        bail!("there is no key file {}", path.display());
    };
    if !bytes.starts_with(b"age-encryption.org/") {
        return Ok(Zeroizing::new(Secret::from_file(path)?.expose().to_owned()));
    }
    let given = passphrase.existing(&path.display().to_string(), terminal)?;
    unlock(&bytes, given.expose()).with_context(|| format!("opening {}", path.display()))
}
