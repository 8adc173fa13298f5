//! The mass-change guard: a change that looks like an accident waits for a person. Pure.

use std::collections::BTreeMap;

use crate::shape::{GroupShape, Shape, UserShape};

/// One entry that differs between two snapshots.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Change {
    /// The object's key.
    pub key: String,
    /// Its name, the old one where there was one.
    pub name: String,
    /// What differs, as `field old -> new`; empty for what appears or disappears.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<String>,
}

/// What differs between the entries of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Changes {
    /// Entries that appear.
    pub added: Vec<Change>,
    /// Entries that disappear.
    pub removed: Vec<Change>,
    /// Entries that stay but differ.
    pub changed: Vec<Change>,
}

/// Everything that differs between what is published and what would be.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Difference {
    /// Among users.
    pub users: Changes,
    /// Among groups, but for their members.
    pub groups: Changes,
    /// Memberships that appear, as `group: member`.
    pub joined: Vec<String>,
    /// Memberships that disappear from groups that stay, of users who stay.
    pub left: Vec<String>,
    /// How many memberships disappear besides, with users or groups that do.
    #[serde(default, skip_serializing_if = "is_none")]
    pub ended: usize,
    /// Among the tree's entries that are neither users nor groups.
    #[serde(default, skip_serializing_if = "Changes::is_empty")]
    pub entries: Changes,
}

fn is_none(count: &usize) -> bool {
    *count == 0
}

impl Changes {
    /// Is there none?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

impl Difference {
    /// What leads from `before` to `after`. When `before` has no object ids, names are compared.
    #[must_use]
    pub fn between(before: &Shape, after: &Shape) -> Self {
        let by_name;
        let after = if Self::compares_names(before) {
            by_name = after.keyed_by_name();
            &by_name
        } else {
            after
        };
        let mut difference = Self {
            users: compare(&before.users, &after.users, |user| &user.name, user_fields),
            groups: compare(&before.groups, &after.groups, |group| &group.name, group_fields),
            ..Self::default()
        };
        for (key, group) in &after.groups {
            let old = before.groups.get(key).map(|group| &group.members);
            for member in &group.members {
                if old.is_none_or(|old| !old.contains(member)) {
                    difference
                        .joined
                        .push(format!("{}: {}", group.name, user_name(after, member)));
                }
            }
            // Who is gone altogether is counted among the users.
            for member in old.into_iter().flatten() {
                if !group.members.contains(member) && after.users.contains_key(member) {
                    difference
                        .left
                        .push(format!("{}: {}", group.name, user_name(before, member)));
                }
            }
        }
        difference.ended = ended(before, after);
        difference
    }

    /// Has `before` no object ids, so that names are compared?
    #[must_use]
    pub fn compares_names(before: &Shape) -> bool {
        let mut keys = before.users.keys().chain(before.groups.keys());
        keys.all(|key| key.starts_with("name:"))
    }

    /// Is there none?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
            && self.groups.is_empty()
            && self.joined.is_empty()
            && self.left.is_empty()
            && self.entries.is_empty()
    }

    /// The name of exactly this change: any other difference has another one.
    #[must_use]
    pub fn id(&self) -> String {
        let text = serde_json::to_vec(self).unwrap_or_default();
        dirless_seal::sha256_hex(&text).chars().take(12).collect()
    }

    /// One line with all counts.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut text = format!(
            "users +{} -{} ~{}, groups +{} -{} ~{}, memberships +{} -{}",
            self.users.added.len(),
            self.users.removed.len(),
            self.users.changed.len(),
            self.groups.added.len(),
            self.groups.removed.len(),
            self.groups.changed.len(),
            self.joined.len(),
            self.left.len() + self.ended
        );
        if !self.entries.is_empty() {
            let Changes {
                added,
                removed,
                changed,
            } = &self.entries;
            text.push_str(&format!(
                ", entries +{} -{} ~{}",
                added.len(),
                removed.len(),
                changed.len()
            ));
        }
        text
    }
}

fn user_name<'a>(shape: &'a Shape, key: &'a str) -> &'a str {
    shape.users.get(key).map_or(key, |user| &user.name)
}

