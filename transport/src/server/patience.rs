//! How long a stream waits for its client.

use crate::timers::Timer;
use crate::worker::Worker;
use std::cell::{Cell, OnceCell};
use std::task::{Context, Poll};
use std::time::Duration;

/// A client that takes less than this of what there is, in all the time it is given, takes nothing.
const PIECE_BYTES_MIN: usize = 1024;

/// How long a stream waits for one thing. Most wait for nothing, and have no timer.
#[derive(Default)]
pub(super) struct Patience {
    timer: OnceCell<Timer>,
    runs: Cell<bool>,
    /// Bytes that went since it runs.
    moved: Cell<usize>,
}

impl Patience {
    /// Ready when `time` has passed since the first of such polls in a row.
    pub fn poll(&self, cx: &mut Context<'_>, worker: &Worker, time: Duration) -> Poll<()> {
        let timer = self.timer.get_or_init(|| Timer::new(&worker.timers));
        if !self.runs.replace(true) {
            self.moved.set(0);
            timer.arm(worker.now() + time);
        }
        timer.poll(cx)
    }

    /// So many of the bytes at hand went.
    pub fn moved(&self, count: usize, of: usize) {
        self.moved.set(self.moved.get() + count);
        if count == of || self.moved.get() >= PIECE_BYTES_MIN {
            self.rest();
        }
    }

    /// What was waited for came.
    pub fn rest(&self) {
        if self.runs.replace(false)
            && let Some(timer) = self.timer.get()
        {
            timer.disarm();
        }
    }
}
