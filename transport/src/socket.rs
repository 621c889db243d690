//! A connected stream, readable and writable through a shared reference: one task drives both directions.
//! `poll_read` and `poll_write` clear tokio's readiness on a short count, which saves the system call that would only say
//! "would block".

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

pub struct Socket(RefCell<TcpStream>);

/// What a look at a socket without reading found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peek {
    Nothing,
    Bytes,
    Closed,
    Broken,
}

impl Socket {
    pub fn new(stream: TcpStream) -> Socket {
        Socket(RefCell::new(stream))
    }

    /// Reads into `buffer`; 0 is the end.
    pub fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        ready!(Pin::new(&mut *self.0.borrow_mut()).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// Ready when a read may find something; asks the kernel nothing.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow().poll_read_ready(cx)
    }

    /// Forgets a readiness that proved empty, and waits for the next; the task is woken by it.
    pub fn poll_news(&self, cx: &mut Context<'_>) -> Poll<()> {
        let empty = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
        let _ = self.0.borrow().try_io(Interest::READABLE, empty);
        match self.poll_read_ready(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(_) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    pub fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_write(cx, bytes)
    }

    /// Writes both, in one system call.
    pub fn poll_write_two(&self, cx: &mut Context<'_>, first: &[u8], second: &[u8]) -> Poll<io::Result<usize>> {
        let slices = [IoSlice::new(first), IoSlice::new(second)];
        Pin::new(&mut *self.0.borrow_mut()).poll_write_vectored(cx, &slices)
    }

    pub fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_shutdown(cx)
    }

    /// The close to come will be a reset and no FIN.
    pub fn reset(&self) {
        let _ = socket2::SockRef::from(&*self.0.borrow()).set_linger(Some(std::time::Duration::ZERO));
    }

    /// Looks without taking; one system call.
    pub fn peek(&self) -> Peek {
        let mut byte = 0u8;
        // SAFETY: the descriptor is open for as long as `self` lives, and the buffer is one byte of this frame.
        let got =
            unsafe { libc::recv(self.0.borrow().as_raw_fd(), (&raw mut byte).cast(), 1, libc::MSG_PEEK | libc::MSG_DONTWAIT) };
        match got {
            0 => Peek::Closed,
            1.. => Peek::Bytes,
            _ if io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock => Peek::Nothing,
            _ => Peek::Broken,
        }
    }
}
