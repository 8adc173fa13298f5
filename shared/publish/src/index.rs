//! Which records a snapshot has, and where: the next one is read only where it says something else.
//!
//! A new snapshot is held against the text of the one before, span by span. What stands as it stood is stepped over, and
//! keeps its row; only other records are parsed and digested. Whatever does not fit costs time and nothing else: rows are
//! always those of the new text, and what changed is told only when all of it is known.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, BufRead};
use std::ops::Range;

use dirless_model::snapshot::{Caps, Joined, Listener, Part, Place, read_unknown, record_key};
use dirless_seal::trust::log::{Changes, DiffError, LONGEST_RECORD, diff};
use dirless_seal::{Content, Digest, RecordKind};
use serde::{Deserialize, Serialize};

/// How many spans of the text before are looked through for what comes next: so many may have gone in one place.
const AHEAD: usize = 256;
/// Bytes of those, and of what changed, that are kept at most: far more than a record of the log takes.
const MOST: usize = LONGEST_RECORD;

/// What a kept index begins with.
const FORMAT: &[u8] = b"dirless/index/v1\n";
/// Bytes of that and of the digest behind it.
const HEADER: usize = FORMAT.len() + 32;
/// Bytes of a row in it.
const ROW: usize = 1 + 4 + 4 + 8 + 32;
/// Places by the byte that stands for each.
const PLACES: [Place; 7] = [
    Place::User,
    Place::Group,
    Place::Entry,
    Place::Keys,
    Place::Retired,
    Place::Ledger,
    Place::Member,
];

/// Names a record's kind and key.
type Id = [u8; 8];

/// A record, and where its span stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    place: Place,
    start: u64,
    length: u32,
    /// None when it has no key.
    id: Option<Id>,
    leaf: Digest,
}

/// The records of a snapshot in the order of its text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Index(Vec<Row>);

/// What one snapshot says otherwise than the one before it, as whole records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Since {
    /// Digest of the plaintext of the one before.
    pub(super) from: String,
    /// Records of that one.
    gone: Vec<(Part, String)>,
    /// Records of the new one.
    come: Vec<(Part, String)>,
}

/// The snapshot before, and its text once more.
pub(super) struct Before<'a> {
    /// Digest of its plaintext.
    pub(super) digest: String,
    /// Its records.
    pub(super) index: Index,
    /// Its plaintext.
    pub(super) text: &'a mut dyn BufRead,
}

impl Index {
    /// The records of `text`, and what changed since `before` if that can be said in a record of a log.
    ///
    /// # Errors
    /// When it is no snapshot.
    pub(super) fn read(text: &[u8], before: Option<Before<'_>>) -> Result<(Self, Option<Since>), String> {
        let mut reading = Reading {
            text,
            rows: Vec::new(),
            from: String::new(),
            walk: None,
            gone: Vec::new(),
            come: Vec::new(),
            kept: 0,
        };
        if let Some(before) = before.filter(|before| are_distinct(&before.index.0)) {
            reading.from = before.digest;
            reading.walk = Some(Walk {
                rows: before.index.0.into_iter(),
                text: before.text,
                at: 0,
                window: VecDeque::new(),
                bytes: 0,
            });
        }
        read_unknown(text, Caps::default(), &mut reading).map_err(|error| error.to_string())?;
        let since = reading.since();
        Ok((Self(reading.rows), since))
    }

