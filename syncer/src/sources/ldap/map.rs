//! From entries to people and groups, one entry at a time. Pure.

use std::collections::{BTreeMap, HashMap};

use dirless_directory::Dn;

use super::Bounds;
use super::config::{LockedBy, Nested, Preset};
use super::layout::Layout;
use super::nesting::{TooMany, resolve};
use super::record::{Record, guid, rid};
use crate::sources::{Posix, SourceError, SourceGroup, SourceUser};

/// `userAccountControl`: the account is disabled (MS-ADTS 2.2.16, ADS_UF_ACCOUNT_DISABLE).
const DISABLED: u32 = 0x2;
/// `pwdAccountLockedTime` of an account that an administrator locked (draft-behera-ldap-password-policy
/// section 5.3.3). Any other value is a pause after wrong passwords: with that, whoever can guess wrong
/// could remove people from hosts.
const LOCKED_FOR_GOOD: &str = "000001010000Z";
/// Seconds between 1601, where Active Directory counts from, and 1970.
const FROM_1601: i64 = 11_644_473_600;
/// Bytes of a text that is kept; a longer one is no name, address or path.
const LONGEST: usize = 4096;
/// Lines of keys that are kept of a person.
const MOST_KEYS: usize = 100;

/// Everything that was read, in our terms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    /// The users.
    pub users: Vec<SourceUser>,
    /// The groups, each with the ids of its users.
    pub groups: Vec<(SourceGroup, Vec<String>)>,
}

/// Takes entries, users first, and makes a [`Mapping`] of them.
#[derive(Debug)]
pub struct Gather<'a> {
    layout: &'a Layout,
    roles: &'a BTreeMap<String, String>,
    now: i64,
    most: usize,
    users: Vec<SourceUser>,
    groups: Vec<SourceGroup>,
    names: Vec<String>,
    direct: Vec<Direct>,
    members: usize,
    by_dn: HashMap<String, u32>,
    by_name: HashMap<String, u32>,
    by_id: HashMap<String, u32>,
    by_primary: HashMap<u32, Vec<u32>>,
    group_by_dn: HashMap<String, u32>,
}

/// Direct members of a group.
#[derive(Debug, Default)]
struct Direct {
    users: Vec<u32>,
    /// Keys of names that are no user's.
    others: Vec<String>,
}

impl<'a> Gather<'a> {
    /// Of a directory of that layout, at `now` (seconds since 1970).
    #[must_use]
    pub fn new(layout: &'a Layout, roles: &'a BTreeMap<String, String>, bounds: &Bounds, now: i64) -> Self {
        Self {
            layout,
            roles,
            now,
            most: bounds.members,
            users: Vec::new(),
            groups: Vec::new(),
            names: Vec::new(),
            direct: Vec::new(),
            members: 0,
            by_dn: HashMap::new(),
            by_name: HashMap::new(),
            by_id: HashMap::new(),
            by_primary: HashMap::new(),
            group_by_dn: HashMap::new(),
        }
    }

    /// Takes a user.
    ///
    /// # Errors
    /// [`SourceError::Inconsistent`] for an entry without id.
    pub fn user(&mut self, record: &Record) -> Result<(), SourceError> {
        let user = user(self.layout, record, self.now)?;
        let at = u32::try_from(self.users.len()).unwrap_or(u32::MAX);
        self.by_dn.insert(key_of(&record.dn), at);
        self.by_name.insert(user.name.clone(), at);
        self.by_id.insert(user.id.clone(), at);
        if let Some(rid) = record.text("primaryGroupID").and_then(|text| text.parse().ok()) {
            self.by_primary.entry(rid).or_default().push(at);
        }
        self.users.push(user);
        Ok(())
    }

