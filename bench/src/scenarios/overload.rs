//! A back end that can do 400 requests a second is offered 1200, by an open loop: what it still does, how long those wait who are
//! served, how late the others are refused, and in which order. Each proxy has the same limit of requests in flight, and a queue where it has one.

use std::io;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::kitchen::Plan;
use crate::kitchen::remote::{Kitchen, Story};
use crate::offered::{self, BROKEN, GAVE_UP, Offer, Sample, Told};
use crate::process;
use crate::proxies::{Contender, Kind, Proxy, Setup, Tuning};
use crate::report::{Bar, Row};
use crate::scenarios::Lab;
use crate::stats::quantile;
use crate::sys::{self, Rank};
use crate::written;

pub const NAME: &str = "overload";

const SLOTS: usize = 20;
const SERVICE: Duration = Duration::from_millis(50);
/// What the back end can do: 400 a second.
const CAPACITY: f64 = SLOTS as f64 * 1000.0 / 50.0;
const OFFERED: f64 = 3.0 * CAPACITY;
const DEADLINE_MS: f64 = 500.0;
const SERVICE_MS: f64 = 50.0;
const WINDOW: Duration = Duration::from_secs(5);
const WORKERS: usize = 2;

/// The share of the capacity that must be used in every window.
const GOODPUT_BAR: f64 = 0.95;
/// What generator, timers and loopback add to a latency on a machine whose cores they share with the proxy.
const MEASURING_MS: f64 = 10.0;
const REFUSED_LATE_MS: f64 = 20.0;
/// A machine that lets the generator wait longer than this says nothing of a proxy.
const GENERATOR_LATE_MS: f64 = 20.0;
/// The client's order over many connections is the proxy's only to within its turns: who was overtaken by less is not counted.
const ORDER_MS: f64 = 10.0;
/// Places that become free together are handed out by both workers at once: who reaches the back end first of those is no matter.
const HAND_OVER_US: u64 = 5_000;
const OVERTAKEN_BAR: f64 = 0.1;
const GROWTH_BAR: f64 = 1.05;
/// Of the capacity, when the back end is measured without a proxy.
const DIRECT: f64 = 0.9;
const DIRECT_LENGTH: Duration = Duration::from_secs(3);
/// With two priorities, each request of this number is a high one.
const HIGH: u64 = 10;

pub fn run(lab: &mut Lab) -> io::Result<()> {
    sys::be(Rank::Measured);
    let outcome = all(lab);
    sys::be(Rank::Ordinary);
    outcome
}

fn all(lab: &mut Lab) -> io::Result<()> {
    direct(lab)?;
    let [long, short] = lab.options.overload();
    for (length, priorities) in [(long, false), (short, true)] {
        for name in ["maitred", "maitred-adaptive", "haproxy", "nginx"] {
            // nginx has no queue that could have priorities, and one limit is enough to see them.
            if priorities && ["nginx", "maitred-adaptive"].contains(&name) {
                continue;
            }
            let kitchen = Kitchen::start(Plan { endpoints: 1, slots: SLOTS, service: SERVICE })?;
            if let Some(contender) = contender(lab, name, kitchen.address(0)) {
                eprintln!("{NAME}: {name}{}", if priorities { ", two priorities" } else { "" });
                of(lab, &contender, kitchen, length, priorities)?;
            }
        }
    }
    Ok(())
}

fn contender(lab: &Lab, name: &str, backend: SocketAddrV4) -> Option<Contender> {
    let maitred = |limit: &str| {
        let upstreams = format!(
            "  kitchen:
    endpoints: [\"http://{backend}\"]
    concurrency: {{ limit: {limit}, queue: {{ length: 500, timeout: 500ms }} }}
"
        );
        let routes = "      - { match: \"GET /high/{path+}\", proxy: kitchen, priority: 10 }\n      - GET /{path+}: kitchen\n";
        lab.maitred_written(name, written::maitred(WORKERS, &upstreams, routes), PROBE)
    };
    match name {
        "maitred" => maitred(&SLOTS.to_string()),
        "maitred-adaptive" => maitred("adaptive"),
        "haproxy" => {
            let frontend = "    http-request set-priority-class int(-10) if { path_beg /high/ }\n";
            let backend = format!("    timeout queue 500ms\n    server kitchen {backend} maxconn {SLOTS} maxqueue 500\n");
            Some(Contender::written(name, Kind::Haproxy, written::haproxy(WORKERS, frontend, &backend), PROBE))
        }
        "nginx" => {
            // Without a zone each worker would count for itself.
            let upstream = format!(
                "    upstream kitchen {{
        zone kitchen 64k;
        server {backend} max_conns={SLOTS};
        keepalive 64;
    }}
"
            );
            let text = written::nginx(WORKERS, &upstream, "            proxy_pass http://kitchen;\n");
            Some(Contender::written(name, Kind::Nginx(Tuning::Plain), text, PROBE))
        }
        _ => None,
    }
}

