//! Cheap random numbers for ids and picks. No secrets are made here: wyrand is fast and predictable.

use std::cell::Cell;
use std::hash::{BuildHasher, Hasher, RandomState};

/// One generator per worker.
#[derive(Debug)]
pub struct Chance(Cell<u64>);

impl Default for Chance {
    fn default() -> Self {
        // The standard library seeds its hashers from the system's randomness.
        Chance::seeded(RandomState::new().build_hasher().finish())
    }
}

impl Chance {
    pub fn seeded(seed: u64) -> Chance {
        Chance(Cell::new(seed))
    }

    pub fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0xa076_1d64_78bd_642f);
        self.0.set(state);
        let product = u128::from(state) * u128::from(state ^ 0xe703_7ed1_a0b4_28db);
        (product >> 64) as u64 ^ product as u64
    }

    /// Uniform in 0..bound; `bound` > 0.
    pub fn below(&self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }
}
