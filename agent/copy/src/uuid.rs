//! The identities that entries have in a copy (`entryUUID`, RFC 4530).

/// A UUID.
pub(crate) type Uuid = [u8; 16];

/// The UUID of what is identified by `identity` (RFC 9562 section 5.8).
pub(crate) fn made(kind: &str, identity: &str) -> Uuid {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for part in ["dirless directory", kind, identity] {
        context.update(part.as_bytes());
        context.update(&[0]);
    }
    let digest = context.finish();
    let mut uuid = [0; 16];
    for (to, from) in uuid.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    let [_, _, _, _, _, _, version, _, variant, ..] = &mut uuid;
    *version = *version & 0x0f | 0x80;
    *variant = *variant & 0x3f | 0x80;
    uuid
}

/// Is it of the version that [`made`] makes?
pub(crate) fn is_made(uuid: &Uuid) -> bool {
    let [_, _, _, _, _, _, version, ..] = uuid;
    version & 0xf0 == 0x80
}

/// Reads the text of a UUID.
pub(crate) fn parse(text: &[u8]) -> Option<Uuid> {
    let mut uuid = [0; 16];
    let mut digits = text.iter().filter(|byte| **byte != b'-');
    for byte in &mut uuid {
        let mut digit = || char::from(*digits.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        *byte = u8::try_from(high << 4 | low).ok()?;
    }
    digits.next().is_none().then_some(uuid)
}

/// The text of a UUID (RFC 4122 section 3).
pub(crate) fn text(uuid: Uuid) -> String {
    let mut text = String::with_capacity(36);
    for (at, byte) in uuid.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let uuid = made("user", "100001");
        assert!(is_made(&uuid));
        assert_ne!(uuid, made("group", "100001"));
        assert_eq!(parse(text(uuid).as_bytes()), Some(uuid));
        let given = "0b7b5c2e-58b3-4f1a-9d0e-3f2a6f0c1d2e";
        let parsed = parse(given.as_bytes()).unwrap();
        assert!(!is_made(&parsed) && text(parsed) == given);
        for wrong in ["", "0b7b5c2e", "0b7b5c2e-58b3-4f1a-9d0e-3f2a6f0c1d2e0", "x"] {
            assert_eq!(parse(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
