//! A result as AWS streams it: an event for each piece, and one that says how it ended. Passes a piece on when the client takes it.

use super::super::functions::base64_of;
use axum::body::Bytes;
use hyper::body::{Body, Frame};
use maitred_core::function::{Failure, Finished};
use maitred_core::wire::event_frame;
use maitred_host::Piece;
use serde_json::json;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

pub(super) const CONTENT_TYPE: &str = "application/vnd.amazon.eventstream";
/// Bytes of a result in one event: a whole one is cut in pieces as one that is written is.
const PIECE_BYTES_MAX: usize = 64 * 1024;

const PIECE: [(&str, &str); 3] =
    [(":message-type", "event"), (":event-type", "PayloadChunk"), (":content-type", "application/octet-stream")];
const END: [(&str, &str); 3] =
    [(":message-type", "event"), (":event-type", "InvokeComplete"), (":content-type", "application/json")];

/// A result that came whole.
pub(super) fn whole(finished: &Finished) -> Vec<u8> {
    let mut out = Vec::with_capacity(finished.payload.len() + 512);
    if finished.failure.is_none() {
        for piece in finished.payload.chunks(PIECE_BYTES_MAX) {
            frame(&PIECE, piece, &mut out);
        }
    }
    end(finished, &mut out);
    out
}

fn end(finished: &Finished, out: &mut Vec<u8>) {
    let Finished { payload, failure, log_tail, .. } = finished;
    let mut body = json!({});
    if failure.is_some() {
        body["ErrorCode"] = "Unhandled".into();
        body["ErrorDetails"] = String::from_utf8_lossy(payload).into();
    }
    if let Some(log) = log_tail {
        body["LogResult"] = base64_of(log).into();
    }
    frame(&END, body.to_string().as_bytes(), out);
}

fn frame(headers: &[(&str, &str)], payload: &[u8], out: &mut Vec<u8>) {
    if event_frame(headers, payload, out).is_err() {
        // Nothing here is a hundredth of that.
        debug_assert!(false, "a frame that is too long");
    }
}

/// What is told of a result that ends in the middle. The connection ends well nevertheless: where it broke, clients would try again what ran.
const CUT_OFF: &str =
    "{\"errorType\":\"Runtime.TruncatedResponse\",\"errorMessage\":\"The response was cut off before its end.\"}";

/// A result as it is written.
pub(super) struct Events {
    pub pieces: mpsc::Receiver<Piece>,
    pub is_over: bool,
    /// Its place among the invocations.
    pub _turn: OwnedSemaphorePermit,
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let mut out = Vec::new();
        match ready!(self.pieces.poll_recv(cx)) {
            Some(Piece::Data(bytes)) => frame(&PIECE, &bytes, &mut out),
            Some(Piece::End(finished)) => {
                self.is_over = true;
                end(&finished, &mut out);
            }
            None => {
                self.is_over = true;
                let failure = Some(Failure::Exited);
                end(&Finished { payload: CUT_OFF.into(), failure, ..Finished::default() }, &mut out);
            }
        }
        Poll::Ready(Some(Ok(Frame::data(out.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
    }
}
