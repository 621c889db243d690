//! CPU time of a proxy per request, saturated: as many requests as 64 connections can push, equal workers for all.
//! Throughput is noted and not judged: with generator and back end on the same cores it says little.

use std::io;

use serde_json::json;

use crate::http::{self, Request};
use crate::load::{self, Client, Job, Outcome, Pace, Until};
use crate::process;
use crate::proxies::{Backend, Contender, Kind, Ports, Proxy, Tuning};
use crate::report::Bar;
use crate::routes::Routes;
use crate::scenarios::{self, CONNECTIONS, Lab};
use crate::stats::Spread;

pub const NAMES: [&str; 3] = ["get-1k", "post-4k", "get-64k"];

pub struct Scenario<'a> {
    pub name: &'static str,
    /// What the CPU time is divided by: a request, a handshake.
    pub unit: &'static str,
    pub request: Request,
    pub client: Client<'a>,
    pub connections: usize,
    pub port: fn(Ports) -> u16,
    pub bar: Bar,
    /// A contender that the gateway is also compared with, in its note. An nginx tuned for this scenario is shown nowhere
    /// else: whoever tunes theirs should see what is left.
    pub beside: Option<&'static str>,
}

const DUTIES: &str = "nginx-duties";
const BUFFERS: &str = "nginx-buffers";

/// Of the connections that could resume a session, so many must, or the round measured something else.
const RESUMED_LEAST: f64 = 0.99;

fn scenarios() -> [Scenario<'static>; 3] {
    let scenario = |name, request, limit, beside| Scenario {
        name,
        unit: "request",
        request,
        client: Client::PLAIN,
        connections: CONNECTIONS,
        port: |ports| ports.plain,
        bar: Bar::ratio_and_upper(limit),
        beside,
    };
    [
        scenario("get-1k", http::get("/1k", 1024), 0.70, Some(DUTIES)),
        scenario("post-4k", http::post("/echo", 4096, 2), 0.85, None),
        scenario("get-64k", http::get("/64k", 64 * 1024), 0.70, Some(BUFFERS)),
    ]
}

pub fn run(lab: &mut Lab) -> io::Result<()> {
    let wanted: Vec<Scenario> = scenarios().into_iter().filter(|scenario| lab.wants(scenario.name)).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let backend = Backend::start(None)?;
    let mut contenders = lab.peers();
    contenders.push(Contender::new("haproxy-tcp", Kind::HaproxyTcp));
    contenders.push(Contender::new(DUTIES, Kind::Nginx(Tuning::Duties)));
    contenders.push(Contender::new(BUFFERS, Kind::Nginx(Tuning::Buffers)));
    contenders.extend(lab.maitred("maitred", Routes::CatchAll));
    contenders.extend(lab.maitred("maitred-200", Routes::Mixed(200)));
    let folder = lab.folder.join("saturated");
    let setup = Lab::setup(&folder, &backend, lab.options.workers);
    let proxies = lab.start_all("saturated", &contenders, &setup, Bar::ratio_and_upper(0.70));
    for scenario in &wanted {
        let fits = |proxy: &&Proxy| ![DUTIES, BUFFERS].contains(&proxy.name.as_str()) || scenario.beside == Some(&proxy.name);
        compare(lab, scenario, &proxies.iter().filter(fits).collect::<Vec<_>>());
    }
    Ok(())
}

pub fn compare(lab: &mut Lab, scenario: &Scenario, proxies: &[&Proxy]) {
    let names: Vec<String> = proxies.iter().map(|proxy| proxy.name.clone()).collect();
    let mut rates = vec![Vec::new(); proxies.len()];
    let mut ticks = vec![(0, 0); proxies.len()];
    let options = &lab.options;
    let until = || Until::Window { warmup: options.warmup(), length: options.window() };
    let samples = scenarios::interleave(scenario.name, &names, options.rounds, |who| {
        let before = process::user_and_system_ticks(proxies[who].pid());
        let outcome = measure(proxies[who], scenario, until())?;
        let after = process::user_and_system_ticks(proxies[who].pid());
        ticks[who].0 += after.0 - before.0;
        ticks[who].1 += after.1 - before.1;
        rates[who].push(outcome.per_second());
        Ok(outcome.gauge as f64 / outcome.answered as f64 / 1000.0)
    });
    let raw_rates: serde_json::Map<_, _> = names.iter().cloned().zip(rates.iter().map(|rates| json!(rates))).collect();
    let unit = scenario.unit;
    let cpu = format!("cpu_us_per_{unit}");
    let raw = json!({cpu: scenarios::raw(&names, &samples), format!("{unit}s_per_second"): raw_rates});
    lab.report.add_raw(scenario.name, raw);
    let beside = scenario.beside.and_then(|other| Some((other, &samples[names.iter().position(|name| name == other)?])));
    let title = format!("{} CPU/{unit}", scenario.name);
    let rows = scenarios::compare("µs", &title, &names, &samples, scenario.bar);
    for (who, mut row) in rows.into_iter().enumerate() {
        let (user, system) = ticks[who];
        if let (true, Some(rate)) = (row.note.is_empty(), Spread::of(&rates[who])) {
            row.note = format!("{:.0} {unit}s/s, {}% in user space", rate.median, user * 100 / (user + system).max(1));
        }
        if let (true, Some((other, base))) = (row.bar.is_some(), beside) {
            let ratio = Spread::of(&scenarios::ratios(&samples[who], base)).map_or(f64::NAN, |ratio| ratio.median);
            row.note.push_str(&format!(", {ratio:.3} of {other}"));
        }
        lab.report.add(row);
    }
}

fn measure(proxy: &Proxy, scenario: &Scenario, until: Until) -> Result<Outcome, String> {
    let Scenario { request, client, connections, port, .. } = scenario;
    let (port, requests) = (port(proxy.ports), std::slice::from_ref(request));
    let job = Job { port, connections: *connections, client: *client, requests, pace: Pace::Closed, until };
    let mut gauge = process::cpu_gauge(proxy.pid());
    let outcome = load::run(&job, &mut gauge).map_err(|e| e.to_string())?.valid()?;
    let Outcome { resumable, resumed, .. } = outcome;
    if (resumed as f64) < resumable as f64 * RESUMED_LEAST {
        return Err(format!("{resumed} of {resumable} sessions were resumed"));
    }
    Ok(outcome)
}
