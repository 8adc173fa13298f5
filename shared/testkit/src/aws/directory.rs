use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

/// A person at the stand-in, as the API knows one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// `UserName`.
    pub name: String,
    /// `DisplayName`, left out of replies when empty.
    pub display_name: String,
    /// The primary address, left out of replies when empty.
    pub email: String,
    /// `UserStatus`: absent, `ENABLED` or `DISABLED`.
    pub enabled: Option<bool>,
}

/// A group at the stand-in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// `DisplayName`.
    pub name: String,
    /// User ids of the members.
    pub members: BTreeSet<String>,
}

/// Everything that one identity store holds, by object id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    /// Users by `UserId`.
    pub users: BTreeMap<String, User>,
    /// Groups by `GroupId`.
    pub groups: BTreeMap<String, Group>,
}

impl Directory {
    /// Adds or replaces an enabled user.
    pub fn user(&mut self, id: &str, name: &str) -> &mut User {
        let user = User {
            name: name.to_owned(),
            display_name: format!("{name} Example"),
            ..User::default()
        };
        self.users.insert(id.to_owned(), user);
        self.users.get_mut(id).expect("inserted by the line above")
    }

    /// Adds or replaces a group with `members` (user ids).
    pub fn group(&mut self, id: &str, name: &str, members: &[&str]) -> &mut Group {
        let group = Group {
            name: name.to_owned(),
            members: members.iter().map(|member| (*member).to_owned()).collect(),
        };
        self.groups.insert(id.to_owned(), group);
        self.groups.get_mut(id).expect("inserted by the line above")
    }

    /// Removes a user and every membership of theirs, as the API does.
    pub fn remove_user(&mut self, id: &str) {
        self.users.remove(id);
        for group in self.groups.values_mut() {
            group.members.remove(id);
        }
    }

    /// `users` people and `groups` groups, each person in one group (round robin).
    #[must_use]
    pub fn sized(users: usize, groups: usize) -> Self {
        let mut directory = Self::default();
        for number in 0..groups {
            directory.group(&group_id(number), &format!("Group {number:05}"), &[]);
        }
        for number in 0..users {
            let id = user_id(number);
            directory.user(&id, &format!("user{number:06}@example.com"));
            if groups > 0
                && let Some(group) = directory.groups.get_mut(&group_id(number % groups))
            {
                group.members.insert(id);
            }
        }
        directory
    }
}

/// The id that [`Directory::sized`] gives to user `number`; ids do not sort by number, as in life.
#[must_use]
pub fn user_id(number: usize) -> String {
    format!("{:08x}-0000-4000-8000-{number:012x}", scatter(number))
}

/// The id that [`Directory::sized`] gives to group `number`.
#[must_use]
pub fn group_id(number: usize) -> String {
    format!("{:08x}-1111-4000-8000-{number:012x}", scatter(number))
}

/// Multiplication by an odd constant permutes the 32-bit numbers (Knuth's multiplicative hash).
fn scatter(number: usize) -> u32 {
    u32::try_from(number & 0xffff_ffff)
        .unwrap_or(0)
        .wrapping_mul(2_654_435_761)
}

/// One page: the entries after `token` in id order, and the token of the next page if there is one.
pub(super) fn page<'a, V>(
    entries: impl Iterator<Item = (&'a String, V)>,
    size: usize,
    render: impl Fn(&str, V) -> Value,
) -> (Vec<Value>, Option<String>) {
    let mut rendered = Vec::with_capacity(size);
    let mut last = None;
    for (id, value) in entries {
        if rendered.len() == size {
            return (rendered, last);
        }
        rendered.push(render(id, value));
        last = Some(id.clone());
    }
    (rendered, None)
}

/// Sets `key` of the object `value`; anything else is left alone.
pub(super) fn set(value: &mut Value, key: &str, to: Value) {
    if let Some(object) = value.as_object_mut() {
        object.insert(key.to_owned(), to);
    }
}

pub(super) fn render_user(store: &str, id: &str, user: &User) -> Value {
    let mut value = json!({
        "IdentityStoreId": store,
        "UserId": id,
        "UserName": user.name,
        "Name": {"GivenName": user.name, "FamilyName": "Example"},
    });
    if !user.display_name.is_empty() {
        set(&mut value, "DisplayName", json!(user.display_name));
    }
    if !user.email.is_empty() {
        set(
            &mut value,
            "Emails",
            json!([{"Value": user.email, "Type": "work", "Primary": true}]),
        );
    }
    if let Some(enabled) = user.enabled {
        set(
            &mut value,
            "UserStatus",
            json!(if enabled { "ENABLED" } else { "DISABLED" }),
        );
    }
    value
}

pub(super) fn render_group(store: &str, id: &str, group: &Group) -> Value {
    json!({"IdentityStoreId": store, "GroupId": id, "DisplayName": group.name})
}

pub(super) fn render_membership(store: &str, group: &str, user: &str) -> Value {
    json!({
        "IdentityStoreId": store,
        "MembershipId": format!("m-{group}-{user}"),
        "GroupId": group,
        "MemberId": {"UserId": user},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_cover_everything_once_and_end_without_a_token() {
        let directory = Directory::sized(250, 0);
        let mut seen = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let rest = directory
                .users
                .iter()
                .filter(|(id, _)| token.as_ref().is_none_or(|token| *id > token));
            let (entries, next) = page(rest, 100, |id, _| json!(id));
            seen.extend(entries);
            match next {
                Some(next) => token = Some(next),
                None => break,
            }
        }
        assert_eq!(seen.len(), 250);
        assert_eq!(seen, directory.users.keys().map(|id| json!(id)).collect::<Vec<_>>());
    }

    #[test]
    fn removing_a_user_removes_the_memberships() {
        let mut directory = Directory::sized(4, 2);
        directory.remove_user(&user_id(0));
        assert_eq!(directory.users.len(), 3);
        assert_eq!(
            directory
                .groups
                .values()
                .map(|group| group.members.len())
                .sum::<usize>(),
            3
        );
    }
}
