//! The load of the rows about overload and failures: an open loop that keeps to its schedule whatever becomes of the answers. Each
//! request goes out when it is due, on a connection that is idle or else on a new one, so that nothing waits in the client; and
//! its latency counts from the time it was due. Every answer is told as it was, with its status: what is good is judged elsewhere.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use crate::http::{head_end, headers};
use crate::kitchen::ANSWER_BYTES;
use crate::sys::{self, Epoll, READABLE, Rank};

/// When a client gives up. Longer than whatever a bar allows, and short enough that a proxy which holds everything back is
/// not given more than this times the rate in connections.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// More at once are not opened: what would need one counts as given up.
const CONNECTIONS_MAX: usize = 8192;
/// From asking for a run to its first request.
const LEAD: Duration = Duration::from_millis(50);
const NAP: Duration = Duration::from_millis(50);
const RECEIVE_BYTES: usize = 64 * 1024;
/// Addresses of loopback that connections come from, one after another.
const SOURCES: u64 = 50;
/// An answer that is longer is none of ours.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// What requests go out on.
#[derive(Clone, Copy)]
pub enum Connections {
    /// On the one that was used last, if it is idle.
    AsNeeded,
    /// On so many to each target, the one that is idle for longest first; on more only if none of those is.
    InTurn(usize),
}

pub struct Offer<'a> {
    pub per_second: f64,
    pub length: Duration,
    /// Whom the request of this number goes to, and its path.
    pub request: &'a (dyn Fn(u64) -> (SocketAddrV4, String) + Sync),
    /// More header lines of the request of this number, each ended.
    pub lines: &'a (dyn Fn(u64) -> String + Sync),
    pub connections: Connections,
}

impl<'a> Offer<'a> {
    pub fn new(per_second: f64, length: Duration, request: &'a (dyn Fn(u64) -> (SocketAddrV4, String) + Sync)) -> Offer<'a> {
        Offer { per_second, length, request, lines: &|_| String::new(), connections: Connections::AsNeeded }
    }

    fn count(&self) -> u64 {
        (self.per_second * self.length.as_secs_f64()).round() as u64
    }
}

/// What became of one request. Times in nanoseconds since the run began.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub due: u64,
    pub sent: u64,
    pub done: u64,
    pub status: u16,
}

/// Instead of a status: no answer in the client's patience, or a connection that closed before it was whole.
pub const GAVE_UP: u16 = 0;
pub const BROKEN: u16 = 1;

impl Sample {
    pub fn good(&self) -> bool {
        self.status == 200
    }

    pub fn latency_ms(&self) -> f64 {
        self.done.saturating_sub(self.due) as f64 / 1e6
    }

    /// From when it went out, whenever it was due: what the generator was late is not the proxy's.
    pub fn service_ms(&self) -> f64 {
        self.done.saturating_sub(self.sent) as f64 / 1e6
    }
}

#[derive(Default)]
pub struct Told {
    pub samples: Vec<Sample>,
    pub connections_max: usize,
}

impl Told {
    /// By how much the generator itself sent too late, at worst: nothing is measured finer than this.
    pub fn late_ms(&self) -> f64 {
        self.samples.iter().map(|sample| sample.sent.saturating_sub(sample.due)).max().unwrap_or(0) as f64 / 1e6
    }
}

/// Runs on a thread of its own; meanwhile the caller does whatever belongs to certain times of the run.
pub fn beside<T>(offer: &Offer, acts: impl FnOnce(Instant) -> io::Result<T>) -> io::Result<(Told, T)> {
    let began = Instant::now() + LEAD;
    thread::scope(|scope| {
        let load = scope.spawn(|| {
            sys::be(Rank::Instrument);
            Run::new(offer, began)?.drive()
        });
        let acted = acts(began);
        let told = load.join().map_err(|_| io::Error::other("the load generator panicked"))??;
        Ok((told, acted?))
    })
}

pub fn sleep_until(time: Instant) {
    thread::sleep(time.saturating_duration_since(Instant::now()));
}

struct Connection {
    stream: TcpStream,
    target: SocketAddrV4,
    input: Vec<u8>,
    /// The request under way.
    request: Option<usize>,
}

struct Target {
    address: SocketAddrV4,
    idle: VecDeque<usize>,
    open: usize,
}

