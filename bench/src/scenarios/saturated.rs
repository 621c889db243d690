//! CPU time of a proxy per request, saturated: as many requests as 64 connections can push, equal workers for all.
//! Throughput is noted and not judged: with generator and back end on the same cores it says little.

use std::io;

use crate::http::{self, Request};
use crate::load::{self, Job, Outcome, Pace, Until};
use crate::process;
use crate::proxies::{Backend, Contender, Kind, Proxy};
use crate::report::Bar;
use crate::routes::Routes;
use crate::scenarios::{self, CONNECTIONS, Lab, Sample};
use crate::stats::Spread;

pub const NAMES: [&str; 3] = ["get-1k", "post-4k", "get-64k"];

struct Scenario {
    name: &'static str,
    request: Request,
    bar: Bar,
}

fn scenarios() -> [Scenario; 3] {
    [
        Scenario { name: "get-1k", request: http::get("/1k", 1024), bar: Bar::ratio_and_upper(0.70) },
        Scenario { name: "post-4k", request: http::post("/echo", 4096, 2), bar: Bar::ratio_and_upper(0.85) },
        Scenario { name: "get-64k", request: http::get("/64k", 64 * 1024), bar: Bar::ratio_and_upper(0.70) },
    ]
}

pub fn run(lab: &mut Lab) -> io::Result<()> {
    let wanted: Vec<Scenario> = scenarios().into_iter().filter(|scenario| lab.wants(scenario.name)).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let backend = Backend::start(None)?;
    let mut contenders = lab.peers();
    contenders.push(Contender { name: "haproxy-tcp".into(), kind: Kind::HaproxyTcp });
    contenders.extend(lab.maitred("maitred", Routes::CatchAll));
    contenders.extend(lab.maitred("maitred-200", Routes::Mixed(200)));
    let folder = lab.folder.join("saturated");
    let setup = Lab::setup(&folder, &backend, lab.options.workers);
    let proxies = lab.start_all("saturated", &contenders, &setup, Bar::ratio_and_upper(0.70));
    for scenario in &wanted {
        compare(lab, scenario, &proxies);
    }
    Ok(())
}

fn compare(lab: &mut Lab, scenario: &Scenario, proxies: &[Proxy]) {
    let names: Vec<String> = proxies.iter().map(|proxy| proxy.name.clone()).collect();
    let mut rates = vec![Vec::new(); proxies.len()];
    let options = &lab.options;
    let until = || Until::Window { warmup: options.warmup(), length: options.window() };
    let samples = scenarios::interleave(scenario.name, &names, options.rounds, |who| {
        let outcome = measure(&proxies[who], scenario, until())?;
        rates[who].push(outcome.per_second());
        Ok(outcome.gauge as f64 / outcome.answered as f64 / 1000.0)
    });
    lab.report.add_raw(scenario.name, serde_json::json!({
        "cpu_us_per_request": scenarios::raw(&names, &samples),
        "requests_per_second": scenarios::raw(&names, &rates.iter().map(|r| r.iter().map(|&v| Sample::Ok(v)).collect()).collect::<Vec<_>>()),
    }));
    let title = format!("{} CPU/request", scenario.name);
    for (mut row, rates) in scenarios::compare("µs", &title, &names, &samples, scenario.bar).into_iter().zip(rates) {
        if let (true, Some(rate)) = (row.note.is_empty(), Spread::of(&rates)) {
            row.note = format!("{:.0} requests/s", rate.median);
        }
        lab.report.add(row);
    }
}

fn measure(proxy: &Proxy, scenario: &Scenario, until: Until) -> Result<Outcome, String> {
    let requests = std::slice::from_ref(&scenario.request);
    let job = Job { port: proxy.port, connections: CONNECTIONS, requests, pace: Pace::Closed, until };
    let mut gauge = process::cpu_gauge(proxy.pid());
    load::run(&job, &mut gauge).map_err(|e| e.to_string())?.valid()
}
