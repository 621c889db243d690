//! Three gateways that count together in one Redis: whether what they let in together is what is written, what becomes of requests while the server is killed or
//! stands still, and what it costs a request to ask. The gateway alone is asked this.

use std::io;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::http;
use crate::load::{self, Client, Job, Pace, Until};
use crate::offered::{self, Connections, Offer, Sample};
use crate::proxies::{Backend, Proxy};
use crate::redis::Redis;
use crate::report::{Bar, Row};
use crate::scenarios::limits::{Counted, Limit, PERCENT_MAX, PROBE, TIMES, measured, statuses};
use crate::scenarios::{CONNECTIONS, Lab, figures, interleave, ratios};
use crate::stats::{Spread, quantile};
use crate::sys::{self, Rank};
use crate::written;

pub const NAME: &str = "limits-fleet";

const GATEWAYS: usize = 3;
const LIMIT: Limit = Limit { rate: 1000, burst: 200 };
/// Where the server fails: gateways that count for themselves let in three times as much, which must be less than what is asked for.
const LIMIT_FAILING: Limit = Limit { rate: 500, burst: 100 };
const TIMES_FAILING: f64 = 6.0;
/// What a gateway gives out ahead in each worker, by its documentation: this share of a burst.
const SLICES: u32 = 10;
/// The gateway's own default, written out: what a request may wait for its counts.
const TIMEOUT: Duration = Duration::from_millis(50);
/// Off what is promised while the server is gone, and after it came back: windows of seconds have edges.
const FAILING_PERCENT_MAX: f64 = 1.0;
/// Each worker of each gateway asks a few times before anything is measured.
const FIRST: Duration = Duration::from_millis(500);
/// Plain requests as if all came at once that wait for their counts, and stop waiting for them together.
const CROWD_PER_SECOND: f64 = 100_000.0;
const FIRST_PER_SECOND: f64 = 200.0;
/// Requests that ask and are never refused, for their latency.
const CALM_PER_SECOND: f64 = 1000.0;
const CALM_CONNECTIONS: usize = 8;
const WIDE: Limit = Limit { rate: 1_000_000, burst: 1_000_000 };

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Memory,
    Exact,
    LocalFirst,
}

