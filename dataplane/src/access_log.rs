//! The access log: one JSON line a request, written by a thread of its own. A worker never waits for it: what does not fit is
//! dropped and counted. Formats into memory that goes round between worker and writer.

use jiff::Timestamp;
use maitred_core::metrics::{Metrics, RouteSeries};
use maitred_core::render;
use maitred_core::{Exchange, Principal, Remote};
use maitred_model::AccessLog;
use maitred_transport::Worker;
use maitred_wire::{Name, Version, decimal};
use std::cell::{Cell, RefCell};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A worker hands its lines over when they are so many bytes, or so old.
const BATCH_BYTES: usize = 32 * 1024;
const BATCH_AGE: Duration = Duration::from_millis(50);
/// Batches on their way to the writer; when they are all taken, lines are dropped.
const BATCHES_MAX: usize = 64;
/// For the rest at the end: whoever does not take it is not waited for.
const END_TIME_MAX: Duration = Duration::from_secs(5);
/// How often is looked whether it is written.
const END_LOOK: Duration = Duration::from_millis(1);
/// A longer path or user agent is cut: a log line is no place for a flood.
const TEXT_BYTES_MAX: usize = 2048;

/// Where the log goes.
#[derive(Debug)]
pub enum LogTarget {
    None,
    Stdout,
    Stderr,
    File(File),
}

impl LogTarget {
    /// Opens what the configuration names; a file is appended to, and opened anew at every reload, so that it can be rotated.
    pub fn open(log: &AccessLog) -> io::Result<LogTarget> {
        Ok(match log {
            AccessLog::None => LogTarget::None,
            AccessLog::Stdout => LogTarget::Stdout,
            AccessLog::Stderr => LogTarget::Stderr,
            AccessLog::File(path) => {
                let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
                LogTarget::File(OpenOptions::new().create(true).append(true).open(path).map_err(named)?)
            }
        })
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            LogTarget::None => Ok(()),
            LogTarget::Stdout => io::stdout().lock().write_all(lines).and_then(|()| io::stdout().flush()),
            LogTarget::Stderr => io::stderr().lock().write_all(lines),
            LogTarget::File(file) => file.write_all(lines),
        }
    }
}

enum Message {
    /// Lines, and where to give the memory back.
    Batch(Vec<u8>, SyncSender<Vec<u8>>),
    Target(LogTarget),
    Stop,
}

/// The writer thread.
pub(crate) struct LogWriter {
    sender: SyncSender<Message>,
    enabled: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl LogWriter {
    pub fn start(target: LogTarget, metrics: Arc<Metrics>) -> io::Result<LogWriter> {
        let (sender, receiver) = sync_channel(BATCHES_MAX);
        let enabled = Arc::new(AtomicBool::new(!matches!(target, LogTarget::None)));
        let thread =
            std::thread::Builder::new().name("access-log".into()).spawn(move || write_all(&receiver, target, &metrics))?;
        Ok(LogWriter { sender, enabled, thread: Some(thread) })
    }

    /// A worker's end of it.
    pub fn buffer(&self) -> LogBuffer {
        let (giver, spare) = sync_channel(2);
        LogBuffer {
            enabled: self.enabled.clone(),
            sender: self.sender.clone(),
            giver,
            spare,
            lines: RefCell::default(),
            count: Cell::new(0),
            since: Cell::new(None),
            second: RefCell::default(),
        }
    }

    pub fn set_target(&self, target: LogTarget) {
        self.enabled.store(!matches!(target, LogTarget::None), Ordering::Relaxed);
        // Waits for the writer: a reload may, a request may not.
        let _ = self.sender.send(Message::Target(target));
    }

    /// Writes what was handed over, then ends. A pipe that nobody reads does not keep it.
    pub fn stop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        let (until, mut is_told) = (Instant::now() + END_TIME_MAX, false);
        while !thread.is_finished() {
            if Instant::now() >= until {
                return tracing::warn!("the access log is not read; its last lines are lost");
            }
            is_told = is_told || self.sender.try_send(Message::Stop).is_ok();
            std::thread::park_timeout(END_LOOK);
        }
        let _ = thread.join();
    }
}

