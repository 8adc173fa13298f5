//! Records into the caller's structures and buffer. Nothing is written unless all of it fits.

use crate::abi::{Group, Outcome, Passwd, Shadow};
use dirless_table::{Group as StoredGroup, User};
use std::ffi::{c_char, c_long, c_ulong};

/// The caller's scratch space.
#[derive(Debug, Clone, Copy)]
pub struct Buffer {
    start: *mut u8,
    len: usize,
}

impl Buffer {
    /// # Safety
    /// `len` bytes at `start` are the caller's to write while this is used; `start` may be null if
    /// `len` is 0.
    pub unsafe fn new(start: *mut c_char, len: usize) -> Self {
        let len = if start.is_null() { 0 } else { len };
        Self {
            start: start.cast(),
            len,
        }
    }

    /// Copies `bytes` to `at`, if they fit, and returns where they are.
    fn put(&self, at: usize, bytes: &[u8]) -> Option<*mut u8> {
        if at.checked_add(bytes.len())? > self.len {
            return None;
        }
        // SAFETY: at..at+len lies inside the buffer, which is the caller's own memory and so does not
        // overlap the table.
        unsafe {
            let target = self.start.add(at);
            target.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            Some(target)
        }
    }
}

/// # Safety
/// `out` points to a passwd structure to write.
pub(crate) unsafe fn passwd(user: &User<'_>, out: *mut Passwd, buffer: Buffer) -> Outcome {
    let Some(strings) = buffer.put(0, user.strings) else {
        return Outcome::ShortBuffer;
    };
    let [gecos, home, shell] = user.starts;
    // SAFETY: the starts lie inside the strings (checked when the record was decoded), copied above.
    let at = |offset: usize| unsafe { strings.add(offset).cast::<c_char>() };
    let entry = Passwd {
        name: at(0),
        passwd: at(gecos - 2),
        uid: user.uid,
        gid: user.gid,
        gecos: at(gecos),
        dir: at(home),
        shell: at(shell),
    };
    // SAFETY: the caller's promise.
    unsafe { out.write(entry) };
    Outcome::Success
}

/// The pointers come first, aligned; the strings follow, and then what an overlay keeps of the members.
///
/// # Safety
/// `out` points to a group structure to write.
pub(crate) unsafe fn group(group: &StoredGroup<'_>, out: *mut Group, buffer: Buffer) -> Outcome {
    let array = buffer.start.align_offset(align_of::<*mut c_char>());
    let pointers = (group.member_count + 1).checked_mul(size_of::<*mut c_char>());
    let Some(after) = pointers.and_then(|size| array.checked_add(size)) else {
        return Outcome::ShortBuffer;
    };
    let Ok(kept) = group.kept_len() else {
        return Outcome::Damaged;
    };
    let strings_end = after.saturating_add(group.strings.len());
    if strings_end.saturating_add(kept) > buffer.len {
        return Outcome::ShortBuffer;
    }
    let Some(strings) = buffer.put(after, group.strings) else {
        return Outcome::ShortBuffer;
    };
    // SAFETY: array..after lies before the strings, which fitted; aligned by `align_offset`.
    let members = unsafe { buffer.start.add(array).cast::<*mut c_char>() };
    let (mut found, mut end) = (0, strings_end);
    for text in group.kept().flatten() {
        let Some(copy) = buffer.put(end, text) else {
            return Outcome::ShortBuffer;
        };
        // SAFETY: the array was sized for `member_count`, which is not passed; `copy` has all of `text`.
        found += unsafe { point_to_names(text, copy, members.add(found), group.member_count - found) };
        end += text.len();
    }
    let names = group.strings.get(group.members_start..).unwrap_or_default();
    // SAFETY: as above; the members text lies in the strings, from `members_start` on.
    found += unsafe {
        let copy = strings.add(group.members_start);
        point_to_names(names, copy, members.add(found), group.member_count - found)
    };
    if found != group.member_count {
        return Outcome::Damaged;
    }
    // SAFETY: the array has one place more than members; `out` is the caller's promise; the `x` lies
    // two before the members (checked when the record was decoded).
    unsafe {
        members.add(group.member_count).write(std::ptr::null_mut());
        let passwd = strings.add(group.members_start - 2).cast();
        out.write(Group {
            name: strings.cast(),
            passwd,
            gid: group.gid,
            members,
        });
    }
    Outcome::Success
}

