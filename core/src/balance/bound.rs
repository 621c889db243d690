//! Bounded load for hashed picks (Mirrokni, Thorup and Zadimoghaddam, 2016): no endpoint gets more than 1.25 times its share of what
//! is under way; what is too much goes to the next in the walk.

use super::Asked;

/// 1.25 as a fraction.
const BOUND: (u128, u128) = (5, 4);
/// Steps until the first is taken after all. Somebody has room at any moment, but figures move while they are read.
const WALK_MAX: usize = 4096;

pub(super) struct Room<'a> {
    total_weight: u64,
    asked: &'a Asked<'a>,
}

impl<'a> Room<'a> {
    pub fn of(total_weight: u64, asked: &'a Asked<'a>) -> Room<'a> {
        Room { total_weight, asked }
    }

    /// The first of a walk that has room.
    pub fn first(&self, mut walk: impl Iterator<Item = u16>) -> Option<u16> {
        let first = walk.next()?;
        // The bound is above 0 for everyone.
        if self.in_flight(first) == 0 {
            return Some(first);
        }
        let under_way: u64 = self.asked.figures.iter().map(|figures| u64::from(figures.in_flight())).sum();
        let fits = |index: u16| {
            let share = u128::from(under_way + 1) * u128::from(self.asked.members[usize::from(index)].weight);
            u128::from(self.in_flight(index)) * u128::from(self.total_weight) * BOUND.1 < share * BOUND.0
        };
        if fits(first) {
            return Some(first);
        }
        Some(walk.take(WALK_MAX).find(|&index| fits(index)).unwrap_or(first))
    }

    fn in_flight(&self, index: u16) -> u32 {
        self.asked.figures[usize::from(index)].in_flight()
    }
}
