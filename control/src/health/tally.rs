//! What results of checks make of an endpoint. Pure: knows no time and asks nobody.

use std::num::NonZeroU32;

/// How many results in a row it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Thresholds {
    pub unhealthy_after: NonZeroU32,
    pub healthy_after: NonZeroU32,
}

/// An endpoint is taken for well until its first check, which decides at once, either way: as in HAProxy and Envoy, whoever starts beside a
/// dead back end must not send it requests for three intervals more. From then on it takes as many results in a row as are configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Tally {
    #[default]
    Unknown,
    /// So many checks failed since.
    Healthy { failed: u32 },
    /// So many checks passed since.
    Unhealthy { passed: u32 },
}

impl Tally {
    pub fn is_healthy(self) -> bool {
        match self {
            Tally::Unknown | Tally::Healthy { .. } => true,
            Tally::Unhealthy { .. } => false,
        }
    }

    /// With one result more.
    pub fn and(self, has_passed: bool, thresholds: Thresholds) -> Tally {
        match (self, has_passed) {
            (Tally::Unknown | Tally::Healthy { .. }, true) => Tally::Healthy { failed: 0 },
            (Tally::Unknown, false) | (Tally::Unhealthy { .. }, false) => Tally::Unhealthy { passed: 0 },
            (Tally::Healthy { failed }, false) => match failed + 1 {
                failed if failed >= thresholds.unhealthy_after.get() => Tally::Unhealthy { passed: 0 },
                failed => Tally::Healthy { failed },
            },
            (Tally::Unhealthy { passed }, true) => match passed + 1 {
                passed if passed >= thresholds.healthy_after.get() => Tally::Healthy { failed: 0 },
                passed => Tally::Unhealthy { passed },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `+` and `-` are results; what is well after each is `w`, what is not is `.`.
    #[track_caller]
    fn check(unhealthy_after: u32, healthy_after: u32, results: &str, expected: &str) {
        let number = |count| NonZeroU32::new(count).unwrap();
        let thresholds = Thresholds { unhealthy_after: number(unhealthy_after), healthy_after: number(healthy_after) };
        let mut tally = Tally::default();
        assert!(tally.is_healthy());
        let mut seen = String::new();
        for result in results.chars() {
            tally = tally.and(result == '+', thresholds);
            seen.push(if tally.is_healthy() { 'w' } else { '.' });
        }
        assert_eq!(seen, expected, "{results} at {unhealthy_after} and {healthy_after}");
    }

    #[test]
    fn the_first_result_decides_and_later_ones_in_rows() {
        check(3, 2, "-", ".");
        check(3, 2, "+---", "www.");
        check(3, 2, "+--+--+---", "wwwwwwwww.");
        check(3, 2, "-+-+-++", "......w");
        check(3, 2, "+---++--", "www..www");
        check(1, 1, "+-+-+", "w.w.w");
        check(3, 1, "-+--+---", ".wwwwww.");
        check(2, 3, "--+++--", "....ww.");
    }
}
