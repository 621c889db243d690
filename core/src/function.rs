//! One run of a Lambda function, wherever it runs: what it is given, and what came of it. Knows neither processes nor AWS's wire.

use crate::fault::{Fault, Kind};
use std::borrow::Cow;
use std::time::Duration;

/// Bytes of an event, and of a result that comes whole (reference: AWS Lambda quotas; its own services allow the hundred on top).
pub const PAYLOAD_BYTES_MAX: usize = 6 * 1024 * 1024 + 100;
/// Of the log, the most that goes with a result (`X-Amz-Log-Type: Tail`).
pub const LOG_TAIL_BYTES_MAX: usize = 4 * 1024;

/// What a function is to do, once.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// By which the function, its log and its caller know this run: a UUID.
    pub id: Box<str>,
    /// The function is given these bytes as they are.
    pub event: Vec<u8>,
    /// As it was invoked: with the version or alias that was asked for. `None`: the function's own.
    pub arn: Option<Box<str>>,
    /// `Root=1-8hex-24hex;Parent=16hex;Sampled=0`: what `X-Amzn-Trace-Id` says. Empty: none.
    pub trace: Box<str>,
    /// JSON as text, as the caller gave it.
    pub client_context: Option<Box<str>>,
    /// The result is wanted as it is written.
    pub streamed: bool,
    /// The end of its log is wanted with the result.
    pub log_tail: bool,
}

/// A run that is over.
#[derive(Debug, Clone, Default)]
pub struct Finished {
    /// The result; or the error, as JSON with `errorType` and `errorMessage`.
    pub payload: Vec<u8>,
    /// What kind of bytes a result is that was streamed and then gathered; `None`: JSON, as nearly always.
    pub content_type: Option<Box<str>>,
    pub failure: Option<Failure>,
    /// Where it was asked for: the end of the log.
    pub log_tail: Option<Vec<u8>>,
    /// Which version ran; empty where that is not known.
    pub version: Box<str>,
    /// From the moment that the function had its event.
    pub duration: Duration,
}

/// Why there is no result. What the caller is told in AWS's words is the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It raised an error, or said that it failed.
    Raised,
    /// It took longer than it may.
    TimedOut,
    /// Its process ended.
    Exited,
    /// Its process never came to ask for work.
    NotStarted,
    /// The result has too many bytes.
    TooLarge,
}

impl Failure {
    /// What a client is told who asked for a response and no result.
    pub fn fault(self, detail: impl Into<Cow<'static, str>>) -> Fault {
        let kind = match self {
            Failure::Raised | Failure::Exited | Failure::NotStarted | Failure::TooLarge => Kind::FunctionFailed,
            Failure::TimedOut => Kind::FunctionTimeout,
        };
        Fault::new(kind, detail)
    }
}
