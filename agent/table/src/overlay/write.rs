//! What differs, as the bytes of an overlay.

use super::draft::{Changed, Person};
use super::format::Header;
use super::settle::{Before, Named, Regrouped, Settled};
use crate::check::{UserShape, push_text, push_user_fixed, put};
use crate::checksum::Checksum;
use crate::error::WriteError;
use crate::format::{HEADER_LEN, KIND_GONE, KIND_GROUP, KIND_MEMBER, KIND_USER, hash_id, hash_name};
use crate::out::Out;
use crate::writer::{TableMeta, entry};
use std::io::Cursor;

/// What a published overlay holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Length of the file in bytes.
    pub bytes: u64,
    /// Which of its table's overlays it is, from 1 up.
    pub number: u32,
    /// Names that differ as users or in their groups.
    pub names: usize,
    /// Groups that differ.
    pub groups: usize,
}

/// The overlay of that number over the table of that identity.
pub(super) fn write(settled: &Settled<'_>, base: u64, number: u32, meta: &TableMeta) -> Result<Vec<u8>, WriteError> {
    let mut writer = Writer {
        out: Out::new(Cursor::new(Vec::new())),
        users: Vec::new(),
        groups: Vec::new(),
        user_names: Vec::new(),
        uids: Vec::new(),
        group_names: Vec::new(),
        gids: Vec::new(),
    };
    for name in &settled.names {
        writer.name(name)?;
    }
    for uid in &settled.uids_gone {
        writer.uid_gone(*uid)?;
    }
    for group in &settled.groups {
        writer.group(group)?;
    }
    for gid in &settled.gids_gone {
        writer.gid_gone(*gid)?;
    }
    let Writer { mut out, .. } = writer;
    let mut header = Header {
        number,
        generation: meta.generation,
        created: meta.created,
        base,
        users: out.write_list(&writer.users)?,
        groups: out.write_list(&writer.groups)?,
        users_differ: out.write_list(&settled.users_differ)?,
        groups_differ: out.write_list(&settled.groups_differ)?,
        user_by_name: out.write_index(&mut writer.user_names)?,
        user_by_uid: out.write_index(&mut writer.uids)?,
        group_by_name: out.write_index(&mut writer.group_names)?,
        group_by_gid: out.write_index(&mut writer.gids)?,
        ..Header::default()
    };
    let mut bytes = out.into_inner()?.into_inner();
    complete(&mut header, &mut bytes);
    Ok(bytes)
}

/// Writes the header, with the length and the checksum of the rest.
fn complete(header: &mut Header, bytes: &mut [u8]) {
    header.file_len = bytes.len() as u64;
    header.body_checksum = Checksum::quick(bytes.get(HEADER_LEN..).unwrap_or_default());
    if let Some(place) = bytes.first_chunk_mut() {
        *place = header.encode();
    }
}

/// Makes length and checksums of an overlay good again whose bytes were changed: for tests of readers, which
/// look at nothing else of an overlay that has these wrong.
#[doc(hidden)]
pub fn repair(bytes: &mut [u8]) {
    if let Some(mut header) = bytes.first_chunk().and_then(Header::fields) {
        complete(&mut header, bytes);
    }
}

struct Writer {
    out: Out<Cursor<Vec<u8>>>,
    users: Vec<u32>,
    groups: Vec<u32>,
    user_names: Vec<u64>,
    uids: Vec<u64>,
    group_names: Vec<u64>,
    gids: Vec<u64>,
}

impl Writer {
    fn name(&mut self, named: &Named<'_>) -> Result<(), WriteError> {
        let kind = match (&named.person, named.gids.as_slice()) {
            (Some(_), _) => KIND_USER,
            (None, [_, ..]) => KIND_MEMBER,
            (None, []) => KIND_GONE,
        };
        let offset = match &named.person {
            Some(person) => {
                let offset = self.user(kind, person, &named.gids)?;
                self.users.push(offset);
                self.uids.push(entry(hash_id(person.uid), offset));
                offset
            }
            None => self.nobody(kind, named.name, u32::MAX, &named.gids)?,
        };
        self.user_names.push(entry(hash_name(named.name), offset));
        Ok(())
    }

