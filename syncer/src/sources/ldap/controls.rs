//! Values of the controls that a reader uses. Pure.

use dirless_directory::encoded::{OCTET_STRING, SEQUENCE, SET};

use super::wire::{Control, next, number, put, put_integer};

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const ENUMERATED: u8 = 0x0a;

/// Simple paged results (RFC 2696).
pub(super) const PAGED: &str = "1.2.840.113556.1.4.319";
/// DirSync (MS-ADTS 3.1.1.3.4.1.3).
pub(super) const DIRSYNC: &str = "1.2.840.113556.1.4.841";
/// Content synchronisation: the request (RFC 4533 section 2.2).
pub(super) const SYNC_REQUEST: &str = "1.3.6.1.4.1.4203.1.9.1.1";
const SYNC_STATE: &str = "1.3.6.1.4.1.4203.1.9.1.2";
const SYNC_DONE: &str = "1.3.6.1.4.1.4203.1.9.1.3";
/// The name of its intermediate answers (RFC 4533 section 2.5).
pub(super) const SYNC_INFO: &str = "1.3.6.1.4.1.4203.1.9.1.4";

fn sequence(content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + 6);
    put(&mut out, SEQUENCE, content);
    out
}

fn find<'a>(controls: &'a [Control], oid: &str) -> Option<&'a [u8]> {
    let value = &controls.iter().find(|control| control.oid == oid)?.value;
    next(value, SEQUENCE).map(|(content, _)| content)
}

/// Asks for one page. Critical: a server that cannot page must say so instead of cutting the answer.
pub(super) fn page(size: u32, cookie: &[u8]) -> Control {
    let mut content = Vec::new();
    put_integer(&mut content, INTEGER, i64::from(size));
    put(&mut content, OCTET_STRING, cookie);
    Control::critical(PAGED, sequence(&content))
}

/// The cookie of the next page, empty after the last; `None` when the server does not say.
pub(super) fn next_page(controls: &[Control]) -> Option<Vec<u8>> {
    let (_, rest) = next(find(controls, PAGED)?, INTEGER)?;
    let (cookie, _) = next(rest, OCTET_STRING)?;
    Some(cookie.to_vec())
}

/// Asks for what changed since `cookie`.
pub(super) fn dirsync(cookie: &[u8]) -> Control {
    let mut content = Vec::new();
    put_integer(&mut content, INTEGER, 0);
    // How many bytes of attributes an answer may have.
    put_integer(&mut content, INTEGER, 1 << 20);
    put(&mut content, OCTET_STRING, cookie);
    Control::critical(DIRSYNC, sequence(&content))
}

/// Whether there is more, and the cookie.
pub(super) fn dirsync_state(controls: &[Control]) -> Option<(bool, Vec<u8>)> {
    let (more, rest) = next(find(controls, DIRSYNC)?, INTEGER)?;
    let (_, rest) = next(rest, INTEGER)?;
    let (cookie, _) = next(rest, OCTET_STRING)?;
    Some((number(more)? != 0, cookie.to_vec()))
}

/// Asks for what changed since `cookie`, once (refreshOnly).
pub(super) fn sync_request(cookie: Option<&[u8]>) -> Control {
    let mut content = Vec::new();
    put_integer(&mut content, ENUMERATED, 1);
    if let Some(cookie) = cookie {
        put(&mut content, OCTET_STRING, cookie);
    }
    Control::critical(SYNC_REQUEST, sequence(&content))
}

/// What an entry of a synchronisation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SyncState {
    Present,
    Changed,
    Deleted,
}

/// The state of an entry, and its entryUUID.
pub(super) fn sync_state(controls: &[Control]) -> Option<(SyncState, String)> {
    let (state, rest) = next(find(controls, SYNC_STATE)?, ENUMERATED)?;
    let state = match number(state)? {
        0 => SyncState::Present,
        1 | 2 => SyncState::Changed,
        3 => SyncState::Deleted,
        _ => return None,
    };
    let (id, _) = next(rest, OCTET_STRING)?;
    Some((state, uuid(id)?))
}

/// The cookie, and whether all deletions were named: otherwise what was not named is gone.
pub(super) fn sync_done(controls: &[Control]) -> Option<(Option<Vec<u8>>, bool)> {
    let content = find(controls, SYNC_DONE)?;
    let (cookie, rest) = next(content, OCTET_STRING).map_or((None, content), |(cookie, rest)| (Some(cookie), rest));
    let deletes = next(rest, BOOLEAN).is_some_and(|(flag, _)| flag != [0]);
    Some((cookie.map(<[u8]>::to_vec), deletes))
}

