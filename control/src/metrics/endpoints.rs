//! What is known of each endpoint, by upstream and address.

use super::{Page, escaped};
use crate::upstreams::{EndpointView, UpstreamView};
use maitred_core::health::EndpointState;
use std::fmt::Display;

/// Endpoints that have series of their own; what names lead to is not bounded by the configuration. The first ones, in the order of upstreams.
pub(super) const ENDPOINTS_MAX: usize = 1000;

/// Name, type, help, and the number. `None`: nothing to say of this one.
type Family = (&'static str, &'static str, &'static str, fn(&EndpointView) -> Option<u64>);

const FAMILIES: [Family; 6] = [
    (
        "maitred_upstream_endpoint_up",
        "gauge",
        "Whether requests are sent to an endpoint: it is not unhealthy, ejected or drained.",
        |endpoint| Some(u64::from(endpoint.state == EndpointState::Healthy)),
    ),
    ("maitred_upstream_endpoint_in_flight", "gauge", "Requests under way at an endpoint now.", |endpoint| {
        Some(endpoint.in_flight.into())
    }),
    ("maitred_upstream_endpoint_connections", "gauge", "Connections to an endpoint open now, idle ones too.", |endpoint| {
        Some(endpoint.connections.into())
    }),
    ("maitred_upstream_endpoint_requests_total", "counter", "Attempts that an endpoint answered or failed.", |endpoint| {
        Some(endpoint.requests)
    }),
    (
        "maitred_upstream_endpoint_failures_total",
        "counter",
        "Attempts that failed at an endpoint: no connection, reset, no answer in time, 5xx.",
        |endpoint| Some(endpoint.failures),
    ),
    ("maitred_upstream_endpoint_ejections_total", "counter", "How often an endpoint was ejected.", |endpoint| {
        Some(endpoint.ejections)
    }),
];

pub(super) fn write(page: &mut Page, upstreams: &[UpstreamView]) {
    let all = || {
        let of = |upstream: &'_ UpstreamView| upstream.endpoints.len();
        let mut left = ENDPOINTS_MAX;
        upstreams.iter().flat_map(move |upstream| {
            let taken = left.min(of(upstream));
            left -= taken;
            distinct(&upstream.endpoints[..taken]).into_iter().map(move |endpoint| (upstream, endpoint))
        })
    };
    for (name, kind, help, value) in FAMILIES {
        page.family(name, kind, help);
        for (upstream, endpoint) in all() {
            if let Some(value) = value(endpoint) {
                line(page, name, upstream, endpoint, "", value);
            }
        }
    }
    let name = "maitred_upstream_endpoint_checks_total";
    page.family(name, "counter", "Health checks of an endpoint, by how they ended.");
    for (upstream, endpoint) in all() {
        if let Some(checked) = &endpoint.checked {
            line(page, name, upstream, endpoint, ",result=\"passed\"", checked.passed);
            line(page, name, upstream, endpoint, ",result=\"failed\"", checked.failed);
        }
    }
    let name = "maitred_upstream_panic";
    page.family(name, "gauge", "Whether so few endpoints of an upstream are usable that all of them are used.");
    for upstream in upstreams.iter().take(ENDPOINTS_MAX) {
        page.line(format_args!("{name}{{upstream=\"{}\"}} {}", escaped(&upstream.name), u8::from(upstream.panic)));
    }
    let total: usize = upstreams.iter().map(|upstream| upstream.endpoints.len()).sum();
    let help = "Endpoints that have no series here, because there are too many.";
    page.single("maitred_upstream_endpoints_unlisted", "gauge", help, total.saturating_sub(ENDPOINTS_MAX));
}

/// One address under two names or prefixes would be the same series twice: the first stands for it.
fn distinct(endpoints: &[EndpointView]) -> Vec<&EndpointView> {
    let mut seen = std::collections::HashSet::new();
    endpoints.iter().filter(|endpoint| seen.insert(&endpoint.target.address)).collect()
}

fn line(page: &mut Page, name: &str, upstream: &UpstreamView, endpoint: &EndpointView, more: &str, value: impl Display) {
    let (upstream, endpoint) = (escaped(&upstream.name), escaped(&endpoint.target.address.to_string()));
    page.line(format_args!("{name}{{upstream=\"{upstream}\",endpoint=\"{endpoint}\"{more}}} {value}"));
}
