//! Finding definitions by name, without regard to case.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Longest name that is folded without allocating; none of the standard ones is longer.
const SHORT: usize = 64;

/// Names and OIDs, each with the place of what it names.
#[derive(Clone, Debug, Default)]
pub(super) struct Names(HashMap<Box<[u8]>, usize, BuildHasherDefault<Fnv>>);

impl Names {
    /// What a name stands for.
    pub(super) fn get(&self, name: &str) -> Option<usize> {
        let bytes = name.as_bytes();
        let mut folded = [0; SHORT];
        match folded.get_mut(..bytes.len()) {
            Some(folded) => {
                folded.copy_from_slice(bytes);
                folded.make_ascii_lowercase();
                self.0.get(&*folded).copied()
            }
            None => self.0.get(bytes.to_ascii_lowercase().as_slice()).copied(),
        }
    }

    /// Adds a name; false when it is there.
    pub(super) fn insert(&mut self, name: &str, at: usize) -> bool {
        self.0.insert(name.as_bytes().to_ascii_lowercase().into(), at).is_none()
    }
}

/// FNV-1a. Only definitions are inserted, which nobody hostile writes: what strangers ask for cannot
/// make them collide.
#[derive(Clone, Debug)]
pub(super) struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_does_not_matter_and_length_neither() {
        let mut names = Names::default();
        let long = "aB".repeat(100);
        assert!(names.insert("uidNumber", 1) && names.insert(&long, 2));
        assert!(!names.insert("UIDNUMBER", 3));
        assert_eq!(names.get("uidnumber"), Some(3));
        assert_eq!(names.get(&long.to_uppercase()), Some(2));
        assert_eq!(names.get("uidNumbe"), None);
        assert_eq!(names.get(&"x".repeat(65)), None);
    }
}
