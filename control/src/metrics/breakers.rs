//! Metrics by upstream, of those that have a circuit breaker.

use super::{Page, escaped};
use crate::upstreams::UpstreamView;
use maitred_model::CircuitBreaker;
use maitred_transport::BreakerView;

pub(super) fn write(page: &mut Page, upstreams: &[UpstreamView]) {
    let breakers = || upstreams.iter().filter_map(|upstream| Some((escaped(&upstream.name), parts(upstream.breaker.as_ref()?))));
    let name = "maitred_upstream_breaker_used";
    page.family(
        name,
        "gauge",
        "What an upstream with a circuit breaker has now: requests, connections, and requests that wait for one.",
    );
    for (upstream, parts) in breakers() {
        for (of, used, _) in parts {
            page.line(format_args!("{name}{{upstream=\"{upstream}\",of=\"{of}\"}} {used}"));
        }
    }
    let name = "maitred_upstream_breaker_open";
    page.family(name, "gauge", "Whether a circuit breaker lets no more of them through.");
    for (upstream, parts) in breakers() {
        for (of, used, limit) in parts {
            page.line(format_args!("{name}{{upstream=\"{upstream}\",of=\"{of}\"}} {}", u8::from(used >= limit)));
        }
    }
}

fn parts(view: &BreakerView) -> [(&'static str, u32, u32); 3] {
    let BreakerView { requests: used, connections: open, pending: waiting, limits } = *view;
    let CircuitBreaker { connections, requests, pending } = limits;
    [("requests", used, requests.get()), ("connections", open, connections.get()), ("pending", waiting, pending.get())]
}
