//! The load generator: keep-alive connections on one thread and one epoll, closed loop (each connection sends as soon as
//! it was answered) or open loop (sent by a fixed schedule, latency counted from the time scheduled, so that a proxy
//! that stalls cannot slow down its own exam). It judges nothing but whether an answer is exactly the one expected.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::http::{Progress, Request, Responses};
use crate::stats::Histogram;
use crate::sys::{self, Epoll, READABLE, WRITABLE};

/// How long all connections may be silent before the run is given up.
const STALL: Duration = Duration::from_secs(10);
/// How long answers in flight are awaited at the end.
const DRAIN: Duration = Duration::from_secs(2);
/// A run with this many errors has nothing more to say.
const ERRORS_MAX: u64 = 1000;
/// The longest sleep, so that flags and ends of windows are noticed.
const NAP: Duration = Duration::from_millis(50);
/// One answer of 64 KB with its head fits.
const RECEIVE_BYTES: usize = 128 * 1024;

pub enum Pace {
    Closed,
    Open { per_second: f64 },
}

pub enum Until<'a> {
    Window {
        warmup: Duration,
        length: Duration,
    },
    /// Exactly this many requests, all of them answered.
    Count(u64),
    /// Until somebody else says so, who may watch the answers meanwhile.
    Flag {
        over: &'a AtomicBool,
        answered: &'a AtomicU64,
    },
}

pub struct Job<'a> {
    pub port: u16,
    pub connections: usize,
    /// One, or a list that is drawn from pseudo-randomly: the same sequence in every run.
    pub requests: &'a [Request],
    pub pace: Pace,
    pub until: Until<'a>,
}

/// What happened inside the window (warm-up and drain left out, save for errors: those count always).
#[derive(Default)]
pub struct Outcome {
    pub answered: u64,
    pub seconds: f64,
    pub errors: u64,
    pub first_error: Option<String>,
    pub reconnects: u64,
    pub latencies: Histogram,
    /// By how much the gauge rose over exactly this window.
    pub gauge: u64,
}

impl Outcome {
    pub fn per_second(&self) -> f64 {
        self.answered as f64 / self.seconds
    }

    /// A window with an error is no figure.
    pub fn valid(self) -> Result<Outcome, String> {
        match self.errors {
            0 if self.answered > 0 => Ok(self),
            0 => Err("not one answer".into()),
            errors => Err(format!("{errors} errors, the first: {}", self.first_error.unwrap_or_default())),
        }
    }
}

/// Runs a job to its end. `gauge` is read at both ends of the window, on this thread, between two turns of the loop,
/// so that what it counts and the answers counted belong to the same time.
pub fn run(job: &Job, gauge: &mut dyn FnMut() -> io::Result<u64>) -> io::Result<Outcome> {
    let mut run = Run::new(job)?;
    let (mut ready, mut buffer) = (Vec::new(), vec![0; RECEIVE_BYTES]);
    loop {
        let now = Instant::now();
        run.advance(now, gauge)?;
        if run.over(now)? {
            return Ok(run.outcome);
        }
        run.dispatch(now);
        run.epoll.wait(Some(run.nap(now)), &mut ready)?;
        for &(token, readiness) in &ready {
            run.turn(token as usize, readiness, &mut buffer)?;
        }
    }
}

/// For runs that measure nothing but answers.
pub fn run_plain(job: &Job) -> io::Result<Outcome> {
    run(job, &mut || Ok(0))
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Warming,
    Measuring,
    Draining,
}

struct Connection {
    stream: TcpStream,
    responses: Responses,
    request: usize,
    sent: usize,
    since: Instant,
    busy: bool,
}

struct Run<'a> {
    job: &'a Job<'a>,
    epoll: Epoll,
    connections: Vec<Connection>,
    idle: VecDeque<usize>,
    random: u64,
    phase: Phase,
    phase_began: Instant,
    progress: Instant,
    next_due: Instant,
    started: u64,
    outcome: Outcome,
}

