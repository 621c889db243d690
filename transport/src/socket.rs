//! A connected stream, plain or encrypted, readable and writable through a shared reference: one task drives both directions.
//! `poll_read` and `poll_write` clear tokio's readiness on a short count, which saves the system call that would only say
//! "would block".

use crate::raw::Raw;
use crate::tls::TlsStream;
use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};
use tokio::io::ReadBuf;
use tokio::net::{TcpStream, UnixStream};

pub struct Socket(RefCell<Inner>);

enum Inner {
    Plain(Raw),
    Tls(Box<TlsStream>),
}

/// What a look at a socket without reading found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peek {
    Nothing,
    Bytes,
    Closed,
    Broken,
}

impl From<TcpStream> for Socket {
    fn from(stream: TcpStream) -> Socket {
        Socket(RefCell::new(Inner::Plain(Raw::Tcp(stream))))
    }
}

impl From<UnixStream> for Socket {
    fn from(stream: UnixStream) -> Socket {
        Socket(RefCell::new(Inner::Plain(Raw::Unix(stream))))
    }
}

impl From<TlsStream> for Socket {
    fn from(stream: TlsStream) -> Socket {
        Socket(RefCell::new(Inner::Tls(Box::new(stream))))
    }
}

impl Socket {
    /// The plain stream again, to be wrapped; `None` where it is wrapped already.
    pub(crate) fn into_raw(self) -> Option<Raw> {
        match self.0.into_inner() {
            Inner::Plain(raw) => Some(raw),
            Inner::Tls(_) => None,
        }
    }

    /// Bytes handed over may be on their way although a write is still pending.
    pub fn is_encrypted(&self) -> bool {
        matches!(&*self.0.borrow(), Inner::Tls(_))
    }

    /// Reads into `buffer`; 0 is the end.
    pub fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match &mut *self.0.borrow_mut() {
            Inner::Plain(raw) => raw.poll_read(cx, buffer),
            Inner::Tls(tls) => tls.poll_read(cx, buffer),
        }
    }

    /// Reads behind what `buffer` holds; nothing more in it is the end.
    pub fn poll_read_into(&self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut *self.0.borrow_mut() {
            Inner::Plain(raw) => raw.poll_read_into(cx, buffer),
            Inner::Tls(tls) => {
                let count = ready!(tls.poll_read(cx, buffer.initialize_unfilled()))?;
                buffer.advance(count);
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Ready when a read may find something; asks the kernel nothing.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &*self.0.borrow() {
            Inner::Plain(raw) => raw.poll_read_ready(cx),
            Inner::Tls(tls) => tls.poll_read_ready(cx),
        }
    }

    /// Forgets a readiness that proved empty, and waits for the next; the task is woken by it.
    pub fn poll_news(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &*self.0.borrow() {
            Inner::Plain(raw) => raw.clear_readable(),
            // Looking has read until there was nothing.
            Inner::Tls(_) => {}
        }
        match self.poll_read_ready(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(_) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    /// After `Pending`, the same bytes must be offered again: an encrypted stream may have taken some of them already.
    pub fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self.0.borrow_mut() {
            Inner::Plain(raw) => raw.poll_write(cx, bytes),
            Inner::Tls(tls) => tls.poll_write(cx, &[IoSlice::new(bytes)]),
        }
    }

    /// Writes both, in one system call.
    pub fn poll_write_two(&self, cx: &mut Context<'_>, first: &[u8], second: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(first), IoSlice::new(second)])
    }

    /// Writes all slices as one; see `poll_write`.
    pub fn poll_write_vectored(&self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match &mut *self.0.borrow_mut() {
            Inner::Plain(raw) => raw.poll_write_vectored(cx, slices),
            Inner::Tls(tls) => tls.poll_write(cx, slices),
        }
    }

    pub fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self.0.borrow_mut() {
            Inner::Plain(raw) => raw.poll_shutdown(cx),
            Inner::Tls(tls) => tls.poll_shutdown(cx),
        }
    }

    /// The close to come will be a reset and no FIN.
    pub fn reset(&self) {
        match &mut *self.0.borrow_mut() {
            Inner::Plain(raw) => raw.reset(),
            Inner::Tls(tls) => tls.reset(),
        }
    }

    /// The kernel takes no more than about `bytes` ahead of what it can send (TCP_NOTSENT_LOWAT).
    pub fn keep_unsent(&self, bytes: u32) {
        match &*self.0.borrow() {
            Inner::Plain(raw) => raw.keep_unsent(bytes),
            Inner::Tls(tls) => tls.keep_unsent(bytes),
        }
    }

    /// Looks without taking; one system call.
    pub fn peek(&self) -> Peek {
        match &mut *self.0.borrow_mut() {
            Inner::Plain(raw) => peek(raw),
            Inner::Tls(tls) => tls.peek(),
        }
    }
}

fn peek(raw: &Raw) -> Peek {
    let mut byte = 0u8;
    // SAFETY: the descriptor is open for as long as `raw` lives, and the buffer is one byte of this frame.
    let got = unsafe { libc::recv(raw.fd(), (&raw mut byte).cast(), 1, libc::MSG_PEEK | libc::MSG_DONTWAIT) };
    match got {
        0 => Peek::Closed,
        1.. => Peek::Bytes,
        _ if io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock => Peek::Nothing,
        _ => Peek::Broken,
    }
}
