//! An entry as it lies in the flat file.
//!
//! A record is a first part and, right after it, the attributes that take much room, one after the other. The first
//! part is a header of little-endian numbers (checksum of what follows it; the entry's number; its set of
//! classes; the lengths of the five pieces), then the pieces: what is said of each large attribute, the
//! key, the name, the other attributes in the form of [`dirless_directory::encoded`], and, in the same
//! form, what no query shows. Who knows where the first part begins and how long it is reads it in one
//! piece, and asks no index what is in it.

use dirless_directory::encoded::{Attribute, Attributes, EncodedError, walk};

/// Bytes of the header.
const HEADER: usize = 40;
/// Bytes of an attribute from which on it is kept apart.
const LARGE: usize = 1024;
/// Bytes of a large attribute that are summed up at once.
pub(crate) const BLOCK: usize = 64 << 10;
/// Bytes of what is said of a large attribute, without its name.
const SAID: usize = 1 + 2 + 4 + 8;

/// Where a record begins and how long its first part is, in one number: 40 bits and 24.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(u64);

impl Place {
    const LENGTH: u32 = 24;

    /// None when the file or the record is too large.
    pub(crate) fn new(offset: u64, length: usize) -> Option<Self> {
        let length = u64::try_from(length).ok()?;
        let fits = offset >> (64 - Self::LENGTH) == 0 && length >> Self::LENGTH == 0;
        fits.then_some(Self(offset << Self::LENGTH | length))
    }

    pub(crate) fn of_number(number: i64) -> Self {
        Self(number.cast_unsigned())
    }

    pub(crate) fn number(self) -> i64 {
        self.0.cast_signed()
    }

    pub(crate) fn offset(self) -> u64 {
        self.0 >> Self::LENGTH
    }

    /// Of the first part.
    pub(crate) fn length(self) -> usize {
        usize::try_from(self.0 & ((1 << Self::LENGTH) - 1)).unwrap_or(0)
    }
}

/// What a record is made of.
pub(crate) struct Fields<'a> {
    pub(crate) id: i64,
    pub(crate) classes: i64,
    pub(crate) key: &'a [u8],
    pub(crate) dn: &'a str,
    pub(crate) attributes: Attributes<'a>,
    /// The same, encoded.
    pub(crate) encoded: &'a [u8],
    pub(crate) secret: &'a [u8],
}

/// Appends a record, and says how long its first part is; none when one of its pieces is too long to be told.
pub(crate) fn put(out: &mut Vec<u8>, fields: &Fields<'_>) -> Option<usize> {
    let start = out.len();
    let is_large = |one: &Attribute<'_>| one.encoded.len() > LARGE;
    let parts = [
        (false, fields.attributes.user()),
        (true, fields.attributes.operational()),
    ];
    let large: Vec<(bool, Attribute<'_>)> = parts
        .into_iter()
        .flat_map(|(operational, part)| walk(part).filter(is_large).map(move |one| (operational, one)))
        .collect();
    out.resize(start + HEADER, 0);
    for (operational, one) in &large {
        out.push(u8::from(*operational));
        out.extend_from_slice(&u16::try_from(one.name.len()).ok()?.to_le_bytes());
        out.extend_from_slice(&u32::try_from(one.encoded.len()).ok()?.to_le_bytes());
        out.extend_from_slice(&sum_of_blocks(one.encoded.chunks(BLOCK)).to_le_bytes());
        out.extend_from_slice(one.name.as_bytes());
    }
    let said = out.len() - start - HEADER;
    out.extend_from_slice(fields.key);
    out.extend_from_slice(fields.dn.as_bytes());
    let before = out.len();
    if large.is_empty() {
        out.extend_from_slice(fields.encoded);
    } else {
        let mut small = Vec::new();
        fields
            .attributes
            .select(&mut small, |name| !large.iter().any(|(_, one)| one.name == name));
        out.extend_from_slice(&small);
    }
    let small = out.len() - before;
    out.extend_from_slice(fields.secret);
    let first = out.len() - start;
    let mut header = Vec::with_capacity(HEADER);
    header.extend_from_slice(&fields.id.to_le_bytes());
    header.extend_from_slice(&u32::try_from(fields.classes).ok()?.to_le_bytes());
    for length in [said, fields.key.len(), fields.dn.len(), small, fields.secret.len()] {
        header.extend_from_slice(&u32::try_from(length).ok()?.to_le_bytes());
    }
    out.get_mut(start + 8..start + HEADER)?.copy_from_slice(&header);
    let sum = sum(out.get(start + 8..)?);
    out.get_mut(start..start + 8)?.copy_from_slice(&sum.to_le_bytes());
    for (_, one) in &large {
        out.extend_from_slice(one.encoded);
    }
    Some(first)
}

/// The first part of a record, taken apart.
#[derive(Clone, Copy)]
pub(crate) struct Parts<'a> {
    pub(crate) classes: i64,
    pub(crate) key: &'a [u8],
    pub(crate) dn: &'a str,
    /// The attributes that are not large, encoded.
    pub(crate) small: &'a [u8],
    /// What no query shows, encoded; empty when there is nothing.
    pub(crate) secret: &'a [u8],
    said: &'a [u8],
    length: usize,
}

/// A large attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Large<'a> {
    pub(crate) name: &'a str,
    pub(crate) operational: bool,
    /// Where it lies, counted from the beginning of its record.
    pub(crate) at: u64,
    pub(crate) length: usize,
    pub(crate) sum: u64,
}

