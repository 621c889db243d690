//! Five hundred streams that go nowhere beside one that must: each of them waits for the other side (a client that opens no window,
//! a back end that does not answer, a back end that does not read), and the requests of the live one, on a connection that
//! it shares with as many of them as the gateway allows, must all complete. The gateway alone is asked this.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::h2::{self, Frame, flag, kind, setting};
use crate::proxies::{Backend, Proxy};
use crate::report::{Bar, Row};
use crate::routes::Routes;
use crate::scenarios::Lab;
use crate::sys;

pub const NAME: &str = "stalled";

const STREAMS: usize = 500;
const WORST_MS_MAX: f64 = 100.0;
/// Streams of a connection that stay free for the live one: those it has just left may still count.
const FREE: u32 = 8;
/// Between two requests of the live one.
const PAUSE: Duration = Duration::from_millis(10);
/// A request that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(5);
/// Nothing moves any more when nothing has for this long.
const QUIET: Duration = Duration::from_millis(500);

/// The window that a client which does not read leaves open: more than an answer of the live one, less than one of the others.
const CLIENT_WINDOW: u32 = 16 * 1024;
const STALLED_ANSWER: usize = 64 * 1024;
const LIVE_ANSWER: usize = 1024;
const LIVE_BODY: usize = 4096;
const LIVE_ECHO: usize = 2;
/// What each stalled upload says it will send, and what it sends at most if it is let.
const UPLOAD_BYTES: usize = 1024 * 1024;
const UPLOAD_SENT_MAX: usize = 256 * 1024;

#[derive(Clone, Copy, PartialEq)]
enum Stall {
    ClientReads,
    BackendAnswers,
    BackendReads,
}

const STALLS: [(Stall, &str); 3] = [
    (Stall::ClientReads, "the client does not read"),
    (Stall::BackendAnswers, "the back end does not answer"),
    (Stall::BackendReads, "the back end does not read"),
];

pub fn run(lab: &mut Lab) -> io::Result<()> {
    let Some(contender) = lab.maitred("maitred", Routes::CatchAll) else { return Ok(()) };
    let folder = lab.folder.join(NAME);
    let bar = Bar::figure(WORST_MS_MAX);
    for (stall, title) in STALLS {
        // A fresh gateway for each, so that what one kind leaves behind does not touch the next.
        let backend = Backend::stalling()?;
        let setup = Lab::setup(&folder, &backend, lab.options.workers);
        let title = format!("worst latency beside {STREAMS} stalled: {title}");
        let Some(proxy) = lab.start_all(NAME, std::slice::from_ref(&contender), &setup, bar).pop() else { continue };
        eprintln!("{title}");
        let row = match beside(&proxy, stall, lab.options.stalled()) {
            Ok(lived) => {
                lab.report.add_raw(&format!("{NAME}/{title}"), json!(lived.latencies));
                lived.row(&title, bar)
            }
            Err(why) => Row::failed(&title, "maitred", Some(bar), &why.to_string()),
        };
        lab.report.add(row);
    }
    Ok(())
}

struct Lived {
    /// Milliseconds of each request of the live stream.
    latencies: Vec<f64>,
    shared: usize,
    connections: usize,
    left: usize,
    /// Bytes that the gateway took of each upload, in the mean.
    taken: usize,
}

impl Lived {
    fn row(&self, title: &str, bar: Bar) -> Row {
        let worst = self.latencies.iter().copied().fold(0.0, f64::max);
        let Lived { latencies, shared, connections, left, taken } = self;
        let mut note = format!(
            "{} requests, all complete, beside {shared} on the same connection and {} on {} others; {left} stalled to the end",
            latencies.len(),
            STREAMS - shared,
            connections - 1,
        );
        if *taken > 0 {
            note.push_str(&format!("; {} KiB of each upload taken", taken / 1024));
        }
        Row { bar: Some(bar), note, ..Row::new(title, "maitred", "ms", &[worst]) }
    }
}

