//! The metrics as text, in Prometheus' format 0.0.4. Counts nothing: it adds up what the workers counted. Written by hand because
//! `prometheus-client` writes OpenMetrics alone, whose counters Prometheus' older format takes for untyped ones.

use crate::consumers::ConsumerCounts;
use crate::functions::FunctionCounts;
use crate::process::Process;
use crate::upstreams::UpstreamView;
use maitred_core::Kind;
use maitred_core::compute::ComputeFigures;
use maitred_core::limit_table::TableFigures;
use maitred_core::metrics::{
    BUCKETS_MICROS, Counter, DECISIONS, Histogram, LOG_LINES_DROPPED, METHODS, Metrics, RouteSeries, RouteShard, STATUSES,
    WorkerShard,
};
use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

mod breakers;
mod consumers;
mod counters;
mod endpoints;
mod functions;
mod limits;
mod queues;
mod quotas;
mod tries;

pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What `Metrics` does not hold.
#[derive(Debug, Clone, Default)]
pub struct Extra {
    pub version: String,
    pub process: Process,
    pub certificates: Vec<CertificateEnd>,
    pub upstreams: Vec<UpstreamView>,
    pub consumers: ConsumerCounts,
    /// Of those that are hosted.
    pub functions: Vec<FunctionCounts>,
}

/// When a certificate that is served ends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CertificateEnd {
    /// The listener's address, as configured.
    pub listener: String,
    /// The certificate's first name.
    pub name: String,
    /// Seconds since 1970.
    pub not_after: i64,
}

impl Extra {
    /// Of this program, at this moment.
    pub fn now(
        certificates: Vec<CertificateEnd>,
        upstreams: Vec<UpstreamView>,
        consumers: ConsumerCounts,
        functions: Vec<FunctionCounts>,
    ) -> Extra {
        let (version, process) = (env!("CARGO_PKG_VERSION").to_owned(), Process::read());
        Extra { version, process, certificates, upstreams, consumers, functions }
    }
}

/// Only routes that were asked for appear, and of them only what was counted.
pub fn exposition(metrics: &Metrics, extra: &Extra) -> String {
    let mut page = Page(String::with_capacity(16 * 1024));
    page.routes(&metrics.routes());
    page.workers(metrics);
    page.authorizers(metrics);
    limits::write(&mut page, metrics);
    quotas::write(&mut page, metrics);
    endpoints::write(&mut page, &extra.upstreams);
    queues::write(&mut page, &extra.upstreams);
    tries::write(&mut page, metrics);
    breakers::write(&mut page, &extra.upstreams);
    functions::write(&mut page, &extra.functions);
    page.identity(metrics);
    counters::write(&mut page, metrics);
    page.configuration(metrics, extra);
    page.certificates(metrics, &extra.certificates);
    consumers::write(&mut page, extra.consumers);
    page.process(&extra.process);
    page.0
}

struct Page(String);