impl<'a> Parts<'a> {
    /// Reads the first part of the record of that entry; none when `bytes` are anything else, all of them.
    pub(crate) fn read(bytes: &'a [u8], id: i64) -> Option<Self> {
        let (told, rest) = bytes.split_first_chunk()?;
        let (own, _) = rest.split_first_chunk()?;
        let holds = u64::from_le_bytes(*told) == sum(rest) && i64::from_le_bytes(*own) == id;
        holds.then(|| Self::read_again(bytes)).flatten()
    }

    /// As [`Parts::read`], of bytes that it has read.
    pub(crate) fn read_again(bytes: &'a [u8]) -> Option<Self> {
        let (header, rest) = bytes.split_first_chunk::<HEADER>()?;
        let (numbers, _) = header.get(16..)?.as_chunks::<4>();
        let [classes, said, key, dn, small, secret] = numbers else {
            return None;
        };
        let split = |bytes: &'a [u8], length: &[u8; 4]| {
            bytes.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)
        };
        let (said, rest) = split(rest, said)?;
        let (key, rest) = split(rest, key)?;
        let (dn, rest) = split(rest, dn)?;
        let (small, rest) = split(rest, small)?;
        let (secret, rest) = split(rest, secret)?;
        rest.is_empty().then_some(Self {
            classes: i64::from(u32::from_le_bytes(*classes)),
            key,
            dn: std::str::from_utf8(dn).ok()?,
            small,
            secret,
            said,
            length: bytes.len(),
        })
    }

    /// Where its key begins.
    pub(crate) fn key_at(self) -> usize {
        HEADER + self.said.len()
    }

    /// Its large attributes.
    pub(crate) fn large(self) -> impl Iterator<Item = Large<'a>> + Clone {
        let mut rest = self.said;
        let mut at = u64::try_from(self.length).unwrap_or(u64::MAX);
        std::iter::from_fn(move || {
            let (said, names) = rest.split_first_chunk::<SAID>()?;
            let [kind, a, b, c, d, e, f, sum @ ..] = *said;
            let (name, after) = names.split_at_checked(usize::from(u16::from_le_bytes([a, b])))?;
            let length = u32::from_le_bytes([c, d, e, f]);
            let large = Large {
                name: std::str::from_utf8(name).ok()?,
                operational: kind != 0,
                at,
                length: usize::try_from(length).ok()?,
                sum: u64::from_le_bytes(sum),
            };
            (rest, at) = (after, at.checked_add(u64::from(length))?);
            Some(large)
        })
    }

    /// Bytes of the whole record.
    pub(crate) fn size(self) -> u64 {
        let large: u64 = self.large().map(|one| one.length as u64).sum();
        self.length as u64 + large
    }
}

/// An encoded entry of those attributes that are not large, and of large ones.
pub(crate) fn joined(small: &[u8], large: &[(bool, Vec<u8>)]) -> Result<Vec<u8>, EncodedError> {
    let attributes = Attributes::new(small)?;
    let of = |operational: bool| large.iter().filter(move |(kind, _)| *kind == operational);
    let user = attributes.user().len() + of(false).map(|(_, bytes)| bytes.len()).sum::<usize>();
    let all: usize = large.iter().map(|(_, bytes)| bytes.len()).sum();
    let mut out = Vec::with_capacity(small.len() + all);
    out.extend_from_slice(&u32::try_from(user).unwrap_or(u32::MAX).to_be_bytes());
    for (operational, part) in [(false, attributes.user()), (true, attributes.operational())] {
        out.extend_from_slice(part);
        of(operational).for_each(|(_, bytes)| out.extend_from_slice(bytes));
    }
    Ok(out)
}

/// A checksum: it tells what a disk or a killed writer did, not what somebody wrote who may write the
/// file. No change of a single word leaves it as it was, for every step can be undone. Four sums run side by side,
/// for one would take longer than reading.
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    let mut lanes = [
        0x243f_6a88_85a3_08d3_u64,
        0x1319_8a2e_0370_7344,
        0xa409_3822_299f_31d0,
        0x082e_fa98_ec4e_6c89,
    ];
    let (blocks, rest) = bytes.as_chunks::<32>();
    for block in blocks {
        lanes = taken(lanes, block);
    }
    let mut last = [0; 32];
    if let Some(start) = last.get_mut(..rest.len()) {
        start.copy_from_slice(rest);
    }
    let [a, b, c, d] = taken(lanes, &last);
    mixed(mixed(mixed(mixed(bytes.len() as u64, a), b), c), d)
}

fn taken([a, b, c, d]: [u64; 4], block: &[u8; 32]) -> [u64; 4] {
    match block.as_chunks::<8>().0 {
        [one, two, three, four] => [
            mixed(a, u64::from_le_bytes(*one)),
            mixed(b, u64::from_le_bytes(*two)),
            mixed(c, u64::from_le_bytes(*three)),
            mixed(d, u64::from_le_bytes(*four)),
        ],
        _ => [a, b, c, d],
    }
}

/// The checksum of what is read block by block.
pub(crate) fn sum_of_blocks<'a>(blocks: impl Iterator<Item = &'a [u8]>) -> u64 {
    sum_of_sums(blocks.map(sum))
}

/// The same, of the checksums of the blocks.
pub(crate) fn sum_of_sums(sums: impl Iterator<Item = u64>) -> u64 {
    sums.fold(0, mixed)
}

fn mixed(one: u64, other: u64) -> u64 {
    let product = (one ^ other).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    product ^ product >> 32
}

#[cfg(test)]
mod tests;
