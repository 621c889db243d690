//! What attacks over HTTP/2 cost everybody else: eight connections attack while one client goes on asking at a steady pace. Three
//! bars for each attack: how much memory the gateway takes, how soon it closes who has passed a limit, and how much longer the
//! client waits than when the same eight connections ask properly at the same cost to themselves. The gateway alone is asked this.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use serde_json::json;

use crate::attack::{self, Attack, Record};
use crate::h2;
use crate::load::{self, Client, Http, Job, Life, Outcome, Pace, Until};
use crate::process;
use crate::proxies::{Backend, Contender, Proxy, Setup};
use crate::report::{Bar, Row};
use crate::routes::Routes;
use crate::scenarios::Lab;
use crate::stats::Spread;
use crate::sys::{self, Rank};

pub const NAME: &str = "floods";

const GROWTH_MB_MAX: f64 = 20.0;
const LATE_MS_MAX: f64 = 1000.0;
const P99_RATIO_MAX: f64 = 3.0;
const MEGABYTE: f64 = 1024.0 * 1024.0;

/// The client that means well: its pace, and how much of it may be under way at once.
const PER_SECOND: f64 = 500.0;
const CLIENT_STREAMS: usize = 16;
/// Streams on each of the eight connections when they ask properly.
const PROPER_STREAMS: usize = 8;
const LOOK: Duration = Duration::from_millis(200);

pub fn run(lab: &mut Lab) -> io::Result<()> {
    let Some(contender) = lab.maitred("maitred", Routes::CatchAll) else { return Ok(()) };
    let folder = lab.folder.join(NAME);
    for attack in Attack::ALL {
        let outcome = one(lab, &contender, &folder, attack);
        let titles =
            ["RSS growth", "closed after its limit", "p99 of another client"].map(|what| format!("{}: {what}", attack.name()));
        let bars = [Bar::figure(GROWTH_MB_MAX), Bar::figure(LATE_MS_MAX), Bar::ratio(P99_RATIO_MAX)];
        match outcome {
            Ok(damage) => record(lab, attack, &damage, titles, bars),
            Err(why) => {
                eprintln!("{NAME}, {}: {why}", attack.name());
                for (title, bar) in titles.iter().zip(bars) {
                    lab.report.add(Row::failed(title, "maitred", Some(bar), &why.to_string()));
                }
            }
        }
        eprintln!("{NAME}: {} done", attack.name());
    }
    Ok(())
}

struct Damage {
    /// Bytes beyond what the gateway held after a second of proper requests, at the worst moment.
    growth: u64,
    attackers: Record,
    attacked: Outcome,
    proper: Outcome,
}

fn record(lab: &mut Lab, attack: Attack, damage: &Damage, titles: [String; 3], bars: [Bar; 3]) {
    let Damage { growth, attackers, attacked, proper } = damage;
    let Record { late, left, connections, offences, share } = attackers;
    let microseconds = |outcome: &Outcome| outcome.latencies.quantile(0.99) as f64 / 1000.0;
    let (p99, proper_p99) = (microseconds(attacked), microseconds(proper));
    let raw = json!({
        "growth_bytes": growth, "late_ms": late, "left_open": left, "connections": connections, "offences": offences,
        "attacker_cpu": share, "p99_us": p99, "p99_us_beside_proper_requests": proper_p99, "proper_requests_answered": attacked.answered,
    });
    lab.report.add_raw(&format!("{NAME}/{}", attack.name()), raw);
    let worst = late.iter().copied().fold(0.0, f64::max);
    let median = Spread::of(late).map_or(0.0, |late| late.median);
    let mut rows = [growth.to_owned() as f64 / MEGABYTE, worst, p99]
        .into_iter()
        .zip(["MB", "ms", "µs"])
        .zip(titles)
        .zip(bars)
        .map(|(((figure, unit), title), bar)| Row { bar: Some(bar), ..Row::new(&title, "maitred", unit, &[figure]) })
        .collect::<Vec<_>>();
    rows[0].note = format!("{offences} offences on {connections} connections, {:.0}% of a core", share * 100.0);
    rows[1].note = format!("limit: {}; the worst, median {median:.1} ms, {left} open at the end", attack.limit());
    rows[2].note = format!("ratio to {proper_p99:.0} µs beside proper requests");
    rows[2].ratio = Spread::of(&[p99 / proper_p99]);
    if late.is_empty() {
        // Nobody passed a limit, so nothing was shown.
        rows[1].figure = None;
    }
    rows.into_iter().for_each(|row| lab.report.add(row));
}

