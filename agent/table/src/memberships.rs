//! Who is in which groups, turned round: given group by group, asked for name by name.

/// Memberships of numbered names.
#[derive(Debug)]
pub(crate) enum Memberships {
    /// Name number and gid, as they come.
    Growing(Vec<(u32, u32)>),
    /// The gids of name N, ascending, are `gids[starts[N]..starts[N + 1]]`.
    Complete {
        /// Ascending; for names up to the last that has a membership.
        starts: Vec<u32>,
        /// Of all names.
        gids: Vec<u32>,
    },
}

impl Default for Memberships {
    fn default() -> Self {
        Self::Growing(Vec::new())
    }
}

impl Memberships {
    /// Can no more be added?
    pub(crate) fn complete(&self) -> bool {
        matches!(self, Self::Complete { .. })
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Growing(pairs) => pairs.len(),
            Self::Complete { gids, .. } => gids.len(),
        }
    }

    /// Adds one, unless they are complete.
    pub(crate) fn push(&mut self, number: u32, gid: u32) {
        if let Self::Growing(pairs) = self {
            pairs.push((number, gid));
        }
    }

    /// Forgets all but the first `len`, unless they are complete.
    pub(crate) fn truncate(&mut self, len: usize) {
        if let Self::Growing(pairs) = self {
            pairs.truncate(len);
        }
    }

    /// The gids of a name, ascending. Completes them.
    pub(crate) fn of(&mut self, number: u32) -> &[u32] {
        if let Self::Growing(pairs) = self {
            *self = Self::turned(&std::mem::take(pairs));
        }
        let Self::Complete { starts, gids } = self else {
            return &[];
        };
        let bounds = starts.get(number as usize..).unwrap_or_default().first_chunk::<2>();
        bounds
            .and_then(|[start, end]| gids.get(*start as usize..*end as usize))
            .unwrap_or_default()
    }

    /// Counts, then places: each pair is moved once, where sorting would move it many times.
    fn turned(pairs: &[(u32, u32)]) -> Self {
        let names = pairs.iter().map(|(number, _)| *number as usize + 1).max().unwrap_or(0);
        // While placing, `starts[N + 1]` is where the next gid of N goes; in the end it is where N's end.
        let mut starts = vec![0u32; names + 2];
        for (number, _) in pairs {
            if let Some(count) = starts.get_mut(*number as usize + 2) {
                *count += 1;
            }
        }
        let mut sum = 0;
        for start in &mut starts {
            sum += *start;
            *start = sum;
        }
        let mut gids = vec![0; pairs.len()];
        for (number, gid) in pairs {
            if let Some(next) = starts.get_mut(*number as usize + 1) {
                if let Some(place) = gids.get_mut(*next as usize) {
                    *place = *gid;
                }
                *next += 1;
            }
        }
        for bounds in starts.windows(2) {
            if let [start, end] = bounds
                && let Some(own) = gids.get_mut(*start as usize..*end as usize)
                && !own.is_sorted()
            {
                own.sort_unstable();
            }
        }
        Self::Complete { starts, gids }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn without_any_there_are_none_and_none_can_follow() {
        let mut none = Memberships::default();
        assert!(!none.complete());
        assert!(none.of(0).is_empty() && none.of(u32::MAX).is_empty());
        none.push(1, 1);
        assert!(none.complete() && none.of(1).is_empty());
    }

    proptest! {
        #[test]
        fn every_name_gets_its_gids_ascending(
            pairs in prop::collection::btree_set((0..40u32, any::<u32>()), 0..200).prop_map(Vec::from_iter).prop_shuffle(),
            more in 0..50usize,
        ) {
            let mut memberships = Memberships::default();
            let mut model: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
            for (number, gid) in &pairs {
                memberships.push(*number, *gid);
                model.entry(*number).or_default().insert(*gid);
            }
            prop_assert_eq!(memberships.len(), pairs.len());
            // What a refused group added is taken back.
            (0..more as u32).for_each(|number| memberships.push(number, 7));
            memberships.truncate(pairs.len());
            for number in 0..60 {
                let wanted: Vec<u32> = model.get(&number).into_iter().flatten().copied().collect();
                prop_assert_eq!(memberships.of(number), wanted);
            }
            prop_assert_eq!(memberships.len(), pairs.len());
        }
    }
}
