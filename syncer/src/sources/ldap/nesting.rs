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

/// All users of each group, also those in groups in it at any depth, of a directory that is trusted
/// not to nest for harm: files, not servers.
#[must_use]
pub fn expand(direct: &BTreeMap<String, Vec<Member>>) -> BTreeMap<String, BTreeSet<String>> {
    let group_at: BTreeMap<&str, u32> = direct.keys().map(String::as_str).zip(0..).collect();
    let mut names: Vec<&str> = Vec::new();
    let (mut users, mut inner) = (Vec::new(), Vec::new());
    for members in direct.values() {
        let (mut own, mut groups) = (Vec::new(), Vec::new());
        for member in members {
            match member {
                Member::User(id) => {
                    own.push(u32::try_from(names.len()).unwrap_or(u32::MAX));
                    names.push(id);
                }
                Member::Group(id) => groups.extend(group_at.get(id.as_str())),
            }
        }
        users.push(own);
        inner.push(groups);
    }
    // Without a bound there is no error.
    let resolved = resolve(&users, &inner, usize::MAX).unwrap_or_default();
    let named = |list: Vec<u32>| {
        list.iter()
            .filter_map(|at| names.get(*at as usize))
            .map(|id| (*id).to_owned())
            .collect()
    };
    direct.keys().cloned().zip(resolved.into_iter().map(named)).collect()
}

/// There are more memberships than one read may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the groups have more than {0} members together, inner groups counted; raise [limits] users if that is right")]
pub struct TooMany(pub usize);

/// All users of each group, also those in groups in it at any depth, in order and each once. `users`
/// has the direct users of each group and `inner` the groups in it, both by number. Groups that contain
/// each other have the same users; none makes this run for ever, and no shape of nesting makes it do
/// more work than a few times `most`.
///
/// # Errors
/// When there are more than `most` in all.
pub(super) fn resolve(users: &[Vec<u32>], inner: &[Vec<u32>], most: usize) -> Result<Vec<Vec<u32>>, TooMany> {
    let (component, count) = components(inner);
    let mut sets: Vec<Vec<u32>> = vec![Vec::new(); count];
    let mut by_component: Vec<Vec<usize>> = vec![Vec::new(); count];
    for (group, component) in component.iter().enumerate() {
        if let Some(groups) = by_component.get_mut(*component) {
            groups.push(group);
        }
    }
    let mut work = 0_usize;
    // Inner groups come before the groups that they are in.
    for (at, groups) in by_component.iter().enumerate() {
        let mut set = Vec::new();
        for group in groups {
            set.extend(users.get(*group).into_iter().flatten().copied());
            for inner in inner.get(*group).into_iter().flatten() {
                let other = component.get(*inner as usize).copied().unwrap_or(at);
                if other != at {
                    set.extend(sets.get(other).into_iter().flatten().copied());
                }
            }
            work = work.saturating_add(set.len());
            // Merged again and again before they are made unique: bounded like the outcome.
            if work > most.saturating_mul(4) {
                return Err(TooMany(most));
            }
        }
        set.sort_unstable();
        set.dedup();
        if let Some(place) = sets.get_mut(at) {
            *place = set;
        }
    }
    let size = |component: &usize| sets.get(*component).map_or(0, Vec::len);
    if component.iter().map(size).fold(0, usize::saturating_add) > most {
        return Err(TooMany(most));
    }
    let of = |component: &usize| sets.get(*component).cloned().unwrap_or_default();
    Ok(component.iter().map(of).collect())
}

/// The strongly connected component of each group, and how many there are; an inner group's number is
/// never above that of a group it is in. Tarjan's algorithm without recursion: depth is the server's.
fn components(inner: &[Vec<u32>]) -> (Vec<usize>, usize) {
    const NONE: usize = usize::MAX;
    let mut walk = Walk {
        index: vec![NONE; inner.len()],
        low: vec![0; inner.len()],
        component: vec![NONE; inner.len()],
        stack: Vec::new(),
        next: 0,
        count: 0,
    };
    for start in 0..inner.len() {
        if walk.index.get(start) != Some(&NONE) {
            continue;
        }
        let mut path = vec![(start, 0_usize)];
        walk.enter(start);
        while let Some((group, at)) = path.last_mut() {
            let group = *group;
            let edge = inner
                .get(group)
                .and_then(|edges| edges.get(*at))
                .map(|edge| *edge as usize);
            *at += 1;
            match edge {
                Some(to) if to >= inner.len() => {}
                Some(to) if walk.index.get(to) == Some(&NONE) => {
                    walk.enter(to);
                    path.push((to, 0));
                }
                // Left already: of a finished component.
                Some(to) if walk.component.get(to) != Some(&NONE) => {}
                Some(to) => walk.lower(group, walk.index.get(to).copied().unwrap_or(NONE)),
                None => {
                    path.pop();
                    walk.leave(group);
                    if let Some((outer, _)) = path.last() {
                        walk.lower(*outer, walk.low.get(group).copied().unwrap_or(NONE));
                    }
                }
            }
        }
    }
    (walk.component, walk.count)
}

