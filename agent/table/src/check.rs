//! Which texts a table takes, and how they are laid into a record.

use crate::error::WriteError;
use crate::format::USER_FIXED;

pub(crate) fn push_text(record: &mut Vec<u8>, text: &[u8]) {
    record.extend(text);
    record.push(0);
}

pub(crate) fn put(record: &mut [u8], at: usize, value: u32) {
    if let Some(place) = record.get_mut(at..at + 4) {
        place.copy_from_slice(&value.to_le_bytes());
    }
}

/// The numbers in front of a user's texts: lengths in bytes.
pub(crate) struct UserShape {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) kind: u8,
    pub(crate) name: usize,
    /// Of gecos, home and shell.
    pub(crate) texts: [usize; 3],
    pub(crate) keys: usize,
}

/// Appends the beginning of a user's record, up to the texts.
pub(crate) fn push_user_fixed(record: &mut Vec<u8>, user: &UserShape, gids: &[u32]) {
    let texts = user.name + user.texts.iter().sum::<usize>() + user.keys;
    record.reserve(USER_FIXED + gids.len() * 4 + texts + 8);
    for value in [user.uid, user.gid, gids.len() as u32, user.keys as u32] {
        record.extend(value.to_le_bytes());
    }
    record.extend([user.name as u8, user.kind]);
    for len in user.texts {
        record.extend((len as u16).to_le_bytes());
    }
    for gid in gids {
        record.extend(gid.to_le_bytes());
    }
}

/// A name stands alone in a passwd line and in a comma-separated list of members.
pub(crate) fn check_name(field: &'static str, name: &str) -> Result<(), WriteError> {
    let why = match name.len() {
        0 => "is empty",
        256.. => "is longer than 255 bytes",
        _ if name.contains(',') => "holds a comma",
        _ => return check_text(field, name),
    };
    Err(WriteError::Text { field, why })
}

pub(crate) fn check_text(field: &'static str, text: &str) -> Result<(), WriteError> {
    if text.len() > usize::from(u16::MAX) {
        return Err(WriteError::Text {
            field,
            why: "is longer than 65,535 bytes",
        });
    }
    // Looked through whole: without an early end many bytes are compared at once.
    if text
        .bytes()
        .fold(false, |bad, byte| bad | matches!(byte, 0 | b':' | b'\n'))
    {
        return Err(WriteError::Text {
            field,
            why: "holds a NUL byte, a colon or a line break",
        });
    }
    Ok(())
}

/// Keys have lines and colons of their own; a whole record stays far below 4 GiB.
pub(crate) fn check_keys(keys: &str) -> Result<(), WriteError> {
    let why = match keys.len() {
        MAX_KEYS.. => "are longer than 1 MiB",
        _ if keys.contains('\0') => "hold a NUL byte",
        _ => return Ok(()),
    };
    Err(WriteError::Text { field: "keys", why })
}

const MAX_KEYS: usize = (1 << 20) + 1;