    /// As it is kept, if it can be: behind [`FORMAT`] and the SHA-256 of what follows, of each record in the order of the
    /// text the byte of its place; how far after the one before it begins and how long its span is, 4 bytes each, the lowest
    /// first; 8 bytes of its kind and key, zero where it has none; and its leaf.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(HEADER + self.0.len() * ROW);
        bytes.extend_from_slice(FORMAT);
        bytes.resize(HEADER, 0);
        let mut end = 0;
        for row in &self.0 {
            let between = u32::try_from(row.start.checked_sub(end)?).ok()?;
            bytes.push(PLACES.iter().position(|place| *place == row.place)?.try_into().ok()?);
            bytes.extend_from_slice(&between.to_le_bytes());
            bytes.extend_from_slice(&row.length.to_le_bytes());
            bytes.extend_from_slice(&row.id.unwrap_or_default());
            bytes.extend_from_slice(row.leaf.as_bytes());
            end = row.start + u64::from(row.length);
        }
        let (header, rows) = bytes.split_at_mut(HEADER);
        header
            .last_chunk_mut::<32>()?
            .copy_from_slice(Digest::of(rows).as_bytes());
        Some(bytes)
    }

    /// What [`Self::encode`] made; `None` of anything else.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (digest, rows) = bytes.strip_prefix(FORMAT)?.split_first_chunk::<32>()?;
        // What it says of unchanged records is never held against them again.
        if Digest::of(rows).as_bytes() != digest {
            return None;
        }
        let (rows, rest) = rows.as_chunks::<ROW>();
        let mut end = 0_u64;
        let mut decoded = Vec::with_capacity(rows.len());
        for row in rows {
            let (place, row) = row.split_first()?;
            let (between, row) = row.split_first_chunk()?;
            let (length, row) = row.split_first_chunk()?;
            let (id, leaf) = row.split_first_chunk::<8>()?;
            let start = end.checked_add(u32::from_le_bytes(*between).into())?;
            let length = u32::from_le_bytes(*length);
            end = start.checked_add(length.into())?;
            decoded.push(Row {
                place: *PLACES.get(usize::from(*place))?,
                start,
                length,
                id: Some(*id).filter(|id| *id != Id::default()),
                leaf: Digest::from_bytes(leaf.try_into().ok()?),
            });
        }
        rest.is_empty().then_some(Self(decoded))
    }

    /// The content root.
    pub(super) fn content(&self) -> Digest {
        Content::of(self.0.iter().map(|row| row.leaf).collect()).root()
    }
}

impl Since {
    /// The record of the log; `content` is the content root of the new snapshot.
    ///
    /// # Errors
    /// When it is more than a record holds.
    pub(super) fn changes(&self, content: Digest) -> Result<Changes, DiffError> {
        diff(&keyed(&self.gone)?, &keyed(&self.come)?, content)
    }

    /// The records that are new, or say something else, as a snapshot.
    pub(super) fn come(&self) -> Joined {
        let mut joined = Joined::default();
        for (part, text) in &self.come {
            joined.add(*part, text.as_bytes());
        }
        joined
    }
}

type Keyed = BTreeMap<(RecordKind, Vec<u8>), Vec<u8>>;

fn keyed(records: &[(Part, String)]) -> Result<Keyed, DiffError> {
    let mut keyed = Keyed::new();
    for (part, text) in records {
        let key = record_key(*part, text.as_bytes()).ok_or(DiffError::Twice)?;
        let place = (RecordKind::from(*part), key.into_owned());
        if keyed.insert(place, text.clone().into_bytes()).is_some() {
            return Err(DiffError::Twice);
        }
    }
    Ok(keyed)
}

fn id(part: Part, bytes: &[u8]) -> Option<Id> {
    let key = record_key(part, bytes)?;
    RecordKind::from(part).leaf(&key).as_bytes().first_chunk().copied()
}

/// Has each record a key of its own? No log can say what becomes of others.
fn are_distinct(rows: &[Row]) -> bool {
    let ids: Option<Vec<u64>> = rows.iter().map(|row| row.id.map(u64::from_le_bytes)).collect();
    ids.is_some_and(|mut ids| {
        ids.sort_unstable();
        ids.is_sorted_by(|left, right| left < right)
    })
}

/// A text as it is read.
struct Reading<'a> {
    text: &'a [u8],
    rows: Vec<Row>,
    from: String,
    /// The text before, as long as all that differs from it is kept.
    walk: Option<Walk<'a>>,
    gone: Vec<(Place, Vec<u8>)>,
    come: Vec<(Part, Vec<u8>)>,
    /// Bytes of both.
    kept: usize,
}

