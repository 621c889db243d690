//! The back end behind every proxy: one thread, one epoll, answers made beforehand.
//! Not a web server: it serves `GET /64k`, `POST` (any path), `/ws` and 1 KB for every other path, to proxies that we
//! configured ourselves. `POST /introspect` is told that no token is good, as an authorization server says it. What it cannot read closes the connection, which the load generator then counts as an error.
//! A stalling one, started apart from the others, never answers `GET /stall` and never reads on after the head of `POST /stall`.

use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use crate::http::{head_end, headers};
use crate::sys::{self, Epoll, READABLE, WRITABLE};
use crate::websocket;

const LISTENER: u64 = u64::MAX;
const RECEIVE_BYTES: usize = 64 * 1024;
/// Bytes waiting for the rest of a head or chunk; a proxy that sends more than this is not one of ours.
const INPUT_BYTES_MAX: usize = 1024 * 1024;

/// What a stalling back end lets the kernel keep for it, and the longest segments it takes, in bytes: with the sizes of loopback
/// megabytes would be under way before anybody noticed that nobody reads.
const NARROW_BUFFER: i32 = 4096;
const NARROW_SEGMENT: i32 = 1024;

/// Serves until it is killed. Prints its port first, so that nobody has to guess when it is ready.
pub fn serve(stalling: bool) -> io::Result<()> {
    let listener = TcpListener::bind(sys::loopback(0))?;
    listener.set_nonblocking(true)?;
    if stalling {
        sys::narrow(listener.as_raw_fd(), NARROW_BUFFER, NARROW_SEGMENT)?;
    }
    println!("{}", listener.local_addr()?.port());
    io::stdout().flush()?;
    let answers = Answers::new();
    let mut server = Server { epoll: Epoll::new()?, connections: Vec::new(), free: Vec::new(), answers, stalling };
    server.epoll.add(listener.as_raw_fd(), LISTENER, READABLE)?;
    let (mut ready, mut buffer) = (Vec::new(), vec![0; RECEIVE_BYTES]);
    loop {
        server.epoll.wait(None, &mut ready)?;
        for &(token, _) in &ready {
            match token {
                LISTENER => server.accept(&listener)?,
                _ => server.turn(token as usize, &mut buffer),
            }
        }
    }
}

struct Answers {
    small: Vec<u8>,
    large: Vec<u8>,
    echo: Vec<u8>,
    inactive: Vec<u8>,
}

impl Answers {
    fn new() -> Answers {
        let inactive = format!("{HEAD}Content-Length: {}\r\n\r\n{INACTIVE}", INACTIVE.len()).into_bytes();
        Answers { small: answer(1024), large: answer(64 * 1024), echo: answer(2), inactive }
    }
}

/// RFC 7662 §2.2.
const INACTIVE: &str = r#"{"active":false}"#;
const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";

fn answer(length: usize) -> Vec<u8> {
    let mut bytes = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\
         Date: Mon, 02 Mar 2026 12:00:00 GMT\r\nServer: bench\r\nCache-Control: no-store\r\n\r\n"
    )
    .into_bytes();
    bytes.resize(bytes.len() + length, b'x');
    bytes
}

struct Server {
    epoll: Epoll,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    answers: Answers,
    stalling: bool,
}

impl Server {
    fn accept(&mut self, listener: &TcpListener) -> io::Result<()> {
        loop {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(e) => return Err(e),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let place = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            self.epoll.add(stream.as_raw_fd(), place as u64, READABLE)?;
            self.connections[place] = Some(Connection::new(stream, self.stalling));
        }
    }

    /// Closing is dropping: the kernel forgets the descriptor in its epoll set by itself.
    fn turn(&mut self, place: usize, buffer: &mut [u8]) {
        let Some(connection) = &mut self.connections[place] else { return };
        let stays = connection.turn(&self.answers, buffer).and_then(|open| {
            let interest = connection.interest();
            if open && interest != connection.registered {
                connection.registered = interest;
                self.epoll.change(connection.stream.as_raw_fd(), place as u64, interest)?;
            }
            Ok(open)
        });
        if !matches!(stays, Ok(true)) {
            self.connections[place] = None;
            self.free.push(place);
        }
    }
}

/// What the bytes on a connection mean next.
enum Reading {
    Head,
    Body {
        left: usize,
    },
    Chunk,
    ChunkData {
        left: usize,
        last: bool,
    },
    Frames,
    /// Never again.
    Nothing,
}

struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
    sent: usize,
    reading: Reading,
    registered: u32,
    stalling: bool,
    /// The body that is read is a question about a token.
    introspects: bool,
}

impl Connection {
    fn new(stream: TcpStream, stalling: bool) -> Connection {
        let (input, output) = (Vec::new(), Vec::new());
        Connection { stream, input, output, sent: 0, reading: Reading::Head, registered: READABLE, stalling, introspects: false }
    }

    /// A peer that does not read its answers is not read from either.
    fn interest(&self) -> u32 {
        match self.reading {
            Reading::Nothing => 0,
            _ if self.output.is_empty() => READABLE,
            _ => WRITABLE,
        }
    }