fn compare<T>(
    before: &BTreeMap<String, T>,
    after: &BTreeMap<String, T>,
    name: impl Fn(&T) -> &String,
    fields: impl Fn(&T, &T) -> Vec<String>,
) -> Changes {
    let change = |key: &String, entry: &T, fields| Change {
        key: key.clone(),
        name: name(entry).clone(),
        fields,
    };
    let mut changes = Changes::default();
    for (key, new) in after {
        match before.get(key) {
            None => changes.added.push(change(key, new, Vec::new())),
            Some(old) => {
                let fields = fields(old, new);
                if !fields.is_empty() {
                    changes.changed.push(change(key, old, fields));
                }
            }
        }
    }
    let gone = before.iter().filter(|(key, _)| !after.contains_key(*key));
    changes.removed = gone.map(|(key, old)| change(key, old, Vec::new())).collect();
    changes
}

fn user_fields(old: &UserShape, new: &UserShape) -> Vec<String> {
    let mut fields = Vec::new();
    let mut note = |field: &str, old: &dyn std::fmt::Display, new: &dyn std::fmt::Display| {
        let (old, new) = (old.to_string(), new.to_string());
        if old != new {
            fields.push(format!("{field} {old} -> {new}"));
        }
    };
    note("name", &old.name, &new.name);
    note("uid", &old.uid, &new.uid);
    note("gid", &old.gid, &new.gid);
    note("gecos", &old.gecos, &new.gecos);
    note("home", &old.home, &new.home);
    note("shell", &old.shell, &new.shell);
    fields
}

fn group_fields(old: &GroupShape, new: &GroupShape) -> Vec<String> {
    let mut fields = Vec::new();
    if old.name != new.name {
        fields.push(format!("name {} -> {}", old.name, new.name));
    }
    if old.gid != new.gid {
        fields.push(format!("gid {} -> {}", old.gid, new.gid));
    }
    fields
}

/// Memberships of users and groups that are gone altogether.
fn ended(before: &Shape, after: &Shape) -> usize {
    let of = |(key, group): (&String, &GroupShape)| match after.groups.contains_key(key) {
        false => group.members.len(),
        true => {
            let gone = |member: &&String| !after.users.contains_key(*member);
            group.members.iter().filter(gone).count()
        }
    };
    before.groups.iter().map(of).sum()
}

/// What the guard says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Go on.
    Publish,
    /// Wait for a person, for these reasons.
    Hold(Vec<String>),
}

