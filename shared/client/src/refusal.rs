//! What a backend, or whoever stands in front of it, says when it refuses: pure.

use std::time::Duration;

use dirless_wire::{AgePublicKey, ErrorCode};
use jiff::Timestamp;
use serde_json::Value;

/// Longest text of a backend that is shown to people, in characters.
pub(crate) const MAX_SHOWN: usize = 300;
/// Longest `Retry-After` that is believed.
pub(crate) const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 3600);

/// The body of a refusal, read leniently: deployed backends send `error` alone, fronts send HTML.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) error: String,
    pub(crate) code: ErrorCode,
    pub(crate) hint: Option<String>,
    pub(crate) registered_key: Option<AgePublicKey>,
    pub(crate) is_ours: bool,
}

impl Refusal {
    pub(crate) fn parse(body: &[u8]) -> Self {
        let fields = serde_json::from_slice::<Value>(body).unwrap_or_default();
        let text = |name: &str| fields.get(name).and_then(Value::as_str);
        Self {
            error: text("error").map_or_else(|| "no explanation given".to_owned(), shown),
            code: fields
                .get("code")
                .and_then(|code| serde_json::from_value(code.clone()).ok())
                .unwrap_or(ErrorCode::Unknown),
            hint: text("hint").map(shown),
            registered_key: text("registered_key").and_then(|key| AgePublicKey::new(key).ok()),
            is_ours: fields.is_object(),
        }
    }
}

/// `Retry-After` in either form (RFC 9110 section 10.2.3), capped at a day.
pub(crate) fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    let wait = if let Ok(seconds) = text.parse() {
        Duration::from_secs(seconds)
    } else {
        let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
        let wait = date.duration_since(now);
        if wait.is_negative() {
            Duration::ZERO
        } else {
            wait.unsigned_abs()
        }
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

/// A stranger's text, made fit for a terminal and a log line.
fn shown(text: &str) -> String {
    let harmless = |letter: char| if letter.is_control() { ' ' } else { letter };
    text.trim().chars().take(MAX_SHOWN).map(harmless).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let read = |text: &str| {
            let now = jiff::fmt::rfc2822::parse("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
            retry_after(text, now.timestamp()).map(|wait| wait.as_secs())
        };
        assert_eq!(read("7"), Some(7));
        assert_eq!(read("99999999999"), Some(86_400));
        assert_eq!(read("Sun, 06 Nov 1994 08:50:37 GMT"), Some(60));
        assert_eq!(read("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        for text in ["soon", "-1", "1.5"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn shown_text_is_short_and_without_control_characters(text in "\\PC*|.*") {
            let shown = shown(&text);
            prop_assert!(shown.chars().count() <= MAX_SHOWN && !shown.chars().any(char::is_control));
        }
    }
}
