//! What is to be written: bytes, and between them attributes that lie in files and take so much room that they are
//! sent from there.

use std::collections::VecDeque;
use std::fs::File;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// Answers that wait to be written. It is the bytes of all of them, for nearly all have nothing else.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    bytes: Vec<u8>,
    attached: VecDeque<Attached>,
    length: usize,
}

/// A piece of a file, sent where it was attached.
#[derive(Debug)]
struct Attached {
    /// Bytes before it.
    at: usize,
    piece: Piece,
}

/// A piece of a file that does not change.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) file: Arc<File>,
    pub(crate) offset: u64,
    pub(crate) length: usize,
}

impl Piece {
    /// Does `next` begin where this one ends?
    fn is_before(&self, next: &Self) -> bool {
        Arc::ptr_eq(&self.file, &next.file) && self.offset + self.length as u64 == next.offset
    }
}

/// What is written next.
pub(crate) enum Next<'a> {
    /// These bytes, and whether a piece of a file follows.
    Bytes(&'a [u8], bool),
    Piece(Piece),
}

impl Answers {
    /// Has a piece of a file sent here.
    pub(crate) fn attach(&mut self, piece: Piece) {
        self.length += piece.length;
        let end = self.bytes.len();
        if let Some(last) = self.attached.back_mut()
            && last.at == end
            && last.piece.is_before(&piece)
        {
            last.piece.length += piece.length;
            return;
        }
        self.attached.push_back(Attached { at: end, piece });
    }

    /// Bytes that are to be sent.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len() + self.length
    }

    /// What follows once that many of the bytes are written; none when nothing does.
    pub(crate) fn after(&mut self, written: usize) -> Option<Next<'_>> {
        match self.attached.front() {
            Some(first) if first.at <= written => self.attached.pop_front().map(|first| Next::Piece(first.piece)),
            Some(first) => self.bytes.get(written..first.at).map(|bytes| Next::Bytes(bytes, true)),
            None => {
                let rest = self.bytes.get(written..).filter(|rest| !rest.is_empty())?;
                Some(Next::Bytes(rest, false))
            }
        }
    }

    /// All of them are written. Memory beyond `kept` bytes goes back.
    pub(crate) fn written(&mut self, kept: usize) {
        self.bytes.clear();
        self.attached.clear();
        self.length = 0;
        if self.bytes.capacity() > kept {
            self.bytes = Vec::new();
        }
    }

    /// Are there pieces of files?
    pub(crate) fn has_pieces(&self) -> bool {
        !self.attached.is_empty()
    }
}

impl Deref for Answers {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl DerefMut for Answers {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_pieces_come_in_the_order_in_which_they_were_put() {
        let file = Arc::new(tempfile::tempfile().unwrap());
        let piece = |offset, length| Piece {
            file: Arc::clone(&file),
            offset,
            length,
        };
        let mut answers = Answers::default();
        answers.extend_from_slice(b"head");
        answers.attach(piece(1, 10));
        answers.attach(piece(11, 5));
        answers.attach(piece(2, 20));
        answers.extend_from_slice(b"tail");
        assert_eq!(answers.size(), 43);
        let (mut written, mut order) = (0, Vec::new());
        while let Some(next) = answers.after(written) {
            match next {
                Next::Bytes(bytes, more) => {
                    // As a socket that takes three bytes at a time.
                    let part = bytes.len().min(3);
                    order.push(format!("{} {more}", String::from_utf8_lossy(&bytes[..part])));
                    written += part;
                }
                Next::Piece(piece) => order.push(format!("piece {} {}", piece.offset, piece.length)),
            }
        }
        let expected = ["hea true", "d true", "piece 1 15", "piece 2 20", "tai false", "l false"];
        assert_eq!(order, expected);
        answers.written(16);
        assert!(answers.is_empty() && answers.size() == 0 && !answers.has_pieces());
    }
}
