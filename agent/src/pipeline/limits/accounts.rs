//! The host's own accounts, as passwd(5) and group(5) have them.

use std::collections::{BTreeMap, HashMap, HashSet};

/// Names and numbers that the host itself uses.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    users: HashMap<String, u32>,
    uids: BTreeMap<u32, String>,
    groups: HashMap<String, u32>,
    gids: BTreeMap<u32, String>,
    primary_gids: HashSet<u32>,
}

impl Accounts {
    /// Reads both texts. A line that cannot be read in full still reserves the name and the number
    /// that it shows.
    #[must_use]
    pub fn parse(passwd: &str, group: &str) -> Self {
        let mut accounts = Self::default();
        for line in passwd.lines() {
            let mut fields = line.split(':');
            let name = fields.next().unwrap_or_default();
            let uid = fields.nth(1).and_then(|field| field.parse().ok());
            let gid: Option<u32> = fields.next().and_then(|field| field.parse().ok());
            if let Some(uid) = remember(name, uid, &mut accounts.users) {
                accounts.uids.entry(uid).or_insert_with(|| name.to_owned());
            }
            accounts.primary_gids.extend(gid);
        }
        for line in group.lines() {
            let mut fields = line.split(':');
            let name = fields.next().unwrap_or_default();
            let gid = fields.nth(1).and_then(|field| field.parse().ok());
            if let Some(gid) = remember(name, gid, &mut accounts.groups) {
                accounts.gids.entry(gid).or_insert_with(|| name.to_owned());
            }
        }
        accounts
    }

    /// The names of all users and groups.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.users.keys().chain(self.groups.keys()).map(String::as_str)
    }

    /// Is there a local user called `name`?
    #[must_use]
    pub fn has_user(&self, name: &str) -> bool {
        self.users.contains_key(name)
    }

    /// The local user with `uid`.
    #[must_use]
    pub fn user_of(&self, uid: u32) -> Option<&str> {
        self.uids.get(&uid).map(String::as_str)
    }

    /// The gid of the local group called `name`.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<u32> {
        self.groups.get(name).copied()
    }

    /// The local group with `gid`, or the word for a gid that only passwd(5) mentions.
    #[must_use]
    pub fn group_of(&self, gid: u32) -> Option<&str> {
        match self.gids.get(&gid) {
            Some(name) => Some(name),
            None if self.primary_gids.contains(&gid) => Some("(a local user's primary group)"),
            None => None,
        }
    }
}

/// Reserves `name`; the number is 0, which no directory can have, where there is none.
fn remember(name: &str, number: Option<u32>, names: &mut HashMap<String, u32>) -> Option<u32> {
    // nis(5) compat lines begin with + or -, comments with #: they are no accounts.
    if name.is_empty() || name.starts_with(['+', '-', '#']) {
        return None;
    }
    names.entry(name.to_owned()).or_insert(number.unwrap_or(0));
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_found_also_in_odd_files() {
        let accounts = Accounts::parse(
            "root:x:0:0:root:/root:/bin/bash\n\nhalf:x\n+nisuser::::::\nsvc:x:1500:1600::/:/bin/sh\n",
            "root:x:0:\nsudo:x:27:svc\nbroken\n",
        );
        assert!(accounts.has_user("root") && accounts.has_user("half") && !accounts.has_user("+nisuser"));
        assert_eq!(accounts.user_of(1500), Some("svc"));
        assert_eq!(accounts.group("sudo"), Some(27));
        assert_eq!(accounts.group("broken"), Some(0));
        assert_eq!(accounts.group_of(27), Some("sudo"));
        assert_eq!(accounts.group_of(1600), Some("(a local user's primary group)"));
        assert_eq!(accounts.group_of(1601), None);
    }
}
