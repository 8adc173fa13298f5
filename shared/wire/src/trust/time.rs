use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::text::checked_text;

/// A moment as RFC 3339 in UTC and whole seconds, `2026-11-22T08:00:00Z`: one spelling, so that it can be signed.
/// Years 1970 to 9999; no leap seconds. Later times are greater texts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, format = DateTime, pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$")]
pub struct Time(String);

impl Time {
    /// Checks a time.
    ///
    /// # Errors
    /// When it has another form or there is no such moment.
    pub fn new(text: &str) -> Result<Self, TimeError> {
        seconds_of(text).map(|_| Self(text.to_owned())).ok_or(TimeError)
    }

    /// The moment so many seconds after the beginning of 1970.
    ///
    /// # Errors
    /// When that is after the year 9999.
    pub fn from_unix_seconds(seconds: u64) -> Result<Self, TimeError> {
        let (days, rest) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = date_of(days);
        if year > 9999 {
            return Err(TimeError);
        }
        let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
        Ok(Self(format!(
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"
        )))
    }

    /// Seconds since the beginning of 1970.
    #[must_use]
    pub fn unix_seconds(&self) -> u64 {
        // Checked when it was made.
        seconds_of(&self.0).unwrap_or_default()
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

checked_text!(Time, TimeError);

/// The text is no time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a time is like 2026-11-22T08:00:00Z: UTC, whole seconds, 1970 to 9999")]
pub struct TimeError;

fn seconds_of(text: &str) -> Option<u64> {
    let number = |from: usize, to: usize| {
        let part = text.get(from..to)?;
        let digits = part.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| part.parse::<u64>().ok()).flatten()
    };
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'Z')];
    let shaped = text.len() == 20 && marks.iter().all(|(at, mark)| text.as_bytes().get(*at) == Some(mark));
    if !shaped {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let real = year >= 1970 && (1..=12).contains(&month) && hour < 24 && minute < 60 && second < 60;
    if !real || day == 0 {
        return None;
    }
    let days = days_of(year, month, day);
    // The 31st of a short month comes back as the 1st of the next.
    (date_of(days) == (year, month, day)).then_some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Days from the beginning of 1970 to a date of the Gregorian calendar (Howard Hinnant's `days_from_civil`).
fn days_of(year: u64, month: u64, day: u64) -> u64 {
    // Years from March, so that the leap day is the last one.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let month = (month + 9) % 12;
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The other way round.
fn date_of(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_moments_are_where_they_are() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T23:59:59Z", 951_868_799),
            ("2026-01-01T00:00:00Z", 1_767_225_600),
            ("9999-12-31T23:59:59Z", 253_402_300_799),
        ] {
            assert_eq!(Time::new(text).unwrap().unix_seconds(), seconds);
            assert_eq!(Time::from_unix_seconds(seconds).unwrap().as_str(), text);
        }
        assert_eq!(Time::from_unix_seconds(253_402_300_800), Err(TimeError));
        assert_eq!(Time::from_unix_seconds(u64::MAX), Err(TimeError));
    }

    #[test]
    fn other_spellings_and_moments_that_never_come_are_refused() {
        for text in [
            "",
            "2026-11-22",
            "2026-11-22T08:00:00",
            "2026-11-22T08:00:00+00:00",
            "2026-11-22t08:00:00z",
            "2026-11-22 08:00:00Z",
            "2026-11-22T08:00:00.0Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2100-02-29T00:00:00Z",
            "2026-04-31T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2016-12-31T23:59:60Z",
            "1969-12-31T23:59:59Z",
            "+026-11-22T08:00:00Z",
            "２026-1-22T08:00:00Z",
        ] {
            assert_eq!(Time::new(text), Err(TimeError), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn every_second_survives_its_text(seconds in 0..253_402_300_800_u64) {
            let time = Time::from_unix_seconds(seconds).unwrap();
            prop_assert_eq!(time.unix_seconds(), seconds);
            prop_assert_eq!(Time::new(time.as_str()), Ok(time));
        }

        #[test]
        fn later_times_are_greater_texts(one in 0..253_402_300_800_u64, other in 0..253_402_300_800_u64) {
            let time = |seconds| Time::from_unix_seconds(seconds).unwrap();
            prop_assert_eq!(time(one).cmp(&time(other)), one.cmp(&other));
        }

        #[test]
        fn any_text_is_survived(text in "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z|.{0,24}") {
            if let Ok(time) = Time::new(&text) {
                prop_assert_eq!(Time::from_unix_seconds(time.unix_seconds()), Ok(time));
            }
        }
    }
}
