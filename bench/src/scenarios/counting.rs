//! What is counted, not timed: system calls (strace) and user instructions (callgrind) per request. Two runs over
//! different numbers of requests on the same connections; the difference over the difference is the cost of one request,
//! free of start-up, accepts and closing.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::http::{self, Request};
use crate::load::{self, Client, Job, Pace, Until};
use crate::process::{self, Ending, Running};
use crate::proxies::{Backend, Contender, Proxy, Setup};
use crate::report::{Bar, Row};
use crate::routes::{self, Routes};
use crate::scenarios::footprint::ROUTES_COUNT;
use crate::scenarios::{CONNECTIONS, Lab};
use crate::stats::Spread;

pub const INSTRUCTIONS: &str = "instructions";
pub const SYSCALLS: &str = "syscalls";

const FEW: usize = 10;
/// A request drawn from 100,000 routes costs at most this many times one among ten.
const MANY_BAR: f64 = 1.10;
/// What keeps an upstream from drowning costs at most this many times the plain one.
const GUARDED_BAR: f64 = 1.05;
const GUARDED: &str = "maitred-guarded";
/// Checks are so rare that none falls between the counts: their cost is not that of requests.
const GUARDS: &str = "health_check: { path: /check, interval: 10min }, outlier_detection: {}, circuit_breaker: {}, retry: {}";
/// Knowing who it is, by a key or by a token seen before, costs at most this many times the plain one.
const IDENTITY_BAR: f64 = 1.10;
/// Fills pools and buffers before anything is counted.
const WARMUP: u64 = 500;
const ATTACH: Duration = Duration::from_secs(10);
const DUMP: Duration = Duration::from_secs(60);

/// One local limit costs at most this many times the plain row.
const LIMIT_BAR: f64 = 1.04;

/// What a route has beyond proxying: the gateway's lines for it, and what each request then carries.
struct Added {
    contender: &'static str,
    identity: &'static str,
    policies: &'static str,
    header: &'static str,
    bar: Option<f64>,
}

/// Good by `TOKENS`.
pub const TOKEN: &str = concat!(
    "Authorization: Bearer ",
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6IjIwMjYtMTEifQ.",
    "eyJpc3MiOiJodHRwczovL2lkLmJlbmNoLnRlc3QvIiwic3ViIjoiN2QwZjljNGUtMmYwZS00ZjM4LTliN2QtMGM1YTNjOWIyZTExIiwiYXVkIjoiYmVuY2gi",
    "LCJpYXQiOjE3NjAwMDAwMDAsImV4cCI6NDEwMjQ0NDgwMCwianRpIjoiZjNiMWQxYjAtNGExZS00YjdlLTlmNTEtN2ExZjJhNmYzZjEwIiwic2NvcGUiOiJv",
    "cmRlcnM6cmVhZCBvcmRlcnM6d3JpdGUgbWVudTpyZWFkIiwiZ3JvdXBzIjpbInN0YWZmIiwia2l0Y2hlbiJdLCJlbWFpbCI6ImFsaWNlQGJlbmNoLnRlc3Qi",
    "LCJuYW1lIjoiQWxpY2Ugb2YgdGhlIEJlbmNoIiwidGVuYW50IjoicmVzdGF1cmFudCJ9",
    ".Ij_BIB7n1-hmZUmvjBVi0XYmJaL5nEGF150rH8Ej-no",
    "\r\n"
);

