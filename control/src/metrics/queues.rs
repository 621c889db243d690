//! Metrics by upstream, of those that have a limit of requests in flight. Counts nothing: the gates do.

use super::{Page, escaped, seconds};
use crate::upstreams::UpstreamView;
use maitred_core::metrics::BUCKETS_MICROS;
use maitred_core::queue::{GateView, Tally};

type Gauge = (&'static str, &'static str, fn(&GateView) -> u32);

const GAUGES: [Gauge; 3] = [
    ("maitred_upstream_concurrency_in_flight", "Requests that have a place of an upstream's limit now.", |gate| gate.in_flight),
    ("maitred_upstream_concurrency_limit", "How many requests an upstream may have in flight now.", |gate| gate.limit),
    ("maitred_upstream_queue_length", "Requests that wait for a place at an upstream now.", |gate| gate.waiting),
];

type Refused = (&'static str, fn(&Tally) -> u64);

const REFUSED: [Refused; 5] = [
    ("full", |tally| tally.full),
    ("timeout", |tally| tally.timeout),
    ("shed", |tally| tally.shed),
    ("outranked", |tally| tally.outranked),
    ("gone", |tally| tally.gone),
];

pub(super) fn write(page: &mut Page, upstreams: &[UpstreamView]) {
    let gates = || upstreams.iter().filter_map(|upstream| Some((escaped(&upstream.name), upstream.queue.as_ref()?)));
    for (name, help, value) in GAUGES {
        page.family(name, "gauge", help);
        for (upstream, gate) in gates() {
            page.line(format_args!("{name}{{upstream=\"{upstream}\"}} {}", value(gate)));
        }
    }
    let name = "maitred_upstream_queue_refused_total";
    page.family(name, "counter", "Requests that did not come to their turn at an upstream, by why.");
    for (upstream, gate) in gates() {
        for (reason, count) in REFUSED {
            page.line(format_args!("{name}{{upstream=\"{upstream}\",reason=\"{reason}\"}} {}", count(&gate.tally)));
        }
    }
    let name = "maitred_upstream_queue_wait_seconds";
    page.family(name, "histogram", "What requests waited for their turn at an upstream, of those that had to.");
    for (upstream, gate) in gates() {
        waits(page, name, &upstream, &gate.tally);
    }
}

fn waits(page: &mut Page, name: &str, upstream: &str, tally: &Tally) {
    let mut below = 0;
    for (bound, count) in BUCKETS_MICROS.iter().zip(&tally.waited) {
        below += count;
        page.line(format_args!("{name}_bucket{{upstream=\"{upstream}\",le=\"{}\"}} {below}", seconds(*bound)));
    }
    let count: u64 = tally.waited.iter().sum();
    page.line(format_args!("{name}_bucket{{upstream=\"{upstream}\",le=\"+Inf\"}} {count}"));
    page.line(format_args!("{name}_sum{{upstream=\"{upstream}\"}} {}", seconds(tally.waited_micros)));
    page.line(format_args!("{name}_count{{upstream=\"{upstream}\"}} {count}"));
}
