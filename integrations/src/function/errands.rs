//! Runs of functions that no request of a worker's asks for: whoever asks has no connections to AWS of his own. A worker runs them as it runs
//! those of its requests, with its connections, its keys' cells and its times. Bounds how many wait for a worker; how many ask is the asker's
//! affair.

use super::run::{Ran, Runner};
use crate::Reach;
use bytes::Bytes;
use maitred_core::function::{Failure, Finished, Invocation};
use maitred_core::{Fault, Kind, Progress, Stream};
use maitred_host::{Answer, Piece, Streamed};
use serde_json::json;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_local;

/// That wait for one worker; beyond it whoever asks waits.
const ERRANDS_MAX: usize = 64;
/// Pieces of a result that nobody has taken, and bytes of one: the same as of functions that run here.
const PIECES_MAX: usize = 8;
const PIECE_BYTES_MAX: usize = 64 * 1024;

/// The way to the workers, from any thread. They are asked by turns.
#[derive(Debug, Clone)]
pub struct Errands {
    boxes: Arc<[mpsc::Sender<Errand>]>,
    turn: Arc<AtomicUsize>,
}

/// One worker's box, to be read by it.
pub type ErrandBox = mpsc::Receiver<Errand>;

/// A function that is to run, and who wants to know of it.
#[derive(Debug)]
pub struct Errand {
    name: Box<str>,
    invocation: Invocation,
    wanted: Wanted,
}

#[derive(Debug)]
enum Wanted {
    Result(oneshot::Sender<Result<Answer, Fault>>),
    /// That it was taken.
    Nothing(oneshot::Sender<Result<(), Fault>>),
}

impl Errands {
    pub fn new(workers: usize) -> (Errands, Vec<ErrandBox>) {
        let (boxes, read): (Vec<_>, Vec<_>) = (0..workers).map(|_| mpsc::channel(ERRANDS_MAX)).unzip();
        (Errands { boxes: boxes.into(), turn: Arc::default() }, read)
    }

    /// Runs the function of that name. Whoever drops it takes that back.
    pub async fn run(&self, name: &str, invocation: Invocation) -> Result<Answer, Fault> {
        let (answer, answered) = oneshot::channel();
        self.hand_over(Errand { name: name.into(), invocation, wanted: Wanted::Result(answer) }).await?;
        answered.await.map_err(|_| stopped())?
    }

    /// Leaves an event for it.
    pub async fn send(&self, name: &str, invocation: Invocation) -> Result<(), Fault> {
        let (answer, answered) = oneshot::channel();
        self.hand_over(Errand { name: name.into(), invocation, wanted: Wanted::Nothing(answer) }).await?;
        answered.await.map_err(|_| stopped())?
    }

    /// A worker that is gone is passed over.
    async fn hand_over(&self, mut errand: Errand) -> Result<(), Fault> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.boxes.len().max(1);
        for of in self.boxes[turn..].iter().chain(&self.boxes[..turn]) {
            match of.send(errand).await {
                Ok(()) => return Ok(()),
                Err(mpsc::error::SendError(back)) => errand = back,
            }
        }
        Err(stopped())
    }
}

fn stopped() -> Fault {
    Fault::new(Kind::FunctionUnavailable, "the gateway stops")
}

/// Runs for the life of the worker. `reach`: of the configuration that is in force.
pub async fn read(mut errands: ErrandBox, reach: impl Fn() -> Rc<Reach>) {
    while let Some(errand) = errands.recv().await {
        spawn_local(errand.run(reach()));
    }
}

impl Errand {
    async fn run(self, reach: Rc<Reach>) {
        let Errand { name, invocation, wanted } = self;
        let runner = reach.functions.iter().find(|runner| *runner.name == *name).cloned();
        let runner = runner.ok_or_else(|| Fault::new(Kind::FunctionUnavailable, format!("there is no `{name}` any more")));
        match wanted {
            Wanted::Result(mut to) => {
                let work = run(runner, invocation, &reach);
                let Some(ran) = unless(to.closed(), work).await else { return };
                match ran {
                    Ok(Ran::Whole(finished)) => drop(to.send(Ok(Answer::Whole(finished)))),
                    Ok(Ran::Streamed { content_type, body }) => {
                        let (pieces, taken) = mpsc::channel(PIECES_MAX);
                        // Where nobody is left to take it the first piece finds out.
                        drop(to.send(Ok(Answer::Streamed(Streamed { content_type, pieces: taken }))));
                        pass_on(body, pieces).await;
                    }
                    Err(fault) => drop(to.send(Err(fault))),
                }
            }
            Wanted::Nothing(mut to) => {
                let work = async { runner?.send(invocation, &reach).await };
                let Some(sent) = unless(to.closed(), work).await else { return };
                drop(to.send(sent));
            }
        }
    }
}

/// What may have run and has no result is a run that failed: whoever is told that nothing ran would try it again.
async fn run(runner: Result<Arc<Runner>, Fault>, invocation: Invocation, reach: &Reach) -> Result<Ran, Fault> {
    let ran = runner?.run(invocation, reach).await;
    ran.or_else(|fault| failed(&fault).map(Ran::Whole).ok_or(fault))
}

fn failed(fault: &Fault) -> Option<Finished> {
    let (failure, kind) = if fault.kind == Kind::FunctionTimeout {
        (Failure::TimedOut, "Sandbox.Timedout")
    } else if [Kind::FunctionFailed, Kind::FunctionMalformed].contains(&fault.kind) {
        (Failure::Exited, "Runtime.TruncatedResponse")
    } else {
        return None;
    };
    let payload = json!({ "errorType": kind, "errorMessage": fault.detail }).to_string().into_bytes();
    Some(Finished { payload, failure: Some(failure), ..Finished::default() })
}

/// A result as it comes. Takes nothing that nobody takes from it.
async fn pass_on(body: Rc<dyn Stream>, to: mpsc::Sender<Piece>) {
    loop {
        let progress = match unless(to.closed(), poll_fn(|cx| body.poll_ready(cx))).await {
            Some(progress) => progress,
            None => return,
        };
        let piece = match progress {
            Ok(Progress::Data) => {
                let data = body.data();
                let piece = Bytes::copy_from_slice(&data[..data.len().min(PIECE_BYTES_MAX)]);
                drop(data);
                body.consume(piece.len());
                Piece::Data(piece)
            }
            Ok(Progress::End) => {
                body.finish();
                return drop(to.send(Piece::End(Finished::default())).await);
            }
            Err(fault) => match failed(&fault) {
                Some(finished) => return drop(to.send(Piece::End(finished)).await),
                // It ends without an end, which is what happened.
                None => return,
            },
        };
        if to.send(piece).await.is_err() {
            return;
        }
    }
}

/// `None`: `end` came first.
async fn unless<T>(end: impl Future<Output = ()>, work: impl Future<Output = T>) -> Option<T> {
    let (mut end, mut work) = (pin!(end), pin!(work));
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => end.as_mut().poll(cx).map(|()| None),
    })
    .await
}
