//! A million keys that one limit counts apart, all of them alive: what each takes of memory, and whether anybody else waits for one to be made. Watched from outside,
//! by a client whose requests are not counted, and in one process that does nothing else than to take. The gateway alone is asked this.

use std::io;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::guesses::{self, Flood, From};
use crate::http::{self, Request};
use crate::load::{self, Client, Job, Outcome, Pace, Until};
use crate::process;
use crate::proxies::{Backend, Proxy, Setup};
use crate::report::{Bar, Row};
use crate::scenarios::{Lab, Sample, apart, figures, interleave, raw};
use crate::stats::Spread;
use crate::sys::{self, Rank};
use crate::written;

pub const NAME: &str = "limits-keys";

const BYTES_MAX: f64 = 100.0;
const MIB: f64 = 1024.0 * 1024.0;
const STALL_MS_MAX: f64 = 1.0;
/// Of those who come with keys, each asking again as soon as it was told.
const CONNECTIONS: usize = 16;
/// Of the client whose requests are not counted.
const PER_SECOND: f64 = 1000.0;
const CLIENT_CONNECTIONS: usize = 8;
/// Times that keys and requests without them take turns.
const TURNS: u64 = 10;
/// The gateway goes before whatever else runs here, where that is allowed, and still not without end: a flood keeps it busy.
const FIRST: i32 = -15;
const PROBE: &str = "/1k";
const ANSWER_BYTES: usize = 1024;
/// Beside this program: `core/examples/limit_keys.rs`.
const IN_PROCESS: &str = "examples/limit_keys";

pub fn run(lab: &mut Lab) -> io::Result<()> {
    if lab.options.maitred.is_none() {
        return Ok(());
    }
    // Alone it runs for less than a second.
    sys::be(Rank::Measured);
    in_process(lab);
    sys::be(Rank::Ordinary);
    apart(lab, NAME, Bar::figure(STALL_MS_MAX), pinned)
}

fn pinned(lab: &mut Lab, own_core: usize, load_core: usize) -> io::Result<()> {
    sys::be(Rank::Measured);
    let backend = Backend::start(Some(load_core));
    sys::be(Rank::Ordinary);
    let backend = backend?;
    let keys = lab.options.keys();
    let upstreams = format!("  backend: http://127.0.0.1:{}\n", backend.port);
    // None is forgotten before all are there, and none is refused because it shares the place of others.
    let limit = format!("rate_limit: {{ rate: 2/h, burst: 1000, by: \"header:x-key\", keys_max: {keys} }}");
    let routes = format!(
        "      - {{ match: GET {PROBE}, proxy: backend }}
      - {{ match: GET /plain, proxy: backend }}
      - {{ match: GET /keys, {limit}, proxy: backend }}
"
    );
    let Some(contender) = lab.maitred_written("maitred", written::maitred(1, &upstreams, &routes), PROBE) else { return Ok(()) };
    let folder = lab.folder.join(NAME);
    let setup = Setup { core: Some(own_core), ..Lab::setup(&folder, &backend, 1) };
    sys::prioritise(FIRST);
    let proxies = lab.start_all(NAME, &[contender], &setup, Bar::figure(BYTES_MAX));
    sys::prioritise(0);
    let Some(proxy) = proxies.into_iter().next() else { return Ok(()) };
    // The other half of what each turn does: whatever it leaves behind is there before anything is measured.
    beside(&proxy, "/plain", 0, keys / TURNS).map_err(io::Error::other)?;
    let before = process::resident_bytes(proxy.pid())?;
    let names = ["without keys", "with new keys"].map(String::from);
    let mut turn = 0;
    let samples = interleave(NAME, &names, TURNS as usize, |who| match who {
        0 => beside(&proxy, "/plain", 0, keys / TURNS),
        _ => {
            turn += 1;
            beside(&proxy, "/keys", (turn - 1) * (keys / TURNS), keys / TURNS)
        }
    });
    let after = process::resident_bytes(proxy.pid())?;
    record(lab, keys, [before, after], &names, &samples);
    Ok(())
}