fn write_all(receiver: &Receiver<Message>, mut target: LogTarget, metrics: &Metrics) {
    let mut failing = false;
    while let Ok(message) = receiver.recv() {
        match message {
            Message::Stop => return,
            Message::Target(new) => target = new,
            Message::Batch(mut lines, giver) => {
                let written = target.write(&lines);
                if let (Err(error), false) = (&written, failing) {
                    tracing::error!(%error, "the access log cannot be written; lines are lost until it can");
                }
                failing = written.is_err();
                if failing {
                    let lost = lines.iter().filter(|&&byte| byte == b'\n').count();
                    metrics.log_lost.fetch_add(lost as u64, Ordering::Relaxed);
                }
                lines.clear();
                let _ = giver.try_send(lines);
            }
        }
    }
}

/// A worker's lines that are not handed over yet.
pub(crate) struct LogBuffer {
    enabled: Arc<AtomicBool>,
    sender: SyncSender<Message>,
    giver: SyncSender<Vec<u8>>,
    spare: Receiver<Vec<u8>>,
    lines: RefCell<Vec<u8>>,
    count: Cell<u64>,
    /// When the oldest line came.
    since: Cell<Option<Instant>>,
    /// A second, and its text.
    second: RefCell<(i64, String)>,
}

impl LogBuffer {
    /// `masked`: parameters of the query that nobody is to read.
    pub fn record(
        &self,
        exchange: &Exchange,
        series: &RouteSeries,
        duration: Duration,
        (worker, now): (&Worker, Instant),
        masked: &[String],
    ) {
        if !self.enabled.load(Ordering::Relaxed) {
            return;
        }
        let mut lines = self.lines.borrow_mut();
        if lines.capacity() == 0 {
            *lines = self.spare.try_recv().unwrap_or_else(|_| Vec::with_capacity(2 * BATCH_BYTES));
        }
        self.line(&mut lines, exchange, series, (duration, worker.unix_time(now)), masked);
        self.count.set(self.count.get() + 1);
        let full = lines.len() >= BATCH_BYTES;
        drop(lines);
        if full {
            self.hand_over(worker);
        } else if self.since.get().is_none() {
            self.since.set(Some(now));
        }
    }

    fn hand_over(&self, worker: &Worker) {
        self.since.set(None);
        let count = self.count.replace(0);
        let mut lines = std::mem::take(&mut *self.lines.borrow_mut());
        if lines.is_empty() {
            return;
        }
        if let Err(TrySendError::Full(Message::Batch(back, _)) | TrySendError::Disconnected(Message::Batch(back, _))) =
            self.sender.try_send(Message::Batch(lines, self.giver.clone()))
        {
            worker.shard().log_dropped.add(count);
            lines = back;
            lines.clear();
            *self.lines.borrow_mut() = lines;
        }
    }

    /// Called often by the worker: hands over what has become old.
    pub fn flush_old(&self, worker: &Worker, now: Instant) {
        if self.since.get().is_some_and(|since| now.saturating_duration_since(since) >= BATCH_AGE) {
            self.hand_over(worker);
        }
    }

    pub fn flush(&self, worker: &Worker) {
        self.hand_over(worker);
    }

    /// How often `flush_old` should be called.
    pub const TICK: Duration = BATCH_AGE;

    fn line(
        &self,
        out: &mut Vec<u8>,
        exchange: &Exchange,
        series: &RouteSeries,
        (duration, unix): (Duration, Duration),
        masked: &[String],
    ) {
        let (request, record) = (&exchange.request, &exchange.record);
        out.extend_from_slice(b"{\"time\":\"");
        self.time(out, unix);
        out.extend_from_slice(b"\"");
        text(out, "request_id", exchange.request_id());
        key(out, "client_ip");
        let _ = write!(out, "\"{}\"", exchange.client_ip());
        text(out, "method", if request.method_text.is_empty() { b"-" } else { request.method_text() });
        text(out, "host", request.authority());
        let target = render::masked(request.target(), masked);
        text(out, "path", if request.target.is_empty() { b"-" } else { &target });
        text(out, "protocol", protocol(request.version));
        if let Some(tls) = &exchange.tls {
            text(out, "tls_version", tls.version.as_bytes());
            if let Some(name) = &tls.server_name {
                text(out, "server_name", name.as_bytes());
            }
        }
        number(out, "status", u64::from(record.status));
        text(out, "api", series.api.as_bytes());
        text(out, "route", series.route.as_bytes());
        if let Some(principal) = exchange.principal.as_deref().filter(|principal| !principal.is_anonymous()) {
            who(out, principal);
        }
        millis(out, "duration_ms", duration);
        if let Some(queued) = record.queued {
            millis(out, "queue_ms", queued);
        }
        if let Some(upstream_time) = record.upstream_time {
            millis(out, "upstream_ms", upstream_time);
        }
        if let Some(endpoint) = &record.endpoint {
            match endpoint {
                Remote::Tcp(address) => {
                    key(out, "endpoint");
                    let _ = write!(out, "\"{address}\"");
                }
                Remote::Unix(_) => text(out, "endpoint", endpoint.to_string().as_bytes()),
            }
            number(out, "attempts", u64::from(record.attempts));
            if let Some(won) = record.hedge_won {
                text(out, "hedge", if won { b"won" } else { b"lost" });
            }
        }
        number(out, "bytes_in", record.bytes_in);
        number(out, "bytes_out", record.bytes_out);
        if let Some(agent) = request.headers.known(Name::UserAgent) {
            text(out, "user_agent", agent);
        }
        if let Some(parent) = request.headers.known(Name::Traceparent) {
            text(out, "traceparent", parent);
        }
        if let Some((kind, detail)) = &record.fault {
            text(out, "fault", kind.name().as_bytes());
            text(out, "detail", detail.as_bytes());
        }
        out.extend_from_slice(b"}\n");
    }

