//! Those who show wrong credentials: connections of HTTP/1.1 on one thread, each asking again as soon as it was told, from one address or from
//! as many as it takes to stay below what an address may get wrong. Counts what they were told, and judges nothing.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::offered::{BROKEN, Reply, reply};
use crate::sys::{self, Epoll, READABLE};

const NAP: Duration = Duration::from_millis(50);
const RECEIVE_BYTES: usize = 16 * 1024;
/// Guesses of one connection before it comes from the next address: fewer than an address may get wrong at once.
const GUESSES_OF_MANY: u64 = 10;
/// Addresses of the many, from 127.0.2.1 on: as many as a flood has in a second or two, so that an address has its peace again when its turn comes.
const ADDRESSES: u64 = 8_000;
/// Last bytes that an address may have: neither 0 nor 255.
const HOSTS: u64 = 250;
/// The one address: nobody else's here.
const ONE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 77);

#[derive(Clone, Copy, PartialEq)]
pub enum From {
    OneAddress,
    ManyAddresses,
}

impl From {
    pub fn words(self) -> &'static str {
        match self {
            From::OneAddress => "from one address",
            From::ManyAddresses => "from many addresses",
        }
    }

    fn address(self, number: u64) -> Ipv4Addr {
        match self {
            From::OneAddress => ONE,
            From::ManyAddresses => {
                let place = number % ADDRESSES;
                Ipv4Addr::new(127, 0, 2 + (place / HOSTS) as u8, 1 + (place % HOSTS) as u8)
            }
        }
    }

    fn guesses_of_a_connection(self) -> u64 {
        match self {
            From::OneAddress => u64::MAX,
            From::ManyAddresses => GUESSES_OF_MANY,
        }
    }
}

pub struct Flood<'a> {
    pub port: u16,
    pub from: From,
    pub connections: usize,
    /// The whole request of this number.
    pub guess: &'a (dyn Fn(u64) -> Vec<u8> + Sync),
}

/// What they were told.
#[derive(Default)]
pub struct Told {
    /// By status; `BROKEN` where the connection closed before the answer was whole.
    pub statuses: BTreeMap<u16, u64>,
    pub connections: u64,
    pub seconds: f64,
}

impl Told {
    pub fn of(&self, status: u16) -> u64 {
        self.statuses.get(&status).copied().unwrap_or(0)
    }

    pub fn all(&self) -> u64 {
        self.statuses.values().sum()
    }
}

struct Guesser {
    stream: TcpStream,
    input: Vec<u8>,
    guesses: u64,
    busy: bool,
}

struct Run<'a> {
    flood: &'a Flood<'a>,
    epoll: Epoll,
    guessers: Vec<Guesser>,
    asked: u64,
    told: Told,
}

/// Guesses until it is over.
pub fn run(flood: &Flood, over: &AtomicBool) -> io::Result<Told> {
    let (epoll, guessers) = (Epoll::new()?, Vec::new());
    let mut run = Run { flood, epoll, guessers, asked: 0, told: Told::default() };
    for place in 0..flood.connections {
        let guesser = run.connect(place)?;
        run.guessers.push(guesser);
    }
    let began = Instant::now();
    let (mut ready, mut buffer) = (Vec::new(), vec![0; RECEIVE_BYTES]);
    while !over.load(Ordering::Relaxed) {
        run.ask();
        run.epoll.wait(Some(NAP), &mut ready)?;
        for &(place, _) in &ready {
            run.turn(place as usize, &mut buffer)?;
        }
    }
    run.told.seconds = began.elapsed().as_secs_f64();
    Ok(run.told)
}

impl Run<'_> {
    fn connect(&mut self, place: usize) -> io::Result<Guesser> {
        let source = self.flood.from.address(self.told.connections);
        let stream = sys::connect_from(source, sys::loopback(self.flood.port))?;
        stream.set_nonblocking(true)?;
        self.epoll.add(stream.as_raw_fd(), place as u64, READABLE)?;
        self.told.connections += 1;
        Ok(Guesser { stream, input: Vec::new(), guesses: 0, busy: false })
    }

    /// Has all ask who were told.
    fn ask(&mut self) {
        for guesser in self.guessers.iter_mut().filter(|guesser| !guesser.busy) {
            // What the socket does not take shows up as a connection that closes.
            let _ = sys::send(guesser.stream.as_raw_fd(), &(self.flood.guess)(self.asked));
            self.asked += 1;
            guesser.busy = true;
        }
    }

    fn turn(&mut self, place: usize, buffer: &mut [u8]) -> io::Result<()> {
        let most = self.flood.from.guesses_of_a_connection();
        let guesser = &mut self.guessers[place];
        let count = match sys::receive(guesser.stream.as_raw_fd(), buffer) {
            Ok(None) => return Ok(()),
            Ok(Some(count)) => count,
            Err(_) => 0,
        };
        guesser.input.extend_from_slice(&buffer[..count]);
        let is_over = match reply(&guesser.input, count == 0) {
            Reply::More if count > 0 => return Ok(()),
            Reply::More | Reply::Unreadable => {
                if guesser.busy {
                    *self.told.statuses.entry(BROKEN).or_default() += 1;
                }
                true
            }
            Reply::Whole { status, close } => {
                *self.told.statuses.entry(status).or_default() += 1;
                guesser.input.clear();
                guesser.busy = false;
                guesser.guesses += 1;
                close || count == 0 || guesser.guesses >= most
            }
        };
        if is_over {
            self.guessers[place] = self.connect(place)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_many_have_addresses_of_their_own_and_come_round() {
        let address = |number| From::ManyAddresses.address(number);
        let mut all: Vec<Ipv4Addr> = (0..ADDRESSES).map(address).collect();
        assert!(all.iter().all(|address| address.octets()[1] == 0 && address.octets()[2] >= 2));
        assert_eq!(address(ADDRESSES), all[0]);
        all.sort();
        all.dedup();
        assert_eq!(all.len() as u64, ADDRESSES);
        assert!((0..9).all(|number| From::OneAddress.address(number) == ONE));
    }
}
