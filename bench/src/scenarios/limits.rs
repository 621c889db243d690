//! Whether a rate limit is what is written: three times as many requests as it has room for, from 64 connections to all workers, and as many let in as
//! rate and time come to, and the burst. Which of them is left to the gateway. The gateway alone is asked this.

use std::collections::BTreeMap;
use std::io;

use serde_json::{Value, json};

use crate::offered::{self, Connections, Offer, Sample};
use crate::proxies::{Backend, Proxy};
use crate::report::{Bar, Row};
use crate::scenarios::{CONNECTIONS, Lab};
use crate::sys::{self, Rank};
use crate::written;

pub const NAME: &str = "limits-exact";

/// Beyond what is written, or short of it.
pub const PERCENT_MAX: f64 = 0.1;
/// What is asked for, by what is let in.
pub const TIMES: f64 = 3.0;
pub const PROBE: &str = "/1k";

/// So many in a second, and so many at once, for each key.
#[derive(Clone, Copy)]
pub struct Limit {
    pub rate: u32,
    pub burst: u32,
}

impl Limit {
    /// The policy of a route, counted by this.
    pub fn yaml(self, by: &str) -> String {
        let Limit { rate, burst } = self;
        format!("rate_limit: {{ rate: {rate}/s, burst: {burst}, by: \"{by}\" }}")
    }
}

struct Case {
    title: &'static str,
    path: &'static str,
    by: &'static str,
    keys: u64,
    limit: Limit,
}

const CASES: [Case; 2] = [
    Case { title: "one key, by route", path: "route", by: "route", keys: 1, limit: Limit { rate: 1000, burst: 200 } },
    Case { title: "4 keys, by header", path: "header", by: "header:x-key", keys: 4, limit: Limit { rate: 500, burst: 100 } },
];

/// What became of the requests of one key.
pub struct Counted {
    pub admitted: u64,
    pub refused: u64,
    /// Rate by time, and the burst; from the moment at which the first request went out to that at which the last one did.
    pub written: f64,
    /// What the gateway's own clock may make of that: the first and the last request were under way for so many units.
    edge: f64,
}

impl Counted {
    /// Of these, in the order in which they went out. Whoever cannot be judged is told why.
    pub fn of(samples: &[Sample], limit: Limit) -> Result<Counted, String> {
        let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return Err("no requests".into()) };
        let rate = f64::from(limit.rate);
        // Whoever does not ask for so long leaves more unused than is kept for him.
        let kept = f64::from(limit.burst) / rate;
        let pause = samples.windows(2).map(|pair| pair[1].sent.saturating_sub(pair[0].sent)).max().unwrap_or(0) as f64 / 1e9;
        if pause > kept {
            return Err(format!(
                "the generator stood still for {:.0} ms, and no more than {:.0} ms are kept",
                pause * 1e3,
                kept * 1e3
            ));
        }
        let of = |status: u16| samples.iter().filter(|sample| sample.status == status).count() as u64;
        let (admitted, refused) = (of(200), of(429));
        if admitted + refused < samples.len() as u64 {
            return Err(format!("answers other than 200 and 429: {:?}", statuses(samples)));
        }
        let seconds = last.sent.saturating_sub(first.sent) as f64 / 1e9;
        let edge = (first.service_ms() + last.service_ms()) / 1e3 * rate;
        Ok(Counted { admitted, refused, written: rate * seconds + f64::from(limit.burst), edge })
    }

    /// Above zero: more than is written.
    pub fn beyond_percent(&self) -> f64 {
        (self.admitted as f64 - self.written) / self.written * 100.0
    }

    pub fn words(&self) -> String {
        let Counted { admitted, refused, written, edge } = self;
        let percent = self.beyond_percent();
        format!("{admitted} let in, {written:.1} written ({percent:+.3}%, edges ± {edge:.1}), {refused} refused")
    }

    pub fn json(&self) -> Value {
        let Counted { admitted, refused, written, edge } = self;
        json!({"admitted": admitted, "refused": refused, "written": written, "edge": edge})
    }
}

/// Whatever is started here goes before what else runs on the machine: whoever waits for his turn there is late for a clock that does not.
pub fn measured<T>(start: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    sys::be(Rank::Measured);
    let outcome = start();
    sys::be(Rank::Ordinary);
    outcome
}

pub fn statuses(samples: &[Sample]) -> BTreeMap<u16, u64> {
    let mut statuses = BTreeMap::new();
    samples.iter().for_each(|sample| *statuses.entry(sample.status).or_default() += 1);
    statuses
}

