//! What keeps an upstream from drowning, and its users from noticing: health, ejection, breakers, retries, hedges, limit and queue.

use crate::values::{HeaderName, Share, format_duration};
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

/// What an upstream may have besides endpoints. All of it is off by default, and what is off costs nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Protection {
    pub health_check: Option<HealthCheck>,
    pub outlier_detection: Option<OutlierDetection>,
    pub circuit_breaker: Option<CircuitBreaker>,
    pub retry: Option<Retry>,
    pub hedge: Option<Hedge>,
    /// A new endpoint, or one that is healthy again, reaches its full weight by and by.
    pub slow_start: Option<Duration>,
    pub concurrency: Option<Concurrency>,
    /// Below this share of usable endpoints all of them are used. `None`: 50%.
    pub panic_below: Option<Share>,
}

/// How an endpoint is asked whether it is well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    pub probe: Probe,
    /// Another port than that of requests.
    pub port: Option<u16>,
    /// From the end of one check to the next. Default 3s.
    pub interval: Duration,
    /// For the whole of a check. Default 1s.
    pub timeout: Duration,
    /// Failed checks in a row that make it unhealthy. Default 3.
    pub unhealthy_after: NonZeroU32,
    /// Checks passed in a row that make it healthy. Default 1.
    pub healthy_after: NonZeroU32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// A GET.
    Http {
        /// Begins with `/`.
        path: String,
        /// The Host that is sent; the endpoint's own by default.
        host: Option<String>,
        /// Statuses, inclusive. Default 200-299.
        expect: Vec<(u16, u16)>,
    },
    /// A connection, and no more.
    Tcp,
    /// grpc.health.v1.Health/Check, for the service of that name; empty for the whole server.
    Grpc { service: String },
}

impl Probe {
    pub fn name(&self) -> &'static str {
        match self {
            Probe::Http { .. } => "http",
            Probe::Tcp => "tcp",
            Probe::Grpc { .. } => "grpc",
        }
    }
}

/// Which endpoints are left alone for a while, by what requests saw of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlierDetection {
    /// Failures in a row, over all workers: no connection, reset, timeout, 5xx. Default 5.
    pub consecutive_failures: NonZeroU32,
    /// Share of requests that must succeed in an interval in which there were `min_requests`.
    pub success_rate: Option<Share>,
    /// Default 20.
    pub min_requests: NonZeroU32,
    /// How often shares are looked at, and endpoints let in again. Default 3s.
    pub interval: Duration,
    /// The first time; the second twice as long, and so on up to `eject_max`. Default 30s.
    pub eject_for: Duration,
    /// Default 5min.
    pub eject_max: Duration,
    /// Of the endpoints, but always one. Default 50%.
    pub max_ejected: Share,
}

/// What an upstream may have at once, over all workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CircuitBreaker {
    /// Open connections. Default 1024.
    pub connections: NonZeroU32,
    /// Requests in flight. Default 1024.
    pub requests: NonZeroU32,
    /// Requests that wait for a connection. Default 1024.
    pub pending: NonZeroU32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// All tries, the first too. Default 2.
    pub attempts: NonZeroU32,
    /// Default: connect, reset, 502, 503, 504.
    pub conditions: Vec<RetryOn>,
    pub per_try_timeout: Option<Duration>,
    /// Retries beside the requests of the upstream. Default 20%.
    pub budget: Share,
    /// The mean wait before the second try; doubled for each further one. Default 25ms.
    pub backoff: Duration,
    /// Default 250ms.
    pub backoff_max: Duration,
    /// A request's body that is longer is not kept, and the request not repeated once some of it was sent. bytes, default 64KiB
    pub body_bytes: NonZeroU32,
}

/// What is worth another try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryOn {
    /// No connection could be made.
    Connect,
    /// The connection ended without an answer, or the stream was refused.
    Reset,
    /// No answer in time: `per_try_timeout` or the upstream's `response`.
    Timeout,
    /// An answer of this status, 400 to 599.
    Status(u16),
}

impl fmt::Display for RetryOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RetryOn::Connect => f.write_str("connect"),
            RetryOn::Reset => f.write_str("reset"),
            RetryOn::Timeout => f.write_str("timeout"),
            RetryOn::Status(status) => write!(f, "{status}"),
        }
    }
}

/// A second request beside one that takes long; the first answer counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hedge {
    pub after: HedgeAfter,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HedgeAfter {
    Delay(Duration),
    /// The time in which this share of the upstream's requests is answered: `p95` is 950 per mille.
    Percentile {
        per_mille: u16,
    },
}

impl fmt::Display for HedgeAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HedgeAfter::Delay(delay) => f.write_str(&format_duration(*delay)),
            HedgeAfter::Percentile { per_mille } if per_mille.is_multiple_of(10) => write!(f, "p{}", per_mille / 10),
            HedgeAfter::Percentile { per_mille } => write!(f, "p{}.{}", per_mille / 10, per_mille % 10),
        }
    }
}

/// How many requests are in flight at once; the rest wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Concurrency {
    pub limit: ConcurrencyLimit,
    /// Default upstream.
    pub per: ConcurrencyScope,
    /// Default: length 500, timeout 2s.
    pub queue: Queue,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConcurrencyLimit {
    /// Found by latency, between these. Default 1 and 1000.
    Adaptive {
        min: NonZeroU32,
        max: NonZeroU32,
    },
    Fixed(NonZeroU32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConcurrencyScope {
    Upstream,
    /// The limit is that of each endpoint; a request waits when all of them are full.
    Endpoint,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// Default 500. 0: nobody waits.
    pub length: u32,
    /// A place in it is given up after this. Default 2s.
    pub timeout: Duration,
}

/// Who is served first where requests wait: higher ones. 0 to 15, 0 by default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Priority {
    Fixed(u8),
    /// A header of trusted proxies; from others, or without it, 0.
    Header(HeaderName),
}

/// The cookie that sends a client where it was before.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Affinity {
    pub cookie: String,
    /// How long the client is to keep it; without, as long as its session.
    pub ttl: Option<Duration>,
}

/// Nobody is let through to the back end for now: 503.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maintenance {
    /// False: none, whatever the API says.
    pub on: bool,
    /// What clients are told to wait. Default 60s.
    pub retry_after: Duration,
}
