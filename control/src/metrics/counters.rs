//! Metrics of counts that gateways share, where they do. Counts nothing: the workers did.

use super::{Page, add_up, seconds};
use maitred_core::metrics::{BUCKETS_MICROS, Counter, Metrics, WorkerShard};

type Of = fn(&WorkerShard) -> &Counter;

const RESULTS: [(&str, Of); 3] = [
    ("answered", |worker| &worker.counters_answered),
    ("unanswered", |worker| &worker.counters_unanswered),
    ("unasked", |worker| &worker.counters_unasked),
];

pub(super) fn write(page: &mut Page, metrics: &Metrics) {
    let total = |of: Of| add_up(metrics.workers.iter().map(|worker| of(worker).get()));
    let connections = total(|worker| &worker.counters_connections);
    let missing = total(|worker| &worker.counters_lost);
    let losses = total(|worker| &worker.counters_losses);
    if connections == 0 && losses == 0 {
        return;
    }
    let help = "Whether every worker has its connections to the servers that count for several gateways.";
    page.single("maitred_counters_up", "gauge", help, u8::from(missing == 0));
    page.single("maitred_counters_connections", "gauge", "Connections to those servers.", connections);
    page.single("maitred_counters_losses_total", "counter", "Times that such a connection went, or could not be made.", losses);
    let name = "maitred_counters_requests_total";
    page.family(name, "counter", "What was asked of those servers, by whether there was an answer in time.");
    for (result, of) in RESULTS {
        page.line(format_args!("{name}{{result=\"{result}\"}} {}", total(of)));
    }
    let name = "maitred_counters_duration_seconds";
    page.family(name, "histogram", "How long the answers took that came in time.");
    let bucket = |at: usize| add_up(metrics.workers.iter().map(|worker| worker.counters_time.buckets[at].get()));
    let mut below = 0;
    for (at, bound) in BUCKETS_MICROS.iter().enumerate() {
        below += bucket(at);
        page.line(format_args!("{name}_bucket{{le=\"{}\"}} {below}", seconds(*bound)));
    }
    below += bucket(BUCKETS_MICROS.len());
    page.line(format_args!("{name}_bucket{{le=\"+Inf\"}} {below}"));
    let micros = add_up(metrics.workers.iter().map(|worker| worker.counters_time.sum_micros.get()));
    page.line(format_args!("{name}_sum {}", seconds(micros)));
    page.line(format_args!("{name}_count {below}"));
}
