//! Holding a directory against the limits: each entry passes or is dropped alone.

use std::collections::HashSet;

use dirless_model::Gid;
use dirless_model::merge::{Directory, MergedGroup, MergedUser};
use dirless_model::texts::{Symbol, Texts};

use super::builtin::{NO_LOGIN, RESERVED, SAFE_SHELLS, is_of_family, is_reserved};
use super::{Accounts, HostLimits};
use crate::pipeline::drops::{Drops, Kind};

/// The limit that an entry breaks. `Display` is the reason, as a sentence after the name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Limit {
    /// The name is reserved.
    #[error("is a reserved name")]
    Reserved,
    /// The uid or gid is outside the ranges.
    #[error("has the {what} {id}, outside of {ranges}")]
    Range {
        /// `uid`, `gid` or `primary gid`.
        what: &'static str,
        /// The id.
        id: u32,
        /// The ranges.
        ranges: String,
    },
    /// The host has a user or group of that name itself.
    #[error("is a local {0} of this host")]
    LocalName(&'static str),
    /// The host uses the id itself.
    #[error("has the {what} {id} of the local {local}")]
    LocalId {
        /// `uid`, `gid` or `primary gid`.
        what: &'static str,
        /// The id.
        id: u32,
        /// Who has it.
        local: String,
    },
    /// The home lies elsewhere.
    #[error("has the home {0}, which is not below an allowed folder")]
    Home(String),
    /// The shell is not allowed.
    #[error("has the shell {0}, which is not allowed here")]
    Shell(String),
    /// The group is to be mapped to a local one that is not there.
    #[error("is in map_groups, but this host has no group of that name")]
    NothingToMap,
}

impl Limit {
    /// A short stable word for the reason.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Reserved => "reserved-name",
            Self::Range { what: "uid", .. } => "uid-range",
            Self::Range { .. } => "gid-range",
            Self::LocalName(_) => "local-name",
            Self::LocalId { .. } => "local-id",
            Self::Home(_) => "home",
            Self::Shell(_) => "shell",
            Self::NothingToMap => "map-group",
        }
    }

    /// What to change, and the key of the limits that decides.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Reserved => {
                "rename it at the source; a privileged group can be mapped with map_groups in limits.toml".to_owned()
            }
            Self::Range { what, .. } => {
                let key = if *what == "uid" { "user_ids" } else { "group_ids" };
                format!("give it an id in the range at the source, or widen {key} in limits.toml")
            }
            Self::LocalName("group") => {
                "rename it at the source, or list it in map_groups in limits.toml to add its members to the local one"
                    .to_owned()
            }
            Self::LocalName(_) => "rename it at the source, or remove the local account".to_owned(),
            Self::LocalId { .. } => "give one of them another id".to_owned(),
            Self::Home(_) => {
                "change the home at the source, or add its folder to home_prefixes in limits.toml".to_owned()
            }
            Self::Shell(_) => {
                "change the shell at the source, or add it to shells in limits.toml or to /etc/shells".to_owned()
            }
            Self::NothingToMap => "take it out of map_groups in limits.toml, or make the group".to_owned(),
        }
    }
}

/// Symbols with a mark.
#[derive(Debug)]
struct Marks(Vec<bool>);

impl Marks {
    /// Marks those of `marked` that have a symbol.
    fn new<'a>(texts: &Texts, marked: impl IntoIterator<Item = &'a str>) -> Self {
        let mut marks = Self(vec![false; texts.symbols()]);
        marked
            .into_iter()
            .filter_map(|name| texts.find(name))
            .for_each(|symbol| marks.set(symbol));
        marks
    }

    fn set(&mut self, symbol: Symbol) {
        if let Some(mark) = self.0.get_mut(symbol.index()) {
            *mark = true;
        }
    }

    fn has(&self, symbol: Symbol) -> bool {
        self.0.get(symbol.index()) == Some(&true)
    }
}

