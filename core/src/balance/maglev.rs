//! Maglev's table (Eisenbud and others, NSDI 2016, §3.4): as even as it can be, looked up in one step, and nearly as steady as a ring. Weights
//! as in Envoy: a lighter endpoint takes part in fewer rounds.

use super::{Member, hash};

/// A prime, as the paper's large table.
const SIZE: usize = 65_537;

#[derive(Debug)]
pub struct Maglev {
    /// Empty where nobody has a weight.
    table: Vec<u16>,
}

/// An endpoint while the table is filled: its order of wishes, and when it has its next turn.
struct Wishing {
    index: u16,
    weight: u64,
    next: usize,
    skip: usize,
    due: u64,
}

impl Maglev {
    pub(super) fn new(members: &[Member]) -> Maglev {
        let mut order: Vec<(usize, &Member)> = members.iter().enumerate().filter(|(_, member)| member.weight > 0).collect();
        // So that the order in the file does not count.
        order.sort_by_key(|(_, member)| member.hash);
        let wishing = |(index, member): (usize, &Member)| Wishing {
            index: index as u16,
            weight: u64::from(member.weight),
            next: (hash(b"offset", member.hash) % SIZE as u64) as usize,
            skip: (hash(b"skip", member.hash) % (SIZE as u64 - 1)) as usize + 1,
            due: 0,
        };
        let wishing: Vec<Wishing> = order.into_iter().map(wishing).collect();
        Maglev { table: fill(wishing) }
    }

    /// Owners from the key's slot on, through the whole table in steps of the key's own: slots that lie side by side belong to the same few.
    pub(super) fn walk(&self, key: u64) -> impl Iterator<Item = u16> {
        let count = self.table.len();
        let slot = (key % SIZE as u64) as usize;
        let step = (key / SIZE as u64 % (SIZE as u64 - 1)) as usize + 1;
        let slots = std::iter::successors(Some(slot), move |at| Some((at + step) % SIZE)).take(count);
        slots.map(|slot| self.table[slot])
    }
}

fn fill(mut wishing: Vec<Wishing>) -> Vec<u16> {
    let Some(heaviest) = wishing.iter().map(|one| one.weight).max() else { return Vec::new() };
    let mut table: Vec<Option<u16>> = vec![None; SIZE];
    let mut empty = SIZE;
    for round in 1u64.. {
        for one in &mut wishing {
            if round * one.weight < one.due {
                continue;
            }
            one.due += heaviest;
            while table[one.next].is_some() {
                one.next = (one.next + one.skip) % SIZE;
            }
            table[one.next] = Some(one.index);
            empty -= 1;
            if empty == 0 {
                return table.into_iter().flatten().collect();
            }
        }
    }
    Vec::new()
}
