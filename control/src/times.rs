//! Times as the admin listener tells them: RFC 3339 with milliseconds, always as wide, as the access log writes them. Reads no clock.

use jiff::Timestamp;

pub fn written(time: Timestamp) -> String {
    format!("{time:.3}")
}

/// `millis`: since 1970. `None`: beyond all calendars.
pub fn of_millis(millis: i64) -> Option<String> {
    Some(written(Timestamp::from_millisecond(millis).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_is_as_wide() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_700_000_000_500, "2023-11-14T22:13:20.500Z"),
            (1_700_000_000_120, "2023-11-14T22:13:20.120Z"),
            (1_700_000_000_007, "2023-11-14T22:13:20.007Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(of_millis(millis).as_deref(), Some(text));
        }
        assert_eq!(of_millis(i64::MAX), None);
    }
}