    /// Takes a group; all users must have been taken.
    ///
    /// # Errors
    /// [`SourceError::Inconsistent`] for an entry without id, with a list that the server cut, or with
    /// one member too many for the whole read.
    pub fn group(&mut self, record: &Record) -> Result<(), SourceError> {
        let id = id(self.layout, record)?;
        if record.is_cut(&self.layout.member) {
            return Err(SourceError::Inconsistent(format!(
                "the server cut the {} list of {:?}",
                self.layout.member, record.dn
            )));
        }
        let mut direct = Direct::default();
        for text in record.texts(&self.layout.member) {
            self.members += 1;
            // A member is the name of an entry (member, uniqueMember) or a login name (memberUid).
            if !text.contains('=') {
                direct.users.extend(self.by_name.get(text));
                continue;
            }
            let key = key_of(text);
            match self.by_dn.get(&key) {
                Some(user) => direct.users.push(*user),
                None => direct.others.push(key),
            }
        }
        if let Some(rid) = record.values("objectSid").first().and_then(|sid| rid(sid)) {
            direct.users.extend(self.by_primary.get(&rid).into_iter().flatten());
        }
        if self.members > self.most {
            return Err(too_many(&TooMany(self.most)));
        }
        let at = u32::try_from(self.groups.len()).unwrap_or(u32::MAX);
        self.group_by_dn.insert(key_of(&record.dn), at);
        let name = record.text(&self.layout.group_name).unwrap_or_default();
        self.groups.push(SourceGroup {
            id,
            name: name.to_owned(),
            gid: number(self.layout, record, &self.layout.gid_number),
            roles: self.roles.get(name).cloned().into_iter().collect(),
        });
        self.names.push(record.dn.clone());
        self.direct.push(direct);
        Ok(())
    }

    /// The groups (id and name of the entry) with a member that is no user: groups, foreign objects.
    /// With [`Nested::InChain`] the server is to be asked who is in them.
    #[must_use]
    pub fn nested(&self) -> Vec<(String, String)> {
        if self.layout.nested != Nested::InChain {
            return Vec::new();
        }
        let all = self.groups.iter().zip(&self.names).zip(&self.direct);
        let nested = all.filter(|(_, direct)| !direct.others.is_empty());
        nested
            .map(|((group, name), _)| (group.id.clone(), name.clone()))
            .collect()
    }

    /// Takes the ids of the users whom a server found in each group at any depth.
    ///
    /// # Errors
    /// When they are too many.
    pub fn chained(&mut self, chains: &BTreeMap<String, Vec<String>>) -> Result<(), SourceError> {
        for (group, direct) in self.groups.iter().zip(&mut self.direct) {
            let ids = chains.get(&group.id).into_iter().flatten();
            let before = direct.users.len();
            direct.users.extend(ids.filter_map(|id| self.by_id.get(id)));
            self.members += direct.users.len() - before;
        }
        if self.members > self.most {
            return Err(too_many(&TooMany(self.most)));
        }
        Ok(())
    }

    /// Resolves the members.
    ///
    /// # Errors
    /// When they are too many.
    pub fn finish(self) -> Result<Mapping, SourceError> {
        let inner = |direct: &Direct| match self.layout.nested {
            // Beside what the server resolves: its rule does not follow primary groups.
            Nested::Expand | Nested::InChain => direct
                .others
                .iter()
                .filter_map(|key| self.group_by_dn.get(key).copied())
                .collect(),
            Nested::None => Vec::new(),
        };
        let inner: Vec<Vec<u32>> = self.direct.iter().map(inner).collect();
        let users: Vec<Vec<u32>> = self.direct.into_iter().map(|direct| direct.users).collect();
        let expanded = resolve(&users, &inner, self.most).map_err(|error| too_many(&error))?;
        let ids = |list: Vec<u32>| {
            let users = list.iter().filter_map(|at| self.users.get(*at as usize));
            users.map(|user| user.id.clone()).collect()
        };
        let groups = self.groups.into_iter().zip(expanded.into_iter().map(ids)).collect();
        Ok(Mapping {
            groups,
            users: self.users,
        })
    }
}

fn too_many(error: &TooMany) -> SourceError {
    SourceError::Inconsistent(error.to_string())
}