/// Looks at the change from `before` (nothing was ever published: `None`) to `after`.
///
/// Held back is a directory without a user, and a change in which more than `percent` of the users
/// or groups vanish or change, or of the memberships end. Directories under ten entries are treated as if they
/// had ten: with the default of 20 %, two may go at a time.
pub fn judge(before: Option<&Shape>, after: &Shape, difference: &Difference, percent: u8) -> Verdict {
    let mut reasons = Vec::new();
    if after.users.is_empty() {
        let was = before.map_or(0, |before| before.users.len());
        reasons.push(format!("the source shows no user at all ({was} are published)"));
    }
    if let Some(before) = before {
        let users = before.users.len();
        let groups = before.groups.len();
        let counts = [
            (difference.users.removed.len(), users, "users disappear"),
            (difference.users.changed.len(), users, "users change"),
            (difference.groups.removed.len(), groups, "groups disappear"),
            (difference.groups.changed.len(), groups, "groups change"),
            (difference.left.len(), before.memberships(), "memberships end"),
        ];
        for (count, of, what) in counts {
            let allowed = of.max(10) * usize::from(percent) / 100;
            if count > allowed {
                reasons.push(format!(
                    "{count} of {of} {what}, more than the {allowed} that [guard] percent = {percent} lets pass"
                ));
            }
        }
    }
    if reasons.is_empty() {
        Verdict::Publish
    } else {
        Verdict::Hold(reasons)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shape(users: std::ops::Range<u32>, groups: std::ops::Range<u32>) -> Shape {
        let user = |n: u32| UserShape {
            name: format!("user{n}"),
            uid: 2000 + n,
            gid: 2000 + n,
            gecos: String::new(),
            home: format!("/home/user{n}"),
            shell: "/bin/bash".to_owned(),
        };
        let group = |n: u32| GroupShape {
            name: format!("group{n}"),
            gid: 9000 + n,
            members: users.clone().map(|n| format!("u{n}")).collect(),
        };
        Shape {
            users: users.clone().map(|n| (format!("u{n}"), user(n))).collect(),
            groups: groups.map(|n| (format!("g{n}"), group(n))).collect(),
        }
    }

    fn verdict(before: &Shape, after: &Shape, percent: u8) -> Verdict {
        judge(Some(before), after, &Difference::between(before, after), percent)
    }

    #[test]
    fn up_to_a_fifth_may_go_and_not_one_more() {
        let before = shape(0..100, 0..1);
        assert_eq!(verdict(&before, &shape(20..100, 0..1), 20), Verdict::Publish);
        let Verdict::Hold(reasons) = verdict(&before, &shape(21..100, 0..1), 20) else {
            panic!("21 of 100 may not go");
        };
        assert!(reasons[0].contains("21 of 100 users disappear"), "{reasons:?}");
        assert_eq!(
            verdict(&before, &shape(0..500, 0..9), 20),
            Verdict::Publish,
            "growth is no accident"
        );
    }

    #[test]
    fn small_directories_count_as_ten() {
        let before = shape(0..3, 0..1);
        assert_eq!(verdict(&before, &shape(2..3, 0..1), 20), Verdict::Publish);
        assert!(matches!(
            verdict(&shape(0..4, 0..1), &shape(3..4, 0..1), 20),
            Verdict::Hold(_)
        ));
        assert!(matches!(verdict(&before, &shape(1..3, 0..1), 0), Verdict::Hold(_)));
        assert_eq!(
            verdict(&before, &shape(0..3, 0..0), 20),
            Verdict::Publish,
            "the only group may go"
        );
    }

    #[test]
    fn nobody_at_all_is_always_held_back() {
        let nobody = shape(0..0, 0..0);
        assert!(matches!(verdict(&shape(0..1, 0..1), &nobody, 100), Verdict::Hold(_)));
        assert!(matches!(verdict(&nobody, &nobody, 20), Verdict::Hold(_)));
        assert!(matches!(
            judge(None, &nobody, &Difference::default(), 20),
            Verdict::Hold(_)
        ));
        assert_eq!(
            judge(None, &shape(0..5, 0..1), &Difference::default(), 20),
            Verdict::Publish
        );
    }

    #[test]
    fn renumbering_everybody_is_a_change_even_when_names_stay() {
        let before = shape(0..50, 0..2).keyed_by_name();
        let mut after = shape(0..50, 0..2);
        assert!(Difference::between(&before, &after).is_empty());
        for user in after.users.values_mut() {
            user.uid += 50_000;
        }
        assert!(matches!(verdict(&before, &after, 20), Verdict::Hold(_)));
    }

    #[test]
    fn members_who_leave_count_unless_they_are_gone_altogether() {
        let before = shape(0..100, 0..1);
        let mut after = before.clone();
        let group = after.groups.get_mut("g0").unwrap();
        group.members.retain(|member| member.len() > 2);
        assert_eq!(Difference::between(&before, &after).left.len(), 10);
        after.groups.get_mut("g0").unwrap().members.clear();
        assert!(matches!(verdict(&before, &after, 20), Verdict::Hold(_)));
        let gone = Difference::between(&before, &shape(0..95, 0..1));
        assert!(gone.left.is_empty() && gone.summary().ends_with("memberships +0 -5"));
        let without = Difference::between(&before, &shape(0..100, 0..0));
        assert_eq!((without.left.len(), without.ended), (0, 100));
    }

    #[test]
    fn another_change_has_another_id() {
        let before = shape(0..100, 0..2);
        let one = Difference::between(&before, &shape(50..100, 0..2));
        let same = Difference::between(&before, &shape(50..100, 0..2));
        let other = Difference::between(&before, &shape(51..100, 0..2));
        assert_eq!(one.id(), same.id());
        assert_ne!(one.id(), other.id());
        assert_eq!(one.id().len(), 12);
        assert_eq!(one.summary(), "users +0 -50 ~0, groups +0 -0 ~0, memberships +0 -100");
    }

    proptest! {
        #[test]
        fn the_difference_is_empty_exactly_when_nothing_differs(a in 0_u32..30, b in 0_u32..30, groups in 0_u32..3) {
            let (before, after) = (shape(0..a, 0..groups), shape(0..b, 0..groups));
            let difference = Difference::between(&before, &after);
            prop_assert_eq!(difference.is_empty(), before == after);
            prop_assert_eq!(difference.users.added.len() as u32, b.saturating_sub(a));
            prop_assert_eq!(difference.users.removed.len() as u32, a.saturating_sub(b));
        }
    }
}