/// None guards anything: secrets of a benchmark are for everyone to read.
const KEYS: &str = "authorizers: { bench: { api_key: {} } }
consumers: { alice: { api_keys: [a-key-of-the-bench-that-is-as-long-as-keys-are] } }
";
const KEY: &str = "X-Api-Key: a-key-of-the-bench-that-is-as-long-as-keys-are\r\n";
pub const TOKENS: &str = "authorizers:
  bench: { jwt: { issuer: \"https://id.bench.test/\", audience: [bench], algorithms: [HS256], secret: \"a benchmark keeps no secrets, it only has to have one\" } }
";

/// Limits are wide enough to refuse nothing.
const ADDED: [Added; 6] = [
    Added { contender: "maitred-key", identity: KEYS, policies: "", header: KEY, bar: Some(IDENTITY_BAR) },
    // What the token costs where nobody asks for one: it is read, and passed on.
    Added { contender: "maitred-token", identity: "", policies: "", header: TOKEN, bar: None },
    Added { contender: "maitred-jwt", identity: TOKENS, policies: "", header: TOKEN, bar: Some(IDENTITY_BAR) },
    Added {
        contender: "maitred-limit",
        identity: "",
        policies: "rate_limit: { rate: 1000000/s, burst: 100000, by: ip }",
        header: "",
        bar: Some(LIMIT_BAR),
    },
    Added {
        contender: "maitred-two-limits",
        identity: "",
        policies: "rate_limit: [{ rate: 1000000/s, burst: 100000, by: ip }, { rate: 1000000/s, burst: 200000, by: api }]",
        header: "",
        bar: None,
    },
    Added {
        contender: "maitred-key-limit",
        identity: KEYS,
        policies: "rate_limit: { rate: 1000000/s, burst: 100000, by: consumer }",
        header: KEY,
        bar: None,
    },
];

pub fn instructions(lab: &mut Lab) -> io::Result<()> {
    let backend = Backend::start(None)?;
    let mut cases: Vec<(Contender, usize)> = lab.peers().into_iter().map(|peer| (peer, FEW)).collect();
    for (name, count) in [("maitred-10", FEW), (GUARDED, FEW), ("maitred-100k", ROUTES_COUNT)] {
        cases.extend(lab.maitred(name, Routes::Generated(count)).map(|contender| (contender, count)));
    }
    for added in &ADDED {
        cases.extend(lab.maitred(added.contender, Routes::Generated(FEW)).map(|contender| (contender, FEW)));
    }
    let folder = lab.folder.join(INSTRUCTIONS);
    let mut few = None;
    for (contender, count) in cases {
        let mut requests = routes::requests(count);
        let guarded = contender.name == GUARDED;
        let added = ADDED.iter().find(|added| added.contender == contender.name);
        if let Some(added) = added {
            requests.iter_mut().for_each(|request| *request = http::with_lines(request, added.header));
        }
        let setup = Setup {
            guards: if guarded { GUARDS } else { "" },
            identity: added.map_or("", |added| added.identity),
            policies: added.map_or("", |added| added.policies),
            ..Lab::setup(&folder, &backend, 1)
        };
        let counted = instructions_of(lab, &contender, &setup, &requests);
        let bar = match (guarded, added, count) {
            (true, _, _) => Some(Bar::ratio(GUARDED_BAR)),
            (false, Some(added), _) => added.bar.map(Bar::ratio),
            (false, None, ROUTES_COUNT) => Some(Bar::ratio(MANY_BAR)),
            (false, None, _) => None,
        };
        let mut row = row_of("instructions/request", &contender, counted.as_ref(), bar);
        if let (true, Ok(own), Some(few)) = (bar.is_some() || added.is_some(), &counted, few) {
            row.ratio = Spread::of(&[own / few]);
            row.note = "ratio to maitred-10".into();
        }
        if contender.name == "maitred-10" {
            few = counted.ok();
        }
        lab.report.add(row);
    }
    Ok(())
}

fn row_of(scenario: &str, contender: &Contender, counted: Result<&f64, &io::Error>, bar: Option<Bar>) -> Row {
    match counted {
        Ok(figure) => Row { bar, ..Row::new(scenario, &contender.name, "", &[*figure]) },
        Err(error) => Row::failed(scenario, &contender.name, bar, &error.to_string()),
    }
}

fn instructions_of(lab: &mut Lab, contender: &Contender, setup: &Setup, requests: &[Request]) -> io::Result<f64> {
    let (short, long) = lab.options.counted();
    let send = |proxy: &Proxy, part: usize| {
        let number = [WARMUP, short, long][part];
        count(proxy, requests, number).map(|()| number)
    };
    counted(lab, INSTRUCTIONS, &contender.name, contender, setup, &send)
}

/// Instructions of one request. `send` has the gateway answer the requests of a part and says how many they were: the first part warms it up, the second is the
/// shorter and the third the longer of those whose difference counts. Callgrind writes and zeroes its counters at each dump, so both counts come from one process.
pub fn counted(
    lab: &mut Lab,
    scenario: &str,
    name: &str,
    contender: &Contender,
    setup: &Setup,
    send: &dyn Fn(&Proxy, usize) -> io::Result<u64>,
) -> io::Result<f64> {
    let output = setup.folder.join(format!("{}.callgrind", contender.name));
    fs::create_dir_all(setup.folder)?;
    for number in 1..=3 {
        let _ = fs::remove_file(dump_file(&output, number));
    }
    // Fair scheduling: valgrind runs one thread at a time, and a busy one must not starve the others.
    let wrapper =
        ["valgrind", "--quiet", "--fair-sched=try", "--tool=callgrind", &format!("--callgrind-out-file={}", output.display())];
    let setup = Setup { wrapper: wrapper.map(String::from).to_vec(), ..setup.clone() };
    let proxy = Proxy::start(contender, &setup)?;
    lab.report.add_config(&format!("{scenario}/{name}"), &proxy.config_text);
    send(&proxy, 0)?;
    dump(&proxy, &output, 1)?;
    let short = send(&proxy, 1)?;
    let few = dump(&proxy, &output, 2)?;
    let long = send(&proxy, 2)?;
    let many = dump(&proxy, &output, 3)?;
    lab.report.add_raw(&format!("{scenario}/{name}"), json!({ short.to_string(): few, long.to_string(): many }));
    // Work of another kind, such as the last of loading, fell into one of the counts.
    if many <= few {
        return Err(io::Error::other(format!("{many} instructions for {long} requests, {few} for {short}")));
    }
    Ok((many - few) / (long - short) as f64)
}

fn dump_file(output: &Path, number: usize) -> String {
    format!("{}.{number}", output.display())
}

/// Has the counters written, and reads their total.
fn dump(proxy: &Proxy, output: &Path, number: usize) -> io::Result<f64> {
    let mut command = Command::new("vgdb");
    command.arg(format!("--pid={}", proxy.pid())).arg("dump");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Running::start(command, Ending::Kill, None)?.wait(DUMP)?;
    let total = process::until(DUMP, || {
        let text = fs::read_to_string(dump_file(output, number)).ok()?;
        let line = text.lines().rev().find_map(|line| line.strip_prefix("totals:"))?;
        line.trim().parse::<f64>().ok()
    });
    total.ok_or_else(|| io::Error::other("callgrind wrote no totals"))
}

/// Exactly this many requests, every one answered.
fn count(proxy: &Proxy, requests: &[Request], count: u64) -> io::Result<()> {
    let until = Until::Count(count);
    let job = Job { port: proxy.port, connections: CONNECTIONS, client: Client::PLAIN, requests, pace: Pace::Closed, until };
    load::run_plain(&job)?.valid().map(drop).map_err(io::Error::other)
}

pub fn syscalls(lab: &mut Lab) -> io::Result<()> {
    let backend = Backend::start(None)?;
    let mut contenders = lab.peers();
    contenders.extend(lab.maitred("maitred", Routes::CatchAll));
    let folder = lab.folder.join(SYSCALLS);
    for contender in contenders {
        let counted = syscalls_of(lab, &contender, &Lab::setup(&folder, &backend, 1));
        let row = row_of("system calls/request", &contender, counted.as_ref(), None);
        lab.report.add(row);
    }
    Ok(())
}

fn syscalls_of(lab: &mut Lab, contender: &Contender, setup: &Setup) -> io::Result<f64> {
    let proxy = Proxy::start(contender, setup)?;
    let requests = [http::get("/1k", 1024)];
    let (short, long) = lab.options.counted();
    count(&proxy, &requests, WARMUP)?;
    let few = traced(&proxy, setup, &requests, short)?;
    let many = traced(&proxy, setup, &requests, long)?;
    let each: serde_json::Map<_, _> = many
        .iter()
        .map(|(name, calls)| {
            let before = few.iter().find(|(other, _)| other == name).map_or(0.0, |(_, calls)| *calls);
            (name.clone(), json!((calls - before) / (long - short) as f64))
        })
        .collect();
    lab.report.add_raw(&format!("{SYSCALLS}/{}", contender.name), each.into());
    let total = |calls: &[(String, f64)]| calls.iter().map(|(_, calls)| calls).sum::<f64>();
    Ok((total(&many) - total(&few)) / (long - short) as f64)
}

/// Attaches strace to the proxy, counts over so many requests, and detaches.
fn traced(proxy: &Proxy, setup: &Setup, requests: &[Request], number: u64) -> io::Result<Vec<(String, f64)>> {
    let output = setup.folder.join(format!("{}.strace.{number}", proxy.name));
    let family = process::tree(proxy.pid());
    let mut command = Command::new("strace");
    command.args(["-f", "-c", "-U", "name,calls", "-o"]).arg(&output);
    family.iter().for_each(|pid| _ = command.args(["-p", &pid.to_string()]));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut strace = Running::start(command, Ending::Terminate, None)?;
    let attached = process::until(ATTACH, || (strace.ended() || family.iter().all(|&pid| is_traced(pid))).then_some(()));
    if attached.is_none() || strace.ended() {
        return Err(io::Error::other("strace could not attach"));
    }
    count(proxy, requests, number)?;
    strace.signal(libc::SIGINT);
    strace.wait(ATTACH)?;
    Ok(calls(&fs::read_to_string(&output)?))
}

fn is_traced(pid: i32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads
        .map(|thread| fs::read_to_string(thread.path().join("status")).unwrap_or_default())
        .all(|status| status.lines().find_map(|line| line.strip_prefix("TracerPid:")).is_some_and(|tracer| tracer.trim() != "0"))
}

/// Lines of `name calls` between the rules of strace's table.
fn calls(text: &str) -> Vec<(String, f64)> {
    let line = |line: &str| {
        let (name, calls) = line.trim().split_once(char::is_whitespace)?;
        Some((name.to_string(), calls.trim().parse::<f64>().ok()?))
    };
    text.lines().filter_map(line).filter(|(name, _)| name != "total").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_strace_is_read_without_its_rules_and_total() {
        let text = "syscall              calls\n---------------- ---------\nread                    12\nepoll_wait               3\n---------------- ---------\ntotal                   15\n";
        assert_eq!(calls(text), [("read".to_string(), 12.0), ("epoll_wait".to_string(), 3.0)]);
    }
}