const PROBE: &str = "/low/ready";

/// What the arrangement itself costs: the back end below its capacity and without a proxy.
fn direct(lab: &mut Lab) -> io::Result<()> {
    let kitchen = Kitchen::start(Plan { endpoints: 1, slots: SLOTS, service: SERVICE })?;
    let target = kitchen.address(0);
    let request = |number: u64| (target, format!("/low/{number}"));
    let offer = Offer::new(CAPACITY * DIRECT, DIRECT_LENGTH, &request);
    let (told, ()) = offered::beside(&offer, |_| Ok(()))?;
    let latencies = sorted(told.samples.iter().filter(|sample| sample.good()).map(Sample::latency_ms));
    let p99 = quantile(&latencies, 0.99).ok_or_else(|| io::Error::other("the back end answers nothing"))?;
    let note = format!("no proxy, {:.0} requests/s, generator at most {:.1} ms late", CAPACITY * DIRECT, told.late_ms());
    lab.report.add(Row { note, ..Row::new("overload: p99 of the served", "direct", "ms", &[p99]) });
    Ok(())
}

/// What was seen beside the answers.
struct Seen {
    cpu_ns: u64,
    /// Resident bytes before any load, and at the end of each window.
    resident: Vec<u64>,
    story: Story,
}

fn of(lab: &mut Lab, contender: &Contender, mut kitchen: Kitchen, length: Duration, priorities: bool) -> io::Result<()> {
    let folder = lab.folder.join(NAME);
    let setup = Setup {
        workers: WORKERS,
        core: None,
        backend: 0,
        folder: &folder,
        wrapper: Vec::new(),
        modern: false,
        limits: "",
        guards: "",
        identity: "",
        policies: "",
    };
    let Some(proxy) = lab.start_all(NAME, std::slice::from_ref(contender), &setup, Bar::at_least(GOODPUT_BAR)).pop() else {
        return Ok(());
    };
    kitchen.reset()?;
    let target = sys::loopback(proxy.port);
    let high = |number: u64| priorities && number.is_multiple_of(HIGH);
    let request = |number: u64| (target, format!("/{}/{number}", if high(number) { "high" } else { "low" }));
    let offer = Offer::new(OFFERED, length, &request);
    let (told, mut seen) = offered::beside(&offer, |began| watch(&proxy, began, length))?;
    seen.story = kitchen.story()?;
    let title = if priorities { "overload, 10% high" } else { NAME };
    lab.report.add_raw(&format!("{title}/{}", contender.name), raw(&told, &seen, length));
    let judged = contender.name == "maitred";
    let rows = match priorities {
        true => rows_of_priorities(&told, &high, length),
        false => rows(&told, &seen, length),
    };
    for (what, unit, figure, bar, note) in rows {
        let bar = bar.filter(|_| judged);
        let scenario = format!("{title}: {what}");
        lab.report.add(match figure {
            Some(figure) => Row { bar, note, ..Row::new(&scenario, &contender.name, unit, &[figure]) },
            None => Row::failed(&scenario, &contender.name, bar, &note),
        });
    }
    Ok(())
}

/// Looks at the proxy's memory at the end of each window, and at its CPU over all of them.
fn watch(proxy: &Proxy, began: Instant, length: Duration) -> io::Result<Seen> {
    let mut resident = vec![process::resident_bytes(proxy.pid())?];
    let mut gauge = process::cpu_gauge(proxy.pid());
    offered::sleep_until(began);
    let before = gauge()?;
    for window in 1..=windows(length) as u32 {
        offered::sleep_until(began + WINDOW * window);
        resident.push(process::resident_bytes(proxy.pid())?);
    }
    let story = Story { busy_max: 0, waiting_max: 0, order: Vec::new() };
    Ok(Seen { cpu_ns: gauge()? - before, resident, story })
}

type Finding = (&'static str, &'static str, Option<f64>, Option<Bar>, String);

