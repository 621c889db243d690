//! Everything at once that an API commonly asks of a gateway: a token that was seen before, the consumer whose it is, a rate limit, metrics. CPU time per
//! request beside the *plain* nginx, and beside what nginx and haproxy have for limits, saturated as in saturated.rs.

use std::io;

use crate::http;
use crate::load::Client;
use crate::proxies::{Backend, Contender, Kind, Setup, Tuning};
use crate::report::Bar;
use crate::routes::Routes;
use crate::scenarios::counting::{TOKEN, TOKENS};
use crate::scenarios::saturated::{self, Scenario};
use crate::scenarios::{CONNECTIONS, Lab};
use crate::written;

pub const NAME: &str = "together";

const BAR: f64 = 0.80;
const LIMITED_NGINX: &str = "nginx-limit-req";
const PROBE: &str = "/1k";

/// Counted, and never over: a refusal is another request than the one that is measured.
const POLICIES: &str = "rate_limit: { rate: 1000000/s, burst: 100000, by: consumer }";
/// Whoever the token names.
const CONSUMERS: &str =
    "consumers: { alice: { identities: [{ authorizer: bench, subject: 7d0f9c4e-2f0e-4f38-9b7d-0c5a3c9b2e11 }] } }\n";

fn limited_nginx(workers: usize, backend: u16) -> Contender {
    let http = format!(
        "    limit_req_zone $binary_remote_addr zone=bench:10m rate=1000000r/s;
    upstream backend {{
        server 127.0.0.1:{backend};
        keepalive 1024;
        keepalive_requests 1000000000;
        keepalive_timeout 600s;
    }}
"
    );
    let location = "            limit_req zone=bench burst=100000 nodelay;\n            limit_req_status 429;\n            proxy_pass http://backend;\n";
    Contender::written(LIMITED_NGINX, Kind::Nginx(Tuning::Plain), written::nginx(workers, &http, location), PROBE)
}

fn limited_haproxy(workers: usize, backend: u16) -> Contender {
    let frontend = "    stick-table type ip size 1m expire 10s store http_req_rate(10s)
    http-request track-sc0 src
    http-request deny deny_status 429 if { sc_http_req_rate(0) gt 100000000 }
";
    let server = format!("    server backend 127.0.0.1:{backend}\n");
    Contender::written("haproxy-stick-table", Kind::Haproxy, written::haproxy(workers, frontend, &server), PROBE)
}

pub fn run(lab: &mut Lab) -> io::Result<()> {
    let backend = Backend::start(None)?;
    let workers = lab.options.workers;
    let mut contenders = lab.peers();
    contenders.extend([limited_nginx(workers, backend.port), limited_haproxy(workers, backend.port)]);
    contenders.extend(lab.maitred("maitred", Routes::CatchAll));
    let folder = lab.folder.join(NAME);
    let identity = format!("{TOKENS}{CONSUMERS}");
    let setup = Setup { identity: &identity, policies: POLICIES, ..Lab::setup(&folder, &backend, workers) };
    let bar = Bar::ratio_and_upper(BAR);
    let proxies = lab.start_all(NAME, &contenders, &setup, bar);
    let scenario = Scenario {
        name: NAME,
        unit: "request",
        // The same bytes for all: who asks for no token passes it on.
        request: http::with_lines(&http::get("/menu", 1024), TOKEN),
        client: Client::PLAIN,
        connections: CONNECTIONS,
        port: |ports| ports.plain,
        bar,
        beside: Some(LIMITED_NGINX),
    };
    saturated::compare(lab, &scenario, &proxies.iter().collect::<Vec<_>>());
    Ok(())
}
