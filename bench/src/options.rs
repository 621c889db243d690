//! The command line of the benchmark. Starts nothing; a wrong word is an error that names the right ones.

use std::path::PathBuf;
use std::time::Duration;

use crate::kitchen::Plan;
use crate::sys;

/// Everything that `--only` can name, with what it measures.
pub const SCENARIOS: [(&str, &str); 28] = [
    ("get-1k", "CPU time per request, saturated, GET 1 KB"),
    ("post-4k", "CPU time per request, saturated, POST 4 KB"),
    ("get-64k", "CPU time per request, saturated, response of 64 KB"),
    ("together", "the same for a token, its consumer, a rate limit and metrics"),
    ("tls-1k", "CPU time per request, saturated, GET 1 KB, HTTP/1.1 over TLS 1.3"),
    ("h2c-1k", "CPU time per request, saturated, GET 1 KB, HTTP/2 in cleartext"),
    ("h2-1k", "CPU time per request, saturated, GET 1 KB, HTTP/2 over TLS 1.3"),
    ("handshake-full", "CPU time per new TLS 1.3 connection with one GET"),
    ("handshake-resumed", "the same with the session resumed by a ticket"),
    ("tickets", "whether a second connection resumes, with two workers"),
    ("p99", "latency at 30% of nginx's saturated rate, one core each"),
    ("idle", "resident memory per idle connection"),
    ("start", "spawning to the first answer"),
    ("routes", "loading 100,000 routes (gateway only)"),
    ("reload", "reloads under load, with WebSockets open (gateway only)"),
    ("floods", "attacks over HTTP/2: memory, closing, the latency of others (gateway only)"),
    ("credentials", "floods of wrong credentials: the latency of others (gateway only)"),
    ("stalled", "a live stream beside 500 stalled ones (gateway only)"),
    ("limits-exact", "a rate limit at three times its rate: as many let in as are written (gateway only)"),
    ("limits-fleet", "the same of three gateways and one Redis, which fails; what asking it costs (gateway only)"),
    ("limits-keys", "1,000,000 live keys of one limit: memory, stalls (gateway only)"),
    ("overload", "three times what a back end can do: goodput, waiting, refusals, order"),
    ("failing", "one of three endpoints killed, hung, slow or failing, and back again"),
    ("outage", "all endpoints failing: attempts for each request (gateway only)"),
    ("syscalls", "system calls per request, by strace"),
    ("instructions", "user instructions per request, by callgrind"),
    ("functions", "a hosted function: the time that is added, and how many come through (gateway only)"),
    ("cold", "each way to say who somebody is, the first time: instructions and CPU time (gateway only)"),
];

pub struct Options {
    pub rounds: usize,
    pub only: Vec<String>,
    pub quick: bool,
    pub workers: usize,
    pub maitred: Option<PathBuf>,
    pub markdown: bool,
    pub out: PathBuf,
}

/// Fewer rounds than this have no quartiles worth the name.
const ROUNDS_WANTED: usize = 9;
const ROUNDS_QUICK: usize = 3;

pub enum Command {
    Measure(Options),
    Backend { stalling: bool },
    Kitchen(Plan),
    Help,
}

pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Command, String> {
    let mut options = Options {
        rounds: 0,
        only: Vec::new(),
        quick: false,
        workers: sys::cores().len(),
        maitred: None,
        markdown: false,
        out: PathBuf::from("bench/out"),
    };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "backend" => return Ok(Command::Backend { stalling: words.next().as_deref() == Some("stalling") }),
            "kitchen" => return kitchen(words).map(Command::Kitchen),
            "--help" | "-h" => return Ok(Command::Help),
            "--rounds" => options.rounds = number(&value()?)?,
            "--workers" => options.workers = number(&value()?)?,
            "--only" => options.only.extend(value()?.split(',').map(String::from)),
            "--maitred" => options.maitred = Some(value()?.into()),
            "--out" => options.out = value()?.into(),
            "--quick" => options.quick = true,
            "--markdown" => options.markdown = true,
            _ => return Err(format!("unknown option {word}; --help lists them")),
        }
    }
    if options.rounds == 0 {
        options.rounds = if options.quick { ROUNDS_QUICK } else { ROUNDS_WANTED };
    }
    options.only = expand(options.only)?;
    Ok(Command::Measure(options))
}

/// Endpoints, slots of each, and the microseconds that a request takes.
fn kitchen(words: impl Iterator<Item = String>) -> Result<Plan, String> {
    let numbers = words.map(|word| number(&word)).collect::<Result<Vec<_>, _>>()?;
    match numbers[..] {
        [endpoints, slots, microseconds] => Ok(Plan { endpoints, slots, service: Duration::from_micros(microseconds as u64) }),
        _ => Err("a kitchen takes three numbers".into()),
    }
}

fn number(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&n| n > 0).ok_or(format!("{text} is not a number above 0"))
}

/// `saturated` stands for the first three rows, `protocols` for those over TLS and HTTP/2.
fn expand(only: Vec<String>) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    for name in only {
        match name.as_str() {
            "saturated" => names.extend(crate::scenarios::saturated::NAMES.map(String::from)),
            "protocols" => names.extend(crate::scenarios::protocols::NAMES.map(String::from)),
            known if SCENARIOS.iter().any(|(scenario, _)| *scenario == known) => names.push(name),
            _ => return Err(format!("no scenario {name}; --help lists them")),
        }
    }
    Ok(names)
}

impl Options {
    fn pick<T>(&self, quick: T, full: T) -> T {
        if self.quick { quick } else { full }
    }

