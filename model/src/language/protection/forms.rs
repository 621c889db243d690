//! The forms that the keys of protection take, where a record alone does not say them.

use super::{ProbeKind, RawAdaptive, RawHealthCheck, RawLimit, RawMaintenance};
use crate::decode::{Bool, Cx, Defs, ScalarOr, Shape, UpTo, or_reference, text, whole, whole_schema};
use crate::document::{
    Affinity, CircuitBreaker, Concurrency, ConcurrencyLimit, HealthCheck, Hedge, Maintenance, OutlierDetection, Priority, Probe,
    Retry,
};
use crate::values::HeaderName;
use crate::yaml::Node;
use serde_json::{Value, json};
use std::marker::PhantomData;
use std::num::NonZeroU32;

/// A mapping that many would write as one word, and a hint that says how it is written here.
pub(crate) struct Long<S>(PhantomData<S>);

pub(crate) trait HasLongForm: Shape {
    const WHAT: &str;
    const HINT: &str;
}

impl<S: HasLongForm> Shape for Long<S> {
    type Out = S::Out;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<S::Out> {
        if cx.is_mapping(node, S::WHAT, S::HINT) { S::decode(node, cx) } else { None }
    }

    fn schema(defs: &mut Defs) -> Value {
        S::schema(defs)
    }
}

macro_rules! long_forms {
    ($($name:ident, $what:literal, $hint:literal;)*) => {$(
        impl HasLongForm for $name {
            const WHAT: &str = $what;
            const HINT: &str = $hint;
        }
    )*};
}

long_forms! {
    Affinity, "`affinity`", "write `{ cookie: endpoint }`";
    OutlierDetection, "`outlier_detection`", "write `{}` for what is usual, or `{ consecutive_failures: 5 }`";
    CircuitBreaker, "`circuit_breaker`", "write `{}` for what is usual, or `{ requests: 1024 }`";
    Retry, "`retry`", "write `{}` for what is usual, or `{ attempts: 2 }`";
    Hedge, "`hedge`", "write `{ after: 50ms }`, or `{ after: p95 }`";
    Concurrency, "`concurrency`", "write `{ limit: adaptive }`, or `{ limit: 100 }`";
}

/// A text that may be a number alone, as a status is.
pub(crate) struct OrStatus<S, const MIN: u16>(PhantomData<S>);

impl<S: Shape, const MIN: u16> Shape for OrStatus<S, MIN> {
    type Out = S::Out;

    fn decode(node: &Node, cx: &mut Cx<'_>) -> Option<S::Out> {
        S::decode(node, cx)
    }

    fn schema(defs: &mut Defs) -> Value {
        json!({ "anyOf": [{ "type": "integer", "minimum": MIN, "maximum": 599 }, S::schema(defs)] })
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

/// More would only make an outage longer.
pub(crate) type Attempts = UpTo<10>;

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
        if !scalar.text.starts_with(|c: char| c.is_ascii_digit()) {
            let message = format!("`{}` is no limit", scalar.shown());
            cx.error("unknown-word", node.span, message, "write `adaptive`, or a number of requests");
            return None;
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
        if !cx.is_mapping(node, "`health_check`", "write `{ path: /healthz }`") {
            return None;
        }
        let RawHealthCheck { kind, path, host, expect, service, port, interval, timeout, unhealthy_after, healthy_after } =
            RawHealthCheck::decode(node, cx)?;
        // What could not be read is complained about already, and says nothing of the keys beside it.
        if kind.is_none() && node.get("type").is_some() {
            return None;
        }
        let kind = kind.map_or(ProbeKind::Http, |kind| kind.value);
        foreign_keys(&kind, node, cx);
        let probe = match kind {
            ProbeKind::Http => Probe::Http {
                path: path.unwrap_or_else(|| "/".to_owned()),
                host,
                expect: expect.unwrap_or_else(|| vec![(200, 299)]),
            },
            ProbeKind::Tcp => Probe::Tcp,
            ProbeKind::Grpc => Probe::Grpc { service: service.unwrap_or_default() },
        };
        Some(HealthCheck { probe, port, interval, timeout, unhealthy_after, healthy_after })
    }

    fn schema(defs: &mut Defs) -> Value {
        RawHealthCheck::schema(defs)
    }
}

/// Keys that belong to another type of check than the one that is written, or is meant by none.
fn foreign_keys(kind: &ProbeKind, node: &Node, cx: &mut Cx<'_>) {
    let (word, foreign): (_, &[(&str, &str)]) = match kind {
        ProbeKind::Http => ("http", &[("service", "grpc")]),
        ProbeKind::Tcp => ("tcp", &[("path", "http"), ("host", "http"), ("expect", "http"), ("service", "grpc")]),
        ProbeKind::Grpc => ("grpc", &[("path", "http"), ("host", "http"), ("expect", "http")]),
    };
    for (key, theirs) in foreign {
        if let Some(found) = node.get(key) {
            let message = format!("`{key}` goes with `type: {theirs}`, and a check of type `{word}` has none");
            cx.error("contradiction", found.span, message, format!("write `type: {theirs}`, or remove `{key}`"));
        }
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
        if !scalar.text.starts_with(|c: char| c.is_ascii_digit()) {
            let message = format!("`{}` is no priority", scalar.shown());
            let hint = format!("write a number from 0 to {PRIORITY_MAX}, or `header:NAME`");
            cx.error("unknown-word", node.span, message, hint);
            return None;
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
