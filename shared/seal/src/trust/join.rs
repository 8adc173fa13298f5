//! How a host comes in: the code that its operator was given, and what the host asks with it.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::scope::List;
use super::text::{Fields, FormatError, Lines, Object, Time, print, read, whole_seconds};
use super::{Refusal, node_name, parse};
use crate::{Digest, Label, Note, Recipient, SigningKey, VerifyingKey};

/// What a code's text begins with.
const PREFIX: &str = "dirless-join-1-";
/// What the text begins with that a bearer is made from.
const BEARER: &str = "dirless/join-bearer/v1";
/// Bytes of a digest at the end of a code, against typing errors.
const CHECK: usize = 4;

/// Why a text is no join code. The text itself is never shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinCodeError {
    /// It does not begin as one.
    #[error("it is no join code: it should begin with {PREFIX}")]
    Prefix,
    /// A character is missing or wrong.
    #[error("the join code is incomplete or mistyped; copy it again, whole")]
    Damaged,
    /// What it holds is no code of this format.
    #[error("the join code cannot be read: {0}")]
    Format(#[from] FormatError),
}

/// The secret of a join code.
#[derive(Clone)]
pub struct JoinSecret(Zeroizing<[u8; 32]>);

/// What a new host is given: where the tenant is, what to believe, and a secret that lets it in.
#[derive(Clone)]
pub struct JoinCode {
    /// Base URL of the backend or of a file host; without blanks.
    pub url: String,
    /// The tenant.
    pub tenant: Digest,
    /// Fingerprint of the roots ([`roots_fingerprint`](super::roots_fingerprint)).
    pub roots: Digest,
    /// The policy when the code was made: an older one is not believed.
    pub policy: u64,
    /// The compartments that its hosts will read.
    pub compartments: BTreeSet<Label>,
    /// The code's own name, which the enroller finds it by.
    pub code: Label,
    /// Proves to the enroller that the host was given this code. The backend never sees it.
    pub secret: JoinSecret,
}

impl JoinCode {
    /// A fresh secret.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn secret() -> Result<JoinSecret, ring::error::Unspecified> {
        let mut bytes = Zeroizing::new([0; 32]);
        SystemRandom::new().fill(bytes.as_mut())?;
        Ok(JoinSecret(bytes))
    }

    /// Reads the text form; white space around it does not matter.
    ///
    /// # Errors
    /// When it is no intact code.
    pub fn parse(text: &str) -> Result<Self, JoinCodeError> {
        let encoded = text.trim().strip_prefix(PREFIX).ok_or(JoinCodeError::Prefix)?;
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(encoded).map_err(|_| JoinCodeError::Damaged)?);
        let (body, check) = bytes
            .split_last_chunk::<CHECK>()
            .filter(|(body, check)| Digest::of(body).as_bytes().starts_with(check.as_slice()))
            .ok_or(JoinCodeError::Damaged)?;
        debug_assert_eq!(check.len(), CHECK);
        let text = std::str::from_utf8(body).map_err(|_| JoinCodeError::Damaged)?;
        short_enough(text)?;
        Ok(read(text)?)
    }

    /// The text form: one word. Wiped when dropped.
    ///
    /// # Errors
    /// When its parts contradict each other, for instance a URL with blanks, or it is too long.
    pub fn expose(&self) -> Result<Zeroizing<String>, FormatError> {
        let text = Zeroizing::new(print(self)?);
        short_enough(&text)?;
        let mut bytes = Zeroizing::new(text.as_bytes().to_vec());
        bytes.extend(Digest::of(text.as_bytes()).as_bytes().iter().take(CHECK));
        let encoded = Zeroizing::new(URL_SAFE_NO_PAD.encode(&bytes));
        Ok(Zeroizing::new(format!("{PREFIX}{}", encoded.as_str())))
    }
}

impl fmt::Debug for JoinCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "JoinCode({} at {})", self.code, self.url)
    }
}

impl FromStr for JoinSecret {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(text).map_err(|_| "it is no secret")?);
        let bytes = <[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| "it is no secret")?;
        Ok(Self(Zeroizing::new(bytes)))
    }
}

impl JoinSecret {
    /// The secret as text, for the enroller's own store. Wiped when dropped.
    #[must_use]
    pub fn expose(&self) -> Zeroizing<String> {
        Zeroizing::new(URL_SAFE_NO_PAD.encode(self.0.as_slice()))
    }

    /// What a host presents at the mailbox of a backend, which knows its digest alone. It says nothing about the secret,
    /// and proves nothing to the enroller. Wiped when dropped.
    #[must_use]
    pub fn bearer(&self, tenant: Digest, code: &Label) -> Zeroizing<String> {
        let tag = hmac::sign(&self.key(), format!("{BEARER}\n{tenant}\n{code}\n").as_bytes());
        Zeroizing::new(URL_SAFE_NO_PAD.encode(tag))
    }

    fn key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.0.as_ref())
    }
}

impl fmt::Debug for JoinSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JoinSecret")
    }
}

impl Object for JoinCode {
    const CONTEXT: &'static str = "dirless/join-code/v1";
    const MOST: usize = 4096;

    fn read(fields: &mut Fields<'_>) -> Result<Self, FormatError> {
        let url = fields.text("url")?;
        let [url] = fields.words("url", url)?;
        Ok(Self {
            url: url.to_owned(),
            tenant: fields.value("tenant")?,
            roots: fields.value("roots")?,
            policy: fields.version("policy")?,
            compartments: compartments(fields)?,
            code: fields.value("code")?,
            secret: fields.value("secret")?,
        })
    }