fn rows(told: &Told, seen: &Seen, length: Duration) -> Vec<Finding> {
    let good = goodput(&told.samples, length);
    let (least, mean) = (good.iter().copied().fold(f64::INFINITY, f64::min), good.iter().sum::<f64>() / good.len() as f64);
    let note = format!(
        "{mean:.3} in the mean; back end: {} at once, {} waiting inside, at most",
        seen.story.busy_max, seen.story.waiting_max
    );
    let mut rows = vec![("goodput / capacity, worst 5 s", "", Some(least), Some(Bar::at_least(GOODPUT_BAR)), note)];
    rows.push(served(&told.samples));
    rows.push(refused(told));
    rows.push(order(&told.samples, &seen.story.order));
    rows.push(memory(&seen.resident));
    let answered = told.samples.iter().filter(|sample| sample.status > BROKEN).count();
    let cpu = (answered > 0).then(|| seen.cpu_ns as f64 / 1000.0 / answered as f64);
    rows.push((
        "CPU/answer",
        "µs",
        cpu,
        None,
        format!("{answered} answers, served and refused; {} connections at most", told.connections_max),
    ));
    rows
}

fn rows_of_priorities(told: &Told, high: &dyn Fn(u64) -> bool, length: Duration) -> Vec<Finding> {
    let of = |wanted: bool| {
        let own = told.samples.iter().enumerate().filter(|(number, _)| high(*number as u64) == wanted);
        own.map(|(_, sample)| *sample).collect::<Vec<_>>()
    };
    let mut rows = Vec::new();
    for (what, own) in [("p99 of the high", of(true)), ("p99 of the low", of(false))] {
        let latencies = sorted(own.iter().filter(|sample| sample.good()).map(Sample::latency_ms));
        let (p50, p99) = (quantile(&latencies, 0.5), quantile(&latencies, 0.99));
        let share = latencies.len() as f64 / own.len() as f64 * 100.0;
        let note = format!("{share:.1}% of them served, p50 {:.0} ms", p50.unwrap_or(f64::NAN));
        rows.push((what, "ms", p99, None, note));
    }
    let good = goodput(&told.samples, length);
    let least = good.iter().copied().fold(f64::INFINITY, f64::min);
    rows.push(("goodput / capacity, worst 5 s", "", Some(least), Some(Bar::at_least(GOODPUT_BAR)), String::new()));
    rows
}

fn windows(length: Duration) -> usize {
    (length.as_millis() / WINDOW.as_millis()) as usize
}

/// Good answers of each window, by when they came, as shares of what the back end can do.
fn goodput(samples: &[Sample], length: Duration) -> Vec<f64> {
    let mut counts = vec![0_u32; windows(length)];
    for sample in samples.iter().filter(|sample| sample.good()) {
        let window = (u128::from(sample.done) / WINDOW.as_nanos()) as usize;
        if let Some(count) = counts.get_mut(window) {
            *count += 1;
        }
    }
    counts.into_iter().map(|count| f64::from(count) / (CAPACITY * WINDOW.as_secs_f64())).collect()
}

fn served(samples: &[Sample]) -> Finding {
    let latencies = sorted(samples.iter().filter(|sample| sample.good()).map(Sample::latency_ms));
    let at = |share| quantile(&latencies, share);
    let share = latencies.len() as f64 / samples.len() as f64 * 100.0;
    let note = format!("p50 {:.0} ms, {share:.1}% of the requests", at(0.5).unwrap_or(f64::NAN));
    ("p99 of the served", "ms", at(0.99), Some(Bar::figure(DEADLINE_MS + SERVICE_MS + MEASURING_MS)), note)
}

/// Those whom the client gave up for are among the refused, and very late ones.
fn refused(told: &Told) -> Finding {
    let refused: Vec<&Sample> = told.samples.iter().filter(|sample| !sample.good()).collect();
    let lateness = sorted(refused.iter().map(|sample| sample.latency_ms() - DEADLINE_MS));
    let share = refused.len() as f64 / told.samples.len() as f64 * 100.0;
    let (at, late) = (|share| quantile(&lateness, share).unwrap_or(f64::NAN), told.late_ms());
    let (p50, p99, worst) = (at(0.5), at(0.99), lateness.last().copied());
    let mut note = format!("p99 {p99:.1} ms, p50 {p50:.1} ms; {share:.1}% refused: {}", statuses(&told.samples));
    let bar = Some(Bar::figure(((REFUSED_LATE_MS + late) * 10.0).round() / 10.0));
    let title = "refused after the deadline, worst";
    if late > GENERATOR_LATE_MS {
        note.push_str(&format!("; {:.1} ms at worst, while the generator was up to {late:.1} ms late: not judged", at(1.0)));
        return (title, "ms", None, bar, note);
    }
    note.push_str(&format!("; generator at most {late:.1} ms late, which the bar allows"));
    (title, "ms", worst, bar, note)
}

fn statuses(samples: &[Sample]) -> String {
    let mut counts = std::collections::BTreeMap::new();
    samples.iter().filter(|sample| !sample.good()).for_each(|sample| *counts.entry(sample.status).or_insert(0_u32) += 1);
    let named = |(status, count): (&u16, &u32)| match *status {
        GAVE_UP => format!("{count} without an answer"),
        BROKEN => format!("{count} broken off"),
        status => format!("{count} by {status}"),
    };
    counts.iter().map(named).collect::<Vec<_>>().join(", ")
}

