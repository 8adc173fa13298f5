//! From what the source says and what the ledger says to the snapshot that hosts read. Pure.

mod given;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use dirless_model::snapshot::{Document, Meta, ObjectKind, Retired};
use dirless_model::{Gecos, Gid, Group, HostPath, IdRange, Name, NameKind, NameRule, ObjectId, Uid, User};

use crate::config::{HostsConfig, PrimaryGroup};
use crate::ledger::{Entry, kind_text};
use crate::sources::SourceDirectory;
use given::Given;

/// An object that is not published, and why. It keeps its number.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LeftOut {
    /// User or group.
    pub kind: ObjectKind,
    /// The source's own id.
    pub id: String,
    /// The source's name for it.
    pub name: String,
    /// Why.
    pub reason: String,
}

impl std::fmt::Display for LeftOut {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "{} {:?} ({}): {}",
            kind_text(self.kind),
            self.name,
            self.id,
            self.reason
        )
    }
}

/// The numbers that are the ledger's to give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerNumbers {
    range: IdRange,
    groups: BTreeSet<u32>,
}

impl LedgerNumbers {
    /// The whole `range`. With `names_groups` the source may name groups that have a number in it among
    /// `lines` as somebody's primary group.
    #[must_use]
    pub fn of(range: IdRange, lines: &[Entry], names_groups: bool) -> Self {
        let groups = lines
            .iter()
            .filter(|line| line.object.kind == ObjectKind::Group && names_groups);
        Self {
            range,
            groups: groups.map(|line| line.number).collect(),
        }
    }

    fn has_number(&self, number: u32) -> bool {
        self.range.contains(number)
    }

    fn has_group(&self, number: u32) -> bool {
        self.groups.contains(&number)
    }
}

