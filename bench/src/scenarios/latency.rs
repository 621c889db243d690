//! p99 at a load that all can carry: each proxy alone on one core, generator and back end on the other, open loop at
//! 30% of what nginx reaches saturated in this same arrangement.

use std::io;

use serde_json::json;

use crate::http::{self, Request};
use crate::load::{self, Client, Job, Pace, Until};
use crate::process;
use crate::proxies::Backend;
use crate::report::{Bar, Row};
use crate::routes::Routes;
use crate::scenarios::{self, BASELINE, CONNECTIONS, Lab, Sample};
use crate::stats::Spread;
use crate::sys;

pub const NAME: &str = "p99";
const BAR: f64 = 1.10;
const SHARE: f64 = 0.30;
/// A run that answered less than this share of its schedule did not carry the load.
const CARRIED: f64 = 0.95;

/// Proxies, back end and generator all alike go before whatever else runs here, where that is allowed: a neighbour's
/// time slice is longer than any p99.
const FIRST: i32 = -15;

/// The back end without a proxy, to see what the arrangement itself costs.
const DIRECT: &str = "direct";

pub fn run(lab: &mut Lab) -> io::Result<()> {
    let cores = sys::cores();
    let [proxy_core, load_core, ..] = cores[..] else {
        lab.report.add(Row::failed(NAME, "maitred", Some(Bar::ratio(BAR)), "needs two cores"));
        return Ok(());
    };
    sys::pin(&[load_core])?;
    sys::prioritise(FIRST);
    let outcome = pinned(lab, proxy_core, load_core);
    sys::prioritise(0);
    sys::pin(&cores)?;
    outcome
}

fn pinned(lab: &mut Lab, proxy_core: usize, load_core: usize) -> io::Result<()> {
    let backend = Backend::start(Some(load_core))?;
    let mut contenders = lab.peers();
    contenders.extend(lab.maitred("maitred", Routes::CatchAll));
    let folder = lab.folder.join(NAME);
    let setup = crate::proxies::Setup { core: Some(proxy_core), ..Lab::setup(&folder, &backend, 1) };
    let proxies = lab.start_all(NAME, &contenders, &setup, Bar::ratio(BAR));
    let mut names: Vec<String> = proxies.iter().map(|proxy| proxy.name.clone()).collect();
    let mut targets: Vec<(u16, i32)> = proxies.iter().map(|proxy| (proxy.port, proxy.pid())).collect();
    names.push(DIRECT.into());
    targets.push((backend.port, backend.pid()));
    let Some(nginx) = names.iter().position(|name| name == BASELINE) else {
        return Err(io::Error::other("nginx did not start, and it sets the rate"));
    };
    let rate = saturated_rate(lab, targets[nginx].0)? * SHARE;
    let mut others = vec![Vec::new(); names.len()];
    let samples = scenarios::interleave(NAME, &names, lab.options.rounds, |who| {
        let (port, pid) = targets[who];
        let before = process::preemptions(pid);
        let (p50, p99, p999) = measure(lab, port, rate)?;
        others[who].push([p50, p99, p999, process::preemptions(pid).saturating_sub(before) as f64]);
        Ok(p99)
    });
    record(lab, rate, &names, &samples, &others);
    Ok(())
}

fn record(lab: &mut Lab, rate: f64, names: &[String], samples: &[Vec<Sample>], others: &[Vec<[f64; 4]>]) {
    let rounds: serde_json::Map<_, _> = names.iter().cloned().zip(others.iter().map(|own| json!(own))).collect();
    let columns = ["p50_us", "p99_us", "p99.9_us", "preemptions"];
    lab.report.add_raw(NAME, json!({"requests_per_second": rate, "columns": columns, "rounds": rounds}));
    let rows = scenarios::compare("µs", "p99 at 30%", names, samples, Bar::ratio(BAR));
    for (mut row, own) in rows.into_iter().zip(others) {
        let middle = |column: usize| Spread::of(&own.iter().map(|round| round[column]).collect::<Vec<_>>());
        if let (true, Some(p50), Some(preempted)) = (row.note.is_empty(), middle(0), middle(3)) {
            row.note = format!("{rate:.0} requests/s, p50 {:.0} µs, preempted {:.0} times", p50.median, preempted.median);
        }
        lab.report.add(row);
    }
}

fn request() -> [Request; 1] {
    [http::get("/1k", 1024)]
}

/// The best of three: a neighbour on the machine only ever lowers it.
fn saturated_rate(lab: &Lab, port: u16) -> io::Result<f64> {
    let mut best = 0.0_f64;
    for _ in 0..3 {
        let until = Until::Window { warmup: lab.options.warmup(), length: lab.options.window() };
        let job = Job { port, connections: CONNECTIONS, client: Client::PLAIN, requests: &request(), pace: Pace::Closed, until };
        best = best.max(load::run_plain(&job)?.valid().map_err(io::Error::other)?.per_second());
    }
    Ok(best)
}

/// p50, p99 and p99.9 in microseconds.
fn measure(lab: &Lab, port: u16, rate: f64) -> Result<(f64, f64, f64), String> {
    let until = Until::Window { warmup: lab.options.warmup(), length: lab.options.latency_window() };
    let pace = Pace::Open { per_second: rate };
    let job = Job { port, connections: CONNECTIONS, client: Client::PLAIN, requests: &request(), pace, until };
    let outcome = load::run_plain(&job).map_err(|e| e.to_string())?.valid()?;
    if outcome.per_second() < rate * CARRIED {
        return Err(format!("carried {:.0} of {rate:.0} requests/s", outcome.per_second()));
    }
    let microseconds = |share| outcome.latencies.quantile(share) as f64 / 1000.0;
    Ok((microseconds(0.5), microseconds(0.99), microseconds(0.999)))
}
