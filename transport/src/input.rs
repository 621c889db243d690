//! Bytes that arrived and are not consumed yet. Holds a buffer only while it holds bytes: an idle connection costs none.

use crate::socket::Socket;
use crate::worker::Worker;
use std::io;
use std::task::{Context, Poll};

/// An ordinary head and a small body fit.
pub const BUFFER_BYTES: usize = 16 * 1024;
/// An ordinary head fits, for one whose body can't be passed on yet.
pub const HEAD_BYTES: usize = 4 * 1024;
/// For bodies that fill ordinary buffers: fewer system calls per byte.
pub const RELAY_BYTES: usize = 64 * 1024;

#[derive(Default)]
pub struct Input {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// The last read filled its buffer: the next takes a larger one.
    wants_more: bool,
    /// The next takes a small one.
    wants_little: bool,
}

impl Input {
    pub fn data(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// So many bytes are done with; an empty buffer goes back to the worker.
    pub fn consume(&mut self, count: usize, worker: &Worker) {
        debug_assert!(count <= self.end - self.start);
        self.start += count;
        if self.start == self.end {
            self.release(worker);
        }
    }

    pub fn release(&mut self, worker: &Worker) {
        (self.start, self.end) = (0, 0);
        if !self.bytes.is_empty() {
            worker.give_buffer(std::mem::take(&mut self.bytes));
        }
    }

    /// A new message begins: what was learned about the last body's size is forgotten.
    pub fn reset_size(&mut self) {
        self.wants_more = false;
    }

    /// Nobody takes more than a head at the moment.
    pub fn expect_little(&mut self) {
        self.wants_little = true;
    }

    /// Reads once, behind what is there. The buffer may grow up to `most` bytes; `Ok(0)` is the end of the stream, or a full buffer.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>, socket: &Socket, worker: &Worker, most: usize) -> Poll<io::Result<usize>> {
        if self.bytes.is_empty() {
            self.bytes = match (std::mem::take(&mut self.wants_little), self.wants_more) {
                (true, _) => vec![0; HEAD_BYTES],
                (false, true) => worker.take_relay(),
                (false, false) => worker.take_buffer(),
            };
        } else if self.end == self.bytes.len() {
            self.make_room(most);
        }
        let room = self.end..self.bytes.len();
        let size = room.len();
        match socket.poll_read(cx, &mut self.bytes[room]) {
            Poll::Ready(Ok(count)) => {
                self.wants_more = count == size && size >= BUFFER_BYTES;
                self.end += count;
                if self.is_empty() {
                    self.release(worker);
                }
                Poll::Ready(Ok(count))
            }
            other => {
                if self.is_empty() {
                    self.release(worker);
                }
                other
            }
        }
    }

    fn make_room(&mut self, most: usize) {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        } else if self.bytes.len() < most {
            let size = (self.bytes.len() * 2).min(most);
            self.bytes.resize(size, 0);
        }
    }
}
