use std::fmt;
use std::str::FromStr;

use super::name::bytes_of_hexadecimal;
use super::{Digest, KeyId, Label, Version};

const KIB: u64 = 1024;

/// Where an object of a tenant is, the same below `/v2/{tenant}/` of a backend, on a web server and in a folder.
/// All but heads are written once.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectPath {
    /// `policy/{version}`.
    Policy {
        /// Its number.
        version: Version,
    },
    /// `head/{publisher}`: the only ones that are replaced.
    Head {
        /// The publisher.
        publisher: Label,
    },
    /// `succession/{publisher}/{hash}/{version}`: a key names the one that comes after it.
    Succession {
        /// The key that the policy names.
        anchor: KeyId,
        /// Its number, from 1 for each such key.
        version: Version,
    },
    /// `manifest/{publisher}/{source}/{compartment}/{version}`.
    Manifest {
        /// The publisher.
        publisher: Label,
        /// Its source.
        source: Label,
        /// For which hosts.
        compartment: Label,
        /// Its number.
        version: Version,
    },
    /// `log/{publisher}/{source}/{compartment}/{version}/{file}`: changes since a manifest's body.
    Log {
        /// The publisher.
        publisher: Label,
        /// Its source.
        source: Label,
        /// For which hosts.
        compartment: Label,
        /// The manifest's number.
        version: Version,
        /// One of them, or many together.
        file: LogFile,
    },
    /// `blob/{digest}`: a sealed body, named by its own digest.
    Blob {
        /// Of its bytes.
        digest: Digest,
    },
    /// `nodes/{enroller}/{version}`.
    Nodes {
        /// Who signed the list.
        enroller: Label,
        /// Its number.
        version: Version,
    },
    /// `wrap/{compartment}/{epoch}/{name}`: the key of an epoch for a node, or for `recovery-1`, `recovery-2`, ….
    Wrap {
        /// For which data.
        compartment: Label,
        /// The epoch.
        epoch: Version,
        /// For whom.
        name: Label,
    },
}

/// A file of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LogFile {
    /// `{number}`: a record, counted from 0.
    Record(u32),
    /// `tile-{number}`: 256 records, counted alike.
    Tile(u32),
}

/// Most records of a log: a number below it has a file.
const MOST_RECORDS: u32 = 1 << 24;
/// How many of them a tile has.
const TILE: u32 = 256;

impl fmt::Display for LogFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record(number) => write!(f, "{number}"),
            Self::Tile(number) => write!(f, "tile-{number}"),
        }
    }
}

impl FromStr for LogFile {
    type Err = ObjectPathError;

    fn from_str(text: &str) -> Result<Self, ObjectPathError> {
        let number = |text: &str, most: u32| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
            let number = digits.then(|| text.parse().ok()).flatten();
            number.filter(|number| *number < most).ok_or(ObjectPathError)
        };
        match text.strip_prefix("tile-") {
            Some(text) => number(text, MOST_RECORDS / TILE).map(Self::Tile),
            None => number(text, MOST_RECORDS).map(Self::Record),
        }
    }
}

impl ObjectPath {
    /// Longest object of this kind in bytes; `None` for sealed bodies, whose limit is the server's to set.
    #[must_use]
    pub fn max_bytes(&self) -> Option<u64> {
        match self {
            Self::Policy { .. } => Some(128 * KIB),
            Self::Head { .. } => Some(256 * KIB),
            Self::Succession { .. } | Self::Manifest { .. } => Some(4 * KIB),
            Self::Log { file, .. } => Some(match file {
                LogFile::Record(_) => 4 * KIB * KIB,
                // A log has 64 MiB at most; in front of each record stands its length.
                LogFile::Tile(_) => 64 * KIB * KIB + u64::from(TILE) * 4,
            }),
            Self::Blob { .. } => None,
            Self::Nodes { .. } => Some(64 * KIB * KIB),
            Self::Wrap { .. } => Some(16 * KIB),
        }
    }

    /// Whether it is replaced rather than written once.
    #[must_use]
    pub fn is_mutable(&self) -> bool {
        matches!(self, Self::Head { .. })
    }

    /// The publisher whose alone it is; `None` when any publisher of the tenant may write it.
    #[must_use]
    pub fn publisher(&self) -> Option<&Label> {
        match self {
            Self::Head { publisher } | Self::Manifest { publisher, .. } | Self::Log { publisher, .. } => {
                Some(publisher)
            }
            Self::Succession { anchor, .. } => Some(anchor.name()),
            _ => None,
        }
    }
}