/// The source's objects under the names they have on hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapped {
    users: BTreeMap<ObjectId, MappedUser>,
    groups: BTreeMap<ObjectId, MappedGroup>,
    /// What is not published.
    pub left_out: Vec<LeftOut>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct MappedUser {
    name: Name,
    gecos: Gecos,
    given: Given,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct MappedGroup {
    name: Name,
    gid: Option<Gid>,
    members: Vec<ObjectId>,
}

impl Mapped {
    /// Applies the name rule. An object whose name the rule cannot map is left out, and so is every
    /// party of a collision: choosing one would give it the other's files.
    #[must_use]
    pub fn new(directory: &SourceDirectory, rule: &NameRule) -> Self {
        Self::with_ledger(directory, rule, None)
    }

    /// The same; a number that the source gives is refused when it is the `ledger`'s to give,
    /// and so is every party when two users, or two groups, have the same number.
    #[must_use]
    pub fn with_ledger(directory: &SourceDirectory, rule: &NameRule, ledger: Option<&LedgerNumbers>) -> Self {
        let mut mapped = Self::default();
        let given = mapped.given(directory, ledger);
        let gids = mapped.given_groups(directory, ledger);
        let users = directory.users().filter(|user| given.contains_key(user.id.as_str()));
        let users = users.map(|user| (user.id.as_str(), user.name.as_str()));
        let users = mapped.names(ObjectKind::User, NameKind::User, users, rule);
        let groups = directory.groups().filter(|group| gids.contains_key(group.id.as_str()));
        let groups = groups.map(|group| (group.id.as_str(), group.name.as_str()));
        let groups = mapped.names(ObjectKind::Group, NameKind::Group, groups, rule);
        for user in directory.users() {
            if let Some((id, name)) = users.get(user.id.as_str()) {
                let gecos = Gecos::sanitise(user.display_name.as_deref().unwrap_or(&user.name));
                let name = name.clone();
                let given = given.get(user.id.as_str()).cloned().unwrap_or_default();
                mapped.users.insert(id.clone(), MappedUser { name, gecos, given });
            }
        }
        for group in directory.groups() {
            if let Some((id, name)) = groups.get(group.id.as_str()) {
                let members = directory.members(&group.id).filter_map(|member| users.get(member));
                let members = members.map(|(id, _)| id.clone()).collect();
                let name = name.clone();
                let gid = gids.get(group.id.as_str()).copied().flatten();
                mapped.groups.insert(id.clone(), MappedGroup { name, gid, members });
            }
        }
        mapped
    }

    /// What the source gives each user that can be published.
    fn given<'a>(&mut self, directory: &'a SourceDirectory, ledger: Option<&LedgerNumbers>) -> HashMap<&'a str, Given> {
        let numbers = directory.users();
        let numbers = numbers.filter_map(|user| Some((user.id.as_str(), user.posix.uid?)));
        let shared = given::shared(numbers);
        let mut all = HashMap::new();
        for user in directory.users() {
            let made = if shared.contains(user.id.as_str()) {
                Err("its uid is another user's too (none is published)".to_owned())
            } else {
                Given::of(user, ledger)
            };
            match made {
                Ok(given) => {
                    let bad = given::bad_keys(user);
                    if bad > 0 {
                        tracing::warn!(event = "key.left_out", id = %user.id, bad, "{bad} lines are no SSH keys");
                    }
                    all.insert(user.id.as_str(), given);
                }
                Err(reason) => self.leave_out(ObjectKind::User, &user.id, &user.name, reason),
            }
        }
        all
    }

    /// The number that the source gives each group that can be published, where it gives one.
    fn given_groups<'a>(
        &mut self,
        directory: &'a SourceDirectory,
        ledger: Option<&LedgerNumbers>,
    ) -> HashMap<&'a str, Option<Gid>> {
        let numbers = directory.groups();
        let shared = given::shared(numbers.filter_map(|group| Some((group.id.as_str(), group.gid?))));
        let mut all = HashMap::new();
        for group in directory.groups() {
            let made = if shared.contains(group.id.as_str()) {
                Err("its gid is another group's too (none is published)".to_owned())
            } else {
                group.gid.map(|number| given::group_number(number, ledger)).transpose()
            };
            match made {
                Ok(gid) => {
                    all.insert(group.id.as_str(), gid);
                }
                Err(reason) => self.leave_out(ObjectKind::Group, &group.id, &group.name, reason),
            }
        }
        all
    }

    fn leave_out(&mut self, kind: ObjectKind, id: &str, name: &str, reason: String) {
        let (id, name) = (id.to_owned(), name.to_owned());
        self.left_out.push(LeftOut { kind, id, name, reason });
    }

    fn names<'a>(
        &mut self,
        kind: ObjectKind,
        rule_kind: NameKind,
        objects: impl Iterator<Item = (&'a str, &'a str)>,
        rule: &NameRule,
    ) -> HashMap<&'a str, (ObjectId, Name)> {
        let mut by_name: BTreeMap<Name, Vec<(ObjectId, &str, &str)>> = BTreeMap::new();
        let mut refused = Vec::new();
        for (id, raw) in objects {
            match (ObjectId::parse(id), rule.apply(rule_kind, raw)) {
                (Ok(object), Ok(name)) => by_name.entry(name).or_default().push((object, id, raw)),
                (Err(error), _) => refused.push((id, raw, format!("its object id {error}"))),
                (_, Err(error)) => refused.push((
                    id,
                    raw,
                    format!("the name {error} after the [names] rule; rename it, or give it one in [names.map]"),
                )),
            }
        }
        let mut names = HashMap::new();
        for (name, mut claims) in by_name {
            if claims.len() == 1 {
                names.extend(claims.drain(..).map(|(object, id, _)| (id, (object, name.clone()))));
                continue;
            }
            let all: Vec<&str> = claims.iter().map(|(_, _, raw)| *raw).collect();
            let reason = format!(
                "{all:?} all become {name:?}; rename all but one, or give them names in [names.map] (none is published)"
            );
            refused.extend(claims.into_iter().map(|(_, id, raw)| (id, raw, reason.clone())));
        }
        self.left_out
            .extend(refused.into_iter().map(|(id, name, reason)| LeftOut {
                kind,
                id: id.to_owned(),
                name: name.to_owned(),
                reason,
            }));
        names
    }

    /// Every object to publish that the source gives no number, with its name: what the ledger has
    /// to have numbers for.
    #[must_use]
    pub fn live(&self) -> BTreeMap<(ObjectKind, ObjectId), String> {
        let users = self
            .users
            .iter()
            .filter(|(_, user)| user.given.uid.is_none())
            .map(|(id, user)| ((ObjectKind::User, id.clone()), user.name.to_string()));
        let groups = self
            .groups
            .iter()
            .filter(|(_, group)| group.gid.is_none())
            .map(|(id, group)| ((ObjectKind::Group, id.clone()), group.name.to_string()));
        users.chain(groups).collect()
    }

    /// How many users and groups are to be published.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.users.len(), self.groups.len())
    }

    /// The snapshot, without what it says of itself. `numbers` is the ledger's answer to
    /// [`Mapped::live`] and `ledger` all its lines of this source.
    ///
    /// # Errors
    /// When a number is missing or is no id: the ledger and this do not belong together.
    pub fn document(
        &self,
        numbers: &BTreeMap<(ObjectKind, ObjectId), u32>,
        ledger: &[&Entry],
        primary: PrimaryGroup,
        hosts: &HostsConfig,
    ) -> Result<Document, NoNumber> {
        let number = |kind, id: &ObjectId| {
            let missing = || NoNumber(format!("{} {id}", kind_text(kind)));
            numbers.get(&(kind, id.clone())).copied().ok_or_else(missing)
        };
        let refused = |error: &dyn std::fmt::Display| NoNumber(error.to_string());
        let mut first_group: HashMap<&ObjectId, Gid> = HashMap::new();
        let mut groups = Vec::with_capacity(self.groups.len());
        for (id, group) in &self.groups {
            let gid = match group.gid {
                Some(gid) => gid,
                None => Gid::parse(number(ObjectKind::Group, id)?).map_err(|error| refused(&error))?,
            };
            for member in &group.members {
                first_group.entry(member).or_insert(gid);
            }
            let members = group.members.iter().filter_map(|member| self.users.get(member));
            groups.push(Group {
                name: group.name.clone(),
                gid,
                members: members.map(|user| user.name.clone()).collect(),
                id: Some(id.clone()),
            });
        }
        let mut ssh_keys = BTreeMap::new();
        let mut users = Vec::with_capacity(self.users.len());
        for (id, user) in &self.users {
            let uid = match user.given.uid {
                Some(uid) => uid,
                None => Uid::parse(number(ObjectKind::User, id)?).map_err(|error| refused(&error))?,
            };
            if !user.given.keys.is_empty() {
                ssh_keys.insert(user.name.clone(), user.given.keys.join("\n"));
            }
            let given = first_group.get(id).filter(|_| primary == PrimaryGroup::FirstGroup);
            let own_home = format!("{}/{}", hosts.home_folder.trim_end_matches('/'), user.name);
            users.push(User {
                name: user.name.clone(),
                uid,
                gid: user.given.gid.or(given.copied()).unwrap_or_else(|| Gid::from(uid)),
                gecos: user.gecos.clone(),
                home: match &user.given.home {
                    Some(home) => home.clone(),
                    None => HostPath::parse(&own_home).map_err(|error| refused(&error))?,
                },
                shell: match &user.given.shell {
                    Some(shell) => shell.clone(),
                    None => HostPath::parse(&hosts.shell).map_err(|error| refused(&error))?,
                },
                id: Some(id.clone()),
            });
        }
        Ok(Document {
            meta: Meta::default(),
            users,
            groups,
            ssh_keys,
            retired: retired(numbers, ledger),
            ..Document::default()
        })
    }
}

