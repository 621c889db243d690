//! What is measured, one file a question. Shared here: the laboratory, the order of rounds, and ratios within a round.
//! How a proxy is started is not known here (proxies.rs), nor how a row is judged (report.rs).

pub mod cold;
pub mod counting;
pub mod failing;
pub mod fleet;
pub mod floods;
pub mod footprint;
pub mod functions;
pub mod guessing;
pub mod keys;
pub mod latency;
pub mod limits;
pub mod outage;
pub mod overload;
pub mod protocols;
pub mod reload;
pub mod saturated;
pub mod stalled;
pub mod together;

use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::options::Options;
use crate::proxies::{Backend, Contender, Kind, Proxy, Setup, Tuning};
use crate::report::{Bar, Report, Row};
use crate::routes::Routes;
use crate::sys::{self, Rank};

/// Keep-alive connections of every loaded run.
pub const CONNECTIONS: usize = 64;
pub const BASELINE: &str = "nginx";

pub struct Lab {
    pub options: Options,
    pub folder: PathBuf,
    pub report: Report,
}

impl Lab {
    pub fn wants(&self, name: &str) -> bool {
        self.options.only.is_empty() || self.options.only.iter().any(|only| only == name)
    }

    pub fn maitred(&self, name: &str, routes: Routes) -> Option<Contender> {
        let binary = self.options.maitred.clone()?;
        Some(Contender::new(name, Kind::Maitred { binary, routes }))
    }

    /// The gateway with a configuration written for one scenario.
    pub fn maitred_written(&self, name: &str, text: String, probe: &'static str) -> Option<Contender> {
        let program = self.maitred(name, Routes::CatchAll)?.kind;
        Some(Contender::written(name, program, text, probe))
    }

    /// nginx first: the others are compared with it.
    pub fn peers(&self) -> Vec<Contender> {
        vec![Contender::new(BASELINE, Kind::Nginx(Tuning::Plain)), Contender::new("haproxy", Kind::Haproxy)]
    }

    pub fn setup<'a>(folder: &'a Path, backend: &Backend, workers: usize) -> Setup<'a> {
        Setup {
            workers,
            core: None,
            backend: backend.port,
            folder,
            wrapper: Vec::new(),
            modern: false,
            limits: "",
            guards: "",
            identity: "",
            policies: "",
        }
    }

    /// Starts all; one that does not start is a failed row, and the others go on.
    pub fn start_all(&mut self, scenario: &str, contenders: &[Contender], setup: &Setup, bar: Bar) -> Vec<Proxy> {
        let mut proxies = Vec::new();
        for contender in contenders {
            match Proxy::start(contender, setup) {
                Ok(proxy) => {
                    self.report.add_config(&format!("{scenario}/{}", proxy.name), &proxy.config_text);
                    proxies.push(proxy);
                }
                Err(error) => self.did_not_start(scenario, contender, bar, &error),
            }
        }
        proxies
    }

    pub fn did_not_start(&mut self, scenario: &str, contender: &Contender, bar: Bar, error: &std::io::Error) {
        let why = format!("did not start: {error}");
        eprintln!("{}: {why}", contender.name);
        self.report.add(Row::failed(scenario, &contender.name, contender.kind.is_maitred().then_some(bar), &why));
    }
}

/// One figure, or why there is none.
pub type Sample = Result<f64, String>;

/// Measures from a core on which the gateway is not: `measure` has the gateway's and its own. Everything is as it was afterwards.
pub fn apart(lab: &mut Lab, name: &str, bar: Bar, measure: fn(&mut Lab, usize, usize) -> io::Result<()>) -> io::Result<()> {
    let cores = sys::cores();
    let [own_core, load_core, ..] = cores[..] else {
        lab.report.add(Row::failed(name, "maitred", Some(bar), "needs two cores"));
        return Ok(());
    };
    sys::pin(&[load_core])?;
    let outcome = measure(lab, own_core, load_core);
    sys::be(Rank::Ordinary);
    sys::pin(&cores)?;
    outcome
}

/// Runs every contender once a round, each round beginning with another, so that whatever drifts on the machine
/// (heat, neighbours) touches all alike.
pub fn interleave(scenario: &str, names: &[String], rounds: usize, mut measure: impl FnMut(usize) -> Sample) -> Vec<Vec<Sample>> {
    let mut samples = vec![Vec::new(); names.len()];
    for round in 0..rounds {
        for turn in 0..names.len() {
            let who = (turn + round) % names.len();
            let sample = measure(who);
            if let Err(why) = &sample {
                eprintln!("{scenario}, round {}, {}: {why}", round + 1, names[who]);
            }
            samples[who].push(sample);
        }
        eprintln!("{scenario}: round {} of {rounds} done", round + 1);
    }
    samples
}

/// Same-round ratios; a round that failed on either side has none.
pub fn ratios(samples: &[Sample], baseline: &[Sample]) -> Vec<f64> {
    samples.iter().zip(baseline).filter_map(|(a, b)| Some(a.as_ref().ok()? / b.as_ref().ok()?)).collect()
}

pub fn figures(samples: &[Sample]) -> Vec<f64> {
    samples.iter().filter_map(|sample| sample.as_ref().ok().copied()).collect()
}

/// A row for each contender, with ratios to the baseline where it ran. The bar is the gateway's alone, and a failed
/// round of its own leaves it unjudged: errors under load are no noise.
pub fn compare(unit: &'static str, scenario: &str, names: &[String], samples: &[Vec<Sample>], bar: Bar) -> Vec<Row> {
    let baseline = names.iter().position(|name| name == BASELINE).map(|at| &samples[at]);
    let row = |(name, own): (&String, &Vec<Sample>)| {
        let mut row = Row::new(scenario, name, unit, &figures(own));
        row.ratio = baseline.and_then(|base| crate::stats::Spread::of(&ratios(own, base)));
        row.bar = name.starts_with("maitred").then_some(bar);
        if let Some(why) = own.iter().find_map(|sample| sample.as_ref().err()) {
            row.note = format!("{} of {} rounds failed: {why}", own.len() - figures(own).len(), own.len());
            if row.bar.is_some() {
                (row.ratio, row.figure) = (None, None);
            }
        }
        row
    };
    names.iter().zip(samples).map(row).collect()
}

pub fn raw(names: &[String], samples: &[Vec<Sample>]) -> Value {
    let show = |sample: &Sample| sample.as_ref().map_or_else(|why| json!(why), |figure| json!(figure));
    let of = |own: &Vec<Sample>| own.iter().map(show).collect::<Vec<Value>>();
    names.iter().zip(samples).map(|(name, own)| (name.clone(), json!(of(own)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_begins_with_another_contender() {
        let names: Vec<String> = ["a", "b", "c"].map(String::from).to_vec();
        let mut order = Vec::new();
        interleave("test", &names, 3, |who| {
            order.push(who);
            Ok(0.0)
        });
        assert_eq!(order, [0, 1, 2, 1, 2, 0, 2, 0, 1]);
    }

    #[test]
    fn a_failed_round_has_no_ratio_and_unseats_the_gateway() {
        let failed = || Err("502".to_string());
        assert_eq!(ratios(&[Ok(2.0), failed(), Ok(3.0)], &[Ok(1.0), Ok(1.0), failed()]), [2.0]);
        let names = ["nginx", "maitred"].map(String::from);
        let rows = compare("µs", "s", &names, &[vec![Ok(1.0), Ok(1.0)], vec![Ok(0.5), failed()]], Bar::ratio(1.0));
        assert!(rows[1].ratio.is_none() && rows[1].bar.is_some());
    }
}
