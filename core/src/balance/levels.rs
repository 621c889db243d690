//! Levels of endpoints: those of a higher priority number, or of another zone, are for when the ones before are not enough. Shares as in
//! Envoy: a level takes 1.4 times its usable share of all requests, at most all of them, and the rest goes to the next.

/// A level may lose 2 of 7 endpoints before it sends requests on.
const OVERPROVISIONING: (u64, u64) = (7, 5);
/// Shares are in parts of this.
pub(super) const WHOLE: u64 = 1_000_000;

/// A level in numbers; those that are drained do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count {
    pub usable: u64,
    pub all: u64,
}

impl Count {
    /// How much of all requests it can take.
    fn reach(self) -> u64 {
        let (times, over) = OVERPROVISIONING;
        (self.usable * WHOLE * times).checked_div(self.all * over).map_or(0, |reach| reach.min(WHOLE))
    }
}

/// What is sent to each level, and whether so few are usable that all are used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shares {
    pub of: Vec<u64>,
    pub panic: bool,
}

/// `panic_below`: a share of all endpoints. Where later levels can take what the first ones cannot there is no reason to panic.
pub(super) fn shares(levels: &[Count], panic_below: u64) -> Shares {
    let sum = |of: fn(&Count) -> u64| levels.iter().map(of).sum::<u64>();
    let (usable, all, reach) = (sum(|level| level.usable), sum(|level| level.all), sum(|level| level.reach()));
    let panic = usable * WHOLE < panic_below * all && (levels.len() == 1 || reach < WHOLE);
    if reach == 0 {
        // Nobody is usable, so nothing says who is better: it is the first level's turn.
        let first = levels.iter().position(|level| panic && level.all > 0);
        return Shares { of: (0..levels.len()).map(|index| if Some(index) == first { WHOLE } else { 0 }).collect(), panic };
    }
    let mut left = WHOLE;
    let share = |level: &Count| {
        let share = (level.reach() * WHOLE).div_ceil(reach.min(WHOLE)).min(left);
        left -= share;
        share
    };
    Shares { of: levels.iter().map(share).collect(), panic }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(levels: &[(u64, u64)], of: &[u64], panic: bool) {
        let counts: Vec<Count> = levels.iter().map(|&(usable, all)| Count { usable, all }).collect();
        let of = of.iter().map(|percent| percent * WHOLE / 100).collect();
        assert_eq!(shares(&counts, WHOLE / 2), Shares { of, panic }, "{levels:?}");
    }

    #[test]
    fn what_a_level_cannot_take_goes_to_the_next() {
        check(&[(5, 5)], &[100], false);
        check(&[(5, 10), (5, 5)], &[70, 30], false);
        check(&[(10, 10), (5, 5)], &[100, 0], false);
        // 72% of 1.4 is more than all.
        check(&[(72, 100), (5, 5)], &[100, 0], false);
        check(&[(0, 3), (3, 3)], &[0, 100], false);
        check(&[(1, 4), (1, 4), (4, 4)], &[35, 35, 30], false);
        // Where all levels together are not enough, they share everything as they can: here 70 to 20.
        let of = |levels: [(u64, u64); 2]| shares(&levels.map(|(usable, all)| Count { usable, all }), WHOLE / 2);
        assert_eq!(of([(2, 4), (1, 7)]), Shares { of: vec![777_778, 222_222], panic: true });
        assert_eq!(of([(4, 8), (9, 36)]), Shares { of: vec![700_000, 300_000], panic: false });
    }

    #[test]
    fn where_too_few_are_left_all_are_used() {
        check(&[(4, 10)], &[100], true);
        check(&[(5, 10)], &[100], false);
        check(&[(0, 1)], &[100], true);
        // As many as before, but elsewhere there are enough.
        check(&[(0, 8), (3, 3)], &[0, 100], false);
        check(&[(0, 8), (0, 3)], &[100, 0], true);
        check(&[(0, 0), (0, 3)], &[0, 100], true);
        check(&[(0, 0)], &[0], false);
        assert_eq!(shares(&[Count { usable: 0, all: 3 }], 0), Shares { of: vec![0], panic: false });
    }
}
