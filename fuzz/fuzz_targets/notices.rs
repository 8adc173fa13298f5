//! What a host hears on the request that it keeps open: whatever pieces the bytes come in, it hears the same, which is what
//! a simpler reading finds; each notice travels on as it is; and what a notice leaves to be fetched is what changed.
//!
//! The first byte is the length of the pieces; the highest one repeats the rest until no notice can be so long.

#![no_main]

use dirless_seal::Note;
use dirless_seal::trust::{Head, Object, parse, print};
use dirless_wire::{ETag, Notice, NoticeReader, TenantState as Parts};
use libfuzzer_sys::fuzz_target;

#[expect(dead_code, reason = "the rest of the file serves the client")]
#[path = "../../shared/client/src/news.rs"]
mod news;

use news::{Found, TenantState};

/// Longest line and longest data that is kept.
const LONGEST: usize = 512 * 1024;
/// Longest JSON of parts that travels.
const LONGEST_PARTS: usize = 16 * 1024;

fuzz_target!(|data: &[u8]| {
    let Some((piece, stream)) = data.split_first() else {
        return;
    };
    if *piece == 0xff && !stream.is_empty() {
        return endless(stream);
    }
    let (whole, is_whole) = heard(std::iter::once(stream));
    assert!(is_whole && whole == simply(stream));
    let pieces = heard(stream.chunks(1 + usize::from(*piece) % 64));
    assert_eq!(pieces, (whole.clone(), true));
    let mut state = State::default();
    for notice in &whole {
        let (again, is_whole) = heard(std::iter::once(notice.to_bytes().as_slice()));
        assert!(is_whole);
        assert_eq!(again, [as_it_travels(notice)]);
        if let Notice::Head(note) = notice
            && let Ok(note) = Note::parse(note, Head::MOST)
            && let Ok(head) = parse::<Head>(&note)
        {
            assert_eq!(print(&head).as_deref(), Ok(note.text()));
        }
        state.take(notice);
    }
});

/// Only what is longer than any notice is not read on.
fn endless(stream: &[u8]) {
    let (mut reader, mut length) = (NoticeReader::default(), 0);
    let piece = stream.repeat(1 + 4096 / stream.len());
    while length < 2 * LONGEST {
        length += piece.len();
        if reader.push(&piece, drop).is_err() {
            assert!(length > LONGEST);
            return;
        }
    }
    assert!(stream.contains(&b'\n') || stream.contains(&b'\r'), "a line without end");
}

/// The notices of a stream, and whether it can be read on.
fn heard<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Notice>, bool) {
    let (mut reader, mut found) = (NoticeReader::default(), Vec::new());
    for piece in pieces {
        if reader.push(piece, |notice| found.push(notice)).is_err() {
            return (found, false);
        }
    }
    (found, true)
}

/// All at once, line by line.
fn simply(bytes: &[u8]) -> Vec<Notice> {
    let mut lines: Vec<Vec<u8>> = vec![Vec::new()];
    let mut bytes = bytes.iter().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\r' | b'\n' => {
                if *byte == b'\r' {
                    bytes.next_if(|byte| **byte == b'\n');
                }
                lines.push(Vec::new());
            }
            other => lines.last_mut().expect("there is one from the start").push(*other),
        }
    }
    // It has not ended.
    lines.pop();
    let (mut found, mut event, mut data) = (Vec::new(), Vec::new(), Vec::<Vec<u8>>::new());
    for line in lines {
        if line.is_empty() {
            if !data.is_empty() {
                found.extend(notice(&event, &data.join(&b'\n')));
            }
            (event, data) = (Vec::new(), Vec::new());
            continue;
        }
        let mut halves = line.splitn(2, |byte| *byte == b':');
        let (field, value) = (halves.next().unwrap_or_default(), halves.next().unwrap_or_default());
        let value = value.strip_prefix(b" ").unwrap_or(value).to_vec();
        match field {
            b"event" => event = value,
            b"data" => data.push(value),
            _ => {}
        }
    }
    found
}

fn notice(event: &[u8], data: &[u8]) -> Option<Notice> {
    match event {
        b"head" => Some(Notice::Head(data.to_vec())),
        b"changed" => Some(Notice::Changed),
        b"state" => {
            let mut lines = std::str::from_utf8(data).ok()?.splitn(2, '\n');
            let tag = ETag::parse(lines.next()?).ok()?;
            Some(Notice::State(
                tag,
                lines.next().and_then(|parts| serde_json::from_str(parts).ok()),
            ))
        }
        _ => None,
    }
}

fn as_it_travels(notice: &Notice) -> Notice {
    match notice {
        Notice::Head(note) if note.len() > LONGEST / 2 || std::str::from_utf8(note).is_err() => Notice::Changed,
        Notice::State(tag, Some(parts)) => {
            let length = serde_json::to_string(parts).expect("it has text keys").len();
            Notice::State(tag.clone(), (length <= LONGEST_PARTS).then(|| parts.clone()))
        }
        same => same.clone(),
    }
}

/// What a host makes of notices, beside what it has to be.
#[derive(Default)]
struct State {
    state: TenantState,
    settled: Option<Box<Parts>>,
}

impl State {
    fn take(&mut self, notice: &Notice) {
        self.state.called(notice);
        let changes = self.state.changes();
        assert_eq!(self.state.changes(), None, "told twice");
        let Notice::State(tag, parts) = notice else {
            assert_eq!(changes, None);
            return;
        };
        match changes {
            Some(changes) => {
                let (before, now) = self.settled.as_ref().zip(parts.as_ref()).expect("both were told");
                let others = |parts: &Parts| {
                    (
                        parts.authz_config.clone(),
                        parts.ca_public_key.clone(),
                        parts.public_key.clone(),
                    )
                };
                assert_eq!((changes.tag(), others(before)), (tag, others(now)));
                for (source, tag) in &before.sources {
                    let now = now.sources.get(source).and_then(Option::as_ref);
                    assert!(
                        tag.is_none() || now.is_some(),
                        "that one is gone is not believed at once"
                    );
                    assert_eq!(changes.has(source), now.is_some() && now != tag.as_ref());
                    assert!(!changes.has(source) || changes.is_found(source, now));
                }
                self.state.settle_changes(&changes);
                assert!(!self.state.is_ahead(notice));
            }
            None => {
                let Some(parts) = parts else {
                    // What it consists of has to be asked for.
                    self.state.unsettle();
                    self.settled = None;
                    return;
                };
                let all = Found {
                    sources: parts.sources.clone(),
                    rules: parts.authz_config.clone(),
                };
                self.state.settle(tag, parts.clone(), &all);
            }
        }
        assert!(!self.state.is_news(notice));
        self.settled.clone_from(parts);
    }
}
