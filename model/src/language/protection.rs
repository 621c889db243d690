//! What keeps an upstream from drowning: the keys of health, ejection, breakers, retries, hedges, limit and queue. How they go together
//! is checked when the whole document is there.

mod forms;

pub(crate) use forms::{HealthCheckShape, Long, MaintenanceShape, PriorityShape};

use super::values::{ShareText, SmallSize, Text, Timeout};
use crate::decode::{List, OneOrMany, record, texts, words};
use crate::document::{
    Affinity, CircuitBreaker, Concurrency, ConcurrencyScope, Hedge, HedgeAfter, OutlierDetection, Queue, Retry, RetryOn,
};
use crate::span::Spanned;
use crate::values::{HeaderName, Share, ValueError, parse_duration};
use forms::{Attempts, LimitShape, OrStatus, Port, QueueLength};
use std::num::NonZeroU32;
use std::time::Duration;

texts! {
    /// A path that begins with `/`, with a query if any.
    CheckPath => String, parse_check_path, "a path such as `/healthz`", "^/[!-~]*$";
    /// Statuses: one such as `204`, or a range such as `200-299`.
    StatusRange => (u16, u16), parse_statuses, "statuses such as `200-299`", "^[2-5][0-9][0-9](-[2-5][0-9][0-9])?$";
    /// What is worth another try: `connect`, `reset`, `timeout`, or a status from 400 to 599.
    RetryCondition => RetryOn, parse_retry_on, "a condition such as `connect` or `503`", "^(connect|reset|timeout|[45][0-9][0-9])$";
    /// A duration such as `50ms`, or a percentile of the upstream's answers such as `p95`.
    HedgeTime => HedgeAfter, parse_hedge_after, "a duration such as `50ms`, or a percentile such as `p95`", "^(p[0-9]+(\\.[0-9])?|[0-9]*[1-9][0-9]*(ms|s|min|h|d))$";
    /// The name of a cookie.
    CookieName => String, parse_cookie_name, "the name of a cookie", "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$";
}

words! {
    /// What the limit is a limit of.
    ConcurrencyScope {
        /// All endpoints together.
        Upstream = "upstream",
        /// Each endpoint.
        Endpoint = "endpoint",
    }
}

pub(crate) enum ProbeKind {
    Http,
    Tcp,
    Grpc,
}

words! {
    /// How an endpoint is asked whether it is well.
    ProbeKind {
        /// By a GET.
        Http = "http",
        /// By a connection.
        Tcp = "tcp",
        /// By grpc.health.v1.Health/Check.
        Grpc = "grpc",
    }
}

record! {
    /// How endpoints are asked whether they are well.
    "`health_check`" => struct RawHealthCheck {
        /// How they are asked: `http` by default.
        kind as "type": Option<Spanned<ProbeKind>> = absent,
        /// With `http`: what is asked for.
        path: Option<CheckPath> = absent,
        /// With `http`: the Host that is sent, instead of the endpoint's own.
        host: Option<Text> = absent,
        /// With `http`: the statuses of one that is well; `200-299` by default.
        expect: Option<OneOrMany<OrStatus<StatusRange, 200>>> = absent,
        /// With `grpc`: the name of the service, instead of the whole server.
        service: Option<Text> = absent,
        /// Another port than that of requests.
        port: Option<Port> = absent,
        /// From the end of one check to the next.
        interval: Timeout = "3s",
        /// For the whole of a check.
        timeout: Timeout = "1s",
        /// Failed checks in a row that make an endpoint unhealthy.
        unhealthy_after: NonZeroU32 = "3",
        /// Passed checks in a row that make it healthy again.
        healthy_after: NonZeroU32 = "1",
    }
}

record! {
    /// Which endpoints are left alone for a while, by what requests saw of them.
    "`outlier_detection`" => OutlierDetection {
        /// Failures in a row: no connection, reset, timeout, 5xx.
        consecutive_failures: NonZeroU32 = "5",
        /// The share of requests that must succeed in an interval.
        success_rate: Option<ShareText> = absent,
        /// Requests in an interval below which their share says nothing.
        min_requests: NonZeroU32 = "20",
        /// How often shares are looked at.
        interval: Timeout = "3s",
        /// For how long an endpoint is left alone the first time; the second time twice as long, and so on.
        eject_for: Timeout = "30s",
        /// The longest of these times.
        eject_max: Timeout = "5min",
        /// How many endpoints may be left alone at once; one always may.
        max_ejected: ShareText = "50%",
    }
}

record! {
    /// What an upstream may have at once, over all workers.
    "`circuit_breaker`" => CircuitBreaker {
        /// Open connections.
        connections: NonZeroU32 = "1024",
        /// Requests in flight.
        requests: NonZeroU32 = "1024",
        /// Requests that wait for a connection.
        pending: NonZeroU32 = "1024",
    }
}

record! {
    /// Another try for requests that failed, where that is safe.
    "`retry`" => Retry {
        /// All tries, the first too.
        attempts: Attempts = "2",
        /// What is worth another try: `connect`, `reset`, `timeout`, statuses from 400 to 599.
        conditions: List<OrStatus<RetryCondition, 400>> = "[connect, reset, 502, 503, 504]",
        /// Until the head of the answer to one try.
        per_try_timeout: Option<Timeout> = absent,
        /// Retries beside the requests of the upstream.
        budget: ShareText = "20%",
        /// The mean wait before the second try; doubled for each further one.
        backoff: Timeout = "25ms",
        /// The longest of these waits.
        backoff_max: Timeout = "250ms",
        /// A longer body is not kept, and its request not repeated once some of it was sent.
        body_bytes: SmallSize = "64KiB",
    }
}

