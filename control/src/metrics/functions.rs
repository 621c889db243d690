//! Metrics by hosted function. Counts nothing: pools do, each anew when it takes another's place.

use super::{Page, escaped, seconds};
use crate::functions::FunctionCounts;

type Family = (&'static str, &'static str, fn(&FunctionCounts) -> u64);

const COUNTERS: [Family; 5] = [
    ("maitred_function_invocations_total", "Runs of a hosted function.", |counts| counts.invocations),
    (
        "maitred_function_failures_total",
        "Those of them that failed, timeouts and results that are no response included.",
        |counts| counts.failures,
    ),
    ("maitred_function_timeouts_total", "Those of them that took too long.", |counts| counts.timeouts),
    ("maitred_function_throttles_total", "Invocations that came to no run, for want of a free process.", |counts| {
        counts.throttles
    }),
    ("maitred_function_starts_total", "Processes of a function that were started.", |counts| counts.starts),
];

const TIMES: [Family; 2] = [
    ("maitred_function_duration_seconds_total", "What all runs of a function took.", |counts| counts.duration),
    ("maitred_function_init_seconds_total", "What all starts of its processes took.", |counts| counts.init),
];

pub(super) fn write(page: &mut Page, functions: &[FunctionCounts]) {
    if functions.is_empty() {
        return;
    }
    let functions = || functions.iter().map(|counts| (escaped(&counts.name), counts));
    for (name, help, value) in COUNTERS {
        page.family(name, "counter", help);
        for (function, counts) in functions() {
            page.line(format_args!("{name}{{function=\"{function}\"}} {}", value(counts)));
        }
    }
    for (name, help, value) in TIMES {
        page.family(name, "counter", help);
        for (function, counts) in functions() {
            page.line(format_args!("{name}{{function=\"{function}\"}} {}", seconds(value(counts))));
        }
    }
    let name = "maitred_function_processes";
    page.family(name, "gauge", "Processes of a function now, by what they do.");
    for (function, counts) in functions() {
        for (state, count) in [("busy", counts.busy), ("idle", counts.idle), ("starting", counts.starting)] {
            page.line(format_args!("{name}{{function=\"{function}\",state=\"{state}\"}} {count}"));
        }
    }
    let name = "maitred_function_waiting";
    page.family(name, "gauge", "Invocations that wait for a free process now.");
    for (function, counts) in functions() {
        page.line(format_args!("{name}{{function=\"{function}\"}} {}", counts.waiting));
    }
}
