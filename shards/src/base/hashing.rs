//! Seeded hashing for tables keyed by values that peers choose: conversation and message ids, `reply-with` values,
//! names.
//!
//! A peer that knows the hash function could choose keys that all collide, which makes every look-up scan them all.
//! Each table therefore mixes its keys with two numbers derived from the shard's seed. The seed is an input:
//! simulations are deterministic, and peers of a running router cannot know it.

use std::hash::{BuildHasher, Hasher};

/// Builds the hashers of one table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seeded {
    start: u64,
    factor: u64,
}

impl Seeded {
    /// Creates the hasher builder of a table from the shard's seed.
    pub const fn new(seed: u64) -> Self {
        Self { start: mixed(seed), factor: mixed(seed ^ 0x517c_c1b7_2722_0a95) | 1 }
    }

    /// Hashes two words that a peer may have chosen, and a number that identifies the peer.
    #[inline(always)]
    pub const fn hash_words(self, first: u64, second: u64, peer: u64) -> u64 {
        let chosen = folded(first ^ self.start, second ^ self.factor);
        folded(chosen ^ peer, self.factor)
    }
}

/// Multiplies two numbers and combines both halves of the product, so that the result depends on all bits of both.
#[inline(always)]
#[allow(clippy::cast_possible_truncation)] // Both halves are taken.
const fn folded(one: u64, other: u64) -> u64 {
    let product = (one as u128) * (other as u128);
    (product as u64) ^ (product >> 64) as u64
}

/// The finalizer of `SplitMix64`, applied because the seed may be a small number.
const fn mixed(seed: u64) -> u64 {
    let value = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

impl BuildHasher for Seeded {
    type Hasher = SeededHasher;

    #[inline]
    fn build_hasher(&self) -> SeededHasher {
        SeededHasher { state: self.start, factor: self.factor }
    }
}

/// Hashes one key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SeededHasher {
    state: u64,
    factor: u64,
}

impl Hasher for SeededHasher {
    #[inline]
    fn finish(&self) -> u64 {
        self.state
    }

    fn write(&mut self, bytes: &[u8]) {
        self.write_u64(bytes.len() as u64);
        for part in bytes.chunks(8) {
            self.write_u64(part.iter().fold(0, |word, byte| (word << 8) | u64::from(*byte)));
        }
    }

    #[inline]
    fn write_u64(&mut self, word: u64) {
        self.state = folded(self.state ^ word, self.factor);
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation)] // Both halves are taken.
    fn write_u128(&mut self, word: u128) {
        self.write_u64(word as u64);
        self.write_u64((word >> 64) as u64);
    }

    #[inline]
    fn write_u8(&mut self, word: u8) {
        self.write_u64(word.into());
    }

    #[inline]
    fn write_u32(&mut self, word: u32) {
        self.write_u64(word.into());
    }

    #[inline]
    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    #[inline]
    fn write_isize(&mut self, word: isize) {
        self.write_u64(word.cast_unsigned() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the load of the fullest of 4,096 buckets, selected by the same hash bits that tables use.
    fn fullest(hashes: impl Iterator<Item = u64>) -> usize {
        let mut places = vec![0_usize; 4_096];
        hashes.for_each(|hash| places[(hash & 4_095) as usize] += 1);
        places.into_iter().max().unwrap_or_default()
    }

    #[test]
    fn keys_that_differ_in_few_bits_spread_over_a_table() {
        for seed in 0..20 {
            let seeded = Seeded::new(seed);
            for shift in [0, 8, 17, 32, 47, 48] {
                // Ids chosen to cancel out if the two halves were combined with exclusive or.
                let chosen = |number: u64| (number << shift, (number << shift).rotate_right(17));
                let words = (0..8_192).map(chosen).map(|(low, high)| seeded.hash_words(low, high, 7));
                let keys = (0..8_192).map(chosen).map(|(low, high)| seeded.hash_one((low, high)));
                let peers = (0..8_192).map(|number| seeded.hash_words(number << shift, 1, number << shift));
                for worst in [fullest(words), fullest(keys), fullest(peers)] {
                    assert!(worst < 24, "seed {seed}, shift {shift}: {worst} of 8,192 keys in one of 4,096 places");
                }
            }
        }
    }

    #[test]
    fn another_seed_hashes_in_another_way_and_the_same_one_in_the_same() {
        let hash = |seed: u64| Seeded::new(seed).hash_one("key");
        assert_eq!(hash(1), hash(1));
        assert_ne!(hash(1), hash(2));
    }
}
