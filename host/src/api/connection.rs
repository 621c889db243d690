//! One connection to an instance's port: reads calls, one after another, and answers them. What a call means is the instance's to say.

mod extensions;

use super::body::{Body, Broken, Next, Wire};
use super::trailers::{Quirk, StreamError, stream_error};
use super::{Call, Refused, TAKEN, error_type, json, whole};
use crate::answer::{Answer, PIECES_MAX, Piece, Streamed};
use crate::pool::errors;
use crate::pool::instance::{Given, Instance};
use crate::pool::output::Upto;
use bytes::BytesMut;
use maitred_core::function::{Failure, Finished, PAYLOAD_BYTES_MAX};
use maitred_wire::RequestHead;
use std::rc::Rc;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::coop::consume_budget;
use uuid::Uuid;

const MODE: &[u8] = b"Lambda-Runtime-Function-Response-Mode";
const ERROR_TYPE: &[u8] = b"Lambda-Runtime-Function-Error-Type";

struct Connection {
    wire: Wire,
    instance: Rc<Instance>,
    head: RequestHead,
    out: Vec<u8>,
    /// Which extension asked for events on it.
    extension: Option<Uuid>,
}

/// Whether the connection goes on.
type GoesOn = Option<()>;

pub(crate) async fn serve(stream: TcpStream, instance: Rc<Instance>) {
    // What is not sent at once is not saved for long, and an event is one write.
    let _ = stream.set_nodelay(true);
    let (wire, head) = (Wire::new(stream), RequestHead::default());
    let mut connection = Connection { wire, instance, head, out: Vec::new(), extension: None };
    let mut calls = 0_u32;
    while connection.call().await.is_some() {
        calls = calls.saturating_add(1);
    }
    connection.leave(calls);
}

impl Connection {
    async fn call(&mut self) -> GoesOn {
        // Calls may stand one behind another without end.
        consume_budget().await;
        self.head.clear();
        if let Err(refused) = self.wire.head(&mut self.head).await? {
            self.out.clear();
            refused.write(&mut self.out, true);
            let _ = self.wire.write(&self.out, &[]).await;
            return None;
        }
        let mut body = Body::of(self.head.framing);
        let head = std::mem::take(&mut self.head);
        let goes_on = match Call::of(head.method, head.path()) {
            Call::Next => self.next(&mut body).await,
            Call::Response(id) => self.response(&head, id, &mut body).await,
            Call::Error(id) => self.error(&head, id, &mut body).await,
            Call::InitError => self.init_error(&head, &mut body).await,
            Call::Extension(call) => self.extension(call, &head, &mut body).await,
            Call::Ping => self.say(&mut body, |out| whole(out, 200, "text/plain", "pong", false)).await,
            Call::NoLogs => self.accepted(&mut body, &none("Logs")).await,
            Call::NoTelemetry => self.accepted(&mut body, &none("Telemetry")).await,
            Call::Unknown => self.refuse(&head, &mut body, Refused::Unknown).await,
            Call::WrongMethod => self.refuse(&head, &mut body, Refused::WrongMethod).await,
        };
        let keeps = head.keep_alive;
        self.head = head;
        goes_on.filter(|()| keeps)
    }

    /// Waits for an event as long as it takes.
    async fn next(&mut self, body: &mut Body) -> GoesOn {
        if !self.wire.discard(body).await {
            return None;
        }
        // A client that lost the connection of its answer may be here before we have seen that.
        self.instance.settled().await;
        if !self.instance.extensions.are_ready() {
            self.extensions_ready().await?;
        }
        let mut event = match self.instance.park() {
            Ok(event) => event,
            Err(refused) => return self.say(body, |out| refused.write(out, false)).await,
        };
        let given = tokio::select! {
            biased;
            () = self.wire.closed() => {
                self.instance.unpark(event);
                return None;
            }
            given = &mut event => given,
        };
        let Ok(given) = given else {
            if self.instance.is_ending() {
                // No answer would be right: whoever polls is about to be ended.
                self.wire.closed().await;
                return None;
            }
            // It asked once more, on another connection.
            return self.say(body, |out| Refused::State.write(out, false)).await;
        };
        self.give(given).await
    }

    async fn give(&mut self, given: Given) -> GoesOn {
        self.out.clear();
        self.instance.write_head(given.event.len(), &mut self.out);
        if self.wire.write(&self.out, &given.event).await.is_err() {
            // Not all of it was taken, so nobody ran it.
            self.instance.give_back(given);
            return None;
        }
        Some(())
    }