/// The ledger's lines whose objects are not published, so that the snapshot carries the whole ledger.
fn retired(numbers: &BTreeMap<(ObjectKind, ObjectId), u32>, ledger: &[&Entry]) -> Vec<Retired> {
    let live: BTreeSet<u32> = numbers.values().copied().collect();
    let gone = ledger.iter().filter(|entry| !live.contains(&entry.number));
    gone.map(|entry| Retired {
        kind: entry.object.kind,
        id: entry.object.id.clone(),
        number: entry.number,
        name: Some(entry.last_name.clone()),
    })
    .collect()
}

/// An object without a usable number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no snapshot can be made: {0}")]
pub struct NoNumber(String);

/// The digest of a snapshot's content: of everything but its sequence number and time, which
/// differ each time although nothing changed.
///
/// # Errors
/// When writing to memory fails.
pub fn digest(document: &Document) -> std::io::Result<String> {
    Ok(dirless_seal::sha256_hex(&content(document)?))
}

/// The same, and what is published of `document` under this number and time.
///
/// # Errors
/// When writing to memory fails.
pub fn numbered(document: &Document, sequence: u64, at: &str) -> std::io::Result<(String, Vec<u8>)> {
    let content = content(document)?;
    let text = dirless_model::snapshot::stamped(&content, sequence, at);
    Ok((dirless_seal::sha256_hex(&content), text))
}