impl Reading<'_> {
    /// Counts what is kept of a change; too much of it, and nothing more is known. Is it known still?
    fn keep(&mut self, bytes: usize) -> bool {
        self.kept = self.kept.saturating_add(bytes);
        if self.kept > MOST {
            self.walk = None;
        }
        self.walk.is_some()
    }

    fn go(&mut self, (row, span): (Row, Vec<u8>)) -> bool {
        let length = span.len();
        self.gone.push((row.place, span));
        self.keep(length)
    }

    /// What changed, when that is known, and no two records have one key.
    fn since(&mut self) -> Option<Since> {
        // What is left of the text before is gone.
        while self.walk.as_mut()?.next().ok()?.is_some_and(|gone| self.go(gone)) {}
        // Its checksum stands at its end.
        io::copy(self.walk.as_mut()?.text, &mut io::sink()).ok()?;
        if !are_distinct(&self.rows) {
            return None;
        }
        let text = |bytes| String::from_utf8(bytes).ok();
        let mut gone = Vec::with_capacity(self.gone.len());
        for (place, span) in &self.gone {
            gone.push((place.part(), text(place.record(span)?)?));
        }
        let come = std::mem::take(&mut self.come).into_iter();
        Some(Since {
            from: std::mem::take(&mut self.from),
            gone,
            come: come
                .map(|(part, bytes)| Some((part, text(bytes)?)))
                .collect::<Option<_>>()?,
        })
    }
}

impl Listener for Reading<'_> {
    fn known(&mut self, place: Place, text: &[u8]) -> Option<usize> {
        let walk = self.walk.as_mut()?;
        let Ok(found) = walk.find(place, text) else {
            // It cannot be read on: nothing more is known of it.
            self.walk = None;
            return None;
        };
        let mut passed = walk.pass(found? + 1);
        let (row, span) = passed.pop()?;
        let start = (self.text.len() - text.len()) as u64;
        self.rows.push(Row { start, ..row });
        for gone in passed {
            self.go(gone);
        }
        Some(span.len())
    }

    fn record(&mut self, place: Place, span: Range<usize>, bytes: &[u8]) {
        let part = place.part();
        self.rows.push(Row {
            place,
            start: span.start as u64,
            // No value is read that is nearly as long.
            length: u32::try_from(span.len()).unwrap_or(u32::MAX),
            id: id(part, bytes),
            leaf: RecordKind::from(part).leaf(bytes),
        });
        if self.walk.is_some() {
            self.come.push((part, bytes.to_vec()));
            self.keep(bytes.len());
        }
    }
}

/// The text before, from where nothing of it was found yet.
struct Walk<'a> {
    rows: std::vec::IntoIter<Row>,
    text: &'a mut dyn BufRead,
    /// Bytes of it that were read.
    at: u64,
    window: VecDeque<(Row, Vec<u8>)>,
    /// Bytes of that.
    bytes: usize,
}

