//! What a proxy costs before and between requests: memory of idle connections, time to the first answer, time to load
//! many routes. Each sample is a fresh process.

use std::io;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::process::{self, Ending, Running};
use crate::proxies::{self, Backend, Contender, Kind, Proxy, Setup};
use crate::report::Bar;
use crate::routes::Routes;
use crate::scenarios::{self, Lab, Sample};

pub const IDLE: &str = "idle";
pub const START: &str = "start";
pub const ROUTES: &str = "routes";

const IDLE_BYTES_MAX: f64 = 8.0 * 1024.0;
const IDLE_SAMPLES: usize = 3;
/// Addresses of loopback that connections come from, so that neither ports nor a limit for each address run out.
const SOURCES: usize = 10;
const START_MS_MAX: f64 = 100.0;
pub const ROUTES_COUNT: usize = 100_000;
const ROUTES_MS_MAX: f64 = 1000.0;
const ROUTES_SAMPLES: usize = 5;
const CHECK_LIMIT: Duration = Duration::from_secs(60);

pub fn idle(lab: &mut Lab) -> io::Result<()> {
    let count = lab.options.idle_connections();
    let rounds = IDLE_SAMPLES.min(lab.options.rounds);
    fresh(lab, IDLE, &format!("RSS per idle connection ({count})"), "B", rounds, IDLE_BYTES_MAX, |contender, setup| {
        grown_by(contender, setup, count)
    })
}

pub fn start(lab: &mut Lab) -> io::Result<()> {
    let rounds = lab.options.starts();
    fresh(lab, START, "start to first answer", "ms", rounds, START_MS_MAX, |contender, setup| {
        let proxy = Proxy::start(contender, setup).map_err(|e| e.to_string())?;
        Ok(proxy.ready_after.as_secs_f64() * 1000.0)
    })
}

/// Samples of fresh processes of all contenders, interleaved.
fn fresh(
    lab: &mut Lab,
    name: &str,
    title: &str,
    unit: &'static str,
    rounds: usize,
    limit: f64,
    measure: impl Fn(&Contender, &Setup) -> Sample,
) -> io::Result<()> {
    let backend = Backend::start(None)?;
    let mut contenders = lab.peers();
    contenders.extend(lab.maitred("maitred", Routes::CatchAll));
    let folder = lab.folder.join(name);
    let setup = Lab::setup(&folder, &backend, 1);
    let names: Vec<String> = contenders.iter().map(|contender| contender.name.clone()).collect();
    let samples = scenarios::interleave(name, &names, rounds, |who| measure(&contenders[who], &setup));
    lab.report.add_raw(name, scenarios::raw(&names, &samples));
    for row in scenarios::compare(unit, title, &names, &samples, Bar::figure(limit)) {
        lab.report.add(row);
    }
    Ok(())
}

/// Bytes by which the proxy grew for each of `count` connections that had one answer each and stay open.
fn grown_by(contender: &Contender, setup: &Setup, count: usize) -> Sample {
    let proxy = Proxy::start(contender, setup).map_err(|e| e.to_string())?;
    let before = process::resident_bytes(proxy.pid()).map_err(|e| e.to_string())?;
    let mut open = Vec::with_capacity(count);
    for number in 0..count {
        let source = Ipv4Addr::new(127, 0, 0, 1 + (number % SOURCES) as u8);
        let stream = proxies::ask(source, proxy.port, "/1k").map_err(|e| format!("connection {number}: {e}"))?;
        open.push(stream);
    }
    let after = process::resident_bytes(proxy.pid()).map_err(|e| e.to_string())?;
    let closed = open.iter().filter(|stream| is_closed(stream)).count();
    if closed > 0 {
        return Err(format!("{closed} of {count} connections were closed"));
    }
    Ok(after.saturating_sub(before) as f64 / count as f64)
}

fn is_closed(stream: &TcpStream) -> bool {
    let silent = |e: io::Error| e.kind() == io::ErrorKind::WouldBlock;
    stream.set_nonblocking(true).is_err() || !stream.peek(&mut [0]).is_err_and(silent)
}

/// For the gateway alone: its routes are what it is measured by, nginx has no like.
pub fn routes(lab: &mut Lab) -> io::Result<()> {
    let title = format!("load {ROUTES_COUNT} routes");
    let Some(contender) = lab.maitred("maitred", Routes::Generated(ROUTES_COUNT)) else { return Ok(()) };
    let Kind::Maitred { binary, .. } = &contender.kind else { return Ok(()) };
    let backend = Backend::start(None)?;
    let folder = lab.folder.join(ROUTES);
    let setup = Lab::setup(&folder, &backend, 1);
    let names = ["maitred run, first answer", "maitred check"].map(String::from);
    let rounds = ROUTES_SAMPLES.min(lab.options.rounds);
    let samples = scenarios::interleave(ROUTES, &names, rounds, |who| {
        let took = match who {
            0 => Proxy::start(&contender, &setup).map(|proxy| proxy.ready_after),
            _ => check(binary, &folder.join(&contender.name).join("config")),
        };
        Ok(took.map_err(|e| e.to_string())?.as_secs_f64() * 1000.0)
    });
    lab.report.add_raw(ROUTES, scenarios::raw(&names, &samples));
    for row in scenarios::compare("ms", &title, &names, &samples, Bar::figure(ROUTES_MS_MAX)) {
        lab.report.add(row);
    }
    Ok(())
}

fn check(binary: &Path, config: &Path) -> io::Result<Duration> {
    let mut command = Command::new(binary);
    command.arg("check").arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let began = Instant::now();
    let mut running = Running::start(command, Ending::Kill, None)?;
    let status = running.wait(CHECK_LIMIT)?;
    let took = began.elapsed();
    match status.success() {
        true => Ok(took),
        false => Err(io::Error::other(format!("check: {status}"))),
    }
}
