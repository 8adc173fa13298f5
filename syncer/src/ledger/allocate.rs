use std::collections::BTreeSet;

use dirless_model::{IdRange, Uid};

/// Stretches that are never given out: system users, systemd-homed, `DynamicUser=` services,
/// nobody and the 16-bit minus-one, nspawn containers (systemd, "Users, Groups, UIDs and GIDs").
const RESERVED: [(u32, u32); 5] = [
    (0, 999),
    (60_001, 60_513),
    (61_184, 65_519),
    (65_534, 65_535),
    (524_288, 1_879_048_191),
];

/// Every number of the range is held by somebody. They are not reused; the range must grow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the id range {0} is used up (numbers are never reused): widen [ids] range, or add to it a range that nothing \
     else on the hosts uses; nothing was published"
)]
pub struct Exhausted(IdRange);

/// A range in which no number may be given out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} lies wholly in ranges that systems use themselves (1-999, 60001-60513, 61184-65519, 65534-65535, \
     524288-1879048191); the default is {default}",
    default = IdRange::ASSIGNED
)]
pub struct NoRoom(IdRange);

/// Gives out numbers of a range, lowest first, leaving out what systems reserve.
#[derive(Clone, Debug)]
pub struct Allocator {
    range: IdRange,
    stretches: Vec<(u32, u32)>,
}

impl Allocator {
    /// Prepares `range`.
    ///
    /// # Errors
    /// When nothing of it may be given out.
    pub fn new(range: IdRange) -> Result<Self, NoRoom> {
        let mut stretches = Vec::new();
        let mut first = range.first();
        for (low, high) in RESERVED {
            if high < first || low > range.last() {
                continue;
            }
            if low > first {
                stretches.push((first, low - 1));
            }
            first = high + 1;
        }
        if first <= range.last() {
            stretches.push((first, range.last()));
        }
        if stretches.is_empty() {
            return Err(NoRoom(range));
        }
        Ok(Self { range, stretches })
    }

    /// How many numbers the range has, taken or not.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.stretches.iter().map(|(low, high)| u64::from(high - low) + 1).sum()
    }

    /// The numbers of the range that are not in `taken`, lowest first. `taken` may not change
    /// while the iterator is used.
    pub(super) fn free<'a>(&'a self, taken: &'a BTreeSet<u32>) -> impl Iterator<Item = u32> + 'a {
        let numbers = self.stretches.iter().flat_map(|(low, high)| *low..=*high);
        numbers.filter(|number| !taken.contains(number) && Uid::parse(*number).is_ok())
    }

    /// The error for an iterator of [`Allocator::free`] that ended.
    pub(super) fn exhausted(&self) -> Exhausted {
        Exhausted(self.range)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn allocator(text: &str) -> Result<Allocator, NoRoom> {
        Allocator::new(text.parse().unwrap())
    }

    #[test]
    fn reserved_stretches_are_cut_out() {
        let taken = BTreeSet::new();
        let numbers: Vec<u32> = allocator("59999-60515").unwrap().free(&taken).collect();
        assert_eq!(numbers, [59_999, 60_000, 60_514, 60_515]);
        let numbers: Vec<u32> = allocator("65518-65537").unwrap().free(&taken).collect();
        assert_eq!(numbers.first(), Some(&65_520));
        assert!(!numbers.contains(&65_534) && !numbers.contains(&65_535) && numbers.contains(&65_536));
        assert_eq!(
            allocator("1-1001").unwrap().free(&taken).collect::<Vec<_>>(),
            [1000, 1001]
        );
        // A container range of 1.3 thousand million numbers is jumped over, not walked through.
        assert_eq!(
            allocator("524287-1879048192").unwrap().free(&taken).collect::<Vec<_>>(),
            [524_287, 1_879_048_192]
        );
    }

    #[test]
    fn a_range_without_room_is_refused() {
        for range in ["1-999", "60001-60513", "61200-65000", "65534-65535", "600000-700000"] {
            assert!(allocator(range).is_err(), "{range}");
        }
    }

    #[test]
    fn what_is_taken_is_passed_over_and_the_end_is_an_error_that_says_what_to_do() {
        let allocator = allocator("2000-2003").unwrap();
        let taken = [2000, 2002].into();
        assert_eq!(allocator.free(&taken).collect::<Vec<_>>(), [2001, 2003]);
        assert!(allocator.exhausted().to_string().contains("[ids] range"));
        assert_eq!(allocator.size(), 4);
    }

    proptest! {
        #[test]
        fn what_is_given_out_is_in_range_and_never_one_to_be_cautious_of(first in 1_u32..70_000, length in 1_u32..3_000) {
            let range = IdRange::new(first, first + length).unwrap();
            if let Ok(allocator) = Allocator::new(range) {
                let taken = BTreeSet::new();
                for number in allocator.free(&taken).take(2_000) {
                    prop_assert!(range.contains(number));
                    prop_assert_eq!(Uid::parse(number).unwrap().caution(), None);
                }
            }
        }
    }
}
