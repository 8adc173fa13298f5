//! Headers of BER elements with definite lengths.

/// How many bytes the length of an element of `length` bytes takes.
#[must_use]
pub fn length_bytes(length: usize) -> usize {
    match length {
        0..=0x7f => 1,
        0x80..=0xff => 2,
        0x100..=0xffff => 3,
        0x1_0000..=0xff_ffff => 4,
        _ => 5,
    }
}

/// Appends tag and length of an element whose content is `length` bytes, at most 4 GiB.
pub fn put_header(out: &mut Vec<u8>, tag: u8, length: usize) {
    out.push(tag);
    let bytes = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    let [a, b, c, d] = bytes;
    match length_bytes(length) {
        1 => out.push(d),
        2 => out.extend_from_slice(&[0x81, d]),
        3 => out.extend_from_slice(&[0x82, c, d]),
        4 => out.extend_from_slice(&[0x83, b, c, d]),
        _ => out.extend_from_slice(&[0x84, a, b, c, d]),
    }
}
