//! What functions write, kept for who asks and told to the log. A line has its invocation, where one was under way.

use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogSource {
    Stdout,
    Stderr,
    /// START, END, REPORT, and what the host itself has to say.
    Platform,
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
