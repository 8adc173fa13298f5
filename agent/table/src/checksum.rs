//! The checksum of a table.

use crate::format::{K2, mix};

/// The running checksum of the body. It finds accidents, not attacks.
#[derive(Debug, Clone)]
pub(crate) struct Checksum {
    state: u64,
    word: [u8; 8],
    filled: usize,
    len: u64,
}

impl Checksum {
    #[inline]
    pub(crate) fn new() -> Self {
        Self {
            state: K2,
            word: [0; 8],
            filled: 0,
            len: 0,
        }
    }

    #[inline]
    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        self.len += bytes.len() as u64;
        while self.filled != 0 {
            let Some((byte, rest)) = bytes.split_first() else {
                return;
            };
            self.push(*byte);
            bytes = rest;
        }
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.state = mix(self.state, u64::from_le_bytes(*word));
        }
        for byte in rest {
            self.push(*byte);
        }
    }

    #[inline]
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.word.get_mut(self.filled) {
            *place = byte;
        }
        self.filled += 1;
        if self.filled == self.word.len() {
            self.state = mix(self.state, u64::from_le_bytes(self.word));
            self.word = [0; 8];
            self.filled = 0;
        }
    }

    #[inline]
    pub(crate) fn value(&self) -> u64 {
        let state = if self.filled == 0 {
            self.state
        } else {
            mix(self.state, u64::from_le_bytes(self.word))
        };
        mix(state, self.len)
    }

    #[inline]
    pub(crate) fn of(bytes: &[u8]) -> u64 {
        let mut sum = Self::new();
        sum.update(bytes);
        sum.value()
    }

    /// The checksum of what every process reads to its end before it is used: four that take turns with the
    /// words, and so do not wait for each other, and one over them, the last bytes and the length.
    #[inline]
    pub(crate) fn quick(bytes: &[u8]) -> u64 {
        let (blocks, rest) = bytes.as_chunks::<32>();
        let mut lanes = [K2; 4];
        for block in blocks {
            for (state, word) in lanes.iter_mut().zip(block.as_chunks::<8>().0) {
                *state = mix(*state, u64::from_le_bytes(*word));
            }
        }
        let mut sum = Self::new();
        for state in lanes {
            sum.update(&state.to_le_bytes());
        }
        sum.update(&(bytes.len() as u64).to_le_bytes());
        sum.update(rest);
        sum.value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_does_not_depend_on_how_the_bytes_arrive() {
        let bytes: Vec<u8> = (0..1000u32).map(|n| (n * 7) as u8).collect();
        let whole = Checksum::of(&bytes);
        for step in [1, 3, 7, 8, 9, 64, 999] {
            let mut sum = Checksum::new();
            bytes.chunks(step).for_each(|part| sum.update(part));
            assert_eq!(sum.value(), whole, "step {step}");
        }
        assert_ne!(Checksum::of(&bytes[..999]), whole);
        assert_ne!(Checksum::of(&[0; 8]), Checksum::of(&[0; 9]));
    }

    #[test]
    fn each_byte_and_the_length_matter_to_the_quick_one() {
        let bytes: Vec<u8> = (0..101u32).map(|n| (n * 7) as u8).collect();
        let whole = Checksum::quick(&bytes);
        assert_eq!(whole, VECTOR, "part of the format");
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert_ne!(Checksum::quick(&other), whole, "byte {at}");
            assert_ne!(Checksum::quick(&bytes[..at]), whole, "length {at}");
        }
        assert_ne!(Checksum::quick(&[0; 32]), Checksum::quick(&[0; 64]));
    }

    const VECTOR: u64 = 8_080_476_040_052_781_122;
}
