//! Turning the outcome into a lookup table: private groups added, nothing written when nothing changed.

use std::path::Path;

use dirless_model::merge::Directory;
use dirless_model::texts::Texts;
use dirless_table::{GroupRecord, TableBuilder, TableMeta, TableStats, UserRecord, WriteError};

use super::limits::PrivateGroups;

/// What a host publishes.
#[derive(Debug)]
pub struct Content {
    /// The texts of everything else.
    pub texts: Texts,
    /// Users and groups.
    pub directory: Directory,
    /// Groups to be made for users whose gid has none.
    pub private: PrivateGroups,
}

impl Content {
    /// Groups in the table, private ones included.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.directory.groups.len() + self.private.users.len()
    }

    /// SHA-256 over everything that the table says, in hex; `enumerate` belongs to it.
    #[must_use]
    pub fn digest(&self, enumerate: bool) -> String {
        let mut chain = Chain::default();
        chain.number(u32::from(enumerate));
        for group in &self.directory.groups {
            chain.text("g");
            chain.text(self.texts.name(group.name));
            chain.number(group.gid.number());
            for member in self.directory.members(group) {
                chain.text(self.user_name(*member));
            }
            chain.text("");
        }
        for place in &self.private.users {
            chain.text("p");
            chain.text(self.user_name(*place));
        }
        for user in &self.directory.users {
            chain.text("u");
            chain.text(self.texts.name(user.name));
            chain.number(user.uid.number());
            chain.number(user.gid.number());
            for span in [user.gecos, user.home, user.keys] {
                chain.text(self.texts.get(span));
            }
            chain.text(self.texts.name(user.shell));
        }
        chain.finish()
    }

    /// Writes everything to `table`.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub fn write<W: std::io::Write + std::io::Seek>(&self, table: &mut TableBuilder<W>) -> Result<(), WriteError> {
        let Self { texts, directory, .. } = self;
        table.name_members(directory.users.iter().map(|user| texts.name(user.name)))?;
        for group in &directory.groups {
            let record = GroupRecord {
                name: texts.name(group.name),
                gid: group.gid.number(),
            };
            table.add_group_of(&record, directory.members(group))?;
        }
        for place in &self.private.users {
            if let Some(user) = directory.users.get(*place as usize) {
                let record = GroupRecord {
                    name: texts.name(user.name),
                    gid: user.gid.number(),
                };
                table.add_group_of(&record, &[])?;
            }
        }
        for user in &directory.users {
            table.add_user(&UserRecord {
                name: texts.name(user.name),
                uid: user.uid.number(),
                gid: user.gid.number(),
                gecos: texts.get(user.gecos),
                home: texts.get(user.home),
                shell: texts.name(user.shell),
                keys: texts.get(user.keys),
            })?;
        }
        Ok(())
    }

    fn user_name(&self, place: u32) -> &str {
        let user = self.directory.users.get(place as usize);
        user.map(|user| self.texts.name(user.name)).unwrap_or_default()
    }
}

/// Writes `content` as the table at `path`, in any case.
///
/// # Errors
/// When it cannot be written whole; the table in place stays then.
pub fn publish(path: &Path, meta: TableMeta, content: &Content) -> Result<TableStats, WriteError> {
    dirless_table::publish(path, meta, |table| content.write(table))
}

/// Writes `content` as the table at `path` unless the one in place, which must be `owner`'s, says just
/// that; `None` then.
///
/// # Errors
/// As [`publish`].
pub fn publish_changed(
    path: &Path,
    owner: u32,
    meta: TableMeta,
    content: &Content,
) -> Result<Option<TableStats>, WriteError> {
    dirless_table::publish_changed(path, owner, meta, |table| content.write(table))
}

/// A running SHA-256 over many small pieces: each block is hashed together with the digest of what
/// came before it.
#[derive(Default)]
struct Chain {
    block: Vec<u8>,
}

impl Chain {
    const BLOCK: usize = 64 * 1024;

    /// Texts hold no NUL, so that a NUL ends each without doubt.
    fn text(&mut self, text: &str) {
        self.block.extend_from_slice(text.as_bytes());
        self.block.push(0);
        if self.block.len() >= Self::BLOCK {
            self.fold();
        }
    }

    fn number(&mut self, number: u32) {
        self.block.extend_from_slice(&number.to_le_bytes());
    }

    fn fold(&mut self) {
        let digest = dirless_seal::sha256_hex(&self.block);
        self.block.clear();
        self.block.extend_from_slice(digest.as_bytes());
    }

    fn finish(mut self) -> String {
        self.fold();
        String::from_utf8_lossy(&self.block).into_owned()
    }
}