    async fn response(&mut self, head: &RequestHead, id: &[u8], body: &mut Body) -> GoesOn {
        let mode = head.headers.get(MODE);
        // Who streams may go on writing to its log.
        let upto = if mode.is_some() { Upto::Now } else { Upto::Call };
        if let Err(refused) = self.instance.begins_answer(id, upto) {
            return self.refuse(head, body, refused).await;
        }
        let streams = match mode {
            None => false,
            Some(mode) if mode.eq_ignore_ascii_case(b"streaming") => true,
            Some(_) => {
                self.conclude(errors::INVALID_MODE.into(), Some(Failure::Raised)).await;
                return self.refuse(head, body, Refused::ResponseMode).await;
            }
        };
        let content_type = head.headers.get(b"Content-Type").filter(|_| streams);
        let content_type = content_type.and_then(|kind| str::from_utf8(kind).ok()).map(Box::from);
        let is_streamed = streams && self.instance.is_streamed();
        if !is_streamed && !self.fits(head) {
            self.conclude(errors::TOO_LARGE.into(), Some(Failure::TooLarge)).await;
            return self.refuse(head, body, Refused::TooLarge).await;
        }
        if self.proceed(head).await.is_none() {
            return self.broken(head, body, Broken::Cut).await;
        }
        if is_streamed && let Some(reply) = self.instance.streams_to() {
            return self.stream(body, content_type, reply).await;
        }
        let gathered = if streams { self.gather(body).await } else { self.wire.whole(body, PAYLOAD_BYTES_MAX).await.map(Ok) };
        match gathered {
            Ok(Ok(payload)) => {
                self.instance.conclude(Finished { payload, content_type, ..Finished::default() });
                self.accepted(body, TAKEN).await
            }
            Ok(Err(error)) => {
                self.conclude(errors::of_stream(error), Some(Failure::Raised)).await;
                self.accepted(body, TAKEN).await
            }
            Err(broken) => self.broken(head, body, broken).await,
        }
    }

    async fn error(&mut self, head: &RequestHead, id: &[u8], body: &mut Body) -> GoesOn {
        if let Err(refused) = self.instance.begins_answer(id, Upto::Call) {
            return self.refuse(head, body, refused).await;
        }
        if !self.fits(head) {
            self.conclude(errors::TOO_LARGE.into(), Some(Failure::TooLarge)).await;
            return self.refuse(head, body, Refused::TooLarge).await;
        }
        if self.proceed(head).await.is_none() {
            return self.broken(head, body, Broken::Cut).await;
        }
        match self.wire.whole(body, PAYLOAD_BYTES_MAX).await {
            Ok(payload) => {
                self.conclude(errors::or_named(payload, error_type(head.headers.get(ERROR_TYPE))), Some(Failure::Raised)).await;
                self.accepted(body, TAKEN).await
            }
            Err(broken) => self.broken(head, body, broken).await,
        }
    }

    async fn init_error(&mut self, head: &RequestHead, body: &mut Body) -> GoesOn {
        if let Err(refused) = self.instance.begins_init_error() {
            return self.refuse(head, body, refused).await;
        }
        if !self.fits(head) {
            self.instance.ends_init_error();
            return self.refuse(head, body, Refused::TooLarge).await;
        }
        let gathered = match self.proceed(head).await {
            Some(()) => self.wire.whole(body, PAYLOAD_BYTES_MAX).await,
            None => Err(Broken::Cut),
        };
        self.instance.ends_init_error();
        match gathered {
            Ok(payload) => {
                let payload = errors::or_named(payload, error_type(head.headers.get(ERROR_TYPE)));
                let goes_on = self.accepted(body, TAKEN).await;
                self.instance.init_failed(payload);
                goes_on
            }
            Err(Broken::TooLong) => self.refuse(head, body, Refused::TooLarge).await,
            Err(Broken::Cut) => None,
        }
    }

    /// A body that cannot be taken ends the run that it was to end.
    async fn broken(&mut self, head: &RequestHead, body: &mut Body, broken: Broken) -> GoesOn {
        match broken {
            Broken::TooLong => {
                self.conclude(errors::TOO_LARGE.into(), Some(Failure::TooLarge)).await;
                self.refuse(head, body, Refused::TooLarge).await
            }
            Broken::Cut => {
                self.conclude(errors::TRUNCATED.into(), Some(Failure::Raised)).await;
                self.out.clear();
                Refused::Truncated.write(&mut self.out, true);
                // Where only its own side is closed, it still reads.
                let _ = self.wire.write(&self.out, &[]).await;
                None
            }
        }
    }

