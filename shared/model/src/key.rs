//! Lines of authorized_keys, as sshd(8) describes them: parsed, so that what a directory hands to
//! sshd is a key with options that sshd knows, and nothing else.

use std::fmt;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Longest line in bytes: an RSA key of 16384 bits needs some 2,800, options may be long.
const LONGEST: usize = 8192;

/// Most keys that one user may have.
pub const MOST_KEYS: usize = 100;

/// OpenSSH writes padding; some tools leave it out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Key types that sshd takes today. `ssh-dss` is not among them.
const TYPES: [&str; 7] = [
    "ssh-ed25519",
    "sk-ssh-ed25519@openssh.com",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "ssh-rsa",
];

/// Options without a value, in sshd's spelling.
const FLAGS: [&str; 13] = [
    "agent-forwarding",
    "no-agent-forwarding",
    "no-port-forwarding",
    "no-pty",
    "no-touch-required",
    "no-user-rc",
    "no-X11-forwarding",
    "port-forwarding",
    "pty",
    "restrict",
    "user-rc",
    "verify-required",
    "X11-forwarding",
];

/// Options with a value.
const VALUES: [&str; 7] = [
    "command",
    "environment",
    "expiry-time",
    "from",
    "permitlisten",
    "permitopen",
    "tunnel",
];

/// Why a line is no key that a directory may hand to sshd.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Over 8192 bytes.
    #[error("is longer than 8192 bytes")]
    TooLong,
    /// A control character.
    #[error("holds a control character")]
    Control,
    /// No key type that sshd takes.
    #[error("names no key type that sshd takes (ssh-ed25519, ecdsa-sha2-nistp256, ssh-rsa, ...)")]
    Type,
    /// The base64 part is missing, damaged or of another type than named.
    #[error("has a damaged {0} key")]
    Blob(&'static str),
    /// An option that sshd does not know, or one without its value.
    #[error("has the option {0:?}, which sshd does not know in this form")]
    Option(String),
    /// A certificate authority: only the host's own configuration may trust one.
    #[error("has the option {0:?}; certificate authorities are trusted by the host's own configuration only")]
    Authority(&'static str),
}

/// One option of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
struct KeyOption<'a> {
    name: &'static str,
    /// What stands between the quotes, escapes as they are.
    value: Option<&'a str>,
}

/// A key with its options and its comment. [`fmt::Display`] writes the line again in its plain form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizedKey<'a> {
    options: Vec<KeyOption<'a>>,
    kind: &'static str,
    blob: &'a str,
    comment: &'a str,
}

impl<'a> AuthorizedKey<'a> {
    /// Parses one line.
    ///
    /// # Errors
    /// When it is no key, or has options that a directory may not set.
    pub fn parse(line: &'a str) -> Result<Self, KeyError> {
        if line.len() > LONGEST {
            return Err(KeyError::TooLong);
        }
        if !is_plain(line) && line.chars().any(|c| c.is_control() && c != '\t') {
            return Err(KeyError::Control);
        }
        let line = line.trim();
        let (options, rest) = match key_type(line) {
            Some(_) => ("", line),
            None => split_options(line).ok_or(KeyError::Type)?,
        };
        let kind = key_type(rest).ok_or(KeyError::Type)?;
        let options = parse_options(options)?;
        let rest = rest.get(kind.len()..).unwrap_or_default().trim_start();
        let (blob, comment) = rest.split_at_checked(first_blank(rest)).unwrap_or((rest, ""));
        check_blob(kind, blob)?;
        Ok(Self {
            options,
            kind,
            blob,
            comment: comment.trim(),
        })
    }

    /// The key type, for instance `ssh-ed25519`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// The comment; empty for none.
    #[must_use]
    pub fn comment(&self) -> &'a str {
        self.comment
    }

    /// The key itself in the form of RFC 4253 section 6.6; its SHA-256 is the key's fingerprint.
    #[must_use]
    pub fn blob(&self) -> Vec<u8> {
        BASE64.decode(self.blob).unwrap_or_default()
    }

    /// Names of the options, in order.
    pub fn option_names(&self) -> impl Iterator<Item = &'static str> {
        self.options.iter().map(|option| option.name)
    }
}

impl fmt::Display for AuthorizedKey<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, option) in self.options.iter().enumerate() {
            if place > 0 {
                formatter.write_str(",")?;
            }
            formatter.write_str(option.name)?;
            if let Some(value) = option.value {
                write!(formatter, "=\"{value}\"")?;
            }
        }
        if !self.options.is_empty() {
            formatter.write_str(" ")?;
        }
        write!(formatter, "{} {}", self.kind, self.blob)?;
        if !self.comment.is_empty() {
            write!(formatter, " {}", self.comment)?;
        }
        Ok(())
    }
}

