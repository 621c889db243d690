//! The load generator: connections on one thread and one epoll, closed loop (asking again as soon as there was an answer) or open
//! loop (sent by a fixed schedule, latency counted from the time scheduled, so that a proxy that stalls cannot slow down its
//! own exam). It judges nothing but whether an answer is exactly the one expected.
//! A *slot* is one request at a time: a connection of HTTP/1.1 has one, a connection of HTTP/2 one for each of its streams.

use std::collections::VecDeque;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use crate::h2;
use crate::http::{Progress, Request, Responses};
use crate::link::{Buffers, Link, Received};
use crate::stats::Histogram;
use crate::sys::{self, Epoll, READABLE, WRITABLE};
use crate::tls::{self, Identity};

/// How long all connections may be silent before the run is given up.
const STALL: Duration = Duration::from_secs(10);
/// How long answers in flight are awaited at the end.
const DRAIN: Duration = Duration::from_secs(2);
/// A run with this many errors has nothing more to say.
const ERRORS_MAX: u64 = 1000;
/// The longest sleep, so that flags and ends of windows are noticed.
const NAP: Duration = Duration::from_millis(50);
/// The sleep of a thread that may use only a share of its core.
const SHORT_NAP: Duration = Duration::from_millis(1);
/// One answer of 64 KB with its head fits.
const RECEIVE_BYTES: usize = 128 * 1024;
/// Addresses of loopback that connections with one request each come from: the ports of one would run out.
const SOURCES: u64 = 50;

pub enum Pace {
    Closed,
    Open {
        per_second: f64,
    },
    /// Closed, but this thread uses at most this share of a core.
    Frugal {
        share: f64,
    },
}

/// How the client connects and what it speaks.
#[derive(Clone, Copy)]
pub struct Client<'a> {
    pub tls: Option<&'a Identity>,
    pub http: Http,
    pub life: Life,
}

impl Client<'_> {
    /// HTTP/1.1 in cleartext on connections that stay.
    pub const PLAIN: Client<'static> = Client { tls: None, http: Http::One, life: Life::Long };
}

#[derive(Clone, Copy, PartialEq)]
pub enum Http {
    One,
    Two { streams: usize },
}

/// What becomes of a connection after an answer.
#[derive(Clone, Copy, PartialEq)]
pub enum Life {
    /// It serves the next request.
    Long,
    /// It closes, and the next begins from nothing.
    Once,
    /// It closes, and the next resumes its session.
    Resumed,
    /// Every second one resumes the session of the one before.
    Paired,
}

pub enum Until<'a> {
    Window {
        warmup: Duration,
        length: Duration,
    },
    /// Exactly this many requests, all of them answered.
    Count(u64),
    /// Each request of the list once and in its order, all of them answered: where none may have been seen before.
    Each,
    /// Until somebody else says so, who may watch the answers meanwhile.
    Flag {
        over: &'a AtomicBool,
        answered: &'a AtomicU64,
    },
}