/// The limits, prepared for many entries.
#[derive(Debug)]
struct Prepared<'a> {
    limits: &'a HostLimits,
    accounts: &'a Accounts,
    texts: &'a Texts,
    shells: Marks,
    /// Names that some limit on names may refuse. The limits name a few hundred and the directory many
    /// thousands: the few are looked up among the many, and all others are free without a look.
    suspects: Marks,
}

impl<'a> Prepared<'a> {
    fn new(limits: &'a HostLimits, accounts: &'a Accounts, shells: Option<&str>, texts: &'a Texts) -> Self {
        let mut allowed: Vec<&str> = NO_LOGIN.into();
        match (&limits.shells, shells) {
            (Some(list), _) => allowed.extend(list.iter().map(dirless_model::HostPath::as_str)),
            (None, Some(text)) => {
                let lines = text.lines().map(str::trim);
                allowed.extend(lines.filter(|line| line.starts_with('/')));
            }
            (None, None) => allowed.extend(SAFE_SHELLS),
        }
        let named = limits.reserved_users.iter().chain(&limits.reserved_groups);
        let named = named.map(String::as_str).chain(accounts.names()).chain(RESERVED);
        let families = texts.names().filter(|name| is_of_family(name));
        Self {
            limits,
            accounts,
            texts,
            shells: Marks::new(texts, allowed),
            suspects: Marks::new(texts, named.chain(families)),
        }
    }

    fn user(&self, user: &MergedUser) -> Result<(), Limit> {
        self.user_name(user.name)?;
        let (uid, gid) = (user.uid.number(), user.gid.number());
        in_ranges("uid", uid, &self.limits.user_ids)?;
        if let Some(local) = self.accounts.user_of(uid) {
            return Err(Limit::LocalId {
                what: "uid",
                id: uid,
                local: local.to_owned(),
            });
        }
        self.gid("primary gid", gid)?;
        let home = self.texts.get(user.home);
        if !self
            .limits
            .home_prefixes
            .iter()
            .any(|prefix| is_below(home, prefix.as_str()))
        {
            return Err(Limit::Home(home.to_owned()));
        }
        if !self.shells.has(user.shell) {
            return Err(Limit::Shell(self.texts.name(user.shell).to_owned()));
        }
        Ok(())
    }

    fn user_name(&self, symbol: Symbol) -> Result<(), Limit> {
        if !self.suspects.has(symbol) {
            return Ok(());
        }
        let name = self.texts.name(symbol);
        if is_reserved(name) || self.limits.reserved_users.iter().any(|reserved| reserved == name) {
            return Err(Limit::Reserved);
        }
        if self.accounts.has_user(name) {
            return Err(Limit::LocalName("user"));
        }
        Ok(())
    }

    /// The gid that the group gets: its own, or that of the local group it is mapped to.
    fn group(&self, group: &MergedGroup) -> Result<Gid, Limit> {
        let name = self.texts.name(group.name);
        if self.limits.map_groups.iter().any(|mapped| mapped.as_str() == name) {
            let local = self.accounts.group(name).and_then(|gid| Gid::parse(gid).ok());
            return local.ok_or(Limit::NothingToMap);
        }
        self.group_name(group.name)?;
        self.gid("gid", group.gid.number())?;
        Ok(group.gid)
    }

    fn group_name(&self, symbol: Symbol) -> Result<(), Limit> {
        if !self.suspects.has(symbol) {
            return Ok(());
        }
        let name = self.texts.name(symbol);
        if is_reserved(name) || self.limits.reserved_groups.iter().any(|reserved| reserved == name) {
            return Err(Limit::Reserved);
        }
        if self.accounts.group(name).is_some() {
            return Err(Limit::LocalName("group"));
        }
        Ok(())
    }

