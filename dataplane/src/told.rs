//! Back ends are told by headers who makes a request, and believe them: so no client may send one, on any route, whether anybody is asked
//! there who it is or not. Takes them out of what comes in, before it is routed. Sets none.

use crate::snapshot::Snapshot;
use maitred_core::body::{Progress, Stream};
use maitred_core::{Body, Exchange, Fault};
use maitred_model::HeaderName;
use std::cell::Ref;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Names of headers that only the gateway sends.
pub(crate) type Told = Arc<[HeaderName]>;

pub(crate) fn strip(snapshot: &Snapshot, exchange: &mut Exchange) {
    if snapshot.told.is_empty() {
        return;
    }
    for name in &*snapshot.told {
        exchange.request.headers.remove(name.as_str().as_bytes());
    }
    // Some servers add what trails a body to the headers.
    if let Body::Stream(stream) = &exchange.body {
        exchange.body = Body::Stream(Rc::new(Untold { stream: stream.clone(), told: snapshot.told.clone() }));
    }
}

/// A body whose trailers say nothing of who sends it.
struct Untold {
    stream: Rc<dyn Stream>,
    told: Told,
}

impl Stream for Untold {
    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<Progress, Fault>> {
        self.stream.poll_ready(cx)
    }

    fn data(&self) -> Ref<'_, [u8]> {
        self.stream.data()
    }

    fn consume(&self, count: usize) {
        self.stream.consume(count);
    }

    fn limit(&self, bytes: u64) {
        self.stream.limit(bytes);
    }

    fn trailers(&self, out: &mut Vec<u8>) {
        let mut lines = Vec::new();
        self.stream.trailers(&mut lines);
        for line in lines.split_inclusive(|&byte| byte == b'\n') {
            let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
            // One with `_` never gets so far.
            if !self.told.iter().any(|told| told.as_str().as_bytes().eq_ignore_ascii_case(name)) {
                out.extend_from_slice(line);
            }
        }
    }

    fn finish(self: Rc<Self>) {
        self.stream.clone().finish();
    }
}