/// The object id of an entry.
pub(super) fn id(layout: &Layout, record: &Record) -> Result<String, SourceError> {
    let raw = record.values(&layout.id).first();
    let id = match raw {
        Some(bytes) if layout.id.eq_ignore_ascii_case("objectGUID") => guid(bytes),
        Some(bytes) => String::from_utf8(bytes.clone()).ok().filter(|text| !text.is_empty()),
        None => None,
    };
    id.ok_or_else(|| {
        SourceError::Inconsistent(format!(
            "{:?} has no usable {}; give the bind DN the right to read it, or name another attribute with [source.attributes] id",
            record.dn, layout.id
        ))
    })
}

pub(super) fn user(layout: &Layout, record: &Record, now: i64) -> Result<SourceUser, SourceError> {
    let text = |name: &str| {
        record
            .text(name)
            .filter(|text| text.len() <= LONGEST)
            .map(ToOwned::to_owned)
    };
    Ok(SourceUser {
        id: id(layout, record)?,
        name: text(&layout.user_name).unwrap_or_default(),
        display_name: text(&layout.display_name),
        email: text(&layout.email),
        enabled: enabled(layout, record, now),
        posix: Posix {
            uid: number(layout, record, &layout.uid_number),
            gid: number(layout, record, &layout.gid_number),
            home: text(&layout.home).filter(|_| layout.numbers),
            shell: text(&layout.shell).filter(|_| layout.numbers),
        },
        keys: keys(layout, record),
    })
}

fn number(layout: &Layout, record: &Record, name: &str) -> Option<u32> {
    let text = record.text(name).filter(|_| layout.numbers)?;
    text.parse().ok()
}

fn enabled(layout: &Layout, record: &Record, now: i64) -> bool {
    let number = |name: &str| record.text(name).and_then(|text| text.parse::<i64>().ok());
    let locked = |by: &LockedBy| match by {
        LockedBy::AccountControl => {
            // Flags are a signed number on the wire; one that cannot be read lets nobody in.
            let flags = record.text("userAccountControl").map(str::parse::<i32>);
            !matches!(flags, Some(Ok(flags)) if flags.cast_unsigned() & DISABLED == 0)
        }
        // In steps of 100 ns since 1601; 0 and the largest number are never (MS-ADA1 2.3).
        LockedBy::AccountExpires => {
            number("accountExpires").is_some_and(|at| at != 0 && at != i64::MAX && at / 10_000_000 - FROM_1601 <= now)
        }
        // shadow(5): days since 1970; -1 or nothing is never.
        LockedBy::ShadowExpire => number("shadowExpire").is_some_and(|day| day >= 0 && day <= now.div_euclid(86_400)),
        LockedBy::AccountLock => record
            .text("nsAccountLock")
            .is_some_and(|text| text.eq_ignore_ascii_case("true")),
        LockedBy::LockedTime => record.text("pwdAccountLockedTime") == Some(LOCKED_FOR_GOOD),
    };
    !layout.disabled.iter().any(locked)
}

/// SSH keys: in altSecurityIdentities they stand as `SSHKey:LINE` beside certificates and names.
fn keys(layout: &Layout, record: &Record) -> Vec<String> {
    let ours = record.texts(&layout.keys).filter_map(|text| {
        if layout.keys.eq_ignore_ascii_case("altSecurityIdentities") {
            let (kind, line) = text.split_once(':')?;
            kind.eq_ignore_ascii_case("SSHKey").then(|| line.trim().to_owned())
        } else {
            Some(text.trim().to_owned())
        }
    });
    let also = layout.preset == Preset::Ad && !layout.keys.eq_ignore_ascii_case("sshPublicKey");
    let more = record
        .texts("sshPublicKey")
        .filter(|_| also)
        .map(|text| text.trim().to_owned());
    ours.chain(more)
        .filter(|line| line.len() <= 4 * LONGEST)
        .take(MOST_KEYS)
        .collect()
}

/// One key for all spellings of a name; a text that is no name is its own.
pub(super) fn key_of(dn: &str) -> String {
    match Dn::parse(dn) {
        Ok(parsed) => parsed.to_string().to_lowercase(),
        Err(_) => dn.to_lowercase(),
    }
}