impl<'a> Run<'a> {
    fn new(job: &'a Job) -> io::Result<Run<'a>> {
        let epoll = Epoll::new()?;
        let now = Instant::now();
        let mut connections = Vec::new();
        for place in 0..job.connections {
            let stream = connect(job.port)?;
            epoll.add(stream.as_raw_fd(), place as u64, READABLE)?;
            let responses = Responses::default();
            connections.push(Connection { stream, responses, request: 0, sent: 0, since: now, busy: false });
        }
        let now = Instant::now();
        Ok(Run {
            job,
            epoll,
            idle: (0..connections.len()).collect(),
            connections,
            random: 0x9e37_79b9_7f4a_7c15,
            phase: Phase::Warming,
            phase_began: now,
            progress: now,
            next_due: now,
            started: 0,
            outcome: Outcome::default(),
        })
    }

    /// Moves through warm-up, window and drain; both ends of the window read the gauge.
    fn advance(&mut self, now: Instant, gauge: &mut dyn FnMut() -> io::Result<u64>) -> io::Result<()> {
        let lasted = now - self.phase_began;
        let next = match (self.phase, &self.job.until) {
            (Phase::Warming, Until::Window { warmup, .. }) if lasted < *warmup => return Ok(()),
            (Phase::Warming, _) => Phase::Measuring,
            (Phase::Measuring, Until::Window { length, .. }) if lasted >= *length => Phase::Draining,
            (Phase::Measuring, Until::Count(count)) if self.outcome.answered + self.outcome.errors >= *count => Phase::Draining,
            (Phase::Measuring, Until::Flag { over, .. }) if over.load(Ordering::Relaxed) => Phase::Draining,
            (Phase::Measuring, _) if self.outcome.errors >= ERRORS_MAX => Phase::Draining,
            (Phase::Measuring | Phase::Draining, _) => return Ok(()),
        };
        match next {
            Phase::Measuring => self.outcome.gauge = gauge()?,
            Phase::Draining => {
                self.outcome.gauge = gauge()?.saturating_sub(self.outcome.gauge);
                self.outcome.seconds = self.phase_began.elapsed().as_secs_f64();
            }
            Phase::Warming => {}
        }
        self.phase = next;
        self.phase_began = Instant::now();
        Ok(())
    }

    fn over(&self, now: Instant) -> io::Result<bool> {
        let busy = self.idle.len() < self.connections.len();
        if self.phase == Phase::Draining {
            return Ok(!busy || now.saturating_duration_since(self.phase_began) > DRAIN);
        }
        if busy && now.saturating_duration_since(self.progress) > STALL {
            return Err(io::Error::other(format!("no answer for {} s", STALL.as_secs())));
        }
        Ok(false)
    }

    fn may_start(&self) -> bool {
        let left = !matches!(self.job.until, Until::Count(count) if self.started >= count);
        left && self.phase != Phase::Draining
    }

    /// Gives work to idle connections: all of them, or as many as the schedule says are due. The one idle for longest
    /// goes first, so that every connection is used.
    fn dispatch(&mut self, now: Instant) {
        while self.may_start() && !self.idle.is_empty() {
            let since = match self.job.pace {
                Pace::Closed => now,
                Pace::Open { .. } if self.next_due > now => return,
                Pace::Open { per_second } => {
                    self.started_at_least_once(now);
                    let due = self.next_due;
                    self.next_due = due + Duration::from_secs_f64(1.0 / per_second);
                    due
                }
            };
            if let Some(place) = self.idle.pop_front() {
                self.start(place, since);
            }
        }
    }

    /// Connecting took time that the schedule does not owe.
    fn started_at_least_once(&mut self, now: Instant) {
        if self.started == 0 {
            self.next_due = now;
        }
    }

    fn nap(&self, now: Instant) -> Duration {
        match self.job.pace {
            Pace::Open { .. } if !self.idle.is_empty() => self.next_due.saturating_duration_since(now).min(NAP),
            Pace::Open { .. } | Pace::Closed => NAP,
        }
    }

    fn start(&mut self, place: usize, since: Instant) {
        let request = self.draw();
        let connection = &mut self.connections[place];
        connection.request = request;
        connection.since = since;
        connection.sent = 0;
        connection.busy = true;
        self.started += 1;
        self.push(place);
    }

    fn draw(&mut self) -> usize {
        if self.job.requests.len() == 1 {
            return 0;
        }
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % self.job.requests.len() as u64) as usize
    }

