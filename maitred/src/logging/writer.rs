//! Writes the lines of the log, on a thread of its own: whoever logs waits for nobody, also when nobody reads stderr. What finds no place is
//! dropped and counted, and the log says so when it goes on. Formats no lines.

use maitred_core::metrics::LOG_LINES_DROPPED;
use maitred_host::LOG_TARGET;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// On their way to the thread.
const LINES_MAX: usize = 4096;
/// Of all of them; a short line counts as `BYTES_MAX / LINES_MAX`, so that this bounds both.
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// For lines that are neither warnings nor errors, and for all of functions: one that writes or fails without end must not push out the others.
const TOLD_BYTES_MAX: usize = BYTES_MAX / 4 * 3;
/// Written at once, where so many wait: a pipe takes them piece by piece anyway.
const BATCH_BYTES: usize = 16 * 1024;
/// As long as lines are dropped, the log says so this often.
const SAY_EVERY: Duration = Duration::from_secs(1);

/// The way to the thread. It ends with the process.
#[derive(Debug)]
pub struct LogWriter {
    lines: SyncSender<Box<[u8]>>,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What waits or is being written, in bytes.
    waiting: AtomicUsize,
    /// Lines that found a place.
    taken: AtomicU64,
    /// Those that were written, or cannot be.
    done: Mutex<u64>,
    progress: Condvar,
}

impl LogWriter {
    pub fn start(target: impl Write + Send + 'static) -> io::Result<LogWriter> {
        let (lines, inbox) = sync_channel(LINES_MAX);
        let state = Arc::<State>::default();
        let own = state.clone();
        std::thread::Builder::new().name("log".into()).spawn(move || write_all(&inbox, &own, target))?;
        Ok(LogWriter { lines, state })
    }

    /// A line that is not to be lost where there is any place.
    pub fn take(&self, line: &[u8]) {
        self.take_within(line, BYTES_MAX);
    }

    fn take_within(&self, line: &[u8], room: usize) {
        let weight = weight(line);
        let before = self.state.waiting.fetch_add(weight, Ordering::Relaxed);
        // One that is longer than all that may wait still has its turn.
        if before > 0 && before + weight > room {
            self.state.waiting.fetch_sub(weight, Ordering::Relaxed);
            LOG_LINES_DROPPED.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.state.taken.fetch_add(1, Ordering::Release);
        if self.lines.try_send(line.into()).is_err() {
            self.state.done(1, weight);
            LOG_LINES_DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Until all that was taken before is written, or the time is over.
    pub fn flush(&self, until: Instant) {
        let wanted = self.state.taken.load(Ordering::Acquire);
        let mut done = lock(&self.state.done);
        while *done < wanted {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            done = self.state.progress.wait_timeout(done, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl State {
    fn done(&self, lines: u64, weight: usize) {
        self.waiting.fetch_sub(weight, Ordering::Relaxed);
        *lock(&self.done) += lines;
        self.progress.notify_all();
    }
}

fn lock(done: &Mutex<u64>) -> MutexGuard<'_, u64> {
    done.lock().unwrap_or_else(PoisonError::into_inner)
}

fn weight(line: &[u8]) -> usize {
    line.len().max(BYTES_MAX / LINES_MAX)
}

fn write_all(inbox: &Receiver<Box<[u8]>>, state: &State, mut target: impl Write) {
    let (mut batch, mut said) = (Vec::new(), (0, None::<Instant>));
    while let Ok(first) = inbox.recv() {
        batch.clear();
        let (mut count, mut bytes, mut next) = (0, 0, Some(first));
        while let Some(line) = next {
            count += 1;
            bytes += weight(&line);
            batch.extend_from_slice(&line);
            next = if batch.len() < BATCH_BYTES { inbox.try_recv().ok() } else { None };
        }
        let is_written = target.write_all(&batch).is_ok();
        if !is_written {
            LOG_LINES_DROPPED.fetch_add(count, Ordering::Relaxed);
        }
        let dropped = LOG_LINES_DROPPED.load(Ordering::Relaxed);
        let is_last = state.waiting.load(Ordering::Relaxed) == bytes;
        let is_time = is_last || said.1.is_none_or(|last| last.elapsed() >= SAY_EVERY);
        if is_written && dropped > said.0 && is_time {
            // Before these are counted as done, so that whoever waits for the end finds this one too.
            tracing::warn!(lines = dropped - said.0, "lines of the log were dropped: they came faster than they were read");
            said = (dropped, Some(Instant::now()));
        }
        state.done(count, bytes);
    }
}

/// For the subscriber, which gives each line whole.
#[derive(Debug)]
pub struct Lines(pub &'static LogWriter);

#[derive(Debug)]
pub struct Line {
    writer: &'static LogWriter,
    room: usize,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { writer: self.0, room: BYTES_MAX }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Line {
        let is_own_warning = *meta.level() <= Level::WARN && meta.target() != LOG_TARGET;
        let room = if is_own_warning { BYTES_MAX } else { TOLD_BYTES_MAX };
        Line { writer: self.0, room }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.take_within(bytes, self.room);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};

    const PATIENCE: Duration = Duration::from_secs(60);

    /// One test for all of it: what is dropped is counted for the whole process.
    #[test]
    fn nobody_waits_and_what_is_dropped_is_counted() {
        let (reader, pipe) = io::pipe().unwrap();
        let writer = LogWriter::start(pipe).unwrap();
        let long = [&[b'a'; 2047][..], b"\n"].concat();
        let dropped = || LOG_LINES_DROPPED.load(Ordering::Relaxed);
        let mut taken = 0;
        while dropped() == 0 {
            writer.take_within(&long, TOLD_BYTES_MAX);
            taken += 1;
            assert!(taken < 2 * BYTES_MAX / long.len(), "it is never full");
        }
        taken -= 1;
        writer.take(b"warning\n");
        assert_eq!(dropped(), 1, "what matters has a place still");
        let waiting = writer.state.waiting.load(Ordering::Relaxed);
        assert!(waiting <= BYTES_MAX, "{waiting}");
        writer.flush(Instant::now());
        let reading = std::thread::spawn(move || {
            let lines = BufReader::new(reader).lines().map(|line| line.unwrap().len());
            lines.collect::<Vec<_>>()
        });
        writer.flush(Instant::now() + PATIENCE);
        writer.take(&vec![b'b'; BYTES_MAX + 1]);
        writer.flush(Instant::now() + PATIENCE);
        assert_eq!((writer.state.waiting.load(Ordering::Relaxed), dropped()), (0, 1), "all is written");
        drop(writer);
        let lengths = reading.join().unwrap();
        assert_eq!(lengths.iter().filter(|&&length| length == 2047).count(), taken);
        assert_eq!(lengths[taken..], ["warning".len(), BYTES_MAX + 1]);
    }
}