fn record(lab: &mut Lab, keys: u64, [before, after]: [u64; 2], names: &[String], samples: &[Vec<Sample>]) {
    lab.report.add_raw(NAME, json!({"resident_before": before, "resident_after": after, "worst_ms": raw(names, samples)}));
    let title = format!("{NAME}: RSS per live key ({keys})");
    let bytes = after.saturating_sub(before) as f64 / keys as f64;
    let failed = samples.iter().flatten().find_map(|sample| sample.as_ref().err());
    lab.report.add(match failed {
        None => {
            let note = format!("{:.1} MiB before, {:.1} MiB after", before as f64 / MIB, after as f64 / MIB);
            Row { bar: Some(Bar::figure(BYTES_MAX)), note, ..Row::new(&title, "maitred", "B", &[bytes]) }
        }
        Some(why) => Row::failed(&title, "maitred", Some(Bar::figure(BYTES_MAX)), why),
    });
    let title = format!("{NAME}: worst latency of another, beyond that without keys");
    let beyond =
        samples[1].iter().zip(&samples[0]).filter_map(|(with, without)| Some(with.as_ref().ok()? - without.as_ref().ok()?));
    let mut row =
        Row { bar: Some(Bar::figure(STALL_MS_MAX)), ..Row::new(&title, "maitred", "ms", &beyond.collect::<Vec<f64>>()) };
    let of = |who: usize| Spread::of(&figures(&samples[who])).map_or(f64::NAN, |spread| spread.median);
    row.note = format!(
        "{:.2} ms beside {} new keys, {:.2} ms beside as many requests without, in each of {TURNS} turns",
        of(1),
        keys / TURNS,
        of(0)
    );
    if let Some(why) = failed {
        row = Row::failed(&title, "maitred", row.bar, why);
    }
    lab.report.add(row);
}

/// So many requests, each with the key of its number, as fast as they come; meanwhile another client asks. The worst of what that one waited, in milliseconds.
fn beside(proxy: &Proxy, path: &str, first: u64, count: u64) -> Result<f64, String> {
    let (over, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    let plain = http::get(path, ANSWER_BYTES);
    let guess = |number: u64| {
        if number >= count {
            over.store(true, Ordering::Relaxed);
        }
        http::with_lines(&plain, &format!("X-Key: key-{:012}\r\n", first + number.min(count - 1))).bytes
    };
    let flood = Flood { port: proxy.port, from: From::OneAddress, connections: CONNECTIONS, guess: &guess };
    let client = [http::get(PROBE, ANSWER_BYTES)];
    let (told, outcome) = std::thread::scope(|scope| {
        let flood = scope.spawn(|| guesses::run(&flood, &over));
        let client = scope.spawn(|| watch(proxy, &client, &over, &answered)).join();
        over.store(true, Ordering::Relaxed);
        (flood.join(), client)
    });
    let panicked = || "a thread panicked".to_string();
    let told = told.map_err(|_| panicked())?.map_err(|error| error.to_string())?;
    let outcome = outcome.map_err(|_| panicked())??;
    // The last of them may be under way still, or ask once more with a key that was there.
    let good = told.of(200);
    if told.all() > good || good + 2 * (CONNECTIONS as u64) < count {
        return Err(format!("{good} of {count} were let in: {:?}", told.statuses));
    }
    Ok(outcome.latencies.quantile(1.0) as f64 / 1e6)
}

fn watch(proxy: &Proxy, requests: &[Request], over: &AtomicBool, answered: &AtomicU64) -> Result<Outcome, String> {
    sys::be(Rank::Instrument);
    let until = Until::Flag { over, answered };
    let pace = Pace::Open { per_second: PER_SECOND };
    let job = Job { port: proxy.port, connections: CLIENT_CONNECTIONS, client: Client::PLAIN, requests, pace, until };
    load::run_plain(&job).map_err(|error| error.to_string())?.valid()
}

/// The table alone: the longest that one `Table::take` took, in each round with another table.
fn in_process(lab: &mut Lab) {
    let title = format!("{NAME}: longest single take");
    let bar = Bar::figure(STALL_MS_MAX * 1000.0);
    let rounds: Result<Vec<Value>, String> = (0..lab.options.rounds).map(|_| takes(lab.options.keys())).collect();
    let row = match rounds {
        Ok(rounds) => {
            let of = |name: &str| -> Vec<f64> { rounds.iter().filter_map(|round| round[name].as_f64()).collect() };
            let micros = |name: &str| of(name).iter().map(|nanos| nanos / 1000.0).collect::<Vec<f64>>();
            let middle = |figures: &[f64]| Spread::of(figures).map_or(f64::NAN, |spread| spread.median);
            let note = format!(
                "in process, {} keys, {:.0} ns each; without a table the longest was {:.0} µs; shared {:.0}",
                lab.options.keys(),
                middle(&of("mean_ns")),
                middle(&micros("longest_without_ns")),
                middle(&of("shared")),
            );
            let row = Row { bar: Some(bar), note, ..Row::new(&title, "maitred", "µs", &micros("longest_ns")) };
            lab.report.add_raw(&title, json!(rounds));
            row
        }
        Err(why) => Row::failed(&title, "maitred", Some(bar), &why),
    };
    lab.report.add(row);
}

fn takes(keys: u64) -> Result<Value, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let program = own.with_file_name(IN_PROCESS);
    let output = Command::new(&program).arg(keys.to_string()).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{IN_PROCESS}, which bench/run builds: {error}"))?;
    match output.status.success() {
        true => serde_json::from_slice(&output.stdout).map_err(|error| error.to_string()),
        false => Err(format!("{IN_PROCESS}: {}", String::from_utf8_lossy(&output.stderr))),
    }
}
