//! Pseudo-random numbers for tests and plans.

use crate::base::rng::mixed;

/// A small pseudo-random number generator (xorshift64*): the same seed gives the same numbers. For tests that print
/// their seed, not for secrets.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Creates a generator with this seed.
    pub fn new(seed: u64) -> Self {
        Self((seed ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9) | 1)
    }

    /// Creates a generator for one of several purposes of a seed: numbers drawn for one do not affect the others.
    pub fn of(seed: u64, purpose: u64) -> Self {
        Self::new(mixed(seed, purpose))
    }

    /// Returns the next number: 53 random bits.
    #[allow(clippy::should_implement_trait)] // It never ends, so it is not an iterator.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    /// Returns a number below `limit`, which must be at least one.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Returns an index into something of this length, which must be at least one.
    #[allow(clippy::cast_possible_truncation)] // The number is below a length.
    pub fn index(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    /// Returns a number from `least` to `most`, inclusive.
    #[allow(clippy::cast_possible_truncation)] // The number is not above `most`.
    pub fn between(&mut self, least: u32, most: u32) -> u32 {
        least + self.below(u64::from(most - least) + 1) as u32
    }

    /// Whether an event with probability `1 / times` happens.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// Returns one of several items.
    pub fn pick<T: Copy>(&mut self, things: &[T]) -> T {
        things[self.index(things.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_another_purpose_gives_others() {
        let numbers = |mut dice: Dice| (0..10).map(|_| dice.next()).collect::<Vec<_>>();
        assert_eq!(numbers(Dice::of(1, 2)), numbers(Dice::of(1, 2)));
        assert_ne!(numbers(Dice::of(1, 2)), numbers(Dice::of(1, 3)));
        assert_ne!(numbers(Dice::of(1, 2)), numbers(Dice::of(2, 1)));
    }

    #[test]
    fn numbers_keep_to_their_range_and_reach_both_ends() {
        let mut dice = Dice::new(7);
        let drawn: std::collections::BTreeSet<u32> = (0..1_000).map(|_| dice.between(3, 6)).collect();
        assert!(drawn.into_iter().eq([3, 4, 5, 6]));
    }
}