impl fmt::Display for ObjectPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy { version } => write!(f, "policy/{version}"),
            Self::Head { publisher } => write!(f, "head/{publisher}"),
            Self::Succession { anchor, version } => {
                let (publisher, id) = (anchor.name(), anchor.to_string());
                // An id is name, '+' and hash.
                let hash = id.get(publisher.as_str().len() + 1..).unwrap_or_default();
                write!(f, "succession/{publisher}/{hash}/{version}")
            }
            Self::Manifest {
                publisher,
                source,
                compartment,
                version,
            } => write!(f, "manifest/{publisher}/{source}/{compartment}/{version}"),
            Self::Log {
                publisher,
                source,
                compartment,
                version,
                file,
            } => write!(f, "log/{publisher}/{source}/{compartment}/{version}/{file}"),
            Self::Blob { digest } => write!(f, "blob/{digest}"),
            Self::Nodes { enroller, version } => write!(f, "nodes/{enroller}/{version}"),
            Self::Wrap {
                compartment,
                epoch,
                name,
            } => write!(f, "wrap/{compartment}/{epoch}/{name}"),
        }
    }
}

impl FromStr for ObjectPath {
    type Err = ObjectPathError;

    /// Nothing but the exact spelling: no leading slash, no escapes.
    fn from_str(text: &str) -> Result<Self, ObjectPathError> {
        let label = |text: &str| Label::new(text).map_err(|_| ObjectPathError);
        let version = |text: &str| text.parse::<Version>().map_err(|_| ObjectPathError);
        // One more than the longest has, so that a longer one is seen.
        let mut parts = [None; 7];
        for (place, part) in parts.iter_mut().zip(text.split('/')) {
            *place = Some(part);
        }
        match parts {
            [Some("policy"), Some(number), None, ..] => Ok(Self::Policy {
                version: version(number)?,
            }),
            [Some("head"), Some(publisher), None, ..] => Ok(Self::Head {
                publisher: label(publisher)?,
            }),
            [Some("succession"), Some(publisher), Some(hash), Some(number), None, ..] => Ok(Self::Succession {
                anchor: KeyId::new(label(publisher)?, bytes_of_hexadecimal(hash).ok_or(ObjectPathError)?),
                version: version(number)?,
            }),
            [
                Some("manifest"),
                Some(publisher),
                Some(source),
                Some(compartment),
                Some(number),
                None,
                ..,
            ] => Ok(Self::Manifest {
                publisher: label(publisher)?,
                source: label(source)?,
                compartment: label(compartment)?,
                version: version(number)?,
            }),
            [
                Some("log"),
                Some(publisher),
                Some(source),
                Some(compartment),
                Some(number),
                Some(file),
                None,
            ] => Ok(Self::Log {
                publisher: label(publisher)?,
                source: label(source)?,
                compartment: label(compartment)?,
                version: version(number)?,
                file: file.parse()?,
            }),
            [Some("blob"), Some(digest), None, ..] => Ok(Self::Blob {
                digest: digest.parse().map_err(|_| ObjectPathError)?,
            }),
            [Some("nodes"), Some(enroller), Some(number), None, ..] => Ok(Self::Nodes {
                enroller: label(enroller)?,
                version: version(number)?,
            }),
            [Some("wrap"), Some(compartment), Some(epoch), Some(name), None, ..] => Ok(Self::Wrap {
                compartment: label(compartment)?,
                epoch: version(epoch)?,
                name: label(name)?,
            }),
            _ => Err(ObjectPathError),
        }
    }
}