/// Name, help, and what each worker counted of it.
type WorkerFamily = (&'static str, &'static str, fn(&WorkerShard) -> &Counter);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn line(&mut self, line: impl Display) {
        // A String takes whatever it is given.
        let _ = writeln!(self.0, "{line}");
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.line(format_args!("{name} {value}"));
    }

    /// One family after the other: a family's samples have to stand together.
    fn routes(&mut self, routes: &[Arc<RouteSeries>]) {
        let labels: Vec<String> = routes.iter().map(|route| labels(route)).collect();
        let routes = || routes.iter().map(|route| &**route).zip(labels.iter().map(String::as_str));
        self.family("maitred_requests_total", "counter", "Requests answered, by route, method and status.");
        for (route, labels) in routes() {
            self.requests(route, labels);
        }
        let name = "maitred_request_duration_seconds";
        self.family(name, "histogram", "From a request's first byte to its answer's last.");
        for (route, labels) in routes() {
            self.histogram(name, labels, route, |shard| &shard.duration);
        }
        let name = "maitred_upstream_duration_seconds";
        self.family(name, "histogram", "What the back end took of that.");
        for (route, labels) in routes() {
            self.histogram(name, labels, route, |shard| &shard.upstream);
        }
        let name = "maitred_request_bytes_total";
        self.family(name, "counter", "Bytes of request bodies.");
        for (route, labels) in routes() {
            self.line(format_args!("{name}{{{labels}}} {}", sum(route, |shard| &shard.bytes_in)));
        }
        let name = "maitred_response_bytes_total";
        self.family(name, "counter", "Bytes of response bodies.");
        for (route, labels) in routes() {
            self.line(format_args!("{name}{{{labels}}} {}", sum(route, |shard| &shard.bytes_out)));
        }
    }

    fn requests(&mut self, route: &RouteSeries, labels: &str) {
        let mut counts = BTreeMap::new();
        for (method, status, count) in route.shards().flat_map(RouteShard::requests) {
            *counts.entry((method, status)).or_insert(0) += count;
        }
        for ((method, status), count) in counts {
            let (method, status) = (METHODS[method], STATUSES[status]);
            self.line(format_args!("maitred_requests_total{{{labels},method=\"{method}\",status=\"{status}\"}} {count}"));
        }
    }

    /// The count is the sum of the buckets that were read, so that the two agree while workers go on counting. A route that measured
    /// nothing, such as one without a back end, has none.
    fn histogram(&mut self, name: &str, labels: &str, route: &RouteSeries, of: impl Fn(&RouteShard) -> &Histogram) {
        let buckets: Vec<u64> = (0..=BUCKETS_MICROS.len()).map(|at| sum(route, |shard| &of(shard).buckets[at])).collect();
        let count: u64 = buckets.iter().sum();
        if count == 0 {
            return;
        }
        let mut below = 0;
        for (bound, bucket) in BUCKETS_MICROS.iter().zip(&buckets) {
            below += bucket;
            self.line(format_args!("{name}_bucket{{{labels},le=\"{}\"}} {below}", seconds(*bound)));
        }
        self.line(format_args!("{name}_bucket{{{labels},le=\"+Inf\"}} {count}"));
        let micros = sum(route, |shard| &of(shard).sum_micros);
        self.line(format_args!("{name}_sum{{{labels}}} {}", seconds(micros)));
        self.line(format_args!("{name}_count{{{labels}}} {count}"));
    }

    fn workers(&mut self, metrics: &Metrics) {
        let total = |of: fn(&WorkerShard) -> &Counter| add_up(metrics.workers.iter().map(|worker| of(worker).get()));
        // A worker may count down what another counted up: each alone may be below zero, the sum is not.
        let open = |of: fn(&WorkerShard) -> &Counter| total(of) as i64;
        let gauges: [WorkerFamily; 6] = [
            ("maitred_connections_open", "Client connections open now.", |worker| &worker.connections_open),
            ("maitred_requests_open", "Requests under way now.", |worker| &worker.requests_open),
            ("maitred_http2_connections_open", "HTTP/2 connections of clients open now.", |worker| &worker.h2_open),
            ("maitred_http3_connections_open", "HTTP/3 connections of clients open now.", |worker| &worker.h3_open),
            ("maitred_tunnels_open", "Upgraded connections, such as WebSockets, open now.", |worker| &worker.tunnels_open),
            ("maitred_upstream_connections_open", "Connections to back ends open now, idle ones too.", |worker| {
                &worker.upstream_open
            }),
        ];
        for (name, help, of) in gauges {
            self.single(name, "gauge", help, open(of));
        }
        let counters: [WorkerFamily; 6] = [
            ("maitred_connections_accepted_total", "Client connections accepted.", |worker| &worker.connections_accepted),
            ("maitred_connections_refused_total", "Client connections closed at once, over a limit.", |worker| {
                &worker.connections_refused
            }),
            ("maitred_upstream_connects_total", "Connections to back ends begun.", |worker| &worker.upstream_connects),
            ("maitred_upstream_reuses_total", "Requests sent on a connection that was open already.", |worker| {
                &worker.upstream_reuses
            }),
            (
                "maitred_http2_floods_total",
                "HTTP/2 connections of clients closed for what they flooded the gateway with.",
                |worker| &worker.h2_floods,
            ),
            (
                "maitred_http3_floods_total",
                "HTTP/3 connections of clients closed for what they flooded the gateway with.",
                |worker| &worker.h3_floods,
            ),
        ];
        for (name, help, of) in counters {
            self.single(name, "counter", help, total(of));
        }
        self.family("maitred_tls_handshakes_total", "counter", "TLS handshakes with clients, by how they ended.");
        let handshakes: [fn(&WorkerShard) -> &Counter; 3] =
            [|worker| &worker.tls_full, |worker| &worker.tls_resumed, |worker| &worker.tls_failed];
        for (result, of) in ["full", "resumed", "failed"].into_iter().zip(handshakes) {
            self.line(format_args!("maitred_tls_handshakes_total{{result=\"{result}\"}} {}", total(of)));
        }
        let lost = total(|worker| &worker.log_dropped) + metrics.log_lost.load(Ordering::Relaxed);
        let help = "Lines of the access log that nobody could write, or not in time.";
        self.single("maitred_access_log_dropped_total", "counter", help, lost);
        let help = "Lines of the gateway's own log that nobody could write, or not in time.";
        self.single("maitred_log_dropped_total", "counter", help, LOG_LINES_DROPPED.load(Ordering::Relaxed));
        self.family(
            "maitred_faults_total",
            "counter",
            "Answers that the gateway gave because something went wrong, by what did.",
        );
        for kind in Kind::ALL {
            let count = add_up(metrics.workers.iter().map(|worker| worker.faults.of(*kind).get()));
            self.line(format_args!("maitred_faults_total{{kind=\"{}\"}} {count}", kind.name()));
        }
    }

    fn authorizers(&mut self, metrics: &Metrics) {
        let authorizers = metrics.authorizers();
        if authorizers.is_empty() {
            return;
        }
        let name = "maitred_authorizer_decisions_total";
        self.family(name, "counter", "What authorizers decided, and whom they know that was forbidden something.");
        for authorizer in authorizers {
            let label = escaped(&authorizer.name);
            for (result, count) in DECISIONS.iter().zip(authorizer.counts()) {
                self.line(format_args!("{name}{{authorizer=\"{label}\",result=\"{result}\"}} {count}"));
            }
        }
    }

    /// What was computed for requests away from the workers, and credentials that were wrong.
    fn identity(&mut self, metrics: &Metrics) {
        let read = |value: &AtomicU64| value.load(Ordering::Relaxed);
        let ComputeFigures { waiting, begun, refused, skipped } = &*metrics.compute;
        let help = "Jobs, such as hashes of passwords, that wait for a thread now.";
        self.single("maitred_compute_waiting", "gauge", help, read(waiting));
        self.family("maitred_compute_jobs_total", "counter", "Jobs for other threads than the workers', by what came of them.");
        for (result, count) in [("begun", begun), ("refused", refused), ("skipped", skipped)] {
            self.line(format_args!("maitred_compute_jobs_total{{result=\"{result}\"}} {}", read(count)));
        }
        let TableFigures { refused, shared } = &*metrics.failing_addresses;
        self.single(
            "maitred_failed_credentials_total",
            "counter",
            "Credentials that were looked at and wrong.",
            read(&metrics.failed_credentials),
        );
        let help = "Requests whose credential was not looked at: too many from their address were wrong.";
        self.single("maitred_failed_credentials_refused_total", "counter", help, read(refused));
        let help = "Times that an address shared another's limit, for want of room.";
        self.single("maitred_failed_credentials_shared_total", "counter", help, read(shared));
    }

    fn configuration(&mut self, metrics: &Metrics, extra: &Extra) {
        let read = |value: &AtomicU64| value.load(Ordering::Relaxed);
        let help = "The number of the configuration that is live; each reload that succeeds adds one.";
        self.single("maitred_config_generation", "gauge", help, read(&metrics.generation));
        self.family("maitred_config_reloads_total", "counter", "Reloads of the configuration, by how they went.");
        self.line(format_args!("maitred_config_reloads_total{{result=\"ok\"}} {}", read(&metrics.reloads_ok)));
        self.line(format_args!("maitred_config_reloads_total{{result=\"failed\"}} {}", read(&metrics.reloads_failed)));
        let help = "Configurations still held in memory: 1 when nothing old is in use.";
        self.single("maitred_snapshots", "gauge", help, read(&metrics.snapshots));
        self.family("maitred_build_info", "gauge", "Which program this is; always 1.");
        self.line(format_args!("maitred_build_info{{version=\"{}\"}} 1", escaped(&extra.version)));
    }

    /// Of two certificates with one name, such as an RSA one and an ECDSA one, the one that ends first counts.
    fn certificates(&mut self, metrics: &Metrics, certificates: &[CertificateEnd]) {
        let mut certificates: Vec<&CertificateEnd> = certificates.iter().collect();
        certificates.sort();
        certificates.dedup_by(|later, first| (&later.listener, &later.name) == (&first.listener, &first.name));
        let help = "When each certificate that clients are shown ends, in seconds since 1970.";
        self.family("maitred_certificate_expiry_seconds", "gauge", help);
        for CertificateEnd { listener, name, not_after } in certificates {
            let (listener, name) = (escaped(listener), escaped(name));
            self.line(format_args!("maitred_certificate_expiry_seconds{{listener=\"{listener}\",name=\"{name}\"}} {not_after}"));
        }
        let read = |value: &AtomicU64| value.load(Ordering::Relaxed);
        self.family("maitred_acme_orders_total", "counter", "Orders of certificates by ACME, renewals too, by how they went.");
        self.line(format_args!("maitred_acme_orders_total{{result=\"ok\"}} {}", read(&metrics.acme_ok)));
        self.line(format_args!("maitred_acme_orders_total{{result=\"failed\"}} {}", read(&metrics.acme_failed)));
        let help = "Fetches of issuers' keys, by how they went. After one that failed the keys that were there go on being used.";
        self.family("maitred_key_fetches_total", "counter", help);
        self.line(format_args!("maitred_key_fetches_total{{result=\"ok\"}} {}", read(&metrics.keys_ok)));
        self.line(format_args!("maitred_key_fetches_total{{result=\"failed\"}} {}", read(&metrics.keys_failed)));
    }

    /// The names that every Prometheus client library uses.
    fn process(&mut self, process: &Process) {
        let Process { resident_bytes, cpu, open_fds, started } = process;
        if let Some(bytes) = resident_bytes {
            self.single("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", bytes);
        }
        if let Some(cpu) = cpu {
            let help = "Total user and system CPU time spent in seconds.";
            self.single("process_cpu_seconds_total", "counter", help, cpu.as_secs_f64());
        }
        if let Some(fds) = open_fds {
            self.single("process_open_fds", "gauge", "Number of open file descriptors.", fds);
        }
        if let Some(started) = started {
            let help = "Start time of the process since unix epoch in seconds.";
            self.single("process_start_time_seconds", "gauge", help, started.as_secs_f64());
        }
    }
}

fn labels(route: &RouteSeries) -> String {
    format!("api=\"{}\",route=\"{}\"", escaped(&route.api), escaped(&route.route))
}

fn sum(route: &RouteSeries, of: impl Fn(&RouteShard) -> &Counter) -> u64 {
    add_up(route.shards().map(|shard| of(shard).get()))
}

/// Counters wrap, and so do their sums: a gauge is counted up by one worker and down by another.
fn add_up(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(0, u64::wrapping_add)
}

/// A decimal number without an exponent, exact to the microsecond.
fn seconds(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests;