fn one(lab: &Lab, contender: &Contender, folder: &Path, attack: Attack) -> io::Result<Damage> {
    // Its own CPU time and the client's are not what is measured: both go before the gateway, which gets no rank. The eight connections
    // come last, as attackers and as proper clients: they have a machine of their own, and do not take the gateway's core by what they compute.
    sys::be(Rank::Measured);
    let backend = Backend::start(None);
    sys::be(Rank::Ordinary);
    let backend = backend?;
    let setup = Setup { limits: attack::WRITE_TIMEOUT_YAML, ..Lab::setup(folder, &backend, lab.options.workers) };
    let window = |length| Until::Window { warmup: lab.options.warmup(), length };
    let (growth, attackers, attacked) = {
        let proxy = Proxy::start(contender, &setup)?;
        valid(proper(&proxy, Pace::Closed, window(lab.options.window())))?;
        under_attack(&proxy, attack, window(lab.options.attack()))?
    };
    // Another process: what the attack left behind must not make the comparison milder.
    let proxy = Proxy::start(contender, &setup)?;
    let proper = beside_proper(&proxy, attackers.share, window(lab.options.attack_compared()))?;
    Ok(Damage { growth, attackers, attacked, proper })
}

fn valid(outcome: io::Result<Outcome>) -> io::Result<Outcome> {
    outcome?.valid().map_err(io::Error::other)
}

fn under_attack(proxy: &Proxy, attack: Attack, until: Until) -> io::Result<(u64, Record, Outcome)> {
    let over = AtomicBool::new(false);
    let before = process::resident_bytes(proxy.pid())?;
    std::thread::scope(|scope| {
        let attackers = scope.spawn(|| {
            sys::be(Rank::Last);
            attack::run(attack, proxy.ports.h2c, &over)
        });
        let client = scope.spawn(|| client(proxy, until));
        let mut peak = before;
        while !client.is_finished() {
            peak = peak.max(process::resident_bytes(proxy.pid()).unwrap_or(0));
            std::thread::sleep(LOOK);
        }
        over.store(true, Ordering::Relaxed);
        let (attackers, client) = (join(attackers), join(client));
        Ok((peak - before, attackers?, valid(client)?))
    })
}

fn beside_proper(proxy: &Proxy, share: f64, until: Until) -> io::Result<Outcome> {
    let (over, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let until_over = Until::Flag { over: &over, answered: &answered };
        let others = scope.spawn(move || {
            sys::be(Rank::Last);
            proper(proxy, Pace::Frugal { share }, until_over)
        });
        let client = scope.spawn(|| client(proxy, until));
        let client = join(client);
        over.store(true, Ordering::Relaxed);
        let others = join(others)?;
        match others.errors {
            0 => valid(client),
            errors => Err(io::Error::other(format!("{errors} errors on proper requests: {:?}", others.first_error))),
        }
    })
}

fn join<T>(thread: ScopedJoinHandle<io::Result<T>>) -> io::Result<T> {
    thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
}

/// The client that means well, on a connection of its own.
fn client(proxy: &Proxy, until: Until) -> io::Result<Outcome> {
    sys::be(Rank::Instrument);
    let (requests, pace) = ([h2::get("/1k", false, 1024)], Pace::Open { per_second: PER_SECOND });
    let client = Client { tls: None, http: Http::Two { streams: CLIENT_STREAMS }, life: Life::Long };
    load::run_plain(&Job { port: proxy.ports.h2c, connections: 1, client, requests: &requests, pace, until })
}

/// The eight connections, asking as they should.
fn proper(proxy: &Proxy, pace: Pace, until: Until) -> io::Result<Outcome> {
    let requests = [h2::get("/1k", false, 1024)];
    let client = Client { tls: None, http: Http::Two { streams: PROPER_STREAMS }, life: Life::Long };
    let (port, connections) = (proxy.ports.h2c, attack::CONNECTIONS);
    load::run_plain(&Job { port, connections, client, requests: &requests, pace, until })
}
