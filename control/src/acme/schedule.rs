//! When to order: plain arithmetic over seconds since 1970. Reads no clock and throws no dice: both are arguments.

/// After the first failure; three times as long after each further one.
pub(super) const RETRY_MIN: i64 = 60;
/// So that what was put right is noticed within a day's quarter.
pub(super) const RETRY_MAX: i64 = 6 * 3600;
/// An authority that asks for patience gets it, up to the longest of its own periods. Beyond it the number is a mistake.
pub(super) const PATIENCE_MAX: i64 = 7 * 24 * 3600;
/// Between two questions when an authority would like a renewal (RFC 9773 §4.3.2), whatever it says itself.
pub(super) const ASK_MIN: i64 = 3600;
pub(super) const ASK_MAX: i64 = 24 * 3600;

/// From when until when a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Life {
    pub not_before: i64,
    pub not_after: i64,
}

impl Life {
    fn length(self) -> i64 {
        (self.not_after - self.not_before).max(0)
    }

    /// When a third is left, and up to a sixtieth later: gateways that share a storage do not all order at once. `dice` is in 0..1.
    pub fn renew_at(self, dice: f64) -> i64 {
        self.not_after - self.length() / 3 + (self.length() as f64 / 60.0 * dice) as i64
    }

    /// The authority's own wish, as long as it leaves a sixth of the life for what may go wrong, and an hour `since` the certificate
    /// came: one that wishes every certificate away at once is not followed as fast as it can issue.
    pub fn heed(self, wish: i64, since: i64) -> i64 {
        wish.max(since + ASK_MIN).min(self.not_after - self.length() / 6)
    }
}

/// How long after so many failures in a row, the first included. `told`: what the authority asked for.
pub(super) fn retry_in(failures: u32, told: Option<i64>, dice: f64) -> i64 {
    let base = 3_i64.saturating_pow(failures.saturating_sub(1)).saturating_mul(RETRY_MIN).min(RETRY_MAX);
    let jitter = (base as f64 / 4.0 * dice) as i64;
    (base + jitter).max(told.unwrap_or(0).min(PATIENCE_MAX))
}

/// A moment in the window that an authority suggests (RFC 9773 §4.2). The one from before stays as long as it is in there, or asking
/// again and again would draw it to the front.
pub(super) fn moment_in(start: i64, end: i64, before: Option<i64>, dice: f64) -> i64 {
    match before {
        Some(before) if (start..=end).contains(&before) => before,
        Some(_) | None => start + ((end - start).max(0) as f64 * dice) as i64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 3600;

    #[test]
    fn renewal_is_due_when_a_third_of_the_life_is_left() {
        let life = Life { not_before: 1000, not_after: 1000 + 90 * DAY };
        assert_eq!(life.renew_at(0.0), 1000 + 60 * DAY);
        assert!(life.renew_at(0.99) < 1000 + 62 * DAY);
        assert_eq!(life.heed(1000 + 10 * DAY, 1000), 1000 + 10 * DAY);
        assert_eq!(life.heed(1000 + 89 * DAY, 1000), 1000 + 75 * DAY, "too late to be safe");
        assert_eq!(life.heed(5, 5000), 5000 + ASK_MIN, "too soon to be meant");
        let nonsense = Life { not_before: 10, not_after: 5 };
        assert_eq!((nonsense.renew_at(0.9), nonsense.heed(4, 0)), (5, 5));
    }

    #[test]
    fn a_life_of_minutes_is_renewed_in_minutes() {
        let life = Life { not_before: 0, not_after: 300 };
        assert!((200..=205).contains(&life.renew_at(0.9)));
        assert_eq!(life.heed(0, 0), 250);
    }

    #[test]
    fn failures_are_followed_by_longer_and_longer_waits() {
        for (failures, told, least, most) in [
            (1, None, 60, 75),
            (2, None, 180, 225),
            (3, None, 540, 675),
            (7, None, RETRY_MAX, RETRY_MAX * 5 / 4),
            (4_000_000, None, RETRY_MAX, RETRY_MAX * 5 / 4),
            (1, Some(5), 60, 75),
            (1, Some(3600), 3600, 3600),
            (1, Some(i64::MAX), PATIENCE_MAX, PATIENCE_MAX),
            (9, Some(-5), RETRY_MAX, RETRY_MAX * 5 / 4),
        ] {
            for dice in [0.0, 0.5, 0.999] {
                let wait = retry_in(failures, told, dice);
                assert!((least..=most).contains(&wait), "{failures} {told:?} {dice}: {wait}");
            }
        }
    }

    #[test]
    fn a_moment_stays_while_the_window_holds_it() {
        assert_eq!(moment_in(100, 200, None, 0.5), 150);
        assert_eq!(moment_in(100, 200, Some(120), 0.9), 120);
        assert_eq!(moment_in(100, 200, Some(300), 0.1), 110);
        assert_eq!(moment_in(200, 100, None, 0.5), 200, "a window the wrong way round");
    }
}
