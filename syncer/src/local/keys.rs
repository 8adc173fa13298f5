//! Edits of the key table: pure functions on the open snapshot. Lines that are no keys stay where
//! they are; hosts drop and report them.

use dirless_model::Name;
use dirless_model::key::{AuthorizedKey, MOST_KEYS};

use super::blob::Blob;
use super::{Edited, Refusal};

/// Which keys to remove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// The one with this fingerprint (`SHA256:…`) or this comment.
    Named(String),
    /// Those in this authorized_keys text.
    Listed(String),
    /// All.
    All,
}

/// Adds the keys in `text`, authorized_keys lines, to those of `user`.
///
/// # Errors
/// When any line is no key, or a key that is there with other options; then none is added.
pub(super) fn add(blob: &mut Blob, user: &str, text: &str) -> Result<Edited, Refusal> {
    Name::parse(user).map_err(|reason| Refusal::Name {
        what: "the user name",
        name: user.to_owned(),
        reason,
    })?;
    let offered = parse(text)?;
    let present = blob.keys(user).unwrap_or_default();
    let mut lines: Vec<String> = present.lines().map(str::to_owned).collect();
    let mut known: Vec<(Vec<u8>, String)> = good(present).map(|key| (key.blob(), uncommented(&key))).collect();
    let mut added = Vec::new();
    for key in offered {
        let (blob, plain) = (key.blob(), uncommented(&key));
        match known.iter().find(|(known, _)| *known == blob) {
            Some((_, there)) if *there == plain => {}
            // Whoever restricts a key must not be told that it is there already.
            Some(_) => {
                return Err(Refusal::OtherOptions {
                    user: user.to_owned(),
                    fingerprint: fingerprint(&key),
                });
            }
            None => {
                added.push(fingerprint(&key));
                lines.push(key.to_string());
                known.push((blob, plain));
            }
        }
    }
    if added.is_empty() {
        return Ok(Edited::unchanged(format!("{user} has that already")));
    }
    if known.len() > MOST_KEYS {
        return Err(Refusal::TooManyKeys {
            user: user.to_owned(),
            count: known.len(),
            most: MOST_KEYS,
        });
    }
    let stranger = blob.user(user).is_none();
    let first = blob.keys(user).is_none();
    blob.set_keys(user, Some(lines.join("\n")));
    let edited = Edited::changed(format!("added to {user}: {}", added.join(", ")));
    Ok(if stranger && first {
        edited.note(format!(
            "{user} is not among the local users; for a synced one these keys replace those of the source"
        ))
    } else {
        edited
    })
}

/// Removes keys of `user`. Without any left the entry goes, so that a synced user's own keys count
/// again.
///
/// # Errors
/// When what names the key names several.
pub(super) fn remove(blob: &mut Blob, user: &str, which: &Which) -> Result<Edited, Refusal> {
    let Some(present) = blob.keys(user).map(str::to_owned) else {
        return Ok(Edited::unchanged(format!("{user} has no keys here")));
    };
    let doomed: Vec<Vec<u8>> = match which {
        Which::All => Vec::new(),
        Which::Listed(text) => parse(text)?.iter().map(AuthorizedKey::blob).collect(),
        Which::Named(wanted) => {
            let mut matching: Vec<Vec<u8>> = good(&present)
                .filter(|key| fingerprint(key) == *wanted || key.comment() == wanted)
                .map(|key| key.blob())
                .collect();
            matching.sort();
            matching.dedup();
            if matching.len() > 1 {
                return Err(Refusal::Ambiguous {
                    user: user.to_owned(),
                    wanted: wanted.clone(),
                });
            }
            matching
        }
    };
    let goes = |line: &str| match AuthorizedKey::parse(line) {
        Ok(key) => doomed.contains(&key.blob()),
        Err(_) => false,
    };
    let kept: Vec<&str> = match which {
        Which::All => Vec::new(),
        Which::Listed(_) | Which::Named(_) => present.lines().filter(|line| !goes(line)).collect(),
    };
    let count = present.lines().count() - kept.len();
    if count == 0 && *which != Which::All {
        return Ok(Edited::unchanged(format!("{user} has no such key")));
    }
    let left = kept.iter().any(|line| !line.trim().is_empty());
    let kept = left.then(|| kept.join("\n"));
    blob.set_keys(user, kept);
    Ok(Edited::changed(format!(
        "removed from {user}: {count} {}",
        if count == 1 { "key" } else { "keys" }
    )))
}

/// `SHA256:` and unpadded base64, as ssh-keygen(1) shows it.
#[must_use]
pub(super) fn fingerprint(key: &AuthorizedKey<'_>) -> String {
    dirless_seal::fingerprint(&key.blob())
}

/// Every line of `text` that is a key.
pub(super) fn good(text: &str) -> impl Iterator<Item = AuthorizedKey<'_>> {
    text.lines().filter_map(|line| AuthorizedKey::parse(line).ok())
}

/// Options, type and key, without the comment.
fn uncommented(key: &AuthorizedKey<'_>) -> String {
    let text = key.to_string();
    text.strip_suffix(key.comment()).unwrap_or(&text).trim_end().to_owned()
}

fn parse(text: &str) -> Result<Vec<AuthorizedKey<'_>>, Refusal> {
    if text.contains("PRIVATE KEY") || text.trim_start().starts_with("AGE-SECRET-KEY-") {
        return Err(Refusal::PrivateKey);
    }
    let mut keys = Vec::new();
    for (place, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let key = AuthorizedKey::parse(line).map_err(|error| Refusal::Key {
            line: place + 1,
            reason: error.to_string(),
        })?;
        keys.push(key);
    }
    if keys.is_empty() {
        return Err(Refusal::NoKey);
    }
    Ok(keys)
}
