//! What each record of a snapshot is called, and records put together to a snapshot again.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::{self, Cursor, Read};

use serde::Deserialize;

use super::Part;

/// The key of a record that [`read_records`](super::read_records) handed out, unique among those of its part in every snapshot
/// that the syncer writes: the name of a user or group, the DN of an entry, of anything else the names in front of
/// its value, without the last colon. An element of the ledger's `retired` has no name and is its own key. `None` when the record
/// has none.
#[must_use]
pub fn record_key(part: Part, bytes: &[u8]) -> Option<Cow<'_, [u8]>> {
    let name = match part {
        Part::User => serde_json::from_slice(bytes)
            .ok()
            .and_then(|User { username }| username),
        Part::Group => serde_json::from_slice(bytes).ok().and_then(|Group { name }| name),
        Part::Entry => serde_json::from_slice(bytes).ok().and_then(|Entry { dn }| dn),
        Part::Other => return Some(Cow::Borrowed(names(bytes))),
    };
    Some(match name? {
        Cow::Borrowed(name) => Cow::Borrowed(name.as_bytes()),
        Cow::Owned(name) => Cow::Owned(name.into_bytes()),
    })
}

#[derive(Deserialize)]
struct User<'a> {
    #[serde(borrow)]
    username: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Group<'a> {
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    dn: Option<Cow<'a, str>>,
}

const RETIRED: &[u8] = b"\"ledger\":\"retired\":";
const LEDGER: &[u8] = b"\"ledger\":";
const KEYS: &[u8] = b"\"ssh_keys\":";

fn names(bytes: &[u8]) -> &[u8] {
    if bytes.starts_with(RETIRED) {
        return bytes;
    }
    let mut end = 0;
    while let Some(name) = bytes.get(end..).and_then(string) {
        let after = end + name;
        if bytes.get(after) != Some(&b':') {
            break;
        }
        end = after + 1;
    }
    bytes.get(..end.saturating_sub(1)).unwrap_or_default()
}

/// The length of the JSON string that `bytes` begin with.
fn string(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes.strip_prefix(b"\"")?;
    loop {
        let at = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
        let escaped = rest.get(at) == Some(&b'\\');
        rest = rest.get(at + 1 + usize::from(escaped)..)?;
        if !escaped {
            return Some(bytes.len() - rest.len());
        }
    }
}

/// Records put together to a snapshot: [`read_records`](super::read_records) hands the same ones out again.
#[derive(Clone, Debug, Default)]
pub struct Joined {
    groups: Vec<u8>,
    users: Vec<u8>,
    entries: Vec<u8>,
    keys: Vec<u8>,
    retired: Vec<u8>,
    ledger: Vec<u8>,
    members: Vec<u8>,
}

impl Joined {
    /// Takes a record.
    pub fn add(&mut self, part: Part, bytes: &[u8]) {
        let (list, bytes) = match part {
            Part::User => (&mut self.users, bytes),
            Part::Group => (&mut self.groups, bytes),
            Part::Entry => (&mut self.entries, bytes),
            Part::Other => {
                if let Some(inner) = bytes.strip_prefix(KEYS) {
                    (&mut self.keys, inner)
                } else if let Some(inner) = bytes.strip_prefix(RETIRED) {
                    (&mut self.retired, inner)
                } else if let Some(inner) = bytes.strip_prefix(LEDGER) {
                    (&mut self.ledger, inner)
                } else {
                    (&mut self.members, bytes)
                }
            }
        };
        if !list.is_empty() {
            list.push(b',');
        }
        list.extend_from_slice(bytes);
    }

    /// The snapshot.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        Vec::from(self.into_pieces()).concat()
    }

    /// The snapshot for one reading. A list that was read takes no memory any more, and none is there twice.
    #[must_use]
    pub fn into_reader(self) -> JoinedReader {
        JoinedReader(self.into_pieces().into_iter().map(Cursor::new).collect())
    }

    /// What a snapshot says of itself stands in front, as its writer has it.
    fn into_pieces(self) -> VecDeque<Vec<u8>> {
        let mut pieces = VecDeque::from([b"{".to_vec()]);
        let mut put = |open: &str, list: Vec<u8>, close: &str| {
            pieces.extend([open.as_bytes().to_vec(), list, close.as_bytes().to_vec()]);
        };
        if !self.members.is_empty() {
            put("", self.members, ",");
        }
        put("\"groups\":[", self.groups, "],");
        put("\"users\":[", self.users, "],");
        put("\"ssh_keys\":{", self.keys, "},");
        put("\"entries\":[", self.entries, "],");
        let comma = if self.ledger.is_empty() { "" } else { "," };
        put("\"ledger\":{", self.ledger, "");
        if !self.retired.is_empty() {
            put(&format!("{comma}\"retired\":["), self.retired, "]");
        }
        put("}", Vec::new(), "}");
        pieces
    }
}

/// Reads a snapshot that was put together; see [`Joined::into_reader`].
#[derive(Clone, Debug)]
pub struct JoinedReader(VecDeque<Cursor<Vec<u8>>>);

impl Read for JoinedReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while let Some(piece) = self.0.front_mut() {
            let read = piece.read(out)?;
            if read > 0 || out.is_empty() {
                return Ok(read);
            }
            self.0.pop_front();
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_has_its_key() {
        let key = |part, text: &'static str| {
            record_key(part, text.as_bytes()).map(|key| String::from_utf8(key.into_owned()).unwrap())
        };
        for (part, text, wanted) in [
            (Part::User, r#"{"uid":1,"username":"al\u0069ce","name":7}"#, "alice"),
            (Part::Group, r#"{"name":"eng","members":["username"]}"#, "eng"),
            (Part::Entry, r#"{"dn":"cn=a"}"#, "cn=a"),
            (Part::Other, r#""sequence":7"#, r#""sequence""#),
            (Part::Other, r#""generated_at":"a:b""#, r#""generated_at""#),
            (
                Part::Other,
                r#""ssh_keys":"alice":"ssh":"#,
                r#""ssh_keys":"alice":"ssh""#,
            ),
            (Part::Other, r#""ssh_keys":"al\"i:ce":"k""#, r#""ssh_keys":"al\"i:ce""#),
            (Part::Other, r#""ledger":"other":{"a":1}"#, r#""ledger":"other""#),
            (
                Part::Other,
                r#""ledger":"retired":{"id":"x"}"#,
                r#""ledger":"retired":{"id":"x"}"#,
            ),
            (Part::Other, r#"{"rules":[]}"#, ""),
            (Part::Other, "", ""),
            (Part::Other, "\"", ""),
            (Part::Other, r#""a\"#, ""),
        ] {
            assert_eq!(key(part, text).as_deref(), Some(wanted), "{text}");
        }
        for (part, text) in [
            (Part::User, "3"),
            (Part::User, "{}"),
            (Part::User, r#"{"username":null}"#),
            (Part::User, r#"{"username":7}"#),
            (Part::User, r#"{"username":"a","username":"a"}"#),
            (Part::Group, r#"{"username":"a"}"#),
            (Part::Entry, "[]"),
        ] {
            assert_eq!(key(part, text), None, "{text}");
        }
    }
}