pub struct Job<'a> {
    pub port: u16,
    pub connections: usize,
    pub client: Client<'a>,
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
    /// Of the answers, those on connections that had a session to resume, and those where it was resumed.
    pub resumable: u64,
    pub resumed: u64,
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
    let (mut ready, mut buffers) = (Vec::new(), Buffers::new(RECEIVE_BYTES));
    loop {
        let now = Instant::now();
        run.advance(now, gauge)?;
        if run.over(now)? {
            return Ok(run.outcome);
        }
        run.dispatch(now)?;
        run.epoll.wait(Some(run.nap(now)), &mut ready)?;
        for &(token, readiness) in &ready {
            run.turn(token as usize, readiness, &mut buffers)?;
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

enum Speech {
    One(Responses),
    Two(h2::Client),
}

struct Connection {
    link: Link,
    speech: Speech,
    tls: Option<Arc<ClientConfig>>,
    /// Which one it is in its place, from 0.
    number: u64,
    /// Frames for the next flush: what is ready in one turn goes out in one write. A preface goes at once, since a server may
    /// not wait long for it.
    out: Vec<u8>,
    /// Slots that wait for a connection that takes requests again.
    parked: Vec<usize>,
    busy: usize,
    watched: u32,
    checked: bool,
}

impl Connection {
    fn leaving(&self) -> bool {
        matches!(&self.speech, Speech::Two(client) if client.leaving())
    }
}

#[derive(Clone)]
struct Slot {
    request: usize,
    since: Instant,
    busy: bool,
}

struct Run<'a> {
    job: &'a Job<'a>,
    epoll: Epoll,
    tls: Option<Arc<ClientConfig>>,
    connections: Vec<Connection>,
    slots: Vec<Slot>,
    /// Slots of one connection.
    streams: usize,
    idle: VecDeque<usize>,
    /// Connections with frames to flush.
    stirred: Vec<usize>,
    done: Vec<h2::Done>,
    busy: usize,
    random: u64,
    phase: Phase,
    phase_began: Instant,
    progress: Instant,
    next_due: Instant,
    began: Instant,
    cpu_began: u64,
    started: u64,
    outcome: Outcome,
}

impl<'a> Run<'a> {
    fn new(job: &'a Job) -> io::Result<Run<'a>> {
        let (streams, protocol) = match job.client.http {
            Http::One => (1, &b"http/1.1"[..]),
            Http::Two { streams } => (streams, &b"h2"[..]),
        };
        let now = Instant::now();
        let slots = job.connections * streams;
        let mut run = Run {
            job,
            epoll: Epoll::new()?,
            tls: job.client.tls.map(|identity| identity.client(protocol)).transpose()?,
            connections: Vec::new(),
            slots: vec![Slot { request: 0, since: now, busy: false }; slots],
            streams,
            idle: (0..slots).collect(),
            stirred: Vec::new(),
            done: Vec::new(),
            busy: 0,
            random: 0x9e37_79b9_7f4a_7c15,
            phase: Phase::Warming,
            phase_began: now,
            progress: now,
            next_due: now,
            began: now,
            cpu_began: sys::thread_cpu_ns()?,
            started: 0,
            outcome: Outcome::default(),
        };
        for who in 0..job.connections {
            let connection = run.connect(who, 0, None)?;
            run.connections.push(connection);
            run.flush(who);
        }
        let now = Instant::now();
        (run.phase_began, run.progress, run.next_due, run.began) = (now, now, now, now);
        Ok(run)
    }

    /// The next connection in a place, with the TLS of the one before it where a session is to be resumed.
    fn connect(&self, who: usize, number: u64, before: Option<Arc<ClientConfig>>) -> io::Result<Connection> {
        let life = self.job.client.life;
        let tls = match (&self.tls, before) {
            (None, _) => None,
            (Some(_), Some(before)) if life == Life::Resumed || life == Life::Paired && number % 2 == 1 => Some(before),
            (Some(client), _) if matches!(life, Life::Resumed | Life::Paired) => Some(tls::remembering(client)),
            (Some(client), _) => Some(client.clone()),
        };
        let source = match life {
            Life::Long => Ipv4Addr::LOCALHOST,
            Life::Once | Life::Resumed | Life::Paired => Ipv4Addr::new(127, 0, 0, 1 + ((number + who as u64) % SOURCES) as u8),
        };
        let link = Link::connect(source, self.job.port, tls.as_ref())?;
        self.epoll.add(link.fd(), who as u64, READABLE)?;
        let mut out = Vec::new();
        let speech = match self.job.client.http {
            Http::One => Speech::One(Responses::default()),
            Http::Two { .. } => Speech::Two(h2::Client::new(&mut out)),
        };
        Ok(Connection { link, speech, tls, number, out, parked: Vec::new(), busy: 0, watched: READABLE, checked: false })
    }

    /// Moves through warm-up, window and drain; both ends of the window read the gauge.
    fn advance(&mut self, now: Instant, gauge: &mut dyn FnMut() -> io::Result<u64>) -> io::Result<()> {
        let lasted = now - self.phase_began;
        let next = match (self.phase, &self.job.until) {
            (Phase::Warming, Until::Window { warmup, .. }) if lasted < *warmup => return Ok(()),
            (Phase::Warming, _) => Phase::Measuring,
            (Phase::Measuring, Until::Window { length, .. }) if lasted >= *length => Phase::Draining,
            (Phase::Measuring, Until::Count(count)) if self.outcome.answered + self.outcome.errors >= *count => Phase::Draining,
            (Phase::Measuring, Until::Each) if self.outcome.answered + self.outcome.errors >= self.job.requests.len() as u64 => {
                Phase::Draining
            }
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
        let busy = self.busy > 0;
        if self.phase == Phase::Draining {
            return Ok(!busy || now.saturating_duration_since(self.phase_began) > DRAIN);
        }
        if busy && now.saturating_duration_since(self.progress) > STALL {
            return Err(io::Error::other(format!("no answer for {} s", STALL.as_secs())));
        }
        Ok(false)
    }

    fn may_start(&self) -> bool {
        let left = match self.job.until {
            Until::Count(count) => self.started < count,
            Until::Each => self.started < self.job.requests.len() as u64,
            Until::Window { .. } | Until::Flag { .. } => true,
        };
        left && self.phase != Phase::Draining
    }

    /// Gives work to idle slots: all of them, or as many as the schedule says are due. The one idle for longest goes
    /// first, so that every connection is used.
    fn dispatch(&mut self, now: Instant) -> io::Result<()> {
        while self.may_start() && !self.idle.is_empty() {
            let since = match self.job.pace {
                Pace::Closed => now,
                Pace::Frugal { share } if self.spent()? > share * (now - self.began).as_secs_f64() => break,
                Pace::Frugal { .. } => now,
                Pace::Open { .. } if self.next_due > now => break,
                Pace::Open { per_second } => {
                    self.started_at_least_once(now);
                    let due = self.next_due;
                    self.next_due = due + Duration::from_secs_f64(1.0 / per_second);
                    due
                }
            };
            if let Some(slot) = self.idle.pop_front() {
                self.start(slot, since)?;
            }
        }
        while let Some(who) = self.stirred.pop() {
            self.flush(who);
        }
        Ok(())
    }

    /// CPU seconds of this thread since the run began.
    fn spent(&self) -> io::Result<f64> {
        Ok((sys::thread_cpu_ns()? - self.cpu_began) as f64 / 1e9)
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
            Pace::Frugal { .. } if !self.idle.is_empty() => SHORT_NAP,
            Pace::Open { .. } | Pace::Closed | Pace::Frugal { .. } => NAP,
        }
    }

    fn start(&mut self, slot: usize, since: Instant) -> io::Result<()> {
        let who = slot / self.streams;
        if self.connections[who].leaving() {
            self.connections[who].parked.push(slot);
            return self.renew_if_left(who);
        }
        let request = self.draw();
        self.slots[slot] = Slot { request, since, busy: true };
        let connection = &mut self.connections[who];
        connection.busy += 1;
        self.busy += 1;
        self.started += 1;
        let request = &self.job.requests[request];
        match &mut connection.speech {
            Speech::One(_) => {
                connection.link.send(&request.bytes);
                self.watch(who);
            }
            Speech::Two(client) => {
                client.request(slot, request, &mut connection.out);
                if self.stirred.last() != Some(&who) {
                    self.stirred.push(who);
                }
            }
        }
        Ok(())
    }

    fn draw(&mut self) -> usize {
        if self.job.requests.len() == 1 {
            return 0;
        }
        if let Until::Each = self.job.until {
            return self.started as usize;
        }
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % self.job.requests.len() as u64) as usize
    }

    fn flush(&mut self, who: usize) {
        let connection = &mut self.connections[who];
        match connection.out.is_empty() {
            true => connection.link.flush(),
            false => {
                connection.link.send(&connection.out);
                connection.out.clear();
            }
        }
        self.watch(who);
    }

    /// What the socket did not take waits for it to become writable.
    fn watch(&mut self, who: usize) {
        let connection = &mut self.connections[who];
        let wanted = if connection.link.blocked() { READABLE | WRITABLE } else { READABLE };
        if wanted != connection.watched {
            connection.watched = wanted;
            let _ = self.epoll.change(connection.link.fd(), who as u64, wanted);
        }
    }

    fn turn(&mut self, who: usize, readiness: u32, buffers: &mut Buffers) -> io::Result<()> {
        if readiness & WRITABLE != 0 {
            self.flush(who);
        }
        if readiness & !WRITABLE == 0 {
            return Ok(());
        }
        let connection = &mut self.connections[who];
        let bytes = match connection.link.receive(buffers) {
            Ok(Received::Bytes(bytes)) => bytes,
            Ok(Received::Nothing) => {
                self.watch(who);
                return Ok(());
            }
            Ok(Received::Closed) => return self.lost(who, "closed before the answer was whole".into()),
            Err(error) => return self.lost(who, error.to_string()),
        };
        match &mut connection.speech {
            Speech::One(_) if connection.busy == 0 => self.fail(who, "bytes that nobody asked for".into()),
            Speech::One(responses) => {
                let answer = self.job.requests[self.slots[who].request].answer;
                match responses.feed(bytes, answer) {
                    Ok(Progress::More) => Ok(()),
                    Ok(Progress::Done { close }) => self.answered(who, close),
                    Err(error) => self.fail(who, error),
                }
            }
            Speech::Two(client) => {
                let mut done = std::mem::take(&mut self.done);
                let fault = client.feed(bytes, &mut connection.out, &mut done).err();
                let outcome = self.finish(who, &mut done, fault);
                self.done = done;
                outcome
            }
        }
    }

    fn finish(&mut self, who: usize, done: &mut Vec<h2::Done>, fault: Option<String>) -> io::Result<()> {
        for (slot, answer) in done.drain(..) {
            match answer {
                Ok(()) => self.answered(slot, false)?,
                Err(error) => self.failed(slot, &error),
            }
        }
        if let Some(fault) = fault {
            return self.fail(who, fault);
        }
        self.renew_if_left(who)?;
        self.flush(who);
        Ok(())
    }

    fn answered(&mut self, slot: usize, close: bool) -> io::Result<()> {
        let now = Instant::now();
        let who = slot / self.streams;
        self.progress = now;
        self.release(slot);
        if !std::mem::replace(&mut self.connections[who].checked, true)
            && let Err(error) = self.connections[who].link.is_as_agreed()
        {
            self.blame(&error);
        }
        if self.phase == Phase::Measuring {
            self.count(slot, who, now);
        }
        if close || self.job.client.life != Life::Long {
            self.reconnect(who)?;
        }
        match self.job.pace {
            Pace::Closed if self.may_start() => self.start(slot, now)?,
            Pace::Closed | Pace::Open { .. } | Pace::Frugal { .. } => self.idle.push_back(slot),
        }
        Ok(())
    }

    fn count(&mut self, slot: usize, who: usize, now: Instant) {
        self.outcome.answered += 1;
        if let Until::Flag { answered, .. } = self.job.until {
            answered.store(self.outcome.answered, Ordering::Relaxed);
        }
        self.outcome.latencies.record((now - self.slots[slot].since).as_nanos() as u64);
        let connection = &self.connections[who];
        let resumable = match self.job.client.life {
            Life::Long | Life::Once => false,
            Life::Resumed => connection.number > 0,
            Life::Paired => connection.number % 2 == 1,
        };
        self.outcome.resumable += u64::from(resumable);
        self.outcome.resumed += u64::from(resumable && connection.link.resumed());
    }

    fn release(&mut self, slot: usize) {
        self.slots[slot].busy = false;
        self.connections[slot / self.streams].busy -= 1;
        self.busy -= 1;
    }

    /// The peer has closed: its right while nothing is owed on the connection, an error for every answer that is.
    fn lost(&mut self, who: usize, error: String) -> io::Result<()> {
        if self.connections[who].busy > 0 { self.fail(who, error) } else { self.reconnect(who) }
    }

    /// Gives the connection up, and every request on it.
    fn fail(&mut self, who: usize, error: String) -> io::Result<()> {
        let slots = who * self.streams..(who + 1) * self.streams;
        let owed: Vec<usize> = slots.filter(|&slot| self.slots[slot].busy).collect();
        if owed.is_empty() {
            self.blame(&error);
        }
        owed.into_iter().for_each(|slot| self.failed(slot, &error));
        self.reconnect(who)
    }

    fn failed(&mut self, slot: usize, error: &str) {
        self.blame(error);
        self.release(slot);
        self.idle.push_back(slot);
    }

    fn blame(&mut self, error: &str) {
        self.outcome.errors += 1;
        self.outcome.first_error.get_or_insert_with(|| error.to_string());
    }

    /// Follows a GOAWAY once the last answer is there.
    fn renew_if_left(&mut self, who: usize) -> io::Result<()> {
        let left = self.connections[who].leaving() && self.connections[who].busy == 0;
        if left { self.reconnect(who) } else { Ok(()) }
    }

    fn reconnect(&mut self, who: usize) -> io::Result<()> {
        let old = &mut self.connections[who];
        old.link.close();
        let (number, tls, parked) = (old.number + 1, old.tls.clone(), std::mem::take(&mut old.parked));
        self.connections[who] = self.connect(who, number, tls)?;
        self.idle.extend(parked);
        self.flush(who);
        if self.job.client.life == Life::Long {
            self.outcome.reconnects += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
