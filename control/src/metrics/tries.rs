//! What upstreams did beside sending a request once: further tries, second requests, copies, and what circuit breakers refused. Tells of an
//! upstream only what it is, or was, configured to do.

use super::{Page, escaped};
use maitred_core::metrics::{Counter, Metrics, RETRY_REASONS, UpstreamPart, UpstreamSeries, UpstreamShard};
use std::sync::Arc;

/// Name, help, for whom it is told, and what each worker counted of it.
type Family = (&'static str, &'static str, UpstreamPart, fn(&UpstreamShard) -> &Counter);

const FAMILIES: [Family; 9] = [
    (
        "maitred_retries_unpaid_total",
        "Tries that were worth it, and that the budget did not pay for.",
        UpstreamPart::Retries,
        |shard| &shard.retries_unpaid,
    ),
    ("maitred_hedges_total", "Second requests sent beside one that took long.", UpstreamPart::Hedges, |shard| &shard.hedges),
    ("maitred_hedges_won_total", "Those of them that were answered first.", UpstreamPart::Hedges, |shard| &shard.hedges_won),
    (
        "maitred_breaker_requests_refused_total",
        "Requests refused over circuit_breaker.requests.",
        UpstreamPart::Breaker,
        |shard| &shard.breaker_requests,
    ),
    (
        "maitred_breaker_waits_total",
        "Requests that waited for one of circuit_breaker.connections.",
        UpstreamPart::Breaker,
        |shard| &shard.breaker_waits,
    ),
    ("maitred_breaker_connections_refused_total", "Those that got none, or could not wait.", UpstreamPart::Breaker, |shard| {
        &shard.breaker_connections
    }),
    ("maitred_mirrored_requests_total", "Copies of requests sent there.", UpstreamPart::Mirror, |shard| &shard.mirrored),
    ("maitred_mirror_dropped_total", "Copies not sent: too large, or too many under way.", UpstreamPart::Mirror, |shard| {
        &shard.mirror_dropped
    }),
    ("maitred_mirror_failed_total", "Copies that no answer came to.", UpstreamPart::Mirror, |shard| &shard.mirror_failed),
];

pub(super) fn write(page: &mut Page, metrics: &Metrics) {
    let upstreams = metrics.upstreams();
    let told = |part| upstreams.iter().filter(move |upstream: &&Arc<UpstreamSeries>| upstream.is_told(part));
    let name = "maitred_retries_total";
    page.family(name, "counter", "Further tries of requests, by why the one before was not enough.");
    for upstream in told(UpstreamPart::Retries) {
        let label = escaped(&upstream.name);
        for (index, reason) in RETRY_REASONS.iter().enumerate() {
            let count = upstream.sum(|shard| &shard.retries[index]);
            page.line(format_args!("{name}{{upstream=\"{label}\",reason=\"{reason}\"}} {count}"));
        }
    }
    for (name, help, part, of) in FAMILIES {
        page.family(name, "counter", help);
        for upstream in told(part) {
            page.line(format_args!("{name}{{upstream=\"{}\"}} {}", escaped(&upstream.name), upstream.sum(of)));
        }
    }
}
