//! What a pool answers an invocation with, sent from the host's thread to the worker that asked.

use bytes::Bytes;
use maitred_core::function::Finished;
use tokio::sync::mpsc;

/// Pieces of a streamed result on their way to a worker; beyond it the function is not read from.
pub(crate) const PIECES_MAX: usize = 8;

#[derive(Debug)]
pub enum Answer {
    /// The run is over.
    Whole(Finished),
    /// The function writes its result; only where `Invocation::streamed` asked for it.
    Streamed(Streamed),
}

/// A result as it is written.
#[derive(Debug)]
pub struct Streamed {
    /// What the function says of its bytes; the kind with a prelude is `application/vnd.awslambda.http-integration-response`.
    pub content_type: Option<Box<str>>,
    /// Ends with `Piece::End`. Where it ends without, the result was cut off.
    pub pieces: mpsc::Receiver<Piece>,
}

#[derive(Debug)]
pub enum Piece {
    /// At most 64 KiB, as they came.
    Data(Bytes),
    /// The run is over; with a failure, what was sent is not all. Its payload is empty, or the error.
    End(Finished),
}

/// Why an invocation was not run at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotRun {
    /// As many wait as may.
    QueueFull,
    /// Its time in the queue was over.
    Waited,
    /// The event has more bytes than `PAYLOAD_BYTES_MAX`.
    TooLarge,
    /// The host stops, or the pool was put out of use.
    Closed,
}
