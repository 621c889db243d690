//! Reloads under load: the file changes, SIGHUP says so, and not one request fails meanwhile, nor does a WebSocket that
//! was opened before fall silent. The gateway alone is asked this.

use std::fs;
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::http;
use crate::load::{self, Client, Job, Outcome, Pace, Until};
use crate::process;
use crate::proxies::{self, Backend, Proxy};
use crate::report::{Bar, Row};
use crate::routes::Routes;
use crate::scenarios::{CONNECTIONS, Lab};
use crate::sys;
use crate::websocket::WebSocket;

pub const NAME: &str = "reload";
const GENERATION: &str = "maitred_config_generation";
const WEBSOCKETS: usize = 8;
/// A reload that takes longer counts as failed.
const RELOAD_LIMIT: Duration = Duration::from_secs(10);
/// Answers between two reloads, so that each of them meets connections at work.
const BETWEEN: u64 = 500;
/// The two tables that take turns.
const TABLES: [Routes; 2] = [Routes::Mixed(20), Routes::Mixed(10)];

pub fn run(lab: &mut Lab) -> io::Result<()> {
    let Some(contender) = lab.maitred("maitred", TABLES[1]) else { return Ok(()) };
    let backend = Backend::start(None)?;
    let folder = lab.folder.join(NAME);
    let workers = lab.options.workers;
    let setup = Lab::setup(&folder, &backend, workers);
    let proxy = match Proxy::start(&contender, &setup) {
        Ok(proxy) => proxy,
        Err(error) => {
            lab.did_not_start(NAME, &contender, Bar::figure(0.0), &error);
            return Ok(());
        }
    };
    let mut sockets = open_sockets(proxy.port)?;
    let texts = TABLES.map(|routes| proxies::maitred(&setup, proxy.ports, routes));
    let reload_often = |answered: &AtomicU64| reload_often(&proxy, &texts, lab.options.reloads(), answered);
    let (times, outcome) = under_load(&proxy, reload_often);
    let silent = sockets.iter_mut().filter_map(|socket| socket.echo("after").err()).count();
    record(lab, times, outcome?, silent);
    Ok(())
}

fn open_sockets(port: u16) -> io::Result<Vec<WebSocket>> {
    let open = |_| {
        let mut socket = WebSocket::open(port)?;
        socket.echo("before").map(|()| socket)
    };
    (0..WEBSOCKETS).map(open).collect()
}

/// Does something while 64 connections ask without pause.
fn under_load<T>(proxy: &Proxy, act: impl FnOnce(&AtomicU64) -> T) -> (T, io::Result<Outcome>) {
    let (over, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    let requests = [http::get("/1k", 1024)];
    let until = Until::Flag { over: &over, answered: &answered };
    let job =
        Job { port: proxy.port, connections: CONNECTIONS, client: Client::PLAIN, requests: &requests, pace: Pace::Closed, until };
    std::thread::scope(|scope| {
        let load = scope.spawn(|| load::run_plain(&job));
        let done = act(&answered);
        over.store(true, Ordering::Relaxed);
        let outcome = load.join().unwrap_or_else(|_| Err(io::Error::other("the load generator panicked")));
        (done, outcome)
    })
}

/// Milliseconds of each reload, from SIGHUP to the new generation; up to the first that failed.
fn reload_often(proxy: &Proxy, texts: &[String; 2], count: usize, answered: &AtomicU64) -> (Vec<f64>, Option<io::Error>) {
    let mut times = Vec::new();
    for number in 0..count {
        let wanted = answered.load(Ordering::Relaxed) + BETWEEN;
        process::until(RELOAD_LIMIT, || (answered.load(Ordering::Relaxed) >= wanted).then_some(()));
        match reload(proxy, &texts[number % 2]) {
            Ok(took) => times.push(took.as_secs_f64() * 1000.0),
            Err(error) => return (times, Some(error)),
        }
    }
    (times, None)
}

fn reload(proxy: &Proxy, text: &str) -> io::Result<Duration> {
    let before = generation(proxy.ports.admin)?;
    // Renamed into place, as an editor does: nobody must read half a file.
    let draft = proxy.config.with_extension("draft");
    fs::write(&draft, text)?;
    fs::rename(&draft, &proxy.config)?;
    let began = Instant::now();
    proxy.signal(libc::SIGHUP);
    let moved = process::until(RELOAD_LIMIT, || (generation(proxy.ports.admin).ok()? > before).then_some(()));
    moved.map(|()| began.elapsed()).ok_or_else(|| io::Error::other("the generation did not move"))
}

/// What /metrics says of the generation.
fn generation(admin: u16) -> io::Result<f64> {
    let mut stream = sys::connect_from(Ipv4Addr::LOCALHOST, sys::loopback(admin))?;
    stream.set_read_timeout(Some(RELOAD_LIMIT))?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:{admin}\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let line = text.lines().find(|line| line.starts_with(GENERATION));
    let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    value.ok_or_else(|| io::Error::other(format!("/metrics has no {GENERATION}")))
}

fn record(lab: &mut Lab, (times, error): (Vec<f64>, Option<io::Error>), outcome: Outcome, silent: usize) {
    lab.report.add_raw(
        NAME,
        serde_json::json!({
            "reload_ms": times, "answered": outcome.answered, "failed": outcome.errors,
            "first_error": outcome.first_error, "reconnects": outcome.reconnects, "silent_websockets": silent,
        }),
    );
    let title = format!("{} reloads under load", times.len());
    let failed = (outcome.errors as usize + silent) as f64;
    let mut row = Row::new(&title, "maitred", "failures", &[failed]);
    row.bar = Some(Bar::figure(0.0));
    row.note = format!("{} requests answered, {silent} of {WEBSOCKETS} WebSockets silent", outcome.answered);
    if let Some(first) = &outcome.first_error {
        row.note.push_str(&format!("; first error: {first}"));
    }
    if let Some(error) = error {
        row.figure = None;
        row.note.push_str(&format!("; stopped: {error}"));
    }
    lab.report.add(row);
    lab.report.add(Row::new("time of a reload", "maitred", "ms", &times));
}
