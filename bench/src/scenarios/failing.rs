//! One of three endpoints fails for a third of the time and is then well again, while GETs arrive at 200 a second: how many fail,
//! how long they take, and whether traffic comes back. Every way of balancing has endpoints of its own behind one gateway, and
//! runs beside the others and beside haproxy and nginx, at the same time.

use std::io;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::kitchen::remote::Kitchen;
use crate::kitchen::{Mode, Plan};
use crate::offered::{self, Offer, Sample, Told};
use crate::proxies::{Contender, Kind, Proxy, Setup, Tuning};
use crate::report::{Bar, Row};
use crate::scenarios::Lab;
use crate::stats::quantile;
use crate::sys::{self, Rank};
use crate::written;

pub const NAME: &str = "failing";

pub const BALANCES: [&str; 6] = ["round_robin", "random", "least_request", "peak_ewma", "ring_hash", "maglev"];
const PEERS: [&str; 2] = ["haproxy", "nginx"];
const FAILURES: [Mode; 4] = [Mode::Killed, Mode::Hung, Mode::Slow, Mode::Erring];
/// Of one upstream.
pub const ENDPOINTS: usize = 3;
/// Of each: as many as ever come, and 20 ms that become 200 when it is slow, below the timeout of a try.
pub const SLOTS: usize = 10_000;
pub const SERVICE: Duration = Duration::from_millis(20);
/// To each upstream.
pub const RATE: f64 = 200.0;
const WORKERS: usize = 2;
pub const RETRY: &str = "attempts: 3, conditions: [connect, reset, timeout, 500, 502, 503, 504], per_try_timeout: 250ms";
/// Requests that may fail, in percent.
const FAILED_BAR: f64 = 0.1;
/// Of its fair share, what an endpoint that is well again must have in the last sixth of the time.
const BACK_BAR: f64 = 0.5;
/// Beyond the longest ejection, until all is as it was.
const SETTLE: Duration = Duration::from_secs(1);
const PROBE: &str = "/round_robin/ready";

pub fn run(lab: &mut Lab) -> io::Result<()> {
    sys::be(Rank::Measured);
    let outcome = all(lab);
    sys::be(Rank::Ordinary);
    outcome
}

/// A stream of requests: to whom, and which three endpoints are behind it.
struct Flow {
    name: String,
    target: SocketAddrV4,
    path: &'static str,
    endpoints: usize,
}

fn all(lab: &mut Lab) -> io::Result<()> {
    let upstreams = BALANCES.len() + PEERS.len();
    let mut kitchen = Kitchen::start(Plan { endpoints: upstreams * ENDPOINTS, slots: SLOTS, service: SERVICE })?;
    let contenders: Vec<Contender> = lab
        .maitred_written("maitred", maitred(lab, &kitchen), PROBE)
        .into_iter()
        .chain([
            Contender::written("haproxy", Kind::Haproxy, haproxy(&kitchen), PROBE),
            Contender::written("nginx", Kind::Nginx(Tuning::Plain), nginx(&kitchen, lab.options.ejection()[0]), PROBE),
        ])
        .collect();
    let folder = lab.folder.join(NAME);
    let proxies = lab.start_all(NAME, &contenders, &setup(&folder), Bar::figure(FAILED_BAR));
    let flows: Vec<Flow> = proxies.iter().flat_map(flows_of).collect();
    let [_, longest] = lab.options.ejection();
    for failure in FAILURES {
        eprintln!("{NAME}: {}", failure.word());
        kitchen.reset()?;
        let length = lab.options.failing();
        let (told, counts) = offer(&flows, length, |began| fail(&mut kitchen, &flows, failure, began, length))?;
        report(lab, failure, &flows, &told, &counts);
        std::thread::sleep(Duration::from_millis(longest) + SETTLE);
    }
    Ok(())
}

pub fn setup(folder: &std::path::Path) -> Setup<'_> {
    Setup {
        workers: WORKERS,
        core: None,
        backend: 0,
        folder,
        wrapper: Vec::new(),
        modern: false,
        limits: "",
        guards: "",
        identity: "",
        policies: "",
    }
}

