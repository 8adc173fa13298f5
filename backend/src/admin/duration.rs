//! Spans of time on the command line: `90d`, `24h`, `30m`, `45s`.

use std::str::FromStr;
use std::time::Duration;

/// A span of whole seconds, minutes, hours or days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

/// Why a text is no span.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no span of time: write a number and s, m, h or d, such as 90d")]
pub struct BadSpan(String);

impl FromStr for Span {
    type Err = BadSpan;

    fn from_str(text: &str) -> Result<Self, BadSpan> {
        parse(text).ok_or_else(|| BadSpan(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<Span> {
    let unit = text.chars().last()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return None,
    };
    let digits = text.strip_suffix(unit)?;
    // `u32` keeps every sum with a time far from overflow; 4 billion days are refused later on.
    let number: u32 = digits.parse().ok().filter(|_| !digits.starts_with('+'))?;
    Some(Span(Duration::from_secs(u64::from(number).checked_mul(seconds)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_a_number_and_a_unit() {
        for (text, seconds) in [
            ("0s", 0),
            ("45s", 45),
            ("30m", 1800),
            ("24h", 86_400),
            ("90d", 7_776_000),
        ] {
            assert_eq!(
                text.parse::<Span>().unwrap(),
                Span(Duration::from_secs(seconds)),
                "{text}"
            );
        }
        for text in ["", "d", "5", "5w", "-1d", "+1d", "1.5h", "5 d", "99999999999d", "5dä"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
