//! What strangers send to the verified protocol's routes: signed requests, paths of objects, keys and the JSON of
//! the other calls. What is read prints as it was.

#![no_main]

use dirless_wire::trust::{
    CredentialRequest, Digest, JoinCodeRequest, KeyId, ObjectPath, PublicKey, SCHEME, SignedRequest, Time,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(request) = text.parse::<SignedRequest>() {
        let printed = request.to_string();
        assert_eq!(printed.split_at(SCHEME.len()).1, text.split_at(SCHEME.len()).1);
    }
    if let Ok(path) = text.parse::<ObjectPath>() {
        assert_eq!(path.to_string(), text);
    }
    if let Ok(key) = text.parse::<PublicKey>() {
        assert_eq!(key.to_string(), text);
    }
    if let Ok(id) = text.parse::<KeyId>() {
        assert_eq!(id.to_string(), text);
    }
    if let Ok(time) = Time::new(text) {
        assert_eq!(Time::from_unix_seconds(time.unix_seconds()).as_ref(), Ok(&time));
    }
    if let Ok(digest) = Digest::from_content_digest(text) {
        assert_eq!(digest.content_digest(), text);
    }
    if let Ok(request) = serde_json::from_str::<CredentialRequest>(text) {
        let again = serde_json::to_string(&request).expect("it has text keys");
        assert_eq!(serde_json::from_str::<CredentialRequest>(&again).ok(), Some(request));
    }
    if let Ok(request) = serde_json::from_str::<JoinCodeRequest>(text) {
        let again = serde_json::to_string(&request).expect("it has text keys");
        assert_eq!(serde_json::from_str::<JoinCodeRequest>(&again).ok(), Some(request));
    }
});