/// What became of a user's lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// The good ones in their plain form, joined by line breaks.
    pub text: String,
    /// How many are in `text`.
    pub kept: usize,
    /// The others: line number from 1, and why.
    pub refused: Vec<(usize, KeyError)>,
    /// Good lines beyond [`MOST_KEYS`].
    pub beyond: usize,
}

/// Sorts the lines of a user's authorized_keys text; empty lines and comments count for nothing.
#[must_use]
pub fn sort_lines(text: &str) -> Lines {
    use fmt::Write;

    let mut lines = Lines {
        text: String::with_capacity(text.len()),
        ..Lines::default()
    };
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match AuthorizedKey::parse(line) {
            Err(error) => lines.refused.push((number + 1, error)),
            Ok(_) if lines.kept == MOST_KEYS => lines.beyond += 1,
            Ok(key) => {
                let gap = if lines.kept == 0 { "" } else { "\n" };
                // Writing to a String cannot fail.
                let _ = write!(lines.text, "{gap}{key}");
                lines.kept += 1;
            }
        }
    }
    lines
}

/// The key type that `text` starts with, followed by a blank.
fn key_type(text: &str) -> Option<&'static str> {
    let word = text.get(..first_blank(text))?;
    TYPES.into_iter().find(|known| *known == word)
}

/// Where the first blank of `text` is, or its end.
fn first_blank(text: &str) -> usize {
    let blank = |byte: u8| matches!(byte, b' ' | b'\t');
    text.bytes().position(blank).unwrap_or(text.len())
}

/// Is `text` printable ASCII with blanks? Bytes are looked through much faster than characters: many at
/// once, as nothing ends the loop early.
fn is_plain(text: &str) -> bool {
    text.bytes()
        .fold(true, |plain, byte| plain & matches!(byte, b'\t' | b' '..=b'~'))
}

/// Splits the options from the rest at the first blank outside quotes.
fn split_options(line: &str) -> Option<(&str, &str)> {
    let mut quoted = false;
    let mut escaped = false;
    for (at, c) in line.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ' ' | '\t' if !quoted => {
                let (options, rest) = line.split_at_checked(at)?;
                return Some((options, rest.trim_start()));
            }
            _ => {}
        }
    }
    None
}

fn parse_options(text: &str) -> Result<Vec<KeyOption<'_>>, KeyError> {
    let mut options = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find([',', '=']).unwrap_or(rest.len());
        let (name, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
        let unknown = || KeyError::Option(name.chars().take(40).collect());
        for authority in ["cert-authority", "principals"] {
            if name.eq_ignore_ascii_case(authority) {
                return Err(KeyError::Authority(authority));
            }
        }
        let (value, after) = match after.strip_prefix('=') {
            None => (None, after),
            Some(after) => {
                let quoted = after.strip_prefix('"').ok_or_else(unknown)?;
                let end = closing_quote(quoted).ok_or_else(unknown)?;
                let (value, after) = quoted.split_at_checked(end).ok_or_else(unknown)?;
                (Some(value), after.strip_prefix('"').unwrap_or(after))
            }
        };
        let known: &[&'static str] = if value.is_some() { &VALUES } else { &FLAGS };
        let known = known.iter().find(|known| known.eq_ignore_ascii_case(name));
        options.push(KeyOption {
            name: known.ok_or_else(unknown)?,
            value,
        });
        rest = match after.strip_prefix(',') {
            Some("") => return Err(KeyError::Option(String::new())),
            Some(next) => next,
            None if after.is_empty() => after,
            None => return Err(unknown()),
        };
    }
    Ok(options)
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, c)| match c {
        _ if escaped => {
            escaped = false;
            None
        }
        '\\' => {
            escaped = true;
            None
        }
        '"' => Some(at),
        _ => None,
    })
}

