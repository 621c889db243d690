//! A result that comes as an event stream: its chunks are the body of the response, as they come. Whoever reads pulls; nothing is gathered but
//! the last event, which says how it ended. What ends without that event was cut off, and so is the client.

use super::super::run::Ran;
use super::errors;
use maitred_core::function::{Failure, Finished, LOG_TAIL_BYTES_MAX};
use maitred_core::{Body, Fault, Kind, Progress, Stream};
use maitred_transport::Timer;
use maitred_wire::{EventError, EventReader, EventStep, base64};
use serde_json::{Map, Value};
use std::cell::{Cell, Ref, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// Of an event that is no chunk: an error's description and 4 KB of log.
const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// Waits for the first chunk, or for the end: a function that fails before it has written anything fails like any other.
pub async fn begin(
    name: &str,
    body: Body,
    (content_type, version): (Option<Box<str>>, Box<str>),
    timer: Timer,
) -> Result<Ran, Fault> {
    let Body::Stream(inner) = body else {
        return Err(cut_off());
    };
    let chunks = Rc::new(Chunks::new(name, inner, timer));
    poll_fn(|cx| chunks.poll_first(cx)).await?;
    // Not held over what follows.
    let failed = chunks.failed.borrow_mut().take();
    match failed {
        Some(failed) => Ok(Ran::Whole(Finished { version, ..failed })),
        None => Ok(Ran::Streamed { content_type, body: chunks }),
    }
}

/// What the bytes of a frame's payload are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Chunk,
    /// `InvokeComplete`.
    Complete,
    /// The service gave up.
    Exception,
    /// Of a later version of the protocol: passed over.
    Unknown,
}

struct Chunks {
    /// Of the function, for the log.
    name: Box<str>,
    inner: Rc<dyn Stream>,
    reader: RefCell<EventReader>,
    event: Cell<Event>,
    /// Bytes at the front of `inner` that are the body's.
    at_hand: Cell<usize>,
    /// Of an event that is no chunk.
    gathered: RefCell<Vec<u8>>,
    is_complete: Cell<bool>,
    /// A failure before the first chunk.
    failed: RefCell<Option<Finished>>,
    /// The whole invocation is to be over by then.
    timer: Timer,
}

impl Chunks {
    fn new(name: &str, inner: Rc<dyn Stream>, timer: Timer) -> Chunks {
        Chunks {
            name: name.into(),
            inner,
            reader: RefCell::default(),
            event: Cell::new(Event::Unknown),
            at_hand: Cell::new(0),
            gathered: RefCell::default(),
            is_complete: Cell::new(false),
            failed: RefCell::default(),
            timer,
        }
    }