    /// Sends what it can; what the socket does not take waits for it to become writable. A failed send shows up
    /// as a failed receive too, and is counted there, once.
    fn push(&mut self, place: usize) {
        let connection = &mut self.connections[place];
        let bytes = &self.job.requests[connection.request].bytes;
        let fd = connection.stream.as_raw_fd();
        let first = connection.sent == 0;
        while connection.sent < bytes.len() {
            match sys::send(fd, &bytes[connection.sent..]) {
                Ok(Some(count)) => connection.sent += count,
                Ok(None) => {
                    let _ = self.epoll.change(fd, place as u64, READABLE | WRITABLE);
                    return;
                }
                Err(_) => return,
            }
        }
        if !first {
            let _ = self.epoll.change(fd, place as u64, READABLE);
        }
    }

    fn turn(&mut self, place: usize, readiness: u32, buffer: &mut [u8]) -> io::Result<()> {
        if readiness & WRITABLE != 0 && self.connections[place].busy {
            self.push(place);
        }
        if readiness & !WRITABLE == 0 {
            return Ok(());
        }
        let connection = &mut self.connections[place];
        let count = match sys::receive(connection.stream.as_raw_fd(), buffer) {
            Ok(None) => return Ok(()),
            Ok(Some(0)) => return self.lost(place, "closed before the answer was whole".into()),
            Ok(Some(count)) => count,
            Err(error) => return self.lost(place, error.to_string()),
        };
        if !connection.busy {
            return self.fail(place, "bytes that nobody asked for".into());
        }
        let answer = self.job.requests[connection.request].answer;
        match connection.responses.feed(&buffer[..count], answer) {
            Ok(Progress::More) => Ok(()),
            Ok(Progress::Done { close }) => self.answered(place, close),
            Err(error) => self.fail(place, error),
        }
    }

    fn answered(&mut self, place: usize, close: bool) -> io::Result<()> {
        let now = Instant::now();
        self.progress = now;
        let connection = &mut self.connections[place];
        connection.busy = false;
        if self.phase == Phase::Measuring {
            self.outcome.answered += 1;
            if let Until::Flag { answered, .. } = self.job.until {
                answered.store(self.outcome.answered, Ordering::Relaxed);
            }
            self.outcome.latencies.record((now - connection.since).as_nanos() as u64);
        }
        if close {
            self.reconnect(place)?;
        }
        match self.job.pace {
            Pace::Closed if self.may_start() => self.start(place, now),
            Pace::Closed | Pace::Open { .. } => self.idle.push_back(place),
        }
        Ok(())
    }

    /// The peer has closed: its right while the connection is idle, an error while an answer is owed.
    fn lost(&mut self, place: usize, error: String) -> io::Result<()> {
        if self.connections[place].busy { self.fail(place, error) } else { self.reconnect(place) }
    }

    fn fail(&mut self, place: usize, error: String) -> io::Result<()> {
        self.outcome.errors += 1;
        self.outcome.first_error.get_or_insert(error);
        if std::mem::take(&mut self.connections[place].busy) {
            self.idle.push_back(place);
        }
        self.reconnect(place)
    }

    fn reconnect(&mut self, place: usize) -> io::Result<()> {
        let stream = connect(self.job.port)?;
        self.epoll.add(stream.as_raw_fd(), place as u64, READABLE)?;
        self.outcome.reconnects += 1;
        let connection = &mut self.connections[place];
        connection.stream = stream;
        connection.responses = Responses::default();
        Ok(())
    }
}

fn connect(port: u16) -> io::Result<TcpStream> {
    let stream = sys::connect_from(Ipv4Addr::LOCALHOST, sys::loopback(port))?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}