/// An intermediate answer of a synchronisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SyncInfo {
    /// Nothing but a cookie, or the end of a phase.
    Cookie,
    /// The end of the deletions: they were all named.
    Deletes,
    /// The end of what is present.
    Presents,
    /// These are gone, or else are there unchanged.
    Ids { gone: bool, ids: Vec<String> },
}

/// Reads the value of an intermediate answer (RFC 4533 section 2.5).
pub(super) fn sync_info(value: &[u8]) -> Option<SyncInfo> {
    match value.first()? {
        0x80 => Some(SyncInfo::Cookie),
        0xa1 => Some(SyncInfo::Deletes),
        0xa2 => Some(SyncInfo::Presents),
        0xa3 => {
            let (content, _) = next(value, 0xa3)?;
            let rest = next(content, OCTET_STRING).map_or(content, |(_, rest)| rest);
            let (gone, rest) = next(rest, BOOLEAN).map_or((false, rest), |(flag, rest)| (flag != [0], rest));
            let (mut set, _) = next(rest, SET)?;
            let mut ids = Vec::new();
            while !set.is_empty() {
                let (id, after) = next(set, OCTET_STRING)?;
                ids.push(uuid(id)?);
                set = after;
            }
            Some(SyncInfo::Ids { gone, ids })
        }
        _ => None,
    }
}

/// An entryUUID as text (RFC 4122).
fn uuid(bytes: &[u8]) -> Option<String> {
    let bytes: &[u8; 16] = bytes.try_into().ok()?;
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if [4, 6, 8, 10].contains(&at) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(oid: &str, content: &[u8]) -> Vec<Control> {
        vec![Control::critical(oid, sequence(content))]
    }

    #[test]
    fn a_page_is_asked_for_and_its_cookie_found() {
        let asked = page(500, b"cookie");
        assert_eq!(asked.value, b"\x30\x0c\x02\x02\x01\xf4\x04\x06cookie");
        assert_eq!(next_page(&[asked]).unwrap(), b"cookie");
        assert_eq!(next_page(&[]), None);
        assert_eq!(next_page(&answer(PAGED, b"\x02\x01")), None);
    }

    #[test]
    fn dirsync_says_whether_there_is_more() {
        let mut content = Vec::new();
        put_integer(&mut content, INTEGER, 1);
        put_integer(&mut content, INTEGER, 0);
        put(&mut content, OCTET_STRING, b"MSDS");
        assert_eq!(
            dirsync_state(&answer(DIRSYNC, &content)).unwrap(),
            (true, b"MSDS".to_vec())
        );
        assert_eq!(dirsync_state(&answer(PAGED, &content)), None);
    }

    #[test]
    fn the_parts_of_a_synchronisation_are_read() {
        let id: Vec<u8> = (0..16).collect();
        let text = "00010203-0405-0607-0809-0a0b0c0d0e0f";
        let mut content = Vec::new();
        put_integer(&mut content, ENUMERATED, 3);
        put(&mut content, OCTET_STRING, &id);
        let state = sync_state(&answer(SYNC_STATE, &content)).unwrap();
        assert_eq!(state, (SyncState::Deleted, text.to_owned()));
        assert_eq!(sync_done(&answer(SYNC_DONE, b"")).unwrap(), (None, false));
        assert_eq!(
            sync_done(&answer(SYNC_DONE, b"\x04\x01c\x01\x01\xff")).unwrap(),
            (Some(b"c".to_vec()), true)
        );
        let mut set = Vec::new();
        put(&mut set, OCTET_STRING, &id);
        let mut inner = b"\x01\x01\xff".to_vec();
        put(&mut inner, SET, &set);
        let mut value = Vec::new();
        put(&mut value, 0xa3, &inner);
        let ids = vec![text.to_owned()];
        assert_eq!(sync_info(&value), Some(SyncInfo::Ids { gone: true, ids }));
        assert_eq!(sync_info(b"\x80\x01c"), Some(SyncInfo::Cookie));
        assert_eq!(sync_info(b"\xa1\x00"), Some(SyncInfo::Deletes));
        assert_eq!(sync_info(b"\xa2\x00"), Some(SyncInfo::Presents));
        assert_eq!(sync_info(b"\x05\x00"), None);
    }

    proptest! {
        /// A server may send anything: it is read or not, and nothing else happens.
        #[test]
        fn any_value_is_read_or_not(value in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = sync_info(&value);
            for oid in [PAGED, DIRSYNC, SYNC_STATE, SYNC_DONE] {
                let controls = [Control::critical(oid, value.clone())];
                let _ = (next_page(&controls), dirsync_state(&controls), sync_state(&controls), sync_done(&controls));
            }
        }
    }
}