    fn poll_first(&self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        match ready!(self.poll(cx)) {
            Ok(_) => Poll::Ready(Ok(())),
            Err(Ended::Fault(fault)) => Poll::Ready(Err(fault)),
            Err(Ended::Failed(finished)) => {
                *self.failed.borrow_mut() = Some(*finished);
                Poll::Ready(Ok(()))
            }
        }
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<Progress, Ended>> {
        loop {
            if self.at_hand.get() > 0 {
                return Poll::Ready(Ok(Progress::Data));
            }
            if self.timer.poll(cx).is_ready() {
                let fault = Fault::new(Kind::FunctionTimeout, "the function took too long with its result");
                return Poll::Ready(Err(Ended::Fault(fault)));
            }
            let progress = ready!(self.inner.poll_ready(cx));
            let progress = progress.map_err(|fault| Ended::Fault(errors::broken(&self.name, fault)))?;
            match progress {
                Progress::End if self.is_complete.get() => return Poll::Ready(Ok(Progress::End)),
                Progress::End => return Poll::Ready(Err(Ended::Fault(cut_off()))),
                Progress::Data => self.take()?,
            }
        }
    }

    /// Takes what is at hand up to the next bytes of the body, or all of it.
    fn take(&self) -> Result<(), Ended> {
        let (count, step) = {
            let data = self.inner.data();
            let read = self.reader.borrow_mut().read(&data);
            let (count, step) = read.map_err(|EventError(why)| malformed(why))?;
            if step == EventStep::Payload {
                match self.event.get() {
                    Event::Chunk => {
                        self.at_hand.set(count);
                        return Ok(());
                    }
                    Event::Complete | Event::Exception => self.gather(&data[..count])?,
                    Event::Unknown => {}
                }
            }
            (count, step)
        };
        self.inner.consume(count);
        match step {
            EventStep::Headers => self.begin(),
            EventStep::End => self.end(),
            EventStep::Payload | EventStep::More => Ok(()),
        }
    }

    fn gather(&self, bytes: &[u8]) -> Result<(), Ended> {
        let mut gathered = self.gathered.borrow_mut();
        if gathered.len() + bytes.len() > EVENT_BYTES_MAX {
            return Err(malformed("an event that is longer than any"));
        }
        gathered.extend_from_slice(bytes);
        Ok(())
    }

    fn begin(&self) -> Result<(), Ended> {
        if self.is_complete.get() {
            return Err(malformed("something after the last event"));
        }
        let reader = self.reader.borrow();
        let event = match (reader.text(":message-type"), reader.text(":event-type")) {
            (Some("exception" | "error"), _) => Event::Exception,
            (_, Some("PayloadChunk")) => Event::Chunk,
            (_, Some("InvokeComplete")) => Event::Complete,
            (_, _) => Event::Unknown,
        };
        self.event.set(event);
        self.gathered.borrow_mut().clear();
        Ok(())
    }

    fn end(&self) -> Result<(), Ended> {
        match self.event.get() {
            Event::Chunk | Event::Unknown => Ok(()),
            Event::Exception => {
                let reader = self.reader.borrow();
                let name = reader.text(":exception-type").or(reader.text(":error-code")).unwrap_or("an exception");
                let words = String::from_utf8_lossy(&self.gathered.borrow()).chars().take(300).collect::<String>();
                let detail = format!("AWS gave up in the middle of the result: {name}: {words}");
                Err(Ended::Fault(Fault::new(Kind::FunctionFailed, detail)))
            }
            Event::Complete => {
                self.is_complete.set(true);
                match complete(&self.gathered.borrow()) {
                    None => Ok(()),
                    Some(finished) => Err(Ended::Failed(Box::new(finished))),
                }
            }
        }
    }
}

/// Why there is no more.
enum Ended {
    Fault(Fault),
    /// The function failed, as its last event says.
    Failed(Box<Finished>),
}

/// What `InvokeComplete` says of a failure; `None`: there was none.
fn complete(event: &[u8]) -> Option<Finished> {
    let object: Map<String, Value> = serde_json::from_slice(event).unwrap_or_default();
    let text = |name: &str| object.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let code = text("ErrorCode")?;
    let details = text("ErrorDetails").map(str::to_owned);
    let payload = details.unwrap_or_else(|| serde_json::json!({ "errorType": code }).to_string()).into_bytes();
    let log = text("LogResult").and_then(|log| base64::decode(log.as_bytes()));
    Some(Finished {
        failure: Some(errors::failure(&payload)),
        payload,
        content_type: None,
        log_tail: log.filter(|log| log.len() <= LOG_TAIL_BYTES_MAX),
        version: Box::default(),
        duration: Duration::ZERO,
    })
}

fn malformed(why: &'static str) -> Ended {
    Ended::Fault(Fault::new(Kind::FunctionMalformed, format!("AWS's event stream: {why}")))
}

fn cut_off() -> Fault {
    Fault::new(Kind::FunctionFailed, "the function's result was cut off")
}

impl Stream for Chunks {
    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<Progress, Fault>> {
        self.poll(cx).map_err(|ended| match ended {
            Ended::Fault(fault) => fault,
            Ended::Failed(finished) => {
                let failure = finished.failure.unwrap_or(Failure::Raised);
                failure.fault("the function failed in the middle of its result")
            }
        })
    }

    fn data(&self) -> Ref<'_, [u8]> {
        Ref::map(self.inner.data(), |data| &data[..self.at_hand.get()])
    }

    fn consume(&self, count: usize) {
        self.inner.consume(count);
        self.at_hand.set(self.at_hand.get() - count);
    }

    fn finish(self: Rc<Self>) {
        self.inner.clone().finish();
    }
}
