//! Bounded load for hashed picks (Mirrokni, Thorup and Zadimoghaddam, 2016): no endpoint gets more than 1.25 times its share of what
//! is under way; what is too much goes to the next in the walk.

use super::{Asked, Figures, Member};
use std::sync::Arc;

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

    /// The first of a walk that has room. Who has no weight now, or is to be avoided, is not met.
    pub fn first<W: Iterator<Item = u16>>(&self, walk: impl Fn() -> W) -> Option<u16> {
        if self.total_weight == 0 {
            return None;
        }
        let mut met = walk().filter(|&index| self.weight(index) > 0 && !self.asked.avoids(index));
        let Some(first) = met.next() else { return walk().find(|&index| self.weight(index) > 0) };
        // The bound is above 0 for everyone.
        if self.in_flight(first) == 0 {
            return Some(first);
        }
        let takes_part = |(_, member): &(&Arc<Figures>, &Member)| member.weight > 0;
        let pairs = self.asked.figures.iter().zip(self.asked.members).filter(takes_part);
        let under_way: u64 = pairs.map(|(figures, _)| u64::from(figures.in_flight())).sum();
        let fits = |index: u16| {
            let share = u128::from(under_way + 1) * u128::from(self.weight(index));
            u128::from(self.in_flight(index)) * u128::from(self.total_weight) * BOUND.1 < share * BOUND.0
        };
        if fits(first) {
            return Some(first);
        }
        Some(met.take(WALK_MAX).find(|&index| fits(index)).unwrap_or(first))
    }

    fn weight(&self, index: u16) -> u32 {
        self.asked.members[usize::from(index)].weight
    }

    fn in_flight(&self, index: u16) -> u32 {
        self.asked.figures[usize::from(index)].in_flight()
    }
}
