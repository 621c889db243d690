//! Counts what costs the reader and carries nothing, over a period, against limits (RFC 9113 §10.5).

use crate::server::H2Limits;
use std::time::{Duration, Instant};

/// Over how long floods are counted.
const PERIOD: Duration = Duration::from_secs(10);
/// No peer with sense opens its windows for less.
const WINDOW_PIECE_BYTES: u64 = 1024;

/// What was counted in the period.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    /// Header sections, trailers too.
    pub sections: u64,
    /// DATA frames without a byte that do not end their stream, and such pieces of header blocks: they cost no window.
    pub empties: u64,
    pub priorities: u64,
    /// Streams reset by the peer, or by us for its errors.
    pub resets: u64,
    /// SETTINGS, acknowledgements, GOAWAY, and frames that nobody knows.
    pub idle: u64,
    pub pings: u64,
    pub window_updates: u64,
    /// DATA frames that we sent and no window cut short, and the bytes of all.
    pub sent_frames: u64,
    pub sent_bytes: u64,
}

impl Tally {
    fn is_flood(&self, limits: &H2Limits) -> bool {
        // Each stream may open its window and say its priority; what we send may be acknowledged in small pieces, for stream and
        // connection.
        let due = 2 * (self.sent_frames + self.sections + self.sent_bytes / WINDOW_PIECE_BYTES);
        let windows = self.window_updates.saturating_sub(due);
        let priorities = self.priorities.saturating_sub(self.sections);
        // Who measures its line sends one in each round trip in which something came; gRPC's libraries do.
        let pings = self.pings.saturating_sub(self.sent_frames);
        windows + pings + self.empties + priorities + self.idle > u64::from(limits.control_frames)
            || self.resets > u64::from(limits.resets)
    }
}

/// One connection's count.
pub(crate) struct Flood {
    pub tally: Tally,
    since: Instant,
}

impl Flood {
    pub fn new(now: Instant) -> Flood {
        Flood { tally: Tally::default(), since: now }
    }

    /// Something came: what was counted long ago is of another time.
    pub fn look(&mut self, now: Instant) {
        if now.saturating_duration_since(self.since) > PERIOD {
            *self = Flood::new(now);
        }
    }

    /// Whether more came in this period than limits allow.
    pub fn is_over(&self, limits: &H2Limits) -> bool {
        self.tally.is_flood(limits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: H2Limits = H2Limits { streams: 100, window: 65_535, resets: 100, control_frames: 1000 };

    #[test]
    fn what_streams_need_is_no_flood() {
        let busy = Tally { sections: 5_000, window_updates: 20_000, sent_frames: 5_000, pings: 5_000, ..Tally::default() };
        assert!(!busy.is_flood(&LIMITS));
    }

    #[test]
    fn what_carries_nothing_is() {
        let quiet = Tally::default();
        for flooded in [
            Tally { idle: 1001, ..quiet },
            Tally { pings: 1001, ..quiet },
            Tally { pings: 2001, sent_frames: 1000, ..quiet },
            Tally { idle: 600, window_updates: 600, ..quiet },
            Tally { window_updates: 1001, ..quiet },
            Tally { empties: 1001, ..quiet },
            Tally { priorities: 1001, ..quiet },
            Tally { resets: 101, ..quiet },
        ] {
            let start = Instant::now();
            let mut flood = Flood::new(start);
            flood.tally = flooded;
            flood.look(start + PERIOD);
            assert!(flood.is_over(&LIMITS), "{flooded:?}");
            flood.look(start + 2 * PERIOD);
            assert!(!flood.is_over(&LIMITS), "a new period: {flooded:?}");
        }
    }
}
