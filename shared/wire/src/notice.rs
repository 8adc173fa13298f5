//! What a backend says on a request that a host keeps open, as server-sent events (WHATWG HTML, section 9.2).
//!
//! A notice is a hint: what it says is checked as if it had been fetched, and a host that gets none still asks at its
//! interval. Lines that begin with a colon are comments, which keep the way open.

use crate::{ETag, TenantState};

/// Media type of the answer.
pub const NOTICES_MEDIA_TYPE: &str = "text/event-stream";
/// A comment, sent when there is nothing else to say.
pub const KEEP_OPEN: &[u8] = b":\n\n";

/// Longest line that a [`NoticeReader`] keeps, and longest data of one event, in bytes: a head of the largest size.
const LONGEST: usize = 512 * 1024;
/// Longest JSON of a state's parts: all hosts of the tenant get it with each change.
const LONGEST_PARTS: usize = 16 * 1024;

/// What is new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The tag over everything that hosts read of the tenant, as in answers to heartbeats, and what it consists of where
    /// that is short. First of all the one of the moment.
    State(ETag, Option<Box<TenantState>>),
    /// The bytes of a head that was stored; first those of the moment.
    Head(Vec<u8>),
    /// Something else was stored that hosts read, or what cannot be said here: ask.
    Changed,
}

impl Notice {
    /// As it travels.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::State(tag, parts) => state(tag, parts.as_deref()),
            Self::Head(note) => head(note).unwrap_or_else(|| Self::Changed.to_bytes()),
            // Without data an event is none.
            Self::Changed => b"event: changed\ndata: -\n\n".to_vec(),
        }
    }

    /// What an event says; `None` for those that this version does not know.
    fn of(event: &[u8], data: Vec<u8>) -> Option<Self> {
        match event {
            b"state" => {
                let text = std::str::from_utf8(&data).ok()?;
                let (tag, parts) = text.split_once('\n').unwrap_or((text, ""));
                // A hint: without its parts everything is asked for.
                let parts = serde_json::from_str(parts).ok();
                ETag::parse(tag).ok().map(|tag| Self::State(tag, parts))
            }
            b"head" => Some(Self::Head(data)),
            b"changed" => Some(Self::Changed),
            _ => None,
        }
    }
}

/// The tag in the first line, the parts as JSON in the second.
fn state(tag: &ETag, parts: Option<&TenantState>) -> Vec<u8> {
    let parts = parts.and_then(|parts| serde_json::to_string(parts).ok());
    let parts = parts.filter(|parts| parts.len() <= LONGEST_PARTS);
    let more = parts.map_or_else(String::new, |parts| format!("data: {parts}\n"));
    format!("event: state\ndata: {tag}\n{more}\n").into_bytes()
}

/// A note as an event: its lines as lines of data. `None` when a reader would not get the same bytes back.
fn head(note: &[u8]) -> Option<Vec<u8>> {
    let travels = note.len() <= LONGEST / 2 && !note.contains(&b'\r') && std::str::from_utf8(note).is_ok();
    if !travels {
        return None;
    }
    let mut event = b"event: head\n".to_vec();
    for line in note.split(|byte| *byte == b'\n') {
        event.extend_from_slice(b"data: ");
        event.extend_from_slice(line);
        event.push(b'\n');
    }
    event.push(b'\n');
    Some(event)
}

/// The other side sends what cannot be notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line or an event of the stream is longer than any notice")]
pub struct TooLongNotice;

/// Takes the stream apart, in whatever pieces it comes.
#[derive(Debug, Default)]
pub struct NoticeReader {
    line: Vec<u8>,
    event: Vec<u8>,
    data: Option<Vec<u8>>,
    /// The last line ended with a carriage return: a line feed after it belongs to it.
    after_return: bool,
}

impl NoticeReader {
    /// Takes a piece of the stream and gives each notice that it completes to `found`.
    ///
    /// # Errors
    /// When a line or an event is longer than any notice; the stream is of no more use then.
    pub fn push(&mut self, piece: &[u8], mut found: impl FnMut(Notice)) -> Result<(), TooLongNotice> {
        let mut rest = piece;
        while !rest.is_empty() {
            if std::mem::take(&mut self.after_return) {
                rest = rest.strip_prefix(b"\n").unwrap_or(rest);
                continue;
            }
            let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let (line, after) = rest.split_at(end.unwrap_or(rest.len()));
            if self.line.len() + line.len() > LONGEST {
                return Err(TooLongNotice);
            }
            self.line.extend_from_slice(line);
            let Some((ending, after)) = after.split_first() else {
                return Ok(());
            };
            self.after_return = *ending == b'\r';
            rest = after;
            let line = std::mem::take(&mut self.line);
            if let Some(notice) = self.take(&line)? {
                found(notice);
            }
        }
        Ok(())
    }

