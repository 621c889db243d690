//! What functions write, kept for who asks and told to the log of the gateway, which waits for nobody. A line has its invocation, where one was under way. Reads no pipes:
//! `pool/output.rs` does, and cuts what they give into lines.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Lines that are kept of a function: some screens of them, for `maitred function logs`.
const LINES_MAX: usize = 1000;
/// By this the gateway's log knows lines of functions, which push out nothing else, whatever they say.
pub const LOG_TARGET: &str = "maitred::function";
/// A longer line is cut in two: with `LINES_MAX` it bounds what is kept of a function to 8 MB, and to three times that where it is no UTF-8.
pub(crate) const LINE_BYTES_MAX: usize = 8 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogSource {
    Stdout,
    Stderr,
    /// START, END and REPORT.
    Platform,
    /// What the host itself has to say of what went wrong.
    Failure,
}

#[derive(Debug, Clone)]
pub struct LogLine {
    /// Counts up from 1 for each function, over its pools; a reader asks for those after the last that it has.
    pub number: u64,
    /// Since 1970.
    pub time: Duration,
    pub source: LogSource,
    /// The invocation that was under way in that process.
    pub request_id: Option<Arc<str>>,
    pub instance: u32,
    /// Shared, so that a copy of all lines takes no time in which somebody writes one.
    pub text: Arc<str>,
}

/// One function's lines, whichever of its pools they come from: who follows it sees the last of the old processes and the first of the new
/// ones. The host's thread writes; whoever asks copies, which is all that the lock is held for.
#[derive(Debug)]
pub(crate) struct Log {
    function: Arc<str>,
    /// Numbers of processes that were given; they tell those of all pools apart.
    instances: AtomicU32,
    ring: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    lines: VecDeque<LogLine>,
    /// Of the last line.
    number: u64,
}

impl Log {
    pub fn new(function: Arc<str>) -> Log {
        Log { function, instances: AtomicU32::new(0), ring: Mutex::default() }
    }

    /// For a process that is started.
    pub fn next_instance(&self) -> u32 {
        self.instances.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }

    pub fn function(&self) -> &Arc<str> {
        &self.function
    }

    pub fn push(&self, source: LogSource, instance: u32, request_id: Option<&str>, text: &str) {
        match source {
            LogSource::Failure => self.warn(instance, request_id, text),
            LogSource::Stdout | LogSource::Stderr | LogSource::Platform => {
                tracing::info!(target: LOG_TARGET, function = &*self.function, instance, request = request_id.unwrap_or_default(), "{text}");
            }
        }
        let mut ring = self.ring();
        ring.number += 1;
        let number = ring.number;
        if ring.lines.len() >= LINES_MAX {
            ring.lines.pop_front();
        }
        ring.lines.push_back(LogLine {
            number,
            time: since_1970(),
            source,
            request_id: request_id.map(Into::into),
            instance,
            text: text.into(),
        });
    }

    /// To the gateway's log alone: the function wrote it by itself, at the level of all that it writes.
    pub fn warn(&self, instance: u32, request_id: Option<&str>, text: &str) {
        let request = request_id.unwrap_or_default();
        tracing::warn!(target: LOG_TARGET, function = &*self.function, instance, request, "{text}");
    }

    /// All of them, where that number was never given: it is one of another process, before this one.
    pub fn after(&self, number: u64) -> Vec<LogLine> {
        let ring = self.ring();
        let number = if number > ring.number { 0 } else { number };
        let from = ring.lines.partition_point(|line| line.number <= number);
        ring.lines.range(from..).cloned().collect()
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Cuts a stream of bytes into lines. What is not UTF-8 is marked as such.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// No more than `most` lines, of which it takes off what it took; returns what is left of the bytes.
    pub fn take<'a>(&mut self, mut bytes: &'a [u8], most: &mut usize, mut line: impl FnMut(&str)) -> &'a [u8] {
        while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            if *most == 0 {
                return bytes;
            }
            *most -= 1;
            self.keep(&bytes[..end], &mut line);
            self.end(&mut line);
            bytes = &bytes[end + 1..];
        }
        self.keep(bytes, &mut line);
        &[]
    }

    /// What stands there without an end is a line too.
    pub fn finish(&mut self, mut line: impl FnMut(&str)) {
        if !self.partial.is_empty() {
            self.end(&mut line);
        }
    }

    fn keep(&mut self, mut bytes: &[u8], line: &mut impl FnMut(&str)) {
        while self.partial.len() + bytes.len() > LINE_BYTES_MAX {
            let (now, later) = bytes.split_at(LINE_BYTES_MAX - self.partial.len());
            self.partial.extend_from_slice(now);
            self.end(line);
            bytes = later;
        }
        self.partial.extend_from_slice(bytes);
    }

    fn end(&mut self, line: &mut impl FnMut(&str)) {
        let text = String::from_utf8_lossy(self.partial.strip_suffix(b"\r").unwrap_or(&self.partial));
        // Python's runtime has one entry of several lines by these.
        if text.contains('\r') {
            line(&text.replace('\r', "\n"))
        } else {
            line(&text)
        }
        self.partial.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_lines_wherever_they_were_cut() {
        let text = b"one\ntwo\r\nthree\xff\n\nfo\rur";
        for size in 1..text.len() {
            let (mut lines, mut found) = (Lines::default(), Vec::new());
            for piece in text.chunks(size) {
                lines.take(piece, &mut { usize::MAX }, |line| found.push(line.to_owned()));
            }
            lines.finish(|line| found.push(line.to_owned()));
            assert_eq!(found, ["one", "two", "three\u{fffd}", "", "fo\nur"], "in pieces of {size}");
        }
    }

    #[test]
    fn no_more_lines_are_taken_than_may_be() {
        let (mut lines, mut found, mut most) = (Lines::default(), Vec::new(), 2);
        let left = lines.take(b"one\ntwo\nthree\nfo", &mut most, |line| found.push(line.to_owned()));
        assert_eq!((left, most), (&b"three\nfo"[..], 0));
        assert_eq!(lines.take(left, &mut 1, |line| found.push(line.to_owned())), b"");
        lines.finish(|line| found.push(line.to_owned()));
        assert_eq!(found, ["one", "two", "three", "fo"]);
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        lines.take(&vec![b'a'; 2 * LINE_BYTES_MAX + 5], &mut { usize::MAX }, |line| found.push(line.len()));
        lines.finish(|line| found.push(line.len()));
        assert_eq!(found, [LINE_BYTES_MAX, LINE_BYTES_MAX, 5]);
    }

    #[test]
    fn the_last_thousand_lines_are_kept_and_told_after_a_number() {
        let log = Log::new("f".into());
        for number in 0..LINES_MAX + 10 {
            log.push(LogSource::Stdout, 1, None, &number.to_string());
        }
        let all = log.after(0);
        assert_eq!((all.len(), all[0].number, &*all[0].text), (LINES_MAX, 11, "10"));
        assert_eq!(log.after(1008).iter().map(|line| line.number).collect::<Vec<_>>(), [1009, 1010]);
        assert!(log.after(1010).is_empty());
        assert_eq!(log.after(2000).len(), LINES_MAX, "a number of another gateway's");
    }
}