fn beside(proxy: &Proxy, stall: Stall, length: Duration) -> io::Result<Lived> {
    let mut sessions = vec![Session::open(proxy.ports.h2c, stall)?];
    let mut missing = STREAMS;
    loop {
        let session = sessions.last_mut().ok_or_else(|| io::Error::other("no session"))?;
        let room = session.streams_max.saturating_sub(FREE).max(1) as usize;
        let count = room.min(missing);
        session.stall(count, stall)?;
        missing -= count;
        if missing == 0 {
            break;
        }
        sessions.push(Session::open(proxy.ports.h2c, stall)?);
    }
    let stalled: usize = sessions.iter().map(|session| session.stalled.len()).sum();
    if stalled < STREAMS {
        let why = sessions.iter().find_map(|session| session.ended.clone()).unwrap_or_default();
        return Err(io::Error::other(format!("only {stalled} of {STREAMS} streams stalled: {why}")));
    }
    let shared = sessions[0].stalled.len();
    let taken = sessions.iter().flat_map(|session| session.stalled.values()).map(|stream| stream.sent).sum::<usize>() / STREAMS;
    let latencies = live(&mut sessions[0], stall, length)?;
    for session in &mut sessions {
        session.settle(Duration::ZERO)?;
    }
    let left = sessions.iter().map(|session| session.stalled.len()).sum();
    Ok(Lived { latencies, shared, connections: sessions.len(), left, taken })
}

/// One request after another, for as long as asked.
fn live(session: &mut Session, stall: Stall, length: Duration) -> io::Result<Vec<f64>> {
    let (began, mut latencies) = (Instant::now(), Vec::new());
    while began.elapsed() < length {
        let asked = Instant::now();
        let outcome = match stall {
            Stall::ClientReads | Stall::BackendAnswers => session.get("/1k", LIVE_ANSWER),
            Stall::BackendReads => session.post("/echo", LIVE_BODY, LIVE_ECHO),
        };
        outcome.map_err(|error| {
            let after = latencies.len();
            io::Error::other(format!("the live stream failed after {after} requests and {:?}: {error}", began.elapsed()))
        })?;
        latencies.push(asked.elapsed().as_secs_f64() * 1000.0);
        session.settle(PAUSE)?;
    }
    Ok(latencies)
}

/// One HTTP/2 connection in cleartext, read and written while waiting.
struct Session {
    stream: TcpStream,
    input: Vec<u8>,
    next: u32,
    /// How much the gateway takes: on the connection, and on each new stream.
    window: i64,
    window_of_streams: i64,
    streams_max: u32,
    introduced: bool,
    stalled: HashMap<u32, Stalled>,
    live: Option<Live>,
    /// Why a stalled stream ended, if one did.
    ended: Option<String>,
}

#[derive(Default)]
struct Stalled {
    window: i64,
    sent: usize,
    received: usize,
}

struct Live {
    id: u32,
    window: i64,
    received: usize,
    answered: bool,
    over: bool,
}

impl Session {
    fn open(port: u16, stall: Stall) -> io::Result<Session> {
        let mut stream = sys::connect_from(Ipv4Addr::LOCALHOST, sys::loopback(port))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let window = if stall == Stall::ClientReads { CLIENT_WINDOW } else { h2::WINDOW_BEGINS };
        let mut hello = h2::PREFACE.to_vec();
        h2::settings(&mut hello, &[(setting::ENABLE_PUSH, 0), (setting::INITIAL_WINDOW_SIZE, window)]);
        // The connection is never what is full.
        h2::window_update(&mut hello, 0, h2::WINDOW_MAX - h2::WINDOW_BEGINS);
        stream.write_all(&hello)?;
        let begins = i64::from(h2::WINDOW_BEGINS);
        let mut session = Session {
            stream,
            input: Vec::new(),
            next: 1,
            window: begins,
            window_of_streams: begins,
            streams_max: u32::MAX,
            introduced: false,
            stalled: HashMap::new(),
            live: None,
            ended: None,
        };
        let end = Instant::now() + PATIENCE;
        while !session.introduced {
            session.pump(end)?;
            if Instant::now() >= end {
                return Err(io::Error::other("no settings in time"));
            }
        }
        Ok(session)
    }

