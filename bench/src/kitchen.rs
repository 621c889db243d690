//! The back end of the rows about overload and failures: any number of endpoints in one thread, each a strict server of a few slots.
//! A request holds a slot for a fixed time, by a timer and without CPU; what finds no slot waits inside, in order and without bound,
//! so that a proxy which lets too much through sees its latency grow. Endpoints can be made to fail in the ways of real ones.
//! Judges nothing: it counts what arrives and keeps the order. remote.rs is the other end of its commands.

pub mod remote;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use crate::http::head_end;
use crate::sys::{self, Epoll, READABLE, Rank};

/// Nobody connects from this address, so that a port of a killed endpoint is taken by no client meanwhile, and none connects to itself.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 1);
/// The body of every answer.
pub const ANSWER_BYTES: usize = 1024;
/// A slow endpoint takes this many times as long.
const SLOWER: u32 = 10;
/// Connections that may wait to be accepted; the kernel's own default is a limit besides.
const BACKLOG: i32 = 4096;
const RECEIVE_BYTES: usize = 16 * 1024;
const COMMAND_BYTES: usize = 4096;
const COMMANDS: u64 = u64::MAX;
/// Tokens from here on are listeners; below are connections.
const LISTENERS: u64 = 1 << 32;

/// What an endpoint does with requests.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Mode {
    Well,
    /// Neither listens nor holds connections.
    Killed,
    /// Accepts and reads, and never answers.
    Hung,
    Slow,
    /// Answers 500 at once.
    Erring,
}

pub const MODES: [(Mode, &str); 5] =
    [(Mode::Well, "well"), (Mode::Killed, "killed"), (Mode::Hung, "hung"), (Mode::Slow, "slow"), (Mode::Erring, "answering-500")];

impl Mode {
    pub fn word(self) -> &'static str {
        MODES.iter().find(|(mode, _)| *mode == self).map_or("", |(_, word)| word)
    }
}

/// How many there are, and what each can do.
#[derive(Clone, Copy)]
pub struct Plan {
    pub endpoints: usize,
    pub slots: usize,
    pub service: Duration,
}

/// Serves until its commands end. Prints its ports first.
pub fn serve(plan: Plan) -> io::Result<()> {
    sys::sharpen_timers();
    sys::be(Rank::Instrument);
    let mut kitchen = Kitchen::open(plan)?;
    let ports: Vec<String> = kitchen.endpoints.iter().map(|endpoint| endpoint.port.to_string()).collect();
    println!("{}", ports.join(" "));
    io::stdout().flush()?;
    kitchen.epoll.add(io::stdin().as_raw_fd(), COMMANDS, READABLE)?;
    let (mut ready, mut buffer) = (Vec::new(), vec![0; RECEIVE_BYTES]);
    let mut commands = Vec::new();
    loop {
        let patience = kitchen.finish(Instant::now());
        kitchen.epoll.wait(patience, &mut ready)?;
        for &(token, _) in &ready {
            match token {
                COMMANDS if !kitchen.obey(&mut commands)? => return Ok(()),
                COMMANDS => {}
                LISTENERS.. => kitchen.accept((token - LISTENERS) as usize)?,
                _ => kitchen.turn(token as usize, &mut buffer),
            }
        }
    }
}

struct Endpoint {
    port: u16,
    listener: Option<TcpListener>,
    mode: Mode,
    busy: usize,
    /// Places of connections with their numbers, so that one that has left is known.
    waiting: VecDeque<(usize, u64)>,
    busy_max: usize,
    waiting_max: usize,
    /// The numbers of requests in the order of their arrival, and when each came, in microseconds since the kitchen opened.
    order: Vec<(u32, u64)>,
}

struct Connection {
    stream: TcpStream,
    endpoint: usize,
    number: u64,
    input: Vec<u8>,
    served: bool,
}

/// A slot that becomes free.
type End = Reverse<(Instant, u64, usize, usize)>;

struct Kitchen {
    plan: Plan,
    epoll: Epoll,
    endpoints: Vec<Endpoint>,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    accepted: u64,
    opened: Instant,
    ends: BinaryHeap<End>,
    answers: [Vec<u8>; 2],
}