struct Walk {
    index: Vec<usize>,
    low: Vec<usize>,
    component: Vec<usize>,
    stack: Vec<usize>,
    next: usize,
    count: usize,
}

impl Walk {
    fn enter(&mut self, group: usize) {
        for list in [&mut self.index, &mut self.low] {
            if let Some(place) = list.get_mut(group) {
                *place = self.next;
            }
        }
        self.next += 1;
        self.stack.push(group);
    }

    fn lower(&mut self, group: usize, to: usize) {
        if let Some(place) = self.low.get_mut(group) {
            *place = to.min(*place);
        }
    }

    /// All of `group`'s edges are walked: if nothing leads above it, the stack down to it is one.
    fn leave(&mut self, group: usize) {
        if self.low.get(group) != self.index.get(group) {
            return;
        }
        while let Some(member) = self.stack.pop() {
            if let Some(place) = self.component.get_mut(member) {
                *place = self.count;
            }
            if member == group {
                break;
            }
        }
        self.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MOST: usize = 10_000;

    #[test]
    fn users_of_inner_groups_are_users_of_the_outer_ones() {
        let users = [vec![], vec![1], vec![2, 2]];
        let inner = [vec![1, 2], vec![], vec![9]];
        let expanded = resolve(&users, &inner, MOST).unwrap();
        assert_eq!(expanded, [vec![1, 2], vec![1], vec![2]]);
    }

    #[test]
    fn groups_and_users_have_their_ids() {
        let user = |id: &str| Member::User(id.to_owned());
        let group = |id: &str| Member::Group(id.to_owned());
        let direct = [
            ("all".to_owned(), vec![group("eng"), user("carol"), group("gone")]),
            ("eng".to_owned(), vec![user("alice"), user("alice"), group("all")]),
        ];
        let expanded = expand(&direct.into());
        assert_eq!(
            expanded["all"],
            BTreeSet::from(["alice".to_owned(), "carol".to_owned()])
        );
        assert_eq!(expanded["eng"], expanded["all"]);
    }

    #[test]
    fn a_circle_ends() {
        let users = [vec![1], vec![2], vec![]];
        let inner = [vec![1], vec![0], vec![2]];
        assert_eq!(resolve(&users, &inner, MOST).unwrap(), [vec![1, 2], vec![1, 2], vec![]]);
    }

    /// Each of these takes quadratic work or a deep stack when it is done the obvious way.
    #[test]
    fn hostile_shapes_of_nesting_are_quick_or_refused() {
        const MANY: u32 = 100_000;
        let chain: Vec<Vec<u32>> = (1..=MANY).map(|next| vec![next]).collect();
        let mut users = vec![Vec::new(); MANY as usize];
        users[MANY as usize - 1] = vec![7];
        let expanded = resolve(&users, &chain, 2 * MANY as usize).unwrap();
        assert!(expanded.iter().all(|users| users == &[7]));
        let circle: Vec<Vec<u32>> = (1..=MANY).map(|next| vec![next % MANY]).collect();
        let all: Vec<Vec<u32>> = (0..MANY).map(|user| vec![user]).collect();
        assert_eq!(resolve(&all, &circle, 1_000_000), Err(TooMany(1_000_000)));
        assert_eq!(resolve(&all, &chain, 1_000_000), Err(TooMany(1_000_000)));
    }

    proptest! {
        /// The outcome is who can be reached, and nobody else.
        #[test]
        fn the_expansion_is_who_can_be_reached(edges in proptest::collection::vec((0u32..6, 0u32..6, any::<bool>()), 0..30)) {
            let (mut users, mut inner) = (vec![Vec::new(); 6], vec![Vec::new(); 6]);
            for (group, member, is_user) in edges {
                let list = if is_user { &mut users } else { &mut inner };
                list[group as usize].push(member);
            }
            let expanded = resolve(&users, &inner, MOST).unwrap();
            for group in 0..6_u32 {
                let (mut seen, mut left) = (BTreeSet::from([group]), vec![group]);
                while let Some(at) = left.pop() {
                    left.extend(inner[at as usize].iter().copied().filter(|to| seen.insert(*to)));
                }
                let reached: BTreeSet<u32> = seen.iter().flat_map(|at| users[*at as usize].iter().copied()).collect();
                prop_assert_eq!(&expanded[group as usize], &reached.into_iter().collect::<Vec<_>>());
            }
        }
    }
}