struct Run<'a> {
    offer: &'a Offer<'a>,
    began: Instant,
    epoll: Epoll,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    targets: Vec<Target>,
    opened: u64,
    open: usize,
    /// Requests with the places they are under way on, oldest first. Those done since are still listed.
    owed: VecDeque<(usize, usize)>,
    told: Told,
}

impl<'a> Run<'a> {
    fn new(offer: &'a Offer<'a>, began: Instant) -> io::Result<Run<'a>> {
        let mut told = Told::default();
        told.samples.reserve(offer.count() as usize);
        let (connections, free, targets) = (Vec::new(), Vec::new(), Vec::new());
        let (opened, open, owed) = (0, 0, VecDeque::new());
        Ok(Run { offer, began, epoll: Epoll::new()?, connections, free, targets, opened, open, owed, told })
    }

    fn drive(mut self) -> io::Result<Told> {
        let (mut ready, mut buffer) = (Vec::new(), vec![0; RECEIVE_BYTES]);
        let count = self.offer.count();
        loop {
            let now = Instant::now();
            while (self.told.samples.len() as u64) < count && self.due(self.told.samples.len()) <= now {
                self.send()?;
            }
            self.give_up(now);
            let all_sent = self.told.samples.len() as u64 == count;
            if all_sent && self.owed.is_empty() {
                return Ok(self.told);
            }
            let next = if all_sent { NAP } else { self.due(self.told.samples.len()).saturating_duration_since(now).min(NAP) };
            self.epoll.wait(Some(next), &mut ready)?;
            for &(place, _) in &ready {
                self.turn(place as usize, &mut buffer);
            }
        }
    }

    fn due(&self, number: usize) -> Instant {
        self.began + Duration::from_secs_f64(number as f64 / self.offer.per_second)
    }

    fn nanoseconds(&self, time: Instant) -> u64 {
        time.saturating_duration_since(self.began).as_nanos() as u64
    }

    fn send(&mut self) -> io::Result<()> {
        let number = self.told.samples.len();
        let (target, path) = (self.offer.request)(number as u64);
        let due = self.nanoseconds(self.due(number));
        self.told.samples.push(Sample { due, sent: due, done: due, status: GAVE_UP });
        let lines = (self.offer.lines)(number as u64);
        let text = format!("GET {path} HTTP/1.1\r\nHost: bench.test\r\nUser-Agent: maitred-bench\r\nAccept: */*\r\n{lines}\r\n");
        let Some(place) = self.connection(target)? else { return Ok(()) };
        let sent = self.nanoseconds(Instant::now());
        (self.told.samples[number].sent, self.told.samples[number].done) = (sent, sent);
        self.owed.push_back((number, place));
        let Some(connection) = &mut self.connections[place] else { return Ok(()) };
        connection.request = Some(number);
        if !matches!(sys::send(connection.stream.as_raw_fd(), text.as_bytes()), Ok(Some(count)) if count == text.len()) {
            self.lost(place);
        }
        Ok(())
    }

    fn target(&mut self, address: SocketAddrV4) -> &mut Target {
        let known = self.targets.iter().position(|target| target.address == address);
        let at = known.unwrap_or_else(|| {
            self.targets.push(Target { address, idle: VecDeque::new(), open: 0 });
            self.targets.len() - 1
        });
        &mut self.targets[at]
    }

    /// One that is idle, or a new one. `None` where there are too many already.
    fn connection(&mut self, target: SocketAddrV4) -> io::Result<Option<usize>> {
        let connections = self.offer.connections;
        let known = self.target(target);
        let idle = match connections {
            Connections::AsNeeded => known.idle.pop_back(),
            Connections::InTurn(count) if known.open < count => None,
            Connections::InTurn(_) => known.idle.pop_front(),
        };
        if idle.is_some() {
            return Ok(idle);
        }
        if self.open >= CONNECTIONS_MAX {
            return Ok(None);
        }
        let source = Ipv4Addr::new(127, 0, 0, 1 + (self.opened % SOURCES) as u8);
        let stream = sys::connect_from(source, target)?;
        stream.set_nonblocking(true)?;
        let place = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        self.epoll.add(stream.as_raw_fd(), place as u64, READABLE)?;
        self.connections[place] = Some(Connection { stream, target, input: Vec::new(), request: None });
        (self.opened, self.open) = (self.opened + 1, self.open + 1);
        self.target(target).open += 1;
        self.told.connections_max = self.told.connections_max.max(self.open);
        Ok(Some(place))
    }

    fn turn(&mut self, place: usize, buffer: &mut [u8]) {
        let Some(connection) = &mut self.connections[place] else { return };
        let count = match sys::receive(connection.stream.as_raw_fd(), buffer) {
            Ok(None) => return,
            Ok(Some(count)) => count,
            Err(_) => return self.lost(place),
        };
        connection.input.extend_from_slice(&buffer[..count]);
        let Some(number) = connection.request else { return self.lost(place) };
        match reply(&connection.input, count == 0) {
            Reply::More if count > 0 => {}
            Reply::More | Reply::Unreadable => self.lost(place),
            Reply::Whole { status, close } => {
                connection.input.clear();
                connection.request = None;
                let target = connection.target;
                self.done(number, status);
                match close || count == 0 {
                    true => self.close(place),
                    false => self.target(target).idle.push_back(place),
                }
            }
        }
    }

    fn done(&mut self, number: usize, status: u16) {
        let now = self.nanoseconds(Instant::now());
        let sample = &mut self.told.samples[number];
        (sample.done, sample.status) = (now, status);
    }

    fn lost(&mut self, place: usize) {
        let request = self.connections[place].as_mut().and_then(|connection| connection.request.take());
        if let Some(number) = request {
            self.done(number, BROKEN);
        }
        self.close(place);
    }

    /// Whose connection it was may have it no more: an idle one that closes leaves the idle ones.
    fn close(&mut self, place: usize) {
        let Some(connection) = self.connections[place].take() else { return };
        let target = self.target(connection.target);
        target.idle.retain(|&other| other != place);
        target.open -= 1;
        self.free.push(place);
        self.open -= 1;
    }

    fn give_up(&mut self, now: Instant) {
        while let Some(&(number, place)) = self.owed.front() {
            let under_way = self.connections[place].as_ref().is_some_and(|connection| connection.request == Some(number));
            if under_way && now < self.due(number) + PATIENCE {
                return;
            }
            self.owed.pop_front();
            if under_way {
                self.done(number, GAVE_UP);
                self.close(place);
            }
        }
    }
}