impl Walk<'_> {
    fn skip(&mut self, mut count: u64) -> io::Result<()> {
        while count > 0 {
            let there = self.text.fill_buf()?.len();
            let own = there.min(usize::try_from(count).unwrap_or(usize::MAX));
            if own == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.text.consume(own);
            count -= own as u64;
        }
        Ok(())
    }

    /// Reads one span more; false at the end.
    fn more(&mut self) -> io::Result<bool> {
        let Some(row) = self.rows.next() else {
            return Ok(false);
        };
        let other = || io::Error::new(io::ErrorKind::InvalidData, "the index is of another text");
        let between = row.start.checked_sub(self.at).ok_or_else(other)?;
        self.skip(between)?;
        let mut span = vec![0; row.length as usize];
        self.text.read_exact(&mut span)?;
        self.at = row.start + u64::from(row.length);
        self.bytes += span.len();
        self.window.push_back((row, span));
        Ok(true)
    }

    /// Which of the next spans stands at this place and is what `text` begins with.
    fn find(&mut self, place: Place, text: &[u8]) -> io::Result<Option<usize>> {
        for at in 0..AHEAD {
            if at == self.window.len() && (self.bytes > MOST || !self.more()?) {
                break;
            }
            let Some((row, span)) = self.window.get(at) else { break };
            // Of a number it does not show where it ends.
            let is_whole = matches!(span.last(), Some(b'}' | b']' | b'"'));
            if row.place == place && is_whole && text.starts_with(span) {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// The next `count` of them, which then lie behind.
    fn pass(&mut self, count: usize) -> Vec<(Row, Vec<u8>)> {
        let passed: Vec<_> = self.window.drain(..count.min(self.window.len())).collect();
        self.bytes -= passed.iter().map(|(_, span)| span.len()).sum::<usize>();
        passed
    }

    fn next(&mut self) -> io::Result<Option<(Row, Vec<u8>)>> {
        if self.window.is_empty() {
            self.more()?;
        }
        Ok(self.pass(1).pop())
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::grow::compare;
    use crate::stock::{Kind, content_root};

    fn whole(text: &str) -> Index {
        let (index, since) = Index::read(text.as_bytes(), None).unwrap();
        assert_eq!(since, None);
        index
    }

    fn step(before: &str, index: Index, after: &str) -> (Index, Option<Since>) {
        let before = Before {
            digest: "before".to_owned(),
            index,
            text: &mut before.as_bytes(),
        };
        Index::read(after.as_bytes(), Some(before)).unwrap()
    }

    /// What a step over the records that changed finds is what looking at everything does.
    fn is_as_whole(before: &str, after: &str) -> Option<Changes> {
        let (index, since) = step(before, whole(before), after);
        assert_eq!(index, whole(after), "{before} {after}");
        let content = content_root(Kind::Snapshot, after.as_bytes()).unwrap();
        assert_eq!(index.content(), content);
        let kept = index.encode().unwrap();
        assert_eq!(Index::decode(&kept), Some(index));
        let stepped = since.and_then(|since| since.changes(content).ok());
        let compared = compare(Kind::Snapshot, || before.as_bytes(), || after.as_bytes(), content).ok();
        assert_eq!(stepped, compared, "{before} {after}");
        stepped
    }

    fn users(names: impl Iterator<Item = u32>) -> String {
        let users: Vec<String> = names.map(|name| format!(r#"{{"username":"u{name}"}}"#)).collect();
        format!(r#"{{"users":[{}]}}"#, users.join(","))
    }

    #[test]
    fn whatever_goes_comes_or_stays_is_found() {
        let before = r#"{"sequence":7,"users":[{"username":"a","uid":1},{"username":"b","uid":2}],"groups":[{"name":"g"}],
            "ssh_keys":{"a":"k","b" : "l"},"ledger":{"retired":[{"kind":"user","id":"x","number":1}],"more":5},"entries":[]}"#;
        for after in [
            before.to_owned(),
            before.replace('7', "71"),
            before.replace(":5", ":57"),
            before.replace(r#"{"username":"a","uid":1},"#, ""),
            before.replace(r#""uid":2"#, r#""uid":3"#),
            before.replace(r#""users":["#, r#""users":[{"username":"0"},"#),
            before.replace(r#""a":"k""#, r#""c":"k""#),
            before.replace(r#""b" : "l""#, r#""\u0062":"l""#),
            before.replace(r#""l""#, r#""l", "m":["l"]"#),
            before.replace(r#""name":"g""#, r#""name":"g","gid":1"#),
            before.replace(r#""number":1"#, r#""number":2"#),
            before.replace("[]", r#"[{"dn":"cn=a"}]"#),
            "{}".to_owned(),
        ] {
            assert!(is_as_whole(before, &after).is_some());
            assert!(is_as_whole(&after, before).is_some());
        }
    }

    #[test]
    fn what_changes_in_many_places_is_found_or_left_to_a_look_at_everything() {
        let before = users(0..2_000);
        for (after, is_found) in [
            (users((0..1_000).chain(1_000 + AHEAD as u32 / 2..2_000)), true),
            (users((0..2_000).filter(|name| name % 3 != 0)), true),
            (users((0..2_000).rev()), true),
            (users(0..9), true),
            (users(5_000..7_000), true),
        ] {
            assert_eq!(is_as_whole(&before, &after).is_some(), is_found);
        }
    }

    #[test]
    fn a_change_is_not_kept_when_it_is_large() {
        let large = |of: &str| {
            format!(
                r#"{{"users":[{{"username":"a"}},{{"username":"b","x":"{}"}}]}}"#,
                of.repeat(MOST)
            )
        };
        let (before, after) = (large("x"), large("y"));
        let (index, since) = step(&before, whole(&before), &after);
        assert_eq!((index, since), (whole(&after), None));
        // Nor when something large went.
        let (index, since) = step(&before, whole(&before), "{}");
        assert_eq!((index, since), (whole("{}"), None));
    }

    #[test]
    fn a_text_that_is_another_one_is_noticed() {
        let before = users(0..20);
        for other in ["", &before[..90], &before.replace("u7", "v7")] {
            let (index, since) = step(other, whole(&before), &before);
            assert_eq!(index, whole(&before));
            let content = index.content();
            assert!(since.is_none_or(|since| !since.changes(content).unwrap().changes.is_empty()));
        }
    }

    #[test]
    fn what_is_kept_is_whole_or_nothing() {
        let kept = whole(&users(0..3)).encode().unwrap();
        for at in 0..kept.len() {
            let mut other = kept.clone();
            other[at] ^= 1;
            assert_eq!(Index::decode(&other), None, "{at}");
            assert_eq!(Index::decode(&kept[..at]), None, "{at}");
        }
    }

    #[test]
    fn what_came_is_a_snapshot() {
        let (before, after) = (users(0..3), users(2..4));
        let since = step(&before, whole(&before), &after).1.unwrap();
        assert_eq!(
            whole(&String::from_utf8(since.come().finish()).unwrap()).content(),
            whole(&users(3..4)).content()
        );
    }

    /// A text with these lists, in which a number is what some record says under some name, or under none.
    fn text(lists: &[Vec<(u8, u8)>], order: bool) -> String {
        let list = |at: usize, record: &dyn Fn(u8, u8) -> String| {
            let records = lists.get(at).into_iter().flatten();
            records
                .map(|(name, value)| record(*name, *value))
                .collect::<Vec<_>>()
                .join(if order { "," } else { " ,\n" })
        };
        let named = |key: &'static str| {
            move |name: u8, value: u8| match name {
                0 => format!("{value}"),
                1 => format!(r#"{{"x":{value}}}"#),
                name => format!(r#"{{"{key}":"n{name}","x":{value}}}"#),
            }
        };
        let mut members = vec![
            format!(r#""users":[{}]"#, list(0, &named("username"))),
            format!(r#""groups":[{}]"#, list(1, &named("name"))),
            format!(
                r#""ssh_keys":{{{}}}"#,
                list(2, &|name, value| format!(r#""n{name}":"{value}""#))
            ),
            format!(r#""entries":[{}]"#, list(3, &named("dn"))),
            list(4, &|name, value| format!(r#""m{name}":{value}"#)),
        ];
        members.retain(|member| !member.is_empty());
        if !order {
            members.reverse();
        }
        format!("{{{}}}", members.join(","))
    }

    fn lists() -> impl Strategy<Value = Vec<Vec<(u8, u8)>>> {
        // Names below 2 are rare: such a text is no log's.
        let name = prop_oneof![60 => 2_u8..12, 1 => 0_u8..2];
        vec(vec((name, 0_u8..3), 0..6), 5)
    }

    proptest! {
        #[test]
        fn a_step_finds_what_a_look_at_everything_does(
            mut before in lists(), after in lists(), same in 0_usize..6, order: (bool, bool), distinct: bool,
        ) {
            for (to, from) in before.iter_mut().zip(&after).take(same) {
                to.clone_from(from);
            }
            let (mut before, mut after) = (before, after);
            if distinct {
                for list in before.iter_mut().chain(&mut after) {
                    list.sort_unstable();
                    list.dedup_by_key(|(name, _)| *name);
                }
            }
            let (before, after) = (text(&before, order.0), text(&after, order.1));
            is_as_whole(&before, &after);
        }
    }
}