/// The blob starts with its own type as a string of RFC 4251 section 5, and something follows.
fn check_blob(kind: &'static str, blob: &str) -> Result<(), KeyError> {
    let bytes = BASE64.decode(blob).map_err(|_| KeyError::Blob(kind))?;
    let inner = bytes
        .split_first_chunk::<4>()
        .and_then(|(len, rest)| rest.split_at_checked(u32::from_be_bytes(*len) as usize));
    match inner {
        Some((named, rest)) if named == kind.as_bytes() && rest.len() > 4 => Ok(()),
        _ => Err(KeyError::Blob(kind)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIJhmVTGUVH8BWEvFbbLhWPFnhX8QdzBPE2tQTfmGqsZM";

    fn parse(line: &str) -> Result<String, KeyError> {
        AuthorizedKey::parse(line).map(|key| key.to_string())
    }

    #[test]
    fn lines_are_written_again_in_their_plain_form() {
        let cases = [
            (format!("ssh-ed25519 {KEY}"), format!("ssh-ed25519 {KEY}")),
            (
                format!("  ssh-ed25519\t{KEY}   alice @ laptop "),
                format!("ssh-ed25519 {KEY} alice @ laptop"),
            ),
            (
                format!("NO-PTY,from=\"10.0.0.0/8,*.x\",command=\"echo \\\"a b\\\"\" ssh-ed25519 {KEY} c"),
                format!("no-pty,from=\"10.0.0.0/8,*.x\",command=\"echo \\\"a b\\\"\" ssh-ed25519 {KEY} c"),
            ),
            (
                format!("restrict,X11-Forwarding ssh-ed25519 {KEY}"),
                format!("restrict,X11-forwarding ssh-ed25519 {KEY}"),
            ),
        ];
        for (line, plain) in cases {
            assert_eq!(parse(&line).as_ref(), Ok(&plain), "{line}");
            assert_eq!(parse(&plain), Ok(plain));
        }
        let key = format!("no-pty ssh-ed25519 {KEY} c");
        let key = AuthorizedKey::parse(&key).unwrap();
        assert_eq!((key.kind(), key.comment(), key.blob().len()), ("ssh-ed25519", "c", 51));
        assert_eq!(key.option_names().collect::<Vec<_>>(), ["no-pty"]);
    }

    #[test]
    fn what_sshd_would_not_take_or_a_directory_may_not_say_is_refused() {
        let option = |text: &str| KeyError::Option(text.to_owned());
        let cases = [
            (String::new(), KeyError::Type),
            ("hello".into(), KeyError::Type),
            (format!("ssh-dss {KEY}"), KeyError::Type),
            ("ssh-ed25519".into(), KeyError::Blob("ssh-ed25519")),
            ("ssh-ed25519 AAAA".into(), KeyError::Blob("ssh-ed25519")),
            (format!("ssh-rsa {KEY}"), KeyError::Blob("ssh-rsa")),
            (format!("ssh-ed25519 {KEY}!"), KeyError::Blob("ssh-ed25519")),
            (format!("ssh-ed25519 {KEY} a\rb"), KeyError::Control),
            (format!("fly ssh-ed25519 {KEY}"), option("fly")),
            (format!("no-pty, ssh-ed25519 {KEY}"), option("")),
            (format!("no-pty=\"x\" ssh-ed25519 {KEY}"), option("no-pty")),
            (format!("command ssh-ed25519 {KEY}"), option("command")),
            (format!("from=10.0.0.1 ssh-ed25519 {KEY}"), option("from")),
            (format!("from=\"a\"b ssh-ed25519 {KEY}"), option("from")),
            (
                format!("cert-authority ssh-ed25519 {KEY}"),
                KeyError::Authority("cert-authority"),
            ),
            (
                format!("restrict,Principals=\"root\" ssh-ed25519 {KEY}"),
                KeyError::Authority("principals"),
            ),
            ("x".repeat(8193), KeyError::TooLong),
        ];
        for (line, error) in cases {
            assert_eq!(parse(&line), Err(error), "{line}");
        }
    }

    #[test]
    fn a_bad_line_does_not_take_the_good_ones_along() {
        let text = format!("# mine\n\nssh-ed25519 {KEY} a\r\nnonsense\nssh-ed25519 {KEY} b\n");
        let lines = sort_lines(&text);
        assert_eq!(lines.text, format!("ssh-ed25519 {KEY} a\nssh-ed25519 {KEY} b"));
        assert_eq!(lines.kept, 2);
        assert_eq!(lines.refused, [(4, KeyError::Type)]);
        let many = sort_lines(&format!("ssh-ed25519 {KEY}\n").repeat(MOST_KEYS + 3));
        assert_eq!((many.kept, many.beyond), (MOST_KEYS, 3));
        assert_eq!(sort_lines(""), Lines::default());
    }

    proptest! {
        #[test]
        fn any_line_is_refused_or_written_to_a_line_that_reads_the_same(
            options in "(no-pty|from=\"[^\"]{0,8}\"|[a-z=,\" ]{0,8}){0,3}",
            tail in "[ -~]{0,20}",
        ) {
            for line in [format!("{options} ssh-ed25519 {KEY} {tail}"), format!("{options}{tail}")] {
                if let Ok(key) = AuthorizedKey::parse(&line) {
                    let plain = key.to_string();
                    prop_assert_eq!(AuthorizedKey::parse(&plain).map(|key| key.to_string()), Ok(plain.clone()));
                    prop_assert!(!plain.contains('\n'));
                }
            }
        }
    }
}
