//! CPU time of a proxy per request over TLS and HTTP/2, and per TLS handshake; and whether a second connection resumes the session
//! of the first, whichever worker it meets. To the back end all speak HTTP/1.1 on connections that stay, as in saturated.rs.

use std::io;

use serde_json::json;

use crate::h2;
use crate::http;
use crate::load::{self, Client, Http, Job, Life, Pace, Until};
use crate::proxies::{Backend, Contender, Proxy, Setup};
use crate::report::{Bar, Row};
use crate::routes::Routes;
use crate::scenarios::saturated::{self, Scenario};
use crate::scenarios::{CONNECTIONS, Lab};
use crate::tls::Identity;

pub const NAMES: [&str; 5] = ["tls-1k", "h2c-1k", "h2-1k", "handshake-full", "handshake-resumed"];
pub const TICKETS: &str = "tickets";

/// Over HTTP/2 as many requests are under way as over HTTP/1.1, on an eighth of the connections.
const H2_CONNECTIONS: usize = 8;
const H2_STREAMS: usize = CONNECTIONS / H2_CONNECTIONS;
/// New connections at once: enough to keep every worker busy, and no flood.
const HANDSHAKES: usize = 16;

const TLS_BAR: f64 = 0.80;
const H2_BAR: f64 = 0.85;
const HANDSHAKE_BAR: f64 = 1.05;

/// A session is worth a ticket only if the worker that the next connection meets can read it.
const TICKETS_WORKERS: usize = 2;
const NOT_RESUMED_MAX: f64 = 1.0;

fn scenarios(identity: &Identity) -> [Scenario<'_>; 5] {
    let two = Http::Two { streams: H2_STREAMS };
    let plain = |http, life| Client { tls: None, http, life };
    let secure = |http, life| Client { tls: Some(identity), http, life };
    let long = |name, request, client, connections, limit| Scenario {
        name,
        unit: "request",
        request,
        client,
        connections,
        port: if client.tls.is_some() { |ports| ports.tls } else { |ports| ports.h2c },
        bar: Bar::ratio_and_upper(limit),
        beside: Some("haproxy"),
    };
    let get = || http::get("/1k", 1024);
    let handshake =
        |name, life| Scenario { unit: "handshake", ..long(name, get(), secure(Http::One, life), HANDSHAKES, HANDSHAKE_BAR) };
    [
        long("tls-1k", get(), secure(Http::One, Life::Long), CONNECTIONS, TLS_BAR),
        long("h2c-1k", h2::get("/1k", false, 1024), plain(two, Life::Long), H2_CONNECTIONS, H2_BAR),
        long("h2-1k", h2::get("/1k", true, 1024), secure(two, Life::Long), H2_CONNECTIONS, H2_BAR),
        handshake("handshake-full", Life::Once),
        handshake("handshake-resumed", Life::Resumed),
    ]
}

fn contenders(lab: &Lab) -> Vec<Contender> {
    let mut contenders = lab.peers();
    contenders.extend(lab.maitred("maitred", Routes::CatchAll));
    contenders
}

pub fn run(lab: &mut Lab) -> io::Result<()> {
    let folder = lab.folder.join("protocols");
    let identity = Identity::make(&folder)?;
    let wanted: Vec<Scenario> = scenarios(&identity).into_iter().filter(|scenario| lab.wants(scenario.name)).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let backend = Backend::start(None)?;
    let setup = Setup { modern: true, ..Lab::setup(&folder, &backend, lab.options.workers) };
    let proxies = lab.start_all("protocols", &contenders(lab), &setup, Bar::ratio_and_upper(TLS_BAR));
    for scenario in &wanted {
        saturated::compare(lab, scenario, &proxies.iter().collect::<Vec<_>>());
    }
    Ok(())
}

/// Each client connects twice, with nothing in between but the time of an answer.
pub fn tickets(lab: &mut Lab) -> io::Result<()> {
    let folder = lab.folder.join(TICKETS);
    let identity = Identity::make(&folder)?;
    let backend = Backend::start(None)?;
    let setup = Setup { modern: true, ..Lab::setup(&folder, &backend, TICKETS_WORKERS) };
    let bar = Bar::figure(NOT_RESUMED_MAX);
    for proxy in lab.start_all(TICKETS, &contenders(lab), &setup, bar) {
        let bar = proxy.name.starts_with("maitred").then_some(bar);
        let title = "second connections not resumed";
        let row = match pairs(&proxy, &identity, lab.options.handshakes()) {
            Ok((resumable, resumed)) => {
                lab.report.add_raw(&format!("{TICKETS}/{}", proxy.name), json!({"second": resumable, "resumed": resumed}));
                let share = (resumable - resumed) as f64 / resumable as f64 * 100.0;
                let note = format!("{resumed} of {resumable} resumed, {TICKETS_WORKERS} workers");
                Row { bar, note, ..Row::new(title, &proxy.name, "%", &[share]) }
            }
            Err(error) => Row::failed(title, &proxy.name, bar, &error),
        };
        lab.report.add(row);
    }
    Ok(())
}

/// Second connections, and those of them that resumed the session of the first.
fn pairs(proxy: &Proxy, identity: &Identity, count: u64) -> Result<(u64, u64), String> {
    let client = Client { tls: Some(identity), http: Http::One, life: Life::Paired };
    let (requests, until) = ([http::get("/1k", 1024)], Until::Count(count));
    let job = Job { port: proxy.ports.tls, connections: HANDSHAKES, client, requests: &requests, pace: Pace::Closed, until };
    let outcome = load::run_plain(&job).map_err(|e| e.to_string())?.valid()?;
    match outcome.resumable {
        0 => Err("no second connection".into()),
        resumable => Ok((resumable, outcome.resumed)),
    }
}
