//! Groups in groups. Pure.

use std::collections::{BTreeMap, BTreeSet};

/// A direct member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Member {
    /// A user, by id.
    User(String),
    /// A group, by id.
    Group(String),
}

impl Member {
    pub(super) fn user(self) -> Option<String> {
        match self {
            Self::User(id) => Some(id),
            Self::Group(_) => None,
        }
    }
}

/// All users of each group, also those in groups in it at any depth. Groups that contain each other
/// have the same users; none makes this run forever.
#[must_use]
pub fn expand(direct: &BTreeMap<String, Vec<Member>>) -> BTreeMap<String, BTreeSet<String>> {
    let all = direct.keys().map(|start| {
        let mut users = BTreeSet::new();
        let mut seen = BTreeSet::from([start.as_str()]);
        let mut left = vec![start.as_str()];
        while let Some(group) = left.pop() {
            for member in direct.get(group).into_iter().flatten() {
                match member {
                    Member::User(id) => {
                        users.insert(id.clone());
                    }
                    Member::Group(id) => {
                        if seen.insert(id) {
                            left.push(id);
                        }
                    }
                }
            }
        }
        (start.clone(), users)
    });
    all.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn graph(edges: &[(&str, &[&str])]) -> BTreeMap<String, Vec<Member>> {
        edges
            .iter()
            .map(|(group, members)| {
                let members = members.iter().map(|text| match text.strip_prefix('@') {
                    Some(group) => Member::Group(group.to_owned()),
                    None => Member::User((*text).to_owned()),
                });
                ((*group).to_owned(), members.collect())
            })
            .collect()
    }

    #[test]
    fn users_of_inner_groups_are_users_of_the_outer_ones() {
        let expanded = expand(&graph(&[
            ("all", &["@eng", "@ops"]),
            ("eng", &["alice"]),
            ("ops", &["bob", "@gone"]),
        ]));
        assert_eq!(expanded["all"], BTreeSet::from(["alice".to_owned(), "bob".to_owned()]));
        assert_eq!(expanded["eng"].len(), 1);
    }

    #[test]
    fn a_circle_ends() {
        let expanded = expand(&graph(&[("a", &["@b", "x"]), ("b", &["@a", "y"]), ("c", &["@c"])]));
        assert_eq!(expanded["a"], expanded["b"]);
        assert_eq!(expanded["a"].len(), 2);
        assert!(expanded["c"].is_empty());
    }

    proptest! {
        /// The result is the smallest one that is closed: direct users are in, and the users of each
        /// inner group are users of the outer one.
        #[test]
        fn the_expansion_is_closed(edges in proptest::collection::vec((0u8..5, 0u8..5, any::<bool>()), 0..20)) {
            let mut direct: BTreeMap<String, Vec<Member>> = (0..5).map(|at: u8| (at.to_string(), Vec::new())).collect();
            for (group, member, is_user) in edges {
                let member = if is_user { Member::User(member.to_string()) } else { Member::Group(member.to_string()) };
                direct.get_mut(&group.to_string()).unwrap().push(member);
            }
            let expanded = expand(&direct);
            for (group, members) in &direct {
                for member in members {
                    match member {
                        Member::User(id) => prop_assert!(expanded[group].contains(id)),
                        Member::Group(id) => prop_assert!(expanded[id].is_subset(&expanded[group])),
                    }
                }
            }
        }
    }
}