impl Kitchen {
    fn open(plan: Plan) -> io::Result<Kitchen> {
        let answers = ["200 OK", "500 Internal Server Error"].map(answer);
        let (epoll, ends, opened) = (Epoll::new()?, BinaryHeap::new(), Instant::now());
        let mut kitchen = Kitchen {
            plan,
            epoll,
            endpoints: Vec::new(),
            connections: Vec::new(),
            free: Vec::new(),
            accepted: 0,
            opened,
            ends,
            answers,
        };
        for at in 0..plan.endpoints {
            kitchen.endpoints.push(Endpoint {
                port: 0,
                listener: None,
                mode: Mode::Well,
                busy: 0,
                waiting: VecDeque::new(),
                busy_max: 0,
                waiting_max: 0,
                order: Vec::new(),
            });
            kitchen.listen(at)?;
        }
        Ok(kitchen)
    }

    /// Again on the port that it had before, if any.
    fn listen(&mut self, at: usize) -> io::Result<()> {
        let endpoint = &mut self.endpoints[at];
        let listener = TcpListener::bind(SocketAddrV4::new(ADDRESS, endpoint.port))?;
        listener.set_nonblocking(true)?;
        sys::listen(listener.as_raw_fd(), BACKLOG)?;
        endpoint.port = listener.local_addr()?.port();
        self.epoll.add(listener.as_raw_fd(), LISTENERS + at as u64, READABLE)?;
        endpoint.listener = Some(listener);
        Ok(())
    }

    fn accept(&mut self, at: usize) -> io::Result<()> {
        // It may have been killed within the same turn.
        while let Some(listener) = &self.endpoints[at].listener {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let place = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            self.accepted += 1;
            self.epoll.add(stream.as_raw_fd(), place as u64, READABLE)?;
            let (number, input) = (self.accepted, Vec::new());
            self.connections[place] = Some(Connection { stream, endpoint: at, number, input, served: false });
        }
        Ok(())
    }

    fn close(&mut self, place: usize) {
        if self.connections[place].take().is_some() {
            self.free.push(place);
        }
    }

    fn turn(&mut self, place: usize, buffer: &mut [u8]) {
        let Some(connection) = &mut self.connections[place] else { return };
        match sys::receive(connection.stream.as_raw_fd(), buffer) {
            Ok(None) => {}
            Ok(Some(0)) | Err(_) => self.close(place),
            Ok(Some(count)) => {
                connection.input.extend_from_slice(&buffer[..count]);
                self.take(place, Instant::now());
            }
        }
    }

    /// Takes the next request of a connection, if it is there and none is under way.
    fn take(&mut self, place: usize, now: Instant) {
        let Some(connection) = self.connections[place].as_mut().filter(|connection| !connection.served) else { return };
        let Some(end) = head_end(&connection.input) else { return };
        let order = number_of(&connection.input[..end]);
        connection.input.drain(..end);
        connection.served = true;
        let (at, number) = (connection.endpoint, connection.number);
        let endpoint = &mut self.endpoints[at];
        let since = (now - self.opened).as_micros() as u64;
        endpoint.order.extend(order.map(|order| (order, since)));
        match endpoint.mode {
            Mode::Killed | Mode::Hung => {}
            Mode::Erring => self.answer(place, number, 1),
            Mode::Well | Mode::Slow if endpoint.busy < self.plan.slots => {
                endpoint.busy += 1;
                endpoint.busy_max = endpoint.busy_max.max(endpoint.busy);
                let end = now + self.service(at);
                self.ends.push(Reverse((end, number, place, at)));
            }
            Mode::Well | Mode::Slow => {
                endpoint.waiting.push_back((place, number));
                endpoint.waiting_max = endpoint.waiting_max.max(endpoint.waiting.len());
            }
        }
    }

    fn service(&self, at: usize) -> Duration {
        match self.endpoints[at].mode {
            Mode::Slow => self.plan.service * SLOWER,
            Mode::Well | Mode::Killed | Mode::Hung | Mode::Erring => self.plan.service,
        }
    }

    /// Answers what is due and gives each slot to the next, as of the time it became free: that this thread wakes late is not to
    /// cost capacity. Says how long nothing will be due. A request whose client has left holds its slot all the same.
    fn finish(&mut self, now: Instant) -> Option<Duration> {
        while let Some(&Reverse((end, number, place, at))) = self.ends.peek() {
            if end > now {
                return Some(end - now);
            }
            self.ends.pop();
            match self.endpoints[at].waiting.pop_front() {
                Some((next, theirs)) => self.ends.push(Reverse((end + self.service(at), theirs, next, at))),
                None => self.endpoints[at].busy -= 1,
            }
            match self.endpoints[at].mode {
                Mode::Hung => {}
                Mode::Well | Mode::Slow | Mode::Erring | Mode::Killed => self.answer(place, number, 0),
            }
        }
        None
    }

