//! An encrypted stream over a raw one: bytes go through rustls by hand, one system call for as many records as there are, and an
//! idle stream holds no buffer of ours. Records of data under TLS 1.3 are opened and sealed here, with rustls' keys; whatever else
//! comes, and whatever is odd, is given to rustls untouched.

use super::records::{self, Passing, RecordKey};
use super::words::{cut, told};
use crate::raw::Raw;
use crate::socket::Peek;
use crate::worker::Worker;
use rustls::{Connection, ProtocolVersion};
use std::io::{self, IoSlice, Read, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// Plain bytes encrypted at once; what they become waits in memory until the socket takes it.
const WRITE_BYTES_MAX: usize = 64 * 1024;
/// Longer than any method that is registered (UPDATEREDIRECTREF).
const METHOD_BYTES_MAX: usize = 24;

pub(crate) struct TlsStream {
    raw: Raw,
    connection: Connection,
    worker: Rc<Worker>,
    /// Encrypted bytes that were read and are not opened yet: there is plain text that must be taken first.
    input: Vec<u8>,
    start: usize,
    end: usize,
    /// The record of which rustls has a part.
    passing: Passing,
    /// Sealed records on their way.
    output: Vec<u8>,
    sent: usize,
    /// The keys in use, of both directions; `None` before rustls made one.
    seal: Option<Arc<RecordKey>>,
    open: Option<Arc<RecordKey>>,
    /// Records of data may pass by rustls.
    direct: bool,
    /// rustls has seen a record that was not data, and shall see the next that is: it counts what may come between data, and keeps
    /// messages whole.
    attentive: bool,
    /// rustls may hold back the word that the key to seal with is new, until it sends something itself.
    rekeyed: bool,
    /// rustls has plain text to be read.
    readable: bool,
    /// The raw stream ended.
    ended: bool,
    /// Nothing more comes, by the peer's word or by the raw stream's end.
    finished: bool,
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
            passing: Passing::default(),
            output: Vec::new(),
            sent: 0,
            seal: None,
            open: None,
            direct: false,
            attentive: false,
            rekeyed: false,
            readable: false,
            ended: false,
            finished: false,
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

    /// Waits for the first bytes. True: they are a request of HTTP/1.1 by a client that knows nothing of TLS.
    pub fn poll_is_plain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.start == self.end && ready!(self.poll_fill(cx))? == 0 {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        Poll::Ready(Ok(is_request(&self.input[self.start..self.end])))
    }

    /// Best effort, past TLS: for who speaks none. Nothing may follow.
    pub fn poll_say_plainly(&mut self, cx: &mut Context<'_>, words: &[u8]) -> Poll<io::Result<()>> {
        self.closing = true;
        let _ = self.raw.poll_write(cx, words)?;
        self.raw.poll_shutdown(cx)
    }

    /// Until both sides agree on keys. What is wrong is told to the peer as an alert, and to us.
    pub fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            // What stands behind the last words of the handshake is for who reads.
            if self.start < self.end && !self.readable && self.connection.is_handshaking() {
                if let Err(error) = self.feed() {
                    let _ = self.poll_flush(cx);
                    return Poll::Ready(Err(error));
                }
                continue;
            }
            ready!(self.poll_flush(cx))?;
            if !self.connection.is_handshaking() {
                let shared = self.seal.is_some() && self.open.is_some();
                self.direct = shared && self.connection.protocol_version() == Some(ProtocolVersion::TLSv1_3);
                return Poll::Ready(Ok(()));
            }
            if ready!(self.poll_fill(cx))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    pub fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if buffer.is_empty() {
            return Poll::Ready(Ok(0));
        }
        loop {
            if (self.readable || self.finished)
                && let Some(done) = self.take_plain(buffer)
            {
                return Poll::Ready(done);
            }
            if self.start < self.end {
                match self.open(buffer) {
                    0 => self.feed()?,
                    count => return Poll::Ready(Ok(count)),
                }
                continue;
            }
            // Answers to key updates, alerts.
            if self.connection.wants_write() && self.owed == 0 {
                let _ = self.poll_flush(cx)?;
            }
            ready!(self.poll_fill(cx))?;
        }
    }

    /// Opens records of data until one is something else, is not whole, or does not fit: how many plain bytes.
    fn open(&mut self, buffer: &mut [u8]) -> usize {
        let Some(key) = &self.open else { return 0 };
        if !self.direct || self.attentive || !self.passing.is_between() {
            return 0;
        }
        let mut filled = 0;
        while let Some(record) = records::whole(&self.input[self.start..self.end])
            && let Some(count) = key.open_data(record, &mut buffer[filled..])
        {
            self.start += record.len();
            filled += count;
        }
        if self.start == self.end {
            self.release_input();
        }
        filled
    }

    /// Calls rustls, and keeps the keys that it makes.
    fn rustls<T>(&mut self, call: impl FnOnce(&mut Connection) -> T) -> T {
        let (done, made) = records::watch(|| call(&mut self.connection));
        if made.seal.is_some() {
            self.seal = made.seal;
            self.rekeyed = true;
        }
        if made.open.is_some() {
            self.open = made.open;
        }
        done
    }

    /// Plain text of rustls, or the end. `None`: more must be read.
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
            Err(error) => Some(Err(cut(error))),
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
        (self.ended, self.finished) = (true, true);
        self.connection.read_tls(&mut io::empty())?;
        self.process()
    }

    /// Gives rustls the encrypted bytes at hand, record by record, until there is plain text, or none are left.
    fn feed(&mut self) -> io::Result<()> {
        let mut fed = Ok(());
        while self.start < self.end && fed.is_ok() && !self.readable {
            let bytes = &self.input[self.start..self.end];
            let bytes = &bytes[..self.passing.within(bytes)];
            let mut rest = bytes;
            fed = self.connection.read_tls(&mut rest).map(drop);
            let taken = bytes.len() - rest.len();
            self.passing.pass(&bytes[..taken]);
            self.start += taken;
            if fed.is_ok() {
                fed = self.process();
            }
            if taken == 0 {
                // After the peer's end nothing is taken any more.
                self.start = self.end;
            }
        }
        self.attentive = !self.readable;
        self.direct &= fed.is_ok();
        if self.start == self.end || fed.is_err() {
            self.release_input();
        }
        fed
    }

    fn release_input(&mut self) {
        (self.start, self.end) = (0, 0);
        self.worker.give_buffer(std::mem::take(&mut self.input));
    }

    fn process(&mut self) -> io::Result<()> {
        let state = self.rustls(Connection::process_new_packets).map_err(told)?;
        self.readable = state.plaintext_bytes_to_read() > 0;
        self.finished |= state.peer_has_closed();
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
            if self.finished {
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

    /// Encrypts and sends. `Pending` with bytes taken: the next call, with the same bytes, tells how many.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        ready!(self.poll_flush(cx))?;
        if self.owed > 0 {
            return Poll::Ready(Ok(std::mem::take(&mut self.owed)));
        }
        let taken = if self.direct && !self.closing { self.seal(slices)? } else { self.encrypt(slices)? };
        match self.poll_flush(cx)? {
            Poll::Ready(()) => Poll::Ready(Ok(taken)),
            Poll::Pending => {
                self.owed = taken;
                Poll::Pending
            }
        }
    }

    /// A head and the beginning of its body fill records together.
    fn seal(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.seal.as_ref().is_none_or(|key| key.is_worn()) {
            self.rustls(Connection::refresh_traffic_keys).map_err(told)?;
        }
        match &self.seal {
            Some(key) if !self.rekeyed => {
                let taken = slices.iter().map(|slice| slice.len()).sum::<usize>().min(WRITE_BYTES_MAX);
                if taken > 0 {
                    let mut output = self.worker.take_output();
                    let bytes = records::sealed_bytes(taken);
                    if output.capacity() < bytes {
                        // Growing would copy what is not there.
                        self.worker.give_output(output);
                        output = Vec::with_capacity(bytes);
                    }
                    key.seal_data(slices, taken, &mut output)?;
                    self.output = output;
                }
                Ok(taken)
            }
            _ => self.encrypt(slices),
        }
    }

    /// The same by rustls, which first says what it has to say.
    fn encrypt(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.rekeyed = false;
        let mut taken = 0;
        if slices.iter().map(|slice| slice.len()).sum::<usize>() <= WRITE_BYTES_MAX {
            taken = self.rustls(|connection| connection.writer().write_vectored(slices))?;
        } else {
            for slice in slices {
                let piece = &slice[..slice.len().min(WRITE_BYTES_MAX - taken)];
                let count = self.rustls(|connection| connection.writer().write(piece))?;
                taken += count;
                if count < slice.len() {
                    break;
                }
            }
        }
        Ok(taken)
    }

    /// Sends what is encrypted: ours first, which was sealed when rustls had nothing to send.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.output.len() {
            match ready!(self.raw.poll_write(cx, &self.output[self.sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.sent += count,
            }
        }
        if !self.output.is_empty() {
            self.sent = 0;
            self.worker.give_output(std::mem::take(&mut self.output));
        }
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

    pub fn keep_unsent(&self, bytes: u32) {
        self.raw.keep_unsent(bytes);
    }
}

impl Drop for TlsStream {
    fn drop(&mut self) {
        if !self.input.is_empty() {
            self.worker.give_buffer(std::mem::take(&mut self.input));
        }
        // Without it the peer cannot tell an end from a cut. Best effort: what does not fit into the socket at once is lost.
        let is_sent = self.output.is_empty() && !self.connection.wants_write();
        if !self.closing && !self.ended && !self.connection.is_handshaking() && is_sent {
            self.connection.send_close_notify();
            let mut cx = Context::from_waker(std::task::Waker::noop());
            let _ = self.poll_flush(&mut cx);
        }
        if !self.output.is_empty() {
            self.worker.give_output(std::mem::take(&mut self.output));
        }
    }
}

/// Whether a method and a space stand first. No record of TLS begins with a letter, and HTTP/2's preface is for nobody who reads answers of
/// HTTP/1.1.
fn is_request(bytes: &[u8]) -> bool {
    let method = bytes.iter().take(METHOD_BYTES_MAX + 1).position(|&byte| byte == b' ').map_or(&[][..], |at| &bytes[..at]);
    !method.is_empty() && method != b"PRI" && method.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'-')
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_in_the_clear_is_known_by_its_method() {
        for request in [&b"GET / HTTP/1.1\r\n"[..], b"OPTIONS * HTTP/1.1", b"M-SEARCH * HTTP/1.1", b"GET "] {
            assert!(is_request(request), "{}", String::from_utf8_lossy(request));
        }
        let others: [&[u8]; 8] = [
            b"\x16\x03\x01\x02\x00\x01 ",
            b"",
            b"GET",
            b" / HTTP/1.1",
            b"PRI * HTTP/2.0",
            b"get / ",
            b"\x80\x2e\x01 ",
            &[b'A'; 64],
        ];
        for other in others {
            assert!(!is_request(other), "{}", String::from_utf8_lossy(other));
        }
    }
}
