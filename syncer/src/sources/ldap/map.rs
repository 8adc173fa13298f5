//! From entries to people and groups. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use dirless_directory::Dn;

use super::config::{Layout, Nested, Preset};
use super::nesting::{Member, expand};
use super::record::{Record, guid, rid};
use crate::sources::{Posix, SourceError, SourceGroup, SourceUser};

/// `userAccountControl`: the account is disabled (MS-ADTS 2.2.16, ADS_UF_ACCOUNT_DISABLE).
const DISABLED: u32 = 0x2;

/// Everything that was read, in our terms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    /// The users.
    pub users: Vec<SourceUser>,
    /// The groups.
    pub groups: Vec<SourceGroup>,
    /// User ids by group id.
    pub members: BTreeMap<String, BTreeSet<String>>,
}

/// Maps `users` and `groups`. `chains` has the user ids that a server found in each group, by group
/// id, when it was asked to resolve groups in groups. `today` is the day since 1970 that
/// shadowExpire is compared with.
///
/// # Errors
/// [`SourceError::Inconsistent`] for an entry without id or with a list that the server cut.
pub fn map(
    layout: &Layout,
    roles: &BTreeMap<String, String>,
    users: &[Record],
    groups: &[Record],
    chains: &BTreeMap<String, BTreeSet<String>>,
    today: i64,
) -> Result<Mapping, SourceError> {
    let mut mapping = Mapping::default();
    let mut people = People::default();
    for record in users {
        let user = user(layout, record, today)?;
        people.note(record, &user);
        mapping.users.push(user);
    }
    let mut direct: BTreeMap<String, Vec<Member>> = BTreeMap::new();
    let mut teams: HashMap<String, String> = HashMap::new();
    for record in groups {
        teams.insert(key_of(&record.dn), id(layout, record)?);
    }
    for record in groups {
        let id = id(layout, record)?;
        if record.is_cut(&layout.member) {
            return Err(SourceError::Inconsistent(format!(
                "the server cut the {} list of {} into ranges; set nested = \"in-chain\" for this source",
                layout.member, record.dn
            )));
        }
        let mut members: Vec<Member> = record
            .texts(&layout.member)
            .filter_map(|text| people.find(text, &teams))
            .collect();
        if let Some(rid) = record.values("objectSid").first().and_then(|sid| rid(sid)) {
            let primary = people.by_primary.get(&rid).into_iter().flatten();
            members.extend(primary.cloned().map(Member::User));
        }
        members.extend(chains.get(&id).into_iter().flatten().cloned().map(Member::User));
        direct.insert(id.clone(), members);
        let name = record.text(&layout.group_name).unwrap_or_default();
        mapping.groups.push(SourceGroup {
            id,
            name: name.to_owned(),
            gid: number(layout, record, &layout.gid_number),
            roles: roles.get(name).cloned().into_iter().collect(),
        });
    }
    mapping.members = match layout.nested {
        Nested::Expand => expand(&direct),
        Nested::None | Nested::InChain => direct
            .into_iter()
            .map(|(id, members)| (id, members.into_iter().filter_map(Member::user).collect()))
            .collect(),
    };
    Ok(mapping)
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
            "{} has no usable {}; give the bind DN the right to read it, or name another attribute with [attributes] id",
            record.dn, layout.id
        ))
    })
}

fn user(layout: &Layout, record: &Record, today: i64) -> Result<SourceUser, SourceError> {
    let text = |name: &str| record.text(name).map(ToOwned::to_owned);
    Ok(SourceUser {
        id: id(layout, record)?,
        name: text(&layout.user_name).unwrap_or_default(),
        display_name: text(&layout.display_name),
        email: text(&layout.email),
        enabled: enabled(layout, record, today),
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

fn enabled(layout: &Layout, record: &Record, today: i64) -> bool {
    match layout.preset {
        Preset::Ad => {
            // Flags are a signed number on the wire; one that cannot be read locks nobody in.
            let flags = record.text("userAccountControl").map(str::parse::<i32>);
            matches!(flags, Some(Ok(flags)) if flags.cast_unsigned() & DISABLED == 0)
        }
        Preset::Rfc2307 | Preset::Rfc2307bis => {
            let expired = record.text("shadowExpire").and_then(|text| text.parse::<i64>().ok());
            // shadow(5): days since 1970; -1 or nothing is never.
            !record.has("pwdAccountLockedTime") && !expired.is_some_and(|day| day >= 0 && day <= today)
        }
    }
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
    let mut keys: Vec<String> = ours.collect();
    if layout.preset == Preset::Ad && !layout.keys.eq_ignore_ascii_case("sshPublicKey") {
        keys.extend(record.texts("sshPublicKey").map(|text| text.trim().to_owned()));
    }
    keys
}

/// Ways to find a user by what a group says of it.
#[derive(Default)]
struct People {
    by_dn: HashMap<String, String>,
    by_name: HashMap<String, String>,
    by_primary: BTreeMap<u32, Vec<String>>,
}

impl People {
    fn note(&mut self, record: &Record, user: &SourceUser) {
        self.by_dn.insert(key_of(&record.dn), user.id.clone());
        self.by_name.insert(user.name.clone(), user.id.clone());
        if let Some(rid) = record.text("primaryGroupID").and_then(|text| text.parse().ok()) {
            self.by_primary.entry(rid).or_default().push(user.id.clone());
        }
    }

    /// A member is a login name (memberUid) or the name of an entry (member, uniqueMember).
    fn find(&self, text: &str, teams: &HashMap<String, String>) -> Option<Member> {
        if let Some(id) = self.by_name.get(text) {
            return Some(Member::User(id.clone()));
        }
        let key = key_of(text);
        let user = self.by_dn.get(&key).cloned().map(Member::User);
        user.or_else(|| teams.get(&key).cloned().map(Member::Group))
    }
}

/// One key for all spellings of a name; a text that is no name is its own.
fn key_of(dn: &str) -> String {
    match Dn::parse(dn) {
        Ok(parsed) => parsed.to_string().to_lowercase(),
        Err(_) => dn.to_lowercase(),
    }
}