    /// Takes a whole line; an empty one ends an event.
    fn take(&mut self, line: &[u8]) -> Result<Option<Notice>, TooLongNotice> {
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            return Ok(self.data.take().and_then(|data| Notice::of(&event, data)));
        }
        let (field, value) = match line.iter().position(|byte| *byte == b':') {
            Some(at) => (
                line.get(..at).unwrap_or_default(),
                line.get(at + 1..).unwrap_or_default(),
            ),
            None => (line, &[][..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"event" => self.event = value.to_vec(),
            b"data" => {
                let data = match &mut self.data {
                    Some(data) => {
                        data.push(b'\n');
                        data
                    }
                    none => none.insert(Vec::new()),
                };
                if data.len() + value.len() > LONGEST {
                    return Err(TooLongNotice);
                }
                data.extend_from_slice(value);
            }
            // Comments, and fields for those who resume a stream.
            _ => {}
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(pieces: &[&[u8]]) -> Result<Vec<Notice>, TooLongNotice> {
        let mut reader = NoticeReader::default();
        let mut found = Vec::new();
        for piece in pieces {
            reader.push(piece, |notice| found.push(notice))?;
        }
        Ok(found)
    }

    #[test]
    fn a_head_arrives_with_every_byte_and_the_last_newline() {
        let note = b"dirless/head/v1\ntenant x\n\n\xe2\x80\x94 syncer abc=\n".to_vec();
        let bytes = Notice::Head(note.clone()).to_bytes();
        assert!(bytes.starts_with(b"event: head\ndata: dirless/head/v1\n"));
        assert_eq!(read(&[KEEP_OPEN, &bytes, KEEP_OPEN]).unwrap(), [Notice::Head(note)]);
    }

    #[test]
    fn what_would_not_arrive_as_it_is_becomes_a_call_to_ask() {
        let long = vec![b'x'; LONGEST];
        for note in [&b"a\rb"[..], b"\xff", &long] {
            assert_eq!(
                read(&[&Notice::Head(note.to_vec()).to_bytes()]).unwrap(),
                [Notice::Changed]
            );
        }
    }

    #[test]
    fn other_events_fields_comments_and_line_ends_are_passed_over() {
        let stream = b"retry: 10\r\n: hello\revent: other\ndata: x\n\nid: 7\nevent:state\ndata:\"a\"\r\n\r\n\n\nevent: state\n\ndata\n\nevent: state\ndata: no tag\n\n";
        assert_eq!(
            read(&[stream]).unwrap(),
            [Notice::State(ETag::parse("\"a\"").unwrap(), None)]
        );
    }

    #[test]
    fn an_endless_line_and_an_endless_event_are_refused() {
        let piece = vec![b'x'; 64 * 1024];
        let mut reader = NoticeReader::default();
        assert!((0..100).any(|_| reader.push(&piece, |_| ()).is_err()));
        let mut reader = NoticeReader::default();
        let line = [b"data: ", &piece[..], b"\n"].concat();
        assert!((0..100).any(|_| reader.push(&line, |_| ()).is_err()));
    }

    fn parts() -> Box<TenantState> {
        let text = r#"{"sources":{"a":"\"1\"","b":null},"authz_config":null,"ca_public_key":"ssh-ed25519 AAAA x",
            "public_key":"age17vcec9dhw5cu4l58hx8a5pwxktryh9ej5ttqzl5gyqc2hnefkawq8pm37s"}"#;
        Box::new(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn parts_that_are_too_long_or_none_leave_the_tag() {
        let tag = ETag::parse("\"t\"").unwrap();
        let mut long = parts();
        long.ca_public_key = Some("x".repeat(LONGEST_PARTS));
        let told = Notice::State(tag.clone(), Some(long)).to_bytes();
        assert_eq!(told, b"event: state\ndata: \"t\"\n\n");
        for second in ["", "{}", "[", "\"t\""] {
            let event = format!("event: state\ndata: \"t\"\ndata: {second}\n\n");
            assert_eq!(read(&[event.as_bytes()]).unwrap(), [Notice::State(tag.clone(), None)]);
        }
    }

    fn notice() -> impl Strategy<Value = Notice> {
        prop_oneof![
            ("[!#-~]{0,20}", any::<bool>())
                .prop_map(|(text, told)| Notice::State(ETag::strong(&text).unwrap(), told.then(parts))),
            "[a-z :\n\u{e4}]{0,60}".prop_map(|text| Notice::Head(text.into_bytes())),
            Just(Notice::Changed),
        ]
    }

    proptest! {
        #[test]
        fn notices_arrive_however_the_stream_is_cut(
            notices in proptest::collection::vec(notice(), 0..6), cuts in proptest::collection::vec(1usize..9, 1..20)
        ) {
            let stream: Vec<u8> = notices.iter().flat_map(Notice::to_bytes).collect();
            let mut pieces = Vec::new();
            let mut rest = &stream[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            prop_assert_eq!(read(&pieces).unwrap(), notices);
        }

        #[test]
        fn any_stream_is_survived(stream in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&[&stream]);
        }
    }
}
