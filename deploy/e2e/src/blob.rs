//! Snapshots made by hand: sealed as a syncer would, or by somebody who only knows the public key.

use std::io::Read;

use dirless_seal::{Identity, Limits, Recipient, open, seal};
use serde_json::Value;

/// Seals `snapshot` to `recipient` in the deployed envelope; base64 text.
///
/// # Errors
/// When the key is none.
pub fn sealed(recipient: &str, snapshot: &Value) -> anyhow::Result<String> {
    let mut out = Vec::new();
    seal(
        &Recipient::parse(recipient)?,
        &mut snapshot.to_string().as_bytes(),
        &mut out,
    )?;
    Ok(String::from_utf8(out)?)
}

/// Opens a blob with the identity's text.
///
/// # Errors
/// When it does not open or holds no JSON.
pub fn opened(identity: &str, blob: &[u8]) -> anyhow::Result<Value> {
    let mut text = String::new();
    open(&Identity::parse(identity)?, blob, Limits::default())?.read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text)?)
}

/// The public key of an identity's text.
///
/// # Errors
/// When it is none.
pub fn recipient(identity: &str) -> anyhow::Result<String> {
    Ok(Identity::parse(identity)?.recipient().as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors;

    #[test]
    fn the_published_example_opens_with_its_identity() {
        let snapshot = opened(vectors::IDENTITY, vectors::SEALED.as_bytes()).unwrap();
        assert_eq!(snapshot, serde_json::from_str::<Value>(vectors::OPENED).unwrap());
    }

    #[test]
    fn what_is_sealed_opens_again() {
        let snapshot = serde_json::json!({"users": [], "groups": []});
        let blob = sealed(&recipient(vectors::IDENTITY).unwrap(), &snapshot).unwrap();
        assert_eq!(opened(vectors::IDENTITY, blob.as_bytes()).unwrap(), snapshot);
    }
}