    pub fn warmup(&self) -> Duration {
        Duration::from_millis(self.pick(200, 500))
    }

    pub fn window(&self) -> Duration {
        Duration::from_millis(self.pick(500, 2000))
    }

    /// At a third of the rate of a saturated run, a p99 needs longer to have a tail of some hundred requests.
    pub fn latency_window(&self) -> Duration {
        Duration::from_millis(self.pick(1000, 4000))
    }

    pub fn idle_connections(&self) -> usize {
        self.pick(1_000, 10_000)
    }

    /// Connections of the clients that connect twice, first and second ones.
    pub fn handshakes(&self) -> u64 {
        self.pick(400, 4_000)
    }

    /// How long each attack lasts, and the run that it is compared with.
    pub fn attack(&self) -> Duration {
        Duration::from_secs(self.pick(3, 30))
    }

    pub fn attack_compared(&self) -> Duration {
        Duration::from_secs(self.pick(3, 10))
    }

    pub fn stalled(&self) -> Duration {
        Duration::from_secs(self.pick(1, 5))
    }

    /// How long an overload lasts, and one with two priorities.
    pub fn overload(&self) -> [Duration; 2] {
        self.pick([10, 5], [60, 30]).map(Duration::from_secs)
    }

    /// Three equal parts: before a failure, while it lasts, after it.
    pub fn failing(&self) -> Duration {
        Duration::from_secs(self.pick(12, 60))
    }

    /// What an ejected endpoint is left alone for, in milliseconds: the first time, and at most.
    pub fn ejection(&self) -> [u64; 2] {
        self.pick([1000, 1000], [2000, 4000])
    }

    pub fn outage(&self) -> Duration {
        Duration::from_secs(self.pick(3, 15))
    }

    /// How long a limit is asked for more than it has.
    pub fn limits(&self) -> Duration {
        Duration::from_secs(self.pick(5, 60))
    }

    /// Three equal parts: before the server of the counts fails, while it is gone, after it came back.
    pub fn limits_failing(&self) -> Duration {
        Duration::from_secs(self.pick(12, 30))
    }

    /// Keys that one limit counts apart.
    pub fn keys(&self) -> u64 {
        self.pick(100_000, 1_000_000)
    }

    pub fn starts(&self) -> usize {
        self.pick(3, 11)
    }

    pub fn reloads(&self) -> usize {
        self.pick(20, 200)
    }

    /// Requests in the shorter and the longer count whose difference is measured.
    pub fn counted(&self) -> (u64, u64) {
        self.pick((500, 1_500), (1_000, 6_000))
    }

    /// The same where every request has a credential of its own, which takes ten times as many instructions and must be signed before.
    pub fn cold(&self) -> (u64, u64) {
        self.pick((50, 150), (250, 1_250))
    }

    pub fn cold_warmup(&self) -> u64 {
        self.pick(50, 100)
    }

    /// Requests of a round whose CPU time is measured, and where each takes tens of milliseconds.
    pub fn timed(&self) -> u64 {
        self.pick(300, 2_000)
    }

    pub fn slow(&self) -> u64 {
        self.pick(2, 8)
    }

    /// How long others are watched in calm and beside a flood of wrong credentials, each.
    pub fn credentials(&self) -> Duration {
        Duration::from_millis(self.pick(1_000, 2_000))
    }

    /// A flood of wrong credentials is told by fewer rounds than a figure of µs.
    pub fn credentials_rounds(&self) -> usize {
        self.rounds.min(self.pick(1, 5))
    }
}

pub fn help() -> String {
    let mut text = String::from(
        "Measures Maitred against nginx and haproxy on this machine, on loopback only.

usage: bench/run [options]

  --rounds N       rounds of interleaved measurements (default 9; with --quick 3)
  --only NAME      only this scenario; may be repeated, or NAME,NAME; `saturated` is the first
                   three, `protocols` those over TLS and HTTP/2
  --quick          short windows and small counts: to see that all runs, not to believe
  --workers N      workers of each proxy in the saturated rows (default: the cores)
  --markdown       print the table as Markdown, for docs/performance.md
  --out FOLDER     where figures, configurations and logs go (default bench/out)
  --no-maitred     neither build nor measure the gateway
  --maitred PATH   measure this gateway instead of building one
  --help           this text

scenarios:
",
    );
    for (name, what) in SCENARIOS {
        text.push_str(&format!("  {name:<18} {what}\n"));
    }
    text.push_str("\nExit code: 0 all bars held, 1 a bar was missed or could not be judged, 2 the benchmark itself failed.\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> Result<Options, String> {
        match parse(line.split_whitespace().map(String::from))? {
            Command::Measure(options) => Ok(options),
            Command::Backend { .. } | Command::Kitchen(_) | Command::Help => Err("no measurement".into()),
        }
    }

    #[test]
    fn rounds_default_to_nine_and_quickly_to_three() {
        assert_eq!(options("").unwrap().rounds, 9);
        assert_eq!(options("--quick").unwrap().rounds, 3);
        assert_eq!(options("--quick --rounds 7").unwrap().rounds, 7);
    }

    #[test]
    fn only_takes_lists_and_knows_its_names() {
        assert_eq!(options("--only saturated,idle --only p99").unwrap().only, ["get-1k", "post-4k", "get-64k", "idle", "p99"]);
        assert_eq!(options("--only protocols,tickets").unwrap().only.len(), 6);
        assert!(options("--only gett").is_err());
    }

    #[test]
    fn nonsense_is_refused() {
        for line in ["--rounds", "--rounds 0", "--rounds x", "--fast"] {
            assert!(options(line).is_err(), "{line}");
        }
    }
}
