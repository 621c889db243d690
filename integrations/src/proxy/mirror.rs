//! Copies a share of a route's requests to another upstream. The copy waits for nobody and nobody waits for it: it is sent when the
//! original's body has passed, its answer is thrown away, and whatever goes wrong with it is counted and nothing else.

use super::attempt;
use crate::Reach;
use maitred_core::{Body, Exchange, Fault, Kind, Progress, Stream, Whole};
use maitred_transport::Upstream;
use std::cell::{Cell, Ref, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::task::spawn_local;

/// A body that grows larger is not copied: it would be held in memory.
const BODY_BYTES_MAX: usize = 256 * 1024;
/// Copies under way on one worker; more are dropped. With the bound above, 64 MiB at most.
const UNDER_WAY_MAX: u32 = 256;
/// Of an answer so much is read, so that its connection can be used again.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// A share is counted in parts of this.
const WHOLE: usize = 1_000_000;

pub struct Mirror {
    /// Index in `Reach::upstreams`.
    pub upstream: u32,
    /// Parts per million of the requests that are copied.
    pub share: u32,
}

impl Mirror {
    /// Copies this request if it is its turn: at once, or when its body has passed.
    pub fn copy(&self, exchange: &mut Exchange, reach: &Rc<Reach>) {
        if reach.worker.chance.below(WHOLE) >= self.share as usize || exchange.request.upgrade.is_some() {
            return;
        }
        if reach.mirrors.get() >= UNDER_WAY_MAX {
            reach.upstreams[self.upstream as usize].count(|shard| &shard.mirror_dropped);
            return;
        }
        let copy = Copy::begin(exchange, self.upstream, reach);
        match std::mem::take(&mut exchange.body) {
            Body::Stream(stream) => {
                exchange.body = Body::Stream(Rc::new(Tee { stream, copy: RefCell::new(Some((copy, Vec::new()))) }));
            }
            other => {
                exchange.body = other;
                copy.send(Vec::new());
            }
        }
    }
}

/// A request's copy. Where the original breaks off before its end there is nothing to send.
struct Copy {
    exchange: Option<Box<Exchange>>,
    upstream: u32,
    reach: Rc<Reach>,
}

impl Copy {
    fn begin(original: &Exchange, upstream: u32, reach: &Rc<Reach>) -> Copy {
        reach.mirrors.set(reach.mirrors.get() + 1);
        let mut exchange = reach.worker.take_exchange(original.record.started);
        exchange.copy_request(original);
        Copy { exchange: Some(exchange), upstream, reach: reach.clone() }
    }

    fn upstream(&self) -> &Upstream {
        &self.reach.upstreams[self.upstream as usize]
    }

    fn send(mut self, body: Vec<u8>) {
        let Some(mut exchange) = self.exchange.take() else { return };
        let Some(place) = self.upstream().admit_now() else {
            // It never waits, and takes nobody's turn.
            self.upstream().count(|shard| &shard.mirror_dropped);
            self.exchange = Some(exchange);
            return;
        };
        let mut copy = self;
        spawn_local(async move {
            let reach = &copy.reach;
            let upstream = copy.upstream();
            if !body.is_empty() {
                exchange.body = Body::Stream(Rc::new(Whole::new(body.into())));
            }
            let answered = attempt::guarded(&mut exchange, upstream, reach, None, place).await;
            // Without an endpoint there was nowhere to send it.
            if !answered.as_ref().is_err_and(|fault| fault.kind == Kind::NoEndpoint) {
                upstream.count(|shard| &shard.mirrored);
            }
            match answered {
                Ok(response) => read_away(response.body, ANSWER_BYTES_MAX).await,
                Err(fault) => {
                    upstream.count(|shard| &shard.mirror_failed);
                    tracing::debug!(fault = fault.kind.name(), detail = %fault.detail, "a mirrored request failed");
                }
            }
            // Given back with its place.
            copy.exchange = Some(exchange);
            drop(copy);
        });
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        self.reach.mirrors.set(self.reach.mirrors.get() - 1);
        if let Some(exchange) = self.exchange.take() {
            self.reach.worker.give_exchange(exchange);
        }
    }
}

/// Reads so much of a body that nobody wants; one that ends leaves its connection fit for another request.
pub(super) async fn read_away(body: Body, most: usize) {
    let Body::Stream(stream) = body else { return };
    let mut read = 0;
    while read <= most {
        match poll_fn(|cx| stream.poll_ready(cx)).await {
            Ok(Progress::Data) => {
                let count = stream.data().len();
                stream.consume(count);
                read += count;
            }
            Ok(Progress::End) => return stream.finish(),
            Err(_) => return,
        }
    }
}

/// The original's body on its way, and what has passed of it.
struct Tee {
    stream: Rc<dyn Stream>,
    /// `None`: sent, or too large.
    copy: RefCell<Option<(Copy, Vec<u8>)>>,
}

impl Stream for Tee {
    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<Progress, Fault>> {
        let ready = self.stream.poll_ready(cx);
        if matches!(ready, Poll::Ready(Ok(Progress::End)))
            && let Some((copy, body)) = self.copy.take()
        {
            copy.send(body);
        }
        ready
    }

    fn data(&self) -> Ref<'_, [u8]> {
        self.stream.data()
    }

    fn consume(&self, count: usize) {
        let mut copy = self.copy.borrow_mut();
        if let Some((unsent, body)) = &mut *copy {
            if body.len() + count <= BODY_BYTES_MAX {
                body.extend_from_slice(&self.stream.data()[..count]);
            } else {
                unsent.upstream().count(|shard| &shard.mirror_dropped);
                *copy = None;
            }
        }
        drop(copy);
        self.stream.consume(count);
    }

    fn limit(&self, bytes: u64) {
        self.stream.limit(bytes);
    }

    fn trailers(&self, out: &mut Vec<u8>) {
        self.stream.trailers(out);
    }

    fn finish(self: Rc<Self>) {
        self.stream.clone().finish();
    }
}

/// How many copies are under way on this worker.
pub type UnderWay = Rc<Cell<u32>>;