    /// Opens streams and moves what moves, until nothing does.
    fn stall(&mut self, count: usize, stall: Stall) -> io::Result<()> {
        let request = match stall {
            Stall::ClientReads => h2::get("/64k", false, STALLED_ANSWER).bytes,
            Stall::BackendAnswers => h2::get("/stall", false, 0).bytes,
            Stall::BackendReads => h2::post("/stall", UPLOAD_BYTES),
        };
        let end = if stall == Stall::BackendReads { 0 } else { flag::END_STREAM };
        for _ in 0..count {
            let id = self.begin(&request, end)?;
            self.stalled.insert(id, Stalled { window: self.window_of_streams, ..Stalled::default() });
        }
        let (began, mut moved) = (Instant::now(), Instant::now());
        while moved.elapsed() < QUIET || (self.short_of(stall).is_some() && began.elapsed() < PATIENCE) {
            let arrived = self.pump(Instant::now() + PAUSE)?;
            let sent = stall == Stall::BackendReads && self.upload()?;
            if arrived || sent {
                moved = Instant::now();
            }
        }
        match self.short_of(stall) {
            Some(received) => Err(io::Error::other(format!("a stream stalled at {received} bytes, before its window"))),
            None => Ok(()),
        }
    }

    /// What a stream has received that has not yet filled its window, where that is what must stall it.
    fn short_of(&self, stall: Stall) -> Option<usize> {
        let short = |stream: &&Stalled| stall == Stall::ClientReads && stream.received < CLIENT_WINDOW as usize;
        self.stalled.values().find(short).map(|stream| stream.received)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => io::Error::other("the gateway no longer reads the connection at all"),
            _ => error,
        })
    }

    fn begin(&mut self, block: &[u8], flags: u8) -> io::Result<u32> {
        let (id, mut out) = (self.next, Vec::new());
        self.next += 2;
        h2::frame(&mut out, kind::HEADERS, flag::END_HEADERS | flags, id, block);
        self.write(&out)?;
        Ok(id)
    }

    /// Sends on each stalled upload what its windows allow, a frame at a time; answers whether it sent anything.
    fn upload(&mut self) -> io::Result<bool> {
        let (mut out, body) = (Vec::new(), [b'x'; h2::FRAME_BYTES_MAX]);
        for (&id, stream) in &mut self.stalled {
            let most = self.window.min(stream.window).min(body.len() as i64).min((UPLOAD_SENT_MAX - stream.sent) as i64);
            if most > 0 {
                h2::frame(&mut out, kind::DATA, 0, id, &body[..most as usize]);
                (stream.window, self.window) = (stream.window - most, self.window - most);
                stream.sent += most as usize;
            }
        }
        self.write(&out)?;
        Ok(!out.is_empty())
    }

    fn get(&mut self, path: &str, answer: usize) -> io::Result<()> {
        let id = self.begin(&h2::get(path, false, answer).bytes, flag::END_STREAM)?;
        self.live = Some(Live { id, window: 0, received: 0, answered: false, over: false });
        self.answer(Instant::now() + PATIENCE, answer)
    }

    fn post(&mut self, path: &str, body: usize, answer: usize) -> io::Result<()> {
        let end = Instant::now() + PATIENCE;
        let id = self.begin(&h2::post(path, body), 0)?;
        self.live = Some(Live { id, window: self.window_of_streams, received: 0, answered: false, over: false });
        while self.window.min(self.live.as_ref().map_or(0, |live| live.window)) < body as i64 {
            self.pump(end)?;
            if Instant::now() >= end {
                return Err(io::Error::other(format!("no window for {body} bytes: {} on the connection", self.window)));
            }
        }
        let mut out = Vec::new();
        h2::frame(&mut out, kind::DATA, flag::END_STREAM, id, &vec![b'x'; body]);
        self.window -= body as i64;
        self.write(&out)?;
        self.answer(end, answer)
    }

    fn answer(&mut self, end: Instant, length: usize) -> io::Result<()> {
        loop {
            match &self.live {
                Some(Live { over: true, received, .. }) if *received == length => return Ok(()),
                Some(Live { over: true, received, .. }) => {
                    return Err(io::Error::other(format!("{received} bytes of body instead of {length}")));
                }
                _ if Instant::now() >= end => return Err(io::Error::other("no answer in time")),
                _ => self.pump(end)?,
            };
        }
    }

    /// Follows what happens for so long.
    fn settle(&mut self, time: Duration) -> io::Result<()> {
        let end = Instant::now() + time;
        while self.pump(end)? || Instant::now() < end {}
        Ok(())
    }

    /// Takes what arrives until then, once; answers whether anything did.
    fn pump(&mut self, until: Instant) -> io::Result<bool> {
        // Zero would wait for ever.
        let wait = until.saturating_duration_since(Instant::now()).max(Duration::from_micros(1));
        self.stream.set_read_timeout(Some(wait))?;
        let mut buffer = [0; 64 * 1024];
        let count = match self.stream.read(&mut buffer) {
            Ok(0) => return Err(io::Error::other("the gateway closed the connection")),
            Ok(count) => count,
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => return Ok(false),
            Err(e) => return Err(e),
        };
        let mut input = std::mem::take(&mut self.input);
        input.extend_from_slice(&buffer[..count]);
        let (mut rest, mut out) = (&input[..], Vec::new());
        while let Some((frame, after)) = h2::next(rest).map_err(io::Error::other)? {
            self.frame(frame, &mut out).map_err(io::Error::other)?;
            rest = after;
        }
        self.input = rest.to_vec();
        self.write(&out)?;
        Ok(true)
    }

    fn frame(&mut self, frame: Frame, out: &mut Vec<u8>) -> Result<(), String> {
        match frame.kind {
            kind::SETTINGS => {
                self.settings(&frame);
                h2::acknowledge(out, &frame);
            }
            kind::PING => h2::acknowledge(out, &frame),
            kind::WINDOW_UPDATE => self.widen(frame.stream, i64::from(frame.number()?)),
            kind::GOAWAY => return Err(format!("the gateway ended the connection: {:x?}", frame.payload)),
            kind::RST_STREAM => self.reset(frame.stream, frame.number()?)?,
            kind::HEADERS | kind::DATA => self.part(&frame)?,
            _ => {}
        }
        Ok(())
    }

    fn settings(&mut self, frame: &Frame) {
        self.introduced |= !frame.has(flag::ACK);
        for (name, value) in frame.settings() {
            match name {
                setting::MAX_CONCURRENT_STREAMS => self.streams_max = value,
                setting::INITIAL_WINDOW_SIZE => {
                    let change = i64::from(value) - self.window_of_streams;
                    self.window_of_streams += change;
                    self.stalled.values_mut().for_each(|stream| stream.window += change);
                    self.live.iter_mut().for_each(|live| live.window += change);
                }
                _ => {}
            }
        }
    }

    fn widen(&mut self, stream: u32, by: i64) {
        if stream == 0 {
            self.window += by;
        } else if let Some(live) = self.live.as_mut().filter(|live| live.id == stream) {
            live.window += by;
        } else if let Some(stalled) = self.stalled.get_mut(&stream) {
            stalled.window += by;
        }
    }

    fn reset(&mut self, stream: u32, code: u32) -> Result<(), String> {
        if self.stalled.remove(&stream).is_some() {
            self.ended.get_or_insert(format!("reset with error {code}"));
        } else if self.live.as_ref().is_some_and(|live| live.id == stream && !live.over) {
            return Err(format!("reset with error {code}"));
        }
        Ok(())
    }

    fn part(&mut self, frame: &Frame) -> Result<(), String> {
        let (head, end) = (frame.kind == kind::HEADERS, frame.has(flag::END_STREAM));
        let content = frame.content()?;
        if let Some(live) = self.live.as_mut().filter(|live| live.id == frame.stream) {
            if head && !live.answered {
                h2::is_ok(content)?;
                live.answered = true;
            }
            live.received += if head { 0 } else { content.len() };
            live.over |= end;
        } else if let Some(stalled) = self.stalled.get_mut(&frame.stream) {
            stalled.received += if head { 0 } else { content.len() };
            let refused = if head { h2::is_ok(content).err() } else { None };
            if end || refused.is_some() {
                self.stalled.remove(&frame.stream);
                self.ended.get_or_insert(refused.unwrap_or("answered to the end".into()));
            }
        }
        Ok(())
    }
}
