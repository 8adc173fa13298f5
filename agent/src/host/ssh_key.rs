//! One OpenSSH public key, checked to be exactly that (RFC 4253 section 6.6, RFC 8709, RFC 5656,
//! OpenSSH PROTOCOL.u2f): what a certificate authority must be before sshd is told to trust it.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

/// Longest key text that is looked at, in bytes; a 16384-bit RSA key fits.
const LONGEST: usize = 8 * 1024;

/// A public key of a type that sshd takes as a certificate authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshPublicKey {
    kind: &'static str,
    blob: Vec<u8>,
}

/// Why a text is not one public key.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SshKeyError {
    /// More than one line, control characters, or far too long.
    #[error("is not one line of text")]
    NotOneLine,
    /// The first word names no type that can be a certificate authority.
    #[error("does not begin with a key type such as ssh-ed25519 (options before the key are not allowed)")]
    Kind,
    /// The second word is not base64.
    #[error("has a key part that is not base64")]
    Encoding,
    /// The bytes are not a key of the type that the first word names.
    #[error("has a key part that is not a {0} key")]
    Content(&'static str),
}

/// A field behind the type name.
#[derive(Clone, Copy)]
enum Part {
    /// A key of that many bytes.
    Key(usize),
    /// That name of a curve.
    Curve(&'static str),
    /// A point of a curve, uncompressed, with coordinates of that many bytes (SEC 1 section 2.3.3).
    Point(usize),
    /// A positive number of at least so many bits.
    Number(usize),
    /// What an application calls itself.
    Application,
}

/// Bits of the smallest RSA modulus: 1024 and below is no authority.
const RSA: usize = 1025;

/// The types, and their fields.
const KINDS: [(&str, &[Part]); 7] = [
    ("ssh-ed25519", &[Part::Key(32)]),
    ("sk-ssh-ed25519@openssh.com", &[Part::Key(32), Part::Application]),
    ("ecdsa-sha2-nistp256", &[Part::Curve("nistp256"), Part::Point(32)]),
    ("ecdsa-sha2-nistp384", &[Part::Curve("nistp384"), Part::Point(48)]),
    ("ecdsa-sha2-nistp521", &[Part::Curve("nistp521"), Part::Point(66)]),
    (
        "sk-ecdsa-sha2-nistp256@openssh.com",
        &[Part::Curve("nistp256"), Part::Point(32), Part::Application],
    ),
    ("ssh-rsa", &[Part::Number(2), Part::Number(RSA)]),
];

impl Part {
    fn is(self, content: &[u8]) -> bool {
        match self {
            Self::Key(length) => content.len() == length,
            Self::Curve(name) => content == name.as_bytes(),
            Self::Point(length) => content.len() == 2 * length + 1 && content.starts_with(&[4]),
            Self::Number(least) => bits(content).is_some_and(|bits| bits >= least),
            Self::Application => !content.is_empty(),
        }
    }
}

/// How many bits a positive number has; none for other bytes and longer spellings (RFC 4251 section 5, `mpint`).
fn bits(mpint: &[u8]) -> Option<usize> {
    let digits = mpint.strip_prefix(&[0]).unwrap_or(mpint);
    let first = *digits.first()?;
    let has_sign = digits.len() < mpint.len();
    // A zero goes before a number whose first bit is set, and before no other.
    (has_sign == (first >= 0x80) && first != 0).then(|| digits.len() * 8 - first.leading_zeros() as usize)
}

impl SshPublicKey {
    /// Reads `type base64 [comment]`; white space around it is cut, the comment is dropped.
    ///
    /// # Errors
    /// When the text is anything but exactly one key.
    pub fn parse(text: &str) -> Result<Self, SshKeyError> {
        let text = text.trim();
        if text.len() > LONGEST
            || text
                .chars()
                .any(|character| character.is_control() && character != '\t')
        {
            return Err(SshKeyError::NotOneLine);
        }
        let mut words = text.split_ascii_whitespace();
        let (kind, parts) = words
            .next()
            .and_then(|word| KINDS.into_iter().find(|(kind, _)| *kind == word))
            .ok_or(SshKeyError::Kind)?;
        let blob = words
            .next()
            .and_then(|word| STANDARD.decode(word).ok())
            .ok_or(SshKeyError::Encoding)?;
        check(kind, parts, &blob).ok_or(SshKeyError::Content(kind))?;
        Ok(Self { kind, blob })
    }

