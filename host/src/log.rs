//! What functions write, kept for who asks and told to the log. A line has its invocation, where one was under way. Reads no pipes:
//! `pool/output.rs` does, and cuts what they give into lines.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Lines that a pool keeps: some screens of them, for `maitred function logs`.
const LINES_MAX: usize = 1000;
/// A longer line is cut in two: with `LINES_MAX` it bounds what a pool keeps to 8 MB.
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
    /// Counts up from 1 in each pool; a reader asks for those after the last that it has.
    pub number: u64,
    /// Since 1970.
    pub time: Duration,
    pub source: LogSource,
    /// The invocation that was under way in that process.
    pub request_id: Option<Box<str>>,
    pub instance: u32,
    pub text: Box<str>,
}

/// One pool's lines. The host's thread writes; whoever asks copies, which is all that the lock is held for.
#[derive(Debug)]
pub(crate) struct Log {
    function: Arc<str>,
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
        Log { function, ring: Mutex::default() }
    }

    pub fn push(&self, source: LogSource, instance: u32, request_id: Option<&str>, text: &str) {
        match source {
            LogSource::Failure => self.warn(instance, request_id, text),
            LogSource::Stdout | LogSource::Stderr | LogSource::Platform => {
                tracing::info!(function = &*self.function, instance, request = request_id.unwrap_or_default(), "{text}");
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
        tracing::warn!(function = &*self.function, instance, request = request_id.unwrap_or_default(), "{text}");
    }

    pub fn after(&self, number: u64) -> Vec<LogLine> {
        let ring = self.ring();
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

/// What helps whoever reads that a module is not there.
pub(crate) fn import_hint(line: &str) -> Option<String> {
    let quoted = |start: &str| {
        let rest = &line[line.find(start)? + start.len()..];
        rest.split('\'').next().filter(|name| !name.is_empty())
    };
    if let Some(module) = quoted("No module named '") {
        let package = module.split('.').next().unwrap_or(module);
        return Some(format!(
            "`{package}` is not there: add it to requirements.txt and install it into the code's folder: pip install -t CODE -r requirements.txt"
        ));
    }
    let module = quoted("Cannot find module '").or_else(|| quoted("Cannot find package '"))?;
    let is_package = !module.starts_with(['.', '/']);
    is_package.then(|| format!("`{module}` is not there: add it to package.json and run npm install in the code's folder"))
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
        assert!(log.after(2000).is_empty());
    }

    #[test]
    fn who_imports_what_is_not_there_is_told_how_to_get_it() {
        for (line, wanted) in [
            ("ModuleNotFoundError: No module named 'requests'", Some("`requests` is not there: add it to requirements.txt")),
            ("Unable to import module 'app': No module named 'yaml.nodes'", Some("`yaml` is not there: add it to requirements")),
            ("Error: Cannot find module 'express'", Some("`express` is not there: add it to package.json")),
            ("Cannot find package '@a/b' imported from", Some("`@a/b` is not there: add it to package.json")),
            ("Error: Cannot find module './mine'", None),
            ("No module named ''", None),
            ("all is well", None),
        ] {
            let hint = import_hint(line);
            assert!(
                wanted.map_or(hint.is_none(), |start| hint.as_ref().is_some_and(|hint| hint.starts_with(start))),
                "{line}: {hint:?}"
            );
        }
    }
}
