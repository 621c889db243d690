//! What the gateway adds to a hosted function: the same echo function, on AWS's own Rust client, answers events that come straight from a
//! loop which does nothing else, and requests through the gateway. One at a time for the time that is added, and as many as there are processes for how
//! many come through: of events that come back at once, where loops and gateway take all the cores that there are, and of events that take a
//! millisecond, where neither does. The gateway alone is asked this: no peer hosts functions.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::http::Request;
use crate::load::{self, Client, Job, Pace, Until};
use crate::process::{Ending, Running};
use crate::proxies::{Backend, Proxy};
use crate::report::{Bar, Row};
use crate::scenarios::{Lab, Sample, figures, interleave, raw};
use crate::stats::Spread;
use crate::written;

pub const NAME: &str = "functions";

/// Beside this program: `tests/functions/src/bin/echo.rs`.
const ECHO: &str = "function-echo";
const ADDED_US_MAX: f64 = 150.0;
const SHARE_MIN: f64 = 0.8;
const PROCESSES: usize = 2;
/// Clients of the gateway while both processes are kept busy: always one more waits for each.
const CONNECTIONS: usize = 4;
/// Of the event, which comes back.
const EVENT_BYTES: usize = 1024;
/// What a call that was taken is told.
const ACCEPTED: &[u8] =
    b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{\"status\":\"OK\"}\n";
const ID: &str = "8476a536-e9f4-11e8-9739-2dfe598c3fcd";
const PATIENCE: Duration = Duration::from_secs(20);

const ALONE: &str = "the loop alone";
const GATEWAY: &str = "maitred";

pub fn run(lab: &mut Lab) -> io::Result<()> {
    if lab.options.maitred.is_none() {
        return Ok(());
    }
    let echo = std::env::current_exe()?.with_file_name(ECHO);
    if !echo.is_file() {
        let why = format!("no {ECHO} beside this program: cargo build --release -p maitred-functions");
        lab.report.add(Row::failed(NAME, GATEWAY, Some(Bar::figure(ADDED_US_MAX)), &why));
        return Ok(());
    }
    let backend = Backend::start(None)?;
    let Some(proxy) = gateway(lab, &echo, &backend)? else { return Ok(()) };
    let loops = (0..PROCESSES).map(|_| Loop::start(&echo)).collect::<io::Result<Vec<Loop>>>()?;
    latency(lab, &proxy, &loops);
    throughput(lab, &proxy, &loops);
    at_work(lab, &proxy, &loops);
    Ok(())
}

/// What the function does with an event before it gives it back.
#[derive(Debug, Clone, Copy)]
enum Work {
    Nothing,
    /// A millisecond without a processor.
    Wait,
}

impl Work {
    /// JSON that comes back byte by byte.
    fn event(self) -> Vec<u8> {
        let (before, after) = match self {
            Work::Nothing => ("\"", "\""),
            Work::Wait => ("{\"do\":\"wait\",\"fill\":\"", "\"}"),
        };
        let fill = "x".repeat(EVENT_BYTES - before.len() - after.len());
        [before, &fill, after].concat().into_bytes()
    }
}

fn gateway(lab: &mut Lab, echo: &Path, backend: &Backend) -> io::Result<Option<Proxy>> {
    let upstreams = format!("  backend: http://127.0.0.1:{}\n", backend.port);
    let routes = "      - POST /echo: function echo\n      - GET /1k: backend\n";
    // Whoever runs benchmarks as root has the function in a folder that nobody else can reach.
    let function = format!(
        "functions:\n  echo: {{ runtime: provided, code: {:?}, event: raw, timeout: 30s, concurrency: {PROCESSES}, min_instances: {PROCESSES} }}\n",
        echo.display().to_string()
    );
    let text = function + &written::maitred(lab.options.workers, &upstreams, routes);
    let Some(contender) = lab.maitred_written(GATEWAY, text, "/1k") else { return Ok(None) };
    let folder = lab.folder.join(NAME);
    let setup = Lab::setup(&folder, backend, lab.options.workers);
    Ok(lab.start_all(NAME, &[contender], &setup, Bar::figure(ADDED_US_MAX)).into_iter().next())
}

/// One at a time: the median of an invocation, in microseconds.
fn latency(lab: &mut Lab, proxy: &Proxy, loops: &[Loop]) {
    let title = format!("{NAME}: one warm invocation");
    let names = [ALONE, GATEWAY].map(String::from);
    let window = lab.options.window();
    let samples = interleave(NAME, &names, lab.options.rounds, |who| match who {
        0 => loops[0].median_us(window).map_err(|error| error.to_string()),
        _ => {
            ask(proxy, Work::Nothing, 1, window, lab.options.warmup()).map(|outcome| outcome.latencies.quantile(0.5) as f64 / 1e3)
        }
    });
    lab.report.add_raw(&title, json!({ "us": raw(&names, &samples) }));
    lab.report.add(row(&title, ALONE, "µs", &samples[0]));
    lab.report.add(row(&title, GATEWAY, "µs", &samples[1]));
    let added: Vec<f64> =
        samples[1].iter().zip(&samples[0]).filter_map(|(with, alone)| Some(with.as_ref().ok()? - alone.as_ref().ok()?)).collect();
    let mut judged = Row::new(&format!("{NAME}: time that the gateway adds"), GATEWAY, "µs", &added);
    judged.bar = Some(Bar::figure(ADDED_US_MAX));
    judged.note = "median of one client over HTTP/1.1, less the loop's in the same round".into();
    lab.report.add(judged);
}

/// As many at once as there are processes: how many a second.
fn throughput(lab: &mut Lab, proxy: &Proxy, loops: &[Loop]) {
    let title = format!("{NAME}: {PROCESSES} processes, kept busy");
    let samples = kept_busy(lab, &title, proxy, loops, Work::Nothing);
    lab.report.add(row(&title, ALONE, "/s", &samples[0]));
    let ratios = super::ratios(&samples[1], &samples[0]);
    let mut judged = row(&title, GATEWAY, "/s", &samples[1]);
    judged.note = format!("{CONNECTIONS} clients; share of what the loops do: {}", share(&ratios));
    lab.report.add(judged);
    let mut judged = Row::new(&format!("{NAME}: share of the loops' throughput"), GATEWAY, "", &ratios);
    judged.bar = Some(Bar::at_least(SHARE_MIN));
    lab.report.add(judged);
}

/// The same where there are cores to spare: what is missing then the gateway itself holds back.
fn at_work(lab: &mut Lab, proxy: &Proxy, loops: &[Loop]) {
    let title = format!("{NAME}: share of the loops' throughput, 1 ms of work");
    let samples = kept_busy(lab, &title, proxy, loops, Work::Wait);
    let mut judged = Row::new(&title, GATEWAY, "", &super::ratios(&samples[1], &samples[0]));
    judged.bar = Some(Bar::at_least(SHARE_MIN));
    let median = |samples: &[Sample]| Spread::of(&figures(samples)).map_or(0.0, |spread| spread.median);
    judged.note = format!("{CONNECTIONS} clients; {:.0} /s of {:.0} /s", median(&samples[1]), median(&samples[0]));
    lab.report.add(judged);
}

/// Events a second: of the loops alone, and through the gateway.
fn kept_busy(lab: &mut Lab, title: &str, proxy: &Proxy, loops: &[Loop], work: Work) -> Vec<Vec<Sample>> {
    let names = [ALONE, GATEWAY].map(String::from);
    let window = lab.options.window();
    let samples = interleave(NAME, &names, lab.options.rounds, |who| match who {
        0 => together(loops, work, window).map_err(|error| error.to_string()),
        _ => ask(proxy, work, CONNECTIONS, window, lab.options.warmup()).map(|outcome| outcome.per_second()),
    });
    lab.report.add_raw(title, json!({ "per_second": raw(&names, &samples) }));
    samples
}

fn share(ratios: &[f64]) -> String {
    Spread::of(ratios).map_or_else(String::new, |spread| format!("{:.3}", spread.median))
}

fn row(title: &str, contender: &str, unit: &'static str, samples: &[Sample]) -> Row {
    Row::new(title, contender, unit, &figures(samples))
}

fn ask(proxy: &Proxy, work: Work, connections: usize, length: Duration, warmup: Duration) -> Result<load::Outcome, String> {
    let head = format!(
        "POST /echo HTTP/1.1\r\nHost: bench.test\r\nUser-Agent: maitred-bench\r\nAccept: */*\r\nContent-Type: application/json\r\n\
         Content-Length: {EVENT_BYTES}\r\n\r\n"
    );
    let request = Request { bytes: [head.as_bytes(), &work.event()].concat(), answer: EVENT_BYTES };
    let job = Job {
        port: proxy.port,
        connections,
        client: Client::PLAIN,
        requests: &[request],
        pace: Pace::Closed,
        until: Until::Window { warmup, length },
    };
    load::run_plain(&job).map_err(|error| error.to_string())?.valid()
}

/// The function on its own: its process, and the connections on which it asks for work.
struct Loop {
    _process: Running,
    listener: TcpListener,
    state: std::sync::Mutex<Option<Asker>>,
}

/// A connection of the function's, and what was read of it too much.
struct Asker {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Loop {
    fn start(echo: &PathBuf) -> io::Result<Loop> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let mut command = Command::new(echo);
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.envs([
            ("AWS_LAMBDA_FUNCTION_NAME", "echo"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
        ]);
        command.env("AWS_LAMBDA_RUNTIME_API", listener.local_addr()?.to_string());
        let process = Running::start(command, Ending::Kill, None)?;
        Ok(Loop { _process: process, listener, state: std::sync::Mutex::new(None) })
    }

    fn with<T>(&self, then: impl FnOnce(&mut Asker) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if state.is_none() {
            *state = Some(Asker::accept(&self.listener)?);
        }
        then(state.as_mut().expect("made just now"))
    }

    /// From an event written to its result read.
    fn median_us(&self, window: Duration) -> io::Result<f64> {
        self.with(|asker| {
            let (begun, mut taken, given) = (Instant::now(), Vec::new(), given(Work::Nothing));
            while begun.elapsed() < window {
                asker.next()?;
                let written = Instant::now();
                asker.event(&given)?;
                taken.push(written.elapsed().as_secs_f64() * 1e6);
                asker.accepted()?;
            }
            taken.sort_by(f64::total_cmp);
            crate::stats::quantile(&taken, 0.5).ok_or_else(|| io::Error::other("not one event"))
        })
    }

    fn count(&self, work: Work, over: &AtomicBool, done: &AtomicU64) -> io::Result<()> {
        self.with(|asker| {
            let given = given(work);
            while !over.load(Ordering::Relaxed) {
                asker.next()?;
                asker.event(&given)?;
                asker.accepted()?;
                done.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        })
    }
}

/// Events a second of all loops at once.
fn together(loops: &[Loop], work: Work, window: Duration) -> io::Result<f64> {
    let (over, done) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let running: Vec<_> = loops.iter().map(|one| scope.spawn(|| one.count(work, &over, &done))).collect();
        let (begun, before) = (Instant::now(), done.load(Ordering::Relaxed));
        std::thread::sleep(window);
        let rate = (done.load(Ordering::Relaxed) - before) as f64 / begun.elapsed().as_secs_f64();
        over.store(true, Ordering::Relaxed);
        for one in running {
            one.join().map_err(|_| io::Error::other("a thread panicked"))??;
        }
        Ok(rate)
    })
}

/// What a process is told that asks for work.
fn given(work: Work) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {EVENT_BYTES}\r\nLambda-Runtime-Aws-Request-Id: {ID}\r\n\
         Lambda-Runtime-Deadline-Ms: 9999999999999\r\nLambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:000000000000:function:echo\r\n\r\n"
    );
    [head.as_bytes(), &work.event()].concat()
}