    /// `Ok(false)` when the peer has closed.
    fn turn(&mut self, answers: &Answers, buffer: &mut [u8]) -> io::Result<bool> {
        if let Reading::Nothing = self.reading {
            // Woken without having asked: the connection is broken.
            return Ok(false);
        }
        self.flush()?;
        if !self.output.is_empty() {
            return Ok(true);
        }
        let Some(count) = sys::receive(self.stream.as_raw_fd(), buffer)? else { return Ok(true) };
        if count == 0 {
            return Ok(false);
        }
        if self.input.is_empty() {
            let used = self.consume(&buffer[..count], answers)?;
            self.input.extend_from_slice(&buffer[used..count]);
        } else {
            let mut input = std::mem::take(&mut self.input);
            input.extend_from_slice(&buffer[..count]);
            let used = self.consume(&input, answers)?;
            input.drain(..used);
            self.input = input;
        }
        if self.input.len() > INPUT_BYTES_MAX { Err(unreadable()) } else { Ok(true) }
    }

    /// Works through whole heads, bodies and frames; answers how many bytes were used.
    fn consume(&mut self, bytes: &[u8], answers: &Answers) -> io::Result<usize> {
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            let step = match self.reading {
                Reading::Head => self.head(rest, answers)?,
                Reading::Body { left } => self.body(left, rest, answers)?,
                Reading::Chunk => self.chunk_line(rest)?,
                Reading::ChunkData { left, last } => self.chunk_data(left, last, rest, answers)?,
                Reading::Frames => self.frame(rest)?,
                Reading::Nothing => return Ok(bytes.len()),
            };
            match step {
                Some(step) => used += step,
                None => return Ok(used),
            }
        }
    }

    fn head(&mut self, bytes: &[u8], answers: &Answers) -> io::Result<Option<usize>> {
        let Some(end) = head_end(bytes) else { return Ok(None) };
        let head = &bytes[..end];
        self.introspects = head.starts_with(b"POST /introspect ");
        let (mut length, mut chunked) = (0, false);
        for (name, value) in headers(head) {
            if name.eq_ignore_ascii_case(b"content-length") {
                length = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok()).ok_or_else(unreadable)?;
            } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
                chunked = true;
            }
        }
        if self.stalling && head.starts_with(b"POST /stall ") {
            self.reading = Reading::Nothing;
        } else if self.stalling && head.starts_with(b"GET /stall ") {
            self.reading = Reading::Head;
        } else if head.starts_with(b"GET /ws") {
            self.reading = Reading::Frames;
            self.answer(websocket::ACCEPTED)?;
        } else if head.starts_with(b"GET /64k ") {
            self.answer(&answers.large)?;
        } else if head.starts_with(b"GET ") {
            self.answer(&answers.small)?;
        } else if chunked {
            self.reading = Reading::Chunk;
        } else {
            self.reading = Reading::Body { left: length };
        }
        Ok(Some(end))
    }

    fn body(&mut self, left: usize, bytes: &[u8], answers: &Answers) -> io::Result<Option<usize>> {
        let step = left.min(bytes.len());
        if step < left {
            self.reading = Reading::Body { left: left - step };
            return Ok((step > 0).then_some(step));
        }
        self.reading = Reading::Head;
        self.answer(if self.introspects { &answers.inactive } else { &answers.echo })?;
        Ok(Some(step))
    }

    fn chunk_line(&mut self, bytes: &[u8]) -> io::Result<Option<usize>> {
        let Some(at) = bytes.windows(2).position(|w| w == b"\r\n") else { return Ok(None) };
        let size = std::str::from_utf8(&bytes[..at]).ok().and_then(|text| usize::from_str_radix(text.trim(), 16).ok());
        let size = size.ok_or_else(unreadable)?;
        // The line end after the data (or, for the last chunk, after absent trailers) is counted with it.
        self.reading = Reading::ChunkData { left: size + 2, last: size == 0 };
        Ok(Some(at + 2))
    }

    fn chunk_data(&mut self, left: usize, last: bool, bytes: &[u8], answers: &Answers) -> io::Result<Option<usize>> {
        let step = left.min(bytes.len());
        if step < left {
            self.reading = Reading::ChunkData { left: left - step, last };
            return Ok((step > 0).then_some(step));
        }
        self.reading = if last { Reading::Head } else { Reading::Chunk };
        if last {
            self.answer(&answers.echo)?;
        }
        Ok(Some(step))
    }

    fn frame(&mut self, bytes: &[u8]) -> io::Result<Option<usize>> {
        match websocket::unmask(bytes) {
            Some((used, echo)) => self.answer(&echo).map(|()| Some(used)),
            None => Ok(None),
        }
    }

    fn answer(&mut self, bytes: &[u8]) -> io::Result<()> {
        let sent = match self.output.is_empty() {
            true => sys::send(self.stream.as_raw_fd(), bytes)?.unwrap_or(0),
            false => 0,
        };
        self.output.extend_from_slice(&bytes[sent..]);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.sent < self.output.len() {
            match sys::send(self.stream.as_raw_fd(), &self.output[self.sent..])? {
                Some(count) => self.sent += count,
                None => return Ok(()),
            }
        }
        self.output.clear();
        self.sent = 0;
        Ok(())
    }
}

fn unreadable() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "unreadable request")
}
