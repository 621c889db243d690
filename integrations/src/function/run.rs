//! Runs a function where it runs. Knows nothing of requests and responses: events go in, results come out.

use super::aws::AwsFunction;
use crate::Reach;
use maitred_core::function::{Finished, Invocation};
use maitred_core::{Fault, Invoked, Kind, Progress, Stream};
use maitred_host::{Answer, NotRun, Piece, Pool, Streamed};
use std::cell::{Cell, Ref, RefCell};
use std::fmt::Display;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// One function of the configuration.
pub struct Runner {
    pub name: Arc<str>,
    /// How long one invocation may take.
    pub timeout: Duration,
    pub place: Place,
}

/// Where a function runs.
pub enum Place {
    Hosted(Arc<Pool>),
    Aws(Box<AwsFunction>),
    /// The configuration is only looked at: nothing runs.
    Nowhere,
}

/// What running a function came to.
pub enum Ran {
    Whole(Finished),
    Streamed { content_type: Option<Box<str>>, body: Rc<dyn Stream> },
}

impl Runner {
    pub async fn run(&self, invocation: Invocation, reach: &Reach) -> Result<Ran, Fault> {
        match &self.place {
            Place::Nowhere => Err(Fault::new(Kind::FunctionUnavailable, "nothing runs here")),
            Place::Aws(function) => function.run(&self.name, invocation, self.timeout, reach).await,
            Place::Hosted(pool) => {
                let answer = pool.invoke(invocation).await.map_err(|not_run| refused(&self.name, &not_run))?;
                Ok(match answer {
                    Answer::Whole(finished) => Ran::Whole(finished),
                    Answer::Streamed(Streamed { content_type, pieces }) => {
                        Ran::Streamed { content_type, body: Rc::new(Pieces::new(pieces)) }
                    }
                })
            }
        }
    }

    /// Leaves an event for the function. Nobody waits for its result; what goes wrong then is told to the log.
    pub async fn send(self: &Arc<Self>, invocation: Invocation, reach: &Rc<Reach>) -> Result<(), Fault> {
        match &self.place {
            Place::Nowhere => Err(Fault::new(Kind::FunctionUnavailable, "nothing runs here")),
            Place::Aws(function) => function.send(&self.name, invocation, self.timeout, reach).await,
            Place::Hosted(pool) => pool.submit(invocation).await.map_err(|not_run| refused(&self.name, &not_run)),
        }
    }

    /// To its log: its result of that run is no response.
    pub fn complain(&self, id: &dyn Display, why: &str) {
        match &self.place {
            Place::Hosted(pool) => pool.malformed(&id.to_string(), why),
            Place::Aws(_) => {
                let (function, request) = (&*self.name, id.to_string());
                tracing::warn!(target: maitred_host::LOG_TARGET, function, request, "The result is no response: {why}");
            }
            Place::Nowhere => {}
        }
    }

    /// For an authorizer, which wants a result and no response.
    pub async fn ask(&self, invocation: Invocation, deadline: Instant, reach: &Reach) -> Result<Invoked, Fault> {
        let work = self.run(invocation, reach);
        let timer = maitred_transport::Timer::new(&reach.worker.timers);
        timer.arm(deadline);
        let mut work = std::pin::pin!(work);
        let ran = std::future::poll_fn(|cx| match timer.poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(Fault::new(Kind::FunctionTimeout, format!("`{}` took too long", self.name)))),
            Poll::Pending => work.as_mut().poll(cx),
        });
        match ran.await? {
            Ran::Whole(Finished { payload, failure: None, .. }) => Ok(Invoked::Returned(payload)),
            Ran::Whole(Finished { payload, .. }) => Ok(Invoked::Raised(payload)),
            Ran::Streamed { .. } => Err(Fault::new(Kind::Internal, "a result that nobody wanted as a stream")),
        }
    }
}

fn refused(name: &str, not_run: &NotRun) -> Fault {
    match not_run {
        NotRun::QueueFull => Fault::new(Kind::FunctionBusy, format!("as many invocations of `{name}` wait as may")),
        NotRun::Waited => Fault::new(Kind::FunctionBusy, format!("no process of `{name}` came free in time")),
        NotRun::TooLarge => Fault::new(Kind::BodyTooLarge, "the event is longer than 6 MB"),
        NotRun::Closed => Fault::new(Kind::FunctionUnavailable, format!("`{name}` is being put out of use")),
    }
}

/// A streamed result as a body.
struct Pieces {
    from: RefCell<tokio::sync::mpsc::Receiver<Piece>>,
    at_hand: RefCell<bytes::Bytes>,
    is_over: Cell<bool>,
}

impl Pieces {
    fn new(from: tokio::sync::mpsc::Receiver<Piece>) -> Pieces {
        Pieces { from: RefCell::new(from), at_hand: RefCell::default(), is_over: Cell::new(false) }
    }
}

impl Stream for Pieces {
    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<Progress, Fault>> {
        loop {
            if !self.at_hand.borrow().is_empty() {
                return Poll::Ready(Ok(Progress::Data));
            }
            if self.is_over.get() {
                return Poll::Ready(Ok(Progress::End));
            }
            match std::task::ready!(self.from.borrow_mut().poll_recv(cx)) {
                Some(Piece::Data(bytes)) => *self.at_hand.borrow_mut() = bytes,
                Some(Piece::End(Finished { failure: None, .. })) => self.is_over.set(true),
                Some(Piece::End(Finished { failure: Some(failure), .. })) => {
                    return Poll::Ready(Err(failure.fault("the function failed in the middle of its result")));
                }
                None => return Poll::Ready(Err(Fault::new(Kind::FunctionFailed, "the function's result was cut off"))),
            }
        }
    }

    fn data(&self) -> Ref<'_, [u8]> {
        Ref::map(self.at_hand.borrow(), |bytes| &bytes[..])
    }

    fn consume(&self, count: usize) {
        bytes::Buf::advance(&mut *self.at_hand.borrow_mut(), count);
    }

    fn finish(self: Rc<Self>) {}
}