    /// `SHA256:…` as `ssh-keygen -l` prints it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let digest = ring::digest::digest(&ring::digest::SHA256, &self.blob);
        format!("SHA256:{}", STANDARD_NO_PAD.encode(digest))
    }

    /// The key as one line without a comment and without a line end.
    #[must_use]
    pub fn line(&self) -> String {
        format!("{} {}", self.kind, STANDARD.encode(&self.blob))
    }

    /// Whether `name` is this key's fingerprint, or this key itself with any comment.
    #[must_use]
    pub fn is_named_by(&self, name: &str) -> bool {
        name.trim() == self.fingerprint() || Self::parse(name).is_ok_and(|key| key == *self)
    }
}

/// The blob must hold the type's name and its fields, and nothing behind them.
fn check(kind: &str, parts: &[Part], blob: &[u8]) -> Option<()> {
    let (name, mut rest) = field(blob)?;
    if name != kind.as_bytes() {
        return None;
    }
    for part in parts {
        let (content, behind) = field(rest)?;
        if !part.is(content) {
            return None;
        }
        rest = behind;
    }
    rest.is_empty().then_some(())
}

/// One `string` of RFC 4251 section 5: four bytes of length, then that many bytes.
fn field(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with `ssh-keygen -t ed25519`.
    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJp9lpH3Z689KCtDoNSOM11fp0QvdvGeloyE3uFf/0i7 ca@example";

    #[test]
    fn fingerprints_are_those_of_ssh_keygen() {
        let ecdsa = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBDWub9nMleJ0pimVNuTuGxpob1ix\
            VxnKi3CUj44nXsOm5MpzOKfr+AreAHREygzx5HAY+scGwJILJ0LxN5whPyk= x";
        let rsa = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQDMOF/ycqLJH9tu1y5lB8EztRk0HCeeP3rAFqsFRkGIyfmf95TdJOhMs5OjMeSw\
            iEU6c16KJNd/wZt/6JnwfayEKTMaS13G818JIRNnOJ55uNiVRgKErOmja9BJ7weSC4E27id1ckN5V8J635OFvmbE8TMDLqUhnCggW+Asiseo\
            +8VK+Tr2qA52DUslnUMTPZYgc0x8XrjoKYLh9+M8ShnamfRTFRdWXUcu/3eZUniuGavJGy/ANw3K/qFuLYJ0MgT8Yrubl+Gj140cE/mze2pp\
            z0LKn+/NmGThHvhFysmjfL4a+gM9lGE3JRtwyO0P98Jg4TB3vqLdkJ5u6Wmc0uDXTILe0X1l3wMKm7HZRkS";
        for (line, fingerprint) in [
            (KEY, "SHA256:ICRz6TsJeB9hZfsYR7Fa7pYtWl5GLPI7IV17Op4qf2E"),
            (ecdsa, "SHA256:uAuHxlEZOE7ZajfeOWKhg7PBZWMrXhp1eB4T48HahcQ"),
        ] {
            assert_eq!(SshPublicKey::parse(line).unwrap().fingerprint(), fingerprint);
        }
        // One character left out in copying: the fields no longer add up.
        assert!(SshPublicKey::parse(rsa).is_err());
    }

    #[test]
    fn a_key_is_read_and_written_without_its_comment() {
        let key = SshPublicKey::parse(&format!("  {KEY}\n")).unwrap();
        assert_eq!(key.line(), KEY.trim_end_matches(" ca@example"));
        assert_eq!(SshPublicKey::parse(&key.line()).unwrap(), key);
        assert!(key.is_named_by(&key.fingerprint()) && key.is_named_by(KEY) && key.is_named_by(&key.line()));
        assert!(!key.is_named_by("SHA256:AAAA") && !key.is_named_by(""));
    }

    #[test]
    fn what_is_not_exactly_one_key_is_refused() {
        let body = KEY.split(' ').nth(1).unwrap();
        for (text, expected) in [
            (String::new(), SshKeyError::Kind),
            (format!("{KEY}\n{KEY}"), SshKeyError::NotOneLine),
            (format!("cert-authority {KEY}"), SshKeyError::Kind),
            (format!("command=\"x\" {KEY}"), SshKeyError::Kind),
            ("ssh-ed25519".into(), SshKeyError::Encoding),
            ("ssh-ed25519 !!!!".into(), SshKeyError::Encoding),
            (
                format!("ecdsa-sha2-nistp256 {body}"),
                SshKeyError::Content("ecdsa-sha2-nistp256"),
            ),
            (
                format!("ssh-ed25519 {}", &body[..64]),
                SshKeyError::Content("ssh-ed25519"),
            ),
            (format!("ssh-ed25519 {body}\u{0}"), SshKeyError::NotOneLine),
            (format!("ssh-dss {body}"), SshKeyError::Kind),
            (format!("ssh-ed25519 {}", "A".repeat(9000)), SshKeyError::NotOneLine),
        ] {
            assert_eq!(SshPublicKey::parse(&text).unwrap_err(), expected, "{text:.60}");
        }
    }

    fn text_of(kind: &str, fields: &[&[u8]]) -> String {
        let mut blob = Vec::new();
        for field in [kind.as_bytes()].iter().chain(fields) {
            blob.extend(u32::try_from(field.len()).unwrap().to_be_bytes());
            blob.extend_from_slice(field);
        }
        format!("{kind} {}", STANDARD.encode(blob))
    }

    #[test]
    fn fields_are_what_their_type_says() {
        let is_key = |kind: &str, fields: &[&[u8]]| SshPublicKey::parse(&text_of(kind, fields)).is_ok();
        let (modulus, exponent) = ([&[0, 0x80][..], &[1; 255]].concat(), [1, 0, 1]);
        assert!(is_key("ssh-rsa", &[&exponent, &modulus]));
        assert!(is_key("ssh-rsa", &[&exponent, &[&[1][..], &[1; 128]].concat()]));
        // The blob is long, the modulus is not.
        assert!(!is_key("ssh-rsa", &[&[1; 300], &[3]]));
        assert!(!is_key("ssh-rsa", &[&exponent, &[&[0][..], &[0xff; 128]].concat()]));
        // Zero, negative, and a longer spelling.
        for wrong in [&[0; 257][..], &[0x80; 256], &[&[0][..], &[1; 256]].concat(), &[]] {
            assert!(!is_key("ssh-rsa", &[&exponent, wrong]));
            assert!(!is_key("ssh-rsa", &[wrong, &modulus]));
        }
        let point = [&[4][..], &[7; 64]].concat();
        assert!(is_key("ecdsa-sha2-nistp256", &[b"nistp256", &point]));
        assert!(!is_key("ecdsa-sha2-nistp256", &[b"nistp384", &point]));
        assert!(!is_key(
            "ecdsa-sha2-nistp256",
            &[b"nistp256", &[&[5][..], &[7; 64]].concat()]
        ));
        let security_key = "sk-ssh-ed25519@openssh.com";
        assert!(is_key(security_key, &[&[7; 32], b"ssh:"]) && !is_key(security_key, &[&[7; 32], b""]));
        assert!(!is_key("ssh-ed25519", &[&[7; 32], b"more"]));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_panic_and_what_is_read_is_stable(text in "(ssh-ed25519|ssh-rsa|x)? ?[A-Za-z0-9+/=]{0,90}( \\PC{0,9})?") {
            if let Ok(key) = SshPublicKey::parse(&text) {
                proptest::prop_assert_eq!(SshPublicKey::parse(&key.line()), Ok(key));
            }
        }
    }
}