    fn write(&self, lines: &mut Lines) {
        lines.line("url", &self.url);
        lines.line("tenant", self.tenant);
        lines.line("roots", self.roots);
        lines.line("policy", self.policy);
        lines.line("compartments", List(self.compartments.iter().collect()));
        lines.line("code", &self.code);
        lines.line("secret", self.secret.expose().as_str());
    }
}

fn short_enough(text: &str) -> Result<(), FormatError> {
    if text.len() > JoinCode::MOST {
        let reason = format!(
            "it is longer than the {} bytes that a join code may have",
            JoinCode::MOST
        );
        return Err(FormatError::Contradiction(reason));
    }
    Ok(())
}

fn compartments(fields: &mut Fields<'_>) -> Result<BTreeSet<Label>, FormatError> {
    let list: List<Label> = fields.value("compartments")?;
    Ok(list.0.into_iter().collect())
}

/// HMAC-SHA256 (RFC 2104) of what a request says, with the code's secret as the key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Proof(Digest);

impl fmt::Debug for Proof {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Proof")
    }
}

/// What a host asks its enroller. It travels signed by the host's own key and sealed to the enroller, so the
/// backend sees neither the host's name nor the proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinRequest {
    /// The tenant.
    pub tenant: Digest,
    /// The code's name.
    pub code: Label,
    /// When, by the host's clock.
    pub issued: Timestamp,
    /// The host's own name, for people.
    pub host: String,
    /// Its signing key; the name follows from its bytes.
    pub key: VerifyingKey,
    /// Epoch keys will be wrapped to it.
    pub recipient: Recipient,
    /// Shows that the host was given the code.
    pub proof: Proof,
}

impl JoinRequest {
    /// What a host with these keys asks with `code`.
    ///
    /// # Errors
    /// When the host's name holds blanks or control characters.
    pub fn ask(
        code: &JoinCode,
        issued: Timestamp,
        host: &str,
        key: &SigningKey,
        recipient: &Recipient,
    ) -> Result<Note, FormatError> {
        let mut request = Self {
            tenant: code.tenant,
            code: code.code.clone(),
            issued: whole_seconds(issued),
            host: host.to_owned(),
            key: key.verifying().clone(),
            recipient: recipient.clone(),
            proof: Proof(Digest::from_bytes([0; 32])),
        };
        let tag = hmac::sign(&code.secret.key(), request.proven().as_bytes());
        let bytes = tag.as_ref().try_into().unwrap_or_default();
        request.proof = Proof(Digest::from_bytes(bytes));
        let text = print(&request)?;
        Note::sign(text, &[key]).map_err(|error| FormatError::Contradiction(error.to_string()))
    }

    /// The code's name that an unchecked request speaks of, so that its secret can be looked up.
    ///
    /// # Errors
    /// When it is no request.
    pub fn read(note: &Note) -> Result<Self, Refusal> {
        parse(note).map_err(|error| Refusal::Malformed("join request", error))
    }

    /// Is it of this tenant, made with this secret, by the owner of the key in it?
    ///
    /// # Errors
    /// When one of these does not hold.
    pub fn check(&self, note: &Note, tenant: Digest, secret: &JoinSecret) -> Result<(), Refusal> {
        if self.tenant != tenant {
            return Err(Refusal::OtherTenant("join request"));
        }
        let proven = hmac::verify(&secret.key(), self.proven().as_bytes(), self.proof.0.as_bytes()).is_ok();
        let own = *self.key.name() == node_name(self.key.as_bytes()) && note.is_signed_by(&self.key);
        if proven && own {
            Ok(())
        } else {
            Err(Refusal::Forged("join request"))
        }
    }

    /// Everything but the proof.
    fn proven(&self) -> String {
        let Self {
            tenant,
            code,
            issued,
            host,
            key,
            recipient,
            proof: _,
        } = self;
        format!(
            "{}\n{tenant}\n{code}\n{issued}\n{host}\n{key}\n{recipient}\n",
            Self::CONTEXT
        )
    }
}

impl Object for JoinRequest {
    const CONTEXT: &'static str = "dirless/join-request/v1";
    const MOST: usize = 4096;

    fn read(fields: &mut Fields<'_>) -> Result<Self, FormatError> {
        let (tenant, code, issued) = (
            fields.value("tenant")?,
            fields.value("code")?,
            fields.value::<Time>("issued")?.0,
        );
        let host = fields.text("host")?;
        let [host] = fields.words("host", host)?;
        if !(1..=253).contains(&host.len()) {
            return Err(FormatError::Contradiction(
                "its host has no name, or one over 253 bytes".to_owned(),
            ));
        }
        Ok(Self {
            tenant,
            code,
            issued,
            host: host.to_owned(),
            key: fields.value("key")?,
            recipient: fields.value("recipient")?,
            proof: Proof(fields.value("proof")?),
        })
    }

    fn write(&self, lines: &mut Lines) {
        lines.line("tenant", self.tenant);
        lines.line("code", &self.code);
        lines.line("issued", Time(self.issued));
        lines.line("host", &self.host);
        lines.line("key", &self.key);
        lines.line("recipient", &self.recipient);
        lines.line("proof", self.proof.0);
    }
}
