//! Short secrets under a passphrase: what a person keeps in a file, on a stick or in a safe.
//!
//! An age file with one scrypt stanza (<https://age-encryption.org/v1>), so that age(1) opens it as well.

use std::io::{self, Read, Write};

use age::secrecy::SecretString;
use zeroize::Zeroizing;

/// Most bytes of a locked file that are looked at.
const MOST: usize = 64 * 1024;
/// The most work that is done for a file, as an exponent of two: some ten seconds and 4 GiB.
const MOST_WORK: u8 = 22;

/// How much work it is to try one passphrase: scrypt's N is two to the power of this (RFC 7914).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkFactor(u8);

impl WorkFactor {
    /// 10 to 22; each step doubles time and memory.
    #[must_use]
    pub fn new(exponent: u8) -> Option<Self> {
        (10..=MOST_WORK).contains(&exponent).then_some(Self(exponent))
    }
}

impl Default for WorkFactor {
    /// 18: about a second and 256 MiB, as age(1) takes.
    fn default() -> Self {
        Self(18)
    }
}

/// A locked file cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum UnlockError {
    /// It is none, or damaged.
    #[error("it is no file under a passphrase, or it is damaged")]
    NoFile,
    /// The passphrase is another.
    #[error("the passphrase is wrong, or the file is damaged")]
    Passphrase,
    /// Trying one passphrase would cost more work than is sensible.
    #[error("it asks for more work than this program does")]
    TooMuchWork,
}

/// Locks `secret` under `passphrase`.
///
/// # Errors
/// When the random source fails.
pub fn lock(secret: &str, passphrase: &str, work: WorkFactor) -> io::Result<Vec<u8>> {
    let mut recipient = age::scrypt::Recipient::new(SecretString::from(passphrase.to_owned()));
    recipient.set_work_factor(work.0);
    let recipients: [&dyn age::Recipient; 1] = [&recipient];
    let encryptor = age::Encryptor::with_recipients(recipients.into_iter()).map_err(io::Error::other)?;
    let mut locked = Vec::new();
    let mut writer = encryptor.wrap_output(&mut locked)?;
    writer.write_all(secret.as_bytes())?;
    writer.finish()?;
    Ok(locked)
}

/// Opens what [`lock`] or age(1) made.
///
/// # Errors
/// When it is no such file, or the passphrase is another.
pub fn unlock(locked: &[u8], passphrase: &str) -> Result<Zeroizing<String>, UnlockError> {
    if locked.len() > MOST {
        return Err(UnlockError::NoFile);
    }
    let decryptor = age::Decryptor::new_buffered(locked).map_err(|_| UnlockError::NoFile)?;
    if !decryptor.is_scrypt() {
        return Err(UnlockError::NoFile);
    }
    let mut identity = age::scrypt::Identity::new(SecretString::from(passphrase.to_owned()));
    identity.set_max_work_factor(MOST_WORK);
    let identities: [&dyn age::Identity; 1] = [&identity];
    let mut reader = decryptor.decrypt(identities.into_iter()).map_err(|error| match error {
        age::DecryptError::ExcessiveWork { .. } => UnlockError::TooMuchWork,
        _ => UnlockError::Passphrase,
    })?;
    // Once and for all of its length: a string that grows leaves copies behind.
    let mut secret = Zeroizing::new(String::with_capacity(MOST));
    reader.read_to_string(&mut secret).map_err(|_| UnlockError::NoFile)?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Little work: tests try many.
    fn locked(secret: &str) -> Vec<u8> {
        lock(secret, "correct horse", WorkFactor::new(10).unwrap()).unwrap()
    }

    #[test]
    fn the_passphrase_opens_and_no_other_does() {
        let file = locked("PRIVATE+KEY+a");
        assert!(file.starts_with(b"age-encryption.org/v1\n-> scrypt "));
        assert_eq!(unlock(&file, "correct horse").unwrap().as_str(), "PRIVATE+KEY+a");
        for wrong in ["", "Correct horse", "correct horse "] {
            assert!(
                matches!(unlock(&file, wrong), Err(UnlockError::Passphrase)),
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn damage_is_noticed_wherever_it_is() {
        let file = locked("secret");
        for at in 0..file.len() {
            let mut damaged = file.clone();
            damaged[at] ^= 1;
            assert!(unlock(&damaged, "correct horse").is_err(), "byte {at}");
        }
        assert!(unlock(&file[..file.len() - 1], "correct horse").is_err());
        assert!(matches!(unlock(b"PRIVATE+KEY+a", "x"), Err(UnlockError::NoFile)));
    }

    #[test]
    fn neither_other_kinds_nor_endless_work_are_begun() {
        let mut sealed = Vec::new();
        let recipient = crate::Identity::generate().recipient();
        crate::seal_file(&[&recipient], &mut sealed, |out| out.write_all(b"x")).unwrap();
        assert!(matches!(unlock(&sealed, "x"), Err(UnlockError::NoFile)));
        let text = String::from_utf8_lossy(&locked("x")).into_owned();
        assert!(text.contains(" 10\n"));
        let greedy: Vec<u8> = {
            let file = locked("x");
            let at = file.windows(4).position(|window| window == b" 10\n").unwrap();
            [&file[..at], b" 40\n", &file[at + 4..]].concat()
        };
        assert!(matches!(
            unlock(&greedy, "correct horse"),
            Err(UnlockError::TooMuchWork)
        ));
        assert!(WorkFactor::new(9).is_none() && WorkFactor::new(23).is_none());
    }
}