/// By how many milliseconds each request was overtaken: how much later than it one was sent that reached the back end earlier,
/// and earlier by more than the hand-over of a place takes.
fn overtaken(samples: &[Sample], order: &[(u32, u64)]) -> Vec<f64> {
    let sent = |number: u32| samples.get(number as usize).map_or(0, |sample| sample.sent);
    let mut before = order.iter().peekable();
    let mut latest = 0;
    order
        .iter()
        .map(|&(number, arrived)| {
            while let Some(&(other, _)) = before.next_if(|(_, earlier)| earlier + HAND_OVER_US < arrived) {
                latest = latest.max(sent(other));
            }
            latest.saturating_sub(sent(number)) as f64 / 1e6
        })
        .collect()
}

fn order(samples: &[Sample], order: &[(u32, u64)]) -> Finding {
    let by = sorted(overtaken(samples, order).into_iter());
    let more = by.iter().filter(|&&by| by > ORDER_MS).count();
    let share = (!by.is_empty()).then(|| more as f64 / by.len() as f64 * 100.0);
    let note = format!("{more} of {}, at worst by {:.1} ms", by.len(), by.last().copied().unwrap_or(f64::NAN));
    ("overtaken by more than 10 ms", "%", share, Some(Bar::figure(OVERTAKEN_BAR)), note)
}

/// The connections of an overload cost memory once, until the first half is over; after that nothing may grow.
fn memory(resident: &[u64]) -> Finding {
    let (what, bar) = ("memory at the end / after half", Some(Bar::figure(GROWTH_BAR)));
    let [idle, .., last] = resident[..] else { return (what, "", None, bar, "too short".into()) };
    let half = resident[resident.len() / 2];
    let mib = |bytes: u64| bytes as f64 / (1 << 20) as f64;
    let note = format!("{:.1} MiB before, {:.1} after half, {:.1} at the end", mib(idle), mib(half), mib(last));
    (what, "", Some(last as f64 / half as f64), bar, note)
}

fn sorted(figures: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures
}

fn raw(told: &Told, seen: &Seen, length: Duration) -> serde_json::Value {
    json!({
        "offered": told.samples.len(), "goodput": goodput(&told.samples, length), "statuses": statuses(&told.samples),
        "resident": seen.resident, "cpu_ns": seen.cpu_ns, "busy_max": seen.story.busy_max,
        "waiting_max": seen.story.waiting_max, "generator_late_ms": told.late_ms(), "connections_max": told.connections_max,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn sample(sent: u64, done: u64, status: u16) -> Sample {
        Sample { due: sent * MS, sent: sent * MS, done: done * MS, status }
    }

    #[test]
    fn who_came_first_and_is_served_later_was_overtaken() {
        let samples: Vec<Sample> = [0, 10, 20, 30].map(|sent| sample(sent, sent, 200)).to_vec();
        let of = |order: [u32; 4]| {
            overtaken(&samples, &order.map(|number| (number, 6_000 * order.iter().position(|n| *n == number).unwrap() as u64)))
        };
        assert_eq!(of([0, 1, 2, 3]), [0.0; 4]);
        assert_eq!(of([0, 2, 1, 3]), [0.0, 0.0, 10.0, 0.0]);
        assert_eq!(of([3, 2, 1, 0]), [0.0, 10.0, 20.0, 30.0]);
        assert_eq!(overtaken(&samples, &[(1, 0), (3, 9_000)]), [0.0, 0.0]);
        // Handed out together.
        assert_eq!(overtaken(&samples, &[(3, 0), (0, 5_000), (1, 5_001)]), [0.0, 0.0, 20.0]);
    }

    #[test]
    fn goodput_counts_good_answers_in_the_window_they_came_in() {
        let samples = [sample(0, 4_999, 200), sample(0, 5_001, 200), sample(0, 6_000, 503), sample(9_000, 10_001, 200)];
        assert_eq!(goodput(&samples, Duration::from_secs(10)), [1.0 / 2000.0, 1.0 / 2000.0]);
    }

    #[test]
    fn who_is_refused_is_late_after_the_deadline() {
        let told = Told { samples: vec![sample(0, 510, 503), sample(0, 100, 200), sample(0, 1, 503)], connections_max: 0 };
        let (_, _, worst, _, note) = refused(&told);
        assert_eq!(worst, Some(10.0));
        assert!(note.contains("66.7% refused: 2 by 503"), "{note}");
    }
}
