//! The end of a drain, as a gRPC call hears it: UNAVAILABLE where its status belongs, and its back end is told to stop. Without it the
//! stream would only be cut, which says nothing about whether to call again. Tunnels say goodbye by themselves.

use crate::handle;
use crate::world::World;
use maitred_core::{Body, Exchange, Fault, Kind, Progress, Response, Stream};
use maitred_transport::Worker;
use std::cell::{Ref, RefCell};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

/// As `handle::handle`, for a call that may be under way when the drain is over.
pub(crate) async fn handle(worker: &Rc<Worker>, world: &Rc<World>, exchange: &mut Exchange) -> Response {
    let mut farewell = Farewell::of(worker);
    let answered = {
        let mut handling = pin!(handle::handle(world, exchange));
        poll_fn(|cx| match handling.as_mut().poll(cx) {
            Poll::Ready(response) => Poll::Ready(Some(response)),
            Poll::Pending => farewell.poll(cx).map(|()| None),
        })
        .await
    };
    let mut response = answered.unwrap_or_else(|| handle::answer(exchange, Err(cut_off())));
    if let Body::Stream(body) = response.body {
        response.body = Body::Stream(Rc::new(UntilFarewell { body, farewell: RefCell::new(farewell) }));
    }
    response
}

fn cut_off() -> Fault {
    Fault::new(Kind::CutOff, "limits.drain_timeout is over")
}

/// Ready from the end of the drain on.
struct Farewell(Option<Pin<Box<dyn Future<Output = ()>>>>);

impl Farewell {
    fn of(worker: &Rc<Worker>) -> Farewell {
        let worker = worker.clone();
        Farewell(Some(Box::pin(async move { worker.farewell.notified().await })))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let said = self.0.as_mut().is_none_or(|going| going.as_mut().poll(cx).is_ready());
        if !said {
            return Poll::Pending;
        }
        self.0 = None;
        Poll::Ready(())
    }
}

/// A response's body that breaks off when the drain is over.
struct UntilFarewell {
    body: Rc<dyn Stream>,
    farewell: RefCell<Farewell>,
}

impl Stream for UntilFarewell {
    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<Progress, Fault>> {
        let progress = self.body.poll_ready(cx);
        match progress {
            Poll::Ready(Ok(Progress::End) | Err(_)) => progress,
            // Asked with data at hand too: a client that takes none of it is told all the same.
            Poll::Ready(Ok(Progress::Data)) | Poll::Pending => match self.farewell.borrow_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(Err(cut_off())),
                Poll::Pending => progress,
            },
        }
    }

    fn data(&self) -> Ref<'_, [u8]> {
        self.body.data()
    }

    fn consume(&self, count: usize) {
        self.body.consume(count);
    }

    fn limit(&self, bytes: u64) {
        self.body.limit(bytes);
    }

    fn trailers(&self, out: &mut Vec<u8>) {
        self.body.trailers(out);
    }

    fn finish(self: Rc<Self>) {
        self.body.clone().finish();
    }
}
