//! Digests derived from a tenant's secret, and of public bytes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ring::{digest, hmac};

/// The tenant id that deployed programs derive: lower-case hex of HMAC-SHA256 (RFC 2104) with the
/// tenant's secret as the key and the account id as the message.
#[must_use]
pub fn tenant_id(secret: &str, account: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    hex(hmac::sign(&key, account.as_bytes()).as_ref())
}

/// Lower-case hex of the SHA-256 digest of `bytes`.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// `SHA256:` and the unpadded base64 of the SHA-256 digest of `bytes`: of an SSH key's blob this is
/// what ssh-keygen(1) shows.
#[must_use]
pub fn fingerprint(bytes: &[u8]) -> String {
    format!(
        "SHA256:{}",
        STANDARD_NO_PAD.encode(digest::digest(&digest::SHA256, bytes))
    )
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorded_vector_holds() {
        assert_eq!(
            tenant_id("sekret-token-1", "123456789012"),
            "615d1286d91a88073425f44e10dca43f4d0ec96a8c2581c7b582ad240178afac"
        );
    }

    #[test]
    fn a_digest_is_the_known_one() {
        assert_eq!(
            sha256_hex(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
