//! What rate limits said. Names no key: there may be millions.

use super::{Page, escaped};
use maitred_core::limits::series::ANSWERS;
use maitred_core::metrics::Metrics;
use std::sync::atomic::Ordering;

pub(super) fn write(page: &mut Page, metrics: &Metrics) {
    let limits = metrics.limits();
    if limits.is_empty() {
        return;
    }
    let name = "maitred_rate_limit_total";
    page.family(name, "counter", "Requests that a rate limit was asked about, by what it said.");
    for series in limits {
        let counts = series.counts();
        if counts.iter().all(|count| *count == 0) {
            continue;
        }
        let [api, route, limit] = [&series.name.api, &series.name.route, &series.name.limit].map(|label| escaped(label));
        for (result, count) in ANSWERS.iter().zip(counts) {
            page.line(format_args!("{name}{{api=\"{api}\",route=\"{route}\",limit=\"{limit}\",result=\"{result}\"}} {count}"));
        }
    }
    let help = "Times that a key of a rate limit shared another's count, for want of room: write a larger keys_max.";
    page.single("maitred_rate_limit_shared_keys_total", "counter", help, metrics.limit_tables.shared.load(Ordering::Relaxed));
}