    fn uid_gone(&mut self, uid: u32) -> Result<(), WriteError> {
        let offset = self.nobody(KIND_GONE, b"", uid, &[])?;
        self.uids.push(entry(hash_id(uid), offset));
        Ok(())
    }

    /// A record for a name or number that is no user.
    fn nobody(&mut self, kind: u8, name: &[u8], uid: u32, gids: &[u32]) -> Result<u32, WriteError> {
        let name = String::from_utf8_lossy(name);
        let nobody = Person::new(uid, u32::MAX, [&name, "", "", ""], "");
        self.user(kind, &nobody, gids)
    }

    fn user(&mut self, kind: u8, person: &Person<'_>, gids: &[u32]) -> Result<u32, WriteError> {
        let [gecos, home, shell] = person.starts;
        let shape = UserShape {
            uid: person.uid,
            gid: person.gid,
            kind,
            name: gecos - 3,
            texts: [home - gecos - 1, shell - home - 1, person.strings.len() - shell - 1],
            keys: person.keys.len(),
        };
        self.out.write_record(|record| {
            push_user_fixed(record, &shape, gids);
            record.extend(&*person.strings);
            record.extend(&*person.keys);
            Ok(())
        })
    }

    fn group(&mut self, group: &Regrouped<'_>) -> Result<(), WriteError> {
        let offset = match group.now {
            Some(now) => {
                let offset = self.group_record(KIND_GROUP, group.name, now, group.before.as_ref())?;
                self.groups.push(offset);
                self.gids.push(entry(hash_id(now.gid), offset));
                offset
            }
            None => self.no_group(group.name, u32::MAX)?,
        };
        self.group_names.push(entry(hash_name(group.name), offset));
        Ok(())
    }

    fn gid_gone(&mut self, gid: u32) -> Result<(), WriteError> {
        let offset = self.no_group(b"", gid)?;
        self.gids.push(entry(hash_id(gid), offset));
        Ok(())
    }

    fn no_group(&mut self, name: &[u8], gid: u32) -> Result<u32, WriteError> {
        let nothing = Changed {
            gid,
            left: Default::default(),
            joined: Default::default(),
        };
        self.group_record(KIND_GONE, name, &nothing, None)
    }

    fn group_record(
        &mut self,
        kind: u8,
        name: &[u8],
        now: &Changed<'_>,
        before: Option<&Before<'_>>,
    ) -> Result<u32, WriteError> {
        let pieces = before.map(|before| pieces(before, now)).unwrap_or_default();
        let kept = before.map_or(0, |before| before.group.member_count.saturating_sub(now.left.len()));
        self.out.write_record(|record| {
            let start = record.len();
            let count = u32::try_from(kept + now.joined.len()).map_err(|_| WriteError::TooLarge)?;
            record.extend(now.gid.to_le_bytes());
            record.extend(count.to_le_bytes());
            record.extend([0; 4]);
            record.extend([name.len() as u8, kind, 0, 0]);
            record.extend(before.map_or(0, |before| before.offset).to_le_bytes());
            record.extend((pieces.len() as u32).to_le_bytes());
            for (from, to) in &pieces {
                record.extend(from.to_le_bytes());
                record.extend(to.to_le_bytes());
            }
            push_text(record, name);
            push_text(record, b"x");
            let texts = record.len();
            for name in &now.joined {
                push_text(record, name);
            }
            let len = u32::try_from(record.len() - texts).map_err(|_| WriteError::TooLarge)?;
            put(record, start + 8, len);
            Ok(())
        })
    }
}

/// The parts of the members text that stay when some have left.
fn pieces(before: &Before<'_>, now: &Changed<'_>) -> Vec<(u32, u32)> {
    let mut left: Vec<(u32, u32)> = now
        .left
        .iter()
        .map(|(name, at)| (*at, *at + name.len() as u32 + 1))
        .collect();
    left.sort_unstable();
    let end = before.group.own_members().len() as u32;
    let mut after = 0;
    let mut pieces = Vec::new();
    for (from, to) in left.into_iter().chain([(end, end)]) {
        if after < from {
            pieces.push((after, from));
        }
        after = to;
    }
    pieces
}
