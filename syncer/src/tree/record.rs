//! One entry as the store keeps it.

use dirless_directory::encoded::Attributes;
use dirless_directory::{Dn, DnKey, Entry};
use rusqlite::Row;

use super::TreeError;

/// The columns that [`Record::read`] takes, in their order.
pub(super) const COLUMNS: &str = "id, key, parent, children, version, dn, attributes";

/// An entry with what the store knows about it.
#[derive(Clone, Debug)]
pub struct Record {
    pub(super) id: i64,
    pub(super) parent: Option<i64>,
    pub(super) children: u64,
    key: DnKey,
    dn: Dn,
    version: u64,
    encoded: Vec<u8>,
}

impl Record {
    pub(super) fn read(row: &Row<'_>) -> Result<Self, TreeError> {
        let text = row.get_ref(5)?.as_str().map_err(rusqlite::Error::from)?;
        let dn = Dn::parse(text).map_err(|error| TreeError::Damaged {
            dn: text.to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Self {
            id: row.get(0)?,
            key: DnKey::from(row.get::<_, Vec<u8>>(1)?),
            parent: row.get(2)?,
            children: u64::try_from(row.get::<_, i64>(3)?).unwrap_or(0),
            version: u64::try_from(row.get::<_, i64>(4)?).unwrap_or(0),
            dn,
            encoded: row.get(6)?,
        })
    }

    /// Its name.
    #[must_use]
    pub fn dn(&self) -> &Dn {
        &self.dn
    }

    /// Its name as names are compared; entries come in this order.
    #[must_use]
    pub fn key(&self) -> &DnKey {
        &self.key
    }

    /// Grows by one with each write of the entry, from 1.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// How many entries stand right below it.
    #[must_use]
    pub fn children(&self) -> u64 {
        self.children
    }

    /// Its attributes as LDAP sends them, the operational ones included.
    #[must_use]
    pub fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    /// The entry with all attributes, the operational ones included.
    ///
    /// # Errors
    /// When the stored bytes are damaged.
    pub fn entry(&self) -> Result<Entry, TreeError> {
        Attributes::new(&self.encoded)
            .and_then(|attributes| attributes.entry(self.dn.clone()))
            .map_err(TreeError::damaged(self.dn.to_string()))
    }
}
