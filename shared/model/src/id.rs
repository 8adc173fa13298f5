//! User and group ids: which numbers can name a person or a group at all, and which deserve a warning.
//!
//! The ranges are those of systemd's "Users, Groups, UIDs and GIDs on systemd Systems".

use std::fmt;

/// Why a number is no id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Zero is root.
    #[error("0 is root")]
    Root,
    /// 65534 is the overflow id.
    #[error("65534 is nobody")]
    Nobody,
    /// 65535 and 4294967295 mean "no id" in 16 and 32 bits.
    #[error("{0} means \"no id\" to the kernel")]
    MinusOne(u32),
    /// 2^31 and up is read as negative by much software.
    #[error("{0} is 2147483648 or more, which much software reads as negative")]
    TooLarge(u32),
}

/// A range of ids that something else on a host may use too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Caution {
    /// 1–999: system users of the distribution.
    System,
    /// 60001–60513: users of systemd-homed.
    Homed,
    /// 61184–65519: `DynamicUser=` services of systemd. Deployed Dirless syncers number from
    /// 60001 up and run through this range.
    Dynamic,
    /// 524288–1879048191: containers of systemd-nspawn.
    Container,
}

impl fmt::Display for Caution {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::System => "1-999 belongs to the distribution's system users",
            Self::Homed => "60001-60513 belongs to systemd-homed",
            Self::Dynamic => "61184-65519 belongs to systemd services with DynamicUser=",
            Self::Container => "524288-1879048191 belongs to systemd-nspawn containers",
        })
    }
}

fn check(number: u32) -> Result<(), IdError> {
    match number {
        0 => Err(IdError::Root),
        65_534 => Err(IdError::Nobody),
        65_535 | u32::MAX => Err(IdError::MinusOne(number)),
        0x8000_0000.. => Err(IdError::TooLarge(number)),
        _ => Ok(()),
    }
}

fn caution(number: u32) -> Option<Caution> {
    match number {
        1..=999 => Some(Caution::System),
        60_001..=60_513 => Some(Caution::Homed),
        61_184..=65_519 => Some(Caution::Dynamic),
        524_288..=1_879_048_191 => Some(Caution::Container),
        _ => None,
    }
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
        #[serde(transparent)]
        pub struct $name(u32);

        impl $name {
            /// Takes any number that can name somebody.
            ///
            /// # Errors
            /// For root, nobody, both minus-ones and everything from 2^31 up.
            pub fn parse(number: u32) -> Result<Self, IdError> {
                check(number)?;
                Ok(Self(number))
            }

            /// The number.
            #[must_use]
            pub fn number(self) -> u32 {
                self.0
            }

            /// The reserved range that the number lies in, if any.
            #[must_use]
            pub fn caution(self) -> Option<Caution> {
                caution(self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let number = u32::deserialize(deserializer)?;
                Self::parse(number).map_err(serde::de::Error::custom)
            }
        }
    };
}

id_type! {
    /// A user id that a directory may hand out: never root, nobody or a minus-one.
    Uid
}

id_type! {
    /// A group id that a directory may hand out: never root's, nobody's or a minus-one.
    Gid
}

impl From<Uid> for Gid {
    /// The gid of a user's private group is the user's own number.
    fn from(uid: Uid) -> Self {
        Self(uid.0)
    }
}

/// An inclusive range of ids, written `first-last`, or one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    first: u32,
    last: u32,
}

/// Why a text is no [`IdRange`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no range of ids; write first-last, for instance 1000-59999, with 1 <= first <= last <= 2147483647")]
pub struct IdRangeError(String);

impl IdRange {
    /// The range where Dirless assigns ids unless told otherwise: above every range that systemd
    /// knows, below 2^31.
    pub const ASSIGNED: Self = Self {
        first: 1_879_048_192,
        last: 2_147_483_647,
    };

    /// A range of ids from `first` to `last`, both included.
    ///
    /// # Errors
    /// When it is empty, holds root or reaches 2^31.
    pub fn new(first: u32, last: u32) -> Result<Self, IdRangeError> {
        if first == 0 || first > last || last > 0x7fff_ffff {
            return Err(IdRangeError(format!("{first}-{last}")));
        }
        Ok(Self { first, last })
    }

    /// Smallest id of the range.
    #[must_use]
    pub fn first(self) -> u32 {
        self.first
    }

    /// Largest id of the range.
    #[must_use]
    pub fn last(self) -> u32 {
        self.last
    }

    /// Is `number` in the range?
    #[must_use]
    pub fn contains(self, number: u32) -> bool {
        (self.first..=self.last).contains(&number)
    }
}

impl fmt::Display for IdRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.first, self.last)
    }
}

impl std::str::FromStr for IdRange {
    type Err = IdRangeError;

    fn from_str(text: &str) -> Result<Self, IdRangeError> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (first.trim().parse(), last.trim().parse()) {
            (Ok(first), Ok(last)) => Self::new(first, last),
            _ => Err(IdRangeError(text.to_owned())),
        }
    }
}

impl<'de> serde::Deserialize<'de> for IdRange {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl serde::Serialize for IdRange {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_name_nobody_are_refused() {
        assert_eq!(Uid::parse(0), Err(IdError::Root));
        assert_eq!(Gid::parse(65_534), Err(IdError::Nobody));
        assert_eq!(Uid::parse(65_535), Err(IdError::MinusOne(65_535)));
        assert_eq!(Uid::parse(u32::MAX), Err(IdError::MinusOne(u32::MAX)));
        assert_eq!(Uid::parse(0x8000_0000), Err(IdError::TooLarge(0x8000_0000)));
        assert_eq!(Uid::parse(0x7fff_ffff).unwrap().number(), 0x7fff_ffff);
        assert_eq!(Uid::parse(1).unwrap().number(), 1);
    }

    #[test]
    fn reserved_ranges_are_named() {
        let of = |number| Uid::parse(number).unwrap().caution();
        assert_eq!(of(999), Some(Caution::System));
        assert_eq!(of(1000), None);
        assert_eq!(of(60_001), Some(Caution::Homed));
        assert_eq!(of(61_184), Some(Caution::Dynamic));
        assert_eq!(of(65_519), Some(Caution::Dynamic));
        assert_eq!(of(65_536), None);
        assert_eq!(of(IdRange::ASSIGNED.first()), None);
        assert_eq!(of(IdRange::ASSIGNED.first() - 1), Some(Caution::Container));
    }

    #[test]
    fn ranges_are_written_and_read_back() {
        let range: IdRange = "1000 - 59999".parse().unwrap();
        assert_eq!(range.to_string(), "1000-59999");
        assert!(range.contains(1000) && range.contains(59_999) && !range.contains(60_000));
        assert_eq!("7".parse::<IdRange>().unwrap().to_string(), "7-7");
        for bad in ["", "a", "5-4", "0-9", "1-2147483648", "-5"] {
            assert!(bad.parse::<IdRange>().is_err(), "{bad}");
        }
    }
}