    fn answer(&mut self, place: usize, number: u64, which: usize) {
        let Some(connection) = self.connections[place].as_mut().filter(|connection| connection.number == number) else { return };
        let bytes = &self.answers[which];
        match sys::send(connection.stream.as_raw_fd(), bytes) {
            Ok(Some(sent)) if sent == bytes.len() => {
                connection.served = false;
                self.take(place, Instant::now());
            }
            Ok(_) | Err(_) => self.close(place),
        }
    }

    /// Reads commands and answers each with a line. `false` once there are no more to come.
    fn obey(&mut self, commands: &mut Vec<u8>) -> io::Result<bool> {
        let mut buffer = [0; COMMAND_BYTES];
        let count = io::stdin().read(&mut buffer)?;
        commands.extend_from_slice(&buffer[..count]);
        while let Some(end) = commands.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = commands.drain(..=end).collect();
            let reply = self.command(String::from_utf8_lossy(&line).trim())?;
            println!("{reply}");
            io::stdout().flush()?;
        }
        Ok(count > 0)
    }

    fn command(&mut self, line: &str) -> io::Result<String> {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["mode", at, word] => {
                let at = at.parse().ok().filter(|at| *at < self.endpoints.len());
                let mode = MODES.iter().find(|(_, name)| *name == word);
                let (Some(at), Some((mode, _))) = (at, mode) else { return Ok(format!("what is {line}?")) };
                self.change(at, *mode)?;
                Ok("ok".into())
            }
            ["reset"] => {
                for endpoint in &mut self.endpoints {
                    endpoint.order.clear();
                    (endpoint.busy_max, endpoint.waiting_max) = (endpoint.busy, endpoint.waiting.len());
                }
                Ok("ok".into())
            }
            ["counts"] => Ok(joined(self.endpoints.iter().map(|endpoint| endpoint.order.len()))),
            // The most at once, the most waiting, and the requests of the first endpoint, each with its time.
            ["story"] => {
                let Endpoint { busy_max, waiting_max, order, .. } = &self.endpoints[0];
                Ok(joined(
                    [*busy_max, *waiting_max]
                        .into_iter()
                        .chain(order.iter().flat_map(|&(number, since)| [number as usize, since as usize])),
                ))
            }
            _ => Ok(format!("what is {line}?")),
        }
    }

    fn change(&mut self, at: usize, mode: Mode) -> io::Result<()> {
        let before = std::mem::replace(&mut self.endpoints[at].mode, mode);
        if mode == Mode::Killed {
            self.endpoints[at].listener = None;
            let own = |connection: &Option<Connection>| connection.as_ref().is_some_and(|open| open.endpoint == at);
            let places: Vec<usize> = (0..self.connections.len()).filter(|&place| own(&self.connections[place])).collect();
            places.into_iter().for_each(|place| self.close(place));
        } else if before == Mode::Killed {
            self.listen(at)?;
        }
        Ok(())
    }
}

fn joined(numbers: impl Iterator<Item = usize>) -> String {
    let mut text = String::new();
    numbers.for_each(|number| _ = write!(text, "{number} "));
    text.truncate(text.trim_end().len());
    text
}

fn answer(status: &str) -> Vec<u8> {
    let mut bytes =
        format!("HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {ANSWER_BYTES}\r\n\r\n").into_bytes();
    bytes.resize(bytes.len() + ANSWER_BYTES, b'x');
    bytes
}

/// The number in `GET /word/number`; what has none (a probe, a check) is served and not counted.
fn number_of(head: &[u8]) -> Option<u32> {
    let path = head.split(|&byte| byte == b' ').nth(1)?;
    let number = path.split(|&byte| byte == b'/').nth(2)?;
    let digits = number.split(|byte| !byte.is_ascii_digit()).next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_known_by_the_number_in_its_path() {
        let of = |path: &str| number_of(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
        assert_eq!(of("/low/17"), Some(17));
        assert_eq!(of("/maglev/18?k=abc"), Some(18));
        assert_eq!(of("/low/ready"), None);
        assert_eq!(of("/"), None);
    }

    #[test]
    fn every_mode_has_a_word_of_its_own() {
        for (mode, word) in MODES {
            assert_eq!(mode.word(), word);
        }
    }
}
