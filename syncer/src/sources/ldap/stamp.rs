//! What tells of an entry that it changed. Pure.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::layout::Layout;
use super::record::Record;

/// The text of the attribute that changes with an entry: a change number or a time.
pub(super) struct Stamp;

impl Stamp {
    /// The stamp of an entry; empty when the server shows none.
    pub(super) fn of(layout: &Layout, record: &Record) -> String {
        let first = layout.stamps().iter().find_map(|name| record.text(name));
        first.unwrap_or_default().to_owned()
    }

    /// The time in a stamp that knows it only to the second (RFC 4517 section 3.3.13), in seconds
    /// since 1970; `None` for one that differs with each change.
    pub(super) fn seconds(stamp: &str) -> Option<i64> {
        let digits = stamp.strip_suffix('Z').filter(|digits| digits.len() == 14)?;
        let part = |from: usize, to: usize| digits.get(from..to)?.parse::<i8>().ok();
        let year = digits.get(..4)?.parse().ok()?;
        let time = DateTime::new(
            year,
            part(4, 6)?,
            part(6, 8)?,
            part(8, 10)?,
            part(10, 12)?,
            part(12, 14)?,
            0,
        )
        .ok()?;
        Some(TimeZone::UTC.to_timestamp(time).ok()?.as_second())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::ldap::Preset;

    #[test]
    fn only_times_to_the_second_are_unsure() {
        assert_eq!(Stamp::seconds("19700101000100Z"), Some(60));
        for stamp in [
            "",
            "20261122054159.123456Z#000000#000#000000",
            "12345",
            "20261322054159Z",
            "x0261122054159Z",
        ] {
            assert_eq!(Stamp::seconds(stamp), None, "{stamp}");
        }
    }

    #[test]
    fn the_finest_stamp_counts() {
        let layout = Layout::preset(Preset::Rfc2307);
        let mut record = Record::new("cn=a");
        assert_eq!(Stamp::of(&layout, &record), "");
        record.add("modifyTimestamp", b"19700101000100Z".to_vec());
        assert_eq!(Stamp::of(&layout, &record), "19700101000100Z");
        record.add("entryCSN", b"x#000000".to_vec());
        assert_eq!(Stamp::of(&layout, &record), "x#000000");
    }
}
