//! Until when the head of a response must be there, and who says so: for the words of a 504. Waits for nothing itself.

use maitred_core::{Exchange, Fault, Kind};
use maitred_model::format_duration;
use std::fmt;
use std::time::{Duration, Instant};

/// A moment, and the limit that it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    pub at: Instant,
    pub limit: Limit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// `timeout` of the route, or of its API.
    Route(Duration),
    /// The client's own.
    GrpcTimeout(Duration),
    PerTry(Duration),
}

impl Due {
    /// Of a request as a whole.
    pub fn of(exchange: &Exchange) -> Option<Due> {
        let at = exchange.deadline?;
        let whole = at.saturating_duration_since(exchange.record.started);
        let limit = if exchange.lifetime == Some(at) { Limit::GrpcTimeout(whole) } else { Limit::Route(whole) };
        Some(Due { at, limit })
    }

    /// The earlier one.
    pub fn or(self, other: Option<Due>) -> Due {
        other.filter(|other| other.at < self.at).unwrap_or(self)
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, time) = match self {
            Limit::Route(time) => ("the route's timeout", time),
            Limit::GrpcTimeout(time) => ("the client's grpc-timeout", time),
            Limit::PerTry(time) => ("retry.per_try_timeout", time),
        };
        write!(f, "{what} of {}", format_duration(*time))
    }
}

/// Time is up for the head of a response. `due`: unless the back end had the whole of `response`.
pub(super) fn no_head(due: Option<Due>, response: Duration) -> Fault {
    let detail = match due {
        Some(due) => format!("no response head within {}", due.limit),
        None => format!("no response head within timeouts.response of {}", format_duration(response)),
    };
    Fault::new(Kind::UpstreamTimeout, detail)
}