    /// RFC 3339 with milliseconds; the text of a second is made once.
    fn time(&self, out: &mut Vec<u8>, unix: Duration) {
        let seconds = unix.as_secs() as i64;
        let mut second = self.second.borrow_mut();
        if second.0 != seconds {
            second.0 = seconds;
            second.1.clear();
            let _ = std::fmt::Write::write_fmt(
                &mut second.1,
                format_args!("{}", Timestamp::from_second(seconds).unwrap_or_default()),
            );
            // The milliseconds come before it.
            second.1.pop();
        }
        out.extend_from_slice(second.1.as_bytes());
        let millis = unix.subsec_millis();
        out.extend_from_slice(&[
            b'.',
            b'0' + (millis / 100) as u8,
            b'0' + (millis / 10 % 10) as u8,
            b'0' + (millis % 10) as u8,
            b'Z',
        ]);
    }
}

/// Who it was, and nothing of what that was proved with.
fn who(out: &mut Vec<u8>, principal: &Principal) {
    text(out, "authorizer", principal.authorizer.as_bytes());
    if let Some(subject) = &principal.subject {
        text(out, "subject", subject.as_bytes());
    }
    if let Some(consumer) = principal.consumer_name() {
        text(out, "consumer", consumer.as_bytes());
    }
}

/// As people write it, and other servers' logs do.
fn protocol(version: Version) -> &'static [u8] {
    match version {
        Version::Http10 => b"HTTP/1.0",
        Version::Http11 => b"HTTP/1.1",
        Version::Http2 => b"HTTP/2",
        Version::Http3 => b"HTTP/3",
    }
}

fn key(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn number(out: &mut Vec<u8>, name: &str, number: u64) {
    key(out, name);
    decimal(out, number);
}

/// Milliseconds with three decimals.
fn millis(out: &mut Vec<u8>, name: &str, duration: Duration) {
    let micros = duration.as_micros() as u64;
    number(out, name, micros / 1000);
    let rest = micros % 1000;
    out.extend_from_slice(&[b'.', b'0' + (rest / 100) as u8, b'0' + (rest / 10 % 10) as u8, b'0' + (rest % 10) as u8]);
}

fn text(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    key(out, name);
    json_string(out, &value[..value.len().min(TEXT_BYTES_MAX)]);
}

/// A JSON string of any bytes (RFC 8259 §7): what is no UTF-8 becomes U+FFFD.
fn json_string(out: &mut Vec<u8>, value: &[u8]) {
    out.push(b'"');
    for chunk in value.utf8_chunks() {
        for byte in chunk.valid().bytes() {
            match byte {
                b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
                0..0x20 | 0x7f => {
                    const DIGITS: &[u8; 16] = b"0123456789abcdef";
                    out.extend_from_slice(&[b'\\', b'u', b'0', b'0', DIGITS[(byte >> 4) as usize], DIGITS[(byte & 15) as usize]]);
                }
                _ => out.push(byte),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_are_a_json_string() {
        for value in [&b"plain"[..], b"\"\\\n\x00\x7f", "é".as_bytes(), &[0xff, b'a', 0xc3]] {
            let mut out = Vec::new();
            json_string(&mut out, value);
            let parsed: String = serde_json::from_slice(&out).unwrap();
            assert_eq!(parsed, String::from_utf8_lossy(value));
        }
    }
}
