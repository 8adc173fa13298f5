//! Compact sets of names and ids for the writer: about 20 bytes per name, where a `HashMap` of boxed
//! strings takes over 60.

use crate::error::WriteError;
use crate::format::{hash_id, hash_name};

/// Names numbered in the order of their first appearance.
#[derive(Debug, Default)]
pub(crate) struct Names {
    text: Vec<u8>,
    ends: Vec<u32>,
    /// Open addressing; hash in the upper half, number + 1 in the lower, or 0. At most half full.
    slots: Vec<u64>,
}

impl Names {
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn name(&self, number: u32) -> &[u8] {
        let number = number as usize;
        let start = number
            .checked_sub(1)
            .and_then(|before| self.ends.get(before))
            .copied()
            .unwrap_or_default();
        let end = self.ends.get(number).copied().unwrap_or_default();
        self.text.get(start as usize..end as usize).unwrap_or_default()
    }

    pub(crate) fn find(&self, name: &[u8]) -> Option<u32> {
        let slot = self.slot_for(hash_name(name), name)?;
        number_in(*self.slots.get(slot)?)
    }

    /// The number of `name`, given now if it is new.
    pub(crate) fn intern(&mut self, name: &[u8]) -> Result<u32, WriteError> {
        if (self.ends.len() + 1) * 2 > self.slots.len() {
            self.grow();
        }
        let hash = hash_name(name);
        let slot = self.slot_for(hash, name).ok_or(WriteError::TooLarge)?;
        if let Some(number) = self.slots.get(slot).copied().and_then(number_in) {
            return Ok(number);
        }
        let number = u32::try_from(self.ends.len())
            .ok()
            .filter(|number| *number < u32::MAX - 1);
        let end = u32::try_from(self.text.len() + name.len()).ok();
        let (Some(number), Some(end)) = (number, end) else {
            return Err(WriteError::TooLarge);
        };
        self.text.extend(name);
        self.ends.push(end);
        if let Some(stored) = self.slots.get_mut(slot) {
            *stored = u64::from(hash) << 32 | u64::from(number + 1);
        }
        Ok(number)
    }

    /// The slot that holds `name`, or the empty one where it belongs; `None` only before the first name.
    fn slot_for(&self, hash: u32, name: &[u8]) -> Option<usize> {
        let mask = self.slots.len().checked_sub(1)?;
        let mut slot = hash as usize & mask;
        loop {
            let stored = *self.slots.get(slot)?;
            match number_in(stored) {
                Some(number) if stored >> 32 != u64::from(hash) || self.name(number) != name => {
                    slot = (slot + 1) & mask;
                }
                _ => return Some(slot),
            }
        }
    }

    fn grow(&mut self) {
        let size = (self.slots.len() * 2).max(64);
        let old = std::mem::replace(&mut self.slots, vec![0; size]);
        for stored in old.into_iter().filter(|stored| *stored != 0) {
            let mut slot = (stored >> 32) as usize & (size - 1);
            while self.slots.get(slot).is_some_and(|other| *other != 0) {
                slot = (slot + 1) & (size - 1);
            }
            if let Some(free) = self.slots.get_mut(slot) {
                *free = stored;
            }
        }
    }
}

fn number_in(slot: u64) -> Option<u32> {
    (slot as u32).checked_sub(1)
}

/// The ids seen so far.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    /// Open addressing; id + 1, or 0. At most half full.
    slots: Vec<u64>,
    len: usize,
}

impl Ids {
    pub(crate) fn contains(&self, id: u32) -> bool {
        self.slot_for(id)
            .is_some_and(|slot| self.slots.get(slot).is_some_and(|stored| *stored != 0))
    }

    pub(crate) fn insert(&mut self, id: u32) {
        if (self.len + 1) * 2 > self.slots.len() {
            let size = (self.slots.len() * 2).max(64);
            let old = std::mem::replace(&mut self.slots, vec![0; size]);
            old.into_iter()
                .filter(|stored| *stored != 0)
                .for_each(|stored| self.place((stored - 1) as u32));
        }
        if !self.contains(id) {
            self.place(id);
            self.len += 1;
        }
    }

    fn place(&mut self, id: u32) {
        let slot = self.slot_for(id);
        if let Some(stored) = slot.and_then(|slot| self.slots.get_mut(slot)) {
            *stored = u64::from(id) + 1;
        }
    }

    /// The slot that holds `id`, or the empty one where it belongs; `None` only before the first id.
    fn slot_for(&self, id: u32) -> Option<usize> {
        let mask = self.slots.len().checked_sub(1)?;
        let mut slot = hash_id(id) as usize & mask;
        loop {
            match *self.slots.get(slot)? {
                stored if stored != 0 && stored != u64::from(id) + 1 => slot = (slot + 1) & mask,
                _ => return Some(slot),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_remembered_through_growth() {
        let mut ids = Ids::default();
        assert!(!ids.contains(0));
        let wanted: Vec<u32> = (0..20_000).map(|n| n * 7).chain([u32::MAX, u32::MAX - 1]).collect();
        for id in &wanted {
            assert!(!ids.contains(*id));
            ids.insert(*id);
            ids.insert(*id);
        }
        assert!(wanted.iter().all(|id| ids.contains(*id)));
        assert!((0..20_000).all(|n| !ids.contains(n * 7 + 1)));
        assert_eq!(ids.len, wanted.len());
    }

    #[test]
    fn numbers_follow_first_appearance_and_survive_growth() {
        let mut names = Names::default();
        assert_eq!(names.find(b"a"), None);
        for round in 0..2 {
            for n in 0..10_000u32 {
                assert_eq!(names.intern(format!("user{n}").as_bytes()).unwrap(), n, "round {round}");
            }
        }
        assert_eq!(names.len(), 10_000);
        assert_eq!(names.name(77), b"user77");
        assert_eq!(names.find(b"user9999"), Some(9999));
        assert_eq!(names.find(b"user10000"), None);
    }
}