impl Mode {
    fn word(self) -> &'static str {
        match self {
            Mode::Memory => "memory",
            Mode::Exact => "exact",
            Mode::LocalFirst => "local_first",
        }
    }

    /// Units that may be let in beyond what is written, or be left over.
    fn ahead(self, lab: &Lab, limit: Limit) -> f64 {
        match self {
            Mode::Memory | Mode::Exact => 0.0,
            Mode::LocalFirst => (GATEWAYS * lab.options.workers) as f64 * f64::from((limit.burst / SLICES).max(1)),
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Policy {
    Local,
    Open,
    Closed,
}

impl Policy {
    fn word(self) -> &'static str {
        match self {
            Policy::Local => "local",
            Policy::Open => "open",
            Policy::Closed => "closed",
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Failure {
    Killed,
    Stopped,
}

impl Failure {
    fn words(self) -> &'static str {
        match self {
            Failure::Killed => "redis killed",
            Failure::Stopped => "redis stopped",
        }
    }
}

const FAILURES: [(Mode, Policy, Failure); 6] = [
    (Mode::Exact, Policy::Local, Failure::Killed),
    (Mode::Exact, Policy::Open, Failure::Killed),
    (Mode::Exact, Policy::Closed, Failure::Killed),
    (Mode::LocalFirst, Policy::Local, Failure::Killed),
    (Mode::Exact, Policy::Local, Failure::Stopped),
    (Mode::Exact, Policy::Closed, Failure::Stopped),
];

/// One gateway's configuration: the same for all of a fleet.
fn text(lab: &Lab, backend: u16, redis: u16, limit: Limit, (mode, policy): (Mode, Policy)) -> String {
    let counters = match mode {
        Mode::Memory => String::new(),
        Mode::Exact | Mode::LocalFirst => format!(
            "counters: {{ url: \"redis://127.0.0.1:{redis}\", mode: {}, timeout: {}ms, on_failure: {} }}\n",
            mode.word(),
            TIMEOUT.as_millis(),
            policy.word()
        ),
    };
    let upstreams = format!(
        "  backend: http://127.0.0.1:{backend}
secret_key: \"a benchmark keeps no secrets, it only has to have one\"
{counters}"
    );
    let routes = format!(
        "      - {{ match: GET {PROBE}, proxy: backend }}
      - {{ match: \"GET /plain/{{rest+}}\", proxy: backend }}
      - {{ match: \"GET /first/{{rest+}}\", {}, proxy: backend }}
      - {{ match: \"GET /counted/{{rest+}}\", {}, proxy: backend }}
",
        WIDE.yaml("route"),
        limit.yaml("route"),
    );
    written::maitred(lab.options.workers, &upstreams, &routes)
}

pub fn run(lab: &mut Lab) -> io::Result<()> {
    if lab.options.maitred.is_none() {
        return Ok(());
    }
    for mode in [Mode::Exact, Mode::LocalFirst] {
        exact(lab, mode)?;
    }
    for (mode, policy, failure) in FAILURES {
        failing(lab, mode, policy, failure)?;
    }
    latency(lab)
}

/// Gateways, and the server that they count in, which has counted nothing yet.
struct Fleet {
    gateways: Vec<Proxy>,
    redis: Redis,
    /// Ends with the others.
    _backend: Backend,
}

/// `None`: one did not start, and there is a row that says so.
fn fleet(lab: &mut Lab, limit: Limit, how: (Mode, Policy), count: usize, bar: Bar) -> io::Result<Option<Fleet>> {
    let folder = lab.folder.join(NAME);
    let (backend, redis) = measured(|| Ok((Backend::start(None)?, Redis::start(&folder.join("redis"))?)))?;
    let text = text(lab, backend.port, redis.port, limit, how);
    let names = (1..=count).map(|number| format!("maitred-{}-{number}", how.0.word()));
    let contenders: Vec<_> = names.filter_map(|name| lab.maitred_written(&name, text.clone(), PROBE)).collect();
    let setup = Lab::setup(&folder, &backend, lab.options.workers);
    let gateways = measured(|| Ok(lab.start_all(NAME, &contenders, &setup, bar)))?;
    if gateways.len() < count {
        return Ok(None);
    }
    let fleet = Fleet { gateways, redis, _backend: backend };
    offer(&fleet.gateways, "first", FIRST_PER_SECOND * count as f64, FIRST, |_| Ok(()))?;
    Ok(Some(fleet))
}

/// Requests to all gateways in turn, on 64 connections to each.
fn offer<T>(
    gateways: &[Proxy],
    path: &str,
    per_second: f64,
    length: Duration,
    acts: impl FnOnce(Instant) -> io::Result<T>,
) -> io::Result<(Vec<Sample>, T)> {
    let ports: Vec<u16> = gateways.iter().map(|gateway| gateway.port).collect();
    let request = |number: u64| (sys::loopback(ports[number as usize % ports.len()]), format!("/{path}/{number}"));
    let offer = Offer { connections: Connections::InTurn(CONNECTIONS), ..Offer::new(per_second, length, &request) };
    let (told, acted) = offered::beside(&offer, acts)?;
    Ok((told.samples, acted))
}

/// For the figures of a bar: no more digits than are read.
fn hundredths(figure: f64) -> f64 {
    (figure * 100.0).ceil() / 100.0
}

fn exact(lab: &mut Lab, mode: Mode) -> io::Result<()> {
    let title = format!("{NAME}, {}: off what is written", mode.word());
    eprintln!("{title}");
    let length = lab.options.limits();
    let written = f64::from(LIMIT.rate) * length.as_secs_f64() + f64::from(LIMIT.burst);
    let ahead = mode.ahead(lab, LIMIT);
    let bar = Bar::figure(hundredths(PERCENT_MAX + ahead / written * 100.0));
    let Some(fleet) = fleet(lab, LIMIT, (mode, Policy::Local), GATEWAYS, bar)? else { return Ok(()) };
    let (samples, ()) = offer(&fleet.gateways, "counted", TIMES * f64::from(LIMIT.rate), length, |_| Ok(()))?;
    let row = match Counted::of(&samples, LIMIT) {
        Ok(counted) => {
            lab.report.add_raw(&title, counted.json());
            let [p50, p99, worst] = times(&samples);
            let mut note = format!("{}; p50 {p50:.2} ms, p99 {p99:.2} ms, worst {worst:.1} ms", counted.words());
            if ahead > 0.0 {
                note.push_str(&format!("; {ahead:.0} may be ahead in {} workers", GATEWAYS * lab.options.workers));
            }
            Row { bar: Some(bar), note, ..Row::new(&title, "maitred", "%", &[counted.beyond_percent().abs()]) }
        }
        Err(why) => Row::failed(&title, "maitred", Some(bar), &why),
    };
    lab.report.add(row);
    Ok(())
}

/// p50, p99 and the worst, in milliseconds.
fn times(samples: &[Sample]) -> [f64; 3] {
    let mut times: Vec<f64> = samples.iter().map(Sample::service_ms).collect();
    times.sort_by(f64::total_cmp);
    [0.5, 0.99, 1.0].map(|share| quantile(&times, share).unwrap_or(0.0))
}

/// Nanoseconds of a run: when the server was gone, when it was told to come back, and when it answered again.
type Moments = [u64; 3];

fn failing(lab: &mut Lab, mode: Mode, policy: Policy, failure: Failure) -> io::Result<()> {
    let title = format!("{NAME}, {}, {}, {}", mode.word(), policy.word(), failure.words());
    eprintln!("{title}");
    let bar = Bar::figure(FAILING_PERCENT_MAX);
    let Some(mut fleet) = fleet(lab, LIMIT_FAILING, (mode, policy), GATEWAYS, bar)? else { return Ok(()) };
    let (length, per_second) = (lab.options.limits_failing(), TIMES_FAILING * f64::from(LIMIT_FAILING.rate));
    let (plain, ()) = offer(&fleet.gateways, "plain", per_second, length / 3, |_| Ok(()))?;
    let at_once = per_second * TIMEOUT.as_secs_f64();
    let (crowd, ()) =
        offer(&fleet.gateways, "plain", CROWD_PER_SECOND, Duration::from_secs_f64(at_once / CROWD_PER_SECOND), |_| Ok(()))?;
    let Fleet { gateways, redis, .. } = &mut fleet;
    let (samples, moments) = offer(gateways, "counted", per_second, length, |began| fail(redis, failure, began, length))?;
    let ([.., plain], [.., crowd], [p50, p99, worst]) = (times(&plain), times(&crowd), times(&samples));
    lab.report.add_raw(
        &title,
        json!({
            "moments_ns": moments, "plain_worst_ms": plain, "plain_at_once_worst_ms": crowd, "p50_ms": p50, "p99_ms": p99, "worst_ms": worst, "statuses": statuses(&samples),
        }),
    );
    let note = format!(
        "{} ms, and {plain:.1} ms that a plain request took at worst ({crowd:.1} ms where {at_once:.0} came at once); p50 {p50:.2} ms, p99 {p99:.2} ms",
        TIMEOUT.as_millis()
    );
    let budget = Bar::figure(hundredths(TIMEOUT.as_secs_f64() * 1e3 + plain));
    lab.report.add(Row { bar: Some(budget), note, ..Row::new(&format!("{title}: worst request"), "maitred", "ms", &[worst]) });
    let ahead = mode.ahead(lab, LIMIT_FAILING);
    for (what, outcome) in
        [("while gone", while_gone(&samples, policy, moments, ahead)), ("when back", when_back(&samples, length, moments, ahead))]
    {
        let title = format!("{title}: off what is promised, {what}");
        lab.report.add(match outcome {
            Ok(Promise { percent, most, note }) => {
                Row { bar: Some(Bar::figure(hundredths(most))), note, ..Row::new(&title, "maitred", "%", &[percent]) }
            }
            Err(why) => Row::failed(&title, "maitred", Some(bar), &why),
        });
    }
    Ok(())
}

/// After a third of the time the server fails, after two it comes back.
fn fail(redis: &mut Redis, failure: Failure, began: Instant, length: Duration) -> io::Result<Moments> {
    let now = || began.elapsed().as_nanos() as u64;
    offered::sleep_until(began + length / 3);
    match failure {
        Failure::Killed => redis.kill(),
        Failure::Stopped => redis.stop()?,
    }
    let gone = now();
    offered::sleep_until(began + length * 2 / 3);
    let back = now();
    match failure {
        Failure::Killed => measured(|| redis.begin())?,
        Failure::Stopped => redis.go_on(),
    }
    Ok([gone, back, now()])
}

/// How far off a promise, how far it may be, and in words.
struct Promise {
    percent: f64,
    most: f64,
    note: String,
}

fn between(samples: &[Sample], from: u64, to: u64) -> Vec<Sample> {
    samples.iter().filter(|sample| (from..to).contains(&sample.sent)).copied().collect()
}

/// Requests that went out while nobody could be asked.
fn while_gone(samples: &[Sample], policy: Policy, [gone, back, _]: Moments, ahead: f64) -> Result<Promise, String> {
    let own = between(samples, gone, back);
    let told = statuses(&own);
    let of = |status: u16| told.get(&status).copied().unwrap_or(0);
    let (all, admitted) = (own.len() as u64, of(200));
    if all == 0 {
        return Err("no requests".into());
    }
    let share = |count: u64| count as f64 / all as f64 * 100.0;
    let seconds = back.saturating_sub(gone) as f64 / 1e9;
    match policy {
        Policy::Local if admitted + of(429) == all => {
            // Each of them begins with a whole burst: nobody took of its own counts before.
            let written = GATEWAYS as f64 * (f64::from(LIMIT_FAILING.rate) * seconds + f64::from(LIMIT_FAILING.burst));
            let percent = (admitted as f64 - written) / written * 100.0;
            // Whoever waits for the first answer that does not come counts nowhere meanwhile, and a whole burst grows no further.
            let waited = GATEWAYS as f64 * f64::from(LIMIT_FAILING.rate) * TIMEOUT.as_secs_f64();
            let most = FAILING_PERCENT_MAX + (ahead + waited) / written * 100.0;
            let note = format!(
                "{admitted} let in in {seconds:.1} s, {written:.0} written for {GATEWAYS} that count for themselves ({percent:+.2}%)"
            );
            Ok(Promise { percent: percent.abs(), most, note })
        }
        Policy::Open => Ok(Promise {
            percent: share(all - admitted),
            most: 0.0,
            note: format!("{admitted} of {all} let in, as all are to be"),
        }),
        Policy::Closed if admitted + of(503) == all => Ok(Promise {
            percent: share(admitted),
            most: 0.0,
            note: format!("{} of {all} refused with 503, as all are to be", of(503)),
        }),
        Policy::Local | Policy::Closed => Err(format!("other answers: {told:?}")),
    }
}

/// The last sixth of the time: whatever was forgotten or used up meanwhile, what is let in now is the rate.
fn when_back(samples: &[Sample], length: Duration, [.., found]: Moments, ahead: f64) -> Result<Promise, String> {
    let end = length.as_nanos() as u64;
    let own = between(samples, end * 5 / 6, end);
    let counted = Counted::of(&own, LIMIT_FAILING)?;
    let written = counted.written - f64::from(LIMIT_FAILING.burst);
    let percent = (counted.admitted as f64 - written) / written * 100.0;
    let first = between(samples, found, end).into_iter().find(Sample::good);
    let first = first.map_or(f64::NAN, |first| first.done.saturating_sub(found) as f64 / 1e6);
    let note = format!(
        "{} let in, {written:.0} written for all together ({percent:+.2}%), in the last sixth of the time; the first one {first:.0} ms after it answered again",
        counted.admitted
    );
    Ok(Promise { percent: percent.abs(), most: FAILING_PERCENT_MAX + ahead / written * 100.0, note })
}

/// What a request takes that asks, by where it asks: without a limit, in the gateway's own memory, on the server each time, of slices.
fn latency(lab: &mut Lab) -> io::Result<()> {
    let title = format!("{NAME}, calm: p99");
    let modes = [Mode::Memory, Mode::Exact, Mode::LocalFirst];
    let fleets = modes.map(|mode| fleet(lab, WIDE, (mode, Policy::Local), 1, Bar::figure(0.0)));
    let mut all = Vec::new();
    for fleet in fleets {
        match fleet? {
            Some(fleet) => all.push(fleet),
            None => return Ok(()),
        }
    }
    let names: Vec<String> =
        std::iter::once("no limit".to_string()).chain(modes.map(|mode| format!("maitred {}", mode.word()))).collect();
    let mut p50s = vec![Vec::new(); names.len()];
    let rounds = lab.options.rounds;
    let samples = interleave(NAME, &names, rounds, |who| {
        let (fleet, path) = if who == 0 { (&all[0], "/plain/x") } else { (&all[who - 1], "/counted/x") };
        let [p50, p99] = calm(lab, fleet.gateways[0].port, path)?;
        p50s[who].push(p50);
        Ok(p99)
    });
    lab.report.add_raw(&title, json!({"p99_us": crate::scenarios::raw(&names, &samples), "p50_us": p50s}));
    let p50 = |who: usize| Spread::of(&p50s[who]).map_or(f64::NAN, |spread| spread.median);
    for (who, name) in names.iter().enumerate() {
        let mut row = Row::new(&title, name, "µs", &figures(&samples[who]));
        row.ratio = Spread::of(&ratios(&samples[who], &samples[0]));
        row.note =
            format!("ratio to no limit; p50 {:.0} µs, {:+.0} µs; {CALM_PER_SECOND:.0} requests/s", p50(who), p50(who) - p50(0));
        lab.report.add(row);
    }
    Ok(())
}

/// p50 and p99 in microseconds.
fn calm(lab: &Lab, port: u16, path: &str) -> Result<[f64; 2], String> {
    let requests = [http::get(path, 1024)];
    let until = Until::Window { warmup: lab.options.warmup(), length: lab.options.latency_window() };
    let pace = Pace::Open { per_second: CALM_PER_SECOND };
    sys::be(Rank::Instrument);
    let outcome =
        load::run_plain(&Job { port, connections: CALM_CONNECTIONS, client: Client::PLAIN, requests: &requests, pace, until });
    sys::be(Rank::Ordinary);
    let outcome = outcome.map_err(|error| error.to_string())?.valid()?;
    Ok([0.5, 0.99].map(|share| outcome.latencies.quantile(share) as f64 / 1000.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One each millisecond of three seconds, the server being gone in the second of them.
    fn samples(status: impl Fn(u64) -> u16) -> Vec<Sample> {
        (0..3000)
            .map(|at| Sample { due: at * 1_000_000, sent: at * 1_000_000, done: at * 1_000_000, status: status(at) })
            .collect()
    }

    const MOMENTS: Moments = [1_000_000_000, 2_000_000_000, 2_000_000_000];

    #[test]
    fn what_is_promised_depends_on_the_policy() {
        let gone = |at: u64| (1000..2000).contains(&at);
        let all = samples(|at| if gone(at) { 200 } else { 429 });
        assert_eq!(while_gone(&all, Policy::Open, MOMENTS, 0.0).unwrap().percent, 0.0);
        assert_eq!(while_gone(&all, Policy::Closed, MOMENTS, 0.0).unwrap().percent, 100.0);
        let none = samples(|at| if gone(at) { 503 } else { 200 });
        assert_eq!(while_gone(&none, Policy::Closed, MOMENTS, 0.0).unwrap().percent, 0.0);
        assert_eq!(while_gone(&none, Policy::Open, MOMENTS, 0.0).unwrap().percent, 100.0);
        assert!(while_gone(&none, Policy::Local, MOMENTS, 0.0).is_err());
        let local = while_gone(&all, Policy::Local, MOMENTS, 18.0).unwrap();
        assert!(
            (local.percent - 800.0 / 18.0).abs() < 0.01 && (local.most - 6.17).abs() < 0.01,
            "1800 are written, and 75 come too late"
        );
    }

    #[test]
    fn when_it_is_back_the_rate_counts_and_no_burst() {
        let half = samples(|at| if at % 2 == 0 { 200 } else { 429 });
        let promise = when_back(&half, Duration::from_secs(3), MOMENTS, 0.0).unwrap();
        assert!(promise.percent < 0.5, "{}", promise.note);
    }
}
