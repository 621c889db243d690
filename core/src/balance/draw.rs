//! Weighted chance in constant time: Vose's alias table.

use super::Member;
use crate::Chance;

/// One slot for each endpoint that has a weight.
#[derive(Debug)]
pub struct Draw {
    slots: Vec<Slot>,
    total: u64,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    own: u16,
    other: u16,
    /// A coin of 32 bits below this is for `own`.
    below: u32,
}

impl Draw {
    pub(super) fn new(members: &[Member]) -> Draw {
        let weighted = || members.iter().enumerate().filter(|(_, member)| member.weight > 0);
        let total: u64 = weighted().map(|(_, member)| u64::from(member.weight)).sum();
        let mut slots: Vec<Slot> =
            weighted().map(|(index, _)| Slot { own: index as u16, other: index as u16, below: u32::MAX }).collect();
        let count = slots.len() as u64;
        // In these units a whole slot holds `total`.
        let mut held: Vec<u64> = weighted().map(|(_, member)| u64::from(member.weight) * count).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..slots.len()).partition(|&at| held[at] < total);
        while let (Some(&to), Some(&from)) = (small.last(), large.last()) {
            small.pop();
            slots[to].below = ((u128::from(held[to]) << 32) / u128::from(total)) as u32;
            slots[to].other = slots[from].own;
            held[from] -= total - held[to];
            if held[from] < total {
                large.pop();
                small.push(from);
            }
        }
        Draw { slots, total }
    }

    pub(super) fn total_weight(&self) -> u64 {
        self.total
    }

    pub(super) fn mean_weight(&self) -> f64 {
        self.total as f64 / self.slots.len().max(1) as f64
    }

    /// By weight.
    pub(super) fn one(&self, chance: &Chance) -> Option<u16> {
        let random = chance.next();
        let slot = self.slots.get((((random >> 32) * self.slots.len() as u64) >> 32) as usize)?;
        Some(if (random as u32) < slot.below { slot.own } else { slot.other })
    }

    /// One by weight, and another one where there is one.
    pub(super) fn two(&self, chance: &Chance) -> Option<(u16, u16)> {
        let (first, second) = (self.one(chance)?, self.one(chance)?);
        Some((first, if first == second { self.other(first, chance) } else { second }))
    }

    /// Another one, if there is one.
    pub(super) fn other(&self, than: u16, chance: &Chance) -> u16 {
        let Some(last) = self.slots.len().checked_sub(1).filter(|&last| last > 0) else { return than };
        let other = self.slots[chance.below(last)].own;
        if other == than { self.slots[last].own } else { other }
    }
}