pub fn run(lab: &mut Lab) -> io::Result<()> {
    let backend = measured(|| Backend::start(None))?;
    let upstreams = format!("  backend: http://127.0.0.1:{}\n", backend.port);
    let mut routes = format!("      - {{ match: GET {PROBE}, proxy: backend }}\n");
    for Case { path, by, limit, .. } in &CASES {
        routes.push_str(&format!("      - {{ match: \"GET /{path}/{{rest+}}\", {}, proxy: backend }}\n", limit.yaml(by)));
    }
    let text = written::maitred(lab.options.workers, &upstreams, &routes);
    let Some(contender) = lab.maitred_written("maitred", text, PROBE) else { return Ok(()) };
    let folder = lab.folder.join(NAME);
    let setup = Lab::setup(&folder, &backend, lab.options.workers);
    let bar = Bar::figure(PERCENT_MAX);
    let proxies = measured(|| Ok(lab.start_all(NAME, &[contender], &setup, bar)))?;
    let Some(proxy) = proxies.first() else { return Ok(()) };
    for case in &CASES {
        let title = format!("{NAME}: off what is written, {}", case.title);
        eprintln!("{title}");
        let row = match counted(lab, proxy, case) {
            Ok(keys) => {
                lab.report.add_raw(&title, keys.iter().map(Counted::json).collect());
                row(lab, &title, bar, &keys)
            }
            Err(why) => Row::failed(&title, "maitred", Some(bar), &why),
        };
        lab.report.add(row);
    }
    Ok(())
}

/// The worst of the keys.
fn row(lab: &Lab, title: &str, bar: Bar, keys: &[Counted]) -> Row {
    let worst = keys.iter().max_by(|one, other| one.beyond_percent().abs().total_cmp(&other.beyond_percent().abs()));
    let Some(worst) = worst else { return Row::failed(title, "maitred", Some(bar), "no keys") };
    let (seconds, workers) = (lab.options.limits().as_secs(), lab.options.workers);
    let note = format!("{}; {seconds} s, {CONNECTIONS} connections, {workers} workers", worst.words());
    Row { bar: Some(bar), note, ..Row::new(title, "maitred", "%", &[worst.beyond_percent().abs()]) }
}

/// By key: requests take them in turn.
fn counted(lab: &Lab, proxy: &Proxy, case: &Case) -> Result<Vec<Counted>, String> {
    let target = sys::loopback(proxy.port);
    let request = |number: u64| (target, format!("/{}/{number}", case.path));
    let lines = |number: u64| format!("X-Key: key-{}\r\n", number % case.keys);
    let per_second = TIMES * f64::from(case.limit.rate) * case.keys as f64;
    let connections = Connections::InTurn(CONNECTIONS);
    let offer = Offer { lines: &lines, connections, ..Offer::new(per_second, lab.options.limits(), &request) };
    let (told, ()) = offered::beside(&offer, |_| Ok(())).map_err(|error| error.to_string())?;
    let of = |key: u64| -> Vec<Sample> {
        told.samples
            .iter()
            .enumerate()
            .filter(|(number, _)| *number as u64 % case.keys == key)
            .map(|(_, sample)| *sample)
            .collect()
    };
    (0..case.keys).map(|key| Counted::of(&of(key), case.limit)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Limit = Limit { rate: 1000, burst: 10 };

    /// One each millisecond, of which these were let in.
    fn samples(count: u64, admitted: u64) -> Vec<Sample> {
        let status = |number: u64| if number < admitted { 200 } else { 429 };
        (0..count)
            .map(|at| Sample { due: at * 1_000_000, sent: at * 1_000_000, done: at * 1_000_000, status: status(at) })
            .collect()
    }

    #[test]
    fn what_is_written_is_rate_by_time_and_the_burst() {
        let counted = Counted::of(&samples(1001, 1010), LIMIT).unwrap();
        assert_eq!((counted.written, counted.admitted, counted.refused), (1010.0, 1001, 0));
        let counted = Counted::of(&samples(991, 900), LIMIT).unwrap();
        assert_eq!((counted.written, counted.admitted, counted.refused), (1000.0, 900, 91));
        assert!((counted.beyond_percent() + 10.0).abs() < 1e-9);
    }

    #[test]
    fn other_answers_and_a_generator_that_rests_are_not_judged() {
        let mut broken = samples(100, 100);
        broken[50].status = 502;
        assert!(Counted::of(&broken, LIMIT).is_err());
        let mut late = samples(100, 100);
        late[50..].iter_mut().for_each(|sample| sample.sent += 20_000_000);
        assert!(Counted::of(&late, LIMIT).is_err());
        assert!(Counted::of(&[], LIMIT).is_err());
    }
}