/// Writes pointers to at most `limit` names of `text` and returns how many.
///
/// # Safety
/// `copy` points to a copy of `text`, `pointers` to room for `limit` pointers.
#[inline]
unsafe fn point_to_names(text: &[u8], copy: *mut u8, pointers: *mut *mut c_char, limit: usize) -> usize {
    each_name(text, limit, |number, at| {
        // SAFETY: `number` is below the limit, `at` inside the text.
        unsafe { pointers.add(number).write(copy.add(at).cast()) };
    })
}

/// A locked password that never ages, as deployed Dirless hosts have it: the account has no password,
/// and pam_unix finds nothing expired.
///
/// # Safety
/// `out` points to an spwd structure to write.
pub(crate) unsafe fn shadow(user: &User<'_>, out: *mut Shadow, buffer: Buffer) -> Outcome {
    const LOCKED: &[u8] = b"!\0";
    let [gecos, ..] = user.starts;
    let name = user.strings.get(..gecos - 2).unwrap_or_default();
    if name.len() + LOCKED.len() > buffer.len {
        return Outcome::ShortBuffer;
    }
    let (Some(target), Some(passwd)) = (buffer.put(0, name), buffer.put(name.len(), LOCKED)) else {
        return Outcome::ShortBuffer;
    };
    let entry = Shadow {
        name: target.cast(),
        passwd: passwd.cast(),
        last_change: LAST_CHANGE,
        min: 0,
        max: 99_999,
        warn: 7,
        inactive: -1,
        expire: -1,
        flag: c_ulong::MAX,
    };
    // SAFETY: the caller's promise.
    unsafe { out.write(entry) };
    Outcome::Success
}

/// A fixed day in the past (2024-06-26), so that no clock makes the password look changed in the future.
const LAST_CHANGE: c_long = 19_900;

/// Calls `name` with the number and beginning of each of at most `limit` NUL-terminated names; returns how
/// many there were. Eight bytes at a time: this is most of the work of answering a group.
#[inline]
fn each_name(text: &[u8], limit: usize, mut name: impl FnMut(usize, usize)) -> usize {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let (words, rest) = text.as_chunks::<8>();
    let (mut number, mut begin) = (0, 0);
    let mut ended = |end: usize| {
        if number < limit {
            name(number, begin);
            number += 1;
            begin = end + 1;
        }
        number == limit
    };
    for (at, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // The top bit of each byte that is zero, and of no other.
        let mut zeros = !(((word & LOW) + LOW) | word | LOW);
        while zeros != 0 {
            if ended(at * 8 + (zeros.trailing_zeros() / 8) as usize) {
                return limit;
            }
            zeros &= zeros - 1;
        }
    }
    for (at, _) in rest.iter().enumerate().filter(|(_, byte)| **byte == 0) {
        ended(words.len() * 8 + at);
    }
    number
}

#[cfg(test)]
mod tests {
    use super::each_name;

    #[test]
    fn names_are_found_wherever_they_end() {
        for len in 0..20 {
            for count in 0..20usize {
                // Bytes 0x01, 0x80 and 0xff are those that careless word tricks take for zero.
                let one: Vec<u8> = [0x01, 0x80, 0xff, b'a']
                    .iter()
                    .copied()
                    .cycle()
                    .take(len)
                    .chain([0])
                    .collect();
                let text = one.repeat(count);
                let mut begins = Vec::new();
                let found = each_name(&text, count, |number, at| begins.push((number, at)));
                assert_eq!(found, count);
                assert!(begins.iter().copied().eq((0..count).map(|n| (n, n * one.len()))));
                assert_eq!(each_name(&text, count + 1, |_, _| ()), count, "fewer than said");
                assert_eq!(each_name(&text, count / 2, |_, _| ()), count / 2, "more than said");
            }
        }
    }
}