fn flows_of(proxy: &Proxy) -> Vec<Flow> {
    let target = sys::loopback(proxy.port);
    if let Some(peer) = PEERS.iter().position(|peer| *peer == proxy.name) {
        let endpoints = (BALANCES.len() + peer) * ENDPOINTS;
        return vec![Flow { name: proxy.name.clone(), target, path: PEERS[peer], endpoints }];
    }
    let own =
        |(at, path): (usize, &&'static str)| Flow { name: format!("maitred {path}"), target, path, endpoints: at * ENDPOINTS };
    BALANCES.iter().enumerate().map(own).collect()
}

/// Requests to all flows in turn. Every request has a key of its own, drawn by its number.
fn offer<T>(flows: &[Flow], length: Duration, acts: impl FnOnce(Instant) -> io::Result<T>) -> io::Result<(Told, T)> {
    let request = |number: u64| {
        let flow = &flows[number as usize % flows.len()];
        (flow.target, format!("/{}/{number}?k={:08x}", flow.path, (number as u32).wrapping_mul(0x9e37_79b9)))
    };
    offered::beside(&Offer::new(RATE * flows.len() as f64, length, &request), acts)
}

/// What the endpoints had got at the ends of the first and second third, of five sixths, and at the end.
type Counts = [Vec<u64>; 4];

fn fail(kitchen: &mut Kitchen, flows: &[Flow], failure: Mode, began: Instant, length: Duration) -> io::Result<Counts> {
    let first: Vec<usize> = flows.iter().map(|flow| flow.endpoints).collect();
    offered::sleep_until(began + length / 3);
    let before = kitchen.counts()?;
    first.iter().try_for_each(|&at| kitchen.set(at, failure))?;
    offered::sleep_until(began + length * 2 / 3);
    let while_it_failed = kitchen.counts()?;
    first.iter().try_for_each(|&at| kitchen.set(at, Mode::Well))?;
    offered::sleep_until(began + length * 5 / 6);
    let nearly = kitchen.counts()?;
    offered::sleep_until(began + length);
    Ok([before, while_it_failed, nearly, kitchen.counts()?])
}

fn report(lab: &mut Lab, failure: Mode, flows: &[Flow], told: &Told, counts: &Counts) {
    let title = format!("{NAME}: {}", failure.word());
    let third = lab.options.failing().as_nanos() as u64 / 3;
    let mut backs = Vec::new();
    for (at, flow) in flows.iter().enumerate() {
        let own: Vec<Sample> = told.samples.iter().skip(at).step_by(flows.len()).copied().collect();
        let failed = own.iter().filter(|sample| !sample.good()).count();
        let p99s: Vec<f64> = (0..3).map(|part| p99(&own, part * third..(part + 1) * third)).collect();
        let seen = counts[1][flow.endpoints] - counts[0][flow.endpoints];
        let back = share_of_fair(flow.endpoints, &counts[2], &counts[3]);
        let ours = flow.name.starts_with("maitred");
        let note = format!(
            "{failed} of {} failed; p99 before/while/after {:.0}/{:.0}/{:.0} ms; it got {seen} requests while {}, and {back:.2} of its fair share at the end",
            own.len(),
            p99s[0],
            p99s[1],
            p99s[2],
            failure.word(),
        );
        let share = failed as f64 / own.len() as f64 * 100.0;
        let bar = ours.then_some(Bar::figure(FAILED_BAR));
        lab.report.add(Row { bar, note, ..Row::new(&format!("{title}, requests failed"), &flow.name, "%", &[share]) });
        lab.report.add_raw(
            &format!("{title}/{}", flow.name),
            json!({ "failed": failed, "of": own.len(), "p99_ms": p99s, "seen": seen, "back": back }),
        );
        backs.extend(ours.then_some((back, &flow.name)));
    }
    let Some((least, who)) = backs.into_iter().min_by(|a, b| a.0.total_cmp(&b.0)) else { return };
    let note = format!("the least, of {who}; generator at most {:.1} ms late", told.late_ms());
    let scenario = format!("{title}, share back / fair");
    lab.report.add(Row { bar: Some(Bar::at_least(BACK_BAR)), note, ..Row::new(&scenario, "maitred", "", &[least]) });
}

/// In milliseconds, of those that were due in a part of the time; whoever failed took as long as the failure did.
fn p99(samples: &[Sample], due: std::ops::Range<u64>) -> f64 {
    let mut latencies: Vec<f64> = samples.iter().filter(|sample| due.contains(&sample.due)).map(Sample::latency_ms).collect();
    latencies.sort_by(f64::total_cmp);
    quantile(&latencies, 0.99).unwrap_or(f64::NAN)
}

/// Of what all three endpoints got between two counts, the first one's part, compared with a third.
fn share_of_fair(first: usize, from: &[u64], to: &[u64]) -> f64 {
    let got = |at: usize| to[at] - from[at];
    let all: u64 = (first..first + ENDPOINTS).map(got).sum();
    if all == 0 { 0.0 } else { got(first) as f64 / all as f64 * ENDPOINTS as f64 }
}

pub fn endpoints(kitchen: &Kitchen, upstream: usize) -> Vec<SocketAddrV4> {
    (0..ENDPOINTS).map(|at| kitchen.address(upstream * ENDPOINTS + at)).collect()
}

/// The endpoints of an upstream as the gateway's file has them.
pub fn urls(kitchen: &Kitchen, upstream: usize) -> String {
    endpoints(kitchen, upstream).iter().map(|address| format!("\"http://{address}\"")).collect::<Vec<_>>().join(", ")
}

fn maitred(lab: &Lab, kitchen: &Kitchen) -> String {
    let [eject_for, eject_max] = lab.options.ejection();
    let (mut upstreams, mut routes) = (String::new(), String::new());
    for (at, balance) in BALANCES.iter().enumerate() {
        let keyed = if ["ring_hash", "maglev"].contains(balance) { "    hash_by: query:k\n" } else { "" };
        upstreams.push_str(&format!(
            "  {balance}:
    endpoints: [{}]
    balance: {balance}
{keyed}    retry: {{ {RETRY} }}
    outlier_detection: {{ consecutive_failures: 5, eject_for: {eject_for}ms, eject_max: {eject_max}ms }}
",
            urls(kitchen, at)
        ));
        routes.push_str(&format!("      - GET /{balance}/{{path+}}: {balance}\n"));
    }
    written::maitred(WORKERS, &upstreams, &routes)
}

/// haproxy marks a server down by what requests saw only where it also checks it; a check brings it up again.
fn haproxy(kitchen: &Kitchen) -> String {
    let mut backend = String::from(
        "    balance roundrobin
    option redispatch 1
    retries 2
    retry-on conn-failure empty-response response-timeout 500 502 503 504
    timeout connect 250ms
    timeout server 250ms
    timeout check 250ms
    option httpchk GET /check
",
    );
    for (number, address) in endpoints(kitchen, BALANCES.len()).iter().enumerate() {
        backend.push_str(&format!(
            "    server e{number} {address} check inter 500ms rise 1 fall 3 observe layer7 error-limit 5 on-error mark-down\n"
        ));
    }
    written::haproxy(WORKERS, "", &backend)
}

/// nginx leaves servers alone for whole seconds.
fn nginx(kitchen: &Kitchen, eject_for: u64) -> String {
    let seconds = eject_for.div_ceil(1000);
    let mut upstream = String::from("    upstream endpoints {\n        zone endpoints 64k;\n");
    for address in endpoints(kitchen, BALANCES.len() + 1) {
        upstream.push_str(&format!("        server {address} max_fails=5 fail_timeout={seconds}s;\n"));
    }
    upstream.push_str("        keepalive 64;\n    }\n");
    let location = "            proxy_pass http://endpoints;
            proxy_connect_timeout 250ms;
            proxy_read_timeout 250ms;
            proxy_next_upstream error timeout http_500 http_502 http_503 http_504;
            proxy_next_upstream_tries 3;
";
    written::nginx(WORKERS, &upstream, location)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_of_what_came_between_two_counts() {
        assert_eq!(share_of_fair(3, &[0, 0, 0, 10, 10, 10], &[9, 9, 9, 20, 20, 20]), 1.0);
        assert_eq!(share_of_fair(0, &[5, 0, 0], &[5, 10, 10]), 0.0);
        assert_eq!(share_of_fair(0, &[5, 5, 5], &[5, 5, 5]), 0.0);
    }

    #[test]
    fn a_p99_is_of_one_part_of_the_time() {
        let sample = |due: u64, took: u64| Sample { due, sent: due, done: due + took * 1_000_000, status: 200 };
        let samples = [sample(0, 1), sample(10, 100), sample(20, 7)];
        assert_eq!(p99(&samples, 20..30), 7.0);
        assert_eq!(p99(&samples, 10..20), 100.0);
    }
}
