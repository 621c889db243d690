//! p99 at a load that all can carry: each proxy alone on one core, generator and back end on the other, open loop at
//! 30% of what nginx reaches saturated in this same arrangement.

use std::io;

use crate::http::{self, Request};
use crate::load::{self, Job, Pace, Until};
use crate::proxies::Backend;
use crate::report::{Bar, Row};
use crate::routes::Routes;
use crate::scenarios::{self, BASELINE, CONNECTIONS, Lab, Sample};
use crate::sys;

pub const NAME: &str = "p99";
const BAR: f64 = 1.10;
const SHARE: f64 = 0.30;
/// A run that answered less than this share of its schedule did not carry the load.
const CARRIED: f64 = 0.95;

/// The back end without a proxy, to see what the arrangement itself costs.
const DIRECT: &str = "direct";

pub fn run(lab: &mut Lab) -> io::Result<()> {
    let cores = sys::cores();
    let [proxy_core, load_core, ..] = cores[..] else {
        lab.report.add(Row::failed(NAME, "maitred", Some(Bar::ratio(BAR)), "needs two cores"));
        return Ok(());
    };
    sys::pin(&[load_core])?;
    let outcome = pinned(lab, proxy_core, load_core);
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
    let mut ports: Vec<u16> = proxies.iter().map(|proxy| proxy.port).collect();
    names.push(DIRECT.into());
    ports.push(backend.port);
    let Some(nginx) = names.iter().position(|name| name == BASELINE) else {
        return Err(io::Error::other("nginx did not start, and it sets the rate"));
    };
    let rate = saturated_rate(lab, ports[nginx])? * SHARE;
    let mut others = vec![Vec::new(); names.len()];
    let samples = scenarios::interleave(NAME, &names, lab.options.rounds, |who| {
        let (p50, p99, p999) = measure(lab, ports[who], rate)?;
        others[who].push(serde_json::json!({"p50_us": p50, "p99_us": p99, "p99.9_us": p999}));
        Ok(p99)
    });
    record(lab, rate, &names, &samples, others);
    Ok(())
}

fn record(lab: &mut Lab, rate: f64, names: &[String], samples: &[Vec<Sample>], others: Vec<Vec<serde_json::Value>>) {
    let rounds: serde_json::Map<_, _> = names.iter().cloned().zip(others.into_iter().map(Into::into)).collect();
    lab.report.add_raw(NAME, serde_json::json!({"requests_per_second": rate, "rounds": rounds}));
    for mut row in scenarios::compare("µs", "p99 at 30%", names, samples, Bar::ratio(BAR)) {
        if row.note.is_empty() {
            row.note = format!("{rate:.0} requests/s");
        }
        lab.report.add(row);
    }
}

fn request() -> [Request; 1] {
    [http::get("/1k", 1024)]
}

fn saturated_rate(lab: &Lab, port: u16) -> io::Result<f64> {
    let until = Until::Window { warmup: lab.options.warmup(), length: lab.options.latency_window() };
    let job = Job { port, connections: CONNECTIONS, requests: &request(), pace: Pace::Closed, until };
    Ok(load::run_plain(&job)?.valid().map_err(io::Error::other)?.per_second())
}

/// p50, p99 and p99.9 in microseconds.
fn measure(lab: &Lab, port: u16, rate: f64) -> Result<(f64, f64, f64), String> {
    let until = Until::Window { warmup: lab.options.warmup(), length: lab.options.latency_window() };
    let pace = Pace::Open { per_second: rate };
    let job = Job { port, connections: CONNECTIONS, requests: &request(), pace, until };
    let outcome = load::run_plain(&job).map_err(|e| e.to_string())?.valid()?;
    if outcome.per_second() < rate * CARRIED {
        return Err(format!("carried {:.0} of {rate:.0} requests/s", outcome.per_second()));
    }
    let microseconds = |share| outcome.latencies.quantile(share) as f64 / 1000.0;
    Ok((microseconds(0.5), microseconds(0.99), microseconds(0.999)))
}
