//! An encrypted stream over a raw one: bytes go through rustls by hand, one system call for as many records as there are, and an
//! idle stream holds no buffer of ours.

use crate::raw::Raw;
use crate::socket::Peek;
use crate::worker::Worker;
use rustls::Connection;
use std::io::{self, IoSlice, Read, Write};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// Plain bytes encrypted at once; what they become waits in memory until the socket takes it.
const WRITE_BYTES_MAX: usize = 64 * 1024;

pub(crate) struct TlsStream {
    raw: Raw,
    connection: Connection,
    worker: Rc<Worker>,
    /// Encrypted bytes that were read and not yet fed to rustls: there is plain text that must be taken first.
    input: Vec<u8>,
    start: usize,
    end: usize,
    /// There is plain text to be read.
    readable: bool,
    /// The raw stream ended.
    ended: bool,
    /// Plain bytes of a write that is pending: encrypted, and on their way.
    owed: usize,
    /// Our own end was announced.
    closing: bool,
}

impl TlsStream {
    pub fn new(raw: Raw, connection: impl Into<Connection>, worker: Rc<Worker>) -> TlsStream {
        TlsStream {
            raw,
            connection: connection.into(),
            worker,
            input: Vec::new(),
            start: 0,
            end: 0,
            readable: false,
            ended: false,
            owed: 0,
            closing: false,
        }
    }

    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Feeds bytes that were read from the raw stream before it was wrapped.
    pub fn preload(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.input = self.worker.take_buffer();
            // Whoever looked ahead read less than a buffer.
            self.input[..bytes.len()].copy_from_slice(bytes);
            (self.start, self.end) = (0, bytes.len());
        }
    }

    /// Until both sides agree on keys. What is wrong is told to the peer as an alert, and to us.
    pub fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            // What stands behind the last words of the handshake is for who reads.
            if self.start < self.end && self.connection.is_handshaking() {
                if let Err(error) = self.feed() {
                    let _ = self.poll_flush(cx);
                    return Poll::Ready(Err(error));
                }
                continue;
            }
            ready!(self.poll_flush(cx))?;
            if !self.connection.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            if ready!(self.poll_fill(cx))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    pub fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            if let Some(done) = self.take_plain(buffer) {
                return Poll::Ready(done);
            }
            if self.start < self.end {
                self.feed()?;
                continue;
            }
            // Answers to key updates, alerts.
            if self.connection.wants_write() && self.owed == 0 {
                let _ = self.poll_flush(cx)?;
            }
            ready!(self.poll_fill(cx))?;
        }
    }

    /// Plain text that is there, or the end. `None`: more must be read.
    fn take_plain(&mut self, buffer: &mut [u8]) -> Option<io::Result<usize>> {
        match self.connection.reader().read(buffer) {
            Ok(count) => {
                self.readable = count == buffer.len();
                Some(Ok(count))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                None
            }
            Err(error) => Some(Err(error)),
        }
    }

    /// One read of the raw stream into our buffer.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut buffer = self.take_input();
        let read = self.raw.poll_read(cx, &mut buffer);
        self.keep_input(buffer, if let Poll::Ready(Ok(count)) = read { count } else { 0 });
        if matches!(read, Poll::Ready(Ok(0))) {
            self.end_of_raw()?;
        }
        read
    }

    fn take_input(&mut self) -> Vec<u8> {
        debug_assert!(self.start == self.end && self.input.is_empty());
        self.worker.take_buffer()
    }

    fn keep_input(&mut self, buffer: Vec<u8>, count: usize) {
        (self.start, self.end) = (0, count);
        match count {
            0 => self.worker.give_buffer(buffer),
            _ => self.input = buffer,
        }
    }

    fn end_of_raw(&mut self) -> io::Result<()> {
        self.ended = true;
        self.connection.read_tls(&mut io::empty())?;
        self.process()
    }

    /// Gives rustls the encrypted bytes at hand until there is plain text, or none are left.
    fn feed(&mut self) -> io::Result<()> {
        let mut fed = Ok(());
        while self.start < self.end && fed.is_ok() && !self.readable {
            let mut bytes = &self.input[self.start..self.end];
            let before = bytes.len();
            fed = self.connection.read_tls(&mut bytes).map(drop);
            let taken = before - bytes.len();
            self.start += taken;
            if fed.is_ok() {
                fed = self.process();
            }
            if taken == 0 {
                // After the peer's end nothing is taken any more.
                self.start = self.end;
            }
        }
        if self.start == self.end || fed.is_err() {
            (self.start, self.end) = (0, 0);
            self.worker.give_buffer(std::mem::take(&mut self.input));
        }
        fed
    }

    fn process(&mut self) -> io::Result<()> {
        let state = self.connection.process_new_packets().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        self.readable = state.plaintext_bytes_to_read() > 0;
        Ok(())
    }

    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.readable || self.start < self.end || self.ended {
            return Poll::Ready(Ok(()));
        }
        self.raw.poll_read_ready(cx)
    }

    /// Reads and decrypts what is there, without giving it away.
    pub fn peek(&mut self) -> Peek {
        loop {
            if self.readable {
                return Peek::Bytes;
            }
            if self.start < self.end {
                if self.feed().is_err() {
                    return Peek::Broken;
                }
                continue;
            }
            if self.ended || self.is_closed_by_peer() {
                return Peek::Closed;
            }
            let mut buffer = self.take_input();
            let read = self.raw.try_read(&mut buffer);
            self.keep_input(buffer, *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => {
                    let _ = self.end_of_raw();
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Peek::Nothing,
                Err(_) => return Peek::Broken,
            }
        }
    }

    /// The peer said that nothing more comes. Asked only when there is no plain text.
    fn is_closed_by_peer(&mut self) -> bool {
        matches!(self.connection.reader().read(&mut []), Ok(0)) && !self.connection.wants_read()
    }

    /// Encrypts and sends. `Pending` with bytes taken: the next call, with the same bytes, tells how many.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        ready!(self.poll_flush(cx))?;
        if self.owed > 0 {
            return Poll::Ready(Ok(std::mem::take(&mut self.owed)));
        }
        // A head and the beginning of its body fill records together.
        let mut taken = 0;
        if slices.iter().map(|slice| slice.len()).sum::<usize>() <= WRITE_BYTES_MAX {
            taken = self.connection.writer().write_vectored(slices)?;
        } else {
            for slice in slices {
                let piece = &slice[..slice.len().min(WRITE_BYTES_MAX - taken)];
                let count = self.connection.writer().write(piece)?;
                taken += count;
                if count < slice.len() {
                    break;
                }
            }
        }
        match self.poll_flush(cx)? {
            Poll::Ready(()) => Poll::Ready(Ok(taken)),
            Poll::Pending => {
                self.owed = taken;
                Poll::Pending
            }
        }
    }

    /// Sends what is encrypted.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.connection.wants_write() {
            let mut writer = PollWrite { raw: &mut self.raw, cx };
            match self.connection.write_tls(&mut writer) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closing {
            self.closing = true;
            self.connection.send_close_notify();
        }
        ready!(self.poll_flush(cx))?;
        self.raw.poll_shutdown(cx)
    }

    pub fn reset(&mut self) {
        // Nor may a farewell say that this was all.
        self.closing = true;
        self.raw.reset();
    }
}

impl Drop for TlsStream {
    fn drop(&mut self) {
        if !self.input.is_empty() {
            self.worker.give_buffer(std::mem::take(&mut self.input));
        }
        // Without it the peer cannot tell an end from a cut. Best effort: what does not fit into the socket at once is lost.
        if !self.closing && !self.ended && !self.connection.is_handshaking() && !self.connection.wants_write() {
            self.connection.send_close_notify();
            let mut cx = Context::from_waker(std::task::Waker::noop());
            let _ = self.poll_flush(&mut cx);
        }
    }
}

/// The raw stream as rustls wants it.
struct PollWrite<'a, 'b, 'c> {
    raw: &'a mut Raw,
    cx: &'b mut Context<'c>,
}

impl PollWrite<'_, '_, '_> {
    fn blocking(written: Poll<io::Result<usize>>) -> io::Result<usize> {
        match written {
            Poll::Ready(done) => done,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for PollWrite<'_, '_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Self::blocking(self.raw.poll_write(self.cx, bytes))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        Self::blocking(self.raw.poll_write_vectored(self.cx, slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
