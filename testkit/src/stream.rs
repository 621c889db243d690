//! One connection of a test's: TCP or a unix socket, plain or TLS. One thread may read while others write, since HTTP/2 does both
//! at once. Knows no protocol above TLS.

use crate::tls::Handshake;
use crate::wait::PATIENCE;
use rustls::Connection;
use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What one TLS record holds at most.
const RECORD: usize = 16 * 1024;

pub struct Stream {
    socket: Socket,
    tls: Option<Tls>,
    /// It ends without a goodbye.
    abrupt: AtomicBool,
}

struct Tls {
    connection: Mutex<Connection>,
    /// Decrypted and not read, and how it ended: rustls keeps no more than a record.
    plain: Mutex<(VecDeque<u8>, Option<End>)>,
    /// Held while records go out, so that they go in order; never while bytes are awaited.
    writing: Mutex<()>,
    handshake: Handshake,
}

/// How a TLS connection's bytes ended.
#[derive(Clone, Copy)]
enum End {
    Goodbye,
    Cut,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stream {
    /// A connected socket becomes one of a test's: it never waits longer than `PATIENCE`.
    pub fn plain(socket: impl Into<Socket>) -> io::Result<Stream> {
        let socket = socket.into();
        if socket.local_addr()?.as_socket().is_some() {
            socket.set_tcp_nodelay(true)?;
        }
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Stream { socket, tls: None, abrupt: AtomicBool::new(false) })
    }

    pub fn connect(address: SocketAddr) -> io::Result<Stream> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.connect_timeout(&address.into(), PATIENCE)?;
        Stream::plain(socket)
    }

    pub fn connect_unix(path: &Path) -> io::Result<Stream> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.connect(&SockAddr::unix(path)?)?;
        Stream::plain(socket)
    }

    /// Shakes hands over what is plain so far.
    pub(crate) fn secure(self, connection: impl Into<Connection>) -> io::Result<Stream> {
        let mut connection = connection.into();
        while connection.is_handshaking() {
            if let Err(error) = connection.complete_io(&mut &self.socket) {
                // The alert says why.
                let _ = connection.write_tls(&mut &self.socket);
                return Err(error);
            }
        }
        // Session tickets, and the client's last flight.
        while connection.wants_write() {
            connection.write_tls(&mut &self.socket)?;
        }
        let handshake = Handshake::of(&connection);
        let socket = self.socket.try_clone()?;
        self.abrupt.store(true, Ordering::SeqCst);
        let tls = Tls { connection: Mutex::new(connection), plain: Mutex::default(), writing: Mutex::new(()), handshake };
        Ok(Stream { socket, tls: Some(tls), abrupt: AtomicBool::new(false) })
    }

    /// What was agreed; `None` for a plain connection.
    pub fn handshake(&self) -> Option<&Handshake> {
        self.tls.as_ref().map(|tls| &tls.handshake)
    }

    pub fn local(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok().and_then(|address| address.as_socket())
    }

    pub fn set_read_timeout(&self, time: Duration) {
        self.socket.set_read_timeout(Some(time)).expect("a socket that works");
    }

    /// How long it waits, for reading and for writing.
    pub(crate) fn set_timeouts(&self, time: Duration) {
        self.set_read_timeout(time);
        self.socket.set_write_timeout(Some(time)).expect("a socket that works");
    }

    /// 0 at the end; the end of a TLS connection without its goodbye is `UnexpectedEof`. One thread at a time.
    pub fn read(&self, out: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &self.tls else { return (&self.socket).read(out) };
        loop {
            tls.decrypt(&mut lock(&tls.connection));
            let mut plain = lock(&tls.plain);
            if !plain.0.is_empty() {
                return plain.0.read(out);
            }
            match plain.1 {
                Some(End::Goodbye) => return Ok(0),
                Some(End::Cut) => return Err(ErrorKind::UnexpectedEof.into()),
                None => {}
            }
            drop(plain);
            let mut bytes = [0; RECORD];
            let count = (&self.socket).read(&mut bytes)?;
            let mut connection = lock(&tls.connection);
            let mut rest = &bytes[..count];
            loop {
                connection.read_tls(&mut rest)?;
                connection.process_new_packets().map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
                tls.decrypt(&mut connection);
                if rest.is_empty() {
                    break;
                }
            }
            let answers = connection.wants_write();
            drop(connection);
            if answers {
                self.write_records(tls, &[])?;
            }
        }
    }

    pub fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        match &self.tls {
            None => (&self.socket).write_all(bytes),
            Some(tls) => bytes.chunks(RECORD).try_for_each(|chunk| self.write_records(tls, chunk)),
        }
    }

    fn write_records(&self, tls: &Tls, bytes: &[u8]) -> io::Result<()> {
        let _turn = lock(&tls.writing);
        let mut records = Vec::new();
        let mut connection = lock(&tls.connection);
        connection.writer().write_all(bytes)?;
        while connection.wants_write() {
            connection.write_tls(&mut records)?;
        }
        drop(connection);
        (&self.socket).write_all(&records)
    }

    /// New keys for both directions, as TLS 1.3 has it: we ask the peer for its own.
    pub fn renew_keys(&self) -> io::Result<()> {
        let tls = self.tls.as_ref().expect("keys are TLS's");
        lock(&tls.connection).refresh_traffic_keys().map_err(io::Error::other)?;
        self.write_records(tls, &[])
    }

    /// As much as goes in without waiting; how many bytes did. For plain connections only: half a record cannot be taken back.
    pub fn write_what_fits(&self, bytes: &[u8]) -> usize {
        assert!(self.tls.is_none(), "what fits is not known over TLS");
        self.socket.set_nonblocking(true).expect("a socket that works");
        let mut sent = 0;
        while sent < bytes.len() {
            match (&self.socket).write(&bytes[sent..]) {
                Ok(count) => sent += count,
                Err(_) => break,
            }
        }
        self.socket.set_nonblocking(false).expect("a socket that works");
        sent
    }

    /// Says goodbye in TLS, and FIN.
    pub fn finish(&self) {
        self.goodbye();
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// FIN without TLS's goodbye: what a process that was killed looks like.
    pub fn cut(&self) {
        self.abrupt.store(true, Ordering::SeqCst);
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Ends both directions; who reads or writes wakes up.
    pub fn shut(&self) {
        self.abrupt.store(true, Ordering::SeqCst);
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// It will end with RST once it is dropped.
    pub fn reset(&self) {
        self.abrupt.store(true, Ordering::SeqCst);
        let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
    }

    fn goodbye(&self) {
        let Some(tls) = &self.tls else { return };
        if !self.abrupt.swap(true, Ordering::SeqCst) {
            lock(&tls.connection).send_close_notify();
            let _ = self.socket.set_write_timeout(Some(Duration::from_millis(100)));
            let _ = self.write_records(tls, &[]);
        }
    }
}

impl Tls {
    /// Takes over what rustls has decrypted.
    fn decrypt(&self, connection: &mut Connection) {
        let mut plain = lock(&self.plain);
        let mut bytes = [0; RECORD];
        loop {
            match connection.reader().read(&mut bytes) {
                Ok(0) => return plain.1 = Some(End::Goodbye),
                Ok(count) => plain.0.extend(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return plain.1 = Some(End::Cut),
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.goodbye();
    }
}

impl Read for &Stream {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        Stream::read(self, out)
    }
}

impl Write for &Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