fn content(document: &Document) -> std::io::Result<Vec<u8>> {
    let meta = Meta {
        sequence: None,
        generated_at: None,
        ..document.meta.clone()
    };
    let mut bytes = Vec::new();
    dirless_model::snapshot::write_as(document, &meta, &mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::tests::{directory, group, user};

    fn numbered(mapped: &Mapped) -> BTreeMap<(ObjectKind, ObjectId), u32> {
        mapped.live().into_keys().zip(2001..).collect()
    }

    fn make(mapped: &Mapped, primary: PrimaryGroup) -> Document {
        mapped
            .document(&numbered(mapped), &[], primary, &HostsConfig::default())
            .unwrap()
    }

    #[test]
    fn names_are_mapped_and_members_follow() {
        let mut alice = user("u1", "Alice@corp.example");
        alice.display_name = Some("Alice: the\nfirst".to_owned());
        let source = directory(
            vec![alice, user("u2", "bob")],
            vec![(group("g1", "Engineering Team"), vec!["u2", "u1"])],
        );
        let mapped = Mapped::new(&source, &NameRule::default());
        let document = make(&mapped, PrimaryGroup::Private);
        assert_eq!(document.users[0].name.as_str(), "alice");
        assert_eq!(document.users[0].gecos.as_str(), "Alice  the first");
        assert_eq!(document.users[0].home.as_str(), "/home/alice");
        assert_eq!(document.users[0].gid.number(), document.users[0].uid.number());
        assert_eq!(document.groups[0].name.as_str(), "engineering-team");
        let members: Vec<_> = document.groups[0].members.iter().map(Name::as_str).collect();
        assert_eq!(members, ["alice", "bob"]);
        assert!(mapped.left_out.is_empty());
    }

    #[test]
    fn all_parties_of_a_collision_are_left_out_and_named() {
        let source = directory(
            vec![
                user("u1", "Alice"),
                user("u2", "alice@corp"),
                user("u3", "bob"),
                user("u4", "no name"),
            ],
            vec![
                (group("g1", "Ops"), vec!["u1", "u3"]),
                (group("g2", "x:0:root"), vec![]),
            ],
        );
        let mapped = Mapped::new(&source, &NameRule::default());
        assert_eq!(mapped.counts(), (1, 1));
        assert_eq!(mapped.left_out.len(), 4);
        let text = mapped
            .left_out
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n");
        assert!(
            text.contains("alice@corp") && text.contains("no name") && text.contains("x:0:root"),
            "{text}"
        );
        let document = make(&mapped, PrimaryGroup::Private);
        assert_eq!(document.groups[0].members.len(), 1, "who is left out is no member");
    }

    #[test]
    fn the_first_group_can_be_the_primary_one_as_deployed_syncers_have_it() {
        let source = directory(
            vec![user("u1", "alice"), user("u2", "bob")],
            vec![
                (group("g1", "a"), vec![]),
                (group("g2", "b"), vec!["u1"]),
                (group("g3", "c"), vec!["u1"]),
            ],
        );
        let document = make(&Mapped::new(&source, &NameRule::default()), PrimaryGroup::FirstGroup);
        assert_eq!(document.users[0].gid, document.groups[1].gid);
        assert_eq!(document.users[1].gid.number(), document.users[1].uid.number());
    }

    #[test]
    fn the_digest_tells_content_from_time() {
        let source = directory(vec![user("u1", "alice")], vec![]);
        let mut document = make(&Mapped::new(&source, &NameRule::default()), PrimaryGroup::Private);
        let first = digest(&document).unwrap();
        document.meta.sequence = Some(9);
        document.meta.generated_at = Some("2026-05-31T00:00:00Z".to_owned());
        assert_eq!(digest(&document).unwrap(), first);
        document.users.clear();
        assert_ne!(digest(&document).unwrap(), first);
    }

    #[test]
    fn a_missing_number_makes_no_snapshot() {
        let mapped = Mapped::new(&directory(vec![user("u1", "alice")], vec![]), &NameRule::default());
        let made = mapped.document(&BTreeMap::new(), &[], PrimaryGroup::Private, &HostsConfig::default());
        assert!(made.is_err());
    }
}