impl Asker {
    fn accept(listener: &TcpListener) -> io::Result<Asker> {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Asker { stream, buffer: Vec::new() })
    }

    /// Waits until it asks for work.
    fn next(&mut self) -> io::Result<()> {
        self.request()
    }

    /// Gives it an event, and waits for the result.
    fn event(&mut self, given: &[u8]) -> io::Result<()> {
        self.stream.write_all(given)?;
        self.request()
    }

    fn accepted(&mut self) -> io::Result<()> {
        self.stream.write_all(ACCEPTED)
    }

    /// Reads one request, whatever it says: of its head nothing but how long its body is.
    fn request(&mut self) -> io::Result<()> {
        let mut piece = [0u8; 16 * 1024];
        loop {
            if let Some(end) = crate::http::head_end(&self.buffer) {
                let length = crate::http::headers(&self.buffer[..end])
                    .find(|(name, _)| name.eq_ignore_ascii_case(b"content-length"))
                    .and_then(|(_, value)| std::str::from_utf8(value).ok()?.trim().parse::<usize>().ok())
                    .unwrap_or(0);
                if self.buffer.len() >= end + length {
                    self.buffer.drain(..end + length);
                    return Ok(());
                }
            }
            match self.stream.read(&mut piece)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.buffer.extend_from_slice(&piece[..count]),
            }
        }
    }
}