    fn gid(&self, what: &'static str, gid: u32) -> Result<(), Limit> {
        in_ranges(what, gid, &self.limits.group_ids)?;
        match self.accounts.group_of(gid) {
            Some(local) => Err(Limit::LocalId {
                what,
                id: gid,
                local: local.to_owned(),
            }),
            None => Ok(()),
        }
    }
}

fn in_ranges(what: &'static str, id: u32, ranges: &[dirless_model::IdRange]) -> Result<(), Limit> {
    if ranges.iter().any(|range| range.contains(id)) {
        return Ok(());
    }
    let ranges: Vec<_> = ranges.iter().map(ToString::to_string).collect();
    Err(Limit::Range {
        what,
        id,
        ranges: if ranges.is_empty() {
            "no range at all".to_owned()
        } else {
            ranges.join(", ")
        },
    })
}

/// Is `path` a place below `prefix`? Both are without `.` and `..` ([`dirless_model::HostPath`]).
fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.len() > 1 && rest.starts_with('/'))
}

/// Drops what breaks a limit from `directory` and tells `drops`. Returns the users that get a private
/// group of their own name, because nobody else's group has their gid, and how many users are left
/// with a primary gid that has no name.
pub(in crate::pipeline) fn apply(
    limits: &HostLimits,
    accounts: &Accounts,
    shells: Option<&str>,
    sources: &[String],
    texts: &Texts,
    directory: &mut Directory,
    drops: &mut Drops,
) -> PrivateGroups {
    let prepared = Prepared::new(limits, accounts, shells, texts);
    let mut tell = |source: u8, kind: Kind, name: Symbol, limit: &Limit| {
        let source = sources.get(usize::from(source)).map_or("?", String::as_str);
        drops.add(source, kind, texts.name(name), limit.code(), || {
            (limit.to_string(), limit.hint())
        });
    };
    directory.retain_users(|_, user| match prepared.user(user) {
        Ok(()) => true,
        Err(limit) => {
            tell(user.source, Kind::User, user.name, &limit);
            false
        }
    });
    let mut gids = HashSet::new();
    directory.retain_groups(|group| match prepared.group(group) {
        // Two mapped names can share a local number only if the host's own file is odd.
        Ok(gid) if gids.insert(gid) => {
            group.gid = gid;
            true
        }
        Ok(gid) => {
            let limit = Limit::LocalId {
                what: "gid",
                id: gid.number(),
                local: "group that another mapped group has too".to_owned(),
            };
            tell(group.source, Kind::Group, group.name, &limit);
            false
        }
        Err(limit) => {
            tell(group.source, Kind::Group, group.name, &limit);
            false
        }
    });
    private_groups(&prepared, directory, &gids)
}

/// Private groups to be made at publish.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrivateGroups {
    /// Places of the users that get one.
    pub users: Vec<u32>,
    /// Users whose primary gid has no name and gets none.
    pub nameless: usize,
}

fn private_groups(prepared: &Prepared<'_>, directory: &Directory, gids: &HashSet<Gid>) -> PrivateGroups {
    let mut taken = Marks::new(prepared.texts, []);
    directory.groups.iter().for_each(|group| taken.set(group.name));
    let mut with_gid: Vec<(Gid, u32)> = (0u32..)
        .zip(&directory.users)
        .filter(|(_, user)| !gids.contains(&user.gid))
        .map(|(place, user)| (user.gid, place))
        .collect();
    with_gid.sort_unstable();
    let mut groups = PrivateGroups::default();
    for same in with_gid.chunk_by(|a, b| a.0 == b.0) {
        let alone = match same {
            [(_, place)] => directory.users.get(*place as usize).map(|user| (*place, user)),
            _ => None,
        };
        let free = alone.filter(|(_, user)| prepared.group_name(user.name).is_ok() && !taken.has(user.name));
        match free {
            Some((place, _)) => groups.users.push(place),
            None => groups.nameless += same.len(),
        }
    }
    groups.users.sort_unstable();
    groups
}

#[cfg(test)]
#[path = "apply_tests.rs"]
mod tests;
