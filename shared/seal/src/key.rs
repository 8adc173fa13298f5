//! age X25519 keys: the identity that opens, the recipient that is sealed to.

use std::fmt;
use std::str::FromStr;

use age::secrecy::ExposeSecret;
use zeroize::Zeroizing;

/// Why a text is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No line of an identity file is an X25519 identity.
    #[error("there is no age identity in it: one line must begin with AGE-SECRET-KEY-1 (make one with: age-keygen)")]
    NoIdentity,
    /// More than one line is an identity, and nobody says which one counts.
    #[error("there is more than one age identity in it; keep the one of this tenant")]
    ManyIdentities,
    /// A line looks like an identity but its checksum or length is wrong.
    #[error("the age identity in it is damaged: {0}")]
    DamagedIdentity(&'static str),
    /// The text is no X25519 recipient.
    #[error("{text:?} is no age recipient (age1…): {reason}")]
    Recipient {
        /// The text.
        text: String,
        /// What age says.
        reason: &'static str,
    },
}

/// A secret key that opens what was sealed to its [`Recipient`].
pub struct Identity(age::x25519::Identity);

impl Identity {
    /// Makes a new one from the system's random source.
    #[must_use]
    pub fn generate() -> Self {
        Self(age::x25519::Identity::generate())
    }

    /// Reads the text of an identity file: comment lines (`#`), blank lines and one identity, as
    /// age-keygen(1) writes it, or the bare identity as deployed programs write it.
    ///
    /// # Errors
    /// When there is not exactly one intact identity.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let mut found = None;
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if !line.to_ascii_uppercase().starts_with("AGE-SECRET-KEY-1") {
                return Err(KeyError::NoIdentity);
            }
            let identity = age::x25519::Identity::from_str(line).map_err(KeyError::DamagedIdentity)?;
            if found.replace(identity).is_some() {
                return Err(KeyError::ManyIdentities);
            }
        }
        found.map(Self).ok_or(KeyError::NoIdentity)
    }

    /// The public half.
    #[must_use]
    pub fn recipient(&self) -> Recipient {
        Recipient::of(self.0.to_public())
    }

    /// The secret as text, for writing an identity file. Wiped when dropped.
    #[must_use]
    pub fn expose(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.to_string().expose_secret().to_owned())
    }

    pub(crate) fn age(&self) -> &dyn age::Identity {
        &self.0
    }
}

impl FromStr for Identity {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        Self::parse(text)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Identity(of {})", self.recipient())
    }
}

/// A public key that snapshots are sealed to, written `age1…`.
#[derive(Clone)]
pub struct Recipient {
    key: age::x25519::Recipient,
    text: Box<str>,
}

impl Recipient {
    fn of(key: age::x25519::Recipient) -> Self {
        Self {
            text: key.to_string().into(),
            key,
        }
    }

    /// Parses the `age1…` form.
    ///
    /// # Errors
    /// When it is no intact X25519 recipient.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        age::x25519::Recipient::from_str(text)
            .map(Self::of)
            .map_err(|reason| KeyError::Recipient {
                text: text.to_owned(),
                reason,
            })
    }

    /// The `age1…` form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The fingerprint that deployed agents log: `SHA256:` and unpadded base64 of the SHA-256
    /// digest of the `age1…` form.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        crate::fingerprint(self.text.as_bytes())
    }

    pub(crate) fn age(&self) -> &dyn age::Recipient {
        &self.key
    }
}

impl FromStr for Recipient {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        Self::parse(text)
    }
}

impl PartialEq for Recipient {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Recipient {}

impl fmt::Display for Recipient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Recipient({})", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BARE: &str = "AGE-SECRET-KEY-1QQXTNUSC48NY9JYL8M7TUU7C7HW0EGUCZJ8ZUKU9FAZ5QP08SASS6MXCWJ";

    #[test]
    fn a_bare_identity_and_one_with_comments_are_the_same() {
        let bare = Identity::parse(BARE).unwrap();
        let file = format!("# created: 2026-05-31\n# public key: {}\n{BARE}\n", bare.recipient());
        assert_eq!(Identity::parse(&file).unwrap().recipient(), bare.recipient());
        assert_eq!(bare.expose().as_str(), BARE);
    }

    #[test]
    fn what_is_no_identity_says_so_without_showing_it() {
        let refused = [
            ("", KeyError::NoIdentity),
            ("# only a comment\n", KeyError::NoIdentity),
            ("age1abc", KeyError::NoIdentity),
        ];
        for (text, error) in refused {
            assert_eq!(Identity::parse(text).unwrap_err(), error, "{text:?}");
        }
        assert_eq!(
            Identity::parse(&format!("{BARE}\n{BARE}")).unwrap_err(),
            KeyError::ManyIdentities
        );
        let damaged = Identity::parse(&BARE.replace("QQXT", "QQXQ")).unwrap_err();
        assert!(matches!(damaged, KeyError::DamagedIdentity(_)));
        assert!(!damaged.to_string().contains("QQXQ"));
    }

    #[test]
    fn debug_shows_the_public_half_only() {
        let identity = Identity::parse(BARE).unwrap();
        let shown = format!("{identity:?}");
        assert!(
            shown.contains("age1") && !shown.to_uppercase().contains("SECRET"),
            "{shown}"
        );
    }

    #[test]
    fn recipients_are_checked_and_fingerprinted() {
        let text = "age17vcec9dhw5cu4l58hx8a5pwxktryh9ej5ttqzl5gyqc2hnefkawq8pm37s";
        let recipient = Recipient::parse(&format!(" {text}\n")).unwrap();
        assert_eq!(recipient.to_string(), text);
        assert!(recipient.fingerprint().starts_with("SHA256:"));
        assert_eq!(recipient.fingerprint().len(), "SHA256:".len() + 43);
        assert!(Recipient::parse("age1nonsense").is_err());
    }
}
