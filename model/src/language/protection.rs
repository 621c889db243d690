//! What keeps an upstream from drowning: the keys of health, ejection, breakers, retries, hedges, limit and queue.

use super::values::{ShareText, SmallSize, Text, Timeout};
use crate::decode::{
    Bool, Cx, Defs, List, OneOrMany, ScalarOr, Shape, or_reference, record, text, texts, whole, whole_schema, words,
};
use crate::document::{
    Affinity, CircuitBreaker, Concurrency, ConcurrencyLimit, ConcurrencyScope, HealthCheck, Hedge, HedgeAfter, Maintenance,
    OutlierDetection, Priority, Probe, Queue, Retry, RetryOn,
};
use crate::span::Spanned;
use crate::values::{HeaderName, ValueError, parse_duration};
use crate::yaml::Node;
use serde_json::{Value, json};
use std::num::NonZeroU32;

texts! {
    /// A path that begins with `/`, with a query if any.
    CheckPath => String, parse_check_path, "a path such as `/healthz`", "^/[!-~]*$";
    /// Statuses: one such as `204`, or a range such as `200-299`.
    StatusRange => (u16, u16), parse_statuses, "statuses such as `200-299`", "^[1-5][0-9][0-9](-[1-5][0-9][0-9])?$";
    /// What is worth another try: `connect`, `reset`, `timeout`, or a status from 400 to 599.
    RetryCondition => RetryOn, parse_retry_on, "a condition such as `connect` or `503`", "^(connect|reset|timeout|[45][0-9][0-9])$";
    /// A duration such as `50ms`, or a percentile of the upstream's answers such as `p95`.
    HedgeTime => HedgeAfter, parse_hedge_after, "a duration such as `50ms`, or a percentile such as `p95`", "^(p[0-9.]+|[0-9]+(ms|s|min))$";
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
        path: Option<Spanned<CheckPath>> = absent,
        /// With `http`: the Host that is sent, instead of the endpoint's own.
        host: Option<Spanned<Text>> = absent,
        /// With `http`: the statuses of one that is well; `200-299` by default.
        expect: Option<Spanned<OneOrMany<StatusRange>>> = absent,
        /// With `grpc`: the name of the service, instead of the whole server.
        service: Option<Spanned<Text>> = absent,
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
        conditions: List<RetryCondition> = "[connect, reset, 502, 503, 504]",
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

pub(crate) struct Port;

impl Shape for Port {
    type Out = u16;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<u16> {
        whole(node, cx, 1, 65_535).and_then(|port| u16::try_from(port).ok())
    }

    fn schema(defs: &mut Defs) -> Value {
        whole_schema(defs, 1, 65_535)
    }
}

pub(crate) struct Attempts;

/// More would only make an outage longer.
const ATTEMPTS_MAX: u64 = 10;

impl Shape for Attempts {
    type Out = NonZeroU32;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<NonZeroU32> {
        whole(node, cx, 1, ATTEMPTS_MAX).and_then(|count| NonZeroU32::new(count as u32))
    }

    fn schema(defs: &mut Defs) -> Value {
        whole_schema(defs, 1, ATTEMPTS_MAX)
    }
}

pub(crate) struct QueueLength;

/// Each that waits holds a connection of its client.
const QUEUE_LENGTH_MAX: u64 = 1_000_000;

impl Shape for QueueLength {
    type Out = u32;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<u32> {
        whole(node, cx, 0, QUEUE_LENGTH_MAX).map(|length| length as u32)
    }

    fn schema(defs: &mut Defs) -> Value {
        whole_schema(defs, 0, QUEUE_LENGTH_MAX)
    }
}

/// `adaptive`, `{ adaptive: { min, max } }`, or a number.
pub(crate) struct LimitShape;
struct LimitWord;
struct LimitLong;

impl Shape for LimitShape {
    type Out = ConcurrencyLimit;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<ConcurrencyLimit> {
        ScalarOr::<LimitWord, LimitLong>::decode(node, cx)
    }

    fn schema(defs: &mut Defs) -> Value {
        ScalarOr::<LimitWord, LimitLong>::schema(defs)
    }
}

impl Shape for LimitWord {
    type Out = ConcurrencyLimit;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<ConcurrencyLimit> {
        let scalar = cx.scalar(node, "`adaptive`, or a number of requests")?;
        if scalar.text == "adaptive" {
            let RawAdaptive { min, max } = crate::decode::default_of::<RawAdaptive>();
            return Some(ConcurrencyLimit::Adaptive { min, max });
        }
        NonZeroU32::decode(node, cx).map(ConcurrencyLimit::Fixed)
    }

    fn schema(defs: &mut Defs) -> Value {
        or_reference(defs, json!({ "anyOf": [{ "const": "adaptive" }, { "type": "integer", "minimum": 1 }] }))
    }
}

impl Shape for LimitLong {
    type Out = ConcurrencyLimit;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<ConcurrencyLimit> {
        let RawAdaptive { min, max } = RawLimit::decode(node, cx)?.adaptive;
        if min > max {
            cx.error("contradiction", node.span, format!("`min` {min} is above `max` {max}"), "write the smaller one as `min`");
            return None;
        }
        Some(ConcurrencyLimit::Adaptive { min, max })
    }

    fn schema(defs: &mut Defs) -> Value {
        RawLimit::schema(defs)
    }
}

pub(crate) struct HealthCheckShape;

impl Shape for HealthCheckShape {
    type Out = HealthCheck;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<HealthCheck> {
        let raw = RawHealthCheck::decode(node, cx)?;
        let kind = raw.kind.map_or(ProbeKind::Http, |kind| kind.value);
        let probe = match kind {
            ProbeKind::Http => Probe::Http {
                path: raw.path.map_or_else(|| "/".to_owned(), |path| path.value),
                host: raw.host.map(|host| host.value),
                expect: raw.expect.map_or_else(|| vec![(200, 299)], |expect| expect.value),
            },
            ProbeKind::Tcp => Probe::Tcp,
            ProbeKind::Grpc => Probe::Grpc { service: raw.service.map_or_else(String::new, |service| service.value) },
        };
        Some(HealthCheck {
            probe,
            port: raw.port,
            interval: raw.interval,
            timeout: raw.timeout,
            unhealthy_after: raw.unhealthy_after,
            healthy_after: raw.healthy_after,
        })
    }

    fn schema(defs: &mut Defs) -> Value {
        RawHealthCheck::schema(defs)
    }
}

/// A number, or `header:NAME`.
pub(crate) struct PriorityShape;

const PRIORITY_MAX: u64 = 15;

impl Shape for PriorityShape {
    type Out = Priority;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Priority> {
        let scalar = cx.scalar(node, "a number from 0 to 15, or `header:NAME`")?;
        if scalar.text.starts_with("header:") {
            return text(node, cx, "a header such as `header:x-priority`", |scalar| {
                HeaderName::parse(scalar.text.trim_start_matches("header:")).map(Priority::Header)
            });
        }
        whole(node, cx, 0, PRIORITY_MAX).map(|priority| Priority::Fixed(priority as u8))
    }

    fn schema(defs: &mut Defs) -> Value {
        let number = json!({ "type": "integer", "minimum": 0, "maximum": PRIORITY_MAX });
        or_reference(defs, json!({ "anyOf": [number, { "type": "string", "pattern": "^header:.+$" }] }))
    }
}

/// `true`, `false`, or a mapping.
pub(crate) struct MaintenanceShape;
struct MaintenanceWord;
struct MaintenanceLong;

impl Shape for MaintenanceShape {
    type Out = Maintenance;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Maintenance> {
        ScalarOr::<MaintenanceWord, MaintenanceLong>::decode(node, cx)
    }

    fn schema(defs: &mut Defs) -> Value {
        ScalarOr::<MaintenanceWord, MaintenanceLong>::schema(defs)
    }
}

impl Shape for MaintenanceWord {
    type Out = Maintenance;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Maintenance> {
        let on = Bool::decode(node, cx)?;
        let RawMaintenance { retry_after } = crate::decode::default_of::<RawMaintenance>();
        Some(Maintenance { on, retry_after })
    }

    fn schema(defs: &mut Defs) -> Value {
        Bool::schema(defs)
    }
}

impl Shape for MaintenanceLong {
    type Out = Maintenance;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<Maintenance> {
        RawMaintenance::decode(node, cx).map(|RawMaintenance { retry_after }| Maintenance { on: true, retry_after })
    }

    fn schema(defs: &mut Defs) -> Value {
        RawMaintenance::schema(defs)
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
    let wrong =
        || ValueError::new(format!("`{text}` is no status")).hint("write one such as `204`, or a range such as `200-299`");
    let status = |text: &str| text.parse::<u16>().ok().filter(|status| (100..=599).contains(status)).ok_or_else(wrong);
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
            Ok(_) | Err(_) => Err(ValueError::new(format!("`{text}` is no reason to try again"))
                .hint("write `connect`, `reset`, `timeout`, or a status from 400 to 599")),
        },
    }
}

fn parse_hedge_after(text: &str) -> Result<HedgeAfter, ValueError> {
    let Some(percentile) = text.strip_prefix('p') else { return parse_duration(text).map(HedgeAfter::Delay) };
    let per_mille = percentile.parse::<f64>().ok().map(|share| share * 10.0).filter(|per_mille| per_mille.fract() == 0.0);
    match per_mille {
        Some(per_mille) if (500.0..=999.0).contains(&per_mille) => Ok(HedgeAfter::Percentile { per_mille: per_mille as u16 }),
        Some(_) | None => Err(ValueError::new(format!("`{text}` is no percentile")).hint("write one from `p50` to `p99.9`")),
    }
}

/// RFC 6265 §4.1.1: a cookie's name is a token.
fn parse_cookie_name(text: &str) -> Result<String, ValueError> {
    match HeaderName::parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(ValueError::new(format!("`{text}` is not the name of a cookie"))
            .hint("a cookie's name has letters, digits, `-` and `_`: `session`")),
    }
}