#[derive(Debug, PartialEq)]
pub enum Reply {
    More,
    Whole { status: u16, close: bool },
    Unreadable,
}

/// Reads an answer of any status. A good one must have the body that the back end sends.
pub fn reply(bytes: &[u8], ended: bool) -> Reply {
    if bytes.len() > ANSWER_BYTES_MAX {
        return Reply::Unreadable;
    }
    let Some(end) = head_end(bytes) else { return Reply::More };
    let (head, body) = bytes.split_at(end);
    let status = head.get(9..12).and_then(|text| std::str::from_utf8(text).ok()?.parse::<u16>().ok());
    let (mut length, mut close) = (None, false);
    for (name, value) in headers(head) {
        if name.eq_ignore_ascii_case(b"content-length") {
            length = std::str::from_utf8(value).ok().and_then(|value| value.parse::<usize>().ok());
        } else if name.eq_ignore_ascii_case(b"connection") {
            close = value.eq_ignore_ascii_case(b"close");
        }
    }
    match (status, length) {
        (Some(200), Some(length)) if length != ANSWER_BYTES => Reply::Unreadable,
        (Some(status), Some(length)) if body.len() == length => Reply::Whole { status, close },
        (Some(_), Some(length)) if body.len() < length => Reply::More,
        (Some(status), None) if ended && status != 200 => Reply::Whole { status, close: true },
        (Some(status), None) if status != 200 => Reply::More,
        (None | Some(_), None | Some(_)) => Reply::Unreadable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_whatever_its_status() {
        let whole = |status, close| Reply::Whole { status, close };
        let good = [&b"HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n\r\n"[..], &[b'x'; ANSWER_BYTES]].concat();
        assert_eq!(reply(&good, false), whole(200, false));
        assert_eq!(reply(&good[..good.len() - 1], false), Reply::More);
        assert_eq!(reply(b"HTTP/1.1 503 Busy\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno", false), whole(503, true));
        assert_eq!(reply(b"HTTP/1.1 502 Bad\r\n\r\nno", true), whole(502, true));
        assert_eq!(reply(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno", false), Reply::Unreadable);
        assert_eq!(reply(b"HTTP/1.1 503 Busy\r\nContent-Le", false), Reply::More);
    }
}
