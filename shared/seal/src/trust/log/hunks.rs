//! What differs between two states of one record.

use std::collections::HashSet;

use super::changes::Hunk;

/// Below this it is not worth looking for what stayed in the middle.
const SHORT: usize = 128;

/// The hunks that make `after` of `before`; none when they are the same.
///
/// What both begin and end with stays. Longer middles are compared part by part, each ended by a comma: of a group of
/// a hundred thousand, one member more and another one less are two short hunks.
pub(super) fn hunks(before: &[u8], after: &[u8]) -> Vec<Hunk> {
    let front = before
        .iter()
        .zip(after)
        .take_while(|(left, right)| left == right)
        .count();
    let (before, after) = (tail(before, front), tail(after, front));
    let back = before
        .iter()
        .rev()
        .zip(after.iter().rev())
        .take_while(|(left, right)| left == right)
        .count();
    let (before, after) = (head(before, back), head(after, back));
    let mut maker = Maker::after(front);
    if before.len().min(after.len()) <= SHORT {
        maker.replace(before, after);
    } else {
        maker.compare(&parts(before), &parts(after));
    }
    maker.finish()
}

fn tail(bytes: &[u8], from: usize) -> &[u8] {
    bytes.get(from..).unwrap_or_default()
}

fn head(bytes: &[u8], less: usize) -> &[u8] {
    bytes.get(..bytes.len().saturating_sub(less)).unwrap_or_default()
}

fn parts(bytes: &[u8]) -> Vec<&[u8]> {
    bytes.split_inclusive(|byte| *byte == b',').collect()
}

/// Collects hunks; those that touch become one.
struct Maker {
    hunks: Vec<Hunk>,
    skip: usize,
    removed: usize,
    bytes: Vec<u8>,
}

impl Maker {
    fn after(skip: usize) -> Self {
        Self {
            hunks: Vec::new(),
            skip,
            removed: 0,
            bytes: Vec::new(),
        }
    }

    fn keep(&mut self, count: usize) {
        self.flush();
        self.skip += count;
    }

    fn replace(&mut self, before: &[u8], after: &[u8]) {
        self.removed += before.len();
        self.bytes.extend_from_slice(after);
    }

    fn flush(&mut self) {
        if self.removed > 0 || !self.bytes.is_empty() {
            // No record is longer than 64 MiB.
            let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
            self.hunks.push(Hunk {
                skip: count(self.skip),
                removed: count(self.removed),
                bytes: std::mem::take(&mut self.bytes),
            });
            (self.skip, self.removed) = (0, 0);
        }
    }

    fn finish(mut self) -> Vec<Hunk> {
        self.flush();
        self.hunks
    }

    /// Parts that the other side does not have went or came; where both sides have both, they changed places, and are
    /// written anew.
    fn compare(&mut self, before: &[&[u8]], after: &[&[u8]]) {
        let (old, new): (HashSet<&[u8]>, HashSet<&[u8]>) =
            (before.iter().copied().collect(), after.iter().copied().collect());
        let (mut before, mut after) = (before.iter().peekable(), after.iter().peekable());
        loop {
            match (before.peek().copied(), after.peek().copied()) {
                (None, None) => return,
                (Some(left), Some(right)) if left == right => {
                    self.keep(left.len());
                    before.next();
                    after.next();
                }
                (Some(left), right) if right.is_none() || !new.contains(left) => {
                    self.replace(left, &[]);
                    before.next();
                }
                (left, Some(right)) if left.is_none() || !old.contains(right) => {
                    self.replace(&[], right);
                    after.next();
                }
                (left, right) => {
                    self.replace(left.copied().unwrap_or_default(), right.copied().unwrap_or_default());
                    before.next();
                    after.next();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::changes::spliced;
    use super::*;

    fn group(members: impl Iterator<Item = u32>) -> Vec<u8> {
        let names: Vec<_> = members.map(|number| format!("\"user{number}\"")).collect();
        format!("{{\"name\":\"all\",\"gid\":9,\"members\":[{}]}}", names.join(",")).into_bytes()
    }

    fn bytes_of(hunks: &[Hunk]) -> usize {
        hunks.iter().map(|hunk| hunk.bytes.len()).sum()
    }

    #[test]
    fn two_members_of_many_are_two_short_hunks() {
        let before = group(0..10_000);
        let after = group((0..10_001).filter(|number| ![17, 9000].contains(number)));
        let found = hunks(&before, &after);
        assert_eq!(spliced(&before, &found).unwrap(), after);
        assert!(found.len() == 3 && bytes_of(&found) < 40, "{found:?}");
    }

    #[test]
    fn what_is_the_same_has_no_hunks() {
        assert!(hunks(b"", b"").is_empty());
        assert!(hunks(b"abc", b"abc").is_empty());
        let one = hunks(b"aXb", b"aYYb");
        assert_eq!(
            one,
            [Hunk {
                skip: 1,
                removed: 1,
                bytes: b"YY".to_vec()
            }]
        );
    }

    proptest! {
        #[test]
        fn hunks_make_one_of_the_other(
            before in "[abc,]{0,40}",
            after in "[abc,]{0,40}",
            times in 1usize..40,
        ) {
            let (before, after) = (before.repeat(times).into_bytes(), after.repeat(times).into_bytes());
            let found = hunks(&before, &after);
            prop_assert_eq!(spliced(&before, &found).unwrap(), after);
        }

        #[test]
        fn any_change_of_members_is_found(
            before in proptest::collection::vec(0u32..80, 0..80),
            after in proptest::collection::vec(0u32..80, 0..80),
        ) {
            let (before, after) = (group(before.into_iter()), group(after.into_iter()));
            let found = hunks(&before, &after);
            prop_assert_eq!(spliced(&before, &found).unwrap(), after);
            prop_assert!(found.iter().skip(1).all(|hunk| hunk.skip > 0));
            prop_assert!(found.iter().all(|hunk| hunk.removed > 0 || !hunk.bytes.is_empty()));
        }
    }
}