/// The text is no path of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no object has such a path: policy/VERSION, head/PUBLISHER, succession/PUBLISHER/HASH/VERSION, manifest/PUBLISHER/SOURCE/COMPARTMENT/VERSION, \
     log/PUBLISHER/SOURCE/COMPARTMENT/VERSION/NUMBER or …/tile-NUMBER, blob/DIGEST, nodes/ENROLLER/VERSION, wrap/COMPARTMENT/EPOCH/NAME"
)]
pub struct ObjectPathError;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGEST: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn the_eight_kinds_are_read_and_printed_the_same() {
        for (text, longest) in [
            ("policy/1", Some(131_072)),
            ("head/syncer", Some(262_144)),
            ("succession/syncer/0a1b2c3d/7", Some(4096)),
            ("manifest/syncer/aws/all/12", Some(4096)),
            ("log/syncer/aws/all/12/0", Some(4 << 20)),
            ("log/syncer/aws/all/12/16777215", Some(4 << 20)),
            ("log/syncer/aws/all/12/tile-65535", Some((64 << 20) + 1024)),
            (&format!("blob/{DIGEST}"), None),
            ("nodes/syncer/3", Some(67_108_864)),
            ("wrap/web/2/recovery-1", Some(16_384)),
        ] {
            let path: ObjectPath = text.parse().unwrap();
            assert_eq!((path.to_string().as_str(), path.max_bytes()), (text, longest));
            assert_eq!(path.is_mutable(), text.starts_with("head"));
            let own = ["head", "succession", "manifest", "log"]
                .iter()
                .any(|kind| text.starts_with(kind));
            assert_eq!(path.publisher().map(Label::as_str), own.then_some("syncer"));
        }
    }

    #[test]
    fn nothing_else_is_a_path() {
        for text in [
            "",
            "/policy/1",
            "policy",
            "policy/",
            "policy/0",
            "policy/01",
            "policy/1/",
            "policy/1/2",
            "Policy/1",
            "head/..",
            "head/%2e",
            "head/a?b",
            "head/a/b",
            "succession/a/1",
            "succession/a/0A1B2C3D/1",
            "succession/a/0a1b2c3/1",
            "succession/a/0a1b2c3d/0",
            "succession/a/0a1b2c3d/1/2",
            "manifest/a/b/1",
            "manifest/a/b/c/1/2",
            "manifest/a//c/1",
            "log/a/b/c/1",
            "log/a/b/c/1/00",
            "log/a/b/c/1/-1",
            "log/a/b/c/1/16777216",
            "log/a/b/c/1/tile-65536",
            "log/a/b/c/1/tile-",
            "log/a/b/c/1/tile-01",
            "log/a/b/c/0/1",
            "log/a/b/c/1/2/3",
            "blob/abc",
            &format!("blob/{}", DIGEST.to_uppercase()),
            "nodes/a",
            "wrap/a/1",
            "wrap/a/x/b",
            "join/a/b",
            "manifest/a/b/c/1/2/3/4/5/6/7",
        ] {
            assert_eq!(text.parse::<ObjectPath>(), Err(ObjectPathError), "{text:?}");
        }
    }

    fn label() -> impl Strategy<Value = Label> {
        "[a-z0-9][a-z0-9._-]{0,8}".prop_map(|text| Label::new(&text).unwrap())
    }

    fn version() -> impl Strategy<Value = Version> {
        (1..=Version::MAX).prop_map(|number| Version::new(number).unwrap())
    }

    fn path() -> impl Strategy<Value = ObjectPath> {
        prop_oneof![
            version().prop_map(|version| ObjectPath::Policy { version }),
            label().prop_map(|publisher| ObjectPath::Head { publisher }),
            (label(), any::<[u8; 4]>(), version()).prop_map(|(publisher, hash, version)| ObjectPath::Succession {
                anchor: KeyId::new(publisher, hash),
                version,
            }),
            (label(), label(), label(), version()).prop_map(|(publisher, source, compartment, version)| {
                ObjectPath::Manifest {
                    publisher,
                    source,
                    compartment,
                    version,
                }
            }),
            (label(), label(), label(), version(), 0..65_536_u32, any::<bool>()).prop_map(
                |(publisher, source, compartment, version, number, tile)| ObjectPath::Log {
                    publisher,
                    source,
                    compartment,
                    version,
                    file: if tile {
                        LogFile::Tile(number)
                    } else {
                        LogFile::Record(number)
                    },
                }
            ),
            any::<[u8; 32]>().prop_map(|bytes| ObjectPath::Blob {
                digest: Digest::from_bytes(bytes)
            }),
            (label(), version()).prop_map(|(enroller, version)| ObjectPath::Nodes { enroller, version }),
            (label(), version(), label()).prop_map(|(compartment, epoch, name)| ObjectPath::Wrap {
                compartment,
                epoch,
                name
            }),
        ]
    }

    proptest! {
        #[test]
        fn every_path_survives_its_text(path in path()) {
            prop_assert_eq!(path.to_string().parse(), Ok(path));
        }

        #[test]
        fn what_is_read_prints_as_it_was(text in "(policy|head|succession|manifest|log|blob|nodes|wrap)(/[a-z0-9._-]{0,6}){0,6}|.{0,40}") {
            if let Ok(path) = text.parse::<ObjectPath>() {
                prop_assert_eq!(path.to_string(), text);
            }
        }
    }
}