record! {
    /// A second request beside an idempotent one that takes long; the first answer counts.
    "`hedge`" => Hedge {
        /// When: a duration, or a percentile such as `p95` of the upstream's answers.
        after: HedgeTime = required,
    }
}

record! {
    /// Where requests wait that do not fit.
    "`queue`" => Queue {
        /// How many may wait; 0 for none.
        length: QueueLength = "500",
        /// How long each may.
        timeout: Timeout = "2s",
    }
}

record! {
    /// A limit that is found by latency.
    "`adaptive`" => struct RawAdaptive {
        /// Never below.
        min: NonZeroU32 = "1",
        /// Never above.
        max: NonZeroU32 = "1000",
    }
}

record! {
    /// A limit that is found by latency, with bounds.
    "`limit`" => struct RawLimit {
        /// The bounds.
        adaptive: RawAdaptive = empty,
    }
}

record! {
    /// How many requests are in flight at once; the rest wait in line.
    "`concurrency`" => Concurrency {
        /// `adaptive`, or a number of requests.
        limit: LimitShape = required,
        /// Of what the limit is.
        per: ConcurrencyScope = "upstream",
        /// Where requests wait that do not fit.
        queue: Queue = empty,
    }
}

record! {
    /// The cookie that sends a client where it was before.
    "`affinity`" => Affinity {
        /// Its name.
        cookie: CookieName = required,
        /// How long clients are to keep it; without, as long as their session.
        ttl: Option<Timeout> = absent,
    }
}

record! {
    /// Nobody is let through for now.
    "`maintenance`" => struct RawMaintenance {
        /// What clients are told to wait.
        retry_after: Timeout = "60s",
    }
}

fn parse_check_path(text: &str) -> Result<String, ValueError> {
    if !text.starts_with('/') {
        return Err(ValueError::new(format!("`{text}` is not a path")).hint(format!("write `/{text}`")));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(ValueError::new(format!("`{text}` has characters that no path has")).hint("escape them, as in `%20`"));
    }
    Ok(text.to_owned())
}

fn parse_statuses(text: &str) -> Result<(u16, u16), ValueError> {
    let hint = match text.as_bytes() {
        [class @ b'2'..=b'5', b'x' | b'X', b'x' | b'X'] => format!("write `{0}00-{0}99`", *class as char),
        _ => "write one such as `204`, or a range such as `200-299`".to_owned(),
    };
    let wrong = || ValueError::new(format!("`{text}` is no status")).hint(hint.as_str());
    let status = |text: &str| text.parse::<u16>().ok().filter(|status| (200..=599).contains(status)).ok_or_else(wrong);
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to) = (status(from.trim())?, status(to.trim())?);
    if from > to {
        return Err(ValueError::new(format!("the range `{text}` is empty")).hint(format!("write `{to}-{from}`")));
    }
    Ok((from, to))
}

fn parse_retry_on(text: &str) -> Result<RetryOn, ValueError> {
    match text {
        "connect" => Ok(RetryOn::Connect),
        "reset" => Ok(RetryOn::Reset),
        "timeout" => Ok(RetryOn::Timeout),
        _ => match text.parse::<u16>() {
            Ok(status @ 400..=599) => Ok(RetryOn::Status(status)),
            Ok(_) | Err(_) if text.eq_ignore_ascii_case("5xx") => {
                Err(ValueError::new("each status is named by itself").hint("write `500, 502, 503, 504`"))
            }
            Ok(_) | Err(_) => Err(ValueError::new(format!("`{text}` is no reason to try again"))
                .hint("write `connect`, `reset`, `timeout`, or a status from 400 to 599")),
        },
    }
}

fn parse_hedge_after(text: &str) -> Result<HedgeAfter, ValueError> {
    let Some(percentile) = text.strip_prefix('p') else {
        return match parse_duration(text)? {
            Duration::ZERO => {
                Err(ValueError::new("a second request after nothing doubles all of them").hint("write at least `1ms`"))
            }
            delay => Ok(HedgeAfter::Delay(delay)),
        };
    };
    // Digits and a point, as in a share.
    let tenths = Share::parse(&format!("{percentile}%")).ok().map(Share::ppm).filter(|ppm| ppm.is_multiple_of(1000));
    match tenths.map(|ppm| ppm / 1000) {
        Some(per_mille @ 500..=999) => Ok(HedgeAfter::Percentile { per_mille: per_mille as u16 }),
        Some(_) | None => Err(ValueError::new(format!("`{text}` is no percentile")).hint("write one from `p50` to `p99.9`")),
    }
}

/// RFC 6265 §4.1.1: a cookie's name is a token.
pub(super) fn parse_cookie_name(text: &str) -> Result<String, ValueError> {
    match HeaderName::parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(ValueError::new(format!("`{text}` is not the name of a cookie"))
            .hint("a cookie's name has letters, digits, `-` and `_`: `session`")),
    }
}