    /// Sends pieces on as they come. While the receiver is full nothing is read; where there is none the rest is read for nobody.
    async fn stream(
        &mut self,
        body: &mut Body,
        content_type: Option<Box<str>>,
        reply: oneshot::Sender<Result<Answer, crate::NotRun>>,
    ) -> GoesOn {
        let (pieces, receiver) = mpsc::channel(PIECES_MAX);
        self.instance.streams_by(pieces.clone());
        let _ = reply.send(Ok(Answer::Streamed(Streamed { content_type, pieces: receiver })));
        let mut quirk = Quirk::default();
        let error = loop {
            match self.wire.next(body).await {
                Ok(Next::Data { bytes, begins_chunk }) => {
                    for piece in quirk.data(begins_chunk, bytes) {
                        send(&pieces, piece).await;
                    }
                }
                Ok(Next::End(trailers)) => match (stream_error(&trailers), quirk.end()) {
                    (Some(error), _) | (None, Ok(error)) => break Some(errors::of_stream(error)),
                    (None, Err(rest)) => {
                        send(&pieces, rest).await;
                        break None;
                    }
                },
                Err(_) => {
                    self.conclude(errors::TRUNCATED.into(), Some(Failure::Raised)).await;
                    return None;
                }
            }
        };
        drop(pieces);
        let failure = error.is_some().then_some(Failure::Raised);
        self.conclude(error.unwrap_or_default(), failure).await;
        self.accepted(body, TAKEN).await
    }

    /// A stream for somebody who wants it whole.
    async fn gather(&mut self, body: &mut Body) -> Result<Result<Vec<u8>, StreamError>, Broken> {
        let (mut all, mut quirk) = (Vec::new(), Quirk::default());
        loop {
            match self.wire.next(body).await? {
                Next::Data { bytes, begins_chunk } => {
                    for piece in quirk.data(begins_chunk, bytes) {
                        all.extend_from_slice(&piece);
                    }
                }
                Next::End(trailers) => {
                    return Ok(match (stream_error(&trailers), quirk.end()) {
                        (Some(error), _) | (None, Ok(error)) => Err(error),
                        (None, Err(rest)) => {
                            all.extend_from_slice(&rest);
                            if all.len() > PAYLOAD_BYTES_MAX {
                                return Err(Broken::TooLong);
                            }
                            Ok(all)
                        }
                    });
                }
            }
            if all.len() > PAYLOAD_BYTES_MAX {
                return Err(Broken::TooLong);
            }
        }
    }

    async fn conclude(&self, payload: Vec<u8>, failure: Option<Failure>) {
        if let Some((pieces, finished)) = self.instance.conclude(Finished { payload, failure, ..Finished::default() }) {
            let _ = pieces.send(Piece::End(finished)).await;
        }
    }

    /// Whether a body may be as long as it says.
    fn fits(&self, head: &RequestHead) -> bool {
        !matches!(head.framing, maitred_wire::Framing::Length(length) if length > PAYLOAD_BYTES_MAX as u64)
    }

    /// A client that asked whether to send its body is told to (RFC 9110 §10.1.1).
    async fn proceed(&mut self, head: &RequestHead) -> GoesOn {
        if head.expect_continue && !self.wire.has_more() {
            self.wire.write(b"HTTP/1.1 100 Continue\r\n\r\n", &[]).await.ok()?;
        }
        Some(())
    }

    async fn accepted(&mut self, body: &mut Body, text: &str) -> GoesOn {
        self.say(body, |out| json(out, 202, text, false)).await
    }

    /// A client that waits to be told to send its body is told not to; of all others it is read first, or they would not hear.
    async fn refuse(&mut self, head: &RequestHead, body: &mut Body, refused: Refused) -> GoesOn {
        let holds_back = head.expect_continue && !self.wire.has_more();
        if holds_back || !self.wire.discard(body).await {
            self.out.clear();
            refused.write(&mut self.out, true);
            let _ = self.wire.write(&self.out, &[]).await;
            return None;
        }
        self.say(body, |out| refused.write(out, false)).await
    }

    async fn say(&mut self, body: &mut Body, answer: impl FnOnce(&mut Vec<u8>)) -> GoesOn {
        if !self.wire.discard(body).await {
            return None;
        }
        self.out.clear();
        answer(&mut self.out);
        self.wire.write(&self.out, &[]).await.ok()
    }
}

/// An extension that asks for what is not there lives on when it is told in these words.
fn none(what: &str) -> String {
    format!("{{\"errorMessage\":\"{what} API is not supported\",\"errorType\":\"{what}.NotSupported\"}}\n")
}

async fn send(pieces: &mpsc::Sender<Piece>, bytes: BytesMut) {
    if !bytes.is_empty() {
        let _ = pieces.send(Piece::Data(bytes.freeze())).await;
    }
}
